//! Guessing: each wrong secret lengthens the wait, by account and by network, and nobody else has to wait.
use crate::{
    app::{PASSWORD, TestApp, send},
    http_support::{
        Answer, Held, Live, acme, acme_with, ask, ask_all, post_from, signed_in, told, told_since,
    },
};
use identityd::{
    app::Listener,
    authorization::{PlatformRole, Role},
};
use serde_json::{Value, json};
use std::time::Duration;

const LOGIN: &str = "/v1/auth/login";
const WRONG: &str = "wrong wrong wrong wrong";

async fn attempt(app: &TestApp, name: &str, password: &str) -> Answer {
    from(app, "198.51.100.7", name, password).await
}

async fn from(app: &TestApp, address: &str, name: &str, password: &str) -> Answer {
    ask(&app.app, post_from(address, LOGIN, &credentials(name, password))).await
}

fn credentials(name: &str, password: &str) -> Value {
    json!({ "email": format!("{name}@example.io"), "password": password })
}

/// So many wrong passwords, each as soon as it may be tried.
async fn fail(app: &TestApp, name: &str, times: usize) {
    let body = credentials(name, WRONG);
    let patient = (0..times).map(|time| {
        if time > 5 {
            app.clock.tick(Duration::from_mins(15));
        }
        post_from("198.51.100.7", LOGIN, &body)
    });
    for answer in ask_all(&app.app, Listener::Http, patient).await {
        assert_eq!(answer.status, 401, "{answer:?}");
    }
    app.work().catch_up().await.unwrap();
}

async fn blocked(app: &TestApp, name: &str) -> String {
    let answer = attempt(app, name, PASSWORD).await;
    assert_eq!(answer.verdict(), (429, "TOO_MANY_ATTEMPTS".into()), "{answer:?}");
    answer.header("retry-after").unwrap()
}

/// The counts, the highest first.
async fn failures(app: &TestApp) -> Value {
    app.rows("SELECT failures FROM login_throttle ORDER BY failures DESC").await
}

// The ladder of an account ------------------------------------------------------------------------------------------

#[actix_web::test]
async fn five_are_free_and_each_further_one_waits_longer() {
    let app = acme().await;
    fail(&app, "ada", 5).await;
    for seconds in [1, 3, 5, 10, 30, 60, 120, 300, 600, 900, 900, 900] {
        assert_eq!(attempt(&app, "ada", WRONG).await.status, 401);
        assert_eq!(blocked(&app, "ada").await, seconds.to_string());
        app.tick(Duration::from_millis(seconds * 1000 - 1)).await;
        assert_eq!(blocked(&app, "ada").await, "1", "rounded up");
        app.tick(Duration::from_millis(1)).await;
    }
    assert_eq!(attempt(&app, "ada", PASSWORD).await.status, 200);
}

#[actix_web::test]
async fn whoever_has_to_wait_is_told_how_long_whatever_the_password() {
    let app = acme().await;
    fail(&app, "ada", 6).await;
    let before = told(&app).await;
    let runs = app.app.hasher.runs();
    let mut right = attempt(&app, "ada", PASSWORD).await.shown();
    let mut wrong = attempt(&app, "ada", WRONG).await.shown();
    insta::assert_json_snapshot!(right);
    for answer in [&mut right, &mut wrong] {
        answer["body"]["requestId"].take();
        answer["headers"].as_array_mut().unwrap().retain(|header| header[0] != "x-request-id");
    }
    assert_eq!(right, wrong);
    assert_eq!(app.app.hasher.runs(), runs, "nothing is hashed");
    assert_eq!(told(&app).await, before);
    assert_eq!(failures(&app).await[0]["failures"], 6, "waiting is not failing");
}

#[actix_web::test]
async fn an_address_nobody_has_is_throttled_like_any_other() {
    let app = acme().await;
    let mut seen = vec![];
    for name in ["ada", "nobody"] {
        let body = credentials(name, WRONG);
        let requests = (0..12).map(|_| {
            app.clock.tick(Duration::from_secs(2));
            post_from("198.51.100.7", LOGIN, &body)
        });
        let answers = ask_all(&app.app, Listener::Http, requests).await;
        let told = |answer: &Answer| (answer.verdict(), answer.header("retry-after"));
        seen.push(answers.iter().map(told).collect::<Vec<_>>());
    }
    assert!(seen[0].iter().any(|((status, _), _)| *status == 429), "{seen:?}");
    assert_eq!(seen[0], seen[1]);
}

