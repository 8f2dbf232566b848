//! What the unit of work leaves in the outbox: authentic, without personal values, and refusals before their answers.
use crate::{
    app::TestApp,
    support::{code, count, superuser},
};
use actix_web::http::Method;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use diesel::{QueryableByName, sql_query, sql_types as st};
use diesel_async::RunQueryDsl;
use identityd::{
    authorization::{Action, Grants, Role, Target},
    kernel::{Actor, Ctx, EventId, Id, OrgId, PLATFORM},
    ledger::{OutboxRow, Refused, open_pii},
    work::WorkError,
};
use insta::assert_json_snapshot;
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use uuid::Uuid;

const INVITES: &str = "/v1/orgs/acme/invites";
const REQUEST: (&str, &str) = ("X-Request-ID", "the-request");

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = st::Uuid)]
    org_id: Uuid,
    #[diesel(sql_type = st::Uuid)]
    event_id: Uuid,
    #[diesel(sql_type = st::Binary)]
    body: Vec<u8>,
    #[diesel(sql_type = st::Nullable<st::Binary>)]
    pii: Option<Vec<u8>>,
    #[diesel(sql_type = st::Binary)]
    mac: Vec<u8>,
}

/// The rows of the outbox, each with its mac.
async fn outbox(app: &TestApp) -> Vec<(OutboxRow, Vec<u8>)> {
    let mut conn = superuser(app).await;
    let query = sql_query("SELECT org_id, event_id, body, pii, mac FROM audit_outbox ORDER BY id");
    let rows: Vec<Stored> = query.load(&mut conn).await.unwrap();
    let row = |row: Stored| {
        let (org, event) = (Id::from_uuid(row.org_id), Id::from_uuid(row.event_id));
        (OutboxRow { org, event, body: row.body, pii: row.pii }, row.mac)
    };
    rows.into_iter().map(row).collect()
}

/// An invite with everything personal that a request can have.
async fn invite(app: &TestApp) -> Value {
    let body = json!({ "email": "newcomer@example.io" });
    let headers = [("User-Agent", "Curious/7.0"), REQUEST];
    app.call_with(Method::POST, Some("alice"), INVITES, body, &headers).await
}

async fn last_event(app: &TestApp) -> Value {
    app.events().await.as_array().unwrap().last().unwrap()["event"].clone()
}

#[actix_web::test]
async fn an_event_says_who_did_what_to_whom_on_whose_request() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    assert_eq!(invite(&app).await["status"], 202);
    assert_json_snapshot!("an_event", last_event(&app).await);
}

#[actix_web::test]
async fn a_row_is_authentic_until_any_part_of_it_is_altered() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    invite(&app).await;
    let (keys, rows) = (app.work().keys(), outbox(&app).await);
    assert!(rows.iter().all(|(row, mac)| row.is_authentic(keys, mac)));
    let (row, mac) = rows.last().unwrap();
    let mut longer = row.clone();
    longer.body.push(b' ');
    let mut shifted = row.clone();
    shifted.pii = Some([&row.body[row.body.len() - 1..], row.pii.as_ref().unwrap()].concat());
    shifted.body.pop();
    for altered in [
        OutboxRow { org: PLATFORM, ..row.clone() },
        OutboxRow { event: Id::from_uuid(Uuid::nil()), ..row.clone() },
        OutboxRow { pii: None, ..row.clone() },
        longer,
        shifted,
    ] {
        assert!(!altered.is_authentic(keys, mac), "{altered:?}");
    }
    let forged: Vec<u8> = mac.iter().map(|byte| byte ^ 1).collect();
    for mac in [&forged[..], &mac[..mac.len() - 1], &[], &mac[..2]] {
        assert!(!row.is_authentic(keys, mac));
    }
}

