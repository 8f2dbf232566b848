//! Refresh tokens: each is used once, a lost answer can be asked for again, and a second holder ends the family.
use crate::{
    app::{PASSWORD, TestApp, send},
    http_support::{
        Held, Live, acme, acme_with, ask, ask_all, bearing, decoded, post_from, request, signed_in, text,
        told, told_since, without_tokens,
    },
};
use actix_web::http::Method;
use identityd::{
    app::{App, Listener},
    authorization::PlatformRole,
    kernel::{Token, TokenKind},
};
use serde_json::{Value, json};
use std::time::Duration;

const REFRESH: &str = "/v1/auth/refresh";
const GRACE: Duration = Duration::from_secs(30);

async fn refresh(app: &TestApp, token: &str) -> Value {
    refresh_as(app, token, Value::Null).await
}

async fn refresh_as(app: &TestApp, token: &str, client: Value) -> Value {
    let mut body = json!({ "refresh_token": token });
    if !client.is_null() {
        body["client_id"] = client;
    }
    app.call(Method::POST, None, REFRESH, body).await
}

/// Uses a token; the answer brings the next.
async fn turned(app: &TestApp, token: &str) -> String {
    let answer = refresh(app, token).await;
    assert_eq!(answer["status"], 200, "{answer}");
    text(&answer, "refresh_token")
}

async fn refused(app: &TestApp, token: &str) {
    let answer = refresh(app, token).await;
    assert_eq!((&answer["status"], &answer["body"]["code"]), (&json!(401), &json!("REFRESH_REFUSED")));
}

/// A session, as its first refresh and access token.
async fn session(app: &TestApp) -> (String, String) {
    let answer = signed_in(app).await;
    (text(&answer, "refresh_token"), text(&answer, "access_token"))
}

/// Is the session of this access token alive?
async fn lives(app: &App, access_token: &str) -> bool {
    let answer = ask(app, bearing(request(Method::GET, "/v1/me"), access_token)).await;
    match answer.verdict() {
        (200, _) => true,
        (401, code) if code == "SESSION_ENDED" => false,
        other => panic!("{other:?}"),
    }
}

#[actix_web::test]
async fn a_refresh_answers_as_a_sign_in_with_the_next_token() {
    let app = acme().await;
    let first = signed_in(&app).await;
    app.tick(Duration::from_mins(55)).await;
    let before = told(&app).await;
    let second = refresh(&app, &text(&first, "refresh_token")).await;
    insta::assert_json_snapshot!(without_tokens(&second));
    assert_ne!(first["body"]["refresh_token"], second["body"]["refresh_token"]);
    assert_eq!(first["body"]["session_id"], second["body"]["session_id"]);
    assert!(lives(&app.app, &text(&first, "access_token")).await, "the old access token runs on");
    assert!(lives(&app.app, &text(&second, "access_token")).await);
    turned(&app, &text(&second, "refresh_token")).await;
    assert_eq!(told(&app).await, before, "going on is no event");
}

#[actix_web::test]
async fn what_is_no_live_refresh_token_is_refused() {
    let app = acme().await;
    let (token, access) = session(&app).await;
    let unknown = Token::mint(TokenKind::Refresh, &app.app.entropy);
    let cookie = Token::mint(TokenKind::Cookie, &app.app.entropy);
    let no_body = ask(&app.app, request(Method::POST, REFRESH)).await;
    insta::assert_json_snapshot!(no_body.shown());
    for wrong in
        ["", " ", "x", unknown.expose(), cookie.expose(), &access, &token[..68], &format!("{token}0")]
    {
        refused(&app, wrong).await;
    }
    assert!(lives(&app.app, &access).await);
    turned(&app, &token).await;
}

/// The public part of a token is no secret: it may be in somebody's log. Guessing the rest ends nobody's session.
#[actix_web::test]
async fn another_secret_under_a_known_id_ends_nothing() {
    let app = acme().await;
    let (token, access) = session(&app).await;
    let other = Token::mint(TokenKind::Refresh, &app.app.entropy);
    let body = format!("{}{}", &token[..20], &other.expose()[20..63]);
    let forged = format!("{body}{}", checksum(&body));
    assert!(Token::parse(&forged).is_some(), "well-formed");
    refused(&app, &forged).await;
    let next = turned(&app, &token).await;
    refused(&app, &forged).await;
    assert!(lives(&app.app, &access).await);
    turned(&app, &next).await;
}

