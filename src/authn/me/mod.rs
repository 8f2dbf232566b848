//! Who the caller is.
pub(super) mod http;
mod model;
mod wire;

pub(super) use wire::UserInfo;
