//! What can go wrong with a key.
use crate::{
    http::{etag, problem::Problem},
    work::WorkError,
};
use actix_web::http::StatusCode;

/// Each variant says what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error("display_name must be one line of at most 200 characters")]
    NameInvalid,
    #[error("there is no scope {0:?}; scopes are names of actions, `resource:*`, or `admin`")]
    ScopeUnknown(String),
    #[error("at most 128 scopes")]
    TooManyScopes,
    #[error("allowedCidrs must be networks such as 10.0.0.0/8")]
    CidrInvalid,
    #[error("at most 64 networks")]
    TooManyCidrs,
    #[error("a key expires after now, and within 3650 days")]
    ExpiryInvalid,
    #[error("expiresInDays must be between 1 and 3650")]
    DaysInvalid,
    #[error("overlapSeconds must be between 0 and 2592000")]
    OverlapInvalid,
    #[error("annotations must be a JSON object of at most 16 KiB")]
    AnnotationsInvalid,
    #[error("rateLimit must be a JSON object of at most 16 KiB")]
    RateLimitInvalid,
    #[error("reason must be one line of 1 to 500 characters")]
    ReasonInvalid,
    #[error("the holder is {0}, so no key can be issued for it")]
    HolderNotActive(&'static str),
    #[error("the key is {0}, so this cannot be done")]
    WrongStatus(&'static str),
    #[error("there is no such key")]
    NotFound,
    #[error("it was changed in the meantime")]
    VersionMismatch,
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<diesel::result::Error> for KeyError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Work(error.into())
    }
}

impl From<KeyError> for Problem {
    fn from(error: KeyError) -> Self {
        match error {
            KeyError::NameInvalid => Self::invalid("display_name", "NAME_INVALID", error),
            KeyError::ScopeUnknown(_) => Self::invalid("scopes", "SCOPE_UNKNOWN", error),
            KeyError::TooManyScopes => Self::invalid("scopes", "TOO_MANY_SCOPES", error),
            KeyError::CidrInvalid => Self::invalid("allowedCidrs", "CIDR_INVALID", error),
            KeyError::TooManyCidrs => Self::invalid("allowedCidrs", "TOO_MANY_CIDRS", error),
            KeyError::ExpiryInvalid => Self::invalid("expiresAt", "EXPIRY_INVALID", error),
            KeyError::DaysInvalid => Self::invalid("expiresInDays", "EXPIRY_INVALID", error),
            KeyError::OverlapInvalid => Self::invalid("overlapSeconds", "OVERLAP_INVALID", error),
            KeyError::AnnotationsInvalid => Self::invalid("annotations", "ANNOTATIONS_INVALID", error),
            KeyError::RateLimitInvalid => Self::invalid("rateLimit", "RATE_LIMIT_INVALID", error),
            KeyError::ReasonInvalid => Self::invalid("reason", "REASON_INVALID", error),
            KeyError::HolderNotActive(_) => Self::new(StatusCode::CONFLICT, "HOLDER_NOT_ACTIVE", error),
            KeyError::WrongStatus(_) => Self::new(StatusCode::CONFLICT, "KEY_STATUS_CONFLICT", error),
            KeyError::NotFound => Self::not_found(),
            KeyError::VersionMismatch => etag::mismatch(),
            KeyError::Work(error) => error.into(),
        }
    }
}
