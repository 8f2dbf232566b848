//! `/organizations/me/api-keys`: `me` is the token's org and user. Keys carry two sets of names here.
use crate::{
    authorization::Holder,
    credentials::api_keys::{
        self, ApiKey, IssuedKey, NewKey,
        model::{parse_expiry, parse_name, parse_scopes},
        wire::{ApiKeyView, RevokeKey, RotateKey, UpdateKey},
    },
    http::{
        answer,
        auth::{Caller, current_holder},
        etag::{self, IfMatch},
        extract::{IdPath, Json, JsonOrNothing},
        page::{self, PageQuery},
        problem::Problem,
        schema,
    },
    kernel::{AccessClaims, Answer, Ctx, KeyId, Metadata, OrgId, Secret, named},
    work::Work,
};
use actix_web::{HttpRequest, HttpResponse, get, http::StatusCode, patch, post, web};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Its routes.
pub(in crate::credentials) fn routes(config: &mut ServiceConfig<'_>) {
    config
        .service(list_my_keys)
        .service(issue_my_key)
        .service(get_my_key)
        .service(update_my_key)
        .service(rotate_my_key)
        .service(revoke_my_key);
}

/// A key under both sets of names.
#[derive(Serialize, ToSchema)]
#[schema(as = PortalApiKey)]
struct PortalKeyView {
    #[serde(flatten)]
    key: ApiKeyView,
    key_id: Uuid,
    created_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_used_at: Option<DateTime<Utc>>,
    /// In the answer that makes the key, and in no other; put in where that is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, nullable = false)]
    secret: Option<&'static str>,
}

fn view(key: &ApiKey, now: DateTime<Utc>) -> PortalKeyView {
    PortalKeyView {
        key: ApiKeyView::of(key, now),
        key_id: key.id.uuid(),
        created_at: key.issued_at,
        expires_at: key.expires_at,
        last_used_at: key.last_used_at,
        secret: None,
    }
}

fn one(key: &ApiKey, now: DateTime<Utc>) -> HttpResponse {
    let answer = answer::json(StatusCode::OK, &view(key, now));
    answer::respond(&etag::tagged(answer, key.version))
}

fn issued(issued: &IssuedKey) -> Answer {
    let answer = answer::json(StatusCode::CREATED, &view(&issued.key, issued.key.issued_at));
    answer::with_secret(answer, "secret", Secret::new(issued.secret.expose().to_owned()))
}

fn example() -> Value {
    let mut example = api_keys::wire::example();
    if let Value::Object(names) = &mut example {
        for (name, twin) in [("apiKeyId", "key_id"), ("createdAt", "created_at")] {
            if let Some(value) = names.get(name).cloned() {
                names.insert(twin.to_owned(), value);
            }
        }
    }
    example
}

/// Whose keys: the caller's own, in the org of the token.
fn mine(work: &Work, ctx: &Ctx, claims: Option<&AccessClaims>) -> Result<(OrgId, Holder), Problem> {
    let none = || {
        let detail = "the access token names no organization; sign in to one";
        Problem::new(StatusCode::CONFLICT, "ORG_SELECTION_REQUIRED", detail)
    };
    current_holder(work, ctx, claims).ok_or_else(none)
}

/// A key of the caller's own; others' are not there.
fn my_key(work: &Work, key: KeyId, org: OrgId, holder: Holder) -> Result<KeyId, Problem> {
    let known = work.state().key(key).filter(|known| known.org == org && known.holder == holder);
    known.map(|known| known.key).ok_or_else(Problem::not_found)
}

/// The caller's own keys.
#[utoipa::path(
    tag = "api keys",
    params(PageQuery),
    extensions(("x-action" = json!("keys:read"))),
    responses((status = 200, description = "A page of keys", body = [PortalKeyView], example = json!([example()])),
        (status = 409, description = "ORG_SELECTION_REQUIRED"))
)]
#[get("/organizations/me/api-keys")]
async fn list_my_keys(
    Caller(ctx, claims): Caller,
    request: HttpRequest,
    work: web::Data<Work>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let (org, holder) = mine(&work, &ctx, claims.as_ref())?;
    let page = page.page(page::DEFAULT_LONG)?;
    let keys = api_keys::list_keys_of(&work, &ctx, org, holder, page).await?;
    let views: Vec<PortalKeyView> = keys.iter().map(|key| view(key, ctx.now)).collect();
    Ok(page::respond(&request, page, &views, views.last().map(|key| key.key_id)))
}

#[derive(Deserialize, ToSchema)]
struct IssueMyKey {
    #[schema(value_type = Option<schema::KeyName>)]
    display_name: Option<String>,
    #[schema(value_type = Option<Vec<schema::ScopeName>>)]
    scopes: Option<Vec<String>>,
    expires_at: Option<DateTime<Utc>>,
}

/// Under the name that it has here.
fn expiry(at: DateTime<Utc>, now: DateTime<Utc>) -> Result<DateTime<Utc>, Problem> {
    parse_expiry(at, now).map_err(|error| Problem::invalid("expires_at", "EXPIRY_INVALID", error))
}

