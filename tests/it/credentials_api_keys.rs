//! API keys of members and machines: issued, read, changed, rotated, revoked, and used.
use crate::{
    app::{self, TestApp},
    contexts_support::{
        NOBODY, ask, at_once, both, brief, call_with, check, column, issue, metadata_at_the_limit, pages,
        root, take_secret, told,
    },
};
use actix_web::{http::Method, test::TestRequest};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use identityd::{
    app::Listener,
    authorization::{PlatformRole, Role},
    credentials::api_keys,
    kernel::OrgId,
};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use std::time::Duration;

const KEYS: &str = "/v1/orgs/acme/api-keys";
const DAY: Duration = Duration::from_hours(24);

/// An org of ada's with bob in it, and the path of bob's keys.
async fn acme_with_bob(app: &TestApp, role: Role) -> (OrgId, String) {
    let org = app.org("ada", "acme").await;
    let bob = app.member(org, "bob", role).await;
    (org, format!("/v1/orgs/acme/users/{bob}/api-keys"))
}

/// Where keys of ada's are issued.
async fn keys_of_ada(app: &TestApp) -> String {
    let users = app.get("ada", "/v1/orgs/acme/users?email=ada@example.io").await;
    format!("/v1/orgs/acme/users/{}/api-keys", users["body"][0]["userId"].as_str().unwrap())
}

/// Where keys of a machine are issued.
async fn keys_of_machine(app: &TestApp) -> String {
    let machine = app.post("ada", "/v1/orgs/acme/service-accounts", json!({ "name": "router" })).await;
    format!(
        "/v1/orgs/acme/service-accounts/{}/api-keys",
        machine["body"]["serviceAccountId"].as_str().unwrap()
    )
}

fn key(id: &str) -> String {
    format!("{KEYS}/{id}")
}

/// As its holder may compute it.
fn fingerprint(secret: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, secret.as_bytes());
    format!("SHA256:{}", URL_SAFE_NO_PAD.encode(digest))
}

/// Sixty-nine characters: a kind, sixteen letters that name it, forty-three that are secret, six that check the rest.
fn assert_well_formed(secret: &str, kind: &str) {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    assert_eq!((&secret[..4], secret.len()), (kind, 69));
    assert!(secret[4..].bytes().all(|letter| letter.is_ascii_alphanumeric()));
    let value = |text: &str| {
        text.bytes().fold(0, |sum: u64, letter| {
            sum * 62 + u64::try_from(ALPHABET.iter().position(|known| *known == letter).unwrap()).unwrap()
        })
    };
    assert_eq!(value(&secret[63..]), u64::from(crc32fast::hash(&secret.as_bytes()[..63])));
}

// Issuing --------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_key_is_issued_for_a_member() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let body = json!({
        "display_name": " ci ", "scopes": ["keys:*", "inference"], "expiresInDays": 90, "annotations": { "team": "blue" },
        "allowedCidrs": ["10.1.2.3/8", " 203.0.113.7 ", "2001:db8::/32"], "rateLimit": { "perMinute": 60 },
        "ignored": true,
    });
    let mut told = told(&app, app.post("ada", &path, body)).await;
    let secret = take_secret(&mut told["answer"]);
    assert_json_snapshot!("issued", told);
    assert_well_formed(&secret, "idk_");
    assert_eq!(told["answer"]["body"]["fingerprint"], fingerprint(&secret));
    let id = told["answer"]["body"]["apiKeyId"].as_str().unwrap();
    let read = app.get("ada", &key(id)).await;
    assert_json_snapshot!("issued_key", read);
    assert_eq!(read["body"]["last4"], secret[65..]);
}

#[actix_web::test]
async fn a_key_is_issued_for_a_machine() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let path = keys_of_machine(&app).await;
    let mut told = told(&app, app.post("ada", &path, json!({ "displayName": "edge" }))).await;
    let secret = take_secret(&mut told["answer"]);
    assert_json_snapshot!("issued_for_machine", told);
    assert_well_formed(&secret, "ids_");
    let id = told["answer"]["body"]["apiKeyId"].as_str().unwrap();
    assert_json_snapshot!("issued_key_of_machine", app.get("ada", &key(id)).await);
}

#[actix_web::test]
async fn a_key_asked_for_without_a_word_invokes_models_and_does_not_end() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let json = ("content-type", "application/json");
    for answer in [
        app.post("ada", &path, Value::Null).await,
        call_with(&app, "ada", Method::POST, &path, Value::Null, json).await,
        app.post("ada", &path, json!({})).await,
        app.post("ada", &path, json!({ "scopes": [], "expiresInDays": null, "display_name": "" })).await,
    ] {
        assert_eq!(brief(&answer), "201");
        assert_eq!(answer["body"]["scopes"], json!(["inference:invoke", "models:read"]));
        assert_eq!(answer["body"]["expiresAt"], Value::Null);
    }
}

#[actix_web::test]
async fn a_secret_is_shown_once_and_stored_nowhere() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let header = ("idempotency-key", "k");
    let answer = call_with(&app, "ada", Method::POST, &path, Value::Null, header).await;
    let secret = answer["body"]["secret"].as_str().unwrap();
    let id = answer["body"]["apiKeyId"].as_str().unwrap();
    for path in [key(id), KEYS.to_owned()] {
        assert!(!app.get("ada", &path).await.to_string().contains(&secret[20..63]), "{path}");
    }
    for table in ["api_keys", "idempotency_keys", "audit_outbox", "authz_fact", "jobs"] {
        let rows = app.rows(&format!("SELECT * FROM {table}")).await.to_string();
        assert!(!rows.contains(&secret[20..63]), "{table}");
    }
    let stored = "SELECT length(hmac) AS hmac, pepper_version, kid, fingerprint FROM api_keys";
    assert_eq!(
        app.rows(stored).await,
        json!([{ "hmac": 32, "pepper_version": 1, "kid": &secret[4..20], "fingerprint": fingerprint(secret) }])
    );
}

