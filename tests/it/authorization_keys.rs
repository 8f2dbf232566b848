//! Keys act as their holders, within their scopes, in their org; and no key is a way up.
use crate::{
    app::{TestApp, id},
    support::{code, count},
};
use actix_web::http::Method;
use identityd::{
    authorization::{Action, PlatformRole, Role, Target},
    credentials::operators::{self, Purpose},
    kernel::{Actor, KeyId, OperatorId, OrgId, UserId, UserStatus, Workload},
    work::WorkError,
};
use serde_json::{Value, json};
use std::time::Duration;

/// What it takes to invite a member: nobody gives a role that may do what he may not.
const MEMBERS: &[&str] = &["users:*", "orgs:read", "budgets:read", "models:read", "inference:invoke"];

async fn issue(app: &TestApp, by: &str, user: UserId, scopes: &[&str]) -> Value {
    app.post(by, &format!("/v1/orgs/acme/users/{user}/api-keys"), json!({ "scopes": scopes })).await
}

/// A key for a user, by whoever may issue any; callers of this name come with it from now on.
async fn key(app: &TestApp, name: &str, by: &str, user: UserId, scopes: &[&str]) -> KeyId {
    let issued = issue(app, by, user, scopes).await;
    assert_eq!(issued["status"], 201, "{issued}");
    app.bearer(name, issued["body"]["secret"].as_str().unwrap());
    id(&issued["body"]["apiKeyId"])
}

async fn user_of(app: &TestApp, name: &str, org: OrgId) -> UserId {
    app.work().state().member(app.person(name).await, org).unwrap().user
}

async fn invite(app: &TestApp, by: &str, org: &str, email: &str) -> Value {
    app.post(by, &format!("/v1/orgs/{org}/invites"), json!({ "email": email })).await
}

#[actix_web::test]
async fn a_key_is_bounded_by_its_scopes_its_tenant_and_its_holder() {
    let app = TestApp::new().await;
    let (org, other) = (app.org("alice", "acme").await, app.org("alice", "other").await);
    let alice = user_of(&app, "alice", org).await;
    let carol = app.member(org, "carol", Role::Owner).await;
    key(&app, "reader", "alice", carol, &["users:read"]).await;
    let path = format!("/v1/orgs/acme/users/{carol}");
    let denied = app.patch("reader", &path, json!({ "displayName": "x" })).await;
    assert_eq!(code(&denied), (403, "SCOPE_EXCEEDED"));
    assert_eq!(denied["body"]["policyIds"], json!(["scope.ceiling"]));
    assert_eq!(app.get("reader", &path).await["status"], 200);
    key(&app, "inviter", "alice", carol, &["users:*"]).await;
    let beyond = invite(&app, "inviter", "acme", "a@example.io").await;
    assert_eq!(code(&beyond), (403, "ROLE_EXCEEDS_OWN"), "a member may do more than the key");
    key(&app, "inviter", "alice", carol, MEMBERS).await;
    assert_eq!(invite(&app, "inviter", "acme", "a@example.io").await["status"], 202);
    key(&app, "alices", "alice", alice, MEMBERS).await;
    let elsewhere = invite(&app, "alices", &other.to_string(), "a@example.io").await;
    assert_eq!(code(&elsewhere), (404, "NOT_FOUND"), "though she owns the other org too");
    let told = app.events().await.as_array().unwrap().last().unwrap()["event"].clone();
    assert_eq!((&told["policy"]["code"], &told["outcome"]), (&json!("TENANT_MISMATCH"), &json!("deny")));
    assert_eq!(told["policy"]["ids"], json!(["tenant.isolation.user.org"]));
    assert_ne!(told["org"], json!(other), "a stranger's key writes on the platform's chain");
    let path = format!("/v1/orgs/acme/users/{carol}/suspend");
    assert_eq!(app.post("alice", &path, Value::Null).await["status"], 200);
    assert_eq!(code(&invite(&app, "inviter", "acme", "b@example.io").await), (401, "PRINCIPAL_INACTIVE"));
}

