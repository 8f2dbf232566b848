//! Machines' accounts.
use crate::{
    app::{self, TestApp},
    contexts_support::{
        NOBODY, ask, at_once, both, brief, call_with, check, column, issue, metadata_at_the_limit, pages,
        root, told,
    },
};
use actix_web::{http::Method, test::TestRequest};
use identityd::{app::Listener, authorization::Role};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use std::time::Duration;

const ACCOUNTS: &str = "/v1/orgs/acme/service-accounts";

async fn acme() -> TestApp {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    app
}

/// Makes an account: its path.
async fn account(app: &TestApp, body: Value) -> String {
    let answer = app.post("ada", ACCOUNTS, body).await;
    assert_eq!(answer["status"], 201, "{answer}");
    format!("{ACCOUNTS}/{}", answer["body"]["serviceAccountId"].as_str().unwrap())
}

async fn router(app: &TestApp) -> String {
    account(app, json!({ "name": "router" })).await
}

#[actix_web::test]
async fn an_account_is_made() {
    let app = acme().await;
    let body = json!({
        "name": " router ", "description": " Sits before the models. ", "roles": ["viewer", "member", "viewer"],
        "metadata": { "team": "blue" }, "rotation": { "everyDays": 30 }, "status": "disabled", "ignored": true,
    });
    assert_json_snapshot!("created", told(&app, app.post("ada", ACCOUNTS, body)).await);
}

#[actix_web::test]
async fn an_account_asked_for_with_nothing_but_a_name_is_a_member() {
    let app = acme().await;
    let body = json!({ "name": "router", "roles": null, "metadata": null, "rotation": null });
    assert_json_snapshot!("created_plainly", app.post("ada", ACCOUNTS, body).await);
    let none = app.post("ada", ACCOUNTS, json!({ "name": "idle", "roles": [] })).await;
    assert_eq!(none["body"]["roles"], json!([]), "no roles are no roles");
}

#[actix_web::test]
async fn an_account_is_read() {
    let app = acme().await;
    let path = router(&app).await;
    assert_json_snapshot!("read", told(&app, app.get("ada", &path)).await);
}

#[actix_web::test]
async fn the_accounts_of_an_org_are_listed_to_their_end() {
    let app = acme().await;
    for n in 0..3 {
        app.clock.tick(Duration::from_millis(2));
        account(&app, json!({ "name": format!("m{n}") })).await;
    }
    let gone = account(&app, json!({ "name": "gone" })).await;
    app.delete("ada", &gone).await;
    let pages = pages(&app, "ada", &format!("{ACCOUNTS}?limit=2")).await;
    let names: Vec<Vec<String>> = pages.iter().map(|page| column(&json!(page), "name")).collect();
    assert_eq!(names, [vec!["m0", "m1"], vec!["m2"]]);
    assert_json_snapshot!("listed", told(&app, app.get("ada", &format!("{ACCOUNTS}?limit=1"))).await);
    for (query, refusal) in
        [("limit=0", "422 LIMIT_INVALID limit"), ("cursor=x", "422 CURSOR_INVALID cursor")]
    {
        assert_eq!(brief(&app.get("ada", &format!("{ACCOUNTS}?{query}")).await), refusal);
    }
}

#[actix_web::test]
async fn an_account_is_changed() {
    let app = acme().await;
    let path = router(&app).await;
    app.clock.tick(Duration::from_secs(1));
    let body = json!({
        "name": "gateway", "description": "New.", "status": "disabled", "roles": ["analyst"],
        "metadata": { "a": 1 }, "rotation": { "everyDays": 7 },
    });
    assert_json_snapshot!("changed", told(&app, app.patch("ada", &path, body)).await);
}

#[actix_web::test]
async fn what_is_not_sent_stays() {
    let app = acme().await;
    let body =
        json!({ "name": "router", "description": "d", "metadata": { "a": 1 }, "rotation": { "b": 2 } });
    let path = account(&app, body).await;
    let before = app.get("ada", &path).await["body"].clone();
    assert_eq!(app.patch("ada", &path, json!({})).await["body"], before);
    let nulls = json!({ "name": null, "description": null, "status": null, "roles": null, "metadata": null });
    assert_eq!(app.patch("ada", &path, nulls).await["body"], before);
}

