//! API keys.
//!
//! **Invariant:** a key acts as its holder, below its scopes, in its holder's org.
mod error;
pub(super) mod http;
mod jobs;
pub(super) mod model;
mod service;
mod store;
pub(super) mod wire;

pub use error::KeyError;
pub use jobs::flush_usage;
pub use model::{ApiKey, IssuedKey, KeyFilter, KeyPatch, NewKey};
pub use service::{get_key, issue_key, list_keys, list_keys_of, revoke_key, rotate_key, update_key};
pub use store::{purge_org, purge_user};
