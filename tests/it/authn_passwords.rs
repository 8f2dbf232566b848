//! Passwords: what one may be, and changing one's own.
use crate::{
    app::{PASSWORD, TestApp},
    http_support::{acme, ask, bearing, post_from, request, signed_in, text, told, told_since},
};
use actix_web::http::Method;
use serde_json::{Value, json};
use std::time::Duration;

const CHANGE: &str = "/v1/me/password";
const NEW: &str = "an entirely different phrase";

/// Ada signs in, and is the caller `ada` from then on.
async fn enter(app: &TestApp) -> String {
    let access = text(&signed_in(app).await, "access_token");
    app.bearer("ada", &access);
    access
}

async fn change(app: &TestApp, current: &str, new: &str) -> Value {
    app.post("ada", CHANGE, json!({ "currentPassword": current, "newPassword": new })).await
}

async fn opens(app: &TestApp, password: &str) -> bool {
    let body = json!({ "email": "ada@example.io", "password": password });
    app.call(Method::POST, None, "/v1/auth/login", body).await["status"] == 200
}

#[actix_web::test]
async fn a_person_changes_the_own_password_and_the_other_sessions_end() {
    let app = acme().await;
    let (other, access) = (signed_in(&app).await, enter(&app).await);
    let before = told(&app).await;
    let changed = change(&app, PASSWORD, NEW).await;
    assert_eq!((&changed["status"], &changed["body"]), (&json!(204), &Value::Null), "{changed}");
    insta::assert_json_snapshot!(told_since(&app, before).await);
    assert_eq!(app.get("ada", "/v1/me").await["status"], 200, "this session goes on");
    let theirs = ask(&app.app, bearing(request(Method::GET, "/v1/me"), &text(&other, "access_token"))).await;
    assert_eq!(theirs.verdict(), (401, "SESSION_ENDED".into()));
    let body = json!({ "refresh_token": other["body"]["refresh_token"] });
    assert_eq!(app.call(Method::POST, None, "/v1/auth/refresh", body).await["status"], 401);
    assert!(!opens(&app, PASSWORD).await && opens(&app, NEW).await);
    let replica = app.replica(&[]).await;
    assert_eq!(ask(&replica, bearing(request(Method::GET, "/v1/me"), &access)).await.status, 200);
}

#[actix_web::test]
async fn a_wrong_current_password_is_refused_and_counted_with_those_at_the_door() {
    let app = acme().await;
    enter(&app).await;
    let before = told(&app).await;
    insta::assert_json_snapshot!(change(&app, "wrong wrong wrong wrong", NEW).await);
    insta::assert_json_snapshot!(told_since(&app, before).await);
    for _ in 0..3 {
        assert_eq!(change(&app, "", NEW).await["status"], 403);
    }
    assert_eq!(change(&app, &"x".repeat(600), NEW).await["status"], 403);
    assert!(!opens(&app, "wrong wrong wrong wrong").await, "the sixth");
    let waits = change(&app, PASSWORD, NEW).await;
    assert_eq!((&waits["status"], &waits["body"]["code"]), (&json!(429), &json!("TOO_MANY_ATTEMPTS")));
    assert_eq!(waits["headers"]["retry-after"], "1");
    app.tick(Duration::from_secs(1)).await;
    assert_eq!(change(&app, PASSWORD, NEW).await["status"], 204);
    assert_eq!(
        (
            app.rows("SELECT failures FROM login_throttle").await,
            app.rows("SELECT failures FROM login_networks").await
        ),
        (json!([{ "failures": 6 }, { "failures": 6 }]), json!([{ "failures": 0 }])),
        "the account's count here is forgotten, those of account and network are not"
    );
}

/// Checked in this order, and only for whoever knows the current one.
#[actix_web::test]
async fn a_new_password_must_be_long_and_not_what_everybody_tries() {
    let app = acme().await;
    enter(&app).await;
    let long = "pneumonoultramicroscopicsilicovolcanoconiosis ".repeat(3);
    let said: Vec<Value> = {
        let mut said = vec![];
        for new in [
            "",
            "fourteen chars",
            "\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}\u{e9}",
            &long,
            &"xyz \u{1f40e}".repeat(65),
            "aaaaaaaaaaaaaaaaaaaa",
            "passwordpassword",
            "Password12345678",
            "ada@example.io!!",
            "qwertyuiopasdfgh",
        ] {
            let answer = change(&app, PASSWORD, new).await;
            assert_eq!(answer["status"], 422, "{new:?}: {answer}");
            let shown = new.chars().take(20).collect::<String>();
            said.push(json!([shown, answer["body"]["code"], answer["body"]["errors"]]));
        }
        said
    };
    insta::assert_json_snapshot!(said);
    assert!(opens(&app, PASSWORD).await);
    let wrong = change(&app, "wrong wrong wrong wrong", "short").await;
    assert_eq!(wrong["body"]["code"], "PASSWORD_WRONG");
}