#[actix_web::test]
async fn scopes_are_names_of_actions_families_and_old_spellings() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let path = keys_of_ada(&app).await;
    let named = async |scopes: &[&str]| {
        let answer = app.post("ada", &path, json!({ "scopes": scopes })).await;
        (brief(&answer), answer["body"]["scopes"].clone())
    };
    assert_eq!(named(&["inference"]).await.1, json!(["inference:invoke"]));
    assert_eq!(named(&["roles:*"]).await.1, json!(["roles:read", "roles:assign", "roles:manage"]));
    assert_eq!(
        named(&["models:read", "orgs:read", "models:read"]).await.1,
        json!(["orgs:read", "models:read"])
    );
    for unknown in ["*", "*:*", ":*", "keys", "keys:fly", "cake:*", "Keys:read", "", "owner"] {
        assert_eq!(named(&["orgs:read", unknown]).await.0, "422 SCOPE_UNKNOWN scopes", "{unknown}");
    }
    assert_eq!(named(&vec!["orgs:read"; 128]).await.0, "201");
    assert_eq!(named(&vec!["orgs:read"; 129]).await.0, "422 TOO_MANY_SCOPES scopes");
}

#[actix_web::test]
async fn what_cannot_be_parsed_is_refused_by_name() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let [good, large] = metadata_at_the_limit();
    for (body, refusal) in [
        (json!({ "display_name": "é".repeat(200) }), "201"),
        (json!({ "display_name": "x".repeat(201) }), "422 NAME_INVALID display_name"),
        (json!({ "display_name": "a\nb" }), "422 NAME_INVALID display_name"),
        (json!({ "display_name": 5 }), "422 INVALID_BODY display_name"),
        (json!({ "scopes": "orgs:read" }), "422 INVALID_BODY scopes"),
        (json!({ "expiresInDays": 1 }), "201"),
        (json!({ "expiresInDays": 3650 }), "201"),
        (json!({ "expiresInDays": 3651 }), "422 EXPIRY_INVALID expiresInDays"),
        (json!({ "expiresInDays": 0 }), "422 EXPIRY_INVALID expiresInDays"),
        (json!({ "expiresInDays": -1 }), "422 EXPIRY_INVALID expiresInDays"),
        (json!({ "expiresInDays": i64::MAX }), "422 INVALID_BODY expiresInDays"),
        (json!({ "expiresInDays": "90" }), "422 INVALID_BODY expiresInDays"),
        (json!({ "annotations": good }), "201"),
        (json!({ "annotations": large }), "422 ANNOTATIONS_INVALID annotations"),
        (json!({ "annotations": ["x"] }), "422 ANNOTATIONS_INVALID annotations"),
        (json!({ "rateLimit": good }), "201"),
        (json!({ "rateLimit": large }), "422 RATE_LIMIT_INVALID rateLimit"),
        (json!({ "rateLimit": 60 }), "422 RATE_LIMIT_INVALID rateLimit"),
        (json!({ "allowedCidrs": vec!["10.0.0.0/8"; 64] }), "201"),
        (json!({ "allowedCidrs": vec!["10.0.0.0/8"; 65] }), "422 TOO_MANY_CIDRS allowedCidrs"),
        (json!({ "allowedCidrs": ["10.0.0.0/33"] }), "422 CIDR_INVALID allowedCidrs"),
        (json!({ "allowedCidrs": ["example.io"] }), "422 CIDR_INVALID allowedCidrs"),
        (json!({ "allowedCidrs": "10.0.0.0/8" }), "422 INVALID_BODY allowedCidrs"),
        (json!([]), "422 INVALID_BODY"),
    ] {
        assert_eq!(brief(&app.post("ada", &path, body.clone()).await), refusal, "{body}");
    }
}

#[actix_web::test]
async fn the_scope_admin_is_given_by_platform_admins_only() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let body = json!({ "scopes": ["admin"] });
    assert_eq!(
        brief(&app.post("ada", &path, body.clone()).await),
        "403 ADMIN_SCOPE_RESERVED grants.admin_scope"
    );
    let given = app.post(root, &path, body).await;
    assert_eq!((&given["status"], &given["body"]["scopes"]), (&json!(201), &json!(["admin"])));
}

#[actix_web::test]
async fn a_key_with_the_scope_admin_does_what_its_holder_may_now() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    let (org, path) = acme_with_bob(&app, Role::Admin).await;
    app.org("eve", "other").await;
    app.bearer("key", &issue(&app, root, &path, json!({ "scopes": ["admin"] })).await.1);
    assert_eq!(brief(&app.patch("key", "/v1/orgs/acme", json!({ "displayName": "x" })).await), "200");
    assert_eq!(brief(&app.get("key", "/v1/orgs/other").await), "404 NOT_FOUND");
    let roles = path.replace("/api-keys", "/roles");
    assert_eq!(brief(&app.put("ada", &roles, json!({ "roles": ["viewer"] })).await), "200");
    assert_eq!(
        brief(&app.patch("key", "/v1/orgs/acme", json!({ "displayName": "x" })).await),
        "403 NO_MATCHING_PERMIT",
        "{org}"
    );
}

#[actix_web::test]
async fn a_key_with_the_scope_admin_carries_its_persons_platform_roles() {
    let app = TestApp::new().await;
    let root = root(&app).await;
    let org = app.org("ada", "acme").await;
    app.org("eve", "other").await;
    app.person_with("pat", &[PlatformRole::PlatformAdmin]).await;
    let pat = app.member(org, "pat", Role::Viewer).await;
    let path = format!("/v1/orgs/acme/users/{pat}/api-keys");
    app.bearer("all", &issue(&app, root, &path, json!({ "scopes": ["admin"] })).await.1);
    app.bearer("some", &issue(&app, root, &path, json!({ "scopes": ["orgs:*"] })).await.1);
    assert_eq!(brief(&app.patch("all", "/v1/orgs/other", json!({ "displayName": "x" })).await), "200");
    assert_eq!(
        brief(&app.patch("some", "/v1/orgs/acme", json!({ "displayName": "x" })).await),
        "403 NO_MATCHING_PERMIT",
        "another key is bounded by the membership"
    );
    assert_eq!(
        brief(&app.patch("some", "/v1/orgs/other", json!({ "displayName": "x" })).await),
        "404 NOT_FOUND"
    );
}

