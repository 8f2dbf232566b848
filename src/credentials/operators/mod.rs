//! Bootstrap and recovery tokens: how an operator with access to the database lets the first administrator in.
//!
//! **Invariant:** a token makes one org and works on no other; it ends with the first key issued, or after an hour.
mod service;
mod store;

pub use service::{Purpose, issue_operator_token};
pub use store::{bind_org, end};