/// The door refuses such keys; the policies do so too, for whoever is through it when the end comes.
#[actix_web::test]
async fn whoever_is_stopped_while_at_work_gets_no_further_permit() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let bob = app.member(org, "bob", Role::Admin).await;
    let bobs = key(&app, "bobs", "alice", bob, MEMBERS).await;
    let machine = json!({ "name": "router", "roles": ["admin"] });
    let machine = app.post("alice", "/v1/orgs/acme/service-accounts", machine).await;
    let machine =
        format!("/v1/orgs/acme/service-accounts/{}", machine["body"]["serviceAccountId"].as_str().unwrap());
    let issued = app.post("alice", &format!("{machine}/api-keys"), json!({ "scopes": MEMBERS })).await;
    let machines: KeyId = id(&issued["body"]["apiKeyId"]);
    let ask = async |key| {
        let ctx = app.work().ctx(Actor::Key { key });
        match app.work().permit(&ctx, Action::UsersRead, Target::Org(org)).await {
            Ok(_) => String::new(),
            Err(WorkError::Denied(denied)) => denied.code,
            Err(other) => panic!("{other}"),
        }
    };
    assert_eq!((ask(bobs).await, ask(machines).await), (String::new(), String::new()));
    assert_eq!(
        app.post("alice", &format!("/v1/orgs/acme/users/{bob}/suspend"), Value::Null).await["status"],
        200
    );
    assert_eq!(app.patch("alice", &machine, json!({ "status": "disabled" })).await["status"], 200);
    assert_eq!(ask(bobs).await, "USER_NOT_ACTIVE");
    assert_eq!(ask(machines).await, "SERVICE_ACCOUNT_NOT_ACTIVE");
}

#[actix_web::test]
async fn a_key_can_do_no_more_than_its_holder() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let bob = app.member(org, "bob", Role::Viewer).await;
    key(&app, "bobs", "alice", bob, MEMBERS).await;
    assert_eq!(app.get("bobs", "/v1/orgs/acme/users").await["status"], 200);
    assert_eq!(code(&invite(&app, "bobs", "acme", "a@example.io").await).0, 403);
    let path = format!("/v1/orgs/acme/users/{bob}/roles");
    assert_eq!(app.put("alice", &path, json!({ "roles": ["admin"] })).await["status"], 200);
    assert_eq!(
        invite(&app, "bobs", "acme", "a@example.io").await["status"],
        202,
        "roles are asked at each use"
    );
}

#[actix_web::test]
async fn nobody_issues_a_key_that_reaches_further_than_he_does() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let alice = user_of(&app, "alice", org).await;
    let admin = app.member(org, "admin", Role::Admin).await;
    let manager = app.member(org, "manager", Role::Manager).await;
    let exceeds = (403, "SCOPE_EXCEEDS_OWN");
    for (by, holder, scopes, expected) in [
        ("admin", alice, &["orgs:delete"][..], exceeds),
        ("admin", alice, &["users:read", "orgs:*"], exceeds),
        ("manager", alice, &["users:delete"], exceeds),
        ("manager", admin, &["audit:read"], exceeds),
        ("manager", admin, &["users:read", "keys:issue"], (201, "")),
        ("manager", manager, &["users:delete"], (201, "")), // he may not do it, so the key may not either
        ("admin", alice, &["users:read"], (201, "")),
        ("admin", alice, &["inference:invoke", "models:read"], (201, "")), // power over nothing here
        ("alice", admin, &["orgs:delete", "users:delete"], (201, "")),
    ] {
        assert_eq!(code(&issue(&app, by, holder, scopes).await), expected, "{by} {scopes:?}");
    }
    let machine = json!({ "name": "router", "roles": ["owner"] });
    let machine = app.post("alice", "/v1/orgs/acme/service-accounts", machine).await;
    let path = format!(
        "/v1/orgs/acme/service-accounts/{}/api-keys",
        machine["body"]["serviceAccountId"].as_str().unwrap()
    );
    let issued = app.post("admin", &path, json!({ "scopes": ["orgs:delete"] })).await;
    assert_eq!(code(&issued), exceeds, "nor for a machine");
}

