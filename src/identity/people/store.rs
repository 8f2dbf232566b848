//! All SQL on identities. They belong to no org: `conn` is any transaction's.
use super::model::Identity;
use crate::{
    authorization::{Fact, IdentityFact, PlatformRole},
    identity::schema::identities,
    kernel::{EmailAddress, Id, IdentityId, OrgId, named},
    platform::db::StorageError,
    work::{Tx, WorkError},
};
use chrono::{DateTime, Utc};
use diesel::{pg::Pg, prelude::*};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

#[derive(Queryable, Selectable)]
#[diesel(table_name = identities, check_for_backend(Pg))]
struct IdentityRow {
    identity_id: Uuid,
    email: String,
    display_name: String,
    platform_roles: Vec<String>,
    home_org_id: Option<Uuid>,
    tokens_valid_from: Option<DateTime<Utc>>,
}

impl IdentityRow {
    fn identity(self) -> Result<Identity, StorageError> {
        Ok(Identity {
            id: Id::from_uuid(self.identity_id),
            email: EmailAddress::parse(&self.email).ok_or(StorageError::Value("identities.email"))?,
            display_name: self.display_name,
            platform_roles: self.platform_roles.iter().filter_map(|name| PlatformRole::parse(name)).collect(),
            home_org: self.home_org_id.map(Id::from_uuid),
            tokens_valid_from: self.tokens_valid_from,
        })
    }
}

/// A person by address. `conn` is any transaction's: identities belong to no org.
pub async fn find_identity_by_email(
    conn: &mut AsyncPgConnection,
    email: &EmailAddress,
) -> Result<Option<Identity>, WorkError> {
    let row: Option<IdentityRow> = identities::table
        .filter(identities::email.eq(email.as_str()))
        .select(IdentityRow::as_select())
        .first(conn)
        .await
        .optional()?;
    Ok(row.map(IdentityRow::identity).transpose()?)
}

/// A person by id.
pub async fn find_identity(
    conn: &mut AsyncPgConnection,
    identity: IdentityId,
) -> Result<Option<Identity>, WorkError> {
    let row: Option<IdentityRow> = identities::table
        .find(identity.uuid())
        .select(IdentityRow::as_select())
        .first(conn)
        .await
        .optional()?;
    Ok(row.map(IdentityRow::identity).transpose()?)
}

/// A new person. `None`: the address is taken (`identities_email_taken`).
pub async fn insert_identity(
    tx: &mut Tx<'_>,
    email: &EmailAddress,
    display_name: &str,
    platform_roles: &[PlatformRole],
) -> Result<Option<Identity>, WorkError> {
    let (id, now) = (tx.mint::<named::Identity>(), tx.ctx().now);
    let roles: Vec<&str> = platform_roles.iter().map(|role| role.as_str()).collect();
    let row: Option<IdentityRow> = diesel::insert_into(identities::table)
        .values((
            identities::identity_id.eq(id.uuid()),
            identities::email.eq(email.as_str()),
            identities::display_name.eq(display_name),
            identities::platform_roles.eq(roles),
            identities::created_at.eq(now),
            identities::updated_at.eq(now),
        ))
        .on_conflict_do_nothing()
        .returning(IdentityRow::as_returning())
        .get_result(tx.conn())
        .await
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    let identity = row.identity()?;
    tx.fact(identity_fact(&identity));
    Ok(Some(identity))
}

fn identity_fact(identity: &Identity) -> Fact {
    Fact::Identity(IdentityFact {
        identity: identity.id,
        platform_roles: identity.platform_roles.clone(),
        tokens_valid_from_s: identity.tokens_valid_from.map_or(0, |at| at.timestamp()),
    })
}

/// A mail to the person's address arrived.
pub(in crate::identity) async fn verify_email(tx: &mut Tx<'_>, identity: IdentityId) -> QueryResult<()> {
    let now = tx.ctx().now;
    let unverified = identities::table.find(identity.uuid()).filter(identities::email_verified_at.is_null());
    diesel::update(unverified)
        .set((
            identities::email_verified_at.eq(now),
            identities::version.eq(identities::version + 1),
            identities::updated_at.eq(now),
        ))
        .execute(tx.conn())
        .await
        .map(drop)
}

/// What a person is called from now on.
pub async fn name_identity(tx: &mut Tx<'_>, identity: &Identity, name: &str) -> Result<Identity, WorkError> {
    save_identity(tx, &Identity { display_name: name.to_owned(), ..identity.clone() }).await
}

/// What a person is on the platform from now on.
pub async fn set_platform_roles(
    tx: &mut Tx<'_>,
    identity: &Identity,
    platform_roles: Vec<PlatformRole>,
) -> Result<Identity, WorkError> {
    save_identity(tx, &Identity { platform_roles, ..identity.clone() }).await
}

/// Where sign-in leads from now on.
pub async fn set_home_org(tx: &mut Tx<'_>, identity: &Identity, org: OrgId) -> Result<Identity, WorkError> {
    save_identity(tx, &Identity { home_org: Some(org), ..identity.clone() }).await
}

/// Kills every access token issued before this second.
pub async fn touch_epoch(tx: &mut Tx<'_>, identity: &Identity) -> Result<Identity, WorkError> {
    let tokens_valid_from = Some(tx.ctx().now);
    save_identity(tx, &Identity { tokens_valid_from, ..identity.clone() }).await
}

async fn save_identity(tx: &mut Tx<'_>, identity: &Identity) -> Result<Identity, WorkError> {
    let roles: Vec<&str> = identity.platform_roles.iter().map(|role| role.as_str()).collect();
    let row: IdentityRow = diesel::update(identities::table.find(identity.id.uuid()))
        .set((
            identities::display_name.eq(&identity.display_name),
            identities::platform_roles.eq(roles),
            identities::home_org_id.eq(identity.home_org.map(|org| org.uuid())),
            identities::tokens_valid_from.eq(identity.tokens_valid_from),
            identities::version.eq(identities::version + 1),
            identities::updated_at.eq(tx.ctx().now),
        ))
        .returning(IdentityRow::as_returning())
        .get_result(tx.conn())
        .await?;
    let identity = row.identity()?;
    tx.fact(identity_fact(&identity));
    Ok(identity)
}
