//! `/v1/auth/{login,refresh,logout,userinfo}`, and the paths by which existing clients know them.
use super::{
    error::SignInError,
    model::{Attempt, OrgChoice, SignedIn, client, scope},
    service,
};
use crate::{
    authn::me::UserInfo,
    http::{
        auth::{Access, Caller, Stranger},
        extract::{self, Json, JsonOrNothing},
        problem::Problem,
    },
    kernel::{Ctx, Secret},
    platform::hasher::Hasher,
    work::Work,
};
use actix_web::{HttpRequest, HttpResponse, get, http::header, post, web};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;
use utoipa_actix_web::service_config::ServiceConfig;
use uuid::Uuid;

/// Its routes.
pub(in crate::authn) fn routes(config: &mut ServiceConfig<'_>) {
    config.service(login).service(refresh).service(logout).service(userinfo).service(exchange_token);
    config.service(portal_userinfo).service(portal_logout).service(portal_token);
    config.service(portal_api_userinfo).service(portal_api_logout).service(portal_api_token);
}

#[derive(Deserialize, ToSchema)]
struct Login {
    #[schema(max_length = 254, format = "email")]
    email: String,
    #[schema(value_type = String, format = "password")]
    password: Secret<String>,
    /// The client's name; one without a secret is a public client.
    client_id: Option<String>,
    scope: Option<String>,
    /// UUID or slug; the home organization when left out.
    org_id: Option<String>,
    /// `required`: answer 409 where there are several organizations and none is named.
    org_selection: Option<String>,
}

/// Somebody who is in.
#[derive(Serialize, ToSchema)]
struct Tokens {
    access_token: String,
    /// Good for one use: its answer brings the next.
    refresh_token: String,
    /// `Bearer`.
    token_type: &'static str,
    /// Seconds that the access token is good for.
    expires_in: i64,
    scope: String,
    session_id: Uuid,
    mfa_verified: bool,
    /// The organization that the access token names.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    org_id: Option<Uuid>,
}

fn tokens(signed_in: &SignedIn) -> HttpResponse {
    HttpResponse::Ok().json(Tokens {
        access_token: signed_in.access_token.expose().clone(),
        refresh_token: signed_in.refresh_token.expose().to_owned(),
        token_type: "Bearer",
        expires_in: signed_in.expires_in,
        scope: signed_in.scope.clone(),
        session_id: signed_in.session.id.uuid(),
        mfa_verified: false, // enrolment comes with its release
        org_id: signed_in.session.org.map(|org| org.uuid()),
    })
}

fn tokens_example() -> Value {
    json!({
        "access_token": "eyJ…", "refresh_token": "idr_…", "token_type": "Bearer", "expires_in": 3600, "scope": "openid",
        "session_id": "0193a5f0-7b1c-7000-8000-000000000005", "mfa_verified": false,
        "org_id": "0193a5f0-7b1c-7000-8000-000000000001",
    })
}

/// Signs in.
///
/// Whatever is not right, the answer is the same 401, after the same time.
#[utoipa::path(
    tag = "sign-in",
    security(()),
    request_body(content = Login, example = json!({ "email": "ada@example.io", "password": "correct horse battery staple" })),
    extensions(("x-action" = json!("sign-in:use")), ("x-rate-limit" = json!("sign_in"))),
    responses(
        (status = 200, description = "Access and refresh token", body = Tokens, example = json!(tokens_example())),
        (status = 401, description = "INVALID_CREDENTIALS, whatever is not right"),
        (status = 409, description = "ORG_SELECTION_REQUIRED, where the caller asked for it"),
        (status = 429, description = "TOO_MANY_ATTEMPTS: `Retry-After` says when to try again"),
    )
)]
#[post("/v1/auth/login")]
async fn login(
    Stranger(ctx): Stranger,
    work: web::Data<Work>,
    access: web::Data<Access>,
    hasher: web::Data<Hasher>,
    Json(body): Json<Login>,
) -> Result<HttpResponse, Problem> {
    let org = match body.org_id.as_deref().filter(|org| !org.is_empty()) {
        Some(name) => extract::org(&access, name).map_or(OrgChoice::Unknown, OrgChoice::Named),
        None if body.org_selection.as_deref() == Some("required") => OrgChoice::MustChoose,
        None => OrgChoice::Home,
    };
    let attempt = Attempt {
        email: body.email,
        password: body.password,
        org,
        client_id: client(body.client_id.as_deref()).ok_or(SignInError::Invalid("client_id"))?,
        scope: scope(body.scope.as_deref()).ok_or(SignInError::Invalid("scope"))?,
    };
    Ok(tokens(&service::login(&work, &hasher, &ctx, attempt).await?))
}

