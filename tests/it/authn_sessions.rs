//! Sessions: how they end, whose they are, and that what ended is dead everywhere.
use crate::{
    app::{PASSWORD, TestApp, id, send},
    http_support::{acme, ask, ask_all, bearing, post_from, request, signed_in, text, told, told_since},
};
use actix_web::http::Method;
use futures_util::future::join_all;
use identityd::{
    app::{App, Listener},
    authorization::{PlatformRole, Role},
    kernel::SessionId,
};
use serde_json::{Value, json};
use std::time::Duration;

const SESSIONS: &str = "/v1/auth/sessions";

/// Does this access token open the API?
async fn opens(app: &App, access_token: &str) -> bool {
    ask(app, bearing(request(Method::GET, "/v1/me"), access_token)).await.status == 200
}

async fn refreshes(app: &TestApp, answer: &Value) -> bool {
    let body = json!({ "refresh_token": answer["body"]["refresh_token"] });
    app.call(Method::POST, None, "/v1/auth/refresh", body).await["status"] == 200
}

/// Signs Ada in and names her caller by it.
async fn enter(app: &TestApp, caller: &str) -> Value {
    let answer = signed_in(app).await;
    app.bearer(caller, &text(&answer, "access_token"));
    answer
}

fn session_of(answer: &Value) -> SessionId {
    id(&answer["body"]["session_id"])
}

// Signing out ------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn signing_out_ends_the_session_of_either_token_at_every_path() {
    let app = acme().await;
    for path in ["/v1/auth/logout", "/auth/logout", "/api/auth/logout"] {
        for (member, bearer) in [
            ("access_token", false),
            ("refresh_token", false),
            ("access_token", true),
            ("refresh_token", true),
        ] {
            let answer = signed_in(&app).await;
            let (token, access) = (text(&answer, member), text(&answer, "access_token"));
            let out = match bearer {
                true => bearing(request(Method::POST, path), &token)
                    .insert_header(("content-type", "application/json")),
                false => post_from("127.0.0.1", path, &json!({ "token": token, "token_type_hint": "x" })),
            };
            let left = ask(&app.app, out).await;
            assert_eq!((left.status, left.text.as_str()), (204, ""), "{path} {member}");
            assert!(!opens(&app.app, &access).await, "{path} {member}");
            assert!(!refreshes(&app, &answer).await, "{path} {member}");
        }
    }
}

#[actix_web::test]
async fn signing_out_is_told_once_however_often_it_is_asked_for() {
    let app = acme().await;
    let answer = signed_in(&app).await;
    let before = told(&app).await;
    let leave = async |token: &str| {
        let body = json!({ "token": answer["body"][token] });
        let left = app.call(Method::POST, None, "/v1/auth/logout", body).await;
        assert_eq!(left["status"], 204, "{left}");
    };
    join_all((0..4).map(|_| leave("access_token"))).await;
    leave("refresh_token").await;
    // And when authorization has forgotten it.
    app.tick(Duration::from_hours(2)).await;
    leave("access_token").await;
    let told = told_since(&app, before).await;
    // Whoever was too late by a moment may have been refused as a session that is over.
    let events: Vec<&Value> =
        told.as_array().unwrap().iter().filter(|event| event["outcome"] == "allow").collect();
    assert_eq!(events.len(), 1, "{told}");
    assert_eq!(events[0]["body"], json!({ "reason": "logout", "session": "ended" }));
    assert_eq!(events[0]["target"], answer["body"]["session_id"]);
    let reason = app.rows("SELECT revoked_reason FROM sessions").await;
    assert_eq!(reason, json!([{ "revoked_reason": "logout" }]));
}

#[actix_web::test]
async fn an_expired_access_token_still_signs_out() {
    let app = acme().await;
    let answer = signed_in(&app).await;
    app.tick(Duration::from_hours(2)).await;
    let body = json!({ "token": answer["body"]["access_token"] });
    assert_eq!(app.call(Method::POST, None, "/v1/auth/logout", body).await["status"], 204);
    assert!(!refreshes(&app, &answer).await);
}

