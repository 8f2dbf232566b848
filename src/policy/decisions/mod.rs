//! One question or many, in the words of this API: `/v1/policy`.
mod error;
pub(super) mod http;
mod model;
mod service;

pub(super) use error::PolicyError;
pub(super) use http::{QUESTIONS_MAX, address, revision};
pub(super) use model::{Answer, Asked, Named, bounded};
pub(super) use service::{answer, permit, reach, refused, signed};
