//! What can go wrong with a machine's account.
use crate::{
    http::{etag, problem::Problem},
    work::WorkError,
};
use actix_web::http::StatusCode;

/// Each variant says what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum ServiceAccountError {
    #[error("name must be one line of 1 to 200 characters")]
    NameInvalid,
    #[error("description must have at most 1000 characters")]
    DescriptionInvalid,
    #[error("there is no role {0:?}; GET /v1/orgs/{{org}}/roles lists all")]
    RoleUnknown(String),
    #[error("metadata must be a JSON object of at most 16 KiB")]
    MetadataInvalid,
    #[error("rotation must be a JSON object of at most 16 KiB")]
    RotationInvalid,
    #[error("status can be set to active or disabled; a service account is deleted by DELETE")]
    StatusInvalid,
    #[error("the organization has a service account of this name")]
    NameTaken,
    #[error("its roles were changed in the meantime; read them again")]
    RolesChanged,
    #[error("there is no such service account")]
    NotFound,
    #[error("it was changed in the meantime")]
    VersionMismatch,
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<diesel::result::Error> for ServiceAccountError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Work(error.into())
    }
}

impl From<ServiceAccountError> for Problem {
    fn from(error: ServiceAccountError) -> Self {
        use ServiceAccountError as E;
        match error {
            E::NameInvalid => Self::invalid("name", "NAME_INVALID", error),
            E::DescriptionInvalid => Self::invalid("description", "DESCRIPTION_INVALID", error),
            E::RoleUnknown(_) => Self::invalid("roles", "ROLE_UNKNOWN", error),
            E::MetadataInvalid => Self::invalid("metadata", "METADATA_INVALID", error),
            E::RotationInvalid => Self::invalid("rotation", "ROTATION_INVALID", error),
            E::StatusInvalid => Self::invalid("status", "STATUS_INVALID", error),
            E::NameTaken => Self::new(StatusCode::CONFLICT, "NAME_TAKEN", error),
            E::RolesChanged => Self::new(StatusCode::CONFLICT, "ROLES_CHANGED", error),
            E::NotFound => Self::not_found(),
            E::VersionMismatch => etag::mismatch(),
            E::Work(error) => error.into(),
        }
    }
}
