//! Cross-origin requests: an exact list of origins; in development any port of localhost.
use crate::platform::config::Environment;
use actix_web::{
    Error, HttpResponse,
    body::{EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    error::InternalError,
    http::{
        Method,
        header::{self, HeaderMap, HeaderValue},
    },
    middleware::Next,
    web,
};
use url::Url;

const METHODS: &str = "GET, POST, PUT, PATCH, DELETE";
const REQUEST_HEADERS: &str = "content-type, authorization, x-csrf-token, x-correlation-id, x-api-key, if-match, \
    idempotency-key, x-request-id, identityd-version";
const EXPOSED: &str =
    "Authz-Revision, ETag, Link, Location, Retry-After, RateLimit, RateLimit-Policy, X-Request-ID";
const MAX_AGE: &str = "3600";

/// Which origins may call.
#[derive(Clone, Debug)]
pub struct Cors {
    pub origins: Vec<String>,
    pub environment: Environment,
}

impl Cors {
    fn allows(&self, origin: &str) -> bool {
        let local = |origin: &str| {
            let url = Url::parse(origin).ok()?;
            (url.scheme() == "http" && matches!(url.host_str()?, "localhost" | "127.0.0.1" | "[::1]"))
                .then_some(())
        };
        self.origins.iter().any(|allowed| allowed == origin)
            || self.environment == Environment::Development && local(origin).is_some()
    }
}

/// Answers preflights on every path, known or not, with 204; says on every answer, errors too, who may read it.
pub async fn share<B: MessageBody + 'static>(
    cors: web::Data<Cors>,
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B>>, Error> {
    let origin = request.headers().get(header::ORIGIN).cloned();
    let allowed = origin.filter(|origin| origin.to_str().is_ok_and(|origin| cors.allows(origin)));
    let preflight = request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    if preflight {
        let mut response = request.into_response(HttpResponse::NoContent().finish()).map_into_right_body();
        mark(response.headers_mut(), allowed, true);
        return Ok(response);
    }
    match next.call(request).await {
        Ok(mut response) => {
            mark(response.headers_mut(), allowed, false);
            Ok(response.map_into_left_body())
        }
        Err(error) => {
            let mut response = error.error_response();
            mark(response.headers_mut(), allowed, false);
            Err(InternalError::from_response(error, response).into())
        }
    }
}

fn mark(headers: &mut HeaderMap, allowed: Option<HeaderValue>, preflight: bool) {
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    let Some(origin) = allowed else { return };
    headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
    if preflight {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(MAX_AGE));
    } else {
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_are_exact_and_localhost_is_for_development() {
        let cors = |environment| Cors { origins: vec!["https://portal.example.io".into()], environment };
        let (production, development) = (cors(Environment::Production), cors(Environment::Development));
        for origin in
            ["https://portal.example.io.evil.io", "https://evil.io", "null", "http://portal.example.io"]
        {
            assert!(!production.allows(origin) && !development.allows(origin), "{origin}");
        }
        assert!(production.allows("https://portal.example.io"));
        assert!(!production.allows("http://localhost:3000"));
        assert!(development.allows("http://localhost:3000") && development.allows("http://[::1]:1"));
        assert!(!development.allows("http://localhost.evil.io"));
    }
}
