//! The composition root: what is built from what. Three lists to read: routes, jobs, background tasks.
mod background;
mod routes;
mod server;

pub use background::{jobs, spawn, sweep};
pub use routes::{Listener, Shared, document, worker};
pub use server::{Listeners, Server, serve};

use crate::{
    audit::relay::Relay,
    authorization::{Engine, EngineError, POLICIES, SCHEMA},
    http::{auth::Access, key_usage::KeyUsage, rates::RateLimits, source::Proxies, streams::Streams},
    jobs::Runner,
    platform::{
        bus::{Bus, BusError},
        cache::{Cache, CacheError},
        clock::Clock,
        config::Config,
        db::{Database, DatabaseError},
        entropy::Entropy,
        hasher::{Hasher, HasherError},
        health::Health,
        keys::{Keys, KeysError},
        mail::{MailError, Mailer},
        metrics::Metrics,
        secret::Secret,
        vault::{Vault, VaultError},
    },
    policy::decision_log::{DecisionLog, Destination},
    work::{Parts, Work, WorkError},
};
use actix_web::web;
use std::sync::{Arc, Mutex};

/// Everything a process has. Cheap to clone.
#[derive(Clone)]
pub struct App {
    pub config: Arc<Config>,
    pub work: Arc<Work>,
    pub hasher: Hasher,
    pub mailer: Arc<Mailer>,
    /// Where the audit log is relayed to, if anywhere.
    pub bus: Option<Arc<Bus>>,
    pub access: web::Data<Access>,
    /// What other services were answered.
    pub decisions: Arc<DecisionLog>,
    /// Answers that do not end by themselves.
    pub streams: Arc<Streams>,
    pub health: Health,
    pub metrics: Metrics,
    pub clock: Clock,
    pub entropy: Entropy,
    pub database: Database,
    /// Names this process in leases.
    pub owner: String,
}

/// What a process is built from.
pub struct Adapters {
    pub config: Arc<Config>,
    pub database: Database,
    pub keys: Arc<Keys>,
    pub mailer: Mailer,
    pub bus: Option<Bus>,
    pub clock: Clock,
    pub entropy: Entropy,
}

