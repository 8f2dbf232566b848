//! From the outbox to the log: in one order, without a gap, whatever goes wrong on the way.
use crate::app::TestApp;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::{DateTime, Utc};
use diesel::{sql_query, sql_types as st};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use identityd::{
    audit::{self, Lag},
    authorization::Action,
    kernel::{Actor, Id, OrgId, PLATFORM},
    ledger::{OutboxRow, Refused, event_mac},
    platform::{
        keys::{Keys, sha256},
        tasks::Tasks,
    },
};
use serde_json::{Value, json};
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use uuid::Uuid;

/// To do what only the database's superuser can.
pub async fn superuser(app: &TestApp) -> AsyncPgConnection {
    let server = std::env::var("TEST_DATABASE_URL").expect("run tests/servers up");
    let rows = app.rows("SELECT current_database() AS name").await;
    let url = format!("{server}/{}", rows[0]["name"].as_str().unwrap());
    AsyncPgConnection::establish(&url).await.unwrap()
}

/// A refusal, written as any part of the service writes one. The code keeps it from being counted with others.
pub async fn refuse(app: &TestApp, actor: Actor, chain: OrgId, code: &str) {
    let refused = Refused {
        chain,
        action: Action::KeysIssue,
        target: chain.to_string(),
        code: code.to_owned(),
        policy_ids: vec!["some.policy".to_owned()],
        pii: vec![("email", format!("{code}@example.io"))],
        detail: json!({ "code": code }),
    };
    app.work().refuse(&app.work().ctx(actor), refused).await.unwrap();
}

/// Sequences until nothing waits.
pub async fn sequence_all(app: &TestApp) -> usize {
    let mut total = 0;
    loop {
        match audit::sequence(app.work(), "test").await.unwrap() {
            0 => return total,
            count => total += count,
        }
    }
}

/// Puts authentic events straight into the outbox, in turn for each chain.
async fn fill(app: &TestApp, chains: &[OrgId], count: usize) {
    let keys = app.work().keys();
    let rows: Vec<(OutboxRow, Vec<u8>)> =
        (0..count).map(|n| event(keys, chains[n % chains.len()], n)).collect();
    let mut conn = superuser(app).await;
    for rows in rows.chunks(1000) {
        let insert = "INSERT INTO audit_outbox (org_id, event_id, occurred_at, body, mac)
            SELECT org, event, now(), body, mac FROM unnest($1, $2, $3, $4) WITH ORDINALITY t(org, event, body, mac, n)
            ORDER BY n";
        sql_query(insert)
            .bind::<st::Array<st::Uuid>, _>(rows.iter().map(|(row, _)| row.org.uuid()).collect::<Vec<_>>())
            .bind::<st::Array<st::Uuid>, _>(rows.iter().map(|(row, _)| row.event.uuid()).collect::<Vec<_>>())
            .bind::<st::Array<st::Binary>, _>(
                rows.iter().map(|(row, _)| row.body.as_slice()).collect::<Vec<_>>(),
            )
            .bind::<st::Array<st::Binary>, _>(rows.iter().map(|(_, mac)| mac.as_slice()).collect::<Vec<_>>())
            .execute(&mut conn)
            .await
            .unwrap();
    }
}

/// About 600 bytes.
fn event(keys: &Keys, chain: OrgId, n: usize) -> (OutboxRow, Vec<u8>) {
    let id = Uuid::from_u128((0x0199 << 112) + u128::try_from(n).unwrap());
    let body = json!({
        "v": 1, "id": id, "org": chain, "time": "2026-01-05T09:00:00.123456Z", "action": "keys:issue",
        "actor": format!("person:{id}"), "target": id.to_string(), "outcome": "allow", "policy": null,
        "req": format!("request-{n}"), "trace": "4bf92f3577b34da6a3ce929d0e0e4736",
        "body": { "n": n, "scopes": ["inference:invoke", "models:read"], "displayName": "x".repeat(80) },
        "pii": { "address": STANDARD.encode([7; 32]), "userAgent": STANDARD.encode([8; 32]) },
    });
    let row = OutboxRow {
        org: chain,
        event: Id::from_uuid(id),
        body: serde_json::to_vec(&body).unwrap(),
        pii: None,
    };
    let mac = event_mac(keys, &row);
    (row, mac)
}

