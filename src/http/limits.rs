//! Room and time: so many requests at once, so long for each; the others answer 503 and say when to come again.
use super::problem::Problem;
use crate::platform::metrics::Metrics;
use actix_web::{
    Error,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::StatusCode,
    middleware::Next,
    web,
};
use std::{sync::Arc, time::Duration};
use tokio::sync::Semaphore;

/// The bounds of one process.
#[derive(Clone)]
pub struct Limits {
    pub room: Arc<Semaphore>,
    pub patience: Duration,
    pub metrics: Metrics,
}

/// Sheds what does not fit, and gives up on what takes too long.
pub async fn bound<B: MessageBody + 'static>(
    limits: web::Data<Limits>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    // How it goes must be told most of all when it goes badly; it costs nothing.
    if matches!(request.path(), "/healthz" | "/readyz") {
        return next.call(request).await.map(ServiceResponse::map_into_left_body);
    }
    let Ok(_place) = limits.room.try_acquire() else {
        limits.metrics.request_shed();
        let problem = Problem::retry_after(
            StatusCode::SERVICE_UNAVAILABLE,
            "OVERLOADED",
            "too many requests are being worked on; try again shortly",
            1,
        );
        return Ok(request.error_response(problem).map_into_right_body());
    };
    match tokio::time::timeout(limits.patience, next.call(request)).await {
        Ok(response) => response.map(ServiceResponse::map_into_left_body),
        Err(_) => {
            let problem = Problem::retry_after(
                StatusCode::SERVICE_UNAVAILABLE,
                "TIMEOUT",
                "this took too long and was given up; whether it was done is on the audit log",
                1,
            );
            Err(problem.into())
        }
    }
}
