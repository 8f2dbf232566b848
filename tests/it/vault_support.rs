//! A real OpenBao for tests: that of `tests/servers`, or one of the test's own, which may be sealed, frozen and ended.
use crate::{
    app::server,
    cli_support::{Scratch, ScratchDatabase, ask},
    process::{agent, until},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use identityd::platform::{
    clock::Clock,
    config::{self, Flag},
    vault::Vault,
};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU16, AtomicU32, Ordering},
    thread,
};
use ureq::http::Method;

const ROOT: &str = "root";
/// Below the ports that the kernel gives to connections.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// An OpenBao, and its root token.
pub struct Bao {
    address: String,
    token: String,
    /// Who signed its certificate.
    ca_file: Option<String>,
    own: Option<Own>,
}

struct Own {
    child: Child,
    unseal_key: String,
    _home: Scratch,
}

impl Bao {
    /// The one that every test shares: mounts of one's own keep them apart.
    pub fn shared() -> Self {
        let (address, token) = (server("TEST_VAULT_ADDRESS"), server("TEST_VAULT_TOKEN"));
        Self { address, token, ca_file: None, own: None }
    }

    /// One that the test may do to what it likes.
    pub fn own() -> Self {
        Self::start(None, &[])
    }

    /// One that speaks TLS, with an authority of its own in this directory.
    pub fn with_tls(place: &Scratch) -> Self {
        let directory = format!("-dev-tls-cert-dir={}", place.path().display());
        Self::start(Some(place.join("vault-ca.pem")), &["-dev-tls", &directory])
    }

    fn start(ca_file: Option<String>, more: &[&str]) -> Self {
        let (home, port) = (Scratch::new("bao"), free_port());
        let mut command = Command::new(server("TEST_BAO"));
        command.args(["server", "-dev", "-dev-no-store-token", "-log-level=warn"]).args(more);
        command.args([format!("-dev-root-token-id={ROOT}"), format!("-dev-listen-address=127.0.0.1:{port}")]);
        let mut child =
            command.env("HOME", home.path()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let unseal_key = lines.find_map(|line| line.strip_prefix("Unseal Key: ").map(str::to_owned)).unwrap();
        thread::spawn(move || lines.for_each(drop)); // a full pipe would stop it
        let own = Some(Own { child, unseal_key, _home: home });
        let scheme = if ca_file.is_some() { "https" } else { "http" };
        let bao =
            Self { address: format!("{scheme}://127.0.0.1:{port}"), token: ROOT.to_owned(), ca_file, own };
        until(&200, || bao.within("", "GET", "sys/mounts", &Value::Null).map_or(0, |(status, _)| status));
        bao
    }

    /// One request with the root token.
    pub fn root(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.within("", method, path, body).unwrap();
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    fn within(
        &self,
        namespace: &str,
        method: &str,
        path: &str,
        body: &Value,
    ) -> Result<(u16, Value), ureq::Error> {
        if let Some(ca_file) = &self.ca_file {
            return Ok(self.by_command(ca_file, method, path, body));
        }
        let request = ureq::http::Request::builder()
            .method(method.parse::<Method>().unwrap())
            .uri(format!("{}/v1/{path}", self.address))
            .header("x-vault-token", &self.token)
            .header("x-vault-namespace", namespace);
        let agent = agent();
        let mut answer = match body {
            Value::Null => agent.run(request.body(()).unwrap())?,
            body => agent.run(request.body(body.to_string()).unwrap())?,
        };
        let text = answer.body_mut().read_to_string()?;
        Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or_default()))
    }

    /// Over TLS, which the tests' own client does not speak.
    fn by_command(&self, ca_file: &str, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let verb = if method == "POST" { "write" } else { "read" };
        let mut command = Command::new(server("TEST_BAO"));
        command.args([verb, "-format=json", path]).args((verb == "write").then_some("-"));
        command.env_clear().env("HOME", std::env::temp_dir());
        command.env("BAO_ADDR", &self.address).env("BAO_TOKEN", &self.token).env("BAO_CACERT", ca_file);
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(body.to_string().as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let status = if output.status.success() { 200 } else { 400 };
        (status, serde_json::from_slice(&output.stdout).unwrap_or_default())
    }

    pub fn seal(&self) {
        self.root("POST", "sys/seal", &json!({}));
    }

    pub fn unseal(&self) {
        let key = &self.own.as_ref().unwrap().unseal_key;
        let answer = self.root("POST", "sys/unseal", &json!({ "key": key }));
        assert_eq!(answer["sealed"], false);
    }

    /// Stops it where it is: connections stay, nobody answers.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    pub fn kill(&self) {
        self.signal(Signal::KILL);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.own.as_ref().unwrap().child), signal).unwrap();
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        if let Some(own) = &mut self.own {
            let _ = own.child.kill();
            let _ = own.child.wait();
        }
    }
}

