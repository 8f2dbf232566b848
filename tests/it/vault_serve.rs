//! `identityd serve` in production: on PostgreSQL, SMTP and a real OpenBao, which is there, slow, sealed, frozen or gone.
use crate::{
    app::server,
    cli_support::{Scratch, ScratchDatabase, identityd},
    fault_proxy::{Fault, FaultProxy, Upstream},
    process::{Served, mailed_token, migrated, until},
    vault_support::{Bao, Place, SERVICE, SETUP},
};
use serde_json::{Value, json};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

const PASSWORD: &str = "correct horse battery staple";

/// A production of one's own: a database, a place in a Vault, and the settings of its service.
struct Production<'b> {
    scratch: Scratch,
    database: ScratchDatabase,
    vault: Place<'b>,
    secret_id: String,
    service: Vec<String>,
}

impl<'b> Production<'b> {
    fn new(bao: &'b Bao, purpose: &str) -> Self {
        let vault = Place::new(bao);
        let secret_id = vault.secret_id(SERVICE);
        let service = vault.settings(SERVICE, &secret_id);
        Self { scratch: Scratch::new(purpose), database: migrated(purpose), vault, secret_id, service }
    }

    /// The same with its keys.
    fn with_keys(bao: &'b Bao, purpose: &str) -> Self {
        let production = Self::new(bao, purpose);
        let (code, said) = production.run(&["keys", "init"], &production.setup());
        assert_eq!((code, said.as_str()), (0, "pepper\naudit\ndata\nsigning\n"));
        production
    }

    fn setup(&self) -> Vec<String> {
        self.vault.settings(SETUP, &self.vault.secret_id(SETUP))
    }

    fn command(&self, arguments: &[&str], vault: &[String]) -> Command {
        let mut command = identityd(arguments);
        let own = [
            "http.listen=127.0.0.1:0".to_owned(),
            "http.public_url=https://id.example".to_owned(),
            "http.drain_seconds=0".to_owned(),
            format!("database.url={}", self.database.service_url()),
            format!("database.migrate_url={}", self.database.url()),
            format!("mail.url={}", server("TEST_SMTP_URL")),
            "telemetry.log=trace".to_owned(),
        ];
        for setting in own.iter().chain(vault) {
            command.args(["--set", setting]);
        }
        command.current_dir(self.scratch.path());
        command
    }

    fn serve(&self) -> Served {
        Served::run(self.command(&["serve"], &self.service))
    }

    /// What it says, on the stream that fits how it ends.
    fn run(&self, arguments: &[&str], vault: &[String]) -> (i32, String) {
        let output = self.command(arguments, vault).output().unwrap();
        let said = if output.status.success() { output.stdout } else { output.stderr };
        (output.status.code().unwrap(), String::from_utf8(said).unwrap())
    }

    /// It does not start, and says this.
    fn refuses(&self, vault: &[String], words: &str) {
        let (code, said) = self.run(&["serve"], vault);
        assert!(code == 1 && said.contains(words), "{code} {said:?} does not say {words:?}");
        assert!(!said.contains(&self.secret_id), "{said}");
    }
}

/// The first administrator, signed in.
fn administrator(production: &Production<'_>, server: &Served, email: &str) -> String {
    let (code, operator) = production.run(&["bootstrap"], &production.service);
    assert_eq!(code, 0, "{operator}");
    let post = |path: &str, body: Value| server.call("POST", path, Some(operator.trim()), &body);
    until(&201, || post("/v1/orgs", json!({ "name": "First", "slug": "first" })).0);
    assert_eq!(post("/v1/orgs/first/invites", json!({ "email": email })).0, 202);
    let token = mailed_token(Path::new(&crate::app::server("TEST_SMTP_DIR")), email);
    let body = json!({ "token": token, "password": PASSWORD, "displayName": "Ada" });
    assert_eq!(server.call("POST", "/v1/invites/accept", None, &body).0, 200);
    sign_in(server, email)
}

fn sign_in(server: &Served, email: &str) -> String {
    let body = json!({ "email": email, "password": PASSWORD });
    let (status, tokens) = server.call("POST", "/v1/auth/login", None, &body);
    assert_eq!(status, 200, "{tokens}");
    tokens["access_token"].as_str().unwrap().to_owned()
}

fn issue(server: &Served, bearer: &str) -> (u16, Value) {
    let body = json!({ "display_name": "laptop", "scopes": ["models:read"] });
    server.call("POST", "/organizations/me/api-keys", Some(bearer), &body)
}