/// An owner's key acts as an owner, whom an admin may neither suspend nor remove nor replace.
#[actix_web::test]
async fn an_owners_key_gives_nobody_power_over_owners() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let alice = user_of(&app, "alice", org).await;
    let second = app.member(org, "second", Role::Owner).await;
    app.member(org, "admin", Role::Admin).await;
    app.member(org, "manager", Role::Manager).await;
    for by in ["admin", "manager"] {
        for scope in ["users:suspend", "users:restore", "roles:assign", "users:*"] {
            let issued = issue(&app, by, alice, &[scope]).await;
            assert_eq!(code(&issued), (403, "SCOPE_EXCEEDS_OWN"), "{by} {scope}");
        }
    }
    let machine = json!({ "name": "router", "roles": ["owner"] });
    let machine = app.post("alice", "/v1/orgs/acme/service-accounts", machine).await;
    let path = format!(
        "/v1/orgs/acme/service-accounts/{}/api-keys",
        machine["body"]["serviceAccountId"].as_str().unwrap()
    );
    let issued = app.post("admin", &path, json!({ "scopes": ["users:suspend"] })).await;
    assert_eq!(code(&issued), (403, "SCOPE_EXCEEDS_OWN"));
    // Nor by taking one over: whoever rotates a key holds the new secret.
    let own = key(&app, "owners", "alice", alice, &["users:delete"]).await;
    let rotated = app.post("admin", &format!("/v1/orgs/acme/api-keys/{own}/rotate"), Value::Null).await;
    assert_eq!(code(&rotated), (403, "SCOPE_EXCEEDS_OWN"));
    assert_eq!(app.delete("owners", &format!("/v1/orgs/acme/users/{second}")).await["status"], 204);
}

#[actix_web::test]
async fn a_key_cannot_widen_itself_or_issue_a_wider_one() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let alice = user_of(&app, "alice", org).await;
    let own = key(&app, "key", "alice", alice, &["keys:*"]).await;
    let path = format!("/v1/orgs/acme/api-keys/{own}");
    let exceeds = (403, "SCOPE_EXCEEDS_OWN");
    for scopes in [json!(["keys:*", "users:read"]), json!(["inference:invoke"]), json!(["admin"])] {
        let patched = app.patch("key", &path, json!({ "scopes": scopes })).await;
        assert_eq!(patched["status"], 403, "{patched}");
        let mine =
            app.patch("key", &format!("/organizations/me/api-keys/{own}"), json!({ "scopes": scopes })).await;
        assert_eq!(mine["status"], 403, "{mine}");
    }
    assert_eq!(code(&issue(&app, "key", alice, &["users:read"]).await), exceeds);
    assert_eq!(code(&issue(&app, "key", alice, &[]).await), exceeds, "nor by leaving them out");
    let mine = app.post("key", "/organizations/me/api-keys", json!({ "scopes": ["users:read"] })).await;
    assert_eq!(code(&mine), exceeds);
    let wider = key(&app, "wider", "alice", alice, &["keys:*", "users:read"]).await;
    let rotated = app.post("key", &format!("/v1/orgs/acme/api-keys/{wider}/rotate"), Value::Null).await;
    assert_eq!(code(&rotated), exceeds, "nor by taking over a wider one");
    assert_eq!(issue(&app, "key", alice, &["keys:read"]).await["status"], 201);
    assert_eq!(app.post("key", &format!("{path}/rotate"), Value::Null).await["status"], 201);
    assert_eq!(
        app.patch("key", &path, json!({ "scopes": ["keys:read"] })).await["status"],
        200,
        "narrower it may"
    );
}

