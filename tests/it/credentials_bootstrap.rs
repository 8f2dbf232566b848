//! Bootstrap and recovery tokens: the first administrator of a platform, or the next.
use crate::{
    app::{self, PASSWORD, TestApp},
    contexts_support::{NOBODY, ask, at_once, both, brief, check, column, issue, told},
};
use actix_web::{http::Method, test::TestRequest};
use identityd::{
    app::Listener,
    credentials::operators::{self, Purpose},
    kernel::{Actor, Workload},
};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use std::time::Duration;

const HOUR: Duration = Duration::from_hours(1);

/// As `identityd bootstrap` makes it; the token is known as this caller.
async fn token(app: &TestApp, caller: &str, purpose: Purpose) -> String {
    let ctx = app.work().ctx(Actor::Workload(Workload::OperatorCli));
    let (_, token) = operators::issue_operator_token(app.work(), &ctx, purpose).await.unwrap();
    app.bearer(caller, token.expose());
    token.expose().to_owned()
}

/// An empty platform, for an operator with a token.
async fn empty() -> TestApp {
    let app = TestApp::with(&["orgs.self_service=false"]).await;
    token(&app, "operator", Purpose::Bootstrap).await;
    app
}

async fn make_org(app: &TestApp, caller: &str, slug: &str) -> Value {
    app.post(caller, "/v1/orgs", json!({ "name": "Acme", "slug": slug })).await
}

/// Acme, with ada invited: the path of ada.
async fn acme_with_ada(app: &TestApp) -> String {
    assert_eq!(brief(&make_org(app, "operator", "acme").await), "201");
    let invited = app.post("operator", "/v1/orgs/acme/invites", json!({ "email": "ada@example.io" })).await;
    assert_eq!(brief(&invited), "202");
    format!("/v1/orgs/acme/users/{}", invited["body"]["userId"].as_str().unwrap())
}

#[actix_web::test]
async fn making_a_token_is_on_the_platforms_chain() {
    let app = TestApp::new().await;
    for purpose in [Purpose::Bootstrap, Purpose::Recovery] {
        let call = async {
            let token = token(&app, "operator", purpose).await;
            assert_eq!((&token[..4], token.len()), ("idz_", 69));
            Value::Null
        };
        assert_json_snapshot!(format!("made_for_{}", purpose.as_str()), told(&app, call).await["events"]);
    }
}

#[actix_web::test]
async fn an_operator_sees_that_there_is_nothing_and_makes_an_org() {
    let app = empty().await;
    assert_json_snapshot!("nothing", told(&app, app.get("operator", "/v1/orgs")).await);
    assert_json_snapshot!("org", told(&app, make_org(&app, "operator", "acme")).await);
    assert_eq!(column(&app.get("operator", "/v1/orgs").await["body"], "slug"), ["acme"]);
}

#[actix_web::test]
async fn the_first_invited_is_owner_and_platform_admin() {
    let app = empty().await;
    make_org(&app, "operator", "acme").await;
    let call = app.post(
        "operator",
        "/v1/orgs/acme/invites",
        json!({ "email": "ada@example.io", "roles": ["owner"] }),
    );
    let told = told(&app, call).await;
    assert_json_snapshot!("first_invite", told);
    let user = format!("/v1/orgs/acme/users/{}", told["answer"]["body"]["userId"].as_str().unwrap());
    assert_json_snapshot!("first_user", app.get("operator", &user).await);
    let platform = "SELECT email, platform_roles FROM identities";
    assert_eq!(
        app.rows(platform).await,
        json!([{ "email": "ada@example.io", "platform_roles": ["platform-admin"] }])
    );
}

#[actix_web::test]
async fn the_second_invited_is_what_he_is_invited_as() {
    let app = empty().await;
    acme_with_ada(&app).await;
    let body = json!({ "email": "bob@example.io", "roles": ["viewer"] });
    let invited = app.post("operator", "/v1/orgs/acme/invites", body).await;
    let user = format!("/v1/orgs/acme/users/{}", invited["body"]["userId"].as_str().unwrap());
    assert_eq!(app.get("operator", &user).await["body"]["roles"], json!(["viewer"]));
    assert_eq!(app.rows("SELECT email FROM identities").await, json!([{ "email": "ada@example.io" }]));
}

