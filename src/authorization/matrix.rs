//! What each role may do: asked of the policies once, when they load.
use super::{
    Action, PlatformRole, Role, ScopeSet,
    engine::{Call, Engine},
    facts::UserFact,
    grounds::Node,
};
use crate::kernel::{Id, KeyId, OrgId, OrgStatus, ServiceAccountId, UserId, UserStatus};
use chrono::DateTime;
use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
};
use uuid::Uuid;

const ORG: OrgId = Id::from_uuid(Uuid::from_u128(1));
const SELF: UserId = Id::from_uuid(Uuid::from_u128(2));
const OTHER: UserId = Id::from_uuid(Uuid::from_u128(3));
const KEY: KeyId = Id::from_uuid(Uuid::from_u128(4));
const MACHINE: ServiceAccountId = Id::from_uuid(Uuid::from_u128(5));

/// Role by action.
#[derive(Default)]
pub struct Matrix {
    /// By entity type and role name: what the role may do to anything that is not the holder's own.
    allowed: BTreeMap<(&'static str, &'static str), Reach>,
    /// What the role may do to the holder's own only.
    own_only: BTreeMap<(&'static str, &'static str), ScopeSet>,
}

/// How far roles go. Whoever may remove a member may not for that reason remove an owner.
#[derive(Clone, Copy, Default)]
pub(super) struct Reach {
    others: ScopeSet,
    owners: ScopeSet,
}

impl Reach {
    pub(super) fn union(self, other: Self) -> Self {
        Self { others: self.others.union(other.others), owners: self.owners.union(other.owners) }
    }

    /// The part of it that a credential's scopes leave.
    pub(super) fn limited_to(self, scopes: ScopeSet) -> Self {
        Self { others: self.others.intersection(scopes), owners: self.owners.intersection(scopes) }
    }

    /// With these on everything that is not a member.
    pub(super) fn and(self, scopes: ScopeSet) -> Self {
        Self { others: self.others.union(scopes), ..self }
    }

    pub(super) fn is_within(self, other: Self) -> bool {
        self.others.is_within(other.others) && self.owners.is_within(other.owners)
    }
}

impl Matrix {
    pub(super) fn of(engine: &Engine) -> Self {
        let mut matrix = Self::default();
        let roles = Role::ALL.iter().map(|role| ("Role", role.as_str()));
        let platform = PlatformRole::ALL.iter().map(|role| ("PlatformRole", role.as_str()));
        for entity in roles.chain(platform) {
            let holder = holder(entity);
            let may = |action: &Action, resources: &[Node]| {
                let call = Call::plain(DateTime::UNIX_EPOCH);
                resources.iter().any(|resource| engine.verdict(&holder, resource, *action, &call).allowed)
            };
            let may_to = |resources: &[Node]| -> ScopeSet {
                Action::ALL.iter().copied().filter(|action| may(action, resources)).collect()
            };
            let owner = Node { roles: vec![("Role", Role::Owner.as_str())], ..user(OTHER) };
            let reach = Reach { others: may_to(&others()), owners: may_to(&[owner]) };
            let own = may_to(&own(&holder)).names().filter_map(Action::parse);
            let own = own.filter(|action| !reach.others.covers(*action));
            matrix.own_only.insert(entity, own.collect());
            matrix.allowed.insert(entity, reach);
        }
        matrix
    }

    pub(super) fn of_role(&self, role: Role) -> Reach {
        self.of_entity("Role", role.as_str())
    }

    pub(super) fn of_entity(&self, kind: &'static str, name: &'static str) -> Reach {
        self.allowed.get(&(kind, name)).copied().unwrap_or_default()
    }

    /// Everything that holders of these roles may do somewhere.
    pub fn effective(&self, roles: &[Role], platform_roles: &[PlatformRole]) -> ScopeSet {
        let roles = roles.iter().map(|role| ("Role", role.as_str()));
        let entities = roles.chain(platform_roles.iter().map(|role| ("PlatformRole", role.as_str())));
        entities.fold(ScopeSet::default(), |all, entity| {
            let own = self.own_only.get(&entity).copied().unwrap_or_default();
            all.union(self.of_entity(entity.0, entity.1).others).union(own)
        })
    }
}

/// One line an action, one column a role: `x` may, `o` to one's own only. `policies/matrix.snap` is this.
impl fmt::Display for Matrix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut head = format!("{:28}", "");
        for (_, name) in columns() {
            let _ = write!(head, " {name}");
        }
        writeln!(f, "{}", head.trim_end())?;
        for action in Action::ALL {
            let mut line = format!("{:28}", action.as_str());
            for entity in columns() {
                let mark = match () {
                    () if self.of_entity(entity.0, entity.1).others.covers(*action) => "x",
                    () if self.own_only.get(&entity).is_some_and(|own| own.covers(*action)) => "o",
                    () => ".",
                };
                let _ = write!(line, " {mark:width$}", width = entity.1.len());
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

fn columns() -> impl Iterator<Item = (&'static str, &'static str)> {
    let roles = Role::ALL.iter().map(|role| ("Role", role.as_str()));
    roles.chain(PlatformRole::ALL.iter().map(|role| ("PlatformRole", role.as_str())))
}

/// A member with just this role; for a platform role, a person who is no member.
fn holder(entity: (&'static str, &'static str)) -> Node {
    match entity.0 {
        "Role" => Node { roles: vec![entity], ..user(SELF) },
        _ => Node { roles: vec![entity], ..Node::plain("Person", SELF) },
    }
}

fn user(user: UserId) -> Node {
    let (org, identity, status, roles) = (ORG, None, UserStatus::Active, vec![]);
    Node::user(&UserFact { user, org, identity, status, roles, mfa_due_at_s: None }, OrgStatus::Active)
}

fn others() -> Vec<Node> {
    let org = (ORG, OrgStatus::Active);
    let machine = Node { org: Some(org), status: Some("active"), ..Node::plain("ServiceAccount", MACHINE) };
    let key = Node::key(KEY, org, Some(OTHER));
    vec![Node::plain("Platform", "platform"), Node::org(org), user(OTHER), machine, key]
}

fn own(holder: &Node) -> Vec<Node> {
    let key = Node::key(KEY, (ORG, OrgStatus::Active), Some(SELF));
    vec![Node::plain("Account", "own"), holder.clone(), key]
}
