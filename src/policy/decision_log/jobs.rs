//! The background task of every process: plain allows in batches to the topic, and their root on the audit log.
use super::{Decided, DecisionLog, DecisionLogError, Destination};
use crate::{
    audit::{Peaks, leaf_hash},
    kernel::{Actor, Workload},
    platform::{
        bus::{BusError, Record},
        tasks::Stop,
        telemetry::Trouble,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::json;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

/// Decisions under one root.
pub(super) const BATCH_MAX: usize = 5_000;
/// So long the first of a batch waits at most for the others.
const FLUSH_EVERY: Duration = Duration::from_mins(1);
const PUBLISH_MAX: Duration = Duration::from_secs(20);
/// After a failure.
const PAUSE: Duration = Duration::from_secs(5);
/// For what waits when the process is told to stop.
const STOP_MAX: Duration = Duration::from_secs(5);

/// The batch that is on its way.
#[derive(Default)]
pub(super) struct Flushing(Option<Batch>);

struct Batch {
    id: Uuid,
    count: usize,
    root: String,
    /// The ids of the first and the last.
    span: (Uuid, Uuid),
    /// Not acknowledged yet.
    unsent: Vec<Record>,
}

impl Batch {
    fn of(id: Uuid, decided: &[Decided]) -> Result<Option<Self>, DecisionLogError> {
        let (Some(first), Some(last)) = (decided.first(), decided.last()) else { return Ok(None) };
        let (mut tree, mut unsent) = (Peaks::default(), vec![]);
        for (place, one) in decided.iter().enumerate() {
            let value = one.bytes().map_err(|_| DecisionLogError::Unrecorded)?;
            tree.append(leaf_hash(&value));
            let header = |name: &str, value: String| (name.to_owned(), value.into_bytes());
            // One key, so one partition, in their order.
            let headers = [header("batch", id.to_string()), header("place", place.to_string())].into();
            unsent.push(Record { key: id.to_string(), value, headers, at: one.at });
        }
        let root = STANDARD.encode(tree.root());
        Ok(Some(Self { id, count: decided.len(), root, span: (first.id, last.id), unsent }))
    }
}

impl DecisionLog {
    /// Sends one batch, and puts its root and what was lost on the audit log. Answers how many decisions were sent; after a
    /// failure the next call goes on with the same batch.
    pub async fn flush(&self) -> Result<usize, DecisionLogError> {
        let Some(destination) = &self.destination else { return Ok(0) };
        let Flushing(open) = &mut *self.flushing.lock().await;
        if open.is_none() {
            let decided: Vec<Decided> = {
                let mut queue = self.queue();
                let count = queue.waiting.len().min(BATCH_MAX);
                queue.waiting.drain(..count).collect()
            };
            let id = self.work.ctx(Actor::Workload(Workload::Sequencer)).mint::<()>().uuid();
            *open = Batch::of(id, &decided)?;
        }
        let Some(batch) = open else {
            self.tell_lost().await?;
            return Ok(0);
        };
        if let Err(error) = publish(destination, &mut batch.unsent).await {
            self.tell_lost().await?;
            return Err(error.into());
        }
        let (lost, count) = (self.queue().lost, batch.count);
        let detail = json!({
            "kind": "decision.batch", "process": self.process, "topic": destination.topic, "batch": batch.id,
            "count": count, "root": batch.root, "from": batch.span.0, "to": batch.span.1, "lost": lost,
        });
        self.tell(vec![detail]).await?;
        self.told_lost(lost);
        *open = None;
        self.work.metrics().decisions_recorded("published", count);
        Ok(count)
    }

    async fn tell_lost(&self) -> Result<(), DecisionLogError> {
        let lost = self.queue().lost;
        if lost > 0 {
            let detail =
                json!({ "kind": "decision.batch", "process": self.process, "count": 0, "lost": lost });
            self.tell(vec![detail]).await?;
            self.told_lost(lost);
        }
        Ok(())
    }

    fn told_lost(&self, lost: u64) {
        let mut queue = self.queue();
        queue.lost = queue.lost.saturating_sub(lost);
    }

    /// Flushes each minute, and when a batch is full, until told to stop; then what is there.
    pub async fn run(&self, mut stop: Stop) {
        let (mut trouble, mut due) = (Trouble::of("publishing decisions"), Instant::now() + FLUSH_EVERY);
        loop {
            tokio::select! {
                () = stop.wait() => break,
                () = self.wake.notified() => (),
                () = tokio::time::sleep_until(due) => (),
            }
            let flushed = tokio::select! {
                flushed = self.flush() => flushed,
                () = stop.wait() => break,
            };
            due = match trouble.note(flushed) {
                Some(_) if self.queue().waiting.len() >= BATCH_MAX => Instant::now(),
                Some(_) => Instant::now() + FLUSH_EVERY,
                None => Instant::now() + PAUSE,
            };
        }
        let rest = async { while trouble.note(self.flush().await).is_some_and(|sent| sent > 0) {} };
        let _ = timeout(STOP_MAX, rest).await;
        let told = timeout(STOP_MAX, self.give_up()).await;
        if !matches!(told, Ok(Ok(()))) {
            tracing::error!("decisions were lost, and how many is not on the audit log");
        }
    }

    /// Counts what is left as lost.
    pub async fn give_up(&self) -> Result<(), DecisionLogError> {
        let open = self.flushing.lock().await.0.take();
        let open = open.map_or(0, |batch| batch.count);
        let lost = {
            let mut queue = self.queue();
            let lost = open + queue.waiting.len();
            queue.waiting.clear();
            queue.lost += u64::try_from(lost).unwrap_or_default();
            lost
        };
        self.work.metrics().decisions_recorded("lost", lost);
        self.tell_lost().await
    }
}

/// What is not acknowledged stays, also where this is abandoned: then nobody knows, and all of it is sent again.
async fn publish(destination: &Destination, records: &mut Vec<Record>) -> Result<(), BusError> {
    if records.is_empty() {
        return Ok(());
    }
    let mut unsent = records.clone();
    let published = timeout(PUBLISH_MAX, destination.bus.publish(&destination.topic, &mut unsent)).await;
    let published = published.map_err(|_| BusError::Timeout)?;
    *records = unsent;
    published
}
