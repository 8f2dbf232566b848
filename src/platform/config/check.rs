//! What the types cannot say: values that do not go together, or not in production.
use super::{Config, ConfigError, Environment, KafkaSecurity, Loaded};
use crate::platform::{cache, db, mail, secret::Secret, telemetry};
use std::net::IpAddr;
use url::{Host, Url};

/// Argon2id floor of OWASP: 19 MiB with two passes, or 46 MiB with one.
const MEMORY_KIB_MIN: u32 = 19_456;
const MEMORY_KIB_ONE_PASS: u32 = 47_104;
const GRACE_SECONDS_MAX: u32 = 300;
const ACCESS_TOKEN_MINUTES_MAX: u32 = 60;
const STALE_SECONDS_MAX: u64 = 30;
const VAULT_SECONDS_MAX: u64 = 60;

/// Every mistake there is, so that one run of `config check` names them all.
pub fn check(loaded: &Loaded) -> Vec<ConfigError> {
    let found = values(loaded).into_iter().filter(|error| !is_told(loaded, &error.key));
    loaded.mistakes.iter().cloned().chain(found).collect()
}

/// Could its value, or the file with it, not be read? Then that is told, and what it is for now is nobody's mistake.
fn is_told(loaded: &Loaded, key: &str) -> bool {
    let of = |mistake: &ConfigError| mistake.key.strip_suffix("_file").unwrap_or(&mistake.key) == key;
    loaded.mistakes.iter().any(|mistake| mistake.key == key || of(mistake))
}

fn values(loaded: &Loaded) -> Vec<ConfigError> {
    let config = &loaded.config;
    let mut errors = vec![];
    let mut refuse = |refused: bool, key: &str, message: &str| {
        if refused {
            errors.push(error(loaded, key, message));
        }
    };
    let password = &config.authentication.password;

    refuse(config.database.connections_max < 2, "database.connections_max", "at least 2 are needed");
    refuse(
        password.memory_kib < MEMORY_KIB_MIN
            || password.memory_kib < MEMORY_KIB_ONE_PASS && password.iterations < 2
            || password.iterations == 0,
        "authentication.password.memory_kib",
        "weaker than 19456 KiB with 2 passes, or 47104 KiB with 1",
    );
    refuse(
        !(1..=ACCESS_TOKEN_MINUTES_MAX).contains(&config.authentication.access_token_minutes),
        "authentication.access_token_minutes",
        "between 1 and 60",
    );
    refuse(password.queue_max == 0, "authentication.password.queue_max", "at least 1");
    refuse(
        config.authentication.refresh_grace_seconds > GRACE_SECONDS_MAX,
        "authentication.refresh_grace_seconds",
        "at most 300",
    );
    refuse(
        config.authorization.stale_max_seconds > STALE_SECONDS_MAX,
        "authorization.stale_max_seconds",
        "at most 30: a revoked key must be refused within that time",
    );
    refuse(config.authentication.session_hours == 0, "authentication.session_hours", "at least 1");
    refuse(config.authentication.session_idle_hours == 0, "authentication.session_idle_hours", "at least 1");
    refuse(config.http.concurrency_max == 0, "http.concurrency_max", "at least 1");
    refuse(config.http.request_timeout_seconds == 0, "http.request_timeout_seconds", "at least 1");
    refuse(
        !(0.0..=1.0).contains(&config.telemetry.trace_ratio),
        "telemetry.trace_ratio",
        "a share between 0 and 1",
    );
    refuse(
        !matches!(config.http.public_url.scheme(), "http" | "https")
            || config.http.public_url.host().is_none(),
        "http.public_url",
        "expected http:// or https:// and a host",
    );

    check_cache(config, &mut refuse);
    check_texts(config, &mut refuse);

    refuse(
        config.authentication.mfa_grace_days.is_some(),
        "authentication.mfa_grace_days",
        "not in this release, which has no second factor: leave it out",
    );

    if config.environment == Environment::Production {
        check_production(config, &mut refuse);
    }
    errors.extend(kafka_mistakes(loaded));
    errors.extend(vault_mistakes(loaded));
    errors
}

