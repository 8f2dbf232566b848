//! A look at Vault, for an operator.
use super::{Request, Vault, VaultError};
use crate::platform::clock::skew;
use chrono::{DateTime, TimeDelta};
use serde::Deserialize;
use std::sync::Arc;

/// The head of an answer counts whole seconds.
const DATE_RESOLUTION: TimeDelta = TimeDelta::seconds(1);

/// What Vault says of a Transit key.
#[derive(Deserialize)]
pub struct TransitKey {
    /// Such as `aes256-gcm96`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Can it unwrap at all?
    pub supports_decryption: bool,
    /// Does what it wraps open in the context alone that it was wrapped in?
    pub derived: bool,
    /// May it leave Vault?
    pub exportable: bool,
    pub latest_version: u32,
    pub min_decryption_version: u32,
}

impl Vault {
    /// Is it there and unsealed? Asked without a login. How far its clock is ahead of ours, if it says so.
    pub async fn look(&self) -> Result<Option<TimeDelta>, VaultError> {
        let (inner, clock) = (Arc::clone(&self.0), self.0.clock.clone());
        let asked = clock.now();
        let date = self.blocking(move || inner.settings.date(&inner.http()?)).await?;
        let theirs = date.and_then(|date| DateTime::parse_from_rfc2822(&date).ok());
        Ok(theirs.map(|theirs| skew(asked, theirs.to_utc(), DATE_RESOLUTION, clock.now())))
    }

    /// The key that new keys are wrapped under. Unwrapping does not need the right to read it.
    pub async fn describe_key(&self) -> Result<TransitKey, VaultError> {
        let path = format!("{}/keys/{}", self.0.settings.transit_mount, self.key());
        self.call(Request { path, body: None }).await?.data.ok_or(VaultError::Form)
    }
}
