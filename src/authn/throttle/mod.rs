//! What slows guessing down: a delay that grows with each wrong secret, by account and by network.
//!
//! Only wrong secrets count, nobody is locked out for good by others: an account's hard stop is lifted by an
//! administrator, and a network's delay never passes fifteen minutes. In front of that stands a bucket for each
//! network, which bounds floods before a password is looked at and may be lost at any time.
mod error;
pub(super) mod http;
mod model;
mod service;
mod store;

pub(super) use error::Throttled;
pub use service::clear;
pub(super) use service::{Subjects, check, failed};
pub use store::purge_old;
