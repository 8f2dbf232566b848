//! Roles: which there are, and who gives them to whom.
use crate::{
    app::{self, TestApp},
    contexts_support::{NOBODY, at_once, both, brief, call_with, column, issue, root, told},
};
use actix_web::{http::Method, test::TestRequest};
use identityd::{
    app::Listener,
    authorization::Role,
    kernel::{OrgId, UserId},
};
use insta::assert_json_snapshot;
use serde_json::{Value, json};

fn of(user: UserId) -> String {
    format!("/v1/orgs/acme/users/{user}/roles")
}

async fn acme_with_bob(app: &TestApp, role: Role) -> (OrgId, UserId) {
    let org = app.org("ada", "acme").await;
    (org, app.member(org, "bob", role).await)
}

async fn give(app: &TestApp, caller: &str, user: UserId, roles: &[&str]) -> String {
    brief(&app.put(caller, &of(user), json!({ "roles": roles })).await)
}

// Which there are ------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn all_roles_are_listed_with_what_they_allow() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let listed = told(&app, app.get("ada", "/v1/orgs/acme/roles")).await;
    assert_json_snapshot!("listed", listed);
    assert_eq!(
        column(&listed["answer"]["body"], "name"),
        ["owner", "admin", "manager", "analyst", "member", "viewer", "billing-admin", "auditor"]
    );
}

#[actix_web::test]
async fn one_role_is_read_by_its_name() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    assert_json_snapshot!("read", told(&app, app.get("ada", "/v1/orgs/acme/roles/billing-admin")).await);
    for unknown in ["king", "OWNER", "platform-admin", "billing_admin"] {
        let answer = app.get("ada", &format!("/v1/orgs/acme/roles/{unknown}")).await;
        assert_eq!(brief(&answer), "404 NOT_FOUND", "{unknown}");
    }
}

#[actix_web::test]
async fn roles_are_read_by_whoever_may_and_are_nothing_to_strangers() {
    let app = TestApp::new().await;
    let (org, _) = acme_with_bob(&app, Role::Member).await;
    app.member(org, "vic", Role::Viewer).await;
    for path in ["roles", "roles/owner"] {
        for (caller, place, answer) in [
            ("vic", "acme", "200"),
            ("bob", "acme", "403 NO_MATCHING_PERMIT"),
            ("mallory", "acme", "404 NOT_FOUND"),
            ("ada", "none", "404 NOT_FOUND"),
            ("ada", NOBODY, "404 NOT_FOUND"),
        ] {
            let path = format!("/v1/orgs/{place}/{path}");
            assert_eq!(brief(&app.get(caller, &path).await), answer, "{caller} {path}");
        }
    }
}

#[actix_web::test]
async fn system_roles_are_not_to_be_changed() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    for (method, path) in
        [(Method::POST, "roles"), (Method::PATCH, "roles/owner"), (Method::DELETE, "roles/owner")]
    {
        let path = format!("/v1/orgs/acme/{path}");
        let answer = app.call(method, Some("ada"), &path, json!({ "name": "king" })).await;
        assert_eq!(
            (brief(&answer).as_str(), &answer["headers"]["allow"]),
            ("405 METHOD_NOT_ALLOWED", &json!("GET, HEAD")),
            "{path}"
        );
    }
}

// Giving and taking ----------------------------------------------------------------------------------------------

#[actix_web::test]
async fn an_owner_sets_a_members_roles() {
    let app = TestApp::new().await;
    let (_, bob) = acme_with_bob(&app, Role::Member).await;
    let body = json!({ "roles": ["viewer", "manager", "viewer"], "justification": "leads the team" });
    assert_json_snapshot!("set", told(&app, app.put("ada", &of(bob), body)).await);
}

#[actix_web::test]
async fn roles_bind_at_once() {
    let app = TestApp::new().await;
    let (_, bob) = acme_with_bob(&app, Role::Member).await;
    let rename = async || brief(&app.patch("bob", "/v1/orgs/acme", json!({ "displayName": "x" })).await);
    assert_eq!(rename().await, "403 NO_MATCHING_PERMIT");
    assert_eq!(give(&app, "ada", bob, &["admin"]).await, "200");
    assert_eq!(rename().await, "200");
    assert_eq!(give(&app, "ada", bob, &[]).await, "200", "a member may have no role at all");
    assert_eq!(rename().await, "403 NO_MATCHING_PERMIT");
}

