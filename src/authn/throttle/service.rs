//! Waiting and unlocking.
use super::{
    error::Throttled,
    model::{ACCOUNT, NETWORK},
    store,
};
use crate::{
    authorization::{Action, Target},
    identity,
    kernel::{Ctx, EmailAddress, OrgId, UserId},
    ledger::network,
    platform::{
        cache::{Rate, Taken},
        keys::Keys,
    },
    work::{Audited, Tx, Upkeep, UpkeepTx, Work, WorkError},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::json;

/// Who is guessing, as digests.
pub(in crate::authn) struct Subjects {
    account: [u8; 32],
    network: Option<[u8; 32]>,
}

impl Subjects {
    /// The account that is tried, and where from.
    pub(in crate::authn) fn of(keys: &Keys, ctx: &Ctx, email: &str) -> Self {
        let network = ctx.source.address.map(|address| digest(keys, "network", &network(address)));
        Self { account: digest(keys, "account", email), network }
    }
}

fn digest(keys: &Keys, kind: &str, text: &str) -> [u8; 32] {
    keys.fingerprint(&format!("{kind}\0{text}")).0
}

/// May this be tried now? A network's bucket is asked first: it costs no query, and holds back floods. What counts
/// wrong secrets is in PostgreSQL, so that guessing stays slow whatever becomes of the buckets.
pub(in crate::authn) async fn check(
    work: &Work,
    ctx: &Ctx,
    subjects: &Subjects,
) -> Result<Option<Throttled>, WorkError> {
    if let Some(network) = &subjects.network {
        let settings = &work.config().authentication.network;
        let rate = Rate::per_minute(settings.attempts_burst, settings.attempts_per_minute);
        let bucket = format!("sign-in:{}", URL_SAFE_NO_PAD.encode(network));
        if let Taken::Refused(wait) = work.cache().take(&bucket, rate).await {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            return Ok(Some(Throttled::Network { retry_after_seconds: whole_seconds(millis) }));
        }
    }
    let all: Vec<[u8; 32]> = [Some(subjects.account), subjects.network].into_iter().flatten().collect();
    let look =
        async |tx: &mut UpkeepTx<'_>| Ok::<_, WorkError>(store::blocked_until(tx, &all, ctx.now).await?);
    let until = work.upkeep(Upkeep::Throttle, look).await?;
    Ok(until.map(|until| {
        let millis = u64::try_from((until - ctx.now).num_milliseconds()).unwrap_or_default();
        Throttled::Failures { retry_after_seconds: whole_seconds(millis) }
    }))
}

/// Rounded up: whoever waits that long is let in.
fn whole_seconds(millis: u64) -> u64 {
    millis.div_ceil(1000).max(1)
}

/// A secret was wrong.
pub(in crate::authn) async fn failed(work: &Work, ctx: &Ctx, subjects: &Subjects) -> Result<(), WorkError> {
    work.upkeep(Upkeep::Throttle, async |tx| {
        store::count(tx, &subjects.account, &ACCOUNT, ctx.now).await?;
        if let Some(network) = &subjects.network {
            store::count(tx, network, &NETWORK, ctx.now).await?;
        }
        Ok(())
    })
    .await
}

/// Forgets an account's failures: whoever is in knew the secret. `false`: there were none.
pub async fn clear(tx: &mut Tx<'_>, email: &EmailAddress) -> Result<bool, WorkError> {
    let subject = digest(tx.keys(), "account", email.as_str());
    Ok(store::forget(tx, &subject).await? > 0)
}

/// Lets a member try again at once.
#[tracing::instrument(name = "authn.unlock_user", skip_all, fields(org.id = %org, user.id = %user), err(level = "debug"))]
pub(super) async fn unlock_user(
    work: &Work,
    ctx: &Ctx,
    org: OrgId,
    user: UserId,
) -> Result<(), identity::UserError> {
    let permit = work.permit(ctx, Action::UsersUnlock, Target::User(org, user)).await?;
    work.write(ctx, permit, async |tx| {
        // Of an address that nobody has accepted this org knows nothing, and has nothing to say about it.
        let email = identity::email_of_member(tx, user).await?.ok_or(identity::UserError::NotFound)?;
        let unlocked = clear(tx, &email).await?;
        let event = tx.event(user).detail(json!({ "unlocked": unlocked }));
        Ok(Audited::new((), event))
    })
    .await
}
