//! Who may do what: the roles as they are described, and every way up that is closed.
use crate::{app::TestApp, support::code};
use actix_web::http::Method;
use identityd::{
    authorization::{Action, Engine, POLICIES, PlatformRole, Role, SCHEMA},
    kernel::UserId,
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

type Names = BTreeSet<&'static str>;

fn all() -> impl Iterator<Item = &'static str> {
    Action::ALL.iter().map(|action| action.as_str())
}

fn reads() -> Names {
    all().filter(|name| name.ends_with(":read") && *name != "platform:read").collect()
}

/// What a role may do, without what everybody may do to his own.
fn allowed(engine: &Engine, roles: &[Role], platform_roles: &[PlatformRole]) -> Names {
    engine.matrix().effective(roles, platform_roles).names().filter(|name| *name != "self:manage").collect()
}

#[test]
fn the_committed_matrix_is_what_the_policies_say() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/matrix.snap");
    let matrix = Engine::load(SCHEMA, POLICIES, false).unwrap().matrix().to_string();
    assert!(fs::read_to_string(file).unwrap() == matrix, "run `./dev regenerate`, and read the difference");
}

#[test]
fn roles_may_do_what_they_are_described_to() {
    let engine = Engine::load(SCHEMA, POLICIES, false).unwrap();
    let of = |role| allowed(&engine, &[role], &[]);
    let names = |names: &[&'static str]| names.iter().copied().collect::<Names>();
    let platform = names(&[
        "platform:read",
        "platform:manage",
        "orgs:create",
        "orgs:restore",
        "sign-in:use",
        "self:manage",
    ]);
    let owner: Names = all().filter(|name| !platform.contains(name)).collect();
    assert_eq!(of(Role::Owner), owner);
    assert_eq!(of(Role::Admin), owner.iter().copied().filter(|name| *name != "orgs:delete").collect());
    assert_eq!(
        of(Role::Manager),
        names(&[
            "orgs:read",
            "users:read",
            "users:invite",
            "users:update",
            "users:suspend",
            "users:restore",
            "roles:read",
            "roles:assign",
            "service-accounts:read",
            "service-accounts:manage",
            "keys:read",
            "keys:issue",
            "keys:rotate",
            "keys:revoke",
            "sessions:read",
            "sessions:revoke",
            "budgets:read",
        ])
    );
    let analyst = names(&["orgs:read", "budgets:read", "models:read"]);
    assert_eq!(of(Role::Analyst), analyst);
    let member = names(&["inference:invoke", "keys:read", "keys:issue", "keys:rotate", "keys:revoke"]);
    assert_eq!(of(Role::Member), analyst.union(&member).copied().collect());
    let but =
        |left_out: &[&str]| reads().into_iter().filter(|name| !left_out.contains(name)).collect::<Names>();
    assert_eq!(of(Role::Viewer), but(&["audit:read", "policies:read"]));
    let mut auditor = reads();
    auditor.insert("audit:export");
    assert_eq!(of(Role::Auditor), auditor);
    assert_eq!(
        of(Role::BillingAdmin),
        all().filter(|name| *name == "orgs:read" || name.starts_with("budgets:")).collect()
    );

    let of = |role| allowed(&engine, &[], &[role]);
    let others = ["inference:invoke", "sign-in:use", "self:manage"];
    assert_eq!(of(PlatformRole::PlatformAdmin), all().filter(|name| !others.contains(name)).collect());
    let mut auditor = reads();
    auditor.insert("platform:read");
    assert_eq!(of(PlatformRole::PlatformAuditor), auditor);
    assert_eq!(
        of(PlatformRole::PlatformSupport),
        names(&[
            "orgs:read",
            "users:read",
            "users:unlock",
            "sessions:read",
            "sessions:revoke",
            "recoveries:read",
            "recoveries:approve",
        ])
    );
}

// Roles ----------------------------------------------------------------------------------------------------------

async fn set_roles(app: &TestApp, by: &str, user: UserId, roles: &[&str]) -> Value {
    app.put(by, &format!("/v1/orgs/acme/users/{user}/roles"), json!({ "roles": roles })).await
}

#[actix_web::test]
async fn a_manager_gives_and_takes_member_viewer_and_analyst_only() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.member(org, "bob", Role::Manager).await;
    for role in Role::ALL {
        let may = matches!(role, Role::Member | Role::Viewer | Role::Analyst);
        let expected = |good| if may { (good, "") } else { (403, "ROLE_EXCEEDS_OWN") };
        let name = role.as_str();
        let body = json!({ "email": format!("{name}@example.io"), "roles": [name] });
        assert_eq!(
            code(&app.post("bob", "/v1/orgs/acme/invites", body).await),
            expected(202),
            "invite {name}"
        );
        let machine = json!({ "name": name, "roles": [name] });
        let made = app.post("bob", "/v1/orgs/acme/service-accounts", machine).await;
        assert_eq!(code(&made), expected(201), "machine {name}");

        let (plain, holder) =
            (app.member(org, &format!("plain-{name}"), Role::Viewer).await, format!("has-{name}"));
        let holder = app.member(org, &holder, *role).await;
        if *role != Role::Viewer {
            assert_eq!(
                code(&set_roles(&app, "bob", plain, &["viewer", name]).await),
                expected(200),
                "give {name}"
            );
        }
        let taken = code(&set_roles(&app, "bob", holder, &[]).await).0;
        assert_eq!(taken, if may { 200 } else { 403 }, "take {name}");
    }
}

