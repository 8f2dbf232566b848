//! Checking keys for services: what each answer says, and what it leaves.
use crate::{
    app::TestApp,
    contexts_support::{NOBODY, brief, check, check_with, events_of, issue, told},
};
use actix_web::{http::Method, test::TestRequest};
use identityd::{
    app::Listener,
    authorization::{Fact, Role},
    kernel::{KeyStatus, OrgId},
};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use std::time::Duration;

const PATH: &str = "/v1/auth/validate-api-key";
const DAY: Duration = Duration::from_hours(24);

/// An org of ada's with bob in it, and the path of bob.
async fn acme_with_bob(app: &TestApp) -> (OrgId, String) {
    let org = app.org("ada", "acme").await;
    let bob = app.member(org, "bob", Role::Member).await;
    (org, format!("/v1/orgs/acme/users/{bob}"))
}

async fn key_of_bob(app: &TestApp, body: Value) -> (OrgId, String, String, String) {
    let (org, bob) = acme_with_bob(app).await;
    let (id, secret) = issue(app, "ada", &format!("{bob}/api-keys"), body).await;
    (org, bob, format!("/v1/orgs/acme/api-keys/{id}"), secret)
}

/// A whole answer.
async fn ask(app: &TestApp, body: Value) -> Value {
    app.call(Method::POST, None, PATH, body).await
}

/// As from another machine.
async fn check_from(app: &TestApp, peer: &str, body: &Value) -> Value {
    let request = TestRequest::post().uri(PATH).peer_addr(peer.parse().unwrap()).set_json(body);
    app.send(request, Listener::Http).await["body"].clone()
}

/// Another secret under the same name: its form is right, and its checksum too.
fn with_another_secret(secret: &str) -> String {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let letter = if &secret[62..63] == "x" { "y" } else { "x" };
    let body = format!("{}{letter}", &secret[..62]);
    let mut rest = crc32fast::hash(body.as_bytes()) as usize;
    let mut checksum = [b'0'; 6];
    for slot in checksum.iter_mut().rev() {
        *slot = ALPHABET[rest % 62];
        rest /= 62;
    }
    format!("{body}{}", std::str::from_utf8(&checksum).unwrap())
}

// Good -----------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_key_of_a_member_is_valid() {
    let app = TestApp::new().await;
    let body = json!({ "scopes": ["inference", "models:read"], "expiresInDays": 30 });
    let (_, _, _, secret) = key_of_bob(&app, body).await;
    assert_json_snapshot!("valid", told(&app, ask(&app, json!({ "apiKeySecret": secret }))).await);
}

#[actix_web::test]
async fn a_key_of_a_machine_is_valid() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let machine = app.post("ada", "/v1/orgs/acme/service-accounts", json!({ "name": "router" })).await;
    let id = machine["body"]["serviceAccountId"].as_str().unwrap();
    let (_, secret) =
        issue(&app, "ada", &format!("/v1/orgs/acme/service-accounts/{id}/api-keys"), Value::Null).await;
    assert_json_snapshot!("valid_machine", told(&app, ask(&app, json!({ "apiKeySecret": secret }))).await);
}

#[actix_web::test]
async fn a_key_in_its_overlap_is_valid_and_rotating() {
    let app = TestApp::new().await;
    let (_, _, key, secret) = key_of_bob(&app, Value::Null).await;
    app.post("ada", &format!("{key}/rotate"), json!({ "overlapSeconds": 60 })).await;
    assert_json_snapshot!("valid_rotating", check(&app, &secret).await);
}

#[actix_web::test]
async fn white_space_around_a_secret_is_nothing() {
    let app = TestApp::new().await;
    let (_, _, _, secret) = key_of_bob(&app, Value::Null).await;
    assert_eq!(check(&app, &format!(" {secret}\n")).await["valid"], true);
}

