//! The sequencer: moves events from the outbox to the log, in one order, and keeps the room for them.
use super::{
    merkle::{Hash, Peaks, leaf_hash},
    model::{Backlog, Place, build_entry},
    store::{self, Head, OrgHead, Placed, Taken},
};
use crate::{
    jobs,
    kernel::{EventId, OrgId},
    platform::{db::StorageError, metrics::Metrics, tasks::Stop, telemetry::Trouble},
    work::{Upkeep, UpkeepTx, Work, WorkError},
};
use chrono::{DateTime, Utc};
use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

/// Events that get their place in one transaction.
const BATCH_MAX: i64 = 500;
const LEASE: &str = "sequencer";
const LEASE_SECONDS: i32 = 10;
/// How often the sequencer looks for events that nobody woke it for.
const POLL: Duration = Duration::from_millis(500);
/// Once woken, how long it waits for more: a batch of twenty costs little more than one of one.
const GATHER: Duration = Duration::from_millis(10);
/// How often counted refusals are told, and the backlog is measured.
const HOUSEKEEPING: Duration = Duration::from_secs(10);
/// How often partitions are seen to. They are made a month ahead.
const PARTITIONS: Duration = Duration::from_hours(6);

/// Gives the oldest waiting events their places, and says how many; none while another process holds the lease.
#[tracing::instrument(name = "audit.sequence", skip_all, err(level = "debug"))]
pub async fn sequence(work: &Work, owner: &str) -> Result<usize, WorkError> {
    Ok(match turn(work, owner).await? {
        Turn::Done(count) => count,
        Turn::Elsewhere => 0,
    })
}

/// Makes the partitions of this month and the next. `false`: another process holds the lease, and sees to it.
#[tracing::instrument(name = "audit.keep_partitions", skip_all, err(level = "debug"))]
pub async fn keep_partitions(work: &Work, owner: &str) -> Result<bool, WorkError> {
    let keep = async |tx: &mut UpkeepTx<'_>| {
        let held = jobs::hold(tx, LEASE, owner, LEASE_SECONDS).await?;
        if held {
            store::make_partitions(tx).await?;
        }
        Ok(held)
    };
    work.upkeep(Upkeep::Sequence, keep).await
}

/// How much waits for its place, and for how long.
pub async fn backlog(work: &Work) -> Result<Backlog, WorkError> {
    let count = async |tx: &mut UpkeepTx<'_>| Ok(store::count_waiting(tx).await?);
    work.upkeep(Upkeep::Sequence, count).await
}

/// The last reading of the backlog, for gauges.
#[derive(Clone, Debug, Default)]
pub struct Lag(Arc<Reading>);

#[derive(Debug, Default)]
struct Reading {
    events: AtomicU32,
    /// The bits of a float: there is no atomic one.
    age_seconds: AtomicU64,
}

impl Lag {
    /// Shows the reading among the metrics of this process.
    pub fn register(&self, metrics: &Metrics) {
        let (events, age) = (self.clone(), self.clone());
        metrics.gauge(
            "identityd_audit_outbox_events",
            "Audit events that wait for their place on the log, counted up to 100,000",
            move || f64::from(events.read().events),
        );
        metrics.gauge(
            "identityd_audit_lag_seconds",
            "How long ago the oldest waiting audit event happened",
            move || age.read().age_seconds,
        );
    }

    /// What was measured last.
    pub fn read(&self) -> Backlog {
        let age_seconds = f64::from_bits(self.0.age_seconds.load(Ordering::Relaxed));
        Backlog { events: self.0.events.load(Ordering::Relaxed), age_seconds }
    }

    fn note(&self, backlog: Backlog) {
        self.0.events.store(backlog.events, Ordering::Relaxed);
        self.0.age_seconds.store(backlog.age_seconds.to_bits(), Ordering::Relaxed);
    }
}

