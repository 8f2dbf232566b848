//! All SQL on sessions and refresh tokens.
use super::model::{NewSession, Session};
use crate::{
    authn::schema::{refresh_tokens, sessions},
    kernel::{Id, IdentityId, Kid, OrgId, Page, RefreshId, SessionId, Token, named},
    work::{ReadTx, Tx, UpkeepTx, WorkError},
};
use chrono::{DateTime, Utc};
use diesel::{dsl::exists, pg::Pg, prelude::*, sql_query, sql_types as st};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

const SWEEP_MAX: i64 = 1000;

#[derive(Queryable, Selectable)]
#[diesel(table_name = sessions, check_for_backend(Pg))]
struct Row {
    session_id: Uuid,
    identity_id: Uuid,
    org_id: Option<Uuid>,
    client_id: String,
    amr: Vec<String>,
    auth_time: DateTime<Utc>,
    absolute_expires_at: DateTime<Utc>,
    address: Option<String>,
    user_agent: Option<String>,
    revoked_at: Option<DateTime<Utc>>,
    created_at: DateTime<Utc>,
}

impl From<Row> for Session {
    fn from(row: Row) -> Self {
        Self {
            id: Id::from_uuid(row.session_id),
            identity: Id::from_uuid(row.identity_id),
            org: row.org_id.map(Id::from_uuid),
            client_id: row.client_id,
            amr: row.amr,
            auth_time: row.auth_time,
            absolute_expires_at: row.absolute_expires_at,
            address: row.address,
            user_agent: row.user_agent,
            revoked_at: row.revoked_at,
            created_at: row.created_at,
        }
    }
}

/// One generation of a refresh token, with what it is checked against.
#[derive(Queryable, Selectable)]
#[diesel(table_name = refresh_tokens, check_for_backend(Pg))]
pub(super) struct RefreshRow {
    pub(super) token_id: Uuid,
    pub(super) generation: i32,
    pub(super) hmac: Vec<u8>,
    pub(super) pepper_version: i16,
    pub(super) state: String,
    pub(super) successor_id: Option<Uuid>,
    pub(super) reissues: i32,
    pub(super) consumed_at: Option<DateTime<Utc>>,
    pub(super) expires_at: DateTime<Utc>,
}

/// A new session.
pub(in crate::authn) async fn insert(tx: &mut Tx<'_>, new: &NewSession<'_>) -> Result<Session, WorkError> {
    let (id, now) = (tx.mint::<named::Session>(), tx.ctx().now);
    let source = tx.ctx().source.clone();
    let cookie = new.cookie.map(|token| (token.kid_str(), tx.keys().fingerprint(token.expose())));
    let row: Row = diesel::insert_into(sessions::table)
        .values((
            sessions::session_id.eq(id.uuid()),
            sessions::identity_id.eq(new.identity.uuid()),
            sessions::org_id.eq(new.org.map(|org| org.uuid())),
            sessions::client_id.eq(new.client_id),
            sessions::amr.eq(vec!["pwd"]),
            sessions::auth_time.eq(now),
            sessions::absolute_expires_at.eq(now + new.lifetime),
            sessions::cookie_kid.eq(cookie.as_ref().map(|(kid, _)| kid.clone())),
            sessions::cookie_hmac.eq(cookie.as_ref().map(|(_, (hmac, _))| hmac.to_vec())),
            sessions::cookie_pepper_version.eq(cookie.as_ref().map(|(_, (_, version))| *version)),
            sessions::address.eq(source.address.map(|address| address.to_string())),
            sessions::user_agent.eq(source.user_agent),
            sessions::created_at.eq(now),
        ))
        .returning(Row::as_returning())
        .get_result(tx.conn())
        .await?;
    Ok(row.into())
}

