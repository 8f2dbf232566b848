//! All SQL on keys.
use super::model::{ApiKey, KeyFilter, NewKey, Verifier};
use crate::{
    authorization::{Fact, Holder, KeyFact, ScopeSet},
    credentials::schema::{api_key_usage, api_keys},
    kernel::{Id, KeyId, KeyStatus, Page, Token, UserId, named},
    platform::{db::StorageError, keys::sha256},
    work::{ReadTx, Tx, UpkeepTx, WorkError},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use diesel::{pg::Pg, prelude::*, upsert::excluded};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

#[derive(Queryable, Selectable)]
#[diesel(table_name = api_keys, check_for_backend(Pg))]
struct Row {
    key_id: Uuid,
    org_id: Uuid,
    user_id: Option<Uuid>,
    service_account_id: Option<Uuid>,
    kid: String,
    hmac: Vec<u8>,
    pepper_version: i16,
    fingerprint: String,
    last4: String,
    display_name: String,
    scopes: Vec<String>,
    status: String,
    expires_at: Option<DateTime<Utc>>,
    allowed_cidrs: Vec<String>,
    rate_limit: Option<Value>,
    annotations: Value,
    replaces: Option<Uuid>,
    issued_by: String,
    issued_at: DateTime<Utc>,
    version: i64,
    updated_at: DateTime<Utc>,
}

impl Row {
    fn key(self, last_used_at: Option<DateTime<Utc>>) -> Result<ApiKey, StorageError> {
        let holder = match (self.user_id, self.service_account_id) {
            (Some(user), None) => Holder::User(Id::from_uuid(user)),
            (None, Some(account)) => Holder::ServiceAccount(Id::from_uuid(account)),
            _ => return Err(StorageError::Value("api_keys holder")),
        };
        let known = self.scopes.iter().map(String::as_str).filter(|name| ScopeSet::parse([*name]).is_ok());
        Ok(ApiKey {
            id: Id::from_uuid(self.key_id),
            org: Id::from_uuid(self.org_id),
            holder,
            fingerprint: self.fingerprint,
            last4: self.last4,
            display_name: self.display_name,
            scopes: ScopeSet::parse(known).unwrap_or_default(),
            status: KeyStatus::parse(&self.status).ok_or(StorageError::Value("api_keys.status"))?,
            expires_at: self.expires_at,
            allowed_cidrs: self.allowed_cidrs.iter().filter_map(|network| network.parse().ok()).collect(),
            rate_limit: self.rate_limit,
            annotations: self.annotations,
            replaces: self.replaces.map(Id::from_uuid),
            issued_by: self.issued_by,
            issued_at: self.issued_at,
            last_used_at,
            version: self.version,
            updated_at: self.updated_at,
            verifier: Verifier {
                kid: self.kid.as_bytes().try_into().map_err(|_| StorageError::Value("api_keys.kid"))?,
                hmac: self.hmac.try_into().map_err(|_| StorageError::Value("api_keys.hmac"))?,
                pepper_version: self.pepper_version,
            },
        })
    }
}

fn fact(key: &ApiKey) -> Fact {
    Fact::Key(KeyFact {
        key: key.id,
        org: key.org,
        holder: key.holder,
        kid: key.verifier.kid,
        hmac: key.verifier.hmac,
        pepper_version: key.verifier.pepper_version,
        scopes: key.scopes,
        status: key.status,
        expires_at_s: key.expires_at.map(|at| at.timestamp()),
        allowed_cidrs: key.allowed_cidrs.clone().into_boxed_slice(),
    })
}

fn scope_names(scopes: ScopeSet) -> Vec<&'static str> {
    scopes.names().collect()
}

