//! What they mean, in our words.
use super::model::{Complete, Entity};
use crate::{
    authorization::{Action, Grants, Holder, Target},
    kernel::{Ctx, OrgId},
    policy::decisions::{Asked, Named},
    work::Work,
};

/// The org of whom is asked about, where the question does not name one. Whose org is not for the caller to ask about
/// looks like somebody unknown in the caller's own.
pub(super) fn org(work: &Work, ctx: &Ctx, home: OrgId, subject: &Entity) -> OrgId {
    let state = work.state();
    let found = match subject.kind.as_str() {
        "user" => subject.id.parse().ok().and_then(|id| state.user(id)).map(|user| user.org),
        "service_account" => {
            subject.id.parse().ok().and_then(|id| state.service_account(id)).map(|account| account.org)
        }
        "api_key" => subject.id.parse().ok().and_then(|id| state.key(id)).map(|key| key.org),
        _ => None,
    };
    let may_ask =
        |org: &OrgId| work.would_permit(ctx, Action::PoliciesEvaluate, Target::Org(*org), Grants::Nothing);
    found.filter(may_ask).unwrap_or(home)
}

/// An API key stands for its holder, within its scopes.
pub(super) fn asked(work: &Work, org: OrgId, question: Complete) -> Asked {
    let Complete { subject, action, resource, context } = question;
    let key = match subject.kind.as_str() {
        "api_key" => subject.id.parse().ok().and_then(|id| work.state().key(id)).filter(|key| key.org == org),
        _ => None,
    };
    let (principal_type, principal_id, api_key_id) = match key.map(|key| key.holder) {
        Some(Holder::User(user)) => ("user".to_owned(), user.to_string(), Some(subject.id)),
        Some(Holder::ServiceAccount(account)) => {
            ("service_account".to_owned(), account.to_string(), Some(subject.id))
        }
        None => (subject.kind, subject.id, context.api_key_id),
    };
    Asked {
        action: action.name,
        api_key_id,
        org_id: org,
        principal_id,
        principal_type,
        resource: Named { id: resource.id, kind: resource.kind },
        roles: subject.properties.roles,
    }
}
