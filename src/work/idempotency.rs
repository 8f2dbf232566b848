//! Idempotency-Key: the answer is stored in the very transaction that did the work.
use super::{UpkeepTx, WorkError};
use crate::{
    kernel::{Answer, Ctx, Idempotency, Secret, SecretMember},
    platform::{
        db::StorageError,
        keys::{Keys, sha256},
    },
};
use chrono::{DateTime, TimeDelta, Utc};
use diesel::{OptionalExtension as _, QueryResult, QueryableByName, sql_query, sql_types as st};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

/// How long an answer is given again.
const KEPT: TimeDelta = TimeDelta::hours(24);
/// How long its secret is.
const SECRET_KEPT: TimeDelta = TimeDelta::minutes(10);

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = st::Binary)]
    fingerprint: Vec<u8>,
    #[diesel(sql_type = st::SmallInt)]
    status: i16,
    #[diesel(sql_type = st::Jsonb)]
    headers: Value,
    #[diesel(sql_type = st::Nullable<st::Jsonb>)]
    body: Option<Value>,
    #[diesel(sql_type = st::Nullable<st::Text>)]
    secret_name: Option<String>,
    #[diesel(sql_type = st::Nullable<st::Binary>)]
    secret: Option<Vec<u8>>,
    #[diesel(sql_type = st::Timestamptz)]
    created_at: DateTime<Utc>,
}

/// The right to do it, or the answer that was given when it was done.
pub(super) async fn claim(
    conn: &mut AsyncPgConnection,
    keys: &Keys,
    ctx: &Ctx,
    wish: &Idempotency,
) -> Result<(), WorkError> {
    #[derive(QueryableByName)]
    struct Locked {
        #[diesel(sql_type = st::Bool)]
        locked: bool,
    }
    let principal = ctx.actor.principal();
    // `ON CONFLICT DO NOTHING` would wait for the other; this says no at once, and is gone with the transaction.
    let Locked { locked } = sql_query("SELECT pg_try_advisory_xact_lock($1) AS locked")
        .bind::<st::BigInt, _>(lock_of(&principal, &wish.key))
        .get_result(conn)
        .await?;
    if !locked {
        return Err(WorkError::InProgress);
    }
    let stored: Option<Stored> = sql_query(
        "SELECT fingerprint, status, headers, body, secret_name, secret, created_at FROM idempotency_keys
         WHERE principal = $1 AND key = $2 AND created_at > $3",
    )
    .bind::<st::Text, _>(&principal)
    .bind::<st::Text, _>(&wish.key)
    .bind::<st::Timestamptz, _>(ctx.now - KEPT)
    .get_result(conn)
    .await
    .optional()?;
    match stored {
        None => Ok(()),
        Some(stored) if stored.fingerprint != wish.fingerprint => Err(WorkError::KeyReused),
        Some(stored) => Err(WorkError::Replayed(Box::new(stored.answer(keys, ctx, &wish.key)?))),
    }
}

impl Stored {
    fn answer(self, keys: &Keys, ctx: &Ctx, key: &str) -> Result<Answer, WorkError> {
        let secret = match (self.secret_name, self.secret) {
            (None, _) => None,
            (Some(_), None) => return Err(WorkError::SecretGone),
            (Some(_), Some(_)) if self.created_at <= ctx.now - SECRET_KEPT => {
                return Err(WorkError::SecretGone);
            }
            (Some(name), Some(sealed)) => {
                let place = place(&ctx.actor.principal(), key);
                let plain = keys.open_sealed(&place, &sealed).map_err(StorageError::from)?;
                let value = String::from_utf8(plain)
                    .map_err(|_| StorageError::Value("a sealed secret is no text"))?;
                Some(SecretMember { name: name.into(), value: Secret::new(value) })
            }
        };
        Ok(Answer {
            status: u16::try_from(self.status).map_err(|_| StorageError::Value("a stored status"))?,
            headers: serde_json::from_value(self.headers).map_err(StorageError::from)?,
            body: self.body,
            secret,
        })
    }
}

/// Remembers the answer.
pub(super) async fn store(
    conn: &mut AsyncPgConnection,
    keys: &Keys,
    ctx: &Ctx,
    wish: &Idempotency,
    answer: Answer,
) -> Result<(), WorkError> {
    let principal = ctx.actor.principal();
    let secret = match &answer.secret {
        None => None,
        Some(secret) => {
            let place = place(&principal, &wish.key);
            let sealed = keys.seal(ctx.entropy(), &place, secret.value.expose().as_bytes());
            Some(sealed.map_err(StorageError::from)?)
        }
    };
    sql_query(
        "INSERT INTO idempotency_keys (principal, key, fingerprint, status, headers, body, secret_name, secret,
           created_at)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
         ON CONFLICT (principal, key) DO UPDATE SET fingerprint = $3, status = $4, headers = $5, body = $6,
           secret_name = $7, secret = $8, created_at = $9",
    )
    .bind::<st::Text, _>(&principal)
    .bind::<st::Text, _>(&wish.key)
    .bind::<st::Binary, _>(&wish.fingerprint[..])
    .bind::<st::SmallInt, _>(i16::try_from(answer.status).unwrap_or(i16::MAX))
    .bind::<st::Jsonb, _>(serde_json::to_value(&answer.headers).map_err(StorageError::from)?)
    .bind::<st::Nullable<st::Jsonb>, _>(answer.body)
    .bind::<st::Nullable<st::Text>, _>(answer.secret.map(|secret| secret.name.into_owned()))
    .bind::<st::Nullable<st::Binary>, _>(secret)
    .bind::<st::Timestamptz, _>(ctx.now)
    .execute(conn)
    .await?;
    Ok(())
}

/// Takes away secrets after ten minutes and answers after a day, at most `limit` of each.
pub async fn sweep(tx: &mut UpkeepTx<'_>, now: DateTime<Utc>, limit: i64) -> QueryResult<usize> {
    let hidden = sql_query(
        "UPDATE idempotency_keys SET secret = NULL WHERE (principal, key) IN (
           SELECT principal, key FROM idempotency_keys WHERE secret IS NOT NULL AND created_at <= $1 LIMIT $2)",
    )
    .bind::<st::Timestamptz, _>(now - SECRET_KEPT)
    .bind::<st::BigInt, _>(limit)
    .execute(tx.conn())
    .await?;
    let gone = sql_query(
        "DELETE FROM idempotency_keys WHERE (principal, key) IN (
           SELECT principal, key FROM idempotency_keys WHERE created_at <= $1 LIMIT $2)",
    )
    .bind::<st::Timestamptz, _>(now - KEPT)
    .bind::<st::BigInt, _>(limit)
    .execute(tx.conn())
    .await?;
    Ok(hidden + gone)
}

fn lock_of(principal: &str, key: &str) -> i64 {
    let digest = sha256(&[b"idempotency\0", principal.as_bytes(), b"\0", key.as_bytes()]);
    digest.first_chunk().map_or(0, |head| i64::from_be_bytes(*head))
}

fn place(principal: &str, key: &str) -> Vec<u8> {
    format!("idempotency\0{principal}\0{key}").into_bytes()
}