/// What is only good enough for a desk.
fn check_production(config: &Config, refuse: &mut impl FnMut(bool, &str, &str)) {
    refuse(config.http.public_url.scheme() != "https", "http.public_url", "https:// is needed in production");
    refuse(
        config.keys.file.is_some(),
        "keys.file",
        "a key file is for development; in production Vault wraps the keys: see vault.address",
    );
    refuse(
        config.mail.url.as_ref().is_some_and(|url| url.expose().starts_with("file:")),
        "mail.url",
        "mail into a directory is for development",
    );
    let redis = config.redis.url.as_ref().map(|url| url.expose().as_str());
    let plain = redis.filter(|url| url.starts_with("redis://")).and_then(|url| url.parse::<Url>().ok());
    refuse(plain.is_some_and(|url| !is_loopback(&url)), "redis.url", "rediss:// is needed in production");
}

/// What is a text to the types, and more to whoever reads it. None of these is repeated: a URL may hold a password.
fn check_texts(config: &Config, refuse: &mut impl FnMut(bool, &str, &str)) {
    let wrong = |url: &Option<Secret<String>>, is_right: fn(&str) -> bool| {
        url.as_ref().is_some_and(|url| !is_right(url.expose()))
    };
    let postgres = "not a PostgreSQL URL such as postgres://user@host:5432/database";
    refuse(wrong(&config.database.url, db::is_url), "database.url", postgres);
    refuse(wrong(&config.database.migrate_url, db::is_url), "database.migrate_url", postgres);
    refuse(
        wrong(&config.mail.url, mail::is_url),
        "mail.url",
        "expected smtp://, smtps:// and a host, or file:<directory>",
    );
    refuse(!mail::is_sender(&config.mail.from), "mail.from", "expected an address, as: us <us@id.example>");
    refuse(
        !telemetry::is_filter(&config.telemetry.log),
        "telemetry.log",
        "not a filter of tracing-subscriber, such as info,identityd=debug",
    );
    let is_http = |url: &str| {
        Url::parse(url).is_ok_and(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
    };
    refuse(
        config.telemetry.otlp_endpoint.as_ref().is_some_and(|url| !is_http(url)),
        "telemetry.otlp_endpoint",
        "expected http:// or https:// and a host",
    );
    let is_origin = |text: &String| {
        is_http(text) && Url::parse(text).is_ok_and(|url| url.origin().ascii_serialization() == *text)
    };
    refuse(
        !config.http.cors.origins.iter().all(is_origin),
        "http.cors.origins",
        "expected origins as browsers write them, such as https://portal.example: no path, no slash at the end",
    );
}

fn vault_mistakes(loaded: &Loaded) -> Vec<ConfigError> {
    let vault = &loaded.config.vault;
    let production = loaded.config.environment == Environment::Production;
    let mut errors = vec![];
    let mut refuse = |refused: bool, key: &str, message: &str| {
        if refused {
            errors.push(error(loaded, key, message));
        }
    };
    let mount = |path: &str| path.split('/').all(is_vault_name);
    refuse(!mount(&vault.auth_mount), "vault.auth_mount", "expected a path such as approle");
    refuse(!mount(&vault.transit_mount), "vault.transit_mount", "expected a path such as transit");
    refuse(!is_vault_name(&vault.key), "vault.key", "expected letters, digits, - and _");
    refuse(
        !(1..=VAULT_SECONDS_MAX).contains(&vault.timeout_seconds),
        "vault.timeout_seconds",
        "between 1 and 60",
    );
    let Some(address) = &vault.address else { return errors };
    refuse(
        !matches!(address.scheme(), "http" | "https")
            || !address.has_host()
            || !matches!(address.path(), "" | "/")
            || address.query().is_some()
            || !address.username().is_empty()
            || address.password().is_some(),
        "vault.address",
        "expected https:// and a host, and nothing after it",
    );
    refuse(
        production && address.scheme() != "https" && !is_loopback(address),
        "vault.address",
        "https:// is needed in production",
    );
    refuse(
        loaded.config.keys.file.is_some() && !production,
        "keys.file",
        "the keys are in a file or wrapped by Vault, not both: leave one of keys.file and vault.address out",
    );
    refuse(vault.role_id.is_none(), "vault.role_id", "needed with vault.address");
    refuse(vault.secret_id.is_none(), "vault.secret_id", "needed with vault.address");
    errors
}

/// An agent on the same machine may speak plainly.
fn is_loopback(url: &Url) -> bool {
    // Only for schemes that browsers know does the parser tell addresses from names.
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => {
            name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
        None => false,
    }
}

/// Can it stand in a path of Vault's as it is?
fn is_vault_name(name: &str) -> bool {
    !name.is_empty()
        && name.chars().all(|letter| letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_'))
}

fn check_cache(config: &Config, refuse: &mut impl FnMut(bool, &str, &str)) {
    let redis = config.redis.url.as_ref().map(|url| url.expose().as_str());
    refuse(
        redis.is_some_and(|url| !url.starts_with("redis://") && !url.starts_with("rediss://")),
        "redis.url",
        "expected redis:// or, with TLS, rediss://",
    );
    refuse(
        config
            .redis
            .url
            .as_ref()
            .is_some_and(|url| url.expose().starts_with("redis") && !cache::is_url(url.expose())),
        "redis.url",
        "not a Redis URL such as rediss://:password@host:6379",
    );
    refuse(
        config.redis.ca_file.is_some() && !redis.is_some_and(|url| url.starts_with("rediss://")),
        "redis.ca_file",
        "only a rediss:// URL has a certificate to check",
    );
    refuse(config.redis.prefix.is_empty(), "redis.prefix", "at least one letter");
}

fn kafka_mistakes(loaded: &Loaded) -> Vec<ConfigError> {
    let kafka = &loaded.config.kafka;
    if kafka.brokers.is_empty() {
        return vec![];
    }
    let production = loaded.config.environment == Environment::Production;
    let (plain, login) =
        (kafka.security == KafkaSecurity::Plaintext, kafka.security == KafkaSecurity::SaslSsl);
    let no_address = |broker: &String| {
        let parts = broker.rsplit_once(':');
        !parts.is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok())
    };
    [
        (kafka.brokers.iter().any(no_address), "kafka.brokers", "expected host:port for each broker"),
        (kafka.audit_topic.is_empty(), "kafka.audit_topic", "a topic is needed"),
        (
            kafka
                .decisions_topic
                .as_ref()
                .is_some_and(|topic| topic.is_empty() || *topic == kafka.audit_topic),
            "kafka.decisions_topic",
            "a topic of its own is needed",
        ),
        (login && kafka.username.is_none(), "kafka.username", "needed for sasl_ssl"),
        (login && kafka.password.is_none(), "kafka.password", "needed for sasl_ssl"),
        (
            !login && kafka.password.is_some(),
            "kafka.password",
            "sent with kafka.security = \"sasl_ssl\" only",
        ),
        (plain && kafka.ca_file.is_some(), "kafka.ca_file", "of no use with kafka.security = \"plaintext\""),
        (plain && production, "kafka.security", "ssl or sasl_ssl is needed in production"),
    ]
    .into_iter()
    .filter(|(refused, ..)| *refused)
    .map(|(_, key, message)| error(loaded, key, message))
    .collect()
}

/// What is needed to open what the configuration names, and is not there.
pub fn missing(loaded: &Loaded, mail: bool) -> Vec<ConfigError> {
    let config = &loaded.config;
    let mut errors = vec![];
    let mut need = |there: bool, key: &str, message: &str| {
        if !there && !is_told(loaded, key) {
            errors.push(error(loaded, key, message));
        }
    };
    need(config.database.url.is_some(), "database.url", "needed");
    need(!mail || config.mail.url.is_some(), "mail.url", "needed");
    let vault = config.vault.address.is_some();
    match config.environment {
        Environment::Production => need(vault, "vault.address", "needed: in production Vault wraps the keys"),
        Environment::Development => need(vault || config.keys.file.is_some(), "keys.file", "needed"),
    }
    errors
}

fn error(loaded: &Loaded, key: &str, message: &str) -> ConfigError {
    let origin = loaded.origin(key).unwrap_or_else(|| "not set".to_owned());
    ConfigError { key: key.to_owned(), message: message.to_owned(), origin }
}
