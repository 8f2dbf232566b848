//! `GET /v1/audit/events`: who reads what, in which order, a page at a time.
use crate::{
    app::TestApp,
    audit_sequencer::{refuse, sequence_all, superuser},
};
use diesel_async::SimpleAsyncConnection;
use identityd::{
    authorization::{Action, Target},
    kernel::{Actor, Id, OrgId, PLATFORM},
    work::{Audited, WorkError},
};
use serde_json::{Value, json};

const EVENTS: &str = "/v1/audit/events";

/// The person who owns the org.
async fn owner(app: &TestApp, org: OrgId) -> Actor {
    let fact = format!("SELECT body FROM authz_fact WHERE kind = 'user' AND org_id = '{org}'");
    let identity = app.rows(&fact).await[0]["body"]["identity"].as_str().unwrap().parse().unwrap();
    Actor::Person { identity, session: Id::from_uuid(uuid::Uuid::nil()) }
}

/// Gives the owner of the org a role on the platform.
async fn promote(app: &TestApp, org: OrgId, role: &str) {
    let Actor::Person { identity, .. } = owner(app, org).await else { unreachable!("an owner is a person") };
    let sql = format!(
        "SET session_replication_role = replica;
         UPDATE authz_clock SET seq = seq + 1;
         UPDATE authz_fact SET body = jsonb_set(body, '{{platform_roles}}', '[\"{role}\"]'),
           seq = (SELECT seq FROM authz_clock) WHERE kind = 'identity' AND id = '{identity}'"
    );
    superuser(app).await.batch_execute(&sql).await.unwrap();
    app.work().catch_up().await.unwrap();
}

/// Something that the owner of the org was allowed to do.
async fn act(app: &TestApp, org: OrgId, detail: Value) {
    let ctx = app.work().ctx(owner(app, org).await);
    let permit = app.work().permit(&ctx, Action::OrgsUpdate, Target::Org(org)).await.unwrap();
    let done = app.work().write(&ctx, permit, async |tx| {
        let event = tx.event(org).detail(detail).personal("email", "owner@example.io");
        Ok::<_, WorkError>(Audited::new((), event))
    });
    done.await.unwrap();
}

fn codes(answer: &Value) -> Vec<&str> {
    assert_eq!(answer["status"], 200, "{answer}");
    let events = answer["body"].as_array().unwrap();
    events.iter().map(|event| event["policy"]["code"].as_str().unwrap_or("done")).collect()
}

fn code(answer: &Value) -> (u64, &str) {
    (answer["status"].as_u64().unwrap(), answer["body"]["code"].as_str().unwrap_or_default())
}

#[tokio::test]
async fn an_owner_reads_what_happened_in_the_own_org_the_newest_first() {
    let app = TestApp::new().await;
    let (acme, globex) = (app.org("alice", "acme").await, app.org("bob", "globex").await);
    refuse(&app, Actor::Anonymous, acme, "FIRST").await;
    refuse(&app, Actor::Anonymous, globex, "ELSEWHERE").await;
    act(&app, acme, json!({ "name": "Acme" })).await;
    sequence_all(&app).await;

    let answer = app.get("alice", &format!("{EVENTS}?org=acme")).await;
    assert_eq!(codes(&answer)[..2], ["done", "FIRST"], "{answer}");
    let events = answer["body"].as_array().unwrap();
    assert!(events.iter().all(|event| event["orgId"] == json!(acme)));
    let by_id = app.get("alice", &format!("{EVENTS}?org={acme}")).await;
    assert_eq!(by_id["body"], answer["body"]);

    let (done, first) = (&events[0], &events[1]);
    let row = &app.rows(
        "SELECT seq, org_seq, event_id, sequenced_at, encode(leaf, 'base64') AS leaf, encode(prev, 'base64') AS prev,
           convert_from(entry, 'UTF8')::jsonb AS entry FROM audit_log ORDER BY seq DESC LIMIT 1",
    ).await[0];
    let actor = owner(&app, acme).await.to_string();
    assert_eq!(
        *done,
        json!({
            "seq": row["seq"], "orgSeq": row["org_seq"], "id": row["event_id"], "orgId": acme,
            "time": app.clock.now(), "sequencedAt": done["sequencedAt"], "action": "orgs:update", "actor": actor,
            "target": acme, "outcome": "allow", "policy": null, "requestId": row["entry"]["req"], "trace": null,
            "detail": { "name": "Acme" }, "personal": { "email": "owner@example.io" },
            "leaf": row["leaf"], "prev": first["leaf"],
        })
    );
    assert_eq!(first["policy"], json!({ "code": "FIRST", "ids": ["some.policy"] }));
    assert_eq!(first["personal"], json!({ "email": "FIRST@example.io" }));
    assert_eq!((&first["actor"], &first["outcome"]), (&json!("anonymous"), &json!("deny")));
}

