//! What handlers answer with.
use crate::kernel::{Answer, Secret, SecretMember};
use actix_web::{
    HttpResponse,
    http::{StatusCode, header::HeaderName},
};
use serde::Serialize;
use serde_json::Value;

/// The revision of the authorization state that an answer was made at, so that whoever keeps it knows which revocations it
/// knows of.
pub const REVISION: HeaderName = HeaderName::from_static("authz-revision");

/// An answer with a JSON body. What cannot be serialized is an empty answer; wire types always can.
pub fn json<T: Serialize>(status: StatusCode, body: &T) -> Answer {
    let body = serde_json::to_value(body).ok();
    Answer { status: status.as_u16(), headers: vec![], body, secret: None }
}

/// 204.
pub fn no_content<T>(_: &T) -> Answer {
    Answer { status: StatusCode::NO_CONTENT.as_u16(), headers: vec![], body: None, secret: None }
}

/// Adds a header.
#[must_use]
pub fn with_header(mut answer: Answer, name: &str, value: String) -> Answer {
    answer.headers.push((name.to_owned(), value));
    answer
}

/// Adds a member that is shown once and never stored in the clear.
#[must_use]
pub fn with_secret(mut answer: Answer, name: &'static str, value: Secret<String>) -> Answer {
    answer.secret = Some(SecretMember { name: name.into(), value });
    answer
}

/// As an HTTP response.
pub fn respond(answer: &Answer) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = HttpResponse::build(status);
    for (name, value) in &answer.headers {
        response.insert_header((name.as_str(), value.as_str()));
    }
    let Some(mut body) = answer.body.clone() else { return response.finish() };
    if let (Some(secret), Value::Object(members)) = (&answer.secret, &mut body) {
        members.insert(secret.name.clone().into_owned(), secret.value.expose().clone().into());
    }
    response.json(body)
}
