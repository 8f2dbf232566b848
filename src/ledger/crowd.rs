//! What no single count shows: one thing seen with many others in a short while. In memory, and bounded.
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// What is noted together: it is forgotten after this time.
const WINDOW: Duration = Duration::from_mins(10);
/// Things of one pattern that are watched at once. Beyond, new ones are not.
const WATCHED_MAX: usize = 10_000;
/// How often what is over is looked for at most, once so many are watched: it takes a look at each.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// What is looked for in failed sign-ins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Pattern {
    /// One network tries many accounts that there are.
    Stuffing,
    /// One network tries many accounts that there are not.
    Enumeration,
    /// Many networks try one account.
    Account,
    /// Many networks try the accounts of one org.
    Org,
}

impl Pattern {
    const ALL: [Self; 4] = [Self::Stuffing, Self::Enumeration, Self::Account, Self::Org];

    /// So many others make it one.
    pub(crate) fn threshold(self) -> usize {
        match self {
            Self::Stuffing | Self::Enumeration | Self::Account => 20,
            Self::Org => 50,
        }
    }

    /// The code of its event.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Stuffing => "CREDENTIAL_STUFFING",
            Self::Enumeration => "ACCOUNT_ENUMERATION",
            Self::Account => "ACCOUNT_UNDER_ATTACK",
            Self::Org => "ORG_UNDER_ATTACK",
        }
    }

    /// In metrics.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Stuffing => "stuffing",
            Self::Enumeration => "enumeration",
            Self::Account => "account",
            Self::Org => "org",
        }
    }
}

/// What one process has seen lately. What it is told are digests: whom they stand for, it does not know.
#[derive(Default)]
pub(crate) struct Crowds([Mutex<Watched>; Pattern::ALL.len()]);

#[derive(Default)]
struct Watched {
    crowds: HashMap<u64, Crowd>,
    swept_at: Duration,
}

struct Crowd {
    began: Duration,
    others: Vec<u64>,
}

impl Crowds {
    /// Notes that one was seen with another. `true`, once in a window: with this one they are many.
    pub(crate) fn is_many(&self, pattern: Pattern, one: u64, other: u64, now: Duration) -> bool {
        let place = Pattern::ALL.iter().position(|known| *known == pattern);
        let Some(watched) = place.and_then(|place| self.0.get(place)) else { return false };
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.crowds.len() >= WATCHED_MAX && now.saturating_sub(watched.swept_at) >= SWEEP_EVERY {
            watched.crowds.retain(|_, crowd| now.saturating_sub(crowd.began) < WINDOW);
            watched.swept_at = now;
        }
        if watched.crowds.len() >= WATCHED_MAX && !watched.crowds.contains_key(&one) {
            return false;
        }
        let fresh = || Crowd { began: now, others: vec![] };
        let crowd = watched.crowds.entry(one).or_insert_with(fresh);
        if now.saturating_sub(crowd.began) >= WINDOW {
            *crowd = fresh();
        }
        if crowd.others.len() >= pattern.threshold() || crowd.others.contains(&other) {
            return false;
        }
        crowd.others.push(other);
        crowd.others.len() == pattern.threshold()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_different_ones_are_told_once_a_window() {
        let (crowds, at) = (Crowds::default(), Duration::from_secs);
        let seen = |other, second| crowds.is_many(Pattern::Account, 1, other, at(second));
        assert!(!(0..1000).any(|_| seen(7, 0)), "the same one again is one");
        assert_eq!((0..1000).filter(|other| seen(*other, 1)).collect::<Vec<_>>(), [19], "with 7, twenty");
        assert!(!crowds.is_many(Pattern::Stuffing, 1, 20, at(1)), "each pattern by itself");
        assert!(!crowds.is_many(Pattern::Account, 2, 20, at(1)), "and each one");
        assert_eq!((0..1000).filter(|other| seen(*other, 600)).count(), 1, "a new window");
    }

    #[test]
    fn what_is_watched_is_bounded_and_what_is_over_makes_room() {
        let crowds = Crowds::default();
        let watched = || crowds.0[2].lock().unwrap().crowds.len();
        for one in 0..20_000 {
            crowds.is_many(Pattern::Account, one, 1, SWEEP_EVERY);
        }
        assert_eq!(watched(), WATCHED_MAX);
        crowds.is_many(Pattern::Account, 20_000, 1, SWEEP_EVERY + WINDOW);
        assert_eq!(watched(), 1);
    }
}
