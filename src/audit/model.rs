use super::{
    error::AuditError,
    merkle::{Hash, leaf_hash},
};
use crate::{
    authorization::Action,
    kernel::{EventId, OrgId},
    ledger::{OutboxRow, Outcome},
    platform::keys::sha256,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The bundles of transparency logs count an entry's bytes in sixteen bits.
const ENTRY_BYTES_MAX: usize = 65_535;
/// Stands where an entry does not tell.
const UNKNOWN: &str = "unknown";

/// Whose events.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Chain {
    /// Everybody's, in the order of the log.
    All,
    /// What belongs to no tenant.
    Platform,
    /// One tenant's.
    Org(OrgId),
}

/// Which events of a chain. Whatever is `None` does not matter.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Filter {
    /// Who did it.
    pub actor: Option<ActorFilter>,
    /// What was done, or tried.
    pub action: Option<Action>,
    /// Did it happen?
    pub outcome: Option<Outcome>,
    /// When.
    pub span: Span,
}

/// Who did it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ActorFilter {
    /// The actor as entries name him: `person:<id>`, `workload:jobs`, `anonymous`.
    Exactly(String),
    /// Whoever has this id, whatever he is.
    Named(Uuid),
}

impl ActorFilter {
    /// A bare UUID is an id; anything else is an actor's whole name.
    pub fn parse(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Exactly(text.to_owned()), Self::Named)
    }
}

/// Time from an instant on, and before another.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Span {
    from: Option<DateTime<Utc>>,
    to: Option<DateTime<Utc>>,
}

impl Span {
    /// Refuses what no event can be in.
    pub fn parse(from: Option<&str>, to: Option<&str>) -> Result<Self, AuditError> {
        let from = from.map(|text| instant("from", text)).transpose()?;
        let to = to.map(|text| instant("to", text)).transpose()?;
        match (from, to) {
            (Some(from), Some(to)) if from >= to => Err(AuditError::SpanEmpty),
            _ => Ok(Self { from, to }),
        }
    }

    /// The first instant that is in it.
    pub fn from(&self) -> Option<DateTime<Utc>> {
        self.from
    }

    /// The first that is in it no more.
    pub fn to(&self) -> Option<DateTime<Utc>> {
        self.to
    }
}

fn instant(field: &'static str, text: &str) -> Result<DateTime<Utc>, AuditError> {
    // The plus of an offset that nobody escaped arrives as a space.
    let text = text.replace(' ', "+");
    let instant = DateTime::parse_from_rfc3339(&text).map_err(|_| AuditError::InstantInvalid(field))?;
    Ok(instant.to_utc())
}

/// The known action of this name.
pub(super) fn parse_action(name: &str) -> Result<Action, AuditError> {
    Action::parse(name).ok_or_else(|| AuditError::ActionUnknown(name.to_owned()))
}

/// `allow` or `deny`.
pub(super) fn parse_outcome(name: &str) -> Result<Outcome, AuditError> {
    let known = [Outcome::Allow, Outcome::Deny];
    known.into_iter().find(|outcome| outcome.as_str() == name).ok_or(AuditError::OutcomeUnknown)
}

/// Part of a chain, the newest event first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Slice {
    /// Only what stands before this place: in the log for `Chain::All`, else in the chain.
    pub before: Option<i64>,
    /// So many at most.
    pub limit: i64,
}

/// An event with its place on the log.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its place on the log, from 0.
    pub seq: i64,
    /// Whose chain.
    pub org: OrgId,
    /// Its place on that chain, from 1.
    pub org_seq: i64,
    /// Which event.
    pub event: EventId,
    /// When it happened.
    pub occurred_at: DateTime<Utc>,
    /// When it got its place.
    pub sequenced_at: DateTime<Utc>,
    /// What was done, or tried.
    pub action: String,
    /// By whom.
    pub actor: String,
    /// On what.
    pub target: String,
    /// `allow` or `deny`.
    pub outcome: String,
    /// The bytes that were hashed.
    pub entry: Vec<u8>,
    /// Their hash.
    pub leaf: Vec<u8>,
    /// The leaf before it on its chain.
    pub prev: Option<Vec<u8>>,
    /// What is personal about it, unless it was erased.
    pub personal: BTreeMap<String, String>,
}

impl Record {
    /// The place to go on before, or `None` at the beginning of what was asked for.
    pub fn place(&self, chain: Chain) -> Option<i64> {
        match chain {
            Chain::All => Some(self.seq).filter(|seq| *seq > 0),
            Chain::Platform | Chain::Org(_) => Some(self.org_seq).filter(|seq| *seq > 1),
        }
    }
}

