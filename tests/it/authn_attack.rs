//! Attacks from everywhere: they are told, they are slowed, and the victim gets in.
use crate::{
    app::{PASSWORD, TestApp},
    http_support::{Answer, Held, Live, acme, acme_with, ask, ask_all, post_from, request, told, told_since},
};
use actix_web::http::Method;
use identityd::app::Listener;
use serde_json::{Value, json};
use std::time::Duration;

const LOGIN: &str = "/v1/auth/login";
const WRONG: &str = "wrong wrong wrong wrong";
const HOME: &str = "198.51.100.7";

fn credentials(name: &str, password: &str) -> Value {
    json!({ "email": format!("{name}@example.io"), "password": password })
}

async fn from(app: &TestApp, address: &str, name: &str, password: &str) -> Answer {
    ask(&app.app, post_from(address, LOGIN, &credentials(name, password))).await
}

/// An address in the n-th of many networks.
fn elsewhere(n: usize) -> String {
    let [.., a, b, c] = n.to_be_bytes();
    format!("{}.{b}.{c}.9", 20 + a)
}

/// One wrong password from each of these networks; the statuses.
async fn attack(app: &TestApp, name: &str, networks: std::ops::Range<usize>) -> Vec<u16> {
    let body = credentials(name, WRONG);
    let requests = networks.map(|n| post_from(&elsewhere(n), LOGIN, &body));
    ask_all(&app.app, Listener::Http, requests).await.iter().map(|answer| answer.status).collect()
}

/// Codes of events, with what they are about, since this many.
async fn told_codes(app: &TestApp, before: usize) -> Vec<(String, String)> {
    let events = told_since(app, before).await;
    let of = |event: &Value| {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["policy"]["code"]), text(&event["target"]))
    };
    let mut all: Vec<_> = events.as_array().unwrap().iter().map(of).collect();
    all.retain(|(code, _)| code != "INVALID_CREDENTIALS" && !code.is_empty());
    all
}

async fn metric(app: &TestApp, line: &str) -> bool {
    ask(&app.app, request(Method::GET, "/metrics")).await.text.lines().any(|found| found == line)
}

// One account -------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_victim_gets_in_from_where_he_was_lately_whatever_is_tried_elsewhere() {
    let app = acme().await;
    assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 200);
    assert_eq!(attack(&app, "ada", 0..100).await, [401; 100]);
    let runs = app.app.hasher.runs();
    let statuses = attack(&app, "ada", 100..300).await;
    assert_eq!(statuses.iter().filter(|status| **status == 401).count(), 1, "one has the turn");
    assert_eq!(app.app.hasher.runs() - runs, 1, "nothing else is hashed");
    for _ in 0..3 {
        assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 200);
        assert_eq!(from(&app, HOME, "ada", WRONG).await.status, 401, "he may mistype, too");
    }
    app.tick(Duration::from_hours(24 * 89)).await;
    attack(&app, "ada", 300..401).await;
    assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 200, "after three months, still");
}

#[actix_web::test]
async fn from_elsewhere_he_has_to_find_a_turn_and_is_told_so() {
    let app = acme().await;
    attack(&app, "ada", 0..101).await;
    let refused = from(&app, HOME, "ada", PASSWORD).await;
    assert_eq!(refused.verdict(), (429, "TOO_MANY_ATTEMPTS".into()));
    assert_eq!(refused.header("retry-after").as_deref(), Some("5"));
    insta::assert_snapshot!(refused.json()["detail"].as_str().unwrap());
    app.tick(Duration::from_millis(4_999)).await;
    assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 429);
    app.tick(Duration::from_millis(1)).await;
    assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 200);
    attack(&app, "ada", 101..110).await;
    assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 200, "by now he was here");
}

#[actix_web::test]
async fn an_attack_is_over_a_day_after_its_last_attempt_or_when_an_administrator_says_so() {
    for unlocked in [false, true] {
        let app = acme().await;
        attack(&app, "ada", 0..101).await;
        assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 429);
        if unlocked {
            let path = format!("/v1/orgs/acme/users/{}/unlock", app.person("ada").await);
            assert_eq!(app.post("owner", &path, Value::Null).await["status"], 204);
        } else {
            app.tick(Duration::from_hours(24) + Duration::from_millis(1)).await;
        }
        assert_eq!(attack(&app, "ada", 200..210).await, [401; 10]);
        assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 200);
    }
}

