//! Typed ids.
use serde::{Deserialize, Serialize};
use std::{fmt, marker::PhantomData, str::FromStr};
use uuid::Uuid;

/// A UUID that knows what it names, so that a user's id cannot stand where an org's is meant.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent, bound = "")]
pub struct Id<T>(Uuid, PhantomData<fn() -> T>);

impl<T> Id<T> {
    /// Names a row read from storage, or an id parsed from a path.
    pub const fn from_uuid(id: Uuid) -> Self {
        Self(id, PhantomData)
    }

    /// For storage and wire types.
    pub const fn uuid(&self) -> Uuid {
        self.0
    }

    /// For digests.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl<T> fmt::Display for Id<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T> FromStr for Id<T> {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self::from_uuid)
    }
}

/// What an id can name.
pub mod named {
    macro_rules! name {
        ($($name:ident),*) => {$(
            #[doc = concat!("Names a row of its kind: ", stringify!($name), ".")]
            #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
            pub enum $name {}
        )*};
    }
    name!(Org, User, Identity, Session, Refresh, Key, ServiceAccount, Operator, Event, Job);
}

/// A tenant.
pub type OrgId = Id<named::Org>;
/// A membership: one person in one org. What the API calls a user.
pub type UserId = Id<named::User>;
/// A person, across orgs.
pub type IdentityId = Id<named::Identity>;
/// One sign-in, and the refresh family that hangs on it.
pub type SessionId = Id<named::Session>;
/// One generation of a session's refresh token.
pub type RefreshId = Id<named::Refresh>;
/// An API key.
pub type KeyId = Id<named::Key>;
/// A machine's account in an org.
pub type ServiceAccountId = Id<named::ServiceAccount>;
/// A bootstrap or recovery token.
pub type OperatorId = Id<named::Operator>;
/// An audit event.
pub type EventId = Id<named::Event>;
/// A queued job.
pub type JobId = Id<named::Job>;

/// The reserved org whose audit chain takes what belongs to no tenant.
pub const PLATFORM: OrgId = Id::from_uuid(Uuid::nil());
