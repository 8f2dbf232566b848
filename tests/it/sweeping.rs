//! What is kept only for a while: deleted orgs and people until their retention ends, and what nobody asks for any more.
use crate::{
    app::{TestApp, id},
    http_support::Held,
    support::{code, count, places_of},
};
use actix_web::http::Method;
use chrono::{DateTime, Utc};
use diesel_async::SimpleAsyncConnection as _;
use identityd::{
    app::sweep,
    authorization::{PlatformRole, Role},
    identity, jobs,
    kernel::{OrgId, UserId},
    orgs,
    work::{Upkeep, UpkeepTx, WorkError},
};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);
const DAY: Duration = Duration::from_hours(24);
const RETENTION: Duration = Duration::from_hours(24 * 30);
/// Tables with rows of an org, but for its audit log.
const OF_ORG: [&str; 6] =
    ["orgs", "memberships", "role_bindings", "invite_tokens", "service_accounts", "api_keys"];

/// One round. Answers how much it took away.
async fn round(app: &TestApp) -> usize {
    sweep(app.work(), "me").await.unwrap()
}

/// An org with a bit of everything in it.
async fn furnished(app: &TestApp, slug: &str) -> OrgId {
    let org = app.org("alice", slug).await;
    let base = format!("/v1/orgs/{org}");
    let bob = app.joined(org, "alice", &format!("bob-{slug}"), &["member"]).await;
    let machine = app.post("alice", &format!("{base}/service-accounts"), json!({ "name": "router" })).await;
    let machine = machine["body"]["serviceAccountId"].as_str().unwrap();
    for holder in [format!("users/{bob}"), format!("service-accounts/{machine}")] {
        let issued = app.post("alice", &format!("{base}/{holder}/api-keys"), json!({})).await;
        app.bearer("a key", issued["body"]["secret"].as_str().unwrap());
        assert_eq!(app.get("a key", &base).await["status"], 403, "noted as used: it has no scope for that");
    }
    assert_eq!(
        app.post("alice", &format!("{base}/invites"), json!({ "email": "a@example.io" })).await["status"],
        202
    );
    identityd::credentials::api_keys::flush_usage(app.work(), &app.app.access.usage).await.unwrap();
    org
}

async fn rows_of(app: &TestApp, org: OrgId) -> Vec<u64> {
    let mut rows = vec![];
    for table in OF_ORG {
        rows.push(count(app, &format!("{table} WHERE org_id = '{org}'")).await);
    }
    rows
}

// Orgs -----------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_deleted_org_is_purged_after_its_retention_and_not_before() {
    let app = TestApp::new().await;
    let (org, kept) = (furnished(&app, "acme").await, furnished(&app, "kept").await);
    let (before, of_kept) = (rows_of(&app, org).await, rows_of(&app, kept).await);
    assert!(before.iter().all(|rows| *rows > 0), "{before:?}");
    assert_eq!(app.delete("alice", "/v1/orgs/acme").await["status"], 204);
    app.tick(RETENTION.checked_sub(SECOND).unwrap()).await;
    let events = app.events().await;
    round(&app).await;
    assert_eq!((rows_of(&app, org).await, app.events().await), (before, events), "not a second too early");
    app.tick(SECOND).await;
    assert_eq!(round(&app).await, 1);
    assert_eq!(rows_of(&app, org).await, [0; 6]);
    assert_eq!(rows_of(&app, kept).await, of_kept, "and nobody else's");
    assert_eq!(count(&app, "api_key_usage").await, 2, "of the kept org's two keys");
    let left = format!("authz_fact WHERE org_id = '{org}' AND NOT deleted");
    assert_eq!(count(&app, &left).await, 0);
    let state = app.work().state();
    assert!(state.org(org).is_none() && state.org_by_slug("acme").is_none());
    assert_eq!(code(&app.get("a key", &format!("/v1/orgs/{kept}")).await).0, 403, "the kept org's key lives");
    assert_eq!(round(&app).await, 0, "what is gone is gone");
}

