//! A PostgreSQL server that a test may stop, and callers of every kind whose answers are looked at meanwhile.
use crate::{
    cli_support::{Scratch, ScratchDatabase},
    crash::Scene,
    process::{Served, agent, mailed_token, migrate, until},
};
use identityd::platform::postgres::{Data, Postgres};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use ureq::{Agent, http::Request};

const PASSWORD: &str = "correct horse battery staple";
/// For a recovery under the load of a whole suite.
const PATIENCE: Duration = Duration::from_mins(1);
/// Between two questions of one caller.
const PAUSE: Duration = Duration::from_millis(10);

/// A server of the test's own, that keeps what it acknowledged.
pub struct OwnPostgres {
    place: Scratch,
    running: Option<Postgres>,
}

impl OwnPostgres {
    pub fn start(purpose: &str) -> Self {
        let mut server = Self { place: Scratch::new(purpose), running: None };
        server.start_again();
        server
    }

    /// At the port it had.
    pub fn start_again(&mut self) {
        let before = self.running.is_some().then(|| self.url());
        self.running = None;
        self.running = Some(Postgres::start(&self.place.path().join("postgres"), Data::Kept).unwrap());
        assert!(before.is_none_or(|before| before == self.url()), "somebody took its port meanwhile");
    }

    /// As `pg_ctl stop -m immediate` (`QUIT`) or `-m fast` (`INT`).
    pub fn stop(&mut self, signal: Signal) {
        let file = self.place.path().join("postgres/data/postmaster.pid");
        let pid = fs::read_to_string(file).unwrap().lines().next().unwrap().parse().unwrap();
        kill_process(Pid::from_raw(pid).unwrap(), signal).unwrap();
        let server = self.running.as_mut().unwrap();
        until(&true, || server.has_ended());
    }

    /// As a superuser, without a database.
    pub fn url(&self) -> String {
        self.running.as_ref().unwrap().url("postgres", "").trim_end_matches('/').to_owned()
    }

    /// An organization on a database of this release.
    pub fn scene(&self, purpose: &str) -> Scene {
        Scene::on(purpose, migrate(ScratchDatabase::on(&self.url(), purpose)))
    }
}

/// What callers ask for: one of memory alone, one of memory and rows, two that read and one that writes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Kind {
    KeyCheck,
    SignIn,
    List,
    AuditLog,
    Change,
}

pub const KINDS: [Kind; 5] = [Kind::KeyCheck, Kind::SignIn, Kind::List, Kind::AuditLog, Kind::Change];

/// One answer.
pub struct Seen {
    pub kind: Kind,
    pub began: Instant,
    pub took: Duration,
    pub status: u16,
    /// Of a problem.
    pub code: String,
}

/// Everything that a caller needs.
#[derive(Clone)]
pub struct Caller {
    url: String,
    key: String,
}

impl Caller {
    /// Makes the person who signs in.
    pub fn of(scene: &Scene, server: &Served) -> Self {
        let body = json!({ "email": "bob@example.io" });
        let invited = server.call("POST", "/v1/orgs/acme/invites", Some(&scene.key), &body);
        assert_eq!(invited.0, 202, "{invited:?}");
        let token = mailed_token(Path::new(&scene.place.join("mail")), "bob@example.io");
        let body = json!({ "token": token, "password": PASSWORD, "displayName": "Bob" });
        assert_eq!(server.call("POST", "/v1/invites/accept", None, &body).0, 200);
        Self { url: server.url.clone(), key: scene.key.clone() }
    }

    /// The same, who asks another process.
    pub fn at(&self, server: &Served) -> Self {
        Self { url: server.url.clone(), key: self.key.clone() }
    }

