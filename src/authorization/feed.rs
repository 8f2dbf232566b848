//! What changed lately, for whoever keeps answers of ours: the last of the log's tail, as it was read.
//!
//! **Invariant:** whoever goes from one place to the next is told of each thing that changed between the two. Where that
//! cannot be told from here any more, he is told that instead.
use super::{
    Scope,
    facts::{Change, Fact},
    log::{self, Reading, Row},
    table::Table,
};
use crate::{
    kernel::{IdentityId, KeyStatus, OrgId, OrgStatus, ServiceAccountStatus, UserStatus},
    platform::db::StorageError,
};
use chrono::{DateTime, Utc};
use diesel_async::AsyncPgConnection;
use std::collections::BTreeMap;
use uuid::Uuid;

/// Changes kept in memory, about ten megabytes; whoever wants older ones has PostgreSQL asked.
const KEPT_MAX: usize = 50_000;
/// Changes looked through in one call.
const LOOKED_AT_MAX: usize = 10_000;

/// A thing that is not what it was: answers about it from before `seq` may be wrong.
#[derive(Clone, Debug)]
pub struct Revocation {
    /// The revision with which it changed.
    pub seq: i64,
    pub kind: RevokedKind,
    pub id: Uuid,
    /// Whose it is; none of a session, or of a person.
    pub org: Option<OrgId>,
    /// The person behind a membership or a session, or the person itself.
    pub person: Option<IdentityId>,
    /// What it is now, in a word.
    pub reason: &'static str,
    /// Of a person, in Unix seconds: access tokens issued before are dead.
    pub tokens_valid_from_s: Option<i64>,
    /// Of a session, in Unix seconds: no access token of it outlives this.
    pub until_s: Option<i64>,
    pub at: DateTime<Utc>,
}

/// What kind of thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RevokedKind {
    Key,
    Session,
    /// A membership, a service account, or a person in every org.
    Principal,
    Org,
}

impl RevokedKind {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::Session => "session",
            Self::Principal => "principal",
            Self::Org => "org",
        }
    }
}

/// What changed from a place on.
#[derive(Debug)]
pub struct Revocations {
    /// In the order of `seq`.
    pub entries: Vec<Revocation>,
    /// The place to go on from: these are all up to here.
    pub upto: i64,
    /// How far there is more.
    pub revision: i64,
}

impl Revocation {
    /// `None`: nobody can have been answered about it before, or nobody outside is.
    fn of(row: &Row, change: &Change) -> Option<Self> {
        let (fact, gone) = (change.fact(), matches!(change, Change::Gone(_)));
        if !row.was_there && !matches!(fact, Fact::Session(_)) {
            return None;
        }
        let (kind, word) = match fact {
            Fact::Org(fact) => {
                (RevokedKind::Org, word(fact.status == OrgStatus::Active, fact.status.as_str()))
            }
            Fact::User(fact) => {
                let well = matches!(fact.status, UserStatus::Active | UserStatus::Invited);
                (RevokedKind::Principal, word(well, fact.status.as_str()))
            }
            Fact::ServiceAccount(fact) => {
                let well = fact.status == ServiceAccountStatus::Active;
                (RevokedKind::Principal, word(well, fact.status.as_str()))
            }
            Fact::Identity(_) => (RevokedKind::Principal, CHANGED),
            Fact::Key(fact) => {
                let well = matches!(fact.status, KeyStatus::Active | KeyStatus::Rotating);
                (RevokedKind::Key, word(well, fact.status.as_str()))
            }
            Fact::Session(_) => (RevokedKind::Session, "ended"),
            Fact::Operator(_) => return None,
        };
        let person = match fact {
            Fact::User(fact) => fact.identity,
            Fact::Identity(fact) => Some(fact.identity),
            Fact::Session(fact) => Some(fact.identity),
            _ => None,
        };
        let tokens_valid_from_s = match fact {
            Fact::Identity(fact) => Some(fact.tokens_valid_from_s).filter(|at| *at > 0),
            _ => None,
        };
        let until_s = if let Fact::Session(fact) = fact { Some(fact.until_s) } else { None };
        let reason = if gone { "deleted" } else { word };
        let (seq, id, org, at) = (row.seq, row.id, fact.org(), row.changed_at);
        Some(Self { seq, kind, id, org, person, reason, tokens_valid_from_s, until_s, at })
    }

