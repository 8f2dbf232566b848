//! `/`, `/sign-in`, `/sign-out`.
use super::model::{html, html_telling, same_origin};
use crate::{
    authn::{
        sessions::{self, Session},
        sign_in::{Attempt, OrgChoice, SignInError, login_with_cookie},
    },
    authorization::{Action, Target},
    http::{auth::Stranger, problem::Problem},
    identity,
    kernel::{Actor, Ctx, Secret, Token, TokenKind},
    platform::hasher::Hasher,
    work::{Work, WorkError},
};
use actix_web::{
    HttpRequest, HttpResponse,
    cookie::{Cookie, SameSite, time::Duration},
    get,
    http::{StatusCode, header::LOCATION},
    post, web,
};
use askama::Template;
use serde::Deserialize;

/// Bound to this host and to HTTPS (localhost counts) by its prefix.
const COOKIE: &str = "__Host-idd_session";
const CLIENT: &str = "identityd-pages";
/// Paths and methods, for 405.
pub const PAGES: &[(&str, &[&str])] = &[
    ("/", &["GET"]),
    ("/sign-in", &["GET", "POST"]),
    ("/sign-out", &["POST"]),
    ("/assets/page.css", &["GET"]),
];

/// Its routes. They are for people, and in no API document.
pub fn page_routes(config: &mut web::ServiceConfig) {
    config.service(home).service(sign_in_page).service(sign_in).service(sign_out).service(stylesheet);
}

#[derive(Template)]
#[template(path = "authn/templates/sign_in.html", config = "config/askama.toml")]
struct SignInPage<'a> {
    email: &'a str,
    problem: &'a str,
}

#[derive(Template)]
#[template(path = "authn/templates/home.html", config = "config/askama.toml")]
struct HomePage<'a> {
    name: &'a str,
    email: &'a str,
    orgs: Vec<(String, String)>,
}

#[get("/assets/page.css")]
async fn stylesheet() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/css; charset=utf-8")
        .insert_header(("cache-control", "public, max-age=3600"))
        .body(include_str!("../templates/page.css"))
}

#[get("/sign-in")]
async fn sign_in_page() -> Result<HttpResponse, Problem> {
    html(StatusCode::OK, &SignInPage { email: "", problem: "" })
}

#[derive(Deserialize)]
struct Form {
    #[serde(default)]
    email: String,
    password: Option<Secret<String>>,
}

#[post("/sign-in")]
async fn sign_in(
    stranger: Result<Stranger, Problem>,
    request: HttpRequest,
    work: web::Data<Work>,
    hasher: web::Data<Hasher>,
    web::Form(form): web::Form<Form>,
) -> Result<HttpResponse, Problem> {
    let told = |problem: &Problem| {
        html_telling(problem, &SignInPage { email: &form.email, problem: &problem.to_string() })
    };
    let ctx = match stranger {
        Ok(Stranger(ctx)) => ctx,
        Err(problem) => return told(&problem),
    };
    same_origin(&request, &work.config().http.issuer())?;
    let attempt = Attempt {
        email: form.email.clone(),
        password: form.password.clone().unwrap_or_else(|| Secret::new(String::new())),
        org: OrgChoice::Home,
        client_id: CLIENT.to_owned(),
        scope: String::new(),
    };
    let error = match login_with_cookie(&work, &hasher, &ctx, attempt).await {
        Ok(token) => return Ok(to_home(Some(&token))),
        Err(error @ (SignInError::Refused | SignInError::Throttled(_) | SignInError::Hasher(_))) => error,
        Err(other) => return Err(other.into()),
    };
    told(&error.into())
}

fn to_home(token: Option<&Token>) -> HttpResponse {
    let cookie = Cookie::build(COOKIE, token.map(|token| token.expose().to_owned()).unwrap_or_default());
    let mut cookie = cookie.path("/").secure(true).http_only(true).same_site(SameSite::Lax).finish();
    if token.is_none() {
        cookie.set_max_age(Duration::ZERO);
    }
    HttpResponse::SeeOther().insert_header((LOCATION, "/")).cookie(cookie).finish()
}

#[get("/")]
async fn home(
    Stranger(ctx): Stranger,
    request: HttpRequest,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    let Some(session) = session(&work, &ctx, &request).await? else {
        return Ok(HttpResponse::SeeOther().insert_header((LOCATION, "/sign-in")).finish());
    };
    let owner = ctx.acting_as(Actor::Person { identity: session.identity, session: session.id });
    let permit = work.permit(&owner, Action::SelfManage, Target::Account).await?;
    let find =
        async |tx: &mut crate::work::ReadTx<'_>| identity::find_identity(tx.conn(), session.identity).await;
    let person = work.read::<_, WorkError>(&owner, permit, find).await?.ok_or_else(Problem::not_found)?;
    let state = work.state();
    let orgs = state.orgs_of(session.identity).into_iter().filter_map(|org| {
        let roles = state.member(session.identity, org)?.roles;
        let roles: Vec<&str> = roles.iter().map(|role| role.as_str()).collect();
        Some((state.org(org)?.slug, roles.join(", ")))
    });
    let page = HomePage { name: &person.display_name, email: person.email.as_str(), orgs: orgs.collect() };
    html(StatusCode::OK, &page)
}

#[post("/sign-out")]
async fn sign_out(
    Stranger(ctx): Stranger,
    request: HttpRequest,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    same_origin(&request, &work.config().http.issuer())?;
    if let Some(session) = session(&work, &ctx, &request).await? {
        let owner = ctx.acting_as(Actor::Person { identity: session.identity, session: session.id });
        sessions::end_session(&work, &owner, session.id, "logout").await?;
    }
    Ok(to_home(None))
}

async fn session(work: &Work, ctx: &Ctx, request: &HttpRequest) -> Result<Option<Session>, WorkError> {
    let token = request.cookie(COOKIE).and_then(|cookie| Token::parse(cookie.value()));
    match token.filter(|token| token.kind() == TokenKind::Cookie) {
        Some(token) => sessions::session_by_cookie(work, ctx, &token).await,
        None => Ok(None),
    }
}
