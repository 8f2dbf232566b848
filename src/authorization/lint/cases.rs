//! Decisions that policies are to make, written down beside them: tried, explained, and compared.
use super::{
    dimension::{Dimension, NO, YES},
    point::{Point, Question},
    reads::reads,
};
use crate::authorization::{
    Action, PlatformRole, Role,
    engine::{AnyError, Engine, EngineError},
};
use cedar_policy::{Effect, Policy, PolicySet};
use serde::Deserialize;
use serde_json::{Value as Json, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

/// What our policies are to decide.
pub const CASES: &str = include_str!("../../../policies/cases.yaml");

/// One question, and the answer that is expected.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    /// What it shows.
    pub name: String,
    /// Type of principal, action, type of resource.
    pub ask: String,
    /// Of the principal, in its org or on the platform.
    #[serde(default)]
    roles: Vec<String>,
    /// Whatever else is not as usual, in the words of `lint`.
    #[serde(default)]
    r#where: BTreeMap<String, String>,
    /// `allow`, or the code of a denial.
    pub expect: String,
    /// The policies that decide; not looked at if there are none.
    #[serde(default)]
    pub policies: Vec<String>,
}

/// Reads cases, which are YAML or JSON.
pub fn cases(text: &str) -> Result<Vec<Case>, EngineError> {
    Ok(serde_yaml_ng::from_str(text).map_err(AnyError::from)?)
}

/// Schema and policies, to try cases on.
pub struct Bench {
    engine: Engine,
}

/// What was decided, and by which policies.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// `allow`, or the code of a denial.
    pub code: String,
    /// The policies that decided.
    pub policies: Vec<String>,
}

impl Bench {
    /// Whatever the policies let through: they are tried here, not trusted.
    pub fn new(schema: &str, policies: &str) -> Result<Self, EngineError> {
        Ok(Self { engine: Engine::unguarded(schema, policies)?.0 })
    }

    /// What these policies say.
    pub fn answer(&self, case: &Case) -> Result<Answer, EngineError> {
        Ok(self.at(&point(case)?)?)
    }

    /// Why: what decided, where each permit stops, and which single change would turn the answer over.
    pub fn explain(&self, case: &Case) -> Result<String, EngineError> {
        let point = point(case)?;
        let answer = self.at(&point)?;
        let mut text = format!("{}\n{point}\n=> {}\n", case.name, answer.code);
        for id in &answer.policies {
            let policy = self.engine.policies().policies().find(|policy| policy.id().to_string() == *id);
            let _ =
                writeln!(text, "\ndecided by {id}:\n{}", policy.map(ToString::to_string).unwrap_or_default());
        }
        let slice = self.slice(&point);
        if answer.code != ALLOW {
            let permits = slice.iter().filter(|policy| policy.effect() == Effect::Permit);
            for permit in permits {
                let _ = match self.first_false(permit, &point)? {
                    Some(clause) => writeln!(text, "{} does not permit: {clause}", permit.id()),
                    None => writeln!(text, "{} permits, and is outweighed", permit.id()),
                };
            }
        }
        let read: BTreeSet<Dimension> =
            slice.iter().filter_map(|policy| reads(policy).ok()).flatten().collect();
        for dimension in read {
            for word in point.words(dimension) {
                let mut changed = point.clone();
                changed.values.insert(dimension, word);
                let flipped = self.at(&changed)?;
                if (flipped.code == ALLOW) != (answer.code == ALLOW) {
                    let _ = writeln!(text, "if {dimension} were {word}: {}", flipped.code);
                }
            }
        }
        Ok(text)
    }

    fn at(&self, point: &Point) -> Result<Answer, AnyError> {
        let roles = point.granted_roles();
        let (principal, resource, call) = (point.principal(), point.resource(), point.call(&roles));
        let (action, service) = (point.question.action, point.org_self_service());
        let verdict = self.engine.try_out(&principal, &resource, action, &call, service)?;
        let code = if verdict.allowed { ALLOW.to_owned() } else { verdict.code };
        Ok(Answer { code, policies: verdict.policy_ids })
    }

    /// The policies that can answer the question.
    fn slice(&self, point: &Point) -> Vec<Policy> {
        let Question { principal, action, resource } = point.question;
        let found = self
            .engine
            .questions()
            .find(|question| (question.0, question.1, question.2) == (principal, action, resource));
        found.map(|question| question.3.policies().cloned().collect()).unwrap_or_default()
    }

    /// The first part of the permit that is false.
    fn first_false(&self, permit: &Policy, point: &Point) -> Result<Option<String>, AnyError> {
        let whole = permit.to_json()?;
        let (mut parts, mut open) = (vec![json!([])], vec![]);
        for condition in whole.get("conditions").and_then(Json::as_array).into_iter().flatten().rev() {
            open.push((condition.get("kind").cloned(), condition.get("body").cloned().unwrap_or_default()));
        }
        while let Some((kind, body)) = open.pop() {
            match body.get("&&").filter(|_| kind == Some(json!("when"))) {
                Some(both) => {
                    let side = |name: &str| (kind.clone(), both.get(name).cloned().unwrap_or_default());
                    open.extend([side("right"), side("left")]);
                }
                None => parts.push(json!([{ "kind": kind, "body": body }])),
            }
        }
        let roles = point.granted_roles();
        for conditions in parts {
            let mut part = whole.clone();
            part.as_object_mut().map(|part| part.insert("conditions".to_owned(), conditions));
            part.as_object_mut().map(|part| part.insert("annotations".to_owned(), json!({})));
            let part = Policy::from_json(Some(permit.id().clone()), part)?;
            let alone = PolicySet::from_policies([part.clone()])?;
            let (principal, resource, call) = (point.principal(), point.resource(), point.call(&roles));
            let (action, service) = (point.question.action, point.org_self_service());
            if !self.engine.applies(&alone, &principal, &resource, action, &call, service).unwrap_or(false) {
                return Ok(Some(part.to_string().split_whitespace().collect::<Vec<_>>().join(" ")));
            }
        }
        Ok(None)
    }
}

const ALLOW: &str = "allow";

/// The point that a case speaks of.
fn point(case: &Case) -> Result<Point, AnyError> {
    let wrong =
        |what: &str, text: &str| -> AnyError { format!("case {:?}: {what} {text:?}", case.name).into() };
    let words: Vec<&str> = case.ask.split_whitespace().collect();
    let [principal, action, resource] = *words else {
        return Err(wrong("ask for principal, action, resource, not", &case.ask));
    };
    let action = Action::parse(action).ok_or_else(|| wrong("no action is called", action))?;
    let question =
        Question::of(principal, action, resource).ok_or_else(|| wrong("unknown types in", &case.ask))?;
    let mut point = Point::usual(question);
    for name in &case.roles {
        let role = Role::parse(name).map(Dimension::PrincipalRole);
        let role = role.or_else(|| PlatformRole::parse(name).map(Dimension::PrincipalPlatformRole));
        let role = role.filter(|role| point.words(*role).contains(&YES));
        point.values.insert(role.ok_or_else(|| wrong("such a principal has no role", name))?, YES);
    }
    for (name, value) in &case.r#where {
        let dimension = Dimension::all().find(|dimension| dimension.to_string() == *name);
        let dimension = dimension.ok_or_else(|| wrong("nothing varies by the name", name))?;
        let words = point.words(dimension);
        let value = words
            .into_iter()
            .find(|word| word == value || *word == NO && value == "false" || *word == YES && value == "true");
        point.values.insert(dimension, value.ok_or_else(|| wrong("no such value, here, of", name))?);
    }
    Ok(point)
}
