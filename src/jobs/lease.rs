//! Leases: one process at a time does a thing.
use crate::work::UpkeepTx;
use diesel::{OptionalExtension as _, QueryResult, QueryableByName, sql_query, sql_types as st};
use diesel_async::RunQueryDsl;

/// Takes or keeps a lease for `seconds`; `false`: another process has it.
pub async fn hold(tx: &mut UpkeepTx<'_>, name: &str, owner: &str, seconds: i32) -> QueryResult<bool> {
    Ok(hold_epoch(tx, name, owner, seconds).await?.is_some())
}

#[derive(QueryableByName)]
struct Held {
    #[diesel(sql_type = st::BigInt)]
    epoch: i64,
}

/// The same, with how often the lease has changed hands: whoever does things in several transactions sees by it that
/// somebody else had the lease in between. `None`: another process has it.
///
/// The row stays locked until the transaction ends, so what is done in the same transaction is fenced: a holder that
/// was frozen past its lease finds its transaction ended by the server, and cannot commit beside its successor.
pub async fn hold_epoch(
    tx: &mut UpkeepTx<'_>,
    name: &str,
    owner: &str,
    seconds: i32,
) -> QueryResult<Option<i64>> {
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
    Ok(held.map(|held| held.epoch))
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