#[actix_web::test]
async fn no_credential_is_asked_for_and_none_is_looked_at() {
    let app = TestApp::new().await;
    let (_, _, _, secret) = key_of_bob(&app, Value::Null).await;
    app.bearer("garbled", "garbage");
    let answer = app.post("garbled", PATH, json!({ "apiKeySecret": secret })).await;
    assert_eq!((&answer["status"], &answer["body"]["valid"]), (&json!(200), &json!(true)));
}

#[actix_web::test]
async fn keys_are_checked_on_the_listener_inside_the_cluster_too() {
    let app = TestApp::new().await;
    let (_, _, _, secret) = key_of_bob(&app, Value::Null).await;
    let request = || TestRequest::post().uri(PATH).set_json(json!({ "apiKeySecret": secret }));
    assert_eq!(app.send(request(), Listener::Internal).await["body"]["valid"], true);
    assert_eq!(app.send(request(), Listener::Ops).await["status"], 404);
}

#[actix_web::test]
async fn a_check_is_answered_anew_whatever_idempotency_key_it_carries() {
    let app = TestApp::new().await;
    let (_, _, key, secret) = key_of_bob(&app, Value::Null).await;
    let ask = || {
        let body = json!({ "apiKeySecret": secret });
        app.call_with(Method::POST, None, PATH, body, &[("idempotency-key", "k")])
    };
    assert_eq!(ask().await["body"]["valid"], true);
    app.delete("ada", &key).await;
    assert_eq!(ask().await["body"]["valid"], false);
}

// An org named along ---------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_key_is_valid_in_the_org_that_is_asked_about_or_not_at_all() {
    let app = TestApp::new().await;
    let (org, _, _, secret) = key_of_bob(&app, Value::Null).await;
    let other = app.org("eve", "other").await;
    let valid = async |org: Value| {
        check_with(&app, json!({ "apiKeySecret": secret, "orgId": org })).await["valid"].clone()
    };
    assert_eq!(valid(json!(org)).await, true);
    assert_eq!(valid(json!("acme")).await, true);
    assert_eq!(valid(json!(" ACME ")).await, true);
    assert_eq!(valid(Value::Null).await, true);
    for wrong in [json!(other), json!("other"), json!("none"), json!(NOBODY)] {
        assert_eq!(valid(wrong.clone()).await, false, "{wrong}");
    }
    let elsewhere = check_with(&app, json!({ "apiKeySecret": secret, "orgId": "other" })).await;
    assert_eq!(elsewhere, check(&app, "garbage").await, "which looks like a key that there is not");
}

#[actix_web::test]
async fn a_dead_key_says_no_more_in_another_org_than_a_good_one() {
    let app = TestApp::new().await;
    let (_, _, key, secret) = key_of_bob(&app, Value::Null).await;
    app.org("eve", "other").await;
    app.delete("ada", &key).await;
    let told = told(&app, ask(&app, json!({ "apiKeySecret": secret, "orgId": "other" }))).await;
    assert_eq!(told["answer"]["body"], check(&app, "garbage").await);
    assert_eq!(told["events"].as_array().unwrap().len(), 1, "its org is told all the same");
}

// Bad ------------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_secret_is_needed() {
    let app = TestApp::new().await;
    assert_json_snapshot!("missing", told(&app, ask(&app, json!({}))).await);
    for body in [
        json!({ "apiKeySecret": "" }),
        json!({ "apiKeySecret": " \n" }),
        json!({ "apiKeySecret": null }),
        json!({ "api_key_secret": "x" }),
    ] {
        assert_eq!(brief(&ask(&app, body.clone()).await), "400 API_KEY_MISSING", "{body}");
    }
    assert_eq!(brief(&ask(&app, Value::Null).await), "400 BODY_MISSING");
    assert_eq!(brief(&ask(&app, json!({ "apiKeySecret": 5 })).await), "422 INVALID_BODY apiKeySecret");
}