#[actix_web::test]
async fn nobody_issues_a_key_that_reaches_further_than_himself() {
    let app = TestApp::new().await;
    let (org, bob) = acme_with_bob(&app, Role::Owner).await;
    app.member(org, "mia", Role::Manager).await;
    let beyond = json!({ "scopes": ["orgs:read", "orgs:delete"] });
    let told = told(&app, app.post("mia", &bob, beyond.clone())).await;
    assert_json_snapshot!("scopes_exceed", told);
    assert_eq!(brief(&app.post("mia", &bob, json!({ "scopes": ["orgs:read"] })).await), "201");
    assert_eq!(
        brief(&app.post("mia", &bob, Value::Null).await),
        "201",
        "invoking models is no power over the org"
    );
    let member = app.member(org, "carol", Role::Member).await;
    let carol = format!("/v1/orgs/acme/users/{member}/api-keys");
    assert_eq!(
        brief(&app.post("mia", &carol, beyond).await),
        "201",
        "a scope gives nothing that its holder lacks"
    );
}

#[actix_web::test]
async fn a_key_issues_no_key_with_more_scopes_than_its_own() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let path = keys_of_ada(&app).await;
    app.bearer("key", &issue(&app, "ada", &path, json!({ "scopes": ["keys:*"] })).await.1);
    assert_eq!(brief(&app.post("key", &path, json!({ "scopes": ["keys:read"] })).await), "201");
    for scopes in [json!(["orgs:read"]), json!(["keys:read", "users:read"]), json!([])] {
        let answer = app.post("key", &path, json!({ "scopes": scopes })).await;
        assert_eq!(brief(&answer), "403 SCOPE_EXCEEDS_OWN grants.scopes", "{scopes}");
    }
}

#[actix_web::test]
async fn a_member_issues_keys_for_himself_and_for_nobody_else() {
    let app = TestApp::new().await;
    let (_, bob) = acme_with_bob(&app, Role::Member).await;
    let ada = keys_of_ada(&app).await;
    let (id, _) = issue(&app, "bob", &bob, json!({ "display_name": "laptop" })).await;
    assert_eq!(brief(&app.get("bob", &key(&id)).await), "200");
    assert_eq!(brief(&app.post("bob", &format!("{}/rotate", key(&id)), Value::Null).await), "201");
    assert_eq!(brief(&app.delete("bob", &key(&id)).await), "204");
    assert_eq!(brief(&app.post("bob", &ada, Value::Null).await), "403 NO_MATCHING_PERMIT");
    let (other, _) = issue(&app, "ada", &ada, Value::Null).await;
    for (method, path) in [
        (Method::GET, key(&other)),
        (Method::DELETE, key(&other)),
        (Method::POST, format!("{}/rotate", key(&other))),
        (Method::POST, format!("{}/revoke", key(&other))),
        (Method::GET, KEYS.to_owned()),
    ] {
        let answer = ask(&app, "bob", &method, &path, &Value::Null).await;
        assert_eq!(answer, "403 NO_MATCHING_PERMIT", "{method} {path}");
    }
    let patched = app.patch("bob", &key(&other), json!({ "display_name": "mine" })).await;
    assert_eq!(brief(&patched), "403 NO_MATCHING_PERMIT");
}

#[actix_web::test]
async fn whoever_is_stopped_gets_no_key_and_whoever_is_invited_does() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (user, machine) = (path.replace("/api-keys", ""), keys_of_machine(&app).await);
    let account = machine.replace("/api-keys", "");
    let (key_of_bob, _) = issue(&app, "ada", &path, Value::Null).await;
    app.patch("ada", &user, json!({ "status": "suspended" })).await;
    app.patch("ada", &account, json!({ "status": "disabled" })).await;
    for path in [&path, &machine, &format!("{}/rotate", key(&key_of_bob))] {
        assert_eq!(brief(&app.post("ada", path, Value::Null).await), "409 HOLDER_NOT_ACTIVE", "{path}");
    }
    app.delete("ada", &user).await;
    app.delete("ada", &account).await;
    for path in [&path, &machine] {
        assert_eq!(brief(&app.post("ada", path, Value::Null).await), "409 HOLDER_NOT_ACTIVE", "{path}");
    }
    let invited = app.post("ada", "/v1/orgs/acme/invites", json!({ "email": "carol@example.io" })).await;
    let path = format!("/v1/orgs/acme/users/{}/api-keys", invited["body"]["userId"].as_str().unwrap());
    assert_eq!(brief(&app.post("ada", &path, Value::Null).await), "201");
}

// Sent twice -----------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_key_asked_for_twice_under_one_idempotency_key_is_one_key_with_its_secret() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let send = |body: Value| call_with(&app, "ada", Method::POST, &path, body, ("idempotency-key", "ci-key"));
    let body = json!({ "display_name": "ci" });
    let first = send(body.clone()).await;
    app.tick(Duration::from_secs(599)).await;
    let mut again = told(&app, send(body.clone())).await;
    assert_eq!((&again["answer"]["status"], &again["answer"]["body"]), (&json!(201), &first["body"]));
    assert_eq!(again["answer"]["headers"]["location"], first["headers"]["location"]);
    let secret = take_secret(&mut again["answer"]);
    assert_eq!((check(&app, &secret).await["valid"].clone(), &again["events"]), (json!(true), &json!([])));
    assert_eq!(app.get("ada", KEYS).await["body"].as_array().unwrap().len(), 1);
    assert_eq!(brief(&send(json!({ "display_name": "cd" })).await), "422 IDEMPOTENCY_KEY_REUSED");
    app.tick(Duration::from_secs(1)).await;
    assert_json_snapshot!("secret_gone", send(body).await);
}

