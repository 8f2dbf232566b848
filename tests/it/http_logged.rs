//! What is logged: nothing secret, and no alarm at what callers send.
use crate::{
    app::PASSWORD,
    http_bad_input::{JSON, bad_bodies},
    http_support::{acme, ask, ask_all, bearing, listening, post_from, request, signed_in, text},
};
use actix_web::http::Method;
use identityd::app::Listener;
use serde_json::json;
use std::{
    io,
    sync::{Arc, Mutex},
};
use tracing_subscriber::fmt::MakeWriter;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self::Writer {
        self.clone()
    }
}

/// At the finest level there is, from the first request to the last.
#[actix_web::test]
async fn nothing_secret_is_logged() {
    let log = Log::default();
    let lines =
        tracing_subscriber::fmt().json().with_max_level(tracing::Level::TRACE).with_writer(log.clone());
    let _heard = listening(lines.finish());
    let app = acme().await;
    let typed = "a password typed wrongly";
    let mut secrets = vec![PASSWORD.to_owned(), typed.to_owned()];
    let login = |password: &str| json!({ "email": "ada@example.io", "password": password });

    ask(&app.app, post_from("198.51.100.7", "/v1/auth/login", &login(typed))).await;
    let entered = signed_in(&app).await;
    let (access, refresh) = (text(&entered, "access_token"), text(&entered, "refresh_token"));
    app.bearer("ada", &access);
    let again = app.call(Method::POST, None, "/v1/auth/refresh", json!({ "refresh_token": refresh })).await;
    secrets.extend([access, refresh.clone(), text(&again, "access_token"), text(&again, "refresh_token")]);
    let new = "an entirely different phrase";
    app.post("ada", "/v1/me/password", json!({ "currentPassword": typed, "newPassword": new })).await;
    app.post("ada", "/v1/me/password", json!({ "currentPassword": PASSWORD, "newPassword": new })).await;
    secrets.push(new.to_owned());

    let form = request(Method::POST, "/sign-in").set_form([("email", "ada@example.io"), ("password", new)]);
    let page = ask(&app.app, form).await;
    let cookie = page.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    ask(&app.app, request(Method::GET, "/").insert_header(("cookie", cookie.clone()))).await;
    secrets.push(cookie.split_once('=').unwrap().1.to_owned());

    app.post("owner", "/v1/orgs/acme/invites", json!({ "email": "bob@example.io" })).await;
    let invite = app.invite_token().await;
    let body = json!({ "token": invite, "password": "yet another long phrase" });
    app.call(Method::POST, None, "/v1/invites/accept", body).await;
    secrets.extend([invite, "yet another long phrase".into()]);

    let machine = app.post("owner", "/v1/orgs/acme/service-accounts", json!({ "name": "router" })).await;
    let path = format!("/v1/orgs/acme/service-accounts/{}/api-keys", text(&machine, "serviceAccountId"));
    let key = text(&app.post("owner", &path, json!({})).await, "secret");
    app.call(Method::POST, None, "/v1/auth/validate-api-key", json!({ "apiKeySecret": key })).await;
    app.bearer("machine", &key);
    app.get("machine", "/v1/me").await;
    secrets.push(key);

    // Replays, garbage and errors are where things slip out.
    for token in [&text(&again, "refresh_token"), &refresh, &format!("{refresh}x")] {
        app.call(Method::POST, None, "/v1/auth/refresh", json!({ "refresh_token": token })).await;
    }
    for bad in [format!("{{\"password\":\"{typed}\",}}"), format!("{{\"email\":1,\"password\":\"{typed}\"}}")]
    {
        let request = request(Method::POST, "/v1/auth/login").insert_header(("content-type", JSON));
        let answer = ask(&app.app, request.set_payload(bad)).await;
        assert!(!answer.text.contains(typed), "nor answered: {answer:?}");
    }
    let query = format!("/v1/orgs?q={}", typed.replace(' ', "%20"));
    app.get("owner", &query).await;
    app.sabotage("ALTER TABLE passwords RENAME TO elsewhere").await;
    let broken = ask(&app.app, post_from("127.0.0.1", "/v1/auth/login", &login(typed))).await;
    assert_eq!(broken.verdict(), (500, "INTERNAL".into()));
    assert!(!broken.text.contains("passwords"), "internals stay here: {broken:?}");

    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("request answered") && log.contains("\"ERROR\""), "it listened");
    assert!(log.contains("a refresh token was used twice"), "to everything");
    for secret in &secrets {
        for part in [secret.as_str(), &secret[..secret.len().min(40)], &secret[secret.len() / 2..]] {
            let at = log.find(part);
            assert!(at.is_none(), "{part} in {}", &log[at.unwrap().saturating_sub(300)..][..600]);
        }
    }
    for told in ["ada@example.io", "198.51.100.7"] {
        assert!(!log.contains(told), "{told} is personal");
    }
}

/// No surprise warnings: what callers send is their business, and no news for whoever runs this.
#[actix_web::test]
async fn bad_input_is_no_reason_to_warn() {
    let log = Log::default();
    let lines = tracing_subscriber::fmt().with_max_level(tracing::Level::WARN).with_writer(log.clone());
    let _heard = listening(lines.finish());
    let app = acme().await;
    let owner = app.token("owner").await;
    let mut requests = vec![];
    for (_, kind, body, _) in bad_bodies() {
        requests.push(
            bearing(request(Method::POST, "/v1/orgs"), &owner)
                .insert_header(("content-type", kind))
                .set_payload(body),
        );
    }
    requests.push(bearing(request(Method::GET, "/v1/me"), "garbage"));
    requests.push(request(Method::GET, "/v1/no-such-thing"));
    requests.push(post_from("127.0.0.1", "/v1/auth/login", &json!({ "email": "x", "password": "y" })));
    ask_all(&app.app, Listener::Http, requests).await;
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert_eq!(log, "");
}
