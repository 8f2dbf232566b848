//! What one decision is made on, read from the facts under one lock, with the revision of each.
use super::{
    FactKey, ScopeSet, Target,
    facts::{Holder, KeyFact, ServiceAccountFact, UserFact},
    table::Table,
};
use crate::kernel::{
    Actor, IdentityId, KeyId, KeyStatus, OperatorId, OrgId, OrgStatus, ServiceAccountId, SessionId, UserId,
    UserStatus,
};

/// The org concerned, and its state.
pub(super) type OrgState = (OrgId, OrgStatus);

/// What one decision is made on.
pub(super) struct Grounds {
    pub(super) principal: Node,
    pub(super) resource: Node,
    /// A key's ceiling; sessions and workloads have none.
    pub(super) scopes: Option<ScopeSet>,
    /// How the caller showed who he is.
    pub(super) credential: &'static str,
    /// Is or was a member, has a platform role, or made the org: may know it, and is on its audit chain.
    pub(super) insider: bool,
    pub(super) rests_on: Vec<(FactKey, i64)>,
}

/// Something that policies can name: what it is, whose it is, in which state and under which roles.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: &'static str,
    pub(super) id: String,
    pub(super) org: Option<OrgState>,
    pub(super) status: Option<&'static str>,
    pub(super) roles: Vec<(&'static str, &'static str)>,
    pub(super) mfa_due_at_s: Option<i64>,
    /// Whose key it is, where it is a person's.
    pub(super) user: Option<UserId>,
}

impl Node {
    pub(super) fn plain(kind: &'static str, id: impl ToString) -> Self {
        let id = id.to_string();
        Self { kind, id, org: None, status: None, roles: vec![], mfa_due_at_s: None, user: None }
    }

    pub(super) fn org((org, status): OrgState) -> Self {
        Self { status: Some(status.as_str()), ..Self::plain("Organization", org) }
    }

    pub(super) fn user(user: &UserFact, org_status: OrgStatus) -> Self {
        Self {
            org: Some((user.org, org_status)),
            status: Some(user.status.as_str()),
            roles: user.roles.iter().map(|role| ("Role", role.as_str())).collect(),
            mfa_due_at_s: user.mfa_due_at_s,
            ..Self::plain("User", user.user)
        }
    }

    pub(super) fn service_account(fact: &ServiceAccountFact, org_status: OrgStatus) -> Self {
        Self {
            org: Some((fact.org, org_status)),
            status: Some(fact.status.as_str()),
            roles: fact.roles.iter().map(|role| ("Role", role.as_str())).collect(),
            ..Self::plain("ServiceAccount", fact.service_account)
        }
    }

    pub(super) fn key(key: impl ToString, org: OrgState, user: Option<UserId>) -> Self {
        Self { org: Some(org), user, ..Self::plain("ApiKey", key) }
    }
}

/// Gathers what a decision needs. `None`: the actor or the target is unknown here.
pub(super) fn gather(table: &Table, actor: &Actor, target: Target) -> Option<Grounds> {
    let mut reader = Reader { table, rests_on: Vec::new() };
    let org = match target.org() {
        Some(org) => Some(reader.org(org)?),
        None => None,
    };
    let resource = reader.resource(target, org)?;
    let (principal, insider, scopes, credential) = match *actor {
        Actor::Person { identity, session } => {
            reader.session(session)?;
            let (node, insider) = reader.person(identity, org);
            (node, insider, None, "session")
        }
        Actor::Key { key } => {
            let (node, insider, scopes) = reader.holder(key, target, org)?;
            (node, insider, Some(scopes), "key")
        }
        Actor::Operator { token } => {
            let node = reader.operator(token)?;
            let made = node.org.map(|(org, _)| org);
            (node, target.org().is_none_or(|org| made == Some(org)), None, "operator")
        }
        Actor::Workload(workload) => (Node::plain("Workload", workload.as_str()), true, None, "workload"),
        Actor::Anonymous => (Node::plain("Anonymous", "anonymous"), false, None, "none"),
    };
    Some(Grounds { principal, resource, scopes, credential, insider, rests_on: reader.rests_on })
}

/// Looks facts up and notes their revisions: what was read is what the permit rests on.
pub(super) struct Reader<'t> {
    pub(super) table: &'t Table,
    pub(super) rests_on: Vec<(FactKey, i64)>,
}

