//! Events, and how they get into the outbox.
use crate::{
    authorization::{Action, Denied},
    kernel::{Actor, Ctx, EventId, OrgId, named},
    platform::{
        db::StorageError,
        entropy::Entropy,
        keys::{Keys, sha256},
        telemetry,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use diesel::{sql_query, sql_types as st};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// Of the body of one event, so that an entry fits the tiles of transparency logs (65,535 bytes).
const DETAIL_BYTES_MAX: usize = 40 * 1024;
const SALT_LEN: usize = 32;

/// Did it happen?
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It did.
    Allow,
    /// It was refused.
    Deny,
}

impl Outcome {
    /// The word in entries and queries.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
        }
    }
}

/// What happened, and on whose chain it goes.
#[derive(Clone, Debug)]
pub struct Event {
    chain: OrgId,
    action: Action,
    actor: Option<Actor>,
    target: String,
    outcome: Outcome,
    policy: Value,
    detail: Value,
    pii: Vec<(&'static str, String)>,
}

impl Event {
    /// Something that was done.
    pub(crate) fn allowed(chain: OrgId, action: Action, target: String) -> Self {
        let (outcome, policy, detail) = (Outcome::Allow, Value::Null, json!({}));
        Self { chain, action, actor: None, target, outcome, policy, detail, pii: vec![] }
    }

    /// Something that was refused.
    pub(crate) fn refused(refused: Refused) -> Self {
        let Refused { chain, action, target, code, policy_ids, pii, detail } = refused;
        let policy = json!({ "code": code, "ids": policy_ids });
        Self { chain, action, actor: None, target, outcome: Outcome::Deny, policy, detail, pii }
    }

    /// What else there is to know. Ids, words and numbers; nothing personal.
    #[must_use]
    pub fn detail(self, detail: Value) -> Self {
        Self { detail, ..self }
    }

    /// Something personal: only its salted digest goes on the log.
    #[must_use]
    pub fn personal(mut self, field: &'static str, value: impl Into<String>) -> Self {
        self.pii.push((field, value.into()));
        self
    }

