//! For one process: for development, and for an installation that is no larger.
use super::bucket::{Buckets, Rate, Taken};
use crate::platform::{clock::Clock, tasks::Stop};
use tokio::sync::broadcast::{self, error::RecvError};

/// Announcements that a slow follower may be behind; it then goes on with the oldest that is left.
const BEHIND_MAX: usize = 1024;

/// What one process tells itself, and counts.
pub struct Memory {
    announced: broadcast::Sender<String>,
    buckets: Buckets,
}

impl Memory {
    pub(super) fn new(clock: Clock) -> Self {
        Self { announced: broadcast::channel(BEHIND_MAX).0, buckets: Buckets::new(clock) }
    }

    pub(super) fn announce(&self, text: String) {
        // An error says that nobody follows.
        let _ = self.announced.send(text);
    }

    pub(super) async fn follow(&self, heard: impl Fn(&str), mut stop: Stop) {
        let mut announced = self.announced.subscribe();
        loop {
            tokio::select! {
                () = stop.wait() => return,
                said = announced.recv() => match said {
                    Ok(text) => heard(&text),
                    Err(RecvError::Lagged(_)) => (),
                    Err(RecvError::Closed) => return,
                },
            }
        }
    }

    pub(super) fn take(&self, wanted: &[(String, Rate)]) -> Taken {
        self.buckets.take(wanted)
    }
}
