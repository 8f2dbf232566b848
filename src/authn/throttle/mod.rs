//! What slows guessing down: a delay that grows with each wrong secret, by account and by network.
//!
//! Only wrong secrets count, nobody is locked out for good by others: an account's hard stop is lifted by an
//! administrator, and a network's delay never passes fifteen minutes.
mod error;
pub(super) mod http;
mod model;
mod service;
mod store;

pub(super) use error::Throttled;
pub use service::clear;
pub(super) use service::{Subjects, check, failed};
pub use store::purge_old;
