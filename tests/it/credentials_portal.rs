//! The web portal's own path to a person's keys.
use crate::{
    app::{self, TestApp},
    contexts_support::{
        NOBODY, ask, at_once, both, brief, call_with, check, column, issue, pages, root, take_secret, told,
    },
};
use actix_web::http::Method;
use identityd::{
    authorization::Role,
    credentials::api_keys,
    kernel::{Id, OrgId},
};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use std::time::Duration;
use uuid::Uuid;

const MINE: &str = "/organizations/me/api-keys";

/// From now on this caller's token is for this org.
async fn sign_in(app: &TestApp, name: &str, org: OrgId) {
    let session = Id::from_uuid(Uuid::from_u128(0x5E55));
    let token = app.token_of(app.person(name).await, session, Some(org));
    app.bearer(name, &token);
}

/// An org of ada's, in which bob is signed in.
async fn acme_with_bob(app: &TestApp) -> OrgId {
    let org = app.org("ada", "acme").await;
    app.member(org, "bob", Role::Member).await;
    sign_in(app, "bob", org).await;
    org
}

fn mine(id: &str) -> String {
    format!("{MINE}/{id}")
}

#[actix_web::test]
async fn a_person_issues_a_key_for_himself() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    let body =
        json!({ "display_name": "laptop", "scopes": ["inference"], "expires_at": "2026-02-01T00:00:00Z" });
    let mut told = told(&app, app.post("bob", MINE, body)).await;
    let secret = take_secret(&mut told["answer"]);
    assert_json_snapshot!("issued", told);
    assert_eq!(check(&app, &secret).await["scopes"], json!(["inference:invoke"]));
}

#[actix_web::test]
async fn a_key_is_read_under_both_sets_of_names() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    let body = json!({ "display_name": "laptop", "expires_at": "2026-02-01T00:00:00Z" });
    let (id, secret) = issue(&app, "bob", MINE, body).await;
    app.tick(Duration::from_secs(1)).await;
    check(&app, &secret).await;
    api_keys::flush_usage(app.work(), &app.app.access.usage).await.unwrap();
    let told = told(&app, app.get("bob", &mine(&id))).await;
    assert_json_snapshot!("read", told);
    let body = &told["answer"]["body"];
    for (one, other) in [
        ("apiKeyId", "key_id"),
        ("createdAt", "created_at"),
        ("expiresAt", "expires_at"),
        ("lastUsedAt", "last_used_at"),
    ] {
        assert!(body[one].is_string(), "{one}");
        assert_eq!(body[one], body[other], "{one}");
    }
}

#[actix_web::test]
async fn a_person_lists_his_own_keys_and_no_others() {
    let app = TestApp::new().await;
    let org = acme_with_bob(&app).await;
    let other = app.org("eve", "other").await;
    let there = app.member(other, "bob", Role::Member).await;
    let ada = app.get("ada", "/v1/orgs/acme/users?email=ada@example.io").await;
    let ada = ada["body"][0]["userId"].as_str().unwrap().to_owned();
    issue(&app, "ada", &format!("/v1/orgs/{org}/users/{ada}/api-keys"), Value::Null).await;
    issue(&app, "eve", &format!("/v1/orgs/{other}/users/{there}/api-keys"), Value::Null).await;
    issue(&app, "bob", MINE, json!({ "display_name": "laptop" })).await;
    let told = told(&app, app.get("bob", MINE)).await;
    assert_json_snapshot!("listed", told);
    sign_in(&app, "bob", other).await;
    assert_eq!(app.get("bob", MINE).await["body"].as_array().unwrap().len(), 1, "the token's org decides");
}

#[actix_web::test]
async fn scopes_are_a_list_in_every_answer() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    let issued = app.post("bob", MINE, json!({ "display_name": "x", "scopes": [] })).await;
    let id = issued["body"]["key_id"].as_str().unwrap();
    let rotated = app.post("bob", &format!("{}/rotate", mine(id)), Value::Null).await;
    let patched = app.patch("bob", &mine(id), json!({ "display_name": "y" })).await;
    let (read, listed) = (app.get("bob", &mine(id)).await, app.get("bob", MINE).await);
    for body in [&issued["body"], &rotated["body"], &patched["body"], &read["body"], &listed["body"][0]] {
        assert_eq!(body["scopes"], json!(["inference:invoke", "models:read"]));
    }
}

#[actix_web::test]
async fn a_list_of_keys_goes_on_to_its_end() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    for n in 0..3 {
        app.clock.tick(Duration::from_millis(2));
        issue(&app, "bob", MINE, json!({ "display_name": format!("k{n}") })).await;
    }
    let pages = pages(&app, "bob", &format!("{MINE}?limit=2")).await;
    let names: Vec<Vec<String>> = pages.iter().map(|page| column(&json!(page), "display_name")).collect();
    assert_eq!(names, [vec!["k0", "k1"], vec!["k2"]]);
    assert_eq!(brief(&app.get("bob", &format!("{MINE}?limit=0")).await), "422 LIMIT_INVALID limit");
}

