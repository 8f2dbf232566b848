//! The background task. Any number of processes may run it: one of them holds the lease.
use super::{
    error::RelayError,
    model::{Behind, Relayed, record},
    store::{self, Position, Relayable},
};
use crate::{
    jobs::{self, Lease},
    platform::{
        bus::{Bus, BusError, Record},
        db::StorageError,
        health::Health,
        metrics::Metrics,
        tasks::Stop,
        telemetry::{Trouble, chain},
    },
    work::{Upkeep, UpkeepTx, Work, WorkError},
};
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use uuid::Uuid;

/// Entries of one turn, and their bytes.
const BATCH_MAX: i64 = 500;
const BATCH_BYTES_MAX: i64 = 4 * 1024 * 1024;
const LEASE: &str = "relay";
/// Longer than a turn takes, so that it is lost only by who is frozen or dead.
const LEASE_SECONDS: i32 = 30;
const PUBLISH_MAX: Duration = Duration::from_secs(20);
/// How long a turn may go on after we were told to stop. Cut off, it is sent again by whoever comes next.
const STOP_MAX: Duration = Duration::from_secs(5);
/// How often the log is looked at for new entries.
const POLL: Duration = Duration::from_millis(500);
/// How often the brokers are asked where nothing was sent, and how far behind we are is measured.
const PROBE: Duration = Duration::from_secs(30);
const MEASURE: Duration = Duration::from_secs(10);
/// After the first failure, and then twice as long each time, but no longer than that.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A fault that may pass is one from this time in a row on.
const FAULT_FROM: u32 = 3;
/// Where a person must act first.
const FAULT_PAUSE: Duration = Duration::from_mins(1);
/// What `/readyz` calls the brokers.
const DEPENDENCY: &str = "kafka";

/// Copies the log to one topic.
#[derive(Clone)]
pub struct Relay {
    work: Arc<Work>,
    bus: Arc<Bus>,
    topic: String,
    owner: String,
    /// What a turn that failed has not had acknowledged.
    left: Arc<Mutex<Option<Left>>>,
}

/// The rest of a batch, for as long as the position stands where it begins. What was acknowledged of it is on the topic,
/// whoever held the lease since.
struct Left {
    log_id: Uuid,
    from: i64,
    to: i64,
    count: usize,
    records: Vec<Record>,
}

/// How far behind a topic is.
pub async fn measure(work: &Work, topic: &str) -> Result<Behind, WorkError> {
    let measure = async |tx: &mut UpkeepTx<'_>| Ok(store::measure(tx, topic).await?);
    work.upkeep(Upkeep::Relay, measure).await
}

/// What one turn has to send.
struct Batch {
    lease: Lease,
    position: Position,
    entries: Vec<Relayable>,
}

impl Relay {
    /// Under a name that is this process's own.
    pub fn new(work: Arc<Work>, bus: Arc<Bus>, topic: String, owner: String) -> Self {
        Self { work, bus, topic, owner, left: Arc::default() }
    }

    /// Sends the oldest entries that the topic does not have yet.
    #[tracing::instrument(name = "audit.relay", skip_all, err(level = "debug"))]
    pub async fn turn(&self) -> Result<Relayed, RelayError> {
        let Some(Batch { lease, position, entries }) = self.take().await? else {
            return Ok(Relayed::Elsewhere);
        };
        let from = position.next_seq;
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut batch = match left.filter(|left| (left.log_id, left.from) == (position.log_id, from)) {
            Some(left) => left,
            None => {
                let Some(to) = entries.last().map(|last| last.seq + 1) else { return Ok(Relayed::Nothing) };
                let count = entries.len();
                let records = entries.into_iter().map(|entry| record(position.log_id, entry)).collect();
                Left { log_id: position.log_id, from, to, count, records }
            }
        };
        let published = tokio::time::timeout(PUBLISH_MAX, self.bus.publish(&self.topic, &mut batch.records));
        let published = published.await.map_err(|_| BusError::Timeout)?;
        let (to, count) = (batch.to, batch.count);
        let moved = match published {
            Ok(()) => self.advance(&lease, from, to).await.map_err(RelayError::from),
            Err(error) => Err(error.into()),
        };
        if moved.is_err() {
            *self.left.lock().unwrap_or_else(PoisonError::into_inner) = Some(batch);
        }
        if !moved? {
            return Ok(Relayed::Overtaken);
        }
        self.work.metrics().relayed(count);
        Ok(Relayed::Sent(count))
    }

