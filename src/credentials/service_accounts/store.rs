//! All SQL on machines' accounts.
use super::model::{NewServiceAccount, ServiceAccount};
use crate::{
    authorization::{Fact, Role, ServiceAccountFact},
    credentials::schema::service_accounts,
    kernel::{Id, Page, ServiceAccountId, ServiceAccountStatus, named},
    platform::db::StorageError,
    work::{ReadTx, Tx, WorkError},
};
use chrono::{DateTime, Utc};
use diesel::{pg::Pg, prelude::*, result::Error};
use diesel_async::RunQueryDsl;
use serde_json::Value;
use uuid::Uuid;

#[derive(Queryable, Selectable)]
#[diesel(table_name = service_accounts, check_for_backend(Pg))]
struct Row {
    service_account_id: Uuid,
    org_id: Uuid,
    name: String,
    description: String,
    status: String,
    roles: Vec<String>,
    metadata: Value,
    rotation: Option<Value>,
    version: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl Row {
    fn account(self) -> Result<ServiceAccount, StorageError> {
        Ok(ServiceAccount {
            id: Id::from_uuid(self.service_account_id),
            org: Id::from_uuid(self.org_id),
            name: self.name,
            description: self.description,
            status: ServiceAccountStatus::parse(&self.status)
                .ok_or(StorageError::Value("service_accounts.status"))?,
            roles: self.roles.iter().filter_map(|name| Role::parse(name)).collect(),
            metadata: self.metadata,
            rotation: self.rotation,
            version: self.version,
            created_at: self.created_at,
            updated_at: self.updated_at,
        })
    }
}

fn fact(account: &ServiceAccount) -> Fact {
    Fact::ServiceAccount(ServiceAccountFact {
        service_account: account.id,
        org: account.org,
        status: account.status,
        roles: account.roles.clone(),
    })
}

fn role_names(roles: &[Role]) -> Vec<&'static str> {
    roles.iter().map(|role| role.as_str()).collect()
}

/// `None`: the name is taken (`service_accounts_one_name`).
pub(super) async fn insert(
    tx: &mut Tx<'_>,
    new: &NewServiceAccount,
) -> Result<Option<ServiceAccount>, WorkError> {
    let (id, org, now) = (tx.mint::<named::ServiceAccount>(), tx.org(), tx.ctx().now);
    let row: Option<Row> = diesel::insert_into(service_accounts::table)
        .values((
            service_accounts::service_account_id.eq(id.uuid()),
            service_accounts::org_id.eq(org.uuid()),
            service_accounts::name.eq(new.name.as_str()),
            service_accounts::description.eq(&new.description),
            service_accounts::status.eq(ServiceAccountStatus::Active.as_str()),
            service_accounts::roles.eq(role_names(&new.roles)),
            service_accounts::metadata.eq(new.metadata.clone().into_value()),
            service_accounts::rotation.eq(&new.rotation),
            service_accounts::created_at.eq(now),
            service_accounts::updated_at.eq(now),
        ))
        .on_conflict_do_nothing()
        .returning(Row::as_returning())
        .get_result(tx.conn())
        .await
        .optional()?;
    let Some(row) = row else { return Ok(None) };
    let account = row.account()?;
    tx.fact(fact(&account));
    Ok(Some(account))
}

/// An account of the org that the transaction is in, locked. Also a deleted one.
pub(super) async fn lock(
    tx: &mut Tx<'_>,
    account: ServiceAccountId,
) -> Result<Option<ServiceAccount>, WorkError> {
    let org = tx.org().uuid();
    let row: Option<Row> = service_accounts::table
        .find(account.uuid())
        .filter(service_accounts::org_id.eq(org))
        .select(Row::as_select())
        .for_update()
        .first(tx.conn())
        .await
        .optional()?;
    Ok(row.map(Row::account).transpose()?)
}

/// An account of the org that the transaction is in.
pub(super) async fn find(
    tx: &mut ReadTx<'_>,
    account: ServiceAccountId,
) -> Result<Option<ServiceAccount>, WorkError> {
    let org = tx.org().uuid();
    let row: Option<Row> = service_accounts::table
        .find(account.uuid())
        .filter(service_accounts::org_id.eq(org))
        .filter(service_accounts::status.ne(ServiceAccountStatus::Deleted.as_str()))
        .select(Row::as_select())
        .first(tx.conn())
        .await
        .optional()?;
    Ok(row.map(Row::account).transpose()?)
}

/// Accounts of the org that the transaction is in.
pub(super) async fn list(tx: &mut ReadTx<'_>, page: Page) -> Result<Vec<ServiceAccount>, WorkError> {
    let org = tx.org().uuid();
    let rows: Vec<Row> = service_accounts::table
        .filter(service_accounts::org_id.eq(org))
        .filter(service_accounts::status.ne(ServiceAccountStatus::Deleted.as_str()))
        .filter(service_accounts::service_account_id.gt(page.after))
        .select(Row::as_select())
        .order(service_accounts::service_account_id)
        .limit(page.limit)
        .load(tx.conn())
        .await?;
    Ok(rows.into_iter().map(Row::account).collect::<Result<_, _>>()?)
}

/// Writes back what may change, one version on, and says so. `None`: the name is taken.
pub(super) async fn save(
    tx: &mut Tx<'_>,
    account: &ServiceAccount,
) -> Result<Option<ServiceAccount>, WorkError> {
    let update = diesel::update(service_accounts::table.find(account.id.uuid()))
        .filter(service_accounts::org_id.eq(tx.org().uuid()))
        .set((
            service_accounts::name.eq(&account.name),
            service_accounts::description.eq(&account.description),
            service_accounts::status.eq(account.status.as_str()),
            service_accounts::roles.eq(role_names(&account.roles)),
            service_accounts::metadata.eq(&account.metadata),
            service_accounts::rotation.eq(&account.rotation),
            service_accounts::version.eq(service_accounts::version + 1),
            service_accounts::updated_at.eq(tx.ctx().now),
        ))
        .returning(Row::as_returning());
    let row: Row = match update.get_result(tx.conn()).await {
        Err(Error::DatabaseError(_, info)) if info.constraint_name() == Some("service_accounts_one_name") => {
            return Ok(None);
        }
        other => other?,
    };
    let account = row.account()?;
    tx.fact(fact(&account));
    Ok(Some(account))
}

/// Removes all accounts of the org that the transaction is in. Their keys are gone before.
pub async fn purge_org(tx: &mut Tx<'_>) -> Result<(), WorkError> {
    let all = service_accounts::table.filter(service_accounts::org_id.eq(tx.org().uuid()));
    let rows: Vec<Row> = diesel::delete(all).returning(Row::as_returning()).get_results(tx.conn()).await?;
    for row in rows {
        let gone = fact(&row.account()?);
        tx.fact_gone(gone);
    }
    Ok(())
}