#[actix_web::test]
async fn an_idempotency_key_is_its_callers_own_and_ends_after_a_day() {
    let app = TestApp::new().await;
    let (org, path) = acme_with_bob(&app, Role::Member).await;
    app.member(org, "carol", Role::Owner).await;
    let send = |caller| call_with(&app, caller, Method::POST, &path, Value::Null, ("idempotency-key", "k"));
    let id = |answer: Value| answer["body"]["apiKeyId"].as_str().unwrap().to_owned();
    let (ada, carol) = (id(send("ada").await), id(send("carol").await));
    assert_ne!(ada, carol);
    app.tick(DAY).await;
    assert_ne!(id(send("ada").await), ada);
}

#[actix_web::test]
async fn two_at_once_under_one_idempotency_key_make_one_key() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let send = || call_with(&app, "ada", Method::POST, &path, Value::Null, ("idempotency-key", "k"));
    let (one, other) = at_once(&app, send(), send()).await;
    let same = one["body"] == other["body"];
    let briefs = both((one, other));
    assert!(
        briefs == ["201", "409 IDEMPOTENCY_IN_PROGRESS"] || same && briefs == ["201", "201"],
        "{briefs:?}"
    );
    assert_eq!(app.get("ada", KEYS).await["body"].as_array().unwrap().len(), 1);
}

// Reading --------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn the_keys_of_an_org_are_listed() {
    let app = TestApp::new().await;
    let (org, path) = acme_with_bob(&app, Role::Member).await;
    app.member(org, "vic", Role::Viewer).await;
    let machine = keys_of_machine(&app).await;
    app.clock.tick(Duration::from_millis(2));
    issue(&app, "ada", &path, json!({ "expiresInDays": 1 })).await;
    app.clock.tick(Duration::from_millis(2));
    let (id, _) = issue(&app, "ada", &machine, Value::Null).await;
    app.tick(DAY).await;
    app.post("ada", &format!("{}/revoke", key(&id)), json!({ "reason": "a drill" })).await;
    assert_json_snapshot!("listed", told(&app, app.get("vic", KEYS)).await);
}

#[actix_web::test]
async fn keys_are_found_by_state_and_listed_to_their_end() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    for n in 0..3 {
        app.clock.tick(Duration::from_millis(2));
        let (id, _) = issue(&app, "ada", &path, json!({ "display_name": format!("k{n}") })).await;
        if n == 1 {
            app.delete("ada", &key(&id)).await;
        }
    }
    let found =
        async |query: &str| column(&app.get("ada", &format!("{KEYS}?{query}")).await["body"], "display_name");
    assert_eq!(found("status=active").await, ["k0", "k2"]);
    assert_eq!(found("status=revoked").await, ["k1"]);
    assert_eq!(found("status=").await, ["k0", "k1", "k2"]);
    let pages = pages(&app, "ada", &format!("{KEYS}?limit=2")).await;
    let names: Vec<Vec<String>> = pages.iter().map(|page| column(&json!(page), "display_name")).collect();
    assert_eq!(names, [vec!["k0", "k1"], vec!["k2"]]);
    for (query, refusal) in [
        ("limit=1001", "422 LIMIT_INVALID limit"),
        ("cursor=x", "422 CURSOR_INVALID cursor"),
        ("status=lost", "422 STATUS_INVALID status"),
    ] {
        assert_eq!(brief(&app.get("ada", &format!("{KEYS}?{query}")).await), refusal);
    }
}

#[actix_web::test]
async fn the_last_use_of_a_key_is_noted_in_batches() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, secret) = issue(&app, "ada", &path, json!({ "scopes": ["orgs:read", "keys:read"] })).await;
    let last = async || app.get("ada", &key(&id)).await["body"]["lastUsedAt"].clone();
    let flush = async || api_keys::flush_usage(app.work(), &app.app.access.usage).await.unwrap();
    app.tick(Duration::from_secs(5)).await;
    check(&app, &secret).await;
    assert_eq!(last().await, Value::Null, "no request writes it");
    flush().await;
    assert_eq!(last().await, "2026-01-05T09:00:05Z", "a check is a use");
    app.tick(Duration::from_secs(5)).await;
    app.bearer("key", &secret);
    app.get("key", "/v1/orgs/acme").await;
    flush().await;
    assert_eq!(last().await, "2026-01-05T09:00:10Z", "so is a call");
    app.tick(Duration::from_secs(5)).await;
    flush().await;
    assert_eq!(last().await, "2026-01-05T09:00:10Z");
    let list = app.get("ada", KEYS).await;
    assert_eq!(list["body"][0]["lastUsedAt"], "2026-01-05T09:00:10Z");
}

#[actix_web::test]
async fn what_does_not_open_the_door_is_no_use() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, secret) = issue(&app, "ada", &path, Value::Null).await;
    app.delete("ada", &key(&id)).await;
    check(&app, &secret).await;
    api_keys::flush_usage(app.work(), &app.app.access.usage).await.unwrap();
    assert_eq!(app.rows("SELECT count(*) FROM api_key_usage").await, json!([{ "count": 0 }]));
}

// Changing -------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_key_is_changed() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Owner).await;
    let (id, _) = issue(&app, "ada", &path, json!({ "display_name": "ci" })).await;
    app.clock.tick(Duration::from_secs(1));
    let body = json!({
        "displayName": "ci (staging)", "scopes": ["orgs:read"], "expiresAt": "2026-03-01T00:00:00Z",
        "allowedCidrs": ["10.0.0.0/8"], "rateLimit": { "perMinute": 5 }, "annotations": { "a": 1 }, "status": "revoked",
    });
    let path = key(&id);
    assert_json_snapshot!("changed", told(&app, app.patch("ada", &path, body)).await);
}