#[actix_web::test]
async fn a_person_changes_a_key_of_his() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    let (id, _) = issue(&app, "bob", MINE, json!({ "display_name": "laptop" })).await;
    let body = json!({ "display_name": "old laptop", "expires_at": "2026-02-01T00:00:00Z", "scopes": ["inference"] });
    assert_json_snapshot!("changed", told(&app, app.patch("bob", &mine(&id), body)).await);
}

#[actix_web::test]
async fn of_two_changes_to_one_version_one_is_told_to_read_again() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    let (id, _) = issue(&app, "bob", MINE, Value::Object(serde_json::Map::new())).await;
    let path = mine(&id);
    let tag = app.get("bob", &path).await["headers"]["etag"].as_str().unwrap().to_owned();
    let patch = |name| {
        let body = json!({ "display_name": name });
        call_with(&app, "bob", Method::PATCH, &path, body, ("if-match", &tag))
    };
    assert_eq!(both(at_once(&app, patch("a"), patch("b")).await), ["200", "412 VERSION_MISMATCH"]);
}

#[actix_web::test]
async fn a_person_rotates_a_key_of_his() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    let (id, old) = issue(&app, "bob", MINE, json!({ "display_name": "laptop" })).await;
    let path = format!("{}/rotate", mine(&id));
    let mut told = told(&app, app.post("bob", &path, json!({ "overlapSeconds": 60 }))).await;
    let new = take_secret(&mut told["answer"]);
    assert_json_snapshot!("rotated", told);
    assert_eq!(check(&app, &old).await["status"], "rotating");
    assert_eq!(check(&app, &new).await["valid"], true);
}

#[actix_web::test]
async fn a_person_revokes_a_key_of_his() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    let (id, secret) = issue(&app, "bob", MINE, json!({ "display_name": "laptop" })).await;
    let path = format!("{}/revoke", mine(&id));
    assert_json_snapshot!("revoked", told(&app, app.post("bob", &path, json!({ "reason": "sold" }))).await);
    assert_eq!(check(&app, &secret).await["status"], "revoked");
    assert_eq!(brief(&app.post("bob", &path, Value::Null).await), "204", "again, and without a body");
    assert_eq!(app.get("bob", &mine(&id)).await["body"]["status"], "revoked");
    assert_eq!(
        brief(&app.patch("bob", &mine(&id), json!({ "display_name": "x" })).await),
        "409 KEY_STATUS_CONFLICT"
    );
    assert_eq!(
        brief(&app.post("bob", &format!("{}/rotate", mine(&id)), Value::Null).await),
        "409 KEY_STATUS_CONFLICT"
    );
}

#[actix_web::test]
async fn there_is_no_other_way_to_end_a_key_here() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    let (id, _) = issue(&app, "bob", MINE, json!({ "display_name": "laptop" })).await;
    let answer = app.delete("bob", &mine(&id)).await;
    assert_eq!(
        (brief(&answer).as_str(), &answer["headers"]["allow"]),
        ("405 METHOD_NOT_ALLOWED", &json!("GET, HEAD, PATCH"))
    );
}

#[actix_web::test]
async fn what_cannot_be_parsed_is_refused_by_name() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    for (body, refusal) in [
        (json!({}), "201"),
        (json!({ "display_name": "x".repeat(201) }), "422 NAME_INVALID display_name"),
        (json!({ "display_name": null }), "201"),
        (json!({ "scopes": ["*"] }), "422 SCOPE_UNKNOWN scopes"),
        (json!({ "scopes": null }), "201"),
        (json!({ "expires_at": "2026-01-05T09:00:01Z" }), "201"),
        (json!({ "expires_at": "2026-01-05T09:00:00Z" }), "422 EXPIRY_INVALID expires_at"),
        (json!({ "expires_at": "2036-01-03T09:00:00+00:00" }), "201"),
        (json!({ "expires_at": "2036-01-03T09:00:01Z" }), "422 EXPIRY_INVALID expires_at"),
        (json!({ "expires_at": "2026-02-01" }), "422 INVALID_BODY expires_at"),
        (json!({ "expires_at": null }), "201"),
        (Value::Null, "400 BODY_MISSING"),
    ] {
        assert_eq!(brief(&app.post("bob", MINE, body.clone()).await), refusal, "{body}");
    }
}

