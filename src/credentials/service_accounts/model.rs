//! Machines as the use cases see them.
use super::error::ServiceAccountError;
use crate::{
    authorization::Role,
    kernel::{Metadata, Name, OrgId, ServiceAccountId, ServiceAccountStatus},
};
use chrono::{DateTime, Utc};
use serde_json::Value;

const DESCRIPTION_CHARS_MAX: usize = 1000;

/// A machine's account.
#[derive(Clone, Debug)]
pub struct ServiceAccount {
    pub id: ServiceAccountId,
    pub org: OrgId,
    pub name: String,
    pub description: String,
    pub status: ServiceAccountStatus,
    pub roles: Vec<Role>,
    pub metadata: Value,
    pub rotation: Option<Value>,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// What a new one is to be.
#[derive(Clone, Debug)]
pub struct NewServiceAccount {
    pub name: Name,
    pub description: String,
    pub roles: Vec<Role>,
    pub metadata: Metadata,
    pub rotation: Option<Value>,
}

/// What is to change; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct ServiceAccountPatch {
    pub name: Option<Name>,
    pub description: Option<String>,
    pub status: Option<ServiceAccountStatus>,
    pub roles: Option<Vec<Role>>,
    pub metadata: Option<Metadata>,
    pub rotation: Option<Value>,
}

impl ServiceAccountPatch {
    /// The members that it would change, for the audit log.
    pub(super) fn changed(&self) -> Vec<&'static str> {
        let all = [
            ("name", self.name.is_some()),
            ("description", self.description.is_some()),
            ("status", self.status.is_some()),
            ("roles", self.roles.is_some()),
            ("metadata", self.metadata.is_some()),
            ("rotation", self.rotation.is_some()),
        ];
        all.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
    }
}

/// Without roles a member: what a key is for, and no power over the org.
pub(super) fn parse_roles(names: &[String]) -> Result<Vec<Role>, ServiceAccountError> {
    let role =
        |name: &String| Role::parse(name).ok_or_else(|| ServiceAccountError::RoleUnknown(name.clone()));
    let mut roles = names.iter().map(role).collect::<Result<Vec<_>, _>>()?;
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}

pub(super) fn parse_description(text: &str) -> Result<String, ServiceAccountError> {
    let good = text.chars().count() <= DESCRIPTION_CHARS_MAX;
    if good { Ok(text.trim().to_owned()) } else { Err(ServiceAccountError::DescriptionInvalid) }
}
