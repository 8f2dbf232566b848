//! `Idempotency-Key`: what is sent twice is done once, and answered the same.
use crate::{
    app::{PASSWORD, TestApp, id},
    support::{code, count, places_of},
};
use actix_web::{http::Method, test::TestRequest};
use identityd::{
    app::Listener,
    authorization::{Action, Role, Target},
    kernel::{Answer, Ctx, Idempotency, OrgId, ServiceAccountId},
    work::{Audited, Tx, WorkError},
};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use std::time::Duration;

const MINUTE: Duration = Duration::from_mins(1);
const ACCOUNTS: &str = "/v1/orgs/acme/service-accounts";

/// A POST under a key, as its client resends it: with the same request id.
async fn post(app: &TestApp, caller: &str, key: &str, path: &str, body: Value) -> Value {
    let headers = [("Idempotency-Key", key), ("X-Request-ID", "the-same")];
    app.call_with(Method::POST, Some(caller), path, body, &headers).await
}

/// The path at which keys of a new service account are issued.
async fn machine(app: &TestApp) -> String {
    let made = app.post("alice", ACCOUNTS, json!({ "name": "router" })).await;
    let account: ServiceAccountId = id(&made["body"]["serviceAccountId"]);
    format!("{ACCOUNTS}/{account}/api-keys")
}

#[actix_web::test]
async fn the_same_request_under_the_same_key_is_answered_the_same_and_done_once() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    let create = async || post(&app, "alice", "k", ACCOUNTS, json!({ "name": "router" })).await;
    let (first, events) = (create().await, app.events().await);
    assert_json_snapshot!("first_answer", first);
    assert_eq!(create().await, first);
    assert_eq!((count(&app, "service_accounts").await, app.events().await), (1, events));
    let kept = app.rows(
        "SELECT principal, key, octet_length(fingerprint) AS fingerprint, status, headers, body, secret_name, secret,
           created_at FROM idempotency_keys",
    );
    assert_json_snapshot!("kept_row", kept.await);
}

#[actix_web::test]
async fn a_secret_is_given_again_for_ten_minutes_and_stands_nowhere_in_the_clear() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    let path = machine(&app).await;
    let issue = async || post(&app, "alice", "k", &path, json!({ "display_name": "edge" })).await;
    let first = issue().await;
    assert_eq!(first["status"], 201, "{first}");
    assert_eq!(issue().await, first);
    let secret = first["body"]["secret"].as_str().unwrap();
    assert_eq!(places_of(&app, secret).await, [""; 0]);
    let random_part = &secret[20..];
    assert_eq!(places_of(&app, random_part).await, [""; 0], "nor without its public part");

    app.tick((10 * MINUTE).checked_sub(Duration::from_secs(1)).unwrap()).await;
    assert_eq!(issue().await["body"]["secret"], json!(secret));
    app.tick(Duration::from_secs(1)).await;
    assert_eq!(code(&issue().await), (409, "SECRET_NO_LONGER_AVAILABLE"));
    identityd::app::sweep(app.work(), "me").await.unwrap();
    let kept = app.rows("SELECT secret_name, secret FROM idempotency_keys").await;
    assert_eq!(kept, json!([{ "secret_name": "secret", "secret": null }]));
    assert_eq!(code(&issue().await), (409, "SECRET_NO_LONGER_AVAILABLE"), "swept or not, the answer is one");
    assert_eq!(count(&app, "api_keys").await, 1);
}

#[actix_web::test]
async fn after_a_day_a_key_is_as_new() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    let path = machine(&app).await;
    let issue = async || post(&app, "alice", "k", &path, json!({})).await;
    let first = issue().await["body"]["apiKeyId"].clone();
    app.tick((24 * 60 * MINUTE).checked_sub(Duration::from_secs(1)).unwrap()).await;
    assert_eq!(code(&issue().await).0, 409);
    app.tick(Duration::from_secs(1)).await;
    let again = issue().await;
    assert_eq!(again["status"], 201, "{again}");
    assert_ne!(again["body"]["apiKeyId"], first);
    assert_eq!(issue().await, again, "and is kept for another day");
    assert_eq!((count(&app, "api_keys").await, count(&app, "idempotency_keys").await), (2, 1));
}

