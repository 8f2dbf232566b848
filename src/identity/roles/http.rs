//! `/v1/orgs/{org}/roles`.
use crate::{
    authorization::{Action, Role, Target},
    http::{extract::OrgPath, problem::Problem},
    kernel::Ctx,
    work::Work,
};
use actix_web::{HttpResponse, get, web};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

/// Its routes.
pub(in crate::identity) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_roles).service(get_role);
}

/// A role and what it allows.
#[derive(Serialize, ToSchema)]
#[schema(as = Role)]
struct RoleView {
    name: &'static str,
    /// System roles cannot be changed.
    system: bool,
    /// The actions that it allows, on everything or on the holder's own.
    permissions: Vec<&'static str>,
}

fn role_view(work: &Work, role: Role) -> RoleView {
    let permissions = work.engine().matrix().effective(&[role], &[]).names().collect();
    RoleView { name: role.as_str(), system: true, permissions }
}

/// The roles that members can have.
#[utoipa::path(
    tag = "people",
    params(("org" = String, Path, description = "UUID or slug")),
    extensions(("x-action" = json!("roles:read"))),
    responses((status = 200, description = "All roles", body = [RoleView],
        example = json!([{ "name": "analyst", "system": true, "permissions": ["orgs:read"] }])))
)]
#[get("/v1/orgs/{org}/roles")]
async fn list_roles(ctx: Ctx, OrgPath(org): OrgPath, work: web::Data<Work>) -> Result<HttpResponse, Problem> {
    drop(work.permit(&ctx, Action::RolesRead, Target::Org(org)).await?);
    let roles: Vec<RoleView> = Role::ALL.iter().map(|role| role_view(&work, *role)).collect();
    Ok(HttpResponse::Ok().json(roles))
}

/// One role.
#[utoipa::path(
    tag = "people",
    params(("org" = String, Path, description = "UUID or slug"), ("role" = String, Path, description = "Its name")),
    extensions(("x-action" = json!("roles:read"))),
    responses((status = 200, description = "The role", body = RoleView,
        example = json!({ "name": "analyst", "system": true, "permissions": ["orgs:read"] })))
)]
#[get("/v1/orgs/{org}/roles/{role}")]
async fn get_role(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    path: web::Path<(String, String)>,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    drop(work.permit(&ctx, Action::RolesRead, Target::Org(org)).await?);
    let role = Role::parse(&path.1).ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok().json(role_view(&work, role)))
}
