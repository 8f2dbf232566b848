//! Passwords.
mod error;
pub(super) mod http;
mod model;
mod service;
mod store;

pub use error::PasswordError;
pub(super) use error::busy;
pub use model::NewPassword;
pub(super) use model::normalize;
pub use service::{hash_password, reset_password, verify_for};
pub(super) use store::find as find_hash;
pub(super) use store::holds;
pub use store::{has_password, upsert as store_hash};
