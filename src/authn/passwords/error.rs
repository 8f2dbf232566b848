//! What can go wrong with a password.
use crate::{
    authn::throttle::Throttled, http::problem::Problem, platform::hasher::HasherError, work::WorkError,
};
use actix_web::http::StatusCode;

/// Each variant says what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    #[error("a password needs at least {min} characters; several words are easy to remember")]
    TooShort { min: usize },
    #[error("a password has at most 128 characters")]
    TooLong,
    #[error("this password is among the first that are tried; choose another")]
    TooCommon,
    #[error("the current password is not right")]
    Wrong,
    #[error("only a person has a password")]
    NotAPerson,
    #[error("there is no such person")]
    NotFound,
    #[error(transparent)]
    Throttled(#[from] Throttled),
    #[error(transparent)]
    Hasher(#[from] HasherError),
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<diesel::result::Error> for PasswordError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Work(error.into())
    }
}

impl From<PasswordError> for Problem {
    fn from(error: PasswordError) -> Self {
        problem("password", error)
    }
}

/// The problem, where the new password is this member of the request.
pub(super) fn problem(member: &str, error: PasswordError) -> Problem {
    match error {
        PasswordError::TooShort { .. } => Problem::invalid(member, "PASSWORD_TOO_SHORT", error),
        PasswordError::TooLong => Problem::invalid(member, "PASSWORD_TOO_LONG", error),
        PasswordError::TooCommon => Problem::invalid(member, "PASSWORD_TOO_COMMON", error),
        PasswordError::Wrong => Problem::new(StatusCode::FORBIDDEN, "PASSWORD_WRONG", error),
        PasswordError::NotAPerson => Problem::new(StatusCode::CONFLICT, "NOT_A_PERSON", error),
        PasswordError::NotFound => Problem::not_found(),
        PasswordError::Throttled(throttled) => throttled.into(),
        PasswordError::Hasher(error) => busy(error),
        PasswordError::Work(error) => error.into(),
    }
}

/// Too many at once: that is for the caller to wait out; what is broken is for us.
pub(in crate::authn) fn busy(error: HasherError) -> Problem {
    match error {
        HasherError::Busy => Problem::retry_after(StatusCode::SERVICE_UNAVAILABLE, "SIGN_IN_BUSY", error, 1),
        HasherError::Broken(_) => Problem::internal(&error),
    }
}
