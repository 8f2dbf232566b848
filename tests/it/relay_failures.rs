//! Brokers that die, freeze and come back, and relays that do: no entry is left out, and each recovery has a bound.
use crate::{
    app::TestApp,
    audit_relay::{fill, relay_all, relaying, to, verify},
    cli_support::{Scratch, ask, connection},
    crash,
    frozen::{expire, hasty, leader, rename},
    kafka_support::{Cluster, KAFKA_PATIENCE, make_topic, read_topic, shared_broker},
    process::{Served, beside, migrated, until},
};
use diesel_async::SimpleAsyncConnection as _;
use identityd::{
    audit::relay::{Behind, Relay, Relayed, measure},
    kernel::PLATFORM,
    platform::{bus::Bus, tasks::Tasks},
};
use serde_json::Value;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

const TOPIC: &str = "audit.identity";

/// An app whose relay runs, and brokers of its own.
struct Scene {
    cluster: Cluster,
    app: TestApp,
    tasks: Tasks,
    told: usize,
}

impl Scene {
    async fn new(purpose: &str, nodes: usize) -> Self {
        let began = Instant::now();
        let cluster = Cluster::start(purpose, nodes);
        cluster.make_topic(TOPIC).await;
        println!("{nodes} nodes and a topic after {:.1?}", began.elapsed());
        let app = relaying(&cluster.brokers(), TOPIC).await;
        let (relay, tasks) = (app.app.relay().unwrap(), Tasks::default());
        let (health, metrics) = (app.app.health.clone(), app.app.metrics.clone());
        tasks.spawn("relay", move |stop| relay.run(health, metrics, stop));
        let mut scene = Self { cluster, app, tasks, told: 0 };
        scene.tell(100).await;
        scene.drained().await;
        scene
    }

    /// More entries.
    async fn tell(&mut self, count: usize) {
        fill(&self.app, &[PLATFORM], self.told..self.told + count).await;
        self.told += count;
    }

    async fn behind(&self) -> Behind {
        measure(self.app.work(), TOPIC).await.unwrap()
    }

    /// How long it takes until everything is acknowledged.
    async fn drained(&self) -> Duration {
        self.when(async || self.behind().await.missing == 0).await
    }

    /// How long it takes until the brokers are said to fail, or not to.
    async fn said(&self, status: &str) -> Duration {
        self.when(async || self.ready().await["body"]["dependencies"]["kafka"]["status"] == status).await
    }

    async fn ready(&self) -> Value {
        let ready = self.app.get("alice", "/readyz").await;
        assert_eq!(ready["status"], 200, "{ready}");
        ready
    }

