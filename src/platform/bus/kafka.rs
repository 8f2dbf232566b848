//! Apache Kafka through rskafka, which has no timeouts and retries without an end that we could rely on: every call
//! has a bound of ours, rskafka's own retries are off, and whatever fails takes its connections with it.
use super::{BusError, Record, partition_of};
use crate::platform::{
    config::{self, KafkaSecurity},
    secret::Secret,
    tls,
};
use chrono::SubsecRound as _;
use futures_util::future::{join_all, try_join_all};
use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder, Credentials, SaslConfig,
        error::Error as KafkaError,
        partition::{Compression, PartitionClient, UnknownTopicHandling},
    },
    record::Record as KafkaRecord,
};
use rustls::ClientConfig;
use std::{
    collections::{BTreeMap, BTreeSet},
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::Mutex;

const CLIENT_ID: &str = "identityd";
/// To connect, log in, and learn of topics and leaders.
const ASK_MAX: Duration = Duration::from_secs(5);
/// Brokers that are tried before we say that none is there.
const CONNECTS_MAX: usize = 3;
/// To have a batch acknowledged by every replica in sync.
const PRODUCE_MAX: Duration = Duration::from_secs(10);
/// What a broker may answer; its answers to us are short, but for the list of topics.
const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Of one batch before it is compressed. Brokers take 1 MiB unless they are told otherwise.
const BATCH_BYTES_MAX: usize = 512 * 1024;
/// One try. rskafka would try again on the same connections, which is of no use against a broker that hangs, and log
/// in again and again with a wrong password. Whoever publishes tries again, with a pause and connected anew.
const ONE_TRY: BackoffConfig = BackoffConfig {
    init_backoff: Duration::from_millis(1),
    max_backoff: Duration::from_millis(2),
    base: 2.0,
    deadline: Some(Duration::ZERO),
};

/// Brokers, and the connections to them that have not failed yet.
pub struct Kafka {
    brokers: Vec<String>,
    tls: Option<Arc<ClientConfig>>,
    login: Option<Login>,
    /// How often we connected.
    turns: AtomicUsize,
    session: Mutex<Option<Session>>,
}

struct Login {
    username: String,
    password: Secret<String>,
}

/// What is known of the cluster. It is given up whole: its parts share connections.
struct Session {
    client: Client,
    topics: BTreeMap<String, Topic>,
}

struct Topic {
    partitions: usize,
    open: BTreeMap<usize, PartitionClient>,
}

impl Kafka {
    pub(super) fn new(config: &config::Kafka) -> Result<Self, BusError> {
        let encrypted = config.security != KafkaSecurity::Plaintext;
        let tls = encrypted
            .then(|| tls::client_config(config.ca_file.as_deref()))
            .transpose()
            .map_err(BusError::Authorities)?;
        let login = match config.security {
            KafkaSecurity::SaslSsl => Some(Login {
                username: config.username.clone().ok_or(BusError::Missing("kafka.username"))?,
                password: config.password.clone().ok_or(BusError::Missing("kafka.password"))?,
            }),
            KafkaSecurity::Plaintext | KafkaSecurity::Ssl => None,
        };
        let session = Mutex::default();
        let (brokers, turns) = (config.brokers.clone(), AtomicUsize::new(0));
        Ok(Self { brokers, tls: tls.map(Arc::new), login, turns, session })
    }

    pub(super) async fn check(&self, topic: &str) -> Result<usize, BusError> {
        self.in_session(topic, async |session| {
            session.topics.remove(topic); // partitions may have been added
            Ok(session.topic(topic).await?.partitions)
        })
        .await
    }

    pub(super) async fn publish(&self, topic: &str, records: &mut Vec<Record>) -> Result<(), BusError> {
        self.in_session(topic, async |session| session.publish(topic, records).await).await
    }

    /// The session is taken out while it is used, and put back if all went well: a call that fails, takes too long or
    /// is abandoned leaves none behind, and the next one connects anew.
    async fn in_session<T>(
        &self,
        topic: &str,
        call: impl AsyncFnOnce(&mut Session) -> Result<T, BusError>,
    ) -> Result<T, BusError> {
        let mut place = self.session.lock().await;
        let mut session = match place.take() {
            Some(session) => session,
            None => Session { client: self.connect(topic).await?, topics: BTreeMap::new() },
        };
        let value = call(&mut session).await?;
        *place = Some(session);
        Ok(value)
    }

    /// By one broker after the other, beginning with another one each time: given all, rskafka takes one by chance, which
    /// may be the one that hangs again and again.
    async fn connect(&self, topic: &str) -> Result<Client, BusError> {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) % self.brokers.len().max(1);
        let mut last = BusError::Timeout;
        for broker in self.brokers.iter().cycle().skip(turn).take(self.brokers.len().min(CONNECTS_MAX)) {
            match within(ASK_MAX, topic, self.client(broker).build()).await {
                Ok(client) => return Ok(client),
                Err(fault) if fault.is_fault() => return Err(fault),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn client(&self, broker: &str) -> ClientBuilder {
        let mut builder = ClientBuilder::new(vec![broker.to_owned()])
            .client_id(CLIENT_ID)
            .max_message_size(ANSWER_BYTES_MAX)
            .backoff_config(ONE_TRY);
        if let Some(tls) = &self.tls {
            builder = builder.tls_config(Arc::clone(tls));
        }
        if let Some(Login { username, password }) = &self.login {
            let credentials = Credentials::new(username.clone(), password.expose().clone());
            builder = builder.sasl_config(SaslConfig::ScramSha256(credentials));
        }
        builder
    }
}

impl Session {
    /// By the list of all topics: asking for one by its name would make it, where brokers allow that.
    async fn topic(&mut self, name: &str) -> Result<&mut Topic, BusError> {
        if !self.topics.contains_key(name) {
            let listed = within(ASK_MAX, name, self.client.list_topics()).await?;
            let partitions =
                listed.iter().find(|topic| topic.name == name).map(|topic| topic.partitions.len());
            let partitions = partitions.filter(|count| *count > 0).ok_or_else(|| BusError::missing(name))?;
            self.topics.insert(name.to_owned(), Topic { partitions, open: BTreeMap::new() });
        }
        self.topics.get_mut(name).ok_or_else(|| BusError::missing(name))
    }

    /// What one partition does not take is no reason to leave another's unsent, nor to send that again.
    async fn publish(&mut self, name: &str, records: &mut Vec<Record>) -> Result<(), BusError> {
        let count = self.topic(name).await?.partitions;
        let places: BTreeSet<usize> = records.iter().map(|record| partition_of(&record.key, count)).collect();
        self.open(name, places.into_iter()).await?;
        let open = &self.topic(name).await?.open;
        let mut shares: BTreeMap<usize, Vec<Record>> = BTreeMap::new();
        for record in records.drain(..) {
            shares.entry(partition_of(&record.key, count)).or_default().push(record);
        }
        let calls = shares.into_iter().map(|(place, share)| async move {
            match open.get(&place) {
                Some(partition) => produce(name, partition, share).await,
                None => (share, Err(BusError::missing(name))),
            }
        });
        let mut done = Ok(());
        for (unsent, result) in join_all(calls).await {
            records.extend(unsent);
            done = done.and(result);
        }
        done
    }

    /// Finds the leaders of partitions and connects to them, unless that was done.
    async fn open(&mut self, name: &str, places: impl Iterator<Item = usize>) -> Result<(), BusError> {
        let known = &self.topic(name).await?.open;
        let unknown: Vec<usize> = places.filter(|place| !known.contains_key(place)).collect();
        let client = &self.client;
        let calls = unknown.into_iter().map(|place| async move {
            let number = i32::try_from(place).map_err(|_| BusError::missing(name))?;
            let call = client.partition_client(name, number, UnknownTopicHandling::Error);
            Ok::<_, BusError>((place, within(ASK_MAX, name, call).await?))
        });
        let opened = try_join_all(calls).await?;
        self.topic(name).await?.open.extend(opened);
        Ok(())
    }
}

/// One batch after the other, so that they keep their order. Answers what was not acknowledged, and why.
async fn produce(
    topic: &str,
    partition: &PartitionClient,
    records: Vec<Record>,
) -> (Vec<Record>, Result<(), BusError>) {
    let mut batches = batches(records).into_iter();
    while let Some(batch) = batches.next() {
        let records = batch.iter().cloned().map(KafkaRecord::from).collect();
        if let Err(error) = within(PRODUCE_MAX, topic, partition.produce(records, Compression::Zstd)).await {
            return (batch.into_iter().chain(batches.flatten()).collect(), Err(error));
        }
    }
    (vec![], Ok(()))
}

fn batches(records: Vec<Record>) -> Vec<Vec<Record>> {
    let (mut batches, mut size): (Vec<Vec<Record>>, _) = (vec![], 0);
    for record in records {
        size += record.size();
        if size > BATCH_BYTES_MAX || batches.is_empty() {
            size = record.size();
            batches.push(vec![]);
        }
        if let Some(batch) = batches.last_mut() {
            batch.push(record);
        }
    }
    batches
}

impl From<Record> for KafkaRecord {
    fn from(record: Record) -> Self {
        let Record { key, value, headers, at } = record;
        // Kafka counts milliseconds. rskafka takes them of differences: of what is finer, one would be lost in between.
        Self { key: Some(key.into_bytes()), value: Some(value), headers, timestamp: at.trunc_subsecs(3) }
    }
}

async fn within<T>(
    limit: Duration,
    topic: &str,
    call: impl Future<Output = Result<T, KafkaError>>,
) -> Result<T, BusError> {
    match tokio::time::timeout(limit, call).await {
        Ok(answer) => answer.map_err(|error| BusError::of(error, topic)),
        Err(_) => Err(BusError::Timeout),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::DateTime;

    fn record(bytes: usize) -> Record {
        Record {
            key: String::new(),
            value: vec![b'x'; bytes],
            headers: BTreeMap::new(),
            at: DateTime::UNIX_EPOCH,
        }
    }

    #[test]
    fn batches_are_bounded_and_keep_every_record_in_its_order() {
        let sizes = [10, BATCH_BYTES_MAX - 10, 1, BATCH_BYTES_MAX + 1, 7, 8];
        let batches = batches(sizes.map(record).into());
        let shape: Vec<Vec<usize>> =
            batches.iter().map(|batch| batch.iter().map(Record::size).collect()).collect();
        assert_eq!(shape, [vec![10, BATCH_BYTES_MAX - 10], vec![1], vec![BATCH_BYTES_MAX + 1], vec![7, 8]]);
    }
}
