//! What a commit tells the other processes: that there is something to read, and what is denied from now on.
//!
//! **Invariant:** a wake-up takes rights away and gives none. PostgreSQL says what is true: whatever a wake-up took away
//! is given back when PostgreSQL, asked after it, does not say so too. And only who has our keys is heard: whoever can
//! write into the cache could else deny what he likes, and keep every process asking.
use super::{
    Change, Fact, FactKey,
    table::{Before, Table},
};
use crate::kernel::{
    IdentityId, KeyId, KeyStatus, OperatorId, OrgId, OrgStatus, ServiceAccountId, ServiceAccountStatus,
    SessionId, UserId, UserStatus,
};
use crate::platform::keys::KeyRing;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD as BASE64};
use serde::{Deserialize, Serialize};
use std::{collections::HashMap, time::Duration};

/// So that nothing else that is authenticated under this key passes for an announcement.
const PURPOSE: &[u8] = b"authorization wake-up";
/// Denials in one announcement; a commit with more makes several.
const DENIALS_PER_WAKEUP: usize = 200;
/// Denials that PostgreSQL has not been asked about; further ones wait for the tail.
const DENIALS_MAX: usize = 100_000;

/// One announcement. Of another release it may say more: then that is not understood, and the tail reads it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Wakeup {
    pub(super) seq: i64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    denials: Vec<Denial>,
}

/// What no longer holds, and as what it is seen from now on.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Denial {
    Org(OrgId, OrgStatus),
    User(UserId, UserStatus),
    ServiceAccount(ServiceAccountId, ServiceAccountStatus),
    Key(KeyId, KeyStatus),
    Session(SessionId),
    /// Access tokens issued before this are dead, in Unix seconds.
    Identity(IdentityId, i64),
    Operator(OperatorId),
}

impl Denial {
    /// What a change takes away, if it does.
    fn of(change: &Change) -> Option<Self> {
        let denial = match change {
            Change::Holds(fact) => match fact {
                Fact::Org(fact) => Self::Org(fact.org, fact.status),
                Fact::User(fact) => Self::User(fact.user, fact.status),
                Fact::ServiceAccount(fact) => Self::ServiceAccount(fact.service_account, fact.status),
                Fact::Key(fact) => Self::Key(fact.key, fact.status),
                Fact::Session(fact) => Self::Session(fact.session),
                Fact::Identity(fact) => Self::Identity(fact.identity, fact.tokens_valid_from_s),
                Fact::Operator(_) => return None,
            },
            Change::Gone(fact) => match fact {
                Fact::Org(fact) => Self::Org(fact.org, OrgStatus::PendingDelete),
                Fact::User(fact) => Self::User(fact.user, UserStatus::Deleted),
                Fact::ServiceAccount(fact) => {
                    Self::ServiceAccount(fact.service_account, ServiceAccountStatus::Deleted)
                }
                Fact::Key(fact) => Self::Key(fact.key, KeyStatus::Revoked),
                Fact::Session(_) => return None,
                Fact::Identity(fact) => Self::Identity(fact.identity, i64::MAX),
                Fact::Operator(fact) => Self::Operator(fact.token),
            },
        };
        denial.denies().then_some(denial)
    }

    /// Asked of what was heard, too: nobody is granted anything on the word of a cache.
    fn denies(&self) -> bool {
        match self {
            Self::Org(_, status) => *status != OrgStatus::Active,
            Self::User(_, status) => matches!(status, UserStatus::Suspended | UserStatus::Deleted),
            Self::ServiceAccount(_, status) => *status != ServiceAccountStatus::Active,
            Self::Key(_, status) => matches!(status, KeyStatus::Revoked | KeyStatus::Quarantined),
            Self::Identity(_, valid_from_s) => *valid_from_s > 0,
            Self::Session(_) | Self::Operator(_) => true,
        }
    }

    fn key(self) -> FactKey {
        match self {
            Self::Org(org, _) => FactKey::org(org),
            Self::User(user, _) => FactKey::user(user),
            Self::ServiceAccount(account, _) => FactKey::service_account(account),
            Self::Key(key, _) => FactKey::key(key),
            Self::Session(session) => FactKey::session(session),
            Self::Identity(identity, _) => FactKey::identity(identity),
            Self::Operator(token) => FactKey::operator(token),
        }
    }
}