#[actix_web::test]
async fn a_purge_is_told_on_the_orgs_own_chain_which_stays() {
    let app = TestApp::new().await;
    let org = furnished(&app, "acme").await;
    app.sequence().await;
    let on_log = count(&app, &format!("audit_log WHERE org_id = '{org}'")).await;
    let personal = count(&app, &format!("audit_pii WHERE org_id = '{org}'")).await;
    assert!(on_log > 0 && personal > 0);
    app.delete("alice", "/v1/orgs/acme").await;
    app.tick(RETENTION).await;
    round(&app).await;
    let mut event = app.events().await.as_array().unwrap().last().unwrap()["event"].clone();
    for id in ["id", "req"] {
        event[id] = json!("[id]");
    }
    assert_json_snapshot!("purge_event", event);
    app.sequence().await;
    assert_eq!(
        count(&app, &format!("audit_log WHERE org_id = '{org}'")).await,
        on_log + 2,
        "deleted, and purged"
    );
    assert!(count(&app, &format!("audit_pii WHERE org_id = '{org}'")).await >= personal);
    app.person_with("auditor", &[PlatformRole::PlatformAuditor]).await;
    let events = app.get("auditor", "/v1/audit/events?action=orgs:delete").await;
    assert_eq!(events["body"].as_array().unwrap().len(), 2, "{events}");
}

#[actix_web::test]
async fn a_deleted_org_can_be_restored_until_it_is_purged_with_all_that_was_in_it() {
    let app = TestApp::new().await;
    let org = furnished(&app, "acme").await;
    app.person_with("root", &[PlatformRole::PlatformAdmin]).await;
    let (before, because) = (rows_of(&app, org).await, json!({ "reason": "a mistake" }));
    let deleted = app.delete("alice", "/v1/orgs/acme").await;
    assert_eq!(deleted["status"], 204);
    assert_eq!(code(&app.get("a key", "/v1/orgs/acme").await), (401, "ORG_NOT_ACTIVE"));
    app.tick(RETENTION.checked_sub(SECOND).unwrap()).await;
    let restored = app.post("root", "/v1/orgs/acme/restore", because.clone()).await;
    assert_eq!((&restored["status"], &restored["body"]["status"]), (&json!(200), &json!("active")));
    assert_eq!(restored["body"].get("deleteAfter"), None);
    app.tick(RETENTION).await;
    round(&app).await;
    assert_eq!(rows_of(&app, org).await, before);
    assert_eq!(
        code(&app.get("a key", "/v1/orgs/acme").await).0,
        403,
        "its keys work again, within their scopes"
    );
    // What was suspended before comes back suspended.
    app.post("root", "/v1/orgs/acme/suspend", because.clone()).await;
    assert_eq!(app.delete("root", "/v1/orgs/acme").await["status"], 204);
    let restored = app.post("root", "/v1/orgs/acme/restore", because).await;
    assert_eq!(restored["body"]["status"], "suspended", "{restored}");
}

#[actix_web::test]
async fn a_slug_is_taken_until_its_org_is_purged_and_then_free() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.delete("alice", "/v1/orgs/acme").await;
    let again = async || app.post("bob", "/v1/orgs", json!({ "name": "Again", "slug": "acme" })).await;
    assert_eq!(code(&again().await), (409, "SLUG_TAKEN"));
    app.tick(RETENTION).await;
    round(&app).await;
    let made = again().await;
    assert_eq!(made["status"], 201, "{made}");
    let new: OrgId = id(&made["body"]["orgId"]);
    assert_ne!(new, org);
    assert_eq!(app.get("bob", "/v1/orgs/acme").await["body"]["orgId"], json!(new));
    assert_eq!(app.get("alice", "/v1/orgs/acme").await["status"], 404, "it is another's now");
    assert_eq!(app.get("alice", &format!("/v1/orgs/{org}")).await["status"], 404);
}

