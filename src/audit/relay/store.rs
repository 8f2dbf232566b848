use super::model::Behind;
use crate::work::UpkeepTx;
use chrono::{DateTime, Utc};
use diesel::{QueryResult, QueryableByName, sql_query, sql_types as st};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

/// Where a relay stands, and in which log.
#[derive(QueryableByName)]
pub(super) struct Position {
    #[diesel(sql_type = st::Uuid)]
    pub(super) log_id: Uuid,
    #[diesel(sql_type = st::BigInt)]
    pub(super) next_seq: i64,
    /// Of the log.
    #[diesel(sql_type = st::BigInt)]
    pub(super) size: i64,
}

/// An entry as it is relayed.
#[derive(QueryableByName)]
pub(super) struct Relayable {
    #[diesel(sql_type = st::BigInt)]
    pub(super) seq: i64,
    #[diesel(sql_type = st::Uuid)]
    pub(super) org_id: Uuid,
    #[diesel(sql_type = st::BigInt)]
    pub(super) org_seq: i64,
    #[diesel(sql_type = st::Uuid)]
    pub(super) event_id: Uuid,
    #[diesel(sql_type = st::Timestamptz)]
    pub(super) sequenced_at: DateTime<Utc>,
    #[diesel(sql_type = st::Binary)]
    pub(super) entry: Vec<u8>,
    #[diesel(sql_type = st::Binary)]
    pub(super) leaf: Vec<u8>,
}

/// How far a topic has the log; a new one has nothing of it.
pub(super) async fn find_position(tx: &mut UpkeepTx<'_>, topic: &str) -> QueryResult<Position> {
    sql_query("INSERT INTO relay_positions (topic, next_seq) VALUES ($1, 0) ON CONFLICT DO NOTHING")
        .bind::<st::Text, _>(topic)
        .execute(tx.conn())
        .await?;
    sql_query("SELECT log_id, next_seq, size FROM relay_positions, audit_head WHERE topic = $1")
        .bind::<st::Text, _>(topic)
        .get_result(tx.conn())
        .await
}

/// The entries from a place on: at least one if there is one, and no more than so many, of so many bytes together.
pub(super) async fn list_from(
    tx: &mut UpkeepTx<'_>,
    seq: i64,
    limit: i64,
    bytes: i64,
) -> QueryResult<Vec<Relayable>> {
    sql_query(
        "SELECT seq, org_id, org_seq, event_id, sequenced_at, entry, leaf
         FROM (SELECT *, sum(length(entry)) OVER (ORDER BY seq) - length(entry) AS bytes_before
           FROM (SELECT * FROM audit_log WHERE seq >= $1 ORDER BY seq LIMIT $2) oldest) counted
         WHERE bytes_before < $3 ORDER BY seq",
    )
    .bind::<st::BigInt, _>(seq)
    .bind::<st::BigInt, _>(limit)
    .bind::<st::BigInt, _>(bytes)
    .load(tx.conn())
    .await
}

/// Moves a topic on; 0: it is not where it was.
pub(super) async fn move_position(
    tx: &mut UpkeepTx<'_>,
    topic: &str,
    from: i64,
    to: i64,
) -> QueryResult<usize> {
    sql_query("UPDATE relay_positions SET next_seq = $3 WHERE topic = $1 AND next_seq = $2")
        .bind::<st::Text, _>(topic)
        .bind::<st::BigInt, _>(from)
        .bind::<st::BigInt, _>(to)
        .execute(tx.conn())
        .await
}

/// How much of the log a topic does not have, and for how long. `now()`, as for what waits for its place.
pub(super) async fn measure(tx: &mut UpkeepTx<'_>, topic: &str) -> QueryResult<Behind> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = st::BigInt)]
        next_seq: i64,
        #[diesel(sql_type = st::BigInt)]
        size: i64,
        #[diesel(sql_type = st::Double)]
        age_seconds: f64,
    }
    let Row { next_seq, size, age_seconds } = sql_query(
        "SELECT next_seq, size, greatest(0, coalesce(extract(epoch FROM now() -
           (SELECT sequenced_at FROM audit_log WHERE seq >= next_seq ORDER BY seq LIMIT 1)), 0))::float8 AS age_seconds
         FROM (SELECT coalesce((SELECT next_seq FROM relay_positions WHERE topic = $1), 0) AS next_seq) relay, audit_head",
    )
    .bind::<st::Text, _>(topic)
    .get_result(tx.conn())
    .await?;
    let count = |events: i64| u64::try_from(events).unwrap_or_default();
    Ok(Behind { relayed: count(next_seq), missing: count(size - next_seq), age_seconds })
}