#[actix_web::test]
async fn a_key_asked_for_twice_under_one_key_is_one_key_with_its_secret() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    let send = || {
        call_with(&app, "bob", Method::POST, MINE, json!({ "display_name": "x" }), ("idempotency-key", "k"))
    };
    let (first, again) = (send().await, send().await);
    assert_eq!((&again["status"], &again["body"]), (&json!(201), &first["body"]));
    assert_eq!(app.get("bob", MINE).await["body"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn the_scope_admin_is_not_for_oneself_to_take() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    assert_eq!(
        brief(&app.post("bob", MINE, json!({ "scopes": ["admin"] })).await),
        "403 ADMIN_SCOPE_RESERVED grants.admin_scope"
    );
}

#[actix_web::test]
async fn a_token_that_names_no_org_has_no_keys() {
    let app = TestApp::new().await;
    acme_with_bob(&app).await;
    app.bearer("bob", &app.token("bob").await);
    assert_json_snapshot!("no_org", told(&app, app.get("bob", MINE)).await);
    for (method, path, body) in [
        (Method::POST, MINE.to_owned(), json!({ "display_name": "x" })),
        (Method::GET, mine(NOBODY), Value::Null),
        (Method::PATCH, mine(NOBODY), json!({})),
        (Method::POST, format!("{}/rotate", mine(NOBODY)), Value::Null),
        (Method::POST, format!("{}/revoke", mine(NOBODY)), Value::Null),
    ] {
        let answer = ask(&app, "bob", &method, &path, &body).await;
        assert_eq!(answer, "409 ORG_SELECTION_REQUIRED", "{method} {path}");
    }
}

#[actix_web::test]
async fn others_keys_are_not_there_even_for_an_owner() {
    let app = TestApp::new().await;
    let org = acme_with_bob(&app).await;
    let (id, _) = issue(&app, "bob", MINE, json!({ "display_name": "laptop" })).await;
    sign_in(&app, "ada", org).await;
    for id in [id.as_str(), NOBODY, "key"] {
        for (method, suffix, body) in [
            (Method::GET, "", Value::Null),
            (Method::PATCH, "", json!({ "display_name": "x" })),
            (Method::POST, "/rotate", Value::Null),
            (Method::POST, "/revoke", Value::Null),
        ] {
            let answer = ask(&app, "ada", &method, &format!("{}{suffix}", mine(id)), &body).await;
            assert_eq!(answer, "404 NOT_FOUND", "{method} {id}{suffix}");
        }
    }
    assert_eq!(app.get("bob", &mine(&id)).await["body"]["status"], "active");
}

#[actix_web::test]
async fn whoever_has_no_right_to_keys_is_told_so() {
    let app = TestApp::new().await;
    let org = acme_with_bob(&app).await;
    app.member(org, "ann", Role::Analyst).await;
    sign_in(&app, "ann", org).await;
    assert_eq!(brief(&app.get("ann", MINE).await), "403 NO_MATCHING_PERMIT");
    assert_eq!(brief(&app.post("ann", MINE, json!({ "display_name": "x" })).await), "403 NO_MATCHING_PERMIT");
}

#[actix_web::test]
async fn a_member_who_was_stopped_has_no_keys_here() {
    let app = TestApp::new().await;
    let org = acme_with_bob(&app).await;
    let root = root(&app).await;
    let bob = format!("/v1/orgs/acme/users/{}", app.person("bob").await);
    app.post("ada", &format!("{bob}/suspend"), Value::Null).await;
    assert_eq!(brief(&app.get("bob", MINE).await), "403 NO_MATCHING_PERMIT");
    app.post("ada", &format!("{bob}/restore"), Value::Null).await;
    app.post(root, &format!("/v1/orgs/{org}/suspend"), json!({ "reason": "unpaid" })).await;
    assert_eq!(brief(&app.get("bob", MINE).await), "403 ORG_NOT_ACTIVE org.not_active.user");
}

#[actix_web::test]
async fn a_key_sees_the_keys_of_its_holder() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let machine =
        app.post("ada", "/v1/orgs/acme/service-accounts", json!({ "name": "m", "roles": ["manager"] })).await;
    let id: Uuid =
        app::id::<identityd::kernel::named::ServiceAccount>(&machine["body"]["serviceAccountId"]).uuid();
    let path = format!("/v1/orgs/acme/service-accounts/{id}/api-keys");
    let (key, secret) = issue(&app, "ada", &path, json!({ "scopes": ["keys:*"] })).await;
    app.bearer("machine", &secret);
    let listed = app.get("machine", MINE).await;
    assert_eq!(column(&listed["body"], "key_id"), [key]);
    assert_eq!(listed["body"][0]["principalType"], "service_account");
    let second = app.post("machine", MINE, json!({ "display_name": "next", "scopes": ["keys:read"] })).await;
    assert_eq!(brief(&second), "201");
    assert!(second["body"]["secret"].as_str().unwrap().starts_with("ids_"));
}
