use crate::{http::problem::Problem, work::WorkError};
use actix_web::http::StatusCode;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(in crate::policy) enum PolicyError {
    #[error("{0}: a name is longer than 512 characters")]
    TooLong(&'static str),
    #[error("at most {0} roles")]
    TooManyRoles(usize),
    #[error("at most {0} questions at once, and at least one")]
    TooMany(usize),
    #[error("this revision has not been read yet; try again shortly")]
    RevisionNotReached,
    #[error("answers cannot be signed: there is no signing key")]
    Unsigned,
    #[error("an answer cannot be serialized")]
    Unwritten(#[from] serde_json::Error),
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<PolicyError> for Problem {
    fn from(error: PolicyError) -> Self {
        match error {
            PolicyError::TooLong(field) => Self::invalid(field, "NAME_TOO_LONG", error),
            PolicyError::TooManyRoles(_) => Self::invalid("roles", "TOO_MANY_ROLES", error),
            PolicyError::TooMany(_) => Self::invalid("evaluations", "EVALUATIONS_INVALID", error),
            PolicyError::RevisionNotReached => {
                Self::retry_after(StatusCode::SERVICE_UNAVAILABLE, "REVISION_NOT_REACHED", error, 1)
            }
            PolicyError::Unsigned | PolicyError::Unwritten(_) => Self::internal(&error),
            PolicyError::Work(error) => error.into(),
        }
    }
}
