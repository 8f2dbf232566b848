//! Use cases on passwords.
use super::{
    error::PasswordError,
    model::{NewPassword, normalize},
    store,
};
use crate::{
    authn::{sessions, throttle},
    authorization::{Action, Target},
    identity,
    kernel::{Actor, Ctx, EmailAddress, IdentityId, PLATFORM, Secret, SessionId},
    ledger::Refused,
    platform::hasher::{Hasher, PasswordHash, Queue, Verdict},
    work::{Audited, Work, WorkError},
};
use serde_json::json;

/// Hashes a new password, before the write that stores it: it takes a while.
pub async fn hash_password(
    hasher: &Hasher,
    ctx: &Ctx,
    password: NewPassword,
) -> Result<PasswordHash, PasswordError> {
    Ok(hasher.hash(password.into_inner(), ctx.entropy()).await?)
}

/// Is this the person's password? Then the hash that said so. Somebody without one takes as long.
async fn verify_password(
    work: &Work,
    hasher: &Hasher,
    ctx: &Ctx,
    identity: IdentityId,
    password: &Secret<String>,
    queue: Queue,
) -> Result<Option<PasswordHash>, PasswordError> {
    let permit = work.permit(&ctx.acting_as(Actor::Anonymous), Action::SignInUse, Target::Platform).await?;
    let stored = work
        .read(ctx, permit, async |tx| Ok::<_, WorkError>(store::find(tx.conn(), identity).await?))
        .await?;
    let Some(normalized) = normalize(password.expose()) else { return Ok(None) };
    let verdict = hasher.verify(normalized, stored.clone(), queue).await?;
    Ok(stored.filter(|_| verdict != Verdict::Wrong))
}

/// The same where an address can be guessed at: failures count, delay and are told, as at the front door.
pub async fn verify_for(
    work: &Work,
    hasher: &Hasher,
    ctx: &Ctx,
    email: &EmailAddress,
    identity: IdentityId,
    password: &Secret<String>,
) -> Result<Option<PasswordHash>, PasswordError> {
    let subjects = throttle::Subjects::of(work.keys(), ctx, email.as_str());
    let queue = throttle::check(work, ctx, &subjects).await??;
    let right = verify_password(work, hasher, ctx, identity, password, queue).await?;
    if right.is_none() {
        let refusal = Refused {
            chain: PLATFORM,
            action: Action::SignInUse,
            target: identity.to_string(),
            code: "INVALID_CREDENTIALS".to_owned(),
            policy_ids: vec![],
            pii: vec![("email", email.to_string())],
            detail: json!({ "method": "password" }),
        };
        throttle::failed(work, ctx, &subjects, refusal).await?;
    }
    Ok(right)
}

/// Changes the caller's own password. His other sessions end; this one goes on.
#[tracing::instrument(name = "authn.change_password", skip_all, err(level = "debug"))]
pub(super) async fn change_password(
    work: &Work,
    hasher: &Hasher,
    ctx: &Ctx,
    current: Secret<String>,
    new: &str,
) -> Result<(), PasswordError> {
    let Actor::Person { identity, session } = ctx.actor else { return Err(PasswordError::NotAPerson) };
    let permit = work.permit(ctx, Action::SelfManage, Target::Account).await?;
    let person = work.permit(ctx, Action::SelfManage, Target::Account).await?;
    let person =
        work.read(ctx, person, async |tx| identity::find_identity(tx.conn(), identity).await).await?;
    let person = person.ok_or(PasswordError::NotFound)?;
    let verified = verify_for(work, hasher, ctx, &person.email, identity, &current).await?;
    let verified = verified.ok_or(PasswordError::Wrong)?;
    let password = NewPassword::parse(new, person.email.as_str())?;
    let hash = hash_password(hasher, ctx, password).await?;
    let ended = work.write(ctx, permit, async |tx| {
        // Changed by another meanwhile: this one was right before.
        if !store::holds(tx, identity, &verified).await? {
            return Err(PasswordError::Wrong);
        }
        store::upsert(tx, identity, &hash).await?;
        throttle::succeeded(tx, &person.email).await?;
        let ended = sessions::end_all(tx, identity, Some(session), "password_changed").await?;
        let event = tx.event(identity).detail(json!({ "password": "changed", "sessionsEnded": ended }));
        Ok::<_, PasswordError>(Audited::new(ended, event))
    });
    work.metrics().sessions_revoked(ended.await?);
    Ok(())
}

/// For an operator with access to the database: a new password for somebody who cannot get in. All his sessions end.
#[tracing::instrument(name = "authn.reset_password", skip_all, err(level = "debug"))]
pub async fn reset_password(
    work: &Work,
    hasher: &Hasher,
    ctx: &Ctx,
    email: &EmailAddress,
    new: &str,
) -> Result<IdentityId, PasswordError> {
    let password = NewPassword::parse(new, email.as_str())?;
    let permit = work.permit(ctx, Action::PlatformManage, Target::Platform).await?;
    let hash = hash_password(hasher, ctx, password).await?;
    let done = work.write(ctx, permit, async |tx| {
        let person =
            identity::find_identity_by_email(tx.conn(), email).await?.ok_or(PasswordError::NotFound)?;
        store::upsert(tx, person.id, &hash).await?;
        throttle::clear(tx, email).await?;
        let ended = sessions::end_all(tx, person.id, None::<SessionId>, "password_reset").await?;
        identity::touch_epoch(tx, &person).await?;
        let event = tx.event(person.id).detail(json!({ "password": "reset", "sessionsEnded": ended }));
        Ok::<_, PasswordError>(Audited::new((person.id, ended), event))
    });
    let (person, ended) = done.await?;
    work.metrics().sessions_revoked(ended);
    Ok(person)
}
