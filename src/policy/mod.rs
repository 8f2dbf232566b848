//! The decision point that other services build on: may this principal do that, now?
//!
//! **Invariant:** whoever asks learns only about orgs on which it is permitted to ask, `policies:evaluate`.
//! **Invariant:** an answer rests on what the authorization state knows at the revision it names; what the caller claims
//! narrows it. It is signed together with the question, so that it cannot be shown for another.
mod authzen;
pub mod decision_log;
mod decisions;
mod revocations;

use utoipa_actix_web::service_config::ServiceConfig;

/// Its routes.
pub fn routes(config: &mut ServiceConfig<'_>) {
    decisions::http::routes(config);
    authzen::http::routes(config);
    revocations::routes(config);
}
