//! Use cases on keys.
use super::{
    error::KeyError,
    model::{ApiKey, IssuedKey, KeyFilter, KeyPatch, NewKey},
    store,
};
use crate::{
    authorization::{Action, Grants, Holder, Role, Target},
    credentials::operators,
    http::etag::IfMatch,
    identity,
    kernel::{
        Actor, Ctx, KeyId, KeyStatus, Metadata, OrgId, Page, Reason, ServiceAccountStatus, Token, TokenKind,
        UserStatus,
    },
    platform::db::StorageError,
    work::{Audited, Tx, Work, WorkError},
};
use chrono::TimeDelta;
use serde_json::json;

/// How often in a row a key is rotated while those before it still work.
const SUCCESSORS_MAX: usize = 100;

/// Makes a key for a member or a machine. Its scopes must not reach further than the issuer does.
///
/// The key issued under a bootstrap token activates its holder, and ends the token.
#[tracing::instrument(name = "credentials.issue_key", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn issue_key(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    holder: Holder,
    new: NewKey,
) -> Result<IssuedKey, KeyError> {
    let grants = Grants::Key(new.scopes, roles_of(work, holder));
    let permit = work.permit_granting(ctx, Action::KeysIssue, target_of(org, holder), grants).await?;
    issuable(work, holder)?;
    vouched(work)?;
    let secret = Token::mint(kind_of(holder), ctx.entropy());
    let issued = work.write(ctx, permit, async |tx| {
        if let (Actor::Operator { token }, Holder::User(user)) = (ctx.actor, holder) {
            identity::activate(tx, user).await?;
            if !operators::end(tx, token).await? {
                return Err(WorkError::Superseded.into());
            }
        }
        let key = store::insert(tx, holder, &new, &secret, None).await?;
        let event = tx.event(key.id).detail(described(&key));
        Ok::<_, KeyError>(Audited::new(IssuedKey { key, secret }, event))
    });
    let issued = issued.await?;
    work.metrics().key_issued();
    Ok(issued)
}

/// Makes a key that takes over from another; the old one goes on for a while.
#[tracing::instrument(name = "credentials.rotate_key", skip_all, fields(org.id = %org, key.id = %key), err(level = "debug"))]
pub async fn rotate_key(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    key: KeyId,
    overlap: TimeDelta,
    reason: Option<Reason>,
) -> Result<IssuedKey, KeyError> {
    let known = work.state().key(key).ok_or(KeyError::NotFound);
    let grants = match &known {
        Ok(fact) => Grants::Key(fact.scopes, roles_of(work, fact.holder)),
        Err(_) => Grants::Nothing,
    };
    let permit = work.permit_granting(ctx, Action::KeysRotate, Target::Key(org, key), grants).await?;
    let known = known?;
    let holder = known.holder;
    issuable(work, holder)?;
    vouched(work)?;
    let secret = Token::mint(kind_of(holder), ctx.entropy());
    let issued = work.write(ctx, permit, async |tx| {
        let mut old = store::lock(tx, key).await?.ok_or(KeyError::NotFound)?;
        let status = old.shown_status(ctx.now);
        if !matches!(status, "active" | "rotating") {
            return Err(KeyError::WrongStatus(status));
        }
        // The permit was for these scopes.
        if old.scopes != known.scopes {
            return Err(WorkError::Superseded.into());
        }
        let lifetime = lifetime(tx, &old).await?;
        let new = NewKey {
            display_name: old.display_name.clone(),
            scopes: old.scopes,
            expires_at: lifetime.map(|lifetime| ctx.now + lifetime),
            allowed_cidrs: old.allowed_cidrs.clone(),
            rate_limit: old.rate_limit.clone(),
            annotations: Metadata::parse(old.annotations.clone()).unwrap_or_default(),
        };
        let key = store::insert(tx, holder, &new, &secret, Some(old.id)).await?;
        let ends = ctx.now + overlap;
        old.expires_at = Some(old.expires_at.map_or(ends, |at| at.min(ends)));
        old.status = KeyStatus::Rotating;
        let old = store::save(tx, &old, reason.as_ref().map(Reason::as_str)).await?;
        let detail = json!({
            "replacedBy": key.id, "endsAt": old.expires_at, "reason": reason.as_ref().map(Reason::as_str),
        });
        let event = tx.event(old.id).detail(detail);
        let born = tx.event(key.id).detail(described(&key));
        Ok(Audited::new(IssuedKey { key, secret }, event).and(born))
    });
    let issued = issued.await?;
    work.metrics().key_issued();
    Ok(issued)
}

