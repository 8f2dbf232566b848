//! The log of facts, as it is read: page by page from a place, and up to where its clock stands.
use super::{
    Scope,
    facts::{Change, Fact, FactKey},
};
use crate::platform::db::StorageError;
use chrono::{DateTime, Utc};
use diesel::{QueryableByName, sql_query, sql_types as st};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

/// One page of the log. 500,000 keys are fifty pages.
const FACTS_PER_PAGE: i64 = 10_000;

/// These facts as they are now. For the role that may read what facts say.
pub(super) async fn find(
    conn: &mut AsyncPgConnection,
    keys: &[(FactKey, i64)],
) -> Result<Vec<Row>, StorageError> {
    let rows = sql_query(
        "SELECT seq, kind, id, body::text AS body, deleted, changed_at, seq > first_seq AS was_there FROM authz_fact
         WHERE (kind, id) IN (SELECT * FROM unnest($1, $2))",
    )
    .bind::<st::Array<st::Text>, _>(keys.iter().map(|(key, _)| key.kind).collect::<Vec<_>>())
    .bind::<st::Array<st::Uuid>, _>(keys.iter().map(|(key, _)| key.id).collect::<Vec<_>>())
    .load(conn)
    .await?;
    Ok(rows)
}

/// What the clock says now: the last seq, and up to where tombstones are gone.
pub(super) async fn reading(conn: &mut AsyncPgConnection) -> Result<Reading, StorageError> {
    Ok(sql_query("SELECT seq, floor FROM authz_clock").get_result(conn).await?)
}

/// The next changes after `last`. Facts of one transaction share a seq, so the page key is the whole triple.
pub(super) async fn page(
    conn: &mut AsyncPgConnection,
    last: &(i64, String, Uuid),
) -> Result<Vec<Row>, StorageError> {
    let rows = sql_query(
        "SELECT seq, kind, id, body::text AS body, deleted, changed_at, seq > first_seq AS was_there FROM authz_fact
         WHERE (seq, kind, id) > ($1, $2, $3) ORDER BY seq, kind, id LIMIT $4",
    )
    .bind::<st::BigInt, _>(last.0)
    .bind::<st::Text, _>(&last.1)
    .bind::<st::Uuid, _>(last.2)
    .bind::<st::BigInt, _>(FACTS_PER_PAGE)
    .load(conn)
    .await?;
    Ok(rows)
}

/// What changed after `from` and up to `to` of what was there before, or says that something ended; of one org or of
/// none, where `scope` is an org. With all of the last seq, so there may be more than `limit`.
pub(super) async fn revoking(
    conn: &mut AsyncPgConnection,
    (from, to): (i64, i64),
    scope: Scope,
    limit: i64,
) -> Result<Vec<Row>, StorageError> {
    let org = match scope {
        Scope::Org(org) => Some(org.uuid()),
        Scope::Platform | Scope::Own => None,
    };
    let rows = sql_query(
        "SELECT seq, kind, id, body::text AS body, deleted, changed_at, seq > first_seq AS was_there FROM authz_fact
         WHERE seq > $1 AND seq <= $2 AND kind <> 'operator' AND (seq > first_seq OR kind = 'session')
           AND ($3 IS NULL OR org_id = $3 OR org_id IS NULL)
         ORDER BY seq FETCH FIRST ($4) ROWS WITH TIES",
    )
    .bind::<st::BigInt, _>(from)
    .bind::<st::BigInt, _>(to)
    .bind::<st::Nullable<st::Uuid>, _>(org)
    .bind::<st::BigInt, _>(limit)
    .load(conn)
    .await?;
    Ok(rows)
}

/// Where the clock stands.
#[derive(QueryableByName)]
pub(super) struct Reading {
    #[diesel(sql_type = st::BigInt)]
    pub(super) seq: i64,
    #[diesel(sql_type = st::BigInt)]
    pub(super) floor: i64,
}

/// A fact on the log.
#[derive(QueryableByName)]
pub(super) struct Row {
    #[diesel(sql_type = st::BigInt)]
    pub(super) seq: i64,
    #[diesel(sql_type = st::Text)]
    pub(super) kind: String,
    #[diesel(sql_type = st::Uuid)]
    pub(super) id: Uuid,
    #[diesel(sql_type = st::Text)]
    body: String,
    #[diesel(sql_type = st::Bool)]
    deleted: bool,
    #[diesel(sql_type = st::Timestamptz)]
    pub(super) changed_at: DateTime<Utc>,
    /// Was anything said of it before?
    #[diesel(sql_type = st::Bool)]
    pub(super) was_there: bool,
}

impl Row {
    pub(super) fn change(&self) -> Result<Change, StorageError> {
        let fact = Fact::parse(&self.kind, &self.body)?;
        Ok(if self.deleted { Change::Gone(fact) } else { Change::Holds(fact) })
    }
}