/// What waits for its place on the log.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Backlog {
    /// How many events; counted up to 100,000.
    pub events: u32,
    /// How long ago the oldest of them happened.
    pub age_seconds: f64,
}

/// An event as it comes out of the outbox.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) row: OutboxRow,
    pub(super) occurred_at: DateTime<Utc>,
    /// It is not what one of our processes wrote.
    pub(super) tampered: bool,
}

/// Where an event goes.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) org_seq: i64,
    pub(super) prev: Option<Hash>,
    pub(super) sequenced_at: DateTime<Utc>,
}

/// What the log holds of an event.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) bytes: Vec<u8>,
    pub(super) leaf: Hash,
    pub(super) occurred_at: DateTime<Utc>,
    pub(super) action: String,
    pub(super) actor: String,
    pub(super) target: String,
    pub(super) outcome: String,
}

/// Puts an event into its place. There is an entry for every event, since one that had none would stop all others.
pub(super) fn build_entry(waiting: &Waiting, place: &Place) -> Entry {
    let told = serde_json::from_slice(&waiting.row.body).ok();
    let whole = told
        .map(|told| placed(told, waiting, place))
        .and_then(|members| Some((canonical(&members)?, members)));
    let (bytes, members) = whole.unwrap_or_else(|| {
        let members = placed(stub(waiting), waiting, place);
        (canonical(&members).unwrap_or_default(), members)
    });
    let text = |name: &str| {
        let text = members.get(name).and_then(Value::as_str).unwrap_or(UNKNOWN);
        text.replace('\0', "") // PostgreSQL's text cannot hold it
    };
    let time = members.get("time").and_then(Value::as_str);
    let time = time.and_then(|time| DateTime::parse_from_rfc3339(time).ok());
    Entry {
        leaf: leaf_hash(&bytes),
        bytes,
        occurred_at: time.map_or(waiting.occurred_at, |time| time.to_utc()),
        action: text("action"),
        actor: text("actor"),
        target: text("target"),
        outcome: text("outcome"),
    }
}

/// What the outbox told, and what only the sequencer knows. The row decides whose it is: it is what is chained.
fn placed(mut told: Map<String, Value>, waiting: &Waiting, place: &Place) -> Map<String, Value> {
    let sequenced_at = place.sequenced_at.to_rfc3339_opts(SecondsFormat::Micros, true);
    told.insert("id".to_owned(), json!(waiting.row.event));
    told.insert("org".to_owned(), json!(waiting.row.org));
    told.insert("org_seq".to_owned(), json!(place.org_seq));
    told.insert("prev".to_owned(), json!(place.prev.map(|leaf| STANDARD.encode(leaf))));
    told.insert("sequenced_at".to_owned(), json!(sequenced_at));
    if waiting.tampered {
        told.insert("tampered".to_owned(), json!(true));
    }
    told
}

/// Stands in for a body that is no event, or has no room in an entry.
fn stub(waiting: &Waiting) -> Map<String, Value> {
    let body = &waiting.row.body;
    let unreadable = json!({ "bytes": body.len(), "sha256": STANDARD.encode(sha256(&[body])) });
    let time = waiting.occurred_at.to_rfc3339_opts(SecondsFormat::Micros, true);
    [("v", json!(1)), ("time", json!(time)), ("unreadable", unreadable)]
        .map(|(name, value)| (name.to_owned(), value))
        .into_iter()
        .collect()
}

