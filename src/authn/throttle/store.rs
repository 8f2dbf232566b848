//! All SQL on failures.
use super::model::{FAMILIAR_FOR, FORGOTTEN_AFTER, HERE, Known, Ladder, NETWORK, TURN, TURN_MAX};
use crate::{
    authn::schema::{login_networks, login_throttle},
    work::{Tx, UpkeepTx},
};
use chrono::{DateTime, Utc};
use diesel::{prelude::*, sql_query, sql_types as st};
use diesel_async::RunQueryDsl;

const SWEEP_MAX: i64 = 1000;

#[derive(QueryableByName)]
struct Failures {
    #[diesel(sql_type = st::Integer)]
    failures: i32,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = st::Nullable<st::Integer>)]
    failures: Option<i32>,
    #[diesel(sql_type = st::Nullable<st::Timestamptz>)]
    last_failure_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = st::Nullable<st::Timestamptz>)]
    turn_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = st::Nullable<st::Timestamptz>)]
    blocked_until: Option<DateTime<Utc>>,
    #[diesel(sql_type = st::Nullable<st::Integer>)]
    failures_here: Option<i32>,
    #[diesel(sql_type = st::Nullable<st::Timestamptz>)]
    last_failure_here_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = st::Nullable<st::Timestamptz>)]
    last_success_at: Option<DateTime<Utc>>,
}

