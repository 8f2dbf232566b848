//! Accepting an invite: a membership gets its person, who may be new here.
use crate::{
    authn::{self, NewPassword, PasswordError},
    authorization::{Action, Grants, Target},
    http::{
        auth::{Anybody, Stranger},
        extract::Json,
        problem::Problem,
        schema,
    },
    identity::{self, Identity, OpenInvite, User},
    kernel::{Actor, Ctx, EmailAddress, Name, PLATFORM, Secret, Token, TokenKind},
    orgs,
    platform::hasher::{Hasher, PasswordHash},
    work::{Audited, Tx, Work, WorkError},
};
use actix_web::{HttpRequest, HttpResponse, get, http::StatusCode, post, web};
use askama::Template;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Why an invite is not accepted.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    #[error("this invite is not known, or was taken back")]
    Unknown,
    #[error("this invite has expired; ask for another")]
    Expired,
    #[error("whoever sent this invite may no longer give these roles; ask for another")]
    Withdrawn,
    #[error("you are signed in with another address than the one invited")]
    ForAnother,
    #[error("the organization is not active")]
    OrgNotActive,
    #[error("a password is needed")]
    PasswordMissing,
    #[error("the password of your account is needed, and this is not it")]
    PasswordWrong,
    #[error("displayName must be one line of 1 to 200 characters")]
    NameInvalid,
    #[error(transparent)]
    Password(#[from] PasswordError),
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<diesel::result::Error> for AcceptError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Work(error.into())
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Unknown => Self::new(StatusCode::NOT_FOUND, "INVITE_UNKNOWN", error),
            AcceptError::Expired => Self::new(StatusCode::GONE, "INVITE_EXPIRED", error),
            AcceptError::Withdrawn => Self::new(StatusCode::CONFLICT, "INVITE_WITHDRAWN", error),
            AcceptError::ForAnother => Self::new(StatusCode::CONFLICT, "INVITE_FOR_ANOTHER", error),
            AcceptError::OrgNotActive => Self::new(StatusCode::CONFLICT, "ORG_NOT_ACTIVE", error),
            AcceptError::PasswordMissing => Self::invalid("password", "PASSWORD_MISSING", error),
            AcceptError::PasswordWrong => Self::new(StatusCode::UNAUTHORIZED, "PASSWORD_WRONG", error),
            AcceptError::NameInvalid => Self::invalid("displayName", "NAME_INVALID", error),
            AcceptError::Password(error) => error.into(),
            AcceptError::Work(error) => error.into(),
        }
    }
}

/// What the invited person brings.
#[derive(Debug)]
pub struct Acceptance {
    pub token: Secret<String>,
    pub password: Option<Secret<String>>,
    pub display_name: Option<String>,
}

/// A membership that has its person.
pub type Accepted = User;

/// Who accepts.
enum Guest {
    /// Somebody known: signed in, or with the right password.
    Known(Identity),
    /// Somebody the invite makes known.
    New { display_name: String, hash: PasswordHash },
}

/// Accepts an invite. Doing it again is the same person's good right, and changes nothing.
#[tracing::instrument(name = "flows.accept_invite", skip_all, err(level = "debug"))]
pub async fn accept_invite(
    work: &Work,
    hasher: &Hasher,
    ctx: &Ctx,
    acceptance: Acceptance,
) -> Result<Accepted, AcceptError> {
    match accept_once(work, hasher, ctx, &acceptance).await {
        // Somebody became this person while the password was hashed. Now it can be checked: a form is sent twice.
        Err(AcceptError::Work(WorkError::Superseded)) => accept_once(work, hasher, ctx, &acceptance).await,
        other => other,
    }
}

