//! `POST /access/v1/evaluation` and `/access/v1/evaluations`, and where to find them.
use super::{
    model::{Complete, Evaluation, Evaluations, ItemError, missing},
    service,
};
use crate::{
    authorization::{Denied, Permit},
    http::{
        auth::{Access, Caller},
        extract::{self, Json},
        problem::Problem,
    },
    kernel::{Actor, Ctx, OrgId},
    policy::{
        decision_log::DecisionLog,
        decisions::{self, Answer, Asked, PolicyError, QUESTIONS_MAX},
    },
    work::WorkError,
};
use actix_web::{FromRequest, HttpRequest, HttpResponse, dev::Payload, get, http::StatusCode, post, web};
use chrono::{DateTime, Utc};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, hash_map::Entry},
    future::Future,
    pin::Pin,
};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Its routes.
pub(in crate::policy) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(evaluation).service(evaluations).service(configuration);
}

/// A body that is answered with 400 whatever is wrong with it, as the standard has it.
struct Body<T>(T);

impl<T: DeserializeOwned + 'static> FromRequest for Body<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let body = Json::<T>::from_request(request, payload);
        Box::pin(async move {
            let plain = |problem: Problem| match problem.status().as_u16() {
                415 | 422 => problem.with_status(StatusCode::BAD_REQUEST),
                _ => problem,
            };
            body.await.map(|Json(body)| Self(body)).map_err(plain)
        })
    }
}

/// An answer. Its members are in the order in which RFC 8785 has them.
#[derive(Serialize, ToSchema)]
#[schema(as = AuthzenDecision)]
struct Decided<'a> {
    context: Told<'a>,
    /// It may.
    decision: bool,
}

/// Why, and for how long.
#[derive(Serialize, ToSchema)]
#[schema(as = AuthzenDecisionContext)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    /// The policies that it was made by: `sha256:` and their digest.
    bundle: &'a str,
    /// `ALLOWED`, or why not.
    code: &'a str,
    /// Names this answer.
    decision_id: Uuid,
    /// Of a question among many: why it has no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<&'a ItemError>,
    /// When it was made.
    evaluated_at: DateTime<Utc>,
    /// What the policies ask of whoever enforces it.
    obligations: &'a [String],
    /// The policies that decided.
    policy_ids: &'a [String],
    /// What was asked, as it was understood.
    question: &'a Asked,
    /// For people.
    reason: String,
    /// The revision of the state that it was made at, in decimal.
    revision: String,
    /// A detached JWS over the RFC 8785 bytes of the whole answer without `signature`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    signature: Option<String>,
    /// PostgreSQL has not confirmed lately that this still holds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
    /// For how long it may be kept, if nothing is heard at `/v1/revocations`.
    ttl_seconds: i64,
}

impl<'a> Decided<'a> {
    fn of((answer, error): &'a (Answer, Option<ItemError>)) -> Self {
        let context = Told {
            bundle: &answer.bundle,
            code: &answer.code,
            decision_id: answer.decision_id,
            error: error.as_ref(),
            evaluated_at: answer.evaluated_at,
            obligations: &answer.obligations,
            policy_ids: &answer.policy_ids,
            question: &answer.asked,
            reason: answer.reason(),
            revision: answer.revision.to_string(),
            signature: None,
            stale: answer.stale,
            ttl_seconds: answer.ttl_seconds,
        };
        Self { context, decision: answer.allowed }
    }
}

/// Who asks, and where he is at home.
struct Asker<'a> {
    request: &'a HttpRequest,
    access: &'a Access,
    ctx: &'a Ctx,
    home: OrgId,
    permits: HashMap<OrgId, Result<Permit, Denied>>,
}

impl<'a> Asker<'a> {
    fn of(request: &'a HttpRequest, access: &'a Access, Caller(ctx, claims): &'a Caller) -> Self {
        let home = match ctx.actor {
            Actor::Key { key } => access.work.state().key(key).map(|key| key.org),
            _ => claims.as_ref().and_then(|claims| claims.org_id),
        };
        Self { request, access, ctx, home: home.unwrap_or(extract::NO_ORG), permits: HashMap::new() }
    }

    /// Whose question it is: named by the subject, by the resource, or found. Where the two name different ones, the
    /// resource is elsewhere.
    async fn org(&self, question: &mut Complete) -> OrgId {
        let named = async |name: &str| extract::org_of(self.request, self.access, name).await;
        let (subject, resource) = (&question.subject.properties.org_id, &question.resource.properties.org_id);
        let elsewhere = match resource {
            Some(name) => Some(named(name).await),
            None => None,
        };
        let org = match (subject, elsewhere) {
            (Some(name), _) => named(name).await,
            (None, Some(org)) => org,
            (None, None) => service::org(&self.access.work, self.ctx, self.home, &question.subject),
        };
        if elsewhere.is_some_and(|elsewhere| elsewhere != org) {
            question.resource.kind.clear();
        }
        org
    }

