//! Who am I: as the portal asks (`userinfo`), and as the API answers (`/v1/me`).
use crate::{
    app::{PASSWORD, TestApp},
    http_support::{acme, ask, bearing, request, signed_in, text},
};
use actix_web::http::Method;
use identityd::{
    authorization::{PlatformRole, Role},
    kernel::OrgId,
};
use serde_json::{Value, json};

const USERINFO: &str = "/v1/auth/userinfo";

/// Signed in for an org, as the caller of this name.
async fn enter(app: &TestApp, name: &str, org: &str) {
    let body = json!({ "email": format!("{name}@example.io"), "password": PASSWORD, "org_id": org });
    let answer = app.call(Method::POST, None, "/v1/auth/login", body).await;
    app.bearer(name, &text(&answer, "access_token"));
}

/// A person in `acme` with these roles.
async fn with_roles(app: &TestApp, name: &str, roles: &[&str]) -> Value {
    let acme = app.work().state().org_by_slug("acme").unwrap();
    app.joined(acme, "owner", name, roles).await;
    enter(app, name, "acme").await;
    app.get(name, USERINFO).await
}

#[actix_web::test]
async fn userinfo_is_as_the_portal_knows_it_at_each_of_its_paths() {
    let app = acme().await;
    enter(&app, "ada", "acme").await;
    let answer = app.get("ada", USERINFO).await;
    insta::assert_json_snapshot!(answer);
    for path in ["/auth/userinfo", "/api/auth/userinfo"] {
        let alias = app.get("ada", path).await;
        assert_eq!((&alias["status"], &alias["body"]), (&json!(200), &answer["body"]), "{path}");
        let nobody = app.call(Method::GET, None, path, Value::Null).await;
        assert_eq!(nobody["status"], 401, "{path}");
    }
}

#[actix_web::test]
async fn the_first_role_is_the_highest_the_portal_knows() {
    let app = acme().await;
    for (name, roles, expected) in [
        ("b", vec!["analyst", "admin"], json!(["admin", "admin", "analyst"])),
        ("c", vec!["manager"], json!(["manager", "manager"])),
        ("d", vec!["viewer", "analyst"], json!(["analyst", "analyst", "viewer"])),
        ("e", vec!["viewer"], json!(["custom", "viewer"])),
        ("f", vec!["auditor", "billing-admin"], json!(["custom", "billing-admin", "auditor"])),
    ] {
        let answer = with_roles(&app, name, &roles).await;
        let mut told: Vec<&str> = answer["body"]["roles"].as_array().unwrap()[1..]
            .iter()
            .map(|role| role.as_str().unwrap())
            .collect();
        let mut names: Vec<&str> =
            expected.as_array().unwrap()[1..].iter().map(|r| r.as_str().unwrap()).collect();
        told.sort_unstable();
        names.sort_unstable();
        assert_eq!((&answer["body"]["roles"][0], &told), (&expected[0], &names), "{answer}");
    }
}

/// The portal's menus look at its own names where they do not know the role.
#[actix_web::test]
async fn a_role_the_portal_does_not_know_comes_with_its_permissions_by_the_portals_names() {
    let app = acme().await;
    let viewer = with_roles(&app, "viewer", &["viewer"]).await;
    insta::assert_json_snapshot!(viewer["body"]["scopes"]);
    let analyst = with_roles(&app, "analyst", &["analyst"]).await;
    let known = analyst["body"]["scopes"].as_array().unwrap();
    assert!(known.iter().all(|scope| scope.as_str().unwrap().contains(':')), "{known:?}");
}

#[actix_web::test]
async fn userinfo_follows_the_org_of_the_token() {
    let app = acme().await;
    let beta = app.org("owner", "beta").await;
    app.member(beta, "ada", Role::Owner).await;
    enter(&app, "ada", "beta").await;
    let answer = app.get("ada", USERINFO).await;
    assert_eq!(answer["body"]["organization_id"], json!(beta));
    assert_eq!(answer["body"]["roles"], json!(["owner", "owner"]));
}

