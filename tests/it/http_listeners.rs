//! Which operation is on which of the three listeners.
use crate::{
    app::TestApp,
    http_support::{ask_all, request},
};
use actix_web::http::Method;
use identityd::app::{self, Listener};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const LISTENERS: [(&str, Listener); 3] =
    [("http", Listener::Http), ("internal", Listener::Internal), ("ops", Listener::Ops)];

/// Method and path of each operation, with the listeners that the document says.
fn operations() -> Vec<(Method, String, Value)> {
    let document = app::document().unwrap();
    let mut all = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            all.push((
                method.to_uppercase().parse().unwrap(),
                path.clone(),
                operation["x-listeners"].clone(),
            ));
        }
    }
    all
}

#[test]
fn every_operation_names_its_listeners() {
    let mut listed: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (method, path, listeners) in operations() {
        let names: Vec<&str> =
            listeners.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        assert!(names.contains(&"http"), "{path}: what is not public is not documented");
        listed.entry(names.join(", ")).or_default().push(format!("{method} {path}"));
    }
    insta::assert_json_snapshot!(listed);
}

/// Without a credential a handler says anything but 404, and where there is none nothing else is said.
#[actix_web::test]
async fn every_operation_is_on_its_listeners_and_on_no_other() {
    let app = TestApp::new().await;
    let operations = operations();
    for (name, listener) in LISTENERS {
        let requests = operations.iter().map(|(method, path, _)| {
            let filled = path.split('/').map(|part| if part.starts_with('{') { "x" } else { part });
            request(method.clone(), &filled.collect::<Vec<_>>().join("/"))
        });
        let answers = ask_all(&app.app, listener, requests).await;
        for (answer, (method, path, listeners)) in answers.iter().zip(&operations) {
            let there = listeners.as_array().unwrap().contains(&json!(name));
            let found = answer.status != 404 && answer.status != 405;
            assert_eq!(found, there, "{method} {path} on {name}: {answer:?}");
        }
    }
}

#[actix_web::test]
async fn metrics_leave_the_public_listener_when_told_so() {
    let app = TestApp::with(&["http.expose_metrics=false"]).await;
    let status =
        async |listener| ask_all(&app.app, listener, [request(Method::GET, "/metrics")]).await[0].status;
    assert_eq!(status(Listener::Http).await, 404);
    assert_eq!(status(Listener::Internal).await, 404);
    assert_eq!(status(Listener::Ops).await, 200);
}

/// The platform's dashboards read these.
#[actix_web::test]
async fn metrics_are_there_under_their_older_names_too() {
    let app = TestApp::new().await;
    for listener in [Listener::Http, Listener::Ops] {
        let answer = ask_all(&app.app, listener, [request(Method::GET, "/metrics")]).await.remove(0);
        let kind = answer.header("content-type").unwrap();
        assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
        for name in [
            "auth_attempts_total",
            "auth_failures_total",
            "auth_mfa_attempts_total",
            "auth_mfa_attempt_duration_seconds_count",
            "auth_sessions_created_total",
            "auth_sessions_revoked_total",
            "auth_oidc_login_attempts_total",
            "auth_oidc_callback_total",
            "auth_recovery_attempts_total",
            "apikeys_issued_total",
            "apikeys_revoked_total",
        ] {
            let there = answer.text.lines().any(|line| {
                let sample = line.strip_prefix("user_org_service_").and_then(|rest| rest.strip_prefix(name));
                sample.is_some_and(|rest| rest.starts_with([' ', '{']))
            });
            assert!(there, "user_org_service_{name} is not in\n{}", answer.text);
        }
        assert!(answer.text.ends_with("# EOF\n"));
    }
}

#[actix_web::test]
async fn health_is_on_every_listener_in_the_words_that_are_expected() {
    let app = TestApp::new().await;
    app.app.health.ok("postgres", true);
    for (_, listener) in LISTENERS {
        let requests = ["/healthz", "/readyz"].map(|path| request(Method::GET, path));
        let answers = ask_all(&app.app, listener, requests).await;
        assert_eq!((answers[0].status, answers[0].text.as_str()), (200, r#"{"status":"ok"}"#));
        assert_eq!((answers[1].status, &answers[1].json()["status"]), (200, &json!("ready")));
        assert_eq!(answers[1].json()["dependencies"]["postgres"]["status"], "ok");
    }
    app.app.health.failing("postgres", true, "it does not answer");
    let answer = ask_all(&app.app, Listener::Ops, [request(Method::GET, "/readyz")]).await.remove(0);
    assert_eq!((answer.status, &answer.json()["status"]), (503, &json!("unavailable")));
    insta::assert_json_snapshot!(answer.json());
    app.app.health.ok("postgres", true);
    app.app.health.drain();
    let requests = ["/readyz", "/healthz"].map(|path| request(Method::GET, path));
    let answers = ask_all(&app.app, Listener::Http, requests).await;
    assert_eq!((answers[0].status, answers[1].status), (503, 200), "on its way out, and alive");
}
