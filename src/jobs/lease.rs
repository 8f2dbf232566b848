//! Leases: one process at a time does a thing.
use crate::work::{UpkeepTx, WorkError};
use diesel::{OptionalExtension as _, QueryResult, QueryableByName, sql_query, sql_types as st};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

/// A lease as it was taken. Whoever does things under it in several transactions shows it in each: in between, somebody
/// else may have had it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Lease {
    name: String,
    owner: String,
    /// How often it has changed hands.
    epoch: i64,
}

#[derive(QueryableByName)]
struct Held {
    #[diesel(sql_type = st::BigInt)]
    epoch: i64,
}

/// Takes or keeps a lease for `seconds`; `false`: another process has it.
pub async fn hold(tx: &mut UpkeepTx<'_>, name: &str, owner: &str, seconds: i32) -> QueryResult<bool> {
    Ok(take(tx, name, owner, seconds).await?.is_some())
}

/// The same, to be shown later. `None`: another process has it.
///
/// The row stays locked until the transaction ends, so what is done in the same transaction is fenced: a holder that
/// was frozen past its lease finds its transaction ended by the server, and cannot commit beside its successor.
pub async fn take(
    tx: &mut UpkeepTx<'_>,
    name: &str,
    owner: &str,
    seconds: i32,
) -> QueryResult<Option<Lease>> {
    let held: Option<Held> = sql_query(
        "WITH free AS (
           SELECT name FROM leases WHERE name = $1 AND (owner = $2 OR lease_until < now()) FOR UPDATE SKIP LOCKED)
         UPDATE leases SET epoch = epoch + (owner <> $2)::int, owner = $2,
           lease_until = now() + make_interval(secs => $3)
         FROM free WHERE leases.name = free.name RETURNING leases.epoch",
    )
    .bind::<st::Text, _>(name)
    .bind::<st::Text, _>(owner)
    .bind::<st::Double, _>(f64::from(seconds))
    .get_result(tx.conn())
    .await
    .optional()?;
    Ok(held.map(|held| Lease { name: name.to_owned(), owner: owner.to_owned(), epoch: held.epoch }))
}

impl Lease {
    /// Keeps the lease ours until the transaction ends. `Superseded`: somebody else has taken it, so nothing of this
    /// transaction may be.
    pub async fn confirm(&self, conn: &mut AsyncPgConnection) -> Result<(), WorkError> {
        let held =
            sql_query("SELECT epoch FROM leases WHERE name = $1 AND owner = $2 AND epoch = $3 FOR UPDATE")
                .bind::<st::Text, _>(&self.name)
                .bind::<st::Text, _>(&self.owner)
                .bind::<st::BigInt, _>(self.epoch)
                .execute(conn)
                .await?;
        if held == 1 { Ok(()) } else { Err(WorkError::Superseded) }
    }
}

/// Gives a lease back, so that a successor need not wait for it to run out.
pub async fn release(tx: &mut UpkeepTx<'_>, name: &str, owner: &str) -> QueryResult<()> {
    sql_query("UPDATE leases SET lease_until = now() WHERE name = $1 AND owner = $2 AND lease_until > now()")
        .bind::<st::Text, _>(name)
        .bind::<st::Text, _>(owner)
        .execute(tx.conn())
        .await
        .map(drop)
}
