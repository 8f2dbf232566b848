//! What every variant of the bus keeps to: real Kafka, and memory.
use crate::kafka_support::{
    KAFKA_PATIENCE, assert_tool, client, make_topic, read_topic, shared_broker, topic_name, topics_tool,
};
use chrono::{DateTime, Utc};
use identityd::platform::{
    bus::{Bus, BusError, Record, partition_of},
    config::{self, Flag},
};
use std::collections::BTreeMap;

/// A bus with one topic.
pub enum Variant {
    Kafka(Bus, String),
    Memory(Bus, String),
}

impl Variant {
    async fn all(purpose: &str, partitions: u8) -> [Self; 2] {
        let topic = make_topic(purpose, partitions.into()).await;
        let memory = Bus::memory(&[(&topic, partitions.into())]);
        [Self::Kafka(plain(), topic.clone()), Self::Memory(memory, topic)]
    }

    fn bus(&self) -> (&Bus, &str) {
        let (Self::Kafka(bus, topic) | Self::Memory(bus, topic)) = self;
        (bus, topic)
    }

    async fn read(&self) -> Vec<Vec<Record>> {
        match self {
            Self::Kafka(_, topic) => {
                let partitions = read_topic(&[shared_broker()], topic).await;
                partitions.into_iter().map(|records| records.into_iter().map(told).collect()).collect()
            }
            Self::Memory(bus, topic) => bus.published(topic),
        }
    }
}

fn told(record: rskafka::record::Record) -> Record {
    Record {
        key: String::from_utf8(record.key.unwrap()).unwrap(),
        value: record.value.unwrap(),
        headers: record.headers,
        at: record.timestamp,
    }
}

/// What `kafka.…` says, opened.
pub fn open(flags: &[&str]) -> Result<Option<Bus>, BusError> {
    let flags: Vec<Flag> = flags.iter().map(|flag| Flag::parse(flag).unwrap()).collect();
    Bus::open(&config::load(None, &flags).map_err(|errors| errors[0].to_string()).unwrap().config.kafka)
}

fn plain() -> Bus {
    let brokers = format!("kafka.brokers={:?}", [shared_broker()]);
    open(&[&brokers, "kafka.security=plaintext"]).unwrap().unwrap()
}

fn record(key: &str, n: usize, bytes: usize) -> Record {
    let at: DateTime<Utc> = "2026-01-05T09:00:00.123Z".parse().unwrap();
    let mut value = format!("{n} ").into_bytes();
    value.resize(bytes.max(value.len()), b'x');
    Record {
        key: key.to_owned(),
        value,
        headers: BTreeMap::from([("n".to_owned(), n.to_string().into())]),
        at,
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_whole_and_each_key_in_its_order() {
    for variant in Variant::all("order", 3).await {
        let (bus, topic) = variant.bus();
        assert_eq!(bus.check(topic).await.unwrap(), 3);
        let records: Vec<Record> =
            (0..600).map(|n| record(["ada", "bob", "cleo", "dan"][n % 4], n, 100)).collect();
        for part in records.chunks(250) {
            bus.publish(topic, &mut part.to_vec()).await.unwrap();
        }
        let partitions = variant.read().await;
        for (number, there) in partitions.iter().enumerate() {
            let expected: Vec<Record> =
                records.iter().filter(|record| partition_of(&record.key, 3) == number).cloned().collect();
            assert_eq!(*there, expected);
        }
        assert!(partitions.iter().filter(|there| !there.is_empty()).count() > 1, "one partition got all");
    }
}

#[tokio::test]
async fn more_than_brokers_take_at_once_is_published_in_parts() {
    for variant in Variant::all("large", 1).await {
        let (bus, topic) = variant.bus();
        let records: Vec<Record> = (0..100).map(|n| record("ada", n, 65_535)).collect();
        bus.publish(topic, &mut records.clone()).await.unwrap();
        assert_eq!(variant.read().await, [records]);
        bus.publish(topic, &mut vec![]).await.unwrap();
    }
}

#[tokio::test]
async fn a_topic_that_is_missing_is_named_and_not_made_by_asking() {
    let missing = topic_name("missing");
    for variant in Variant::all("there", 1).await {
        let (bus, _) = variant.bus();
        for _ in 0..2 {
            let faults = [
                bus.check(&missing).await.unwrap_err(),
                bus.publish(&missing, &mut vec![record("ada", 0, 10)]).await.unwrap_err(),
            ];
            for fault in faults {
                assert!(matches!(&fault, BusError::Topic(name) if *name == missing), "{fault:?}");
                assert!(fault.is_fault() && fault.to_string().contains(&missing), "{fault}");
            }
        }
    }
    // The brokers of the tests make whatever is asked for by its name.
    let client = client(&[shared_broker()]).await;
    assert!(!client.list_topics().await.unwrap().iter().any(|topic| topic.name == missing));
    let asked =
        client.partition_client(&missing, 0, rskafka::client::partition::UnknownTopicHandling::Retry).await;
    assert!(asked.is_ok(), "or else this test shows nothing");
}

#[tokio::test]
async fn a_topic_that_was_missing_is_found_once_it_is_there() {
    let bus = plain();
    let client = client(&[shared_broker()]).await;
    let topic = topic_name("later");
    bus.check(&topic).await.unwrap_err();
    client.controller_client().unwrap().create_topic(&topic, 2, 1, 5_000).await.unwrap();
    // It is listed a moment before it has leaders.
    let mut records = vec![record("ada", 0, 10)];
    let published = async { while bus.publish(&topic, &mut records).await.is_err() {} };
    tokio::time::timeout(KAFKA_PATIENCE, published).await.unwrap();
    bus.check(&topic).await.unwrap();
}

#[tokio::test]
async fn the_documented_command_makes_the_topic_with_its_settings() {
    let document = include_str!("../../docs/OPERATIONS.md");
    let line = document.lines().find_map(|line| line.strip_prefix("kafka-topics.sh ")).expect("the command");
    let topic = topic_name("documented");
    // One node is all there is here.
    let line = line
        .replace("--bootstrap-server kafka-0.example:9092 ", "")
        .replace("--topic audit.identity", &format!("--topic {topic}"))
        .replace("--replication-factor 3", "--replication-factor 1")
        .replace("min.insync.replicas=2", "min.insync.replicas=1");
    assert_tool(&topics_tool(&shared_broker()).args(line.split(' ')).output().unwrap());
    let described = topics_tool(&shared_broker()).args(["--describe", "--topic", &topic]).output().unwrap();
    let described = String::from_utf8(described.stdout).unwrap();
    for setting in line.split(' ').filter(|word| word.contains('=')) {
        assert!(described.contains(setting), "{setting} is not in {described}");
    }
    assert!(described.contains("PartitionCount: 12"), "{described}");
    assert_eq!(plain().check(&topic).await.unwrap(), 12);
}
