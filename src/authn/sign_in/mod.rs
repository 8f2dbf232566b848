//! Signing in, going on, signing out.
mod error;
pub(super) mod http;
mod model;
mod service;

pub(super) use error::SignInError;
pub(super) use model::{Attempt, OrgChoice};
pub(super) use service::login_with_cookie;