    /// Asked once an org, however many questions are about it.
    async fn permit(&mut self, org: OrgId) -> Result<&Permit, WorkError> {
        let permit = match self.permits.entry(org) {
            Entry::Occupied(asked) => asked.into_mut(),
            Entry::Vacant(place) => {
                place.insert(match decisions::permit(&self.access.work, self.ctx, org).await {
                    Ok(permit) => Ok(permit),
                    Err(WorkError::Denied(denied)) => Err(denied),
                    Err(error) => return Err(error),
                })
            }
        };
        permit.as_ref().map_err(|denied| denied.clone().into())
    }

    async fn ask(&mut self, mut question: Complete) -> Result<Answer, PolicyError> {
        let (access, ctx, org) = (self.access, self.ctx, self.org(&mut question).await);
        let at_least = question.context.at_least_revision;
        let permit = self.permit(org).await?;
        decisions::reach(&access.work, at_least).await?;
        let asked = service::asked(&access.work, org, question).bounded()?;
        Ok(decisions::answer(&access.work, ctx, permit, asked))
    }

    /// The answer to one of many, none of which is all of them's affair.
    async fn ask_one(
        &mut self,
        question: Result<Complete, &str>,
    ) -> Result<(Answer, Option<ItemError>), Problem> {
        let (work, ctx) = (&self.access.work, self.ctx);
        let message = match question {
            Err(member) => format!("{member} is missing"),
            Ok(question) => {
                let sent = question.clone();
                match self.ask(question).await {
                    Ok(answer) => return Ok((answer, None)),
                    Err(PolicyError::Work(WorkError::Denied(_))) => {
                        let sent = service::as_sent(extract::NO_ORG, sent);
                        return Ok((decisions::refused(work, ctx, sent, "ORG_UNKNOWN"), None));
                    }
                    Err(error @ (PolicyError::TooLong(_) | PolicyError::TooManyRoles(_))) => {
                        error.to_string()
                    }
                    Err(error) => return Err(error.into()),
                }
            }
        };
        let home = self.home;
        self.permit(home).await?;
        let refused = decisions::refused(work, ctx, Asked::nothing(home), "QUESTION_INVALID");
        Ok((Answer { on_record: true, ..refused }, Some(ItemError { message, status: 400 })))
    }
}

fn bad(problem: Problem) -> Problem {
    match problem.status().as_u16() {
        422 => problem.with_status(StatusCode::BAD_REQUEST),
        _ => problem,
    }
}

fn entity(kind: &str, id: &str) -> Value {
    json!({ "type": kind, "id": id })
}

fn example() -> Value {
    json!({
        "context": {
            "bundle": "sha256:0b7f…", "code": "ALLOWED", "decisionId": "0193a5f0-7b1c-7000-8000-000000000009",
            "evaluatedAt": "2026-11-01T12:00:00Z", "obligations": [], "policyIds": ["role.member"],
            "question": {
                "action": "inference:invoke", "orgId": "0193a5f0-7b1c-7000-8000-000000000001",
                "principalId": "0193a5f0-7b1c-7000-8000-000000000002", "principalType": "user",
                "resource": entity("model", "small"),
            },
            "reason": "allowed by role.member", "revision": "42", "signature": "eyJhbGciOiJFZERTQSIs…..q1…",
            "ttlSeconds": 5,
        },
        "decision": true,
    })
}

/// May this subject do that?
///
/// The Access Evaluation API of OpenID `AuthZEN` 1.0. The answer is that of `/v1/policy/evaluate`, in `context`.
#[utoipa::path(
    tag = "policy",
    operation_id = "authzen_evaluation",
    request_body(content = Evaluation, example = json!({
        "subject": entity("user", "0193a5f0-7b1c-7000-8000-000000000002"),
        "action": { "name": "inference:invoke" }, "resource": entity("model", "small"),
    })),
    extensions(("x-action" = json!("policies:evaluate"))),
    responses(
        (status = 200, description = "The decision", body = Decided, example = json!(example())),
        (status = 404, description = "There is no such organization, or it is not for the caller to ask about"),
    )
)]
#[post("/access/v1/evaluation")]
async fn evaluation(
    caller: Caller,
    request: HttpRequest,
    access: web::Data<Access>,
    log: web::Data<DecisionLog>,
    Body(body): Body<Evaluation>,
) -> Result<HttpResponse, Problem> {
    let question = body.complete(&Evaluation::default()).map_err(missing)?;
    single(&caller, &request, &access, &log, question).await
}

