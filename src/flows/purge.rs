//! What was deleted and can no longer be restored goes for good. Its audit log stays.
use crate::{
    authorization::{Action, Target},
    credentials::{api_keys, service_accounts},
    identity,
    jobs::Lease,
    kernel::{Actor, OrgId, UserId, Workload},
    orgs,
    work::{Audited, Work, WorkError},
};
use serde_json::json;

/// One round, under the sweeper's lease. Answers how much it removed; there may be more.
#[tracing::instrument(name = "flows.purge", skip_all, err(level = "debug"))]
pub async fn purge(work: &Work, lease: &Lease) -> Result<usize, WorkError> {
    let ctx = work.ctx(Actor::Workload(Workload::Jobs));
    let permit = work.permit(&ctx, Action::OrgsRead, Target::Platform).await?;
    let due = work.read(&ctx, permit, async |tx| {
        let orgs = orgs::due(tx, ctx.now).await?;
        Ok::<_, WorkError>((orgs, identity::due(tx, ctx.now).await?))
    });
    let (orgs, users) = due.await?;
    let mut gone = 0;
    for (org, user) in users {
        gone += usize::from(purge_user(work, lease, org, user).await?);
    }
    for org in orgs {
        gone += usize::from(purge_org(work, lease, org).await?);
    }
    Ok(gone)
}

async fn purge_user(work: &Work, lease: &Lease, org: OrgId, user: UserId) -> Result<bool, WorkError> {
    let ctx = work.ctx(Actor::Workload(Workload::Jobs));
    let permit = work.permit(&ctx, Action::UsersDelete, Target::User(org, user)).await?;
    work.write(&ctx, permit, async |tx| {
        lease.confirm(tx.conn()).await?;
        let due = identity::is_due(tx, user).await?;
        if due {
            api_keys::purge_user(tx, user).await?;
            identity::purge(tx, user).await?;
        }
        let event = tx.event(user).detail(json!({ "purged": due }));
        Ok(Audited::new(due, event))
    })
    .await
}

async fn purge_org(work: &Work, lease: &Lease, org: OrgId) -> Result<bool, WorkError> {
    let ctx = work.ctx(Actor::Workload(Workload::Jobs));
    let permit = work.permit(&ctx, Action::OrgsDelete, Target::Org(org)).await?;
    work.write(&ctx, permit, async |tx| {
        lease.confirm(tx.conn()).await?;
        let due = orgs::lock_due(tx).await?;
        if due {
            api_keys::purge_org(tx).await?;
            service_accounts::purge_org(tx).await?;
            identity::purge_org(tx).await?;
            orgs::purge(tx).await?;
        }
        let event = tx.event(org).detail(json!({ "purged": due }));
        Ok(Audited::new(due, event))
    })
    .await
}