#[actix_web::test]
async fn nobody_gives_a_role_that_may_do_what_he_may_not() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.member(org, "admin", Role::Admin).await;
    app.member(org, "bob", Role::Viewer).await;
    let bob = app.work().state().member(app.person("bob").await, org).unwrap().user;
    assert_eq!(code(&set_roles(&app, "admin", bob, &["owner"]).await), (403, "ROLE_EXCEEDS_OWN"));
    let invite = json!({ "email": "a@example.io", "roles": ["viewer", "owner"] });
    let invited = app.post("admin", "/v1/orgs/acme/invites", invite).await;
    assert_eq!(code(&invited), (403, "ROLE_EXCEEDS_OWN"));
    assert_eq!(set_roles(&app, "admin", bob, &["admin"]).await["status"], 200);
    assert_eq!(set_roles(&app, "alice", bob, &["owner"]).await["status"], 200);
    // Nor by a machine of his.
    let machine = json!({ "name": "router", "roles": ["owner"] });
    let made = app.post("admin", "/v1/orgs/acme/service-accounts", machine).await;
    assert_eq!(code(&made), (403, "ROLE_EXCEEDS_OWN"));
    let made = app.post("admin", "/v1/orgs/acme/service-accounts", json!({ "name": "router" })).await;
    let path =
        format!("/v1/orgs/acme/service-accounts/{}", made["body"]["serviceAccountId"].as_str().unwrap());
    let promoted = app.patch("admin", &path, json!({ "roles": ["owner"] })).await;
    assert_eq!(code(&promoted), (403, "ROLE_EXCEEDS_OWN"));
}

