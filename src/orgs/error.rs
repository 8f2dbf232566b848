//! What can go wrong with an org.
use crate::{
    http::{etag, problem::Problem},
    work::WorkError,
};
use actix_web::http::StatusCode;

/// Each variant says what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum OrgError {
    #[error("slug must be 1 to 63 letters a-z, digits or hyphens, no UUID, and not me, platform or system")]
    SlugInvalid,
    #[error("name must be one line of 1 to 200 characters")]
    NameInvalid,
    #[error("displayName must be one line of 1 to 200 characters")]
    DisplayNameInvalid,
    #[error("metadata must be a JSON object of at most 16 KiB")]
    MetadataInvalid,
    #[error("declarative must be an object with enabled, repoUrl and branch")]
    DeclarativeInvalid,
    #[error("billingOwnerEmail is not an address")]
    BillingEmailInvalid,
    #[error("status can be set to active or suspended; an organization is deleted by DELETE")]
    StatusInvalid,
    #[error("budgetPolicyId must be one line of 1 to 200 characters")]
    BudgetPolicyInvalid,
    #[error("reason is needed: one line of 1 to 500 characters")]
    ReasonInvalid,
    #[error("an organization with this slug exists")]
    SlugTaken,
    #[error("the organization is {0}, so this cannot be done")]
    WrongStatus(&'static str),
    #[error("there is no such organization")]
    NotFound,
    #[error("it was changed in the meantime")]
    VersionMismatch,
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<diesel::result::Error> for OrgError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Work(error.into())
    }
}

impl From<OrgError> for Problem {
    fn from(error: OrgError) -> Self {
        match error {
            OrgError::SlugInvalid => Self::invalid("slug", "SLUG_INVALID", error),
            OrgError::NameInvalid => Self::invalid("name", "NAME_INVALID", error),
            OrgError::DisplayNameInvalid => Self::invalid("displayName", "NAME_INVALID", error),
            OrgError::MetadataInvalid => Self::invalid("metadata", "METADATA_INVALID", error),
            OrgError::DeclarativeInvalid => Self::invalid("declarative", "DECLARATIVE_INVALID", error),
            OrgError::BillingEmailInvalid => Self::invalid("billingOwnerEmail", "EMAIL_INVALID", error),
            OrgError::StatusInvalid => Self::invalid("status", "STATUS_INVALID", error),
            OrgError::BudgetPolicyInvalid => Self::invalid("budgetPolicyId", "BUDGET_POLICY_INVALID", error),
            OrgError::ReasonInvalid => Self::invalid("reason", "REASON_INVALID", error),
            OrgError::SlugTaken => Self::new(StatusCode::CONFLICT, "SLUG_TAKEN", error),
            OrgError::WrongStatus(_) => Self::new(StatusCode::CONFLICT, "ORG_STATUS_CONFLICT", error),
            OrgError::NotFound => Self::not_found(),
            OrgError::VersionMismatch => etag::mismatch(),
            OrgError::Work(error) => error.into(),
        }
    }
}
