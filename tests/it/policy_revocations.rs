//! What changed since a revision, as a list: every kind of thing, in every state of the memory, to nobody else.
use crate::{
    app::{TestApp, id, send},
    http_support::{acme, acme_with, bearing, request, signed_in},
    revocations_support::{gateway, listed, revoke},
    support::code,
};
use actix_web::http::Method;
use identityd::{
    app::Listener,
    authorization::{Fact, PlatformRole, Role, ServiceAccountFact},
    kernel::{Id, OrgId, ServiceAccountStatus},
};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use uuid::Uuid;

async fn revision(app: &TestApp, caller: &str, query: &str) -> i64 {
    let (all, revision) = listed(app, caller, query).await;
    assert!(all.is_empty(), "without `from`, only where to begin: {all:?}");
    revision
}

fn org_of(app: &TestApp) -> OrgId {
    app.work().state().org_by_slug("acme").unwrap()
}

/// One of everything, and what becomes of it.
struct Changed {
    from: i64,
    expected: Vec<(String, String, String)>,
}

async fn change_everything(app: &TestApp) -> Changed {
    let org = org_of(app);
    let bob = app.member(org, "bob", Role::Viewer).await;
    let (machine, key, _) = gateway(app).await;
    let session = signed_in(app).await["body"]["session_id"].as_str().unwrap().to_owned();
    let (ada, from) = (app.person("ada").await, revision(app, "owner", "?org=acme").await);

    let users = format!("/v1/orgs/acme/users/{bob}");
    assert_eq!(
        app.put("owner", &format!("{users}/roles"), json!({ "roles": ["analyst"] })).await["status"],
        200
    );
    assert_eq!(app.post("owner", &format!("{users}/suspend"), json!({})).await["status"], 200);
    revoke(app, &key).await;
    let path = format!("/v1/orgs/acme/service-accounts/{machine}");
    assert_eq!(app.delete("owner", &path).await["status"], 204);
    let path = format!("/v1/orgs/acme/users/{ada}/sessions");
    let ended = app.delete("owner", &path).await;
    assert_eq!(ended["status"], 204, "{ended}");
    let suspended = app.post("owner", "/v1/orgs/acme/suspend", json!({ "reason": "drill" })).await;
    assert_eq!(suspended["status"], 200, "{suspended}");

    let expected = [
        ("principal", bob.to_string(), "suspended"),
        ("key", key, "revoked"),
        ("principal", machine, "deleted"),
        ("session", session, "ended"),
        ("org", org.to_string(), "suspended"),
    ];
    let expected = expected.map(|(kind, id, reason)| (kind.to_owned(), id, reason.to_owned())).into();
    Changed { from, expected }
}

/// Of the kinds that the test made; ending sessions may raise what tokens of the person are worth.
fn without(mut all: Vec<(String, String, String)>, person: Id<impl Sized>) -> Vec<(String, String, String)> {
    all.retain(|(_, id, _)| *id != person.to_string());
    all
}

#[tokio::test]
async fn each_thing_is_listed_once_as_what_it_is_now_by_memory_and_by_postgres() {
    let app = acme().await;
    app.person_with("root", &[PlatformRole::PlatformAdmin]).await;
    let Changed { from, expected } = change_everything(&app).await;
    let ada = app.person("ada").await;
    let (all, revision) = listed(&app, "root", &format!("?from={from}")).await;
    assert_eq!(without(all.clone(), ada), expected);
    assert_eq!(revision, app.work().state().applied());
    // Another process, which came later and keeps nothing from before.
    let token = app.token("root").await;
    let later = app.replica(&[]).await;
    let ask = bearing(request(Method::GET, &format!("/v1/revocations?from={from}")), &token);
    let answer = send(&later, ask, Listener::Http).await;
    let ids: Vec<&str> =
        answer["body"].as_array().unwrap().iter().map(|e| e["id"].as_str().unwrap()).collect();
    let kept: Vec<&str> = all.iter().map(|(_, id, _)| id.as_str()).collect();
    assert_eq!(ids, kept);
    assert_eq!(answer["headers"]["authz-revision"], revision.to_string());
    // And nothing after it.
    assert!(listed(&app, "root", &format!("?from={revision}")).await.0.is_empty());
}