#[actix_web::test]
async fn what_is_no_key_is_unknown_and_leaves_nothing() {
    let app = TestApp::new().await;
    let (org, _, _, secret) = key_of_bob(&app, Value::Null).await;
    let typo = format!("{}{}", &secret[..68], if secret.ends_with('0') { "1" } else { "0" });
    let invite = app.joined(org, "ada", "carol", &[]).await;
    let unknown = told(&app, ask(&app, json!({ "apiKeySecret": with_another_secret(&secret) }))).await;
    assert_json_snapshot!("unknown", unknown);
    for garbage in [
        "garbage".to_owned(),
        "dev-123".to_owned(),
        "idk_".to_owned(),
        "x".repeat(10_000),
        "' OR 1=1; --".to_owned(),
        "🔑".repeat(69),
        app.token("ada").await,
        typo,
        secret[..68].to_owned(),
        format!("{secret}0"),
        secret.replace("idk_", "ids_"),
        secret.replace("idk_", "idz_"),
        invite.to_string(),
    ] {
        let told = told(&app, ask(&app, json!({ "apiKeySecret": garbage }))).await;
        assert_eq!(told["answer"]["body"], unknown["answer"]["body"], "{garbage}");
        assert_eq!(told["events"], json!([]), "{garbage}");
    }
}

#[actix_web::test]
async fn a_revoked_key_is_told_as_such_and_its_use_is_on_the_orgs_chain() {
    let app = TestApp::new().await;
    let (_, _, key, secret) = key_of_bob(&app, Value::Null).await;
    app.delete("ada", &key).await;
    let body = json!({ "apiKeySecret": secret, "clientIp": "198.51.100.7", "userAgent": "curl/8" });
    assert_json_snapshot!("revoked", told(&app, ask(&app, body)).await);
}

#[actix_web::test]
async fn an_expired_key_is_told_as_such_from_the_second_on() {
    let app = TestApp::new().await;
    let (_, _, _, secret) = key_of_bob(&app, json!({ "expiresInDays": 1 })).await;
    app.tick(DAY.checked_sub(Duration::from_secs(1)).unwrap()).await;
    assert_eq!(check(&app, &secret).await["valid"], true);
    app.tick(Duration::from_secs(1)).await;
    assert_json_snapshot!("expired", told(&app, ask(&app, json!({ "apiKeySecret": secret }))).await);
}

#[actix_web::test]
async fn a_quarantined_key_is_told_as_such() {
    let app = TestApp::new().await;
    let (org, _, key, secret) = key_of_bob(&app, Value::Null).await;
    // Quarantine comes with its release; its fact is known already.
    let id = key.rsplit('/').next().unwrap().parse().unwrap();
    let mut fact = app.work().state().key(id).unwrap();
    fact.status = KeyStatus::Quarantined;
    app.fact(org, Fact::Key(fact)).await;
    assert_json_snapshot!("quarantined", told(&app, ask(&app, json!({ "apiKeySecret": secret }))).await);
}

#[actix_web::test]
async fn a_key_works_while_its_holder_is_active() {
    let app = TestApp::new().await;
    let (_, bob, _, secret) = key_of_bob(&app, Value::Null).await;
    app.post("ada", &format!("{bob}/suspend"), Value::Null).await;
    assert_json_snapshot!("holder_suspended", told(&app, ask(&app, json!({ "apiKeySecret": secret }))).await);
    app.post("ada", &format!("{bob}/restore"), Value::Null).await;
    assert_eq!(check(&app, &secret).await["valid"], true);
    app.delete("ada", &bob).await;
    assert_eq!(check(&app, &secret).await["code"], "PRINCIPAL_INACTIVE");
}

#[actix_web::test]
async fn a_key_works_while_its_org_is_active() {
    let app = TestApp::new().await;
    let (_, _, _, secret) = key_of_bob(&app, Value::Null).await;
    let root = crate::contexts_support::root(&app).await;
    let because = json!({ "reason": "unpaid" });
    app.post("ada", "/v1/orgs/acme/suspend", because.clone()).await;
    assert_json_snapshot!("org_suspended", told(&app, ask(&app, json!({ "apiKeySecret": secret }))).await);
    app.post(root, "/v1/orgs/acme/restore", because.clone()).await;
    assert_eq!(check(&app, &secret).await["valid"], true);
    app.delete("ada", "/v1/orgs/acme").await;
    assert_eq!(check(&app, &secret).await["code"], "ORG_NOT_ACTIVE");
}