#[actix_web::test]
async fn what_is_not_sent_stays_as_it_is() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Owner).await;
    let body = json!({
        "display_name": "ci", "scopes": ["orgs:read"], "expiresInDays": 3, "allowedCidrs": ["10.0.0.0/8"],
        "rateLimit": { "perMinute": 5 }, "annotations": { "a": 1 },
    });
    let (id, _) = issue(&app, "ada", &path, body).await;
    let mut before = app.get("ada", &key(&id)).await["body"].clone();
    assert_eq!(app.patch("ada", &key(&id), json!({ "scopes": null })).await["body"], before);
    before.as_object_mut().unwrap().remove("allowedCidrs");
    let answer = app.patch("ada", &key(&id), json!({ "allowedCidrs": [] })).await;
    assert_eq!(answer["body"], before, "no networks: from everywhere");
}

#[actix_web::test]
async fn a_change_that_cannot_be_parsed_is_refused_by_name() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, _) = issue(&app, "ada", &path, Value::Null).await;
    for (body, refusal) in [
        (json!({ "display_name": "x".repeat(201) }), "422 NAME_INVALID display_name"),
        (json!({ "scopes": ["*"] }), "422 SCOPE_UNKNOWN scopes"),
        (json!({ "expiresAt": "2026-01-05T09:00:01Z" }), "200"),
        (json!({ "expiresAt": "2026-01-05T09:00:00Z" }), "422 EXPIRY_INVALID expiresAt"),
        (json!({ "expires_at": "2036-01-03T09:00:00Z" }), "200"),
        (json!({ "expiresAt": "2036-01-03T09:00:01Z" }), "422 EXPIRY_INVALID expiresAt"),
        (json!({ "expiresAt": "tomorrow" }), "422 INVALID_BODY expiresAt"),
        (json!({ "allowedCidrs": ["x"] }), "422 CIDR_INVALID allowedCidrs"),
        (json!({ "annotations": 1 }), "422 ANNOTATIONS_INVALID annotations"),
        (json!({ "rateLimit": [] }), "422 RATE_LIMIT_INVALID rateLimit"),
        (Value::Null, "400 BODY_MISSING"),
    ] {
        assert_eq!(brief(&app.patch("ada", &key(&id), body.clone()).await), refusal, "{body}");
    }
}

#[actix_web::test]
async fn new_scopes_and_networks_bind_at_once() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Owner).await;
    let (id, secret) = issue(&app, "ada", &path, json!({ "scopes": ["orgs:read"] })).await;
    app.bearer("key", &secret);
    assert_eq!(brief(&app.get("key", "/v1/orgs/acme").await), "200");
    app.patch("ada", &key(&id), json!({ "scopes": ["users:read"] })).await;
    assert_eq!(brief(&app.get("key", "/v1/orgs/acme").await), "403 SCOPE_EXCEEDED scope.ceiling");
    app.patch("ada", &key(&id), json!({ "allowedCidrs": ["10.0.0.0/8"] })).await;
    assert_eq!(brief(&app.get("key", "/v1/orgs/acme").await), "401 CLIENT_ADDRESS_NOT_ALLOWED");
}

#[actix_web::test]
async fn nobody_changes_a_key_that_he_could_not_issue() {
    let app = TestApp::new().await;
    let (org, path) = acme_with_bob(&app, Role::Owner).await;
    app.member(org, "mia", Role::Manager).await;
    let body = json!({ "scopes": ["orgs:delete"], "expiresInDays": 1, "allowedCidrs": ["10.0.0.0/8"] });
    let (strong, _) = issue(&app, "ada", &path, body).await;
    let (weak, _) = issue(&app, "ada", &path, json!({ "scopes": ["orgs:read"] })).await;
    for (id, body) in [
        (&weak, json!({ "scopes": ["orgs:delete"] })),
        (&strong, json!({ "allowedCidrs": [] })),
        (&strong, json!({ "expiresAt": "2030-01-01T00:00:00Z" })),
    ] {
        let answer = app.patch("mia", &key(id), body.clone()).await;
        assert_eq!(brief(&answer), "403 SCOPE_EXCEEDS_OWN grants.scopes", "{body}");
    }
    assert_eq!(brief(&app.patch("mia", &key(&weak), json!({ "display_name": "x" })).await), "200");
    assert_eq!(brief(&app.patch("mia", &key(&strong), json!({ "scopes": ["orgs:read"] })).await), "200");
}

#[actix_web::test]
async fn of_two_administrators_at_once_one_is_told_to_read_again() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Admin).await;
    let (id, _) = issue(&app, "ada", &path, Value::Null).await;
    let path = key(&id);
    let patch = |caller| {
        let body = json!({ "display_name": caller });
        call_with(&app, caller, Method::PATCH, &path, body, ("if-match", "\"1\""))
    };
    assert_eq!(both(at_once(&app, patch("ada"), patch("bob")).await), ["200", "412 VERSION_MISMATCH"]);
    let delete = || call_with(&app, "ada", Method::DELETE, &path, Value::Null, ("if-match", "\"1\""));
    assert_eq!(brief(&delete().await), "412 VERSION_MISMATCH");
    assert_eq!(brief(&app.delete("ada", &path).await), "204");
    assert_eq!(brief(&delete().await), "204", "whoever deletes it again need not know its version");
}

// Revoking -------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_key_is_revoked_for_a_reason() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, secret) = issue(&app, "ada", &path, Value::Null).await;
    let path = format!("{}/revoke", key(&id));
    let call = app.post("ada", &path, json!({ "reason": "left on a train" }));
    assert_json_snapshot!("revoked", told(&app, call).await);
    assert_eq!(check(&app, &secret).await["status"], "revoked");
    assert_eq!(app.get("ada", &key(&id)).await["body"]["status"], "revoked");
    let stored = app.rows("SELECT revoked_reason, revoked_at FROM api_keys").await;
    assert_eq!(
        stored,
        json!([{ "revoked_reason": "left on a train", "revoked_at": "2026-01-05T09:00:00+00:00" }])
    );
}

#[actix_web::test]
async fn a_deleted_key_is_a_revoked_key() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, secret) = issue(&app, "ada", &path, Value::Null).await;
    let path = key(&id);
    assert_json_snapshot!("deleted", told(&app, app.delete("ada", &path)).await);
    assert_eq!(check(&app, &secret).await["status"], "revoked");
}

