//! What other services were answered: denials before they are, allows under a root that whoever reads the topic recomputes.
use crate::{
    app::TestApp,
    http_support::Held,
    kafka_support::{Cluster, make_topic, read_topic, shared_broker, topic_name},
    support::PATIENCE,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use identityd::{
    kernel::{Actor, Id},
    platform::{
        bus::{Bus, Record},
        config::Config,
        keys::sha256,
        tasks::Tasks,
    },
    policy::decision_log::{Decided, DecisionLog, DecisionLogError, Destination},
};
use serde_json::Value;
use std::{collections::BTreeMap, sync::Arc};
use uuid::Uuid;

const TOPIC: &str = "decisions";
/// More than one batch, and not a power of two.
const MANY: u128 = 5_347;
/// What waits at most.
const QUEUE_MAX: u128 = 50_000;

fn decided(id: u128, action: &str, allowed: bool) -> Decided {
    Decided {
        id: Uuid::from_u128(id),
        at: "2026-01-05T09:00:00Z".parse().unwrap(),
        request_id: "request".into(),
        caller: Actor::Key { key: Id::from_uuid(Uuid::from_u128(9)) },
        org: Id::from_uuid(Uuid::from_u128(8)),
        principal_type: "user".into(),
        principal_id: Uuid::from_u128(7).to_string(),
        api_key_id: None,
        action: action.into(),
        resource_type: "model".into(),
        resource_id: "small".into(),
        allowed,
        code: if allowed { "ALLOWED" } else { "NO_MATCHING_PERMIT" }.into(),
        policy_ids: vec!["role.member".into()],
        revision: 3,
        bundle: "test".into(),
    }
}

fn allows(ids: impl Iterator<Item = u128>) -> Vec<Decided> {
    ids.map(|id| decided(id, "inference:invoke", true)).collect()
}

fn log(app: &TestApp, bus: Option<Arc<Bus>>, topic: &str) -> DecisionLog {
    let destination = bus.map(|bus| Destination { bus, topic: topic.to_owned() });
    DecisionLog::new(Arc::clone(&app.app.work), destination, "one".to_owned())
}

fn memory() -> Arc<Bus> {
    Arc::new(Bus::memory(&[(TOPIC, 3)]))
}

fn kafka(app: &TestApp, brokers: &[String]) -> Arc<Bus> {
    let mut config: Config = (*app.app.config).clone();
    config.kafka.brokers = brokers.to_vec();
    config.kafka.security = identityd::platform::config::KafkaSecurity::Plaintext;
    Arc::new(Bus::open(&config.kafka).unwrap().unwrap())
}

/// What the outbox holds of a kind, in order.
async fn told(app: &TestApp, kind: &str) -> Vec<Value> {
    let events = app.events().await;
    let all = events.as_array().unwrap().iter().map(|row| row["event"].clone());
    let ours = all.filter(|event| event["body"]["kind"] == kind).inspect(|event| {
        assert_eq!(
            (&event["org"], &event["actor"]),
            (&Value::from(Uuid::nil().to_string()), &"workload:sequencer".into())
        );
    });
    ours.map(|event| event["body"].clone()).collect()
}

/// Headers and value of a record.
type OnTopic = (BTreeMap<String, Vec<u8>>, Vec<u8>);

/// RFC 6962, 2.1, word for word.
fn root(entries: &[&[u8]]) -> [u8; 32] {
    match entries {
        [] => sha256(&[]),
        [entry] => sha256(&[&[0], entry]),
        _ => {
            let split = 1 << (entries.len() - 1).ilog2();
            sha256(&[&[1], &root(&entries[..split]), &root(&entries[split..])])
        }
    }
}

/// Recomputes each batch of the log from what is on the topic; the ids of all decisions that are proven.
fn verify(batches: &[Value], records: impl Iterator<Item = OnTopic>) -> Result<Vec<u128>, String> {
    let mut on_topic: BTreeMap<String, BTreeMap<usize, Vec<u8>>> = BTreeMap::new();
    for (headers, value) in records {
        let header = |name: &str| String::from_utf8(headers[name].clone()).unwrap();
        // What is there twice has the same place.
        on_topic.entry(header("batch")).or_default().insert(header("place").parse().unwrap(), value);
    }
    let mut proven = vec![];
    for batch in batches.iter().filter(|batch| batch["count"] != 0) {
        let entries = on_topic.remove(batch["batch"].as_str().unwrap()).ok_or("a batch is not there")?;
        let values: Vec<&[u8]> = entries.values().map(Vec::as_slice).collect();
        if values.len() != usize::try_from(batch["count"].as_u64().unwrap()).unwrap() {
            return Err(format!("{} of {batch}", values.len()));
        }
        if STANDARD.encode(root(&values)) != batch["root"] {
            return Err(format!("another root than in {batch}"));
        }
        let entries: Vec<Value> = values.iter().map(|value| serde_json::from_slice(value).unwrap()).collect();
        assert_eq!((&entries[0]["id"], &entries[entries.len() - 1]["id"]), (&batch["from"], &batch["to"]));
        let id = |entry: &Value| entry["id"].as_str().unwrap().parse::<Uuid>().unwrap().as_u128();
        proven.extend(entries.iter().map(id));
    }
    Ok(proven)
}

fn published(bus: &Bus) -> Vec<OnTopic> {
    let all: Vec<Record> = bus.published(TOPIC).concat();
    all.into_iter().map(|record| (record.headers, record.value)).collect()
}

async fn flush_all(log: &DecisionLog) {
    while log.flush().await.unwrap() > 0 {}
}

#[tokio::test]
async fn whoever_reads_the_topic_recomputes_the_roots_and_sees_what_was_altered() {
    let (app, topic) = (TestApp::new().await, make_topic("decisions", 3).await);
    let log = log(&app, Some(kafka(&app, &[shared_broker()])), &topic);
    for at in 0..MANY.div_ceil(500) {
        log.record_decisions(allows(at * 500..MANY.min((at + 1) * 500))).await.unwrap();
    }
    flush_all(&log).await;
    let records: Vec<_> = read_topic(&[shared_broker()], &topic).await.concat();
    let records: Vec<_> = records.into_iter().map(|record| (record.headers, record.value.unwrap())).collect();
    let batches = told(&app, "decision.batch").await;
    assert!(batches.len() == 2 && batches.iter().all(|batch| batch["lost"] == 0), "{batches:?}");
    let mut proven = verify(&batches, records.iter().cloned()).unwrap();
    proven.sort_unstable();
    assert_eq!(proven, (0..MANY).collect::<Vec<_>>());
    // Sent twice it is proven all the same; altered, or one short, it is not.
    assert!(verify(&batches, records.iter().chain(&records[..9]).cloned()).is_ok());
    assert!(verify(&batches, records.iter().skip(1).cloned()).is_err());
    let mut altered = records.clone();
    altered[3].1 = String::from_utf8(altered[3].1.clone()).unwrap().replace("allow", "deny").into_bytes();
    assert!(verify(&batches, altered.into_iter()).unwrap_err().contains("another root"));
}

#[tokio::test(flavor = "multi_thread")]
async fn denials_and_what_is_elevated_are_on_the_audit_log_before_they_are_answered() {
    const EACH: u128 = 400;
    let app = TestApp::new().await;
    let log = Arc::new(log(&app, Some(memory()), TOPIC));
    let asking = (0..EACH).map(|n| {
        let log = Arc::clone(&log);
        let all = vec![
            decided(n, "inference:invoke", false),
            decided(EACH + n, "keys:issue", true),
            decided(2 * EACH + n, "break-glass:request", true),
            decided(3 * EACH + n, "inference:invoke", true),
        ];
        tokio::spawn(async move { log.record_decisions(all).await })
    });
    for answer in futures_util::future::join_all(asking).await {
        answer.unwrap().unwrap();
    }
    let events = told(&app, "decision.records").await;
    let records: Vec<&Value> = events.iter().flat_map(|event| event["records"].as_array().unwrap()).collect();
    let mut ids: Vec<u128> = records
        .iter()
        .map(|record| record["id"].as_str().unwrap().parse::<Uuid>().unwrap().as_u128())
        .collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..3 * EACH).collect::<Vec<_>>(), "each once, and no plain allow");
    assert!(events.len() < ids.len() / 4, "many share an event: {}", events.len());
    insta::assert_json_snapshot!(records.iter().find(|record| record["id"] == Uuid::nil().to_string()));
    app.sequence().await;
    let whole = app.rows("SELECT convert_from(entry, 'UTF8')::jsonb -> 'body' AS body FROM audit_log").await;
    let truncated = whole.as_array().unwrap().iter().any(|row| row["body"]["truncated"] == true);
    assert!(!truncated, "an event has room for its records");
}