#[actix_web::test]
async fn what_cannot_be_parsed_is_refused_by_name() {
    let app = acme().await;
    let path = router(&app).await;
    let [good, large] = metadata_at_the_limit();
    for (n, (member, value, refusal)) in [
        ("name", json!("é".repeat(200)), ""),
        ("name", json!("x".repeat(201)), "422 NAME_INVALID name"),
        ("name", json!(" "), "422 NAME_INVALID name"),
        ("name", json!("a\nb"), "422 NAME_INVALID name"),
        ("name", json!(5), "422 INVALID_BODY name"),
        ("description", json!("é".repeat(1000)), ""),
        ("description", json!("x".repeat(1001)), "422 DESCRIPTION_INVALID description"),
        ("roles", json!(["king"]), "422 ROLE_UNKNOWN roles"),
        ("roles", json!("member"), "422 INVALID_BODY roles"),
        ("metadata", good.clone(), ""),
        ("metadata", large.clone(), "422 METADATA_INVALID metadata"),
        ("metadata", json!([]), "422 METADATA_INVALID metadata"),
        ("rotation", good, ""),
        ("rotation", large, "422 ROTATION_INVALID rotation"),
        ("rotation", json!("daily"), "422 ROTATION_INVALID rotation"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut body = json!({ "name": format!("m{n}") });
        body[member] = value;
        let (made, changed) = (
            app.post("ada", ACCOUNTS, body.clone()).await,
            app.patch("ada", &path, json!({ member: body[member] })).await,
        );
        let expected = |done: &str| if refusal.is_empty() { done.to_owned() } else { refusal.to_owned() };
        assert_eq!(brief(&made), expected("201"), "{body}");
        if member != "name" || !refusal.is_empty() {
            assert_eq!(brief(&changed), expected("200"), "{body}");
        }
    }
    assert_eq!(brief(&app.post("ada", ACCOUNTS, json!({})).await), "422 INVALID_BODY name");
    assert_eq!(brief(&app.post("ada", ACCOUNTS, Value::Null).await), "400 BODY_MISSING");
    for status in ["deleted", "suspended", ""] {
        let answer = app.patch("ada", &path, json!({ "status": status })).await;
        assert_eq!(brief(&answer), "422 STATUS_INVALID status", "{status}");
    }
}

#[actix_web::test]
async fn a_name_is_in_an_org_once() {
    let app = acme().await;
    app.org("eve", "other").await;
    let path = router(&app).await;
    let again = || app.post("ada", ACCOUNTS, json!({ "name": "router" }));
    assert_json_snapshot!("name_taken", told(&app, again()).await);
    let second = account(&app, json!({ "name": "second" })).await;
    assert_eq!(brief(&app.patch("ada", &second, json!({ "name": "router" })).await), "409 NAME_TAKEN");
    let elsewhere = app.post("eve", "/v1/orgs/other/service-accounts", json!({ "name": "router" })).await;
    assert_eq!(brief(&elsewhere), "201", "in another it is free");
    app.delete("ada", &path).await;
    assert_eq!(brief(&again().await), "201", "and once it is deleted");
}

#[actix_web::test]
async fn of_two_accounts_of_one_name_at_once_one_is_made() {
    let app = acme().await;
    let make = || app.post("ada", ACCOUNTS, json!({ "name": "router" }));
    assert_eq!(both(at_once(&app, make(), make()).await), ["201", "409 NAME_TAKEN"]);
}

#[actix_web::test]
async fn an_account_asked_for_twice_under_one_key_is_one_account() {
    let app = acme().await;
    let send = || {
        call_with(&app, "ada", Method::POST, ACCOUNTS, json!({ "name": "router" }), ("idempotency-key", "k"))
    };
    let first = send().await;
    let again = told(&app, send()).await;
    assert_eq!((&again["answer"]["status"], &again["answer"]["body"]), (&json!(201), &first["body"]));
    assert_eq!(again["answer"]["headers"]["etag"], first["headers"]["etag"]);
    assert_eq!(again["events"], json!([]));
}

#[actix_web::test]
async fn the_keys_of_a_disabled_account_do_not_work_until_it_is_active_again() {
    let app = acme().await;
    let path = router(&app).await;
    let (_, secret) = issue(&app, "ada", &format!("{path}/api-keys"), Value::Null).await;
    app.bearer("machine", &secret);
    assert_eq!(brief(&app.get("machine", "/v1/orgs").await), "403 SCOPE_EXCEEDED scope.ceiling");
    app.patch("ada", &path, json!({ "status": "disabled" })).await;
    assert_eq!(check(&app, &secret).await["status"], "principal_inactive");
    assert_eq!(brief(&app.get("machine", "/v1/orgs").await), "401 PRINCIPAL_INACTIVE");
    app.patch("ada", &path, json!({ "status": "active" })).await;
    assert_eq!(check(&app, &secret).await["valid"], true);
}

#[actix_web::test]
async fn an_account_is_deleted_and_its_keys_with_it() {
    let app = acme().await;
    let path = router(&app).await;
    let (key, secret) = issue(&app, "ada", &format!("{path}/api-keys"), Value::Null).await;
    assert_json_snapshot!("deleted", told(&app, app.delete("ada", &path)).await);
    assert_eq!(check(&app, &secret).await["status"], "principal_inactive");
    assert_eq!(
        brief(&app.get("ada", &format!("/v1/orgs/acme/api-keys/{key}")).await),
        "200",
        "which stay on record"
    );
    assert_eq!(brief(&app.get("ada", &path).await), "404 NOT_FOUND");
    assert_eq!(brief(&app.patch("ada", &path, json!({ "status": "active" })).await), "404 NOT_FOUND");
    assert_eq!(app.get("ada", ACCOUNTS).await["body"], json!([]));
}

#[actix_web::test]
async fn deleting_an_account_again_changes_nothing() {
    let app = acme().await;
    let path = router(&app).await;
    app.delete("ada", &path).await;
    let before = app.rows("SELECT * FROM service_accounts").await;
    app.tick(Duration::from_secs(9)).await;
    let told = told(&app, app.delete("ada", &path)).await;
    assert_eq!(told["answer"]["status"], 204);
    assert_eq!(told["events"][0]["body"], json!({ "deleted": true, "again": true }));
    assert_eq!(app.rows("SELECT * FROM service_accounts").await, before);
    let stale = call_with(&app, "ada", Method::DELETE, &path, Value::Null, ("if-match", "\"9\"")).await;
    assert_eq!(brief(&stale), "204");
}

#[actix_web::test]
async fn of_two_administrators_at_once_one_is_told_to_read_again() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    app.member(org, "bob", Role::Admin).await;
    let path = router(&app).await;
    let patch = |caller| {
        let body = json!({ "description": caller });
        call_with(&app, caller, Method::PATCH, &path, body, ("if-match", "\"1\""))
    };
    assert_eq!(both(at_once(&app, patch("ada"), patch("bob")).await), ["200", "412 VERSION_MISMATCH"]);
    let delete = call_with(&app, "ada", Method::DELETE, &path, Value::Null, ("if-match", "\"1\"")).await;
    assert_eq!(brief(&delete), "412 VERSION_MISMATCH");
}

