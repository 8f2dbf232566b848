use super::{
    merkle::Hash,
    model::{ActorFilter, Backlog, Entry, Filter, Record, Slice, Waiting},
    schema::{audit_log, audit_pii},
};
use crate::{
    kernel::{Id, OrgId},
    ledger::OutboxRow,
    work::{ReadTx, UpkeepTx},
};
use chrono::{DateTime, Utc};
use diesel::{pg::Pg, prelude::*, sql_query, sql_types as st};
use diesel_async::RunQueryDsl;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Beyond, waiting events are not counted: the alarm has rung long before.
const COUNT_MAX: i64 = 100_000;

/// The size and peaks of the log, and the time of this transaction.
#[derive(QueryableByName)]
pub(super) struct Head {
    #[diesel(sql_type = st::BigInt)]
    pub(super) size: i64,
    #[diesel(sql_type = st::Binary)]
    pub(super) peaks: Vec<u8>,
    #[diesel(sql_type = st::Timestamptz)]
    pub(super) now: DateTime<Utc>,
}

/// The last entry of a chain.
#[derive(Clone, Copy, Debug)]
pub(super) struct OrgHead {
    pub(super) org_seq: i64,
    pub(super) leaf: Hash,
}

/// An event taken from the outbox, and where its chain stands.
pub(super) struct Taken {
    pub(super) waiting: Waiting,
    pub(super) head: Option<(i64, Vec<u8>)>,
}

/// An entry and its place.
pub(super) struct Placed {
    pub(super) seq: i64,
    pub(super) org_seq: i64,
    pub(super) prev: Option<Hash>,
    pub(super) row: OutboxRow,
    pub(super) tampered: bool,
    pub(super) entry: Entry,
}

/// What the log holds of an entry, for checking it.
#[derive(Queryable)]
pub(super) struct Stored {
    pub(super) seq: i64,
    pub(super) entry: Vec<u8>,
    pub(super) leaf: Vec<u8>,
}

#[derive(QueryableByName)]
struct OutboxColumns {
    #[diesel(sql_type = st::Uuid)]
    org_id: Uuid,
    #[diesel(sql_type = st::Uuid)]
    event_id: Uuid,
    #[diesel(sql_type = st::Timestamptz)]
    occurred_at: DateTime<Utc>,
    #[diesel(sql_type = st::Binary)]
    body: Vec<u8>,
    #[diesel(sql_type = st::Nullable<st::Binary>)]
    pii: Option<Vec<u8>>,
    #[diesel(sql_type = st::Binary)]
    mac: Vec<u8>,
    #[diesel(sql_type = st::Nullable<st::BigInt>)]
    org_seq: Option<i64>,
    #[diesel(sql_type = st::Nullable<st::Binary>)]
    leaf: Option<Vec<u8>>,
}

/// Locks the head. This, and not the lease, is what keeps the log from forking.
pub(super) async fn lock_head(tx: &mut UpkeepTx<'_>) -> QueryResult<Head> {
    sql_query("SELECT size, peaks, now() AS now FROM audit_head FOR UPDATE").get_result(tx.conn()).await
}

/// Takes the oldest events out of the outbox, in their order.
pub(super) async fn take_oldest(tx: &mut UpkeepTx<'_>, limit: i64) -> QueryResult<Vec<Taken>> {
    let rows: Vec<OutboxColumns> = sql_query(
        "WITH taken AS (
           DELETE FROM audit_outbox WHERE id IN (SELECT id FROM audit_outbox ORDER BY id LIMIT $1)
           RETURNING id, org_id, event_id, occurred_at, body, pii, mac)
         SELECT taken.org_id, event_id, occurred_at, body, pii, mac, org_seq, leaf
         FROM taken LEFT JOIN audit_org_head head ON head.org_id = taken.org_id ORDER BY id",
    )
    .bind::<st::BigInt, _>(limit)
    .load(tx.conn())
    .await?;
    Ok(rows.into_iter().map(|columns| columns.taken(tx)).collect())
}

impl OutboxColumns {
    fn taken(self, tx: &UpkeepTx<'_>) -> Taken {
        let row = OutboxRow {
            org: Id::from_uuid(self.org_id),
            event: Id::from_uuid(self.event_id),
            body: self.body,
            pii: self.pii,
        };
        let tampered = !row.is_authentic(tx.keys(), &self.mac);
        Taken {
            waiting: Waiting { row, occurred_at: self.occurred_at, tampered },
            head: self.org_seq.zip(self.leaf),
        }
    }
}