/// The next generation of a family. `conn` is a write's or an upkeep's.
pub(in crate::authn) async fn insert_refresh(
    conn: &mut AsyncPgConnection,
    id: RefreshId,
    session: SessionId,
    generation: i32,
    token: &Token,
    (hmac, pepper_version): ([u8; 32], i16),
    (issued_at, expires_at): (DateTime<Utc>, DateTime<Utc>),
) -> QueryResult<()> {
    diesel::insert_into(refresh_tokens::table)
        .values((
            refresh_tokens::token_id.eq(id.uuid()),
            refresh_tokens::session_id.eq(session.uuid()),
            refresh_tokens::generation.eq(generation),
            refresh_tokens::kid.eq(token.kid_str()),
            refresh_tokens::hmac.eq(hmac.to_vec()),
            refresh_tokens::pepper_version.eq(pepper_version),
            refresh_tokens::state.eq("active"),
            refresh_tokens::issued_at.eq(issued_at),
            refresh_tokens::expires_at.eq(expires_at),
        ))
        .execute(conn)
        .await
        .map(drop)
}

/// A refresh token and its session, which is locked: of a family one use is decided at a time, and none while its
/// session ends. Locking the generations themselves deadlocks, since each use adds one that others have not seen.
pub(super) async fn lock_refresh(
    tx: &mut UpkeepTx<'_>,
    kid: &Kid,
) -> QueryResult<Option<(RefreshRow, Session)>> {
    let kid = String::from_utf8_lossy(kid).into_owned();
    let named = refresh_tokens::table.filter(refresh_tokens::kid.eq(&kid));
    let session: Option<Uuid> = named.select(refresh_tokens::session_id).first(tx.conn()).await.optional()?;
    let Some(session) = session else { return Ok(None) };
    let lock = sessions::table.find(session).select(sessions::session_id).for_no_key_update();
    let _: Option<Uuid> = lock.first(tx.conn()).await.optional()?;
    let row: Option<(RefreshRow, Row)> = refresh_tokens::table
        .inner_join(sessions::table)
        .filter(refresh_tokens::kid.eq(kid))
        .select((RefreshRow::as_select(), Row::as_select()))
        .first(tx.conn())
        .await
        .optional()?;
    Ok(row.map(|(refresh, session)| (refresh, session.into())))
}

/// The session of a refresh token, whatever state it is in.
pub(super) async fn find_by_refresh(
    tx: &mut UpkeepTx<'_>,
    kid: &Kid,
) -> QueryResult<Option<(Vec<u8>, i16, Session)>> {
    let row: Option<(Vec<u8>, i16, Row)> = refresh_tokens::table
        .inner_join(sessions::table)
        .filter(refresh_tokens::kid.eq(String::from_utf8_lossy(kid).into_owned()))
        .select((refresh_tokens::hmac, refresh_tokens::pepper_version, Row::as_select()))
        .first(tx.conn())
        .await
        .optional()?;
    Ok(row.map(|(hmac, version, session)| (hmac, version, session.into())))
}

/// The state of one other generation.
pub(super) async fn state_of(tx: &mut UpkeepTx<'_>, token: Uuid) -> QueryResult<Option<String>> {
    refresh_tokens::table.find(token).select(refresh_tokens::state).first(tx.conn()).await.optional()
}

/// A token was used: its successor is this one.
pub(super) async fn consume(
    tx: &mut UpkeepTx<'_>,
    token: Uuid,
    successor: RefreshId,
    (consumed_at, reissues): (DateTime<Utc>, i32),
) -> QueryResult<()> {
    diesel::update(refresh_tokens::table.find(token))
        .set((
            refresh_tokens::state.eq("consumed"),
            refresh_tokens::successor_id.eq(successor.uuid()),
            refresh_tokens::consumed_at.eq(consumed_at),
            refresh_tokens::reissues.eq(reissues),
        ))
        .execute(tx.conn())
        .await
        .map(drop)
}

/// A successor that never arrived is dead.
pub(super) async fn revoke_refresh(tx: &mut UpkeepTx<'_>, token: Uuid) -> QueryResult<()> {
    diesel::update(refresh_tokens::table.find(token))
        .set(refresh_tokens::state.eq("revoked"))
        .execute(tx.conn())
        .await
        .map(drop)
}

/// No token of these sessions refreshes any more.
async fn revoke_families(conn: &mut AsyncPgConnection, sessions: &[Uuid]) -> QueryResult<()> {
    diesel::update(refresh_tokens::table.filter(refresh_tokens::session_id.eq_any(sessions)))
        .filter(refresh_tokens::state.ne("revoked"))
        .set(refresh_tokens::state.eq("revoked"))
        .execute(conn)
        .await
        .map(drop)
}

