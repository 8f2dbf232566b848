//! What the tests of orgs, people, keys and flows share.
use crate::app::TestApp;
use actix_web::http::Method;
use diesel_async::SimpleAsyncConnection;
use identityd::authorization::PlatformRole;
use serde_json::{Value, json};
use std::{
    future::Future,
    pin::Pin,
    sync::atomic::{AtomicUsize, Ordering},
};

/// An id that nothing has.
pub const NOBODY: &str = "01890000-0000-7000-8000-00000000dead";
const PAGES_MAX: usize = 20;

/// The answer to a call, and the events that it left.
pub async fn told(app: &TestApp, call: impl Future<Output = Value>) -> Value {
    let before = app.events().await.as_array().unwrap().len();
    let answer = call.await;
    json!({ "answer": answer, "events": events_since(app, before).await })
}

/// The events that a call left.
pub async fn events_of(app: &TestApp, call: impl Future<Output = Value>) -> Vec<Value> {
    told(app, call).await["events"].as_array().unwrap().clone()
}

async fn events_since(app: &TestApp, before: usize) -> Vec<Value> {
    let all = app.events().await;
    all.as_array().unwrap().iter().skip(before).map(|row| row["event"].clone()).collect()
}

/// Takes the secret out of what a snapshot will keep.
pub fn take_secret(answer: &mut Value) -> String {
    let taken = std::mem::replace(&mut answer["body"]["secret"], json!("(taken out)"));
    taken.as_str().unwrap_or_else(|| panic!("no secret: {answer}")).to_owned()
}

/// Status, code, and what a refusal names: members of the request, or policies. `422 SLUG_INVALID slug`.
pub fn brief(answer: &Value) -> String {
    let body = &answer["body"];
    let named = |list: &str, member: Option<&str>| -> Vec<String> {
        let items = body[list].as_array().into_iter().flatten();
        items.map(|item| member.map_or(item, |member| &item[member]).as_str().unwrap().to_owned()).collect()
    };
    let code = body["code"].as_str().map(str::to_owned);
    let mut words = vec![answer["status"].to_string()];
    words.extend(code);
    words.extend(named("errors", Some("field")));
    words.extend(named("policyIds", None));
    words.join(" ")
}

/// What two calls at once came to, whichever was first.
pub fn both((one, other): (Value, Value)) -> [String; 2] {
    let mut briefs = [brief(&one), brief(&other)];
    briefs.sort();
    briefs
}

/// Two calls at once, for certain: neither may commit before both have come as far as they can.
pub async fn at_once(
    app: &TestApp,
    one: impl Future<Output = Value>,
    other: impl Future<Output = Value>,
) -> (Value, Value) {
    const LOOKS_MAX: usize = 2000;
    let mut holder = app.as_service().await;
    // The last row that every write locks.
    holder.batch_execute("BEGIN; SELECT FROM authz_clock FOR UPDATE").await.unwrap();
    let done = AtomicUsize::new(0);
    let counted = async |call: Pin<Box<dyn Future<Output = Value> + '_>>| {
        let answer = call.await;
        done.fetch_add(1, Ordering::Relaxed);
        answer
    };
    let release = async {
        for _ in 0..LOOKS_MAX {
            let waiting = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND wait_event_type = 'Lock'";
            let waiting = app.rows(waiting).await[0]["count"].as_u64().unwrap();
            if waiting + done.load(Ordering::Relaxed) as u64 >= 2 {
                return holder.batch_execute("COMMIT").await.unwrap();
            }
        }
        panic!("two calls at once do not come to wait for each other");
    };
    let (one, other, ()) = tokio::join!(counted(Box::pin(one)), counted(Box::pin(other)), release);
    (one, other)
}

/// One call, in brief.
pub async fn ask(app: &TestApp, caller: &str, method: &Method, path: &str, body: &Value) -> String {
    brief(&app.call(method.clone(), Some(caller), path, body.clone()).await)
}

/// One call with one header.
pub async fn call_with(
    app: &TestApp,
    caller: &str,
    method: Method,
    path: &str,
    body: Value,
    header: (&str, &str),
) -> Value {
    app.call_with(method, Some(caller), path, body, &[header]).await
}

/// Every page of a list, to the end.
pub async fn pages(app: &TestApp, caller: &str, first: &str) -> Vec<Vec<Value>> {
    let (mut pages, mut next) = (vec![], Some(first.to_owned()));
    while let Some(path) = next {
        let answer = app.get(caller, &path).await;
        assert_eq!(answer["status"], 200, "{answer}");
        pages.push(answer["body"].as_array().unwrap().clone());
        assert!(pages.len() < PAGES_MAX, "the list does not end: {answer}");
        let link = answer["headers"]["link"].as_str();
        next = link.map(|link| {
            link.strip_prefix('<').and_then(|link| link.strip_suffix(">; rel=\"next\"")).unwrap().to_owned()
        });
    }
    pages
}

/// One member of everything in a list.
pub fn column(list: &Value, member: &str) -> Vec<String> {
    let items = list.as_array().unwrap_or_else(|| panic!("no list: {list}"));
    items.iter().map(|item| item[member].as_str().unwrap().to_owned()).collect()
}

/// A person who may do everything on the platform.
pub async fn root(app: &TestApp) -> &'static str {
    app.person_with("root", &[PlatformRole::PlatformAdmin]).await;
    "root"
}

/// Issues a key: its id and its secret.
pub async fn issue(app: &TestApp, caller: &str, path: &str, body: Value) -> (String, String) {
    let answer = app.post(caller, path, body).await;
    assert_eq!(answer["status"], 201, "{answer}");
    let text = |member: &str| answer["body"][member].as_str().unwrap().to_owned();
    (text("apiKeyId"), text("secret"))
}

/// Asks what a secret is good for, as a service does.
pub async fn check(app: &TestApp, secret: &str) -> Value {
    check_with(app, json!({ "apiKeySecret": secret })).await
}

/// The same, with more to say.
pub async fn check_with(app: &TestApp, body: Value) -> Value {
    let answer = app.call(Method::POST, None, "/v1/auth/validate-api-key", body).await;
    assert_eq!(answer["status"], 200, "{answer}");
    answer["body"].clone()
}

/// Metadata that is as large as it may be, and a byte more.
pub fn metadata_at_the_limit() -> [Value; 2] {
    let around = json!({ "x": "" }).to_string().len();
    [0, 1].map(|more| json!({ "x": "y".repeat(16 * 1024 - around + more) }))
}