async fn waiting(app: &TestApp) -> usize {
    let rows = app.rows("SELECT count(*) AS count FROM audit_outbox").await;
    usize::try_from(rows[0]["count"].as_u64().unwrap()).unwrap()
}

async fn log(app: &TestApp) -> Vec<Value> {
    let rows = app.rows(
        "SELECT seq, org_id, org_seq, event_id, occurred_at, sequenced_at, action, actor, target, outcome,
           convert_from(entry, 'UTF8') AS entry, encode(leaf, 'base64') AS leaf, encode(prev, 'base64') AS prev
         FROM audit_log ORDER BY seq",
    );
    rows.await.as_array().unwrap().clone()
}

/// Recomputes everything from the entries alone, by the definitions and not by the service's code.
async fn verify(app: &TestApp) -> Vec<Value> {
    let log = log(app).await;
    let mut chains: HashMap<String, (i64, Value)> = HashMap::new();
    let mut leaves: Vec<[u8; 32]> = vec![];
    for (row, seq) in log.iter().zip(0_i64..) {
        let text = row["entry"].as_str().unwrap();
        let entry: Value = serde_json::from_str(text).unwrap();
        let org = row["org_id"].as_str().unwrap().to_owned();
        let (org_seq, prev) = chains.get(&org).cloned().unwrap_or((0, Value::Null));
        assert_eq!(row["seq"], json!(seq));
        assert_eq!(entry["org"], row["org_id"]);
        assert_eq!(entry["id"], row["event_id"]);
        assert_eq!((&row["org_seq"], &entry["org_seq"]), (&json!(org_seq + 1), &json!(org_seq + 1)));
        assert_eq!((&row["prev"], &entry["prev"]), (&prev, &prev));
        let at = |text: &Value| text.as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
        assert_eq!(at(&entry["sequenced_at"]), at(&row["sequenced_at"]));
        // No key or text here needs more than sorted members to be canonical.
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        let leaf = sha256(&[b"\x00", text.as_bytes()]);
        assert_eq!(row["leaf"], json!(STANDARD.encode(leaf)));
        leaves.push(leaf);
        chains.insert(org, (org_seq + 1, row["leaf"].clone()));
    }
    let head = app.rows("SELECT size, encode(peaks, 'base64') AS peaks FROM audit_head").await;
    let peaks = head[0]["peaks"].as_str().unwrap().replace('\n', "");
    assert_eq!(head[0]["size"], json!(leaves.len()));
    assert_eq!(STANDARD.decode(peaks).unwrap(), self::peaks(&leaves).concat());
    let heads = app.rows("SELECT org_id, org_seq, encode(leaf, 'base64') AS leaf FROM audit_org_head").await;
    assert_eq!(heads.as_array().unwrap().len(), chains.len());
    for head in heads.as_array().unwrap() {
        let chain = &chains[head["org_id"].as_str().unwrap()];
        assert_eq!((&head["org_seq"], &head["leaf"]), (&json!(chain.0), &chain.1));
    }
    log
}

/// RFC 6962: the largest perfect tree on the left, then what is right of it.
fn peaks(leaves: &[[u8; 32]]) -> Vec<[u8; 32]> {
    fn root(leaves: &[[u8; 32]]) -> [u8; 32] {
        if let [leaf] = leaves {
            return *leaf;
        }
        let (left, right) = leaves.split_at(leaves.len() / 2);
        sha256(&[b"\x01", &root(left), &root(right)])
    }
    if leaves.is_empty() {
        return vec![];
    }
    let (left, right) = leaves.split_at(1 << leaves.len().ilog2());
    [vec![root(left)], peaks(right)].concat()
}

