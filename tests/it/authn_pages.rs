//! The pages: they work as plain forms, run no script of anybody else's, and take no form from elsewhere.
use crate::{
    app::{PASSWORD, TestApp},
    http_support::{Answer, acme, ask, ask_all, bearing, request, told, told_since},
};
use actix_web::{
    http::Method,
    test::{TestRequest, init_service, try_call_service},
};
use identityd::app::{self, Listener, Shared};
use serde_json::{Value, json};
use std::time::Duration;

const FORM: &str = "application/x-www-form-urlencoded";
const COOKIE: &str = "__Host-idd_session";
const ISSUER: &str = "http://127.0.0.1:8080";

fn form(path: &str, members: &[(&str, &str)]) -> TestRequest {
    request(Method::POST, path).set_form(members)
}

fn credentials(password: &str) -> [(&'static str, &str); 2] {
    [("email", "ada@example.io"), ("password", password)]
}

/// Signs Ada in by the form; her cookie as `name=value`.
async fn entered(app: &TestApp) -> String {
    let answer = ask(&app.app, form("/sign-in", &credentials(PASSWORD))).await;
    assert_eq!((answer.status, answer.header("location").as_deref()), (303, Some("/")), "{answer:?}");
    answer.header("set-cookie").unwrap().split(';').next().unwrap().to_owned()
}

async fn home(app: &TestApp, cookie: &str) -> Answer {
    ask(&app.app, request(Method::GET, "/").insert_header(("cookie", cookie))).await
}

fn token_of(cookie: &str) -> &str {
    cookie.split_once('=').unwrap().1
}

// As forms ----------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_person_signs_in_and_out_with_nothing_but_forms() {
    let app = acme().await;
    let stranger = ask(&app.app, request(Method::GET, "/")).await;
    assert_eq!((stranger.status, stranger.header("location").as_deref()), (303, Some("/sign-in")));
    insta::assert_snapshot!(ask(&app.app, request(Method::GET, "/sign-in")).await.text);

    let before = told(&app).await;
    let cookie = entered(&app).await;
    insta::assert_json_snapshot!(told_since(&app, before).await);
    let page = home(&app, &cookie).await;
    assert_eq!(page.status, 200);
    insta::assert_snapshot!(page.text);

    let out = ask(&app.app, form("/sign-out", &[]).insert_header(("cookie", cookie.as_str()))).await;
    assert_eq!((out.status, out.header("location").as_deref()), (303, Some("/")));
    insta::assert_snapshot!(out.header("set-cookie").unwrap());
    assert_eq!(home(&app, &cookie).await.status, 303, "the session is over, whoever kept the cookie");
    let reason = app.rows("SELECT revoked_reason FROM sessions").await;
    assert_eq!(reason, json!([{ "revoked_reason": "logout" }]));
}

#[actix_web::test]
async fn the_cookie_is_bound_to_this_host_and_out_of_scripts_reach() {
    let app = acme().await;
    let answer = ask(&app.app, form("/sign-in", &credentials(PASSWORD))).await;
    let set = answer.header("set-cookie").unwrap();
    let mut parts = set.split("; ");
    let (name, token) = parts.next().unwrap().split_once('=').unwrap();
    assert_eq!((name, &token[..4], token.len()), (COOKIE, "idc_", 69));
    let mut attributes: Vec<&str> = parts.collect();
    attributes.sort_unstable();
    assert_eq!(attributes, ["HttpOnly", "Path=/", "SameSite=Lax", "Secure"]);
    assert!(!answer.text.contains(token));
    let stored = app.rows("SELECT * FROM sessions").await.to_string();
    assert!(!stored.contains(token), "only its HMAC is kept");
    assert_ne!(entered(&app).await, format!("{COOKIE}={token}"), "each sign-in has its own");
}

