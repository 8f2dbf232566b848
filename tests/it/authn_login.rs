//! Signing in: who gets in, where to, with what, and that all others get one answer.
use crate::{
    app::{PASSWORD, TestApp, id, send},
    http_support::{
        Answer, acme, acme_with, ask, ask_all, decoded, post_from, signed_in, text, told, told_since,
        without_tokens,
    },
};
use actix_web::http::Method;
use identityd::{
    app::Listener,
    authorization::{PlatformRole, Role},
    identity,
    kernel::{IdentityId, OrgId, UserStatus},
};
use serde_json::{Value, json};
use std::time::Duration;

const LOGIN: &str = "/v1/auth/login";

async fn login(app: &TestApp, body: Value) -> Value {
    app.call(Method::POST, None, LOGIN, body).await
}

/// Ada's right credentials, and whatever else.
fn ada(members: Value) -> Value {
    let mut body = json!({ "email": "ada@example.io", "password": PASSWORD });
    body.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
    body
}

/// The org that an answer's tokens are for.
fn org_of(answer: &Value) -> OrgId {
    assert_eq!(answer["status"], 200, "{answer}");
    let org = id(&answer["body"]["org_id"]);
    let claims = decoded(&text(answer, "access_token"));
    assert_eq!(claims["claims"]["org_id"], answer["body"]["org_id"], "{claims}");
    org
}

async fn ended(app: &TestApp, by: &str, path: &str) {
    let answer = app.post(by, path, json!({ "reason": "drill" })).await;
    assert!(answer["status"].as_u64().unwrap() < 300, "{answer}");
}

#[actix_web::test]
async fn whoever_knows_the_password_gets_tokens_and_the_org_is_told() {
    let app = acme().await;
    let before = told(&app).await;
    insta::assert_json_snapshot!(without_tokens(&signed_in(&app).await));
    insta::assert_json_snapshot!(told_since(&app, before).await);
}

#[actix_web::test]
async fn the_access_token_opens_the_api_until_it_expires() {
    let app = acme().await;
    app.bearer("ada", &text(&signed_in(&app).await, "access_token"));
    assert_eq!(app.get("ada", "/v1/orgs/acme").await["status"], 200);
    app.tick(Duration::from_secs(3599)).await;
    assert_eq!(app.get("ada", "/v1/orgs/acme").await["status"], 200);
    app.tick(Duration::from_secs(1)).await;
    let late = app.get("ada", "/v1/orgs/acme").await;
    assert_eq!((&late["status"], &late["body"]["code"]), (&json!(401), &json!("TOKEN_EXPIRED")));
}

/// The reasons are on the audit log, each on the chain it belongs on: the org where the person is at home, or the
/// platform's. The caller learns none of them.
#[actix_web::test]
async fn every_failure_gets_the_same_answer_and_the_log_knows_why() {
    let app = acme().await;
    let acme: OrgId = app.work().state().org_by_slug("acme").unwrap();
    app.org("stranger", "other").await;
    let bob = app.joined(acme, "owner", "bob", &["member"]).await;
    ended(&app, "owner", &format!("/v1/orgs/acme/users/{bob}/suspend")).await;
    app.person("keyholder").await; // known, and without a password
    let before = told(&app).await;
    let bodies = [
        ada(json!({ "password": "wrong wrong wrong wrong" })),
        ada(json!({ "password": "" })),
        ada(json!({ "password": "x".repeat(600) })),
        ada(json!({ "org_id": "other" })),
        ada(json!({ "org_id": "01900000-0000-7000-8000-000000000000" })),
        ada(json!({ "org_id": "no-such-org" })),
        ada(json!({ "email": "nobody@example.io" })),
        ada(json!({ "email": "not an address" })),
        ada(json!({ "email": "" })),
        ada(json!({ "email": format!("{}@example.io", "x".repeat(300)) })),
        ada(json!({ "email": "keyholder@example.io" })),
        ada(json!({ "email": "bob@example.io" })),
        ada(json!({ "email": "' OR 1=1 --" })),
    ];
    let requests = bodies.iter().map(|body| post_from("127.0.0.1", LOGIN, body));
    let mut answers: Vec<Value> =
        ask_all(&app.app, Listener::Http, requests).await.iter().map(Answer::shown).collect();
    for answer in &mut answers {
        let id = answer["body"]["requestId"].take();
        let headers = answer["headers"].as_array_mut().unwrap();
        let echoed = headers.iter().position(|header| header[0] == "x-request-id").unwrap();
        assert_eq!(headers.remove(echoed)[1], id);
    }
    assert!(answers.iter().all(|answer| *answer == answers[0]), "{answers:#?}");
    insta::assert_json_snapshot!(answers[0]);
    let why: Vec<String> = told_since(&app, before)
        .await
        .as_array()
        .unwrap()
        .iter()
        .map(|event| {
            let chain = if event["org"] == json!(acme) { "acme" } else { "platform" };
            assert!(chain == "acme" || event["org"] == json!("00000000-0000-0000-0000-000000000000"));
            let who = if event["target"] == "unknown" { "unknown" } else { "known" };
            assert_eq!((&event["outcome"], &event["actor"]), (&json!("deny"), &json!("anonymous")));
            format!("{chain} {who} {}", event["policy"]["code"].as_str().unwrap_or_default())
        })
        .collect();
    insta::assert_json_snapshot!(why);
}