#[derive(Default, Deserialize, ToSchema)]
struct Refresh {
    /// May come as the bearer instead.
    #[schema(value_type = Option<String>)]
    refresh_token: Option<Secret<String>>,
    client_id: Option<String>,
    scope: Option<String>,
}

/// Renews the tokens.
///
/// The refresh token is used up. Using it twice ends the session, but for a short grace in which an answer that was
/// lost can be asked for again.
#[utoipa::path(
    tag = "sign-in",
    security((), ("bearer" = [])),
    request_body(content = Option<Refresh>, example = json!({ "refresh_token": "idr_…" })),
    extensions(("x-action" = json!("sign-in:use")), ("x-rate-limit" = json!("writes"))),
    responses(
        (status = 200, description = "A new pair", body = Tokens, example = json!(tokens_example())),
        (status = 401, description = "REFRESH_REFUSED: sign in again"),
    )
)]
#[post("/v1/auth/refresh")]
async fn refresh(
    Stranger(ctx): Stranger,
    request: HttpRequest,
    work: web::Data<Work>,
    JsonOrNothing(body): JsonOrNothing<Refresh>,
) -> Result<HttpResponse, Problem> {
    renew(&work, &ctx, &request, body).await
}

async fn renew(
    work: &Work,
    ctx: &Ctx,
    request: &HttpRequest,
    body: Refresh,
) -> Result<HttpResponse, Problem> {
    let token = body
        .refresh_token
        .map(Secret::into_inner)
        .filter(|token| !token.is_empty())
        .or_else(|| bearer(request));
    let token = Secret::new(token.ok_or(SignInError::RefreshRefused)?);
    let scope = scope(body.scope.as_deref()).ok_or(SignInError::Invalid("scope"))?;
    let client_id = body.client_id.as_deref().filter(|client| !client.is_empty());
    Ok(tokens(&service::refresh(work, ctx, token.expose().trim(), client_id, scope).await?))
}

fn bearer(request: &HttpRequest) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim().to_owned())
}

#[derive(Default, Deserialize, ToSchema)]
struct Logout {
    /// An access or refresh token; may come as the bearer instead.
    #[schema(value_type = Option<String>)]
    token: Option<Secret<String>>,
    /// Not needed: tokens tell what they are.
    #[expect(dead_code, reason = "RFC 7009 has it; our tokens need no hint")]
    token_type_hint: Option<String>,
}

/// Signs out.
///
/// Ends the session of the token. Of a token that is no good there is none, and the answer is the same.
#[utoipa::path(
    tag = "sign-in",
    security((), ("bearer" = [])),
    request_body(content = Option<Logout>, example = json!({ "token": "idr_…" })),
    extensions(("x-action" = json!("self:manage"))),
    responses((status = 204, description = "The session is over"))
)]
#[post("/v1/auth/logout")]
async fn logout(
    Stranger(ctx): Stranger,
    request: HttpRequest,
    work: web::Data<Work>,
    JsonOrNothing(body): JsonOrNothing<Logout>,
) -> Result<HttpResponse, Problem> {
    leave(&work, &ctx, &request, body).await
}

async fn leave(work: &Work, ctx: &Ctx, request: &HttpRequest, body: Logout) -> Result<HttpResponse, Problem> {
    let token =
        body.token.map(Secret::into_inner).filter(|token| !token.is_empty()).or_else(|| bearer(request));
    if let Some(token) = token {
        service::logout(work, ctx, token.trim()).await?;
    }
    Ok(HttpResponse::NoContent().finish())
}

/// Who is signed in.
///
/// As OpenID Connect has it, with the roles and permissions in the current organization.
#[utoipa::path(
    tag = "sign-in",
    extensions(("x-action" = json!("self:manage"))),
    responses((status = 200, description = "The person", body = UserInfo, example = json!(UserInfo::example())))
)]
#[get("/v1/auth/userinfo")]
async fn userinfo(Caller(ctx, claims): Caller, work: web::Data<Work>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(UserInfo::of(&work, &ctx, claims.as_ref()).await?))
}

#[derive(Deserialize, ToSchema)]
struct TokenRequest {
    /// `refresh_token`.
    #[schema(pattern = "^refresh_token$")]
    grant_type: String,
    #[serde(flatten)]
    refresh: Refresh,
}

async fn exchange(
    work: &Work,
    ctx: &Ctx,
    request: &HttpRequest,
    body: TokenRequest,
) -> Result<HttpResponse, Problem> {
    match body.grant_type.as_str() {
        "refresh_token" => renew(work, ctx, request, body.refresh).await,
        _ => Err(SignInError::GrantUnsupported(body.grant_type.chars().take(100).collect()).into()),
    }
}

