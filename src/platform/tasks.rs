//! Background tasks: named, told to stop, waited for.
use std::{
    future::Future,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet};
use tracing::Instrument as _;

/// The tasks of one process.
#[derive(Clone)]
pub struct Tasks {
    running: Arc<Mutex<JoinSet<()>>>,
    stopping: Arc<watch::Sender<bool>>,
}

/// Tells a task when to end.
#[derive(Clone)]
pub struct Stop(watch::Receiver<bool>);

impl Default for Tasks {
    fn default() -> Self {
        Self { running: Arc::default(), stopping: Arc::new(watch::channel(false).0) }
    }
}

impl Tasks {
    /// Starts a task that watches `Stop` and then ends by itself.
    pub fn spawn<F: Future<Output = ()> + Send + 'static>(
        &self,
        name: &'static str,
        task: impl FnOnce(Stop) -> F,
    ) {
        let task = task(self.stop_signal()).instrument(tracing::info_span!("task", name));
        self.running.lock().unwrap_or_else(PoisonError::into_inner).spawn(task);
    }

    /// For whoever waits without being a task.
    pub fn stop_signal(&self) -> Stop {
        Stop(self.stopping.subscribe())
    }

    /// Says stop, and waits for all of them, at most `patience`.
    pub async fn stop(&self, patience: Duration) {
        self.stopping.send_replace(true);
        let mut running = std::mem::take(&mut *self.running.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async { while running.join_next().await.is_some() {} };
        if tokio::time::timeout(patience, all).await.is_err() {
            tracing::warn!("background tasks were cut off");
        }
    }
}

impl Stop {
    /// Waits for the word.
    pub async fn wait(&mut self) {
        // An error means that the tasks' owner is gone, which is an end too.
        let _ = self.0.wait_for(|stopping| *stopping).await;
    }

    /// Sleeps, unless told to stop: then `false`.
    pub async fn sleep(&mut self, duration: Duration) -> bool {
        tokio::select! {
            () = self.wait() => false,
            () = tokio::time::sleep(duration) => true,
        }
    }
}