#[actix_web::test]
async fn no_rule_but_length_and_guessability() {
    let app = acme().await;
    enter(&app).await;
    let mut current = PASSWORD.to_owned();
    for new in [
        "only small letters here",
        "                 spaces lead and trail ",
        "\u{43f}\u{430}\u{440}\u{43e}\u{43b}\u{44c} \u{438}\u{437} \u{441}\u{43b}\u{43e}\u{432} \u{1f511}",
        &"a long one, and no more: ".repeat(5)[..124],
        "' OR '1'='1'; DROP TABLE passwords; --",
    ] {
        let changed = change(&app, &current, new).await;
        assert_eq!(changed["status"], 204, "{new:?}: {changed}");
        let mut shorter = new.to_owned();
        shorter.pop();
        assert!(opens(&app, new).await && !opens(&app, &shorter).await, "{new:?}");
        new.clone_into(&mut current);
    }
}

/// What is kept under an Idempotency-Key has a fingerprint of the body, and a fast hash of a password is a password.
#[actix_web::test]
async fn nothing_of_a_password_is_kept_to_tell_repeats() {
    let app = acme().await;
    let access = enter(&app).await;
    let body = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
    let again =
        || bearing(post_from("127.0.0.1", CHANGE, &body), &access).insert_header(("idempotency-key", "k"));
    assert_eq!(ask(&app.app, again()).await.status, 204);
    assert_eq!(app.rows("SELECT * FROM idempotency_keys").await, json!([]));
    assert_eq!(
        ask(&app.app, again()).await.verdict(),
        (403, "PASSWORD_WRONG".into()),
        "it is another by now"
    );
}

#[actix_web::test]
async fn the_same_rules_hold_for_whoever_accepts_an_invite() {
    let app = acme().await;
    app.post("owner", "/v1/orgs/acme/invites", json!({ "email": "bob@example.io" })).await;
    let token = app.invite_token().await;
    for (password, code) in [
        ("fourteen chars", "PASSWORD_TOO_SHORT"),
        ("xy z".repeat(40).as_str(), "PASSWORD_TOO_LONG"),
        ("bob@example.io12345", "PASSWORD_TOO_COMMON"),
    ] {
        let body = json!({ "token": token, "password": password });
        let answer = app.call(Method::POST, None, "/v1/invites/accept", body).await;
        assert_eq!((&answer["status"], &answer["body"]["code"]), (&json!(422), &json!(code)), "{answer}");
    }
}

#[actix_web::test]
async fn only_a_person_has_a_password() {
    let app = acme().await;
    let machine = app.post("owner", "/v1/orgs/acme/service-accounts", json!({ "name": "router" })).await;
    let path = format!("/v1/orgs/acme/service-accounts/{}/api-keys", text(&machine, "serviceAccountId"));
    let key = app.post("owner", &path, json!({})).await;
    let body = json!({ "currentPassword": PASSWORD, "newPassword": NEW });
    let answer = ask(&app.app, bearing(post_from("127.0.0.1", CHANGE, &body), &text(&key, "secret"))).await;
    assert_eq!(answer.verdict(), (409, "NOT_A_PERSON".into()));
    assert_eq!(ask(&app.app, post_from("127.0.0.1", CHANGE, &body)).await.status, 401);
    // Somebody who never chose one.
    let answer = app.post("owner", CHANGE, body).await;
    assert_eq!((&answer["status"], &answer["body"]["code"]), (&json!(403), &json!("PASSWORD_WRONG")));
}

#[actix_web::test]
async fn a_password_is_stored_as_a_hash_with_a_salt_of_its_own() {
    let app = acme().await;
    let acme = app.work().state().org_by_slug("acme").unwrap();
    app.joined(acme, "owner", "bob", &["member"]).await;
    let rows = app.rows("SELECT phc FROM passwords ORDER BY identity_id").await;
    let hashes: Vec<&str> = rows.as_array().unwrap().iter().map(|row| row["phc"].as_str().unwrap()).collect();
    assert_eq!(hashes.len(), 2);
    assert!(hashes.iter().all(|hash| hash.starts_with("$argon2id$v=19$m=64,t=1,p=1,keyid=1$")), "{hashes:?}");
    assert_ne!(hashes[0], hashes[1], "the same password");
}
