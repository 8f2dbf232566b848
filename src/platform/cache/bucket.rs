//! Buckets that fill again by themselves (GCRA): of each only the time is kept at which it will be full.
use crate::platform::clock::Clock;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Buckets that are not full, in one process. A full one is forgotten: it is as if it had never been asked.
const BUCKETS_MAX: usize = 100_000;
/// How often the full ones are looked for at most, once there are so many: it takes a look at each.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// How much a bucket holds, and how fast it fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// So many may be taken at once.
    pub burst: u32,
    /// After so long one more is in it.
    pub every: Duration,
}

/// What came of asking some buckets for one each. It is one from each, or none from any.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Taken {
    /// What is left in each.
    Allowed(Vec<Left>),
    /// The `nth` of them had none, and will have one after `wait`; of several that had none, the one with the longest.
    Refused { nth: usize, wait: Duration },
}

/// What is left in a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Left {
    pub count: u32,
    /// After so long it is full.
    pub full_in: Duration,
}

impl Rate {
    /// So many at once, and so many a minute over time.
    pub fn per_minute(burst: u32, per_minute: u32) -> Self {
        Self { burst, every: Duration::from_mins(1) / per_minute.max(1) }
    }

    /// How long an empty bucket takes to be full.
    pub fn window(&self) -> Duration {
        self.every.saturating_mul(self.burst)
    }

    /// Of a bucket that is full after this time.
    pub(super) fn left(&self, full_in: Duration) -> Left {
        let free = self.window().saturating_sub(full_in).as_nanos() / self.every.as_nanos().max(1);
        Left { count: u32::try_from(free).unwrap_or(u32::MAX), full_in }
    }
}

/// The buckets of one process.
pub(super) struct Buckets {
    clock: Clock,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    full_at: HashMap<String, Duration>,
    swept_at: Duration,
}

impl Buckets {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, held: Mutex::default() }
    }

    /// Takes one from each, if each has one.
    pub(super) fn take(&self, wanted: &[(String, Rate)]) -> Taken {
        let now = self.clock.monotonic();
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = held.look(wanted, now);
        if matches!(taken, Taken::Allowed(_)) {
            held.note(wanted, now);
        }
        taken
    }

    /// What `take` would say.
    pub(super) fn look(&self, wanted: &[(String, Rate)]) -> Taken {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).look(wanted, self.clock.monotonic())
    }

    /// Counts what was taken elsewhere.
    pub(super) fn note(&self, wanted: &[(String, Rate)]) {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).note(wanted, self.clock.monotonic());
    }
}

impl Held {
    /// When it will be full once one more is taken, however much was noted in it.
    fn full_at(&self, bucket: &str, rate: Rate, now: Duration) -> Duration {
        let held = self.full_at.get(bucket).copied().unwrap_or_default();
        held.clamp(now, now + rate.window()) + rate.every
    }

    fn look(&self, wanted: &[(String, Rate)], now: Duration) -> Taken {
        let (mut left, mut refused) = (Vec::with_capacity(wanted.len()), None);
        for (nth, (bucket, rate)) in wanted.iter().enumerate() {
            let full_in = self.full_at(bucket, *rate, now).saturating_sub(now);
            let wait = full_in.saturating_sub(rate.window());
            if !wait.is_zero() && refused.is_none_or(|(_, longest)| wait > longest) {
                refused = Some((nth, wait));
            }
            left.push(rate.left(full_in));
        }
        refused.map_or(Taken::Allowed(left), |(nth, wait)| Taken::Refused { nth, wait })
    }