/// Renews the tokens, as the web portal asks for it.
#[utoipa::path(
    tag = "sign-in",
    security(()),
    request_body(content = TokenRequest, example = json!({ "grant_type": "refresh_token", "refresh_token": "idr_…" })),
    extensions(("x-action" = json!("sign-in:use")), ("x-rate-limit" = json!("writes"))),
    responses((status = 200, description = "A new pair", body = Tokens, example = json!(tokens_example())),
        (status = 401, description = "REFRESH_REFUSED: sign in again"))
)]
#[post("/v1/auth/token")]
async fn exchange_token(
    Stranger(ctx): Stranger,
    request: HttpRequest,
    work: web::Data<Work>,
    Json(body): Json<TokenRequest>,
) -> Result<HttpResponse, Problem> {
    exchange(&work, &ctx, &request, body).await
}

// The portal's other names for the same. They are documented as compatible, not as the API to use.

/// Alias of `/v1/auth/userinfo`.
#[utoipa::path(
    tag = "sign-in",
    extensions(("x-action" = json!("self:manage"))),
    responses((status = 200, description = "The person", body = UserInfo, example = json!(UserInfo::example())))
)]
#[get("/auth/userinfo")]
async fn portal_userinfo(
    Caller(ctx, claims): Caller,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(UserInfo::of(&work, &ctx, claims.as_ref()).await?))
}

/// Alias of `/v1/auth/logout`.
#[utoipa::path(
    tag = "sign-in",
    security((), ("bearer" = [])),
    request_body(content = Option<Logout>, example = json!({ "token": "idr_…" })),
    extensions(("x-action" = json!("self:manage"))),
    responses((status = 204, description = "The session is over"))
)]
#[post("/auth/logout")]
async fn portal_logout(
    Stranger(ctx): Stranger,
    request: HttpRequest,
    work: web::Data<Work>,
    JsonOrNothing(body): JsonOrNothing<Logout>,
) -> Result<HttpResponse, Problem> {
    leave(&work, &ctx, &request, body).await
}

/// Alias of `/v1/auth/token`.
#[utoipa::path(
    tag = "sign-in",
    security(()),
    request_body(content = TokenRequest, example = json!({ "grant_type": "refresh_token", "refresh_token": "idr_…" })),
    extensions(("x-action" = json!("sign-in:use")), ("x-rate-limit" = json!("writes"))),
    responses((status = 200, description = "A new pair", body = Tokens, example = json!(tokens_example())),
        (status = 401, description = "REFRESH_REFUSED: sign in again"))
)]
#[post("/auth/token")]
async fn portal_token(
    Stranger(ctx): Stranger,
    request: HttpRequest,
    work: web::Data<Work>,
    Json(body): Json<TokenRequest>,
) -> Result<HttpResponse, Problem> {
    exchange(&work, &ctx, &request, body).await
}

/// Alias of `/v1/auth/userinfo`.
#[utoipa::path(
    tag = "sign-in",
    extensions(("x-action" = json!("self:manage"))),
    responses((status = 200, description = "The person", body = UserInfo, example = json!(UserInfo::example())))
)]
#[get("/api/auth/userinfo")]
async fn portal_api_userinfo(
    Caller(ctx, claims): Caller,
    work: web::Data<Work>,
) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(UserInfo::of(&work, &ctx, claims.as_ref()).await?))
}

/// Alias of `/v1/auth/logout`.
#[utoipa::path(
    tag = "sign-in",
    security((), ("bearer" = [])),
    request_body(content = Option<Logout>, example = json!({ "token": "idr_…" })),
    extensions(("x-action" = json!("self:manage"))),
    responses((status = 204, description = "The session is over"))
)]
#[post("/api/auth/logout")]
async fn portal_api_logout(
    Stranger(ctx): Stranger,
    request: HttpRequest,
    work: web::Data<Work>,
    JsonOrNothing(body): JsonOrNothing<Logout>,
) -> Result<HttpResponse, Problem> {
    leave(&work, &ctx, &request, body).await
}

/// Alias of `/v1/auth/token`.
#[utoipa::path(
    tag = "sign-in",
    security(()),
    request_body(content = TokenRequest, example = json!({ "grant_type": "refresh_token", "refresh_token": "idr_…" })),
    extensions(("x-action" = json!("sign-in:use")), ("x-rate-limit" = json!("writes"))),
    responses((status = 200, description = "A new pair", body = Tokens, example = json!(tokens_example())),
        (status = 401, description = "REFRESH_REFUSED: sign in again"))
)]
#[post("/api/auth/token")]
async fn portal_api_token(
    Stranger(ctx): Stranger,
    request: HttpRequest,
    work: web::Data<Work>,
    Json(body): Json<TokenRequest>,
) -> Result<HttpResponse, Problem> {
    exchange(&work, &ctx, &request, body).await
}
