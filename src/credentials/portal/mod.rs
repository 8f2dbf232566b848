//! The web portal's own path to a person's keys. It exists for that client; the API to use is `/v1`.
pub(super) mod http;
