//! How often who may ask: by class of routes, by who is known and by the networks of who is not; together with other
//! processes through Redis, and alone without it.
use crate::{
    app::{PASSWORD, TestApp, send},
    http_support::{Answer, acme_with, ask, ask_all, bearing, post_from, request},
    process::{Served, migrated, until},
    redis_support::{OwnRedis, await_redis, following},
};
use actix_web::{http::Method, test::TestRequest};
use identityd::{
    app::{self, App, Listener},
    authorization::Role,
    platform::health::Status,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, fs, time::Duration};

const CHECK: &str = "/v1/auth/validate-api-key";

/// The statuses of so many of one request.
async fn statuses(app: &App, times: usize, request: impl Fn() -> TestRequest) -> Vec<u16> {
    let requests = (0..times).map(|_| request());
    ask_all(app, Listener::Http, requests).await.iter().map(|answer| answer.status).collect()
}

async fn as_caller(app: &TestApp, caller: &str, method: Method, path: &str) -> TestRequest {
    bearing(request(method, path), &app.token(caller).await)
}

fn check_from(address: &str) -> TestRequest {
    post_from(address, CHECK, &json!({ "apiKeySecret": "idk_unknown" }))
}

/// A key of Ada's.
async fn key(app: &TestApp) -> String {
    let issued = app.post("owner", "/v1/orgs/acme/service-accounts", json!({ "name": "edge" })).await;
    let account = issued["body"]["serviceAccountId"].as_str().unwrap();
    let path = format!("/v1/orgs/acme/service-accounts/{account}/api-keys");
    let key = app.post("owner", &path, json!({ "scopes": ["orgs:read"] })).await;
    key["body"]["secret"].as_str().unwrap_or_else(|| panic!("{key}")).to_owned()
}

// Classes -----------------------------------------------------------------------------------------------------------

/// A new operation is in a class by its action; one of `sign-in:use` must name its own, or it fails here.
#[test]
fn every_operation_with_an_action_is_in_one_class() {
    let document = app::document().unwrap();
    let mut classes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let class = operation["x-rate-limit"].as_str();
            assert_eq!(class.is_some(), operation["x-action"].is_string(), "{method} {path}: {class:?}");
            if let Some(class) = class {
                classes.entry(class.into()).or_default().push(format!("{} {path}", method.to_uppercase()));
                assert!(operation["responses"].get("429").is_some(), "{method} {path}");
            }
        }
    }
    insta::assert_json_snapshot!(classes);
}

/// Members stand where they stood: it is committed, and compared.
#[test]
fn the_document_is_the_same_each_time_it_is_made() {
    let made = || app::document().unwrap().to_string();
    let first = made();
    assert!((0..8).all(|_| made() == first));
}

#[actix_web::test]
async fn pages_are_in_the_class_of_what_they_do_and_are_refused_as_pages() {
    let app = acme_with(&["limits.sign_in.network=1, 1/min", "limits.recovery.network=1, 1/min"]).await;
    for (path, form) in [
        ("/sign-in", [("email", "ada@example.io"), ("password", PASSWORD)]),
        ("/invite", [("token", "idi_x"), ("password", PASSWORD)]),
    ] {
        let send = || {
            let peer = "203.0.113.1:9".parse().unwrap();
            TestRequest::post().uri(path).peer_addr(peer).set_form(form)
        };
        assert!(ask(&app.app, send()).await.status < 429, "{path}");
        let refused = ask(&app.app, send()).await;
        assert_eq!((refused.status, refused.header("retry-after").as_deref()), (429, Some("60")), "{path}");
        assert_eq!(refused.header("content-type").as_deref(), Some("text/html; charset=utf-8"));
        assert!(refused.text.contains("too many attempts from this network; try again in 60 seconds"));
    }
}

