//! What policies must never allow, held against every question that there is.
//!
//! Not a solver: an enumeration of a finite abstraction. Policies tell things apart by types, roles, statuses and a few
//! flags, and every combination of those is looked at. It is exact because a policy that reads anything else is itself a
//! finding.
mod cases;
mod dimension;
mod point;
mod reads;
mod search;

pub use cases::{Answer, Bench, CASES, Case, cases};

use super::engine::{AnyError, Engine, EngineError};
use cedar_policy::{Effect, Policy, PolicySet, Schema, ValidationMode, Validator};
use point::Question;
use search::{Rule, Search};
use serde::Serialize;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

/// What policies must never allow.
pub const INVARIANTS: &str = include_str!("../../../policies/invariants.cedar");

/// What was looked at, and what is wrong.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// How it was found out.
    pub method: &'static str,
    /// Types of principal and resource with an action between them.
    pub questions: usize,
    /// How many different questions those are, with all that policies read about them; as a word, for there are many.
    pub points: String,
    /// How often a policy had to be asked for it.
    pub evaluations: u64,
    /// What was held against the policies, and what it says.
    pub invariants: BTreeMap<String, String>,
    /// What is wrong; hopefully nothing.
    pub findings: Vec<Finding>,
}

/// Something that is wrong.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize)]
pub struct Finding {
    /// What does not hold.
    pub invariant: String,
    /// The policy that is to blame, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// How that shows.
    pub message: String,
}

impl Finding {
    fn new(invariant: &str, policy: Option<&str>, message: impl ToString) -> Self {
        Self {
            invariant: invariant.to_owned(),
            policy: policy.map(str::to_owned),
            message: message.to_string(),
        }
    }
}

/// Looks at everything. `Err`: schema, policies or invariants cannot be read, so there is nothing to look at.
pub fn lint(schema: &str, policies: &str, invariants: &str) -> Result<Report, EngineError> {
    let (engine, isolation) = Engine::unguarded(schema, policies)?;
    let mut findings: BTreeSet<Finding> =
        isolation.err().iter().map(|error| Finding::new("tenants.apart", None, error)).collect();
    let invariants = read(engine.schema(), invariants)?;
    let policies = rules("policies", engine.policies(), &mut findings)?;
    let says = |policy: &Policy| policy.annotation("reason").unwrap_or_default().to_owned();
    let mut report = Report {
        method: "exhaustive enumeration of the finite abstraction; no solver",
        questions: 0,
        points: String::new(),
        evaluations: 0,
        invariants: invariants.policies().map(|policy| (policy.id().to_string(), says(policy))).collect(),
        findings: vec![],
    };
    let invariants = rules("invariants", &invariants, &mut findings)?;
    let mut points = 0_u128;
    for (principal, action, resource, slice) in engine.questions() {
        report.questions += 1;
        let Some(question) = Question::of(principal, action, resource) else {
            let message = format!("nobody here knows how to make a {principal} or a {resource}");
            findings.insert(Finding::new("abstraction", None, message));
            continue;
        };
        let of = |effect| slice.policies().filter(move |policy| policy.effect() == effect);
        let rule = |policy: &Policy| policies.get(&policy.id().to_string());
        let permits: Vec<&Rule> = of(Effect::Permit).filter_map(rule).collect();
        let forbids: Vec<&Rule> = of(Effect::Forbid).filter_map(rule).collect();
        let read: BTreeSet<_> = permits.iter().chain(&forbids).flat_map(|rule| rule.reads.iter()).collect();
        let sizes = read.into_iter().map(|dimension| dimension.words(principal, resource).len());
        points = points
            .saturating_add(sizes.fold(1, |all, size| all.saturating_mul(u128::try_from(size).unwrap_or(1))));
        let mut search = Search::of(&engine, question);
        hold(&mut search, &invariants, &permits, &forbids, &mut findings)?;
        report.evaluations += search.asked;
    }
    report.points = points.to_string();
    report.findings = findings.into_iter().collect();
    Ok(report)
}

/// Each policy by itself, by its id. What reads something else than what is varied is no rule, but a finding.
fn rules(
    of: &'static str,
    policies: &PolicySet,
    findings: &mut BTreeSet<Finding>,
) -> Result<BTreeMap<String, Rule>, AnyError> {
    let mut rules = BTreeMap::new();
    for policy in policies.policies() {
        let id = policy.id().to_string();
        match reads::reads(policy) {
            Ok(reads) => {
                let alone = PolicySet::from_policies([policy.clone()])?;
                rules.insert(id, Rule { of, id: policy.id().clone(), alone, reads });
            }
            Err(reason) => _ = findings.insert(Finding::new("abstraction", Some(&id), reason)),
        }
    }
    Ok(rules)
}

/// Looks for what an invariant forbids, a permit permits, and no forbid forbids.
fn hold(
    search: &mut Search<'_>,
    invariants: &BTreeMap<String, Rule>,
    permits: &[&Rule],
    forbids: &[&Rule],
    findings: &mut BTreeSet<Finding>,
) -> Result<(), AnyError> {
    for (name, invariant) in invariants {
        if search.find(&[(invariant, true)])?.is_none() {
            continue;
        }
        for permit in permits {
            let id = permit.id.to_string();
            if findings.iter().any(|known| known.invariant == *name && known.policy.as_ref() == Some(&id)) {
                continue; // one question shows it
            }
            let mut wanted = vec![(invariant, true), (*permit, true)];
            wanted.extend(forbids.iter().map(|forbid| (*forbid, false)));
            let message = match search.find(&wanted) {
                Ok(None) => continue,
                Ok(Some(point)) => format!("allows {point}"),
                Err(error) => error.to_string(),
            };
            findings.insert(Finding::new(name, Some(&id), message));
        }
    }
    Ok(())
}

/// Invariants are forbids that say what they are for. They must fit the schema, or they would hold nothing.
fn read(schema: &Schema, invariants: &str) -> Result<PolicySet, AnyError> {
    let mut named = PolicySet::new();
    for policy in invariants.parse::<PolicySet>()?.policies() {
        let id = policy.annotation("id").ok_or("an invariant has no @id")?;
        if policy.effect() != Effect::Forbid || policy.annotation("reason").is_none() {
            return Err(format!("invariant {id} is no forbid with a @reason").into());
        }
        named.add(policy.new_id(cedar_policy::PolicyId::new(id)))?;
    }
    let checked = Validator::new(schema.clone()).validate(&named, ValidationMode::Strict);
    if checked.validation_passed_without_warnings() {
        Ok(named)
    } else {
        Err(format!("the invariants do not fit the schema: {checked}").into())
    }
}

/// For people.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for Finding { invariant, policy, message } in &self.findings {
            let says = self.invariants.get(invariant).map_or("", String::as_str);
            writeln!(f, "{invariant}: {says}\n  {} {message}", policy.as_deref().unwrap_or("-"))?;
        }
        writeln!(
            f,
            "{} findings; {} invariants held against {} questions in {} points, by {} ({} evaluations)",
            self.findings.len(),
            self.invariants.len(),
            self.questions,
            self.points,
            self.method,
            self.evaluations
        )
    }
}