    async fn take(&self) -> Result<Option<Batch>, WorkError> {
        let take = async |tx: &mut UpkeepTx<'_>| {
            let Some(lease) = jobs::take(tx, LEASE, &self.owner, LEASE_SECONDS).await? else {
                return Ok::<_, WorkError>(None);
            };
            let position = store::find_position(tx, &self.topic).await?;
            let entries = store::list_from(tx, position.next_seq, BATCH_MAX, BATCH_BYTES_MAX).await?;
            // Sent without them, the missing ones would never be missed.
            let hole = entries.iter().zip(position.next_seq..).any(|(entry, seq)| entry.seq != seq);
            if hole || entries.is_empty() && position.next_seq < position.size {
                return Err(StorageError::Value("audit_log: entries to be relayed are missing").into());
            }
            Ok(Some(Batch { lease, position, entries }))
        };
        self.work.upkeep(Upkeep::Relay, take).await
    }

    /// Moves the position, unless somebody else held the lease since: the row of the lease stays locked until then.
    async fn advance(&self, lease: &Lease, from: i64, to: i64) -> Result<bool, WorkError> {
        let advance = async |tx: &mut UpkeepTx<'_>| {
            let held = jobs::take(tx, LEASE, &self.owner, LEASE_SECONDS).await?;
            Ok(held.as_ref() == Some(lease) && store::move_position(tx, &self.topic, from, to).await? == 1)
        };
        self.work.upkeep(Upkeep::Relay, advance).await
    }

    async fn give_up_lease(&self) -> Result<(), WorkError> {
        let release = async |tx: &mut UpkeepTx<'_>| Ok(jobs::release(tx, LEASE, &self.owner).await?);
        self.work.upkeep(Upkeep::Relay, release).await
    }

    /// Relays until told to stop, and says among health and metrics how it goes.
    pub async fn run(self, health: Health, metrics: Metrics, mut stop: Stop) {
        let lag = Lag::default();
        lag.register(&metrics);
        let mut round = Rounds {
            relay: self,
            health,
            lag,
            probed_at: None,
            measured_at: None,
            failures: 0,
            unread: 0,
            reading: Trouble::of("reading the audit log to relay it"),
            measuring: Trouble::of("measuring how far the relay is behind"),
        };
        loop {
            round.measure().await;
            let mut told = stop.clone();
            let given_up = async {
                told.wait().await;
                tokio::time::sleep(STOP_MAX).await;
            };
            let pause = tokio::select! {
                pause = round.go() => pause,
                () = given_up => break,
            };
            if !stop.sleep(pause).await {
                break;
            }
        }
        let released = round.relay.give_up_lease().await;
        round.reading.note(released);
    }
}

struct Rounds {
    relay: Relay,
    health: Health,
    lag: Lag,
    probed_at: Option<Duration>,
    measured_at: Option<Duration>,
    /// In a row: of the brokers, and of the database.
    failures: u32,
    unread: u32,
    reading: Trouble,
    measuring: Trouble,
}

impl Rounds {
    /// One turn; says how long to wait for the next.
    async fn go(&mut self) -> Duration {
        let (probed, turned) = match self.probe().await {
            Ok(probed) => (probed, self.relay.turn().await),
            Err(error) => (false, Err(error.into())),
        };
        match turned {
            Ok(relayed) => {
                self.reading.note(Ok::<_, WorkError>(()));
                self.unread = 0;
                let sent = matches!(relayed, Relayed::Sent(_));
                // Not before the turn: brokers that list topics need not take records.
                if probed || sent {
                    self.answered();
                }
                if sent { Duration::ZERO } else { POLL }
            }
            Err(RelayError::Work(error)) => {
                self.reading.note(Err::<(), _>(error));
                self.unread = self.unread.saturating_add(1);
                pause(self.unread).max(POLL)
            }
            Err(RelayError::Bus(error)) => self.failed(&error).await,
        }
    }

    /// Asks the brokers at the start, after silence and after a failure, also in a process that does not hold the lease: its `/readyz`
    /// tells of its own way to them.
    async fn probe(&self) -> Result<bool, BusError> {
        let due = is_due(self.probed_at, PROBE, self.relay.work.clock().monotonic());
        if due {
            self.relay.bus.check(&self.relay.topic).await?;
        }
        Ok(due)
    }