#[actix_web::test]
async fn another_request_under_the_same_key_is_refused() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    app.org("alice", "other").await;
    post(&app, "alice", "k", ACCOUNTS, json!({ "name": "router" })).await;
    let other_body = post(&app, "alice", "k", ACCOUNTS, json!({ "name": "switch" })).await;
    assert_json_snapshot!("other_body", other_body);
    let other_path =
        post(&app, "alice", "k", "/v1/orgs/other/service-accounts", json!({ "name": "router" })).await;
    assert_eq!(code(&other_path), (422, "IDEMPOTENCY_KEY_REUSED"));
    assert_eq!(count(&app, "service_accounts").await, 1);
}

#[actix_web::test]
async fn while_one_is_at_work_another_is_told_so_at_once() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let (ctx, permit) = (wish(&app, "k").await, permit(&app, org).await);
    let held = app.work().write::<(), WorkError>(&ctx, permit, async |tx| {
        let refused = post(&app, "alice", "k", ACCOUNTS, json!({ "name": "router" })).await;
        assert_json_snapshot!("in_progress", refused);
        let other_key = post(&app, "alice", "l", ACCOUNTS, json!({ "name": "router" })).await;
        assert_eq!(other_key["status"], 201, "{other_key}");
        Ok(Audited::new((), tx.event("x")))
    });
    held.await.unwrap();
}

#[actix_web::test]
async fn eight_at_once_do_it_once() {
    let app = TestApp::with(&["database.connections_max=10"]).await;
    app.org("alice", "acme").await;
    let create = || post(&app, "alice", "k", ACCOUNTS, json!({ "name": "router" }));
    let answers = futures_util::future::join_all((0..8).map(|_| create())).await;
    for answer in &answers {
        let in_progress = code(answer) == (409, "IDEMPOTENCY_IN_PROGRESS");
        assert!(in_progress || answer["status"] == 201, "{answer}");
    }
    let done: Vec<&Value> = answers.iter().filter(|answer| answer["status"] == 201).collect();
    assert!(!done.is_empty() && done.iter().all(|answer| *answer == done[0]));
    assert_eq!((count(&app, "service_accounts").await, count(&app, "idempotency_keys").await), (1, 1));
}

#[actix_web::test]
async fn what_was_refused_is_not_kept_and_can_be_tried_again() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let bob = app.member(org, "bob", Role::Viewer).await;
    let create = async |name: &str| post(&app, "bob", "k", ACCOUNTS, json!({ "name": name })).await;
    assert_eq!(code(&create("router").await), (403, "ROLE_EXCEEDS_OWN"));
    let path = format!("/v1/orgs/acme/users/{bob}/roles");
    assert_eq!(app.put("alice", &path, json!({ "roles": ["admin"] })).await["status"], 200);
    assert_eq!(code(&create("").await).0, 422);
    let taken = app.post("alice", ACCOUNTS, json!({ "name": "router" })).await;
    assert_eq!(code(&create("router").await), (409, "NAME_TAKEN"));
    assert_eq!(count(&app, "idempotency_keys").await, 0);
    let path = format!("{ACCOUNTS}/{}", taken["body"]["serviceAccountId"].as_str().unwrap());
    assert_eq!(app.delete("alice", &path).await["status"], 204);
    assert_eq!(create("router").await["status"], 201);
}

#[actix_web::test]
async fn a_write_that_does_not_commit_keeps_no_answer() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let ctx = wish(&app, "k").await;
    let aborted = app
        .work()
        .write::<(), WorkError>(&ctx, permit(&app, org).await, async |_| Err(WorkError::Superseded));
    aborted.await.unwrap_err();
    // The answer is written, and then the commit fails.
    app.sabotage("REVOKE UPDATE ON authz_clock FROM identityd_app").await;
    let failed = post(&app, "alice", "k", ACCOUNTS, json!({ "name": "router" })).await;
    assert_eq!(code(&failed), (500, "INTERNAL"));
    app.sabotage("GRANT UPDATE ON authz_clock TO identityd_app").await;
    assert_eq!(count(&app, "idempotency_keys").await, 0);
    let again = post(&app, "alice", "k", ACCOUNTS, json!({ "name": "router" })).await;
    assert_eq!(again["status"], 201, "{again}");
}

#[actix_web::test]
async fn two_principals_share_no_key_and_two_sessions_of_one_do() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.member(org, "bob", Role::Admin).await;
    let create =
        async |caller: &str, name: &str| post(&app, caller, "k", ACCOUNTS, json!({ "name": name })).await;
    let by_alice = create("alice", "router").await;
    assert_eq!(
        code(&create("bob", "router").await),
        (409, "NAME_TAKEN"),
        "it was tried, not answered from store"
    );
    assert_eq!(create("bob", "switch").await["status"], 201);
    let alice = app.person("alice").await;
    app.bearer("alice's phone", &app.token_of(alice, app.work().ctx(app.actor("alice").await).mint(), None));
    assert_eq!(create("alice's phone", "router").await, by_alice);
}