    /// One question. What is no answer of success is a clear problem that says whose fault it is.
    pub fn ask(&self, agent: &Agent, kind: Kind, name: &str) -> Seen {
        let (method, path, body) = match kind {
            Kind::KeyCheck => ("POST", "/v1/auth/validate-api-key", json!({ "apiKeySecret": self.key })),
            Kind::SignIn => {
                ("POST", "/v1/auth/login", json!({ "email": "bob@example.io", "password": PASSWORD }))
            }
            Kind::List => ("GET", "/v1/orgs/acme/service-accounts?limit=5", Value::Null),
            Kind::AuditLog => ("GET", "/v1/audit/events?org=acme&limit=5", Value::Null),
            Kind::Change => ("POST", "/v1/orgs/acme/service-accounts", json!({ "name": name })),
        };
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if !matches!(kind, Kind::KeyCheck | Kind::SignIn) {
            request = request.header("authorization", format!("Bearer {}", self.key));
        }
        let began = Instant::now();
        let mut answer = if body.is_null() {
            agent.run(request.body(()).unwrap()).unwrap()
        } else {
            let request = request.header("content-type", "application/json");
            agent.run(request.body(body.to_string()).unwrap()).unwrap()
        };
        let said: Value = serde_json::from_str(&answer.body_mut().read_to_string().unwrap()).unwrap();
        let (took, status) = (began.elapsed(), answer.status().as_u16());
        if status >= 400 {
            let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap());
            assert_eq!(
                (status, header("content-type")),
                (503, Some("application/problem+json")),
                "{kind:?} {said}"
            );
            assert!(header("retry-after").is_some(), "{said}");
            assert!(said["detail"].as_str().unwrap().contains("PostgreSQL"), "{kind:?} {said}");
        } else if kind == Kind::KeyCheck {
            assert_eq!(said["valid"], true, "{said}");
        }
        Seen { kind, began, took, status, code: said["code"].as_str().unwrap_or_default().to_owned() }
    }
}

/// Callers who ask without end.
pub struct Callers {
    leaving: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Seen>>>,
    made: Arc<Mutex<Vec<String>>>,
    threads: Vec<JoinHandle<()>>,
}

impl Callers {
    /// One of each kind, and more who change things.
    pub fn start(caller: &Caller, run: &str, changing: usize) -> Self {
        let mut callers =
            Self { leaving: Arc::default(), seen: Arc::default(), made: Arc::default(), threads: vec![] };
        let kinds = KINDS.into_iter().chain(std::iter::repeat_n(Kind::Change, changing.saturating_sub(1)));
        for (number, kind) in kinds.enumerate() {
            let (leaving, seen) = (Arc::clone(&callers.leaving), Arc::clone(&callers.seen));
            let (made, caller) = (Arc::clone(&callers.made), caller.clone());
            let run = format!("{run} {number}");
            callers.threads.push(thread::spawn(move || {
                let agent = agent();
                for n in 0.. {
                    if leaving.load(Ordering::Relaxed) {
                        return;
                    }
                    let name = format!("machine {run} {n}");
                    let answer = caller.ask(&agent, kind, &name);
                    if answer.status == 201 {
                        made.lock().unwrap().push(name);
                    }
                    seen.lock().unwrap().push(answer);
                    thread::sleep(PAUSE);
                }
            }));
        }
        callers
    }

    /// Waits until each kind was asked for after `since` and answered, and says how long that took for each.
    pub fn await_all(&self, since: Instant) -> BTreeMap<Kind, Duration> {
        loop {
            let mut first = BTreeMap::new();
            for seen in self.seen.lock().unwrap().iter() {
                if seen.began >= since && seen.status < 400 {
                    first.entry(seen.kind).or_insert(seen.began + seen.took - since);
                }
            }
            if first.len() == KINDS.len() {
                return first;
            }
            assert!(since.elapsed() < PATIENCE, "only {first:?} work again; {}", self.shown());
            assert!(self.threads.iter().all(|thread| !thread.is_finished()), "a caller got a wrong answer");
            thread::sleep(PAUSE);
        }
    }

    /// How often which answer came, and the longest wait.
    pub fn shown(&self) -> String {
        let (mut counts, mut longest) = (BTreeMap::<_, u32>::new(), Duration::ZERO);
        for seen in self.seen.lock().unwrap().iter() {
            *counts.entry((seen.kind, seen.status, seen.code.clone())).or_default() += 1;
            longest = longest.max(seen.took);
        }
        format!("{counts:?}, the longest {longest:.2?}")
    }

    /// All that was answered, and the names of what was made.
    pub fn stop(self) -> (Vec<Seen>, Vec<String>) {
        self.leaving.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
        (std::mem::take(&mut *self.seen.lock().unwrap()), std::mem::take(&mut *self.made.lock().unwrap()))
    }
}