async fn expire_lease(app: &TestApp) {
    let expire = "UPDATE leases SET lease_until = '-infinity' WHERE name = 'sequencer'";
    superuser(app).await.batch_execute(expire).await.unwrap();
}

#[tokio::test]
async fn events_keep_their_order_on_the_log_and_have_no_gap_on_their_chains() {
    let app = TestApp::new().await;
    let (acme, globex) = (app.org("alice", "acme").await, app.org("bob", "globex").await);
    for n in 0..30 {
        let chain = [acme, PLATFORM, globex, acme][n % 4];
        refuse(&app, Actor::Anonymous, chain, &format!("CODE_{n}")).await;
    }
    let outbox =
        app.rows("SELECT event_id, convert_from(body, 'UTF8') AS body FROM audit_outbox ORDER BY id").await;
    let outbox = outbox.as_array().unwrap();
    assert_eq!(sequence_all(&app).await, outbox.len());
    assert_eq!(waiting(&app).await, 0);

    let log = verify(&app).await;
    assert_eq!(log.len(), outbox.len());
    for (row, told) in log.iter().zip(outbox) {
        assert_eq!(row["event_id"], told["event_id"]);
        let mut entry: Value = serde_json::from_str(row["entry"].as_str().unwrap()).unwrap();
        let entry = entry.as_object_mut().unwrap();
        for added in ["org_seq", "prev", "sequenced_at"] {
            entry.remove(added).unwrap();
        }
        let told: Value = serde_json::from_str(told["body"].as_str().unwrap()).unwrap();
        assert_eq!(Value::from(entry.clone()), told);
        for name in ["action", "actor", "target", "outcome"] {
            assert_eq!(row[name], told[name]);
        }
        let at = |text: &Value| text.as_str().unwrap().parse::<DateTime<Utc>>().unwrap();
        assert_eq!(at(&row["occurred_at"]), at(&told["time"]));
    }

    // A second batch goes on where the first ended.
    refuse(&app, Actor::Anonymous, acme, "LATER").await;
    assert_eq!(sequence_all(&app).await, 1);
    assert_eq!(verify(&app).await.len(), outbox.len() + 1);
}

#[tokio::test]
async fn personal_values_are_on_the_log_as_digests_only_and_sealed_beside_it() {
    let app = TestApp::new().await;
    let acme = app.org("alice", "acme").await;
    refuse(&app, Actor::Anonymous, acme, "MARKED").await;
    sequence_all(&app).await;
    let log = verify(&app).await;
    let entry = log.last().unwrap()["entry"].as_str().unwrap();
    assert!(!entry.contains("example.io"), "{entry}");
    assert_eq!(serde_json::from_str::<Value>(entry).unwrap()["pii"]["email"].as_str().unwrap().len(), 44);
    let event = log.last().unwrap()["event_id"].as_str().unwrap();
    let sealed = app.rows(&format!("SELECT org_id FROM audit_pii WHERE event_id = '{event}'")).await;
    assert_eq!(sealed, json!([{ "org_id": acme }]));
}

