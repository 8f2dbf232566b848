//! The ladders, and what is done for an account that many guess at.
use chrono::{DateTime, TimeDelta, Utc};

/// After so many free failures, each further one delays the next attempt by a step more.
#[derive(Debug)]
pub(super) struct Ladder {
    pub(super) free: i32,
    pub(super) delays_seconds: &'static [i64],
}

/// Of one account in one network, known or not.
pub(super) const HERE: Ladder =
    Ladder { free: 5, delays_seconds: &[1, 3, 5, 10, 30, 60, 120, 300, 600, 900] };
/// Of one network: an office has many people.
pub(super) const NETWORK: Ladder = Ladder { free: 100, delays_seconds: &[5, 10, 30, 60, 300, 900] };
/// Failures are forgotten after a day without one.
pub(super) const FORGOTTEN_AFTER: TimeDelta = TimeDelta::days(1);
/// After so many failures, wherever they come from, an account is attacked.
const ATTACKED_FROM: i32 = 100;
/// Then all networks from which nobody got in lately have one attempt together in this time.
pub(super) const TURN: TimeDelta = TimeDelta::seconds(5);
/// What stands longer is no turn but the stop of a release that had none. Far longer than a request takes and clocks differ:
/// a turn that was taken by a later clock is not free to an earlier one.
pub(super) const TURN_MAX: TimeDelta = TimeDelta::hours(1);
/// Where so many of these failed within a day, none more is tried: who guesses does not take the turns of who does not.
const TURNS_FAILED_MAX: i32 = 3;
/// From where its owner got in so lately, he does not wait for others.
pub(super) const FAMILIAR_FOR: TimeDelta = TimeDelta::days(90);

impl Ladder {
    /// How long the next attempt has to wait after this many failures.
    pub(super) fn delay(&self, failures: i32) -> Option<TimeDelta> {
        let step = usize::try_from(failures - self.free).ok()?.checked_sub(1)?;
        let seconds = self.delays_seconds.get(step).or(self.delays_seconds.last())?;
        Some(TimeDelta::seconds(*seconds))
    }
}

/// What is known of an account, and of the network that it is tried from.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Known {
    /// Of the account, wherever they came from.
    pub(super) failures: i32,
    pub(super) last_failure_at: Option<DateTime<Utc>>,
    pub(super) turn_until: Option<DateTime<Utc>>,
    /// By what was tried from this network.
    pub(super) blocked_until: Option<DateTime<Utc>>,
    /// At this account, from this network.
    pub(super) failures_here: i32,
    pub(super) last_failure_here_at: Option<DateTime<Utc>>,
    pub(super) last_success_at: Option<DateTime<Utc>>,
}

impl Known {
    /// Is the account guessed at from everywhere?
    pub(super) fn is_attacked(&self, now: DateTime<Utc>) -> bool {
        let remembered = self.last_failure_at.is_some_and(|at| now - at <= FORGOTTEN_AFTER);
        remembered && self.failures >= ATTACKED_FROM
    }

    /// Was its owner here lately?
    pub(super) fn is_familiar(&self, now: DateTime<Utc>) -> bool {
        self.last_success_at.is_some_and(|at| now - at < FAMILIAR_FOR)
    }

    /// How long what was tried from here has to be waited for.
    pub(super) fn wait(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.blocked_until.map(|until| until - now).filter(|wait| *wait > TimeDelta::zero())
    }

    /// How long this network has had its turns.
    pub(super) fn turns_come_in(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let left = self.last_failure_here_at? + FORGOTTEN_AFTER - now;
        (self.failures_here >= TURNS_FAILED_MAX && left > TimeDelta::zero()).then_some(left)
    }

    /// How long somebody else has the turn.
    pub(super) fn turn_ends_in(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.turn_until.map(|until| until - now).filter(|left| *left > TimeDelta::zero() && *left <= TURN_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_is_free_then_steep_then_flat() {
        let seconds = |failures| HERE.delay(failures).map(|delay| delay.num_seconds());
        assert_eq!(
            (0..=7).map(seconds).collect::<Vec<_>>(),
            [None, None, None, None, None, None, Some(1), Some(3)]
        );
        assert_eq!((seconds(15), seconds(1_000_000)), (Some(900), Some(900)));
        assert_eq!(NETWORK.delay(1_000_000).map(|delay| delay.num_seconds()), Some(900));
    }

    #[test]
    fn an_account_is_attacked_after_a_hundred_failures_of_one_day() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let count = |failures, ago| Known { failures, last_failure_at: Some(now - ago), ..Known::default() };
        assert!(count(100, TimeDelta::days(1)).is_attacked(now));
        assert!(!count(99, TimeDelta::zero()).is_attacked(now));
        assert!(!count(1000, TimeDelta::days(1) + TimeDelta::milliseconds(1)).is_attacked(now));
        assert!(!Known::default().is_attacked(now));
    }

    #[test]
    fn a_network_has_three_failed_turns_a_day() {
        let now = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
        let comes_in = |failures_here, ago| {
            let last_failure_here_at = Some(now - TimeDelta::hours(ago));
            Known { failures_here, last_failure_here_at, ..Known::default() }.turns_come_in(now)
        };
        assert_eq!((comes_in(2, 0), comes_in(3, 1)), (None, Some(TimeDelta::hours(23))));
        assert_eq!(comes_in(1000, 24), None);
    }

    #[test]
    fn nobody_waits_longer_than_a_turn_for_another() {
        let now = DateTime::UNIX_EPOCH;
        let ends_in = |seconds| {
            let turn_until = Some(now + TimeDelta::seconds(seconds));
            Known { turn_until, ..Known::default() }.turn_ends_in(now)
        };
        assert_eq!((ends_in(0), ends_in(5)), (None, Some(TURN)));
        assert_eq!(ends_in(60 * 60 * 24 * 3650), None, "a stop of an older release");
    }
}