#[actix_web::test]
async fn every_page_says_what_it_may_load_and_brings_no_inline_code() {
    let app = acme().await;
    let cookie = entered(&app).await;
    let signed_in = request(Method::GET, "/").insert_header(("cookie", cookie.as_str()));
    let requests = [
        request(Method::GET, "/sign-in"),
        form("/sign-in", &credentials("wrong")),
        signed_in,
        request(Method::GET, "/invite"),
        form("/invite", &[("token", "x"), ("password", "x"), ("name", "x")]),
    ];
    let answers = ask_all(&app.app, Listener::Http, requests).await;
    for answer in &answers {
        assert_eq!(answer.header("content-type").as_deref(), Some("text/html; charset=utf-8"));
        let policy = answer.header("content-security-policy").unwrap();
        for rule in
            ["default-src 'none'", "script-src 'self'", "form-action 'self'", "frame-ancestors 'none'"]
        {
            assert!(policy.split(';').any(|own| own.trim() == rule), "{rule}: {policy}");
        }
        assert!(!policy.contains("unsafe") && !policy.contains('*'), "{policy}");
        assert_eq!(answer.header("x-frame-options").as_deref(), Some("DENY"));
        assert_eq!(answer.header("referrer-policy").as_deref(), Some("no-referrer"));
        assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
        for inline in [
            "<script>",
            "<style",
            " style=",
            "javascript:",
            " onclick",
            " onload",
            " onsubmit",
            "http://",
            "https://",
        ] {
            assert!(!answer.text.contains(inline), "{inline}\n{}", answer.text);
        }
        for (at, _) in answer.text.match_indices("<form") {
            assert!(answer.text[at..].starts_with("<form method=\"post\" action=\"/"), "{}", answer.text);
        }
    }
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, [200, 401, 200, 200, 404]);
    for (path, kind) in [("/assets/page.css", "text/css"), ("/assets/invite.js", "text/javascript")] {
        let asset = ask(&app.app, request(Method::GET, path)).await;
        assert_eq!(
            (asset.status, asset.header("content-type")),
            (200, Some(format!("{kind}; charset=utf-8")))
        );
        assert_eq!(asset.header("cache-control").as_deref(), Some("public, max-age=3600"));
    }
}

#[actix_web::test]
async fn the_form_says_what_is_wrong_and_keeps_the_address() {
    let app = acme().await;
    let wrong = ask(&app.app, form("/sign-in", &credentials("wrong"))).await;
    assert_eq!((wrong.status, wrong.header("set-cookie")), (401, None));
    insta::assert_snapshot!(wrong.text);
    for members in [vec![], vec![("email", "ada@example.io")], vec![("password", PASSWORD)]] {
        let answer = ask(&app.app, form("/sign-in", &members)).await;
        assert_eq!((answer.status, answer.header("set-cookie")), (401, None), "{members:?}");
    }
    for _ in 0..4 {
        ask(&app.app, form("/sign-in", &credentials("wrong"))).await;
    }
    let waits = ask(&app.app, form("/sign-in", &credentials(PASSWORD))).await;
    assert_eq!((waits.status, waits.header("retry-after").as_deref()), (429, Some("1")));
    assert!(waits.text.contains("try again in 1 seconds"), "{}", waits.text);
    let busy = app.replica(&["authentication.password.queue_max=0"]).await;
    app.tick(Duration::from_secs(1)).await;
    let crowded = ask(&busy, form("/sign-in", &credentials(PASSWORD))).await;
    assert_eq!((crowded.status, crowded.header("retry-after").as_deref()), (503, Some("1")));
    assert!(crowded.text.contains("too many sign-ins at once"), "{}", crowded.text);
}

#[actix_web::test]
async fn an_invited_person_gets_in_with_nothing_but_a_form() {
    let app = acme().await;
    app.post("owner", "/v1/orgs/acme/invites", json!({ "email": "bob@example.io" })).await;
    let token = app.invite_token().await;
    insta::assert_snapshot!(ask(&app.app, request(Method::GET, "/invite")).await.text);
    let with =
        |password: &str| form("/invite", &[("token", &token), ("name", "Bob"), ("password", password)]);
    let short = ask(&app.app, with("short")).await;
    assert_eq!(short.status, 422);
    assert!(short.text.contains("at least 15 characters") && short.text.contains(&token), "{}", short.text);
    assert!(!short.text.contains("short\""), "the password does not come back");
    let welcome = ask(&app.app, with(PASSWORD)).await;
    assert_eq!(welcome.status, 200);
    insta::assert_snapshot!(welcome.text);
    let body = [("email", "bob@example.io"), ("password", PASSWORD)];
    assert_eq!(ask(&app.app, form("/sign-in", &body)).await.status, 303);
}

