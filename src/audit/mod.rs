//! The audit log: every event once, in one order that nobody can change unseen, and who may read it.
//!
//! **Invariant:** `seq` counts the log's entries from 0, and `org_seq` those of each chain from 1, without a gap: both
//! are given out by whoever holds the row lock on `audit_head`.
//! **Invariant:** a leaf is the RFC 6962 hash of the stored bytes of an entry, which names the chain's leaf before it;
//! the peaks in `audit_head` are those of all leaves so far.
//! **Invariant:** no row of the outbox is left out or waits for ever: what is not authentic gets its place, and says so.
mod error;
pub mod http;
mod jobs;
mod merkle;
mod model;
pub mod relay;
mod schema;
mod service;
mod store;

pub use error::AuditError;
pub use jobs::{Lag, backlog, keep_partitions, run_sequencer, sequence};
pub use merkle::{Hash, Peaks, leaf_hash};
pub use model::{ActorFilter, Backlog, Chain, Filter, Record, Slice, Span};
pub use service::list_events;