async fn accept_once(
    work: &Work,
    hasher: &Hasher,
    ctx: &Ctx,
    acceptance: &Acceptance,
) -> Result<Accepted, AcceptError> {
    let token =
        Token::parse(acceptance.token.expose().trim()).filter(|token| token.kind() == TokenKind::Invite);
    let token = token.ok_or(AcceptError::Unknown)?;
    let stranger = ctx.acting_as(Actor::Anonymous);
    let guest = recognise(work, hasher, ctx, &stranger, &token, acceptance).await?;
    if work.state().is_stale() {
        return Err(WorkError::Stale.into());
    }
    let permit = work.permit(&stranger, Action::SignInUse, Target::Platform).await?;
    let grace = work.config().authentication.mfa_grace_days;
    work.write(&stranger, permit, async |tx| {
        let (invite, consumed_at) = open(tx, &token).await?;
        let user = &invite.user;
        let person = person(tx, user, guest).await?;
        let by =
            Actor::Person { identity: person.id, session: crate::kernel::Id::from_uuid(PLATFORM.uuid()) };
        if consumed_at.is_some() {
            // Accepted before: by whom decides.
            if user.identity != Some(person.id) {
                return Err(AcceptError::Unknown);
            }
            let event = tx.event_on(user.org, user.id).by(by);
            let event = event.detail(json!({ "accepted": true, "again": true }));
            return Ok(Audited::new(invite.user, event));
        }
        check(ctx, &invite)?;
        tx.enter(user.org).await?;
        orgs::lock_active(tx).await?.ok_or(AcceptError::OrgNotActive)?;
        if !is_still_given(work, ctx, &invite) {
            return Err(AcceptError::Withdrawn);
        }
        let mfa_due_at = user.mfa_due_at.or(due(ctx.now, grace, user));
        let joined = identity::accept(tx, user, &person, mfa_due_at).await?;
        let event = tx
            .event(joined.id)
            .by(by)
            .detail(json!({ "accepted": true, "roles": joined.roles }))
            .personal("email", person.email.as_str());
        Ok(Audited::new(joined, event))
    })
    .await
}

fn due(now: DateTime<Utc>, grace_days: Option<u32>, user: &User) -> Option<DateTime<Utc>> {
    let days = grace_days.filter(|_| user.roles.contains(&crate::authorization::Role::Owner))?;
    Some(now + TimeDelta::days(days.into()))
}

/// The invite of a token, if the token is the right one.
async fn open(tx: &mut Tx<'_>, token: &Token) -> Result<(OpenInvite, Option<DateTime<Utc>>), AcceptError> {
    let found = identity::lock_open_invite(tx, &token.kid()).await?;
    let (invite, hmac, version, consumed_at) = found.ok_or(AcceptError::Unknown)?;
    if !tx.keys().matches(token.expose(), &hmac, version) {
        return Err(AcceptError::Unknown);
    }
    Ok((invite, consumed_at))
}

/// Finds out who accepts, before the write: hashing and verifying take a while.
async fn recognise(
    work: &Work,
    hasher: &Hasher,
    ctx: &Ctx,
    stranger: &Ctx,
    token: &Token,
    acceptance: &Acceptance,
) -> Result<Guest, AcceptError> {
    let permit = work.permit(stranger, Action::SignInUse, Target::Platform).await?;
    let peek = work.read(stranger, permit, async |tx| {
        let Some((email, linked, hmac, version)) = identity::peek_invite(tx, &token.kid()).await? else {
            return Ok(None);
        };
        if !work.keys().matches(token.expose(), &hmac, version) {
            return Ok(None);
        }
        let person = identity::find_identity_by_email(tx.conn(), &email).await?;
        let has_password = match &person {
            Some(person) => authn::has_password(tx.conn(), person.id).await?,
            None => false,
        };
        Ok::<_, AcceptError>(Some((email, linked, person, has_password)))
    });
    let (email, linked, person, has_password) = peek.await?.ok_or(AcceptError::Unknown)?;
    match (ctx.actor, person) {
        (Actor::Person { identity, .. }, Some(person)) if person.id == identity => Ok(Guest::Known(person)),
        (Actor::Person { .. }, _) => Err(AcceptError::ForAnother),
        (_, Some(person)) if has_password => {
            let password = acceptance.password.as_ref().ok_or(AcceptError::PasswordMissing)?;
            match authn::verify_for(work, hasher, ctx, &person.email, person.id, password).await? {
                Some(_) => Ok(Guest::Known(person)),
                None => Err(AcceptError::PasswordWrong),
            }
        }
        // Known to nobody but the operator who vouched for the address, or to nobody at all.
        (_, person) if person.as_ref().is_none_or(|person| linked == Some(person.id)) => {
            let password = acceptance.password.as_ref().ok_or(AcceptError::PasswordMissing)?;
            let password = NewPassword::parse(password.expose(), email.as_str())?;
            let display_name = match acceptance.display_name.as_deref().map(str::trim) {
                None | Some("") => String::new(),
                Some(name) => Name::parse(name).ok_or(AcceptError::NameInvalid)?.as_str().to_owned(),
            };
            let hash = authn::hash_password(hasher, ctx, password).await?;
            Ok(Guest::New { display_name, hash })
        }
        _ => Err(AcceptError::PasswordWrong),
    }
}

