//! Two processes behind a round-robin, with every server real.
use crate::{
    app::server,
    cli_support::ask,
    main_job_support::{Front, PASSWORD},
    replicas_support::{Pair, Site},
    secrets_support::{Place, Secrets},
    vault_support::Bao,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const FORM: &str = "application/x-www-form-urlencoded";
const JSON: &str = "application/json";

#[test]
fn the_main_job_on_two_processes_behind_a_round_robin_with_every_server_real() {
    let bao = Bao::shared();
    let site = Site::new(&bao, "both");
    let pair = Pair::start(&site, &[]);
    let domain = format!("both{}.example", std::process::id());
    let front = Front::new(&pair.round_robin.url, &server("TEST_SMTP_DIR"), &domain, || pair.settle());
    let admin = front.first_administrator(&site.bootstrap());
    front.main_job(&admin);
    let answered = pair.round_robin.answered();
    assert!(answered[0].abs_diff(answered[1]) <= 1, "{answered:?}");
    assert!(pair.processes.iter().all(|process| process.log().contains("\"dependency answers\"")));
    more_secrets(&front, &admin, &format!("ada@{domain}"));
    let twice = site.verify_relayed();
    println!("each answered {answered:?}; {twice} entries twice on the topic");
    finds_no_secret(&site, &pair, &front);
}

/// Without it there are no mails, no log, and nothing on the topic.
#[test]
fn reconcile_does_the_background_work_of_processes_that_do_none() {
    let bao = Bao::shared();
    let site = Site::new(&bao, "apart");
    let pair = Pair::start(&site, &["background.enabled=false".to_owned()]);
    let reconcile = site.reconcile();
    let domain = format!("apart{}.example", std::process::id());
    let front = Front::new(&pair.round_robin.url, &server("TEST_SMTP_DIR"), &domain, || pair.settle());
    let admin = front.first_administrator(&site.bootstrap());
    front.main_job(&admin);
    site.verify_relayed();
    let owners = ask(
        &site.database.url(),
        "SELECT string_agg(DISTINCT owner, ',') AS cell FROM leases WHERE owner <> ''",
    );
    assert!(!owners.is_empty() && reconcile.log().contains(&owners), "{owners}");
}

/// What the main job has no use for: cookies, refresh tokens, keys that are rotated, remembered answers; and secrets in
/// the wrong place, where a message about the mistake might repeat them.
fn more_secrets(front: &Front<'_>, admin: &str, email: &str) {
    let (_, tokens) =
        front.call("POST", "/v1/auth/login", None, &json!({ "email": email, "password": PASSWORD }));
    let body = json!({ "refresh_token": tokens["refresh_token"] });
    assert_eq!(front.call("POST", "/v1/auth/refresh", None, &body).0, 200);

    let form = format!("email={}&password={}", email.replace('@', "%40"), PASSWORD.replace(' ', "+"));
    let entered = send(front, "/sign-in", FORM, &[], &form);
    assert_eq!(entered.status(), 303);
    let cookie = entered.headers()["set-cookie"].to_str().unwrap();
    front.remember("cookie", cookie.split_once('=').unwrap().1.split(';').next().unwrap());

    let bearer = format!("Bearer {admin}");
    let (path, wish) =
        ("/organizations/me/api-keys", json!({ "display_name": "ci", "scopes": ["models:read"] }));
    let headers = [("authorization", bearer.as_str()), ("idempotency-key", "key-of-idempotency")];
    let mut issued = send(front, path, JSON, &headers, &wish.to_string());
    assert_eq!(issued.status(), 201);
    let key: Value = serde_json::from_str(&issued.body_mut().read_to_string().unwrap()).unwrap();
    front.remember("key with a remembered answer", key["secret"].as_str().unwrap());
    (front.settle)();
    let path = format!("{path}/{}/rotate", key["apiKeyId"].as_str().unwrap());
    assert_eq!(front.call("POST", &path, Some(admin), &json!({})).0, 201);

    let wrong = "nobody-has-this-password";
    front.remember("mistyped password", wrong);
    let sign_in = |password: Value| {
        front.call("POST", "/v1/auth/login", None, &json!({ "email": email, "password": password })).0
    };
    assert_eq!(sign_in(json!(wrong)), 401);
    assert_eq!(sign_in(json!([wrong])), 422);
    let unfinished = format!("{{\"password\": \"{wrong}\"");
    assert_eq!(send(front, "/v1/auth/login", JSON, &[], &unfinished).status(), 400);
    let check = json!({ "apiKeySecret": key["secret"].as_str().unwrap().to_lowercase() });
    assert_eq!(front.call("POST", "/v1/auth/validate-api-key", None, &check).1["valid"], false);
    let (status, _) = front.call("GET", "/v1/orgs", Some(wrong), &Value::Null);
    assert_eq!(status, 401);
}

fn send(
    front: &Front<'_>,
    path: &str,
    kind: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> ureq::http::Response<ureq::Body> {
    let mut request = ureq::http::Request::post(format!("{}{path}", front.url)).header("content-type", kind);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let agent: ureq::Agent =
        ureq::Agent::config_builder().http_status_as_error(false).max_redirects(0).build().into();
    agent.run(request.body(body.to_owned()).unwrap()).unwrap()
}

/// Mails are where invite tokens belong.
fn finds_no_secret(site: &Site<'_>, pair: &Pair<'_>, front: &Front<'_>) {
    let mut secrets = site.secrets();
    for (what, secret) in &*front.secrets.borrow() {
        secrets.add(what, secret);
    }
    let places = site.places(&pair.processes);
    let size: usize = places.iter().map(|(_, bytes)| bytes.len()).sum();
    println!("{} secrets in {} places of {size} bytes", secrets.len(), places.len());
    assert_eq!(secrets.found_in(&places), BTreeSet::new());

    // It looked at what there is: the public part of a secret is where it belongs.
    let mut public = Secrets::default();
    let key = front.secrets.borrow().iter().find(|(what, _)| what.contains("key")).unwrap().1.clone();
    public.add("kid", &key[4..20]);
    let found = public.found_in(&places);
    assert!(found.contains("kid in table api_keys, as it is"), "{found:?}");
    for kind in ["table", "Redis stream", "Redis", "topic", "log", "command line"] {
        let looked_at = |(place, bytes): &Place| place.starts_with(kind) && !bytes.is_empty();
        assert!(places.iter().any(looked_at), "nothing was there: {kind}");
    }
}
