//! Sessions: one sign-in each, with the family of refresh tokens that hangs on it.
//!
//! **Invariant:** a session that ended before its time is a fact, so its access tokens are dead everywhere.
pub(super) mod http;
mod model;
mod refresh;
mod service;
mod store;

pub(super) use model::{NewSession, Session};
pub(super) use refresh::{Refreshed, turn_over};
pub(super) use service::end_session;
pub use service::purge_sessions;
pub(super) use service::{by_refresh_token, end_all, session_by_cookie};
pub use store::purge_expired;
pub(super) use store::{insert, insert_refresh};
