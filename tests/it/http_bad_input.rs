//! Bad input: each kind is refused by what is wrong with it, and leaves nothing behind.
use crate::{
    app::TestApp,
    http_support::{Answer, acme, ask, ask_all, bearing, post_from, request, text},
};
use actix_web::http::Method;
use identityd::app::Listener;
use serde_json::{Value, json};
use uuid::Uuid;

pub const JSON: &str = "application/json";

/// Everything that a request could have changed.
pub async fn everything(app: &TestApp) -> Value {
    app.rows(
        "SELECT 'org' AS what, to_jsonb(t) AS row FROM orgs t UNION ALL
         SELECT 'membership', to_jsonb(t) FROM memberships t UNION ALL
         SELECT 'invite', to_jsonb(t) FROM invite_tokens t UNION ALL
         SELECT 'role', to_jsonb(t) FROM role_bindings t UNION ALL
         SELECT 'identity', to_jsonb(t) FROM identities t UNION ALL
         SELECT 'password', to_jsonb(t) FROM passwords t UNION ALL
         SELECT 'session', to_jsonb(t) FROM sessions t UNION ALL
         SELECT 'refresh', to_jsonb(t) FROM refresh_tokens t UNION ALL
         SELECT 'account', to_jsonb(t) FROM service_accounts t UNION ALL
         SELECT 'key', to_jsonb(t) FROM api_keys t UNION ALL
         SELECT 'job', to_jsonb(t) FROM jobs t UNION ALL
         SELECT 'idempotency', to_jsonb(t) FROM idempotency_keys t
         ORDER BY 1, 2",
    )
    .await
}

/// Every POST, PUT and PATCH that takes a body, each on something that is there, and whether it can do without one.
async fn doors(app: &TestApp) -> Vec<(Method, String, bool)> {
    let ada = app.person("ada").await;
    let account = app.post("owner", "/v1/orgs/acme/service-accounts", json!({ "name": "router" })).await;
    let account = text(&account, "serviceAccountId");
    let key =
        app.post("owner", &format!("/v1/orgs/acme/service-accounts/{account}/api-keys"), json!({})).await;
    let key = text(&key, "apiKeyId");
    let (org, user) = ("/v1/orgs/acme", format!("/v1/orgs/acme/users/{ada}"));
    [
        (Method::POST, "/v1/auth/login".to_owned(), false),
        (Method::POST, "/v1/auth/refresh".into(), true),
        (Method::POST, "/v1/auth/logout".into(), true),
        (Method::POST, "/auth/token".into(), false),
        (Method::POST, "/v1/auth/validate-api-key".into(), false),
        (Method::POST, "/v1/invites/accept".into(), false),
        (Method::POST, "/v1/me/password".into(), false),
        (Method::POST, "/v1/orgs".into(), false),
        (Method::PATCH, org.into(), false),
        (Method::POST, format!("{org}/invites"), false),
        (Method::PATCH, user.clone(), false),
        (Method::PUT, format!("{user}/roles"), false),
        (Method::POST, format!("{user}/api-keys"), true),
        (Method::POST, format!("{org}/service-accounts"), false),
        (Method::PATCH, format!("{org}/service-accounts/{account}"), false),
        (Method::POST, format!("{org}/service-accounts/{account}/api-keys"), true),
        (Method::PATCH, format!("{org}/api-keys/{key}"), false),
        (Method::POST, format!("{org}/api-keys/{key}/rotate"), true),
        (Method::POST, format!("{org}/api-keys/{key}/revoke"), true),
        (Method::POST, "/organizations/me/api-keys".into(), false),
    ]
    .into()
}

