//! What every mode that stays up does: starts or says why not, serves, drains.
use super::{Global, note};
use crate::{
    app::{self, Adapters, App, Listeners},
    platform::{
        config::{Config, Limits},
        db::Database,
        migrations::{self, Level},
        role,
        tasks::Tasks,
        telemetry::{self, chain},
    },
};
use anyhow::{Context as _, bail};
use std::{sync::Arc, time::Duration};
use tokio::signal::unix::{SignalKind, signal};

/// For what background tasks have begun.
const TASKS_END_MAX: Duration = Duration::from_secs(15);

/// What a mode wants of the process.
#[derive(Clone, Copy)]
pub(super) struct Mode {
    pub(super) name: &'static str,
    /// Serves `http.listen` and `internal.listen`.
    pub(super) public: bool,
    /// Runs sequencer, jobs and sweepers.
    pub(super) background: bool,
}

/// Runs until a signal says stop.
pub(super) fn run(global: &Global, config: Config, mode: Mode) -> anyhow::Result<()> {
    // Before the runtime: the exporter's client blocks, on a thread of its own.
    let _telemetry = telemetry::start(&config.telemetry)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Box::pin(async {
        let database = app::database_of(&config)?;
        check(&database).await?;
        let adapters = Adapters::of(Arc::new(config), database).await?;
        let listeners = Listeners::bind(&adapters.config, mode.public)?;
        let app = App::start(adapters).await?;
        tracing::info!(mode = mode.name, version = env!("CARGO_PKG_VERSION"), owner = app.owner, "started");
        up(&app, listeners, mode.background, || Ok(global.complete(true)?.limits), async || Ok(())).await
    }))
}

/// Serves a started app until a signal says stop. `reload` reads the limits anew. `ready` is called once everything is served.
pub(super) async fn up(
    app: &App,
    listeners: Listeners,
    background: bool,
    reload: impl Fn() -> anyhow::Result<Limits>,
    ready: impl AsyncFnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    // Before the first connection is taken: a signal that comes early is not lost.
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    let (tasks, listening) = (Tasks::default(), Tasks::default());
    app::spawn(app, &tasks, background);
    let server = app::serve(app, &listening, listeners)?;
    ready().await?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = hangup.recv() => limit_anew(app, reload()),
        }
    }
    tracing::info!("stopping");
    server.drain(app).await;
    listening.stop(TASKS_END_MAX).await;
    tasks.stop(TASKS_END_MAX).await;
    tracing::info!("stopped");
    Ok(())
}

/// Of a configuration that is not right nothing is taken: the limits that are in force stay.
fn limit_anew(app: &App, limits: anyhow::Result<Limits>) {
    match limits {
        Ok(limits) => {
            app.access.limits.replace(limits);
            tracing::info!("the limits were read anew");
        }
        Err(error) => {
            let error = chain(error.as_ref());
            tracing::error!(error, "the configuration is not right, so the limits stay as they are");
        }
    }
}

/// Refuses a database that is not for this release, or a role for which row-level security would not hold.
pub(super) async fn check(database: &Database) -> anyhow::Result<()> {
    let mut conn = database.connect().await.context("database.url: the database cannot be reached")?;
    role::check(&mut conn).await??;
    let level = migrations::level(&mut conn).await?;
    if let Some(lacking) = lacking(level) {
        bail!("{lacking}: run `identityd migrate up`");
    }
    if level == Level::Ahead {
        note(AHEAD);
    }
    Ok(())
}

/// What a process says beside whose release there is a newer one.
pub(super) const AHEAD: &str = "the database is of a newer release; this one goes on beside it";

/// Why no process starts on a database at this level, if none does.
pub(super) fn lacking(level: Level) -> Option<String> {
    match level {
        Level::Empty => Some("the database is empty".to_owned()),
        Level::Behind(1) => Some("the database is 1 migration behind".to_owned()),
        Level::Behind(count) => Some(format!("the database is {count} migrations behind")),
        Level::Current | Level::Ahead => None,
    }
}