/// Whoever asked is told to come again, and never told a no that is not on record.
#[tokio::test(flavor = "multi_thread")]
async fn a_denial_that_cannot_be_put_on_record_is_not_given_and_allows_go_on() {
    let app = TestApp::new().await;
    let log = log(&app, Some(memory()), TOPIC);
    let held = Held::of(&app, "audit_outbox").await;
    let refused =
        log.record_decisions(vec![decided(1, "orgs:read", false), decided(2, "orgs:read", true)]).await;
    assert!(matches!(refused, Err(DecisionLogError::Unrecorded)), "{refused:?}");
    log.record_decisions(allows(3..4)).await.unwrap();
    held.let_go().await;
    log.record_decisions(vec![decided(5, "orgs:read", false)]).await.unwrap();
    let events = told(&app, "decision.records").await;
    let last = &events.last().unwrap()["records"][0]["id"];
    assert_eq!(*last, Uuid::from_u128(5).to_string());
    assert_eq!(log.flush().await.unwrap(), 1, "of an answer that was not given nothing is sent");
}

#[tokio::test]
async fn what_does_not_fit_is_lost_and_counted_on_the_audit_log_and_the_rest_comes_later() {
    let (app, topic) = (TestApp::new().await, topic_name("late"));
    let log = log(&app, Some(kafka(&app, &[shared_broker()])), &topic);
    log.record_decisions(allows(0..QUEUE_MAX + 7)).await.unwrap();
    for _ in 0..2 {
        assert!(matches!(log.flush().await, Err(DecisionLogError::Bus(_))), "there is no topic");
    }
    // One batch is on its way, so there is room for as many again, and one is too many.
    log.record_decisions(allows(0..5_001)).await.unwrap();
    assert!(log.flush().await.is_err());
    let lost: Vec<Value> = told(&app, "decision.batch").await;
    let lost: Vec<_> = lost.iter().map(|event| (event["count"].as_u64(), event["lost"].as_u64())).collect();
    assert_eq!(lost, [(Some(0), Some(7)), (Some(0), Some(1))], "told once, and told though Kafka is away");
    let client = crate::kafka_support::client(&[shared_broker()]).await;
    client.controller_client().unwrap().create_topic(&topic, 1, 1, 5_000).await.unwrap();
    let mut sent = 0;
    while sent < 55_000 {
        sent += log.flush().await.unwrap_or_default();
    }
    let records: Vec<_> = read_topic(&[shared_broker()], &topic).await.concat();
    let records = records.into_iter().map(|record| (record.headers, record.value.unwrap()));
    assert_eq!(verify(&told(&app, "decision.batch").await, records).unwrap().len(), 55_000);
}

