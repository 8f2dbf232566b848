//! `/v1/orgs/{org}/api-keys`, and keys of users and service accounts.
use super::{
    error::KeyError,
    model::{
        ApiKey, IssuedKey, KeyFilter, KeyPatch, NewKey, parse_cidrs, parse_days, parse_expiry, parse_name,
        parse_overlap, parse_scopes,
    },
    service,
};
use crate::{
    authorization::Holder,
    http::{
        answer,
        etag::{self, IfMatch, IfMatchParam},
        extract::{self, IdPath, Json, JsonOrNothing, OrgPath},
        page::{self, PageQuery},
        problem::Problem,
        schema,
    },
    kernel::{Answer, Ctx, KeyStatus, Metadata, Reason, Secret, UserId, named},
    work::Work,
};
use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::{StatusCode, header::LOCATION},
    patch, post, web,
};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Its routes.
pub(in crate::credentials) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(issue_user_key)
        .service(issue_service_account_key)
        .service(list_keys)
        .service(get_key)
        .service(update_key)
        .service(delete_key)
        .service(revoke_key)
        .service(rotate_key);
}

/// An API key, without its secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
pub(in crate::credentials) struct ApiKeyView {
    pub(in crate::credentials) api_key_id: Uuid,
    /// `SHA256:` and the digest of the secret in base64url.
    pub(in crate::credentials) fingerprint: String,
    /// The last letters of the secret.
    last4: String,
    #[serde(rename = "display_name")]
    display_name: String,
    /// `active`, `rotating`, `quarantined`, `revoked` or `expired`.
    status: &'static str,
    scopes: Vec<&'static str>,
    issued_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_used_at: Option<DateTime<Utc>>,
    /// `user` or `service_account`.
    principal_type: &'static str,
    principal_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_cidrs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    rate_limit: Option<Value>,
    #[schema(value_type = Object)]
    annotations: Value,
    /// The key that this one takes over from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    replaces: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl ApiKeyView {
    pub(in crate::credentials) fn of(key: &ApiKey, now: DateTime<Utc>) -> Self {
        let (principal_type, principal_id) = principal(key.holder);
        Self {
            api_key_id: key.id.uuid(),
            fingerprint: key.fingerprint.clone(),
            last4: key.last4.clone(),
            display_name: key.display_name.clone(),
            status: key.shown_status(now),
            scopes: key.scopes.names().collect(),
            issued_at: key.issued_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            principal_type,
            principal_id,
            user_id: matches!(key.holder, Holder::User(_)).then_some(principal_id),
            allowed_cidrs: key.allowed_cidrs.iter().map(ToString::to_string).collect(),
            rate_limit: key.rate_limit.clone(),
            annotations: key.annotations.clone(),
            replaces: key.replaces.map(|key| key.uuid()),
            created_at: key.issued_at,
            updated_at: key.updated_at,
        }
    }
}

/// The words for a holder in answers.
pub(in crate::credentials) fn principal(holder: Holder) -> (&'static str, Uuid) {
    match holder {
        Holder::User(user) => ("user", user.uuid()),
        Holder::ServiceAccount(account) => ("service_account", account.uuid()),
    }
}

/// For the document.
pub(in crate::credentials) fn example() -> Value {
    json!({
        "apiKeyId": "0193a5f0-7b1c-7000-8000-000000000003", "fingerprint": "SHA256:n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg",
        "last4": "x3Zq", "display_name": "ci", "status": "active", "scopes": ["inference:invoke", "models:read"],
        "issuedAt": "2026-11-01T09:00:00Z", "principalType": "user",
        "principalId": "0193a5f0-7b1c-7000-8000-000000000002", "userId": "0193a5f0-7b1c-7000-8000-000000000002",
        "annotations": {}, "createdAt": "2026-11-01T09:00:00Z", "updatedAt": "2026-11-01T09:00:00Z",
    })
}

fn one(key: &ApiKey, now: DateTime<Utc>) -> HttpResponse {
    let answer = answer::json(StatusCode::OK, &ApiKeyView::of(key, now));
    answer::respond(&etag::tagged(answer, key.version))
}