/// Of a key that is rotating the end was cut: its successor, or whoever came after that, has the lifetime that it had.
async fn lifetime(tx: &mut Tx<'_>, key: &ApiKey) -> Result<Option<TimeDelta>, KeyError> {
    let mut last = key.clone();
    for _ in 0..SUCCESSORS_MAX {
        match last.status {
            KeyStatus::Rotating => match store::find_successor(tx, last.id).await? {
                Some(next) => last = next,
                None => break,
            },
            _ => break,
        }
    }
    Ok(last.lifetime())
}

/// Keys of an org.
#[tracing::instrument(name = "credentials.list_keys", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn list_keys(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    filter: KeyFilter,
    page: Page,
) -> Result<Vec<ApiKey>, KeyError> {
    let permit = work.permit(ctx, Action::KeysRead, Target::Org(org)).await?;
    work.read(ctx, permit, async |tx| Ok(store::list(tx, &filter, page).await?)).await
}

/// Keys of one holder.
#[tracing::instrument(name = "credentials.list_keys_of", skip_all, fields(org.id = %org), err(level = "debug"))]
pub async fn list_keys_of(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    holder: Holder,
    page: Page,
) -> Result<Vec<ApiKey>, KeyError> {
    let permit = work.permit(ctx, Action::KeysRead, target_of(org, holder)).await?;
    let filter = KeyFilter { holder: Some(holder), status: None };
    work.read(ctx, permit, async |tx| Ok(store::list(tx, &filter, page).await?)).await
}

/// One key.
#[tracing::instrument(name = "credentials.get_key", skip_all, fields(org.id = %org, key.id = %key), err(level = "debug"))]
pub async fn get_key(work: &Work, ctx: &Ctx, org: OrgId, key: KeyId) -> Result<ApiKey, KeyError> {
    let permit = work.permit(ctx, Action::KeysRead, Target::Key(org, key)).await?;
    work.read(ctx, permit, async |tx| store::find(tx, key).await?.ok_or(KeyError::NotFound)).await
}

/// Changes what is sent. Who may issue a key for its holder may change it, within the same bounds.
#[tracing::instrument(name = "credentials.update_key", skip_all, fields(org.id = %org, key.id = %key), err(level = "debug"))]
pub async fn update_key(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    key: KeyId,
    patch: KeyPatch,
    if_match: IfMatch,
) -> Result<ApiKey, KeyError> {
    let Some(known) = work.state().key(key).filter(|known| known.org == org) else {
        // Refused on the record, whether it is another org's or nobody's.
        drop(work.permit(ctx, Action::KeysRead, Target::Key(org, key)).await?);
        return Err(KeyError::NotFound);
    };
    // What is not changed is given anew all the same: with a later end, or from more networks.
    let scopes = patch.scopes.unwrap_or(known.scopes);
    let grants = Grants::Key(scopes, roles_of(work, known.holder));
    let permit = work.permit_granting(ctx, Action::KeysIssue, target_of(org, known.holder), grants).await?;
    work.write(ctx, permit, async |tx| {
        let mut key = lock(tx, key, &if_match).await?;
        if key.status == KeyStatus::Revoked {
            return Err(KeyError::WrongStatus(key.status.as_str()));
        }
        if patch.scopes.is_none() && key.scopes != known.scopes {
            return Err(WorkError::Superseded.into());
        }
        let event = tx.event(key.id).detail(json!({ "changed": patch.changed() }));
        key.display_name = patch.display_name.unwrap_or(key.display_name);
        key.scopes = patch.scopes.unwrap_or(key.scopes);
        key.expires_at = patch.expires_at.or(key.expires_at);
        key.allowed_cidrs = patch.allowed_cidrs.unwrap_or(key.allowed_cidrs);
        key.rate_limit = patch.rate_limit.or(key.rate_limit);
        key.annotations = patch.annotations.map_or(key.annotations, Metadata::into_value);
        Ok(Audited::new(store::save(tx, &key, None).await?, event))
    })
    .await
}