#[tokio::test]
async fn a_stranger_finds_nothing_and_an_owner_no_platform() {
    let app = TestApp::new().await;
    let acme = app.org("alice", "acme").await;
    app.org("bob", "globex").await;
    for org in ["acme", &acme.to_string(), "no-such-org", "", "0199fd1c-0b20-7f43-8a6b-5c2e109f6e3b"] {
        let answer = app.get("bob", &format!("{EVENTS}?org={org}")).await;
        assert_eq!(code(&answer), (404, "NOT_FOUND"), "{org}");
    }
    for path in [EVENTS.to_owned(), format!("{EVENTS}?org=platform"), format!("{EVENTS}?org={PLATFORM}")] {
        let answer = app.get("bob", &path).await;
        assert_eq!(code(&answer), (403, "NO_MATCHING_PERMIT"), "{path}");
    }
}

#[tokio::test]
async fn who_has_a_platform_role_reads_every_chain() {
    let app = TestApp::new().await;
    let (acme, globex) = (app.org("alice", "acme").await, app.org("bob", "globex").await);
    promote(&app, acme, "platform-auditor").await;
    for (chain, code) in [(acme, "A"), (PLATFORM, "B"), (globex, "C"), (PLATFORM, "D")] {
        refuse(&app, Actor::Anonymous, chain, code).await;
    }
    sequence_all(&app).await;
    let all = app.get("alice", EVENTS).await;
    assert_eq!(codes(&all)[..4], ["D", "C", "B", "A"]);
    assert_eq!(all["body"][1]["personal"]["email"], "C@example.io");
    let seqs: Vec<_> =
        all["body"].as_array().unwrap().iter().map(|event| event["seq"].as_i64().unwrap()).collect();
    assert!(seqs.windows(2).all(|pair| pair[0] == pair[1] + 1) && seqs.last() == Some(&0), "{seqs:?}");
    for name in ["platform".to_owned(), PLATFORM.to_string()] {
        let own = app.get("alice", &format!("{EVENTS}?org={name}")).await;
        assert_eq!(codes(&own)[..2], ["D", "B"]);
        assert_eq!(own["body"][0]["personal"]["email"], "D@example.io");
        assert!(own["body"].as_array().unwrap().iter().all(|event| event["orgId"] == json!(PLATFORM)));
    }
    let other = app.get("alice", &format!("{EVENTS}?org=globex")).await;
    assert_eq!(codes(&other)[..1], ["C"]);
}

#[tokio::test]
async fn pages_follow_one_another_without_a_gap_or_a_repetition() {
    let app = TestApp::new().await;
    let acme = app.org("alice", "acme").await;
    promote(&app, acme, "platform-admin").await;
    for n in 0..7 {
        refuse(&app, Actor::Anonymous, [acme, PLATFORM][n % 2], &format!("CODE_{n}")).await;
    }
    sequence_all(&app).await;
    for query in
        ["org=acme&outcome=deny", "org=acme", "org=platform", "outcome=deny", "to=2100-01-01T00:00:00Z"]
    {
        let whole = app.get("alice", &format!("{EVENTS}?{query}")).await;
        assert_eq!(whole["headers"].get("link"), None, "{query}: fewer than fifty");
        for limit in 1..=4 {
            let (mut path, mut events) = (format!("{EVENTS}?{query}&limit={limit}"), vec![]);
            loop {
                // New events come in front, and move nothing.
                refuse(&app, Actor::Anonymous, acme, &format!("NEW_{limit}_{}", events.len())).await;
                let page = app.get("alice", &path).await;
                assert_eq!(page["status"], 200, "{page}");
                events.extend(page["body"].as_array().unwrap().clone());
                assert!(events.len() < 100, "{query}: the pages have no end");
                let Some(link) = page["headers"].get("link") else { break };
                let next = link.as_str().unwrap().strip_prefix('<').unwrap().split_once('>').unwrap();
                assert_eq!(next.1, "; rel=\"next\"");
                path = next.0.to_owned();
            }
            assert_eq!(Value::from(events), whole["body"], "{query}, limit {limit}");
        }
        assert!(whole["body"].as_array().unwrap().len() >= 3);
    }
}

