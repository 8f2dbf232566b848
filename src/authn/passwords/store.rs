//! All SQL on passwords.
use crate::{authn::schema::passwords, kernel::IdentityId, platform::hasher::PasswordHash, work::Tx};
use diesel::prelude::*;
use diesel_async::{AsyncPgConnection, RunQueryDsl};

/// The stored hash. `conn` is any transaction's: passwords belong to no org.
pub(in crate::authn) async fn find(
    conn: &mut AsyncPgConnection,
    identity: IdentityId,
) -> QueryResult<Option<PasswordHash>> {
    let phc: Option<String> =
        passwords::table.find(identity.uuid()).select(passwords::phc).first(conn).await.optional()?;
    Ok(phc.map(PasswordHash::from_stored))
}

/// Does the person have one? `conn` is any transaction's.
pub async fn has_password(conn: &mut AsyncPgConnection, identity: IdentityId) -> QueryResult<bool> {
    Ok(find(conn, identity).await?.is_some())
}

/// Is this still the hash, and does it stay so until the transaction ends?
pub(in crate::authn) async fn holds(
    tx: &mut Tx<'_>,
    identity: IdentityId,
    hash: &PasswordHash,
) -> QueryResult<bool> {
    let stored: Option<String> = passwords::table
        .find(identity.uuid())
        .select(passwords::phc)
        .for_update()
        .first(tx.conn())
        .await
        .optional()?;
    Ok(stored.is_some_and(|phc| phc == hash.as_str()))
}

/// From now on this one.
pub async fn upsert(tx: &mut Tx<'_>, identity: IdentityId, hash: &PasswordHash) -> QueryResult<()> {
    let now = tx.ctx().now;
    let set = || (passwords::phc.eq(hash.as_str()), passwords::changed_at.eq(now));
    diesel::insert_into(passwords::table)
        .values((passwords::identity_id.eq(identity.uuid()), set()))
        .on_conflict(passwords::identity_id)
        .do_update()
        .set(set())
        .execute(tx.conn())
        .await
        .map(drop)
}
