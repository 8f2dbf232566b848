//! In which state the long-lived things are. The words are API.
use serde::{Deserialize, Serialize};

macro_rules! status {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum $name { $(#[doc = concat!("`", $word, "`")] $variant),* }

        impl $name {
            /// Every word, for messages.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word for storage and wire.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// The reverse of `as_str`.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

status!(
    /// A tenant's.
    OrgStatus { Active = "active", Suspended = "suspended", PendingDelete = "pending_delete" });
status!(
    /// A membership's.
    UserStatus { Invited = "invited", Active = "active", Suspended = "suspended", Deleted = "deleted" });
status!(
    /// A service account's.
    ServiceAccountStatus { Active = "active", Disabled = "disabled", Deleted = "deleted" });
status!(
    /// A key's as stored. `expired` is not stored: it follows from the clock.
    KeyStatus { Active = "active", Rotating = "rotating", Quarantined = "quarantined", Revoked = "revoked" });
