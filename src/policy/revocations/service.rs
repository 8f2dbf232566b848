use super::error::RevocationsError;
use crate::{
    authorization::{Action, Grants, Permit, Revocations, Target},
    http::{
        auth::{Access, Caller, still_holds},
        streams::{Place, Streams},
    },
    kernel::Ctx,
    work::Work,
};
use actix_web::web;
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Interval, MissedTickBehavior, interval},
};

/// How often a stream says how far it is. By what it says it is found out, too, that nobody reads it any more.
const BEAT: Duration = Duration::from_secs(5);
/// How often it is looked at whether the caller may still hear it.
const LOOK: Duration = Duration::from_secs(1);
/// Changes told at once; those of one transaction stay together.
const AT_ONCE: usize = 256;

/// What changed after the revision `from`; without one nothing, and where to go on from.
#[tracing::instrument(name = "policy.list_revocations", skip_all, err(level = "debug"))]
pub(super) async fn list_revocations(
    work: &Work,
    ctx: &Ctx,
    target: Target,
    from: Option<i64>,
    limit: usize,
) -> Result<Revocations, RevocationsError> {
    let permit = work.permit(ctx, Action::PoliciesEvaluate, target).await?;
    after(work, &permit, from, limit).await
}

async fn after(
    work: &Work,
    permit: &Permit,
    from: Option<i64>,
    limit: usize,
) -> Result<Revocations, RevocationsError> {
    let from = from.unwrap_or_else(|| work.state().applied());
    let found = work.revocations(permit, from, limit).await?;
    found.ok_or_else(|| RevocationsError::Forgotten { from, revision: work.state().applied() })
}

/// The same as it happens, for as long as the caller may hear it.
#[tracing::instrument(name = "policy.follow_revocations", skip_all, err(level = "debug"))]
pub(super) async fn follow_revocations(
    access: web::Data<Access>,
    streams: &Arc<Streams>,
    caller: Caller,
    target: Target,
    from: Option<i64>,
) -> Result<Follower, RevocationsError> {
    let permit = access.work.permit(&caller.0, Action::PoliciesEvaluate, target).await?;
    let place = streams.open(target.org().map(|org| org.uuid())).ok_or(RevocationsError::Full)?;
    let revision = access.work.state().revision();
    let from = from.unwrap_or_else(|| access.work.state().applied());
    // Refused now rather than after the stream has begun.
    after(&access.work, &permit, Some(from), 1).await?;
    let (looks, beats) = (paced(LOOK), paced(BEAT));
    Ok(Follower { access, caller, target, permit, place, revision, from, looked_at: from, looks, beats })
}

fn paced(every: Duration) -> Interval {
    let mut pace = interval(every);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pace
}

/// What a stream says next.
pub(super) enum Said {
    /// Something changed.
    Changed(Revocations),
    /// Nothing else did up to this revision, which PostgreSQL confirmed so long ago.
    Alive { revision: i64, age: Option<Duration> },
}

/// Where one stream is.
pub(super) struct Follower {
    access: web::Data<Access>,
    caller: Caller,
    target: Target,
    permit: Permit,
    place: Place,
    revision: watch::Receiver<i64>,
    /// All up to here was told.
    from: i64,
    /// The revision at which the caller was last known to be permitted.
    looked_at: i64,
    looks: Interval,
    beats: Interval,
}

impl Follower {
    /// Waits for the next thing to say. `None`: the stream ends, and whoever may goes on from where it was on another one.
    pub(super) async fn next(&mut self) -> Option<Said> {
        if !self.place.keep() {
            return None;
        }
        loop {
            let (from, revision) = (self.from, &mut self.revision);
            let moved = async { revision.wait_for(|revision| *revision > from).await.is_ok() };
            tokio::select! {
                biased;
                () = self.place.ended() => return None,
                _ = self.looks.tick() => if !self.may_go_on() { return None },
                _ = self.beats.tick() => {
                    self.looked_at = i64::MIN; // what depends on the time is looked at again
                    return Some(Said::Alive { revision: from, age: self.access.work.state().age() });
                }
                moved = moved => {
                    if !moved {
                        return None;
                    }
                    let told = self.access.work.revocations(&self.permit, from, AT_ONCE).await.ok()??;
                    self.from = told.upto;
                    if !told.entries.is_empty() {
                        return Some(Said::Changed(told));
                    }
                }
            }
        }
    }

    /// Would the credential be taken now, and may its bearer still hear this? A state that is not fresh has nothing new to
    /// tell; it is waited for as long as requests are answered from it.
    fn may_go_on(&mut self) -> bool {
        let (access, work) = (&self.access, &self.access.work);
        if !self.place.keep() || !still_holds(access, &self.caller) {
            return false;
        }
        if work.state().is_stale() {
            return work.state().age().is_some_and(|age| age <= access.stale_max);
        }
        let now = work.state().applied();
        if self.looked_at == now {
            return true;
        }
        self.looked_at = now;
        work.would_permit(
            &work.ctx(self.caller.0.actor),
            Action::PoliciesEvaluate,
            self.target,
            Grants::Nothing,
        )
    }
}
