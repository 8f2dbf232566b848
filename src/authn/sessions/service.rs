//! Use cases on sessions.
use super::{model::Session, store};
use crate::{
    authorization::{Action, Fact, SessionFact, Target},
    identity::UserError,
    jobs::Lease,
    kernel::{Actor, Ctx, IdentityId, OrgId, Page, SessionId, Token, UserId, Workload},
    work::{Audited, Tx, Upkeep, UpkeepTx, Work, WorkError},
};
use chrono::TimeDelta;
use serde_json::json;

/// `authentication.access_token_minutes` is at most that.
const ACCESS_TOKEN_LIFETIME_MAX: TimeDelta = TimeDelta::hours(1);

/// How long a session is kept past its longest end, for whoever looks into what went on.
const RETENTION: TimeDelta = TimeDelta::days(30);

/// Takes away sessions that ended long ago, under the sweeper's lease. Answers how many; there may be more.
#[tracing::instrument(name = "authn.purge_sessions", skip_all, err(level = "debug"))]
pub async fn purge_sessions(work: &Work, lease: &Lease) -> Result<usize, WorkError> {
    let ctx = work.ctx(Actor::Workload(Workload::Jobs));
    let before = ctx.now - RETENTION;
    let permit = work.permit(&ctx, Action::PlatformManage, Target::Platform).await?;
    if !work.read::<_, WorkError>(&ctx, permit, async |tx| Ok(store::any_over(tx, before).await?)).await? {
        return Ok(0);
    }
    let permit = work.permit(&ctx, Action::PlatformManage, Target::Platform).await?;
    work.write(&ctx, permit, async |tx| {
        lease.confirm(tx.conn()).await?;
        let gone = store::purge_over(tx, before).await?;
        let event = tx.event("sessions").detail(json!({ "purged": gone }));
        Ok(Audited::new(gone, event))
    })
    .await
}

/// The caller's own open sessions.
#[tracing::instrument(name = "authn.list_sessions", skip_all, err(level = "debug"))]
pub(super) async fn list_sessions(work: &Work, ctx: &Ctx, page: Page) -> Result<Vec<Session>, WorkError> {
    let Actor::Person { identity, .. } = ctx.actor else { return Ok(vec![]) };
    let permit = work.permit(ctx, Action::SelfManage, Target::Account).await?;
    work.read(ctx, permit, async |tx| Ok(store::list(tx, identity, ctx.now, page).await?)).await
}

/// Ends one of the caller's own sessions. One that is over, or another's, is simply not open: nothing happens, so that
/// a dead token cannot grow the log.
#[tracing::instrument(name = "authn.end_session", skip_all, fields(session.id = %session), err(level = "debug"))]
pub(crate) async fn end_session(
    work: &Work,
    ctx: &Ctx,
    session: SessionId,
    reason: &'static str,
) -> Result<(), WorkError> {
    let Actor::Person { identity, session: own } = ctx.actor else { return Ok(()) };
    if session == own && work.state().is_session_over(session) {
        return Ok(());
    }
    let ended = async {
        let permit = work.permit(ctx, Action::SelfManage, Target::Account).await?;
        work.write(ctx, permit, async |tx| {
            let ended = store::end(tx, identity, Some(session), None, None, reason).await?;
            let Some(first) = ended.first() else { return Err(EndError::NotOpen) };
            let event = match first.org {
                Some(org) => tx.event_on(org, session),
                None => tx.event(session),
            };
            tell(tx, &ended);
            Ok(Audited::new((), event.detail(json!({ "session": "ended", "reason": reason }))))
        })
        .await
    };
    match ended.await {
        Ok(()) => work.metrics().sessions_revoked(1),
        Err(EndError::NotOpen) => (),
        // It ended itself, or was ended, while this waited.
        Err(EndError::Work(WorkError::Denied(_))) if work.state().is_session_over(own) && session == own => {}
        Err(EndError::Work(error)) => return Err(error),
    }
    Ok(())
}

/// Why a session was not ended.
#[derive(Debug, thiserror::Error)]
enum EndError {
    #[error("the session is not open")]
    NotOpen,
    #[error(transparent)]
    Work(#[from] WorkError),
}

impl From<diesel::result::Error> for EndError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Work(error.into())
    }
}

/// Ends a person's sessions in another use case's write. Answers how many.
pub(in crate::authn) async fn end_all(
    tx: &mut Tx<'_>,
    identity: IdentityId,
    except: Option<SessionId>,
    reason: &str,
) -> Result<usize, WorkError> {
    let ended = store::end(tx, identity, None, except, None, reason).await?;
    tell(tx, &ended);
    Ok(ended.len())
}

/// Ends all sessions of a member that are for this org.
#[tracing::instrument(name = "authn.revoke_user_sessions", skip_all, fields(org.id = %org, user.id = %user), err(level = "debug"))]
pub(super) async fn revoke_user_sessions(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    user: UserId,
) -> Result<(), UserError> {
    let permit = work.permit(ctx, Action::SessionsRevoke, Target::User(org, user)).await?;
    let identity = work.state().user(user).and_then(|fact| fact.identity);
    let ended = work.write(ctx, permit, async |tx| {
        let ended = match identity {
            Some(identity) => store::end(tx, identity, None, None, Some(org), "revoked_by_admin").await?,
            None => vec![],
        };
        tell(tx, &ended);
        let event = tx.event(user).detail(json!({ "sessionsEnded": ended.len() }));
        Ok::<_, WorkError>(Audited::new(ended.len(), event))
    });
    work.metrics().sessions_revoked(ended.await?);
    Ok(())
}

/// Makes the end known. The fact may be forgotten once no access token can be left.
fn tell(tx: &mut Tx<'_>, ended: &[Session]) {
    for session in ended {
        let until = session.absolute_expires_at.min(tx.ctx().now + ACCESS_TOKEN_LIFETIME_MAX);
        let (identity, until_s) = (session.identity, until.timestamp());
        tx.fact(Fact::Session(SessionFact { session: session.id, identity, until_s }));
    }
}

/// The session that a refresh token is of, in whatever state both are.
pub(in crate::authn) async fn by_refresh_token(
    work: &Work,
    token: &Token,
) -> Result<Option<Session>, WorkError> {
    let find =
        async |tx: &mut UpkeepTx<'_>| Ok::<_, WorkError>(store::find_by_refresh(tx, &token.kid()).await?);
    let found = work.upkeep(Upkeep::Refresh, find).await?;
    let matching = found.filter(|(hmac, version, _)| work.keys().matches(token.expose(), hmac, *version));
    Ok(matching.map(|(_, _, session)| session))
}

/// The open session that a browser's cookie is of.
pub(in crate::authn) async fn session_by_cookie(
    work: &Work,
    ctx: &Ctx,
    token: &Token,
) -> Result<Option<Session>, WorkError> {
    let permit = work.permit(ctx, Action::SignInUse, Target::Platform).await?;
    let kid = token.kid();
    let found =
        work.read(ctx, permit, async |tx| Ok::<_, WorkError>(store::find_by_cookie(tx, &kid).await?)).await?;
    let open = found.filter(|(hmac, version, session)| {
        work.keys().matches(token.expose(), hmac, *version)
            && session.is_open(ctx.now)
            && work.state().is_session_live(session.identity, session.id, session.auth_time.timestamp())
    });
    Ok(open.map(|(_, _, session)| session))
}
