//! The table of jobs. Jobs and leases run on the database's clock, which all replicas share.
use crate::{
    kernel::{Id, JobId, OrgId, named},
    work::{Tx, UpkeepTx, WorkError},
};
use diesel::{OptionalExtension as _, QueryResult, QueryableByName, sql_query, sql_types as st};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;
use uuid::Uuid;

/// After so many tries a job stays where it is, for a person to see.
pub const ATTEMPTS_MAX: i32 = 12;
/// Longer than any handler takes.
const LEASE_SECONDS: i32 = 60;
const ERROR_CHARS_MAX: usize = 500;

/// A job that this process may run until its lease ends.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// Which job.
    pub job: JobId,
    /// For which org, if for one.
    pub org: Option<OrgId>,
    /// What to do.
    pub kind: String,
    /// With what.
    pub payload: Value,
    /// On whose behalf.
    pub enqueued_by: String,
    /// The fence.
    pub epoch: i64,
    /// This try among `ATTEMPTS_MAX`.
    pub attempts: i32,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = st::Uuid)]
    job_id: Uuid,
    #[diesel(sql_type = st::Nullable<st::Uuid>)]
    org_id: Option<Uuid>,
    #[diesel(sql_type = st::Text)]
    kind: String,
    #[diesel(sql_type = st::Jsonb)]
    payload: Value,
    #[diesel(sql_type = st::Text)]
    enqueued_by: String,
    #[diesel(sql_type = st::BigInt)]
    epoch: i64,
    #[diesel(sql_type = st::Integer)]
    attempts: i32,
}

/// Adds a job; it is there if the write commits.
pub async fn enqueue(tx: &mut Tx<'_>, kind: &str, payload: Value) -> QueryResult<()> {
    sql_query("INSERT INTO jobs (job_id, org_id, kind, payload, enqueued_by) VALUES ($1, $2, $3, $4, $5)")
        .bind::<st::Uuid, _>(tx.mint::<named::Job>().uuid())
        .bind::<st::Uuid, _>(tx.org().uuid())
        .bind::<st::Text, _>(kind)
        .bind::<st::Jsonb, _>(payload)
        .bind::<st::Text, _>(tx.ctx().actor.to_string())
        .execute(tx.conn())
        .await?;
    tx.wake_jobs();
    Ok(())
}

/// Leases the most overdue job.
pub async fn claim(tx: &mut UpkeepTx<'_>, owner: &str) -> QueryResult<Option<Claimed>> {
    let row: Option<Row> = sql_query(
        "UPDATE jobs SET lease_owner = $1, lease_until = now() + make_interval(secs => $3), attempts = attempts + 1,
           epoch = epoch + 1
         WHERE job_id = (SELECT job_id FROM jobs
            WHERE run_at <= now() AND attempts < $2 AND (lease_until IS NULL OR lease_until < now())
            ORDER BY run_at LIMIT 1 FOR UPDATE SKIP LOCKED)
         RETURNING job_id, org_id, kind, payload, enqueued_by, epoch, attempts",
    )
    .bind::<st::Text, _>(owner)
    .bind::<st::Integer, _>(ATTEMPTS_MAX)
    .bind::<st::Double, _>(f64::from(LEASE_SECONDS))
    .get_result(tx.conn())
    .await
    .optional()?;
    Ok(row.map(|row| Claimed {
        job: Id::from_uuid(row.job_id),
        org: row.org_id.map(Id::from_uuid),
        kind: row.kind,
        payload: row.payload,
        enqueued_by: row.enqueued_by,
        epoch: row.epoch,
        attempts: row.attempts,
    }))
}

/// Keeps a job ours until this write ends, for what it does before its end. A claim that was overtaken writes nothing.
pub async fn confirm(tx: &mut Tx<'_>, claimed: &Claimed) -> Result<(), WorkError> {
    let held = sql_query("SELECT FROM jobs WHERE job_id = $1 AND epoch = $2 FOR UPDATE")
        .bind::<st::Uuid, _>(claimed.job.uuid())
        .bind::<st::BigInt, _>(claimed.epoch)
        .execute(tx.conn())
        .await?;
    if held == 1 { Ok(()) } else { Err(WorkError::Superseded) }
}

/// Ends a job in the write that had its effect. A claim that was overtaken rolls the effect back.
pub async fn complete(tx: &mut Tx<'_>, claimed: &Claimed) -> Result<(), WorkError> {
    let ended = end(tx.conn(), claimed).await?;
    if ended == 1 { Ok(()) } else { Err(WorkError::Superseded) }
}

/// Ends a job whose effect is outside of the database.
pub(super) async fn finish(tx: &mut UpkeepTx<'_>, claimed: &Claimed) -> QueryResult<()> {
    end(tx.conn(), claimed).await.map(drop)
}

async fn end(conn: &mut AsyncPgConnection, claimed: &Claimed) -> QueryResult<usize> {
    sql_query("DELETE FROM jobs WHERE job_id = $1 AND epoch = $2")
        .bind::<st::Uuid, _>(claimed.job.uuid())
        .bind::<st::BigInt, _>(claimed.epoch)
        .execute(conn)
        .await
}

/// Takes away, at most `limit` of them, what was given up so long ago that nobody will look at it any more.
pub async fn sweep(tx: &mut UpkeepTx<'_>, limit: i64) -> QueryResult<usize> {
    sql_query(
        "DELETE FROM jobs WHERE job_id IN (
           SELECT job_id FROM jobs WHERE attempts >= $1 AND run_at < now() - interval '30 days' LIMIT $2)",
    )
    .bind::<st::Integer, _>(ATTEMPTS_MAX)
    .bind::<st::BigInt, _>(limit)
    .execute(tx.conn())
    .await
}

/// Puts a job back, to be tried again after a while that doubles each time. `false`: it is another claim's meanwhile.
pub(super) async fn put_back(tx: &mut UpkeepTx<'_>, claimed: &Claimed, error: &str) -> QueryResult<bool> {
    let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
    sql_query(
        "UPDATE jobs SET lease_owner = NULL, lease_until = NULL, last_error = $3,
           run_at = now() + make_interval(secs => least(3600, 2 ^ attempts))
         WHERE job_id = $1 AND epoch = $2",
    )
    .bind::<st::Uuid, _>(claimed.job.uuid())
    .bind::<st::BigInt, _>(claimed.epoch)
    .bind::<st::Text, _>(error)
    .execute(tx.conn())
    .await
    .map(|rows| rows == 1)
}
