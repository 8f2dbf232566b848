//! Waiting and unlocking.
use super::{
    error::Throttled,
    model::{Known, TURN},
    store,
};
use crate::{
    authorization::{Action, Target},
    identity,
    kernel::{Ctx, EmailAddress, OrgId, PLATFORM, UserId},
    ledger::{Pattern, Refused, network},
    platform::{hasher::Queue, keys::Keys},
    work::{Audited, Tx, Upkeep, Work, WorkError},
};
use chrono::TimeDelta;
use serde_json::json;

/// Who is guessing, as digests.
pub(in crate::authn) struct Subjects {
    account: [u8; 32],
    network: [u8; 32],
    /// An address that cannot be told is nobody's network: it is not counted for all others of this kind.
    is_network_known: bool,
}

impl Subjects {
    /// The account that is tried, and where from.
    pub(in crate::authn) fn of(keys: &Keys, ctx: &Ctx, email: &str) -> Self {
        let network = ctx.source.address.map(network);
        Self {
            account: digest(keys, "account", email),
            is_network_known: network.is_some(),
            network: digest(keys, "network", network.as_deref().unwrap_or("unknown")),
        }
    }
}

fn digest(keys: &Keys, kind: &str, text: &str) -> [u8; 32] {
    keys.fingerprint(&format!("{kind}\0{text}")).0
}

/// May this be tried now? Then, where in the queue. What was tried from here has to be waited for; what others tried
/// elsewhere only makes those wait who come from where nobody got in lately: they take turns.
pub(in crate::authn) async fn check(
    work: &Work,
    ctx: &Ctx,
    subjects: &Subjects,
) -> Result<Result<Queue, Throttled>, WorkError> {
    let Subjects { account, network, is_network_known } = subjects;
    work.upkeep(Upkeep::Throttle, async |tx| {
        let known: Known = store::find(tx, account, network, ctx.now).await?;
        if let Some(wait) = known.wait(ctx.now) {
            return Ok(Err(Throttled::Failures(whole_seconds(wait))));
        }
        if *is_network_known && known.is_familiar(ctx.now) {
            return Ok(Ok(Queue::Whole));
        }
        if !known.is_attacked(ctx.now) {
            return Ok(Ok(Queue::Half));
        }
        if let Some(left) = known.turns_come_in(ctx.now).or_else(|| known.turn_ends_in(ctx.now)) {
            return Ok(Err(Throttled::Attacked(whole_seconds(left))));
        }
        let is_taken = store::take_turn(tx, account, ctx.now).await?;
        Ok(if is_taken { Ok(Queue::Half) } else { Err(Throttled::Attacked(whole_seconds(TURN))) })
    })
    .await
}

/// Rounded up: whoever waits that long is let in.
fn whole_seconds(wait: TimeDelta) -> u64 {
    u64::try_from(wait.num_milliseconds()).unwrap_or_default().div_ceil(1000).max(1)
}

/// A secret was wrong: it is counted, told, and looked at together with others.
pub(in crate::authn) async fn failed(
    work: &Work,
    ctx: &Ctx,
    subjects: &Subjects,
    refused: Refused,
) -> Result<(), WorkError> {
    let Subjects { account, network, is_network_known } = subjects;
    work.upkeep(Upkeep::Throttle, async |tx| {
        store::count_account(tx, account, ctx.now).await?;
        if *is_network_known {
            store::count_network(tx, network, ctx.now).await?;
        }
        store::count_here(tx, account, network, ctx.now).await.map_err(WorkError::from)
    })
    .await?;
    let attacks = attacks(work, subjects, &refused);
    work.refuse(ctx, refused).await?;
    for attack in attacks {
        work.refuse(ctx, attack).await?;
    }
    Ok(())
}

/// What this failure makes an attack, as the audit log tells it. Nothing else comes of it: a victim is not locked out.
fn attacks(work: &Work, subjects: &Subjects, refused: &Refused) -> Vec<Refused> {
    let (account, network) = (short(&subjects.account), short(&subjects.network));
    let is_known = refused.target != "unknown";
    let one_network = if is_known { Pattern::Stuffing } else { Pattern::Enumeration };
    let seen = [
        (one_network, network, account, PLATFORM, "many".to_owned()),
        (Pattern::Account, account, network, refused.chain, refused.target.clone()),
        (
            Pattern::Org,
            short(&refused.chain.uuid().into_bytes()),
            network,
            refused.chain,
            refused.chain.to_string(),
        ),
    ];
    let of_org = refused.chain != PLATFORM;
    seen.into_iter()
        .filter(|(pattern, ..)| *pattern != Pattern::Org || of_org)
        .filter(|(pattern, one, other, ..)| work.is_many(*pattern, *one, *other))
        .map(|(pattern, _, _, chain, target)| {
            work.metrics().attack(pattern.as_str());
            let of_account = pattern == Pattern::Account;
            let pii = if of_account { refused.pii.clone() } else { vec![] };
            let detail = json!({ "method": "password", "seen": pattern.threshold() });
            Refused { chain, target, code: pattern.code().to_owned(), pii, detail, ..refused.clone() }
        })
        .collect()
}

/// The end of a digest, or of an id, which is random there.
fn short(bytes: &[u8]) -> u64 {
    bytes.iter().rev().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Forgets the failures of an account from here, and remembers that its owner was: whoever is in knew the secret.
pub(in crate::authn) async fn succeeded(tx: &mut Tx<'_>, email: &EmailAddress) -> Result<(), WorkError> {
    let (subjects, now) = (Subjects::of(tx.keys(), tx.ctx(), email.as_str()), tx.ctx().now);
    Ok(store::succeeded(tx, &subjects.account, &subjects.network, now).await?)
}

/// Forgets an account's failures, wherever they came from. `false`: there were none.
pub async fn clear(tx: &mut Tx<'_>, email: &EmailAddress) -> Result<bool, WorkError> {
    let account = digest(tx.keys(), "account", email.as_str());
    Ok(store::forget(tx, &account).await? > 0)
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
