//! What all pages share.
use crate::http::problem::Problem;
use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    http::{
        StatusCode,
        header::{self, HeaderName},
    },
};
use askama::Template;

/// Nothing but what the page itself brings.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; form-action 'self'; \
    frame-ancestors 'none'; base-uri 'none'";

/// Answers a page.
pub fn html(status: StatusCode, page: &impl Template) -> Result<HttpResponse, Problem> {
    let body = page.render().map_err(|error| Problem::internal(&error))?;
    Ok(HttpResponse::build(status)
        .content_type("text/html; charset=utf-8")
        .insert_header((header::CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((header::REFERRER_POLICY, "no-referrer"))
        .insert_header((HeaderName::from_static("x-frame-options"), "DENY"))
        .body(body))
}

/// Answers a page that tells of a problem, with its status and what it says of when to come again.
pub fn html_telling(problem: &Problem, page: &impl Template) -> Result<HttpResponse, Problem> {
    let told = problem.error_response();
    let mut answer = html(told.status(), page)?;
    if let Some(seconds) = told.headers().get(header::RETRY_AFTER) {
        answer.headers_mut().insert(header::RETRY_AFTER, seconds.clone());
    }
    Ok(answer)
}

/// A form is taken from our own pages only. Browsers say where a form was sent from; what is no browser has no cookie.
pub fn same_origin(request: &HttpRequest, issuer: &str) -> Result<(), Problem> {
    let said = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let good = match (said("sec-fetch-site"), said("origin")) {
        (Some(site), _) => matches!(site, "same-origin" | "none"),
        (None, Some(origin)) => origin == issuer,
        (None, None) => true,
    };
    let refused = || {
        let detail = "this form was sent from another site";
        Problem::new(StatusCode::FORBIDDEN, "CROSS_ORIGIN_FORM", detail)
    };
    good.then_some(()).ok_or_else(refused)
}
