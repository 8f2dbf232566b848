//! `POST /v1/policy/evaluate` and `/v1/policy/evaluate-batch`.
use super::{
    error::PolicyError,
    model::{Answer, Asked, Named},
    service,
};
use crate::{
    http::{
        auth::Access,
        extract::{self, Json},
        problem::Problem,
    },
    kernel::{Ctx, OrgId},
    policy::decision_log::DecisionLog,
    work::WorkError,
};
use actix_web::{HttpRequest, HttpResponse, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Value, json};
use std::{
    collections::{HashMap, hash_map::Entry},
    net::IpAddr,
};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        RefOr,
        schema::{ObjectBuilder, OneOfBuilder, Schema, Type},
    },
};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Questions of one request.
pub(in crate::policy) const QUESTIONS_MAX: usize = 100;

/// More digits than any revision will have.
const REVISION_DIGITS_MAX: usize = 18;

/// Its routes.
pub(in crate::policy) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(evaluate).service(evaluate_batch);
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Evaluation {
    subject: SubjectBody,
    /// Such as `inference:invoke`.
    action: String,
    /// `{type, id}`, or both in one string, `type/id`.
    #[serde(deserialize_with = "named")]
    #[schema(schema_with = resource_schema)]
    resource: Named,
    /// What else the caller knows. Unknown members are ignored.
    #[serde(default, deserialize_with = "extract::object_or_default")]
    #[schema(value_type = Option<ContextBody>)]
    context: ContextBody,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct SubjectBody {
    /// UUID or slug.
    org_id: String,
    /// The membership or its person; the service account.
    principal_id: String,
    /// `user` or `service_account`.
    principal_type: String,
    /// Only as far as these roles go. They give nothing that the principal does not have; left out: all it has.
    roles: Option<Vec<String>>,
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ContextBody {
    /// The API key that the principal came with: its scopes bound the answer.
    api_key_id: Option<String>,
    /// Where the principal came from: a key that is bound to networks needs it.
    client_ip: Option<String>,
    /// The answer must be as new as this revision: 503 `REVISION_NOT_REACHED` if it cannot be.
    #[serde(default, deserialize_with = "revision")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{1,18}$")]
    at_least_revision: Option<i64>,
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct Signing {
    /// `none`: the answer is not signed, which costs less than half.
    #[param(required = false, value_type = String, pattern = "^(none|jws)?$")]
    signature: Option<String>,
}

impl Signing {
    fn wanted(&self) -> Result<bool, Problem> {
        match self.signature.as_deref() {
            None | Some("" | "jws") => Ok(true),
            Some("none") => Ok(false),
            Some(_) => Err(Problem::invalid("signature", "SIGNATURE_UNKNOWN", "signature is jws or none")),
        }
    }
}

fn resource_schema() -> impl Into<RefOr<Schema>> {
    let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[^/]*/"));
    let parts = ObjectBuilder::new()
        .property("type", ObjectBuilder::new().schema_type(Type::String))
        .property("id", ObjectBuilder::new().schema_type(Type::String))
        .required("type")
        .required("id");
    OneOfBuilder::new().item(parts).item(text)
}

/// What is no address says nothing.
pub(in crate::policy) fn address(text: &str) -> Option<IpAddr> {
    text.trim().parse().ok().map(|address: IpAddr| address.to_canonical())
}

/// `{type, id}` or `type/id`.
fn named<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Named, D::Error> {
    let member = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).map(ToOwned::to_owned);
    let value = Value::deserialize(deserializer)?;
    let parts = match &value {
        Value::String(text) => text.split_once('/').map(|(kind, id)| (kind.to_owned(), id.to_owned())),
        value => member(value, "type").zip(member(value, "id")),
    };
    let (kind, id) = parts.ok_or_else(|| D::Error::custom("expected {type, id} or \"type/id\""))?;
    Ok(Named { id, kind })
}

/// A revision in decimal.
pub(in crate::policy) fn revision<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<i64>, D::Error> {
    let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let is_decimal =
        (1..=REVISION_DIGITS_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    let revision = is_decimal.then(|| text.parse().ok()).flatten();
    revision.map(Some).ok_or_else(|| D::Error::custom("expected a revision, in decimal"))
}

/// An answer. Its members are in the order in which RFC 8785 has them: serialized, it is canonical.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Evaluated<'a> {
    /// The policies that it was made by: `sha256:` and their digest.
    bundle: &'a str,
    /// `ALLOWED`, or why not: stable, for programs.
    code: &'a str,
    /// `allow` or `deny`.
    decision: &'static str,
    /// Names this answer.
    decision_id: Uuid,
    /// When it was made.
    evaluated_at: DateTime<Utc>,
    /// What the policies ask of whoever enforces it.
    obligations: &'a [String],
    /// The first of `policyIds`, or `default.deny`.
    policy_id: &'a str,
    /// The policies that decided.
    policy_ids: &'a [String],
    /// What was asked, as it was understood.
    question: &'a Asked,
    /// For people.
    reason: String,
    /// The revision of the state that it was made at, in decimal.
    revision: String,
    /// A detached JWS (RFC 7515, appendix F; EdDSA, its `kid` is in the JWKS) over the RFC 8785 bytes of this answer
    /// without `signature`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    signature: Option<String>,
    /// PostgreSQL has not confirmed lately that this still holds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
    /// For how long it may be kept, if nothing is heard at `/v1/revocations`.
    ttl_seconds: i64,
}

impl<'a> Evaluated<'a> {
    fn of(answer: &'a Answer) -> Self {
        Self {
            bundle: &answer.bundle,
            code: &answer.code,
            decision: if answer.allowed { "allow" } else { "deny" },
            decision_id: answer.decision_id,
            evaluated_at: answer.evaluated_at,
            obligations: &answer.obligations,
            policy_id: answer.policy_id(),
            policy_ids: &answer.policy_ids,
            question: &answer.asked,
            reason: answer.reason(),
            revision: answer.revision.to_string(),
            signature: None,
            stale: answer.stale,
            ttl_seconds: answer.ttl_seconds,
        }
    }
}

fn example() -> Value {
    json!({
        "bundle": "sha256:0b7f…", "code": "ALLOWED", "decision": "allow",
        "decisionId": "0193a5f0-7b1c-7000-8000-000000000009", "evaluatedAt": "2026-11-01T12:00:00Z",
        "obligations": [], "policyId": "role.member", "policyIds": ["role.member"],
        "question": {
            "action": "inference:invoke", "orgId": "0193a5f0-7b1c-7000-8000-000000000001",
            "principalId": "0193a5f0-7b1c-7000-8000-000000000002", "principalType": "user",
            "resource": { "id": "small", "type": "model" },
        },
        "reason": "allowed by role.member", "revision": "42", "signature": "eyJhbGciOiJFZERTQSIs…..q1…",
        "ttlSeconds": 5,
    })
}

impl Evaluation {
    fn into_asked(self, org: OrgId) -> Result<Asked, PolicyError> {
        let asked = Asked {
            action: self.action,
            api_key_id: self.context.api_key_id,
            client_ip: self.context.client_ip.as_deref().and_then(address),
            org_id: org,
            principal_id: self.subject.principal_id,
            principal_type: self.subject.principal_type,
            resource: self.resource,
            roles: self.subject.roles,
        };
        asked.bounded()
    }
}

/// May this principal do that?
///
/// Answers 200 whether it may or not. Roles, key and everything else that the caller says of the principal can only
/// narrow what is stored of it. The answer is signed together with the question, is on the decision log, and may be kept
/// for `ttlSeconds`.
#[utoipa::path(
    tag = "policy",
    params(Signing),
    request_body(content = Evaluation, example = json!({
        "subject": { "orgId": "acme", "principalId": "0193a5f0-7b1c-7000-8000-000000000002", "principalType": "user" },
        "action": "inference:invoke", "resource": { "type": "model", "id": "small" },
    })),
    extensions(("x-action" = json!("policies:evaluate"))),
    responses(
        (status = 200, description = "The decision", body = Evaluated, example = json!(example())),
        (status = 404, description = "There is no such organization, or it is not for the caller to ask about"),
    )
)]
#[post("/v1/policy/evaluate")]
async fn evaluate(
    ctx: Ctx,
    request: HttpRequest,
    access: web::Data<Access>,
    decisions: web::Data<DecisionLog>,
    signing: web::Query<Signing>,
    Json(body): Json<Evaluation>,
) -> Result<HttpResponse, Problem> {
    let (work, signed) = (&access.work, signing.wanted()?);
    let org = extract::org_of(&request, &access, &body.subject.org_id).await;
    let permit = service::permit(work, &ctx, org).await?;
    service::reach(work, body.context.at_least_revision).await?;
    let answer = service::answer(work, &ctx, &permit, body.into_asked(org)?);
    decisions.record_decisions(answer.decided(&ctx).into_iter().collect()).await?;
    let mut told = Evaluated::of(&answer);
    if signed {
        told.signature = Some(service::signed(work, &told)?);
    }
    Ok(HttpResponse::Ok().json(told))
}