/// What brute force comes to: a hundred attempts, then one in five seconds, from however many networks.
#[actix_web::test]
async fn however_many_networks_guess_an_account_is_tried_once_in_five_seconds() {
    let app = acme().await;
    attack(&app, "ada", 0..100).await;
    let mut tried = 0;
    for round in 0..10 {
        let first = 1000 + round * 50;
        tried += attack(&app, "ada", first..first + 50).await.iter().filter(|status| **status == 401).count();
        app.tick(Duration::from_secs(5)).await;
    }
    assert_eq!(tried, 10);
}

#[actix_web::test]
async fn a_network_that_failed_three_times_takes_nobody_elses_turn() {
    let app = acme().await;
    attack(&app, "ada", 0..100).await;
    let stranger = "203.0.113.9";
    for _ in 0..3 {
        assert_eq!(from(&app, stranger, "ada", WRONG).await.status, 401);
        app.tick(Duration::from_secs(5)).await;
    }
    let refused = from(&app, stranger, "ada", PASSWORD).await;
    let a_day = (24 * 60 * 60 - 5).to_string();
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some(a_day)));
    assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 200, "the turn is there");
    app.tick(Duration::from_hours(24) - Duration::from_secs(5)).await;
    attack(&app, "ada", 200..201).await;
    app.tick(Duration::from_secs(5)).await;
    assert_eq!(from(&app, stranger, "ada", PASSWORD).await.status, 200, "a day later");
}

/// All of them see that the turn is nobody's; one gets it.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn twenty_networks_at_once_have_one_turn() {
    let flags = ["http.drain_seconds=0", "http.workers=4", "http.trusted_proxies=[\"127.0.0.0/8\"]"];
    let app = acme_with(&flags).await;
    attack(&app, "ada", 0..100).await;
    let live = Live::of(&app.app);
    let body = credentials("ada", WRONG).to_string();
    let mut held = Held::of(&app, "login_networks").await;
    let asked = (200..220).map(|n| {
        let (from, length) = (elsewhere(n), body.len());
        let head =
            format!("x-forwarded-for: {from}\r\ncontent-type: application/json\r\ncontent-length: {length}");
        live.send(format!("POST {LOGIN} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{head}\r\n\r\n{body}"))
    });
    let asked: Vec<_> = asked.collect();
    held.awaited_by(6).await;
    held.let_go().await;
    let mut statuses = vec![];
    for answer in asked {
        statuses.push(answer.await.unwrap().status);
    }
    live.stop().await;
    statuses.sort_unstable();
    assert_eq!((statuses[0], &statuses[1..]), (401, [429; 19].as_slice()));
}

#[actix_web::test]
async fn an_address_nobody_has_is_attacked_like_any_other() {
    let app = acme().await;
    assert_eq!(attack(&app, "ada", 0..120).await, attack(&app, "nobody", 0..120).await);
}

/// A proxy that writes no address makes nobody familiar: all others of its kind would be, too.
#[actix_web::test]
async fn no_address_is_no_place_that_an_owner_was_at() {
    let app = acme_with(&["http.trusted_proxies=[\"10.0.0.0/8\"]"]).await;
    let garbled = |password| {
        let request = post_from("10.0.0.1", LOGIN, &credentials("ada", password));
        request.insert_header(("x-forwarded-for", "somewhere"))
    };
    assert_eq!(ask(&app.app, garbled(PASSWORD)).await.status, 200);
    attack(&app, "ada", 0..101).await;
    assert_eq!(ask(&app.app, garbled(WRONG)).await.status, 429);
}

/// A release before had stopped accounts for good after a hundred failures.
#[actix_web::test]
async fn a_stop_of_an_older_release_stops_nobody() {
    let app = acme().await;
    attack(&app, "ada", 0..1).await;
    let stop = "UPDATE login_throttle SET failures = 100, blocked_until = now() + interval '10 years'";
    app.sabotage(&format!("{stop} WHERE subject = (SELECT account FROM login_networks)")).await;
    assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 200);
}

// What is told ------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn many_networks_at_one_account_and_one_org_are_told_once_each() {
    let app = acme().await;
    let (ada, before) = (app.person("ada").await.to_string(), told(&app).await);
    attack(&app, "ada", 0..99).await;
    let org = app.work().state().org_by_slug("acme").unwrap().to_string();
    let expected = [("ACCOUNT_UNDER_ATTACK".to_owned(), ada), ("ORG_UNDER_ATTACK".to_owned(), org.clone())];
    assert_eq!(told_codes(&app, before).await, expected);
    let events = told_since(&app, before).await;
    let of = |code: &str| events.as_array().unwrap().iter().find(|event| event["policy"]["code"] == code);
    for code in ["ACCOUNT_UNDER_ATTACK", "ORG_UNDER_ATTACK"] {
        let event = of(code).unwrap();
        assert_eq!((&event["org"], &event["outcome"]), (&json!(org), &json!("deny")), "on the org's chain");
    }
    for kind in ["account", "org"] {
        assert!(
            metric(&app, &format!("identityd_sign_in_attacks_total{{kind=\"{kind}\"}} 1")).await,
            "{kind}"
        );
    }
    app.tick(Duration::from_mins(10)).await;
    let before = told(&app).await;
    attack(&app, "ada", 100..101).await;
    assert_eq!(told_codes(&app, before).await, [], "one more is none");
}

