//! All SQL on failures.
use super::model::{FORGOTTEN_AFTER, Ladder};
use crate::{
    authn::schema::login_throttle,
    work::{Tx, UpkeepTx},
};
use chrono::{DateTime, Utc};
use diesel::{prelude::*, sql_query, sql_types as st};
use diesel_async::RunQueryDsl;

const SWEEP_MAX: i64 = 1000;

/// Until when the latest of these subjects has to wait.
pub(super) async fn blocked_until(
    tx: &mut UpkeepTx<'_>,
    subjects: &[[u8; 32]],
    now: DateTime<Utc>,
) -> QueryResult<Option<DateTime<Utc>>> {
    let subjects: Vec<&[u8]> = subjects.iter().map(|subject| &subject[..]).collect();
    login_throttle::table
        .filter(login_throttle::subject.eq_any(subjects))
        .filter(login_throttle::blocked_until.gt(now))
        .select(diesel::dsl::max(login_throttle::blocked_until))
        .first(tx.conn())
        .await
}

/// Counts a wrong secret, and lengthens the wait.
pub(super) async fn count(
    tx: &mut UpkeepTx<'_>,
    subject: &[u8; 32],
    ladder: &Ladder,
    now: DateTime<Utc>,
) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Counted {
        #[diesel(sql_type = st::Integer)]
        failures: i32,
    }
    let Counted { failures } = sql_query(
        "INSERT INTO login_throttle AS t (subject, failures, last_failure_at) VALUES ($1, 1, $2)
         ON CONFLICT (subject) DO UPDATE SET last_failure_at = $2,
           failures = CASE WHEN t.last_failure_at < $3 THEN 1 ELSE t.failures + 1 END
         RETURNING failures",
    )
    .bind::<st::Binary, _>(&subject[..])
    .bind::<st::Timestamptz, _>(now)
    .bind::<st::Timestamptz, _>(now - FORGOTTEN_AFTER)
    .get_result(tx.conn())
    .await?;
    // The row is locked by the insert, so the count and the wait belong together.
    let until = ladder.delay(failures).map(|delay| now + delay);
    diesel::update(login_throttle::table.find(&subject[..]))
        .set(login_throttle::blocked_until.eq(until))
        .execute(tx.conn())
        .await
        .map(drop)
}

/// Forgets an account's failures.
pub(super) async fn forget(tx: &mut Tx<'_>, subject: &[u8; 32]) -> QueryResult<usize> {
    diesel::delete(login_throttle::table.find(&subject[..])).execute(tx.conn()).await
}

/// Takes away what is long past, but not what stands until somebody unlocks.
pub async fn purge_old(tx: &mut UpkeepTx<'_>, now: DateTime<Utc>) -> QueryResult<usize> {
    sql_query(
        "DELETE FROM login_throttle WHERE subject IN (
           SELECT subject FROM login_throttle
           WHERE last_failure_at < $1 AND (blocked_until IS NULL OR blocked_until < $2) LIMIT $3)",
    )
    .bind::<st::Timestamptz, _>(now - FORGOTTEN_AFTER)
    .bind::<st::Timestamptz, _>(now)
    .bind::<st::BigInt, _>(SWEEP_MAX)
    .execute(tx.conn())
    .await
}
