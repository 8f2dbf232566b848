//! Configuration: defaults < file < environment < flags. The only reader of the environment.
mod check;
mod limits;
mod load;
mod origin;
mod reference;

pub use check::{check, missing};
pub use limits::{ClassLimits, Limit, Limits, NoLimit};
pub use load::{ConfigError, ConfigFile, Flag, Loaded, load, load_over, survey};
pub use reference::reference;

use super::secret::Secret;
use ipnet::IpNet;
use schemars::JsonSchema;
use serde::Deserialize;
use std::{env, net::SocketAddr, path::PathBuf, time::Duration};
use url::Url;

/// The defaults, and the documentation of every key.
pub const DEFAULTS: &str = include_str!("../../config/default.toml");

/// What the surroundings say beside the configuration. A value that is empty is a value that is not there.
pub mod surroundings {
    use super::{PathBuf, env};

    /// The configuration file, for whoever cannot give `--config`.
    pub fn config_file() -> Option<PathBuf> {
        path("IDENTITYD_CONFIG")
    }

    /// Where `initdb` and `postgres` are, for `identityd dev`.
    pub fn postgres_bin() -> Option<PathBuf> {
        path("IDENTITYD_PG_BIN")
    }

    /// The directories in which commands are looked for.
    pub fn command_directories() -> Vec<PathBuf> {
        env::var_os("PATH").iter().flat_map(env::split_paths).collect()
    }

    /// Where a directory may be made that nobody keeps.
    pub fn temporary_directory() -> PathBuf {
        env::temp_dir()
    }

    /// Does this process run in a pod?
    pub fn in_kubernetes() -> bool {
        path("KUBERNETES_SERVICE_HOST").is_some()
    }

    fn path(name: &str) -> Option<PathBuf> {
        env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from)
    }
}

/// Everything that can be set. What each key means stands beside its default in `config/default.toml`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    pub environment: Environment,
    pub http: Http,
    #[serde(default)]
    pub internal: Listener,
    #[serde(default)]
    pub ops: Listener,
    pub database: Database,
    pub redis: Redis,
    pub kafka: Kafka,
    pub vault: Vault,
    #[serde(default)]
    pub keys: Keys,
    pub mail: Mail,
    pub orgs: Orgs,
    pub authentication: Authentication,
    pub authorization: Authorization,
    pub validate: Validate,
    pub limits: Limits,
    pub background: Background,
    pub telemetry: Telemetry,
}

/// How much is at stake.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Environment {
    Development,
    Production,
}

/// In which header the trusted proxies write whom they speak for: the usual one, or that of RFC 7239. One only: the other
/// is the caller's own to write.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    XForwardedFor,
    Forwarded,
}

/// The public listener.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Http {
    #[schemars(with = "String")]
    pub listen: SocketAddr,
    #[schemars(with = "String")]
    pub public_url: Url,
    pub workers: usize,
    pub concurrency_max: usize,
    pub streams_max: usize,
    pub request_timeout_seconds: u64,
    pub drain_seconds: u64,
    #[schemars(with = "Vec<String>")]
    pub trusted_proxies: Vec<IpNet>,
    pub forwarded_header: ForwardedHeader,
    pub expose_metrics: bool,
    pub cors: Cors,
}

impl Http {
    /// The base URL without a slash at its end: the `iss` and `aud` of our tokens.
    pub fn issuer(&self) -> String {
        self.public_url.as_str().trim_end_matches('/').to_owned()
    }
}

/// Which browser origins may call.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cors {
    pub origins: Vec<String>,
}

/// A listener that may be off.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Listener {
    #[schemars(with = "Option<String>")]
    pub listen: Option<SocketAddr>,
}

/// PostgreSQL.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Database {
    pub url: Option<Secret<String>>,
    pub url_file: Option<PathBuf>,
    pub migrate_url: Option<Secret<String>>,
    pub migrate_url_file: Option<PathBuf>,
    pub connections_max: usize,
    pub ca_file: Option<PathBuf>,
}

/// Redis, where there is one.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Redis {
    pub url: Option<Secret<String>>,
    pub url_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    pub prefix: String,
}

/// Where the audit log is relayed to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kafka {
    pub brokers: Vec<String>,
    pub audit_topic: String,
    pub decisions_topic: Option<String>,
    pub security: KafkaSecurity,
    pub username: Option<String>,
    pub password: Option<Secret<String>>,
    pub password_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
}

/// How brokers are spoken to, in Kafka's own words.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KafkaSecurity {
    Plaintext,
    Ssl,
    SaslSsl,
}

/// Vault, or OpenBao, which has wrapped the keys.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Vault {
    #[schemars(with = "Option<String>")]
    pub address: Option<Url>,
    pub namespace: Option<String>,
    pub ca_file: Option<PathBuf>,
    pub role_id: Option<String>,
    pub secret_id: Option<Secret<String>>,
    pub secret_id_file: Option<PathBuf>,
    pub auth_mount: String,
    pub transit_mount: String,
    pub key: String,
    pub timeout_seconds: u64,
}

/// Where the keys are.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keys {
    pub file: Option<PathBuf>,
}

/// Outgoing mail.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mail {
    pub url: Option<Secret<String>>,
    pub url_file: Option<PathBuf>,
    pub from: String,
}

/// Organizations and what is kept of them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Orgs {
    pub self_service: bool,
    pub retention_days: u32,
}

/// Sign-in and sessions.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authentication {
    pub access_token_minutes: u32,
    pub session_hours: u32,
    pub session_idle_hours: u32,
    pub refresh_grace_seconds: u32,
    pub mfa_grace_days: Option<u32>,
    pub password: Password,
}

/// What a password verification costs.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Password {
    pub memory_kib: u32,
    pub iterations: u32,
    pub concurrency: usize,
    pub queue_max: usize,
}

/// The authorization state.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authorization {
    pub stale_max_seconds: u64,
}

impl Authorization {
    /// How long key checks may be answered from memory unconfirmed.
    pub fn stale_max(&self) -> Duration {
        Duration::from_secs(self.stale_max_seconds)
    }
}

/// Key checks.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validate {
    #[schemars(with = "Vec<String>")]
    pub trusted_callers: Vec<IpNet>,
}

/// Sequencer, jobs, sweepers.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Background {
    pub enabled: bool,
}

/// Logs and traces.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Telemetry {
    pub log: String,
    pub format: LogFormat,
    pub otlp_endpoint: Option<String>,
    pub trace_ratio: f64,
}

/// How log lines look.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    Json,
    Text,
}