/// A port whose successor is free too: OpenBao takes it for its cluster.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let from = u16::try_from(std::process::id() % 1000).unwrap() * 12;
    (0..u16::MAX)
        .map(|_| PORTS.start + (from + 2 * NEXT.fetch_add(1, Ordering::Relaxed)) % (PORTS.end - PORTS.start))
        .find(|port| [*port, port + 1].iter().all(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok()))
        .unwrap()
}

/// Mounts of a test's own, with the key `identityd` and two roles: `service`, which unwraps, and `setup`, which makes
/// keys and sees none.
pub struct Place<'b> {
    bao: &'b Bao,
    namespace: String,
    name: String,
}

pub const SERVICE: &str = "service";
pub const SETUP: &str = "setup";

impl<'b> Place<'b> {
    pub fn new(bao: &'b Bao) -> Self {
        Self::made(bao, "", &json!({ "token_ttl": "1h", "token_max_ttl": "24h" }))
    }

    /// Logins are for as long as this says.
    pub fn with_logins(bao: &'b Bao, settings: &Value) -> Self {
        Self::made(bao, "", settings)
    }

    /// The same in a namespace.
    pub fn in_namespace(bao: &'b Bao, namespace: &str) -> Self {
        bao.root("POST", &format!("sys/namespaces/{namespace}"), &json!({}));
        Self::made(bao, namespace, &json!({ "token_ttl": "1h" }))
    }

    fn made(bao: &'b Bao, namespace: &str, logins: &Value) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let place = Self { bao, namespace: namespace.to_owned(), name };
        let (auth, transit) = (place.auth(), place.transit());
        place.root("POST", &format!("sys/auth/{auth}"), &json!({ "type": "approle" }));
        place.root("POST", &format!("sys/mounts/{transit}"), &json!({ "type": "transit" }));
        place.root("POST", &format!("{transit}/keys/identityd"), &json!({ "derived": true }));
        place.permit(SERVICE, &["decrypt"]);
        place.permit(SETUP, &["datakey/wrapped", "encrypt", "rewrap"]);
        for role in [SERVICE, SETUP] {
            let mut settings = logins.clone();
            settings["token_policies"] = json!([place.policy(role)]);
            place.root("POST", &format!("auth/{auth}/role/{role}"), &settings);
        }
        place
    }

    /// What a role may do with the key.
    pub fn permit(&self, role: &str, what: &[&str]) {
        let transit = self.transit();
        let rule =
            |what: &&str| format!("path \"{transit}/{what}/identityd\" {{ capabilities = [\"update\"] }}\n");
        let policy: String = what.iter().map(rule).collect();
        let path = format!("sys/policies/acl/{}", self.policy(role));
        self.root("POST", &path, &json!({ "policy": policy }));
    }

    /// What the documented policy of the service is: to unwrap, and to see what the key is.
    pub fn permit_reading(&self, role: &str) {
        let transit = self.transit();
        let policy = format!(
            "path \"{transit}/decrypt/identityd\" {{ capabilities = [\"update\"] }}\n\
             path \"{transit}/keys/*\" {{ capabilities = [\"read\"] }}"
        );
        self.root("POST", &format!("sys/policies/acl/{}", self.policy(role)), &json!({ "policy": policy }));
    }