#[tokio::test]
async fn what_was_altered_in_the_outbox_gets_its_place_and_says_so() {
    let app = TestApp::new().await;
    let acme = app.org("alice", "acme").await;
    sequence_all(&app).await;
    for n in 0..5 {
        refuse(&app, Actor::Anonymous, acme, &format!("CODE_{n}")).await;
    }
    let mut conn = superuser(&app).await;
    let told = |n: i32| format!("WHERE convert_from(body, 'UTF8') LIKE '%CODE_{n}%'");
    let innocent = "convert_to(replace(convert_from(body, 'UTF8'), '\"deny\"', '\"allow\"'), 'UTF8')";
    conn.batch_execute(&format!("UPDATE audit_outbox SET body = {innocent} {}", told(1))).await.unwrap();
    let globe = Uuid::from_u128(0x610BE);
    conn.batch_execute(&format!("UPDATE audit_outbox SET org_id = '{globe}' {}", told(2))).await.unwrap();
    conn.batch_execute(&format!("UPDATE audit_outbox SET body = '\\x00ff7b' {}", told(3))).await.unwrap();
    sequence_all(&app).await;
    // An event that is on the log already, with its values, as if it were new.
    let again = "INSERT INTO audit_outbox (org_id, event_id, occurred_at, body, pii, mac)
        SELECT org_id, event_id, now(), 'null', sealed, '' FROM audit_pii LIMIT 1";
    conn.batch_execute(again).await.unwrap();
    assert_eq!(sequence_all(&app).await, 1);

    let log = verify(&app).await;
    let entry = |row: &Value| -> Value { serde_json::from_str(row["entry"].as_str().unwrap()).unwrap() };
    let marks: Vec<_> =
        log.iter().rev().take(6).rev().map(|row| entry(row).get("tampered").cloned()).collect();
    let yes = Some(json!(true));
    assert_eq!(marks, [None, yes.clone(), yes.clone(), yes.clone(), None, yes]);
    let [_, lie, moved, garbage, _, _] = &log[log.len() - 6..] else { unreachable!("six were told") };
    assert_eq!(lie["outcome"], "allow");
    assert_eq!((&moved["org_id"], &moved["org_seq"]), (&json!(globe), &json!(1)));
    assert_eq!(entry(garbage)["unreadable"]["bytes"], 3);
    assert_eq!(garbage["action"], "unknown");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_sequencers_at_once_never_fork_the_log() {
    let app = TestApp::new().await;
    let chains = [PLATFORM, Id::from_uuid(Uuid::from_u128(1)), Id::from_uuid(Uuid::from_u128(2))];
    let before = waiting(&app).await;
    fill(&app, &chains, 2000).await;
    let run = |n: usize| {
        let (work, owner) = (Arc::clone(&app.app.work), format!("owner-{}", n % 4));
        tokio::spawn(async move {
            let mut total = 0;
            while audit::backlog(&work).await.unwrap().events > 0 {
                total += audit::sequence(&work, &owner).await.unwrap();
            }
            total
        })
    };
    let tasks: Vec<_> = (0..8).map(run).collect();
    // The lease is pulled from under whoever holds it, again and again.
    let began = Instant::now();
    while waiting(&app).await > 0 {
        expire_lease(&app).await;
        assert!(began.elapsed() < Duration::from_mins(1), "the outbox does not empty");
    }
    let mut total = 0;
    for task in tasks {
        total += task.await.unwrap();
    }
    assert_eq!(total, before + 2000);
    assert_eq!(verify(&app).await.len(), before + 2000);
}

#[tokio::test]
async fn a_turn_that_fails_loses_nothing() {
    let app = TestApp::new().await;
    sequence_all(&app).await;
    let before = verify(&app).await.len();
    fill(&app, &[PLATFORM], 100).await;
    let mut conn = superuser(&app).await;
    conn.batch_execute("ALTER TABLE audit_log ADD CONSTRAINT full_disk CHECK (seq < 0) NOT VALID")
        .await
        .unwrap();
    assert!(audit::sequence(app.work(), "test").await.is_err());
    assert_eq!(waiting(&app).await, 100);
    conn.batch_execute("ALTER TABLE audit_log DROP CONSTRAINT full_disk").await.unwrap();

    // Storage that garbles what it is given is found out before the commit.
    let garble = "CREATE FUNCTION garble() RETURNS trigger LANGUAGE plpgsql AS
        $$ BEGIN NEW.entry := NEW.entry || ' '; RETURN NEW; END $$;
        CREATE TRIGGER garble BEFORE INSERT ON audit_log FOR EACH ROW WHEN (NEW.seq % 7 = 0) EXECUTE FUNCTION garble()";
    conn.batch_execute(garble).await.unwrap();
    let error = audit::sequence(app.work(), "test").await.unwrap_err();
    assert!(error.to_string().contains("an entry is not what was written"), "{error}");
    assert_eq!((waiting(&app).await, verify(&app).await.len()), (100, before));
    conn.batch_execute("DROP TRIGGER garble ON audit_log").await.unwrap();
    assert_eq!(sequence_all(&app).await, 100);
    assert_eq!(verify(&app).await.len(), before + 100);
}

#[tokio::test]
async fn a_turn_that_is_cut_off_anywhere_loses_nothing() {
    const EVENTS: usize = 3000;
    let app = TestApp::new().await;
    sequence_all(&app).await;
    let before = verify(&app).await.len();
    fill(&app, &[PLATFORM, Id::from_uuid(Uuid::from_u128(1))], EVENTS).await;
    for tenths_ms in 0..200_u64 {
        let patience = Duration::from_micros(tenths_ms * 100);
        let _ = tokio::time::timeout(patience, audit::sequence(app.work(), "test")).await;
    }
    // The server may still be ending what was cut off.
    let began = Instant::now();
    while waiting(&app).await > 0 && began.elapsed() < Duration::from_secs(30) {
        sequence_all(&app).await;
    }
    assert_eq!(verify(&app).await.len(), before + EVENTS);
}

#[tokio::test]
async fn nothing_is_sequenced_while_another_holds_the_lease() {
    let app = TestApp::new().await;
    sequence_all(&app).await;
    assert_eq!(audit::sequence(app.work(), "first").await.unwrap(), 0, "the lease is test's");
    expire_lease(&app).await;
    fill(&app, &[PLATFORM], 10).await;
    assert_eq!(audit::sequence(app.work(), "first").await.unwrap(), 10);
    fill(&app, &[PLATFORM], 10).await;
    assert_eq!(audit::sequence(app.work(), "second").await.unwrap(), 0);
    assert!(!audit::keep_partitions(app.work(), "second").await.unwrap());
    // The first is frozen in the middle of a turn, and its time is over: nobody waits for it, nobody overtakes it.
    let mut frozen = superuser(&app).await;
    expire_lease(&app).await;
    let freeze =
        "BEGIN; SELECT FROM leases WHERE name = 'sequencer' FOR UPDATE; SELECT FROM audit_head FOR UPDATE";
    frozen.batch_execute(freeze).await.unwrap();
    assert_eq!(audit::sequence(app.work(), "second").await.unwrap(), 0);
    drop(frozen);
    let began = Instant::now();
    while audit::sequence(app.work(), "second").await.unwrap() == 0 {
        assert!(
            began.elapsed() < Duration::from_secs(10),
            "the server ends a transaction whose client is gone"
        );
    }
    verify(&app).await;
}

#[tokio::test]
async fn nobody_changes_or_deletes_what_is_on_the_log() {
    let app = TestApp::new().await;
    fill(&app, &[PLATFORM], 3).await;
    sequence_all(&app).await;
    let partition = app.rows("SELECT tableoid::regclass::text AS name FROM audit_log LIMIT 1").await;
    let partition = partition[0]["name"].as_str().unwrap();
    for role in ["identityd_app", "identityd_platform", "identityd_sequencer"] {
        let mut conn = superuser(&app).await;
        conn.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
        for table in ["audit_log", partition] {
            for change in [
                format!("UPDATE {table} SET outcome = 'allow'"),
                format!("DELETE FROM {table}"),
                format!("TRUNCATE {table}"),
                format!("DROP TABLE {table}"),
            ] {
                let error = conn.batch_execute(&change).await.unwrap_err().to_string();
                let refused = error.contains("permission denied") || error.contains("must be owner");
                assert!(refused, "{role}: {change}: {error}");
            }
        }
    }
    for (role, table) in [
        ("identityd_app", "audit_outbox"),
        ("identityd_app", "audit_head"),
        ("identityd_sequencer", "audit_pii"),
    ] {
        let mut conn = superuser(&app).await;
        conn.batch_execute(&format!("SET ROLE {role}")).await.unwrap();
        let error = conn.batch_execute(&format!("DELETE FROM {table}")).await.unwrap_err().to_string();
        assert!(error.contains("permission denied"), "{role}: {table}: {error}");
    }
}

#[tokio::test]
async fn missing_partitions_are_made() {
    let app = TestApp::new().await;
    let partitions = "SELECT inhrelid::regclass::text AS name FROM pg_inherits
        WHERE inhparent = 'audit_log'::regclass ORDER BY 1";
    let all = app.rows(partitions).await;
    assert_eq!(all.as_array().unwrap().len(), 2);
    let mut conn = superuser(&app).await;
    for name in all.as_array().unwrap() {
        conn.batch_execute(&format!("DROP TABLE {}", name["name"].as_str().unwrap())).await.unwrap();
    }
    assert!(audit::keep_partitions(app.work(), "test").await.unwrap());
    assert_eq!(app.rows(partitions).await, all);
    assert!(audit::keep_partitions(app.work(), "test").await.unwrap(), "and again");
    fill(&app, &[PLATFORM], 3).await;
    sequence_all(&app).await;
    verify(&app).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_sequencer_is_woken_and_leaves_nothing_behind_when_it_stops() {
    let app = TestApp::new().await;
    let before = waiting(&app).await;
    let (tasks, lag) = (Tasks::default(), Lag::default());
    lag.register(app.work().metrics());
    let (work, gauges) = (Arc::clone(&app.app.work), lag.clone());
    tasks.spawn("sequencer", |stop| audit::run_sequencer(work, "test".to_owned(), gauges, stop));
    refuse(&app, Actor::Anonymous, PLATFORM, "FIRST").await;
    let began = Instant::now();
    while app.rows("SELECT size FROM audit_head").await != json!([{ "size": before + 1 }]) {
        assert!(began.elapsed() < Duration::from_secs(10), "nobody woke the sequencer");
    }
    // A flood: sixty are written one by one, the others counted, and told as one.
    for _ in 0..100 {
        refuse(&app, Actor::Anonymous, PLATFORM, "FLOOD").await;
    }
    app.work().tell_counted().await.unwrap();
    tasks.stop(Duration::from_secs(10)).await;
    assert_eq!(waiting(&app).await, 0);
    let log = verify(&app).await;
    assert_eq!(log.len(), before + 1 + 60 + 1);
    let told: Value = serde_json::from_str(log.last().unwrap()["entry"].as_str().unwrap()).unwrap();
    assert_eq!(told["body"]["count"], 40);
    let metrics = app.work().metrics().render().unwrap();
    assert!(metrics.contains("identityd_audit_outbox_events "), "{metrics}");
    assert!(metrics.contains("identityd_audit_lag_seconds "), "{metrics}");
    assert!(metrics.contains(&format!("identityd_audit_sequenced_total {}", log.len())), "{metrics}");
}

#[tokio::test]
async fn the_backlog_is_measured() {
    let app = TestApp::new().await;
    sequence_all(&app).await;
    let empty = audit::backlog(app.work()).await.unwrap();
    assert_eq!((empty.events, empty.age_seconds), (0, 0.0));
    fill(&app, &[PLATFORM], 12).await;
    superuser(&app)
        .await
        .batch_execute("UPDATE audit_outbox SET occurred_at = now() - interval '90 seconds'")
        .await
        .unwrap();
    let backlog = audit::backlog(app.work()).await.unwrap();
    assert_eq!(backlog.events, 12);
    assert!((90.0..120.0).contains(&backlog.age_seconds), "{backlog:?}");
}

/// Prints a figure; what it must be is for machines that do nothing else.
#[tokio::test]
async fn throughput() {
    const EVENTS: usize = 20_000;
    let app = TestApp::new().await;
    sequence_all(&app).await;
    let chains: Vec<OrgId> = (1..=50).map(|n| Id::from_uuid(Uuid::from_u128(n))).collect();
    fill(&app, &chains, EVENTS).await;
    let began = Instant::now();
    assert_eq!(sequence_all(&app).await, EVENTS);
    let took = began.elapsed();
    let rate = f64::from(u32::try_from(EVENTS).unwrap()) / took.as_secs_f64();
    println!("{EVENTS} events sequenced in {took:?}: {rate:.0}/s");
}
