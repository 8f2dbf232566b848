//! What the tests of sign-in and of HTTP share: whole answers, many requests to one process, and a real listener.
use crate::app::{TestApp, connect};
use actix_web::{
    HttpResponse,
    body::{MessageBody, to_bytes},
    http::{Method, header::HeaderMap},
    test::{self, TestRequest},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use diesel::sql_query;
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use identityd::{
    app::{self, App, Listener, Listeners, Server, Shared},
    platform::tasks::Tasks,
};
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::LazyLock,
    time::Duration,
};
use tracing::subscriber::NoSubscriber;

/// An answer with all of its headers.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    headers: Vec<(String, String)>,
    pub text: String,
}

impl Answer {
    /// A header; its lines joined as RFC 9110 has it.
    pub fn header(&self, name: &str) -> Option<String> {
        let lines: Vec<&str> =
            self.headers.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str()).collect();
        (!lines.is_empty()).then(|| lines.join(", "))
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_default()
    }

    /// The `code` of a problem.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Status and code, for tables.
    pub fn verdict(&self) -> (u16, String) {
        (self.status, self.code())
    }

    /// For snapshots.
    pub fn shown(&self) -> Value {
        let body = serde_json::from_str(&self.text).unwrap_or_else(|_| json!(self.text));
        json!({ "status": self.status, "headers": self.headers, "body": body })
    }
}

fn listed(headers: &HeaderMap) -> Vec<(String, String)> {
    let shown = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let mut all: Vec<_> =
        headers.iter().map(|(name, value)| (name.to_string(), shown(value.as_bytes()))).collect();
    all.sort();
    all
}

async fn whole<B: MessageBody>(response: HttpResponse<B>) -> Answer {
    let (status, headers) = (response.status().as_u16(), listed(response.headers()));
    let bytes = to_bytes(response.into_body()).await.unwrap_or_else(|_| panic!("a body that breaks off"));
    Answer { status, headers, text: String::from_utf8_lossy(&bytes).into_owned() }
}

/// One request after another to one worker of a process. Also takes what a handler answers with an error.
pub async fn ask_all(
    app: &App,
    listener: Listener,
    requests: impl IntoIterator<Item = TestRequest>,
) -> Vec<Answer> {
    let shared = Shared::of(app, listener).unwrap();
    let service = test::init_service(app::worker(app, &shared)).await;
    let mut answers = vec![];
    for request in requests {
        answers.push(match test::try_call_service(&service, request.to_request()).await {
            Ok(response) => whole(response.into_parts().1).await,
            Err(error) => whole(error.error_response()).await,
        });
    }
    answers
}

/// One request to the public listener.
pub async fn ask(app: &App, request: TestRequest) -> Answer {
    ask_all(app, Listener::Http, [request]).await.remove(0)
}

/// A request from this machine.
pub fn request(method: Method, path: &str) -> TestRequest {
    TestRequest::default().method(method).uri(path).peer_addr("127.0.0.1:9".parse().unwrap())
}

/// A request with a JSON body from somewhere.
pub fn post_from(address: &str, path: &str, body: &Value) -> TestRequest {
    let peer = SocketAddr::new(address.parse().unwrap(), 9);
    TestRequest::post().uri(path).peer_addr(peer).set_json(body)
}

/// With this bearer.
pub fn bearing(request: TestRequest, token: &str) -> TestRequest {
    request.insert_header(("authorization", format!("Bearer {token}")))
}

/// Header and claims of an access token, unverified.
pub fn decoded(token: &str) -> Value {
    let part = |text: &str| -> Value {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(text).expect("base64url")).expect("JSON")
    };
    let parts: Vec<&str> = token.split('.').collect();
    assert_eq!(parts.len(), 3, "three parts");
    json!({ "header": part(parts[0]), "claims": part(parts[1]) })
}

/// An answer with tokens, without them: what an access token says, and that the other is a refresh token.
pub fn without_tokens(answer: &Value) -> Value {
    let mut answer = answer.clone();
    let refresh = answer["body"]["refresh_token"].as_str().unwrap_or_default();
    assert!(refresh.starts_with("idr_") && refresh.len() == 69, "{answer}");
    answer["body"]["access_token"] = decoded(answer["body"]["access_token"].as_str().unwrap());
    answer["body"]["refresh_token"] = json!("idr_…");
    answer
}

/// A text in an answer.
pub fn text(answer: &Value, member: &str) -> String {
    answer["body"][member].as_str().unwrap_or_else(|| panic!("no {member}: {answer}")).to_owned()
}

