//! System roles. What each may do is said in `policies/roles.cedar` only.
use serde::{Deserialize, Serialize};

macro_rules! roles {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
        #[serde(rename_all = "kebab-case")]
        pub enum $name { $(#[doc = concat!("`", $word, "`")] $variant),* }

        impl $name {
            /// Every role, the highest first.
            pub const ALL: &'static [Self] = &[$(Self::$variant),*];

            /// The public name.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// The reverse of `as_str`.
            pub fn parse(name: &str) -> Option<Self> {
                match name { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

roles!(
/// What a member or a service account is in its org.
Role {
    Owner = "owner", Admin = "admin", Manager = "manager", Analyst = "analyst", Member = "member",
    Viewer = "viewer", BillingAdmin = "billing-admin", Auditor = "auditor",
});
roles!(
/// What a person is on the platform as a whole.
PlatformRole {
    PlatformAdmin = "platform-admin", PlatformAuditor = "platform-auditor", PlatformSupport = "platform-support",
});