/// Between the look and the purge somebody may restore what was due, and delete it again.
#[actix_web::test]
async fn a_purge_looks_again_under_the_lock() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let bob = app.member(org, "bob", Role::Member).await;
    let due = async || {
        app.write(org, async |tx| Ok((orgs::lock_due(tx).await?, identity::is_due(tx, bob).await?))).await
    };
    assert_eq!(due().await, (false, false));
    assert_eq!(app.delete("alice", &format!("/v1/orgs/acme/users/{bob}")).await["status"], 204);
    assert_eq!(app.delete("alice", "/v1/orgs/acme").await["status"], 204);
    app.tick(RETENTION.checked_sub(SECOND).unwrap()).await;
    assert_eq!(due().await, (false, false), "deleted, and not yet over");
    app.tick(SECOND).await;
    assert_eq!(due().await, (true, true));
    let because = json!({ "reason": "a mistake" });
    assert_eq!(app.post("root", "/v1/orgs/acme/restore", because).await["status"], 200);
    let restored = app.post("root", &format!("/v1/orgs/acme/users/{bob}/restore"), Value::Null).await;
    assert_eq!(restored["status"], 200, "{restored}");
    assert_eq!(due().await, (false, false));
}

#[actix_web::test]
async fn many_deleted_orgs_are_purged_in_bounded_rounds() {
    let app = TestApp::new().await;
    for n in 0..25 {
        app.org("alice", &format!("org-{n}")).await;
        assert_eq!(app.delete("alice", &format!("/v1/orgs/org-{n}")).await["status"], 204);
    }
    app.tick(RETENTION).await;
    assert_eq!([round(&app).await, round(&app).await, round(&app).await], [20, 5, 0]);
}

// People ---------------------------------------------------------------------------------------------------------

#[actix_web::test]
async fn a_deleted_member_and_his_keys_are_purged_after_the_retention_and_not_before() {
    let app = TestApp::new().await;
    let org = furnished(&app, "acme").await;
    let bob = app.work().state().member(app.person("bob-acme").await, org).unwrap().user;
    let of_bob = async || {
        let mut rows = vec![];
        for table in ["memberships", "role_bindings", "invite_tokens", "api_keys"] {
            rows.push(count(&app, &format!("{table} WHERE user_id = '{bob}'")).await);
        }
        rows
    };
    let path = format!("/v1/orgs/acme/users/{bob}");
    assert_eq!(app.delete("alice", &path).await["status"], 204);
    app.tick(RETENTION.checked_sub(SECOND).unwrap()).await;
    round(&app).await;
    assert_eq!(of_bob().await, [1, 1, 1, 1]);
    assert_eq!(app.post("alice", &format!("{path}/restore"), Value::Null).await["body"]["status"], "active");
    assert_eq!(app.delete("alice", &path).await["status"], 204);
    app.tick(RETENTION.checked_sub(SECOND).unwrap()).await;
    round(&app).await;
    assert_eq!(of_bob().await, [1, 1, 1, 1], "a new retention began");
    app.tick(SECOND).await;
    assert_eq!(round(&app).await, 1);
    assert_eq!(of_bob().await, [0, 0, 0, 0]);
    assert_eq!(count(&app, "api_key_usage").await, 1, "the machine's");
    assert!(app.work().state().user(bob).is_none());
    assert_eq!(app.get("alice", &path).await["status"], 404);
    let person = app.person("bob-acme").await;
    assert_eq!(
        count(&app, &format!("identities WHERE identity_id = '{person}'")).await,
        1,
        "a person is not an org's"
    );
    // The address can be invited again, and is somebody new here.
    let invited = app.post("alice", "/v1/orgs/acme/invites", json!({ "email": "bob-acme@example.io" })).await;
    assert_eq!(invited["status"], 202, "{invited}");
    assert_ne!(invited["body"]["userId"], json!(bob));
}

