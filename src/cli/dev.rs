//! `identityd dev`: everything on this machine, in one process, with a PostgreSQL server of its own.
//!
//! It makes all ready here, in this order, so that a mistake shows before anything is touched: what was typed, the
//! configuration, the ports, the database. Then `dev_serve` serves.
mod data_dir;
mod ready;
mod refusal;

pub(super) use ready::{Administrator, Ready};

use super::{Exit, Global, Misconfigured, dev_serve, note, seed::Seed};
use crate::platform::{
    config::{Config, Flag, Loaded, check, load_over},
    db::Database,
    migrations,
    postgres::{Data, Postgres},
    secret::Secret,
    telemetry,
};
use anyhow::{Context as _, bail};
use clap::Args;
use data_dir::{DataDir, KEYS, MAIL};
use diesel_async::SimpleAsyncConnection as _;
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    time::Duration,
};

/// Where the values that only make sense here come from, as `config show` would say.
const WHOSE: &str = "identityd dev";
const PORT: u16 = 8080;
/// What `dev_serve` has not ended itself is cut off.
const TASKS_END_MAX: Duration = Duration::from_secs(5);
/// How often it is looked whether the database's server is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const DATABASE: &str = "identityd";
const ADMINISTRATOR: &str = "postgres";
const SERVICE: &str = "identityd_app";

#[derive(Args)]
pub(super) struct Options {
    /// Where the database, the keys and the mails are
    #[arg(long, value_name = "DIR", default_value = ".identityd")]
    data_dir: PathBuf,
    /// Keep nothing: the data goes when the process ends
    #[arg(long, conflicts_with = "data_dir")]
    ephemeral: bool,
    /// What a new database begins with: demo, empty, or a YAML file as docs/dev-seed.md describes it
    #[arg(long, value_name = "demo|empty|FILE", default_value = "demo")]
    seed: String,
    /// Port of the API on 127.0.0.1; 0 takes any free one [default: 8080]
    #[arg(long)]
    port: Option<u16>,
    /// Write here, once everything is served, where that is and how to sign in (JSON)
    #[arg(long, value_name = "FILE")]
    ready_file: Option<PathBuf>,
    /// Begin anew: take the database, the keys and the mails away first
    #[arg(long, conflicts_with = "ephemeral")]
    reset: bool,
    /// Do not ask before --reset
    #[arg(long, requires = "reset")]
    yes: bool,
}

/// All that is ready, for `dev_serve`.
pub(super) struct Stage {
    /// Complete and sound: `database.url` is the service's role, and each `listen` the address of a listener below.
    pub(super) config: Config,
    /// What to begin with, where there is no organization yet.
    pub(super) seed: Seed,
    /// Bound already, so that a taken port shows at once.
    pub(super) listeners: Listeners,
    /// For the person: where the data is.
    pub(super) place: String,
    /// Where `Ready` goes.
    pub(super) ready_file: Option<PathBuf>,
}

/// One for each list of routes.
pub(super) struct Listeners {
    pub(super) http: TcpListener,
    pub(super) internal: Option<TcpListener>,
    pub(super) ops: Option<TcpListener>,
}

