//! `POST …/users/{id}/unlock`.
use super::service;
use crate::{
    http::{
        answer,
        extract::{IdPath, OrgPath},
        problem::Problem,
    },
    kernel::{Ctx, UserId, named},
    work::Work,
};
use actix_web::{HttpResponse, post, web};
use utoipa_actix_web::service_config::ServiceConfig;

/// Its routes.
pub(in crate::authn) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(unlock_user);
}

/// Unlocks a member.
///
/// Forgets the wrong passwords that were tried on the member's address, so that he need not wait.
#[utoipa::path(
    tag = "people",
    params(("org" = String, Path, description = "UUID or slug"),
        ("id" = Uuid, Path, description = "The membership, or its person")),
    extensions(("x-action" = json!("users:unlock"))),
    responses((status = 204, description = "He can try again"))
)]
#[post("/v1/orgs/{org}/users/{id}/unlock")]
async fn unlock_user(
    ctx: Ctx,
    OrgPath(org): OrgPath,
    IdPath(id): IdPath<named::User>,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    let ctx = ctx.answering(answer::no_content::<()>);
    let user = work.state().user_by_either(org, id.uuid()).unwrap_or(UserId::from_uuid(id.uuid()));
    service::unlock_user(&work, &ctx, org, user).await?;
    Ok(HttpResponse::NoContent().finish())
}
