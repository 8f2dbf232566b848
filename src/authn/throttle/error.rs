//! Not now.
use crate::http::problem::Problem;
use actix_web::http::StatusCode;

/// Too many wrong secrets: try again after so many seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("too many failed attempts; try again in {retry_after_seconds} seconds")]
pub struct Throttled {
    pub retry_after_seconds: u64,
}

impl From<Throttled> for Problem {
    fn from(throttled: Throttled) -> Self {
        const STATUS: StatusCode = StatusCode::TOO_MANY_REQUESTS;
        Self::retry_after(STATUS, "TOO_MANY_ATTEMPTS", throttled, throttled.retry_after_seconds)
            .member("error", "slow_down")
            .member("error_description", throttled.to_string())
    }
}
