//! Why somebody is not in.
use crate::{
    authn::{passwords::busy, throttle::Throttled},
    http::problem::Problem,
    platform::hasher::HasherError,
    work::WorkError,
};
use actix_web::http::StatusCode;

/// Each variant says what the caller can do. Whatever it is about a person, an account or an org is one and the same.
#[derive(Debug, thiserror::Error)]
pub enum SignInError {
    #[error("email, password or organization is not right")]
    Refused,
    #[error("this refresh token is not good, or no longer; sign in again")]
    RefreshRefused,
    #[error("you are in several organizations; name one as org_id")]
    OrgSelectionRequired,
    #[error("{0} is not usable")]
    Invalid(&'static str),
    #[error("grant_type {0:?} is not supported here")]
    GrantUnsupported(String),
    #[error("the access token cannot be signed")]
    Unsigned,
    #[error(transparent)]
    Throttled(#[from] Throttled),
    #[error(transparent)]
    Hasher(#[from] HasherError),
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<diesel::result::Error> for SignInError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Work(error.into())
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        let oauth = |problem: Self, error: &str, description: String| {
            problem.member("error", error).member("error_description", description)
        };
        let text = error.to_string();
        match error {
            SignInError::Refused => oauth(
                Self::new(StatusCode::UNAUTHORIZED, "INVALID_CREDENTIALS", error),
                "invalid_grant",
                text,
            ),
            SignInError::RefreshRefused => {
                oauth(Self::new(StatusCode::UNAUTHORIZED, "REFRESH_REFUSED", error), "invalid_grant", text)
            }
            SignInError::OrgSelectionRequired => {
                let problem = Self::new(StatusCode::CONFLICT, "ORG_SELECTION_REQUIRED", error);
                oauth(problem, "interaction_required", text)
            }
            SignInError::Invalid(field) => {
                oauth(Self::invalid(field, "INVALID_REQUEST", error), "invalid_request", text)
            }
            SignInError::GrantUnsupported(_) => {
                let problem = Self::new(StatusCode::BAD_REQUEST, "GRANT_UNSUPPORTED", error);
                oauth(problem, "unsupported_grant_type", text)
            }
            SignInError::Throttled(throttled) => throttled.into(),
            SignInError::Hasher(error) => busy(error),
            SignInError::Unsigned => Self::internal(&error),
            SignInError::Work(error) => error.into(),
        }
    }
}
