//! Sessions as the use cases see them.
use crate::kernel::{IdentityId, OrgId, SessionId, Token};
use chrono::{DateTime, TimeDelta, Utc};

/// A sign-in.
#[derive(Clone, Debug)]
pub(in crate::authn) struct Session {
    pub(in crate::authn) id: SessionId,
    pub(in crate::authn) identity: IdentityId,
    /// The org that its access tokens name.
    pub(in crate::authn) org: Option<OrgId>,
    pub(in crate::authn) client_id: String,
    /// How the person showed who he is (RFC 8176).
    pub(in crate::authn) amr: Vec<String>,
    pub(in crate::authn) auth_time: DateTime<Utc>,
    pub(in crate::authn) absolute_expires_at: DateTime<Utc>,
    pub(in crate::authn) address: Option<String>,
    pub(in crate::authn) user_agent: Option<String>,
    pub(in crate::authn) revoked_at: Option<DateTime<Utc>>,
    pub(in crate::authn) created_at: DateTime<Utc>,
}

impl Session {
    /// Can it still be used?
    pub(in crate::authn) fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.revoked_at.is_none() && self.absolute_expires_at > now
    }
}

/// What a new session is to be.
pub(in crate::authn) struct NewSession<'a> {
    pub(in crate::authn) identity: IdentityId,
    pub(in crate::authn) org: Option<OrgId>,
    pub(in crate::authn) client_id: &'a str,
    pub(in crate::authn) lifetime: TimeDelta,
    /// For a browser, which holds a cookie in place of tokens.
    pub(in crate::authn) cookie: Option<&'a Token>,
}
