//! Members as the use cases see them.
use super::error::UserError;
use crate::{
    authorization::Role,
    kernel::{EmailAddress, IdentityId, Metadata, Name, OrgId, UserId, UserStatus},
};
use chrono::{DateTime, Utc};
use serde_json::Value;

/// A person in an org.
#[derive(Clone, Debug)]
pub struct User {
    pub id: UserId,
    pub org: OrgId,
    /// `None` until the invite is accepted.
    pub identity: Option<IdentityId>,
    pub email: String,
    pub display_name: String,
    pub status: UserStatus,
    /// What restoring goes back to.
    pub status_before: Option<UserStatus>,
    pub accepted_at: Option<DateTime<Utc>>,
    pub mfa_due_at: Option<DateTime<Utc>>,
    pub delete_after: Option<DateTime<Utc>>,
    pub roles: Vec<Role>,
    pub metadata: Value,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

impl User {
    /// Can its invite still be accepted? An administrator may have activated it before its person came.
    pub fn awaits_person(&self) -> bool {
        self.accepted_at.is_none() && matches!(self.status, UserStatus::Invited | UserStatus::Active)
    }
}

/// Somebody who comes into an org.
#[derive(Clone, Debug)]
pub struct NewMember {
    pub email: EmailAddress,
    pub identity: Option<IdentityId>,
    pub display_name: String,
    pub status: UserStatus,
    pub roles: Vec<Role>,
    pub mfa_due_at: Option<DateTime<Utc>>,
}

/// What is to change; `None` stays.
#[derive(Clone, Debug, Default)]
pub struct UserPatch {
    pub display_name: Option<Name>,
    pub status: Option<UserStatus>,
    pub metadata: Option<Metadata>,
}

impl UserPatch {
    /// The members that it would change, for the audit log.
    pub(in crate::identity) fn changed(&self) -> Vec<&'static str> {
        let all = [
            ("displayName", self.display_name.is_some()),
            ("status", self.status.is_some()),
            ("metadata", self.metadata.is_some()),
        ];
        all.into_iter().filter(|(_, changed)| *changed).map(|(name, _)| name).collect()
    }
}

/// Which members of a list.
#[derive(Clone, Debug, Default)]
pub struct UserFilter {
    pub email: Option<String>,
    /// Without one, everybody but the deleted.
    pub status: Option<UserStatus>,
    /// Part of the name or address.
    pub text: Option<String>,
}

/// Role names to roles, each once, the highest first.
pub(in crate::identity) fn parse_roles(names: &[String]) -> Result<Vec<Role>, UserError> {
    let role = |name: &String| Role::parse(name).ok_or_else(|| UserError::RoleUnknown(name.clone()));
    let mut roles = names.iter().map(role).collect::<Result<Vec<_>, _>>()?;
    roles.sort_unstable();
    roles.dedup();
    Ok(roles)
}