/// Kills a key for good. Doing it again changes nothing.
#[tracing::instrument(name = "credentials.revoke_key", skip_all, fields(org.id = %org, key.id = %key), err(level = "debug"))]
pub async fn revoke_key(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    key: KeyId,
    reason: Option<Reason>,
    if_match: IfMatch,
) -> Result<(), KeyError> {
    let permit = work.permit(ctx, Action::KeysRevoke, Target::Key(org, key)).await?;
    let reason = reason.as_ref().map(Reason::as_str);
    let done = work.write(ctx, permit, async |tx| {
        let mut key = store::lock(tx, key).await?.ok_or(KeyError::NotFound)?;
        if key.status == KeyStatus::Revoked {
            let event = tx.event(key.id).detail(json!({ "again": true }));
            return Ok(Audited::new(false, event));
        }
        if !if_match.matches(key.version) {
            return Err(KeyError::VersionMismatch);
        }
        key.status = KeyStatus::Revoked;
        store::save(tx, &key, reason).await?;
        let event = tx.event(key.id).detail(json!({ "reason": reason }));
        Ok(Audited::new(true, event))
    });
    if done.await? {
        work.metrics().key_revoked();
    }
    Ok(())
}

async fn lock(tx: &mut Tx<'_>, key: KeyId, if_match: &IfMatch) -> Result<ApiKey, KeyError> {
    let key = store::lock(tx, key).await?.ok_or(KeyError::NotFound)?;
    if if_match.matches(key.version) { Ok(key) } else { Err(KeyError::VersionMismatch) }
}

fn described(key: &ApiKey) -> serde_json::Value {
    let scopes: Vec<&str> = key.scopes.names().collect();
    json!({
        "fingerprint": key.fingerprint, "scopes": scopes, "expiresAt": key.expires_at, "replaces": key.replaces,
        "holder": key.holder,
    })
}

fn kind_of(holder: Holder) -> TokenKind {
    match holder {
        Holder::User(_) => TokenKind::UserKey,
        Holder::ServiceAccount(_) => TokenKind::ServiceAccountKey,
    }
}

fn target_of(org: OrgId, holder: Holder) -> Target {
    match holder {
        Holder::User(user) => Target::User(org, user),
        Holder::ServiceAccount(account) => Target::ServiceAccount(org, account),
    }
}

fn roles_of(work: &Work, holder: Holder) -> Vec<Role> {
    match holder {
        Holder::User(user) => work.state().user(user).map(|fact| fact.roles).unwrap_or_default(),
        Holder::ServiceAccount(account) => {
            work.state().service_account(account).map(|fact| fact.roles).unwrap_or_default()
        }
    }
}

/// A key outlives this process, so Vault has a say: whoever takes our login there away stops us from making more.
fn vouched(work: &Work) -> Result<(), KeyError> {
    Ok(work.keys().vouched().map_err(|error| WorkError::from(StorageError::from(error)))?)
}

/// Who is gone or stopped gets no key. An invited member may have one: it works once he is active.
fn issuable(work: &Work, holder: Holder) -> Result<(), KeyError> {
    let refused = match holder {
        Holder::User(user) => {
            work.state().user(user).map(|fact| fact.status).and_then(|status| match status {
                UserStatus::Active | UserStatus::Invited => None,
                UserStatus::Suspended | UserStatus::Deleted => Some(status.as_str()),
            })
        }
        Holder::ServiceAccount(account) => {
            let status = work.state().service_account(account).map(|fact| fact.status);
            status.filter(|status| *status != ServiceAccountStatus::Active).map(ServiceAccountStatus::as_str)
        }
    };
    refused.map_or(Ok(()), |status| Err(KeyError::HolderNotActive(status)))
}