/// Issues a key for the caller.
///
/// The secret is in the answer, this once.
#[utoipa::path(
    tag = "api keys",
    request_body(content = IssueMyKey, example = json!({ "display_name": "laptop", "scopes": ["inference:invoke"] })),
    extensions(("x-action" = json!("keys:issue"))),
    responses((status = 201, description = "The key and its secret", body = PortalKeyView, example = json!(example())),
        (status = 409, description = "ORG_SELECTION_REQUIRED or HOLDER_NOT_ACTIVE"))
)]
#[post("/organizations/me/api-keys")]
async fn issue_my_key(
    Caller(ctx, claims): Caller,
    work: web::Data<Work>,
    Json(body): Json<IssueMyKey>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(issued);
    let (org, holder) = mine(&work, &ctx, claims.as_ref())?;
    let new = NewKey {
        display_name: parse_name(&body.display_name.unwrap_or_default())?,
        scopes: parse_scopes(&body.scopes.unwrap_or_default())?,
        expires_at: body.expires_at.map(|at| expiry(at, ctx.now)).transpose()?,
        allowed_cidrs: vec![],
        rate_limit: None,
        annotations: Metadata::default(),
    };
    let key = api_keys::issue_key(&work, &ctx, org, holder, new).await?;
    Ok(answer::respond(&issued(&key)))
}

/// One of the caller's own keys.
#[utoipa::path(
    tag = "api keys",
    params(("id" = Uuid, Path, description = "The key")),
    extensions(("x-action" = json!("keys:read"))),
    responses((status = 200, description = "The key", body = PortalKeyView, example = json!(example())),
        (status = 409, description = "ORG_SELECTION_REQUIRED"))
)]
#[get("/organizations/me/api-keys/{id}")]
async fn get_my_key(
    Caller(ctx, claims): Caller,
    IdPath(key): IdPath<named::Key>,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    let (org, holder) = mine(&work, &ctx, claims.as_ref())?;
    let key = api_keys::get_key(&work, &ctx, org, my_key(&work, key, org, holder)?).await?;
    Ok(one(&key, ctx.now))
}

/// Changes one of the caller's own keys.
#[utoipa::path(
    tag = "api keys",
    params(("id" = Uuid, Path, description = "The key")),
    request_body(content = UpdateKey, example = json!({ "display_name": "old laptop" })),
    extensions(("x-action" = json!("keys:issue"))),
    responses((status = 200, description = "The key as it is now", body = PortalKeyView, example = json!(example())),
        (status = 409, description = "ORG_SELECTION_REQUIRED or KEY_STATUS_CONFLICT"))
)]
#[patch("/organizations/me/api-keys/{id}")]
async fn update_my_key(
    Caller(ctx, claims): Caller,
    IdPath(key): IdPath<named::Key>,
    work: web::Data<Work>,
    if_match: IfMatch,
    Json(body): Json<UpdateKey>,
) -> Result<HttpResponse, Problem> {
    let (org, holder) = mine(&work, &ctx, claims.as_ref())?;
    let (key, patch) = (my_key(&work, key, org, holder)?, body.patch(ctx.now)?);
    let key = api_keys::update_key(&work, &ctx, org, key, patch, if_match).await?;
    Ok(one(&key, ctx.now))
}

/// Rotates one of the caller's own keys.
#[utoipa::path(
    tag = "api keys",
    params(("id" = Uuid, Path, description = "The key")),
    request_body(content = Option<RotateKey>, example = json!({ "overlapSeconds": 3600 })),
    extensions(("x-action" = json!("keys:rotate"))),
    responses((status = 201, description = "The new key and its secret", body = PortalKeyView,
        example = json!(example())), (status = 409, description = "ORG_SELECTION_REQUIRED or KEY_STATUS_CONFLICT"))
)]
#[post("/organizations/me/api-keys/{id}/rotate")]
async fn rotate_my_key(
    Caller(ctx, claims): Caller,
    IdPath(key): IdPath<named::Key>,
    work: web::Data<Work>,
    JsonOrNothing(body): JsonOrNothing<RotateKey>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(issued);
    let (org, holder) = mine(&work, &ctx, claims.as_ref())?;
    let (key, (overlap, reason)) = (my_key(&work, key, org, holder)?, body.parse()?);
    let key = api_keys::rotate_key(&work, &ctx, org, key, overlap, reason).await?;
    Ok(answer::respond(&issued(&key)))
}

/// Revokes one of the caller's own keys.
#[utoipa::path(
    tag = "api keys",
    params(("id" = Uuid, Path, description = "The key")),
    request_body(content = Option<RevokeKey>, example = json!({ "reason": "laptop sold" })),
    extensions(("x-action" = json!("keys:revoke"))),
    responses((status = 204, description = "It is revoked"), (status = 409, description = "ORG_SELECTION_REQUIRED"))
)]
#[post("/organizations/me/api-keys/{id}/revoke")]
async fn revoke_my_key(
    Caller(ctx, claims): Caller,
    IdPath(key): IdPath<named::Key>,
    work: web::Data<Work>,
    JsonOrNothing(body): JsonOrNothing<RevokeKey>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(answer::no_content::<bool>);
    let (org, holder) = mine(&work, &ctx, claims.as_ref())?;
    let key = my_key(&work, key, org, holder)?;
    api_keys::revoke_key(&work, &ctx, org, key, body.reason()?, IfMatch::default()).await?;
    Ok(HttpResponse::NoContent().finish())
}