/// What was told since this many events.
pub async fn told_since(app: &TestApp, count: usize) -> Value {
    app.events().await.as_array().unwrap()[count..].iter().map(|row| row["event"].clone()).collect()
}

/// How many events wait.
pub async fn told(app: &TestApp) -> usize {
    app.events().await.as_array().unwrap().len()
}

/// From now on this thread tells this subscriber.
pub fn listening<S: tracing::Subscriber + Send + Sync>(subscriber: S) -> tracing::subscriber::DefaultGuard {
    // With a single subscriber in the process, tracing asks each thread's own what it wants to hear, and believes those
    // that have none. A second one, which wants nothing, makes it ask all.
    static SECOND: LazyLock<tracing::Dispatch> =
        LazyLock::new(|| tracing::Dispatch::new(NoSubscriber::new()));
    LazyLock::force(&SECOND);
    tracing::subscriber::set_default(subscriber)
}

/// An organization `acme` of `owner`, and Ada in it, who can sign in.
pub async fn acme() -> TestApp {
    acme_with(&[]).await
}

/// The same, configured otherwise.
pub async fn acme_with(flags: &[&str]) -> TestApp {
    let app = TestApp::with(flags).await;
    let org = app.org("owner", "acme").await;
    app.joined(org, "owner", "ada", &["analyst"]).await;
    app
}

/// Ada signs in; the answer is good.
pub async fn signed_in(app: &TestApp) -> Value {
    let answer = app.sign_in("ada").await;
    assert_eq!(answer["status"], 200, "{answer}");
    answer
}

/// A table that nobody else gets at, so that whoever needs it waits.
pub struct Held(AsyncPgConnection);

impl Held {
    pub async fn of(app: &TestApp, table: &str) -> Self {
        let name = app.database_url().rsplit('/').next().unwrap().to_owned();
        let mut conn = connect("superuser", &name).await;
        conn.batch_execute(&format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")).await.unwrap();
        Self(conn)
    }

    /// Once so many wait for it: then all of them go on at once.
    pub async fn awaited_by(&mut self, count: usize) {
        let waiting = "SELECT FROM pg_locks WHERE NOT granted AND database = \
                       (SELECT oid FROM pg_database WHERE datname = current_database())";
        for _ in 0..10_000 {
            if sql_query(waiting).execute(&mut self.0).await.unwrap() >= count {
                return;
            }
        }
        panic!("they do not come");
    }

    pub async fn let_go(mut self) {
        self.0.batch_execute("COMMIT").await.unwrap();
    }
}

/// The public listener on a port of this machine, with as many workers as the configuration says.
pub struct Live {
    app: App,
    address: SocketAddr,
    server: Server,
    tasks: Tasks,
}

impl Live {
    /// The app must be configured with `http.drain_seconds=0`.
    pub fn of(app: &App) -> Self {
        let (tasks, http) = (Tasks::default(), TcpListener::bind("127.0.0.1:0").unwrap());
        let address = http.local_addr().unwrap();
        let server = app::serve(app, &tasks, Listeners { http: Some(http), ..Listeners::default() }).unwrap();
        Self { app: app.clone(), address, server, tasks }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// One request on a connection and a thread of its own.
    pub fn post(&self, path: &str, body: &Value) -> tokio::task::JoinHandle<Answer> {
        let body = body.to_string();
        let length = body.len();
        let head = format!("content-type: application/json\r\ncontent-length: {length}\r\n");
        self.send(format!("POST {path} HTTP/1.1\r\n{head}host: test\r\nconnection: close\r\n\r\n{body}"))
    }

    /// Any text as a request.
    pub fn send(&self, request: String) -> tokio::task::JoinHandle<Answer> {
        let address = self.address;
        tokio::task::spawn_blocking(move || {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_mins(1))).unwrap();
            stream.write_all(request.as_bytes()).unwrap();
            let mut bytes = vec![];
            stream.read_to_end(&mut bytes).unwrap();
            parse(&String::from_utf8_lossy(&bytes))
        })
    }

    /// Finishes what is begun.
    pub async fn stop(self) {
        self.server.drain(&self.app).await;
        self.tasks.stop(Duration::from_secs(10)).await;
    }
}

fn parse(text: &str) -> Answer {
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let header = |line: &str| {
        let (name, value) = line.split_once(':').unwrap();
        (name.to_lowercase(), value.trim().to_owned())
    };
    Answer { status, headers: lines.map(header).collect(), text: body.to_owned() }
}
