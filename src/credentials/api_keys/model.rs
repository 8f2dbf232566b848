//! Keys as the use cases see them.
use super::error::KeyError;
use crate::{
    authorization::{Holder, ScopeSet},
    kernel::{KeyId, KeyStatus, Kid, Metadata, Name, OrgId, Token},
};
use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use serde_json::Value;
use std::net::IpAddr;

const DAYS_MAX: i64 = 3650;
const CIDRS_MAX: usize = 64;
const SCOPES_MAX: usize = 128;
const OVERLAP_SECONDS: i64 = 24 * 3600;
const OVERLAP_SECONDS_MAX: i64 = 30 * 24 * 3600;

/// A key.
#[derive(Clone, Debug)]
pub struct ApiKey {
    pub id: KeyId,
    pub org: OrgId,
    pub holder: Holder,
    pub fingerprint: String,
    /// The last letters of the secret, by which people tell keys apart.
    pub last4: String,
    pub display_name: String,
    pub scopes: ScopeSet,
    /// As stored: `expired` follows from the clock.
    pub status: KeyStatus,
    pub expires_at: Option<DateTime<Utc>>,
    pub allowed_cidrs: Vec<IpNet>,
    pub rate_limit: Option<Value>,
    pub annotations: Value,
    /// The key that this one was made to take over from.
    pub replaces: Option<KeyId>,
    pub issued_by: String,
    pub issued_at: DateTime<Utc>,
    pub last_used_at: Option<DateTime<Utc>>,
    pub version: i64,
    pub updated_at: DateTime<Utc>,
    pub(super) verifier: Verifier,
}

/// What a presented secret is checked against.
#[derive(Clone, Debug)]
pub(super) struct Verifier {
    pub(super) kid: Kid,
    pub(super) hmac: [u8; 32],
    pub(super) pepper_version: i16,
}

impl ApiKey {
    /// From its issue to its end; `None`: without end.
    pub(super) fn lifetime(&self) -> Option<TimeDelta> {
        self.expires_at.map(|at| at - self.issued_at)
    }

    /// The status as callers see it.
    pub fn shown_status(&self, now: DateTime<Utc>) -> &'static str {
        let open = matches!(self.status, KeyStatus::Active | KeyStatus::Rotating);
        match self.expires_at {
            Some(at) if open && at <= now => "expired",
            _ => self.status.as_str(),
        }
    }
}

/// A key just made, and its secret.
#[derive(Debug)]
pub struct IssuedKey {
    pub key: ApiKey,
    pub secret: Token,
}

/// What a new key is to be.
#[derive(Clone, Debug)]
pub struct NewKey {
    pub display_name: String,
    pub scopes: ScopeSet,
    pub expires_at: Option<DateTime<Utc>>,
    pub allowed_cidrs: Vec<IpNet>,
    pub rate_limit: Option<Value>,
    pub annotations: Metadata,
}

impl NewKey {
    /// The default scopes, no expiry, no bounds.
    pub fn plain(display_name: &str) -> Result<Self, KeyError> {
        Ok(Self {
            display_name: parse_name(display_name)?,
            scopes: parse_scopes(&[])?,
            expires_at: None,
            allowed_cidrs: vec![],
            rate_limit: None,
            annotations: Metadata::default(),
        })
    }
}

/// What is to change; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct KeyPatch {
    pub display_name: Option<String>,
    pub scopes: Option<ScopeSet>,
    pub expires_at: Option<DateTime<Utc>>,
    pub allowed_cidrs: Option<Vec<IpNet>>,
    pub rate_limit: Option<Value>,
    pub annotations: Option<Metadata>,
}

impl KeyPatch {
    /// The members that it would change, for the audit log.
    pub(super) fn changed(&self) -> Vec<&'static str> {
        let all = [
            ("displayName", self.display_name.is_some()),
            ("scopes", self.scopes.is_some()),
            ("expiresAt", self.expires_at.is_some()),
            ("allowedCidrs", self.allowed_cidrs.is_some()),
            ("rateLimit", self.rate_limit.is_some()),
            ("annotations", self.annotations.is_some()),
        ];
        all.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
    }
}

