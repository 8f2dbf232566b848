//! The keys by which others check what we signed, without asking us.
pub(super) mod http;
