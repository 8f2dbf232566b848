//! All SQL on operator tokens.
use super::service::Purpose;
use crate::{
    authorization::{Fact, OperatorFact},
    credentials::schema::operator_tokens,
    kernel::{Id, OperatorId, OrgId, Token, named},
    platform::db::StorageError,
    work::{Tx, WorkError},
};
use chrono::{DateTime, Utc};
use diesel::{pg::Pg, prelude::*};
use diesel_async::RunQueryDsl;
use uuid::Uuid;

#[derive(Queryable, Selectable)]
#[diesel(table_name = operator_tokens, check_for_backend(Pg))]
struct Row {
    token_id: Uuid,
    kid: String,
    hmac: Vec<u8>,
    pepper_version: i16,
    org_id: Option<Uuid>,
    expires_at: DateTime<Utc>,
}

impl Row {
    fn fact(self) -> Result<Fact, StorageError> {
        Ok(Fact::Operator(OperatorFact {
            token: Id::from_uuid(self.token_id),
            kid: self.kid.as_bytes().try_into().map_err(|_| StorageError::Value("operator_tokens.kid"))?,
            hmac: self.hmac.try_into().map_err(|_| StorageError::Value("operator_tokens.hmac"))?,
            pepper_version: self.pepper_version,
            org: self.org_id.map(Id::from_uuid),
            expires_at_s: self.expires_at.timestamp(),
        }))
    }
}

pub(super) async fn insert(
    tx: &mut Tx<'_>,
    purpose: Purpose,
    token: &Token,
    expires_at: DateTime<Utc>,
) -> Result<OperatorId, WorkError> {
    let id = tx.mint::<named::Operator>();
    let (hmac, pepper_version) = tx.keys().fingerprint(token.expose());
    let row: Row = diesel::insert_into(operator_tokens::table)
        .values((
            operator_tokens::token_id.eq(id.uuid()),
            operator_tokens::purpose.eq(purpose.as_str()),
            operator_tokens::kid.eq(token.kid_str()),
            operator_tokens::hmac.eq(&hmac[..]),
            operator_tokens::pepper_version.eq(pepper_version),
            operator_tokens::expires_at.eq(expires_at),
            operator_tokens::created_at.eq(tx.ctx().now),
        ))
        .returning(Row::as_returning())
        .get_result(tx.conn())
        .await?;
    tx.fact(row.fact()?);
    Ok(id)
}

/// From now on the token works on this org only. `false`: it has made one already.
pub async fn bind_org(tx: &mut Tx<'_>, token: OperatorId, org: OrgId) -> Result<bool, WorkError> {
    let free = operator_tokens::table
        .find(token.uuid())
        .filter(operator_tokens::org_id.is_null())
        .filter(operator_tokens::ended_at.is_null());
    let row: Option<Row> = diesel::update(free)
        .set(operator_tokens::org_id.eq(org.uuid()))
        .returning(Row::as_returning())
        .get_result(tx.conn())
        .await
        .optional()?;
    let Some(row) = row else { return Ok(false) };
    let fact = row.fact()?;
    tx.fact(fact);
    Ok(true)
}

/// Ends a token. `false`: it had ended.
pub async fn end(tx: &mut Tx<'_>, token: OperatorId) -> Result<bool, WorkError> {
    let open = operator_tokens::table.find(token.uuid()).filter(operator_tokens::ended_at.is_null());
    let row: Option<Row> = diesel::update(open)
        .set(operator_tokens::ended_at.eq(tx.ctx().now))
        .returning(Row::as_returning())
        .get_result(tx.conn())
        .await
        .optional()?;
    let Some(row) = row else { return Ok(false) };
    let fact = row.fact()?;
    tx.fact_gone(fact);
    Ok(true)
}
