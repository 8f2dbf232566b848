//! `/v1/orgs/{org}/api-keys`, and keys of users and service accounts.
use super::{
    model::{ApiKey, KeyFilter},
    service,
    wire::{
        ApiKeyView, IssueKey, IssuedKeyView, KeyQuery, RevokeKey, RotateKey, UpdateKey, example, issued,
        issued_example,
    },
};
use crate::{
    authorization::Holder,
    http::{
        answer,
        etag::{self, IfMatch, IfMatchParam},
        extract::{IdPath, Json, JsonOrNothing, OrgPath},
        page::{self, PageQuery},
        problem::Problem,
    },
    kernel::{Ctx, KeyStatus, UserId, named},
    work::Work,
};
use actix_web::{HttpRequest, HttpResponse, delete, get, http::StatusCode, patch, post, web};
use chrono::{DateTime, Utc};
use utoipa_actix_web::service_config::ServiceConfig;

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

fn one(key: &ApiKey, now: DateTime<Utc>) -> HttpResponse {
    let answer = answer::json(StatusCode::OK, &ApiKeyView::of(key, now));
    answer::respond(&etag::tagged(answer, key.version))
}

// Issue and rotate -----------------------------------------------------------------------------------------------

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
    let ctx = ctx.answering(answer::no_content::<bool>);
    service::revoke_key(&work, &ctx, org, key, body.reason()?, IfMatch::default()).await?;
    Ok(HttpResponse::NoContent().finish())
}
