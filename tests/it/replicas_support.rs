//! Production with everything real: PostgreSQL, Redis, Kafka by SCRAM over TLS, OpenBao, SMTP; two processes behind a
//! round-robin. Secrets are in files, as in a cluster: nothing of them is on a command line.
use crate::{
    app::server,
    bus_login::{secure, tls_file},
    cli_support::{Scratch, ScratchDatabase, ask, identityd},
    kafka_support::{make_topic, relayed, shared_broker},
    process::{Served, agent, call, migrated, until},
    redis_support::OwnRedis,
    round_robin::RoundRobin,
    secrets_support::{self, Secrets},
    vault_support::{Bao, Place, SERVICE, SETUP},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;
use std::{collections::BTreeSet, fs, process::Command};
use tokio::runtime::Runtime;

const DATABASE_PASSWORD: &str = "database-pw-7f3a9c51";
const REDIS_PASSWORD: &str = "redis-pw-64b0d2e8";
const SMTP_PASSWORD: &str = "smtp-pw-1c9e77a4";
const PARTITIONS: i32 = 3;

/// What two processes share.
pub struct Site<'b> {
    pub runtime: Runtime,
    pub scratch: Scratch,
    pub database: ScratchDatabase,
    pub redis: OwnRedis,
    pub topic: String,
    pub vault: Place<'b>,
    pub secret_id: String,
    setup_id: String,
}

impl<'b> Site<'b> {
    /// Everything that a process needs, with keys.
    pub fn new(bao: &'b Bao, purpose: &str) -> Self {
        let runtime = Runtime::new().unwrap();
        let vault = Place::new(bao);
        let (secret_id, setup_id) = (vault.secret_id(SERVICE), vault.secret_id(SETUP));
        let scratch = Scratch::new(purpose);
        let redis = runtime.block_on(OwnRedis::with(&["--requirepass", REDIS_PASSWORD]));
        let topic = runtime.block_on(make_topic(purpose, PARTITIONS));
        let database = migrated(purpose);
        let site = Self { runtime, scratch, database, redis, topic, vault, secret_id, setup_id };
        site.write_secrets();
        site.command(SETUP, &["keys", "init"]);
        site
    }

    fn write_secrets(&self) {
        let with = |url: &str, user: &str| url.replacen("://", &format!("://{user}@"), 1);
        let app =
            self.database.url().replace("://postgres@", &format!("://identityd_app:{DATABASE_PASSWORD}@"));
        let mail = with(&server("TEST_SMTP_URL"), &format!("identityd:{SMTP_PASSWORD}"));
        let files = [
            ("database", app.as_str()),
            ("mail", &mail),
            ("redis", &self.redis_url()),
            (SERVICE, &self.secret_id),
            (SETUP, &self.setup_id),
        ];
        for (name, text) in files {
            self.scratch.file(name, text);
        }
    }

    /// `identityd …` with one of the roles at Vault, not yet run.
    fn prepared(&self, role: &str, arguments: &[&str], more: &[String]) -> Command {
        let file = |name: &str| self.scratch.join(name);
        let mut settings = vec![
            "http.listen=127.0.0.1:0".to_owned(),
            "http.public_url=https://id.example".to_owned(),
            "http.drain_seconds=1".to_owned(),
            "telemetry.log=debug".to_owned(),
            format!("database.url_file={}", file("database")),
            format!("database.migrate_url={}", self.database.url()),
            format!("mail.url_file={}", file("mail")),
            format!("redis.url_file={}", file("redis")),
            format!("kafka.audit_topic={}", self.topic),
            format!("vault.secret_id_file={}", file(role)),
        ];
        settings.extend(secure(&server("TEST_KAFKA_TLS_BROKER"), &tls_file("password"), &tls_file("ca.pem")));
        let vault = self.vault.settings(role, "");
        settings.extend(vault.into_iter().filter(|setting| !setting.starts_with("vault.secret_id=")));
        let mut command = identityd(arguments);
        for setting in settings.iter().chain(more) {
            command.args(["--set", setting]);
        }
        command.current_dir(self.scratch.path());
        command
    }