#[actix_web::test]
async fn revoking_a_key_again_changes_nothing() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, _) = issue(&app, "ada", &path, Value::Null).await;
    let revoke = format!("{}/revoke", key(&id));
    app.post("ada", &revoke, json!({ "reason": "first" })).await;
    let before = (app.get("ada", &key(&id)).await["body"].clone(), app.rows("SELECT * FROM api_keys").await);
    app.tick(DAY).await;
    assert_eq!(brief(&app.post("ada", &revoke, json!({ "reason": "second" })).await), "204");
    assert_eq!(brief(&app.post("ada", &revoke, Value::Null).await), "204");
    assert_eq!(brief(&app.delete("ada", &key(&id)).await), "204");
    assert_eq!(
        (app.get("ada", &key(&id)).await["body"].clone(), app.rows("SELECT * FROM api_keys").await),
        before
    );
}

#[actix_web::test]
async fn a_reason_is_one_line_of_bounded_length() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, _) = issue(&app, "ada", &path, Value::Null).await;
    for (verb, done) in [("rotate", "201"), ("revoke", "204")] {
        for (reason, answer) in [
            ("x".repeat(501), "422 REASON_INVALID reason"),
            (String::new(), "422 REASON_INVALID reason"),
            ("two\nlines".to_owned(), "422 REASON_INVALID reason"),
            ("x".repeat(500), done),
        ] {
            let path = format!("{}/{verb}", key(&id));
            assert_eq!(
                brief(&app.post("ada", &path, json!({ "reason": reason })).await),
                answer,
                "{verb} {reason}"
            );
        }
    }
}

#[actix_web::test]
async fn a_revoked_key_is_neither_changed_nor_rotated() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, _) = issue(&app, "ada", &path, Value::Null).await;
    app.delete("ada", &key(&id)).await;
    assert_eq!(
        brief(&app.patch("ada", &key(&id), json!({ "display_name": "x" })).await),
        "409 KEY_STATUS_CONFLICT"
    );
    assert_eq!(
        brief(&app.post("ada", &format!("{}/rotate", key(&id)), Value::Null).await),
        "409 KEY_STATUS_CONFLICT"
    );
}

// Rotating -------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_key_is_rotated() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let body = json!({
        "display_name": "ci", "scopes": ["inference", "keys:read"], "expiresInDays": 10, "allowedCidrs": ["127.0.0.0/8"],
        "rateLimit": { "perMinute": 5 }, "annotations": { "a": 1 },
    });
    let (old, _) = issue(&app, "ada", &path, body).await;
    app.tick(DAY).await;
    let path = format!("{}/rotate", key(&old));
    let mut told =
        told(&app, app.post("ada", &path, json!({ "overlapSeconds": 3600, "reason": "quarterly" }))).await;
    let secret = take_secret(&mut told["answer"]);
    assert_json_snapshot!("rotated", told);
    assert_eq!(told["answer"]["body"]["fingerprint"], fingerprint(&secret));
    assert_json_snapshot!("rotated_old", app.get("ada", &key(&old)).await["body"]);
    let new = told["answer"]["body"]["apiKeyId"].as_str().unwrap();
    assert_json_snapshot!("rotated_new", app.get("ada", &key(new)).await["body"]);
}

#[actix_web::test]
async fn the_old_key_goes_on_until_the_overlap_ends() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, old) = issue(&app, "ada", &path, Value::Null).await;
    let (_, new) =
        issue(&app, "ada", &format!("{}/rotate", key(&id)), json!({ "overlapSeconds": 3600 })).await;
    let status = async |secret: &str| {
        let checked = check(&app, secret).await;
        (checked["valid"].clone(), checked["status"].clone())
    };
    assert_eq!(status(&old).await, (json!(true), json!("rotating")));
    app.tick(Duration::from_secs(3599)).await;
    assert_eq!(status(&old).await, (json!(true), json!("rotating")));
    app.tick(Duration::from_secs(1)).await;
    assert_eq!(status(&old).await, (json!(false), json!("expired")));
    assert_eq!(status(&new).await, (json!(true), json!("active")));
    assert_eq!(app.get("ada", &key(&id)).await["body"]["status"], "expired");
    assert_eq!(
        brief(&app.post("ada", &format!("{}/rotate", key(&id)), Value::Null).await),
        "409 KEY_STATUS_CONFLICT",
        "what has ended is not rotated"
    );
}

#[actix_web::test]
async fn an_overlap_is_a_day_unless_it_is_given_and_a_month_at_most() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let json = ("content-type", "application/json");
    for (body, end) in [
        (Value::Null, "2026-01-06T09:00:00Z"),
        (json!({}), "2026-01-06T09:00:00Z"),
        (json!({ "overlapSeconds": null }), "2026-01-06T09:00:00Z"),
        (json!({ "overlapSeconds": 2_592_000 }), "2026-02-04T09:00:00Z"),
        (json!({ "overlapSeconds": 0 }), "2026-01-05T09:00:00Z"),
    ] {
        let (id, _) = issue(&app, "ada", &path, Value::Null).await;
        let rotate = format!("{}/rotate", key(&id));
        assert_eq!(brief(&call_with(&app, "ada", Method::POST, &rotate, body.clone(), json).await), "201");
        assert_eq!(app.get("ada", &key(&id)).await["body"]["expiresAt"], end, "{body}");
    }
    let (id, _) = issue(&app, "ada", &path, Value::Null).await;
    for (body, refusal) in [
        (json!({ "overlapSeconds": 2_592_001 }), "422 OVERLAP_INVALID overlapSeconds"),
        (json!({ "overlapSeconds": -1 }), "422 OVERLAP_INVALID overlapSeconds"),
        (json!({ "overlapSeconds": "1h" }), "422 INVALID_BODY overlapSeconds"),
    ] {
        assert_eq!(brief(&app.post("ada", &format!("{}/rotate", key(&id)), body).await), refusal);
    }
}

