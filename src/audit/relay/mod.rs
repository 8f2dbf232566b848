//! The relay: copies the log to a topic of the bus, for whoever follows it there.
//!
//! **Invariant:** the position of a topic moves past an entry only after the brokers acknowledged it, and by whoever has
//! held the lease since he read it. So each (log, seq) is on the topic at least once, and no gap is left behind.
//! **Invariant:** a record is the entry as it was hashed. Personal values are not in it: they are sealed beside the log.
mod error;
mod jobs;
mod model;
mod store;

pub use error::RelayError;
pub use jobs::{Relay, measure};
pub use model::{Behind, Relayed};