#[actix_web::test]
async fn an_invite_that_was_taken_back_goes_with_the_next_round() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    let invite = app.post("alice", "/v1/orgs/acme/invites", json!({ "email": "a@example.io" })).await;
    let user: UserId = id(&invite["body"]["userId"]);
    assert_eq!(app.delete("alice", &format!("/v1/orgs/acme/invites/{user}")).await["status"], 204);
    assert_eq!(round(&app).await, 1);
    assert_eq!(places_of(&app, "a@example.io").await, [""; 0], "and the address is nowhere but sealed");
}

#[actix_web::test]
async fn who_is_due_in_an_org_that_is_due_goes_too() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let bob = app.member(org, "bob", Role::Member).await;
    assert_eq!(app.delete("alice", &format!("/v1/orgs/acme/users/{bob}")).await["status"], 204);
    assert_eq!(app.delete("alice", "/v1/orgs/acme").await["status"], 204);
    app.tick(RETENTION).await;
    assert_eq!((round(&app).await, rows_of(&app, org).await), (2, vec![0; 6]));
}

// Operational rows -----------------------------------------------------------------------------------------------

#[actix_web::test]
async fn answers_are_kept_a_day() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    let (path, body) = ("/v1/orgs/acme/service-accounts", json!({ "name": "router" }));
    app.call_with(Method::POST, Some("alice"), path, body, &[("Idempotency-Key", "k")]).await;
    app.tick(DAY.checked_sub(SECOND).unwrap()).await;
    assert_eq!((round(&app).await, count(&app, "idempotency_keys").await), (0, 1));
    app.tick(SECOND).await;
    assert_eq!((round(&app).await, count(&app, "idempotency_keys").await), (1, 0));
}

#[actix_web::test]
async fn refresh_tokens_are_kept_until_they_run_out() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.joined(org, "alice", "bob", &["member"]).await;
    app.sign_in("bob").await;
    app.tick(7 * DAY).await;
    assert_eq!((round(&app).await, count(&app, "refresh_tokens").await), (0, 1), "good for a week");
    app.tick(SECOND).await;
    assert_eq!((round(&app).await, count(&app, "refresh_tokens").await), (1, 0));
}

#[actix_web::test]
async fn failures_are_forgotten_after_a_day_and_where_somebody_got_in_after_ninety() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.joined(org, "alice", "bob", &["member"]).await;
    let wrong = async |email: &str| {
        let body = json!({ "email": email, "password": "wrong" });
        app.call(Method::POST, None, "/v1/auth/login", body).await["status"].clone()
    };
    assert_eq!(wrong("bob@example.io").await, 401);
    assert_eq!(count(&app, "login_throttle").await, 2, "the account and the network");
    app.tick(DAY).await;
    assert_eq!((round(&app).await, count(&app, "login_throttle").await), (0, 2));
    assert_eq!(count(&app, "login_networks").await, 1, "the account here");
    app.tick(SECOND).await;
    assert_eq!((round(&app).await, count(&app, "login_throttle").await), (3, 0));
    assert_eq!(count(&app, "login_networks").await, 0);
    assert_eq!(app.sign_in("bob").await["status"], 200);
    app.tick(90 * DAY).await;
    round(&app).await;
    assert_eq!(count(&app, "login_networks").await, 1);
    app.tick(SECOND).await;
    round(&app).await;
    assert_eq!(count(&app, "login_networks").await, 0);
}

#[actix_web::test]
async fn an_ended_session_is_known_as_long_as_a_token_of_it_can_live() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.joined(org, "alice", "bob", &["member"]).await;
    let signed_in = app.sign_in("bob").await;
    app.bearer("bob", signed_in["body"]["access_token"].as_str().unwrap());
    assert_eq!(app.get("bob", "/v1/orgs/acme").await["status"], 200);
    let token = json!({ "token": signed_in["body"]["refresh_token"] });
    assert_eq!(app.call(Method::POST, None, "/v1/auth/logout", token).await["status"], 204);
    let facts = "authz_fact WHERE kind = 'session'";
    app.tick(HOUR).await;
    round(&app).await;
    assert_eq!(count(&app, facts).await, 1);
    assert_eq!(code(&app.get("bob", "/v1/orgs/acme").await).0, 401);
    app.tick(SECOND).await;
    assert_eq!((round(&app).await, count(&app, facts).await), (1, 0));
    assert_eq!(code(&app.get("bob", "/v1/orgs/acme").await), (401, "TOKEN_EXPIRED"));
    let other = app.replica(&[]).await;
    let clock = app.rows("SELECT seq FROM authz_clock").await[0]["seq"].as_i64().unwrap();
    assert_eq!(other.work.state().applied(), clock, "whoever starts now misses nothing");
}