/// The person that the membership gets.
async fn person(tx: &mut Tx<'_>, user: &User, guest: Guest) -> Result<Identity, AcceptError> {
    let (display_name, hash) = match guest {
        Guest::Known(person) => return Ok(person),
        Guest::New { display_name, hash } => (display_name, hash),
    };
    let email = EmailAddress::parse(&user.email).ok_or(AcceptError::Unknown)?;
    let person = match identity::insert_identity(tx, &email, &display_name, &[]).await? {
        Some(person) => person,
        None => {
            let known =
                identity::find_identity_by_email(tx.conn(), &email).await?.ok_or(AcceptError::Unknown)?;
            // Somebody became this person while the password was hashed: he has one by now.
            if user.identity != Some(known.id) || authn::has_password(tx.conn(), known.id).await? {
                return Err(WorkError::Superseded.into());
            }
            identity::name_identity(tx, &known, &display_name).await?
        }
    };
    authn::store_hash(tx, person.id, &hash).await?;
    Ok(person)
}

/// Does it still hold?
fn check(ctx: &Ctx, invite: &OpenInvite) -> Result<(), AcceptError> {
    if !invite.user.awaits_person() {
        return Err(AcceptError::Unknown);
    }
    if invite.expires_at <= ctx.now { Err(AcceptError::Expired) } else { Ok(()) }
}

/// May its sender still give what it gives? In an org that is not active nobody may, so that is asked before.
fn is_still_given(work: &Work, ctx: &Ctx, invite: &OpenInvite) -> bool {
    let Some(inviter) = Actor::parse(&invite.invited_by) else { return false };
    if matches!(inviter, Actor::Operator { .. }) {
        return true; // whose token has ended by now
    }
    let as_inviter = ctx.acting_as(inviter);
    let grants = Grants::Roles(invite.user.roles.clone());
    work.would_permit(&as_inviter, Action::UsersInvite, Target::Org(invite.user.org), grants)
}

// HTTP -----------------------------------------------------------------------------------------------------------

/// Paths and methods of the page.
pub(super) const PAGES: &[(&str, &[&str])] =
    &[("/invite", &["GET", "POST"]), ("/assets/invite.js", &["GET"])];

pub(super) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(post_accept);
}