/// Ends open sessions: one, all but one, or those for an org. Answers those that it ended.
pub(super) async fn end(
    tx: &mut Tx<'_>,
    identity: IdentityId,
    only: Option<SessionId>,
    except: Option<SessionId>,
    org: Option<OrgId>,
    reason: &str,
) -> QueryResult<Vec<Session>> {
    let now = tx.ctx().now;
    let mut open = diesel::update(sessions::table)
        .filter(sessions::identity_id.eq(identity.uuid()))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::absolute_expires_at.gt(now))
        .set((sessions::revoked_at.eq(now), sessions::revoked_reason.eq(reason)))
        .returning(Row::as_returning())
        .into_boxed();
    if let Some(only) = only {
        open = open.filter(sessions::session_id.eq(only.uuid()));
    }
    if let Some(except) = except {
        open = open.filter(sessions::session_id.ne(except.uuid()));
    }
    if let Some(org) = org {
        open = open.filter(sessions::org_id.eq(org.uuid()));
    }
    let ended: Vec<Row> = open.get_results(tx.conn()).await?;
    let families: Vec<Uuid> = ended.iter().map(|row| row.session_id).collect();
    revoke_families(tx.conn(), &families).await?;
    Ok(ended.into_iter().map(Session::from).collect())
}

/// Open sessions of a person.
pub(super) async fn list(
    tx: &mut ReadTx<'_>,
    identity: IdentityId,
    now: DateTime<Utc>,
    page: Page,
) -> QueryResult<Vec<Session>> {
    let rows: Vec<Row> = sessions::table
        .filter(sessions::identity_id.eq(identity.uuid()))
        .filter(sessions::session_id.gt(page.after))
        .filter(sessions::revoked_at.is_null())
        .filter(sessions::absolute_expires_at.gt(now))
        .select(Row::as_select())
        .order(sessions::session_id)
        .limit(page.limit)
        .load(tx.conn())
        .await?;
    Ok(rows.into_iter().map(Session::from).collect())
}

/// A browser's session, with what its cookie is checked against.
pub(super) async fn find_by_cookie(
    tx: &mut ReadTx<'_>,
    kid: &Kid,
) -> QueryResult<Option<(Vec<u8>, i16, Session)>> {
    let row: Option<(Option<Vec<u8>>, Option<i16>, Row)> = sessions::table
        .filter(sessions::cookie_kid.eq(String::from_utf8_lossy(kid).into_owned()))
        .select((sessions::cookie_hmac, sessions::cookie_pepper_version, Row::as_select()))
        .first(tx.conn())
        .await
        .optional()?;
    Ok(row.and_then(|(hmac, version, row)| Some((hmac?, version?, row.into()))))
}

/// Is there a session whose longest end was before then?
pub(super) async fn any_over(tx: &mut ReadTx<'_>, before: DateTime<Utc>) -> QueryResult<bool> {
    let over = sessions::table.filter(sessions::absolute_expires_at.lt(before));
    diesel::select(exists(over)).get_result(tx.conn()).await
}

/// Takes away sessions whose longest end was before then, with what is left of their refresh tokens.
pub(super) async fn purge_over(tx: &mut Tx<'_>, before: DateTime<Utc>) -> QueryResult<usize> {
    let over: Vec<Uuid> = sessions::table
        .filter(sessions::absolute_expires_at.lt(before))
        .select(sessions::session_id)
        .limit(SWEEP_MAX)
        .load(tx.conn())
        .await?;
    let tokens = refresh_tokens::table.filter(refresh_tokens::session_id.eq_any(&over));
    diesel::delete(tokens).execute(tx.conn()).await?;
    diesel::delete(sessions::table.filter(sessions::session_id.eq_any(over))).execute(tx.conn()).await
}

/// Takes away refresh tokens that nobody can use any more.
pub async fn purge_expired(tx: &mut UpkeepTx<'_>, now: DateTime<Utc>) -> QueryResult<usize> {
    sql_query(
        "DELETE FROM refresh_tokens WHERE token_id IN (
           SELECT token_id FROM refresh_tokens WHERE expires_at < $1 LIMIT $2)",
    )
    .bind::<st::Timestamptz, _>(now)
    .bind::<st::BigInt, _>(SWEEP_MAX)
    .execute(tx.conn())
    .await
}