#[tokio::test]
async fn filters_choose_and_combine() {
    let app = TestApp::new().await;
    let acme = app.org("alice", "acme").await;
    let somebody = Actor::Key { key: Id::from_uuid(uuid::Uuid::from_u128(0xCAFE)) };
    sequence_all(&app).await;
    let began = app.clock.now();
    app.clock.tick(std::time::Duration::from_millis(500));
    refuse(&app, somebody, acme, "KEY").await;
    let between = app.clock.now();
    app.clock.tick(std::time::Duration::from_millis(100));
    refuse(&app, Actor::Anonymous, acme, "ANONYMOUS").await;
    act(&app, acme, json!({})).await;
    sequence_all(&app).await;
    let text = |at: chrono::DateTime<chrono::Utc>| at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
    let after = text(between + chrono::TimeDelta::milliseconds(1));
    let (began, between) = (text(began), text(between));
    let key = uuid::Uuid::from_u128(0xCAFE);
    let shifted = between.replace('Z', "+00:00"); // an offset whose plus nobody escaped
    for (query, expected) in [
        (format!("actor=key:{key}"), vec!["KEY"]),
        (format!("actor={key}"), vec!["KEY"]),
        (format!("actor=person:{key}"), vec![]),
        ("actor=anonymous".to_owned(), vec!["ANONYMOUS"]),
        ("actor=%25".to_owned(), vec![]),
        (format!("action=keys:issue&from={began}"), vec!["ANONYMOUS", "KEY"]),
        ("action=orgs:update".to_owned(), vec!["done"]),
        (format!("outcome=deny&actor={key}"), vec!["KEY"]),
        (format!("outcome=allow&actor={key}"), vec![]),
        (format!("from={between}"), vec!["done", "ANONYMOUS", "KEY"]),
        (format!("from={shifted}"), vec!["done", "ANONYMOUS", "KEY"]),
        (format!("outcome=deny&to={between}"), vec![]),
        (format!("outcome=deny&from={between}&to={after}"), vec!["KEY"]),
    ] {
        let answer = app.get("alice", &format!("{EVENTS}?org=acme&{query}")).await;
        assert_eq!(codes(&answer), expected, "{query}");
    }
}

#[tokio::test]
async fn a_wrong_filter_is_refused_by_name() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    for (query, field, expected) in [
        ("action=keys:fly", "action", "ACTION_UNKNOWN"),
        ("action=", "action", "ACTION_UNKNOWN"),
        ("outcome=maybe", "outcome", "OUTCOME_UNKNOWN"),
        ("from=yesterday", "from", "INSTANT_INVALID"),
        ("to=2026-11-24", "to", "INSTANT_INVALID"),
        ("from=2026-11-24T00:00:00Z&to=2026-11-24T00:00:00Z", "to", "SPAN_EMPTY"),
        ("limit=0", "limit", "LIMIT_INVALID"),
        ("limit=1001", "limit", "LIMIT_INVALID"),
        ("cursor=garbage", "cursor", "CURSOR_INVALID"),
        ("cursor=_____________________w", "cursor", "CURSOR_INVALID"),
    ] {
        let answer = app.get("alice", &format!("{EVENTS}?org=acme&{query}")).await;
        assert_eq!(code(&answer), (422, expected), "{query}");
        assert_eq!(answer["body"]["errors"][0]["field"], field);
    }
    let answer = app.get("alice", &format!("{EVENTS}?org=acme&limit=many")).await;
    assert_eq!(code(&answer), (422, "INVALID_QUERY"));
}

#[tokio::test]
async fn what_was_erased_or_altered_is_not_shown_and_hides_nothing_else() {
    let app = TestApp::new().await;
    let acme = app.org("alice", "acme").await;
    for code in ["ERASED", "ALTERED", "WHOLE"] {
        refuse(&app, Actor::Anonymous, acme, code).await;
    }
    let lie = "UPDATE audit_outbox SET body = convert_to(replace(convert_from(body, 'UTF8'), 'ALTERED', 'HARMLESS'),
        'UTF8') WHERE convert_from(body, 'UTF8') LIKE '%ALTERED%'";
    let mut conn = superuser(&app).await;
    conn.batch_execute(lie).await.unwrap();
    sequence_all(&app).await;
    let of = |code: &str| {
        format!("(SELECT event_id FROM audit_log WHERE convert_from(entry, 'UTF8') LIKE '%{code}%')")
    };
    conn.batch_execute(&format!("DELETE FROM audit_pii WHERE event_id = {}", of("ERASED"))).await.unwrap();
    let garble =
        format!("UPDATE audit_pii SET sealed = sealed || '\\x00' WHERE event_id = {}", of("HARMLESS"));
    conn.batch_execute(&garble).await.unwrap();

    let answer = app.get("alice", &format!("{EVENTS}?org=acme&outcome=deny")).await;
    assert_eq!(codes(&answer), ["WHOLE", "HARMLESS", "ERASED"]);
    let [whole, altered, erased] = &answer["body"].as_array().unwrap()[..] else { unreachable!("{answer}") };
    assert_eq!(whole["personal"], json!({ "email": "WHOLE@example.io" }));
    assert_eq!((altered.get("personal"), altered.get("tampered")), (None, Some(&json!(true))));
    assert_eq!((erased.get("personal"), erased.get("tampered")), (None, None));
}
