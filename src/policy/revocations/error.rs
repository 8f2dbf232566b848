use crate::{http::problem::Problem, work::WorkError};
use actix_web::http::StatusCode;

/// Why nothing is told.
#[derive(Debug, thiserror::Error)]
pub(super) enum RevocationsError {
    #[error(
        "what changed since revision {from} can no longer be told: drop all that you keep, and go on from {revision}"
    )]
    Forgotten { from: i64, revision: i64 },
    #[error("as many streams are open as there may be; try again shortly, or ask without a stream")]
    Full,
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<RevocationsError> for Problem {
    fn from(error: RevocationsError) -> Self {
        match error {
            RevocationsError::Forgotten { revision, .. } => {
                Self::new(StatusCode::GONE, "REVISION_FORGOTTEN", &error).member("revision", revision)
            }
            RevocationsError::Full => {
                Self::retry_after(StatusCode::SERVICE_UNAVAILABLE, "STREAMS_FULL", error, 5)
            }
            RevocationsError::Work(error) => error.into(),
        }
    }
}