/// Sequences until told to stop, and once more then. Any number of processes may do so: one of them holds the lease.
pub async fn run_sequencer(work: Arc<Work>, owner: String, lag: Lag, mut stop: Stop) {
    let mut sequencer = Sequencer {
        work: Arc::clone(&work),
        owner,
        lag,
        partitions_at: None,
        housekeeping_at: None,
        sequencing: Trouble::of("sequencing audit events"),
        keeping: Trouble::of("housekeeping of the audit log"),
    };
    loop {
        sequencer.keep_house().await;
        let goes_on = match sequencer.round().await {
            Round::Full => stop.sleep(Duration::ZERO).await,
            Round::Waiting => stop.sleep(POLL).await,
            Round::Drained => {
                tokio::select! {
                    () = stop.wait() => false,
                    () = work.wakes().sequencer.notified() => stop.sleep(GATHER).await,
                    () = tokio::time::sleep(POLL) => true,
                }
            }
        };
        if !goes_on {
            break;
        }
    }
    sequencer.housekeeping_at = None;
    sequencer.keep_house().await;
    sequencer.round().await;
    sequencer.give_up_lease().await;
}

struct Sequencer {
    work: Arc<Work>,
    owner: String,
    lag: Lag,
    partitions_at: Option<Duration>,
    housekeeping_at: Option<Duration>,
    sequencing: Trouble,
    keeping: Trouble,
}

enum Round {
    /// There is more.
    Full,
    /// There was less than a batch.
    Drained,
    /// Another process holds the lease, or the database is away.
    Waiting,
}

impl Sequencer {
    async fn round(&mut self) -> Round {
        let turned = self.partitions_and_turn().await;
        match self.sequencing.note(turned) {
            Some(Turn::Done(count)) if i64::try_from(count).is_ok_and(|count| count < BATCH_MAX) => {
                Round::Drained
            }
            Some(Turn::Done(_)) => Round::Full,
            Some(Turn::Elsewhere) | None => Round::Waiting,
        }
    }

    async fn partitions_and_turn(&mut self) -> Result<Turn, WorkError> {
        let now = self.work.clock().monotonic();
        if is_due(self.partitions_at, PARTITIONS, now) {
            if !keep_partitions(&self.work, &self.owner).await? {
                return Ok(Turn::Elsewhere);
            }
            self.partitions_at = Some(now);
        }
        turn(&self.work, &self.owner).await
    }

    async fn give_up_lease(&mut self) {
        let release = async |tx: &mut UpkeepTx<'_>| Ok(jobs::release(tx, LEASE, &self.owner).await?);
        let released = self.work.upkeep(Upkeep::Sequence, release).await;
        self.sequencing.note::<(), WorkError>(released);
    }

    async fn keep_house(&mut self) {
        let now = self.work.clock().monotonic();
        if !is_due(self.housekeeping_at, HOUSEKEEPING, now) {
            return;
        }
        self.housekeeping_at = Some(now);
        let kept = backlog(&self.work).await;
        if let Some(backlog) = self.keeping.note(kept) {
            self.lag.note(backlog);
        }
    }
}

fn is_due(last: Option<Duration>, every: Duration, now: Duration) -> bool {
    last.is_none_or(|last| now.saturating_sub(last) >= every)
}

enum Turn {
    /// So many events got their places.
    Done(usize),
    /// Another process holds the lease.
    Elsewhere,
}

async fn turn(work: &Work, owner: &str) -> Result<Turn, WorkError> {
    let sequence = async |tx: &mut UpkeepTx<'_>| {
        if !jobs::hold(tx, LEASE, owner, LEASE_SECONDS).await? {
            return Ok::<_, WorkError>(None);
        }
        let head = store::lock_head(tx).await?;
        let taken = store::take_oldest(tx, BATCH_MAX).await?;
        if taken.is_empty() {
            return Ok(Some(vec![]));
        }
        let batch = Batch::build(&head, taken)?;
        store::insert(tx, &batch.placed, head.now).await?;
        batch.check(tx, &head).await?;
        batch.move_heads(tx, &head).await?;
        Ok(Some(batch.placed))
    };
    let Some(placed) = work.upkeep(Upkeep::Sequence, sequence).await? else { return Ok(Turn::Elsewhere) };
    work.metrics().sequenced(placed.len());
    for row in placed.iter().filter(|row| row.tampered) {
        tell_tampered(row.row.org, row.row.event, row.seq);
    }
    Ok(Turn::Done(placed.len()))
}

