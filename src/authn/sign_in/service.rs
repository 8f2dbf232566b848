//! Use cases of signing in.
use super::{
    error::SignInError,
    model::{Attempt, OrgChoice, SignedIn},
};
use crate::{
    authn::{
        passwords::{self, normalize},
        sessions::{self, NewSession, Refreshed, Session},
        throttle::{self, Subjects},
    },
    authorization::{Action, Target},
    identity::{self, Identity},
    kernel::{
        AccessClaims, Actor, Ctx, EmailAddress, OrgId, OrgStatus, Secret, Token, TokenKind, UserStatus, named,
    },
    ledger::Refused,
    platform::hasher::{Hasher, PasswordHash, Verdict},
    work::{Audited, Work, WorkError},
};
use chrono::TimeDelta;
use serde_json::json;

/// How well the person showed who he is: with one factor.
const ACR_SINGLE: &str = "urn:identityd:acr:single-factor";

/// A person whose password was right, and where the sign-in leads.
struct Entrant {
    person: Identity,
    org: Option<OrgId>,
    /// The hash that the password was right for.
    verified: PasswordHash,
    /// The password under today's parameters, where the stored hash is under older ones.
    rehashed: Option<PasswordHash>,
}

/// Signs a person in.
#[tracing::instrument(name = "authn.login", skip_all, err(level = "debug"))]
pub(super) async fn login(
    work: &Work,
    hasher: &Hasher,
    ctx: &Ctx,
    attempt: Attempt,
) -> Result<SignedIn, SignInError> {
    let entrant = enter(work, hasher, ctx, &attempt).await?;
    let permit = work.permit(ctx, Action::SignInUse, Target::Platform).await?;
    let config = &work.config().authentication;
    let lifetime = TimeDelta::hours(config.session_hours.into());
    let idle = TimeDelta::hours(config.session_idle_hours.into());
    let refresh_token = Token::mint(TokenKind::Refresh, ctx.entropy());
    let session = work.write(ctx, permit, async |tx| {
        still_right(tx, &entrant).await?;
        let new = NewSession {
            identity: entrant.person.id,
            org: entrant.org,
            client_id: &attempt.client_id,
            lifetime,
            cookie: None,
        };
        let session = sessions::insert(tx, &new).await?;
        let (id, hashed) = (tx.mint::<named::Refresh>(), tx.keys().fingerprint(refresh_token.expose()));
        let times = (ctx.now, session.absolute_expires_at.min(ctx.now + idle));
        sessions::insert_refresh(tx.conn(), id, session.id, 1, &refresh_token, hashed, times).await?;
        settle(tx, &entrant, session).await
    });
    let session = session.await?;
    work.metrics().auth_attempt("password", "success");
    work.metrics().session_created();
    signed_in(work, ctx, session, refresh_token, attempt.scope)
}

/// Signs a person in for a browser, which gets a cookie and no tokens.
#[tracing::instrument(name = "authn.login_with_cookie", skip_all, err(level = "debug"))]
pub(in crate::authn) async fn login_with_cookie(
    work: &Work,
    hasher: &Hasher,
    ctx: &Ctx,
    attempt: Attempt,
) -> Result<Token, SignInError> {
    let entrant = enter(work, hasher, ctx, &attempt).await?;
    let permit = work.permit(ctx, Action::SignInUse, Target::Platform).await?;
    let lifetime = TimeDelta::hours(work.config().authentication.session_idle_hours.into());
    let cookie = Token::mint(TokenKind::Cookie, ctx.entropy());
    let session = work.write(ctx, permit, async |tx| {
        still_right(tx, &entrant).await?;
        let new = NewSession {
            identity: entrant.person.id,
            org: entrant.org,
            client_id: &attempt.client_id,
            lifetime,
            cookie: Some(&cookie),
        };
        let session = sessions::insert(tx, &new).await?;
        settle(tx, &entrant, session).await
    });
    session.await?;
    work.metrics().auth_attempt("password", "success");
    work.metrics().session_created();
    Ok(cookie)
}

/// Whoever changes the password ends all sessions: none may begin afterwards with the old one.
async fn still_right(tx: &mut crate::work::Tx<'_>, entrant: &Entrant) -> Result<(), SignInError> {
    if passwords::holds(tx, entrant.person.id, &entrant.verified).await? {
        return Ok(());
    }
    Err(SignInError::Refused)
}

