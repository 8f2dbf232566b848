//! From the log to the brokers: every entry at least once and none left out, whatever goes wrong on the way.
use crate::{
    app::TestApp,
    audit_sequencer::refuse,
    kafka_support::{make_topic, read_topic, relayed, shared_broker, topic_name, topics_tool},
};
use identityd::{
    audit::relay::{Behind, Relay, RelayError, Relayed, measure},
    kernel::{Actor, OrgId, PLATFORM},
    platform::{
        bus::{Bus, BusError, Record, partition_of},
        keys::sha256,
    },
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc, time::Instant};

const TOPIC: &str = "audit.identity";

/// Refusals on the log, on these chains in turn.
pub async fn fill(app: &TestApp, chains: &[OrgId], numbers: std::ops::Range<usize>) {
    for n in numbers {
        refuse(app, Actor::Anonymous, chains[n % chains.len()], &format!("CODE_{n}")).await;
    }
    app.sequence().await;
}

/// Settings for a relay to these brokers.
pub fn to(brokers: &[String], topic: &str) -> [String; 3] {
    [
        format!("kafka.brokers={brokers:?}"),
        "kafka.security=plaintext".to_owned(),
        format!("kafka.audit_topic={topic}"),
    ]
}

/// An app that relays there.
pub async fn relaying(brokers: &[String], topic: &str) -> TestApp {
    let settings = to(brokers, topic);
    TestApp::with(&settings.iter().map(String::as_str).collect::<Vec<_>>()).await
}

/// Relays until nothing is new, and says how much was sent.
pub async fn relay_all(relay: &Relay) -> usize {
    let mut sent = 0;
    loop {
        match relay.turn().await.unwrap() {
            Relayed::Sent(count) => sent += count,
            other => {
                assert_eq!(other, Relayed::Nothing);
                return sent;
            }
        }
    }
}

fn header(headers: &BTreeMap<String, Vec<u8>>, name: &str) -> String {
    String::from_utf8(headers[name].clone()).unwrap()
}

/// Holds what is on the topic against the log: each entry is there, as it was hashed, in its place, in the order of the
/// log but for repetitions. Answers how many records there are beyond one for each entry.
pub async fn verify(app: &TestApp, partitions: &[Vec<rskafka::record::Record>]) -> usize {
    let log = app
        .rows(
            "SELECT seq, org_id, org_seq, event_id, convert_from(entry, 'UTF8') AS entry, encode(leaf, 'base64') AS leaf,
               log_id, floor(extract(epoch FROM sequenced_at) * 1000)::bigint AS at FROM audit_log, audit_head ORDER BY seq",
        )
        .await;
    let log = log.as_array().unwrap();
    let mut seen = vec![0_usize; log.len()];
    for (number, records) in partitions.iter().enumerate() {
        let mut next = BTreeMap::<String, i64>::new();
        for record in records {
            let told = |name: &str| header(&record.headers, name);
            let seq: usize = told("seq").parse().unwrap();
            let row = &log[seq];
            assert_eq!(json!([told("log"), told("event_id")]), json!([row["log_id"], row["event_id"]]));
            assert_eq!(told("org_seq"), row["org_seq"].to_string());
            assert_eq!(json!(told("leaf")), row["leaf"]);
            assert_eq!(record.value.as_deref().unwrap(), row["entry"].as_str().unwrap().as_bytes());
            let key = String::from_utf8(record.key.clone().unwrap()).unwrap();
            assert_eq!(json!(key), row["org_id"]);
            assert_eq!(partition_of(&key, partitions.len()), number);
            assert_eq!(json!(record.timestamp.timestamp_millis()), row["at"]);
            // A reader drops what he has seen; then nothing may be missing.
            let (org_seq, next) = (row["org_seq"].as_i64().unwrap(), next.entry(key).or_insert(1));
            assert!(org_seq <= *next, "a gap before {org_seq} of {}", row["org_id"]);
            *next = (*next).max(org_seq + 1);
            seen[seq] += 1;
        }
    }
    let missing: Vec<usize> = (0..seen.len()).filter(|seq| seen[*seq] == 0).collect();
    assert!(missing.is_empty(), "of {} entries are missing {missing:?}", seen.len());
    seen.iter().map(|count| count - 1).sum()
}