#[actix_web::test]
async fn a_token_that_is_no_good_ends_nothing_and_is_told_so_by_nobody() {
    let app = acme().await;
    let answer = signed_in(&app).await;
    let before = told(&app).await;
    let access = text(&answer, "access_token");
    let altered = format!("{}AAAA", &access[..access.len() - 4]);
    let refresh = text(&answer, "refresh_token");
    let bodies = [
        json!({}),
        json!({ "token": "" }),
        json!({ "token": "garbage" }),
        json!({ "token": altered }),
        json!({ "token": refresh[..60] }),
        json!({ "token": "a.b.c" }),
    ];
    let requests = bodies.iter().map(|body| post_from("127.0.0.1", "/v1/auth/logout", body));
    for answer in ask_all(&app.app, Listener::Http, requests).await {
        assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    }
    assert_eq!(ask(&app.app, request(Method::POST, "/v1/auth/logout")).await.status, 204);
    assert_eq!(told(&app).await, before);
    assert!(opens(&app.app, &access).await && refreshes(&app, &answer).await);
}

// One's own ---------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_person_sees_the_own_open_sessions() {
    let app = acme().await;
    let acme = app.work().state().org_by_slug("acme").unwrap();
    app.joined(acme, "owner", "bob", &["member"]).await;
    app.sign_in("bob").await;
    enter(&app, "ada").await;
    app.tick(Duration::from_secs(1)).await;
    let body = json!({ "email": "ada@example.io", "password": PASSWORD, "client_id": "cli" });
    let agent = post_from("198.51.100.7", "/v1/auth/login", &body).insert_header(("user-agent", "curl/8"));
    assert_eq!(ask(&app.app, agent).await.status, 200);
    app.tick(Duration::from_secs(1)).await;
    let gone = signed_in(&app).await;
    let body = json!({ "token": gone["body"]["refresh_token"] });
    app.call(Method::POST, None, "/v1/auth/logout", body).await;
    insta::assert_json_snapshot!(app.get("ada", SESSIONS).await);
    let page = app.get("ada", &format!("{SESSIONS}?limit=1")).await;
    assert_eq!(page["body"].as_array().unwrap().len(), 1);
    let link = page["headers"]["link"].as_str().unwrap();
    let next = link.strip_prefix('<').unwrap().split('>').next().unwrap();
    let second = app.get("ada", next).await;
    assert_eq!(second["body"][0]["clientId"], "cli", "{second}");
    assert_ne!(second["body"][0]["sessionId"], page["body"][0]["sessionId"]);
}

#[actix_web::test]
async fn a_person_ends_the_own_session_and_again_changes_nothing() {
    let app = acme().await;
    enter(&app, "ada").await;
    let other = signed_in(&app).await;
    let path = format!("{SESSIONS}/{}", session_of(&other));
    for _ in 0..2 {
        assert_eq!(app.delete("ada", &path).await["status"], 204);
    }
    assert!(!opens(&app.app, &text(&other, "access_token")).await && !refreshes(&app, &other).await);
    assert_eq!(app.get("ada", SESSIONS).await["body"].as_array().unwrap().len(), 1, "this one goes on");
    assert_eq!(app.delete("ada", &format!("{SESSIONS}/garbage")).await["status"], 404);
    let own = app.get("ada", SESSIONS).await["body"][0]["sessionId"].as_str().unwrap().to_owned();
    assert_eq!(app.delete("ada", &format!("{SESSIONS}/{own}")).await["status"], 204);
    assert_eq!(app.get("ada", SESSIONS).await["body"]["code"], "SESSION_ENDED", "and the own one too");
}

#[actix_web::test]
async fn nobody_ends_anothers_session() {
    let app = acme().await;
    let acme = app.work().state().org_by_slug("acme").unwrap();
    app.joined(acme, "owner", "bob", &["admin"]).await;
    app.bearer("bob", &text(&app.sign_in("bob").await, "access_token"));
    let ada = enter(&app, "ada").await;
    let path = format!("{SESSIONS}/{}", session_of(&ada));
    let bob = app.delete("bob", &path).await;
    assert_eq!(bob["status"], 204, "as if there were none: {bob}");
    assert!(opens(&app.app, &text(&ada, "access_token")).await && refreshes(&app, &ada).await);
    let anonymous = app.call(Method::DELETE, None, &path, Value::Null).await;
    assert_eq!(anonymous["status"], 401);
}