    /// A person belongs to no org; those in which he is a member are told.
    fn concerns(&self, scope: Scope, table: &Table) -> bool {
        match scope {
            Scope::Platform => true,
            Scope::Own => false,
            Scope::Org(org) => match (self.org, self.person) {
                (Some(own), _) => own == org,
                (None, Some(person)) => table.member(person, org).is_some(),
                (None, None) => false,
            },
        }
    }
}

/// Whatever else is different.
const CHANGED: &str = "changed";

fn word(well: bool, status: &'static str) -> &'static str {
    if well { CHANGED } else { status }
}

/// The last changes, in the order of the log.
#[derive(Default)]
pub(super) struct Feed {
    entries: BTreeMap<(i64, Uuid), Revocation>,
    /// Up to here changes are not kept, or were never heard of.
    since: i64,
}

impl Feed {
    /// Rows of the tail. Several readers may bring the same ones.
    pub(super) fn note<'r>(&mut self, rows: impl Iterator<Item = (&'r Row, &'r Change)>) {
        self.keep(rows.filter_map(|(row, change)| Revocation::of(row, change)));
    }

    fn keep(&mut self, new: impl Iterator<Item = Revocation>) {
        self.entries.extend(new.filter(|new| new.seq > self.since).map(|new| ((new.seq, new.id), new)));
        while self.entries.len() > KEPT_MAX
            && let Some(((seq, _), _)) = self.entries.pop_first()
        {
            self.since = self.since.max(seq);
        }
    }

    /// Everything up to here was read at once, without what changed on the way.
    pub(super) fn begin_at(&mut self, seq: i64) {
        self.since = self.since.max(seq);
        let since = self.since;
        self.entries.retain(|(seq, _), _| *seq > since);
    }

    /// What changed after `from`, up to `applied`. `None`: that is longer ago than is kept.
    pub(super) fn after(
        &self,
        from: i64,
        (scope, limit): (Scope, usize),
        (table, applied): (&Table, i64),
    ) -> Option<Revocations> {
        if from < self.since {
            return None;
        }
        let (mut entries, mut upto) = (vec![], from);
        let later = self.entries.range((from, Uuid::max())..).filter(|((seq, _), _)| *seq > from);
        for (looked_at, ((seq, _), entry)) in later.enumerate() {
            // Changes of one transaction stay together.
            let full = entries.len() >= limit || looked_at >= LOOKED_AT_MAX;
            if *seq > applied || full && *seq > upto {
                break;
            }
            upto = *seq;
            if entry.concerns(scope, table) {
                entries.push(entry.clone());
            }
        }
        let more =
            self.entries.range((upto, Uuid::max())..).any(|((seq, _), _)| *seq > upto && *seq <= applied);
        let upto = if more { upto } else { applied.max(from) };
        Some(Revocations { entries, upto, revision: applied.max(from) })
    }
}

/// The same of PostgreSQL, for the role that may read what facts say. `None`: tombstones from after `from` are gone there,
/// too, or it never came so far.
pub(super) async fn ask(
    conn: &mut AsyncPgConnection,
    from: i64,
    (scope, limit): (Scope, usize),
) -> Result<Option<Revocations>, StorageError> {
    let Reading { seq: revision, .. } = log::reading(conn).await?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let rows = log::revoking(conn, (from, revision), scope, limit).await?;
    // Read last: what was forgotten before the rows were read is below it.
    let Reading { floor, .. } = log::reading(conn).await?;
    if from < floor || from > revision {
        return Ok(None);
    }
    let full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
    let upto = rows.last().filter(|_| full).map_or(revision, |row| row.seq);
    let entries = rows.iter().map(|row| Ok(Revocation::of(row, &row.change()?)));
    let entries = entries.filter_map(Result::transpose).collect::<Result<Vec<_>, StorageError>>()?;
    Ok(Some(Revocations { entries, upto, revision }))
}