#[derive(Deserialize, ToSchema)]
struct Batch {
    /// From 1 to 100 questions.
    evaluations: Vec<Evaluation>,
}

/// Answers, in the order of the questions, signed once.
#[derive(Serialize, ToSchema)]
struct BatchEvaluated<'a> {
    evaluations: Vec<Evaluated<'a>>,
    /// Over the RFC 8785 bytes of this object without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    signature: Option<String>,
}

/// Many questions at once.
///
/// One signature covers them all. A question about an organization on which the caller may not ask is denied with
/// `ORG_UNKNOWN`; the others are answered.
#[utoipa::path(
    tag = "policy",
    params(Signing),
    request_body(content = Batch, example = json!({ "evaluations": [{
        "subject": { "orgId": "acme", "principalId": "0193a5f0-7b1c-7000-8000-000000000002", "principalType": "user" },
        "action": "inference:invoke", "resource": "model/small",
    }] })),
    extensions(("x-action" = json!("policies:evaluate"))),
    responses((status = 200, description = "The decisions", body = BatchEvaluated,
        example = json!({ "evaluations": [example()], "signature": "eyJhbGciOiJFZERTQSIs…..q1…" })))
)]
#[post("/v1/policy/evaluate-batch")]
async fn evaluate_batch(
    ctx: Ctx,
    request: HttpRequest,
    access: web::Data<Access>,
    decisions: web::Data<DecisionLog>,
    signing: web::Query<Signing>,
    Json(body): Json<Batch>,
) -> Result<HttpResponse, Problem> {
    let (work, signed) = (&access.work, signing.wanted()?);
    if !(1..=QUESTIONS_MAX).contains(&body.evaluations.len()) {
        return Err(PolicyError::TooMany(QUESTIONS_MAX).into());
    }
    let (mut permits, mut answers) = (HashMap::new(), Vec::with_capacity(body.evaluations.len()));
    for evaluation in body.evaluations {
        let org = extract::org_of(&request, &access, &evaluation.subject.org_id).await;
        let at_least = evaluation.context.at_least_revision;
        let asked = evaluation.into_asked(org)?;
        let permit = match permits.entry(org) {
            Entry::Occupied(asked) => asked.into_mut(),
            Entry::Vacant(place) => place.insert(permitted(service::permit(work, &ctx, org).await)?),
        };
        answers.push(match permit {
            Some(permit) => {
                service::reach(work, at_least).await?;
                service::answer(work, &ctx, permit, asked)
            }
            // By its slug it was found; that it was is not for the caller to know.
            None => service::refused(work, &ctx, Asked { org_id: extract::NO_ORG, ..asked }, "ORG_UNKNOWN"),
        });
    }
    decisions.record_decisions(answers.iter().filter_map(|answer| answer.decided(&ctx)).collect()).await?;
    let mut told =
        BatchEvaluated { evaluations: answers.iter().map(Evaluated::of).collect(), signature: None };
    if signed {
        told.signature = Some(service::signed(work, &told)?);
    }
    Ok(HttpResponse::Ok().json(told))
}

/// A denial is one question's; what is wrong with us is everybody's.
fn permitted<P>(asked: Result<P, WorkError>) -> Result<Option<P>, WorkError> {
    match asked {
        Ok(permit) => Ok(Some(permit)),
        Err(WorkError::Denied(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
