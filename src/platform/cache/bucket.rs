//! Buckets that fill again by themselves (GCRA): of each only the time is kept at which it will be full.
use crate::platform::clock::Clock;
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Buckets that are not full, in one process. A full one is forgotten: it is as if it had never been asked.
const BUCKETS_MAX: usize = 100_000;

/// How much a bucket holds, and how fast it fills.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// So many may be taken at once.
    pub burst: u32,
    /// After so long one more is in it.
    pub every: Duration,
}

/// What came of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// There was one.
    Allowed,
    /// There will be one after this time.
    Refused(Duration),
}

impl Rate {
    /// So many at once, and so many a minute over time.
    pub fn per_minute(burst: u32, per_minute: u32) -> Self {
        Self { burst, every: Duration::from_mins(1) / per_minute.max(1) }
    }
}

/// The buckets of one process.
pub(super) struct Buckets {
    clock: Clock,
    full_at: Mutex<HashMap<String, Duration>>,
}

impl Buckets {
    pub(super) fn new(clock: Clock) -> Self {
        Self { clock, full_at: Mutex::default() }
    }

    pub(super) fn take(&self, bucket: &str, rate: Rate) -> Taken {
        let now = self.clock.monotonic();
        let mut all = self.full_at.lock().unwrap_or_else(PoisonError::into_inner);
        let full_at = all.get(bucket).copied().unwrap_or_default().max(now) + rate.every;
        let allowed_at = full_at.saturating_sub(rate.every * rate.burst);
        let wait = allowed_at.saturating_sub(now);
        if !wait.is_zero() {
            return Taken::Refused(wait);
        }
        if all.len() >= BUCKETS_MAX {
            all.retain(|_, full_at| *full_at > now);
        }
        // Rather uncounted than refused: behind the buckets stands what counts wrong secrets.
        if all.len() < BUCKETS_MAX || all.contains_key(bucket) {
            all.insert(bucket.to_owned(), full_at);
        }
        Taken::Allowed
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

    #[test]
    fn what_is_in_it_goes_at_once_and_the_rest_as_it_fills() {
        let buckets = buckets();
        let take = || buckets.take("a", RATE);
        assert_eq!([take(), take(), take()], [Taken::Allowed; 3]);
        assert_eq!(take(), Taken::Refused(Duration::from_secs(10)));
        buckets.clock.tick(Duration::from_millis(9_999));
        assert_eq!(take(), Taken::Refused(Duration::from_millis(1)), "refusals take nothing");
        buckets.clock.tick(Duration::from_millis(1));
        assert_eq!([take(), take()], [Taken::Allowed, Taken::Refused(Duration::from_secs(10))]);
        assert_eq!(buckets.take("b", RATE), Taken::Allowed, "each has its own");
        buckets.clock.tick(Duration::from_hours(1));
        assert_eq!([take(), take(), take()], [Taken::Allowed; 3], "it holds no more than its burst");
        assert!(matches!(take(), Taken::Refused(_)));
    }

    #[test]
    fn they_are_bounded_and_full_ones_make_room() {
        let buckets = buckets();
        let held = || buckets.full_at.lock().unwrap().len();
        for bucket in 0..=BUCKETS_MAX {
            assert_eq!(buckets.take(&bucket.to_string(), RATE), Taken::Allowed);
        }
        assert_eq!(held(), BUCKETS_MAX);
        buckets.clock.tick(RATE.every);
        assert_eq!(buckets.take("one more", RATE), Taken::Allowed);
        assert_eq!(held(), 1);
    }

    #[test]
    fn a_rate_is_so_many_a_minute() {
        assert_eq!(Rate::per_minute(5, 600).every, Duration::from_millis(100));
    }
}
