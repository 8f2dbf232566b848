//! Questions of the services behind us: may this principal do that? What they answer is what the state knows. What the
//! caller says of the principal, its roles or the key it came with, takes away from that and never adds to it.
use super::{
    Action, Engine, Grants, Permit, Scope, State, Target,
    facts::Holder,
    grounds::{Grounds, Node, Reader},
    table::Table,
};
use crate::kernel::{KeyId, KeyStatus, OrgId, OrgStatus, ServiceAccountId, UserId};
use chrono::{DateTime, Utc};
use std::net::IpAddr;

/// What whoever is inside the grace is to do meanwhile.
const ENROL_MFA: &str = "enrol_mfa";

/// Who wants to do it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Subject {
    /// A person, as a member of the org.
    User(UserId),
    /// A machine of the org.
    ServiceAccount(ServiceAccountId),
}

/// On what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resource {
    /// Something of which the state knows.
    Known(Target),
    /// A model of an org, known to the services that offer it.
    Model(OrgId, String),
}

/// One question, about a principal of one org.
///
/// **Invariant:** only a permit to ask about that org makes one.
#[derive(Clone, Debug)]
pub struct Question {
    org: OrgId,
    /// Who.
    pub subject: Subject,
    /// The API key it came with: its scopes bound the answer. `None`: as in a session.
    pub key: Option<KeyId>,
    /// Where it came from, which a key that is bound to networks is asked.
    pub client: Option<IpAddr>,
    /// The roles it is to act under, of those it has. `None`: all.
    pub roles: Option<Vec<String>>,
    /// What it wants to do.
    pub action: Action,
    /// On what.
    pub resource: Resource,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct Decision {
    /// It may.
    pub allowed: bool,
    /// `ALLOWED`, or why not: stable, for programs.
    pub code: String,
    /// The policies that decided.
    pub policy_ids: Vec<String>,
    /// What they ask of whoever enforces it.
    pub obligations: Vec<String>,
    /// The answer may be another from this instant on (Unix seconds) though nothing is changed.
    pub until_s: Option<i64>,
    /// The revision of the state that it was made at.
    pub revision: i64,
}

/// Why there are no policies to ask.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unanswerable {
    /// The org has no such principal.
    Principal,
    /// There is no such resource.
    Resource,
    /// The key is not the principal's, or no longer good.
    Credential,
    /// The key is bound to networks, and the client's address was not told.
    AddressRequired,
    /// The key is bound to other networks.
    AddressNotAllowed,
}

impl Unanswerable {
    /// The stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::Principal => "PRINCIPAL_UNKNOWN",
            Self::Resource => "RESOURCE_UNKNOWN",
            Self::Credential => "CREDENTIAL_NOT_VALID",
            Self::AddressRequired => "CLIENT_ADDRESS_REQUIRED",
            Self::AddressNotAllowed => "CLIENT_ADDRESS_NOT_ALLOWED",
        }
    }
}

impl Question {
    /// `None`: the permit is for something else.
    pub fn new(permit: &Permit, subject: Subject, action: Action, resource: Resource) -> Option<Self> {
        let Scope::Org(org) = permit.scope() else { return None };
        let asks = permit.action() == Action::PoliciesEvaluate;
        asks.then_some(Self { org, subject, key: None, client: None, roles: None, action, resource })
    }
}

/// Asks the policies. Who is held to some of his roles is not allowed what he is denied with all of them: a forbid may be
/// about the roles that were taken away.
pub(crate) fn judge(engine: &Engine, state: &State, question: &Question, now: DateTime<Utc>) -> Decision {
    let narrowed = decide(engine, state, question, now);
    if !narrowed.allowed || question.roles.is_none() {
        return narrowed;
    }
    let whole = decide(engine, state, &Question { roles: None, ..question.clone() }, now);
    if whole.allowed { narrowed } else { whole }
}