#[tokio::test]
async fn what_is_new_is_not_listed_and_is_once_it_changes() {
    let app = acme().await;
    let from = revision(&app, "owner", "?org=acme").await;
    let query = format!("?org=acme&from={from}");
    let (_, key, _) = gateway(&app).await;
    app.member(org_of(&app), "bob", Role::Viewer).await;
    assert!(listed(&app, "owner", &query).await.0.is_empty());
    revoke(&app, &key).await;
    assert_eq!(listed(&app, "owner", &query).await.0, [("key".into(), key.clone(), "revoked".into())]);
    let other = app.replica(&[]).await;
    let ask = bearing(request(Method::GET, &format!("/v1/revocations{query}")), &app.token("owner").await);
    let answer = send(&other, ask, Listener::Http).await;
    assert_eq!(
        answer["body"].as_array().unwrap().len(),
        1,
        "PostgreSQL tells new from changed, too: {answer}"
    );
}

#[tokio::test]
async fn a_new_password_says_from_when_tokens_are_good_and_a_session_until_when_it_matters() {
    let app = acme().await;
    let token = signed_in(&app).await["body"]["access_token"].as_str().unwrap().to_owned();
    signed_in(&app).await;
    app.bearer("ada", &token);
    let from = revision(&app, "owner", "?org=acme").await;
    let body =
        json!({ "currentPassword": crate::app::PASSWORD, "newPassword": "a different long pass phrase" });
    assert_eq!(app.post("ada", "/v1/me/password", body).await["status"], 204);
    app.work().catch_up().await.unwrap();
    let answer = app.get("owner", &format!("/v1/revocations?org=acme&from={from}")).await;
    let ada = json!(app.person("ada").await.to_string());
    let all = answer["body"].as_array().unwrap();
    assert!(!all.is_empty() && all.iter().all(|entry| entry["personId"] == ada), "{answer}");
    let sessions: Vec<&Value> = all.iter().filter(|entry| entry["kind"] == "session").collect();
    assert!(
        sessions.iter().all(|entry| entry["until"].is_string() && entry["reason"] == "ended"),
        "{answer}"
    );
    let person = all.iter().find(|entry| entry["kind"] == "principal");
    assert!(
        !sessions.is_empty() || person.is_some_and(|entry| entry["tokensValidFrom"].is_string()),
        "{answer}"
    );
}

#[tokio::test]
async fn nobody_hears_of_an_organization_but_who_may_decide_there() {
    let app = acme().await;
    app.person_with("root", &[PlatformRole::PlatformAdmin]).await;
    app.person_with("auditor", &[PlatformRole::PlatformAuditor]).await;
    app.org("sam", "other").await;
    app.member(org_of(&app), "viewer", Role::Viewer).await;
    let Changed { from, .. } = change_everything(&app).await;
    assert!(listed(&app, "sam", &format!("?org=other&from={from}")).await.0.is_empty());
    assert_eq!(listed(&app, "root", &format!("?org=other&from={from}")).await.0, []);
    assert!(!listed(&app, "root", &format!("?org=acme&from={from}")).await.0.is_empty());
    // The same of PostgreSQL.
    let later = app.replica(&[]).await;
    let ask = bearing(
        request(Method::GET, &format!("/v1/revocations?org=other&from={from}")),
        &app.token("sam").await,
    );
    assert_eq!(send(&later, ask, Listener::Http).await["body"], json!([]));

    let refused = async |caller: Option<&str>, query: &str| {
        let path = format!("/v1/revocations{query}");
        app.call(Method::GET, caller, &path, Value::Null).await["status"].as_u64().unwrap()
    };
    assert_eq!(refused(Some("sam"), "?org=acme").await, 404);
    assert_eq!(refused(Some("sam"), "?org=nowhere").await, 404);
    assert_eq!(refused(Some("sam"), "").await, 403, "the platform is not an owner's");
    assert_eq!(refused(Some("viewer"), "?org=acme").await, 403);
    assert_eq!(refused(Some("auditor"), "").await, 403);
    assert_eq!(refused(None, "?org=acme").await, 401);
}