/// As if the brokers had it, for the memory variant.
fn as_read(partitions: Vec<Vec<Record>>) -> Vec<Vec<rskafka::record::Record>> {
    let read = |record: Record| rskafka::record::Record {
        key: Some(record.key.into_bytes()),
        value: Some(record.value),
        headers: record.headers,
        timestamp: record.at,
    };
    partitions.into_iter().map(|records| records.into_iter().map(read).collect()).collect()
}

fn to_memory(app: &TestApp, bus: &Arc<Bus>, owner: &str) -> Relay {
    Relay::new(Arc::clone(&app.app.work), Arc::clone(bus), TOPIC.to_owned(), owner.to_owned())
}

fn memory() -> Arc<Bus> {
    Arc::new(Bus::memory(&[(TOPIC, 4)]))
}

/// As when one partition has too few replicas in sync: here it takes no record as large as one of its entries.
#[tokio::test]
async fn what_one_partition_does_not_take_is_not_sent_again_to_the_others() {
    let topic = topic_name("partial");
    let made = topics_tool(&shared_broker())
        .args(["--create", "--topic", &topic, "--partitions", "3", "--config", "max.message.bytes=5000"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let app = relaying(&[shared_broker()], &topic).await;
    let mut orgs = vec![];
    for n in 0..6 {
        orgs.push(app.org("alice", &format!("org-{n}")).await);
    }
    let place = |org: &OrgId| partition_of(&org.to_string(), 3);
    let other = orgs.iter().find(|org| place(org) != place(&orgs[0])).expect("two partitions");
    app.sequence().await;
    let (relay, second) = (
        app.app.relay().unwrap(),
        app.replica(&to(&[shared_broker()], &topic).each_ref().map(String::as_str)).await,
    );
    relay_all(&relay).await;
    let noise: String = (0..400)
        .map(|n| sha256(&[format!("{n}").as_bytes()]).map(|byte| format!("{byte:x}")).concat())
        .collect();
    refuse(&app, Actor::Anonymous, orgs[0], &noise).await;
    refuse(&app, Actor::Anonymous, *other, "SMALL").await;
    app.sequence().await;
    let size = app.rows("SELECT size FROM audit_head").await[0]["size"].as_i64().unwrap();
    // The other process has its own say once: it cannot know what this one had acknowledged.
    let relays = [&relay, &second.relay().unwrap()];
    for n in 0..6 {
        app.sabotage("UPDATE leases SET lease_until = '-infinity' WHERE name = 'relay'").await;
        let refused = relays[n % 2].turn().await.unwrap_err();
        assert!(matches!(refused, RelayError::Bus(BusError::TooLarge(_))), "{refused:?}");
    }
    let there = relayed(&[shared_broker()], &topic).await;
    let times = |seq: i64| there.iter().filter(|(_, told)| *told == seq).count();
    assert_eq!((times(size - 2), times(size - 1)), (0, 2), "once by each process");
}

#[tokio::test]
async fn every_audited_event_arrives_once_by_organization_and_in_order() {
    let topic = make_topic("arrives", 3).await;
    let app = relaying(&[shared_broker()], &topic).await;
    let (acme, globex) = (app.org("alice", "acme").await, app.org("bob", "globex").await);
    fill(&app, &[acme, PLATFORM, globex], 0..1200).await;
    let (relay, began) = (app.app.relay().unwrap(), Instant::now());
    let sent = relay_all(&relay).await;
    println!("{sent} entries in {:.2?}", began.elapsed());
    assert!(sent > 1200, "{sent}");
    app.post("alice", "/v1/orgs/acme/service-accounts", json!({ "name": "late" })).await;
    app.sequence().await;
    assert_eq!(relay_all(&relay).await, 1);
    assert_eq!(verify(&app, &read_topic(&[shared_broker()], &topic).await).await, 0);
}

#[tokio::test]
async fn personal_values_stay_behind() {
    let (app, bus) = (TestApp::new().await, memory());
    let acme = app.org("alice", "acme").await;
    fill(&app, &[acme], 0..3).await;
    relay_all(&to_memory(&app, &bus, "one")).await;
    let records = bus.published(TOPIC);
    let text: String =
        records.iter().flatten().map(|record| String::from_utf8(record.value.clone()).unwrap()).collect();
    assert!(text.contains("CODE_0") && text.contains("\"pii\":{\"email\":"), "{text}");
    assert!(!text.contains("example.io"), "{text}");
    assert_eq!(verify(&app, &as_read(records)).await, 0);
}

#[tokio::test]
async fn a_relay_goes_on_where_another_one_ended() {
    let (app, bus) = (TestApp::new().await, memory());
    fill(&app, &[PLATFORM], 0..700).await;
    let first = to_memory(&app, &bus, "first");
    assert_eq!(first.turn().await.unwrap(), Relayed::Sent(500));
    // The lease is the first one's until it runs out.
    let second = to_memory(&app, &bus, "second");
    assert_eq!(second.turn().await.unwrap(), Relayed::Elsewhere);
    app.sabotage("UPDATE leases SET lease_until = '-infinity' WHERE name = 'relay'").await;
    assert_eq!(relay_all(&second).await, 200);
    assert_eq!(first.turn().await.unwrap(), Relayed::Elsewhere);
    assert_eq!(verify(&app, &as_read(bus.published(TOPIC))).await, 0);
}

#[tokio::test]
async fn what_was_acknowledged_and_not_noted_is_sent_again() {
    let (app, bus) = (TestApp::new().await, memory());
    fill(&app, &[PLATFORM], 0..20).await;
    let relay = to_memory(&app, &bus, "one");
    let sent = relay_all(&relay).await;
    app.sabotage("UPDATE relay_positions SET next_seq = next_seq - 7").await;
    assert_eq!(relay_all(&relay).await, 7);
    assert_eq!(verify(&app, &as_read(bus.published(TOPIC))).await, 7);
    assert_eq!(bus.published(TOPIC).iter().map(Vec::len).sum::<usize>(), sent + 7);
}

#[tokio::test]
async fn entries_that_are_missing_stop_the_relay_rather_than_be_left_out() {
    let (app, bus) = (TestApp::new().await, memory());
    fill(&app, &[PLATFORM], 0..20).await;
    app.sabotage("DELETE FROM audit_log WHERE seq = 11").await;
    let error = to_memory(&app, &bus, "one").turn().await.unwrap_err();
    assert!(format!("{error:?}").contains("entries to be relayed are missing"), "{error:?}");
    assert!(bus.published(TOPIC).iter().all(Vec::is_empty));
    app.sabotage("DELETE FROM audit_log").await;
    let error = to_memory(&app, &bus, "one").turn().await.unwrap_err();
    assert!(format!("{error:?}").contains("entries to be relayed are missing"), "the last ones: {error:?}");
}

#[tokio::test]
async fn entries_of_any_size_go_in_turns_that_are_bounded() {
    let (app, bus) = (TestApp::new().await, memory());
    fill(&app, &[PLATFORM], 0..50).await;
    app.sabotage(
        "UPDATE audit_log SET entry = entry || convert_to(repeat(' ', 500000), 'UTF8') WHERE seq < 20",
    )
    .await;
    let relay = to_memory(&app, &bus, "one");
    assert_eq!(relay.turn().await.unwrap(), Relayed::Sent(9), "of half a megabyte each, in four");
    relay_all(&relay).await;
    assert_eq!(verify(&app, &as_read(bus.published(TOPIC))).await, 0);
}

#[tokio::test]
async fn how_far_behind_the_brokers_are_is_measured() {
    let (app, bus) = (TestApp::new().await, memory());
    let behind = async || measure(app.work(), TOPIC).await.unwrap();
    fill(&app, &[PLATFORM], 0..20).await;
    app.sabotage("UPDATE audit_log SET sequenced_at = sequenced_at - interval '90 seconds' WHERE seq = 0")
        .await;
    let first = behind().await;
    assert_eq!((first.relayed, first.missing), (0, 20));
    assert!((90.0..180.0).contains(&first.age_seconds), "{first:?}");
    relay_all(&to_memory(&app, &bus, "one")).await;
    assert_eq!(behind().await, Behind { relayed: 20, missing: 0, age_seconds: 0.0 });
}

#[tokio::test]
async fn without_brokers_nothing_runs_and_nobody_speaks_of_them() {
    let app = TestApp::new().await;
    assert!(app.app.relay().is_none());
    let ready = app.get("alice", "/readyz").await;
    assert_eq!((&ready["status"], &ready["body"]["dependencies"]["kafka"]), (&json!(200), &Value::Null));
    let metrics = app.app.metrics.render().unwrap();
    assert!(!metrics.contains("identityd_audit_relay_"), "{metrics}");
}
