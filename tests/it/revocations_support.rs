//! A reader of the stream of revocations, over a socket, as a gateway is.
use crate::{app::TestApp, support::PATIENCE};
use actix_web::http::Method;
use serde_json::{Value, json};
use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    thread,
    time::Duration,
};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What a stream said.
#[derive(Clone, Debug)]
pub struct Event {
    pub name: String,
    pub id: Option<i64>,
    pub data: Value,
}

/// An open stream.
pub struct Reader {
    socket: TcpStream,
    events: UnboundedReceiver<Event>,
    pub status: u16,
    /// The `id` that was read last.
    pub last_id: i64,
}

impl Reader {
    /// Begins after `after`, or with what comes.
    pub async fn open(address: SocketAddr, bearer: &str, query: &str, after: Option<i64>) -> Self {
        let resumed = after.map_or_else(String::new, |id| format!("last-event-id: {id}\r\n"));
        let request = format!(
            "GET /v1/revocations{query} HTTP/1.1\r\nhost: test\r\naccept: text/event-stream\r\n\
             authorization: Bearer {bearer}\r\n{resumed}\r\n"
        );
        let (sender, events) = unbounded_channel();
        let opened = tokio::task::spawn_blocking(move || {
            let mut socket = TcpStream::connect(address).unwrap();
            socket.write_all(request.as_bytes()).unwrap();
            let mut from = BufReader::new(socket.try_clone().unwrap());
            let head: Vec<String> =
                from.by_ref().lines().map(Result::unwrap).take_while(|line| !line.is_empty()).collect();
            let status = head[0].split(' ').nth(1).unwrap().parse().unwrap();
            thread::spawn(move || read(from, &sender));
            (socket, status)
        });
        let (socket, status) = opened.await.unwrap();
        Self { socket, events, status, last_id: after.unwrap_or_default() }
    }

    /// The next event; `None`: it ended.
    pub async fn next(&mut self) -> Option<Event> {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("something in time");
        if let Some(id) = event.as_ref().and_then(|event| event.id) {
            self.last_id = id;
        }
        event
    }

    /// The next revocation.
    pub async fn revocation(&mut self) -> Value {
        loop {
            let event = self.next().await.expect("a stream that goes on");
            if event.name == "revocation" {
                return event.data;
            }
        }
    }

    /// Reads to its end.
    pub async fn end(&mut self) {
        while self.next().await.is_some() {}
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.socket.shutdown(Shutdown::Both);
    }
}

fn read(mut from: BufReader<TcpStream>, events: &UnboundedSender<Event>) {
    let mut text = String::new();
    while let Some(chunk) = chunk(&mut from) {
        text.push_str(&chunk);
        while let Some(end) = text.find("\n\n") {
            let block: String = text.drain(..end + 2).collect();
            let field =
                |name: &str| block.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
            let Some(name) = field("event: ") else { continue };
            let data = serde_json::from_str(&field("data: ").unwrap()).unwrap();
            let id = field("id: ").map(|id| id.parse().unwrap());
            if events.send(Event { name, id, data }).is_err() {
                return;
            }
        }
    }
}

/// One chunk of RFC 9112; `None`: the last one, or a connection that broke.
fn chunk(from: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    from.read_line(&mut line).ok()?;
    let length = usize::from_str_radix(line.trim(), 16).ok().filter(|length| *length > 0)?;
    let mut bytes = vec![0; length + 2];
    from.read_exact(&mut bytes).ok()?;
    String::from_utf8(bytes[..length].to_vec()).ok()
}

/// What changed after a revision, as (kind, id, reason), and up to where that is.
pub async fn listed(app: &TestApp, caller: &str, query: &str) -> (Vec<(String, String, String)>, i64) {
    app.work().catch_up().await.unwrap();
    let answer = app.get(caller, &format!("/v1/revocations{query}")).await;
    assert_eq!(answer["status"], 200, "{answer}");
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap().to_owned();
    let all = answer["body"].as_array().unwrap().iter();
    let all = all.map(|entry| (text(entry, "kind"), text(entry, "id"), text(entry, "reason"))).collect();
    (all, answer["headers"]["authz-revision"].as_str().unwrap().parse().unwrap())
}

/// A service account of acme that may hear of it, and its key's id and secret.
pub async fn gateway(app: &TestApp) -> (String, String, String) {
    gateway_named(app, "edge").await
}

/// The same under another name.
pub async fn gateway_named(app: &TestApp, name: &str) -> (String, String, String) {
    let made = app
        .post("owner", "/v1/orgs/acme/service-accounts", json!({ "name": name, "roles": ["admin"] }))
        .await;
    let account = made["body"]["serviceAccountId"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
    let path = format!("/v1/orgs/acme/service-accounts/{account}/api-keys");
    let issued = app.post("owner", &path, json!({ "scopes": ["policies:evaluate"] })).await;
    let text = |name: &str| issued["body"][name].as_str().unwrap_or_else(|| panic!("{issued}")).to_owned();
    (account, text("apiKeyId"), text("secret"))
}

/// Revokes a key of acme.
pub async fn revoke(app: &TestApp, key: &str) {
    let path = format!("/v1/orgs/acme/api-keys/{key}/revoke");
    let answer = app.call(Method::POST, Some("owner"), &path, Value::Null).await;
    assert_eq!(answer["status"], 204, "{answer}");
}

/// What ends at a shutdown must not take as long as what has to be cut off.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(15);