#[actix_web::test]
async fn a_key_has_no_sessions() {
    let app = acme().await;
    let machine = app.post("owner", "/v1/orgs/acme/service-accounts", json!({ "name": "router" })).await;
    let path = format!("/v1/orgs/acme/service-accounts/{}/api-keys", text(&machine, "serviceAccountId"));
    let key = app.post("owner", &path, json!({})).await;
    app.bearer("machine", &text(&key, "secret"));
    assert_eq!(app.get("machine", SESSIONS).await["body"], json!([]));
    let ada = enter(&app, "ada").await;
    let path = format!("{SESSIONS}/{}", session_of(&ada));
    assert_eq!(app.delete("machine", &path).await["status"], 204);
    assert!(opens(&app.app, &text(&ada, "access_token")).await);
}

#[actix_web::test]
async fn what_ended_is_dead_in_another_process_once_it_has_caught_up() {
    let app = acme().await;
    let ada = enter(&app, "ada").await;
    let (access, replica) = (text(&ada, "access_token"), app.replica(&[]).await);
    assert!(opens(&replica, &access).await);
    app.delete("ada", &format!("{SESSIONS}/{}", session_of(&ada))).await;
    replica.work.catch_up().await.unwrap();
    let answer = ask(&replica, bearing(request(Method::GET, "/v1/me"), &access)).await;
    assert_eq!(answer.verdict(), (401, "SESSION_ENDED".into()));
    let started_later = app.replica(&[]).await;
    assert!(!opens(&started_later, &access).await);
}

// A member's --------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn an_administrator_ends_a_members_sessions_of_this_org_only() {
    let app = acme().await;
    let beta = app.org("owner", "beta").await;
    app.member(beta, "ada", Role::Member).await;
    let into = async |org: &str| {
        let body = json!({ "email": "ada@example.io", "password": PASSWORD, "org_id": org });
        app.call(Method::POST, None, "/v1/auth/login", body).await
    };
    let (here, again, there) = (into("acme").await, into("acme").await, into("beta").await);
    let before = told(&app).await;
    let path = format!("/v1/orgs/acme/users/{}/sessions", app.person("ada").await);
    assert_eq!(app.delete("owner", &path).await["status"], 204);
    insta::assert_json_snapshot!(told_since(&app, before).await);
    for ended in [&here, &again] {
        assert!(!opens(&app.app, &text(ended, "access_token")).await && !refreshes(&app, ended).await);
    }
    assert!(opens(&app.app, &text(&there, "access_token")).await && refreshes(&app, &there).await);
    assert_eq!(app.delete("owner", &path).await["status"], 204, "again");
}

#[actix_web::test]
async fn only_whoever_may_ends_a_members_sessions() {
    let app = acme().await;
    let acme = app.work().state().org_by_slug("acme").unwrap();
    let user = app.work().state().member(app.person("ada").await, acme).unwrap().user;
    app.org("stranger", "other").await;
    app.member(acme, "manager", Role::Manager).await;
    app.member(acme, "viewer", Role::Viewer).await;
    app.person_with("support", &[PlatformRole::PlatformSupport]).await;
    let path = format!("/v1/orgs/acme/users/{user}/sessions");
    let verdict = async |caller: &str, path: &str| {
        let answer = app.delete(caller, path).await;
        (answer["status"].as_u64().unwrap(), answer["body"]["code"].as_str().unwrap_or_default().to_owned())
    };
    for (caller, expected) in
        [("owner", 204), ("manager", 204), ("support", 204), ("viewer", 403), ("stranger", 404)]
    {
        let ada = signed_in(&app).await;
        let (status, code) = verdict(caller, &path).await;
        assert_eq!(status, expected, "{caller} {code}");
        assert_eq!(opens(&app.app, &text(&ada, "access_token")).await, expected != 204, "{caller}");
    }
    // Through the wrong org, and of nobody.
    let ada = signed_in(&app).await;
    for path in [
        format!("/v1/orgs/other/users/{user}/sessions"),
        "/v1/orgs/other/users/01900000-0000-7000-8000-000000000000/sessions".into(),
        "/v1/orgs/other/users/garbage/sessions".into(),
    ] {
        assert_eq!(verdict("stranger", &path).await.0, 404, "{path}");
    }
    assert!(opens(&app.app, &text(&ada, "access_token")).await);
    let anonymous = send(&app.app, request(Method::DELETE, &path), Listener::Http).await;
    assert_eq!(anonymous["status"], 401);
}