#[actix_web::test]
async fn an_overlap_does_not_prolong_a_key() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, _) = issue(&app, "ada", &path, json!({ "expiresInDays": 1 })).await;
    app.tick(DAY / 2).await;
    issue(&app, "ada", &format!("{}/rotate", key(&id)), json!({ "overlapSeconds": 604_800 })).await;
    assert_eq!(app.get("ada", &key(&id)).await["body"]["expiresAt"], "2026-01-06T09:00:00Z");
}

#[actix_web::test]
async fn two_rotations_at_once_make_two_keys_that_live_as_long_as_the_old_one_would() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, _) = issue(&app, "ada", &path, Value::Null).await;
    let rotate = format!("{}/rotate", key(&id));
    let send = |overlap: i64| app.post("ada", &rotate, json!({ "overlapSeconds": overlap }));
    let (one, other) = at_once(&app, send(3600), send(7200)).await;
    assert_ne!(one["body"]["secret"], other["body"]["secret"]);
    for answer in [&one, &other] {
        assert_eq!(answer["status"], 201, "{answer}");
        assert_eq!(answer["body"]["expiresAt"], Value::Null, "it had no end");
    }
    let old = app.get("ada", &key(&id)).await;
    assert_eq!(
        old["body"]["expiresAt"], "2026-01-05T10:00:00Z",
        "the shorter overlap counts, whoever was first"
    );
}

#[actix_web::test]
async fn a_key_rotated_again_in_its_overlap_passes_its_whole_lifetime_on() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, _) = issue(&app, "ada", &path, json!({ "expiresInDays": 10 })).await;
    let rotate = format!("{}/rotate", key(&id));
    let first = app.post("ada", &rotate, json!({ "overlapSeconds": 3600 })).await;
    let second = app.post("ada", &rotate, json!({ "overlapSeconds": 3600 })).await;
    assert_eq!(first["body"]["expiresAt"], "2026-01-15T09:00:00Z");
    assert_eq!(
        second["body"]["expiresAt"], "2026-01-15T09:00:00Z",
        "its secret was lost, so it is rotated again"
    );
}

#[actix_web::test]
async fn a_rotation_sent_twice_under_one_idempotency_key_happens_once() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let (id, _) = issue(&app, "ada", &path, Value::Null).await;
    let rotate = format!("{}/rotate", key(&id));
    let send = || call_with(&app, "ada", Method::POST, &rotate, Value::Null, ("idempotency-key", "k"));
    let (first, again) = (send().await, send().await);
    assert_eq!((&again["status"], &again["body"]), (&json!(201), &first["body"]));
    assert_eq!(app.get("ada", KEYS).await["body"].as_array().unwrap().len(), 2);
}

#[actix_web::test]
async fn nobody_rotates_a_key_that_he_could_not_issue() {
    let app = TestApp::new().await;
    let (org, path) = acme_with_bob(&app, Role::Owner).await;
    app.member(org, "mia", Role::Manager).await;
    let (id, _) = issue(&app, "ada", &path, json!({ "scopes": ["orgs:delete"] })).await;
    assert_eq!(
        brief(&app.post("mia", &format!("{}/rotate", key(&id)), Value::Null).await),
        "403 SCOPE_EXCEEDS_OWN grants.scopes"
    );
    assert_eq!(brief(&app.delete("mia", &key(&id)).await), "204", "but he stops it");
}

// As a credential ------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_key_is_taken_from_either_header_and_authorization_decides() {
    const NOT_IN_SCOPE: &str = "403 SCOPE_EXCEEDED scope.ceiling";
    let app = TestApp::new().await;
    let (org, path) = acme_with_bob(&app, Role::Owner).await;
    let mia = app.member(org, "mia", Role::Manager).await;
    let (_, key) = issue(&app, "ada", &path, json!({ "scopes": ["orgs:*"] })).await;
    let (_, manager) = issue(
        &app,
        "ada",
        &format!("/v1/orgs/acme/users/{mia}/api-keys"),
        json!({ "scopes": ["orgs:read"] }),
    )
    .await;
    let patch = async |headers: &[(&str, String)]| {
        let mut request = TestRequest::patch().uri("/v1/orgs/acme").set_json(json!({ "displayName": "x" }));
        for (name, value) in headers {
            request = request.insert_header((*name, value.as_str()));
        }
        brief(&app.send(request, Listener::Http).await)
    };
    let bearer = |secret: &str| ("authorization", format!("Bearer {secret}"));
    let header = |secret: &str| ("x-api-key", secret.to_owned());
    assert_eq!(patch(&[header(&key)]).await, "200");
    assert_eq!(patch(&[bearer(&key)]).await, "200");
    assert_eq!(patch(&[("authorization", format!("bearer   {key} "))]).await, "200");
    assert_eq!(patch(&[header(&key), bearer(&manager)]).await, NOT_IN_SCOPE);
    assert_eq!(patch(&[header(&manager), bearer(&key)]).await, "200");
    assert_eq!(patch(&[header(&manager), bearer(&app.token("ada").await)]).await, "200");
    assert_eq!(patch(&[header(&key), bearer("garbage")]).await, "401 TOKEN_INVALID");
    assert_eq!(patch(&[header(&key), bearer("")]).await, "401 UNAUTHENTICATED", "an empty one decides too");
    assert_eq!(patch(&[]).await, "401 UNAUTHENTICATED");
}

#[actix_web::test]
async fn a_key_works_in_its_own_org_only() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Owner).await;
    let other = app.org("eve", "other").await;
    app.member(other, "bob", Role::Owner).await;
    app.bearer(
        "key",
        &issue(&app, "ada", &path, json!({ "scopes": ["orgs:*", "users:*", "keys:*"] })).await.1,
    );
    assert_eq!(column(&app.get("key", "/v1/orgs").await["body"], "slug"), ["acme"]);
    for path in ["", "/users", "/api-keys", "/invites"] {
        assert_eq!(brief(&app.get("key", &format!("/v1/orgs/acme{path}")).await), "200", "{path}");
        let answer = app.get("key", &format!("/v1/orgs/other{path}")).await;
        assert_eq!(brief(&answer), "404 NOT_FOUND", "its person is there too, but it is not: {path}");
    }
}

