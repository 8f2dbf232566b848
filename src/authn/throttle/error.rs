//! Not now.
use crate::http::problem::Problem;
use actix_web::http::{
    StatusCode,
    header::{HeaderName, HeaderValue},
};
use std::fmt;

const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// No step of a ladder is longer: what is, is a hard stop.
const STEP_SECONDS_MAX: u64 = 86_400;

/// Too much: try again after so many seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Throttled {
    /// Wrong secrets.
    Failures { retry_after_seconds: u64 },
    /// Attempts of one network, right or wrong.
    Network { retry_after_seconds: u64 },
}

impl Throttled {
    fn retry_after_seconds(self) -> u64 {
        match self {
            Self::Failures { retry_after_seconds } | Self::Network { retry_after_seconds } => {
                retry_after_seconds
            }
        }
    }
}

impl fmt::Display for Throttled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures { retry_after_seconds: seconds @ ..=STEP_SECONDS_MAX } => {
                write!(f, "too many failed attempts; try again in {seconds} seconds")
            }
            Self::Failures { .. } => {
                f.write_str("too many failed attempts; an administrator can unlock this account")
            }
            Self::Network { retry_after_seconds } => {
                write!(f, "too many attempts from this network; try again in {retry_after_seconds} seconds")
            }
        }
    }
}

impl From<Throttled> for Problem {
    fn from(throttled: Throttled) -> Self {
        const STATUS: StatusCode = StatusCode::TOO_MANY_REQUESTS;
        let seconds = throttled.retry_after_seconds();
        let problem = Self::retry_after(STATUS, "TOO_MANY_ATTEMPTS", throttled, seconds)
            .member("error", "slow_down")
            .member("error_description", throttled.to_string());
        match HeaderValue::from_str(&format!("\"sign-in\";r=0;t={seconds}")) {
            Ok(limit) => problem.header(RATE_LIMIT, limit),
            Err(_) => problem,
        }
    }
}
