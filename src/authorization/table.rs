//! The facts in memory: one map a kind, and the ways in which requests look things up.
use super::{
    facts::{
        Change, Fact, IdentityFact, KeyFact, OperatorFact, OrgFact, ServiceAccountFact, SessionFact, UserFact,
    },
    wakeup::Denial,
};
use crate::kernel::{
    IdentityId, KeyId, KeyStatus, Kid, OperatorId, OrgId, OrgStatus, ServiceAccountId, ServiceAccountStatus,
    SessionId, UserId, UserStatus,
};
use std::{
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// Fewer ended sessions are not worth looking through.
const SESSIONS_MIN: usize = 1_000;

/// What is known of one thing, and since which seq. `None`: it no longer holds.
#[derive(Clone, Debug)]
pub(super) struct Known<F> {
    pub(super) seq: i64,
    pub(super) fact: Option<F>,
}

/// A fact as it was before it was denied.
pub(super) struct Before(i64, Fact);

impl Before {
    /// Since when it was so.
    pub(super) fn seq(&self) -> i64 {
        self.0
    }
}

/// Every fact.
#[derive(Default)]
pub(super) struct Table {
    pub(super) orgs: HashMap<OrgId, Known<OrgFact>>,
    pub(super) users: HashMap<UserId, Known<UserFact>>,
    pub(super) service_accounts: HashMap<ServiceAccountId, Known<ServiceAccountFact>>,
    pub(super) identities: HashMap<IdentityId, Known<IdentityFact>>,
    pub(super) operators: HashMap<OperatorId, Known<OperatorFact>>,
    pub(super) keys: Keys,
    sessions: HashMap<SessionId, Known<SessionFact>>,
    /// How many were left when it was last looked which may be forgotten.
    sessions_kept: usize,
    members: HashMap<(IdentityId, OrgId), (i64, UserId)>,
    orgs_of: HashMap<IdentityId, HashSet<OrgId>>,
    slugs: HashMap<String, (i64, OrgId)>,
    operator_kids: HashMap<Kid, OperatorId>,
}

/// Keys, half a million of them: each record stands once in a list, and two maps hold its place.
#[derive(Default)]
pub(super) struct Keys {
    records: Vec<Known<KeyFact>>,
    by_id: HashMap<KeyId, u32>,
    by_kid: HashMap<Kid, u32>,
}

impl Table {
    /// Per thing and never backwards, so the tail and own commits may come in any order.
    pub(super) fn apply(&mut self, seq: i64, change: &Change) {
        let holds = matches!(change, Change::Holds(_));
        match change.fact() {
            Fact::Org(fact) => {
                if put(&mut self.orgs, fact.org, seq, holds.then(|| fact.clone())) {
                    hand_over(&mut self.slugs, fact.slug.clone(), (seq, fact.org), holds);
                }
            }
            Fact::User(fact) => self.apply_user(seq, fact, holds),
            Fact::ServiceAccount(fact) => {
                put(&mut self.service_accounts, fact.service_account, seq, holds.then(|| fact.clone()));
            }
            Fact::Identity(fact) => {
                put(&mut self.identities, fact.identity, seq, holds.then(|| fact.clone()));
            }
            Fact::Key(fact) => self.keys.apply(seq, fact, holds),
            Fact::Session(fact) => {
                put(&mut self.sessions, fact.session, seq, holds.then(|| fact.clone()));
            }
            Fact::Operator(fact) => {
                if put(&mut self.operators, fact.token, seq, holds.then(|| fact.clone())) {
                    match holds {
                        true => drop(self.operator_kids.insert(fact.kid, fact.token)),
                        false => drop(self.operator_kids.remove(&fact.kid)),
                    }
                }
            }
        }
    }

    fn apply_user(&mut self, seq: i64, fact: &UserFact, holds: bool) {
        if !put(&mut self.users, fact.user, seq, holds.then(|| fact.clone())) {
            return;
        }
        let Some(identity) = fact.identity else { return };
        let place = (identity, fact.org);
        let stays = holds && fact.status != UserStatus::Deleted;
        hand_over(&mut self.members, place, (seq, fact.user), stays);
        if self.members.contains_key(&place) {
            self.orgs_of.entry(identity).or_default().insert(fact.org);
        } else if let Some(orgs) = self.orgs_of.get_mut(&identity) {
            orgs.remove(&fact.org);
        }
    }

    /// Takes away what is older than `seq` and still grants something, and answers what that was. It keeps its seq: the
    /// log still has to say it. What grants nothing stays as it is: no two refusals refuse quite the same.
    pub(super) fn deny(&mut self, seq: i64, denial: Denial) -> Option<Before> {
        let (since, fact) = match denial {
            Denial::Org(org, status) => change(self.orgs.get_mut(&org), seq, Fact::Org, |fact| {
                let grants = fact.status == OrgStatus::Active;
                grants.then(|| fact.status = status)
            }),
            Denial::User(user, status) => change(self.users.get_mut(&user), seq, Fact::User, |fact| {
                let grants = matches!(fact.status, UserStatus::Active | UserStatus::Invited);
                grants.then(|| fact.status = status)
            }),
            Denial::ServiceAccount(account, status) => {
                change(self.service_accounts.get_mut(&account), seq, Fact::ServiceAccount, |fact| {
                    let grants = fact.status == ServiceAccountStatus::Active;
                    grants.then(|| fact.status = status)
                })
            }
            Denial::Key(key, status) => change(self.keys.get_mut(key), seq, Fact::Key, |fact| {
                let grants = matches!(fact.status, KeyStatus::Active | KeyStatus::Rotating);
                grants.then(|| fact.status = status)
            }),
            Denial::Identity(identity, valid_from_s) => {
                change(self.identities.get_mut(&identity), seq, Fact::Identity, |fact| {
                    let grants = fact.tokens_valid_from_s < valid_from_s;
                    grants.then(|| fact.tokens_valid_from_s = valid_from_s)
                })
            }
            Denial::Operator(token) => change(self.operators.get_mut(&token), seq, Fact::Operator, |fact| {
                let grants = fact.expires_at_s > 0;
                grants.then(|| fact.expires_at_s = 0)
            }),
            // Of a session there is no fact before it ends.
            Denial::Session(_) => None,
        }?;
        Some(Before(since, fact))
    }

    /// The reverse, unless the log has said something since.
    pub(super) fn give_back(&mut self, Before(seq, fact): Before) {
        match fact {
            Fact::Org(fact) => set(self.orgs.get_mut(&fact.org), seq, fact),
            Fact::User(fact) => set(self.users.get_mut(&fact.user), seq, fact),
            Fact::ServiceAccount(fact) => {
                set(self.service_accounts.get_mut(&fact.service_account), seq, fact);
            }
            Fact::Identity(fact) => set(self.identities.get_mut(&fact.identity), seq, fact),
            Fact::Key(fact) => set(self.keys.get_mut(fact.key), seq, fact),
            Fact::Operator(fact) => set(self.operators.get_mut(&fact.token), seq, fact),
            Fact::Session(_) => (),
        }
    }

    /// The membership of a person in an org, unless it was deleted.
    pub(super) fn member(&self, identity: IdentityId, org: OrgId) -> Option<UserId> {
        self.members.get(&(identity, org)).map(|(_, user)| *user)
    }

    /// Where a person has a membership that was not deleted.
    pub(super) fn orgs_of(&self, identity: IdentityId) -> impl Iterator<Item = OrgId> {
        self.orgs_of.get(&identity).into_iter().flatten().copied()
    }

    pub(super) fn org_by_slug(&self, slug: &str) -> Option<OrgId> {
        self.slugs.get(slug).map(|(_, org)| *org)
    }

    pub(super) fn operator_by_kid(&self, kid: &Kid) -> Option<&OperatorFact> {
        self.operators.get(self.operator_kids.get(kid)?)?.fact.as_ref()
    }

    /// Was this session ended before its time?
    pub(super) fn is_session_over(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|known| known.fact.is_some())
    }

    /// Forgets ended sessions of which no access token is left. It looks through them once they have doubled.
    pub(super) fn forget_sessions(&mut self, now_s: i64) {
        if self.sessions.len() < 2 * self.sessions_kept.max(SESSIONS_MIN) {
            return;
        }
        self.sessions.retain(|_, known| known.fact.as_ref().is_some_and(|fact| fact.until_s >= now_s));
        self.sessions_kept = self.sessions.len();
    }

    /// How many facts hold, by kind.
    pub(super) fn counts(&self) -> [(&'static str, usize); 4] {
        fn held<'a, F: 'a>(facts: impl Iterator<Item = &'a Known<F>>) -> usize {
            facts.filter(|known| known.fact.is_some()).count()
        }
        [
            ("orgs", held(self.orgs.values())),
            ("users", held(self.users.values())),
            ("service_accounts", held(self.service_accounts.values())),
            ("keys", held(self.keys.records.iter())),
        ]
    }
}

impl Keys {
    fn apply(&mut self, seq: i64, fact: &KeyFact, holds: bool) {
        let held = holds.then(|| fact.clone());
        if let Some(place) = self.by_id.get(&fact.key) {
            let Some(record) = self.records.get_mut(*place as usize) else { return };
            if record.seq >= seq {
                return;
            }
            *record = Known { seq, fact: held };
        } else {
            let Ok(place) = u32::try_from(self.records.len()) else {
                tracing::error!("more keys than can be counted");
                return;
            };
            self.records.push(Known { seq, fact: held });
            self.by_id.insert(fact.key, place);
            self.by_kid.insert(fact.kid, place);
        }
    }

    pub(super) fn get(&self, key: KeyId) -> Option<&Known<KeyFact>> {
        self.records.get(*self.by_id.get(&key)? as usize)
    }

    fn get_mut(&mut self, key: KeyId) -> Option<&mut Known<KeyFact>> {
        self.records.get_mut(*self.by_id.get(&key)? as usize)
    }

    pub(super) fn by_kid(&self, kid: &Kid) -> Option<&KeyFact> {
        self.records.get(*self.by_kid.get(kid)? as usize)?.fact.as_ref()
    }
}

/// Stores it unless something as new is known; says whether it did.
fn put<K: Hash + Eq, F>(map: &mut HashMap<K, Known<F>>, key: K, seq: i64, fact: Option<F>) -> bool {
    if map.get(&key).is_some_and(|known| known.seq >= seq) {
        return false;
    }
    map.insert(key, Known { seq, fact });
    true
}

/// Changes what is known from before `seq`, and answers what that was. `None`: it is not changed.
fn change<F: Clone>(
    known: Option<&mut Known<F>>,
    seq: i64,
    named: fn(F) -> Fact,
    deny: impl FnOnce(&mut F) -> Option<()>,
) -> Option<(i64, Fact)> {
    let known = known.filter(|known| known.seq < seq)?;
    let fact = known.fact.as_mut()?;
    let before = fact.clone();
    deny(fact)?;
    Some((known.seq, named(before)))
}

/// Sets what is known since exactly `seq`.
fn set<F>(known: Option<&mut Known<F>>, seq: i64, fact: F) {
    if let Some(known) = known.filter(|known| known.seq == seq) {
        known.fact = Some(fact);
    }
}

/// Gives a name to its holder, or takes it from him: not from another, who may be heard of before the end of the last.
fn hand_over<K: Hash + Eq, V: Copy + Eq>(
    names: &mut HashMap<K, (i64, V)>,
    name: K,
    (seq, holder): (i64, V),
    holds: bool,
) {
    match names.get(&name) {
        Some((since, other)) if *other != holder && (*since > seq || !holds) => (),
        _ if holds => drop(names.insert(name, (seq, holder))),
        _ => drop(names.remove(&name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Id;
    use uuid::Uuid;

    #[test]
    fn a_fact_never_goes_backwards() {
        let (org, mut table) = (OrgId::from_uuid(Uuid::nil()), Table::default());
        let now = |status| Change::Holds(Fact::Org(OrgFact { org, slug: "acme".into(), status }));
        table.apply(2, &now(OrgStatus::Suspended));
        table.apply(1, &now(OrgStatus::Active));
        let known = &table.orgs[&org];
        assert_eq!((known.seq, known.fact.as_ref().unwrap().status), (2, OrgStatus::Suspended));
    }

    #[test]
    fn ended_sessions_are_forgotten_once_no_token_of_them_is_left() {
        let mut table = Table::default();
        let session = |id: usize| SessionId::from_uuid(Uuid::from_u128(id as u128));
        let identity = Id::from_uuid(Uuid::nil());
        for id in 0..2 * SESSIONS_MIN {
            let until_s = if id % 2 == 0 { 99 } else { 100 };
            let over = Fact::Session(SessionFact { session: session(id), identity, until_s });
            table.apply(1, &Change::Holds(over));
        }
        table.forget_sessions(100);
        assert_eq!(table.sessions.len(), SESSIONS_MIN);
        assert!(!table.is_session_over(session(0)) && table.is_session_over(session(1)));
    }

    #[test]
    fn an_org_that_is_gone_frees_its_slug() {
        let (org, mut table) = (OrgId::from_uuid(Uuid::nil()), Table::default());
        let fact = Fact::Org(OrgFact { org, slug: "acme".into(), status: OrgStatus::Active });
        table.apply(1, &Change::Holds(fact.clone()));
        assert_eq!(table.org_by_slug("acme"), Some(org));
        table.apply(2, &Change::Gone(fact));
        assert_eq!(table.org_by_slug("acme"), None);
    }

    #[test]
    fn a_slug_stays_with_its_new_org_whatever_is_heard_late_of_the_old_one() {
        let mut table = Table::default();
        let org = |id, status| {
            let org = Id::from_uuid(Uuid::from_u128(id));
            Fact::Org(OrgFact { org, slug: "acme".into(), status })
        };
        let new = Some(Id::from_uuid(Uuid::from_u128(2)));
        table.apply(1, &Change::Holds(org(1, OrgStatus::Active)));
        table.apply(4, &Change::Holds(org(2, OrgStatus::Active)));
        assert_eq!(table.org_by_slug("acme"), new);
        table.apply(2, &Change::Holds(org(1, OrgStatus::PendingDelete)));
        assert_eq!(table.org_by_slug("acme"), new);
        table.apply(3, &Change::Gone(org(1, OrgStatus::PendingDelete)));
        assert_eq!(table.org_by_slug("acme"), new);
    }

    #[test]
    fn a_member_who_comes_back_is_found_under_the_new_id() {
        let mut table = Table::default();
        let (identity, org) = (Id::from_uuid(Uuid::from_u128(1)), Id::from_uuid(Uuid::from_u128(2)));
        let user = |id, status| {
            let user = Id::from_uuid(Uuid::from_u128(id));
            let identity = Some(identity);
            Change::Holds(Fact::User(UserFact {
                user,
                org,
                identity,
                status,
                roles: vec![],
                mfa_due_at_s: None,
            }))
        };
        table.apply(1, &user(10, UserStatus::Active));
        table.apply(2, &user(11, UserStatus::Active));
        table.apply(3, &user(10, UserStatus::Deleted));
        assert_eq!(table.member(identity, org), Some(Id::from_uuid(Uuid::from_u128(11))));
        table.apply(4, &user(11, UserStatus::Deleted));
        assert_eq!((table.member(identity, org), table.orgs_of(identity).count()), (None, 0));
    }
}