#[actix_web::test]
async fn what_cannot_be_parsed_is_refused_by_name() {
    let app = TestApp::new().await;
    let (_, bob) = acme_with_bob(&app, Role::Member).await;
    for (body, refusal) in [
        (json!({ "roles": ["king"] }), "422 ROLE_UNKNOWN roles"),
        (json!({ "roles": ["Owner"] }), "422 ROLE_UNKNOWN roles"),
        (json!({ "roles": ["platform-admin"] }), "422 ROLE_UNKNOWN roles"),
        (json!({ "roles": "viewer" }), "422 INVALID_BODY roles"),
        (json!({ "roles": null }), "422 INVALID_BODY roles"),
        (json!({}), "422 INVALID_BODY roles"),
        (json!({ "roles": [], "justification": "x".repeat(500) }), "200"),
        (json!({ "roles": [], "justification": "x".repeat(501) }), "422 REASON_INVALID justification"),
        (json!({ "roles": [], "justification": "" }), "422 REASON_INVALID justification"),
        (Value::Null, "400 BODY_MISSING"),
    ] {
        assert_eq!(brief(&app.put("ada", &of(bob), body.clone()).await), refusal, "{body}");
    }
}

#[actix_web::test]
async fn an_unknown_role_is_named_in_the_answer() {
    let app = TestApp::new().await;
    let (_, bob) = acme_with_bob(&app, Role::Member).await;
    let call = app.put("ada", &of(bob), json!({ "roles": ["viewer", "king"] })).await;
    assert_json_snapshot!("unknown", call);
}

#[actix_web::test]
async fn nobody_gives_or_takes_a_role_that_holds_what_he_lacks() {
    const EXCEEDS: &str = "403 ROLE_EXCEEDS_OWN grants.roles";
    const MANAGER: &str = "403 ROLE_EXCEEDS_OWN grants.roles grants.roles.manager";
    let app = TestApp::new().await;
    let (org, bob) = acme_with_bob(&app, Role::Member).await;
    app.member(org, "carol", Role::Admin).await;
    app.member(org, "dave", Role::Manager).await;
    for (caller, roles, answer) in [
        ("carol", vec!["owner"], EXCEEDS),
        ("carol", vec!["admin", "auditor", "billing-admin"], "200"),
        ("dave", vec!["admin", "auditor", "billing-admin", "member"], "200"),
        ("dave", vec!["admin", "auditor", "billing-admin", "member", "viewer", "analyst"], "200"),
        ("dave", vec![], MANAGER),
        ("dave", vec!["admin", "auditor", "billing-admin", "manager"], MANAGER),
        ("carol", vec!["manager"], "200"),
        ("dave", vec!["manager", "admin"], MANAGER),
        ("dave", vec!["manager", "billing-admin"], MANAGER),
        ("bob", vec!["viewer", "admin"], MANAGER),
    ] {
        assert_eq!(give(&app, caller, bob, &roles).await, answer, "{caller} {roles:?}");
    }
}

#[actix_web::test]
async fn a_refusal_to_give_a_role_is_on_the_log() {
    let app = TestApp::new().await;
    let (org, bob) = acme_with_bob(&app, Role::Member).await;
    app.member(org, "carol", Role::Admin).await;
    let path = of(bob);
    let call = app.put("carol", &path, json!({ "roles": ["owner"] }));
    assert_json_snapshot!("exceeds", told(&app, call).await);
}

#[actix_web::test]
async fn an_admin_does_not_take_a_role_from_an_owner() {
    let app = TestApp::new().await;
    let (org, bob) = acme_with_bob(&app, Role::Owner).await;
    app.member(org, "carol", Role::Admin).await;
    assert_eq!(
        give(&app, "carol", bob, &["admin"]).await,
        "403 ROLE_EXCEEDS_OWN grants.roles owner.protected"
    );
    assert_eq!(give(&app, "ada", bob, &["admin"]).await, "200");
}