/// What every sign-in does besides: forgets failures, renews an old hash, tells the org.
async fn settle(
    tx: &mut crate::work::Tx<'_>,
    entrant: &Entrant,
    session: Session,
) -> Result<Audited<Session>, SignInError> {
    throttle::succeeded(tx, &entrant.person.email).await?;
    if let Some(hash) = &entrant.rehashed {
        passwords::store_hash(tx, entrant.person.id, hash).await?;
    }
    let event = match entrant.org {
        Some(org) => tx.event_on(org, session.id),
        None => tx.event(session.id),
    };
    let event = event
        .by(Actor::Person { identity: entrant.person.id, session: session.id })
        .detail(json!({ "method": "password", "client": session.client_id }))
        .personal("email", entrant.person.email.as_str());
    Ok(Audited::new(session, event))
}

/// Lets in whoever knows the password and may go where he wants. All others get one answer, after the same work.
async fn enter(work: &Work, hasher: &Hasher, ctx: &Ctx, attempt: &Attempt) -> Result<Entrant, SignInError> {
    let typed = attempt.email.trim().to_lowercase();
    let subjects = Subjects::of(work.keys(), ctx, &typed);
    let queue = match throttle::check(work, ctx, &subjects).await? {
        Ok(queue) => queue,
        Err(throttled) => {
            work.metrics().auth_attempt("password", "throttled");
            return Err(throttled.into());
        }
    };
    let email = EmailAddress::parse(&typed);
    let permit = work.permit(ctx, Action::SignInUse, Target::Platform).await?;
    let known = work.read(ctx, permit, async |tx| {
        let Some(email) = &email else { return Ok(None) };
        let Some(person) = identity::find_identity_by_email(tx.conn(), email).await? else { return Ok(None) };
        let hash = passwords::find_hash(tx.conn(), person.id).await?;
        Ok::<_, SignInError>(Some((person, hash)))
    });
    let (person, hash) = known.await?.unzip();
    let password = normalize(attempt.password.expose());
    let usable = password.is_some();
    let hash = hash.flatten();
    let verdict = hasher.verify(password.clone().unwrap_or_default(), hash.clone(), queue).await?;
    let verified = hash.filter(|_| usable && verdict != Verdict::Wrong);
    match (person, verified) {
        (Some(person), Some(verified)) => match destination(work, &person, attempt.org) {
            Ok(org) => {
                let old = password.filter(|_| verdict == Verdict::RightButOld);
                let rehashed = match old {
                    Some(password) => Some(hasher.hash(password, ctx.entropy()).await?),
                    None => None,
                };
                return Ok(Entrant { person, org, verified, rehashed });
            }
            Err(Dead::Choose) => return Err(SignInError::OrgSelectionRequired),
            Err(Dead::End(code)) => work.refuse(ctx, refusal(work, Some(&person), code, &typed)).await?,
        },
        (person, _) => {
            let refusal = refusal(work, person.as_ref(), "INVALID_CREDENTIALS", &typed);
            throttle::failed(work, ctx, &subjects, refusal).await?;
        }
    }
    work.metrics().auth_attempt("password", "failure");
    Err(SignInError::Refused)
}

/// A failed sign-in, on the chain of the org where the person is at home, if there is one.
fn refusal(work: &Work, person: Option<&Identity>, code: &str, typed: &str) -> Refused {
    let home = person.and_then(|person| destination(work, person, OrgChoice::Home).ok().flatten());
    Refused {
        chain: home.unwrap_or(crate::kernel::PLATFORM),
        action: Action::SignInUse,
        target: person.map_or_else(|| "unknown".to_owned(), |person| person.id.to_string()),
        code: code.to_owned(),
        policy_ids: vec![],
        pii: vec![("email", typed.chars().take(254).collect())],
        detail: json!({ "method": "password" }),
    }
}

