//! `/v1/auth/sessions`, and a member's sessions for administrators.
use super::{model::Session, service};
use crate::{
    http::{
        auth::session_of,
        extract::{IdPath, OrgPath},
        page::{self, PageQuery},
        problem::Problem,
    },
    kernel::{Ctx, UserId, named},
    work::Work,
};
use actix_web::{HttpRequest, HttpResponse, delete, get, web};
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Its routes.
pub(in crate::authn) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_sessions).service(end_session).service(revoke_user_sessions);
}

/// A sign-in that is open.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Session)]
struct SessionView {
    session_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    org_id: Option<Uuid>,
    client_id: String,
    /// The one that this request is of.
    current: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    address: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_agent: Option<String>,
    created_at: DateTime<Utc>,
    expires_at: DateTime<Utc>,
}

fn view(session: &Session, ctx: &Ctx) -> SessionView {
    SessionView {
        session_id: session.id.uuid(),
        org_id: session.org.map(|org| org.uuid()),
        client_id: session.client_id.clone(),
        current: session_of(ctx) == Some(session.id),
        address: session.address.clone(),
        user_agent: session.user_agent.clone(),
        created_at: session.created_at,
        expires_at: session.absolute_expires_at,
    }
}

fn example() -> Value {
    json!({
        "sessionId": "0193a5f0-7b1c-7000-8000-000000000005", "clientId": "identityd-login", "current": true,
        "createdAt": "2026-11-01T09:00:00Z", "expiresAt": "2026-12-01T09:00:00Z",
    })
}

/// The caller's own open sessions.
#[utoipa::path(
    tag = "sign-in",
    params(PageQuery),
    extensions(("x-action" = json!("self:manage"))),
    responses((status = 200, description = "A page of sessions", body = [SessionView], example = json!([example()])))
)]
#[get("/v1/auth/sessions")]
async fn list_sessions(
    ctx: Ctx,
    request: HttpRequest,
    work: web::Data<Work>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let page = page.page(page::DEFAULT)?;
    let sessions = service::list_sessions(&work, &ctx, page).await?;
    let views: Vec<SessionView> = sessions.iter().map(|session| view(session, &ctx)).collect();
    Ok(page::respond(&request, page, &views, views.last().map(|session| session.session_id)))
}

/// Ends one of the caller's own sessions.
///
/// Its access and refresh tokens are dead. Ending it again changes nothing.
#[utoipa::path(
    tag = "sign-in",
    params(("id" = Uuid, Path, description = "The session")),
    extensions(("x-action" = json!("self:manage"))),
    responses((status = 204, description = "It is over"))
)]
#[delete("/v1/auth/sessions/{id}")]
async fn end_session(
    ctx: Ctx,
    IdPath(session): IdPath<named::Session>,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    service::end_session(&work, &ctx, session, "ended_by_owner").await?;
    Ok(HttpResponse::NoContent().finish())
}

/// Ends a member's sessions.
///
/// Those that are for this organization; their access and refresh tokens are dead.
#[utoipa::path(
    tag = "people",
    params(("org" = String, Path, description = "UUID or slug"),
        ("id" = Uuid, Path, description = "The membership, or its person")),
    extensions(("x-action" = json!("sessions:revoke"))),
    responses((status = 204, description = "They are over"))
)]
#[delete("/v1/orgs/{org}/users/{id}/sessions")]
async fn revoke_user_sessions(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(id): IdPath<named::User>,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    let user = work.state().user_by_either(org, id.uuid()).unwrap_or(UserId::from_uuid(id.uuid()));
    service::revoke_user_sessions(&work, &ctx, org, user).await?;
    Ok(HttpResponse::NoContent().finish())
}