#[tokio::test]
async fn pages_go_on_where_they_stopped_and_keep_a_transaction_together() {
    let app = acme().await;
    let org = org_of(&app);
    let machines = async |from: u128, count: u128, status| {
        let fact = |n| {
            let (service_account, roles) = (Id::from_uuid(Uuid::from_u128(n)), vec![]);
            Fact::ServiceAccount(ServiceAccountFact { service_account, org, status, roles })
        };
        app.write(org, async |tx| {
            (from..from + count).for_each(|n| tx.fact(fact(n)));
            Ok(())
        })
        .await;
    };
    machines(1, 20, ServiceAccountStatus::Active).await;
    let from = revision(&app, "owner", "?org=acme").await;
    for n in 0..5 {
        machines(1 + n * 4, 4, ServiceAccountStatus::Disabled).await;
    }
    app.work().catch_up().await.unwrap();
    let later = app.replica(&[]).await;
    for on in [&app.app, &later] {
        let mut path = format!("/v1/revocations?org=acme&from={from}&limit=6");
        let mut pages = vec![];
        let mut ids = BTreeSet::new();
        loop {
            let ask = bearing(request(Method::GET, &path), &app.token("owner").await);
            let answer = send(on, ask, Listener::Http).await;
            let page = answer["body"].as_array().unwrap();
            pages.push(page.len());
            ids.extend(page.iter().map(|entry| entry["id"].as_str().unwrap().to_owned()));
            let Some(link) = answer["headers"]["link"].as_str() else { break };
            path = link.split(['<', '>']).nth(1).unwrap().to_owned();
        }
        assert_eq!((pages, ids.len()), (vec![8, 8, 4], 20));
    }
}

#[tokio::test]
async fn what_can_no_longer_be_told_is_said_so_with_where_to_go_on() {
    let app = acme_with(&[]).await;
    let (_, key, _) = gateway(&app).await;
    revoke(&app, &key).await;
    app.work().catch_up().await.unwrap();
    let now = app.work().state().applied();
    app.sabotage(&format!("UPDATE authz_clock SET floor = {}", now - 1)).await;
    let later = app.replica(&[]).await;
    let ask = async |from: String| {
        let ask = request(Method::GET, &format!("/v1/revocations?org=acme&from={from}"));
        send(&later, bearing(ask, &app.token("owner").await), Listener::Http).await
    };
    for gone in ["0".to_owned(), (now - 2).to_string(), (now + 1).to_string(), i64::MAX.to_string()] {
        let answer = ask(gone.clone()).await;
        assert_eq!(code(&answer), (410, "REVISION_FORGOTTEN"), "{gone}: {answer}");
        assert_eq!(answer["body"]["revision"], now);
    }
    let answer = ask((now - 1).to_string()).await;
    assert_eq!((&answer["status"], &answer["body"][0]["id"]), (&json!(200), &json!(key)), "{answer}");
    for wrong in ["-1", "x", "1.5", "9223372036854775808"] {
        assert_eq!(code(&ask(wrong.to_owned()).await), (422, "INVALID_QUERY"), "{wrong}");
    }
}

/// By it a gateway knows whether an answer on its way was overtaken by what it has heard.
#[tokio::test]
async fn a_key_check_says_at_which_revision_it_was_made() {
    let app = acme().await;
    let (_, key, secret) = gateway(&app).await;
    let other = app.replica(&[]).await;
    let check = async || {
        let check =
            request(Method::POST, "/v1/auth/validate-api-key").set_json(json!({ "apiKeySecret": secret }));
        let answer = send(&other, check, Listener::Http).await;
        let revision: i64 = answer["headers"]["authz-revision"].as_str().unwrap().parse().unwrap();
        (answer["body"]["valid"].as_bool().unwrap(), revision)
    };
    let from = other.work.state().applied();
    assert_eq!(check().await, (true, from));
    revoke(&app, &key).await;
    app.work().catch_up().await.unwrap();
    let heard = app.get("owner", &format!("/v1/revocations?org=acme&from={from}")).await;
    let seq = heard["body"][0]["seq"].as_i64().unwrap();
    let behind = check().await;
    assert!(behind.0 && behind.1 < seq, "the other has not heard yet, and says so: {behind:?}");
    other.work.catch_up().await.unwrap();
    let (valid, revision) = check().await;
    assert!(!valid && revision >= seq);
    let _: OrgId = id(&heard["body"][0]["orgId"]);
}