fn checksum(body: &str) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut digits = vec![];
    for _ in 0..6 {
        digits.push(char::from(ALPHABET[rest % 62]));
        rest /= 62;
    }
    digits.iter().rev().collect()
}

// Races and lost answers --------------------------------------------------------------------------------------------

/// How many generations there are in each state.
async fn family(app: &TestApp) -> Value {
    let sql = "SELECT state, count(*) AS generations FROM refresh_tokens GROUP BY state ORDER BY state";
    app.rows(sql).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fifty_refreshes_at_once_leave_one_live_branch() {
    let app = acme_with(&["http.drain_seconds=0", "http.workers=4", "database.connections_max=20"]).await;
    let (token, access) = session(&app).await;
    let live = Live::of(&app.app);
    let body = json!({ "refresh_token": token });
    let mut held = Held::of(&app, "refresh_tokens").await;
    let asked: Vec<_> = (0..50).map(|_| live.post(REFRESH, &body)).collect();
    held.awaited_by(20).await;
    held.let_go().await;
    one_live_branch(&app, &access, asked).await;
    live.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_processes_at_once_leave_one_live_branch() {
    let app = acme_with(&["http.drain_seconds=0", "http.workers=2"]).await;
    let (token, access) = session(&app).await;
    let replica = app.replica(&["http.drain_seconds=0", "http.workers=2"]).await;
    let lives = [Live::of(&app.app), Live::of(&replica)];
    let body = json!({ "refresh_token": token });
    let mut held = Held::of(&app, "refresh_tokens").await;
    let asked: Vec<_> = (0..40).map(|turn| lives[turn % 2].post(REFRESH, &body)).collect();
    held.awaited_by(12).await;
    held.let_go().await;
    one_live_branch(&app, &access, asked).await;
    for live in lives {
        live.stop().await;
    }
}

/// The first answer, and three more for those who may not have got it; all others are refused. What works of it all
/// is one token.
async fn one_live_branch(
    app: &TestApp,
    access: &str,
    asked: Vec<tokio::task::JoinHandle<crate::http_support::Answer>>,
) {
    let (count, mut got) = (asked.len(), vec![]);
    for answer in asked {
        let answer = answer.await.unwrap();
        match answer.verdict() {
            (200, _) => got.push(answer.json()["refresh_token"].as_str().unwrap().to_owned()),
            other => assert_eq!(other, (401, "REFRESH_REFUSED".into())),
        }
    }
    assert_eq!(got.len(), 4, "of {count}");
    let states = json!([
        { "state": "active", "generations": 1 },
        { "state": "consumed", "generations": 1 },
        { "state": "revoked", "generations": 3 },
    ]);
    assert_eq!(family(app).await, states);
    assert!(lives(&app.app, access).await, "the family lives");
    let mut good = vec![];
    for token in &got {
        if refresh(app, token).await["status"] == 200 {
            good.push(token);
        }
    }
    assert_eq!(good.len(), 1, "one live branch");
    assert!(lives(&app.app, access).await, "the dead ones ended nothing");
}

#[actix_web::test]
async fn a_lost_answer_can_be_asked_for_three_times() {
    let app = acme().await;
    let (token, access) = session(&app).await;
    let mut lost = vec![turned(&app, &token).await];
    for _ in 0..3 {
        app.tick(Duration::from_secs(5)).await;
        let next = turned(&app, &token).await;
        refused(&app, lost.last().unwrap()).await;
        lost.push(next);
    }
    refused(&app, &token).await;
    assert!(lives(&app.app, &access).await, "too often is refused, and no theft");
    let live = lost.pop().unwrap();
    for dead in &lost {
        refused(&app, dead).await;
    }
    turned(&app, &live).await;
    assert!(lives(&app.app, &access).await);
}

#[actix_web::test]
async fn a_replay_after_the_successor_was_used_ends_the_session_everywhere() {
    let app = acme().await;
    let (token, access) = session(&app).await;
    let replica = app.replica(&[]).await;
    let second = turned(&app, &token).await;
    let third = turned(&app, &second).await;
    let before = told(&app).await;
    refused(&app, &token).await;
    insta::assert_json_snapshot!(told_since(&app, before).await);
    let facts = app.rows("SELECT kind, body FROM authz_fact WHERE kind = 'session'").await;
    assert_eq!(facts.as_array().unwrap().len(), 1, "{facts}");
    let ended = app.rows("SELECT revoked_reason FROM sessions").await;
    assert_eq!(ended, json!([{ "revoked_reason": "refresh_reuse" }]));
    for dead in [&token, &second, &third] {
        refused(&app, dead).await;
    }
    let answer = ask(&app.app, bearing(request(Method::GET, "/v1/me"), &access)).await;
    assert_eq!(answer.verdict(), (401, "SESSION_ENDED".into()));
    assert_eq!(answer.header("www-authenticate").as_deref(), Some("Bearer error=\"invalid_token\""));
    replica.work.catch_up().await.unwrap();
    assert!(!lives(&replica, &access).await);
    assert_eq!(told(&app).await, before + 1, "told once");
}

#[actix_web::test]
async fn the_grace_ends() {
    let app = acme().await;
    let (token, access) = session(&app).await;
    turned(&app, &token).await;
    app.tick(GRACE.saturating_sub(Duration::from_millis(1))).await;
    let live = turned(&app, &token).await;
    app.tick(Duration::from_millis(1)).await;
    refused(&app, &token).await;
    refused(&app, &live).await;
    assert!(!lives(&app.app, &access).await, "a repeated use does not lengthen the grace");
}

#[actix_web::test]
async fn without_a_grace_every_second_use_is_a_second_holder() {
    let app = acme_with(&["authentication.refresh_grace_seconds=0"]).await;
    let (token, access) = session(&app).await;
    turned(&app, &token).await;
    refused(&app, &token).await;
    assert!(!lives(&app.app, &access).await);
}

#[actix_web::test]
async fn a_token_in_another_clients_hands_ends_the_family() {
    let app = acme().await;
    let portal = async || {
        let body = json!({ "email": "ada@example.io", "password": PASSWORD, "client_id": "portal" });
        let answer = app.call(Method::POST, None, "/v1/auth/login", body).await;
        (text(&answer, "refresh_token"), text(&answer, "access_token"))
    };
    let (token, access) = portal().await;
    let answer = refresh_as(&app, &token, json!("portal")).await;
    assert_eq!(decoded(&text(&answer, "access_token"))["claims"]["client_id"], "portal");
    let next = turned(&app, &text(&answer, "refresh_token")).await;
    let stolen = refresh_as(&app, &next, json!("thief")).await;
    assert_eq!(stolen["status"], 401);
    refused(&app, &next).await;
    assert!(!lives(&app.app, &access).await, "a live one");

    let (token, access) = portal().await;
    turned(&app, &token).await;
    let stolen = refresh_as(&app, &token, json!("thief")).await;
    assert_eq!(stolen["status"], 401);
    assert!(!lives(&app.app, &access).await, "a used one, within the grace");
}

// How long ---------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_session_nobody_refreshes_runs_out() {
    let app = acme_with(&["authentication.session_idle_hours=1"]).await;
    let (token, _) = session(&app).await;
    app.tick(Duration::from_mins(59)).await;
    let token = turned(&app, &token).await;
    app.tick(Duration::from_mins(59)).await;
    let token = turned(&app, &token).await;
    app.tick(Duration::from_hours(1)).await;
    refused(&app, &token).await;
}

#[actix_web::test]
async fn no_refresh_extends_the_absolute_end() {
    let app = acme_with(&["authentication.session_hours=2", "authentication.session_idle_hours=1"]).await;
    let (mut token, _) = session(&app).await;
    for _ in 0..3 {
        app.tick(Duration::from_mins(39)).await;
        token = turned(&app, &token).await;
    }
    let past = "SELECT FROM refresh_tokens r JOIN sessions s USING (session_id)
                WHERE r.expires_at > s.absolute_expires_at";
    assert_eq!(app.rows(past).await, json!([]));
    app.tick(Duration::from_mins(3)).await;
    refused(&app, &token).await;
    let listed = app.get("ada", "/v1/auth/sessions").await;
    assert_eq!(listed["body"], json!([]), "it is over");
}

// For whom ---------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_suspended_member_waits_and_then_goes_on() {
    let app = acme().await;
    let (token, _) = session(&app).await;
    let path = format!("/v1/orgs/acme/users/{}", app.person("ada").await);
    let reason = json!({ "reason": "drill" });
    assert_eq!(app.post("owner", &format!("{path}/suspend"), reason.clone()).await["status"], 200);
    refused(&app, &token).await;
    assert_eq!(app.post("owner", &format!("{path}/restore"), reason).await["status"], 200);
    let token = turned(&app, &token).await;
    assert_eq!(app.delete("owner", &path).await["status"], 204);
    refused(&app, &token).await;
}

