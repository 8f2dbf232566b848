//! All SQL on invites.
use super::model::OpenInvite;
use crate::{
    identity::{
        people::{self, Identity},
        schema::{invite_tokens, memberships},
        users::{
            User,
            store::{MemberRow, roles_of, save},
        },
    },
    kernel::{EmailAddress, Id, IdentityId, Kid, Page, UserId, UserStatus},
    platform::db::StorageError,
    work::{ReadTx, Tx, WorkError},
};
use chrono::{DateTime, Utc};
use diesel::{dsl::count_star, prelude::*};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

/// How many invites can still be accepted.
pub(super) async fn count_open(tx: &mut Tx<'_>) -> QueryResult<i64> {
    let (org, now) = (tx.org().uuid(), tx.ctx().now);
    memberships::table
        .inner_join(invite_tokens::table)
        .filter(memberships::org_id.eq(org))
        .filter(memberships::status.eq(UserStatus::Invited.as_str()))
        .filter(invite_tokens::expires_at.gt(now))
        .select(count_star())
        .first(tx.conn())
        .await
}

/// The invite of this address that ran out, so that it can be sent again under its old id.
pub(super) async fn find_expired(tx: &mut Tx<'_>, email: &EmailAddress) -> Result<Option<UserId>, WorkError> {
    let (org, now) = (tx.org().uuid(), tx.ctx().now);
    let user: Option<Uuid> = memberships::table
        .inner_join(invite_tokens::table)
        .filter(memberships::org_id.eq(org))
        .filter(memberships::email.eq(email.as_str()))
        .filter(memberships::status.eq(UserStatus::Invited.as_str()))
        .filter(invite_tokens::expires_at.le(now))
        .select(memberships::user_id)
        .first(tx.conn())
        .await
        .optional()?;
    Ok(user.map(Id::from_uuid))
}

/// A new token kills the former: the mail job will mint it.
pub(super) async fn replace_token(
    tx: &mut Tx<'_>,
    user: UserId,
    expires_at: DateTime<Utc>,
) -> QueryResult<()> {
    let (org, by) = (tx.org().uuid(), tx.ctx().actor.to_string());
    let renewed = || {
        (
            invite_tokens::kid.eq(None::<String>),
            invite_tokens::hmac.eq(None::<Vec<u8>>),
            invite_tokens::pepper_version.eq(None::<i16>),
            invite_tokens::invited_by.eq(by.clone()),
            invite_tokens::expires_at.eq(expires_at),
            invite_tokens::consumed_at.eq(None::<DateTime<Utc>>),
        )
    };
    diesel::insert_into(invite_tokens::table)
        .values((invite_tokens::user_id.eq(user.uuid()), invite_tokens::org_id.eq(org), renewed()))
        .on_conflict(invite_tokens::user_id)
        .do_update()
        .set(renewed())
        .execute(tx.conn())
        .await
        .map(drop)
}

/// Puts a minted token in place of the former; `None`: there is nobody left to invite.
pub(super) async fn arm_token(
    tx: &mut Tx<'_>,
    user: UserId,
    kid: &str,
    (hmac, pepper_version): ([u8; 32], i16),
) -> QueryResult<Option<DateTime<Utc>>> {
    let (org, now) = (tx.org().uuid(), tx.ctx().now);
    let open = invite_tokens::table
        .find(user.uuid())
        .filter(invite_tokens::org_id.eq(org))
        .filter(invite_tokens::consumed_at.is_null())
        .filter(invite_tokens::expires_at.gt(now));
    diesel::update(open)
        .set((
            invite_tokens::kid.eq(kid),
            invite_tokens::hmac.eq(&hmac[..]),
            invite_tokens::pepper_version.eq(pepper_version),
        ))
        .returning(invite_tokens::expires_at)
        .get_result(tx.conn())
        .await
        .optional()
}

