//! `identityd dev` is for a desk, and no flag makes it anything else.
use crate::{
    cli::{Exit, exit::Stop},
    platform::{
        config::{Config, Environment, Loaded, surroundings},
        db::Database,
    },
};
use std::net::SocketAddr;
use url::Host;

/// Refuses wherever something looks like production.
pub(super) fn unless_a_desk(loaded: &Loaded) -> anyhow::Result<()> {
    if surroundings::in_kubernetes() {
        return Err(refused("this is a pod (KUBERNETES_SERVICE_HOST is set)").into());
    }
    let config = &loaded.config;
    let said = |key: &str| format!("{key} ({})", loaded.origin(key).unwrap_or_default());
    if config.environment != Environment::Development {
        return Err(refused(&format!("{} is production", said("environment"))).into());
    }
    for (key, address) in listeners(config) {
        if !address.ip().is_loopback() {
            return Err(refused(&format!("{} is no address of this machine alone", said(key))).into());
        }
    }
    if !is_loopback(config) {
        return Err(refused(&format!("{} is not on this machine", said("http.public_url"))).into());
    }
    let urls =
        [("database.url", &config.database.url), ("database.migrate_url", &config.database.migrate_url)];
    for (key, url) in urls {
        let Some(url) = url else { continue };
        if !Database::parse(url.expose(), config.database.ca_file.as_deref())?.is_local() {
            return Err(refused(&format!("{} is not on this machine", said(key))).into());
        }
    }
    match (&config.database.url, &config.database.migrate_url) {
        (Some(_), None) | (None, Some(_)) => Err(Stop::new(Exit::Failure, ONE_URL_MISSING).into()),
        _ => Ok(()),
    }
}

const ONE_URL_MISSING: &str = "`identityd dev` uses a database of yours only if it has both database.url, as \
    identityd_app, and database.migrate_url, as a role that may make the schema; without either it starts its own";

fn refused(reason: &str) -> Stop {
    let message = format!(
        "`identityd dev` does not run here: {reason}. It is for a desk, with keys and a database that trust whoever \
         comes; `identityd serve` is for everything else"
    );
    Stop::new(Exit::Failure, message)
}

fn listeners(config: &Config) -> impl Iterator<Item = (&'static str, SocketAddr)> {
    let (internal, ops) = (config.internal.listen, config.ops.listen);
    let all = [("http.listen", Some(config.http.listen)), ("internal.listen", internal), ("ops.listen", ops)];
    all.into_iter().filter_map(|(key, address)| Some((key, address?)))
}

fn is_loopback(config: &Config) -> bool {
    match config.http.public_url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::platform::config::{Flag, load_over};

    fn said(flags: &[&str]) -> Result<(), String> {
        let presets = [Flag::new("environment", "development")];
        let flags: Vec<Flag> = flags.iter().map(|flag| Flag::parse(flag).unwrap()).collect();
        let loaded =
            load_over("identityd dev", &presets, None, &flags).unwrap_or_else(|_| panic!("{flags:?}"));
        unless_a_desk(&loaded).map_err(|error| error.to_string())
    }

    #[test]
    fn whatever_looks_like_production_is_refused_with_its_origin() {
        for (flag, reason) in [
            ("environment=production", "environment (flag --set environment=…) is production"),
            (
                "http.listen=0.0.0.0:80",
                "http.listen (flag --set http.listen=…) is no address of this machine alone",
            ),
            (
                "ops.listen=10.0.0.1:80",
                "ops.listen (flag --set ops.listen=…) is no address of this machine alone",
            ),
            (
                "http.public_url=https://id.example",
                "http.public_url (flag --set http.public_url=…) is not on this machine",
            ),
            (
                "database.url=postgres://app@db.example/d",
                "database.url (flag --set database.url=…) is not on this machine",
            ),
            (
                "database.migrate_url=postgres://app@10.0.0.1/d",
                "database.migrate_url (flag --set database.migrate_url=…) is not on this machine",
            ),
        ] {
            let message = said(&[flag]).unwrap_err();
            assert!(
                message.starts_with(&format!("`identityd dev` does not run here: {reason}. ")),
                "{message}"
            );
        }
    }

    #[test]
    fn a_desk_is_where_everything_is_local() {
        assert_eq!(said(&[]), Ok(()));
        let local = ["http.listen=[::1]:80", "http.public_url=http://localhost:80"];
        assert_eq!(said(&local), Ok(()));
        let own =
            ["database.url=postgres://app@localhost/d", "database.migrate_url=postgres://me@127.0.0.1/d"];
        assert_eq!(said(&own), Ok(()));
    }

    #[test]
    fn a_database_of_ones_own_needs_both_roles() {
        for url in ["database.url=postgres://a@localhost/d", "database.migrate_url=postgres://a@localhost/d"]
        {
            assert_eq!(said(&[url]), Err(ONE_URL_MISSING.to_owned()));
        }
    }
}