#[actix_web::test]
async fn a_suspended_org_goes_on_and_a_deleted_one_waits() {
    let app = acme().await;
    let (token, _) = session(&app).await;
    app.person_with("root", &[PlatformRole::PlatformAdmin]).await;
    let reason = json!({ "reason": "drill" });
    assert_eq!(app.post("root", "/v1/orgs/acme/suspend", reason.clone()).await["status"], 200);
    let token = turned(&app, &token).await;
    assert_eq!(app.delete("root", "/v1/orgs/acme").await["status"], 204);
    refused(&app, &token).await;
    assert_eq!(app.post("root", "/v1/orgs/acme/restore", reason).await["status"], 200);
    turned(&app, &token).await;
}

#[actix_web::test]
async fn another_process_knows_of_a_suspension_once_it_has_caught_up() {
    let app = acme().await;
    let (token, _) = session(&app).await;
    let replica = app.replica(&[]).await;
    let path = format!("/v1/orgs/acme/users/{}/suspend", app.person("ada").await);
    assert_eq!(app.post("owner", &path, json!({ "reason": "drill" })).await["status"], 200);
    replica.work.catch_up().await.unwrap();
    let body = json!({ "refresh_token": token });
    let answer = send(&replica, post_from("127.0.0.1", REFRESH, &body), Listener::Http).await;
    assert_eq!(answer["status"], 401, "{answer}");
}

