//! Identities: persons, across orgs.
//!
//! **Invariant:** an address is one person's (`identities_email_taken`).
mod model;
mod store;

pub use model::Identity;
pub(super) use store::verify_email;
pub use store::{
    find_identity, find_identity_by_email, insert_identity, name_identity, set_home_org, set_platform_roles,
    touch_epoch,
};