#[actix_web::test]
async fn a_failure_is_told_whole() {
    let app = acme().await;
    let before = told(&app).await;
    login(&app, ada(json!({ "password": "wrong wrong wrong wrong" }))).await;
    login(&app, ada(json!({ "email": "nobody@example.io" }))).await;
    insta::assert_json_snapshot!(told_since(&app, before).await);
}

/// One Argon2 verification whatever is wrong: otherwise the time would say who has an account.
#[actix_web::test]
async fn every_failure_costs_one_verification() {
    let app = acme().await;
    app.person("keyholder").await;
    for body in [
        ada(json!({})),
        ada(json!({ "password": "wrong wrong wrong wrong" })),
        ada(json!({ "password": "x".repeat(600) })),
        ada(json!({ "org_id": "no-such-org" })),
        ada(json!({ "email": "nobody@example.io" })),
        ada(json!({ "email": "not an address" })),
        ada(json!({ "email": "keyholder@example.io" })),
    ] {
        let before = app.app.hasher.runs();
        login(&app, body.clone()).await;
        assert_eq!(app.app.hasher.runs() - before, 1, "{body}");
    }
}

#[actix_web::test]
async fn an_address_is_trimmed_and_in_any_case_and_a_password_in_either_normal_form() {
    let app = acme().await;
    let answer = login(&app, ada(json!({ "email": "  ADA@Example.IO " }))).await;
    assert_eq!(answer["status"], 200, "{answer}");

    let org = app.work().state().org_by_slug("acme").unwrap();
    let body = json!({ "email": "zoe@example.io", "roles": ["member"] });
    app.post("owner", &format!("/v1/orgs/{org}/invites"), body).await;
    // é as two code points when it is chosen, as one when it is typed, and the other way round.
    let chosen = json!({ "token": app.invite_token().await, "password": "cafe\u{301} cafe\u{301} au lait" });
    let accepted = app.call(Method::POST, None, "/v1/invites/accept", chosen).await;
    assert_eq!(accepted["status"], 200, "{accepted}");
    for password in ["caf\u{e9} caf\u{e9} au lait", "cafe\u{301} caf\u{e9} au lait"] {
        let answer = login(&app, json!({ "email": "zoe@example.io", "password": password })).await;
        assert_eq!(answer["status"], 200, "{password}: {answer}");
    }
    for password in ["cafe cafe au lait", "Caf\u{e9} caf\u{e9} au lait", "caf\u{e9} caf\u{e9} au lait "] {
        let answer = login(&app, json!({ "email": "zoe@example.io", "password": password })).await;
        assert_eq!(answer["status"], 401, "{password:?} is another password");
    }
}

// Where to ----------------------------------------------------------------------------------------------------------

/// Ada in `acme` and, later, in `beta`.
async fn in_two_orgs() -> (TestApp, OrgId, OrgId) {
    let app = acme().await;
    let acme = app.work().state().org_by_slug("acme").unwrap();
    let beta = app.org("owner", "beta").await;
    app.tick(Duration::from_secs(1)).await;
    app.member(beta, "ada", Role::Viewer).await;
    (app, acme, beta)
}

#[actix_web::test]
async fn without_a_choice_it_is_the_first_org_until_another_is_home() {
    let (app, acme, beta) = in_two_orgs().await;
    assert_eq!(org_of(&login(&app, ada(json!({}))).await), acme);
    assert_eq!(org_of(&login(&app, ada(json!({ "org_id": "" }))).await), acme, "empty is left out");
    let ada_id: IdentityId = app.person("ada").await;
    app.write(beta, async |tx| {
        let person = identity::find_identity(tx.conn(), ada_id).await?.unwrap();
        identity::set_home_org(tx, &person, beta).await
    })
    .await;
    assert_eq!(org_of(&login(&app, ada(json!({}))).await), beta);
}

