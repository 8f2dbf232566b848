//! What every answer has in common, whatever was asked.
use crate::{
    app::{TestApp, connect},
    http_support::{
        Answer, acme, acme_with, ask, ask_all, bearing, listening, post_from, request, text, told, told_since,
    },
};
use actix_web::{http::Method, test::TestRequest};
use diesel_async::SimpleAsyncConnection as _;
use identityd::{
    app::{self, Listener},
    authorization::Role,
};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};
use tracing_subscriber::layer::SubscriberExt as _;

const PORTAL: &str = "https://portal.example.io";
const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
const UNKNOWN: [&str; 9] = [
    "/support/impersonations/current",
    "/feature-flags",
    "/v1",
    "/v1/",
    "/v1/orgs/",
    "/v1/orgs/acme/no-such-thing",
    "/v2/orgs",
    "/.well-known/openid-configuration",
    "/v1/orgs/acme/users/x/y/z",
];

async fn ask_many(app: &TestApp, requests: Vec<TestRequest>) -> Vec<Answer> {
    ask_all(&app.app, Listener::Http, requests).await
}

/// Paths of the public listener, with something in place of each parameter, and their methods.
fn operations() -> Vec<(String, Vec<String>)> {
    let document = app::document().unwrap();
    let on_http = |operation: &Value| operation["x-listeners"].as_array().unwrap().contains(&json!("http"));
    let paths = document["paths"].as_object().unwrap().iter();
    let mut all: Vec<(String, Vec<String>)> = paths
        .map(|(path, item)| {
            let filled = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
            let methods = item.as_object().unwrap().iter().filter(|(_, operation)| on_http(operation));
            (filled.collect::<Vec<_>>().join("/"), methods.map(|(method, _)| method.to_uppercase()).collect())
        })
        .collect();
    let pages = [("/", "GET"), ("/sign-in", "GET POST"), ("/sign-out", "POST"), ("/invite", "GET POST")];
    all.extend(pages.map(|(path, methods)| {
        (path.to_owned(), methods.split(' ').map(ToOwned::to_owned).collect::<Vec<_>>())
    }));
    assert!(all.len() > 40, "{all:?}");
    all
}

// 404, 405, preflight -----------------------------------------------------------------------------------------------

/// The portal probes for what may not be there, and takes a 401 for its session's end.
#[actix_web::test]
async fn an_unknown_path_is_404_before_any_401() {
    let app = acme().await;
    let good = app.token("owner").await;
    let mut requests = vec![];
    for path in UNKNOWN {
        for method in METHODS {
            for bearer in [None, Some(good.as_str()), Some("garbage"), Some("")] {
                let plain = request(method.clone(), path);
                requests.push(bearer.into_iter().fold(plain, bearing));
            }
            requests.push(request(method.clone(), path).insert_header(("x-api-key", "garbage")));
            requests.push(request(method.clone(), path).insert_header(("authorization", "Basic eDp5")));
        }
    }
    for answer in ask_many(&app, requests).await {
        assert_eq!(answer.verdict(), (404, "NOT_FOUND".into()));
        assert_eq!(answer.header("www-authenticate"), None);
    }
}

#[actix_web::test]
async fn a_known_path_with_another_method_says_which_it_takes() {
    let app = TestApp::new().await;
    let all = operations();
    let methods_of = |path: &str| -> BTreeSet<&str> {
        // Two patterns may fit one path.
        let same = all.iter().filter(|(other, _)| other == path);
        let mut methods: BTreeSet<&str> =
            same.flat_map(|(_, methods)| methods.iter().map(String::as_str)).collect();
        if methods.contains("GET") {
            methods.insert("HEAD");
        }
        methods
    };
    let mut asked = vec![];
    for (path, _) in &all {
        let allowed = methods_of(path);
        let wrong = METHODS.iter().filter(|method| !allowed.contains(method.as_str()));
        asked.extend(wrong.map(|method| (method.clone(), path.clone(), allowed.clone())));
    }
    let requests = asked.iter().map(|(method, path, _)| request(method.clone(), path)).collect();
    for (answer, (method, path, allowed)) in ask_many(&app, requests).await.iter().zip(&asked) {
        assert_eq!(answer.verdict(), (405, "METHOD_NOT_ALLOWED".into()), "{method} {path}");
        let allow = answer.header("allow").unwrap();
        assert_eq!(allow.split(", ").collect::<BTreeSet<_>>(), *allowed, "{method} {path}");
    }
}

