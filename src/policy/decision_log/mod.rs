//! The decision log: what other services asked, and what they were answered. Ids and words, nothing personal.
//!
//! **Invariant:** a denial, and an allow of anything elevated, is on the audit log before it is answered, or is not answered.
//! **Invariant:** of plain allows each is on the topic, under a Merkle root that the audit log holds, or counted as lost there.
//! What a process that is killed had in memory is neither.
mod error;
mod jobs;
mod model;
mod service;

pub use error::DecisionLogError;
pub use model::Decided;
pub use service::{DecisionLog, Destination};