#[actix_web::test]
async fn an_org_is_named_by_its_id_or_its_slug() {
    let (app, _, beta) = in_two_orgs().await;
    for name in [beta.to_string(), beta.to_string().to_uppercase(), "beta".into(), " BETA ".into()] {
        assert_eq!(org_of(&login(&app, ada(json!({ "org_id": name }))).await), beta, "{name}");
    }
}

#[actix_web::test]
async fn whoever_wants_to_choose_is_asked_where_there_is_a_choice() {
    let (app, acme, beta) = in_two_orgs().await;
    let before = told(&app).await;
    let asked = login(&app, ada(json!({ "org_selection": "required" }))).await;
    insta::assert_json_snapshot!(asked);
    assert_eq!(told(&app).await, before, "nothing happened yet");
    let named = login(&app, ada(json!({ "org_selection": "required", "org_id": "beta" }))).await;
    assert_eq!(org_of(&named), beta);
    assert_eq!(org_of(&login(&app, ada(json!({ "org_selection": "no-such-word" }))).await), acme);
    let wrong = ada(json!({ "org_selection": "required", "password": "wrong wrong wrong wrong" }));
    assert_eq!(login(&app, wrong).await["status"], 401, "only for whoever knows the password");

    app.delete("owner", &format!("/v1/orgs/beta/users/{}", app.person("ada").await)).await;
    assert_eq!(org_of(&login(&app, ada(json!({ "org_selection": "required" }))).await), acme, "no choice");
}

#[actix_web::test]
async fn a_suspended_member_gets_into_the_other_org_and_not_into_this_one() {
    let (app, _, beta) = in_two_orgs().await;
    let path = format!("/v1/orgs/acme/users/{}/suspend", app.person("ada").await);
    ended(&app, "owner", &path).await;
    assert_eq!(org_of(&login(&app, ada(json!({}))).await), beta);
    assert_eq!(login(&app, ada(json!({ "org_id": "acme" }))).await["status"], 401);
}

#[actix_web::test]
async fn a_suspended_org_lets_its_members_in_and_a_deleted_one_does_not() {
    let app = acme().await;
    app.person_with("root", &[PlatformRole::PlatformAdmin]).await;
    ended(&app, "root", "/v1/orgs/acme/suspend").await;
    let acme = org_of(&login(&app, ada(json!({ "org_id": "acme" }))).await);
    assert_eq!(app.work().state().org_by_slug("acme"), Some(acme));
    ended(&app, "root", "/v1/orgs/acme/restore").await;
    assert_eq!(app.delete("owner", "/v1/orgs/acme").await["status"], 204);
    assert_eq!(login(&app, ada(json!({ "org_id": "acme" }))).await["status"], 401);
    assert_eq!(login(&app, ada(json!({}))).await["status"], 401, "there is no other");
}

#[actix_web::test]
async fn an_invited_member_is_not_in_yet() {
    let (app, _, _) = in_two_orgs().await;
    let gamma = app.org("owner", "gamma").await;
    app.membership(gamma, "ada", None, UserStatus::Invited, &[Role::Member]).await;
    assert_eq!(login(&app, ada(json!({ "org_id": "gamma" }))).await["status"], 401);
}

#[actix_web::test]
async fn a_person_without_any_org_is_in_without_one() {
    let app = acme().await;
    app.delete("owner", &format!("/v1/orgs/acme/users/{}", app.person("ada").await)).await;
    let answer = signed_in(&app).await;
    assert_eq!(answer["body"]["org_id"], Value::Null);
    let claims = decoded(&text(&answer, "access_token"));
    assert!(
        claims["claims"].get("org_id").is_none() && claims["claims"].get("user_id").is_none(),
        "{claims}"
    );
}

// With what ---------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn client_and_scope_are_echoed_within_bounds() {
    let app = acme().await;
    let client = "c".repeat(200);
    let scope = format!("openid {}", "s".repeat(493));
    let answer = login(&app, ada(json!({ "client_id": client, "scope": scope }))).await;
    assert_eq!(answer["body"]["scope"], json!(scope), "{answer}");
    let claims = decoded(&text(&answer, "access_token"))["claims"].clone();
    assert_eq!((&claims["client_id"], &claims["scope"]), (&json!(client), &json!(scope)));
    let blank = login(&app, ada(json!({ "client_id": " ", "scope": "" }))).await;
    let claims = decoded(&text(&blank, "access_token"))["claims"].clone();
    assert_eq!((&claims["client_id"], &claims["scope"]), (&json!("identityd-login"), &json!("openid")));
    for (member, value) in [
        ("client_id", "c".repeat(201)),
        ("client_id", "a\nb".into()),
        ("scope", "s".repeat(501)),
        ("scope", "a\"b".into()),
        ("scope", "naïve".into()),
    ] {
        let answer = login(&app, ada(json!({ member: value }))).await;
        assert_eq!(answer["status"], 422, "{member}: {answer}");
        assert_eq!(answer["body"]["errors"][0]["field"], member);
        assert_eq!(answer["body"]["error"], "invalid_request");
    }
}