// Issue and rotate -----------------------------------------------------------------------------------------------

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct IssueKey {
    #[serde(rename = "display_name", alias = "displayName")]
    #[schema(value_type = Option<schema::Name>)]
    display_name: Option<String>,
    /// `inference:invoke` and `models:read` when left out; `admin`: all that the holder may do.
    #[schema(value_type = Option<Vec<schema::ScopeName>>)]
    scopes: Option<Vec<String>>,
    /// 1 to 3650; no end when left out.
    #[serde(default, deserialize_with = "extract::whole")]
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<i64>,
    #[schema(value_type = Option<Object>)]
    annotations: Option<Value>,
    /// Networks from which the key may be used.
    allowed_cidrs: Option<Vec<String>>,
    /// Kept for the gateways that enforce it.
    #[schema(value_type = Option<Object>)]
    rate_limit: Option<Value>,
}

impl IssueKey {
    fn new_key(self, now: DateTime<Utc>) -> Result<NewKey, KeyError> {
        Ok(NewKey {
            display_name: parse_name(&self.display_name.unwrap_or_default())?,
            scopes: parse_scopes(&self.scopes.unwrap_or_default())?,
            expires_at: parse_days(self.expires_in_days, now)?,
            allowed_cidrs: parse_cidrs(&self.allowed_cidrs.unwrap_or_default())?,
            rate_limit: rate_limit(self.rate_limit)?,
            annotations: annotations(self.annotations)?.unwrap_or_default(),
        })
    }
}

fn annotations(value: Option<Value>) -> Result<Option<Metadata>, KeyError> {
    value.map(|value| Metadata::parse(value).ok_or(KeyError::AnnotationsInvalid)).transpose()
}

fn rate_limit(value: Option<Value>) -> Result<Option<Value>, KeyError> {
    let parse = |value| Metadata::parse(value).ok_or(KeyError::RateLimitInvalid).map(Metadata::into_value);
    value.map(parse).transpose()
}

/// A key just made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct IssuedKeyView {
    api_key_id: Uuid,
    /// Shown this once; put in where the answer is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required)]
    secret: Option<&'static str>,
    fingerprint: String,
    status: &'static str,
    scopes: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<DateTime<Utc>>,
}

fn issued(issued: &IssuedKey) -> Answer {
    let key = &issued.key;
    let view = IssuedKeyView {
        api_key_id: key.id.uuid(),
        secret: None,
        fingerprint: key.fingerprint.clone(),
        status: key.status.as_str(),
        scopes: key.scopes.names().collect(),
        expires_at: key.expires_at,
    };
    let answer = answer::json(StatusCode::CREATED, &view);
    let answer = answer::with_secret(answer, "secret", Secret::new(issued.secret.expose().to_owned()));
    answer::with_header(answer, LOCATION.as_str(), format!("/v1/orgs/{}/api-keys/{}", key.org, key.id))
}

fn issued_example() -> Value {
    json!({
        "apiKeyId": "0193a5f0-7b1c-7000-8000-000000000003", "secret": "idk_…", "status": "active",
        "fingerprint": "SHA256:n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg", "scopes": ["inference:invoke", "models:read"],
    })
}

/// Issues a key for a member.
///
/// The secret is in the answer, this once. The key acts as the member, within its scopes.
#[utoipa::path(
    tag = "api keys",
    params(("org" = String, Path, description = "UUID or slug"),
        ("id" = Uuid, Path, description = "The membership, or its person")),
    request_body(content = Option<IssueKey>, example = json!({ "display_name": "ci", "expiresInDays": 90 })),
    extensions(("x-action" = json!("keys:issue"))),
    responses(
        (status = 201, description = "The key and its secret", body = IssuedKeyView, example = json!(issued_example())),
        (status = 409, description = "HOLDER_NOT_ACTIVE"),
    )
)]
#[post("/v1/orgs/{org}/users/{id}/api-keys")]
async fn issue_user_key(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(id): IdPath<named::User>,
    work: web::Data<Work>,
    JsonOrNothing(body): JsonOrNothing<IssueKey>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(issued);
    let user = work.state().user_by_either(org, id.uuid()).unwrap_or(UserId::from_uuid(id.uuid()));
    let key = service::issue_key(&work, &ctx, org, Holder::User(user), body.new_key(ctx.now)?).await?;
    Ok(answer::respond(&issued(&key)))
}