enum Dead {
    Choose,
    End(&'static str),
}

/// Where a sign-in leads: an org in which the person is active, or none for somebody who has none at all.
fn destination(work: &Work, person: &Identity, choice: OrgChoice) -> Result<Option<OrgId>, Dead> {
    let state = work.state();
    let active = |org: OrgId| {
        let member = state.member(person.id, org)?;
        let open = state.org(org).is_some_and(|fact| fact.status != OrgStatus::PendingDelete);
        (open && member.status == UserStatus::Active).then_some(member)
    };
    let orgs = state.orgs_of(person.id);
    let mut memberships: Vec<_> = orgs.iter().filter_map(|org| active(*org)).collect();
    // Ids are ordered by time: the first membership is the oldest.
    memberships.sort_by_key(|member| member.user);
    let first = memberships.first().map(|member| member.org);
    match choice {
        OrgChoice::Unknown => Err(Dead::End("ORG_NOT_ALLOWED")),
        OrgChoice::Named(org) => {
            active(org).map(|member| Some(member.org)).ok_or(Dead::End("ORG_NOT_ALLOWED"))
        }
        OrgChoice::MustChoose if memberships.len() > 1 => Err(Dead::Choose),
        OrgChoice::MustChoose | OrgChoice::Home => {
            let home = person.home_org.and_then(active).map(|member| member.org).or(first);
            let stopped = home.is_none() && !orgs.is_empty() && person.platform_roles.is_empty();
            if stopped { Err(Dead::End("NO_ACTIVE_MEMBERSHIP")) } else { Ok(home) }
        }
    }
}

/// Goes on with a refresh token: a new pair, and the old token is used up.
#[tracing::instrument(name = "authn.refresh", skip_all, err(level = "debug"))]
pub(super) async fn refresh(
    work: &Work,
    ctx: &Ctx,
    token: &str,
    client_id: Option<&str>,
    scope: String,
) -> Result<SignedIn, SignInError> {
    let failed = || {
        work.metrics().auth_attempt("refresh", "failure");
        SignInError::RefreshRefused
    };
    let token = Token::parse(token).filter(|token| token.kind() == TokenKind::Refresh).ok_or_else(failed)?;
    let refreshed =
        sessions::turn_over(work, ctx, &token, client_id, |session| may_go_on(work, session)).await?;
    match refreshed {
        Refreshed::Turned { session, token } => {
            work.metrics().auth_attempt("refresh", "success");
            signed_in(work, ctx, session, token, scope)
        }
        Refreshed::Refused => Err(failed()),
        Refreshed::Reused { session } => {
            tracing::warn!(session.id = %session.id, "a refresh token was used twice; its session ends");
            let owner = ctx.acting_as(Actor::Person { identity: session.identity, session: session.id });
            sessions::end_session(work, &owner, session.id, "refresh_reuse").await?;
            Err(failed())
        }
    }
}

/// The rules of sign-in hold at every renewal.
fn may_go_on(work: &Work, session: &Session) -> bool {
    let state = work.state();
    let live = state.is_session_live(session.identity, session.id, session.auth_time.timestamp());
    let member =
        |org| state.member(session.identity, org).is_some_and(|user| user.status == UserStatus::Active);
    let open = |org| state.org(org).is_some_and(|fact| fact.status != OrgStatus::PendingDelete);
    live && session.org.is_none_or(|org| member(org) && open(org))
}

fn signed_in(
    work: &Work,
    ctx: &Ctx,
    session: Session,
    refresh_token: Token,
    scope: String,
) -> Result<SignedIn, SignInError> {
    let config = work.config();
    let lifetime = TimeDelta::minutes(config.authentication.access_token_minutes.into());
    let expires_at = session.absolute_expires_at.min(ctx.now + lifetime);
    let member = session.org.and_then(|org| work.state().member(session.identity, org));
    let issuer = config.http.issuer();
    let claims = AccessClaims {
        iss: issuer.clone(),
        sub: session.identity,
        aud: issuer,
        exp: expires_at.timestamp(),
        iat: ctx.now.timestamp(),
        jti: ctx.mint::<named::Event>().to_string(),
        client_id: session.client_id.clone(),
        sid: session.id,
        org_id: session.org,
        user_id: member.map(|member| member.user),
        scope: scope.clone(),
        auth_time: session.auth_time.timestamp(),
        amr: session.amr.clone(),
        acr: ACR_SINGLE.to_owned(),
    };
    let access_token = Secret::new(claims.sign(work.keys()).map_err(|_| SignInError::Unsigned)?);
    let expires_in = (expires_at - ctx.now).num_seconds();
    Ok(SignedIn { session, access_token, expires_in, refresh_token, scope })
}

/// Ends the session of a token, whichever kind it is. A token that is no good has no session to end.
#[tracing::instrument(name = "authn.logout", skip_all, err(level = "debug"))]
pub(super) async fn logout(work: &Work, ctx: &Ctx, token: &str) -> Result<(), WorkError> {
    let session = match Token::parse(token) {
        Some(token) if token.kind() == TokenKind::Refresh => {
            sessions::by_refresh_token(work, &token).await?.map(|session| (session.identity, session.id))
        }
        Some(_) => None,
        None => {
            let claims = AccessClaims::verify_whenever(token, work.keys(), &work.config().http.issuer());
            claims.ok().map(|claims| (claims.sub, claims.sid))
        }
    };
    let Some((identity, session)) = session else { return Ok(()) };
    let owner = ctx.acting_as(Actor::Person { identity, session });
    sessions::end_session(work, &owner, session, "logout").await
}