/// Stores what a secret can be recognised by, and forgets the secret.
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    holder: Holder,
    new: &NewKey,
    token: &Token,
    replaces: Option<KeyId>,
) -> Result<ApiKey, WorkError> {
    let (id, org, now) = (tx.mint::<named::Key>(), tx.org(), tx.ctx().now);
    let (hmac, pepper_version) = tx.keys().fingerprint(token.expose());
    let (user, account) = match holder {
        Holder::User(user) => (Some(user.uuid()), None),
        Holder::ServiceAccount(account) => (None, Some(account.uuid())),
    };
    let fingerprint = format!("SHA256:{}", URL_SAFE_NO_PAD.encode(sha256(&[token.expose().as_bytes()])));
    let row: Row = diesel::insert_into(api_keys::table)
        .values((
            (
                api_keys::key_id.eq(id.uuid()),
                api_keys::org_id.eq(org.uuid()),
                api_keys::user_id.eq(user),
                api_keys::service_account_id.eq(account),
                api_keys::kid.eq(token.kid_str()),
                api_keys::hmac.eq(&hmac[..]),
                api_keys::pepper_version.eq(pepper_version),
                api_keys::fingerprint.eq(fingerprint),
                api_keys::last4.eq(token.last4()),
            ),
            (
                api_keys::display_name.eq(&new.display_name),
                api_keys::scopes.eq(scope_names(new.scopes)),
                api_keys::status.eq(KeyStatus::Active.as_str()),
                api_keys::expires_at.eq(new.expires_at),
                api_keys::allowed_cidrs.eq(new
                    .allowed_cidrs
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()),
                api_keys::rate_limit.eq(&new.rate_limit),
                api_keys::annotations.eq(new.annotations.clone().into_value()),
                api_keys::replaces.eq(replaces.map(|key| key.uuid())),
                api_keys::issued_by.eq(tx.ctx().actor.to_string()),
                api_keys::issued_at.eq(now),
                api_keys::updated_at.eq(now),
            ),
        ))
        .returning(Row::as_returning())
        .get_result(tx.conn())
        .await?;
    let key = row.key(None)?;
    tx.fact(fact(&key));
    Ok(key)
}

/// A key of the org that the transaction is in, locked.
pub(super) async fn lock(tx: &mut Tx<'_>, key: KeyId) -> Result<Option<ApiKey>, WorkError> {
    let org = tx.org().uuid();
    let row: Option<Row> = api_keys::table
        .find(key.uuid())
        .filter(api_keys::org_id.eq(org))
        .select(Row::as_select())
        .for_update()
        .first(tx.conn())
        .await
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    let used = api_key_usage::table.find(key.uuid()).select(api_key_usage::last_used_at);
    let used = used.first(tx.conn()).await.optional()?;
    Ok(Some(row.key(used)?))
}

/// The key that was last made to take over from this one.
pub(super) async fn find_successor(tx: &mut Tx<'_>, key: KeyId) -> Result<Option<ApiKey>, WorkError> {
    let org = tx.org().uuid();
    let row: Option<Row> = api_keys::table
        .filter(api_keys::org_id.eq(org))
        .filter(api_keys::replaces.eq(key.uuid()))
        .select(Row::as_select())
        .order((api_keys::issued_at.desc(), api_keys::key_id.desc()))
        .first(tx.conn())
        .await
        .optional()?;
    Ok(row.map(|row| row.key(None)).transpose()?)
}

/// A key of the org that the transaction is in.
pub(super) async fn find(tx: &mut ReadTx<'_>, key: KeyId) -> Result<Option<ApiKey>, WorkError> {
    let org = tx.org().uuid();
    let row: Option<(Row, Option<DateTime<Utc>>)> = api_keys::table
        .left_join(api_key_usage::table.on(api_key_usage::key_id.eq(api_keys::key_id)))
        .filter(api_keys::key_id.eq(key.uuid()))
        .filter(api_keys::org_id.eq(org))
        .select((Row::as_select(), api_key_usage::last_used_at.nullable()))
        .first(tx.conn())
        .await
        .optional()?;
    Ok(row.map(|(row, used)| row.key(used)).transpose()?)
}