pub(super) fn run(global: &Global, options: Options) -> anyhow::Result<Exit> {
    let seed = Seed::open(&options.seed)?;
    let directory =
        if options.ephemeral { DataDir::temporary()? } else { DataDir::named(&options.data_dir)? };
    let loaded = configuration(global, &options, &directory)?;
    refusal::unless_a_desk(&loaded)?;
    let own_server = loaded.config.database.url.is_none();
    Misconfigured::unless_none(check(&loaded))?;
    let mut config = loaded.config.clone();
    let listeners = Listeners::bind(&mut config, &loaded)?;
    if options.reset {
        directory.reset(own_server, options.yes)?;
    }
    directory.make()?;
    if let Some(file) = &options.ready_file {
        ready::remove(file)?;
    }
    // Before the runtime, and on this thread: see there.
    let _telemetry = telemetry::start(&config.telemetry)?;
    let mut server = own_server.then(|| start(&directory, options.ephemeral)).transpose()?;
    if let Some(server) = &server {
        let url = |user| Some(Secret::new(format!("{}?sslmode=disable", server.url(user, DATABASE))));
        (config.database.migrate_url, config.database.url) = (url(ADMINISTRATOR), url(SERVICE));
    }
    let place = directory.describe()?;
    let stage = Stage { config, seed, listeners, place, ready_file: options.ready_file.clone() };
    let reload = || {
        let loaded = configuration(global, &options, &directory)?;
        Misconfigured::unless_none(check(&loaded))?;
        Ok(loaded.config.limits)
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let exit = runtime.block_on(async {
        if let Some(server) = &server {
            create_database(server).await?;
        }
        migrate(&stage.config).await?;
        tokio::select! {
            exit = Box::pin(dev_serve::serve(stage, reload)) => exit,
            () = ended(server.as_mut()) => bail!("the PostgreSQL server has ended; start again, what it held is kept"),
        }
    });
    // Connections first, then their server.
    runtime.shutdown_timeout(TASKS_END_MAX);
    drop(server);
    exit
}

/// The presets are under file, environment and flags: whoever wants to see more logs can.
fn configuration(global: &Global, options: &Options, directory: &DataDir) -> Result<Loaded, Misconfigured> {
    let local = |port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)).to_string();
    let inside = |name: &str| directory.path().join(name).display().to_string();
    let presets = [
        Flag::new("environment", "development"),
        Flag::new("http.listen", local(PORT)),
        Flag::new("internal.listen", local(0)),
        Flag::new("ops.listen", local(0)),
        Flag::new("keys.file", inside(KEYS)),
        Flag::new("mail.url", format!("file:{}", inside(MAIL))),
        Flag::new("orgs.self_service", true),
        Flag::new("telemetry.log", "warn,rskafka=off"),
        Flag::new("telemetry.format", "text"),
    ];
    let mut flags = global.flags.clone();
    flags.extend(options.port.map(|port| Flag::new("http.listen", local(port))));
    load_over(WHOSE, &presets, global.file().as_ref(), &flags).map_err(Misconfigured)
}

impl Listeners {
    /// Binds, and tells the configuration what became of port 0.
    fn bind(config: &mut Config, loaded: &Loaded) -> anyhow::Result<Self> {
        let http = listen(&mut config.http.listen, "http.listen; choose another with --port")?;
        if loaded.origin("http.public_url").is_none() {
            config.http.public_url = format!("http://{}", config.http.listen).parse()?;
        }
        let internal = config.internal.listen.as_mut().map(|address| listen(address, "internal.listen"));
        let ops = config.ops.listen.as_mut().map(|address| listen(address, "ops.listen"));
        Ok(Self { http, internal: internal.transpose()?, ops: ops.transpose()? })
    }
}

fn listen(address: &mut SocketAddr, key: &str) -> anyhow::Result<TcpListener> {
    let listener = TcpListener::bind(*address).with_context(|| format!("{address} is not free ({key})"))?;
    *address = listener.local_addr()?;
    Ok(listener)
}

fn start(directory: &DataDir, ephemeral: bool) -> anyhow::Result<Postgres> {
    let keep = if ephemeral { Data::ThrownAway } else { Data::Kept };
    let server = directory.server()?;
    if !server.starts_with(directory.path()) {
        note(format_args!(
            "PostgreSQL does not run as root, and its user may not come to {}: its files are in {}",
            directory.path().display(),
            server.display()
        ));
    }
    Ok(Postgres::start(&server, keep)?)
}

/// Waits until the server is gone; without one, for ever.
async fn ended(server: Option<&mut Postgres>) {
    let Some(server) = server else { return std::future::pending().await };
    while !server.has_ended() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn create_database(server: &Postgres) -> anyhow::Result<()> {
    let url = format!("{}?sslmode=disable", server.url(ADMINISTRATOR, "postgres"));
    let mut connection = Database::parse(&url, None)?.connect().await?;
    match connection.batch_execute(&format!("CREATE DATABASE {DATABASE}")).await {
        Err(error) if !error.to_string().contains("already exists") => Err(error.into()),
        _ => Ok(()),
    }
}

async fn migrate(config: &Config) -> anyhow::Result<()> {
    let settings = &config.database;
    let url = settings.migrate_url.as_ref().context("database.migrate_url is not set")?;
    let applied = migrations::up(&Database::parse(url.expose(), settings.ca_file.as_deref())?).await?;
    for name in applied {
        tracing::info!(migration = name, "migration applied");
    }
    Ok(())
}
