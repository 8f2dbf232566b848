//! The same questions in the words of `AuthZEN` 1.0: `/access/v1`.
pub(super) mod http;
mod model;
mod service;
