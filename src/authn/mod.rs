//! Signing in: passwords, sessions with their refresh families, and what slows guessing down.
//!
//! **Invariant:** of a refresh family one token is live; whoever uses another than that ends the family.
//! **Invariant:** every failure to sign in answers the same, in the same time, whatever the cause.
//! **Invariant:** a password is stored as Argon2id with a pepper, and nowhere else.
mod me;
mod pages;
mod passwords;
mod published_keys;
mod schema;
mod sessions;
mod sign_in;
mod throttle;

pub use pages::{PAGES, html, html_telling, page_routes, same_origin};
pub use passwords::{
    NewPassword, PasswordError, has_password, hash_password, reset_password, store_hash, verify_for,
};
pub use sessions::{purge_expired, purge_sessions};
pub use throttle::{clear as clear_throttle, purge_old as purge_old_throttle};

use utoipa_actix_web::service_config::ServiceConfig;

/// Its routes.
pub fn routes(config: &mut ServiceConfig<'_>) {
    me::http::routes(config);
    passwords::http::routes(config);
    published_keys::http::routes(config);
    sessions::http::routes(config);
    sign_in::http::routes(config);
    throttle::http::routes(config);
}
