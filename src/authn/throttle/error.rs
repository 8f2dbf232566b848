//! Not now.
use crate::http::{limiter::RATE_LIMIT, problem::Problem};
use actix_web::http::{StatusCode, header::HeaderValue};

/// Too much: try again after so many seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Throttled {
    /// Wrong secrets, from here.
    #[error("too many failed attempts; try again in {0} seconds")]
    Failures(u64),
    /// Wrong secrets of others, from everywhere.
    #[error(
        "this account is being guessed at from many networks, so from networks where its owner has not signed in \
         lately it is tried once in a while; try again in {0} seconds"
    )]
    Attacked(u64),
}

impl From<Throttled> for Problem {
    fn from(throttled: Throttled) -> Self {
        const STATUS: StatusCode = StatusCode::TOO_MANY_REQUESTS;
        let (Throttled::Failures(seconds) | Throttled::Attacked(seconds)) = throttled;
        let problem = Self::retry_after(STATUS, "TOO_MANY_ATTEMPTS", throttled, seconds)
            .member("error", "slow_down")
            .member("error_description", throttled.to_string());
        match HeaderValue::from_str(&format!("\"sign-in\";r=0;t={seconds}")) {
            Ok(limit) => problem.header(RATE_LIMIT, limit),
            Err(_) => problem,
        }
    }
}