    fn answered(&mut self) {
        self.probed_at = Some(self.relay.work.clock().monotonic());
        self.failures = 0;
        self.health.ok(DEPENDENCY, false);
    }

    async fn failed(&mut self, error: &BusError) -> Duration {
        self.failures = self.failures.saturating_add(1);
        self.probed_at = None;
        // A connection that was closed while nobody used it is no trouble yet: the next try connects anew.
        let fault = is_lasting(error, self.failures);
        if fault || self.failures > 1 {
            if self.health.all().get(DEPENDENCY).is_none_or(|known| known.detail != Some(error.to_string())) {
                tracing::warn!(error = chain(error), "relaying the audit log fails");
            }
            self.health.failing(DEPENDENCY, false, &error.to_string());
            // Another process may have a better way to the brokers.
            let released = self.relay.give_up_lease().await;
            self.reading.note(released);
        }
        if fault { FAULT_PAUSE } else { pause(self.failures) }
    }

    async fn measure(&mut self) {
        let now = self.relay.work.clock().monotonic();
        if !is_due(self.measured_at, MEASURE, now) {
            return;
        }
        self.measured_at = Some(now);
        let measured = measure(&self.relay.work, &self.relay.topic).await;
        if let Some(behind) = self.measuring.note(measured) {
            self.lag.note(behind);
        }
    }
}

fn is_due(last: Option<Duration>, every: Duration, now: Duration) -> bool {
    last.is_none_or(|last| now.saturating_sub(last) >= every)
}

/// Does a person have to mend something first, after so many failures in a row?
fn is_lasting(error: &BusError, failures: u32) -> bool {
    error.is_fault() && !(error.may_pass() && failures < FAULT_FROM)
}

/// How long to wait after so many failures in a row.
fn pause(failures: u32) -> Duration {
    let doubled = 2_u32.saturating_pow(failures.saturating_sub(1));
    PAUSE_MIN.saturating_mul(doubled).min(PAUSE_MAX)
}

/// The last measurement, for gauges.
#[derive(Clone, Debug, Default)]
struct Lag(Arc<Reading>);

#[derive(Debug, Default)]
struct Reading {
    relayed: AtomicU64,
    missing: AtomicU64,
    /// The bits of a float: there is no atomic one.
    age_seconds: AtomicU64,
}

impl Lag {
    fn register(&self, metrics: &Metrics) {
        let (relayed, missing, age) = (self.clone(), self.clone(), self.clone());
        metrics.gauge(
            "identityd_audit_relay_position",
            "Entries of the audit log that the brokers acknowledged, by whichever process",
            move || count(relayed.0.relayed.load(Ordering::Relaxed)),
        );
        metrics.gauge(
            "identityd_audit_relay_lag_events",
            "Entries of the audit log that the brokers have not acknowledged",
            move || count(missing.0.missing.load(Ordering::Relaxed)),
        );
        metrics.gauge(
            "identityd_audit_relay_lag_seconds",
            "How long ago the oldest of these got its place on the log",
            move || f64::from_bits(age.0.age_seconds.load(Ordering::Relaxed)),
        );
    }

    fn note(&self, behind: Behind) {
        self.0.relayed.store(behind.relayed, Ordering::Relaxed);
        self.0.missing.store(behind.missing, Ordering::Relaxed);
        self.0.age_seconds.store(behind.age_seconds.to_bits(), Ordering::Relaxed);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge; exact up to 2^53 entries")]
fn count(entries: u64) -> f64 {
    entries as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_called_for_what_lasts() {
        let after = |error: BusError| [1, 2, 3, 40].map(|failures| is_lasting(&error, failures));
        assert_eq!(after(BusError::Timeout), [false; 4]);
        assert_eq!(after(BusError::Missing("kafka.username")), [true; 4]);
        // As a broker says that has just come up.
        assert_eq!(after(BusError::Topic("audit.identity".to_owned())), [false, false, true, true]);
    }

    #[test]
    fn what_passes_is_tried_again_soon_and_then_less_often() {
        let pauses: Vec<_> = [1, 2, 3, 6, 7, 40].map(pause).into();
        let expected = [100, 200, 400, 3_200, 5_000, 5_000].map(Duration::from_millis);
        assert_eq!(pauses, expected);
    }
}