#[actix_web::test]
async fn the_first_key_activates_its_holder_and_ends_the_token() {
    let app = empty().await;
    let ada = acme_with_ada(&app).await;
    let path = format!("{ada}/api-keys");
    let mut told = told(&app, app.post("operator", &path, json!({ "scopes": ["admin"] }))).await;
    let secret = crate::contexts_support::take_secret(&mut told["answer"]);
    assert_json_snapshot!("first_key", told);
    assert_json_snapshot!("ended", app.get("operator", "/v1/orgs").await);
    assert_eq!(check(&app, &secret).await["valid"], true);
    app.bearer("cli", &secret);
    assert_eq!(app.get("cli", &ada).await["body"]["status"], "active");
    let ended = "SELECT ended_at FROM operator_tokens";
    assert_eq!(app.rows(ended).await, json!([{ "ended_at": "2026-01-05T09:00:00+00:00" }]));
}

#[actix_web::test]
async fn the_first_key_does_all_that_a_platform_admin_may() {
    let app = empty().await;
    let ada = acme_with_ada(&app).await;
    app.bearer(
        "cli",
        &issue(&app, "operator", &format!("{ada}/api-keys"), json!({ "scopes": ["admin"] })).await.1,
    );
    assert_eq!(brief(&make_org(&app, "cli", "beta").await), "201");
    assert_eq!(brief(&app.get("cli", "/v1/orgs/beta/users").await), "200");
    assert_eq!(brief(&app.patch("cli", "/v1/orgs/beta", json!({ "displayName": "Beta" })).await), "200");
}

#[actix_web::test]
async fn an_operators_first_administrator_accepts_and_signs_in() {
    let app = empty().await;
    let ada = acme_with_ada(&app).await;
    issue(&app, "operator", &format!("{ada}/api-keys"), json!({ "scopes": ["admin"] })).await;
    let body = json!({ "token": app.invite_token().await, "password": PASSWORD, "displayName": "Ada" });
    assert_eq!(brief(&app.call(Method::POST, None, "/v1/invites/accept", body).await), "200");
    let signed_in = app.sign_in("ada").await;
    assert_eq!(brief(&signed_in), "200");
    app.bearer("ada", signed_in["body"]["access_token"].as_str().unwrap());
    assert_eq!(app.get("ada", &ada).await["body"]["displayName"], "Ada");
    assert_eq!(brief(&make_org(&app, "ada", "beta").await), "201", "he is the platform's");
}

#[actix_web::test]
async fn a_token_works_for_these_calls_only() {
    let app = empty().await;
    let ada = acme_with_ada(&app).await;
    let machine = json!({ "name": "router" });
    for (method, path, body) in [
        (Method::GET, "/v1/orgs/acme".to_owned(), Value::Null),
        (Method::PATCH, "/v1/orgs/acme".to_owned(), json!({ "displayName": "x" })),
        (Method::DELETE, "/v1/orgs/acme".to_owned(), Value::Null),
        (Method::POST, "/v1/orgs/acme/suspend".to_owned(), json!({ "reason": "x" })),
        (Method::GET, "/v1/orgs/acme/users".to_owned(), Value::Null),
        (Method::GET, "/v1/orgs/acme/invites".to_owned(), Value::Null),
        (Method::PATCH, ada.clone(), json!({ "status": "active" })),
        (Method::DELETE, ada.clone(), Value::Null),
        (Method::PUT, format!("{ada}/roles"), json!({ "roles": ["owner"] })),
        (Method::POST, format!("{ada}/suspend"), Value::Null),
        (Method::GET, "/v1/orgs/acme/roles".to_owned(), Value::Null),
        (Method::GET, "/v1/orgs/acme/service-accounts".to_owned(), Value::Null),
        (Method::POST, "/v1/orgs/acme/service-accounts".to_owned(), machine),
        (Method::GET, "/v1/orgs/acme/api-keys".to_owned(), Value::Null),
        (Method::GET, "/v1/audit/events?org=acme".to_owned(), Value::Null),
        (Method::GET, "/v1/audit/events".to_owned(), Value::Null),
    ] {
        assert_eq!(
            ask(&app, "operator", &method, &path, &body).await,
            "403 NO_MATCHING_PERMIT",
            "{method} {path}"
        );
    }
    assert_eq!(brief(&app.get("operator", "/organizations/me/api-keys").await), "409 ORG_SELECTION_REQUIRED");
    assert_eq!(brief(&app.get("operator", &ada).await), "200");
}

