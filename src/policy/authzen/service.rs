//! What they mean, in our words.
use super::model::{Complete, Entity};
use crate::{
    authorization::{Action, Grants, Holder, Target},
    kernel::{Ctx, OrgId},
    policy::decisions::{self, Asked, Named},
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

/// An API key stands for its holder, within its scopes. Only for who may ask about the org.
pub(super) fn asked(work: &Work, org: OrgId, question: Complete) -> Asked {
    let key = match question.subject.kind.as_str() {
        "api_key" => question.subject.id.parse().ok().and_then(|id| work.state().key(id)),
        _ => None,
    };
    let asked = as_sent(org, question);
    match key.filter(|key| key.org == org).map(|key| (key.key, key.holder)) {
        None => asked,
        Some((key, holder)) => {
            let (principal_type, principal_id) = match holder {
                Holder::User(user) => ("user".to_owned(), user.to_string()),
                Holder::ServiceAccount(account) => ("service_account".to_owned(), account.to_string()),
            };
            // Another one beside it is none of its holder's, whatever it is.
            let api_key_id = asked.api_key_id.filter(|other| *other != key.to_string());
            let api_key_id = Some(api_key_id.map_or(key.to_string(), |other| format!("{key} {other}")));
            Asked { api_key_id, principal_id, principal_type, ..asked }
        }
    }
}

/// In the caller's words, looked up nowhere.
pub(super) fn as_sent(org_id: OrgId, question: Complete) -> Asked {
    let Complete { subject, action, resource, context } = question;
    Asked {
        action: action.name,
        api_key_id: context.api_key_id,
        client_ip: context.client_ip.as_deref().and_then(decisions::address),
        org_id,
        principal_id: subject.id,
        principal_type: subject.kind,
        resource: Named { id: resource.id, kind: resource.kind },
        roles: subject.properties.roles,
    }
}