#[actix_web::test]
async fn a_preflight_is_204_on_every_path_known_or_not() {
    let app = TestApp::with(&[&format!("http.cors.origins=[\"{PORTAL}\"]")]).await;
    let paths: Vec<String> = operations().into_iter().map(|(path, _)| path).collect();
    let all: Vec<&str> =
        paths.iter().map(String::as_str).chain(UNKNOWN).chain(["/a%00b", "*", "//"]).collect();
    let preflight = |path: &&str| {
        request(Method::OPTIONS, path)
            .insert_header(("origin", PORTAL))
            .insert_header(("access-control-request-method", "PATCH"))
            .insert_header(("access-control-request-headers", "authorization, if-match"))
    };
    let answers = ask_many(&app, all.iter().map(preflight).collect()).await;
    for (answer, path) in answers.iter().zip(&all) {
        assert_eq!((answer.status, answer.text.as_str()), (204, ""), "{path}");
        let own = answer.header("x-request-id");
        let mut shown = answer.shown();
        shown["headers"].as_array_mut().unwrap().retain(|header| header[0] != "x-request-id");
        if *path == all[0] {
            insta::assert_json_snapshot!(shown);
        }
        assert!(own.is_some() && answer.header("access-control-allow-origin").as_deref() == Some(PORTAL));
    }
    let stranger = request(Method::OPTIONS, "/v1/orgs")
        .insert_header(("origin", "https://evil.example"))
        .insert_header(("access-control-request-method", "GET"));
    let answer = ask(&app.app, stranger).await;
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (204, None));
}

#[actix_web::test]
async fn options_without_a_preflight_says_what_there_is() {
    let app = TestApp::new().await;
    let answer = ask(&app.app, request(Method::OPTIONS, "/v1/orgs")).await;
    assert_eq!((answer.status, answer.header("allow").as_deref()), (204, Some("GET, HEAD, POST")));
    assert_eq!(ask(&app.app, request(Method::OPTIONS, "/v1/no-such-thing")).await.status, 404);
}

// Who may read ------------------------------------------------------------------------------------------------------

/// One request for each way to be refused before, in, and after a handler.
fn refusals(owner: &str) -> Vec<(TestRequest, u16)> {
    let owner = |request| bearing(request, owner);
    vec![
        (request(Method::GET, "/v1/no-such-thing"), 404),
        (request(Method::PUT, "/v1/orgs"), 405),
        (request(Method::GET, "/v1/orgs"), 401),
        (bearing(request(Method::GET, "/v1/orgs"), "garbage"), 401),
        (owner(request(Method::GET, "/v1/orgs/no-such-org")), 404),
        (owner(request(Method::POST, "/v1/orgs/acme/suspend")).set_json(json!({ "reason": "x" })), 200),
        (owner(request(Method::POST, "/v1/orgs/acme/restore")).set_json(json!({ "reason": "x" })), 403),
        (owner(request(Method::POST, "/v1/orgs")).set_json(json!({ "name": "A", "slug": "acme" })), 409),
        (owner(request(Method::POST, "/v1/orgs")).set_json(json!({ "name": "A", "slug": "!" })), 422),
        (owner(request(Method::POST, "/v1/orgs")).set_payload("x".repeat(300_000)), 413),
        (owner(request(Method::POST, "/v1/orgs")).set_payload("x"), 415),
        (owner(request(Method::POST, "/v1/orgs")), 400),
        (request(Method::GET, "/v1/orgs").insert_header(("identityd-version", "1999-01-01")), 400),
        (request(Method::GET, "/v1/orgs?q=%00"), 400),
        (owner(request(Method::POST, "/v1/orgs")).insert_header(("idempotency-key", "x".repeat(256))), 400),
        (owner(request(Method::GET, "/v1/orgs?limit=0")), 422),
        (owner(request(Method::GET, "/v1/orgs?limit=x")), 422),
    ]
}

