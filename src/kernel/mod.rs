//! L1: the words every layer may use: ids, statuses, who acts, and the context of one operation.
mod access_token;
mod actor;
mod answer;
mod ctx;
mod email;
mod id;
mod page;
mod status;
mod text;
mod token;

pub use crate::platform::secret::Secret;
pub use access_token::{AccessClaims, AccessTokenError};
pub use actor::{Actor, Workload};
pub use answer::{Answer, Idempotency, SecretMember};
pub use ctx::{Ctx, Source};
pub use email::EmailAddress;
pub use id::{
    EventId, Id, IdentityId, JobId, KeyId, OperatorId, OrgId, PLATFORM, RefreshId, ServiceAccountId,
    SessionId, UserId, named,
};
pub use page::Page;
pub use status::{KeyStatus, OrgStatus, ServiceAccountStatus, UserStatus};
pub use text::{Metadata, Name, Reason};
pub use token::{Kid, Token, TokenKind};
