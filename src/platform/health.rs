//! What this process needs, and whether it has it. `/readyz` names each.
use serde::Serialize;
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The state of each dependency, kept by those who use it. Cheap to clone.
#[derive(Clone, Default)]
pub struct Health {
    dependencies: Arc<Mutex<BTreeMap<&'static str, Dependency>>>,
    draining: Arc<AtomicBool>,
}

/// One dependency.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Dependency {
    /// Does it answer?
    pub status: Status,
    /// Does a request need it? If not, the process is ready without it, degraded.
    pub required: bool,
    /// What is wrong, without addresses or secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Does it answer?
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Ok,
    Failing,
}

impl Health {
    /// It answered.
    pub fn ok(&self, name: &'static str, required: bool) {
        self.set(name, Dependency { status: Status::Ok, required, detail: None });
    }

    /// It did not.
    pub fn failing(&self, name: &'static str, required: bool, detail: &str) {
        self.set(name, Dependency { status: Status::Failing, required, detail: Some(detail.to_owned()) });
    }

    fn set(&self, name: &'static str, now: Dependency) {
        let mut all = self.dependencies.lock().unwrap_or_else(PoisonError::into_inner);
        if all.get(name) == Some(&now) {
            return;
        }
        match (now.status, &now.detail) {
            (Status::Failing, Some(detail)) => {
                tracing::warn!(dependency = name, detail, "dependency is failing");
            }
            _ => tracing::info!(dependency = name, "dependency answers"),
        }
        all.insert(name, now);
    }

    /// From now on `/readyz` says no, so that no new requests are sent here.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Is this process on its way out?
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Everything that a request needs answers, and nobody said stop.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.all().values().all(|one| !one.required || one.status == Status::Ok)
    }

    /// Each dependency by name.
    pub fn all(&self) -> BTreeMap<&'static str, Dependency> {
        self.dependencies.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
