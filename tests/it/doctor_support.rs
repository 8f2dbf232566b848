//! What `identityd doctor` is tried on: a whole installation, on the servers of `tests/servers`.
use crate::{
    app::server,
    cli_support::{Scratch, ScratchDatabase, identityd},
    kafka_support::make_topic,
    process::migrated,
    redis_support::own_prefix,
    vault_support::{Bao, Place, SERVICE, SETUP},
};
use serde_json::Value;
use std::collections::BTreeMap;
use tokio::runtime::Runtime;

/// Each check in its order. The names are API.
pub const NAMES: [&str; 19] = [
    "configuration",
    "database",
    "database.role",
    "database.roles",
    "database.schema",
    "database.row_security",
    "database.clock",
    "redis",
    "redis.memory",
    "kafka",
    "kafka.topic",
    "kafka.settings",
    "mail",
    "vault",
    "vault.login",
    "vault.key",
    "keys",
    "vault.clock",
    "public_url",
];

/// An installation in production, with everything that it can have.
pub struct Installation<'b> {
    pub place: Scratch,
    pub database: ScratchDatabase,
    pub vault: Place<'b>,
    settings: Vec<String>,
    secrets: Vec<String>,
}

impl<'b> Installation<'b> {
    pub fn new(bao: &'b Bao, purpose: &str) -> Self {
        let (place, database, vault) = (Scratch::new(purpose), migrated(purpose), Place::new(bao));
        let topic = Runtime::new().unwrap().block_on(make_topic(purpose, 3));
        let secret_id = vault.secret_id(SERVICE);
        let password_file = format!("{}/password", server("TEST_KAFKA_TLS"));
        let password = std::fs::read_to_string(&password_file).unwrap().trim().to_owned();
        let mut settings = vec![
            // It resolves, and nobody answers there.
            "http.public_url=https://localhost:1".to_owned(),
            format!("database.url={}", database.service_url()),
            format!("redis.url={}", server("TEST_REDIS_URL")),
            own_prefix(),
            format!("kafka.brokers={:?}", [server("TEST_KAFKA_TLS_BROKER")]),
            "kafka.username=identityd".to_owned(),
            format!("kafka.password_file={password_file}"),
            format!("kafka.ca_file={}/ca.pem", server("TEST_KAFKA_TLS")),
            format!("kafka.audit_topic={topic}"),
            format!("mail.url={}", server("TEST_SMTP_URL")),
        ];
        settings.extend(vault.settings(SERVICE, &secret_id));
        let secrets = vec![secret_id, password, "hunter2".to_owned()];
        let installation = Self { place, database, vault, settings, secrets };
        let mut setup = installation.vault.settings(SETUP, &installation.vault.secret_id(SETUP));
        setup.push(format!("database.migrate_url={}", installation.database.url()));
        let made = installation.run(&["keys", "init"], &setup);
        assert_eq!(made.0, 0, "{made:?}");
        installation
    }

    /// What it says and how it ends. Later settings win.
    pub fn run(&self, arguments: &[&str], more: &[String]) -> (i32, String, String) {
        let mut command = identityd(arguments);
        for setting in self.settings.iter().chain(more) {
            command.args(["--set", setting]);
        }
        let output = command.current_dir(self.place.path()).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        let (out, err) = (text(output.stdout), text(output.stderr));
        for secret in &self.secrets {
            assert!(!out.contains(secret) && !err.contains(secret), "{out}{err} holds {secret}");
        }
        (output.status.code().unwrap(), out, err)
    }

    /// How the doctor ends, and what is not simply well.
    pub fn doctor(&self, more: &[&str]) -> (i32, BTreeMap<String, (String, String)>) {
        let more: Vec<String> = more.iter().map(|&setting| setting.to_owned()).collect();
        let (code, out, err) = self.run(&["doctor", "--output", "json"], &more);
        let report: Value = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
        let checks = report["checks"].as_array().unwrap();
        assert_eq!(checks.len(), NAMES.len(), "{report}");
        let mut found = BTreeMap::new();
        for (check, name) in checks.iter().zip(NAMES) {
            let text = |key: &str| check[key].as_str().unwrap().to_owned();
            assert!(text("name") == name && !text("why").is_empty() && !text("found").is_empty(), "{check}");
            let trouble = ["warning", "failed"].contains(&text("status").as_str());
            assert!(!trouble || check["fix"].is_string(), "{check}");
            if text("status") != "ok" {
                found.insert(text("name"), (text("status"), text("found")));
            }
        }
        (code, found)
    }

    /// Exactly this is failed beside what is always so, with these words.
    pub fn fails(&self, more: &[&str], failed: &[(&str, &str)]) {
        let (code, found) = self.doctor(more);
        assert_eq!(code, 9, "{found:?}");
        for (name, words) in failed {
            let (status, text) = &found[*name];
            assert!(status == "failed" && text.contains(words), "{name}: {status} {text:?}, not {words:?}");
        }
        let also: Vec<_> = found.iter().filter(|(_, (status, _))| status == "failed").collect();
        assert_eq!(also.len(), failed.len(), "{also:?}");
    }
}