#[actix_web::test]
async fn an_owner_does_not_give_himself_away_if_he_is_the_last() {
    let app = TestApp::new().await;
    let (_, bob) = acme_with_bob(&app, Role::Member).await;
    let users = app.get("ada", "/v1/orgs/acme/users?email=ada@example.io").await;
    let ada = app::id(&users["body"][0]["userId"]);
    assert_eq!(give(&app, "ada", ada, &["admin"]).await, "409 LAST_OWNER");
    assert_eq!(give(&app, "ada", ada, &["owner", "viewer"]).await, "200");
    assert_eq!(give(&app, "ada", bob, &["owner"]).await, "200");
    assert_eq!(give(&app, "ada", ada, &["admin"]).await, "200");
}

#[actix_web::test]
async fn of_two_owners_who_step_down_at_once_one_stays() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    let (_, bob) = acme_with_bob(&app, Role::Owner).await;
    let users = app.get("ada", "/v1/orgs/acme/users?email=ada@example.io").await;
    let ada: UserId = app::id(&users["body"][0]["userId"]);
    let (one, other) = (of(ada), of(bob));
    let down = json!({ "roles": ["admin"] });
    let answers = at_once(&app, app.put(root, &one, down.clone()), app.put(root, &other, down)).await;
    assert_eq!(both(answers), ["200", "409 LAST_OWNER"]);
    assert_eq!(
        app.rows("SELECT count(*) FROM role_bindings WHERE role = 'owner'").await,
        json!([{ "count": 1 }])
    );
}

#[actix_web::test]
async fn an_invited_member_has_roles_and_a_removed_one_gets_none() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let invited = app.post("ada", "/v1/orgs/acme/invites", json!({ "email": "bob@example.io" })).await;
    let bob: UserId = app::id(&invited["body"]["userId"]);
    assert_eq!(give(&app, "ada", bob, &["viewer"]).await, "200");
    app.delete("ada", &format!("/v1/orgs/acme/users/{bob}")).await;
    assert_eq!(give(&app, "ada", bob, &["admin"]).await, "409 USER_STATUS_CONFLICT");
}

#[actix_web::test]
async fn of_two_administrators_at_once_one_is_told_to_read_again() {
    let app = TestApp::new().await;
    let (org, bob) = acme_with_bob(&app, Role::Member).await;
    app.member(org, "carol", Role::Owner).await;
    let path = of(bob);
    let put = |caller, role: &str| {
        let body = json!({ "roles": [role] });
        call_with(&app, caller, Method::PUT, &path, body, ("if-match", "\"1\""))
    };
    assert_eq!(
        both(at_once(&app, put("ada", "viewer"), put("carol", "auditor")).await),
        ["200", "412 VERSION_MISMATCH"]
    );
}

#[actix_web::test]
async fn a_process_that_is_behind_does_not_overwrite_roles_it_has_not_seen() {
    let app = TestApp::new().await;
    let (org, bob) = acme_with_bob(&app, Role::Viewer).await;
    app.member(org, "dave", Role::Manager).await;
    let behind = app.replica(&[]).await;
    assert_eq!(give(&app, "ada", bob, &["admin"]).await, "200");
    let bearer = format!("Bearer {}", app.token("dave").await);
    let put = || {
        let request = TestRequest::put().uri(&of(bob)).insert_header(("authorization", bearer.clone()));
        request.set_json(json!({ "roles": ["analyst"] }))
    };
    let answer = app::send(&behind, put(), Listener::Http).await;
    assert_eq!(brief(&answer), "409 ROLES_CHANGED", "a manager does not take admin away");
    let answer = app::send(&behind, put(), Listener::Http).await;
    assert_eq!(
        brief(&answer),
        "403 ROLE_EXCEEDS_OWN grants.roles grants.roles.manager",
        "once the process knows"
    );
}

#[actix_web::test]
async fn a_key_gives_no_role_beyond_its_scopes() {
    let app = TestApp::new().await;
    let (_, bob) = acme_with_bob(&app, Role::Member).await;
    let users = app.get("ada", "/v1/orgs/acme/users?email=ada@example.io").await;
    let path = format!("/v1/orgs/acme/users/{}/api-keys", users["body"][0]["userId"].as_str().unwrap());
    let scopes = json!({ "scopes": ["roles:assign", "orgs:read", "budgets:read", "models:read"] });
    app.bearer("key", &issue(&app, "ada", &path, scopes).await.1);
    assert_eq!(give(&app, "key", bob, &["member", "analyst"]).await, "200");
    assert_eq!(give(&app, "key", bob, &["member", "admin"]).await, "403 ROLE_EXCEEDS_OWN grants.roles");
}
