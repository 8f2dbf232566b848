//! `/v1/audit`.
use super::{
    error::AuditError,
    model::{ActorFilter, Chain, Filter, Record, Slice, Span, parse_action, parse_outcome},
    service,
};
use crate::{
    http::{
        auth::Access,
        extract,
        page::{self, PageQuery},
        problem::Problem,
    },
    kernel::{Ctx, PLATFORM},
};
use actix_web::{HttpRequest, HttpResponse, get, web};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Its routes.
pub fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_events);
}

/// The slug that is no tenant's.
const PLATFORM_SLUG: &str = "platform";

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct EventQuery {
    /// Only the events of this organization: its UUID or slug. `platform`: those of no organization. Left out: all.
    #[param(required = false, value_type = String)]
    org: Option<String>,
    /// Only what this actor did: `person:<id>`, `key:<id>`, `workload:<name>`, `anonymous`, or an id alone.
    #[param(required = false, value_type = String)]
    actor: Option<String>,
    /// Only this action, such as `keys:issue`.
    #[param(required = false, value_type = String, pattern = "^[a-z-]+:[a-z-]+$")]
    action: Option<String>,
    /// Only what was done (`allow`), or what was refused (`deny`).
    #[param(required = false, value_type = String, pattern = "^(allow|deny)$")]
    outcome: Option<String>,
    /// Only what happened at this instant (RFC 3339) or later.
    #[param(required = false, value_type = String, format = DateTime)]
    from: Option<String>,
    /// Only what happened before this instant (RFC 3339).
    #[param(required = false, value_type = String, format = DateTime)]
    to: Option<String>,
}

impl EventQuery {
    /// `None`: there is no such org.
    fn chain(&self, access: &Access) -> Option<Chain> {
        let Some(name) = &self.org else { return Some(Chain::All) };
        if name == PLATFORM_SLUG {
            return Some(Chain::Platform);
        }
        let org = extract::org(access, name)?;
        Some(if org == PLATFORM { Chain::Platform } else { Chain::Org(org) })
    }

    fn filter(&self) -> Result<Filter, AuditError> {
        Ok(Filter {
            actor: self.actor.as_deref().map(ActorFilter::parse),
            action: self.action.as_deref().map(parse_action).transpose()?,
            outcome: self.outcome.as_deref().map(parse_outcome).transpose()?,
            span: Span::parse(self.from.as_deref(), self.to.as_deref())?,
        })
    }
}

type Members = Map<String, Value>;

/// Something that was done, or refused, with its place on the log.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = AuditEvent)]
struct EventView {
    /// Its place on the log of the whole platform, from 0.
    seq: i64,
    /// Its place among the organization's events, from 1 and without a gap.
    org_seq: i64,
    /// Names the event.
    id: Uuid,
    /// The organization; the nil UUID where it is none's.
    org_id: Uuid,
    /// When it happened.
    time: DateTime<Utc>,
    /// When it got its place.
    sequenced_at: DateTime<Utc>,
    /// What was done, or tried.
    action: String,
    /// Who did it.
    actor: String,
    /// The id of what it was done to.
    target: String,
    /// `allow`: it was done. `deny`: it was refused.
    outcome: String,
    /// Why it was refused: `code`, and the `ids` of the policies.
    #[schema(value_type = Option<Object>)]
    policy: Option<Members>,
    /// The request that it was part of.
    request_id: Option<String>,
    /// The trace that it was part of.
    trace: Option<String>,
    /// What else there is to know: depends on the action.
    #[schema(value_type = Object)]
    detail: Members,
    /// E-mail addresses, names and the like. The log itself holds only their salted digests, so they can be erased:
    /// then this is absent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    personal: BTreeMap<String, String>,
    /// The event was altered in the database before it got its place, so what it tells may be false.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    tampered: bool,
    /// The RFC 6962 leaf hash of the entry (SHA-256, base64).
    leaf: String,
    /// The leaf of the organization's event before this one.
    prev: Option<String>,
}