fn validity(server: &Served, secret: &Value) -> Value {
    let check = json!({ "apiKeySecret": secret });
    let (status, answer) = server.call("POST", "/v1/auth/validate-api-key", None, &check);
    assert_eq!(status, 200, "{answer}");
    answer["status"].clone()
}

/// Is it ready, and what does it say of Vault?
fn readiness(server: &Served) -> (u16, Value) {
    let (status, answer) = server.call("GET", "/readyz", None, &Value::Null);
    (status, answer["dependencies"]["vault"].clone())
}

fn failing(detail: &str) -> (u16, Value) {
    (200, json!({ "status": "failing", "required": false, "detail": detail }))
}

#[test]
fn production_runs_on_wrapped_keys_and_outlives_its_vault() {
    let bao = Bao::own();
    let production = Production::with_keys(&bao, "production");
    let server = production.serve();
    until(&(200, json!({ "status": "ok", "required": false })), || readiness(&server));
    let email = format!("ada@production{}.example", std::process::id());
    let admin = administrator(&production, &server, &email);
    let (status, key) = issue(&server, &admin);
    assert_eq!(status, 201, "{key}");
    let secrets = secrets(&production);

    bao.seal();
    until(&failing("Vault is sealed, or has no active node"), || readiness(&server));
    assert_eq!(validity(&server, &key["secret"]), "active", "keys are checked");
    let bearer = sign_in(&server, &email);
    let (status, refused) = issue(&server, &bearer);
    assert_eq!((status, &refused["code"]), (503, &json!("VAULT_UNAVAILABLE")), "{refused}");
    let path = format!("/organizations/me/api-keys/{}", key["apiKeyId"].as_str().unwrap());
    let (status, refused) = server.call("POST", &format!("{path}/rotate"), Some(&bearer), &json!({}));
    assert_eq!((status, &refused["code"]), (503, &json!("VAULT_UNAVAILABLE")), "{refused}");

    bao.unseal();
    until(&(200, json!({ "status": "ok", "required": false })), || readiness(&server));
    let (status, other) = issue(&server, &bearer);
    assert_eq!(status, 201, "{other}");

    let path = format!("{path}/revoke");
    bao.kill();
    until(&failing("Vault cannot be reached"), || readiness(&server));
    assert_eq!(validity(&server, &other["secret"]), "active");
    assert_eq!(issue(&server, &bearer).0, 503);
    assert_eq!(
        server.call("POST", &path, Some(&bearer), &json!({ "reason": "lost" })).0,
        204,
        "to revoke goes on"
    );
    assert_eq!(validity(&server, &key["secret"]), "revoked");
    for secret in secrets {
        assert!(!server.log().contains(&secret), "the log holds {secret}");
    }
}

/// What nobody may see: the secret id, and each key as Vault gives it.
fn secrets(production: &Production<'_>) -> Vec<String> {
    let mut secrets = production.vault.unwrapped(&production.database);
    secrets.extend([production.secret_id.clone(), "client_token".to_owned()]);
    secrets
}

#[test]
fn a_login_that_is_taken_away_for_good_is_told_and_stops_new_keys() {
    let bao = Bao::shared();
    let production = Production::with_keys(&bao, "away");
    let server = production.serve();
    let email = format!("ada@away{}.example", std::process::id());
    let admin = administrator(&production, &server, &email);
    let (_, key) = issue(&server, &admin);
    production.vault.close(SERVICE);
    let refused = "Vault refuses the login (status 400): see vault.role_id, vault.secret_id, vault.auth_mount and \
                   vault.namespace";
    until(&failing(refused), || readiness(&server));
    assert_eq!(issue(&server, &admin).0, 503);
    assert_eq!(validity(&server, &key["secret"]), "active");
}

#[test]
fn a_login_that_is_taken_away_once_is_followed_by_another() {
    let bao = Bao::shared();
    let production = Production::with_keys(&bao, "revoked");
    let server = production.serve();
    let email = format!("ada@revoked{}.example", std::process::id());
    let admin = administrator(&production, &server, &email);
    let accessors = || -> Vec<Value> {
        let logins = production.vault.logins().into_iter();
        let of_service = logins.filter(|login| login["meta"]["role_name"] == SERVICE);
        of_service.map(|login| login["accessor"].clone()).collect()
    };
    let before = accessors();
    for accessor in &before {
        production.vault.revoke(&json!({ "accessor": accessor }));
    }
    until(&1, || accessors().len());
    assert!(accessors().iter().all(|accessor| !before.contains(accessor)));
    until(&(200, json!({ "status": "ok", "required": false })), || readiness(&server));
    assert_eq!(issue(&server, &admin).0, 201);
}

