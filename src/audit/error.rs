use crate::{http::problem::Problem, work::WorkError};

/// Why events are not listed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("there is no action {0:?}")]
    ActionUnknown(String),
    #[error("outcome is allow or deny")]
    OutcomeUnknown,
    #[error("{0} must be an instant as RFC 3339 has it, such as 2026-11-01T00:00:00Z")]
    InstantInvalid(&'static str),
    #[error("to must be after from")]
    SpanEmpty,
    #[error("take the cursor from the Link header")]
    CursorInvalid,
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<diesel::result::Error> for AuditError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Work(error.into())
    }
}

impl From<AuditError> for Problem {
    fn from(error: AuditError) -> Self {
        let (field, code) = match error {
            AuditError::ActionUnknown(_) => ("action", "ACTION_UNKNOWN"),
            AuditError::OutcomeUnknown => ("outcome", "OUTCOME_UNKNOWN"),
            AuditError::InstantInvalid(field) => (field, "INSTANT_INVALID"),
            AuditError::SpanEmpty => ("to", "SPAN_EMPTY"),
            AuditError::CursorInvalid => ("cursor", "CURSOR_INVALID"),
            AuditError::Work(error) => return error.into(),
        };
        Problem::invalid(field, code, error)
    }
}