    async fn when(&self, come_true: impl AsyncFn() -> bool) -> Duration {
        let began = Instant::now();
        while !come_true().await {
            assert!(
                began.elapsed() < KAFKA_PATIENCE,
                "never: {:?} {}",
                self.behind().await,
                self.ready().await
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        began.elapsed()
    }

    /// Everything is there; answers how much of it more than once.
    async fn verify(self) -> usize {
        let brokers = self.cluster.brokers();
        self.verify_at(&brokers).await
    }

    /// The same, asking some of the nodes only.
    async fn verify_at(self, brokers: &[String]) -> usize {
        let read = read_topic(brokers, TOPIC).await;
        self.tasks.stop(Duration::from_secs(10)).await;
        verify(&self.app, &read).await
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_and_comes_back_gets_every_entry() {
    let mut scene = Scene::new("killed", 1).await;
    for round in 0..3 {
        scene.tell(30).await;
        scene.cluster.kill(1);
        scene.tell(50).await;
        let failing = scene.said("failing").await;
        assert_eq!(scene.ready().await["body"]["dependencies"]["kafka"]["required"], false);
        assert!(scene.behind().await.missing >= 50);
        // The gauge is measured every ten seconds.
        scene.app.clock.tick(Duration::from_secs(11));
        let lags = async || {
            let metrics = scene.app.app.metrics.render().unwrap();
            let line =
                metrics.lines().find_map(|line| line.strip_prefix("identityd_audit_relay_lag_events "));
            line.unwrap().parse::<f64>().unwrap() >= 50.0
        };
        scene.when(lags).await;
        scene.cluster.launch(1);
        scene.cluster.await_ready(1);
        let drained = scene.drained().await;
        scene.said("ok").await;
        println!(
            "round {round}: failing after {failing:.1?}; drained {drained:.1?} after the node was ready"
        );
    }
    println!("{} entries twice", scene.verify().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_freezes_is_given_up_in_time_and_reached_anew_once_it_answers() {
    let mut scene = Scene::new("frozen", 1).await;
    scene.cluster.freeze(1);
    scene.tell(50).await;
    let failing = scene.said("failing").await;
    assert!(failing < Duration::from_secs(30), "{failing:?}");
    let detail = scene.ready().await["body"]["dependencies"]["kafka"]["detail"].clone();
    assert_eq!(detail, "the brokers do not answer in time");
    scene.cluster.thaw(1);
    let drained = scene.drained().await;
    println!("failing after {failing:.1?}; drained {drained:.1?} after the thaw");
    println!("{} entries twice", scene.verify().await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_of_three_that_is_killed_or_frozen_is_replaced() {
    let mut scene = Scene::new("three", 3).await;
    scene.tell(30).await;
    scene.cluster.kill(1);
    scene.tell(50).await;
    let drained = scene.drained().await;
    println!("leader killed: drained after {drained:.1?}");

    // With the first back in sync there are two beside the one that freezes, and a topic needs two.
    scene.cluster.launch(1);
    scene.cluster.await_ready(1);
    let leader = scene.cluster.leader_in_sync(TOPIC);
    scene.cluster.freeze(leader);
    scene.tell(50).await;
    let drained = scene.drained().await;
    println!("leader {leader} frozen: drained after {drained:.1?}");
    // It is not asked: once it thaws, it takes itself for the leader until it hears otherwise, and shows what it has.
    let mut brokers = scene.cluster.brokers();
    brokers.remove(leader - 1);
    println!("{} entries twice", scene.verify_at(&brokers).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_was_overtaken_while_it_waited_does_not_move_the_position() {
    let cluster = Cluster::start("overtaken", 1);
    cluster.make_topic(TOPIC).await;
    let app = relaying(&cluster.brokers(), TOPIC).await;
    let slow = app.app.relay().unwrap();
    fill(&app, &[PLATFORM], 0..10).await;
    assert_eq!(relay_all(&slow).await, 10);
    fill(&app, &[PLATFORM], 10..15).await;

    cluster.freeze(1);
    app.sabotage("UPDATE leases SET lease_until = '-infinity' WHERE name = 'relay'").await;
    let waiting = tokio::spawn(async move { slow.turn().await });
    crate::support::until(&app, "EXISTS (SELECT FROM leases WHERE name = 'relay' AND lease_until > now())")
        .await;
    // As if it had been frozen past its lease.
    app.sabotage("UPDATE leases SET lease_until = '-infinity' WHERE name = 'relay'").await;
    let bus = Arc::new(Bus::memory(&[(TOPIC, 1)]));
    let next = Relay::new(Arc::clone(&app.app.work), Arc::clone(&bus), TOPIC.to_owned(), "next".to_owned());
    assert_eq!(next.turn().await.unwrap(), Relayed::Sent(5));
    fill(&app, &[PLATFORM], 15..20).await;
    cluster.thaw(1);
    assert_eq!(waiting.await.unwrap().unwrap(), Relayed::Overtaken);
    let behind = measure(app.work(), TOPIC).await.unwrap();
    assert_eq!((behind.relayed, behind.missing), (15, 5), "the position is the next one's");
    assert_eq!(next.turn().await.unwrap(), Relayed::Sent(5));
}

#[test]
fn killed_between_acknowledgement_and_position_it_sends_again_and_leaves_nothing_out() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let topic = runtime.block_on(make_topic("unnoted", 2));
    let (place, database) = (Scratch::new("unnoted"), migrated("unnoted"));
    let settings = to(&[shared_broker()], &topic);
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let number = |query: &str| -> i64 {
        ask(&database.url(), &format!("SELECT ({query})::text AS cell")).parse().unwrap()
    };
    let behind = "SELECT size - coalesce((SELECT next_seq FROM relay_positions), 0)
        + (SELECT count(*) FROM audit_outbox) FROM audit_head";

    let server = Served::start(&place, &database, &settings);
    assert_eq!(beside(&place, &database, &["bootstrap"]).0, 0);
    until(&0, || number(behind));
    let before = number("SELECT next_seq FROM relay_positions");

    // The row of the position is locked: what is sent now is acknowledged, and the position waits.
    let mut lock = runtime.block_on(connection(&database.url()));
    runtime.block_on(lock.batch_execute("BEGIN; SELECT FROM relay_positions FOR UPDATE")).unwrap();
    assert_eq!(beside(&place, &database, &["bootstrap"]).0, 0);
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
        AND wait_event_type = 'Lock' AND query LIKE 'UPDATE relay_positions%'";
    until(&true, || number(waits) > 0);
    server.kill();
    runtime.block_on(lock.batch_execute("ROLLBACK")).unwrap();
    until(&0, || number(waits));
    assert_eq!(number("SELECT next_seq FROM relay_positions"), before);

    database.sql("UPDATE leases SET lease_until = '-infinity'");
    let _next = Served::start(&place, &database, &settings);
    until(&0, || number(behind));
    let read = runtime.block_on(read_topic(&[shared_broker()], &topic));
    let size = number("SELECT size FROM audit_head");
    assert!(repeated(&read, size) > 0, "what was acknowledged is there twice");
}

#[test]
fn two_frozen_leaders_move_the_position_no_more_and_leave_nothing_out() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let cluster = Cluster::start("leaders", 1);
    runtime.block_on(cluster.make_topic(TOPIC));
    let scene = crash::Scene::new("leaders");
    let settings = [to(&cluster.brokers(), TOPIC).to_vec(), vec![hasty(&scene)]].concat();
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    scene.database.sql(
        "CREATE TABLE moves (number serial, next_seq bigint);
         CREATE FUNCTION note() RETURNS trigger SECURITY DEFINER LANGUAGE plpgsql AS
           'BEGIN INSERT INTO moves (next_seq) VALUES (NEW.next_seq); RETURN NEW; END';
         CREATE TRIGGER note AFTER UPDATE ON relay_positions FOR EACH ROW EXECUTE FUNCTION note()",
    );
    let relayed = || {
        until(&true, || {
            scene.number(
                "SELECT size + (SELECT count(*) FROM audit_outbox)
                   - (SELECT coalesce(max(next_seq), 0) FROM relay_positions) FROM audit_head",
            ) == 0
        });
    };
    expire(&scene);
    let first = scene.start_with(&settings);
    relayed();
    let (of_first, second) = (leader(&scene, "relay"), scene.start_with(&settings));

    // The first has sent, and waits for the acknowledgement: it renews its lease twice a second where it does not.
    cluster.freeze(1);
    rename(&scene, &first, "One");
    let waits = "SELECT count(*) FROM leases, audit_head, relay_positions
        WHERE name = 'relay' AND lease_until < now() + interval '29 seconds' AND size > next_seq";
    until(&1, || scene.number(waits));
    assert_eq!(leader(&scene, "relay"), of_first);
    first.freeze();
    cluster.thaw(1);
    expire(&scene);
    rename(&scene, &second, "Two");
    relayed();
    let of_second = leader(&scene, "relay");
    assert_ne!(of_second, of_first);

    // Both frozen, and the first comes back: the lease is free, and yet its batch is of an epoch that is over.
    second.freeze();
    expire(&scene);
    first.thaw();
    rename(&scene, &first, "Three");
    relayed();
    assert!(![&of_first, &of_second].contains(&&leader(&scene, "relay")));
    second.thaw();
    rename(&scene, &second, "Four");
    relayed();
    scene.verify();
    let back = "SELECT count(*) FROM (
          SELECT next_seq, lag(next_seq) OVER (ORDER BY number) AS before FROM moves) moves WHERE next_seq < before";
    assert_eq!(scene.number(back), 0, "the position goes back");
    let read = runtime.block_on(read_topic(&cluster.brokers(), TOPIC));
    println!("{} entries twice", repeated(&read, scene.number("SELECT size FROM audit_head")));
}

/// Every entry of a log of that size is there; answers how many records there are beyond one for each.
fn repeated(read: &[Vec<rskafka::record::Record>], size: i64) -> usize {
    let seq = |record: &rskafka::record::Record| -> i64 {
        String::from_utf8(record.headers["seq"].clone()).unwrap().parse().unwrap()
    };
    let mut seqs: Vec<i64> = read.iter().flatten().map(seq).collect();
    seqs.sort_unstable();
    let all = seqs.len();
    seqs.dedup();
    assert_eq!(seqs, (0..size).collect::<Vec<_>>());
    all - seqs.len()
}
