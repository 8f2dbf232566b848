//! Checking keys for services: in memory, with nobody's credential but the key itself.
pub(super) mod http;
