//! `POST /v1/auth/validate-api-key`.
use crate::{
    authorization::KeyView,
    credentials::api_keys::wire::principal,
    http::{
        answer::REVISION,
        auth::{self, Access, KeyRefusal, Stranger},
        extract::{self, Json},
        problem::Problem,
        source,
    },
    kernel::{Ctx, KeyStatus, Source},
    platform::telemetry::chain,
    work::{Freshness, WorkError},
};
use actix_web::{HttpRequest, HttpResponse, http::StatusCode, post, web};
use chrono::DateTime;
use serde::{Deserialize, Serialize};
use std::{net::IpAddr, time::Duration};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// A check does not wait longer for the use of a dead key to be written down.
const AUDIT_WAIT: Duration = Duration::from_millis(250);
const USER_AGENT_CHARS_MAX: usize = 256;

/// Its routes.
pub(in crate::credentials) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(validate_api_key);
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Check {
    /// The key as its holder sent it.
    #[schema(required, value_type = String, min_length = 1)]
    api_key_secret: Option<String>,
    /// UUID or slug: a key of another organization is not valid.
    org_id: Option<String>,
    /// The client's address, believed from trusted callers only.
    client_ip: Option<String>,
    /// The client's user agent, believed from trusted callers only.
    user_agent: Option<String>,
}

/// What a key is good for.
#[derive(Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Checked {
    valid: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    api_key_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    organization_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    principal_id: Option<Uuid>,
    /// `user` or `service_account`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    principal_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    scopes: Option<Vec<&'static str>>,
    /// `active` or `rotating`; why not, where the key is not valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    status: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<DateTime<chrono::Utc>>,
    /// Why the key is not valid, for programs.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    code: Option<&'static str>,
    /// Why the key is not valid, for people.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    message: Option<&'static str>,
    /// PostgreSQL has not confirmed lately that this still holds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
}

/// Checks an API key.
///
/// Needs no credential of the caller's, makes no network hop, and answers 200 whether the key is valid or not. A good
/// answer may be kept for a short while, or by `/v1/revocations`; a revocation binds here within a second.
#[utoipa::path(
    tag = "api keys",
    security(()),
    request_body(content = Check, example = json!({ "apiKeySecret": "idk_…" })),
    extensions(("x-action" = json!("sign-in:use")), ("x-rate-limit" = json!("checks"))),
    responses((status = 200, description = "What the key is good for", body = Checked,
        headers(("Authz-Revision" = i64, description = "The answer knows of every revocation up to here")), examples(
        ("valid" = (value = json!({
            "valid": true, "apiKeyId": "0193a5f0-7b1c-7000-8000-000000000003",
            "organizationId": "0193a5f0-7b1c-7000-8000-000000000001",
            "principalId": "0193a5f0-7b1c-7000-8000-000000000002", "principalType": "user",
            "scopes": ["inference:invoke", "models:read"], "status": "active",
        }))),
        ("revoked" = (value = json!({
            "valid": false, "status": "revoked", "code": "KEY_REVOKED", "message": "this API key was revoked",
        }))),
    )))
)]
#[post("/v1/auth/validate-api-key")]
async fn validate_api_key(
    Stranger(mut ctx): Stranger,
    request: HttpRequest,
    access: web::Data<Access>,
    Json(body): Json<Check>,
) -> Result<HttpResponse, Problem> {
    let Some(secret) = body.api_key_secret.as_deref().map(str::trim).filter(|secret| !secret.is_empty())
    else {
        return Err(Problem::new(StatusCode::BAD_REQUEST, "API_KEY_MISSING", "apiKeySecret is needed"));
    };
    let stale = match access.work.confirm(access.stale_max).await {
        Freshness::Fresh => false,
        Freshness::Stale => true,
        Freshness::TooOld => return Err(WorkError::Stale.into()),
    };
    // Read first: what is checked may be newer, and must not be older.
    let revision = access.work.state().applied();
    let client = client(&request, &access, &body);
    let asked_in = body.org_id.as_deref().map(|name| extract::org(&access, name));
    // Of another org's key not even that it is dead is told.
    let is_elsewhere = |view: &KeyView| asked_in.is_some_and(|org| org != Some(view.key.org));
    let answer = match auth::check_key(&access.work, secret, &client) {
        Ok(view) if is_elsewhere(&view) => refused(&access, KeyRefusal::Unknown, stale),
        Ok(view) => {
            access.usage.note(view.key.key, ctx.now);
            access.work.metrics().key_check("valid", stale);
            good(&view)
        }
        Err((refusal, None)) => refused(&access, refusal, stale),
        Err((refusal, Some(view))) => {
            ctx.source = client;
            told(&access, &ctx, &view, refusal).await;
            let shown = if is_elsewhere(&view) { KeyRefusal::Unknown } else { refusal };
            refused(&access, shown, stale)
        }
    };
    Ok(HttpResponse::Ok().insert_header((REVISION, revision)).json(Checked { stale, ..answer }))
}

