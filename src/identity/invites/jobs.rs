//! The job that mails invites.
use super::store;
use crate::{
    authorization::{Action, Target},
    identity::users::{User, store::lock_user},
    jobs::{self, Claimed, JobError},
    kernel::{Ctx, Secret, Token, TokenKind, UserId},
    orgs,
    platform::mail::{Mail, Mailer},
    work::{Audited, Tx, Work, WorkError},
};
use askama::Template;
use chrono::{DateTime, Utc};
use serde::Deserialize;
use serde_json::json;

/// Mints the token of an invite and mails it.
pub const SEND_INVITE: &str = "identity.send_invite";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Payload {
    user_id: UserId,
}

#[derive(Template)]
#[template(path = "identity/templates/invite.txt", config = "config/askama.toml")]
struct Text<'a> {
    org: &'a str,
    link: &'a str,
    page: &'a str,
    token: &'a str,
    expires_at: &'a str,
}

#[derive(Template)]
#[template(path = "identity/templates/invite.html", config = "config/askama.toml")]
struct Html<'a> {
    org: &'a str,
    link: &'a str,
    page: &'a str,
    token: &'a str,
    expires_at: &'a str,
}

/// At least once: a second run mints a new token, and the one mailed before is dead. A run whose claim was overtaken
/// mints none, since the successor's would be dead then.
pub async fn send_invite(work: &Work, mailer: &Mailer, ctx: Ctx, claimed: Claimed) -> Result<(), JobError> {
    let Payload { user_id: user } = serde_json::from_value(claimed.payload.clone())?;
    let org = claimed.org.ok_or("an invite is for an org")?;
    let permit = match work.permit(&ctx, Action::UsersInvite, Target::Org(org)).await {
        Err(WorkError::Denied(_)) => return Ok(()), // the org was purged
        other => other?,
    };
    let token = Token::mint(TokenKind::Invite, ctx.entropy());
    let armed = work.write(&ctx, permit, async |tx| {
        let event = |tx: &Tx<'_>, mailed: bool| {
            tx.event(user).detail(json!({ "mailed": mailed, "job": claimed.job, "by": claimed.enqueued_by }))
        };
        jobs::confirm(tx, &claimed).await?;
        let invited = lock_user(tx, user).await?.filter(User::awaits_person);
        let Some(invited) = invited else { return Ok(Audited::new(None, event(tx, false))) };
        let hashed = tx.keys().fingerprint(token.expose());
        let Some(expires_at) = store::arm_token(tx, user, &token.kid_str(), hashed).await? else {
            return Ok(Audited::new(None, event(tx, false)));
        };
        let org = orgs::name(tx).await?;
        Ok::<_, WorkError>(Audited::new(Some((invited.email, org, expires_at)), event(tx, true)))
    });
    // Accepted, revoked or run out meanwhile: there is nobody to write to.
    let Some((email, org, expires_at)) = armed.await? else { return Ok(()) };
    let mail = compose(work, mailer, &token, &email, &org, expires_at, &claimed)?;
    mailer.send(&mail).await?;
    Ok(())
}

fn compose(
    work: &Work,
    mailer: &Mailer,
    token: &Token,
    email: &str,
    org: &str,
    expires_at: DateTime<Utc>,
    claimed: &Claimed,
) -> Result<Mail, askama::Error> {
    // Behind the '#': what stands there is sent to no server and written in no log.
    let page = format!("{}/invite", work.config().http.issuer());
    let (token, link) = (token.expose(), format!("{page}#{}", token.expose()));
    let expires_at = expires_at.format("%-d %B %Y, %H:%M UTC").to_string();
    let (page, link, expires_at) = (page.as_str(), link.as_str(), expires_at.as_str());
    Ok(Mail {
        to: email.to_owned(),
        subject: format!("Invitation to {org}"),
        text: Secret::new(Text { org, link, page, token, expires_at }.render()?),
        html: Secret::new(Html { org, link, page, token, expires_at }.render()?),
        message_id: format!("{}.{}@{}", claimed.job, claimed.attempts, mailer.domain()),
    })
}