#[actix_web::test]
async fn of_several_reasons_the_keys_own_is_told() {
    let app = TestApp::new().await;
    let (_, bob, key, secret) =
        key_of_bob(&app, json!({ "expiresInDays": 1, "allowedCidrs": ["10.0.0.0/8"] })).await;
    app.post("ada", &format!("{bob}/suspend"), Value::Null).await;
    assert_eq!(check(&app, &secret).await["code"], "PRINCIPAL_INACTIVE");
    app.post("ada", "/v1/orgs/acme/suspend", json!({ "reason": "unpaid" })).await;
    assert_eq!(check(&app, &secret).await["code"], "PRINCIPAL_INACTIVE");
    app.tick(DAY).await;
    assert_eq!(check(&app, &secret).await["code"], "KEY_EXPIRED");
    let root = crate::contexts_support::root(&app).await;
    assert_eq!(brief(&app.delete(root, &key).await), "204");
    assert_eq!(check(&app, &secret).await["code"], "KEY_REVOKED");
}

#[actix_web::test]
async fn a_flood_of_a_dead_key_is_counted_and_each_answer_is_the_same() {
    let app = TestApp::new().await;
    let (org, _, key, secret) = key_of_bob(&app, Value::Null).await;
    app.delete("ada", &key).await;
    let first = check(&app, &secret).await;
    let told = told(&app, async {
        for _ in 0..69 {
            assert_eq!(check(&app, &secret).await, first);
        }
        Value::Null
    })
    .await;
    assert_eq!(told["events"].as_array().unwrap().len(), 59, "sixty a minute one by one");
    let summary = events_of(&app, async {
        app.work().tell_counted().await.unwrap();
        Value::Null
    })
    .await;
    assert_eq!((&summary[0]["body"]["count"], &summary[0]["org"]), (&json!(10), &json!(org)));
}

// Networks -------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_key_bound_to_networks_needs_the_clients_address() {
    let app = TestApp::new().await;
    let (_, _, _, secret) =
        key_of_bob(&app, json!({ "allowedCidrs": ["203.0.113.0/24", "2001:db8::/32"] })).await;
    assert_json_snapshot!("address_required", told(&app, ask(&app, json!({ "apiKeySecret": secret }))).await);
    for garbled in [json!(""), json!("localhost"), json!("203.0.113.7, 10.0.0.1"), Value::Null] {
        let checked = check_with(&app, json!({ "apiKeySecret": secret, "clientIp": garbled })).await;
        assert_eq!(checked["code"], "CLIENT_ADDRESS_REQUIRED", "{garbled}");
    }
}

#[actix_web::test]
async fn a_key_bound_to_networks_is_valid_from_these_only() {
    let app = TestApp::new().await;
    let (_, _, _, secret) =
        key_of_bob(&app, json!({ "allowedCidrs": ["203.0.113.0/24", "2001:db8::/32"] })).await;
    let valid = async |address: &str| {
        check_with(&app, json!({ "apiKeySecret": secret, "clientIp": address })).await["valid"].clone()
    };
    assert_eq!(valid("203.0.113.255").await, true);
    assert_eq!(valid(" 2001:db8::1 ").await, true);
    assert_eq!(valid("::ffff:203.0.113.7").await, true, "as sockets for both versions write it");
    for elsewhere in ["203.0.114.0", "2001:db9::1", "::ffff:203.0.114.0", "127.0.0.1"] {
        assert_eq!(valid(elsewhere).await, false, "{elsewhere}");
    }
    let body = json!({ "apiKeySecret": secret, "clientIp": "203.0.114.0" });
    assert_json_snapshot!("address_not_allowed", told(&app, ask(&app, body)).await);
}