#[actix_web::test]
async fn the_scope_admin_is_the_platforms_to_give() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let alice = user_of(&app, "alice", org).await;
    app.person_with("root", &[PlatformRole::PlatformAdmin]).await;
    let reserved = (403, "ADMIN_SCOPE_RESERVED");
    assert_eq!(code(&issue(&app, "alice", alice, &["admin"]).await), reserved);
    assert_eq!(code(&issue(&app, "alice", alice, &["admin", "users:read"]).await), reserved);
    let plain = key(&app, "plain", "alice", alice, &["users:read"]).await;
    let patched =
        app.patch("alice", &format!("/v1/orgs/acme/api-keys/{plain}"), json!({ "scopes": ["admin"] })).await;
    assert_eq!(code(&patched), reserved);
    let whole = key(&app, "whole", "root", alice, &["admin"]).await;
    assert_eq!(app.patch("whole", "/v1/orgs/acme", json!({ "displayName": "x" })).await["status"], 200);
    let rotated = app.post("alice", &format!("/v1/orgs/acme/api-keys/{whole}/rotate"), Value::Null).await;
    assert_eq!(code(&rotated), reserved, "whoever rotates it holds it");
    let revoked = app.post("alice", &format!("/v1/orgs/acme/api-keys/{whole}/revoke"), Value::Null).await;
    assert_eq!(revoked["status"], 204, "its own org's key she may end");
}

#[actix_web::test]
async fn a_key_with_the_scope_admin_carries_platform_roles_and_another_does_not() {
    let app = TestApp::new().await;
    let (org, _) = (app.org("alice", "acme").await, app.org("bob", "other").await);
    let root = app.person_with("root", &[PlatformRole::PlatformAdmin]).await;
    let user = app.membership(org, "root", Some(root), UserStatus::Active, &[Role::Viewer]).await;
    let whole = key(&app, "whole", "root", user, &["admin"]).await;
    key(&app, "narrow", "root", user, &["orgs:*", "users:*", "audit:*", "platform:*"]).await;
    assert_eq!(invite(&app, "whole", "other", "a@example.io").await["status"], 202);
    assert_eq!(app.get("whole", "/v1/audit/events").await["status"], 200);
    let orgs = async |by: &str| app.get(by, "/v1/orgs").await["body"].as_array().unwrap().len();
    assert_eq!((orgs("whole").await, orgs("narrow").await), (2, 1));
    assert_eq!(code(&invite(&app, "narrow", "other", "b@example.io").await), (404, "NOT_FOUND"));
    assert_eq!(app.get("narrow", "/v1/audit/events").await["status"], 403);
    let created = app.post("narrow", "/v1/orgs", json!({ "name": "New", "slug": "new" })).await;
    assert_eq!(created["status"], 403, "{created}");
    let created = app.post("whole", "/v1/orgs", json!({ "name": "New", "slug": "new" })).await;
    assert_eq!(created["status"], 201, "{created}");
    // It ends with the membership it hangs on, and with the org of that.
    assert_eq!(app.post("alice", "/v1/orgs/acme/suspend", json!({ "reason": "x" })).await["status"], 200);
    assert_eq!(code(&app.get("whole", "/v1/orgs/other").await), (401, "ORG_NOT_ACTIVE"));
    let because = json!({ "reason": "x" });
    assert_eq!(app.post("root", "/v1/orgs/acme/restore", because).await["status"], 200);
    assert_eq!(app.get("whole", "/v1/orgs/other").await["status"], 200);
    let revoked = app.post("alice", &format!("/v1/orgs/acme/api-keys/{whole}/revoke"), Value::Null).await;
    assert_eq!(revoked["status"], 204);
    assert_eq!(code(&app.get("whole", "/v1/orgs/other").await), (401, "KEY_REVOKED"));
}