impl From<Record> for EventView {
    fn from(record: Record) -> Self {
        let mut entry: Members = serde_json::from_slice(&record.entry).unwrap_or_default();
        let mut take = |name: &str| entry.remove(name).unwrap_or_default();
        let text = |value: Value| value.as_str().map(str::to_owned);
        let members = |value| if let Value::Object(members) = value { Some(members) } else { None };
        Self {
            policy: members(take("policy")),
            request_id: text(take("req")),
            trace: text(take("trace")),
            detail: members(take("body")).unwrap_or_default(),
            tampered: take("tampered") == Value::Bool(true),
            seq: record.seq,
            org_seq: record.org_seq,
            id: record.event.uuid(),
            org_id: record.org.uuid(),
            time: record.occurred_at,
            sequenced_at: record.sequenced_at,
            action: record.action,
            actor: record.actor,
            target: record.target,
            outcome: record.outcome,
            personal: record.personal,
            leaf: STANDARD.encode(&record.leaf),
            prev: record.prev.map(|prev| STANDARD.encode(prev)),
        }
    }
}

/// What happened, the newest first.
///
/// With `org`, the events of that organization; without, those of everybody, for people with a platform role. An event
/// is in its place, which never changes, within a second after what it tells of.
#[utoipa::path(
    tag = "audit",
    params(EventQuery, PageQuery),
    extensions(("x-action" = json!("audit:read"))),
    responses(
        (status = 200, description = "A page of events", body = [EventView], example = json!([{
            "seq": 1041, "orgSeq": 17, "id": "0199fd1e-7a40-7c6e-9f6e-3b1d8a5c2e10",
            "orgId": "0199fd1c-0b20-7f43-8a6b-5c2e109f6e3b", "time": "2026-11-24T10:00:00.120Z",
            "sequencedAt": "2026-11-24T10:00:00.154210Z", "action": "keys:issue",
            "actor": "person:0199fd1b-5f10-7d21-b0c4-8a5c2e109f6e",
            "target": "0199fd1e-7a3f-7b52-8e1f-6e3b1d8a5c2e", "outcome": "allow", "policy": null,
            "requestId": "0199fd1e-7a3c-7a11-9d0e-2e109f6e3b1d", "trace": null,
            "detail": { "scopes": ["models:read"] }, "personal": { "address": "192.0.2.7" },
            "leaf": "bjQLnP+zepicpUTmu3gKLHiQHT+zNzh2hRGjBhevoB0=",
            "prev": "lqKW0iTy1vcnKBB/G6+DyCYCylYfVJ/+uCdQKw7s5Zk="
        }])),
        (status = 404, description = "There is no such organization, or it is not for the caller to see"),
    )
)]
#[get("/v1/audit/events")]
async fn list_events(
    ctx: Ctx,
    request: HttpRequest,
    access: web::Data<Access>,
    query: web::Query<EventQuery>,
    page: web::Query<PageQuery>,
) -> Result<HttpResponse, Problem> {
    let chain = query.chain(&access).ok_or_else(Problem::not_found)?;
    let page = page.page(page::DEFAULT)?;
    let before = place(page.after)?;
    let slice = Slice { before, limit: page.limit };
    let records = service::list_events(&access.work, &ctx, chain, query.filter()?, slice).await?;
    let last = records.last().and_then(|record| record.place(chain)).and_then(cursor);
    let views: Vec<EventView> = records.into_iter().map(EventView::from).collect();
    Ok(page::respond(&request, page, &views, last))
}

/// Pages go on at a place, which cursors carry where other lists have an id.
fn cursor(place: i64) -> Option<Uuid> {
    u128::try_from(place).ok().map(Uuid::from_u128)
}

fn place(cursor: Uuid) -> Result<Option<i64>, AuditError> {
    if cursor.is_nil() {
        return Ok(None);
    }
    i64::try_from(cursor.as_u128()).map(Some).map_err(|_| AuditError::CursorInvalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_a_place_and_nothing_else() {
        for seq in [1, 50, i64::MAX] {
            assert_eq!(place(cursor(seq).unwrap()).unwrap(), Some(seq));
        }
        assert_eq!(place(Uuid::nil()).unwrap(), None);
        assert!(place(Uuid::from_u128(1 << 63)).is_err());
        assert_eq!(cursor(-1), None);
    }
}