// By which door ----------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn the_token_may_come_as_the_bearer() {
    let app = acme().await;
    let (token, _) = session(&app).await;
    let answer = ask(&app.app, bearing(request(Method::POST, REFRESH), &token)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = answer.json()["refresh_token"].as_str().unwrap().to_owned();
    // An existing client says JSON and sends nothing.
    let empty =
        bearing(request(Method::POST, REFRESH), &token).insert_header(("content-type", "application/json"));
    let answer = ask(&app.app, empty).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let token = answer.json()["refresh_token"].as_str().unwrap().to_owned();
    let both = bearing(post_from("127.0.0.1", REFRESH, &json!({ "refresh_token": token })), "garbage");
    assert_eq!(ask(&app.app, both).await.status, 200, "the body decides");
}

#[actix_web::test]
async fn the_portals_paths_take_the_same_as_json_with_a_grant_type() {
    let app = acme().await;
    let (mut token, _) = session(&app).await;
    for path in ["/auth/token", "/api/auth/token", "/v1/auth/token"] {
        let body = json!({ "grant_type": "refresh_token", "refresh_token": token, "client_id": null });
        let answer = ask(&app.app, post_from("127.0.0.1", path, &body)).await;
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        token = answer.json()["refresh_token"].as_str().unwrap().to_owned();
    }
    let bodies = [
        json!({ "grant_type": "authorization_code", "code": "x" }),
        json!({ "grant_type": "password", "refresh_token": token }),
        json!({ "refresh_token": token }),
        json!({ "grant_type": "refresh_token" }),
    ];
    let requests = bodies.iter().map(|body| post_from("127.0.0.1", "/auth/token", body));
    let answers = ask_all(&app.app, Listener::Http, requests).await;
    let told: Vec<_> =
        answers.iter().map(|answer| (answer.verdict(), answer.json()["error"].clone())).collect();
    insta::assert_json_snapshot!(told);
    turned(&app, &token).await;
}