fn decide(engine: &Engine, state: &State, question: &Question, now: DateTime<Utc>) -> Decision {
    let (gathered, revision) = state.grounds_of(question, now);
    let denied = |why: Unanswerable| Decision {
        allowed: false,
        code: why.code().to_owned(),
        policy_ids: vec![],
        obligations: vec![],
        until_s: None,
        revision,
    };
    let (grounds, expires_at_s) = match gathered {
        Ok(gathered) => gathered,
        Err(why) => return denied(why),
    };
    let verdict = engine.decide(&grounds, question.action, &Grants::Nothing, now);
    let due_at_s =
        grounds.principal.mfa_due_at_s.filter(|due| question.key.is_none() && *due > now.timestamp());
    let mut obligations = verdict.obligations;
    if due_at_s.is_some() && verdict.allowed {
        obligations.push(ENROL_MFA.to_owned());
    }
    Decision {
        allowed: verdict.allowed,
        code: verdict.code,
        policy_ids: verdict.policy_ids,
        obligations,
        until_s: [expires_at_s, due_at_s].into_iter().flatten().min(),
        revision,
    }
}

/// What the answer is made on, and when the key runs out.
pub(super) fn gather(
    table: &Table,
    question: &Question,
    now: DateTime<Utc>,
) -> Result<(Grounds, Option<i64>), Unanswerable> {
    let mut reader = Reader { table, rests_on: vec![] };
    let key = match question.key {
        Some(key) => {
            let key = reader.key(key).filter(|key| {
                let held = match (key.holder, question.subject) {
                    (Holder::User(holder), Subject::User(user)) => holder == user,
                    (Holder::ServiceAccount(holder), Subject::ServiceAccount(account)) => holder == account,
                    _ => false,
                };
                held && matches!(key.status, KeyStatus::Active | KeyStatus::Rotating)
                    && key.expires_at_s.is_none_or(|at| at > now.timestamp())
            });
            let key = key.ok_or(Unanswerable::Credential)?;
            let (_, org) = reader.org(key.org).ok_or(Unanswerable::Credential)?;
            if org != OrgStatus::Active {
                return Err(Unanswerable::Credential);
            }
            match question.client {
                _ if key.allowed_cidrs.is_empty() => (),
                None => return Err(Unanswerable::AddressRequired),
                Some(client) if key.allowed_cidrs.iter().any(|network| network.contains(&client)) => (),
                Some(_) => return Err(Unanswerable::AddressNotAllowed),
            }
            Some(key)
        }
        None => None,
    };
    // A key carries what its holder is on the platform only if it may do all that its holder may.
    let carries_platform = key.as_ref().is_none_or(|key| key.scopes.is_admin());
    let mut principal = reader.subject(question, carries_platform).ok_or(Unanswerable::Principal)?;
    if let Some(roles) = &question.roles {
        principal.roles.retain(|(_, role)| roles.iter().any(|named| named == role));
    }
    let resource = match &question.resource {
        Resource::Known(target) => {
            let org = target.org().map(|org| reader.org(org).ok_or(Unanswerable::Resource)).transpose()?;
            reader.resource(*target, org)
        }
        Resource::Model(org, name) => {
            let org = reader.org(*org).ok_or(Unanswerable::Resource)?;
            Some(Node { org: Some(org), ..Node::plain("Model", name) })
        }
    };
    let resource = resource.ok_or(Unanswerable::Resource)?;
    let (scopes, credential) =
        (key.as_ref().map(|key| key.scopes), if key.is_some() { "key" } else { "session" });
    let grounds =
        Grounds { principal, resource, scopes, credential, insider: true, rests_on: reader.rests_on };
    Ok((grounds, key.and_then(|key| key.expires_at_s)))
}

impl Reader<'_> {
    fn subject(&mut self, question: &Question, carries_platform: bool) -> Option<Node> {
        let (org, status) = self.org(question.org)?;
        match question.subject {
            Subject::User(user) => {
                let user = self.user(user).filter(|user| user.org == org)?;
                let mut node = Node::user(&user, status);
                if let Some(identity) = user.identity.filter(|_| carries_platform) {
                    node.roles.extend(self.platform_roles(identity));
                }
                Some(node)
            }
            Subject::ServiceAccount(account) => {
                let account = self.account(account).filter(|account| account.org == org)?;
                Some(Node::service_account(&account, status))
            }
        }
    }
}