async fn single(
    caller: &Caller,
    request: &HttpRequest,
    access: &Access,
    log: &DecisionLog,
    question: Complete,
) -> Result<HttpResponse, Problem> {
    let answer =
        Asker::of(request, access, caller).ask(question).await.map_err(Problem::from).map_err(bad)?;
    let answer = (answer, None);
    log.record_decisions(answer.0.decided(&caller.0).into_iter().collect()).await?;
    let mut told = Decided::of(&answer);
    told.context.signature = Some(decisions::signed(&access.work, &told)?);
    Ok(HttpResponse::Ok().json(told))
}

/// Answers in the order of the questions.
#[derive(Serialize, ToSchema)]
#[schema(as = AuthzenDecisions)]
struct AllDecided<'a> {
    context: Signature,
    #[schema(required = false)]
    evaluations: Vec<Decided<'a>>,
}

#[derive(Default, Serialize, ToSchema)]
#[schema(as = AuthzenSignature)]
struct Signature {
    /// A detached JWS over the RFC 8785 bytes of the whole answer without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    signature: Option<String>,
}

/// Many questions at once.
///
/// The Access Evaluations API of OpenID `AuthZEN` 1.0, for up to 100 questions. One signature covers all answers. What
/// is wrong with one question is told in its own answer, a no.
#[utoipa::path(
    tag = "policy",
    operation_id = "authzen_evaluations",
    request_body(content = Evaluations, example = json!({
        "subject": entity("user", "0193a5f0-7b1c-7000-8000-000000000002"),
        "action": { "name": "inference:invoke" },
        "evaluations": [{ "resource": entity("model", "small") }, { "resource": entity("model", "large") }],
        "options": { "evaluations_semantic": "execute_all" },
    })),
    extensions(("x-action" = json!("policies:evaluate"))),
    responses(
        (status = 200, description = "The decisions; of one question alone the decision", body = AllDecided,
            example = json!({ "context": { "signature": "eyJhbGciOiJFZERTQSIs…..q1…" }, "evaluations": [example()] })),
        (status = 404, description = "There is no such organization, or it is not for the caller to ask about"),
    )
)]
#[post("/access/v1/evaluations")]
async fn evaluations(
    caller: Caller,
    request: HttpRequest,
    access: web::Data<Access>,
    log: web::Data<DecisionLog>,
    Body(body): Body<Evaluations>,
) -> Result<HttpResponse, Problem> {
    let Evaluations { shared, evaluations, options } = body;
    if evaluations.is_empty() {
        let question = Evaluation::default().complete(&shared).map_err(missing)?;
        return single(&caller, &request, &access, &log, question).await;
    }
    if evaluations.len() > QUESTIONS_MAX {
        return Err(bad(PolicyError::TooMany(QUESTIONS_MAX).into()));
    }
    shared.bounded().map_err(Problem::from).map_err(bad)?;
    let (mut asker, work) = (Asker::of(&request, &access, &caller), &access.work);
    let mut answers = Vec::with_capacity(evaluations.len());
    for question in evaluations {
        let told = asker.ask_one(question.complete(&shared)).await?;
        let ends = options.evaluations_semantic.ends_with(told.0.allowed);
        answers.push(told);
        if ends {
            break;
        }
    }
    log.record_decisions(answers.iter().filter_map(|(answer, _)| answer.decided(&caller.0)).collect())
        .await?;
    let decided = answers.iter().map(Decided::of).collect();
    let mut told = AllDecided { context: Signature::default(), evaluations: decided };
    told.context.signature = Some(decisions::signed(work, &told)?);
    Ok(HttpResponse::Ok().json(told))
}

/// Where the decision point is.
#[derive(Serialize, ToSchema)]
#[schema(as = AuthzenConfiguration)]
struct Configuration {
    policy_decision_point: String,
    access_evaluation_endpoint: String,
    access_evaluations_endpoint: String,
}

/// Where the decision point is.
///
/// Metadata of OpenID `AuthZEN` 1.0.
#[utoipa::path(
    tag = "operations",
    operation_id = "authzen_configuration",
    security(()),
    responses((status = 200, description = "The metadata", body = Configuration, example = json!({
        "policy_decision_point": "https://id.example.io",
        "access_evaluation_endpoint": "https://id.example.io/access/v1/evaluation",
        "access_evaluations_endpoint": "https://id.example.io/access/v1/evaluations",
    })))
)]
#[get("/.well-known/authzen-configuration")]
async fn configuration(access: web::Data<Access>) -> HttpResponse {
    let base = access.issuer.trim_end_matches('/');
    HttpResponse::Ok().json(Configuration {
        policy_decision_point: access.issuer.clone(),
        access_evaluation_endpoint: format!("{base}/access/v1/evaluation"),
        access_evaluations_endpoint: format!("{base}/access/v1/evaluations"),
    })
}