    /// Runs a command to its good end; what it says.
    fn command(&self, role: &str, arguments: &[&str]) -> String {
        let output = self.prepared(role, arguments, &[]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// A bootstrap token.
    pub fn bootstrap(&self) -> String {
        self.command(SERVICE, &["bootstrap"])
    }

    /// One more process.
    pub fn serve(&self, more: &[String]) -> Served {
        Served::run(self.prepared(SERVICE, &["serve"], more))
    }

    /// The background work, in a process of its own.
    pub fn reconcile(&self) -> Served {
        Served::run(self.prepared(SERVICE, &["reconcile"], &["ops.listen=127.0.0.1:0".to_owned()]))
    }

    /// What a process is given, and what Vault gives it.
    pub fn secrets(&self) -> Secrets {
        let mut secrets = Secrets::default();
        let kafka = fs::read_to_string(tls_file("password")).unwrap();
        for (what, secret) in [
            ("the password at PostgreSQL", DATABASE_PASSWORD),
            ("the password at Redis", REDIS_PASSWORD),
            ("the password at the mail server", SMTP_PASSWORD),
            ("the password at Kafka", &kafka),
            ("the secret id", &self.secret_id),
            ("the secret id for making keys", &self.setup_id),
            ("an answer of Vault to a login", "client_token"),
        ] {
            secrets.add(what, secret);
        }
        for key in self.vault.unwrapped(&self.database) {
            secrets.add_bytes("a key that Vault wraps", &STANDARD.decode(key).unwrap());
        }
        secrets
    }

    /// Everything that a process of this site writes or shows anywhere, but for mails.
    pub fn places(&self, processes: &[Served]) -> Vec<secrets_support::Place> {
        let mut places = secrets_support::database(&self.database.url());
        places.extend(secrets_support::redis(&self.redis_url()));
        let brokers = [shared_broker()];
        places.push(self.runtime.block_on(secrets_support::topic(&brokers, &self.topic)));
        for (number, process) in (1..).zip(processes) {
            places.extend(secrets_support::process(&format!("process {number}"), process));
        }
        places
    }

    fn redis_url(&self) -> String {
        format!("redis://:{REDIS_PASSWORD}@{}", self.redis.network.address)
    }

    pub fn number(&self, query: &str) -> i64 {
        ask(&self.database.url(), &format!("SELECT ({query})::text AS cell")).parse().unwrap()
    }

    /// Each entry of the audit log is on the topic, and nothing else is; how many are there more than once.
    pub fn verify_relayed(&self) -> usize {
        verify_relayed(&self.runtime, &self.database.url(), &self.topic)
    }
}

/// The same for any database that is relayed to a topic of the shared node.
pub fn verify_relayed(runtime: &Runtime, url: &str, topic: &str) -> usize {
    let behind = "SELECT (size - coalesce((SELECT next_seq FROM relay_positions), 0)
        + (SELECT count(*) FROM audit_outbox))::text AS cell FROM audit_head";
    until(&"0".to_owned(), || ask(url, behind));
    let on_topic = runtime.block_on(relayed(&[shared_broker()], topic));
    let once: BTreeSet<String> = on_topic.iter().map(|(log, seq)| format!("{log} {seq}")).collect();
    let log = ask(url, "SELECT string_agg(log_id || ' ' || seq, ',') AS cell FROM audit_log, audit_head");
    let log: BTreeSet<String> = log.split(',').map(str::to_owned).collect();
    let (missing, unknown): (Vec<_>, Vec<_>) =
        (log.difference(&once).collect(), once.difference(&log).collect());
    assert!(
        missing.is_empty() && unknown.is_empty(),
        "missing on the topic: {missing:?}; not on the log: {unknown:?}"
    );
    on_topic.len() - once.len()
}

/// Two processes behind a round-robin.
pub struct Pair<'s> {
    pub round_robin: RoundRobin,
    pub processes: [Served; 2],
    site: &'s Site<'s>,
}

impl<'s> Pair<'s> {
    pub fn start(site: &'s Site<'s>, more: &[String]) -> Self {
        let round_robin = RoundRobin::start(&site.runtime);
        let processes = [site.serve(more), site.serve(more)];
        for process in &processes {
            round_robin.add(&process.url);
        }
        until(&2, || round_robin.ready());
        Self { round_robin, processes, site }
    }

    /// Tells one to stop; once it has, another one comes in its place.
    pub fn replace(&mut self, at: usize, more: &[String]) {
        let leaving = &mut self.processes[at];
        leaving.terminate();
        assert!(leaving.wait().success(), "{}", leaving.log());
        until(&true, || leaving.log().contains("\"message\":\"stopped\""));
        self.round_robin.remove(&leaving.url);
        *leaving = self.site.serve(more);
        self.round_robin.add(&leaving.url);
        until(&2, || self.round_robin.ready());
    }

    /// Waits until both have heard of everything that may be decided upon.
    pub fn settle(&self) {
        let seq = self.site.number("SELECT seq FROM authz_clock");
        for process in &self.processes {
            until(&true, || heard(&process.url) >= seq);
        }
    }
}

/// Up to which change of the authorization state a process has heard.
fn heard(url: &str) -> i64 {
    let (_, metrics) = call(&agent(), url, "GET", "/metrics", None, &Value::Null).unwrap();
    let line = metrics
        .as_str()
        .unwrap()
        .lines()
        .find_map(|line| line.strip_prefix("identityd_authorization_seq "))
        .unwrap();
    line.trim_end_matches(".0").parse().unwrap()
}