#[actix_web::test]
async fn a_session_is_kept_a_month_past_its_longest_end_and_its_going_is_told() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.joined(org, "alice", "bob", &["member"]).await;
    app.sign_in("bob").await;
    let left = app.rows("SELECT max(absolute_expires_at) AS at FROM sessions").await;
    let end: DateTime<Utc> = left[0]["at"].as_str().unwrap().parse().unwrap();
    app.tick((end - app.clock.now()).to_std().unwrap() + RETENTION).await;
    round(&app).await;
    let events = app.events().await.as_array().unwrap().len();
    assert_eq!((round(&app).await, count(&app, "sessions").await), (0, 1));
    app.tick(SECOND).await;
    assert_eq!((round(&app).await, count(&app, "sessions").await), (1, 0));
    let told = app.events().await;
    assert_eq!(told.as_array().unwrap().len(), events + 1, "a round without one tells nothing");
    let event = &told[events]["event"];
    assert_eq!((&event["target"], &event["body"]["purged"]), (&json!("sessions"), &json!(1)), "{event}");
}

#[actix_web::test]
async fn one_process_sweeps_at_a_time() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    round(&app).await;
    app.delete("alice", "/v1/orgs/acme").await;
    app.tick(RETENTION).await;
    assert_eq!(sweep(app.work(), "another").await.unwrap(), 0, "the lease is held");
    assert_eq!(count(&app, "orgs WHERE slug = 'acme'").await, 1);
    app.sabotage("UPDATE leases SET lease_until = now() - interval '1 second'").await;
    assert_eq!(sweep(app.work(), "another").await.unwrap(), 1);
    let holder = app.rows("SELECT owner FROM leases WHERE name = 'sweeper'").await;
    assert_eq!(holder, json!([{ "owner": "another" }]));
}

#[tokio::test]
async fn a_sweeper_that_was_overtaken_takes_nothing_more_away() {
    let app = TestApp::with(&["database.connections_max=1"]).await;
    app.org("alice", "acme").await;
    app.delete("alice", "/v1/orgs/acme").await;
    app.tick(RETENTION).await;
    let events = count(&app, "audit_outbox").await;
    let mut held = Held::of(&app, "idempotency_keys").await;
    let work = Arc::clone(&app.app.work);
    let slow = tokio::spawn(async move { sweep(&work, "slow").await });
    held.awaited_by(1).await;
    // The one connection goes to whoever asked first: between two transactions of the sweeper, its lease runs out and
    // is taken.
    let work = Arc::clone(&app.app.work);
    let next = tokio::spawn(async move {
        let overtake = async |tx: &mut UpkeepTx<'_>| {
            tx.conn()
                .batch_execute("UPDATE leases SET lease_until = '-infinity' WHERE name = 'sweeper'")
                .await?;
            Ok::<_, WorkError>(jobs::hold(tx, "sweeper", "next", 60).await?)
        };
        work.upkeep(Upkeep::Lease, overtake).await
    });
    tokio::task::yield_now().await;
    held.let_go().await;
    assert!(next.await.unwrap().unwrap());
    assert_eq!(slow.await.unwrap().unwrap(), 0);
    assert_eq!(count(&app, "orgs WHERE slug = 'acme'").await, 1);
    assert_eq!(count(&app, "audit_outbox").await, events, "nor says that it did");
    assert_eq!(sweep(app.work(), "next").await.unwrap(), 1);
}