#[actix_web::test]
async fn a_member_sees_and_issues_his_own_keys_only() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let (bob, carol) =
        (app.member(org, "bob", Role::Member).await, app.member(org, "carol", Role::Member).await);
    let session = app.work().ctx(app.actor("bob").await).mint();
    app.bearer("bob in acme", &app.token_of(app.person("bob").await, session, Some(org)));
    let own = issue(&app, "bob", bob, &[]).await;
    assert_eq!(own["status"], 201, "{own}");
    let own: KeyId = id(&own["body"]["apiKeyId"]);
    let others: KeyId = id(&issue(&app, "carol", carol, &[]).await["body"]["apiKeyId"]);
    assert_eq!(code(&issue(&app, "bob", carol, &[]).await).0, 403);
    let mine = app.get("bob in acme", "/organizations/me/api-keys").await;
    let ids: Vec<&Value> = mine["body"].as_array().unwrap().iter().map(|key| &key["key_id"]).collect();
    assert_eq!(ids, [&json!(own)]);
    assert_eq!(app.get("bob", "/v1/orgs/acme/api-keys").await["status"], 403, "the org's list is not his");
    for (method, path, good) in [
        (Method::GET, String::new(), 200),
        (Method::PATCH, String::new(), 200),
        (Method::POST, "/rotate".to_owned(), 201),
        (Method::POST, "/revoke".to_owned(), 204),
    ] {
        let body = if method == Method::PATCH { json!({ "display_name": "x" }) } else { Value::Null };
        let call = async |base: &str, caller: &str, key: KeyId| {
            let path = format!("{base}/api-keys/{key}{path}");
            app.call(method.clone(), Some(caller), &path, body.clone()).await["status"].as_u64().unwrap()
        };
        assert_eq!(call("/v1/orgs/acme", "bob", others).await, 403, "{method} {path}");
        assert_eq!(call("/organizations/me", "bob in acme", others).await, 404, "{method} {path}");
        assert_eq!(call("/v1/orgs/acme", "bob", own).await, good, "{method} {path}");
    }
    let scoped = issue(&app, "bob", bob, &["users:delete"]).await;
    assert_eq!(scoped["status"], 201, "a scope is a ceiling: what he may not do, his key may not do either");
}

// Bootstrap tokens -----------------------------------------------------------------------------------------------

async fn operator(app: &TestApp, name: &str, purpose: Purpose) -> OperatorId {
    let ctx = app.work().ctx(Actor::Workload(Workload::OperatorCli));
    let (token, secret) = operators::issue_operator_token(app.work(), &ctx, purpose).await.unwrap();
    app.bearer(name, secret.expose());
    token
}

async fn create(app: &TestApp, by: &str, slug: &str) -> Value {
    app.post(by, "/v1/orgs", json!({ "name": slug, "slug": slug })).await
}