/// What is wrong with it, its content type, its bytes, and what is answered.
pub type BadBody = (&'static str, &'static str, Vec<u8>, (u16, &'static str));

/// Bodies that no endpoint can take.
pub fn bad_bodies() -> Vec<BadBody> {
    let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth)).into_bytes();
    let malformed = (400, "MALFORMED_BODY");
    let invalid = (422, "INVALID_BODY");
    let unsupported = (415, "CONTENT_TYPE_UNSUPPORTED");
    vec![
        (
            "too large",
            JSON,
            format!("{{\"a\":\"{}\"}}", "x".repeat(256 * 1024)).into(),
            (413, "BODY_TOO_LARGE"),
        ),
        ("deep", JSON, deep(200), malformed),
        ("deeper than any stack", JSON, deep(100_000), malformed),
        (
            "deep objects",
            JSON,
            [r#"{"a":"#.repeat(20_000), "1".into(), "}".repeat(20_000)].concat().into(),
            malformed,
        ),
        ("cut off", JSON, b"{\"email\":\"a".to_vec(), malformed),
        ("not JSON", JSON, b"email=a&password=b".to_vec(), malformed),
        ("two documents", JSON, b"{} {}".to_vec(), malformed),
        ("a trailing comma", JSON, b"{\"a\":1,}".to_vec(), malformed),
        ("NaN", JSON, b"{\"a\":NaN}".to_vec(), malformed),
        ("a number past all bounds", JSON, b"{\"a\":1e999}".to_vec(), malformed),
        ("a lone surrogate", JSON, br#"{"a":"\ud800"}"#.to_vec(), malformed),
        ("a raw control character", JSON, b"{\"a\":\"\x01\"}".to_vec(), malformed),
        ("invalid UTF-8", JSON, b"{\"a\":\"\xff\xfe\"}".to_vec(), malformed),
        ("overlong UTF-8", JSON, b"{\"a\":\"\xc0\xaf\"}".to_vec(), malformed),
        ("UTF-16", JSON, b"\xff\xfe{\x00}\x00".to_vec(), malformed),
        ("blank", JSON, b"   ".to_vec(), malformed),
        ("an array", JSON, b"[{}]".to_vec(), invalid),
        ("a string", JSON, b"\"x\"".to_vec(), invalid),
        ("NUL in a member", JSON, br#"{"a":"x\u0000y"}"#.to_vec(), (422, "NUL_NOT_ALLOWED")),
        ("NUL in a name", JSON, br#"{"a\u0000":1}"#.to_vec(), (422, "NUL_NOT_ALLOWED")),
        ("NUL far below", JSON, br#"{"a":[{"b":["\u0000"]}]}"#.to_vec(), (422, "NUL_NOT_ALLOWED")),
        ("a form", "application/x-www-form-urlencoded", b"a=b".to_vec(), unsupported),
        ("text", "text/plain", b"{}".to_vec(), unsupported),
        ("parts", "multipart/form-data; boundary=x", b"--x--".to_vec(), unsupported),
        ("no type", "", b"{}".to_vec(), unsupported),
        ("nearly JSON", "application/jsonp", b"{}".to_vec(), unsupported),
    ]
}

#[actix_web::test]
async fn every_door_refuses_a_bad_body_and_nothing_is_changed_by_it() {
    let app = acme().await;
    let owner = app.token("owner").await;
    let (doors, bodies) = (doors(&app).await, bad_bodies());
    let before = everything(&app).await;
    let (mut requests, mut expected) = (vec![], vec![]);
    for (method, path, _) in &doors {
        for (what, kind, body, verdict) in &bodies {
            let mut bad = bearing(request(method.clone(), path), &owner).set_payload(body.clone());
            if !kind.is_empty() {
                bad = bad.insert_header(("content-type", *kind));
            }
            requests.push(bad);
            expected.push((method, path, what, verdict));
        }
    }
    let answers = ask_all(&app.app, Listener::Http, requests).await;
    for (answer, (method, path, what, verdict)) in answers.iter().zip(expected) {
        assert_eq!(
            answer.verdict(),
            (verdict.0, verdict.1.to_owned()),
            "{what}: {method} {path}: {answer:?}"
        );
    }
    assert_eq!(everything(&app).await, before);
}

/// An existing client always says JSON, also where it sends nothing.
#[actix_web::test]
async fn an_empty_body_is_one_left_out() {
    let app = acme().await;
    let owner = app.token("owner").await;
    for (method, path, optional) in doors(&app).await {
        let mut verdicts = vec![];
        for kind in [Some(JSON), None] {
            let empty = bearing(request(method.clone(), &path), &owner);
            let empty =
                kind.into_iter().fold(empty, |empty, kind| empty.insert_header(("content-type", kind)));
            verdicts.push(ask(&app.app, empty).await.verdict());
        }
        let null = bearing(request(method.clone(), &path), &owner).set_json(Value::Null);
        let null = ask(&app.app, null).await;
        let refused = null.verdict() == (422, "INVALID_BODY".to_owned());
        assert_eq!(refused, !optional, "null is left out too: {path}: {null:?}");
        let missing = (400, "BODY_MISSING".to_owned());
        assert_eq!(verdicts.iter().all(|verdict| *verdict == missing), !optional, "{path}: {verdicts:?}");
        assert!(
            verdicts.iter().all(|(status, _)| ![413, 415, 422, 500].contains(status)),
            "{path}: {verdicts:?}"
        );
    }
}

// Members -----------------------------------------------------------------------------------------------------------

/// A caller who may do everything, and what he sends.
async fn sent(app: &TestApp, method: Method, path: &str, body: Value) -> Answer {
    let owner = app.token("owner").await;
    ask(&app.app, bearing(request(method, path), &owner).set_json(body)).await
}

#[actix_web::test]
async fn a_member_of_the_wrong_type_is_named() {
    let app = acme().await;
    let ada = app.person("ada").await;
    let user = format!("/v1/orgs/acme/users/{ada}");
    let keys = format!("{user}/api-keys");
    let before = everything(&app).await;
    let mut told = vec![];
    for (method, path, body) in [
        (Method::POST, "/v1/auth/login", json!({ "email": 1, "password": "x" })),
        (Method::POST, "/v1/auth/login", json!({ "email": "a", "password": ["x"] })),
        (Method::POST, "/v1/auth/login", json!({ "email": "a" })),
        (Method::POST, "/v1/auth/login", json!({ "email": null, "password": null })),
        (Method::POST, "/v1/auth/refresh", json!({ "refresh_token": {} })),
        (Method::POST, "/v1/auth/logout", json!({ "token": 1 })),
        (Method::POST, "/auth/token", json!({ "grant_type": 1 })),
        (Method::POST, "/v1/orgs", json!({ "name": true, "slug": "x" })),
        (Method::POST, "/v1/orgs", json!({ "name": "X", "slug": "x", "metadata": "m" })),
        (Method::POST, "/v1/orgs", json!({ "name": "X", "slug": "x", "declarative": { "enabled": "yes" } })),
        (Method::PATCH, "/v1/orgs/acme", json!({ "displayName": [] })),
        (Method::PATCH, "/v1/orgs/acme", json!({ "status": "no-such-status" })),
        (Method::POST, "/v1/orgs/acme/invites", json!({ "email": "x@example.io", "roles": "owner" })),
        (Method::POST, "/v1/orgs/acme/invites", json!({ "email": "x@example.io", "roles": ["no-such"] })),
        (Method::POST, "/v1/orgs/acme/invites", json!({ "email": "x@example.io", "expiresInHours": "1" })),
        (Method::PATCH, user.as_str(), json!({ "status": 1 })),
        (Method::PATCH, user.as_str(), json!({ "metadata": [] })),
        (Method::POST, keys.as_str(), json!({ "expiresInDays": 1.5 })),
        (Method::POST, keys.as_str(), json!({ "scopes": [1] })),
        (Method::POST, keys.as_str(), json!({ "allowedCidrs": ["not a network"] })),
        (Method::POST, "/v1/auth/validate-api-key", json!({ "apiKeySecret": [] })),
    ] {
        let answer = sent(&app, method, path, body.clone()).await;
        assert_eq!(answer.status, 422, "{path} {body}: {answer:?}");
        let path = path.replace(&ada.to_string(), "{ada}");
        told.push(format!("{path} {body}: {} {}", answer.code(), answer.json()["errors"][0]["field"]));
    }
    insta::assert_json_snapshot!(told);
    assert_eq!(everything(&app).await, before);
}

#[actix_web::test]
async fn a_number_past_its_bounds_is_refused() {
    let app = acme().await;
    let keys = format!("/v1/orgs/acme/users/{}/api-keys", app.person("ada").await);
    let before = everything(&app).await;
    for number in
        ["0", "-1", "1e18", "-1e18", "9223372036854775807", "9223372036854775808", "1e308", "99999999999"]
    {
        for (path, body) in [
            (keys.as_str(), format!("{{\"expiresInDays\":{number}}}")),
            ("/v1/orgs/acme/invites", format!("{{\"email\":\"x@example.io\",\"expiresInHours\":{number}}}")),
        ] {
            let owner = app.token("owner").await;
            let numbers = bearing(request(Method::POST, path), &owner).insert_header(("content-type", JSON));
            let answer = ask(&app.app, numbers.set_payload(body.clone())).await;
            assert_eq!(answer.status, 422, "{body}: {answer:?}");
        }
    }
    assert_eq!(everything(&app).await, before);
}

#[actix_web::test]
async fn a_text_past_its_bounds_is_refused() {
    let app = acme().await;
    let ada = app.person("ada").await;
    let long = "x".repeat(10_000);
    let before = everything(&app).await;
    let user = format!("/v1/orgs/acme/users/{ada}");
    for (method, path, body, field) in [
        (Method::POST, "/v1/orgs", json!({ "name": long, "slug": "x" }), "name"),
        (Method::POST, "/v1/orgs", json!({ "name": "X", "slug": long }), "slug"),
        (Method::POST, "/v1/orgs", json!({ "name": "", "slug": "x" }), "name"),
        (Method::POST, "/v1/orgs", json!({ "name": "a\nb", "slug": "x" }), "name"),
        (
            Method::POST,
            "/v1/orgs",
            json!({ "name": "X", "slug": "x", "billingOwnerEmail": long }),
            "billingOwnerEmail",
        ),
        (
            Method::POST,
            "/v1/orgs",
            json!({ "name": "X", "slug": "x", "metadata": { "a": "x".repeat(20_000) } }),
            "metadata",
        ),
        (Method::PATCH, "/v1/orgs/acme", json!({ "name": long }), "displayName"),
        (Method::POST, "/v1/orgs/acme/invites", json!({ "email": format!("{long}@example.io") }), "email"),
        (Method::PATCH, user.as_str(), json!({ "displayName": long }), "displayName"),
        (Method::POST, &format!("{user}/suspend"), json!({ "reason": long }), "reason"),
        (Method::PUT, &format!("{user}/roles"), json!({ "roles": [long] }), "roles"),
        (Method::POST, "/v1/orgs/acme/service-accounts", json!({ "name": long }), "name"),
        (Method::POST, &format!("{user}/api-keys"), json!({ "display_name": long }), "display_name"),
        (Method::POST, &format!("{user}/api-keys"), json!({ "scopes": [long] }), "scopes"),
    ] {
        let answer = sent(&app, method, path, body).await;
        assert_eq!(answer.status, 422, "{path} {field}: {answer:?}");
        assert_eq!(answer.json()["errors"][0]["field"], field, "{path}: {answer:?}");
        assert!(answer.text.len() < 2000, "it does not come back: {path} {field}");
    }
    assert_eq!(everything(&app).await, before);
}

/// Text is text: kept as it was sent, found by what it is, and never a part of a statement.
#[actix_web::test]
async fn sql_in_a_text_is_text() {
    let app = acme().await;
    let orgs = app.rows("SELECT count(*) FROM orgs").await;
    for (slug, hostile) in [
        ("a", "'; DROP TABLE orgs; --"),
        ("b", "' OR '1'='1"),
        ("c", "\" UNION SELECT phc FROM passwords --"),
        ("d", "\\'; SELECT pg_sleep(10); --"),
        ("e", "%' AND 1=(SELECT 1) AND '%'='"),
        ("f", "$1 $$ {} %s :name ?"),
    ] {
        let made = sent(&app, Method::POST, "/v1/orgs", json!({ "name": hostile, "slug": slug })).await;
        assert_eq!((made.status, &made.json()["name"]), (201, &json!(hostile)));
        let query = url::form_urlencoded::Serializer::new(String::new()).append_pair("q", hostile).finish();
        let found = app.get("owner", &format!("/v1/orgs?{query}")).await;
        assert_eq!(found["body"].as_array().unwrap().len(), 1, "{hostile}: {found}");
        assert_eq!(found["body"][0]["slug"], slug);
        let login = json!({ "email": hostile, "password": hostile, "org_id": hostile });
        assert_eq!(ask(&app.app, post_from("127.0.0.1", "/v1/auth/login", &login)).await.status, 401);
        let path =
            url::form_urlencoded::byte_serialize(hostile.as_bytes()).collect::<String>().replace('+', "%20");
        assert_eq!(app.get("owner", &format!("/v1/orgs/{path}")).await["status"], 404, "{hostile}");
    }
    assert_ne!(app.rows("SELECT count(*) FROM orgs").await, orgs, "all of them are there");
    // What matches anything in LIKE matches itself here.
    for wildcard in ["%25", "_", "%5C"] {
        let found = app.get("owner", &format!("/v1/orgs?q={wildcard}")).await;
        assert!(found["body"].as_array().unwrap().len() < 6, "{wildcard}: {found}");
    }
}

#[actix_web::test]
async fn unknown_members_are_ignored_and_of_doubles_the_last_counts() {
    let app = acme().await;
    let body =
        json!({ "name": "Beta", "slug": "beta", "status": "suspended", "orgId": Uuid::nil(), "admin": true });
    let made = sent(&app, Method::POST, "/v1/orgs", body).await;
    assert_eq!((made.status, &made.json()["status"]), (201, &json!("active")), "{made:?}");
    assert_ne!(made.json()["orgId"], json!(Uuid::nil()));
    let owner = app.token("owner").await;
    let doubled = r#"{"name":"First","slug":"first","name":"Last","slug":"last"}"#;
    let doubled = bearing(request(Method::POST, "/v1/orgs"), &owner)
        .insert_header(("content-type", "application/json; charset=utf-8"))
        .set_payload(doubled);
    let answer = ask(&app.app, doubled).await.json();
    assert_eq!((&answer["name"], &answer["slug"]), (&json!("Last"), &json!("last")));
}

// Paths, queries, headers -------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_bad_path_names_nothing_and_a_bad_query_says_so() {
    let app = acme().await;
    let owner = app.token("owner").await;
    let unknown = "01900000-0000-7000-8000-000000000000";
    let long = "x".repeat(8_000);
    let mut table = vec![];
    for path in [
        "/v1/orgs/%00",
        "/v1/orgs/acme%00",
        "/v1/orgs?q=a%00b",
        "/v1/orgs/acme/users?email=%00",
        "/v1/orgs/%ff%fe",
        "/v1/orgs/%2e%2e%2fetc",
        "/v1/orgs/..%2f..%2fetc%2fpasswd",
        "/v1/orgs/../acme",
        "/v1/orgs/acme%2fusers",
        "/v1/orgs/%zz",
        "/v1/orgs/acme/users/not-a-uuid",
        "/v1/orgs/acme/users/01900000-0000-7000-8000-00000000000",
        &format!("/v1/orgs/acme/users/{unknown}"),
        &format!("/v1/orgs/{unknown}"),
        &format!("/v1/orgs/{long}"),
        &format!("/v1/orgs?q={long}"),
        "/v1/orgs?limit=0",
        "/v1/orgs?limit=-1",
        "/v1/orgs?limit=1001",
        "/v1/orgs?limit=99999999999999999999",
        "/v1/orgs?limit=1e3",
        "/v1/orgs?limit=",
        "/v1/orgs?limit=1&limit=2",
        "/v1/orgs?cursor=garbage",
        "/v1/orgs?cursor=%27%20OR%201=1",
        "/v1/orgs?cursor=AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
        "/v1/orgs?cursor=",
        "/v1/orgs?status=no-such-status",
        "/v1/orgs?status=",
        "/v1/orgs?no-such-parameter=1",
        "/v1/orgs?q=%ff",
        "/v1/orgs?&&&=&",
        "/v1/orgs/acme/users?status=no-such-status",
        "/v1/orgs/acme/users?email=not-an-address",
        "/v1/orgs/acme/api-keys?limit=x",
        "/v1/orgs/acme/service-accounts?cursor=x",
        "/v1/auth/sessions?limit=x",
        "/v1/auth/sessions?cursor=x",
        "/v1/audit/events?org=acme&from=yesterday",
        "/v1/audit/events?org=no-such-org",
    ] {
        let answer = ask(&app.app, bearing(request(Method::GET, path), &owner)).await;
        let shown =
            if path.len() > 100 { format!("{}… ({})", &path[..20], path.len()) } else { path.into() };
        assert!(answer.status < 500, "{shown}: {answer:?}");
        table.push(format!("{shown}: {} {}", answer.status, answer.code()));
    }
    insta::assert_json_snapshot!(table);
}

#[actix_web::test]
async fn a_condition_that_is_no_tag_is_refused_and_one_of_another_version_matches_nothing() {
    let app = acme().await;
    let owner = app.token("owner").await;
    for (tag, expected) in [
        ("\"99\"", 412),
        ("W/\"1\"", 412),
        ("1", 400),
        ("garbage", 400),
        ("", 400),
        ("\"1", 400),
        ("\"9999999999999999999999\"", 412),
        ("\"-1\"", 412),
        ("\"2\", \"3\"", 412),
        ("\"2\", \"1\"", 200),
        ("*", 200),
    ] {
        let change =
            bearing(request(Method::PATCH, "/v1/orgs/acme"), &owner).insert_header(("if-match", tag));
        let answer = ask(&app.app, change.set_json(json!({ "metadata": { "a": 1 } }))).await;
        assert_eq!(answer.status, expected, "{tag:?}: {answer:?}");
        match expected {
            412 => assert_eq!(answer.code(), "VERSION_MISMATCH"),
            400 => assert_eq!(answer.code(), "IF_MATCH_MALFORMED"),
            _ => (),
        }
    }
    assert_eq!(app.get("owner", "/v1/orgs/acme").await["headers"]["etag"], "\"3\"", "two changes");
}
