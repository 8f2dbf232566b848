use super::{Decided, DecisionLogError, jobs::Flushing};
use crate::{
    kernel::{Actor, Workload},
    platform::{bus::Bus, telemetry::chain},
    work::{Work, WorkError},
};
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::sync::{Mutex as AsyncMutex, Notify, oneshot};

/// Plain allows that wait for the topic, about 25 megabytes; further ones are lost, and counted.
pub(super) const QUEUE_MAX: usize = 50_000;
/// Decisions that wait for the audit log; who comes then is told to come again.
const KEPT_MAX: usize = 10_000;
/// How long an answer waits until it is on the audit log.
const KEEP_MAX: Duration = Duration::from_secs(1);
/// Decisions written in one transaction, and the bytes of those in one event, which has room for 40 KiB.
const KEPT_PER_WRITE: usize = 1_000;
const EVENT_BYTES_MAX: usize = 32 * 1024;

/// Where plain allows go.
#[derive(Clone)]
pub struct Destination {
    pub bus: Arc<Bus>,
    pub topic: String,
}

/// The decision log of one process.
pub struct DecisionLog {
    pub(super) work: Arc<Work>,
    pub(super) destination: Option<Destination>,
    /// Names this process in batches.
    pub(super) process: String,
    keeping: Mutex<VecDeque<Kept>>,
    writing: AsyncMutex<()>,
    queue: Mutex<Queue>,
    pub(super) wake: Notify,
    pub(super) flushing: AsyncMutex<Flushing>,
}

struct Kept {
    entry: Value,
    bytes: usize,
    written: oneshot::Sender<()>,
}

/// Plain allows, in the order in which they were decided.
#[derive(Default)]
pub(super) struct Queue {
    pub(super) waiting: VecDeque<Decided>,
    /// Not told on the audit log yet.
    pub(super) lost: u64,
}

impl DecisionLog {
    /// `None`: plain allows are counted and not kept.
    pub fn new(work: Arc<Work>, destination: Option<Destination>, process: String) -> Self {
        Self {
            work,
            destination,
            process,
            keeping: Mutex::default(),
            writing: AsyncMutex::default(),
            queue: Mutex::default(),
            wake: Notify::new(),
            flushing: AsyncMutex::default(),
        }
    }

    /// Puts decisions on record before they are answered. Waits for those that must not be lost, and for no other.
    #[tracing::instrument(name = "policy.record_decisions", skip_all, err(level = "debug"))]
    pub async fn record_decisions(&self, decided: Vec<Decided>) -> Result<(), DecisionLogError> {
        let (plain, kept): (Vec<_>, Vec<_>) = decided.into_iter().partition(Decided::is_plain);
        if !kept.is_empty() {
            let count = kept.len();
            // Never for long: whoever asked gives up, too.
            match tokio::time::timeout(KEEP_MAX, self.keep(&kept)).await {
                Ok(Ok(())) => self.work.metrics().decisions_recorded("kept", count),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(DecisionLogError::Unrecorded),
            }
        }
        self.enqueue(plain);
        Ok(())
    }

    /// Whoever comes first writes for all that wait: one transaction, however many ask at once.
    async fn keep(&self, kept: &[Decided]) -> Result<(), DecisionLogError> {
        let mut receipts = vec![];
        {
            let mut keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            if keeping.len() + kept.len() > KEPT_MAX {
                return Err(DecisionLogError::Unrecorded);
            }
            for decided in kept {
                let (written, receipt) = oneshot::channel();
                let (entry, bytes) = (decided.entry(), decided.bytes().map_or(0, |bytes| bytes.len()));
                keeping.push_back(Kept { entry, bytes, written });
                receipts.push(receipt);
            }
        }
        for mut receipt in receipts {
            tokio::select! {
                biased;
                written = &mut receipt => written.map_err(|_| DecisionLogError::Unrecorded)?,
                _turn = self.writing.lock() => loop {
                    match receipt.try_recv() {
                        Ok(()) => break,
                        // Whoever was writing it went away.
                        Err(oneshot::error::TryRecvError::Closed) => return Err(DecisionLogError::Unrecorded),
                        Err(oneshot::error::TryRecvError::Empty) => self.write_some().await?,
                    }
                }
            }
        }
        Ok(())
    }

    /// The oldest that wait. Where they cannot be written nobody is answered: those who wait for them hear it by their
    /// receipts.
    async fn write_some(&self) -> Result<(), DecisionLogError> {
        let mut some: Vec<Kept> = {
            let mut keeping = self.keeping.lock().unwrap_or_else(PoisonError::into_inner);
            let count = keeping.len().min(KEPT_PER_WRITE);
            keeping.drain(..count).collect()
        };
        some.retain(|kept| !kept.written.is_closed()); // nobody is answered who gave up
        if some.is_empty() {
            return Ok(());
        }
        self.tell(self.events(&some)).await.inspect_err(|error| {
            tracing::warn!(error = chain(error), "decisions are not on the audit log, so they are not given");
        })?;
        for kept in some {
            let _ = kept.written.send(());
        }
        Ok(())
    }

    fn events(&self, kept: &[Kept]) -> Vec<Value> {
        let (mut parts, mut bytes): (Vec<Vec<&Value>>, _) = (vec![], 0);
        for one in kept {
            bytes += one.bytes;
            if bytes > EVENT_BYTES_MAX || parts.is_empty() {
                bytes = one.bytes;
                parts.push(vec![]);
            }
            if let Some(part) = parts.last_mut() {
                part.push(&one.entry);
            }
        }
        let event =
            |records| json!({ "kind": "decision.records", "process": self.process, "records": records });
        parts.into_iter().map(event).collect()
    }

    /// On the chain of the platform: what is asked of a tenant's principals must not grow the tenant's log.
    pub(super) async fn tell(&self, details: Vec<Value>) -> Result<(), WorkError> {
        let ctx = self.work.ctx(Actor::Workload(Workload::Sequencer));
        self.work.tell_decisions(&ctx, details).await
    }

    fn enqueue(&self, plain: Vec<Decided>) {
        if plain.is_empty() {
            return;
        }
        let count = plain.len();
        if self.destination.is_none() {
            self.work.metrics().decisions_recorded("counted", count);
            return;
        }
        let mut queue = self.queue();
        let room = QUEUE_MAX.saturating_sub(queue.waiting.len()).min(count);
        queue.waiting.extend(plain.into_iter().take(room));
        let lost = count - room;
        queue.lost += u64::try_from(lost).unwrap_or_default();
        let full = queue.waiting.len() >= super::jobs::BATCH_MAX;
        drop(queue);
        self.work.metrics().decisions_recorded("lost", lost);
        if full {
            self.wake.notify_one();
        }
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