#[actix_web::test]
async fn an_owner_is_removed_or_changed_by_an_owner_only() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.member(org, "admin", Role::Admin).await;
    app.member(org, "manager", Role::Manager).await;
    let owner = app.member(org, "second", Role::Owner).await;
    let path = format!("/v1/orgs/acme/users/{owner}");
    for by in ["admin", "manager"] {
        let suspended = app.post(by, &format!("{path}/suspend"), Value::Null).await;
        assert_eq!(code(&suspended), (403, "OWNER_PROTECTED"), "{by}");
        let patched = app.patch(by, &path, json!({ "status": "suspended" })).await;
        assert_eq!(code(&patched), (403, "OWNER_PROTECTED"), "{by}");
        let changed = set_roles(&app, by, owner, &["viewer"]).await;
        assert_eq!(changed["status"], 403, "{by}");
        let added = set_roles(&app, by, owner, &["owner", "viewer"]).await;
        assert_eq!(code(&added), (403, "OWNER_PROTECTED"), "{by}: not even by more roles");
        assert_eq!(app.delete(by, &path).await["status"], 403, "{by}");
    }
    assert_eq!(app.post("alice", &format!("{path}/suspend"), Value::Null).await["status"], 200);
    let restored = app.post("admin", &format!("{path}/restore"), Value::Null).await;
    assert_eq!(code(&restored), (403, "ROLE_EXCEEDS_OWN"), "an owner's suspension is an owner's to lift");
    assert_eq!(app.post("alice", &format!("{path}/restore"), Value::Null).await["status"], 200);
    assert_eq!(set_roles(&app, "alice", owner, &["admin"]).await["status"], 200);
}

#[actix_web::test]
async fn the_last_active_owner_stays() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let second = app.member(org, "second", Role::Owner).await;
    let alice = app.work().state().member(app.person("alice").await, org).unwrap().user;
    let path = format!("/v1/orgs/acme/users/{alice}");
    assert_eq!(
        app.post("alice", &format!("/v1/orgs/acme/users/{second}/suspend"), Value::Null).await["status"],
        200
    );
    for gone in [
        app.post("alice", &format!("{path}/suspend"), Value::Null).await,
        app.patch("alice", &path, json!({ "status": "suspended" })).await,
        app.delete("alice", &path).await,
        set_roles(&app, "alice", alice, &["admin"]).await,
    ] {
        assert_eq!(code(&gone), (409, "LAST_OWNER"));
    }
    assert_eq!(
        app.post("alice", &format!("/v1/orgs/acme/users/{second}/restore"), Value::Null).await["status"],
        200
    );
    // Two owners who remove each other at once: one stays.
    let [alices, seconds] = [alice, second].map(|user| format!("/v1/orgs/acme/users/{user}"));
    let (one, other) = tokio::join!(app.delete("alice", &seconds), app.delete("second", &alices));
    let done = [&one, &other].into_iter().filter(|answer| answer["status"] == 204).count();
    let owners = "SELECT count(*) AS owners FROM memberships JOIN role_bindings USING (user_id)
        WHERE role = 'owner' AND status = 'active'";
    assert_eq!((done, app.rows(owners).await), (1, json!([{ "owners": 1 }])), "{one} {other}");
}

// Suspended orgs and the platform's people ------------------------------------------------------------------------

#[actix_web::test]
async fn in_a_suspended_org_members_look_and_look_after_themselves() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.member(org, "bob", Role::Member).await;
    app.person_with("carol", &[PlatformRole::PlatformAdmin]).await;
    let (alice, session) = (app.person("alice").await, app.work().ctx(app.actor("alice").await).mint());
    app.bearer("alice in acme", &app.token_of(alice, session, Some(org)));
    let because = json!({ "reason": "unpaid" });
    assert_eq!(app.post("alice", "/v1/orgs/acme/suspend", because.clone()).await["status"], 200);
    for by in ["alice", "bob"] {
        assert_eq!(app.get(by, "/v1/orgs/acme").await["body"]["status"], "suspended", "{by}");
        assert_eq!(app.get(by, "/v1/auth/sessions").await["status"], 200, "{by}");
        for (path, expected) in
            [("/v1/orgs/acme/users", "ORG_NOT_ACTIVE"), ("/v1/orgs/acme/api-keys", "ORG_NOT_ACTIVE")]
        {
            assert_eq!(code(&app.get(by, path).await), (403, expected), "{by} {path}");
        }
    }
    assert_eq!(code(&app.get("alice in acme", "/organizations/me/api-keys").await), (403, "ORG_NOT_ACTIVE"));
    let renamed = app.patch("alice", "/v1/orgs/acme", json!({ "displayName": "x" })).await;
    assert_eq!(code(&renamed), (403, "ORG_NOT_ACTIVE"));
    // What the platform put on the org its owner cannot lift, by neither way.
    let restored = app.post("alice", "/v1/orgs/acme/restore", because.clone()).await;
    assert_eq!(restored["status"], 403, "{restored}");
    let patched = app.patch("alice", "/v1/orgs/acme", json!({ "status": "active" })).await;
    assert_eq!(patched["status"], 403, "{patched}");
    assert_eq!(app.get("carol", "/v1/orgs/acme/users").await["status"], 200, "the platform's people work on");
    assert_eq!(app.post("carol", "/v1/orgs/acme/restore", because).await["status"], 200);
    assert_eq!(app.get("alice", "/v1/orgs/acme/users").await["status"], 200);
}