/// RFC 8785: one way only to write it down.
fn canonical(members: &Map<String, Value>) -> Option<Vec<u8>> {
    let bytes = serde_json_canonicalizer::to_vec(members).ok()?;
    (bytes.len() <= ENTRY_BYTES_MAX).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Id;

    const BODY: &str = r#"{"v":1,"time":"2026-11-24T10:00:00Z","policy":null,"outcome":"allow","action":"keys:issue",
        "actor":"person:0193","target":"0194","id":"forged","org":"forged","body":{"n":1.0,"é":"\u00e9"},"pii":{}}"#;

    fn waiting(body: &str) -> Waiting {
        let (org, event) = (Id::from_uuid(Uuid::from_u128(0xA)), Id::from_uuid(Uuid::from_u128(0xB)));
        let row = OutboxRow { org, event, body: body.into(), pii: None };
        Waiting { row, occurred_at: DateTime::UNIX_EPOCH, tampered: false }
    }

    fn place() -> Place {
        let sequenced_at = "2026-11-24T10:00:01.000002Z".parse().unwrap();
        Place { org_seq: 7, prev: Some([0xFF; 32]), sequenced_at }
    }

    #[test]
    fn an_entry_is_the_body_in_its_place_written_in_the_one_canonical_way() {
        let entry = build_entry(&waiting(BODY), &place());
        let expected = concat!(
            r#"{"action":"keys:issue","actor":"person:0193","body":{"n":1,"é":"é"},"#,
            r#""id":"00000000-0000-0000-0000-00000000000b","org":"00000000-0000-0000-0000-00000000000a","#,
            r#""org_seq":7,"outcome":"allow","pii":{},"policy":null,"#,
            r#""prev":"//////////////////////////////////////////8=","#,
            r#""sequenced_at":"2026-11-24T10:00:01.000002Z","target":"0194","time":"2026-11-24T10:00:00Z","v":1}"#,
        );
        assert_eq!(String::from_utf8(entry.bytes).unwrap(), expected);
        assert_eq!(entry.leaf, leaf_hash(expected.as_bytes()));
        assert_eq!(entry.occurred_at, "2026-11-24T10:00:00Z".parse::<DateTime<Utc>>().unwrap());
        let words = [entry.action, entry.actor, entry.target, entry.outcome];
        assert_eq!(words, ["keys:issue", "person:0193", "0194", "allow"]);
    }

    #[test]
    fn the_first_of_a_chain_has_none_before_it() {
        let entry = build_entry(&waiting(BODY), &Place { org_seq: 1, prev: None, ..place() });
        let entry: Value = serde_json::from_slice(&entry.bytes).unwrap();
        assert_eq!((&entry["org_seq"], &entry["prev"]), (&json!(1), &Value::Null));
        assert_eq!(entry.get("tampered"), None);
    }

    #[test]
    fn what_was_tampered_with_says_so_and_keeps_what_it_tells() {
        let entry = build_entry(&Waiting { tampered: true, ..waiting(BODY) }, &place());
        let told: Value = serde_json::from_slice(&entry.bytes).unwrap();
        assert_eq!((&told["tampered"], &told["action"]), (&json!(true), &json!("keys:issue")));
        assert_eq!(told["org"], json!(Uuid::from_u128(0xA)));
    }

    #[test]
    fn a_body_that_is_no_event_stops_nobody() {
        let deep = "[".repeat(10_000);
        let large = format!(r#"{{"action":"a","body":"{}"}}"#, "x".repeat(ENTRY_BYTES_MAX));
        for body in ["", "null", "[]", "7", "\u{0}", r#"{"action":"#, r#"{"n":1e999}"#, &deep, &large] {
            let entry = build_entry(&Waiting { tampered: true, ..waiting(body) }, &place());
            let told: Value = serde_json::from_slice(&entry.bytes).unwrap();
            assert_eq!(told["unreadable"]["bytes"], json!(body.len()), "{body:.20}");
            assert_eq!((&told["org_seq"], &told["tampered"]), (&json!(7), &json!(true)));
            assert_eq!((entry.action.as_str(), entry.occurred_at), (UNKNOWN, DateTime::UNIX_EPOCH));
        }
        let odd = build_entry(&waiting(r#"{"action":"a\u0000b","actor":3,"time":"noon"}"#), &place());
        assert_eq!((odd.action.as_str(), odd.actor.as_str()), ("ab", UNKNOWN));
        assert_eq!(odd.occurred_at, DateTime::UNIX_EPOCH);
    }

    #[test]
    fn filters_are_parsed_or_refused() {
        let id = Uuid::from_u128(0xA);
        assert_eq!(ActorFilter::parse(&id.to_string()), ActorFilter::Named(id));
        assert_eq!(ActorFilter::parse("anonymous"), ActorFilter::Exactly("anonymous".to_owned()));
        assert!(
            matches!(parse_action("keys:fly"), Err(AuditError::ActionUnknown(name)) if name == "keys:fly")
        );
        assert_eq!(parse_outcome("deny").unwrap(), Outcome::Deny);
        assert!(parse_outcome("Deny").is_err());
        let span = Span::parse(Some("2026-11-24T10:00:00 02:00"), Some("2026-11-24T08:00:00.5Z")).unwrap();
        assert_eq!(span.from(), "2026-11-24T08:00:00Z".parse().ok());
        assert!(matches!(Span::parse(Some("yesterday"), None), Err(AuditError::InstantInvalid("from"))));
        assert!(matches!(Span::parse(None, Some("")), Err(AuditError::InstantInvalid("to"))));
        let now = Some("2026-11-24T10:00:00Z");
        assert!(matches!(Span::parse(now, now), Err(AuditError::SpanEmpty)));
    }
}