#[actix_web::test]
async fn nobody_gives_a_machine_a_role_that_holds_what_he_lacks() {
    const EXCEEDS: &str = "403 ROLE_EXCEEDS_OWN grants.roles";
    const MANAGER: &str = "403 ROLE_EXCEEDS_OWN grants.roles grants.roles.manager";
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    app.member(org, "carol", Role::Admin).await;
    app.member(org, "mia", Role::Manager).await;
    let (admin, member) = (
        account(&app, json!({ "name": "admin", "roles": ["admin"] })).await,
        account(&app, json!({ "name": "member" })).await,
    );
    for (caller, roles, answer) in [
        ("carol", ["owner"], EXCEEDS),
        ("carol", ["admin"], "201"),
        ("mia", ["admin"], MANAGER),
        ("mia", ["auditor"], MANAGER),
        ("mia", ["member"], "201"),
    ] {
        let body = json!({ "name": format!("{caller} {roles:?}"), "roles": roles });
        assert_eq!(brief(&app.post(caller, ACCOUNTS, body).await), answer, "{caller} {roles:?}");
    }
    assert_eq!(brief(&app.patch("mia", &member, json!({ "roles": ["admin"] })).await), MANAGER);
    assert_eq!(
        brief(&app.patch("mia", &admin, json!({ "roles": ["member"] })).await),
        MANAGER,
        "nor takes it away"
    );
    assert_eq!(brief(&app.patch("mia", &admin, json!({ "description": "x" })).await), "200");
    assert_eq!(brief(&app.patch("mia", &member, json!({ "roles": ["viewer"] })).await), "200");
}

