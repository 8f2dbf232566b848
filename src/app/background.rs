//! What runs beside requests. Any number of processes may run it: jobs are claimed, the rest is under leases.
use super::App;
use crate::{
    audit, authn, authorization,
    credentials::api_keys,
    flows, identity,
    jobs::{self, Claimed, Handler, Lease},
    kernel::Ctx,
    platform::{
        tasks::{Stop, Tasks},
        telemetry::chain,
    },
    work::{self, Upkeep, UpkeepTx, Work, WorkError},
};
use std::{collections::HashMap, sync::Arc, time::Duration};

const USAGE_EVERY: Duration = Duration::from_secs(10);
const TELL_EVERY: Duration = Duration::from_secs(10);
const SWEEP_EVERY: Duration = Duration::from_mins(1);
const SWEEP_LEASE_SECONDS: i32 = 120;
const SWEEP_MAX: i64 = 1000;
/// Sweeps in one round, while there is more.
const SWEEPS_MAX: u32 = 60;

/// Every kind of job.
pub fn jobs(app: &App) -> HashMap<&'static str, Handler> {
    let (work, mailer) = (Arc::clone(&app.work), Arc::clone(&app.mailer));
    let send_invite: Handler = Arc::new(move |ctx: Ctx, claimed: Claimed| {
        let (work, mailer) = (Arc::clone(&work), Arc::clone(&mailer));
        Box::pin(async move { identity::send_invite(&work, &mailer, ctx, claimed).await })
    });
    HashMap::from([(identity::SEND_INVITE, send_invite)])
}

/// Starts the tail, and the rest where this process is to do it.
pub fn spawn(app: &App, tasks: &Tasks, background: bool) {
    let (state, database, health) = (app.work.state_handle(), app.database.clone(), app.health.clone());
    let (keys, cache, stale_max) =
        (app.work.keys_handle(), app.work.cache().clone(), app.config.authorization.stale_max());
    tasks.spawn("tail", move |stop| {
        authorization::follow(state, keys, database, cache, health, stale_max, stop)
    });
    if let Some(vault) = app.work.keys().vault().cloned() {
        let health = app.health.clone();
        tasks.spawn("vault", move |stop| vault.watch(health, stop));
    }
    let usage = app.clone();
    tasks.spawn("usage", move |stop| flush_usage(usage, stop));
    let teller = Arc::clone(&app.work);
    tasks.spawn("refusals", move |stop| tell_counted(teller, stop));
    let decisions = Arc::clone(&app.decisions);
    tasks.spawn("decisions", move |stop| async move { decisions.run(stop).await });
    if !background {
        return;
    }
    let (work, owner, metrics) = (Arc::clone(&app.work), app.owner.clone(), app.metrics.clone());
    let lag = audit::Lag::default();
    lag.register(&metrics);
    tasks.spawn("sequencer", move |stop| audit::run_sequencer(work, owner, lag, stop));
    if let Some(relay) = app.relay() {
        let (health, metrics) = (app.health.clone(), app.metrics.clone());
        tasks.spawn("relay", move |stop| relay.run(health, metrics, stop));
    }
    let runner = app.runner();
    tasks.spawn("jobs", move |stop| runner.run(stop));
    let sweeper = app.clone();
    tasks.spawn("sweeper", move |stop| sweep_on(sweeper, stop));
}

async fn flush_usage(app: App, mut stop: Stop) {
    loop {
        let go_on = stop.sleep(USAGE_EVERY).await;
        if let Err(error) = api_keys::flush_usage(&app.work, &app.access.usage).await {
            tracing::warn!(error = chain(&error), "the last use of keys could not be written down");
        }
        if !go_on {
            return;
        }
    }
}

/// Every process counts its own refusals, whether or not it does the work of the background.
async fn tell_counted(work: Arc<Work>, mut stop: Stop) {
    loop {
        let go_on = stop.sleep(TELL_EVERY).await;
        if let Err(error) = work.tell_counted().await {
            tracing::warn!(error = chain(&error), "counted refusals could not be told; they are kept");
        }
        if !go_on {
            return;
        }
    }
}

async fn sweep_on(app: App, mut stop: Stop) {
    while stop.sleep(SWEEP_EVERY).await {
        for _ in 0..SWEEPS_MAX {
            match sweep(&app.work, &app.owner).await {
                Ok(0) => break,
                Ok(_) => (),
                Err(error) => {
                    tracing::warn!(error = chain(&error), "sweeping failed; the next round tries again");
                    break;
                }
            }
        }
    }
}

/// One round, if the lease is ours, and for as long as it is. Answers how much it took away.
pub async fn sweep(work: &Work, owner: &str) -> Result<usize, WorkError> {
    let take = async |tx: &mut UpkeepTx<'_>| {
        Ok::<_, WorkError>(jobs::take(tx, "sweeper", owner, SWEEP_LEASE_SECONDS).await?)
    };
    let Some(lease) = work.upkeep(Upkeep::Lease, take).await? else { return Ok(0) };
    match sweep_under(work, &lease).await {
        Err(WorkError::Superseded) => {
            tracing::info!("another process sweeps now");
            Ok(0)
        }
        swept => swept,
    }
}

async fn sweep_under(work: &Work, lease: &Lease) -> Result<usize, WorkError> {
    let now = work.clock().now();
    let swept = work.upkeep(Upkeep::Sweep, async |tx| {
        lease.confirm(tx.conn()).await?;
        let answers = work::sweep_idempotency(tx, now, SWEEP_MAX).await?;
        let tokens = authn::purge_expired(tx, now).await?;
        let given_up = jobs::sweep(tx, SWEEP_MAX).await?;
        Ok::<_, WorkError>(answers + tokens + given_up + authn::purge_old_throttle(tx, now).await?)
    });
    let swept = swept.await?;
    let forgotten = work.upkeep(Upkeep::ForgetFacts, async |tx| {
        lease.confirm(tx.conn()).await?;
        Ok::<_, WorkError>(authorization::forget(tx.conn(), now, SWEEP_MAX).await?)
    });
    Ok(swept
        + forgotten.await?
        + authn::purge_sessions(work, lease).await?
        + flows::purge(work, lease).await?)
}