#[actix_web::test]
async fn an_origin_that_may_call_may_read_every_refusal_too() {
    let app = acme_with(&[&format!("http.cors.origins=[\"{PORTAL}\"]")]).await;
    let (requests, expected): (Vec<_>, Vec<_>) = refusals(&app.token("owner").await).into_iter().unzip();
    let requests = requests.into_iter().map(|request| request.insert_header(("origin", PORTAL))).collect();
    for (answer, expected) in ask_many(&app, requests).await.iter().zip(expected) {
        assert_eq!(answer.status, expected, "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some(PORTAL), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-credentials").as_deref(), Some("true"));
        let exposed = answer.header("access-control-expose-headers").unwrap();
        for name in ["ETag", "Link", "Location", "Retry-After", "RateLimit", "X-Request-ID"] {
            assert!(exposed.split(", ").any(|one| one == name), "{name} is not among {exposed}");
        }
        assert_eq!(answer.header("vary").as_deref(), Some("Origin"));
    }
}

#[actix_web::test]
async fn only_the_listed_origins_may_read() {
    let listed = format!("http.cors.origins=[\"{PORTAL}\"]");
    let production =
        TestApp::with(&["environment=production", "http.public_url=https://id.example.io", &listed]).await;
    let development = TestApp::with(&[&listed]).await;
    for (origin, in_production, in_development) in [
        (PORTAL, true, true),
        ("http://localhost:3000", false, true),
        ("http://127.0.0.1:5173", false, true),
        ("http://localhost.evil.example", false, false),
        ("https://portal.example.io.evil.example", false, false),
        ("https://portal.example.io:444", false, false),
        ("HTTPS://PORTAL.EXAMPLE.IO", false, false),
        ("null", false, false),
        ("*", false, false),
        ("", false, false),
    ] {
        for (app, allowed) in [(&production, in_production), (&development, in_development)] {
            let answer =
                ask(&app.app, request(Method::GET, "/healthz").insert_header(("origin", origin))).await;
            let expected = allowed.then(|| origin.to_owned());
            assert_eq!(answer.header("access-control-allow-origin"), expected, "{origin}");
            assert_eq!(answer.header("vary").as_deref(), Some("Origin"), "whoever asks");
        }
    }
}

// Problems ----------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn every_refusal_is_a_problem_with_all_its_members() {
    let app = acme().await;
    let (requests, _): (Vec<_>, Vec<_>) = refusals(&app.token("owner").await).into_iter().unzip();
    let paths: Vec<String> =
        requests.into_iter().map(|request| request.to_request().path().to_owned()).collect();
    let (requests, expected): (Vec<_>, Vec<_>) = refusals(&app.token("owner").await).into_iter().unzip();
    let answers = ask_many(&app, requests).await;
    let mut shown = vec![];
    for ((answer, expected), path) in answers.iter().zip(expected).zip(paths) {
        if expected == 200 {
            continue;
        }
        let mut body = answer.json();
        assert_eq!(answer.header("content-type").as_deref(), Some("application/problem+json"), "{answer:?}");
        assert_eq!((answer.status, &body["status"]), (expected, &json!(expected)), "{answer:?}");
        let kind = body["code"].as_str().unwrap().to_lowercase().replace('_', "-");
        assert_eq!(body["type"], json!(format!("urn:identityd:problem:{kind}")));
        assert_eq!((&body["message"], &body["instance"]), (&body["detail"], &json!(path)));
        assert_eq!(answer.header("x-request-id").as_deref(), body["requestId"].as_str());
        assert!(!body["title"].as_str().unwrap().is_empty() && !body["detail"].as_str().unwrap().is_empty());
        if expected == 401 {
            assert!(answer.header("www-authenticate").unwrap().starts_with("Bearer"), "{answer:?}");
        }
        body["requestId"] = json!("[id]");
        shown.push(body);
    }
    insta::assert_json_snapshot!(shown);
}