/// Issues a key for a service account.
///
/// The secret is in the answer, this once. The key acts as the service account, within its scopes.
#[utoipa::path(
    tag = "api keys",
    params(("org" = String, Path, description = "UUID or slug"), ("id" = Uuid, Path, description = "The service account")),
    request_body(content = Option<IssueKey>, example = json!({ "display_name": "router" })),
    extensions(("x-action" = json!("keys:issue"))),
    responses(
        (status = 201, description = "The key and its secret", body = IssuedKeyView, example = json!(issued_example())),
        (status = 409, description = "HOLDER_NOT_ACTIVE"),
    )
)]
#[post("/v1/orgs/{org}/service-accounts/{id}/api-keys")]
async fn issue_service_account_key(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(account): IdPath<named::ServiceAccount>,
    work: web::Data<Work>,
    JsonOrNothing(body): JsonOrNothing<IssueKey>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(issued);
    let holder = Holder::ServiceAccount(account);
    let key = service::issue_key(&work, &ctx, org, holder, body.new_key(ctx.now)?).await?;
    Ok(answer::respond(&issued(&key)))
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::credentials) struct RotateKey {
    /// How long the old key goes on: 0 to 2592000; 86400 when left out.
    #[serde(default, deserialize_with = "extract::whole")]
    #[schema(minimum = 0, maximum = 2_592_000)]
    overlap_seconds: Option<i64>,
    /// One line, for the audit log.
    #[schema(value_type = Option<schema::Reason>)]
    reason: Option<String>,
}

impl RotateKey {
    pub(in crate::credentials) fn parse(self) -> Result<(TimeDelta, Option<Reason>), KeyError> {
        Ok((parse_overlap(self.overlap_seconds)?, reason(self.reason)?))
    }
}

fn reason(text: Option<String>) -> Result<Option<Reason>, KeyError> {
    text.map(|text| Reason::parse(&text).ok_or(KeyError::ReasonInvalid)).transpose()
}

/// Rotates a key.
///
/// A new key takes over; the old one goes on until the overlap ends.
#[utoipa::path(
    tag = "api keys",
    params(("org" = String, Path, description = "UUID or slug"), ("id" = Uuid, Path, description = "The key")),
    request_body(content = Option<RotateKey>, example = json!({ "overlapSeconds": 3600, "reason": "quarterly" })),
    extensions(("x-action" = json!("keys:rotate"))),
    responses(
        (status = 201, description = "The new key and its secret", body = IssuedKeyView,
            example = json!(issued_example())),
        (status = 409, description = "KEY_STATUS_CONFLICT or HOLDER_NOT_ACTIVE"),
    )
)]
#[post("/v1/orgs/{org}/api-keys/{id}/rotate")]
async fn rotate_key(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(key): IdPath<named::Key>,
    work: web::Data<Work>,
    JsonOrNothing(body): JsonOrNothing<RotateKey>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(issued);
    let (overlap, reason) = body.parse()?;
    let key = service::rotate_key(&work, &ctx, org, key, overlap, reason).await?;
    Ok(answer::respond(&issued(&key)))
}

// Read, change, revoke -------------------------------------------------------------------------------------------

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
struct KeyQuery {
    /// Only keys in this state, as stored: an expired key is `active` or `rotating`.
    #[param(required = false, value_type = String, pattern = "^(active|rotating|quarantined|revoked)?$")]
    status: Option<String>,
}

/// The keys of an organization.
#[utoipa::path(
    tag = "api keys",
    params(("org" = String, Path, description = "UUID or slug"), PageQuery, KeyQuery),
    extensions(("x-action" = json!("keys:read"))),
    responses((status = 200, description = "A page of keys", body = [ApiKeyView], example = json!([example()])))
)]
#[get("/v1/orgs/{org}/api-keys")]
async fn list_keys(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    request: HttpRequest,
    work: web::Data<Work>,
    page: web::Query<PageQuery>,
    query: web::Query<KeyQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.page(page::DEFAULT_LONG)?;
    let status = page::status(query.status.as_deref(), KeyStatus::parse, KeyStatus::WORDS)?;
    let keys = service::list_keys(&work, &ctx, org, KeyFilter { holder: None, status }, page).await?;
    let views: Vec<ApiKeyView> = keys.iter().map(|key| ApiKeyView::of(key, ctx.now)).collect();
    Ok(page::respond(&request, page, &views, views.last().map(|key| key.api_key_id)))
}

