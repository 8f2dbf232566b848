//! `Idempotency-Key`: read here, kept by the unit of work in the transaction that does the work.
use super::{extract::BODY_BYTES_MAX, problem::Problem};
use crate::{kernel::Idempotency, platform::keys::sha256};
use actix_web::{
    Error, FromRequest, HttpMessage as _,
    body::{EitherBody, MessageBody},
    dev::{Payload, ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header::HeaderName},
    middleware::Next,
    web,
};

/// The header.
pub const KEY: HeaderName = HeaderName::from_static("idempotency-key");

const KEY_LEN_MAX: usize = 255;
/// Each of these has rules of its own for being sent twice, or brings a password, of which nothing may be kept, not even
/// in a fingerprint.
const EXEMPT: &[&str] = &[
    "/v1/auth/",
    "/auth/",
    "/api/auth/",
    "/oauth2/",
    "/v1/policy/evaluate",
    "/access/v1/",
    "/v1/invites/accept",
    "/v1/me/password",
];

/// May a POST on this path carry the header?
pub fn applies(path: &str) -> bool {
    !EXEMPT.iter().any(|prefix| path.starts_with(prefix))
}

/// Notes key and fingerprint of a POST, for the context of the operation.
pub async fn note<B: MessageBody + 'static>(
    mut request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    if request.method() != Method::POST || !applies(request.path()) || !request.headers().contains_key(KEY) {
        return next.call(request).await.map(ServiceResponse::map_into_left_body);
    }
    match read(&mut request).await {
        Ok(wish) => {
            request.extensions_mut().insert(wish);
            next.call(request).await.map(ServiceResponse::map_into_left_body)
        }
        Err(problem) => Ok(request.error_response(problem).map_into_right_body()),
    }
}

async fn read(request: &mut ServiceRequest) -> Result<Idempotency, Problem> {
    let key = request.headers().get(KEY).and_then(|key| key.to_str().ok()).unwrap_or_default().to_owned();
    if key.is_empty() || key.len() > KEY_LEN_MAX {
        let detail = "Idempotency-Key must have 1 to 255 printable ASCII characters";
        return Err(Problem::new(StatusCode::BAD_REQUEST, "IDEMPOTENCY_KEY_INVALID", detail));
    }
    let (http, payload) = request.parts_mut();
    let body = web::Bytes::from_request(http, payload).await.map_err(|_| {
        let detail = format!("a body may have {BODY_BYTES_MAX} bytes");
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "BODY_TOO_LARGE", detail)
    })?;
    let target = request.uri().to_string();
    let fingerprint = sha256(&[request.method().as_str().as_bytes(), b"\0", target.as_bytes(), b"\0", &body]);
    request.set_payload(Payload::from(body));
    Ok(Idempotency::new(key, fingerprint))
}
