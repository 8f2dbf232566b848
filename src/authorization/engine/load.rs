//! What must be true of a schema and policies before anything is decided by them.
use super::{
    AnyError, Call, NO_MATCHING_PERMIT, POLICY_ERROR, ask, entities::context, judged, slices::Slices,
};
use crate::authorization::Action;
use cedar_policy::{Effect, Policy, PolicyId, PolicySet, Schema, SchemaFragment, ValidationMode, Validator};
use chrono::DateTime;
use serde_json::Value as Json;
use std::{
    collections::{BTreeMap, BTreeSet},
    str::FromStr,
};

/// How far policies may follow attributes: principal or resource, then its org.
const LEVEL_MAX: u32 = 2;

/// What a policy may oblige the caller to.
const OBLIGATIONS: [&str; 5] =
    ["budget:request_override", "enrol_mfa", "meter:usage", "notify:security", "step_up:mfa"];

/// Why policies do not load.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("schema or policies cannot be read")]
    Source(#[from] AnyError),
    #[error("policies do not fit the schema: {0}")]
    Invalid(String),
    #[error("templates are not supported")]
    Template,
    #[error("policy without @id:\n{0}")]
    NoId(String),
    #[error("two policies have the @id {0}")]
    Twin(String),
    #[error("forbid {0} without @reason")]
    NoReason(String),
    #[error("policy {id}: no obligation is called {obligation:?}")]
    Obligation { id: String, obligation: String },
    #[error("the schema's actions are not the code's: {0:?}")]
    Actions(BTreeSet<String>),
    #[error("the schema has groups of actions, which a policy could hide behind: {0:?}")]
    ActionGroups(BTreeSet<String>),
    #[error("nothing keeps tenants apart here; add\n@id(\"…\") @reason(\"TENANT_MISMATCH\")\n{0}")]
    Isolation(String),
    #[error("the engine does not hold what it must: {0}")]
    SelfTest(&'static str),
}

/// Checked, and ready to be asked.
pub(super) struct Loaded {
    pub(super) schema: Schema,
    pub(super) policies: PolicySet,
    pub(super) slices: Slices,
}

/// Refuses whatever would be found out too late: policies that fit no schema, twins, the nameless.
pub(super) fn load(schema: &str, policies: &str) -> Result<Loaded, EngineError> {
    let (loaded, isolation) = read(schema, policies)?;
    isolation.map(|()| loaded)
}

/// The same, with what it says of tenants beside it.
pub(super) fn read(schema: &str, policies: &str) -> Result<(Loaded, Result<(), EngineError>), EngineError> {
    let (fragment, _) = SchemaFragment::from_cedarschema_str(schema).map_err(AnyError::from)?;
    let orgs = orgs(&fragment)?;
    let schema = Schema::from_schema_fragments([fragment]).map_err(AnyError::from)?;
    actions(&schema)?;
    let parsed = PolicySet::from_str(policies).map_err(AnyError::from)?;
    if parsed.num_of_templates() > 0 {
        return Err(EngineError::Template);
    }
    let mut policies = PolicySet::new();
    for policy in parsed.policies() {
        let policy = named(policy)?;
        if policies.policy(policy.id()).is_some() {
            return Err(EngineError::Twin(policy.id().to_string()));
        }
        policies.add(policy).map_err(AnyError::from)?;
    }
    // Warnings are of policies that never apply, and of letters that look like others.
    let checked =
        Validator::new(schema.clone()).validate_with_level(&policies, ValidationMode::Strict, LEVEL_MAX);
    if !checked.validation_passed_without_warnings() {
        return Err(EngineError::Invalid(checked.to_string()));
    }
    let isolation = isolated(&schema, &policies, &orgs);
    let slices = Slices::of(&schema, &policies)?;
    self_test(&slices)?;
    Ok((Loaded { schema, policies, slices }, isolation))
}

/// Groups are refused: without its entity in the store an action is in none, and a forbid that names one is gone.
fn actions(schema: &Schema) -> Result<(), EngineError> {
    let names = |uids: &mut dyn Iterator<Item = &cedar_policy::EntityUid>| -> BTreeSet<String> {
        uids.map(|uid| uid.id().unescaped().to_owned()).collect()
    };
    let groups = names(&mut schema.action_groups());
    if !groups.is_empty() {
        return Err(EngineError::ActionGroups(groups));
    }
    let actions =
        names(&mut schema.request_envs().map(|env| env.action().clone()).collect::<Vec<_>>().iter());
    let ours: BTreeSet<String> = Action::ALL.iter().map(|action| action.as_str().to_owned()).collect();
    if actions != ours {
        return Err(EngineError::Actions(actions.symmetric_difference(&ours).cloned().collect()));
    }
    Ok(())
}

/// The library ignores `@id`; verdicts and audit events are to name it.
fn named(policy: &Policy) -> Result<Policy, EngineError> {
    let id = policy.annotation("id").ok_or_else(|| EngineError::NoId(policy.to_string()))?;
    if policy.effect() == Effect::Forbid && policy.annotation("reason").is_none() {
        return Err(EngineError::NoReason(id.to_owned()));
    }
    if let Some(obligation) = policy.annotation("obligation").filter(|named| !OBLIGATIONS.contains(named)) {
        return Err(EngineError::Obligation { id: id.to_owned(), obligation: obligation.to_owned() });
    }
    Ok(policy.new_id(PolicyId::new(id)))
}

// Tenants --------------------------------------------------------------------------------------------------------

/// The types that are of an org: does each of that type have one?
fn orgs(schema: &SchemaFragment) -> Result<BTreeMap<String, bool>, AnyError> {
    let json = schema.clone().to_json_value()?;
    let types =
        json.pointer("//entityTypes").and_then(Json::as_object).ok_or("the schema has no entity types")?;
    let org = |entity: &Json| {
        let org = entity.pointer("/shape/attributes/org")?;
        Some(org.get("required").and_then(Json::as_bool).unwrap_or(true))
    };
    Ok(types.iter().filter_map(|(name, entity)| Some((name.clone(), org(entity)?))).collect())
}

/// Whoever is of an org is kept from each type of thing that is of another one, by a forbid of its own: in one for all
/// `resource.org` would fit no schema. Such a forbid says this and nothing else.
fn isolated(schema: &Schema, policies: &PolicySet, orgs: &BTreeMap<String, bool>) -> Result<(), EngineError> {
    let bare = |policy: &Policy| -> Result<Json, EngineError> {
        let mut json = policy.to_json().map_err(AnyError::from)?;
        json.as_object_mut().map(|json| json.remove("annotations"));
        Ok(json)
    };
    let existing = policies.policies().map(bare).collect::<Result<Vec<_>, _>>()?;
    let pairs: BTreeSet<(String, String)> =
        schema.request_envs().map(|env| (env.principal().to_string(), env.resource().to_string())).collect();
    for (principal, resource) in pairs {
        let same = match orgs.get(&resource) {
            _ if orgs.get(&principal) != Some(&true) => continue,
            _ if resource == "Organization" => "principal.org == resource",
            Some(true) => "principal.org == resource.org",
            Some(false) => "resource has org && principal.org == resource.org",
            None => continue,
        };
        let text =
            format!("forbid (principal is {principal}, action, resource is {resource}) unless {{ {same} }};");
        let wanted = bare(&Policy::parse(None, &text).map_err(AnyError::from)?)?;
        if !existing.contains(&wanted) {
            return Err(EngineError::Isolation(text));
        }
    }
    Ok(())
}

// Self-test ------------------------------------------------------------------------------------------------------

/// Two ways in which Cedar, asked wrongly, allows what a forbid forbids. Both are tried, by the very functions that
/// decide: an action that its list does not hold, and a forbid that errs.
fn self_test(slices: &Slices) -> Result<(), EngineError> {
    let list: Vec<String> =
        Action::ALL.iter().map(|action| format!("Action::\"{}\"", action.as_str())).collect();
    let permit = "@id(\"all\") permit (principal, action, resource);";
    let listed = format!("@id(\"listed\") forbid (principal, action in [{}], resource);", list.join(", "));
    let erring = "@id(\"erring\") forbid (principal, action, resource) when { context.missing };";
    for (forbid, code, failure) in [
        ("", None, "a permit for everything allows something"),
        (&*listed, Some(NO_MATCHING_PERMIT), "a forbid that lists an action forbids it"),
        (erring, Some(POLICY_ERROR), "a forbid that errs denies"),
    ] {
        let policies = PolicySet::from_str(&format!("{permit}{forbid}")).map_err(AnyError::from)?;
        for slice in slices.one_of_each_action() {
            let (principal, resource) = slices.types.ends(slice)?;
            let context = context(&Call::plain(DateTime::UNIX_EPOCH), false)?;
            let response = ask(slice, &policies, principal, resource, context, vec![])?;
            let verdict = judged(&response, &policies);
            if (!verdict.allowed).then_some(verdict.code.as_str()) != code {
                return Err(EngineError::SelfTest(failure));
            }
        }
    }
    Ok(())
}