#[actix_web::test]
async fn an_address_is_one_account_however_it_is_written() {
    let app = acme().await;
    for name in ["ada", "ADA", " Ada", "aDa", "adA", "ada"] {
        assert_eq!(attempt(&app, name, WRONG).await.status, 401);
    }
    assert_eq!(blocked(&app, "AdA").await, "1");
}

#[actix_web::test]
async fn a_success_forgets_the_failures() {
    let app = acme().await;
    for _ in 0..3 {
        fail(&app, "ada", 5).await;
        assert_eq!(attempt(&app, "ada", PASSWORD).await.status, 200);
    }
    fail(&app, "ada", 6).await;
    signed_in(&app).await;
    blocked(&app, "ada").await;
}

#[actix_web::test]
async fn a_day_without_a_failure_forgets_them() {
    let app = acme().await;
    fail(&app, "ada", 6).await;
    app.tick(Duration::from_hours(25)).await;
    fail(&app, "ada", 5).await;
    assert_eq!(failures(&app).await[0]["failures"], 5);
    assert_eq!(attempt(&app, "ada", PASSWORD).await.status, 200);
}

#[actix_web::test]
async fn only_a_wrong_secret_counts() {
    let app = acme().await;
    app.org("stranger", "other").await;
    let beta = app.org("owner", "beta").await;
    app.member(beta, "ada", Role::Member).await;
    for members in [
        json!({ "org_id": "other" }),
        json!({ "org_id": "no-such-org" }),
        json!({ "org_selection": "required" }),
        json!({ "client_id": "c".repeat(201) }),
        json!({ "email": 1 }),
    ] {
        let mut body = credentials("ada", PASSWORD);
        body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        let answer = ask(&app.app, post_from("198.51.100.7", LOGIN, &body)).await;
        assert!((400..500).contains(&answer.status), "{answer:?}");
    }
    assert_eq!(failures(&app).await, json!([]));
}

// Unlocking ---------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn an_administrator_spares_a_member_the_wait() {
    let app = acme().await;
    fail(&app, "ada", 20).await;
    assert_eq!(blocked(&app, "ada").await, "900");
    let before = told(&app).await;
    let path = format!("/v1/orgs/acme/users/{}/unlock", app.person("ada").await);
    assert_eq!(app.post("owner", &path, Value::Null).await["status"], 204);
    insta::assert_json_snapshot!(told_since(&app, before).await);
    fail(&app, "ada", 5).await;
    assert_eq!(attempt(&app, "ada", PASSWORD).await.status, 200);
    assert_eq!(app.post("owner", &path, Value::Null).await["status"], 204, "again");
}

#[actix_web::test]
async fn an_invite_is_no_hold_on_the_ladder_of_an_address() {
    let app = acme().await;
    app.org("mallory", "mallory").await;
    fail(&app, "ada", 6).await;
    let invite = json!({ "email": "ada@example.io" });
    let invited = app.post("mallory", "/v1/orgs/mallory/invites", invite).await;
    let path = format!("/v1/orgs/mallory/users/{}/unlock", invited["body"]["userId"].as_str().unwrap());
    assert_eq!(app.post("mallory", &path, Value::Null).await["status"], 404);
    assert_eq!(attempt(&app, "ada", PASSWORD).await.status, 429, "as before");
}

#[actix_web::test]
async fn only_whoever_may_unlocks_a_member() {
    let app = acme().await;
    let acme = app.work().state().org_by_slug("acme").unwrap();
    let user = app.work().state().member(app.person("ada").await, acme).unwrap().user;
    app.org("stranger", "other").await;
    app.member(acme, "manager", Role::Manager).await;
    app.member(acme, "admin", Role::Admin).await;
    app.person_with("support", &[PlatformRole::PlatformSupport]).await;
    let path = format!("/v1/orgs/acme/users/{user}/unlock");
    for (caller, expected) in [("admin", 204), ("support", 204), ("manager", 403), ("stranger", 404)] {
        fail(&app, "ada", 6).await;
        assert_eq!(app.post(caller, &path, Value::Null).await["status"], expected, "{caller}");
        let status = attempt(&app, "ada", PASSWORD).await.status;
        assert_eq!(status, if expected == 204 { 200 } else { 429 }, "{caller}");
        app.post("owner", &path, Value::Null).await;
    }
    fail(&app, "ada", 6).await;
    for path in [
        format!("/v1/orgs/other/users/{user}/unlock"),
        "/v1/orgs/other/users/01900000-0000-7000-8000-000000000000/unlock".into(),
    ] {
        assert_eq!(app.post("stranger", &path, Value::Null).await["status"], 404, "{path}");
    }
    blocked(&app, "ada").await;
}