/// Which keys of a list.
#[derive(Clone, Debug, Default)]
pub struct KeyFilter {
    pub holder: Option<Holder>,
    pub status: Option<KeyStatus>,
}

/// A name may be left empty.
pub(in crate::credentials) fn parse_name(text: &str) -> Result<String, KeyError> {
    match text {
        "" => Ok(String::new()),
        name => Ok(Name::parse(name).ok_or(KeyError::NameInvalid)?.as_str().to_owned()),
    }
}

/// Without scopes: what a key is for, and no power over the org.
pub(in crate::credentials) fn parse_scopes(names: &[String]) -> Result<ScopeSet, KeyError> {
    if names.len() > SCOPES_MAX {
        return Err(KeyError::TooManyScopes);
    }
    let unknown = |name: &str| KeyError::ScopeUnknown(name.to_owned());
    match names {
        [] => ScopeSet::parse(ScopeSet::DEFAULT).map_err(unknown),
        named => ScopeSet::parse(named.iter().map(String::as_str)).map_err(unknown),
    }
}

/// Networks in CIDR form; a bare address is a network of one.
pub(in crate::credentials) fn parse_cidrs(texts: &[String]) -> Result<Vec<IpNet>, KeyError> {
    if texts.len() > CIDRS_MAX {
        return Err(KeyError::TooManyCidrs);
    }
    let network = |text: &String| {
        let text = text.trim();
        text.parse::<IpNet>()
            .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
            .map(|network| network.trunc())
            .map_err(|_| KeyError::CidrInvalid)
    };
    texts.iter().map(network).collect()
}

/// Days from now; `None`: without end.
pub(in crate::credentials) fn parse_days(
    days: Option<i64>,
    now: DateTime<Utc>,
) -> Result<Option<DateTime<Utc>>, KeyError> {
    match days {
        None => Ok(None),
        Some(days) if (1..=DAYS_MAX).contains(&days) => Ok(Some(now + TimeDelta::days(days))),
        Some(_) => Err(KeyError::DaysInvalid),
    }
}

/// An instant to come, within ten years.
pub(in crate::credentials) fn parse_expiry(
    at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, KeyError> {
    let good = at > now && at <= now + TimeDelta::days(DAYS_MAX);
    if good { Ok(at) } else { Err(KeyError::ExpiryInvalid) }
}

/// How long the old key goes on: a day when nobody says.
pub(in crate::credentials) fn parse_overlap(seconds: Option<i64>) -> Result<TimeDelta, KeyError> {
    let seconds = seconds.unwrap_or(OVERLAP_SECONDS);
    if !(0..=OVERLAP_SECONDS_MAX).contains(&seconds) {
        return Err(KeyError::OverlapInvalid);
    }
    Ok(TimeDelta::seconds(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out_has_a_default_and_what_is_wrong_has_a_name() {
        let now = DateTime::UNIX_EPOCH;
        assert_eq!(parse_scopes(&[]).unwrap().names().collect::<Vec<_>>(), ScopeSet::DEFAULT);
        assert!(matches!(parse_scopes(&["*".into()]), Err(KeyError::ScopeUnknown(_))));
        assert_eq!(parse_cidrs(&["10.1.2.3/8".into(), " ::1".into()]).unwrap().len(), 2);
        assert_eq!(parse_cidrs(&["10.1.2.3/8".into()]).unwrap()[0].to_string(), "10.0.0.0/8");
        assert!(matches!(parse_cidrs(&["10.0.0.0/33".into()]), Err(KeyError::CidrInvalid)));
        assert_eq!(parse_days(None, now).unwrap(), None);
        assert!(parse_days(Some(0), now).is_err() && parse_days(Some(3651), now).is_err());
        assert!(parse_expiry(now, now).is_err() && parse_expiry(now + TimeDelta::seconds(1), now).is_ok());
        assert_eq!(parse_overlap(None).unwrap(), TimeDelta::days(1));
        assert!(parse_overlap(Some(-1)).is_err() && parse_overlap(Some(0)).is_ok());
        assert!(parse_name(&"x".repeat(201)).is_err());
    }
}