// Who is counted ----------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_person_counts_as_himself_in_every_session_and_class_by_itself() {
    // The first invite was Ada's.
    let app = acme_with(&["limits.invites.principal=3, 1/min", "limits.writes.principal=2, 1/min"]).await;
    let org = app.work().state().org_by_slug("acme").unwrap();
    app.member(org, "admin", Role::Admin).await;
    let invite = async |by: &str, to: &str| {
        app.post(by, "/v1/orgs/acme/invites", json!({ "email": format!("{to}@example.io") })).await
    };
    assert_eq!([&invite("owner", "x").await["status"], &invite("owner", "y").await["status"]], [202, 202]);
    let refused = invite("owner", "z").await;
    assert_eq!((&refused["status"], &refused["body"]["code"]), (&json!(429), &json!("RATE_LIMITED")));
    app.bearer("owner", &app.token("owner").await);
    assert_eq!(invite("owner", "z").await["status"], 429, "another session");
    assert_eq!(invite("admin", "z").await["status"], 202, "somebody else");
    let account = json!({ "name": "edge" });
    let write = app.post("owner", "/v1/orgs/acme/service-accounts", account).await;
    assert_eq!(write["status"], 201, "another class");
    app.tick(Duration::from_mins(1)).await;
    assert_eq!(invite("owner", "w").await["status"], 202);
    let text = ask(&app.app, request(Method::GET, "/metrics")).await.text;
    let line = "identityd_rate_limited_total{class=\"invites\",subject=\"principal\"} 2";
    assert!(text.contains(line), "{text}");
}

#[actix_web::test]
async fn a_key_counts_as_a_key_and_as_its_holder() {
    for (limit, expected) in [
        ("limits.reads.key=2, 1/min", [200, 200, 429]),
        ("limits.reads.principal=2, 1/min", [200, 200, 429]),
        ("limits.reads.org=2, 1/min", [200, 200, 429]),
        ("limits.reads.network=2, 1/min", [200, 200, 200]),
        ("limits.writes.key=2, 1/min", [200, 200, 200]),
    ] {
        let app = acme_with(&[limit]).await;
        let key = key(&app).await;
        let read = || bearing(request(Method::GET, "/v1/orgs/acme"), &key);
        assert_eq!(statuses(&app.app, 3, read).await, expected, "{limit}");
    }
}

#[actix_web::test]
async fn an_org_is_one_for_all_its_members_and_no_stranger_empties_it() {
    let app = acme_with(&["limits.reads.org=2, 1/min"]).await;
    app.org("stranger", "other").await;
    let read = async |caller: &str| app.get(caller, "/v1/orgs/acme").await["status"].clone();
    for _ in 0..2 {
        assert_eq!(read("stranger").await, 404);
    }
    assert_eq!([read("owner").await, read("ada").await], [json!(200), json!(200)]);
    assert_eq!([read("owner").await, read("ada").await], [json!(429), json!(429)]);
    assert_eq!(app.get("stranger", "/v1/orgs/other").await["status"], 200);
}

#[actix_web::test]
async fn whoever_is_not_known_counts_as_his_network_and_nobody_who_is_pays_for_it() {
    let app = acme_with(&["limits.reads.network=2, 1/min"]).await;
    let token = app.token("owner").await;
    let guess = || bearing(request(Method::GET, "/v1/orgs/acme"), "idk_guess");
    assert_eq!(statuses(&app.app, 3, guess).await, [401, 401, 429]);
    let bare = || request(Method::GET, "/v1/orgs/acme");
    assert_eq!(statuses(&app.app, 1, bare).await, [429], "without any credential");
    let known = || bearing(request(Method::GET, "/v1/orgs/acme"), &token);
    assert_eq!(statuses(&app.app, 5, known).await, [200; 5], "from the same address");
}

#[actix_web::test]
async fn what_one_bucket_refuses_no_other_is_charged_for() {
    let app = acme_with(&["limits.reads.principal=3, 1/min", "limits.reads.org=1, 1/min"]).await;
    let read = async |path: &str| app.get("owner", path).await;
    assert_eq!(read("/v1/orgs/acme").await["status"], 200);
    for _ in 0..5 {
        let refused = read("/v1/orgs/acme").await;
        assert_eq!(refused["status"], 429, "{refused}");
        assert_eq!(refused["headers"]["ratelimit"], "\"reads-org\";r=0;t=60");
    }
    app.org("owner", "second").await;
    let other = read("/v1/orgs/second").await;
    assert_eq!(other["headers"]["ratelimit"], "\"reads-principal\";r=1;t=120, \"reads-org\";r=0;t=60");
}