// The ladder of a network -------------------------------------------------------------------------------------------

/// A hundred people of one network mistype their passwords; then everybody there waits, and nobody elsewhere.
#[actix_web::test]
async fn a_network_that_guesses_at_many_accounts_waits_as_a_whole() {
    let app = acme().await;
    for (near, same, elsewhere) in [
        ("198.51.100.7", "198.51.100.200", "198.51.101.7"),
        ("2001:db8::7", "2001:db8::f:1", "2001:db8:0:1::7"),
    ] {
        let bodies = (0..101).map(|who| credentials(&format!("{who}.nobody"), WRONG));
        let requests = bodies.map(|body| post_from(near, LOGIN, &body));
        for answer in ask_all(&app.app, Listener::Http, requests).await {
            assert_eq!(answer.status, 401, "{answer:?}");
        }
        let there = from(&app, same, "ada", PASSWORD).await;
        assert_eq!(there.verdict(), (429, "TOO_MANY_ATTEMPTS".into()), "{same}");
        assert_eq!(there.header("retry-after").as_deref(), Some("5"));
        assert_eq!(from(&app, elsewhere, "ada", PASSWORD).await.status, 200, "{elsewhere}");
        app.tick(Duration::from_secs(5)).await;
        assert_eq!(from(&app, same, "ada", PASSWORD).await.status, 200, "{same}");
        assert_eq!(from(&app, near, "nobody", WRONG).await.status, 401);
        let again = from(&app, same, "nobody", WRONG).await;
        assert_eq!(again.header("retry-after").as_deref(), Some("10"), "a success resets no network");
        let own = from(&app, same, "ada", PASSWORD).await;
        assert_eq!(own.status, 200, "whose network it has been does not wait for what others try there");
    }
}

#[actix_web::test]
async fn what_others_guess_elsewhere_delays_nobody() {
    let app = acme().await;
    fail(&app, "ada", 30).await;
    assert_eq!(from(&app, "203.0.113.1", "ada", PASSWORD).await.status, 200);
    assert_eq!(blocked(&app, "ada").await, "900", "and a success elsewhere helps nobody here");
}

/// The client's address is the one behind the proxies that are trusted, and no other.
#[actix_web::test]
async fn nobody_escapes_by_claiming_to_be_elsewhere() {
    let app = acme_with(&["http.trusted_proxies=[\"10.0.0.0/8\"]"]).await;
    let through = |proxy: &str, client: &str, name: &str, password: &str| {
        post_from(proxy, LOGIN, &credentials(name, password)).insert_header(("x-forwarded-for", client))
    };
    let guesses = (0..101).map(|who| through("10.0.0.1", "203.0.113.9", &format!("{who}.nobody"), WRONG));
    ask_all(&app.app, Listener::Http, guesses).await;
    for (peer, claimed, expected) in [
        ("10.0.0.1", "203.0.113.9", 429),
        ("10.0.0.1", "192.0.2.1, 203.0.113.9", 429),
        ("10.0.0.1", "203.0.113.9, 10.0.0.2", 429),
        ("203.0.113.9", "192.0.2.1", 429),
        ("10.0.0.1", "192.0.2.1", 200),
    ] {
        let answer = ask(&app.app, through(peer, claimed, "ada", PASSWORD)).await;
        assert_eq!(answer.status, expected, "{peer} for {claimed}: {answer:?}");
    }
}

// The race ----------------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_guesses_at_once_are_all_counted() {
    let app = acme_with(&["http.drain_seconds=0", "http.workers=4"]).await;
    let live = Live::of(&app.app);
    let body = credentials("ada", WRONG);
    let mut held = Held::of(&app, "login_throttle").await;
    let asked: Vec<_> = (0..20).map(|_| live.post(LOGIN, &body)).collect();
    held.awaited_by(6).await;
    held.let_go().await;
    let mut wrong = 0;
    for answer in asked {
        match answer.await.unwrap().verdict() {
            (401, _) => wrong += 1,
            other => assert_eq!(other, (429, "TOO_MANY_ATTEMPTS".into())),
        }
    }
    live.stop().await;
    assert!(wrong >= 6, "{wrong}");
    // The account's row and the network's.
    assert_eq!(failures(&app).await, json!([{ "failures": wrong }, { "failures": wrong }]));
    let right = |address| post_from(address, LOGIN, &credentials("ada", PASSWORD));
    assert_eq!(send(&app.app, right("127.0.0.1"), Listener::Http).await["status"], 429);
}
