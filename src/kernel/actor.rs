//! Who acts.
use super::{Id, IdentityId, KeyId, OperatorId, SessionId};
use std::fmt;
use uuid::Uuid;

/// Who acts. Holds no roles: those come from the authorization state, so they cannot be old.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Actor {
    /// A signed-in person.
    Person { identity: IdentityId, session: SessionId },
    /// The holder of an API key.
    Key { key: KeyId },
    /// The bearer of a bootstrap or recovery token.
    Operator { token: OperatorId },
    /// A part of identityd itself.
    Workload(Workload),
    /// Nobody in particular.
    Anonymous,
}

/// The parts of identityd that act by themselves.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Workload {
    /// The job runner.
    Jobs,
    /// Operator commands with access to the database.
    OperatorCli,
    /// Puts events on the audit log.
    Sequencer,
}

impl Workload {
    /// The Cedar entity id.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::OperatorCli => "operator-cli",
            Self::Sequencer => "sequencer",
        }
    }
}

impl Actor {
    /// Whose requests are the same principal's: a person's in every session.
    pub fn principal(&self) -> String {
        self.to_string()
    }

    /// The reverse of `Display`, for whoever was noted down. A person comes back without a session.
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':')? {
            ("person", id) => {
                Some(Self::Person { identity: id.parse().ok()?, session: Id::from_uuid(Uuid::nil()) })
            }
            ("key", id) => Some(Self::Key { key: id.parse().ok()? }),
            ("operator", id) => Some(Self::Operator { token: id.parse().ok()? }),
            _ => None,
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Person { identity, .. } => write!(f, "person:{identity}"),
            Self::Key { key } => write!(f, "key:{key}"),
            Self::Operator { token } => write!(f, "operator:{token}"),
            Self::Workload(workload) => write!(f, "workload:{}", workload.as_str()),
            Self::Anonymous => f.write_str("anonymous"),
        }
    }
}
