//! `POST /v1/me/password`.
use super::{error::problem, service};
use crate::{
    http::{extract::Json, problem::Problem},
    kernel::{Ctx, Secret},
    platform::hasher::Hasher,
    work::Work,
};
use actix_web::{HttpResponse, post, web};
use serde::Deserialize;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

/// Its routes.
pub(in crate::authn) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(change_my_password);
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct ChangePassword {
    #[schema(value_type = String, format = "password")]
    current_password: Secret<String>,
    /// At least 15 characters.
    #[schema(value_type = String, format = "password", min_length = 15, max_length = 128)]
    new_password: Secret<String>,
}

/// Changes the caller's password.
///
/// The caller's other sessions end; this one goes on.
#[utoipa::path(
    tag = "sign-in",
    request_body(content = ChangePassword, example = json!({
        "currentPassword": "correct horse battery staple", "newPassword": "an entirely different phrase",
    })),
    extensions(("x-action" = json!("self:manage")), ("x-rate-limit" = json!("recovery"))),
    responses(
        (status = 204, description = "It is changed"),
        (status = 403, description = "PASSWORD_WRONG, or a policy forbids it"),
        (status = 409, description = "NOT_A_PERSON: keys have no password"),
        (status = 429, description = "TOO_MANY_ATTEMPTS"),
    )
)]
#[post("/v1/me/password")]
async fn change_my_password(
    ctx: Ctx,
    work: web::Data<Work>,
    hasher: web::Data<Hasher>,
    Json(body): Json<ChangePassword>,
) -> Result<HttpResponse, Problem> {
    let (current, new) = (body.current_password, body.new_password);
    let changed = service::change_password(&work, &hasher, &ctx, current, new.expose()).await;
    changed.map_err(|error| problem("newPassword", error))?;
    Ok(HttpResponse::NoContent().finish())
}