#[actix_web::test]
async fn a_denial_names_the_policies_that_said_no() {
    let app = acme().await;
    let acme = app.work().state().org_by_slug("acme").unwrap();
    app.member(acme, "viewer", Role::Viewer).await;
    let plain = app.patch("viewer", "/v1/orgs/acme", json!({ "name": "X" })).await;
    assert_eq!((&plain["status"], plain["body"].get("policyIds")), (&json!(403), None), "no policy permits");
    let forbidden = app.post("owner", "/v1/orgs/acme/restore", json!({ "reason": "x" })).await;
    assert_eq!(forbidden["body"]["policyIds"], json!(["org.restore.platform_only"]), "{forbidden}");
}

// Headers -----------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_sane_request_id_is_echoed_and_on_the_log_and_another_is_replaced() {
    let app = acme().await;
    let owner = app.token("owner").await;
    let with_id =
        |id: &str| bearing(request(Method::GET, "/v1/orgs"), &owner).insert_header(("x-request-id", id));
    let longest = "x".repeat(128);
    for id in ["a", "0190-ab_CD.9:/+=", longest.as_str()] {
        let answer = ask(&app.app, with_id(id)).await;
        assert_eq!(answer.header("x-request-id").as_deref(), Some(id));
    }
    let too_long = "x".repeat(129);
    let insane = ["", " ", "a b", "<script>", "a\"b", "a;b", "\u{e9}", "${jndi:x}", "a,b", too_long.as_str()];
    let mut given = BTreeSet::new();
    for id in insane {
        let answer = ask(&app.app, with_id(id)).await;
        let own = answer.header("x-request-id").unwrap();
        assert_eq!(own.parse::<uuid::Uuid>().unwrap().get_version_num(), 7, "{id:?} became {own}");
        assert!(given.insert(own), "each request has its own");
    }
    let before = told(&app).await;
    let body = json!({ "name": "Beta", "slug": "beta" });
    let write = bearing(request(Method::POST, "/v1/orgs"), &owner).insert_header(("x-request-id", "mine-1"));
    assert_eq!(ask(&app.app, write.set_json(body)).await.status, 201);
    let events = told_since(&app, before).await;
    assert!(events.as_array().unwrap().iter().all(|event| event["req"] == "mine-1"), "{events}");
    let problem =
        ask(&app.app, request(Method::GET, "/nowhere").insert_header(("x-request-id", "mine-2"))).await;
    assert_eq!(problem.json()["requestId"], "mine-2");
}

#[actix_web::test]
async fn a_dated_revision_is_taken_and_an_unknown_one_refused() {
    let app = TestApp::new().await;
    let with = |version: &str| request(Method::GET, "/healthz").insert_header(("identityd-version", version));
    let known = ask(&app.app, with("2026-11-01")).await;
    assert_eq!((known.status, known.header("identityd-version").as_deref()), (200, Some("2026-11-01")));
    for version in ["2026-11-02", "latest", "", "2026-11-01 "] {
        let answer = ask(&app.app, with(version)).await;
        assert_eq!(answer.verdict(), (400, "VERSION_UNKNOWN".into()), "{version:?}");
        assert!(answer.json()["detail"].as_str().unwrap().contains("2026-11-01"), "it says which there are");
    }
}

/// W3C Trace Context: what the caller began goes on here, as far as the audit log.
#[actix_web::test]
async fn a_callers_trace_goes_on() {
    let provider = SdkTracerProvider::builder().build();
    let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _traced = listening(tracing_subscriber::registry().with(layer));
    let app = acme().await;
    let owner = app.token("owner").await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    for (slug, parent, continued) in [
        ("beta", format!("00-{trace}-00f067aa0ba902b7-01"), true),
        ("gamma", format!("00-{trace}-garbage-01"), false),
        ("delta", "garbage".to_owned(), false),
    ] {
        let before = told(&app).await;
        let write = bearing(request(Method::POST, "/v1/orgs"), &owner).insert_header(("traceparent", parent));
        let answer = ask(&app.app, write.set_json(json!({ "name": "X", "slug": slug }))).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        let events = told_since(&app, before).await;
        for event in events.as_array().unwrap() {
            assert_eq!(event["trace"] == trace, continued, "{event}");
        }
    }
}

