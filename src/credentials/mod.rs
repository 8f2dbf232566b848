//! Long-lived credentials: API keys of people and machines, the machines themselves, and bootstrap tokens.
//!
//! **Invariant:** a secret is shown once, to whoever had it made; stored are its HMAC and its fingerprint.
//! **Invariant:** every change of a key, a machine or a bootstrap token is a fact, so it binds everywhere.
pub mod api_keys;
pub mod operators;
mod portal;
mod schema;
pub mod service_accounts;
mod validation;

use utoipa_actix_web::service_config::ServiceConfig;

/// Its routes.
pub fn routes(config: &mut ServiceConfig<'_>) {
    api_keys::http::routes(config);
    portal::http::routes(config);
    service_accounts::http::routes(config);
}

/// Checking keys, which callers inside the cluster do too.
pub fn validation_routes(config: &mut ServiceConfig<'_>) {
    validation::http::routes(config);
}
