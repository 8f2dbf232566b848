//! Machines of an org.
//!
//! **Invariant:** a name is in an org once (`service_accounts_one_name`).
mod error;
pub(super) mod http;
mod model;
mod service;
mod store;

pub use error::ServiceAccountError;
pub use model::{NewServiceAccount, ServiceAccount, ServiceAccountPatch};
pub use service::{
    create_service_account, delete_service_account, get_service_account, list_service_accounts,
    update_service_account,
};
pub use store::purge_org;