// Checks ------------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn a_trusted_caller_is_not_counted_and_a_strangers_checks_stay_in_this_process() {
    let redis = OwnRedis::start().await;
    let app = acme_with(&["limits.checks.network=2, 1/min", &redis.url()]).await;
    let tasks = following(&app.app).await;
    let friend = ask_all(&app.app, Listener::Http, (0..50).map(|_| check_from("10.1.2.3"))).await;
    assert!(friend.iter().all(|answer| answer.status == 200 && answer.header("ratelimit").is_none()));
    assert_eq!(statuses(&app.app, 3, || check_from("203.0.113.1")).await, [200, 200, 429]);
    assert_eq!(statuses(&app.app, 1, || check_from("203.0.113.200")).await, [429], "the same /24");
    assert_eq!(statuses(&app.app, 1, || check_from("203.0.114.1")).await, [200], "another");
    let buckets = "EVAL \"return #redis.call('KEYS', '*:bucket:*')\" 0";
    assert_eq!(redis.ask(buckets).await.as_deref(), Some(":0"));
    tasks.stop(Duration::from_secs(5)).await;
}

// Answers -----------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn an_answer_says_what_is_left_and_a_refusal_when_to_come_again() {
    let flags = ["limits.reads.principal=60, 10/min", "limits.reads.org=2, 4/min"];
    let app = acme_with(&flags).await;
    let token = app.token("ada").await;
    let read = || {
        let read = bearing(request(Method::GET, "/v1/orgs/acme"), &token);
        read.insert_header(("origin", "http://localhost:3000")).insert_header(("x-request-id", "the-same"))
    };
    let shown = |answer: Answer| json!({ "status": answer.status, "headers": answer.shown()["headers"] });
    let first = ask(&app.app, read()).await;
    assert_eq!(
        first.header("ratelimit").as_deref(),
        Some("\"reads-principal\";r=59;t=6, \"reads-org\";r=1;t=15")
    );
    assert_eq!(ask(&app.app, read()).await.status, 200);
    let refused = ask(&app.app, read()).await;
    let body = refused.json();
    insta::assert_json_snapshot!([shown(first), shown(refused), body]);
}

// Limits that change ------------------------------------------------------------------------------------------------

/// A file that is right is taken, one that is not changes nothing, and what is no limit is not read anew.
#[test]
fn serve_reads_its_limits_anew_when_told_to() {
    let (place, database) = (crate::cli_support::Scratch::new("limits"), migrated("limits"));
    let dev = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/config/dev.toml")).unwrap();
    let write = |more: &str| place.file("identityd.toml", &format!("{dev}\n{more}"));
    let command = crate::process::serve(&place, &database, &[]);
    let mut own = std::process::Command::new(command.get_program());
    let file = std::ffi::OsString::from(write("[limits.reads]\nnetwork = \"off\""));
    let arguments = command
        .get_args()
        .map(|word| if word.to_string_lossy().ends_with("dev.toml") { &file } else { word });
    own.args(arguments).current_dir(place.path());
    let server = Served::run(own);
    let guess = || server.call("GET", "/v1/orgs/acme", Some("idk_guess"), &Value::Null).0;
    let said = |what: &str| server.log().matches(what).count();
    assert_eq!([guess(), guess(), guess()], [401; 3]);
    write("[limits.reads]\nnetwork = \"1, 1/min\"");
    server.hang_up();
    until(&1, || said("the limits were read anew"));
    assert_eq!([guess(), guess()], [401, 429]);
    for wrong in ["[limits.reads]\nnetwork = \"plenty\"", "[limits", "[http]\nlimit = 3"] {
        let before = said("so the limits stay as they are");
        write(wrong);
        server.hang_up();
        until(&(before + 1), || said("so the limits stay as they are"));
        assert_eq!(guess(), 429, "{wrong}");
    }
    let (status, _) = server.call("GET", "/readyz", None, &Value::Null);
    assert_eq!(status, 200);
    write("[limits.reads]\nnetwork = \"off\"");
    server.hang_up();
    until(&2, || said("the limits were read anew"));
    assert_eq!([guess(), guess(), guess()], [401; 3]);
}

// Redis -------------------------------------------------------------------------------------------------------------

