//! Use cases on machines' accounts.
use super::{
    error::ServiceAccountError,
    model::{NewServiceAccount, ServiceAccount, ServiceAccountPatch},
    store,
};
use crate::{
    authorization::{Action, Grants, Role, Target},
    http::etag::IfMatch,
    kernel::{Ctx, Metadata, OrgId, Page, ServiceAccountId, ServiceAccountStatus},
    work::{Audited, Work},
};
use serde_json::json;

/// Makes an account. Its roles must be the caller's to give.
#[tracing::instrument(name = "credentials.create_service_account", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn create_service_account(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    new: NewServiceAccount,
) -> Result<ServiceAccount, ServiceAccountError> {
    let grants = Grants::Roles(new.roles.clone());
    let permit = work.permit_granting(ctx, Action::ServiceAccountsManage, Target::Org(org), grants).await?;
    work.write(ctx, permit, async |tx| {
        let account = store::insert(tx, &new).await?.ok_or(ServiceAccountError::NameTaken)?;
        let event = tx.event(account.id).detail(json!({ "created": true, "roles": account.roles }));
        Ok(Audited::new(account, event))
    })
    .await
}

/// Accounts of an org.
#[tracing::instrument(name = "credentials.list_service_accounts", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn list_service_accounts(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    page: Page,
) -> Result<Vec<ServiceAccount>, ServiceAccountError> {
    let permit = work.permit(ctx, Action::ServiceAccountsRead, Target::Org(org)).await?;
    work.read(ctx, permit, async |tx| Ok(store::list(tx, page).await?)).await
}

/// One account.
#[tracing::instrument(name = "credentials.get_service_account", skip_all, fields(org.id = %org, service_account.id = %account), err(level = "debug"))]
pub async fn get_service_account(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    account: ServiceAccountId,
) -> Result<ServiceAccount, ServiceAccountError> {
    let permit = work.permit(ctx, Action::ServiceAccountsRead, Target::ServiceAccount(org, account)).await?;
    let find = work
        .read(ctx, permit, async |tx| store::find(tx, account).await?.ok_or(ServiceAccountError::NotFound));
    find.await
}

/// Changes what is sent. Roles given and taken away must be the caller's to give.
#[tracing::instrument(name = "credentials.update_service_account", skip_all, fields(org.id = %org, service_account.id = %account), err(level = "debug"))]
pub async fn update_service_account(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    account: ServiceAccountId,
    patch: ServiceAccountPatch,
    if_match: IfMatch,
) -> Result<ServiceAccount, ServiceAccountError> {
    if patch.status == Some(ServiceAccountStatus::Deleted) {
        return Err(ServiceAccountError::StatusInvalid);
    }
    let known = work.state().service_account(account);
    let (status, held) = known.map(|fact| (fact.status, fact.roles)).unzip();
    let held = held.unwrap_or_default();
    let wanted = patch.roles.as_ref().unwrap_or(&held);
    // Whoever sets it to work again gives it its roles anew.
    let revived = patch.status == Some(ServiceAccountStatus::Active) && status != patch.status;
    let moved = |role: &Role| match revived {
        true => wanted.contains(role) || held.contains(role),
        false => wanted.contains(role) != held.contains(role),
    };
    let grants = Grants::Roles(Role::ALL.iter().copied().filter(moved).collect());
    let target = Target::ServiceAccount(org, account);
    let permit = work.permit_granting(ctx, Action::ServiceAccountsManage, target, grants).await?;
    work.write(ctx, permit, async |tx| {
        let live =
            store::lock(tx, account).await?.filter(|found| found.status != ServiceAccountStatus::Deleted);
        let mut account = live.ok_or(ServiceAccountError::NotFound)?;
        if !if_match.matches(account.version) {
            return Err(ServiceAccountError::VersionMismatch);
        }
        let moved = patch.status.is_some() && Some(account.status) != status;
        if (patch.roles.is_some() || patch.status.is_some()) && account.roles != held || moved {
            return Err(ServiceAccountError::RolesChanged);
        }
        let detail = json!({ "changed": patch.changed(), "status": patch.status, "roles": patch.roles });
        let event = tx.event(account.id).detail(detail);
        if let Some(name) = patch.name {
            name.as_str().clone_into(&mut account.name);
        }
        account.description = patch.description.unwrap_or(account.description);
        account.status = patch.status.unwrap_or(account.status);
        account.roles = patch.roles.unwrap_or(account.roles);
        account.metadata = patch.metadata.map_or(account.metadata, Metadata::into_value);
        account.rotation = patch.rotation.or(account.rotation);
        let account = store::save(tx, &account).await?.ok_or(ServiceAccountError::NameTaken)?;
        Ok(Audited::new(account, event))
    })
    .await
}

/// Removes an account: its keys stop working. Doing it again changes nothing.
#[tracing::instrument(name = "credentials.delete_service_account", skip_all, fields(org.id = %org, service_account.id = %account), err(level = "debug"))]
pub async fn delete_service_account(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    account: ServiceAccountId,
    if_match: IfMatch,
) -> Result<(), ServiceAccountError> {
    let permit =
        work.permit(ctx, Action::ServiceAccountsManage, Target::ServiceAccount(org, account)).await?;
    work.write(ctx, permit, async |tx| {
        let mut account = store::lock(tx, account).await?.ok_or(ServiceAccountError::NotFound)?;
        if account.status == ServiceAccountStatus::Deleted {
            let event = tx.event(account.id).detail(json!({ "deleted": true, "again": true }));
            return Ok(Audited::new((), event));
        }
        if !if_match.matches(account.version) {
            return Err(ServiceAccountError::VersionMismatch);
        }
        account.status = ServiceAccountStatus::Deleted;
        store::save(tx, &account).await?.ok_or(ServiceAccountError::NameTaken)?;
        let event = tx.event(account.id).detail(json!({ "deleted": true }));
        Ok(Audited::new((), event))
    })
    .await
}
