//! Which policies can answer a question at all: found out once, when they load.
//!
//! A policy costs about a microsecond even where it does not apply. So each question (type of principal, action, type of
//! resource) has its slice: the policies that the schema does not rule out for it. An answer costs what its slice costs.
use super::{AnyError, Node, entities::Types};
use crate::authorization::Action;
use cedar_policy::{Entity, EntityUid, PolicyId, PolicySet, Schema};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

/// What one question is answered with.
pub(super) struct Slice {
    pub(super) principal: String,
    pub(super) resource: String,
    /// With whatever is above it: without it, `action in …` would be silently false.
    pub(super) action: Entity,
    pub(super) policies: Arc<PolicySet>,
}

/// Every question that the schema knows.
pub(super) struct Slices {
    /// A handful an action: found faster than hashed.
    by_action: BTreeMap<Action, Vec<Slice>>,
    pub(super) types: Types,
}

/// Type of principal, action, type of resource.
type Question = (String, EntityUid, String);

impl Slices {
    pub(super) fn of(schema: &Schema, policies: &PolicySet) -> Result<Self, AnyError> {
        let mut ids: BTreeMap<Question, BTreeSet<PolicyId>> =
            schema.request_envs().map(|env| (question(&env), BTreeSet::new())).collect();
        for policy in policies.policies() {
            for env in policy.get_valid_request_envs(schema) {
                ids.entry(question(&env)).or_default().insert(policy.id().clone());
            }
        }
        let (actions, mut sets) = (schema.action_entities()?, HashMap::new());
        let mut by_action: BTreeMap<Action, Vec<Slice>> = BTreeMap::new();
        for ((principal, uid, resource), ids) in ids {
            let name = uid.id().unescaped();
            let action = Action::parse(name).ok_or_else(|| format!("no action is named {name}"))?;
            let policies = match sets.get(&ids) {
                Some(set) => Arc::clone(set),
                None => {
                    let of = ids.iter().filter_map(|id| policies.policy(id)).cloned();
                    let set = Arc::new(PolicySet::from_policies(of)?);
                    sets.insert(ids, Arc::clone(&set));
                    set
                }
            };
            let entity = actions.get(&uid).ok_or("the schema does not know its own action")?.clone();
            by_action.entry(action).or_default().push(Slice {
                principal,
                resource,
                action: entity,
                policies,
            });
        }
        Ok(Self { by_action, types: Types::of(schema) })
    }

    /// `None`: the schema has no such question, so no policy can answer it.
    pub(super) fn find(&self, principal: &Node, action: Action, resource: &Node) -> Option<&Slice> {
        let mut slices = self.by_action.get(&action)?.iter();
        slices.find(|slice| slice.principal == principal.kind && slice.resource == resource.kind)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&Slice, Action)> {
        self.by_action.iter().flat_map(|(action, slices)| slices.iter().map(|slice| (slice, *action)))
    }

    pub(super) fn one_of_each_action(&self) -> impl Iterator<Item = &Slice> {
        self.by_action.values().filter_map(|slices| slices.first())
    }
}

fn question(env: &cedar_policy::RequestEnv) -> Question {
    (env.principal().to_string(), env.action().clone(), env.resource().to_string())
}
