//! Asking on somebody's behalf.
use super::{
    error::PolicyError,
    model::{Answer, Asked, Named},
};
use crate::{
    authorization::{Action, Decision, Grants, Permit, Question, Resource, Subject, Target, Unanswerable},
    kernel::{Ctx, EventId, OrgId},
    work::{Work, WorkError},
};
use serde::Serialize;

/// For how long an answer may be kept. A no is asked again soon: it may be a grant's that is on its way.
const ALLOW_TTL_SECONDS: i64 = 5;
const DENY_TTL_SECONDS: i64 = 1;

const ACTION_UNKNOWN: &str = "ACTION_UNKNOWN";

/// Who may ask about the principals of an org.
pub(in crate::policy) async fn permit(work: &Work, ctx: &Ctx, org: OrgId) -> Result<Permit, WorkError> {
    work.permit(ctx, Action::PoliciesEvaluate, Target::Org(org)).await
}

/// Waits until the state has read this revision, as long as one question to PostgreSQL takes.
pub(in crate::policy) async fn reach(work: &Work, revision: Option<i64>) -> Result<(), PolicyError> {
    let reached = || revision.is_none_or(|revision| work.state().applied() >= revision);
    if !reached() {
        work.hear_since(work.clock().monotonic()).await;
    }
    if reached() { Ok(()) } else { Err(PolicyError::RevisionNotReached) }
}

/// Answers one question about a principal of the permit's org.
pub(in crate::policy) fn answer(work: &Work, ctx: &Ctx, permit: &Permit, asked: Asked) -> Answer {
    let decided = question(work, ctx, permit, &asked).map(|question| work.judge(ctx, &question));
    match decided {
        Ok(decision) => told(work, ctx, asked, decision),
        Err(code) => Answer { on_record: true, ..refused(work, ctx, asked, code) },
    }
}

/// A no to who may not ask, or asked nothing. The log has that he tried: what he asked would be his to grow it with.
pub(in crate::policy) fn refused(work: &Work, ctx: &Ctx, asked: Asked, code: &str) -> Answer {
    work.metrics().evaluation(false);
    let decision = Decision {
        allowed: false,
        code: code.to_owned(),
        policy_ids: vec![],
        obligations: vec![],
        until_s: None,
        revision: work.state().applied(),
    };
    Answer { on_record: false, ..told(work, ctx, asked, decision) }
}

/// Signs an answer that serializes to its RFC 8785 bytes.
pub(in crate::policy) fn signed(work: &Work, answer: &impl Serialize) -> Result<String, PolicyError> {
    let payload = serde_json::to_vec(answer)?;
    Ok(work.keys().signing().ok_or(PolicyError::Unsigned)?.detached(&payload))
}

fn told(work: &Work, ctx: &Ctx, asked: Asked, decision: Decision) -> Answer {
    let Decision { allowed, code, policy_ids, obligations, until_s, revision } = decision;
    let stale = work.state().is_stale();
    let ttl_max = match (stale, allowed) {
        (true, _) => 0,
        (false, true) => ALLOW_TTL_SECONDS,
        (false, false) => DENY_TTL_SECONDS,
    };
    let left = until_s.map_or(ttl_max, |until| (until - ctx.now.timestamp()).max(0));
    Answer {
        asked,
        allowed,
        code,
        policy_ids,
        obligations,
        ttl_seconds: ttl_max.min(left),
        decision_id: EventId::uuid(&ctx.mint()),
        revision,
        bundle: work.engine().bundle().to_owned(),
        evaluated_at: ctx.now,
        stale,
        on_record: true,
    }
}

/// Puts it in the words of the state; `Err`: the code of what it does not know.
fn question(work: &Work, ctx: &Ctx, permit: &Permit, asked: &Asked) -> Result<Question, &'static str> {
    let action = Action::parse(&asked.action).ok_or(ACTION_UNKNOWN)?;
    let subject = subject(work, asked).ok_or(Unanswerable::Principal.code())?;
    let resource = resource(work, asked.org_id, &asked.resource)
        .filter(|resource| may_see(work, ctx, asked.org_id, resource))
        .ok_or(Unanswerable::Resource.code())?;
    let key = match &asked.api_key_id {
        Some(key) => Some(key.parse().map_err(|_| Unanswerable::Credential.code())?),
        None => None,
    };
    let mut question =
        Question::new(permit, subject, action, resource).ok_or(Unanswerable::Principal.code())?;
    (question.key, question.client, question.roles) = (key, asked.client_ip, asked.roles.clone());
    Ok(question)
}

fn subject(work: &Work, asked: &Asked) -> Option<Subject> {
    let id = asked.principal_id.parse().ok()?;
    match asked.principal_type.as_str() {
        "user" => work.state().user_by_either(asked.org_id, id).map(Subject::User),
        "service_account" => Some(Subject::ServiceAccount(crate::kernel::Id::from_uuid(id))),
        _ => None,
    }
}

/// A resource that has an org is of the org that it has, whatever the question says.
fn resource(work: &Work, home: OrgId, named: &Named) -> Option<Resource> {
    let (state, id) = (work.state(), named.id.as_str());
    let target = match named.kind.as_str() {
        "organization" => Target::Org(id.parse().ok().or_else(|| state.org_by_slug(id))?),
        "user" => {
            let id = id.parse().ok()?;
            let user = match state.user_by_either(home, id) {
                Some(user) => state.user(user)?,
                None => state.user(crate::kernel::UserId::from_uuid(id))?,
            };
            Target::User(user.org, user.user)
        }
        "service_account" => {
            let account = state.service_account(id.parse().ok()?)?;
            Target::ServiceAccount(account.org, account.service_account)
        }
        "api_key" => {
            let key = state.key(id.parse().ok()?)?;
            Target::Key(key.org, key.key)
        }
        "platform" => Target::Platform,
        "account" => Target::Account,
        "model" => return Some(Resource::Model(home, id.to_owned())),
        _ => return None,
    };
    Some(Resource::Known(target))
}

/// Of what is elsewhere nobody learns that it exists, who may not ask there too.
fn may_see(work: &Work, ctx: &Ctx, home: OrgId, resource: &Resource) -> bool {
    let Resource::Known(target) = resource else { return true };
    let asked_of = match target {
        Target::Account => return true,
        Target::Platform => Target::Platform,
        _ => match target.org() {
            Some(org) if org == home => return true,
            Some(org) => Target::Org(org),
            None => return false,
        },
    };
    work.would_permit(ctx, Action::PoliciesEvaluate, asked_of, Grants::Nothing)
}
