//! Use cases on one org. Creating one is `flows/create_org.rs`.
use super::{
    error::OrgError,
    model::{Org, OrgFilter, OrgPatch},
    store,
};
use crate::{
    authorization::{Action, Grants, Target},
    http::etag::IfMatch,
    kernel::{Actor, Ctx, Metadata, OrgId, OrgStatus, Page, Reason, UserStatus},
    work::{Audited, Work},
};
use chrono::TimeDelta;
use serde_json::json;

/// The orgs that the caller may see: all, for the platform's people; else those he is an active member of.
#[tracing::instrument(name = "orgs.list_orgs", skip_all, err(level = "debug"))]
pub async fn list_orgs(work: &Work, ctx: &Ctx, filter: OrgFilter, page: Page) -> Result<Vec<Org>, OrgError> {
    let all = work.would_permit(ctx, Action::OrgsRead, Target::Platform, Grants::Nothing);
    let (target, among) = match ctx.actor {
        _ if all => (Target::Platform, None),
        Actor::Key { key } => {
            let home = work.state().key(key).map(|key| key.org);
            home.map_or((Target::Account, Some(vec![])), |org| (Target::Org(org), Some(vec![org])))
        }
        Actor::Person { identity, .. } => {
            let active = |org: &OrgId| {
                work.state().member(identity, *org).is_some_and(|user| user.status == UserStatus::Active)
            };
            (Target::Account, Some(work.state().orgs_of(identity).into_iter().filter(active).collect()))
        }
        Actor::Operator { .. } | Actor::Workload(_) | Actor::Anonymous => (Target::Platform, None),
    };
    let permit = work.permit(ctx, Action::OrgsRead, target).await?;
    work.read(ctx, permit, async |tx| Ok(store::list(tx, among.as_deref(), &filter, page).await?)).await
}

/// One org.
#[tracing::instrument(name = "orgs.get_org", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn get_org(work: &Work, ctx: &Ctx, org: OrgId) -> Result<Org, OrgError> {
    let permit = work.permit(ctx, Action::OrgsRead, Target::Org(org)).await?;
    work.read(ctx, permit, async |tx| store::find(tx).await?.ok_or(OrgError::NotFound)).await
}

/// Changes what is sent. A change of status needs the right to it as well.
#[tracing::instrument(name = "orgs.update_org", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn update_org(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    patch: OrgPatch,
    if_match: IfMatch,
) -> Result<Org, OrgError> {
    let besides = match patch.status {
        None => None,
        Some(OrgStatus::Suspended) => Some(Action::OrgsSuspend),
        Some(OrgStatus::Active) => Some(Action::OrgsRestore),
        Some(OrgStatus::PendingDelete) => return Err(OrgError::StatusInvalid),
    };
    let was = work.state().org(org).map(|fact| fact.status);
    let permit = work.permit(ctx, Action::OrgsUpdate, Target::Org(org)).await?;
    if let Some(action) = besides
        && was != patch.status
    {
        drop(work.permit(ctx, action, Target::Org(org)).await?);
    }
    work.write(ctx, permit, async |tx| {
        let mut org = store::lock(tx).await?.ok_or(OrgError::NotFound)?;
        if !if_match.matches(org.version) {
            return Err(OrgError::VersionMismatch);
        }
        // What else it takes was asked for a move from the status that was known.
        let moved = org.status == OrgStatus::PendingDelete || Some(org.status) != was;
        if patch.status.is_some() && moved {
            return Err(OrgError::WrongStatus(org.status.as_str()));
        }
        let event = tx.event(org.id).detail(json!({ "changed": patch.changed(), "status": patch.status }));
        if let Some(name) = patch.name {
            name.as_str().clone_into(&mut org.name);
        }
        if let Some(status) = patch.status {
            set_status(&mut org, status);
        }
        org.budget_policy_id =
            patch.budget_policy_id.map(|id| id.as_str().to_owned()).or(org.budget_policy_id);
        org.declarative = patch.declarative.or(org.declarative);
        org.metadata = patch.metadata.map_or(org.metadata, Metadata::into_value);
        let before_delete = store::status_before_delete(tx).await?;
        let org = store::save(tx, &org, before_delete).await?;
        Ok(Audited::new(org, event))
    })
    .await
}

/// Stops all work in the org. Its members can still look at it.
#[tracing::instrument(name = "orgs.suspend_org", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn suspend_org(work: &Work, ctx: &Ctx, org: OrgId, reason: Reason) -> Result<Org, OrgError> {
    let permit = work.permit(ctx, Action::OrgsSuspend, Target::Org(org)).await?;
    work.write(ctx, permit, async |tx| {
        let mut org = store::lock(tx).await?.ok_or(OrgError::NotFound)?;
        if org.status == OrgStatus::PendingDelete {
            return Err(OrgError::WrongStatus(org.status.as_str()));
        }
        org.status = OrgStatus::Suspended;
        org.status_reason = Some(reason.as_str().to_owned());
        let event = tx.event(org.id).detail(json!({ "reason": reason.as_str() }));
        let org = store::save(tx, &org, None).await?;
        Ok(Audited::new(org, event))
    })
    .await
}

/// Takes back a suspension or a deletion, while that can be done.
#[tracing::instrument(name = "orgs.restore_org", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn restore_org(work: &Work, ctx: &Ctx, org: OrgId, reason: Reason) -> Result<Org, OrgError> {
    let permit = work.permit(ctx, Action::OrgsRestore, Target::Org(org)).await?;
    work.write(ctx, permit, async |tx| {
        let mut org = store::lock(tx).await?.ok_or(OrgError::NotFound)?;
        let was = org.status;
        let status = match was {
            OrgStatus::PendingDelete => store::status_before_delete(tx).await?.unwrap_or(OrgStatus::Active),
            OrgStatus::Suspended | OrgStatus::Active => OrgStatus::Active,
        };
        set_status(&mut org, status);
        org.delete_after = None;
        let event = tx.event(org.id).detail(json!({ "reason": reason.as_str(), "was": was }));
        let org = store::save(tx, &org, None).await?;
        Ok(Audited::new(org, event))
    })
    .await
}

/// What is active has no reason not to be.
fn set_status(org: &mut Org, status: OrgStatus) {
    org.status = status;
    if status == OrgStatus::Active {
        org.status_reason = None;
    }
}

/// Marks the org for deletion: nothing works in it any more, and it can be restored until its retention ends.
#[tracing::instrument(name = "orgs.delete_org", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn delete_org(work: &Work, ctx: &Ctx, org: OrgId, if_match: IfMatch) -> Result<(), OrgError> {
    let permit = work.permit(ctx, Action::OrgsDelete, Target::Org(org)).await?;
    let retention = TimeDelta::days(work.config().orgs.retention_days.into());
    work.write(ctx, permit, async |tx| {
        let mut org = store::lock(tx).await?.ok_or(OrgError::NotFound)?;
        if org.status == OrgStatus::PendingDelete {
            let event = tx.event(org.id).detail(json!({ "again": true }));
            return Ok(Audited::new((), event));
        }
        if !if_match.matches(org.version) {
            return Err(OrgError::VersionMismatch);
        }
        let was = org.status;
        org.status = OrgStatus::PendingDelete;
        org.delete_after = Some(ctx.now + retention);
        let event = tx.event(org.id).detail(json!({ "restorableUntil": org.delete_after }));
        store::save(tx, &org, Some(was)).await?;
        Ok(Audited::new((), event))
    })
    .await
}