/// Why a process does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("{0} is not set; `identityd dev` needs no settings")]
    Missing(&'static str),
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error(transparent)]
    Cache(#[from] CacheError),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Mail(#[from] MailError),
    #[error(transparent)]
    Bus(#[from] BusError),
    #[error(transparent)]
    Hasher(#[from] HasherError),
    #[error("the database refuses, or does not answer")]
    Work(#[from] WorkError),
}

/// The database that the configuration names.
pub fn database_of(config: &Config) -> Result<Database, StartError> {
    let url = config.database.url.as_ref().ok_or(StartError::Missing("database.url"))?;
    Ok(Database::parse(url.expose(), config.database.ca_file.as_deref())?)
}

impl Adapters {
    /// What the configuration names; the keys may be in the database. Nothing is embedded in place of what is missing:
    /// that is an error.
    pub async fn of(config: Arc<Config>, database: Database) -> Result<Self, StartError> {
        let (clock, entropy) = (Clock::system(), Entropy::from_os());
        let mail = config.mail.url.as_ref().ok_or(StartError::Missing("mail.url"))?;
        let mailer = Mailer::open(mail.expose(), &config.mail.from)?;
        let keys = Arc::new(keys_of(&config, &database, &clock, &entropy).await?);
        let bus = Bus::open(&config.kafka)?;
        Ok(Self { config, database, keys, mailer, bus, clock, entropy })
    }

    /// The same for a command that sends no mail itself.
    pub async fn of_command(mut config: Config, database: Database) -> Result<Self, StartError> {
        config.mail.url.get_or_insert_with(|| Secret::new("smtp://127.0.0.1:25".to_owned()));
        Self::of(Arc::new(config), database).await
    }
}

async fn keys_of(
    config: &Config,
    database: &Database,
    clock: &Clock,
    entropy: &Entropy,
) -> Result<Keys, StartError> {
    if config.vault.address.is_some() {
        return Ok(Keys::unwrapped(Vault::new(&config.vault, clock.clone())?, database).await?);
    }
    let file = config.keys.file.as_deref().ok_or(StartError::Missing("keys.file"))?;
    Ok(Keys::open_or_create(file, entropy)?)
}

impl App {
    /// Loads policies and facts. What it returns can decide.
    pub async fn start(adapters: Adapters) -> Result<Self, StartError> {
        let Adapters { config, database, keys, mailer, bus, clock, entropy } = adapters;
        let (metrics, health) = (Metrics::new(), Health::default());
        let hasher = Hasher::new(&config.authentication.password, Arc::clone(&keys), &entropy)?;
        let work = Arc::new(Work::new(Parts {
            pool: database.pool(config.database.connections_max)?,
            engine: Engine::load(SCHEMA, POLICIES, config.orgs.self_service)?,
            keys,
            cache: Cache::open(&config.redis, &clock, &metrics, &health)?,
            clock: clock.clone(),
            entropy: entropy.clone(),
            metrics: metrics.clone(),
            config: Arc::clone(&config),
        }));
        work.catch_up().await?;
        let access = web::Data::new(Access {
            work: Arc::clone(&work),
            clock: clock.clone(),
            entropy: entropy.clone(),
            issuer: config.http.issuer(),
            proxies: Proxies {
                networks: config.http.trusted_proxies.clone(),
                header: config.http.forwarded_header,
            },
            usage: KeyUsage::default(),
            stale_max: config.authorization.stale_max(),
            limits: RateLimits::new(config.limits.clone()),
            open_bootstrap: Mutex::new(None::<Secret<String>>),
        });
        let streams = Streams::new(clock.clone(), config.http.streams_max);
        let owner = work.ctx(crate::kernel::Actor::Anonymous).request_id;
        let (mailer, bus) = (Arc::new(mailer), bus.map(Arc::new));
        let destination = |topic: String| Some(Destination { bus: Arc::clone(bus.as_ref()?), topic });
        let destination = config.kafka.decisions_topic.clone().and_then(destination);
        let decisions = Arc::new(DecisionLog::new(Arc::clone(&work), destination, owner.clone()));
        let app = Self {
            config,
            work,
            hasher,
            mailer,
            bus,
            access,
            decisions,
            streams,
            health,
            metrics,
            clock,
            entropy,
            database,
            owner,
        };
        app.register_gauges();
        Ok(app)
    }

    /// Runs queued jobs.
    pub fn runner(&self) -> Runner {
        Runner::new(Arc::clone(&self.work), self.owner.clone(), jobs(self))
    }

    /// Copies the audit log to the bus, where there is one.
    pub fn relay(&self) -> Option<Relay> {
        let (bus, topic) = (Arc::clone(self.bus.as_ref()?), self.config.kafka.audit_topic.clone());
        Some(Relay::new(Arc::clone(&self.work), bus, topic, self.owner.clone()))
    }

    fn register_gauges(&self) {
        let work = Arc::clone(&self.work);
        self.metrics.gauge(
            "identityd_authorization_age_seconds",
            "Time since PostgreSQL confirmed the authorization state",
            move || work.state().age().map_or(f64::INFINITY, |age| age.as_secs_f64()),
        );
        if let Some(vault) = self.work.keys().vault().cloned() {
            self.metrics.gauge(
                "identityd_vault_vouches",
                "1 while Vault vouches for this process, else 0: then it issues and rotates no API keys",
                move || f64::from(u8::from(vault.vouches())),
            );
        }
        let work = Arc::clone(&self.work);
        self.metrics.gauge(
            "identityd_authorization_seq",
            "The last change of the authorization state that this process has heard of",
            move || changes(work.state().applied()),
        );
        for (index, name) in [
            "identityd_authorization_orgs",
            "identityd_authorization_users",
            "identityd_authorization_service_accounts",
            "identityd_authorization_keys",
        ]
        .into_iter()
        .enumerate()
        {
            let work = Arc::clone(&self.work);
            self.metrics.gauge(name, "Things that the authorization state knows", move || {
                let count = work.state().counts().get(index).map_or(0, |(_, count)| *count);
                u32::try_from(count).map_or(f64::INFINITY, f64::from)
            });
        }
        let streams = Arc::clone(&self.streams);
        self.metrics.gauge("identityd_streams", "Streams of revocations that are open", move || {
            u32::try_from(streams.count()).map_or(f64::INFINITY, f64::from)
        });
        let work = Arc::clone(&self.work);
        self.metrics.gauge(
            "identityd_database_connections_used",
            "Connections of the pool in use",
            move || u32::try_from(work.connections().0).map_or(f64::INFINITY, f64::from),
        );
    }
}

#[expect(clippy::cast_precision_loss, reason = "a gauge; exact up to 2^53 changes")]
fn changes(seq: i64) -> f64 {
    seq as f64
}