#[actix_web::test]
async fn somebody_without_an_org_has_no_role_in_one() {
    let app = acme().await;
    app.delete("owner", &format!("/v1/orgs/acme/users/{}", app.person("ada").await)).await;
    app.bearer("ada", &text(&signed_in(&app).await, "access_token"));
    insta::assert_json_snapshot!(app.get("ada", USERINFO).await["body"]);
    insta::assert_json_snapshot!(app.get("ada", "/v1/me").await["body"]);
    assert_eq!(app.get("ada", "/v1/me/orgs").await["body"], json!([]));
}

/// What somebody may do is what he may do now, not what his role once let him.
#[actix_web::test]
async fn a_suspended_member_may_do_nothing_there() {
    let app = acme().await;
    enter(&app, "ada", "acme").await;
    let path = format!("/v1/orgs/acme/users/{}/suspend", app.person("ada").await);
    assert_eq!(app.post("owner", &path, json!({ "reason": "drill" })).await["status"], 200);
    assert_eq!(app.get("ada", "/v1/orgs/acme").await["status"], 403);
    let me = app.get("ada", "/v1/me").await;
    assert_eq!((&me["body"]["roles"], &me["body"]["permissions"]), (&json!([]), &json!([])), "{me}");
    let info = app.get("ada", USERINFO).await;
    assert_eq!((&info["body"]["roles"], &info["body"]["scopes"]), (&json!(["custom"]), &json!([])), "{info}");
    let orgs = app.get("ada", "/v1/me/orgs").await;
    assert_eq!(orgs["body"][0]["status"], "suspended", "{orgs}");
}

#[actix_web::test]
async fn a_key_is_asked_for_its_holder() {
    let app = acme().await;
    let machine = app.post("owner", "/v1/orgs/acme/service-accounts", json!({ "name": "router" })).await;
    let path = format!("/v1/orgs/acme/service-accounts/{}/api-keys", text(&machine, "serviceAccountId"));
    let key = app.post("owner", &path, json!({})).await;
    app.bearer("machine", &text(&key, "secret"));
    insta::assert_json_snapshot!(app.get("machine", USERINFO).await["body"]);
    insta::assert_json_snapshot!(app.get("machine", "/v1/me").await["body"]);
    let header = request(Method::GET, "/v1/me").insert_header(("x-api-key", text(&key, "secret")));
    assert_eq!(ask(&app.app, header).await.status, 200);
    assert_eq!(
        app.get("machine", "/v1/me/orgs").await["body"],
        json!([]),
        "a key is in one org, its holder's"
    );
}

#[actix_web::test]
async fn me_says_who_and_what_i_may() {
    let app = acme().await;
    app.joined(app.work().state().org_by_slug("acme").unwrap(), "owner", "bob", &["member"]).await;
    enter(&app, "bob", "acme").await;
    insta::assert_json_snapshot!(app.get("bob", "/v1/me").await);
    app.person_with("auditor", &[PlatformRole::PlatformAuditor]).await;
    let me = app.get("auditor", "/v1/me").await;
    assert_eq!(me["body"]["platformRoles"], json!(["platform-auditor"]), "{me}");
    let both = bearing(request(Method::GET, "/v1/me"), "garbage").insert_header(("x-api-key", "x"));
    assert_eq!(ask(&app.app, both).await.verdict(), (401, "TOKEN_INVALID".into()), "Authorization decides");
}

#[actix_web::test]
async fn my_orgs_are_those_i_am_in_the_oldest_first() {
    let app = acme().await;
    let mut orgs: Vec<OrgId> = vec![];
    for (slug, role) in [("beta", Role::Owner), ("gamma", Role::Viewer)] {
        app.tick(std::time::Duration::from_secs(1)).await;
        let org = app.org("owner", slug).await;
        app.member(org, "ada", role).await;
        orgs.push(org);
    }
    app.org("owner", "delta").await;
    enter(&app, "ada", "acme").await;
    let all = app.get("ada", "/v1/me/orgs").await["body"].clone();
    let first = app.get("ada", "/v1/me/orgs?limit=2").await;
    let link = first["headers"]["link"].as_str().unwrap();
    let (next, _) = link.trim_start_matches('<').split_once('>').unwrap();
    let second = app.get("ada", next).await;
    let both: Vec<_> =
        [first, second].iter().flat_map(|page| page["body"].as_array().unwrap().clone()).collect();
    assert_eq!(json!(both), all, "in pages too");
    insta::assert_json_snapshot!(all);
}
