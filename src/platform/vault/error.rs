//! What can go wrong with Vault, in our own words: what the transport says may repeat a token or an answer.
use crate::platform::telemetry::chain;
use std::io;

/// Each says what to look at. Paths are Vault's own and hold no secret; addresses stand in the configuration.
#[derive(Debug, thiserror::Error)]
pub enum VaultError {
    #[error("{key}: {what}")]
    Setting {
        key: &'static str,
        what: &'static str,
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    #[error("Vault cannot be reached")]
    Unreachable(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("Vault's certificate is not trusted: see vault.ca_file")]
    Untrusted(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("Vault does not answer in time")]
    Slow,
    #[error("Vault is sealed, or has no active node")]
    Sealed,
    #[error(
        "Vault refuses the login (status {0}): see vault.role_id, vault.secret_id, vault.auth_mount and vault.namespace"
    )]
    Login(u16),
    #[error("Vault does not permit {0}: see the policies of the role")]
    Forbidden(String),
    #[error("Vault has nothing at {0}: see vault.transit_mount, vault.key and vault.namespace")]
    NotFound(String),
    #[error("Vault refuses what {0} was asked: is it another key, or are old versions of it gone?")]
    Refused(String),
    #[error("Vault answers with status {0}")]
    Status(u16),
    #[error("Vault's answer cannot be understood")]
    Form,
    #[error("the last login to Vault failed, and the next one is not due yet")]
    Resting,
}

impl VaultError {
    /// Is it about what somebody configured, here or in Vault? Then asking again soon is of no use.
    pub fn is_fault(&self) -> bool {
        match self {
            Self::Setting { .. }
            | Self::Untrusted(_)
            | Self::Login(_)
            | Self::Forbidden(_)
            | Self::NotFound(_)
            | Self::Refused(_) => true,
            Self::Unreachable(_)
            | Self::Slow
            | Self::Sealed
            | Self::Status(_)
            | Self::Form
            | Self::Resting => false,
        }
    }

    /// What the transport met on the way to a path.
    pub(super) fn of(error: hashicorp_vault::Error, path: &str) -> Self {
        use hashicorp_vault::Error as Met;
        match error {
            // Its text holds the whole answer.
            Met::VaultResponse(_, response) => Self::of_status(response.status().as_u16(), path),
            Met::Reqwest(error) => Self::of_http(error),
            Met::Io(error) => Self::of_io(error),
            // A parser's text repeats what it could not read.
            Met::SerdeJson(_) | Met::Vault(_) | Met::Url(_) | Met::Base64(_) => Self::Form,
        }
    }

    /// What an answer's status means.
    pub(super) fn of_status(status: u16, path: &str) -> Self {
        match status {
            400 => Self::Refused(path.to_owned()),
            403 => Self::Forbidden(path.to_owned()),
            404 => Self::NotFound(path.to_owned()),
            503 => Self::Sealed,
            other => Self::Status(other),
        }
    }

    /// Why there is no answer.
    pub(super) fn of_http(error: reqwest::Error) -> Self {
        let error = error.without_url();
        if error.is_timeout() {
            return Self::Slow;
        }
        // The TLS library below has no other name here than its words.
        match chain(&error).contains("certificate") {
            true => Self::Untrusted(error.into()),
            false => Self::Unreachable(error.into()),
        }
    }

    fn of_io(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::TimedOut => Self::Slow,
            _ => Self::Unreachable(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_the_configuration_is_told_from_a_failure_that_passes() {
        for fault in [400, 403, 404] {
            assert!(VaultError::of_status(fault, "transit/decrypt/identityd").is_fault());
        }
        for passing in [429, 500, 502, 503] {
            assert!(!VaultError::of_status(passing, "transit/decrypt/identityd").is_fault());
        }
        assert!(VaultError::Login(400).is_fault() && !VaultError::Slow.is_fault());
    }

    #[test]
    fn an_error_names_vault_and_what_to_look_at() {
        let text = VaultError::of_status(403, "transit/decrypt/identityd").to_string();
        assert_eq!(text, "Vault does not permit transit/decrypt/identityd: see the policies of the role");
        let gone = VaultError::of_io(io::Error::from(io::ErrorKind::ConnectionReset));
        assert_eq!(gone.to_string(), "Vault cannot be reached");
        assert!(matches!(VaultError::of_io(io::ErrorKind::TimedOut.into()), VaultError::Slow));
    }
}