pub(super) fn page_routes(config: &mut web::ServiceConfig) {
    config.service(invite_page).service(invite_form).service(script);
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct Accept {
    /// From the mail.
    #[schema(value_type = String)]
    token: Secret<String>,
    /// Of the person's account; of a new one, at least 15 characters. Not needed with an access token.
    #[schema(value_type = Option<String>, format = "password")]
    password: Option<Secret<String>>,
    #[schema(value_type = Option<schema::Name>)]
    display_name: Option<String>,
}

/// A membership that has its person.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
struct AcceptedView {
    user_id: Uuid,
    org_id: Uuid,
    email: String,
    /// `active`.
    status: &'static str,
}

/// Accepts an invite.
///
/// The address of the invite is then verified. Whoever has an account shows it by its password or an access token;
/// for all others this makes one. Accepting again changes nothing.
#[utoipa::path(
    operation_id = "accept_invite",
    tag = "people",
    security((), ("bearer" = [])),
    request_body(content = Accept, example = json!({
        "token": "idi_…", "password": "correct horse battery staple", "displayName": "Ada",
    })),
    extensions(("x-action" = json!("sign-in:use")), ("x-rate-limit" = json!("recovery"))),
    responses(
        (status = 200, description = "The membership", body = AcceptedView, example = json!({
            "userId": "0193a5f0-7b1c-7000-8000-000000000002", "orgId": "0193a5f0-7b1c-7000-8000-000000000001",
            "email": "ada@example.io", "status": "active",
        })),
        (status = 401, description = "PASSWORD_WRONG: there is an account of this address"),
        (status = 404, description = "INVITE_UNKNOWN"),
        (status = 409, description = "INVITE_WITHDRAWN, INVITE_FOR_ANOTHER or ORG_NOT_ACTIVE"),
        (status = 410, description = "INVITE_EXPIRED"),
        (status = 429, description = "TOO_MANY_ATTEMPTS"),
    )
)]
#[post("/v1/invites/accept")]
async fn post_accept(
    Anybody(ctx): Anybody,
    work: web::Data<Work>,
    hasher: web::Data<Hasher>,
    Json(body): Json<Accept>,
) -> Result<HttpResponse, Problem> {
    let acceptance =
        Acceptance { token: body.token, password: body.password, display_name: body.display_name };
    let user = accept_invite(&work, &hasher, &ctx, acceptance).await?;
    Ok(HttpResponse::Ok().json(AcceptedView {
        user_id: user.id.uuid(),
        org_id: user.org.uuid(),
        email: user.email,
        status: user.status.as_str(),
    }))
}

#[derive(Template)]
#[template(path = "flows/templates/invite.html", config = "config/askama.toml")]
struct InvitePage<'a> {
    token: &'a str,
    name: &'a str,
    problem: &'a str,
}

#[derive(Template)]
#[template(path = "flows/templates/accepted.html", config = "config/askama.toml")]
struct AcceptedPage<'a> {
    email: &'a str,
}

/// The token stands behind the '#' of the mailed link, which no server sees; a script moves it into the form, and
/// without scripts it is typed in. Nothing is accepted by opening the page: mail scanners do that.
#[get("/invite")]
async fn invite_page() -> Result<HttpResponse, Problem> {
    authn::html(StatusCode::OK, &InvitePage { token: "", name: "", problem: "" })
}

#[get("/assets/invite.js")]
async fn script() -> HttpResponse {
    HttpResponse::Ok()
        .content_type("text/javascript; charset=utf-8")
        .insert_header(("cache-control", "public, max-age=3600"))
        .body(include_str!("templates/invite.js"))
}

#[derive(Deserialize)]
struct Form {
    token: Option<Secret<String>>,
    password: Option<Secret<String>>,
    #[serde(default)]
    name: String,
}

#[post("/invite")]
async fn invite_form(
    stranger: Result<Stranger, Problem>,
    request: HttpRequest,
    work: web::Data<Work>,
    hasher: web::Data<Hasher>,
    web::Form(form): web::Form<Form>,
) -> Result<HttpResponse, Problem> {
    let token = form.token.unwrap_or_else(|| Secret::new(String::new()));
    let told = |problem: &Problem| {
        let page = InvitePage { token: token.expose(), name: &form.name, problem: &problem.to_string() };
        authn::html_telling(problem, &page)
    };
    let ctx = match stranger {
        Ok(Stranger(ctx)) => ctx,
        Err(problem) => return told(&problem),
    };
    authn::same_origin(&request, &work.config().http.issuer())?;
    let (password, display_name) = (form.password, Some(form.name.clone()));
    let acceptance = Acceptance { token: token.clone(), password, display_name };
    let error = match accept_invite(&work, &hasher, &ctx, acceptance).await {
        Ok(user) => return authn::html(StatusCode::OK, &AcceptedPage { email: &user.email }),
        Err(error @ AcceptError::Work(_)) => return Err(error.into()),
        Err(error) => error,
    };
    told(&error.into())
}
