//! When keys were last used, between two batches of writing it down.
use crate::kernel::KeyId;
use chrono::{DateTime, Utc};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// When keys were last used. Kept here, and written down in batches: a request never writes it.
#[derive(Default)]
pub struct KeyUsage(Mutex<HashMap<KeyId, DateTime<Utc>>>);

/// Keys noted between two batches; beyond, the rest waits for its next use.
const USED_MAX: usize = 100_000;

impl KeyUsage {
    /// A key was used now.
    pub fn note(&self, key: KeyId, now: DateTime<Utc>) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if used.len() < USED_MAX || used.contains_key(&key) {
            used.insert(key, now);
        }
    }

    /// All that was noted since the last time.
    pub fn take(&self) -> Vec<(KeyId, DateTime<Utc>)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_iter().collect()
    }

    /// What could not be written, unless there is newer.
    pub fn give_back(&self, unwritten: &[(KeyId, DateTime<Utc>)]) {
        let mut used = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (key, at) in unwritten {
            used.entry(*key).or_insert(*at);
        }
    }
}
