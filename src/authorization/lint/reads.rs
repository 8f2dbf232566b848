//! What a policy looks at. What the enumeration does not vary, a policy must not read: it would be checked in vain.
use super::dimension::{Dimension as D, is_known, is_workload};
use crate::authorization::{PlatformRole, Role};
use cedar_policy::Policy;
use serde_json::Value as Json;
use std::collections::BTreeSet;

/// Everything that the answer of the policy may depend on; `Err` says what of it is unknown here.
pub(super) fn reads(policy: &Policy) -> Result<BTreeSet<D>, String> {
    let json = policy.to_json().map_err(|error| error.to_string())?;
    let mut found = BTreeSet::new();
    for scope in ["principal", "resource"] {
        let scope_json = json.get(scope).unwrap_or(&Json::Null);
        for pointer in ["/entity", "/in/entity"] {
            if let Some(entity) = scope_json.pointer(pointer) {
                found.extend(entity_in(scope, entity)?);
            }
        }
    }
    let mut paths = BTreeSet::new();
    let bodies = json.get("conditions").and_then(Json::as_array).into_iter().flatten();
    let mut open: Vec<&Json> = bodies.filter_map(|condition| condition.get("body")).collect();
    while let Some(expression) = open.pop() {
        let Some((operator, inner)) = expression.as_object().and_then(|object| object.iter().next()) else {
            return Err(format!("has an expression that is not understood: {expression}"));
        };
        match operator.as_str() {
            "Value" => literal(inner)?,
            "Var" => {
                paths.insert(inner.as_str().unwrap_or_default().to_owned());
            }
            "." | "has" => match path(expression) {
                Some(path) => _ = paths.insert(path),
                None => return Err(format!("reads {expression}, which is no attribute of a variable")),
            },
            "in" | "==" | "!=" if variable(inner).is_some() => {
                let variable = variable(inner).unwrap_or_default();
                let right = inner.get("right").unwrap_or(&Json::Null);
                let entities = entities(right);
                if entities.is_empty() {
                    open.push(right);
                    paths.insert(variable.to_owned());
                }
                for entity in entities {
                    found.extend(entity_in(variable, entity)?);
                }
            }
            "is" if variable(inner).is_some() && inner.get("in").is_none() => (),
            "Set" => open.extend(inner.as_array().into_iter().flatten()),
            _ => open.extend(inner.as_object().into_iter().flat_map(|operands| operands.values())),
        }
    }
    for path in &paths {
        found.extend(
            behind(path, &paths)
                .ok_or_else(|| format!("reads `{path}`, which the enumeration does not vary"))?,
        );
    }
    Ok(found)
}

/// `principal.org.status` for what says so.
fn path(expression: &Json) -> Option<String> {
    let (mut names, mut at) = (vec![], expression);
    while let Some(access) = at.get(".").or_else(|| at.get("has")) {
        names.push(access.get("attr")?.as_str()?);
        at = access.get("left")?;
    }
    names.push(at.get("Var")?.as_str()?);
    names.reverse();
    Some(names.join("."))
}

/// The variable on the left.
fn variable(operands: &Json) -> Option<&str> {
    operands.pointer("/left/Var")?.as_str()
}

/// The entities that an expression names, if that is all it does.
fn entities(expression: &Json) -> Vec<&Json> {
    let of = |value: &'_ Json| value.pointer("/Value/__entity").is_some();
    match expression.get("Set").and_then(Json::as_array) {
        Some(all) if all.iter().all(of) => {
            all.iter().filter_map(|one| one.pointer("/Value/__entity")).collect()
        }
        _ => expression.pointer("/Value/__entity").into_iter().collect(),
    }
}

/// Is the variable, or is it below, this entity?
fn entity_in(variable: &str, entity: &Json) -> Result<Vec<D>, String> {
    let text = |member: &str| entity.get(member).and_then(Json::as_str).unwrap_or_default();
    let (kind, id) = (text("type"), text("id"));
    let found = match (variable, kind) {
        ("action", "Action") => Some(vec![]),
        ("principal", "Role") => Role::parse(id).map(|role| vec![D::PrincipalRole(role)]),
        ("principal", "PlatformRole") => {
            PlatformRole::parse(id).map(|role| vec![D::PrincipalPlatformRole(role)])
        }
        ("principal", "Workload") => is_workload(id).then(|| vec![D::PrincipalName]),
        ("resource", "Role") => {
            let own =
                |role| vec![D::ResourceRole(role), D::PrincipalRole(role), D::ResourceSelf, D::ResourceOrg];
            Role::parse(id).map(own)
        }
        _ => None,
    };
    found.ok_or_else(|| format!("asks whether {variable} is in {kind}::\"{id}\", which nothing ever is"))
}

fn literal(value: &Json) -> Result<(), String> {
    match value {
        Json::String(word) if !is_known(word) => Err(format!("names \"{word}\", which nothing ever equals")),
        Json::Number(_) => Err(format!("names {value}, and no numbers are told apart")),
        Json::Object(_) => Err(format!("names {value} where the enumeration does not look for it")),
        _ => Ok(()),
    }
}

/// What varies behind a path.
fn behind(path: &str, all: &BTreeSet<String>) -> Option<Vec<D>> {
    // Of the workloads one alone has an org.
    let org = [D::PrincipalName, D::PrincipalOrg, D::ResourceOrg];
    Some(match path {
        "principal.status" => vec![D::PrincipalStatus],
        "principal.org" | "resource.org" => org.to_vec(),
        "principal.org.status" => vec![D::PrincipalName, D::PrincipalOrg, D::PrincipalOrgStatus],
        // Only ever beside what is due: no other time is told apart.
        "principal.mfaDueAtS" | "context.nowS" if all.contains("principal.mfaDueAtS") => vec![D::MfaDue],
        "principal" | "resource" => vec![D::PrincipalName, D::PrincipalOrg, D::ResourceOrg, D::ResourceSelf],
        "resource.status" | "resource.org.status" => vec![
            D::PrincipalName,
            D::PrincipalOrg,
            D::PrincipalOrgStatus,
            D::PrincipalStatus,
            D::ResourceOrg,
            D::ResourceOrgStatus,
            D::ResourceSelf,
            D::ResourceStatus,
        ],
        "resource.user" => vec![D::ResourceUser, D::ResourceOrg],
        "context.orgSelfService" => vec![D::OrgSelfService],
        "context.credential.kind" => vec![D::Credential],
        "context.credential.inScope" => vec![D::InScope],
        "context.credential.mfa" => vec![D::Mfa],
        "context.grants.roles" => vec![D::GrantedRoles],
        "context.grants.rolesWithinOwn" => vec![D::RolesWithinOwn],
        "context.grants.scopesWithinOwn" => vec![D::ScopesWithinOwn],
        "context.grants.adminScope" => vec![D::AdminScope],
        _ => return None,
    })
}
