//! The one use case on operator tokens.
use super::store;
use crate::{
    authorization::{Action, Target},
    kernel::{Ctx, OperatorId, Token, TokenKind},
    work::{Audited, Work, WorkError},
};
use chrono::TimeDelta;
use serde_json::json;

const LIFETIME: TimeDelta = TimeDelta::hours(1);

/// What a token is made for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Purpose {
    /// There is no administrator yet.
    Bootstrap,
    /// There is none any more who can get in.
    Recovery,
}

impl Purpose {
    /// The word in storage and events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bootstrap => "bootstrap",
            Self::Recovery => "recovery",
        }
    }
}

/// Makes a token for the bootstrap calls.
#[tracing::instrument(name = "credentials.issue_operator_token", skip_all, err(level = "debug"))]
pub async fn issue_operator_token(
    work: &Work,
    ctx: &Ctx,
    purpose: Purpose,
) -> Result<(OperatorId, Token), WorkError> {
    let permit = work.permit(ctx, Action::PlatformManage, Target::Platform).await?;
    work.write(ctx, permit, async |tx| {
        let secret = Token::mint(TokenKind::Operator, ctx.entropy());
        let expires_at = ctx.now + LIFETIME;
        let id = store::insert(tx, purpose, &secret, expires_at).await?;
        let detail = json!({ "operatorToken": purpose.as_str(), "expiresAt": expires_at });
        if purpose == Purpose::Recovery {
            tracing::warn!(token.id = %id, "a recovery token was made");
        }
        let event = tx.event(id).detail(detail);
        Ok::<_, WorkError>(Audited::new((id, secret), event))
    })
    .await
}
