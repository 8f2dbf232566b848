//! `/v1/orgs/{org}/invites`.
use super::{
    model::{Invite, InviteFilter, NewInvite, OpenInvite},
    service,
};
use crate::{
    authorization::Role,
    http::{
        answer,
        extract::{self, IdPath, Json, OrgPath},
        page::{self, PageQuery},
        problem::Problem,
        schema,
    },
    identity::users::http::address,
    kernel::{Answer, Ctx, UserStatus, named},
    work::Work,
};
use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::{StatusCode, header::LOCATION},
    post, web,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Its routes.
pub(in crate::identity) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(create_invite).service(list_invites).service(revoke_invite).service(resend_invite);
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct CreateInvite {
    #[schema(max_length = 254, format = "email")]
    email: String,
    /// Names of roles; `member` when left out.
    #[schema(value_type = Option<Vec<schema::RoleName>>)]
    roles: Option<Vec<String>>,
    /// 1 to 720; 72 when left out.
    #[serde(default, deserialize_with = "extract::whole")]
    #[schema(minimum = 1, maximum = 720)]
    expires_in_hours: Option<i64>,
}

/// An invite: a membership that waits for its person.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Invite)]
struct InviteView {
    invite_id: Uuid,
    /// The same: every call on users takes it.
    user_id: Uuid,
    email: String,
    /// `invited`, or `expired` once it ran out.
    status: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    roles: Vec<Role>,
    expires_at: DateTime<Utc>,
}

fn invited(invite: &Invite) -> Answer {
    let view = InviteView {
        invite_id: invite.user.uuid(),
        user_id: invite.user.uuid(),
        email: invite.email.to_string(),
        status: UserStatus::Invited.as_str(),
        roles: vec![],
        expires_at: invite.expires_at,
    };
    let location = format!("/v1/orgs/{}/users/{}", invite.org, invite.user);
    answer::with_header(answer::json(StatusCode::ACCEPTED, &view), LOCATION.as_str(), location)
}

fn open_invite(invite: &OpenInvite, now: DateTime<Utc>) -> InviteView {
    InviteView {
        invite_id: invite.user.id.uuid(),
        user_id: invite.user.id.uuid(),
        email: invite.user.email.clone(),
        status: if invite.expires_at > now { "invited" } else { "expired" },
        roles: invite.user.roles.clone(),
        expires_at: invite.expires_at,
    }
}

fn invite_example() -> Value {
    json!({
        "inviteId": "0193a5f0-7b1c-7000-8000-000000000002", "userId": "0193a5f0-7b1c-7000-8000-000000000002",
        "email": "ada@example.io", "status": "invited", "expiresAt": "2026-11-04T09:00:00Z",
    })
}

/// Invites an address.
///
/// A mail with a one-time link goes out. An address whose invite ran out is invited again under the same id.
#[utoipa::path(
    tag = "people",
    params(("org" = String, Path, description = "UUID or slug")),
    request_body(content = CreateInvite, example = json!({ "email": "ada@example.io", "roles": ["member"] })),
    extensions(("x-action" = json!("users:invite"))),
    responses(
        (status = 202, description = "The mail is on its way", body = InviteView, example = json!(invite_example())),
        (status = 409, description = "EMAIL_KNOWN, TOO_MANY_OPEN_INVITES or ORG_NOT_ACTIVE"),
    )
)]
#[post("/v1/orgs/{org}/invites")]
async fn create_invite(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    work: web::Data<Work>,
    Json(body): Json<CreateInvite>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(invited);
    let new = NewInvite::parse(&body.email, &body.roles.unwrap_or_default(), body.expires_in_hours)?;
    let invite = service::create_invite(&work, &ctx, org, new).await?;
    Ok(answer::respond(&invited(&invite)))
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct InviteQuery {
    /// Only the invite of this address.
    #[param(required = false, value_type = String)]
    email: Option<String>,
}

/// The invites that nobody has accepted.
///
/// Those that ran out are among them, as `expired`.
#[utoipa::path(
    tag = "people",
    params(("org" = String, Path, description = "UUID or slug"), PageQuery, InviteQuery),
    extensions(("x-action" = json!("users:read"))),
    responses((status = 200, description = "A page of invites", body = [InviteView],
        example = json!([invite_example()])))
)]
#[get("/v1/orgs/{org}/invites")]
async fn list_invites(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    request: HttpRequest,
    work: web::Data<Work>,
    page: web::Query<PageQuery>,
    query: web::Query<InviteQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.page(page::DEFAULT)?;
    let filter = InviteFilter { email: address(query.into_inner().email) };
    let invites = service::list_invites(&work, &ctx, org, filter, page).await?;
    let views: Vec<InviteView> = invites.iter().map(|invite| open_invite(invite, ctx.now)).collect();
    Ok(page::respond(&request, page, &views, views.last().map(|invite| invite.invite_id)))
}

/// Takes an invite back.
#[utoipa::path(
    tag = "people",
    params(("org" = String, Path, description = "UUID or slug"), ("id" = Uuid, Path, description = "The invite")),
    extensions(("x-action" = json!("users:invite"))),
    responses(
        (status = 204, description = "Nobody can accept it any more"),
        (status = 409, description = "USER_STATUS_CONFLICT: it was accepted"),
    )
)]
#[delete("/v1/orgs/{org}/invites/{id}")]
async fn revoke_invite(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(id): IdPath<named::User>,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    service::revoke_invite(&work, &ctx, org, id).await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Sends an invite again.
///
/// With a new link and three new days; the old link is dead.
#[utoipa::path(
    tag = "people",
    params(("org" = String, Path, description = "UUID or slug"), ("id" = Uuid, Path, description = "The invite")),
    extensions(("x-action" = json!("users:invite"))),
    responses(
        (status = 202, description = "The mail is on its way", body = InviteView, example = json!(invite_example())),
        (status = 409, description = "USER_STATUS_CONFLICT: it was accepted"),
    )
)]
#[post("/v1/orgs/{org}/invites/{id}/resend")]
async fn resend_invite(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(id): IdPath<named::User>,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(invited);
    let invite = service::resend_invite(&work, &ctx, org, id).await?;
    Ok(answer::respond(&invited(&invite)))
}