    fn note(&mut self, wanted: &[(String, Rate)], now: Duration) {
        if self.full_at.len() >= BUCKETS_MAX && now.saturating_sub(self.swept_at) >= SWEEP_EVERY {
            self.full_at.retain(|_, full_at| *full_at > now);
            self.swept_at = now;
        }
        for (bucket, rate) in wanted {
            let full_at = self.full_at(bucket, *rate, now);
            // Rather uncounted than refused: behind the buckets stands what counts wrong secrets.
            if self.full_at.len() < BUCKETS_MAX || self.full_at.contains_key(bucket) {
                self.full_at.insert(bucket.clone(), full_at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    const RATE: Rate = Rate { burst: 3, every: Duration::from_secs(10) };

    fn buckets() -> Buckets {
        Buckets::new(Clock::manual(DateTime::UNIX_EPOCH))
    }

    /// How long to wait; not at all, where there was one.
    fn wait(taken: Taken) -> Duration {
        match taken {
            Taken::Allowed(_) => Duration::ZERO,
            Taken::Refused { wait, .. } => wait,
        }
    }

    #[test]
    fn what_is_in_it_goes_at_once_and_the_rest_as_it_fills() {
        let buckets = buckets();
        let take = || wait(buckets.take(&[("a".into(), RATE)]));
        assert_eq!([take(), take(), take()], [Duration::ZERO; 3]);
        assert_eq!(take(), Duration::from_secs(10));
        buckets.clock.tick(Duration::from_millis(9_999));
        assert_eq!(take(), Duration::from_millis(1), "refusals take nothing");
        buckets.clock.tick(Duration::from_millis(1));
        assert_eq!([take(), take()], [Duration::ZERO, Duration::from_secs(10)]);
        assert_eq!(wait(buckets.take(&[("b".into(), RATE)])), Duration::ZERO, "each has its own");
        buckets.clock.tick(Duration::from_hours(1));
        assert_eq!([take(), take(), take()], [Duration::ZERO; 3], "it holds no more than its burst");
        assert!(!take().is_zero());
    }

    #[test]
    fn of_several_it_is_one_from_each_or_none_from_any() {
        let buckets = buckets();
        let (own, all) = (("own".to_owned(), RATE), ("all".to_owned(), Rate { burst: 1, ..RATE }));
        let (second, none) = (Duration::from_secs(10), Duration::ZERO);
        let left = |count, full_in| Left { count, full_in };
        let both = [own.clone(), all.clone()];
        assert_eq!(buckets.take(&both), Taken::Allowed(vec![left(2, second), left(0, second)]));
        for _ in 0..5 {
            assert_eq!(buckets.take(&both), Taken::Refused { nth: 1, wait: second });
        }
        let own = [own];
        assert_eq!([wait(buckets.take(&own)), wait(buckets.take(&own))], [none, none]);
        assert_eq!(buckets.take(&own), Taken::Refused { nth: 0, wait: second });
        assert_eq!(buckets.take(&[]), Taken::Allowed(vec![]));
    }

    #[test]
    fn whatever_was_noted_it_is_no_fuller_than_full() {
        let (buckets, bucket) = (buckets(), [("a".to_owned(), RATE)]);
        for _ in 0..100 {
            buckets.note(&bucket);
        }
        assert!(wait(buckets.take(&bucket)) <= RATE.every * 2);
    }

    #[test]
    fn they_are_bounded_and_full_ones_make_room() {
        let buckets = buckets();
        buckets.clock.tick(SWEEP_EVERY);
        let held = || buckets.held.lock().unwrap().full_at.len();
        for bucket in 0..=BUCKETS_MAX {
            assert_eq!(wait(buckets.take(&[(bucket.to_string(), RATE)])), Duration::ZERO);
        }
        assert_eq!(held(), BUCKETS_MAX);
        buckets.clock.tick(RATE.every);
        assert_eq!(wait(buckets.take(&[("one more".into(), RATE)])), Duration::ZERO);
        assert_eq!(held(), 1);
    }

    #[test]
    fn a_rate_is_so_many_a_minute() {
        assert_eq!(Rate::per_minute(5, 600).every, Duration::from_millis(100));
        assert_eq!(Rate::per_minute(5, 600).window(), Duration::from_millis(500));
    }
}