    pub fn root(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, answer) = self.bao.within(&self.namespace, method, path, body).unwrap();
        assert!(status < 300, "{method} {path}: {status} {answer}");
        answer
    }

    /// Each wrapped key of a database as Vault gives it, in base64.
    pub fn unwrapped(&self, database: &ScratchDatabase) -> Vec<String> {
        let rows =
            "SELECT string_agg(kind || '/' || version || ' ' || wrapped, ',') AS cell FROM wrapped_keys";
        let path = format!("{}/decrypt/identityd", self.transit());
        let unwrap = |row: &str| {
            let (place, wrapped) = row.split_once(' ').unwrap();
            let body = json!({ "ciphertext": wrapped, "context": STANDARD.encode(place) });
            self.root("POST", &path, &body)["data"]["plaintext"].as_str().unwrap().to_owned()
        };
        ask(&database.url(), rows).split(',').map(unwrap).collect()
    }

    /// Gives the Transit key its next version.
    pub fn rotate(&self) {
        self.root("POST", &format!("{}/keys/identityd/rotate", self.transit()), &json!({}));
    }

    /// What the older ones have wrapped cannot be unwrapped any more.
    pub fn forget_versions_below(&self, version: u32) {
        let path = format!("{}/keys/identityd/config", self.transit());
        self.root("POST", &path, &json!({ "min_decryption_version": version }));
    }

    /// A secret id, as whoever sets a process up is given one.
    pub fn secret_id(&self, role: &str) -> String {
        let path = format!("auth/{}/role/{role}/secret-id", self.auth());
        self.root("POST", &path, &json!({}))["data"]["secret_id"].as_str().unwrap().to_owned()
    }

    /// The settings of a process with this role.
    pub fn settings(&self, role: &str, secret_id: &str) -> Vec<String> {
        let path = format!("auth/{}/role/{role}/role-id", self.auth());
        let role_id = self.root("GET", &path, &Value::Null)["data"]["role_id"].as_str().unwrap().to_owned();
        let mut settings = vec![
            format!("vault.address={}", self.bao.address),
            format!("vault.role_id=\"{role_id}\""),
            format!("vault.secret_id=\"{secret_id}\""),
            format!("vault.auth_mount={}", self.auth()),
            format!("vault.transit_mount={}", self.transit()),
            "vault.timeout_seconds=5".to_owned(),
        ];
        settings.extend(self.bao.ca_file.as_ref().map(|file| format!("vault.ca_file={file}")));
        if !self.namespace.is_empty() {
            settings.push(format!("vault.namespace={}", self.namespace));
        }
        settings
    }

    /// A client with this role.
    pub fn vault(&self, role: &str, clock: &Clock) -> Vault {
        vault(&self.settings(role, &self.secret_id(role)), clock)
    }

    /// What OpenBao knows of each login that is good today.
    pub fn logins(&self) -> Vec<Value> {
        let listed = self.root("GET", "auth/token/accessors?list=true", &Value::Null);
        let path = format!("auth/{}/login", self.auth());
        let look = |accessor: &Value| {
            let body = json!({ "accessor": accessor });
            // Another test's may have gone.
            let found = self.bao.within(&self.namespace, "POST", "auth/token/lookup-accessor", &body);
            found.unwrap().1["data"].clone()
        };
        let all = listed["data"]["keys"].as_array().unwrap().iter().map(look);
        all.filter(|login| login["path"] == path.as_str()).collect()
    }

    /// Takes the role away, with every login of it.
    pub fn close(&self, role: &str) {
        self.root("DELETE", &format!("auth/{}/role/{role}", self.auth()), &Value::Null);
        self.logins().iter().for_each(|login| self.revoke(login));
    }

    /// Takes a login away.
    pub fn revoke(&self, login: &Value) {
        let body = json!({ "accessor": login["accessor"] });
        self.root("POST", "auth/token/revoke-accessor", &body);
    }

    fn auth(&self) -> String {
        format!("approle-{}", self.name)
    }

    pub fn transit(&self) -> String {
        format!("transit-{}", self.name)
    }

    pub fn policy(&self, role: &str) -> String {
        format!("{}-{role}", self.name)
    }
}

/// A client with these settings.
pub fn vault(settings: &[String], clock: &Clock) -> Vault {
    let flags: Vec<Flag> = settings.iter().map(|flag| Flag::parse(flag).unwrap()).collect();
    let config = config::load(None, &flags).map_err(|errors| errors[0].to_string()).unwrap().config;
    Vault::new(&config.vault, clock.clone()).unwrap()
}

/// Runs what is async to its end.
pub fn block<T>(work: impl Future<Output = T>) -> T {
    // Another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap().block_on(work)
}
