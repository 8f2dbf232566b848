//! One question or many, in the words of this API: `/v1/policy`.
mod error;
pub(super) mod http;
mod model;
mod service;