impl Reader<'_> {
    pub(super) fn org(&mut self, org: OrgId) -> Option<OrgState> {
        let known = self.table.orgs.get(&org)?;
        self.rests_on.push((FactKey::org(org), known.seq));
        known.fact.as_ref().map(|fact| (org, fact.status))
    }

    pub(super) fn user(&mut self, user: UserId) -> Option<UserFact> {
        let known = self.table.users.get(&user)?;
        self.rests_on.push((FactKey::user(user), known.seq));
        known.fact.clone()
    }

    pub(super) fn account(&mut self, account: ServiceAccountId) -> Option<ServiceAccountFact> {
        let known = self.table.service_accounts.get(&account)?;
        self.rests_on.push((FactKey::service_account(account), known.seq));
        known.fact.clone()
    }

    pub(super) fn key(&mut self, key: KeyId) -> Option<KeyFact> {
        let known = self.table.keys.get(key)?;
        self.rests_on.push((FactKey::key(key), known.seq));
        known.fact.clone()
    }

    /// Nothing, unless it is over: then it speaks for nobody.
    fn session(&mut self, session: SessionId) -> Option<()> {
        self.rests_on.push((FactKey::session(session), 0));
        (!self.table.is_session_over(session)).then_some(())
    }

    pub(super) fn resource(&mut self, target: Target, org: Option<OrgState>) -> Option<Node> {
        match target {
            Target::Platform => Some(Node::plain("Platform", "platform")),
            Target::Account => Some(Node::plain("Account", "own")),
            Target::Org(_) => org.map(Node::org),
            Target::User(org_id, user) => {
                let user = self.user(user).filter(|user| user.org == org_id)?;
                Some(Node::user(&user, org?.1))
            }
            Target::ServiceAccount(org_id, account) => {
                let account = self.account(account).filter(|account| account.org == org_id)?;
                Some(Node::service_account(&account, org?.1))
            }
            Target::Key(org_id, key) => {
                let key = self.key(key).filter(|key| key.org == org_id)?;
                let user = match key.holder {
                    Holder::User(user) => Some(user),
                    Holder::ServiceAccount(_) => None,
                };
                Some(Node::key(key.key, org?, user))
            }
        }
    }

    /// On an org, a person is the active membership there, else just a person.
    fn person(&mut self, identity: IdentityId, org: Option<OrgState>) -> (Node, bool) {
        let platform_roles = self.platform_roles(identity);
        let member =
            org.and_then(|(org, _)| self.table.member(identity, org)).and_then(|user| self.user(user));
        let insider = member.is_some() || !platform_roles.is_empty();
        let mut node = match (member, org) {
            (Some(user), Some((_, status))) if user.status == UserStatus::Active => Node::user(&user, status),
            _ => Node::plain("Person", identity),
        };
        node.roles.extend(platform_roles);
        (node, insider)
    }

    pub(super) fn platform_roles(&mut self, identity: IdentityId) -> Vec<(&'static str, &'static str)> {
        let Some(known) = self.table.identities.get(&identity) else { return vec![] };
        self.rests_on.push((FactKey::identity(identity), known.seq));
        let roles = known.fact.iter().flat_map(|fact| &fact.platform_roles);
        roles.map(|role| ("PlatformRole", role.as_str())).collect()
    }

    /// A key acts as its holder, whatever state that is in: a policy refuses the inactive. Outside its org, a key
    /// with the scope `admin` acts as the person behind it, by the platform roles that person has. A key that was
    /// revoked since it opened the door acts as nobody.
    fn holder(
        &mut self,
        key: KeyId,
        target: Target,
        org: Option<OrgState>,
    ) -> Option<(Node, bool, ScopeSet)> {
        let key =
            self.key(key).filter(|key| matches!(key.status, KeyStatus::Active | KeyStatus::Rotating))?;
        let (home, home_status) = self.org(key.org)?;
        let at_home = target.org().is_none_or(|org| org == home);
        match key.holder {
            Holder::ServiceAccount(account) => {
                let account = self.account(account)?;
                Some((Node::service_account(&account, home_status), at_home, key.scopes))
            }
            Holder::User(user) => {
                let user = self.user(user)?;
                let carried =
                    user.identity.filter(|_| key.scopes.is_admin() && user.status == UserStatus::Active);
                let platform_roles = carried.map_or_else(Vec::new, |identity| self.platform_roles(identity));
                if let (false, Some(identity), false) = (at_home, carried, platform_roles.is_empty()) {
                    let (node, insider) = self.person(identity, org);
                    return Some((node, insider, key.scopes));
                }
                let mut node = Node::user(&user, home_status);
                node.roles.extend(platform_roles);
                Some((node, at_home, key.scopes))
            }
        }
    }

    /// The bearer of a bootstrap token, bound to the org it made once it has made one.
    fn operator(&mut self, token: OperatorId) -> Option<Node> {
        let known = self.table.operators.get(&token)?;
        self.rests_on.push((FactKey::operator(token), known.seq));
        let org = known.fact.as_ref()?.org;
        let org = match org {
            Some(org) => Some(self.org(org)?),
            None => None,
        };
        Some(Node { org, ..Node::plain("Workload", "bootstrap") })
    }
}