/// What is known of an account and a network. Whose network it has been lately does not wait for what others in it tried
/// at other accounts.
pub(super) async fn find(
    tx: &mut UpkeepTx<'_>,
    account: &[u8; 32],
    network: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<Known> {
    let row: Row = sql_query(
        "SELECT a.failures, a.last_failure_at, a.blocked_until AS turn_until,
           CASE WHEN h.last_success_at > $3 THEN h.blocked_until ELSE greatest(n.blocked_until, h.blocked_until) END
             AS blocked_until, h.failures AS failures_here,
           h.last_failure_at AS last_failure_here_at, h.last_success_at
         FROM (SELECT 1) AS one LEFT JOIN login_throttle a ON a.subject = $1 LEFT JOIN login_throttle n ON n.subject = $2
           LEFT JOIN login_networks h ON h.account = $1 AND h.network = $2",
    )
    .bind::<st::Binary, _>(&account[..])
    .bind::<st::Binary, _>(&network[..])
    .bind::<st::Timestamptz, _>(now - FAMILIAR_FOR)
    .get_result(tx.conn())
    .await?;
    Ok(Known {
        failures: row.failures.unwrap_or_default(),
        last_failure_at: row.last_failure_at,
        turn_until: row.turn_until,
        blocked_until: row.blocked_until,
        failures_here: row.failures_here.unwrap_or_default(),
        last_failure_here_at: row.last_failure_here_at,
        last_success_at: row.last_success_at,
    })
}

/// Takes the turn of an account, if it is nobody's.
pub(super) async fn take_turn(
    tx: &mut UpkeepTx<'_>,
    account: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<bool> {
    let free = login_throttle::blocked_until
        .is_null()
        .or(login_throttle::blocked_until.le(now))
        .or(login_throttle::blocked_until.gt(now + TURN_MAX));
    let of_account = login_throttle::table.find(&account[..]).filter(free.assume_not_null());
    let taken = diesel::update(of_account)
        .set(login_throttle::blocked_until.eq(now + TURN))
        .execute(tx.conn())
        .await?;
    Ok(taken > 0)
}

/// Counts a wrong secret of an account, wherever it came from.
pub(super) async fn count_account(
    tx: &mut UpkeepTx<'_>,
    account: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    count(tx, account, now).await.map(drop)
}

/// Counts a wrong secret that came from a network, and lengthens its wait.
pub(super) async fn count_network(
    tx: &mut UpkeepTx<'_>,
    network: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let failures = count(tx, network, now).await?;
    // The row is locked by the insert, so the count and the wait belong together.
    let row = diesel::update(login_throttle::table.find(&network[..]));
    row.set(login_throttle::blocked_until.eq(until(&NETWORK, failures, now)))
        .execute(tx.conn())
        .await
        .map(drop)
}

/// Counts a wrong secret of an account in a network, and lengthens the wait there.
pub(super) async fn count_here(
    tx: &mut UpkeepTx<'_>,
    account: &[u8; 32],
    network: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    let Failures { failures } = sql_query(
        "INSERT INTO login_networks AS t (account, network, failures, last_failure_at) VALUES ($1, $2, 1, $3)
         ON CONFLICT (account, network) DO UPDATE SET last_failure_at = $3,
           failures = CASE WHEN t.last_failure_at < $4 THEN 1 ELSE t.failures + 1 END
         RETURNING failures",
    )
    .bind::<st::Binary, _>(&account[..])
    .bind::<st::Binary, _>(&network[..])
    .bind::<st::Timestamptz, _>(now)
    .bind::<st::Timestamptz, _>(now - FORGOTTEN_AFTER)
    .get_result(tx.conn())
    .await?;
    let row = diesel::update(login_networks::table.find((&account[..], &network[..])));
    row.set(login_networks::blocked_until.eq(until(&HERE, failures, now))).execute(tx.conn()).await.map(drop)
}

async fn count(tx: &mut UpkeepTx<'_>, subject: &[u8; 32], now: DateTime<Utc>) -> QueryResult<i32> {
    let Failures { failures } = sql_query(
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
    Ok(failures)
}

fn until(ladder: &Ladder, failures: i32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    ladder.delay(failures).map(|delay| now + delay)
}

/// Somebody who knows the password was let in here: forgets the failures here, and makes the network familiar.
pub(super) async fn succeeded(
    tx: &mut Tx<'_>,
    account: &[u8; 32],
    network: &[u8; 32],
    now: DateTime<Utc>,
) -> QueryResult<()> {
    sql_query(
        "INSERT INTO login_networks (account, network, failures, last_success_at) VALUES ($1, $2, 0, $3)
         ON CONFLICT (account, network) DO UPDATE SET failures = 0, blocked_until = NULL, last_success_at = $3",
    )
    .bind::<st::Binary, _>(&account[..])
    .bind::<st::Binary, _>(&network[..])
    .bind::<st::Timestamptz, _>(now)
    .execute(tx.conn())
    .await
    .map(drop)
}

/// Forgets an account's failures, wherever they came from. Answers how many subjects had some.
pub(super) async fn forget(tx: &mut Tx<'_>, account: &[u8; 32]) -> QueryResult<usize> {
    let everywhere = diesel::delete(login_throttle::table.find(&account[..])).execute(tx.conn()).await?;
    let failed = login_networks::table
        .filter(login_networks::account.eq(&account[..]))
        .filter(login_networks::failures.gt(0));
    let nothing = (login_networks::failures.eq(0), login_networks::blocked_until.eq(None::<DateTime<Utc>>));
    Ok(everywhere + diesel::update(failed).set(nothing).execute(tx.conn()).await?)
}

/// Takes away what is long past.
pub async fn purge_old(tx: &mut UpkeepTx<'_>, now: DateTime<Utc>) -> QueryResult<usize> {
    let subjects = sql_query(
        "DELETE FROM login_throttle WHERE subject IN (
           SELECT subject FROM login_throttle WHERE last_failure_at < $1 LIMIT $2)",
    )
    .bind::<st::Timestamptz, _>(now - FORGOTTEN_AFTER)
    .bind::<st::BigInt, _>(SWEEP_MAX)
    .execute(tx.conn())
    .await?;
    let networks = sql_query(
        "DELETE FROM login_networks WHERE (account, network) IN (
           SELECT account, network FROM login_networks
           WHERE coalesce(last_failure_at < $1, true) AND coalesce(last_success_at < $2, true) LIMIT $3)",
    )
    .bind::<st::Timestamptz, _>(now - FORGOTTEN_AFTER)
    .bind::<st::Timestamptz, _>(now - FAMILIAR_FOR)
    .bind::<st::BigInt, _>(SWEEP_MAX)
    .execute(tx.conn())
    .await?;
    Ok(subjects + networks)
}
