//! Who the caller is.
pub(super) mod http;
mod model;

pub(super) use model::UserInfo;