/// Writes entries and the sealed values beside them.
pub(super) async fn insert(
    tx: &mut UpkeepTx<'_>,
    placed: &[Placed],
    sequenced_at: DateTime<Utc>,
) -> QueryResult<()> {
    fn column<'p, T>(placed: &'p [Placed], value: impl Fn(&'p Placed) -> T) -> Vec<T> {
        placed.iter().map(value).collect()
    }
    sql_query(
        "INSERT INTO audit_log (sequenced_at, seq, org_id, org_seq, event_id, occurred_at, action, actor, target,
           outcome, entry, leaf, prev)
         SELECT $1, * FROM unnest($2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind::<st::Timestamptz, _>(sequenced_at)
    .bind::<st::Array<st::BigInt>, _>(column(placed, |row| row.seq))
    .bind::<st::Array<st::Uuid>, _>(column(placed, |row| row.row.org.uuid()))
    .bind::<st::Array<st::BigInt>, _>(column(placed, |row| row.org_seq))
    .bind::<st::Array<st::Uuid>, _>(column(placed, |row| row.row.event.uuid()))
    .bind::<st::Array<st::Timestamptz>, _>(column(placed, |row| row.entry.occurred_at))
    .bind::<st::Array<st::Text>, _>(column(placed, |row| row.entry.action.as_str()))
    .bind::<st::Array<st::Text>, _>(column(placed, |row| row.entry.actor.as_str()))
    .bind::<st::Array<st::Text>, _>(column(placed, |row| row.entry.target.as_str()))
    .bind::<st::Array<st::Text>, _>(column(placed, |row| row.entry.outcome.as_str()))
    .bind::<st::Array<st::Binary>, _>(column(placed, |row| row.entry.bytes.as_slice()))
    .bind::<st::Array<st::Binary>, _>(column(placed, |row| row.entry.leaf.as_slice()))
    .bind::<st::Array<st::Nullable<st::Binary>>, _>(column(placed, |row| row.prev.as_ref().map(Hash::as_slice)))
    .execute(tx.conn())
    .await?;

    let sealed: Vec<_> = placed.iter().filter_map(|row| Some((&row.row, row.row.pii.as_deref()?))).collect();
    if sealed.is_empty() {
        return Ok(());
    }
    // An id that is there already was forged, and must not stop the others.
    sql_query(
        "INSERT INTO audit_pii (event_id, org_id, sealed) SELECT * FROM unnest($1, $2, $3) ON CONFLICT DO NOTHING",
    )
    .bind::<st::Array<st::Uuid>, _>(sealed.iter().map(|(row, _)| row.event.uuid()).collect::<Vec<_>>())
    .bind::<st::Array<st::Uuid>, _>(sealed.iter().map(|(row, _)| row.org.uuid()).collect::<Vec<_>>())
    .bind::<st::Array<st::Binary>, _>(sealed.iter().map(|(_, sealed)| *sealed).collect::<Vec<_>>())
    .execute(tx.conn())
    .await
    .map(drop)
}

/// Moves chains on.
pub(super) async fn move_org_heads(
    tx: &mut UpkeepTx<'_>,
    heads: &BTreeMap<OrgId, OrgHead>,
) -> QueryResult<usize> {
    sql_query(
        "INSERT INTO audit_org_head AS head (org_id, org_seq, leaf) SELECT * FROM unnest($1, $2, $3)
         ON CONFLICT (org_id) DO UPDATE SET org_seq = excluded.org_seq, leaf = excluded.leaf
         WHERE head.org_seq < excluded.org_seq",
    )
    .bind::<st::Array<st::Uuid>, _>(heads.keys().map(Id::uuid).collect::<Vec<_>>())
    .bind::<st::Array<st::BigInt>, _>(heads.values().map(|head| head.org_seq).collect::<Vec<_>>())
    .bind::<st::Array<st::Binary>, _>(heads.values().map(|head| head.leaf.as_slice()).collect::<Vec<_>>())
    .execute(tx.conn())
    .await
}

/// Moves the log on; 0: it is not where it was.
pub(super) async fn move_head(
    tx: &mut UpkeepTx<'_>,
    from: i64,
    size: i64,
    peaks: Vec<u8>,
) -> QueryResult<usize> {
    sql_query("UPDATE audit_head SET size = $2, peaks = $3 WHERE size = $1")
        .bind::<st::BigInt, _>(from)
        .bind::<st::BigInt, _>(size)
        .bind::<st::Binary, _>(peaks)
        .execute(tx.conn())
        .await
}

/// What one transaction put on the log from a place on.
pub(super) async fn list_stored(
    tx: &mut UpkeepTx<'_>,
    from: i64,
    sequenced_at: DateTime<Utc>,
    limit: i64,
) -> QueryResult<Vec<Stored>> {
    audit_log::table
        .filter(audit_log::sequenced_at.eq(sequenced_at))
        .filter(audit_log::seq.ge(from))
        .order(audit_log::seq)
        .limit(limit)
        .select((audit_log::seq, audit_log::entry, audit_log::leaf))
        .load(tx.conn())
        .await
}

/// How much waits, and for how long. `now()` and not the domain's time: it is about this machine's lag.
pub(super) async fn count_waiting(tx: &mut UpkeepTx<'_>) -> QueryResult<Backlog> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = st::BigInt)]
        events: i64,
        #[diesel(sql_type = st::Double)]
        age_seconds: f64,
    }
    let Row { events, age_seconds } = sql_query(
        "SELECT (SELECT count(*) FROM (SELECT FROM audit_outbox LIMIT $1) bounded) AS events,
           greatest(0, coalesce(extract(epoch FROM now() -
             (SELECT occurred_at FROM audit_outbox ORDER BY id LIMIT 1)), 0))::float8 AS age_seconds",
    )
    .bind::<st::BigInt, _>(COUNT_MAX)
    .get_result(tx.conn())
    .await?;
    Ok(Backlog { events: u32::try_from(events).unwrap_or(u32::MAX), age_seconds })
}

