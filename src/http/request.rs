//! Around every request: its id, its span, its trace, its metrics, and the headers that every answer carries.
use super::{limiter, problem::Problem};
use crate::platform::{clock::Clock, entropy::Entropy, health::Health, metrics::Metrics, telemetry};
use actix_web::{
    Error, HttpMessage as _, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::{
        ConnectionType, Method, StatusCode,
        header::{CACHE_CONTROL, HeaderName, HeaderValue},
    },
    middleware::Next,
    web,
};
use opentelemetry::propagation::Extractor;
use std::time::Duration;
use tracing::Instrument as _;
use uuid::Uuid;

/// Accepted, echoed, and on every log line and audit event.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Selects a dated revision of the API.
pub const VERSION: HeaderName = HeaderName::from_static("identityd-version");
/// The revisions there are, the newest last.
pub const VERSIONS: &[&str] = &["2026-11-01"];

const REQUEST_ID_LEN_MAX: usize = 128;

/// What the middleware needs.
#[derive(Clone)]
pub struct Around {
    pub clock: Clock,
    pub entropy: Entropy,
    pub metrics: Metrics,
    pub health: Health,
}

/// The id of a request, for its context.
#[derive(Clone)]
pub struct RequestId(pub String);

/// When a request arrived, on the monotonic clock.
#[derive(Clone, Copy)]
pub struct Arrived(pub Duration);

tokio::task_local! {
    static CURRENT: (String, String);
}

/// Id and path of the request being answered; empty outside of one.
pub(super) fn current() -> (String, String) {
    CURRENT.try_with(Clone::clone).unwrap_or_default()
}

/// The outermost middleware.
pub async fn around<B: MessageBody + 'static>(
    around: web::Data<Around>,
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, Error> {
    let began = around.clock.monotonic();
    let id = id(&request).unwrap_or_else(|| fresh(&around));
    let method = request.method().clone();
    if method == Method::HEAD {
        // Answered as GET is; the server leaves the body out.
        request.head_mut().method = Method::GET;
    }
    let span = tracing::info_span!("http.request", request_id = %id, method = %method, route = tracing::field::Empty);
    telemetry::continue_trace(&span, &Carrier(request.headers()));
    request.extensions_mut().insert(RequestId(id.clone()));
    request.extensions_mut().insert(Arrived(began));
    let place = (id.clone(), request.path().to_owned());
    let answered = async {
        let response = match next.call(request).await {
            Ok(response) => response,
            Err(error) => {
                let mut response = error.error_response();
                finish(&around, &mut response, "abandoned", &method, began, &id);
                return Err(InternalError::from_response(error, response).into());
            }
        };
        let route = response.request().match_pattern().unwrap_or_else(|| "unmatched".to_owned());
        let (http, mut response) = response.into_parts();
        limiter::mark(&http, response.headers_mut());
        finish(&around, &mut response, &route, &method, began, &id);
        Ok(ServiceResponse::new(http, response))
    };
    CURRENT.scope(place, answered.instrument(span)).await
}

/// Refuses what no handler should see. Inside of what says who may read the answer: a refusal is one.
pub async fn screen<B: MessageBody + 'static>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    match refusal(&request) {
        Some(problem) => Ok(request.error_response(problem).map_into_right_body()),
        None => next.call(request).await.map(ServiceResponse::map_into_left_body),
    }
}

/// Counts the answer, and puts on it what is on every answer.
fn finish<B>(
    around: &Around,
    response: &mut HttpResponse<B>,
    route: &str,
    method: &Method,
    began: Duration,
    id: &str,
) {
    let (took, status) = (around.clock.monotonic().saturating_sub(began), response.status().as_u16());
    tracing::Span::current().record("route", route);
    around.metrics.request(method.as_str(), route.to_owned(), status, took);
    if !matches!(route, "/healthz" | "/readyz" | "/metrics") {
        tracing::debug!(status, duration_ms = took.as_secs_f64() * 1000.0, "request answered");
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
    if let Some(newest) = VERSIONS.last() {
        headers.insert(VERSION, HeaderValue::from_static(newest));
    }
    if !headers.contains_key(CACHE_CONTROL) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    if around.health.is_draining() {
        response.head_mut().set_connection_type(ConnectionType::Close);
    }
}

fn refusal(request: &ServiceRequest) -> Option<Problem> {
    if request.uri().to_string().to_ascii_lowercase().contains("%00") {
        return Some(Problem::new(StatusCode::BAD_REQUEST, "MALFORMED_URL", "a URL must not hold NUL"));
    }
    let version = request.headers().get(VERSION)?;
    if VERSIONS.iter().any(|known| version.as_bytes() == known.as_bytes()) {
        return None;
    }
    let detail = format!("Identityd-Version must be one of: {}", VERSIONS.join(", "));
    Some(Problem::new(StatusCode::BAD_REQUEST, "VERSION_UNKNOWN", detail))
}

/// The caller's own id, if it can stand in a log line.
fn id(request: &ServiceRequest) -> Option<String> {
    let id = request.headers().get(REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:/+=".contains(&byte);
    (!id.is_empty() && id.len() <= REQUEST_ID_LEN_MAX && id.bytes().all(plain)).then(|| id.to_owned())
}

fn fresh(around: &Around) -> String {
    let millis = u64::try_from(around.clock.now().timestamp_millis()).unwrap_or_default();
    let random = around.entropy.bytes();
    let id: Uuid = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    id.to_string()
}

struct Carrier<'a>(&'a actix_web::http::header::HeaderMap);

impl Extractor for Carrier<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(HeaderName::as_str).collect()
    }
}
