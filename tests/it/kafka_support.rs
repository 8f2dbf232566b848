//! Apache Kafka for tests: the shared node of `tests/servers`, and nodes of a test's own, which it may kill and freeze.
use crate::{app::server, cli_support::Scratch};
use rskafka::{
    BackoffConfig,
    client::{
        Client, ClientBuilder,
        partition::{OffsetAt, UnknownTopicHandling},
    },
    record::Record,
};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::{self, File},
    net::TcpListener,
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

/// For a start or a recovery under the load of a whole suite.
pub const KAFKA_PATIENCE: Duration = Duration::from_secs(90);
static NEXT: AtomicU16 = AtomicU16::new(0);

/// A name of the test's own.
pub fn topic_name(purpose: &str) -> String {
    format!("it.{purpose}.{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// The shared node, in plain text.
pub fn shared_broker() -> String {
    server("TEST_KAFKA_BROKER")
}

/// To look at the brokers without the code that is tested.
pub async fn client(brokers: &[String]) -> Client {
    let (init_backoff, max_backoff) = (Duration::from_millis(50), Duration::from_millis(500));
    let backoff = BackoffConfig { init_backoff, max_backoff, base: 2.0, deadline: Some(KAFKA_PATIENCE) };
    ClientBuilder::new(brokers.to_vec()).backoff_config(backoff).build().await.unwrap()
}

/// Makes a topic on the shared node.
pub async fn make_topic(purpose: &str, partitions: i32) -> String {
    let name = topic_name(purpose);
    let client = client(&[shared_broker()]).await;
    client.controller_client().unwrap().create_topic(&name, partitions, 1, 5_000).await.unwrap();
    await_topic(&client, &name, partitions).await;
    name
}

/// What was made is not known everywhere at once, and known before it is served.
async fn await_topic(client: &Client, name: &str, partitions: i32) {
    for number in 0..partitions {
        let partition = client.partition_client(name, number, UnknownTopicHandling::Retry).await.unwrap();
        partition.get_offset(OffsetAt::Latest).await.unwrap();
    }
}

/// All records of a topic, by partition.
pub async fn read_topic(brokers: &[String], topic: &str) -> Vec<Vec<Record>> {
    let client = client(brokers).await;
    let listed = client.list_topics().await.unwrap();
    let partitions = &listed.iter().find(|listed| listed.name == topic).expect("the topic").partitions;
    let mut all = vec![];
    for number in partitions {
        let partition = client.partition_client(topic, *number, UnknownTopicHandling::Retry).await.unwrap();
        let (mut offset, mut records) = (partition.get_offset(OffsetAt::Earliest).await.unwrap(), vec![]);
        let end = partition.get_offset(OffsetAt::Latest).await.unwrap();
        while offset < end {
            let (fetched, _) = partition.fetch_records(offset, 1..4_000_000, 500).await.unwrap();
            offset = fetched.last().map_or(offset, |last| last.offset + 1);
            records.extend(fetched.into_iter().map(|fetched| fetched.record));
        }
        all.push(records);
    }
    all
}

/// The log and the place in it of every record of a topic, in order; what is there twice is here twice.
pub async fn relayed(brokers: &[String], topic: &str) -> Vec<(String, i64)> {
    let told = |record: &Record, name: &str| String::from_utf8(record.headers[name].clone()).unwrap();
    let place = |record: &Record| (told(record, "log"), told(record, "seq").parse().unwrap());
    let mut places: Vec<_> = read_topic(brokers, topic).await.iter().flatten().map(place).collect();
    places.sort_unstable();
    places
}

/// Nodes of a test's own; they end with it.
pub struct Cluster {
    nodes: Vec<Node>,
    _place: Scratch,
}

struct Node {
    directory: String,
    port: u16,
    child: Option<Child>,
}

impl Cluster {
    /// Starts so many nodes, and waits until all are ready.
    pub fn start(purpose: &str, count: usize) -> Self {
        let place = Scratch::new(purpose);
        let ports = free_ports(count);
        let node = |(n, port): (usize, &u16)| {
            let directory = place.join(&format!("node-{}", n + 1));
            fs::create_dir(&directory).unwrap();
            Node { directory, port: *port, child: None }
        };
        let nodes = ports.iter().enumerate().map(node).collect();
        let mut cluster = Self { nodes, _place: place };
        for number in 1..=count {
            cluster.launch(number);
        }
        for number in 1..=count {
            cluster.await_ready(number);
        }
        cluster
    }

    /// Where clients begin.
    pub fn brokers(&self) -> Vec<String> {
        self.nodes.iter().map(|node| format!("127.0.0.1:{}", node.port)).collect()
    }

    /// Starts a node, which may have run before.
    pub fn launch(&mut self, number: usize) {
        let ports: Vec<String> = self.nodes.iter().map(|node| node.port.to_string()).collect();
        let node = &mut self.nodes[number - 1];
        let log = File::create(format!("{}/log", node.directory)).unwrap();
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/tools/kafka/node");
        // It does not outlive us, however we end.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", script, &node.directory, &number.to_string()])
            .args(ports)
            .env("IDENTITYD_KAFKA_LIBS", server("TEST_KAFKA_LIBS"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        node.child = Some(child);
    }

    pub fn await_ready(&mut self, number: usize) {
        let node = &mut self.nodes[number - 1];
        let log = || fs::read_to_string(format!("{}/log", node.directory)).unwrap();
        let began = Instant::now();
        while !log().contains("Kafka Server started") {
            let ended = node.child.as_mut().unwrap().try_wait().unwrap();
            assert!(ended.is_none() && began.elapsed() < KAFKA_PATIENCE, "{ended:?}:\n{}", log());
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// Ends a node as a power cut would.
    pub fn kill(&mut self, number: usize) {
        let mut child = self.nodes[number - 1].child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// It goes on listening, and says nothing any more: a dead link, or a machine that swaps.
    pub fn freeze(&self, number: usize) {
        self.signal(number, Signal::STOP);
    }

    pub fn thaw(&self, number: usize) {
        self.signal(number, Signal::CONT);
    }

    fn signal(&self, number: usize, signal: Signal) {
        kill_process(Pid::from_child(self.nodes[number - 1].child.as_ref().unwrap()), signal).unwrap();
    }

    /// Makes a topic of one partition. Its first leader is node 1.
    pub async fn make_topic(&self, name: &str) {
        let replicas: Vec<String> = (1..=self.nodes.len()).map(|number| number.to_string()).collect();
        let made = topics_tool(&self.brokers()[0])
            .args(["--create", "--topic", name, "--replica-assignment", &replicas.join(":")])
            .output()
            .unwrap();
        assert_tool(&made);
        await_topic(&client(&self.brokers()).await, name, 1).await;
    }

    /// The number of the node that leads a topic of one partition, once every node is in sync with it.
    pub fn leader_in_sync(&self, topic: &str) -> usize {
        let began = Instant::now();
        loop {
            let described = topics_tool(&self.brokers().join(","))
                .args(["--describe", "--topic", topic])
                .output()
                .unwrap();
            assert_tool(&described);
            let text = String::from_utf8(described.stdout).unwrap();
            let told = |name: &str| text.split(name).nth(1).and_then(|rest| rest.split_whitespace().next());
            let in_sync = told("Isr: ").map_or(0, |nodes| nodes.split(',').count());
            if let (true, Some(leader)) = (in_sync == self.nodes.len(), told("Leader: ")) {
                return leader.parse().unwrap();
            }
            assert!(began.elapsed() < KAFKA_PATIENCE, "{text}");
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `kafka-topics.sh`, by its class.
pub fn topics_tool(broker: &str) -> Command {
    let mut command = Command::new("java");
    command
        .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
        .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=error")
        .args(["-cp", &format!("{}/*", server("TEST_KAFKA_LIBS")), "org.apache.kafka.tools.TopicCommand"])
        .args(["--bootstrap-server", broker]);
    command
}

pub fn assert_tool(output: &Output) {
    let said = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    assert!(output.status.success(), "{said:?}");
}

/// The first port of three for each node, below those that the kernel gives to connections.
fn free_ports(count: usize) -> Vec<u16> {
    let seed = u16::try_from(std::process::id() % 1000).unwrap();
    let mut first = 12_000 + 8 * seed;
    loop {
        let ports: Vec<u16> = (first..).step_by(3).take(count).collect();
        let mut all = ports.iter().flat_map(|port| *port..port + 3);
        if all.all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()) {
            return ports;
        }
        first = 12_000 + (first - 12_000 + 9) % 8000;
    }
}