/// docs/OPERATIONS.md: how long an answer may take, and how often Vault is asked.
const TIMEOUT: Duration = Duration::from_secs(6);
const ASKED_EVERY: Duration = Duration::from_secs(5);

#[test]
fn a_slow_vault_makes_a_start_slow_and_nothing_else_until_it_is_too_slow() {
    let bao = Bao::shared();
    let mut production = Production::with_keys(&bao, "slow");
    let upstream = server("TEST_VAULT_ADDRESS").strip_prefix("http://").unwrap().parse().unwrap();
    let runtime = Runtime::new().unwrap();
    let network = runtime.block_on(FaultProxy::before(Upstream::Tcp(upstream)));
    production.service.push(format!("vault.address=http://{}", network.address));
    production.service.push(format!("vault.timeout_seconds={}", TIMEOUT.as_secs()));

    // There and back: each answer takes five seconds.
    let answer = Duration::from_secs(5);
    network.set(Fault::Delay(answer / 2));
    let (server, start) = timed(|| production.serve());
    println!("a start with a Vault that answers after {answer:?}: {start:?}");
    // The command that makes the first token starts too.
    network.set(Fault::None);
    let email = format!("ada@slow{}.example", std::process::id());
    let admin = administrator(&production, &server, &email);
    network.set(Fault::Delay(answer / 2));
    until(&(200, json!({ "status": "ok", "required": false })), || readiness(&server));
    let ((status, key), took) = timed(|| issue(&server, &admin));
    assert_eq!(status, 201, "{key}");
    assert!(took < answer, "to issue a key asks nobody, and took {took:?}");
    let ((), took) = timed(|| (0..100).for_each(|_| assert_eq!(validity(&server, &key["secret"]), "active")));
    assert!(took < answer, "key checks ask nobody, and a hundred took {took:?}");

    network.set(Fault::Delay(TIMEOUT));
    let ((), noticed) = timed(|| until(&503, || issue(&server, &admin).0));
    println!("a Vault that became too slow is noticed after {noticed:?}");
    // The last good answer may still have been on its way.
    assert!(noticed < answer + ASKED_EVERY + TIMEOUT, "{noticed:?}");
    until(&failing("Vault does not answer in time"), || readiness(&server));
    let ((status, refused), took) = timed(|| issue(&server, &admin));
    assert_eq!((status, &refused["code"]), (503, &json!("VAULT_UNAVAILABLE")), "{refused}");
    assert!(took < answer, "to refuse asks nobody, and took {took:?}");
    assert_eq!(validity(&server, &key["secret"]), "active");

    network.set(Fault::None);
    until(&(200, json!({ "status": "ok", "required": false })), || readiness(&server));
    assert_eq!(issue(&server, &admin).0, 201);
}

fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let began = Instant::now();
    (work(), began.elapsed())
}

#[test]
fn without_vault_production_does_not_start_and_says_why() {
    let bao = Bao::own();
    let production = Production::new(&bao, "start");
    let service = &production.service;
    let with = |setting: &str| [service.as_slice(), &[setting.to_owned()]].concat();
    production.refuses(&[], "vault.address: needed: in production Vault wraps the keys");
    production.refuses(service, "the database has no wrapped keys: run `identityd keys init`");
    assert_eq!(production.run(&["keys", "init"], &production.setup()).0, 0);
    let (code, listed) = production.run(&["keys", "status"], service);
    assert_eq!((code, listed.lines().next()), (0, Some("audit       1  identityd v1")));
    production.refuses(&with("vault.secret_id=wrong"), "Vault refuses the login (status 400)");
    production.refuses(&with("keys.file=keys.json"), "keys.file: a key file is for development");
    production.refuses(&with("vault.address=http://vault.example"), "vault.address: https:// is needed");
    production.refuses(&with("vault.address=https://127.0.0.1:1"), "Vault cannot be reached");
    bao.seal();
    production.refuses(service, "Vault is sealed, or has no active node");
    bao.unseal();
    bao.freeze();
    production.refuses(&with("vault.timeout_seconds=1"), "Vault does not answer in time");
    bao.thaw();
}