/// What is announced of a commit: at least its seq, if it changed anything.
pub(crate) fn announcements(keys: &KeyRing, seq: i64, changes: &[Change]) -> Vec<String> {
    if changes.is_empty() {
        return vec![];
    }
    let denials: Vec<Denial> = changes.iter().filter_map(Denial::of).collect();
    let mut parts: Vec<&[Denial]> = denials.chunks(DENIALS_PER_WAKEUP).collect();
    if parts.is_empty() {
        parts.push(&[]);
    }
    let text = |part: &[Denial]| serde_json::to_string(&Wakeup { seq, denials: part.to_vec() });
    let signed = |text: String| format!("{}.{text}", BASE64.encode(keys.mac(&[PURPOSE, text.as_bytes()])));
    parts.into_iter().filter_map(|part| text(part).ok()).map(signed).collect()
}

/// What somebody with our keys announced.
pub(super) fn open<'t>(keys: &KeyRing, signed: &'t str) -> Option<&'t str> {
    let (mac, text) = signed.split_once('.')?;
    let mac = BASE64.decode(mac).ok()?;
    keys.mac_matches(&[PURPOSE, text.as_bytes()], &mac).then_some(text)
}

/// The reverse of what is announced; `None`: it is not understood.
pub(super) fn parse(text: &str) -> Option<Wakeup> {
    let mut wakeup: Wakeup = serde_json::from_str(text).ok()?;
    wakeup.denials.truncate(DENIALS_PER_WAKEUP);
    wakeup.denials.retain(Denial::denies);
    Some(wakeup)
}

/// What was denied on the word of a wake-up, and PostgreSQL was not asked about since.
#[derive(Default)]
pub(super) struct Denials(HashMap<FactKey, Heard>);

struct Heard {
    denial: Denial,
    seq: i64,
    at: Duration,
    before: Option<Before>,
}

impl Denials {
    /// Denies in the table what was true before, unless that is newer.
    pub(super) fn hear(&mut self, table: &mut Table, wakeup: &Wakeup, now: Duration) {
        for denial in &wakeup.denials {
            let key = denial.key();
            if self.0.len() >= DENIALS_MAX && !self.0.contains_key(&key) {
                return;
            }
            let (seq, denial, at) = (wakeup.seq, *denial, now);
            let heard = self.0.entry(key).or_insert(Heard { denial, seq, at, before: None });
            if seq >= heard.seq {
                (heard.denial, heard.seq, heard.at) = (denial, seq, at);
            }
            heard.apply(table);
        }
    }

    /// PostgreSQL was asked at `asked_at`, and what it answered is in the table: that stands. What was heard later is
    /// denied still.
    pub(super) fn settle(&mut self, table: &mut Table, asked_at: Duration) {
        self.0.retain(|_, heard| {
            if heard.at >= asked_at {
                heard.apply(table);
                return true;
            }
            if let Some(before) = heard.before.take() {
                table.give_back(before);
            }
            false
        });
    }

    /// Denies anew what facts that were asked for before they were heard may have granted again.
    pub(super) fn hold(&mut self, table: &mut Table) {
        self.0.values_mut().for_each(|heard| heard.apply(table));
    }

    /// Was this session ended?
    pub(super) fn ended(&self, session: SessionId) -> bool {
        !self.0.is_empty() && self.0.contains_key(&FactKey::session(session))
    }
}