#[actix_web::test]
async fn a_process_that_is_behind_does_not_overwrite_roles_it_has_not_seen() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    app.member(org, "mia", Role::Manager).await;
    let path = router(&app).await;
    let behind = app.replica(&[]).await;
    assert_eq!(brief(&app.patch("ada", &path, json!({ "roles": ["admin"] })).await), "200");
    let request = TestRequest::patch().uri(&path);
    let request = request.insert_header(("authorization", format!("Bearer {}", app.token("mia").await)));
    let request = request.set_json(json!({ "roles": ["viewer"] }));
    assert_eq!(brief(&app::send(&behind, request, Listener::Http).await), "409 ROLES_CHANGED");
}

#[actix_web::test]
async fn a_machine_acts_by_its_roles_within_the_scopes_of_its_key() {
    let app = acme().await;
    app.org("eve", "other").await;
    let path = account(&app, json!({ "name": "onboarding", "roles": ["manager"] })).await;
    let keys = format!("{path}/api-keys");
    app.bearer("machine", &issue(&app, "ada", &keys, json!({ "scopes": ["users:*", "orgs:*"] })).await.1);
    assert_eq!(brief(&app.get("machine", "/v1/orgs/acme/users").await), "200");
    assert_eq!(column(&app.get("machine", "/v1/orgs").await["body"], "slug"), ["acme"]);
    let rename = app.patch("machine", "/v1/orgs/acme", json!({ "displayName": "x" })).await;
    assert_eq!(brief(&rename), "403 NO_MATCHING_PERMIT", "managers do not");
    assert_eq!(brief(&app.get("machine", ACCOUNTS).await), "403 SCOPE_EXCEEDED scope.ceiling");
    assert_eq!(brief(&app.get("machine", "/v1/orgs/other").await), "404 NOT_FOUND");
    assert_eq!(
        brief(&app.post("machine", "/v1/orgs", json!({ "name": "x", "slug": "x" })).await),
        "403 NO_MATCHING_PERMIT"
    );
}

fn calls() -> Vec<(Method, &'static str, Value)> {
    vec![
        (Method::GET, "", Value::Null),
        (Method::PATCH, "", json!({ "description": "x" })),
        (Method::DELETE, "", Value::Null),
        (Method::POST, "/api-keys", Value::Null),
    ]
}

#[actix_web::test]
async fn whoever_may_not_is_told_so() {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    app.member(org, "bob", Role::Member).await;
    let path = router(&app).await;
    for (method, suffix, body) in calls() {
        let answer = ask(&app, "bob", &method, &format!("{path}{suffix}"), &body).await;
        assert_eq!(answer, "403 NO_MATCHING_PERMIT", "{method} {suffix}");
    }
    assert_eq!(brief(&app.get("bob", ACCOUNTS).await), "403 NO_MATCHING_PERMIT");
    assert_json_snapshot!(
        "denied",
        told(&app, app.post("bob", ACCOUNTS, json!({ "name": "x", "roles": [] }))).await
    );
}

#[actix_web::test]
async fn what_is_not_there_and_what_is_anothers_look_alike() {
    let app = acme().await;
    app.org("eve", "other").await;
    let theirs = app.post("eve", "/v1/orgs/other/service-accounts", json!({ "name": "router" })).await;
    let theirs = theirs["body"]["serviceAccountId"].as_str().unwrap().to_owned();
    let ours = router(&app).await;
    let ours = ours.rsplit('/').next().unwrap();
    for (caller, place, id) in [
        ("mallory", "acme", ours),
        ("ada", "acme", &theirs),
        ("ada", "acme", NOBODY),
        ("ada", "acme", "router"),
        ("ada", "other", &theirs),
        ("ada", "other", ours),
        ("ada", "none", ours),
        ("ada", NOBODY, ours),
    ] {
        for (method, suffix, body) in calls() {
            let path = format!("/v1/orgs/{place}/service-accounts/{id}{suffix}");
            assert_eq!(
                ask(&app, caller, &method, &path, &body).await,
                "404 NOT_FOUND",
                "{caller} {method} {path}"
            );
        }
    }
    for (caller, place) in [("mallory", "acme"), ("ada", "other"), ("ada", "none")] {
        let path = format!("/v1/orgs/{place}/service-accounts");
        assert_eq!(brief(&app.get(caller, &path).await), "404 NOT_FOUND");
        assert_eq!(brief(&app.post(caller, &path, json!({ "name": "x" })).await), "404 NOT_FOUND");
    }
}

#[actix_web::test]
async fn a_platform_admin_makes_accounts_everywhere() {
    let app = acme().await;
    let root = root(&app).await;
    assert_eq!(
        brief(&app.post(root, ACCOUNTS, json!({ "name": "router", "roles": ["owner"] })).await),
        "201"
    );
}