#[actix_web::test]
async fn nothing_is_cached_but_assets() {
    let app = acme().await;
    let owner = app.token("owner").await;
    let mut requests: Vec<TestRequest> = refusals(&owner).into_iter().map(|(request, _)| request).collect();
    requests.push(bearing(request(Method::GET, "/v1/me"), &owner));
    requests.push(request(Method::GET, "/openapi.json"));
    requests.push(request(Method::GET, "/readyz"));
    for answer in ask_many(&app, requests).await {
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{answer:?}");
        assert_eq!(answer.header("x-content-type-options").as_deref(), Some("nosniff"));
    }
}

#[actix_web::test]
async fn a_resource_has_a_tag_and_a_full_page_points_to_the_next() {
    let app = acme().await;
    app.org("owner", "beta").await;
    let org = app.get("owner", "/v1/orgs/acme").await;
    assert_eq!(org["headers"]["etag"], "\"1\"");
    let page = app.get("owner", "/v1/orgs?limit=1&q=").await;
    let link = page["headers"]["link"].as_str().unwrap();
    assert!(link.starts_with("</v1/orgs?q=&limit=1&cursor=") && link.ends_with(">; rel=\"next\""), "{link}");
    let created = app.post("owner", "/v1/orgs", json!({ "name": "C", "slug": "c" })).await;
    assert_eq!(created["headers"]["location"], json!(format!("/v1/orgs/{}", text(&created, "orgId"))));
}

/// PostgreSQL out of reach: what needs it says when to come again, to whoever may read it; health still answers.
#[actix_web::test]
async fn without_the_database_every_answer_says_when_to_come_again() {
    let app = acme_with(&[&format!("http.cors.origins=[\"{PORTAL}\"]")]).await;
    let owner = app.token("owner").await;
    let name = app.database_url().rsplit('/').next().unwrap().to_owned();
    let mut elsewhere = connect("superuser", "postgres").await;
    let away = format!("ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false");
    elsewhere.batch_execute(&away).await.unwrap();
    let cut = format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'");
    elsewhere.batch_execute(&cut).await.unwrap();
    app.clock.tick(Duration::from_secs(31));
    let body = json!({ "email": "ada@example.io", "password": "x" });
    for request in [
        bearing(request(Method::GET, "/v1/orgs"), &owner),
        bearing(request(Method::POST, "/v1/orgs"), &owner).set_json(json!({ "name": "B", "slug": "b" })),
        post_from("127.0.0.1", "/v1/auth/login", &body),
        post_from("127.0.0.1", "/v1/auth/refresh", &json!({ "refresh_token": fake_refresh(&app) })),
    ] {
        let answer = ask(&app.app, request.insert_header(("origin", PORTAL))).await;
        assert_eq!((answer.status, answer.header("retry-after").as_deref()), (503, Some("1")), "{answer:?}");
        assert_eq!(answer.header("access-control-allow-origin").as_deref(), Some(PORTAL));
        assert!(
            ["AUTHORIZATION_STALE", "DATABASE_UNAVAILABLE"].contains(&answer.code().as_str()),
            "{answer:?}"
        );
    }
    assert_eq!(ask(&app.app, request(Method::GET, "/healthz")).await.status, 200);
    assert_eq!(ask(&app.app, request(Method::GET, "/no-such-thing")).await.status, 404);
}

fn fake_refresh(app: &TestApp) -> String {
    use identityd::kernel::{Token, TokenKind};
    Token::mint(TokenKind::Refresh, &app.app.entropy).expose().to_owned()
}