/// One key.
#[utoipa::path(
    tag = "api keys",
    params(("org" = String, Path, description = "UUID or slug"), ("id" = Uuid, Path, description = "The key")),
    extensions(("x-action" = json!("keys:read"))),
    responses((status = 200, description = "The key", body = ApiKeyView, example = json!(example())))
)]
#[get("/v1/orgs/{org}/api-keys/{id}")]
async fn get_key(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(key): IdPath<named::Key>,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    Ok(one(&service::get_key(&work, &ctx, org, key).await?, ctx.now))
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::credentials) struct UpdateKey {
    #[serde(rename = "display_name", alias = "displayName")]
    #[schema(value_type = Option<schema::Name>)]
    display_name: Option<String>,
    #[schema(value_type = Option<Vec<schema::ScopeName>>)]
    scopes: Option<Vec<String>>,
    #[serde(alias = "expires_at")]
    expires_at: Option<DateTime<Utc>>,
    allowed_cidrs: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    rate_limit: Option<Value>,
    /// Replaces what was there.
    #[schema(value_type = Option<Object>)]
    annotations: Option<Value>,
}

impl UpdateKey {
    pub(in crate::credentials) fn patch(self, now: DateTime<Utc>) -> Result<KeyPatch, KeyError> {
        Ok(KeyPatch {
            display_name: self.display_name.map(|name| parse_name(&name)).transpose()?,
            scopes: self.scopes.map(|scopes| parse_scopes(&scopes)).transpose()?,
            expires_at: self.expires_at.map(|at| parse_expiry(at, now)).transpose()?,
            allowed_cidrs: self.allowed_cidrs.map(|networks| parse_cidrs(&networks)).transpose()?,
            rate_limit: rate_limit(self.rate_limit)?,
            annotations: annotations(self.annotations)?,
        })
    }
}

/// Changes a key.
///
/// Only what is sent changes.
#[utoipa::path(
    tag = "api keys",
    params(("org" = String, Path, description = "UUID or slug"), ("id" = Uuid, Path, description = "The key"),
        IfMatchParam),
    request_body(content = UpdateKey, example = json!({ "display_name": "ci (staging)" })),
    extensions(("x-action" = json!("keys:issue"))),
    responses(
        (status = 200, description = "The key as it is now", body = ApiKeyView, example = json!(example())),
        (status = 409, description = "KEY_STATUS_CONFLICT"),
        (status = 412, description = "VERSION_MISMATCH"),
    )
)]
#[patch("/v1/orgs/{org}/api-keys/{id}")]
async fn update_key(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(key): IdPath<named::Key>,
    work: web::Data<Work>,
    if_match: IfMatch,
    Json(body): Json<UpdateKey>,
) -> Result<HttpResponse, Problem> {
    let key = service::update_key(&work, &ctx, org, key, body.patch(ctx.now)?, if_match).await?;
    Ok(one(&key, ctx.now))
}

#[derive(Default, Deserialize, ToSchema)]
pub(in crate::credentials) struct RevokeKey {
    /// One line, for the audit log.
    #[schema(value_type = Option<schema::Reason>)]
    reason: Option<String>,
}

impl RevokeKey {
    pub(in crate::credentials) fn reason(self) -> Result<Option<Reason>, KeyError> {
        reason(self.reason)
    }
}

/// Revokes a key.
///
/// For good, and everywhere within a second. Revoking it again changes nothing.
#[utoipa::path(
    tag = "api keys",
    params(("org" = String, Path, description = "UUID or slug"), ("id" = Uuid, Path, description = "The key"),
        IfMatchParam),
    extensions(("x-action" = json!("keys:revoke"))),
    responses((status = 204, description = "It is revoked"), (status = 412, description = "VERSION_MISMATCH"))
)]
#[delete("/v1/orgs/{org}/api-keys/{id}")]
async fn delete_key(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(key): IdPath<named::Key>,
    work: web::Data<Work>,
    if_match: IfMatch,
) -> Result<HttpResponse, Problem> {
    service::revoke_key(&work, &ctx, org, key, None, if_match).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Revokes a key, with a reason.
///
/// For good, and everywhere within a second. Revoking it again changes nothing.
#[utoipa::path(
    tag = "api keys",
    params(("org" = String, Path, description = "UUID or slug"), ("id" = Uuid, Path, description = "The key")),
    request_body(content = Option<RevokeKey>, example = json!({ "reason": "left on a train" })),
    extensions(("x-action" = json!("keys:revoke"))),
    responses((status = 204, description = "It is revoked"))
)]
#[post("/v1/orgs/{org}/api-keys/{id}/revoke")]
async fn revoke_key(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(key): IdPath<named::Key>,
    work: web::Data<Work>,
    JsonOrNothing(body): JsonOrNothing<RevokeKey>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(answer::no_content::<()>);
    service::revoke_key(&work, &ctx, org, key, body.reason()?, IfMatch::default()).await?;
    Ok(HttpResponse::NoContent().finish())
}