/// Leaves out what the scope is not told.
pub(super) fn narrow(found: &mut Revocations, scope: Scope, table: &Table) {
    found.entries.retain(|entry| entry.concerns(scope, table));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Id;

    fn org() -> OrgId {
        Id::from_uuid(Uuid::from_u128(1))
    }

    fn key(seq: i64, of: OrgId) -> Revocation {
        let (kind, id) = (RevokedKind::Key, Uuid::from_u128(seq.cast_unsigned().into()));
        let (person, tokens_valid_from_s, until_s) = (None, None, None);
        let (org, reason, at) = (Some(of), "revoked", DateTime::UNIX_EPOCH);
        Revocation { seq, kind, id, org, person, reason, tokens_valid_from_s, until_s, at }
    }

    /// The revisions told, and up to where that is; `None`: not from here.
    fn told(feed: &Feed, from: i64, scope: Scope, limit: usize, applied: i64) -> Option<(Vec<i64>, i64)> {
        let found = feed.after(from, (scope, limit), (&Table::default(), applied))?;
        Some((found.entries.iter().map(|entry| entry.seq).collect(), found.upto))
    }

    #[test]
    fn what_the_tail_has_not_confirmed_is_not_told() {
        let mut feed = Feed::default();
        feed.keep([5, 7, 9].map(|seq| key(seq, org())).into_iter());
        assert_eq!(told(&feed, 0, Scope::Platform, 9, 8), Some((vec![5, 7], 8)));
        assert_eq!(told(&feed, 5, Scope::Platform, 9, 9), Some((vec![7, 9], 9)));
        assert_eq!(told(&feed, 12, Scope::Platform, 9, 9), Some((vec![], 12)), "nobody is sent back");
    }

    #[test]
    fn another_orgs_changes_move_the_place_and_are_not_told() {
        let (mut feed, other) = (Feed::default(), Id::from_uuid(Uuid::from_u128(2)));
        feed.keep([key(5, other), key(6, org()), key(7, other)].into_iter());
        assert_eq!(told(&feed, 0, Scope::Org(org()), 9, 7), Some((vec![6], 7)));
        assert_eq!(
            told(&feed, 0, Scope::Org(other), 2, 7),
            Some((vec![5, 7], 7)),
            "the limit counts what is told"
        );
        assert_eq!(told(&feed, 0, Scope::Own, 9, 7), Some((vec![], 7)));
    }

    #[test]
    fn the_oldest_are_not_kept_and_whoever_wants_them_is_told_so() {
        let (mut feed, last) = (Feed::default(), i64::try_from(KEPT_MAX).unwrap() + 10);
        feed.keep((1..=last).map(|seq| key(seq, org())));
        assert!(told(&feed, 9, Scope::Platform, 1, last).is_none());
        assert_eq!(told(&feed, 10, Scope::Platform, 1, last), Some((vec![11], 11)));
        // However little of it concerns somebody, one look is bounded and goes on.
        let nobody = Scope::Org(Id::from_uuid(Uuid::from_u128(3)));
        let looked_at = i64::try_from(LOOKED_AT_MAX).unwrap();
        assert_eq!(told(&feed, 10, nobody, 1, last), Some((vec![], 10 + looked_at)));
    }

    #[test]
    fn what_was_read_at_once_begins_anew() {
        let mut feed = Feed::default();
        feed.keep((1..=4).map(|seq| key(seq, org())));
        feed.begin_at(3);
        assert!(told(&feed, 2, Scope::Platform, 9, 4).is_none());
        assert_eq!(told(&feed, 3, Scope::Platform, 9, 4), Some((vec![4], 4)));
        feed.keep([key(2, org())].into_iter());
        assert_eq!(feed.entries.len(), 1, "what comes late of before is not kept");
    }
}
