//! The binary as it runs in production: a process, its log, and HTTP over a socket.
use crate::cli_support::{Scratch, ScratchDatabase, identityd};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead as _, BufReader, Read},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};
use ureq::{Agent, http::Method};

/// For a start under the load of a whole suite.
const START_MAX: Duration = Duration::from_mins(1);

/// A database of its own with the schema of this release.
pub fn migrated(purpose: &str) -> ScratchDatabase {
    migrate(ScratchDatabase::new(purpose))
}

/// Brings a database to this release.
pub fn migrate(database: ScratchDatabase) -> ScratchDatabase {
    let up = database.migrate(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    database
}

/// A running server.
pub struct Served {
    child: Child,
    pub url: String,
    log: Arc<Mutex<String>>,
}

impl Served {
    /// `identityd serve --config config/dev.toml` in a directory of its own, on a free port.
    pub fn start(place: &Scratch, database: &ScratchDatabase, more: &[&str]) -> Self {
        Self::run(serve(place, database, more))
    }

    /// Any mode that says in its log where it listens.
    pub fn run(mut command: Command) -> Self {
        // What only works in the background has no other.
        let listener = if command.get_args().any(|word| word == "reconcile") { "Ops" } else { "Http" };
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::<Mutex<String>>::default();
        let (said, heard) = mpsc::channel();
        let out: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().unwrap()), Box::new(child.stderr.take().unwrap())];
        for stream in out {
            let (log, said) = (Arc::clone(&log), said.clone());
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let event: Value = serde_json::from_str(&line).unwrap_or_default();
                    if event["message"] == "listening" && event["listener"] == listener {
                        let _ = said.send(event["address"].as_str().unwrap().to_owned());
                    }
                    log.lock().unwrap().push_str(&(line + "\n"));
                }
            });
        }
        drop(said);
        match heard.recv_timeout(START_MAX) {
            Ok(address) => Self { child, url: format!("http://{address}"), log },
            Err(_) => {
                let _ = child.kill();
                panic!("it does not listen:\n{}", log.lock().unwrap());
            }
        }
    }

    /// What it has said so far.
    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    /// One request, on a connection of its own.
    pub fn call(&self, method: &str, path: &str, bearer: Option<&str>, body: &Value) -> (u16, Value) {
        self.try_call(method, path, bearer, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same, of a server that may be dead.
    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        bearer: Option<&str>,
        body: &Value,
    ) -> Result<(u16, Value), ureq::Error> {
        call(&agent(), &self.url, method, path, bearer, body)
    }

    pub fn get(&self, path: &str, bearer: &str) -> Value {
        let (status, body) = self.call("GET", path, Some(bearer), &Value::Null);
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    /// Ends it as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// The processes that it has started.
    pub fn children(&self) -> Vec<rustix::process::Pid> {
        let id = self.child.id();
        let listed = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let pids = listed.split_whitespace().map(|pid| pid.parse().unwrap());
        pids.filter_map(rustix::process::Pid::from_raw).collect()
    }

    /// Asks it to end.
    pub fn terminate(&self) {
        self.signal(rustix::process::Signal::TERM);
    }

    /// Asks it to read its limits anew.
    pub fn hang_up(&self) {
        self.signal(rustix::process::Signal::HUP);
    }

    /// Stops it where it is, as a machine that swaps does: its connections stay, and it does nothing.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    /// How it ended.
    pub fn wait(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `identityd serve`, not yet run.
pub fn serve(place: &Scratch, database: &ScratchDatabase, more: &[&str]) -> Command {
    let settings = [
        format!("database.url={}", database.service_url()),
        "http.listen=127.0.0.1:0".to_owned(),
        "http.drain_seconds=0".to_owned(),
        "telemetry.format=json".to_owned(),
        format!("mail.url=file:{}", place.join("mail")),
        format!("keys.file={}", place.join("keys.json")),
    ];
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/dev.toml");
    let mut command = identityd(&["serve", "--config", config]);
    for setting in settings.iter().map(String::as_str).chain(more.iter().copied()) {
        command.args(["--set", setting]);
    }
    command.current_dir(place.path());
    command
}

/// An operator's command beside a server: the same place, the same database.
pub fn beside(place: &Scratch, database: &ScratchDatabase, arguments: &[&str]) -> (i32, String) {
    let output = operate(place, database, arguments).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let out = if output.status.success() { text(&output.stdout) } else { text(&output.stderr) };
    (output.status.code().unwrap(), out.trim().to_owned())
}

fn operate(place: &Scratch, database: &ScratchDatabase, arguments: &[&str]) -> Command {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/config/dev.toml");
    let database_url = format!("database.url={}", database.service_url());
    let keys = format!("keys.file={}", place.join("keys.json"));
    let shared = ["--config", config, "--set", &database_url, "--set", &keys];
    let mut command = identityd(&[shared.as_slice(), arguments].concat());
    command.current_dir(place.path());
    command
}

pub fn agent() -> Agent {
    let config = Agent::config_builder().http_status_as_error(false).timeout_global(Some(START_MAX)).build();
    config.into()
}

/// One request, on this agent's connections.
pub fn call(
    agent: &Agent,
    url: &str,
    method: &str,
    path: &str,
    bearer: Option<&str>,
    body: &Value,
) -> Result<(u16, Value), ureq::Error> {
    let mut request =
        ureq::http::Request::builder().method(method.parse::<Method>().unwrap()).uri(format!("{url}{path}"));
    if let Some(bearer) = bearer {
        request = request.header("authorization", format!("Bearer {bearer}"));
    }
    let mut answer = if body.is_null() {
        agent.run(request.body(()).unwrap())?
    } else {
        let json = request.header("content-type", "application/json").body(body.to_string()).unwrap();
        agent.run(json)?
    };
    let text = answer.body_mut().read_to_string()?;
    Ok((answer.status().as_u16(), serde_json::from_str(&text).unwrap_or(Value::String(text))))
}

/// The token in the newest of the mails that hold `to`, once it is there.
pub fn mailed_token(directory: &std::path::Path, to: &str) -> String {
    for _ in 0..600 {
        let mut mails: Vec<_> =
            fs::read_dir(directory).into_iter().flatten().map(|entry| entry.unwrap().path()).collect();
        mails.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
        mails.sort();
        for path in mails.iter().rev() {
            let text = fs::read_to_string(path).unwrap().replace("=\r\n", "").replace("=\n", "");
            if let (true, Some(at)) = (text.contains(to), text.find("#idi_")) {
                return text[at + 1..at + 70].to_owned();
            }
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("no mail to {to} in {}", directory.display())
}

/// Asks again until the answer is this; a bound, not a wait.
pub fn until<T: PartialEq + std::fmt::Debug>(expected: &T, mut ask: impl FnMut() -> T) {
    let mut last = ask();
    for _ in 0..600 {
        if last == *expected {
            return;
        }
        thread::sleep(Duration::from_millis(50));
        last = ask();
    }
    assert_eq!(last, *expected);
}

/// Without what is another each time.
pub fn redacted(value: &Value) -> Value {
    match value {
        Value::String(text) if uuid::Uuid::parse_str(text).is_ok() => json!("[id]"),
        Value::String(text) if chrono::DateTime::parse_from_rfc3339(text).is_ok() => json!("[time]"),
        Value::String(text) if text.starts_with("id") && text.chars().nth(3) == Some('_') => json!("[token]"),
        Value::String(text) if text.starts_with("eyJ") => json!("[access token]"),
        Value::String(text) if text.starts_with("SHA256:") => json!("[fingerprint]"),
        Value::Array(items) => items.iter().map(redacted).collect(),
        Value::Object(members) => {
            let shown = members.iter().map(|(name, value)| match name.as_str() {
                "last4" => (name.clone(), json!("[last4]")),
                _ => (name.clone(), redacted(value)),
            });
            Value::Object(shown.collect())
        }
        other => other.clone(),
    }
}
