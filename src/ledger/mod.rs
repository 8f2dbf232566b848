//! L2: the write side of the audit log. Events go into the outbox; a leased sequencer orders and chains them.
//!
//! **Invariant:** an event holds no e-mail, name, address or user agent in the clear: those are salted digests, and
//! their values are sealed beside it.
mod aggregate;
mod crowd;
mod event;

pub use aggregate::network;
pub(crate) use aggregate::{Admission, Aggregator, Summary, Who};
pub(crate) use crowd::{Crowds, Pattern};
pub(crate) use event::append;
pub use event::{Event, OutboxRow, Outcome, Refused, event_mac, open_pii};