/// Invites that nobody has accepted, also those that ran out.
pub(super) async fn list_invites(
    tx: &mut ReadTx<'_>,
    email: Option<&str>,
    page: Page,
) -> Result<Vec<OpenInvite>, WorkError> {
    let org = tx.org();
    let mut query = memberships::table
        .inner_join(invite_tokens::table)
        .filter(memberships::org_id.eq(org.uuid()))
        .filter(memberships::status.eq(UserStatus::Invited.as_str()))
        .filter(memberships::user_id.gt(page.after))
        .select((MemberRow::as_select(), invite_tokens::expires_at, invite_tokens::invited_by))
        .order(memberships::user_id)
        .limit(page.limit)
        .into_boxed();
    if let Some(email) = email {
        query = query.filter(memberships::email.eq(email.to_owned()));
    }
    let rows: Vec<(MemberRow, DateTime<Utc>, String)> = query.load(tx.conn()).await?;
    let ids: Vec<Uuid> = rows.iter().map(|(row, ..)| row.user_id).collect();
    let mut roles = roles_of(tx.conn(), org, &ids).await?;
    let invites = rows.into_iter().map(|(row, expires_at, invited_by)| {
        let roles = roles.remove(&row.user_id).unwrap_or_default();
        Ok(OpenInvite { user: row.user(roles)?, expires_at, invited_by })
    });
    Ok(invites.collect::<Result<_, StorageError>>()?)
}

/// A token and the invite it is for, locked. The transaction is on the platform: the token says which org.
pub async fn lock_open_invite(
    tx: &mut Tx<'_>,
    kid: &Kid,
) -> Result<Option<(OpenInvite, Vec<u8>, i16, Option<DateTime<Utc>>)>, WorkError> {
    type Found = (MemberRow, DateTime<Utc>, String, Option<Vec<u8>>, Option<i16>, Option<DateTime<Utc>>);
    let row: Option<Found> = invite_tokens::table
        .inner_join(memberships::table)
        .filter(invite_tokens::kid.eq(String::from_utf8_lossy(kid).into_owned()))
        .select((
            MemberRow::as_select(),
            invite_tokens::expires_at,
            invite_tokens::invited_by,
            invite_tokens::hmac,
            invite_tokens::pepper_version,
            invite_tokens::consumed_at,
        ))
        .for_update()
        .first(tx.conn())
        .await
        .optional()?;
    let Some((row, expires_at, invited_by, Some(hmac), Some(version), consumed_at)) = row else {
        return Ok(None);
    };
    let org = Id::from_uuid(row.org_id);
    let roles = roles_of(tx.conn(), org, &[row.user_id]).await?.remove(&row.user_id).unwrap_or_default();
    let invite = OpenInvite { user: row.user(roles)?, expires_at, invited_by };
    Ok(Some((invite, hmac, version, consumed_at)))
}

/// Whose address an invite is for, which person an operator vouched for, and what the token is checked against.
pub async fn peek_invite(
    tx: &mut ReadTx<'_>,
    kid: &Kid,
) -> Result<Option<(EmailAddress, Option<IdentityId>, Vec<u8>, i16)>, WorkError> {
    type Found = (String, Option<Uuid>, Option<Vec<u8>>, Option<i16>);
    let row: Option<Found> = invite_tokens::table
        .inner_join(memberships::table)
        .filter(invite_tokens::kid.eq(String::from_utf8_lossy(kid).into_owned()))
        .select((
            memberships::email,
            memberships::identity_id,
            invite_tokens::hmac,
            invite_tokens::pepper_version,
        ))
        .first(tx.conn())
        .await
        .optional()?;
    let Some((email, identity, Some(hmac), Some(version))) = row else { return Ok(None) };
    let email = EmailAddress::parse(&email).ok_or(StorageError::Value("memberships.email"))?;
    Ok(Some((email, identity.map(Id::from_uuid), hmac, version)))
}

/// Makes a person of an invite. The transaction has entered its org.
pub async fn accept(
    tx: &mut Tx<'_>,
    user: &User,
    identity: &Identity,
    mfa_due_at: Option<DateTime<Utc>>,
) -> Result<User, WorkError> {
    let now = tx.ctx().now;
    diesel::update(invite_tokens::table.find(user.id.uuid()))
        .set(invite_tokens::consumed_at.eq(now))
        .execute(tx.conn())
        .await?;
    people::verify_email(tx, identity.id).await?;
    let display_name = match user.display_name.as_str() {
        "" => identity.display_name.clone(),
        chosen => chosen.to_owned(),
    };
    let (status, accepted_at) = (UserStatus::Active, Some(now));
    let joined =
        User { identity: Some(identity.id), display_name, status, accepted_at, mfa_due_at, ..user.clone() };
    save(tx, &joined).await
}
