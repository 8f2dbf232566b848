use crate::{http::problem::Problem, platform::bus::BusError, work::WorkError};
use actix_web::http::StatusCode;

/// Why a decision is not on its log.
#[derive(Debug, thiserror::Error)]
pub enum DecisionLogError {
    #[error("the decision could not be put on record, so it is not given; try again")]
    Unrecorded,
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<DecisionLogError> for Problem {
    fn from(error: DecisionLogError) -> Self {
        Self::retry_after(StatusCode::SERVICE_UNAVAILABLE, "DECISION_UNRECORDED", error, 1)
    }
}