#[actix_web::test]
async fn one_network_at_many_accounts_is_told_as_what_it_is() {
    let app = acme().await;
    let org = app.work().state().org_by_slug("acme").unwrap();
    for n in 0..20 {
        app.joined(org, "owner", &format!("member{n}"), &["viewer"]).await;
    }
    for (name, code, kind) in
        [("member", "CREDENTIAL_STUFFING", "stuffing"), ("nobody", "ACCOUNT_ENUMERATION", "enumeration")]
    {
        let before = told(&app).await;
        for n in 0..20 {
            assert_eq!(told_codes(&app, before).await, [], "{n}");
            assert_eq!(from(&app, HOME, &format!("{name}{n}"), WRONG).await.status, 401);
        }
        assert_eq!(told_codes(&app, before).await, [(code.to_owned(), "many".to_owned())]);
        assert!(metric(&app, &format!("identityd_sign_in_attacks_total{{kind=\"{kind}\"}} 1")).await);
    }
    assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 200, "telling is all that is done");
}

// All of it ---------------------------------------------------------------------------------------------------------

/// Two thousand networks at one account and at one organization's, in turn, with the limits of production: the victim
/// signs in and works all the while, his keys validate, and what it leaves behind is bounded.
#[actix_web::test]
async fn thousands_of_networks_lock_nobody_out() {
    let app = acme_with(&[
        "limits.sign_in.network=600, 600/min",
        "limits.reads.network=1200, 1200/min",
        "limits.reads.principal=12000, 12000/min",
        "limits.reads.org=60000, 60000/min",
        "limits.checks.network=6000, 6000/min",
    ])
    .await;
    let account = app.post("owner", "/v1/orgs/acme/service-accounts", json!({ "name": "edge" })).await;
    let account = account["body"]["serviceAccountId"].as_str().unwrap().to_owned();
    let path = format!("/v1/orgs/acme/service-accounts/{account}/api-keys");
    let key = app.post("owner", &path, json!({ "scopes": ["users:read"] })).await["body"]["secret"].clone();
    assert_eq!(from(&app, HOME, "ada", PASSWORD).await.status, 200);
    let mut seen = std::collections::BTreeMap::<u16, usize>::new();
    for round in 0..20 {
        let mut requests = vec![];
        for n in round * 100..round * 100 + 100 {
            let address = elsewhere(n);
            requests.push(post_from(&address, LOGIN, &credentials("ada", WRONG)));
            let mut guess = credentials("owner", WRONG);
            guess["org_id"] = json!("acme");
            requests.push(post_from(&address, LOGIN, &guess));
            let read = request(Method::GET, "/v1/orgs/acme/users")
                .peer_addr(format!("{address}:9").parse().unwrap());
            requests.push(read.insert_header(("authorization", "Bearer idk_guess")));
            requests.push(post_from(
                &address,
                "/v1/auth/validate-api-key",
                &json!({ "apiKeySecret": "idk_guess" }),
            ));
        }
        for answer in ask_all(&app.app, Listener::Http, requests).await {
            *seen.entry(answer.status).or_default() += 1;
        }
        let victim = from(&app, HOME, "ada", PASSWORD).await;
        assert_eq!(victim.status, 200, "round {round}: {victim:?}");
        app.bearer("ada", victim.json()["access_token"].as_str().unwrap());
        assert_eq!(app.get("ada", "/v1/orgs/acme").await["status"], 200);
        for address in [HOME, "127.0.0.1"] {
            let check = post_from(address, "/v1/auth/validate-api-key", &json!({ "apiKeySecret": key }));
            assert_eq!(ask(&app.app, check).await.json()["valid"], true, "{address}");
        }
        app.tick(Duration::from_secs(1)).await;
    }
    assert_eq!(seen.values().sum::<usize>(), 8_000);
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), [200, 401, 429], "{seen:?}");
    // A hundred attempts of each account, and one in five seconds; nothing of those that were refused.
    let rows = app.rows("SELECT count(*) FROM login_networks").await[0]["count"].as_u64().unwrap();
    assert!(rows <= 2 * (100 + 20 / 5 + 1) + 1, "{rows}");
}
