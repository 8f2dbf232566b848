//! Health and metrics, for whoever runs this.
use super::problem::Problem;
use crate::platform::{
    health::{Dependency, Health},
    metrics::Metrics,
};
use actix_web::{HttpResponse, get, http::StatusCode, web};
use serde::Serialize;
use std::collections::BTreeMap;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;

/// Alive and ready.
pub fn health_routes(config: &mut ServiceConfig<'_>) {
    config.service(healthz).service(readyz);
}

/// Counters.
pub fn metrics_routes(config: &mut ServiceConfig<'_>) {
    config.service(metrics);
}

#[derive(Serialize, ToSchema)]
struct Alive {
    /// `ok`.
    status: &'static str,
}

/// Is the process alive?
///
/// Says nothing about its dependencies: a restart would not mend them.
#[utoipa::path(
    tag = "operations",
    security(()),
    responses((status = 200, description = "It is", body = Alive, example = json!({ "status": "ok" })))
)]
#[get("/healthz")]
async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(Alive { status: "ok" })
}

#[derive(Serialize, ToSchema)]
struct Ready {
    /// `ready`, or `unavailable` when something that a request needs does not answer, or this process is stopping.
    status: &'static str,
    /// Each dependency by name.
    #[schema(value_type = Object)]
    dependencies: BTreeMap<&'static str, Dependency>,
}

/// Should requests be sent here?
///
/// Names each dependency. One that a request can do without shows as failing and leaves the process ready.
#[utoipa::path(
    tag = "operations",
    security(()),
    responses(
        (status = 200, description = "They should", body = Ready,
            example = json!({ "status": "ready", "dependencies": { "postgres": { "status": "ok", "required": true } } })),
        (status = 503, description = "They should not; the body is the same, with `status: unavailable`", body = Ready,
            content_type = "application/json"),
    )
)]
#[get("/readyz")]
async fn readyz(health: web::Data<Health>) -> HttpResponse {
    let dependencies = health.all();
    match health.is_ready() {
        true => HttpResponse::Ok().json(Ready { status: "ready", dependencies }),
        false => HttpResponse::ServiceUnavailable().json(Ready { status: "unavailable", dependencies }),
    }
}

/// What this process has counted.
///
/// In the OpenMetrics text format.
#[utoipa::path(
    tag = "operations",
    security(()),
    responses((status = 200, description = "OpenMetrics text", body = String, content_type = "application/openmetrics-text"))
)]
#[get("/metrics")]
async fn metrics(metrics: web::Data<Metrics>) -> Result<HttpResponse, Problem> {
    const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    let text = metrics.render().map_err(|_| {
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "INTERNAL", "the metrics cannot be written")
    })?;
    Ok(HttpResponse::Ok().content_type(OPEN_METRICS).body(text))
}