#[actix_web::test]
async fn a_second_factor_that_nobody_has_yet_changes_nothing() {
    let app = acme().await;
    let body = ada(json!({ "mfaCode": "123456", "recoveryCode": "x", "webauthn": {}, "client_secret": "s" }));
    let answer = login(&app, body).await;
    assert_eq!((&answer["status"], &answer["body"]["mfa_verified"]), (&json!(200), &json!(false)));
}

#[actix_web::test]
async fn no_access_token_outlives_its_session() {
    let app = acme_with(&["authentication.session_hours=1", "authentication.access_token_minutes=45"]).await;
    let first = signed_in(&app).await;
    assert_eq!(first["body"]["expires_in"], 45 * 60);
    app.tick(Duration::from_mins(40)).await;
    let body = json!({ "refresh_token": first["body"]["refresh_token"] });
    let second = app.call(Method::POST, None, "/v1/auth/refresh", body).await;
    assert_eq!(second["body"]["expires_in"], 20 * 60, "{second}");
    let claims = decoded(&text(&second, "access_token"))["claims"].clone();
    let begun = decoded(&text(&first, "access_token"))["claims"].clone();
    assert_eq!(claims["exp"].as_i64().unwrap(), begun["iat"].as_i64().unwrap() + 3600);
    assert_eq!(claims["auth_time"], begun["iat"], "no secret was shown since");
}

// Hashes ------------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_hash_under_older_parameters_is_renewed_by_the_sign_in() {
    let app = acme().await;
    let stored = async || app.rows("SELECT left(phc, 22) AS kind, phc FROM passwords").await[0].clone();
    let old = stored().await;
    assert_eq!(old["kind"], "$argon2id$v=19$m=64,t=");
    let stronger = app.replica(&["authentication.password.memory_kib=128"]).await;
    let wrong = ada(json!({ "password": "wrong wrong wrong wrong" }));
    let refused = send(&stronger, post_from("127.0.0.1", LOGIN, &wrong), Listener::Http).await;
    assert_eq!((&refused["status"], &stored().await), (&json!(401), &old), "the wrong one renews nothing");
    let good = send(&stronger, post_from("127.0.0.1", LOGIN, &ada(json!({}))), Listener::Http).await;
    assert_eq!(good["status"], 200, "{good}");
    let new = stored().await;
    assert_eq!(new["kind"], "$argon2id$v=19$m=128,t");
    let again = send(&stronger, post_from("127.0.0.1", LOGIN, &ada(json!({}))), Listener::Http).await;
    assert_eq!((&again["status"], &stored().await), (&json!(200), &new), "once is enough");
}

#[actix_web::test]
async fn a_full_queue_says_when_to_come_again_and_counts_nothing() {
    let app = acme().await;
    let busy = app.replica(&["authentication.password.queue_max=0"]).await;
    let answer = ask(&busy, post_from("127.0.0.1", LOGIN, &ada(json!({ "password": "wrong" })))).await;
    assert_eq!(answer.verdict(), (503, "SIGN_IN_BUSY".into()));
    assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    assert_eq!(app.rows("SELECT * FROM login_throttle").await, json!([]));
    assert_eq!(signed_in(&app).await["status"], 200);
}

#[actix_web::test]
async fn sign_ins_and_failures_are_counted_under_the_dashboards_names() {
    let app = acme().await;
    signed_in(&app).await;
    login(&app, ada(json!({ "password": "wrong wrong wrong wrong" }))).await;
    let text = app.get("ada", "/metrics").await["body"].as_str().unwrap().to_owned();
    for line in [
        "user_org_service_auth_attempts_total 2",
        "user_org_service_auth_failures_total 1",
        "user_org_service_auth_sessions_created_total 1",
        "identityd_auth_attempts_total{method=\"password\",outcome=\"success\"} 1",
        "identityd_auth_attempts_total{method=\"password\",outcome=\"failure\"} 1",
    ] {
        assert!(text.lines().any(|known| known == line), "{line} is not in\n{text}");
    }
}
