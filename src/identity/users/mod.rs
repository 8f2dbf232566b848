//! Members of orgs, and their roles.
//!
//! **Invariant:** an address and a person are in an org once (`memberships_one_email`, `memberships_one_identity`).
//! **Invariant:** an active org keeps an active owner.
mod error;
pub(super) mod http;
pub(super) mod model;
mod service;
pub(super) mod store;

pub use error::UserError;
pub use model::{NewMember, User, UserFilter, UserPatch};
pub(super) use service::mfa_due_at;
pub use service::{
    add_member, delete_user, get_user, list_users, restore_user, set_roles, suspend_user, update_user,
};
pub use store::{activate, due, email_of_member, insert_member, is_due, purge, purge_org};