/// Makes the partitions of this month and the next, where they are missing.
pub(super) async fn make_partitions(tx: &mut UpkeepTx<'_>) -> QueryResult<()> {
    sql_query("SELECT audit_make_partitions()").execute(tx.conn()).await.map(drop)
}

#[derive(Queryable, Selectable)]
#[diesel(table_name = audit_log, check_for_backend(Pg))]
struct LogRow {
    seq: i64,
    org_id: Uuid,
    org_seq: i64,
    event_id: Uuid,
    occurred_at: DateTime<Utc>,
    sequenced_at: DateTime<Utc>,
    action: String,
    actor: String,
    target: String,
    outcome: String,
    entry: Vec<u8>,
    leaf: Vec<u8>,
    prev: Option<Vec<u8>>,
}

impl From<LogRow> for Record {
    fn from(row: LogRow) -> Self {
        Self {
            seq: row.seq,
            org: Id::from_uuid(row.org_id),
            org_seq: row.org_seq,
            event: Id::from_uuid(row.event_id),
            occurred_at: row.occurred_at,
            sequenced_at: row.sequenced_at,
            action: row.action,
            actor: row.actor,
            target: row.target,
            outcome: row.outcome,
            entry: row.entry,
            leaf: row.leaf,
            prev: row.prev,
            personal: BTreeMap::new(),
        }
    }
}

/// The newest entries of the chain of the org that the transaction is in. Along the chain, since there is an index
/// on it, and its order is the log's.
pub(super) async fn list_of_org(
    tx: &mut ReadTx<'_>,
    filter: &Filter,
    slice: Slice,
) -> QueryResult<Vec<Record>> {
    let mut query = matching(filter).filter(audit_log::org_id.eq(tx.org().uuid()));
    if let Some(before) = slice.before {
        query = query.filter(audit_log::org_seq.lt(before));
    }
    load(tx, query.order(audit_log::org_seq.desc()).limit(slice.limit)).await
}

/// The newest entries of the whole log.
pub(super) async fn list_of_all(
    tx: &mut ReadTx<'_>,
    filter: &Filter,
    slice: Slice,
) -> QueryResult<Vec<Record>> {
    let mut query = matching(filter);
    if let Some(before) = slice.before {
        query = query.filter(audit_log::seq.lt(before));
    }
    load(tx, query.order(audit_log::seq.desc()).limit(slice.limit)).await
}

type Query<'f> = audit_log::BoxedQuery<'f, Pg>;

fn matching(filter: &Filter) -> Query<'_> {
    let mut query = audit_log::table.into_boxed();
    match &filter.actor {
        Some(ActorFilter::Exactly(name)) => query = query.filter(audit_log::actor.eq(name)),
        Some(ActorFilter::Named(id)) => query = query.filter(audit_log::actor.like(format!("%:{id}"))),
        None => (),
    }
    if let Some(action) = filter.action {
        query = query.filter(audit_log::action.eq(action.as_str()));
    }
    if let Some(outcome) = filter.outcome {
        query = query.filter(audit_log::outcome.eq(outcome.as_str()));
    }
    if let Some(from) = filter.span.from() {
        query = query.filter(audit_log::occurred_at.ge(from));
    }
    if let Some(to) = filter.span.to() {
        query = query.filter(audit_log::occurred_at.lt(to));
    }
    query
}

async fn load(tx: &mut ReadTx<'_>, query: Query<'_>) -> QueryResult<Vec<Record>> {
    let rows: Vec<LogRow> = query.select(LogRow::as_select()).load(tx.conn()).await?;
    Ok(rows.into_iter().map(Record::from).collect())
}

/// The sealed values of events, those that were not erased.
pub(super) async fn list_sealed(
    tx: &mut ReadTx<'_>,
    records: &[Record],
) -> QueryResult<BTreeMap<Uuid, Vec<u8>>> {
    let events: Vec<Uuid> = records.iter().map(|record| record.event.uuid()).collect();
    let rows: Vec<(Uuid, Vec<u8>)> = audit_pii::table
        .filter(audit_pii::event_id.eq_any(events))
        .select((audit_pii::event_id, audit_pii::sealed))
        .load(tx.conn())
        .await?;
    Ok(rows.into_iter().collect())
}
