//! What other services build on: what they must forget of what they were told.
pub mod decision_log;
mod revocations;

use utoipa_actix_web::service_config::ServiceConfig;

/// Its routes.
pub fn routes(config: &mut ServiceConfig<'_>) {
    config.configure(revocations::routes);
}