#[actix_web::test]
async fn personal_values_are_salted_digests_and_stand_sealed_beside_them() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    invite(&app).await;
    let (row, _) = outbox(&app).await.pop().unwrap();
    let (body, sealed) = (String::from_utf8(row.body).unwrap(), row.pii.unwrap());
    let personal = [("address", "127.0.0.1"), ("email", "newcomer@example.io"), ("userAgent", "Curious/7.0")];
    for (_, value) in personal {
        assert!(!body.contains(value), "{value}");
        assert!(!sealed.windows(value.len()).any(|part| part == value.as_bytes()), "{value}");
    }
    let told: Value = serde_json::from_str(&body).unwrap();
    let digests = told["pii"].as_object().unwrap();
    assert!(digests.len() == 3 && personal.iter().all(|(field, _)| digests.contains_key(*field)), "{body}");
    for digest in digests.values() {
        assert_eq!(STANDARD.decode(digest.as_str().unwrap()).unwrap().len(), 32);
    }
    let opened = open_pii(app.work().keys(), row.event, &sealed).unwrap();
    let expected: BTreeMap<_, _> =
        personal.iter().map(|(field, value)| ((*field).to_owned(), (*value).to_owned())).collect();
    assert_eq!(opened, expected);
    // Sealed for this event, so that values cannot be moved to another.
    let other: EventId = Id::from_uuid(Uuid::nil());
    assert!(open_pii(app.work().keys(), other, &sealed).is_err());

    let again = app.post("alice", INVITES, json!({ "email": "newcomer@example.io" })).await;
    assert_eq!(code(&again), (409, "EMAIL_KNOWN"));
    let path = format!("{INVITES}/{}/resend", told["target"].as_str().unwrap());
    assert_eq!(app.post("alice", &path, Value::Null).await["status"], 202);
    let next = last_event(&app).await;
    assert_ne!(next["pii"]["address"], told["pii"]["address"], "each event has salts of its own");
}

#[actix_web::test]
async fn no_event_of_a_persons_way_in_tells_an_address() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.joined(org, "alice", "newcomer", &["member"]).await;
    assert_eq!(app.sign_in("newcomer").await["status"], 200);
    let wrong = json!({ "email": "newcomer@example.io", "password": "wrong" });
    assert_eq!(app.call(Method::POST, None, "/v1/auth/login", wrong).await["status"], 401);
    for (row, _) in outbox(&app).await {
        let body = String::from_utf8(row.body).unwrap();
        assert!(!body.contains("example.io") && !body.contains("127.0.0.1"), "{body}");
    }
}

#[actix_web::test]
async fn a_detail_beyond_the_bound_is_told_by_its_digest() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let mut refused = refused(org, "LARGE");
    refused.detail = json!({ "text": "x".repeat(41 * 1024) });
    app.work().refuse(&app.ctx("alice").await, refused).await.unwrap();
    assert_json_snapshot!("a_large_detail", last_event(&app).await["body"]);
}

// Refusals -------------------------------------------------------------------------------------------------------

fn refused(chain: OrgId, code: &str) -> Refused {
    let (target, code) = (chain.to_string(), code.to_owned());
    Refused {
        chain,
        action: Action::KeysIssue,
        target,
        code,
        policy_ids: vec![],
        pii: vec![],
        detail: json!({}),
    }
}

#[actix_web::test]
async fn a_denial_is_on_the_orgs_chain_before_the_member_reads_it() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.member(org, "bob", Role::Viewer).await;
    let body = json!({ "email": "a@example.io", "roles": ["viewer"] });
    let denied = app.call_with(Method::POST, Some("bob"), INVITES, body, &[REQUEST]).await;
    assert_json_snapshot!("denied", denied);
    assert_json_snapshot!("denied_event", last_event(&app).await);
}

#[actix_web::test]
async fn a_denial_that_cannot_be_told_is_not_answered_as_one() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.member(org, "bob", Role::Viewer).await;
    app.sabotage("REVOKE INSERT ON audit_outbox FROM identityd_app").await;
    let denied = app.post("bob", INVITES, json!({ "email": "a@example.io" })).await;
    assert_eq!(code(&denied), (500, "INTERNAL"));
}

#[actix_web::test]
async fn a_stranger_learns_nothing_and_writes_on_the_platforms_chain() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let ctx = app.ctx("stranger").await;
    let invite = async |org: OrgId| {
        let (path, body) = (format!("/v1/orgs/{org}/invites"), json!({ "email": "a@example.io" }));
        let mut answer = app.call_with(Method::POST, Some("stranger"), &path, body, &[REQUEST]).await;
        assert_eq!(answer["body"]["instance"].take(), json!(path));
        answer
    };
    let (real, unreal) = (invite(org).await, invite(ctx.mint()).await);
    assert_eq!((&real, code(&real)), (&unreal, (404, "NOT_FOUND")));
    let last_two = "SELECT org_id FROM audit_outbox ORDER BY id DESC LIMIT 2";
    assert_eq!(app.rows(last_two).await, json!([{ "org_id": PLATFORM }, { "org_id": PLATFORM }]));
}