#[actix_web::test]
async fn a_key_does_only_what_its_scopes_name() {
    let app = TestApp::new().await;
    app.org("ada", "acme").await;
    let path = keys_of_ada(&app).await;
    app.bearer("key", &issue(&app, "ada", &path, json!({ "scopes": ["users:read"] })).await.1);
    assert_eq!(brief(&app.get("key", "/v1/orgs/acme/users").await), "200");
    let denied = told(&app, app.delete("key", "/v1/orgs/acme")).await;
    assert_json_snapshot!("scope_exceeded", denied);
}

#[actix_web::test]
async fn a_key_that_is_no_good_opens_nothing_and_its_use_is_on_the_orgs_chain() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Owner).await;
    let user = path.replace("/api-keys", "");
    let bearers = ["revoked", "expired", "bound", "held"];
    for name in bearers {
        let body = match name {
            "expired" => json!({ "expiresInDays": 1 }),
            "bound" => json!({ "allowedCidrs": ["10.0.0.0/8"] }),
            _ => Value::Null,
        };
        let (id, secret) = issue(&app, "ada", &path, body).await;
        app.bearer(name, &secret);
        if name == "revoked" {
            app.delete("ada", &key(&id)).await;
        }
    }
    app.tick(DAY).await;
    let get = |name| app.get(name, "/v1/orgs/acme");
    assert_eq!(brief(&get("expired").await), "401 KEY_EXPIRED");
    assert_eq!(brief(&get("bound").await), "401 CLIENT_ADDRESS_NOT_ALLOWED");
    assert_json_snapshot!("dead", told(&app, get("revoked")).await);
    app.post("ada", &format!("{user}/suspend"), Value::Null).await;
    assert_eq!(brief(&get("held").await), "401 PRINCIPAL_INACTIVE");
    app.post("ada", &format!("{user}/restore"), Value::Null).await;
    app.post("ada", "/v1/orgs/acme/suspend", json!({ "reason": "unpaid" })).await;
    assert_eq!(brief(&get("held").await), "401 ORG_NOT_ACTIVE");
    app.bearer("unknown", &format!("idk_{}", "0".repeat(65)));
    assert_eq!(brief(&get("unknown").await), "401 TOKEN_INVALID", "what has not our form is no key");
}

// Who may --------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn what_is_not_there_and_what_is_anothers_look_alike() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Member).await;
    let other = app.org("eve", "other").await;
    let mallory = app.member(other, "mallory", Role::Member).await;
    let theirs = format!("/v1/orgs/other/users/{mallory}/api-keys");
    let (theirs, _) = issue(&app, "eve", &theirs, Value::Null).await;
    let (ours, _) = issue(&app, "ada", &path, Value::Null).await;
    for (caller, place, id) in [
        ("mallory", "acme", ours.as_str()),
        ("ada", "acme", &theirs),
        ("ada", "acme", NOBODY),
        ("ada", "acme", "key"),
        ("ada", "other", &theirs),
        ("ada", "other", &ours),
        ("ada", "none", &ours),
        ("ada", NOBODY, &ours),
    ] {
        for (method, path, body) in [
            (Method::GET, "", Value::Null),
            (Method::PATCH, "", json!({ "display_name": "x" })),
            (Method::DELETE, "", Value::Null),
            (Method::POST, "/rotate", Value::Null),
            (Method::POST, "/revoke", Value::Null),
        ] {
            let path = format!("/v1/orgs/{place}/api-keys/{id}{path}");
            assert_eq!(
                ask(&app, caller, &method, &path, &body).await,
                "404 NOT_FOUND",
                "{caller} {method} {path}"
            );
        }
    }
    for (caller, place) in [("mallory", "acme"), ("ada", "other"), ("ada", "none")] {
        assert_eq!(brief(&app.get(caller, &format!("/v1/orgs/{place}/api-keys")).await), "404 NOT_FOUND");
    }
    assert_eq!(
        app.get("eve", &format!("/v1/orgs/other/api-keys/{theirs}")).await["body"]["status"],
        "active"
    );
}

#[actix_web::test]
async fn whoever_may_not_is_told_so() {
    let app = TestApp::new().await;
    let (org, path) = acme_with_bob(&app, Role::Member).await;
    app.member(org, "vic", Role::Viewer).await;
    let machine = keys_of_machine(&app).await;
    let (id, _) = issue(&app, "ada", &path, Value::Null).await;
    assert_eq!(brief(&app.get("vic", &key(&id)).await), "200");
    for (method, path, body) in [
        (Method::PATCH, key(&id), json!({ "display_name": "x" })),
        (Method::DELETE, key(&id), Value::Null),
        (Method::POST, format!("{}/rotate", key(&id)), Value::Null),
        (Method::POST, format!("{}/revoke", key(&id)), Value::Null),
        (Method::POST, path, Value::Null),
        (Method::POST, machine, Value::Null),
    ] {
        let answer = ask(&app, "vic", &method, &path, &body).await;
        assert_eq!(answer, "403 NO_MATCHING_PERMIT", "{method} {path}");
    }
}

#[actix_web::test]
async fn a_process_that_is_behind_sees_a_revocation_once_it_has_caught_up() {
    let app = TestApp::new().await;
    let (_, path) = acme_with_bob(&app, Role::Owner).await;
    let (id, secret) = issue(&app, "ada", &path, json!({ "scopes": ["orgs:*"] })).await;
    let behind = app.replica(&[]).await;
    app.delete("ada", &key(&id)).await;
    let patch = || {
        let request = TestRequest::patch().uri("/v1/orgs/acme").insert_header(("x-api-key", secret.clone()));
        request.set_json(json!({ "displayName": "x" }))
    };
    let written = app::send(&behind, patch(), Listener::Http).await;
    behind.work.catch_up().await.unwrap();
    assert_eq!(brief(&app::send(&behind, patch(), Listener::Http).await), "401 KEY_REVOKED");
    assert_ne!(written["status"], 200, "a write does not rest on a key that is revoked: {written}");
}