// From here only ----------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_form_from_elsewhere_is_refused_before_anything_happens() {
    let app = acme().await;
    app.post("owner", "/v1/orgs/acme/invites", json!({ "email": "bob@example.io" })).await;
    let token = app.invite_token().await;
    let cookie = entered(&app).await;
    let before = told(&app).await;
    let forms: [(&str, &[(&str, &str)]); 3] = [
        ("/sign-in", &credentials(PASSWORD)),
        ("/sign-out", &[]),
        ("/invite", &[("token", &token), ("password", PASSWORD)]),
    ];
    for (path, members) in forms {
        for (site, origin) in [
            (Some("cross-site"), Some(ISSUER)),
            (Some("same-site"), None),
            (Some("garbage"), None),
            (None, Some("https://evil.example")),
            (None, Some("null")),
            (None, Some("http://127.0.0.1:8081")),
        ] {
            let mut request = form(path, members).insert_header(("cookie", cookie.as_str()));
            for (name, value) in [("sec-fetch-site", site), ("origin", origin)] {
                request =
                    value.into_iter().fold(request, |request, value| request.insert_header((name, value)));
            }
            let answer = ask(&app.app, request).await;
            assert_eq!(answer.verdict(), (403, "CROSS_ORIGIN_FORM".into()), "{path} {site:?} {origin:?}");
            assert_eq!(answer.header("set-cookie"), None);
        }
    }
    assert_eq!(told(&app).await, before);
    assert_eq!(home(&app, &cookie).await.status, 200, "nobody was signed out");
    for (name, value) in [("sec-fetch-site", "same-origin"), ("sec-fetch-site", "none"), ("origin", ISSUER)] {
        let own = form("/sign-in", &credentials(PASSWORD)).insert_header((name, value));
        assert_eq!(ask(&app.app, own).await.status, 303, "{name}: {value}");
    }
}

/// Mail scanners and prefetching browsers open links.
#[actix_web::test]
async fn opening_a_page_changes_nothing() {
    let app = acme().await;
    app.post("owner", "/v1/orgs/acme/invites", json!({ "email": "bob@example.io" })).await;
    let token = app.invite_token().await;
    let cookie = entered(&app).await;
    let (before, rows) = (told(&app).await, "SELECT status, version FROM memberships ORDER BY user_id");
    let memberships = app.rows(rows).await;
    let requests = [
        format!("/invite?token={token}"),
        format!("/invite?token={token}&password={PASSWORD}").replace(' ', "%20"),
        format!("/sign-in?email=ada@example.io&password={PASSWORD}").replace(' ', "%20"),
        "/".into(),
    ]
    .map(|path| request(Method::GET, &path).insert_header(("cookie", cookie.as_str())));
    for answer in ask_all(&app.app, Listener::Http, requests).await {
        assert_eq!((answer.status, answer.header("set-cookie")), (200, None));
        assert!(!answer.text.contains(&token) && !answer.text.contains(PASSWORD), "{}", answer.text);
    }
    let out =
        ask(&app.app, request(Method::GET, "/sign-out").insert_header(("cookie", cookie.as_str()))).await;
    assert_eq!((out.status, out.header("allow").as_deref()), (405, Some("POST")));
    assert_eq!((told(&app).await, app.rows(rows).await), (before, memberships));
    assert_eq!(home(&app, &cookie).await.status, 200);
}

#[actix_web::test]
async fn the_cookie_opens_pages_and_not_the_api() {
    let app = acme().await;
    let cookie = entered(&app).await;
    let with_cookie =
        |method: Method, path: &str| request(method, path).insert_header(("cookie", cookie.as_str()));
    let answer = ask(&app.app, with_cookie(Method::GET, "/v1/me")).await;
    assert_eq!(answer.verdict(), (401, "UNAUTHENTICATED".into()));
    let write = with_cookie(Method::POST, "/v1/orgs").set_json(json!({ "name": "X", "slug": "x" }));
    assert_eq!(ask(&app.app, write).await.status, 401);
    let bearer = ask(&app.app, bearing(request(Method::GET, "/v1/me"), token_of(&cookie))).await;
    assert_eq!(bearer.status, 401, "nor as a bearer");
    let body = json!({ "refresh_token": token_of(&cookie) });
    let refresh = app.call(Method::POST, None, "/v1/auth/refresh", body).await;
    assert_eq!(refresh["status"], 401, "nor for tokens");
    let key = request(Method::GET, "/v1/me").insert_header(("x-api-key", token_of(&cookie)));
    assert_eq!(ask(&app.app, key).await.status, 401);
}

