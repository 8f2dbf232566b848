//! Refusals under attack: one by one while there are few, then counted, so that a flood cannot fill the log.
use super::Refused;
use crate::kernel::{Actor, Ctx};
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// Refusals of one caller, action and code that are written one by one each minute.
const SINGLE_MAX: u32 = 60;
const WINDOW: Duration = Duration::from_mins(1);
/// Callers that are told apart. Beyond, all others are counted as one.
const SOURCES_MAX: usize = 10_000;

/// Counts refusals by who, what and why.
#[derive(Default)]
pub(crate) struct Aggregator(Mutex<HashMap<Key, Window>>);

#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Key {
    who: Who,
    action: &'static str,
    code: String,
}

/// Who was refused.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Who {
    /// As events name actors, or `others`.
    Caller(String),
    /// Strangers of one /24 or /64, which may be one household: as personal as an address.
    Network(String),
}

struct Window {
    began: Duration,
    singles: u32,
    counted: u64,
    sample: Refused,
}

/// What to do with a refusal.
#[derive(PartialEq, Eq, Debug)]
pub(crate) enum Admission {
    /// Write it now.
    Single,
    /// It is counted, and the summary will tell.
    Counted,
}

/// Refusals that were only counted.
#[derive(Debug)]
pub(crate) struct Summary {
    pub(crate) sample: Refused,
    pub(crate) count: u64,
    pub(crate) who: Who,
}

impl Aggregator {
    /// Counts one.
    pub(crate) fn admit(&self, ctx: &Ctx, refused: &Refused, now: Duration) -> Admission {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = Key { who: who(ctx), action: refused.action.as_str(), code: refused.code.clone() };
        if windows.len() >= SOURCES_MAX && !windows.contains_key(&key) {
            key.who = Who::Caller("others".to_owned());
        }
        let fresh = || Window { began: now, singles: 0, counted: 0, sample: refused.clone() };
        let window = windows.entry(key).or_insert_with(fresh);
        if now.saturating_sub(window.began) >= WINDOW && window.counted == 0 {
            *window = fresh();
        }
        if window.singles < SINGLE_MAX {
            window.singles += 1;
            return Admission::Single;
        }
        window.counted += 1;
        Admission::Counted
    }

    /// Takes the counts, and forgets callers who have been quiet for a minute.
    pub(crate) fn take(&self, now: Duration) -> Vec<Summary> {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut summaries = vec![];
        windows.retain(|key, window| {
            let count = std::mem::take(&mut window.counted);
            if count > 0 {
                summaries.push(Summary { sample: window.sample.clone(), count, who: key.who.clone() });
            }
            count > 0 || now.saturating_sub(window.began) < WINDOW
        });
        summaries
    }

    /// Puts back what could not be written.
    pub(crate) fn give_back(&self, summaries: Vec<Summary>, now: Duration) {
        let mut windows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for Summary { sample, count, who } in summaries {
            let key = Key { who, action: sample.action.as_str(), code: sample.code.clone() };
            let full = Window { began: now, singles: SINGLE_MAX, counted: 0, sample };
            windows.entry(key).or_insert(full).counted += count;
        }
    }
}

/// The caller; strangers by their network.
fn who(ctx: &Ctx) -> Who {
    match (ctx.actor, ctx.source.address) {
        (Actor::Anonymous, Some(address)) => Who::Network(network(address)),
        (actor, _) => Who::Caller(actor.to_string()),
    }
}

/// The /24 or /64 that an address is in: what one subscriber usually has.
pub fn network(address: IpAddr) -> String {
    match address {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{authorization::Action, kernel::PLATFORM, platform::entropy::Entropy};
    use chrono::DateTime;
    use serde_json::json;

    fn refused(code: &str) -> Refused {
        Refused {
            chain: PLATFORM,
            action: Action::SignInUse,
            target: String::new(),
            code: code.into(),
            policy_ids: vec![],
            pii: vec![],
            detail: json!({}),
        }
    }

    fn ctx(address: [u8; 4]) -> Ctx {
        let mut ctx = Ctx::new(Actor::Anonymous, DateTime::UNIX_EPOCH, Entropy::from_seed([0; 32]));
        ctx.source.address = Some(address.into());
        ctx
    }

    #[test]
    fn a_flood_is_counted_exactly_and_others_are_not_drowned() {
        let (aggregator, at) = (Aggregator::default(), Duration::from_secs);
        let attacker = ctx([192, 0, 2, 1]);
        for n in 0..1000 {
            let admitted = aggregator.admit(&attacker, &refused("X"), at(0));
            assert_eq!(admitted == Admission::Single, n < 60);
        }
        let victim = ctx([198, 51, 100, 1]);
        assert_eq!(aggregator.admit(&victim, &refused("X"), at(0)), Admission::Single);
        assert_eq!(aggregator.admit(&attacker, &refused("Y"), at(0)), Admission::Single);
        let summaries = aggregator.take(at(10));
        assert_eq!(summaries.iter().map(|summary| summary.count).collect::<Vec<_>>(), [940]);
        assert_eq!(aggregator.admit(&attacker, &refused("X"), at(11)), Admission::Counted);
        aggregator.give_back(aggregator.take(at(12)), at(12));
        assert_eq!(aggregator.take(at(13))[0].count, 1);
        assert_eq!(aggregator.admit(&attacker, &refused("X"), at(73)), Admission::Single);
    }

    #[test]
    fn callers_beyond_the_bound_are_counted_as_one() {
        let aggregator = Aggregator::default();
        for n in 0..11_000_u32 {
            let [_, a, b, c] = n.to_be_bytes();
            aggregator.admit(&ctx([a, b, c, 1]), &refused("X"), Duration::ZERO);
        }
        assert_eq!(aggregator.0.lock().unwrap().len(), SOURCES_MAX + 1);
    }
}