impl Heard {
    fn apply(&mut self, table: &mut Table) {
        let before = table.deny(self.seq, self.denial);
        // Denied twice, what was true before is what it was before the first time.
        let known = self.before.as_ref().map(Before::seq);
        if let Some(before) = before.filter(|before| Some(before.seq()) != known) {
            self.before = Some(before);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{authorization::OrgFact, kernel::Id, platform::keys::Keys};
    use uuid::Uuid;

    const HEARD: Duration = Duration::from_secs(1);
    const LATER: Duration = Duration::from_secs(2);

    fn org() -> OrgId {
        Id::from_uuid(Uuid::from_u128(1))
    }

    fn holds(status: OrgStatus) -> Change {
        Change::Holds(Fact::Org(OrgFact { org: org(), slug: "acme".into(), status }))
    }

    fn status(table: &Table) -> OrgStatus {
        table.orgs[&org()].fact.as_ref().unwrap().status
    }

    fn said(seq: i64, changes: &[Change]) -> Vec<Wakeup> {
        let keys = keys();
        let all = announcements(&keys, seq, changes);
        all.iter().map(|signed| parse(open(&keys, signed).unwrap()).unwrap()).collect()
    }

    fn keys() -> Keys {
        Keys::from_seed([1; 32]).unwrap()
    }

    /// A table that knows an active org since seq 1, and what is heard of it.
    fn heard(seq: i64, change: &Change) -> (Table, Denials) {
        let (mut table, mut denials) = (Table::default(), Denials::default());
        table.apply(1, &holds(OrgStatus::Active));
        for wakeup in said(seq, std::slice::from_ref(change)) {
            denials.hear(&mut table, &wakeup, HEARD);
        }
        (table, denials)
    }

    #[test]
    fn a_denial_holds_until_postgres_was_asked_and_then_what_postgres_said() {
        let (mut table, mut denials) = heard(2, &holds(OrgStatus::Suspended));
        assert_eq!((status(&table), table.orgs[&org()].seq), (OrgStatus::Suspended, 1));
        denials.settle(&mut table, HEARD);
        assert_eq!(status(&table), OrgStatus::Suspended, "it was asked before that was heard");
        table.apply(2, &holds(OrgStatus::Suspended));
        denials.settle(&mut table, LATER);
        assert_eq!((status(&table), table.orgs[&org()].seq), (OrgStatus::Suspended, 2));
    }

    #[test]
    fn what_postgres_does_not_know_of_is_given_back() {
        let (mut table, mut denials) = heard(i64::MAX, &holds(OrgStatus::Suspended));
        let gone = Change::Gone(holds(OrgStatus::Active).fact().clone());
        denials.hear(&mut table, &said(9, &[gone])[0], HEARD);
        assert_eq!(status(&table), OrgStatus::Suspended, "the newer word");
        denials.settle(&mut table, LATER);
        assert_eq!((status(&table), table.orgs[&org()].seq), (OrgStatus::Active, 1));
        assert!(denials.0.is_empty());
    }

    #[test]
    fn what_is_newer_here_is_not_denied_and_nothing_is_granted() {
        let (table, _) = heard(1, &holds(OrgStatus::Suspended));
        assert_eq!(status(&table), OrgStatus::Active, "heard late");
        let (mut table, mut denials) = heard(2, &holds(OrgStatus::Suspended));
        let granted = format!("{{\"seq\":3,\"denials\":[{{\"org\":[\"{}\",\"active\"]}}]}}", org());
        denials.hear(&mut table, &parse(&granted).unwrap(), HEARD);
        assert_eq!(status(&table), OrgStatus::Suspended);
    }

    #[test]
    fn a_commit_without_denials_says_its_seq_and_one_with_many_says_so_in_parts() {
        let plain = announcements(&keys(), 7, &[holds(OrgStatus::Active)]);
        assert_eq!(open(&keys(), &plain[0]), Some("{\"seq\":7}"));
        let parts = said(8, &vec![holds(OrgStatus::Suspended); DENIALS_PER_WAKEUP + 1]);
        assert_eq!(parts.iter().map(|part| part.denials.len()).collect::<Vec<_>>(), [DENIALS_PER_WAKEUP, 1]);
        assert!(parts.iter().all(|part| part.seq == 8));
    }

    #[test]
    fn one_denial_does_not_turn_into_another_that_allows_more() {
        let (mut table, mut denials) = (Table::default(), Denials::default());
        table.apply(1, &holds(OrgStatus::Suspended));
        for wakeup in said(2, &[holds(OrgStatus::PendingDelete)]) {
            denials.hear(&mut table, &wakeup, HEARD);
        }
        assert_eq!(
            status(&table),
            OrgStatus::Suspended,
            "members of an org that is to go may go on deleting it"
        );
    }

    #[test]
    fn facts_that_were_asked_for_before_do_not_undo_what_was_heard() {
        let (mut table, mut denials) = heard(5, &holds(OrgStatus::Suspended));
        table.apply(3, &holds(OrgStatus::Active));
        denials.hold(&mut table);
        assert_eq!(status(&table), OrgStatus::Suspended);
    }

    #[test]
    fn nobody_without_our_keys_is_heard() {
        let other = Keys::from_seed([2; 32]).unwrap();
        let forged = announcements(&other, 9, &[holds(OrgStatus::Suspended)]).remove(0);
        let (_, text) = forged.split_once('.').unwrap();
        let genuine = announcements(&keys(), 8, &[]).first().cloned().unwrap_or_default();
        for signed in [&forged, text, "", ".", &format!(".{text}"), &format!("{genuine}.{text}")] {
            assert!(open(&keys(), signed).is_none(), "{signed}");
        }
    }

    #[test]
    fn what_is_not_understood_is_no_wakeup() {
        for text in ["", "7", "{}", "{\"seq\":1,\"denials\":[{\"moon\":1}]}"] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
