//! Keyset pages.
use uuid::Uuid;

/// Which part of a list is wanted: what comes after an id, and how many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Page {
    /// The last id of the page before; nil for the first page.
    pub after: Uuid,
    /// 1..=1000.
    pub limit: i64,
}

impl Page {
    /// No list answers more.
    pub const LIMIT_MAX: i64 = 1000;

    /// The first page of the largest size.
    pub const fn first() -> Self {
        Self { after: Uuid::nil(), limit: Self::LIMIT_MAX }
    }
}
