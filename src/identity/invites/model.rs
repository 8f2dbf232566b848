//! Invites as the use cases see them.
use crate::{
    authorization::Role,
    identity::users::{User, UserError, model::parse_roles},
    kernel::{EmailAddress, OrgId, UserId},
};
use chrono::{DateTime, TimeDelta, Utc};

const INVITE_HOURS: i64 = 72;

const INVITE_HOURS_MAX: i64 = 30 * 24;

/// Whom to invite, as what, and until when.
#[derive(Clone, Debug)]
pub struct NewInvite {
    pub email: EmailAddress,
    pub roles: Vec<Role>,
    pub lifetime: TimeDelta,
}

impl NewInvite {
    /// Without roles a member, without hours three days.
    pub fn parse(email: &str, roles: &[String], hours: Option<i64>) -> Result<Self, UserError> {
        let email = EmailAddress::parse(email).ok_or(UserError::EmailInvalid)?;
        let roles = match roles {
            [] => vec![Role::Member],
            named => parse_roles(named)?,
        };
        let hours = hours.unwrap_or(INVITE_HOURS);
        if !(1..=INVITE_HOURS_MAX).contains(&hours) {
            return Err(UserError::LifetimeInvalid);
        }
        Ok(Self { email, roles, lifetime: TimeDelta::hours(hours) })
    }
}

/// An invite just made.
#[derive(Clone, Debug)]
pub struct Invite {
    pub user: UserId,
    pub org: OrgId,
    pub email: EmailAddress,
    pub expires_at: DateTime<Utc>,
}

/// An invite that nobody has accepted.
#[derive(Clone, Debug)]
pub struct OpenInvite {
    pub user: User,
    pub expires_at: DateTime<Utc>,
    pub invited_by: String,
}

/// Which invites of a list.
#[derive(Clone, Debug, Default)]
pub struct InviteFilter {
    pub email: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_invite_has_defaults_and_bounds() {
        let invite = NewInvite::parse("A@b.io", &[], None).unwrap();
        assert_eq!((invite.roles, invite.lifetime), (vec![Role::Member], TimeDelta::hours(72)));
        let named = ["viewer", "owner", "viewer"].map(str::to_owned);
        assert_eq!(NewInvite::parse("a@b.io", &named, None).unwrap().roles, [Role::Owner, Role::Viewer]);
        assert!(matches!(NewInvite::parse("nobody", &[], None), Err(UserError::EmailInvalid)));
        assert!(matches!(NewInvite::parse("a@b.io", &["king".into()], None), Err(UserError::RoleUnknown(_))));
        for hours in [0, -1, 721, i64::MAX] {
            assert!(matches!(NewInvite::parse("a@b.io", &[], Some(hours)), Err(UserError::LifetimeInvalid)));
        }
    }
}
