//! A person, as the use cases see him.
use crate::{
    authorization::PlatformRole,
    kernel::{EmailAddress, IdentityId, OrgId},
};
use chrono::{DateTime, Utc};

/// A person, across orgs.
#[derive(Clone, Debug)]
pub struct Identity {
    pub id: IdentityId,
    pub email: EmailAddress,
    pub display_name: String,
    pub platform_roles: Vec<PlatformRole>,
    /// Where sign-in leads when no org is named.
    pub home_org: Option<OrgId>,
    /// Access tokens issued before are dead.
    pub tokens_valid_from: Option<DateTime<Utc>>,
}