#[actix_web::test]
async fn a_sealed_secret_opens_only_where_it_was_put() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.member(org, "bob", Role::Admin).await;
    let path = machine(&app).await;
    post(&app, "alice", "k", &path, json!({})).await;
    let bob = app.person("bob").await;
    app.sabotage(&format!("UPDATE idempotency_keys SET principal = 'person:{bob}'")).await;
    assert_eq!(code(&post(&app, "bob", "k", &path, json!({})).await), (500, "INTERNAL"));
}

#[actix_web::test]
async fn a_replay_still_needs_the_right_to_do_it() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let bob = app.member(org, "bob", Role::Admin).await;
    let path = machine(&app).await;
    let issue = async || post(&app, "bob", "k", &path, json!({})).await;
    assert_eq!(issue().await["status"], 201);
    let suspended = app.post("alice", &format!("/v1/orgs/acme/users/{bob}/suspend"), Value::Null).await;
    assert_eq!(suspended["status"], 200, "{suspended}");
    assert_eq!(code(&issue().await), (403, "NO_MATCHING_PERMIT"));
}

#[actix_web::test]
async fn a_key_is_printable_and_bounded_and_only_posts_have_one() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    let body = json!({ "name": "router" });
    for wrong in ["", &"x".repeat(256)] {
        let refused = post(&app, "alice", wrong, ACCOUNTS, body.clone()).await;
        assert_eq!(code(&refused), (400, "IDEMPOTENCY_KEY_INVALID"), "{wrong}");
    }
    assert_eq!(post(&app, "alice", &"x".repeat(255), ACCOUNTS, body).await["status"], 201);
    let get = app.call_with(Method::GET, Some("alice"), ACCOUNTS, Value::Null, &[("Idempotency-Key", "")]);
    assert_eq!(get.await["status"], 200);
    let too_large = TestRequest::post()
        .uri(ACCOUNTS)
        .insert_header(("Idempotency-Key", "large"))
        .insert_header(("Authorization", format!("Bearer {}", app.token("alice").await)))
        .insert_header(("Content-Type", "application/json"))
        .set_payload(vec![b' '; 300 * 1024]);
    assert_eq!(code(&app.send(too_large, Listener::Http).await), (413, "BODY_TOO_LARGE"));
}

#[actix_web::test]
async fn sign_in_and_key_checks_ignore_the_header() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.joined(org, "alice", "bob", &["member"]).await;
    let body = json!({ "email": "bob@example.io", "password": PASSWORD });
    let sign_in = async || {
        let key = [("Idempotency-Key", "k")];
        app.call_with(Method::POST, None, "/v1/auth/login", body.clone(), &key).await["body"].clone()
    };
    let (first, second) = (sign_in().await, sign_in().await);
    assert!(
        first["session_id"].is_string() && first["session_id"] != second["session_id"],
        "{first} {second}"
    );
    assert_eq!(count(&app, "idempotency_keys").await, 0);
}

/// A context with a wish that its write can answer.
async fn wish(app: &TestApp, key: &str) -> Ctx {
    let mut ctx = app.ctx("alice").await;
    ctx.idempotency = Some(Idempotency::new(key.to_owned(), [0; 32]));
    ctx.answering(|(): &()| Answer { status: 204, headers: vec![], body: None, secret: None })
}

async fn permit(app: &TestApp, org: OrgId) -> identityd::authorization::Permit {
    app.work().permit(&app.ctx("alice").await, Action::UsersInvite, Target::Org(org)).await.unwrap()
}

#[actix_web::test]
async fn under_a_key_a_second_write_of_one_operation_is_told_of_the_first() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let ctx = wish(&app, "k").await;
    let body = async |tx: &mut Tx<'_>| Ok::<_, WorkError>(Audited::new((), tx.event("x")));
    app.work().write(&ctx, permit(&app, org).await, body).await.unwrap();
    let second = app.work().write(&ctx, permit(&app, org).await, body).await;
    assert!(matches!(second, Err(WorkError::Replayed(answer)) if answer.status == 204));
    // What is no answer to the caller is done beside it.
    app.work().write(&ctx.aside(), permit(&app, org).await, body).await.unwrap();
}
