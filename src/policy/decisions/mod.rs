//! One question or many, in the words of this API: `/v1/policy`.
mod error;
pub(super) mod http;
mod model;
mod service;

pub use error::PolicyError;
pub use model::{Answer, Asked, Named};
pub use service::{answer, permit, reach, refused, sign};
