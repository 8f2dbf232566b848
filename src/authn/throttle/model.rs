//! The ladders.
use chrono::TimeDelta;

/// After so many free failures, each further one delays the next attempt by a step more.
#[derive(Debug)]
pub(super) struct Ladder {
    pub(super) free: i32,
    pub(super) delays_seconds: &'static [i64],
    /// From so many failures on there is no next attempt.
    pub(super) stop: Option<i32>,
}

/// Of one account, known or not.
pub(super) const ACCOUNT: Ladder =
    Ladder { free: 5, delays_seconds: &[1, 3, 5, 10, 30, 60, 120, 300, 600, 900], stop: Some(100) };
/// Of one network: an office has many people.
pub(super) const NETWORK: Ladder =
    Ladder { free: 100, delays_seconds: &[5, 10, 30, 60, 300, 900], stop: None };
/// Failures are forgotten after a day without one.
pub(super) const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(1);
/// Stands for good, until somebody unlocks.
const STOPPED: TimeDelta = TimeDelta::days(3650);

impl Ladder {
    /// How long the next attempt has to wait after this many failures.
    pub(super) fn delay(&self, failures: i32) -> Option<TimeDelta> {
        if self.stop.is_some_and(|stop| failures >= stop) {
            return Some(STOPPED);
        }
        let step = usize::try_from(failures - self.free).ok()?.checked_sub(1)?;
        let seconds = self.delays_seconds.get(step).or(self.delays_seconds.last())?;
        Some(TimeDelta::seconds(*seconds))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_is_free_then_steep_then_flat_then_over() {
        let seconds = |failures| ACCOUNT.delay(failures).map(|delay| delay.num_seconds());
        assert_eq!(
            (0..=7).map(seconds).collect::<Vec<_>>(),
            [None, None, None, None, None, None, Some(1), Some(3)]
        );
        assert_eq!((seconds(15), seconds(99)), (Some(900), Some(900)));
        assert_eq!(ACCOUNT.delay(100), Some(STOPPED));
        assert_eq!(NETWORK.delay(1_000_000).map(|delay| delay.num_seconds()), Some(900));
    }
}