#[actix_web::test]
async fn a_bootstrap_token_is_good_for_the_first_calls_and_nothing_else() {
    let app = TestApp::new().await;
    app.org("alice", "other").await;
    let token = operator(&app, "operator", Purpose::Bootstrap).await;
    assert_eq!(app.get("operator", "/v1/orgs").await["status"], 200);
    assert_eq!(invite(&app, "operator", "other", "a@example.io").await["status"], 404, "nobody there");
    assert_eq!(create(&app, "operator", "acme").await["status"], 201);
    assert_eq!(create(&app, "operator", "second").await["status"], 403, "it makes one org");
    assert_eq!(invite(&app, "operator", "other", "a@example.io").await["status"], 404);
    let invited = invite(&app, "operator", "acme", "ada@example.io").await;
    assert_eq!(invited["status"], 202, "{invited}");
    let ada: UserId = id(&invited["body"]["userId"]);
    let user = format!("/v1/orgs/acme/users/{ada}");
    assert_eq!(app.get("operator", &user).await["body"]["roles"], json!(["owner", "member"]));
    for (method, path, body) in [
        (Method::PATCH, "/v1/orgs/acme".to_owned(), json!({ "displayName": "x" })),
        (Method::DELETE, "/v1/orgs/acme".to_owned(), Value::Null),
        (Method::POST, "/v1/orgs/acme/suspend".to_owned(), json!({ "reason": "x" })),
        (Method::PATCH, user.clone(), json!({ "displayName": "x" })),
        (Method::PUT, format!("{user}/roles"), json!({ "roles": ["owner"] })),
        (Method::DELETE, user.clone(), Value::Null),
        (Method::POST, "/v1/orgs/acme/service-accounts".to_owned(), json!({ "name": "x" })),
        (Method::GET, "/v1/orgs/acme/api-keys".to_owned(), Value::Null),
        (Method::GET, "/v1/audit/events?org=acme".to_owned(), Value::Null),
        (Method::GET, "/v1/audit/events".to_owned(), Value::Null),
    ] {
        let refused = app.call(method.clone(), Some("operator"), &path, body).await;
        assert_eq!(refused["status"], 403, "{method} {path}: {refused}");
    }
    key(&app, "ada", "operator", ada, &["admin"]).await;
    assert_eq!(
        code(&app.get("operator", "/v1/orgs").await),
        (401, "TOKEN_INVALID"),
        "it ends with the first key"
    );
    assert_eq!(code(&issue(&app, "operator", ada, &["admin"]).await), (401, "TOKEN_INVALID"));
    let ctx = app.work().ctx(Actor::Operator { token });
    let late = app.work().permit(&ctx, Action::OrgsRead, Target::Platform).await;
    assert!(matches!(late, Err(WorkError::Denied(_))), "also for whoever was through the door already");
    assert_eq!(create(&app, "ada", "third").await["status"], 201, "whom it let in is a platform admin");
}

#[actix_web::test]
async fn a_bootstrap_token_ends_after_an_hour() {
    let app = TestApp::new().await;
    operator(&app, "operator", Purpose::Bootstrap).await;
    app.tick(Duration::from_hours(1) - Duration::from_secs(1)).await;
    assert_eq!(app.get("operator", "/v1/orgs").await["status"], 200);
    app.tick(Duration::from_secs(1)).await;
    assert_eq!(code(&app.get("operator", "/v1/orgs").await), (401, "TOKEN_INVALID"));
    assert_eq!(code(&create(&app, "operator", "acme").await), (401, "TOKEN_INVALID"));
}

#[actix_web::test]
async fn two_uses_of_a_bootstrap_token_at_once_make_one_org() {
    let app = TestApp::new().await;
    operator(&app, "operator", Purpose::Recovery).await;
    let (one, other) =
        tokio::join!(create(&app, "operator", "recovery-org"), create(&app, "operator", "second-org"));
    let mut statuses = [&one, &other].map(|answer| answer["status"].as_u64().unwrap());
    statuses.sort_unstable();
    assert!(statuses[0] == 201 && statuses[1] != 201, "{one} {other}");
    assert_eq!(count(&app, "orgs WHERE slug LIKE '%-org'").await, 1);
}

#[actix_web::test]
async fn two_first_keys_at_once_are_one() {
    let app = TestApp::new().await;
    operator(&app, "operator", Purpose::Bootstrap).await;
    create(&app, "operator", "acme").await;
    let ada: UserId = id(&invite(&app, "operator", "acme", "ada@example.io").await["body"]["userId"]);
    let (one, other) =
        tokio::join!(issue(&app, "operator", ada, &["admin"]), issue(&app, "operator", ada, &["admin"]));
    let issued = [&one, &other].into_iter().filter(|answer| answer["status"] == 201).count();
    assert_eq!((issued, count(&app, "api_keys").await), (1, 1), "{one} {other}");
}
