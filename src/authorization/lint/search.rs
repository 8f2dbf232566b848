//! Every combination of what policies read, by backtracking: a part of the space in which a forbid holds already need
//! not be entered.
use super::{
    dimension::Dimension,
    point::{Point, Question},
};
use crate::authorization::engine::{AnyError, Engine};
use cedar_policy::{PolicyId, PolicySet};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// More than this of one question, and it is no answer: a rule was written that depends on too much at once.
const STEPS_MAX: u64 = 50_000;

/// A policy by itself.
pub(super) struct Rule {
    /// Policies or invariants.
    pub(super) of: &'static str,
    pub(super) id: PolicyId,
    pub(super) alone: PolicySet,
    pub(super) reads: BTreeSet<Dimension>,
}

/// A policy, and what it saw. Invariants and policies may be called alike.
type Seen = (&'static str, PolicyId, Vec<&'static str>);

/// What is known of one question.
pub(super) struct Search<'e> {
    engine: &'e Engine,
    question: Question,
    /// Did it apply?
    known: HashMap<Seen, bool>,
    /// How often a policy was asked.
    pub(super) asked: u64,
}

impl<'e> Search<'e> {
    pub(super) fn of(engine: &'e Engine, question: Question) -> Self {
        Self { engine, question, known: HashMap::new(), asked: 0 }
    }

    /// A point where each rule applies, or does not, as wanted.
    pub(super) fn find(&mut self, rules: &[(&Rule, bool)]) -> Result<Option<Point>, AnyError> {
        let (mut order, mut open) = (Vec::<Dimension>::new(), rules.to_vec());
        let mut due: BTreeMap<usize, Vec<(&Rule, bool)>> = BTreeMap::new();
        let (who, what) = (self.question.principal, self.question.resource);
        let varies = |dimension: &Dimension| dimension.words(who, what).len() > 1;
        // What is looked for first; then whatever needs the least besides what is set already, so that no part is entered
        // in vain.
        let more = |rule: &Rule, order: &[Dimension]| {
            rule.reads.iter().filter(|dimension| !order.contains(dimension) && varies(dimension)).count()
        };
        while let Some(next) = (0..open.len())
            .min_by_key(|at| open.get(*at).map(|(rule, wanted)| (!*wanted, more(rule, &order))))
        {
            let (rule, wanted) = open.remove(next);
            let new = rule.reads.iter().filter(|dimension| !order.contains(dimension) && varies(dimension));
            let new: Vec<Dimension> = new.copied().collect();
            order.extend(new);
            due.entry(order.len()).or_default().push((rule, wanted));
        }
        let words = |dimension: &Dimension| dimension.words(self.question.principal, self.question.resource);
        let words: Vec<Vec<&'static str>> = order.iter().map(words).collect();
        // How many dimensions are set, and to their how manieth word.
        let (mut point, mut chosen, mut steps) = (Point::usual(self.question), Vec::<usize>::new(), 0);
        loop {
            steps += 1;
            if steps > STEPS_MAX {
                return Err(format!("{STEPS_MAX} steps were not enough for {point}").into());
            }
            if self.all_hold(due.get(&chosen.len()), &point)? {
                if chosen.len() == order.len() {
                    return Ok(Some(point));
                }
                chosen.push(0);
            } else {
                // Back to the last dimension that has another word.
                loop {
                    let Some(last) = chosen.pop() else { return Ok(None) };
                    if let Some(dimension) = order.get(chosen.len()) {
                        point.values.remove(dimension);
                    }
                    if words.get(chosen.len()).is_some_and(|words| last + 1 < words.len()) {
                        chosen.push(last + 1);
                        break;
                    }
                }
            }
            let at = chosen.len().saturating_sub(1);
            if let (Some(dimension), Some(word)) =
                (order.get(at), words.get(at).zip(chosen.last()).and_then(|(words, index)| words.get(*index)))
            {
                point.values.insert(*dimension, word);
            }
        }
    }

    fn all_hold(&mut self, due: Option<&Vec<(&Rule, bool)>>, point: &Point) -> Result<bool, AnyError> {
        for (rule, wanted) in due.into_iter().flatten() {
            if self.applies(rule, point)? != *wanted {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Does the policy, by itself, say what it says?
    fn applies(&mut self, rule: &Rule, point: &Point) -> Result<bool, AnyError> {
        let seen =
            (rule.of, rule.id.clone(), rule.reads.iter().map(|dimension| point.value(*dimension)).collect());
        if let Some(known) = self.known.get(&seen) {
            return Ok(*known);
        }
        self.asked += 1;
        let roles = point.granted_roles();
        let (principal, resource, call) = (point.principal(), point.resource(), point.call(&roles));
        let applies = self.engine.applies(
            &rule.alone,
            &principal,
            &resource,
            point.question.action,
            &call,
            point.org_self_service(),
        )?;
        self.known.insert(seen, applies);
        Ok(applies)
    }
}
