//! Room and time: what does not fit is told when to come again, and what takes too long is given up whole.
use crate::http_support::{Held, Live, acme_with, ask, ask_all, bearing, request};
use actix_web::{http::Method, test};
use identityd::app::{self, Listener, Shared};
use serde_json::json;
use std::{future::poll_fn, pin::pin, task::Poll};

const PORTAL: &str = "https://portal.example.io";

#[actix_web::test]
async fn one_request_too_many_is_told_when_to_come_again() {
    let app = acme_with(&["http.concurrency_max=1", &format!("http.cors.origins=[\"{PORTAL}\"]")]).await;
    let owner = app.token("owner").await;
    let shared = Shared::of(&app.app, Listener::Http).unwrap();
    let service = test::init_service(app::worker(&app.app, &shared)).await;
    let orgs = || bearing(request(Method::GET, "/v1/orgs"), &owner).insert_header(("origin", PORTAL));
    let held = Held::of(&app, "orgs").await;
    let mut first = pin!(test::try_call_service(&service, orgs().to_request()));
    poll_fn(|context| {
        assert!(first.as_mut().poll(context).is_pending(), "it waits for the table");
        Poll::Ready(())
    })
    .await;

    let shed = test::try_call_service(&service, orgs().to_request()).await.unwrap();
    let header = |name: &str| shed.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    assert_eq!((shed.status().as_u16(), header("retry-after").as_deref()), (503, Some("1")));
    assert_eq!(header("access-control-allow-origin").as_deref(), Some(PORTAL));
    let id = header("x-request-id").unwrap();
    let body: serde_json::Value = test::read_body_json(shed).await;
    assert_eq!((&body["code"], &body["requestId"]), (&json!("OVERLOADED"), &json!(id)), "{body}");
    let ops =
        ask_all(&app.app, Listener::Ops, ["/healthz", "/metrics"].map(|path| request(Method::GET, path)))
            .await;
    assert_eq!(ops[0].status, 200, "operators have room of their own");
    assert!(ops[1].text.contains("identityd_requests_shed_total 1"), "{}", ops[1].text);

    held.let_go().await;
    assert_eq!(first.await.unwrap().status().as_u16(), 200, "who was in finishes");
    let next = test::try_call_service(&service, orgs().to_request()).await.unwrap();
    assert_eq!(next.status().as_u16(), 200, "and leaves the place to the next");
}

/// No patience at all, so that whatever waits for the database is given up at once.
#[actix_web::test]
async fn what_takes_too_long_is_given_up_with_all_that_an_answer_has() {
    let app = acme_with(&[]).await;
    let owner = app.token("owner").await;
    let origins = format!("http.cors.origins=[\"{PORTAL}\"]");
    let hasty = app.replica(&["http.request_timeout_seconds=0", &origins]).await;
    let held = Held::of(&app, "orgs").await;
    let write = bearing(request(Method::POST, "/v1/orgs"), &owner)
        .set_json(json!({ "name": "Beta", "slug": "beta" }))
        .insert_header(("origin", PORTAL))
        .insert_header(("x-request-id", "mine"));
    let answer = ask(&hasty, write).await;
    insta::assert_json_snapshot!(answer.shown());
    held.let_go().await;
    assert_eq!(app.get("owner", "/v1/orgs/beta").await["status"], 404, "nothing of it was done");
    assert_eq!(app.org("owner", "beta").await, app.work().state().org_by_slug("beta").unwrap());
    let text = ask(&hasty, request(Method::GET, "/metrics")).await.text;
    assert!(text.contains("http_route=\"abandoned\",http_response_status_code=\"503\"} 1"), "{text}");
}

/// The same through a socket: an answer that is an error on the inside is a whole one on the wire.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_up_arrives_whole() {
    let app = acme_with(&[]).await;
    let hasty =
        app.replica(&["http.request_timeout_seconds=0", "http.drain_seconds=0", "http.workers=1"]).await;
    let live = Live::of(&hasty);
    let held = Held::of(&app, "login_throttle").await;
    let body = json!({ "email": "ada@example.io", "password": "x" });
    let answer = live.post("/v1/auth/login", &body).await.unwrap();
    assert_eq!(answer.verdict(), (503, "TIMEOUT".into()), "{answer:?}");
    assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    assert_eq!(answer.header("x-request-id").as_deref(), answer.json()["requestId"].as_str());
    assert_eq!(answer.header("vary").as_deref(), Some("Origin"));
    held.let_go().await;
    let health =
        live.send("GET /healthz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".into()).await.unwrap();
    assert_eq!((health.status, health.text.as_str()), (200, r#"{"status":"ok"}"#));
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_http_is_refused_and_a_body_that_never_ends_is_cut() {
    let app = acme_with(&["http.drain_seconds=0", "http.workers=1"]).await;
    let live = Live::of(&app.app);
    let garbage = live.send("garbage\r\n\r\n".into()).await.unwrap();
    assert_eq!(garbage.status, 400);
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let head = "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                connection: close\r\ntransfer-encoding: chunked\r\n\r\n";
    let endless = live.send(format!("{head}{}0\r\n\r\n", chunk.repeat(5))).await.unwrap();
    assert_eq!(endless.verdict(), (413, "BODY_TOO_LARGE".into()), "no length was announced");
    let head = "POST /v1/auth/login HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n\
                connection: close\r\ncontent-length: 99999999999\r\n\r\n{";
    let announced = live.send(head.into()).await.unwrap();
    assert_eq!(announced.verdict(), (413, "BODY_TOO_LARGE".into()), "it is not waited for");
    live.stop().await;
}
