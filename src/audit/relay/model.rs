use super::store::Relayable;
use crate::platform::bus::Record;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use uuid::Uuid;

/// How far those have the log that it is relayed to.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Behind {
    /// So many of its first entries were acknowledged.
    pub relayed: u64,
    /// So many were not yet.
    pub missing: u64,
    /// How long ago the first of these got its place.
    pub age_seconds: f64,
}

/// What one turn came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Relayed {
    /// So many entries were acknowledged, and the position says so.
    Sent(usize),
    /// There is nothing new.
    Nothing,
    /// Another process holds the lease.
    Elsewhere,
    /// Another process took the lease in between: what was acknowledged may be sent again by it.
    Overtaken,
}

/// An entry as others read it: the bytes that were hashed, and beside them what is needed to tell it from others.
pub(super) fn record(log: Uuid, entry: Relayable) -> Record {
    let header = |name: &str, value: String| (name.to_owned(), value.into_bytes());
    Record {
        key: entry.org_id.to_string(),
        headers: [
            header("log", log.to_string()),
            header("seq", entry.seq.to_string()),
            header("org_seq", entry.org_seq.to_string()),
            header("event_id", entry.event_id.to_string()),
            header("leaf", STANDARD.encode(&entry.leaf)),
        ]
        .into(),
        at: entry.sequenced_at,
        value: entry.entry,
    }
}