#[actix_web::test]
async fn a_cookie_that_is_not_ours_or_over_shows_the_sign_in() {
    let app = acme().await;
    let cookie = entered(&app).await;
    let login = app.sign_in("ada").await;
    for other in [
        format!("{COOKIE}="),
        format!("{COOKIE}=garbage"),
        format!("{COOKIE}={}", &token_of(&cookie)[..68]),
        format!("{COOKIE}={}", login["body"]["refresh_token"].as_str().unwrap()),
        format!("{COOKIE}={}", login["body"]["access_token"].as_str().unwrap()),
        format!("other={}", token_of(&cookie)),
    ] {
        assert_eq!(home(&app, &other).await.status, 303, "{other}");
    }
    assert_eq!(home(&app, &format!("a=b; {cookie}; c=d")).await.status, 200);
    app.tick(Duration::from_hours(168)).await;
    assert_eq!(home(&app, &cookie).await.status, 303, "over");
    let out = ask(&app.app, form("/sign-out", &[]).insert_header(("cookie", cookie.as_str()))).await;
    assert_eq!(out.status, 303);
}

#[actix_web::test]
async fn a_page_session_is_one_of_the_persons_sessions() {
    let app = acme().await;
    let cookie = entered(&app).await;
    app.bearer("ada", app.sign_in("ada").await["body"]["access_token"].as_str().unwrap());
    let sessions = app.get("ada", "/v1/auth/sessions").await;
    let page = sessions["body"].as_array().unwrap().iter().find(|one| one["clientId"] == "identityd-pages");
    let path = format!("/v1/auth/sessions/{}", page.unwrap()["sessionId"].as_str().unwrap());
    assert_eq!(app.delete("ada", &path).await["status"], 204);
    assert_eq!(home(&app, &cookie).await.status, 303);
}

// Hostile text ------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_hostile_name_is_text() {
    const HOSTILE: &str = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&amp;";
    let app = acme().await;
    app.post("owner", "/v1/orgs/acme/invites", json!({ "email": "eve@example.io" })).await;
    let token = app.invite_token().await;
    let body = json!({ "token": token, "password": PASSWORD, "displayName": HOSTILE });
    assert_eq!(app.call(Method::POST, None, "/v1/invites/accept", body).await["status"], 200);
    let entered =
        ask(&app.app, form("/sign-in", &[("email", "eve@example.io"), ("password", PASSWORD)])).await;
    let cookie = entered.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let hostile = [("email", HOSTILE), ("password", "x"), ("token", HOSTILE), ("name", HOSTILE)];
    let pages = [
        home(&app, &cookie).await,
        ask(&app.app, form("/sign-in", &hostile)).await,
        ask(&app.app, form("/invite", &hostile)).await,
    ];
    for page in pages {
        assert!(!page.text.contains("<script>") && !page.text.contains("<img"), "{}", page.text);
        assert!(!page.text.contains("\"'>"), "it cannot leave its attribute\n{}", page.text);
        assert!(page.text.contains("alert(1)"), "it is shown all the same\n{}", page.text);
    }
}

#[actix_web::test]
async fn a_form_that_is_none_is_refused_by_what_is_wrong_with_it() {
    let app = acme().await;
    let raw = |kind: &str, body: Vec<u8>| {
        let request = request(Method::POST, "/sign-in").insert_header(("content-type", kind));
        request.set_payload(body)
    };
    for (request, expected) in [
        (raw("application/json", b"{}".to_vec()), (415, "CONTENT_TYPE_UNSUPPORTED")),
        (raw("text/plain", b"email=a".to_vec()), (415, "CONTENT_TYPE_UNSUPPORTED")),
        (raw(FORM, format!("email={}", "x".repeat(300_000)).into_bytes()), (413, "BODY_TOO_LARGE")),
        (raw(FORM, b"email=a&email=b".to_vec()), (400, "MALFORMED_FORM")),
        (raw(FORM, b"email=a%00b&password=x".to_vec()), (401, "")),
        (raw(FORM, b"email=%ff&password=%ff".to_vec()), (401, "")),
        (raw(FORM, b"&&&===".to_vec()), (401, "")),
    ] {
        let answer = ask(&app.app, request).await;
        assert_eq!(answer.verdict(), (expected.0, expected.1.into()), "{answer:?}");
    }
}

#[actix_web::test]
async fn pages_are_on_the_public_listener_only() {
    let app = acme().await;
    for listener in [Listener::Internal, Listener::Ops] {
        let shared = Shared::of(&app.app, listener).unwrap();
        let service = init_service(app::worker(&app.app, &shared)).await;
        for path in ["/", "/sign-in", "/invite", "/assets/page.css"] {
            let answer = try_call_service(&service, request(Method::GET, path).to_request()).await.unwrap();
            assert_eq!(answer.status().as_u16(), 404, "{listener:?} {path}");
        }
    }
    assert_eq!(app.rows("SELECT * FROM sessions").await, Value::Array(vec![]));
}
