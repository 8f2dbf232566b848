//! `/v1/revocations`.
use super::service::{self, Follower, Said};
use crate::{
    authorization::{Revocation, Revocations, Target},
    http::{
        answer::REVISION,
        auth::{Access, Caller},
        extract,
        page::DEFAULT_LONG,
        problem::Problem,
        streams::Streams,
    },
    kernel::Page,
};
use actix_web::{
    HttpRequest, HttpResponse, get,
    http::header::{ACCEPT, CONTENT_TYPE, LINK},
    web::{self, Bytes},
};
use chrono::{DateTime, Utc};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::{convert::Infallible, fmt::Write as _, sync::Arc};
use utoipa::{IntoParams, ToSchema};
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Its routes.
pub(in crate::policy) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(list_revocations);
}

const LAST_EVENT_ID: &str = "last-event-id";
const EVENT_STREAM: &str = "text/event-stream";
/// How soon whoever lost a stream should come again, in milliseconds.
const RETRY_MS: u32 = 1000;

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct RevocationQuery {
    /// Only what concerns this organization: its UUID or slug. Left out: everything.
    #[param(required = false, value_type = String)]
    org: Option<String>,
    /// Only what changed after this revision. Left out: what changes from now on.
    #[param(required = false, value_type = i64, minimum = 0)]
    from: Option<i64>,
    /// How many at most, from 1 to 1000, but for those of one transaction, which stay together. A stream has no limit.
    #[param(required = false, value_type = i64, minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

impl RevocationQuery {
    async fn target(&self, access: &Access) -> Option<Target> {
        let Some(name) = &self.org else { return Some(Target::Platform) };
        let mut known = extract::org(access, name);
        // Another process may have made it a moment ago.
        if known.is_none() && access.work.hear_since(access.clock.monotonic()).await {
            known = extract::org(access, name);
        }
        known.map(Target::Org)
    }

    fn limit(&self) -> Result<i64, Problem> {
        let limit = self.limit.unwrap_or(DEFAULT_LONG);
        if (1..=Page::LIMIT_MAX).contains(&limit) {
            return Ok(limit);
        }
        Err(Problem::invalid("limit", "LIMIT_INVALID", "limit must be between 1 and 1000"))
    }

    fn from(&self) -> Result<Option<i64>, Problem> {
        match self.from {
            Some(from) if from < 0 => {
                Err(Problem::invalid("from", "INVALID_QUERY", "from is a revision, which is not below 0"))
            }
            from => Ok(from),
        }
    }
}

/// A thing that is not what it was. Drop what you keep about it from before `seq`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Revocation)]
struct RevocationView {
    /// The revision with which it changed. Several things may have changed with one.
    seq: i64,
    /// `key`, `session`, `principal` (a member, a service account, or a person in all organizations) or `org`.
    #[schema(pattern = "^(key|session|principal|org)$")]
    kind: &'static str,
    /// The id of the thing.
    id: Uuid,
    /// Its organization; absent of sessions, and of a person in all organizations.
    #[serde(skip_serializing_if = "Option::is_none")]
    org_id: Option<Uuid>,
    /// The person, `sub` of access tokens: whose session it is, or who the member is.
    #[serde(skip_serializing_if = "Option::is_none")]
    person_id: Option<Uuid>,
    /// What it is now: `revoked`, `quarantined`, `suspended`, `disabled`, `pending_delete`, `deleted`, `ended`, or `changed`
    /// where it is in order and something about it is different, such as its roles.
    reason: &'static str,
    /// Of a person: access tokens issued before this are worth nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    tokens_valid_from: Option<DateTime<Utc>>,
    /// Of a session: when its last access token has run out, so that it can be forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<DateTime<Utc>>,
    /// When it changed.
    at: DateTime<Utc>,
}

impl From<&Revocation> for RevocationView {
    fn from(entry: &Revocation) -> Self {
        let instant = |seconds: Option<i64>| DateTime::from_timestamp(seconds?, 0);
        Self {
            seq: entry.seq,
            kind: entry.kind.as_str(),
            id: entry.id,
            org_id: entry.org.map(|org| org.uuid()),
            person_id: entry.person.map(|person| person.uuid()),
            reason: entry.reason,
            tokens_valid_from: instant(entry.tokens_valid_from_s),
            until: instant(entry.until_s),
            at: entry.at,
        }
    }
}

/// What to drop of the answers that were kept.
///
/// What changed after the revision `from`, in the order of the changes, each thing with its last one: answers about it from
/// before `seq` may be wrong. What is new is not listed. The answer is complete up to the revision in `Authz-Revision`, which
/// is the next `from`; where there is more, `Link` has it. With `org`, what concerns that organization; without, everything,
/// for people with a platform role.
///
/// With `Accept: text/event-stream`, the same as it happens: events `revocation`, whose `id` is the revision once all of it
/// was told, and every 5 seconds `revision`, which says how far the stream is and how many seconds ago that was
/// confirmed. `Last-Event-ID` counts more than `from`. A stream may end at any time: go on from where it was.
#[utoipa::path(
    tag = "policy",
    params(RevocationQuery),
    extensions(("x-action" = json!("policies:evaluate"))),
    responses(
        (status = 200, description = "What changed",
            headers(("Authz-Revision" = i64, description = "The answer is complete up to here; the next `from`")),
            content(
                ([RevocationView] = "application/json", example = json!([{
                    "seq": 4711, "kind": "key", "id": "0193a5f0-7b1c-7000-8000-000000000003",
                    "orgId": "0193a5f0-7b1c-7000-8000-000000000001", "reason": "revoked",
                    "at": "2026-11-24T10:00:00.120Z"
                }])),
                (String = "text/event-stream", example = "event: revocation\nid: 4711\ndata: {…}\n\n"),
            )),
        (status = 404, description = "There is no such organization, or it is not for the caller to see"),
        (status = 410, description = "What changed since `from` can no longer be told (`REVISION_FORGOTTEN`): drop \
            everything that you keep, and go on from `revision`"),
    )
)]
#[get("/v1/revocations")]
async fn list_revocations(
    caller: Caller,
    request: HttpRequest,
    access: web::Data<Access>,
    streams: web::Data<Streams>,
    query: web::Query<RevocationQuery>,
) -> Result<HttpResponse, Problem> {
    let target = query.target(&access).await.ok_or_else(Problem::not_found)?;
    let (from, limit) = (query.from()?, query.limit()?);
    if wants_stream(&request) {
        let from = last_event_id(&request).or(from);
        let streams: Arc<Streams> = streams.into_inner();
        let follower = service::follow_revocations(access, &streams, caller, target, from).await?;
        return Ok(streamed(follower));
    }
    let limit = usize::try_from(limit).unwrap_or_default();
    let told = service::list_revocations(&access.work, &caller.0, target, from, limit).await?;
    let mut response = HttpResponse::Ok();
    response.insert_header((REVISION, told.upto));
    if told.upto < told.revision {
        response.insert_header((LINK, next(&request, &query, limit, told.upto)));
    }
    Ok(response.json(views(&told)))
}