    /// Done by somebody who became known on the way: whoever signs in.
    #[must_use]
    pub fn by(self, actor: Actor) -> Self {
        Self { actor: Some(actor), ..self }
    }
}

/// A refusal, whoever refused: a policy, or a secret that did not match.
#[derive(Clone, Debug)]
pub struct Refused {
    /// Whose chain it goes on.
    pub chain: OrgId,
    /// What was tried.
    pub action: Action,
    /// On what.
    pub target: String,
    /// The stable code.
    pub code: String,
    /// The policies that said no, if any did.
    pub policy_ids: Vec<String>,
    /// Personal values, as in `Event::personal`.
    pub pii: Vec<(&'static str, String)>,
    /// What else there is to know.
    pub detail: Value,
}

impl From<&Denied> for Refused {
    fn from(denied: &Denied) -> Self {
        Self {
            chain: denied.chain(),
            action: denied.action,
            target: denied.target.id().to_string(),
            code: denied.code.clone(),
            policy_ids: denied.policy_ids.clone(),
            pii: vec![],
            detail: json!({}),
        }
    }
}

/// A personal value as it is sealed: with the salt of its digest.
#[derive(Serialize, Deserialize)]
struct Sealed {
    salt: String,
    value: String,
}

/// An event as the outbox holds it, before it has a place on the log.
#[derive(Clone, Debug)]
pub struct OutboxRow {
    /// Whose chain.
    pub org: OrgId,
    /// Which event.
    pub event: EventId,
    /// The entry but for its place.
    pub body: Vec<u8>,
    /// Sealed personal values.
    pub pii: Option<Vec<u8>>,
}

/// Writes the events into the outbox of the running transaction.
pub(crate) async fn append(
    conn: &mut AsyncPgConnection,
    keys: &Keys,
    ctx: &Ctx,
    events: &[Event],
) -> Result<(), StorageError> {
    for event in events {
        let row = row(keys, ctx, event)?;
        let mac = event_mac(keys, &row);
        sql_query(
            "INSERT INTO audit_outbox (org_id, event_id, occurred_at, body, pii, mac) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind::<st::Uuid, _>(row.org.uuid())
        .bind::<st::Uuid, _>(row.event.uuid())
        .bind::<st::Timestamptz, _>(ctx.now)
        .bind::<st::Binary, _>(row.body)
        .bind::<st::Nullable<st::Binary>, _>(row.pii)
        .bind::<st::Binary, _>(mac)
        .execute(conn)
        .await?;
    }
    Ok(())
}

fn row(keys: &Keys, ctx: &Ctx, event: &Event) -> Result<OutboxRow, StorageError> {
    let id = ctx.mint::<named::Event>();
    let address = ctx.source.address.map(|address| ("address", address.to_string()));
    let agent = ctx.source.user_agent.clone().map(|agent| ("userAgent", agent));
    let personal = event.pii.iter().cloned().chain(address).chain(agent);
    let (digests, sealed) = commit(ctx.entropy(), personal);
    let body = json!({
        "v": 1,
        "id": id,
        "org": event.chain,
        "time": ctx.now,
        "action": event.action.as_str(),
        "actor": event.actor.unwrap_or(ctx.actor).to_string(),
        "target": event.target,
        "outcome": event.outcome.as_str(),
        "policy": event.policy,
        "req": ctx.request_id,
        "trace": telemetry::trace_id(),
        "body": bounded(&event.detail)?,
        "pii": digests,
    });
    let pii = match sealed.is_empty() {
        true => None,
        false => Some(keys.seal(ctx.entropy(), id.uuid().as_bytes(), &serde_json::to_vec(&sealed)?)?),
    };
    Ok(OutboxRow { org: event.chain, event: id, body: serde_json::to_vec(&body)?, pii })
}

/// Salted digests for the log, salts and values for sealing: erasing the latter leaves a log that still verifies.
fn commit(
    entropy: &Entropy,
    personal: impl Iterator<Item = (&'static str, String)>,
) -> (Map<String, Value>, BTreeMap<&'static str, Sealed>) {
    let (mut digests, mut sealed) = (Map::new(), BTreeMap::new());
    for (field, value) in personal {
        let salt: [u8; SALT_LEN] = entropy.bytes();
        digests.insert(field.to_owned(), STANDARD.encode(sha256(&[&salt, value.as_bytes()])).into());
        sealed.insert(field, Sealed { salt: STANDARD.encode(salt), value });
    }
    (digests, sealed)
}

fn bounded(detail: &Value) -> Result<Value, serde_json::Error> {
    let bytes = serde_json::to_vec(detail)?;
    if bytes.len() <= DETAIL_BYTES_MAX {
        return Ok(detail.clone());
    }
    Ok(json!({ "truncated": true, "bytes": bytes.len(), "sha256": STANDARD.encode(sha256(&[&bytes])) }))
}

/// Shows an edit of a row that has no place on the log yet.
pub fn event_mac(keys: &Keys, row: &OutboxRow) -> Vec<u8> {
    keys.mac(&parts(row))
}

impl OutboxRow {
    /// Is this what one of our processes wrote?
    pub fn is_authentic(&self, keys: &Keys, mac: &[u8]) -> bool {
        keys.mac_matches(&parts(self), mac)
    }
}

fn parts(row: &OutboxRow) -> [&[u8]; 4] {
    let pii = row.pii.as_deref().unwrap_or_default();
    [row.org.as_bytes(), row.event.as_bytes(), &row.body, pii]
}

/// The personal values of an event, for those who may read them.
pub fn open_pii(
    keys: &Keys,
    event: EventId,
    sealed: &[u8],
) -> Result<BTreeMap<String, String>, StorageError> {
    let plain = keys.open_sealed(event.as_bytes(), sealed)?;
    let fields: BTreeMap<String, Sealed> = serde_json::from_slice(&plain)?;
    Ok(fields.into_iter().map(|(field, sealed)| (field, sealed.value)).collect())
}
