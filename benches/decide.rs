//! What a decision and a key check cost without HTTP, on the facts of a database: `benches/run` starts it.
//!
//! A loop and a clock: what is measured takes microseconds, and one median is all that is reported of it.
use anyhow::{Context as _, anyhow, ensure};
use identityd::{
    app::{self, Adapters, App},
    authorization::{Action, Grants, Target},
    http::auth::check_key,
    kernel::{Actor, Source},
    platform::{
        config::{self, Flag},
        tasks::Tasks,
    },
    work::Freshness,
};
use std::{
    env,
    time::{Duration, Instant},
};

const BATCHES: usize = 101;
const BATCH: Duration = Duration::from_millis(20);
/// Calls between two looks at the clock.
const CALLS: u32 = 64;
const TASKS_END_MAX: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [url, keys, secret, actor] = arguments.as_slice() else {
        return Err(anyhow!("usage: decide DATABASE_URL KEYS_FILE API_KEY ACTOR"));
    };
    let flags = [
        Flag::new("environment", "development"),
        Flag::new("database.url", url.as_str()),
        Flag::new("keys.file", keys.as_str()),
    ];
    let loaded = config::load(None, &flags).map_err(|mistakes| anyhow!("{mistakes:?}"))?;
    let database = app::database_of(&loaded.config)?;
    let app = App::start(Adapters::of_command(loaded.config, database).await?).await?;
    let tasks = Tasks::default();
    app::spawn(&app, &tasks, false); // the tail: changes are decided on fresh facts only
    let fresh = app.work.confirm(Duration::ZERO).await;
    ensure!(fresh == Freshness::Fresh, "the authorization state is {fresh:?}");

    let work = &app.work;
    let source = Source::default();
    let view = check_key(work, secret, &source).map_err(|(refusal, _)| anyhow!(refusal.message()))?;
    let ctx = work.ctx(Actor::parse(actor).context("ACTOR is person:… or key:…")?);
    let (org, key) = (view.key.org, view.key.key);
    let decide = || work.would_permit(&ctx, Action::KeysRevoke, Target::Key(org, key), Grants::Nothing);
    ensure!(decide(), "the actor may not revoke the key");

    let decision = median_ns(decide);
    let check = median_ns(|| check_key(work, secret, &source).is_ok());
    println!(r#"{{"decision_ns":{decision},"key_check_ns":{check}}}"#);
    tasks.stop(TASKS_END_MAX).await;
    Ok(())
}

/// Of one call, over batches; the first warms up and does not count.
fn median_ns(call: impl Fn() -> bool) -> u128 {
    let mut batches: Vec<u128> = (0..=BATCHES).map(|_| batch_ns(&call)).skip(1).collect();
    batches.sort_unstable();
    batches.get(BATCHES / 2).copied().unwrap_or_default()
}

fn batch_ns(call: &impl Fn() -> bool) -> u128 {
    let (began, mut calls) = (Instant::now(), 0);
    while began.elapsed() < BATCH {
        for _ in 0..CALLS {
            std::hint::black_box(call());
        }
        calls += CALLS;
    }
    began.elapsed().as_nanos() / u128::from(calls)
}