#[actix_web::test]
async fn a_flood_of_denials_is_sixty_events_and_one_with_the_exact_count() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.member(org, "bob", Role::Viewer).await;
    app.member(org, "carol", Role::Viewer).await;
    let before = count(&app, "audit_outbox").await;
    for _ in 0..100 {
        let denied = app.post("bob", INVITES, json!({ "email": "a@example.io" })).await;
        assert_eq!(denied["status"], 403, "each is refused, whether it is told singly or not");
    }
    assert_eq!(count(&app, "audit_outbox").await, before + 60);
    app.work().tell_counted().await.unwrap();
    assert_eq!(count(&app, "audit_outbox").await, before + 61);
    let told = last_event(&app).await;
    assert_eq!(told["body"]["count"], 40);
    assert_json_snapshot!("counted", told);
    app.work().tell_counted().await.unwrap();
    assert_eq!(count(&app, "audit_outbox").await, before + 61, "what is told is told once");
    // Another caller, and the same one a minute later, are told singly.
    app.post("carol", INVITES, json!({ "email": "a@example.io" })).await;
    assert_eq!(count(&app, "audit_outbox").await, before + 62);
    app.tick(Duration::from_mins(1)).await;
    app.post("bob", INVITES, json!({ "email": "a@example.io" })).await;
    assert_eq!(count(&app, "audit_outbox").await, before + 63);
}

#[actix_web::test]
async fn strangers_are_counted_by_their_network() {
    let app = TestApp::new().await;
    let before = count(&app, "audit_outbox").await;
    let from = |address: [u8; 4]| {
        let mut ctx = app.work().ctx(Actor::Anonymous);
        ctx.source.address = Some(address.into());
        ctx
    };
    let refuse = async |ctx: Ctx| app.work().refuse(&ctx, refused(PLATFORM, "X")).await.unwrap();
    for n in 0..100 {
        refuse(from([192, 0, 2, n])).await;
    }
    assert_eq!(count(&app, "audit_outbox").await, before + 60);
    refuse(from([192, 0, 3, 1])).await;
    assert_eq!(count(&app, "audit_outbox").await, before + 61, "the neighbours are not drowned");
    app.work().tell_counted().await.unwrap();
    // A network may be one household's: it is as personal as an address.
    assert_eq!(last_event(&app).await["body"], json!({ "count": 40 }));
    let (row, _) = outbox(&app).await.pop().unwrap();
    let opened = open_pii(app.work().keys(), row.event, &row.pii.unwrap()).unwrap();
    assert_eq!(opened, BTreeMap::from([("network".to_owned(), "192.0.2.0/24".to_owned())]));
}

#[actix_web::test]
async fn counts_that_cannot_be_told_are_told_later_and_not_one_is_lost() {
    let app = TestApp::new().await;
    let ctx = app.ctx("alice").await;
    let refuse = async || app.work().refuse(&ctx, refused(PLATFORM, "X")).await.unwrap();
    for _ in 0..70 {
        refuse().await;
    }
    app.sabotage("REVOKE INSERT ON audit_outbox FROM identityd_app").await;
    assert!(matches!(app.work().tell_counted().await, Err(WorkError::Storage(_))));
    for _ in 0..5 {
        refuse().await;
    }
    app.sabotage("GRANT INSERT ON audit_outbox TO identityd_app").await;
    app.work().tell_counted().await.unwrap();
    assert_eq!(last_event(&app).await["body"]["count"], 15);
}

#[actix_web::test]
async fn what_is_only_asked_is_not_told() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.member(org, "bob", Role::Viewer).await;
    let (ctx, before) = (app.ctx("bob").await, count(&app, "audit_outbox").await);
    let may = |action| app.work().would_permit(&ctx, action, Target::Org(org), Grants::Nothing);
    assert!(!may(Action::UsersInvite) && may(Action::UsersRead));
    assert_eq!(count(&app, "audit_outbox").await, before);
}