fn good(view: &KeyView) -> Checked {
    let (principal_type, principal_id) = principal(view.key.holder);
    Checked {
        valid: true,
        api_key_id: Some(view.key.key.uuid()),
        organization_id: Some(view.key.org.uuid()),
        principal_id: Some(principal_id),
        principal_type: Some(principal_type),
        scopes: Some(view.key.scopes.names().collect()),
        status: Some(view.key.status.as_str()),
        expires_at: view.key.expires_at_s.and_then(|at| DateTime::from_timestamp(at, 0)),
        ..Checked::default()
    }
}

fn refused(access: &Access, refusal: KeyRefusal, stale: bool) -> Checked {
    access.work.metrics().key_check(outcome(refusal), stale);
    let (status, code, message) = (refusal.status(), Some(refusal.code()), Some(refusal.message()));
    Checked { status, code, message, ..Checked::default() }
}

/// What a trusted caller says of its client. Others' word is not taken, and their own address is not the client's.
fn client(request: &HttpRequest, access: &Access, body: &Check) -> Source {
    let caller = source::of(request, &access.proxies).address;
    let trusted = &access.work.config().validate.trusted_callers;
    if !caller.is_some_and(|caller| trusted.iter().any(|network| network.contains(&caller))) {
        return Source::default();
    }
    let address: Option<IpAddr> = body.client_ip.as_deref().and_then(|address| address.trim().parse().ok());
    let address = address.map(|address| address.to_canonical());
    let agent = body
        .user_agent
        .as_deref()
        .map(|agent| agent.chars().filter(|c| !c.is_control()).take(USER_AGENT_CHARS_MAX).collect());
    Source { address, user_agent: agent }
}

/// The use of a dead key is audited. The answer is the same whether that works or not.
async fn told(access: &Access, ctx: &Ctx, view: &KeyView, refusal: KeyRefusal) {
    let told = access.work.refuse(ctx, auth::refused_use(view, refusal));
    match tokio::time::timeout(AUDIT_WAIT, told).await {
        Ok(Ok(())) => (),
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), key.id = %view.key.key, "the use of a dead key is not on the audit log");
        }
        Err(_) => {
            tracing::warn!(key.id = %view.key.key, "the use of a dead key is not on the audit log: no answer");
        }
    }
}

fn outcome(refusal: KeyRefusal) -> &'static str {
    match refusal {
        KeyRefusal::Unknown => "unknown",
        KeyRefusal::Status(KeyStatus::Quarantined) => "quarantined",
        KeyRefusal::Status(_) => "revoked",
        KeyRefusal::Expired => "expired",
        KeyRefusal::PrincipalInactive => "principal_inactive",
        KeyRefusal::OrgInactive => "org_inactive",
        KeyRefusal::AddressRequired | KeyRefusal::AddressNotAllowed => "address",
    }
}