fn views(told: &Revocations) -> Vec<RevocationView> {
    told.entries.iter().map(RevocationView::from).collect()
}

fn next(request: &HttpRequest, query: &RevocationQuery, limit: usize, from: i64) -> String {
    let mut pairs = url::form_urlencoded::Serializer::new(String::new());
    if let Some(org) = &query.org {
        pairs.append_pair("org", org);
    }
    pairs.append_pair("from", &from.to_string()).append_pair("limit", &limit.to_string());
    format!("<{}?{}>; rel=\"next\"", request.path(), pairs.finish())
}

fn wants_stream(request: &HttpRequest) -> bool {
    let accepted = request.headers().get_all(ACCEPT).filter_map(|value| value.to_str().ok());
    let mut kinds = accepted.flat_map(|value| value.split(','));
    kinds.any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(EVENT_STREAM))
}

/// What cannot be read was none of ours, and is as if it were not there.
fn last_event_id(request: &HttpRequest) -> Option<i64> {
    request.headers().get(LAST_EVENT_ID)?.to_str().ok()?.trim().parse().ok().filter(|id| *id >= 0)
}

fn streamed(follower: Follower) -> HttpResponse {
    let begin = Ok::<_, Infallible>(Bytes::from(format!("retry: {RETRY_MS}\n\n")));
    let events = stream::unfold(follower, async |mut follower| {
        let said = follower.next().await?;
        Some((Ok(Bytes::from(event(&said))), follower))
    });
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, EVENT_STREAM))
        .insert_header(("X-Accel-Buffering", "no"))
        .streaming(stream::StreamExt::chain(stream::iter([begin]), events))
}

fn event(said: &Said) -> String {
    let mut text = String::new();
    match said {
        Said::Alive { revision, age } => {
            let data = json!({ "revision": revision, "ageSeconds": age.map(|age| age.as_secs_f64()) });
            let _ = write!(text, "event: revision\nid: {revision}\ndata: {data}\n\n");
        }
        Said::Changed(told) => {
            let views = views(told);
            for (at, view) in views.iter().enumerate() {
                let data = serde_json::to_string(view).unwrap_or_default();
                text.push_str("event: revocation\n");
                // Whoever stops within a revision goes on before it.
                if views.get(at + 1).is_none_or(|next| next.seq > view.seq) {
                    let _ = writeln!(text, "id: {}", view.seq);
                }
                let _ = write!(text, "data: {data}\n\n");
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authorization::RevokedKind;
    use actix_web::test::TestRequest;

    fn entry(seq: i64) -> Revocation {
        Revocation {
            seq,
            kind: RevokedKind::Key,
            id: Uuid::nil(),
            org: None,
            person: None,
            reason: "revoked",
            tokens_valid_from_s: None,
            until_s: None,
            at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn only_the_last_event_of_a_revision_says_that_it_was_told() {
        let entries = [4, 5, 5, 7].map(entry).into();
        let text = event(&Said::Changed(Revocations { entries, upto: 9, revision: 9 }));
        let ids: Vec<Option<&str>> = text
            .split("\n\n")
            .filter(|block| !block.is_empty())
            .map(|block| block.lines().find_map(|line| line.strip_prefix("id: ")))
            .collect();
        assert_eq!(ids, [Some("4"), None, Some("5"), Some("7")]);
    }

    #[test]
    fn a_stream_is_for_whoever_asks_for_one() {
        let wants = |accept: &str| {
            let request = TestRequest::default().insert_header((ACCEPT, accept)).to_http_request();
            wants_stream(&request)
        };
        assert!(wants("text/event-stream") && wants("application/json, Text/Event-Stream;q=0.5"));
        assert!(!wants("*/*") && !wants("application/json") && !wants("text/event-streams"));
        assert!(!wants_stream(&TestRequest::default().to_http_request()));
    }
}