fn tell_tampered(org: OrgId, event: EventId, seq: i64) {
    tracing::error!(org.id = %org, event.id = %event, seq, "an audit event was altered before it was sequenced");
}

/// Entries in their places, and where log and chains stand after them.
struct Batch {
    placed: Vec<Placed>,
    peaks: Peaks,
    heads: BTreeMap<OrgId, OrgHead>,
}

impl Batch {
    fn build(head: &Head, taken: Vec<Taken>) -> Result<Self, StorageError> {
        let mut batch =
            Self { placed: Vec::with_capacity(taken.len()), peaks: peaks(head)?, heads: BTreeMap::new() };
        for (taken, seq) in taken.into_iter().zip(head.size..) {
            batch.place(taken, seq, head.now)?;
        }
        Ok(batch)
    }

    fn place(&mut self, taken: Taken, seq: i64, now: DateTime<Utc>) -> Result<(), StorageError> {
        let Taken { waiting, head } = taken;
        let last = match (self.heads.get(&waiting.row.org), head) {
            (Some(last), _) => Some(*last),
            (None, Some((org_seq, leaf))) => Some(OrgHead { org_seq, leaf: hash(&leaf)? }),
            (None, None) => None,
        };
        let org_seq = last.map_or(0, |last| last.org_seq) + 1;
        let place = Place { org_seq, prev: last.map(|last| last.leaf), sequenced_at: now };
        let entry = build_entry(&waiting, &place);
        self.peaks.append(entry.leaf);
        self.heads.insert(waiting.row.org, OrgHead { org_seq, leaf: entry.leaf });
        let (row, tampered) = (waiting.row, waiting.tampered);
        self.placed.push(Placed { seq, org_seq, prev: place.prev, row, tampered, entry });
        Ok(())
    }

    /// Reads the entries back and hashes them a second time: what memory or storage garbled must not be built upon.
    async fn check(&self, tx: &mut UpkeepTx<'_>, head: &Head) -> Result<(), WorkError> {
        let stored = store::list_stored(tx, head.size, head.now, BATCH_MAX).await?;
        let mut again = peaks(head)?;
        for (row, seq) in stored.iter().zip(head.size..) {
            let leaf = leaf_hash(&row.entry);
            if row.seq != seq || row.leaf != leaf {
                return Err(StorageError::Value("audit_log: an entry is not what was written").into());
            }
            again.append(leaf);
        }
        if again != self.peaks {
            return Err(StorageError::Value("audit_log: the entries are not those that were written").into());
        }
        Ok(())
    }

    async fn move_heads(&self, tx: &mut UpkeepTx<'_>, head: &Head) -> Result<(), WorkError> {
        if store::move_org_heads(tx, &self.heads).await? != self.heads.len() {
            return Err(StorageError::Value("audit_org_head: a chain has moved on").into());
        }
        let size = i64::try_from(self.peaks.size()).map_err(|_| StorageError::Value("audit_head.size"))?;
        if store::move_head(tx, head.size, size, self.peaks.to_bytes()).await? != 1 {
            return Err(StorageError::Value("audit_head: the log has moved on").into());
        }
        Ok(())
    }
}

fn peaks(head: &Head) -> Result<Peaks, StorageError> {
    let size = u64::try_from(head.size).ok();
    size.and_then(|size| Peaks::from_bytes(size, &head.peaks)).ok_or(StorageError::Value("audit_head.peaks"))
}

fn hash(bytes: &[u8]) -> Result<Hash, StorageError> {
    bytes.try_into().map_err(|_| StorageError::Value("audit_org_head.leaf"))
}