#[actix_web::test]
async fn only_trusted_callers_are_believed_about_their_client() {
    let app = TestApp::new().await;
    let (_, _, _, secret) = key_of_bob(&app, json!({ "allowedCidrs": ["203.0.113.0/24"] })).await;
    let body = json!({ "apiKeySecret": secret, "clientIp": "203.0.113.7" });
    for trusted in ["10.1.2.3:4", "[::1]:4", "[fc00::1]:4", "[::ffff:10.1.2.3]:4"] {
        assert_eq!(check_from(&app, trusted, &body).await["valid"], true, "{trusted}");
    }
    for stranger in ["203.0.113.7:4", "[2001:db8::1]:4"] {
        let checked = check_from(&app, stranger, &body).await;
        assert_eq!(checked["code"], "CLIENT_ADDRESS_REQUIRED", "a caller is not the client: {stranger}");
    }
}

#[actix_web::test]
async fn who_is_trusted_is_configured() {
    let app = TestApp::with(&["validate.trusted_callers=[\"198.51.100.0/24\"]"]).await;
    let (_, _, _, secret) = key_of_bob(&app, json!({ "allowedCidrs": ["203.0.113.0/24"] })).await;
    let body = json!({ "apiKeySecret": secret, "clientIp": "203.0.113.7" });
    assert_eq!(check_from(&app, "198.51.100.9:4", &body).await["valid"], true);
    assert_eq!(check_from(&app, "127.0.0.1:4", &body).await["valid"], false);
}

// While it changes -----------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_revocation_binds_from_its_answer_on_whatever_is_being_checked() {
    let app = TestApp::new().await;
    let (_, _, key, secret) = key_of_bob(&app, Value::Null).await;
    let checks = async {
        let mut answers = vec![];
        for _ in 0..10 {
            answers.push(check(&app, &secret).await);
        }
        answers
    };
    let (revoked, answers) = tokio::join!(app.delete("ada", &key), checks);
    assert_eq!(revoked["status"], 204);
    let valid: Vec<bool> = answers.iter().map(|answer| answer["valid"] == true).collect();
    assert!(valid.is_sorted_by(|one, next| one >= next), "never valid again: {valid:?}");
    assert!(
        answers.iter().all(|answer| answer["valid"] == true || answer["status"] == "revoked"),
        "{answers:?}"
    );
    assert_eq!(check(&app, &secret).await["status"], "revoked");
}

#[actix_web::test]
async fn another_process_takes_a_revocation_from_its_next_reading() {
    let app = TestApp::new().await;
    let (_, _, key, secret) = key_of_bob(&app, Value::Null).await;
    let other = app.replica(&[]).await;
    let ask = || {
        let request = TestRequest::post().uri(PATH).set_json(json!({ "apiKeySecret": secret }));
        crate::app::send(&other, request, Listener::Http)
    };
    assert_eq!(ask().await["body"]["valid"], true);
    app.delete("ada", &key).await;
    app.clock.tick(Duration::from_millis(901));
    assert_eq!(ask().await["body"]["status"], "revoked", "after 900 ms unconfirmed it asks PostgreSQL");
}

#[actix_web::test]
async fn without_postgresql_keys_are_checked_from_memory_for_a_while() {
    let app = TestApp::with(&["authorization.stale_max_seconds=5"]).await;
    let (_, _, _, secret) = key_of_bob(&app, Value::Null).await;
    app.sabotage("ALTER TABLE authz_clock RENAME TO gone").await;
    app.clock.tick(Duration::from_secs(5));
    let stale = check(&app, &secret).await;
    assert_eq!((&stale["valid"], &stale["stale"]), (&json!(true), &json!(true)));
    app.clock.tick(Duration::from_millis(1));
    let too_old = ask(&app, json!({ "apiKeySecret": secret })).await;
    assert_eq!(brief(&too_old), "503 AUTHORIZATION_STALE", "and never valid:false");
    assert_eq!(too_old["headers"]["retry-after"], "1");
}