#[tokio::test]
async fn a_batch_outlives_the_brokers_that_were_to_take_it() {
    let app = TestApp::new().await;
    let mut cluster = Cluster::start("decisions", 1);
    cluster.make_topic(TOPIC).await;
    let log = log(&app, Some(kafka(&app, &cluster.brokers())), TOPIC);
    log.record_decisions(allows(0..10)).await.unwrap();
    assert_eq!(log.flush().await.unwrap(), 10);
    cluster.kill(1);
    log.record_decisions(allows(10..30)).await.unwrap();
    assert!(log.flush().await.is_err());
    assert_eq!(told(&app, "decision.batch").await.len(), 1, "no root of what is nowhere");
    cluster.launch(1);
    cluster.await_ready(1);
    while log.flush().await.unwrap_or_default() == 0 {}
    let records: Vec<_> = read_topic(&cluster.brokers(), TOPIC).await.concat();
    let records = records.into_iter().map(|record| (record.headers, record.value.unwrap()));
    assert_eq!(verify(&told(&app, "decision.batch").await, records).unwrap(), (0..30).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_sends_what_waits_or_says_how_much_it_lost() {
    let app = TestApp::new().await;
    let (bus, nowhere) = (memory(), Arc::new(Bus::memory(&[])));
    for bus in [&bus, &nowhere] {
        let (log, tasks) = (Arc::new(log(&app, Some(Arc::clone(bus)), TOPIC)), Tasks::default());
        let running = Arc::clone(&log);
        tasks.spawn("decisions", |stop| async move { running.run(stop).await });
        log.record_decisions(allows(0..12)).await.unwrap();
        tasks.stop(PATIENCE).await;
    }
    let batches = told(&app, "decision.batch").await;
    assert_eq!(verify(&batches, published(&bus).into_iter()).unwrap(), (0..12).collect::<Vec<_>>());
    assert_eq!((batches.len(), &batches[1]["lost"]), (2, &Value::from(12)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_batch_does_not_wait_for_its_minute() {
    let app = TestApp::new().await;
    let bus = memory();
    let (log, tasks) = (Arc::new(log(&app, Some(Arc::clone(&bus)), TOPIC)), Tasks::default());
    let running = Arc::clone(&log);
    tasks.spawn("decisions", |stop| async move { running.run(stop).await });
    log.record_decisions(allows(0..5_000)).await.unwrap();
    let sent = async {
        while published(&bus).len() < 5_000 {
            tokio::task::yield_now().await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, sent).await.is_ok());
    tasks.stop(PATIENCE).await;
}

#[tokio::test]
async fn without_a_topic_allows_are_counted_and_denials_kept() {
    let app = TestApp::new().await;
    let log = log(&app, None, TOPIC);
    log.record_decisions(allows(0..3)).await.unwrap();
    log.record_decisions(vec![decided(4, "inference:invoke", false)]).await.unwrap();
    assert_eq!(log.flush().await.unwrap(), 0);
    let counted = |outcome: &str| {
        crate::redis_support::counted(
            &app.app,
            &format!("identityd_decision_records_total{{outcome=\"{outcome}\"}}"),
        )
    };
    assert_eq!((counted("counted"), counted("kept"), counted("published")), (3, 1, 0));
    assert_eq!(told(&app, "decision.records").await.len(), 1);
    assert!(told(&app, "decision.batch").await.is_empty());
}