#[actix_web::test]
async fn a_token_issues_a_key_for_whoever_is_still_invited_and_for_nobody_else() {
    let app = empty().await;
    let ada = acme_with_ada(&app).await;
    let body = json!({ "token": app.invite_token().await, "password": PASSWORD });
    assert_eq!(brief(&app.call(Method::POST, None, "/v1/invites/accept", body).await), "200");
    let path = format!("{ada}/api-keys");
    assert_eq!(
        brief(&app.post("operator", &path, json!({ "scopes": ["admin"] })).await),
        "403 NO_MATCHING_PERMIT",
        "whoever came needs nobody to act for him"
    );
}

#[actix_web::test]
async fn a_token_makes_one_org_and_works_in_no_other() {
    let app = TestApp::new().await;
    token(&app, "operator", Purpose::Bootstrap).await;
    let other = app.org("eve", "other").await;
    let mallory = app.member(other, "mallory", identityd::authorization::Role::Member).await;
    acme_with_ada(&app).await;
    assert_eq!(brief(&make_org(&app, "operator", "beta").await), "403 NO_MATCHING_PERMIT");
    for (method, path, body) in [
        (Method::POST, "/v1/orgs/other/invites".to_owned(), json!({ "email": "x@example.io" })),
        (Method::GET, format!("/v1/orgs/other/users/{mallory}"), Value::Null),
        (Method::GET, format!("/v1/orgs/acme/users/{mallory}"), Value::Null),
        (Method::POST, format!("/v1/orgs/other/users/{mallory}/api-keys"), Value::Null),
        (Method::POST, format!("/v1/orgs/acme/users/{mallory}/api-keys"), Value::Null),
        (Method::GET, format!("/v1/orgs/{NOBODY}/users/{mallory}"), Value::Null),
    ] {
        let told = told(&app, app.call(method.clone(), Some("operator"), &path, body)).await;
        assert_eq!(brief(&told["answer"]), "404 NOT_FOUND", "{method} {path}");
        let chain = &told["events"][0]["org"];
        assert_eq!(
            chain, "00000000-0000-0000-0000-000000000000",
            "others' logs are not for it to grow: {path}"
        );
    }
}

#[actix_web::test]
async fn a_token_that_has_made_no_org_works_in_none() {
    let app = TestApp::new().await;
    token(&app, "operator", Purpose::Bootstrap).await;
    app.org("eve", "other").await;
    let invite = app.post("operator", "/v1/orgs/other/invites", json!({ "email": "x@example.io" })).await;
    assert_eq!(brief(&invite), "404 NOT_FOUND");
    assert_eq!(brief(&app.get("operator", "/v1/orgs").await), "200");
}

#[actix_web::test]
async fn a_token_is_over_after_an_hour() {
    let app = empty().await;
    app.tick(HOUR.checked_sub(Duration::from_secs(1)).unwrap()).await;
    assert_eq!(brief(&app.get("operator", "/v1/orgs").await), "200");
    app.tick(Duration::from_secs(1)).await;
    assert_eq!(brief(&app.get("operator", "/v1/orgs").await), "401 TOKEN_INVALID");
    assert_eq!(brief(&make_org(&app, "operator", "acme").await), "401 TOKEN_INVALID");
}

#[actix_web::test]
async fn a_token_that_nobody_made_opens_nothing() {
    let app = empty().await;
    let other = TestApp::with(&[]).await;
    let ctx = other.work().ctx(Actor::Workload(Workload::OperatorCli));
    let _ = other.work().ctx(Actor::Anonymous).entropy().bytes::<64>();
    let (_, stranger) =
        operators::issue_operator_token(other.work(), &ctx, Purpose::Bootstrap).await.unwrap();
    app.bearer("stranger", stranger.expose());
    assert_eq!(brief(&app.get("stranger", "/v1/orgs").await), "401 TOKEN_INVALID");
}

#[actix_web::test]
async fn two_orgs_at_once_are_one_org() {
    let app = empty().await;
    let answers = at_once(&app, make_org(&app, "operator", "acme"), make_org(&app, "operator", "beta")).await;
    let [made, refused] = both(answers);
    assert_eq!(made, "201");
    assert!(refused == "403 NO_MATCHING_PERMIT" || refused == "503 AUTHORIZATION_SUPERSEDED", "{refused}");
    assert_eq!(app.get("operator", "/v1/orgs").await["body"].as_array().unwrap().len(), 1);
}