/// Keys of the org that the transaction is in.
pub(super) async fn list(
    tx: &mut ReadTx<'_>,
    filter: &KeyFilter,
    page: Page,
) -> Result<Vec<ApiKey>, WorkError> {
    let org = tx.org().uuid();
    let mut query = api_keys::table
        .left_join(api_key_usage::table.on(api_key_usage::key_id.eq(api_keys::key_id)))
        .filter(api_keys::org_id.eq(org))
        .filter(api_keys::key_id.gt(page.after))
        .select((Row::as_select(), api_key_usage::last_used_at.nullable()))
        .order(api_keys::key_id)
        .limit(page.limit)
        .into_boxed();
    match filter.holder {
        None => (),
        Some(Holder::User(user)) => query = query.filter(api_keys::user_id.eq(user.uuid())),
        Some(Holder::ServiceAccount(account)) => {
            query = query.filter(api_keys::service_account_id.eq(account.uuid()));
        }
    }
    if let Some(status) = filter.status {
        query = query.filter(api_keys::status.eq(status.as_str()));
    }
    let rows: Vec<(Row, Option<DateTime<Utc>>)> = query.load(tx.conn()).await?;
    Ok(rows.into_iter().map(|(row, used)| row.key(used)).collect::<Result<_, _>>()?)
}

/// Writes back what may change, one version on, and says so.
pub(super) async fn save(tx: &mut Tx<'_>, key: &ApiKey, reason: Option<&str>) -> Result<ApiKey, WorkError> {
    let now = tx.ctx().now;
    let revoked_at = (key.status == KeyStatus::Revoked).then_some(now);
    let row: Row = diesel::update(api_keys::table.find(key.id.uuid()))
        .filter(api_keys::org_id.eq(tx.org().uuid()))
        .set((
            api_keys::display_name.eq(&key.display_name),
            api_keys::scopes.eq(scope_names(key.scopes)),
            api_keys::status.eq(key.status.as_str()),
            api_keys::expires_at.eq(key.expires_at),
            api_keys::allowed_cidrs.eq(key.allowed_cidrs.iter().map(ToString::to_string).collect::<Vec<_>>()),
            api_keys::rate_limit.eq(&key.rate_limit),
            api_keys::annotations.eq(&key.annotations),
            api_keys::revoked_at.eq(revoked_at),
            api_keys::revoked_reason.eq(reason),
            api_keys::version.eq(api_keys::version + 1),
            api_keys::updated_at.eq(now),
        ))
        .returning(Row::as_returning())
        .get_result(tx.conn())
        .await?;
    let key = row.key(key.last_used_at)?;
    tx.fact(fact(&key));
    Ok(key)
}

/// Notes when keys were last used.
pub(super) async fn note_usage(tx: &mut UpkeepTx<'_>, used: &[(KeyId, DateTime<Utc>)]) -> QueryResult<()> {
    let row = |(key, at): &(KeyId, DateTime<Utc>)| {
        (api_key_usage::key_id.eq(key.uuid()), api_key_usage::last_used_at.eq(*at))
    };
    diesel::insert_into(api_key_usage::table)
        .values(used.iter().map(row).collect::<Vec<_>>())
        .on_conflict(api_key_usage::key_id)
        .do_update()
        .set(api_key_usage::last_used_at.eq(excluded(api_key_usage::last_used_at)))
        .execute(tx.conn())
        .await
        .map(drop)
}

/// Removes the keys of a member who is purged.
pub async fn purge_user(tx: &mut Tx<'_>, user: UserId) -> Result<(), WorkError> {
    let org = tx.org().uuid();
    let keys = api_keys::table.filter(api_keys::org_id.eq(org)).filter(api_keys::user_id.eq(user.uuid()));
    let rows: Vec<Row> = diesel::delete(keys).returning(Row::as_returning()).get_results(tx.conn()).await?;
    forget(tx, rows).await
}

/// Removes all keys of the org that the transaction is in.
pub async fn purge_org(tx: &mut Tx<'_>) -> Result<(), WorkError> {
    let keys = api_keys::table.filter(api_keys::org_id.eq(tx.org().uuid()));
    let rows: Vec<Row> = diesel::delete(keys).returning(Row::as_returning()).get_results(tx.conn()).await?;
    forget(tx, rows).await
}

async fn forget(tx: &mut Tx<'_>, rows: Vec<Row>) -> Result<(), WorkError> {
    let ids: Vec<Uuid> = rows.iter().map(|row| row.key_id).collect();
    diesel::delete(api_key_usage::table.filter(api_key_usage::key_id.eq_any(ids))).execute(tx.conn()).await?;
    for row in rows {
        let gone = fact(&row.key(None)?);
        tx.fact_gone(gone);
    }
    Ok(())
}
