//! The roles that members can have. In this release all are system roles, which no org can change.
pub(super) mod http;