/// With Redis two processes have one bucket for changes; each has its own for reads. Without it two processes allow at
/// most twice what one does, less what each has counted, and no request fails.
#[tokio::test(flavor = "multi_thread")]
async fn processes_count_together_and_without_redis_each_by_itself() {
    let mut redis = OwnRedis::start().await;
    let limits = ["limits.writes.principal=4, 1/min", "limits.reads.principal=4, 1/min"];
    let url = redis.url();
    let flags: Vec<&str> = limits.into_iter().chain([url.as_str()]).collect();
    let app = acme_with(&flags).await;
    let other = app.replica(&flags).await;
    let tasks = [following(&app.app).await, following(&other).await];
    let both = [&app.app, &other];
    let allowed = async |method: Method, caller: &str| {
        let mut allowed = 0;
        for round in 0..12 {
            let asked = as_caller(&app, caller, method.clone(), "/v1/orgs/acme").await;
            let asked = if method == Method::PATCH { asked.set_json(json!({})) } else { asked };
            match send(both[round % 2], asked, Listener::Http).await["status"].as_u64().unwrap() {
                429 => (),
                status if status < 500 => allowed += 1,
                status => panic!("{status}"),
            }
        }
        allowed
    };
    assert_eq!(allowed(Method::PATCH, "ada").await, 4, "together");
    assert_eq!(allowed(Method::GET, "ada").await, 8, "each by itself");
    redis.kill();
    for app in both {
        await_redis(app, Status::Failing).await;
    }
    assert_eq!(allowed(Method::PATCH, "ada").await, 4, "each has counted two of its four");
    assert_eq!(allowed(Method::PATCH, "carol").await, 8, "twice as much as one");
    for tasks in tasks {
        tasks.stop(Duration::from_secs(5)).await;
    }
}

/// It holds connections and answers nothing: whoever asks first waits a quarter of a second, and nobody fails.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_stands_still_fails_no_request_of_any_class() {
    let redis = OwnRedis::start().await;
    let limits = ["sign_in", "recovery", "invites", "key_issue", "writes", "reads", "checks"];
    let limits =
        limits.map(|class| ["network", "principal", "org"].map(|by| format!("limits.{class}.{by}=1, 1/min")));
    let url = redis.url();
    let flags: Vec<&str> = limits.iter().flatten().map(String::as_str).chain([url.as_str()]).collect();
    let app = TestApp::with(&flags).await;
    app.org("owner", "acme").await;
    let tasks = following(&app.app).await;
    app.tick(Duration::from_hours(1)).await;
    redis.freeze();
    let token = app.token("owner").await;
    let post = |path: &str, body: Value| post_from("203.0.113.1", path, &body);
    for (request, expected) in [
        (post("/v1/auth/login", json!({ "email": "x@example.io", "password": "x" })), 401),
        (post("/v1/invites/accept", json!({ "token": "idi_x", "password": PASSWORD })), 404),
        (bearing(post("/v1/orgs/acme/invites", json!({ "email": "y@example.io" })), &token), 202),
        (bearing(post("/v1/orgs/acme/service-accounts", json!({ "name": "edge" })), &token), 201),
        (bearing(request(Method::GET, "/v1/orgs/acme"), &token), 200),
        (check_from("203.0.113.1"), 200),
    ] {
        let answer = ask(&app.app, request).await;
        assert_eq!(answer.status, expected, "{answer:?}");
    }
    let again = post("/v1/auth/login", json!({ "email": "x@example.io", "password": "x" }));
    assert_eq!(ask(&app.app, again).await.status, 429, "and each process counts");
    redis.thaw();
    tasks.stop(Duration::from_secs(5)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_in_redis_tells_nobody_whose_it_is() {
    let redis = OwnRedis::start().await;
    let app = acme_with(&[
        "limits.sign_in.network=9, 9/min",
        "limits.writes.principal=9, 1/min",
        "limits.writes.org=9, 1/min",
        &redis.url(),
    ])
    .await;
    let tasks = following(&app.app).await;
    let body = json!({ "email": "ada@example.io", "password": PASSWORD });
    assert_eq!(ask(&app.app, post_from("203.0.113.77", "/v1/auth/login", &body)).await.status, 200);
    app.patch("owner", "/v1/orgs/acme", json!({})).await;
    let keys = "EVAL \"local all = redis.call('KEYS', '*:bucket:*') table.sort(all) \
                return redis.status_reply(table.concat(all, ' '))\" 0";
    let keys = redis.ask(keys).await.unwrap();
    let names: Vec<&str> = keys.trim_start_matches('+').split(' ').collect();
    let [network, org, principal] = names[..] else { panic!("{names:?}") };
    for (name, begins) in [
        (network, "identityd:bucket:sign_in:network:"),
        (principal, "identityd:bucket:writes:principal:"),
        (org, "identityd:bucket:writes:org:"),
    ] {
        let digest = name.strip_prefix(begins).unwrap_or_else(|| panic!("{names:?}"));
        assert_eq!(digest.len(), 22, "of sixteen bytes: {name}");
    }
    assert!(!keys.contains("203.0.113"));
    tasks.stop(Duration::from_secs(5)).await;
}
