//! What slows guessing down: a delay that grows with each wrong secret, by account in a network and by network.
//!
//! **Invariant:** only wrong secrets count, and nobody is locked out by others. Who is guessed at from everywhere goes on
//! from where he signed in lately; elsewhere an attempt has to be there when a turn is free. In front of that stand the
//! buckets of `http::limiter`, which bound floods before a password is looked at and may be lost at any time.
mod error;
pub(super) mod http;
mod model;
mod service;
mod store;

pub(super) use error::Throttled;
pub use service::clear;
pub(super) use service::{Subjects, check, failed, succeeded};
pub use store::purge_old;