#[actix_web::test]
async fn in_a_deleted_org_there_is_nothing_but_looking_at_it_and_deleting_it_again() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    app.person_with("carol", &[PlatformRole::PlatformAdmin]).await;
    assert_eq!(app.delete("alice", "/v1/orgs/acme").await["status"], 204);
    assert_eq!(app.delete("alice", "/v1/orgs/acme").await["status"], 204, "done, and done again");
    assert_eq!(app.get("alice", "/v1/orgs/acme").await["body"]["status"], "pending_delete");
    assert_eq!(code(&app.get("alice", "/v1/orgs/acme/users").await), (403, "ORG_NOT_ACTIVE"));
    let because = json!({ "reason": "a mistake" });
    assert_eq!(app.post("alice", "/v1/orgs/acme/restore", because.clone()).await["status"], 403);
    assert_eq!(app.post("carol", "/v1/orgs/acme/restore", because).await["body"]["status"], "active");
}

#[actix_web::test]
async fn the_platforms_people_work_everywhere_within_their_role() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let bob = app.member(org, "bob", Role::Member).await;
    for (name, role) in [
        ("admin", PlatformRole::PlatformAdmin),
        ("auditor", PlatformRole::PlatformAuditor),
        ("support", PlatformRole::PlatformSupport),
    ] {
        app.person_with(name, &[role]).await;
    }
    let user = format!("/v1/orgs/acme/users/{bob}");
    let status = async |method: Method, by: &str, path: &str, body: Value| {
        app.call(method, Some(by), path, body).await["status"].as_u64().unwrap()
    };
    for (method, path, body, expected) in [
        (Method::GET, "/v1/orgs".to_owned(), Value::Null, [200, 200, 200]),
        (Method::GET, "/v1/orgs/acme".to_owned(), Value::Null, [200, 200, 200]),
        (Method::GET, user.clone(), Value::Null, [200, 200, 200]),
        (Method::GET, "/v1/orgs/acme/api-keys".to_owned(), Value::Null, [200, 200, 403]),
        (Method::GET, "/v1/audit/events".to_owned(), Value::Null, [200, 200, 403]),
        (Method::POST, format!("{user}/unlock"), Value::Null, [204, 403, 204]),
        (Method::DELETE, format!("{user}/sessions"), Value::Null, [204, 403, 204]),
        (Method::PATCH, user.clone(), json!({ "displayName": "Bob" }), [200, 403, 403]),
        (Method::PUT, format!("{user}/roles"), json!({ "roles": ["owner"] }), [200, 403, 403]),
        (Method::POST, format!("{user}/suspend"), Value::Null, [200, 403, 403]),
        (Method::POST, "/v1/orgs/acme/suspend".to_owned(), json!({ "reason": "x" }), [200, 403, 403]),
    ] {
        for (by, expected) in ["admin", "auditor", "support"].into_iter().zip(expected).rev() {
            assert_eq!(
                status(method.clone(), by, &path, body.clone()).await,
                expected,
                "{by} {method} {path}"
            );
        }
    }
}