#[actix_web::test]
async fn two_keys_at_once_are_one_key() {
    let app = empty().await;
    let path = format!("{}/api-keys", acme_with_ada(&app).await);
    let issue = || app.post("operator", &path, json!({ "scopes": ["admin"] }));
    let (one, other) = at_once(&app, issue(), issue()).await;
    let made = [&one, &other].into_iter().filter(|answer| answer["status"] == 201).count();
    assert_eq!(made, 1, "{one} {other}");
    assert_eq!(app.rows("SELECT count(*) FROM api_keys").await, json!([{ "count": 1 }]));
}

#[actix_web::test]
async fn two_first_invites_at_once_make_one_owner() {
    let app = empty().await;
    make_org(&app, "operator", "acme").await;
    let invite = |email: &str| app.post("operator", "/v1/orgs/acme/invites", json!({ "email": email }));
    let answers = at_once(&app, invite("ada@example.io"), invite("bob@example.io")).await;
    assert_eq!(both(answers), ["202", "202"]);
    assert_eq!(
        app.rows("SELECT count(*) FROM role_bindings WHERE role = 'owner'").await,
        json!([{ "count": 1 }])
    );
    assert_eq!(app.rows("SELECT count(*) FROM identities").await, json!([{ "count": 1 }]));
}

#[actix_web::test]
async fn somebody_known_becomes_the_administrator_and_keeps_his_name_to_himself() {
    let app = TestApp::new().await;
    let other = app.org("eve", "other").await;
    app.joined(other, "eve", "ada", &[]).await;
    token(&app, "operator", Purpose::Recovery).await;
    let ada = acme_with_ada(&app).await;
    assert_eq!(app.get("operator", &ada).await["body"]["displayName"], "");
    let person = app.person("ada").await;
    let roles = format!("SELECT platform_roles FROM identities WHERE identity_id = '{person}'");
    assert_eq!(app.rows(&roles).await, json!([{ "platform_roles": ["platform-admin"] }]));
}

#[actix_web::test]
async fn a_recovery_token_does_the_same_on_a_platform_that_is_not_empty() {
    let app = TestApp::with(&["orgs.self_service=false"]).await;
    token(&app, "first", Purpose::Bootstrap).await;
    make_org(&app, "first", "lost").await;
    token(&app, "operator", Purpose::Recovery).await;
    assert_eq!(
        app.rows("SELECT purpose FROM operator_tokens ORDER BY token_id").await.as_array().unwrap().len(),
        2
    );
    assert_eq!(column(&app.get("operator", "/v1/orgs").await["body"], "slug"), ["lost"]);
    assert_eq!(brief(&make_org(&app, "operator", "recovery-org").await), "201");
    let invited =
        app.post("operator", "/v1/orgs/recovery-org/invites", json!({ "email": "ada@example.io" })).await;
    let path =
        format!("/v1/orgs/recovery-org/users/{}/api-keys", invited["body"]["userId"].as_str().unwrap());
    app.bearer("cli", &issue(&app, "operator", &path, json!({ "scopes": ["admin"] })).await.1);
    assert_eq!(brief(&app.get("cli", "/v1/orgs/lost/users").await), "200", "the lost org is in reach again");
}

#[actix_web::test]
async fn another_process_takes_a_token_as_ended_before_it_writes() {
    let app = empty().await;
    let ada = acme_with_ada(&app).await;
    let token = token(&app, "second", Purpose::Bootstrap).await;
    make_org(&app, "second", "beta").await;
    let behind = app.replica(&[]).await;
    let invited = app.post("second", "/v1/orgs/beta/invites", json!({ "email": "bob@example.io" })).await;
    let path = format!("/v1/orgs/beta/users/{}/api-keys", invited["body"]["userId"].as_str().unwrap());
    behind.work.catch_up().await.unwrap();
    issue(&app, "second", &path, json!({ "scopes": ["admin"] })).await;
    let again = TestRequest::post().uri(&path).insert_header(("authorization", format!("Bearer {token}")));
    let again = app::send(&behind, again.set_json(json!({ "scopes": ["admin"] })), Listener::Http).await;
    assert_ne!(again["status"], 201, "{again}");
    assert_eq!(brief(&app.get("operator", &ada).await), "200", "the other token goes on");
}
