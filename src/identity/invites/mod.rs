//! Invites: memberships that wait for their person, under the id that they keep. Accepting one is a flow.
//!
//! **Invariant:** no plaintext token is stored: the job `identity.send_invite` mints it, stores its HMAC, mails it.
pub(super) mod http;
mod jobs;
mod model;
mod service;
mod store;

pub use jobs::{SEND_INVITE, send_invite};
pub use model::{Invite, InviteFilter, NewInvite, OpenInvite};
pub use service::{create_invite, list_invites, resend_invite, revoke_invite};
pub use store::{accept, lock_open_invite, peek_invite};
