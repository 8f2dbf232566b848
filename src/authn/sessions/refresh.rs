//! Turning a refresh token over, in one transaction.
//!
//! The rules, after RFC 9700 §4.14 and what OAuth servers learned from lost answers: a live token is used once. A used
//! one may be used again within a short grace, as long as its successor was not: the answer was lost, so the successor
//! dies and another takes its place. Anything else is a second holder, and ends the family.
use super::{
    model::Session,
    store::{self, RefreshRow},
};
use crate::{
    kernel::{Ctx, RefreshId, Token, TokenKind, named},
    work::{Upkeep, UpkeepTx, Work, WorkError},
};
use chrono::{DateTime, TimeDelta, Utc};

/// How often the same lost answer is believed.
const REISSUES_MAX: i32 = 3;

/// What became of it.
#[derive(Debug)]
pub(in crate::authn) enum Refreshed {
    /// A new token, and the session it is for.
    Turned { session: Session, token: Token },
    /// No token of ours, or of a session that is over, or whose person may no longer sign in.
    Refused,
    /// A second holder: the family's refresh tokens are dead, the session is for the caller to end.
    Reused { session: Session },
}

/// Uses a refresh token. `may_go_on` is asked whether the session's person may still sign in.
pub(in crate::authn) async fn turn_over(
    work: &Work,
    ctx: &Ctx,
    token: &Token,
    client_id: Option<&str>,
    may_go_on: impl Fn(&Session) -> bool,
) -> Result<Refreshed, WorkError> {
    let rules = Rules {
        grace: TimeDelta::seconds(work.config().authentication.refresh_grace_seconds.into()),
        idle: TimeDelta::hours(work.config().authentication.session_idle_hours.into()),
    };
    work.upkeep(Upkeep::Refresh, async |tx| {
        let Some((row, session)) = store::lock_refresh(tx, &token.kid()).await? else {
            return Ok(Refreshed::Refused);
        };
        let known = tx.keys().matches(token.expose(), &row.hmac, row.pepper_version);
        let same_client = client_id.is_none_or(|client| client == session.client_id);
        if !known || !session.is_open(ctx.now) || !may_go_on(&session) {
            return Ok(Refreshed::Refused);
        }
        let next = match judge(tx, &row, &rules, ctx.now, same_client).await? {
            Judgement::Next { reissues } => reissues,
            Judgement::Refuse => return Ok(Refreshed::Refused),
            // Ending the session revokes the family, on the record; until that is done the token stays used.
            Judgement::Reuse => return Ok(Refreshed::Reused { session }),
        };
        let successor: RefreshId = ctx.mint::<named::Refresh>();
        let token = Token::mint(TokenKind::Refresh, ctx.entropy());
        let hashed = tx.keys().fingerprint(token.expose());
        let times = (ctx.now, session.absolute_expires_at.min(ctx.now + rules.idle));
        // The first use counts: a repeated one does not lengthen the grace.
        let consumed = (row.consumed_at.unwrap_or(ctx.now), next);
        store::consume(tx, row.token_id, successor, consumed).await?;
        store::insert_refresh(tx.conn(), successor, session.id, row.generation + 1, &token, hashed, times)
            .await?;
        Ok(Refreshed::Turned { session, token })
    })
    .await
}

struct Rules {
    grace: TimeDelta,
    idle: TimeDelta,
}

enum Judgement {
    Next { reissues: i32 },
    Refuse,
    Reuse,
}

async fn judge(
    tx: &mut UpkeepTx<'_>,
    row: &RefreshRow,
    rules: &Rules,
    now: DateTime<Utc>,
    same_client: bool,
) -> Result<Judgement, WorkError> {
    let in_grace = row.consumed_at.is_some_and(|at| now - at < rules.grace);
    match row.state.as_str() {
        "active" if row.expires_at <= now => Ok(Judgement::Refuse),
        "active" if !same_client => Ok(Judgement::Reuse),
        "active" => Ok(Judgement::Next { reissues: 0 }),
        "consumed" if in_grace && same_client => {
            let Some(successor) = row.successor_id else { return Ok(Judgement::Reuse) };
            if store::state_of(tx, successor).await?.as_deref() != Some("active") {
                return Ok(Judgement::Reuse);
            }
            // Many at once are one impatient client: the last answer's token is the live one.
            if row.reissues >= REISSUES_MAX {
                return Ok(Judgement::Refuse);
            }
            store::revoke_refresh(tx, successor).await?;
            Ok(Judgement::Next { reissues: row.reissues + 1 })
        }
        // Replaced because its answer seemed lost. It arrived after all, at the same client or at another: nobody can
        // tell, so it opens nothing, and the live one goes on.
        "revoked" => Ok(Judgement::Refuse),
        _ => Ok(Judgement::Reuse),
    }
}
