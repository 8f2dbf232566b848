//! What the cache promises, of each of its variants: of memory, and of Redis on the real server.
use crate::{
    app::server,
    cli_support::Scratch,
    redis_support::{OwnRedis, await_status, eventually, own_prefix},
};
use identityd::platform::{
    cache::{Cache, Rate, Taken},
    clock::Clock,
    config::{self, Flag},
    health::{Health, Status},
    metrics::Metrics,
    tasks::Tasks,
};
use std::{
    net::TcpListener,
    process::Command,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

const HOUR: Duration = Duration::from_hours(1);

/// One process's cache, and what it has heard.
struct Process {
    cache: Cache,
    health: Health,
    heard: Arc<Mutex<Vec<String>>>,
    tasks: Tasks,
}

impl Process {
    fn open(flags: &[String]) -> Self {
        let flags: Vec<Flag> = flags.iter().map(|flag| Flag::parse(flag).unwrap()).collect();
        let config = config::load(None, &flags).map_err(|errors| errors[0].to_string()).unwrap().config;
        let health = Health::default();
        let cache = Cache::open(&config.redis, &Clock::system(), &Metrics::new(), &health).unwrap();
        Self::of(cache, health)
    }

    fn of(cache: Cache, health: Health) -> Self {
        let (heard, tasks) = (Arc::<Mutex<Vec<String>>>::default(), Tasks::default());
        let (follower, all) = (cache.clone(), Arc::clone(&heard));
        let hear = move |text: &str| all.lock().unwrap().push(text.to_owned());
        tasks.spawn("cache", move |stop| async move { follower.follow(hear, stop).await });
        Self { cache, health, heard, tasks }
    }

    /// Without the greetings with which `two` begins.
    fn heard(&self) -> Vec<String> {
        let all = self.heard.lock().unwrap();
        all.iter().filter(|text| *text != "hello").cloned().collect()
    }

    /// One from this bucket: how long to wait for it, if it has none.
    async fn take(&self, bucket: &str, rate: Rate) -> Option<Duration> {
        match self.cache.take(&[(bucket.to_owned(), rate)]).await {
            Taken::Allowed(_) => None,
            Taken::Refused { wait, .. } => Some(wait),
        }
    }

    async fn hears(&self, text: &str) {
        eventually(text, async || self.heard.lock().unwrap().iter().any(|heard| heard == text)).await;
    }
}

/// Two that hear each other: with memory that is one process, which follows twice.
async fn two(flags: &[String]) -> [Process; 2] {
    let first = Process::open(flags);
    let second = match &first.cache {
        Cache::Memory(_) => Process::of(first.cache.clone(), first.health.clone()),
        Cache::Redis(_) => Process::open(flags),
    };
    for process in [&first, &second] {
        eventually("it follows", async || {
            first.cache.announce(["hello".into()]);
            !process.heard.lock().unwrap().is_empty()
        })
        .await;
    }
    [first, second]
}

fn variants() -> [Vec<String>; 2] {
    [vec![], vec![format!("redis.url={}", server("TEST_REDIS_URL")), own_prefix()]]
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_announces_everybody_who_follows_hears_in_its_order() {
    for flags in variants() {
        let [first, second] = two(&flags).await;
        let all: Vec<String> = (1..=500).map(|number| number.to_string()).collect();
        second.cache.announce(all.clone());
        for process in [&first, &second] {
            process.hears("500").await;
            assert_eq!(process.heard(), all, "{flags:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_gives_its_burst_and_then_says_how_long_to_wait() {
    for flags in variants() {
        let [first, second] = two(&flags).await;
        let rate = Rate { burst: 3, every: HOUR };
        for process in [&first, &second, &first] {
            assert_eq!(process.take("a", rate).await, None, "{flags:?}");
        }
        for process in [&first, &second] {
            let Some(wait) = process.take("a", rate).await else { panic!("{flags:?}") };
            assert!((Duration::from_mins(59)..=HOUR).contains(&wait), "{wait:?}");
        }
        assert_eq!(first.take("b", rate).await, None, "each has its own");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_buckets_one_is_taken_from_each_or_none_from_any() {
    for flags in variants() {
        let [first, second] = two(&flags).await;
        let many = Rate { burst: 3, every: HOUR };
        let wanted = [("own".to_owned(), many), ("all".to_owned(), Rate { burst: 1, every: HOUR })];
        let Taken::Allowed(left) = first.cache.take(&wanted).await else { panic!("{flags:?}") };
        assert_eq!(left.iter().map(|left| left.count).collect::<Vec<_>>(), [2, 0], "{flags:?}");
        for process in [&second, &first, &second] {
            let taken = process.cache.take(&wanted).await;
            assert!(matches!(taken, Taken::Refused { nth: 1, .. }), "{flags:?}: {taken:?}");
        }
        for process in [&second, &first] {
            assert_eq!(process.take("own", many).await, None, "refusals took nothing: {flags:?}");
        }
        assert!(first.take("own", many).await.is_some(), "{flags:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_of_a_process_alone_asks_nobody() {
    let redis = OwnRedis::start().await;
    let process = Process::open(&[redis.url()]);
    await_status(&process.health, Status::Ok).await;
    let wanted = [("a".to_owned(), Rate { burst: 1, every: HOUR })];
    assert!(matches!(process.cache.take_here(&wanted), Taken::Allowed(_)));
    assert!(matches!(process.cache.take_here(&wanted), Taken::Refused { .. }));
    assert_eq!(redis.ask("DBSIZE").await.as_deref(), Some(":0"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_fills_again() {
    for flags in variants() {
        let [process, _] = two(&flags).await;
        let rate = Rate { burst: 1, every: Duration::from_millis(100) };
        let began = Instant::now();
        assert_eq!(process.take("a", rate).await, None);
        eventually("it is full", async || process.take("a", rate).await.is_none()).await;
        assert!(began.elapsed() >= Duration::from_millis(99), "{flags:?}: {:?}", began.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_following_hears_no_more_and_is_told_to_stop_at_once() {
    for flags in variants() {
        let [first, second] = two(&flags).await;
        let began = Instant::now();
        second.tasks.stop(Duration::from_secs(5)).await;
        assert!(began.elapsed() < Duration::from_millis(900), "not when the server lets go: {flags:?}");
        first.cache.announce(["late".into()]);
        first.hears("late").await;
        assert!(!second.heard().contains(&"late".to_owned()));
    }
}

// Redis alone ----------------------------------------------------------------------------------------------------

#[tokio::test(flavor = "multi_thread")]
async fn the_stream_is_bounded() {
    let redis = OwnRedis::start().await;
    let process = Process::open(&[redis.url()]);
    await_status(&process.health, Status::Ok).await;
    // Filled past its bound long ago; the next announcement cuts it, by whole nodes of a hundred.
    let fill = "EVAL \"for i = 1, 100500 do redis.call('XADD', KEYS[1], i, 'w', 'x') end\" 1 identityd:authz";
    redis.ask(fill).await.unwrap();
    process.cache.announce(["one more".into()]);
    process.hears("one more").await;
    let length: u64 =
        redis.ask("XLEN identityd:authz").await.unwrap().trim_start_matches(':').parse().unwrap();
    assert!((100_000..=100_200).contains(&length), "{length}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_goes_when_it_is_full() {
    let redis = OwnRedis::start().await;
    let process = Process::open(&[redis.url()]);
    await_status(&process.health, Status::Ok).await;
    let rate = Rate { burst: 3, every: Duration::from_millis(200) };
    assert_eq!(process.take("a", rate).await, None);
    assert_eq!(redis.ask("EXISTS identityd:bucket:a").await.as_deref(), Some(":1"));
    eventually("it is gone", async || redis.ask("DBSIZE").await.as_deref() == Some(":0")).await;
}

/// Of a server whose clock was ahead, or of another hand.
#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_found_in_a_bucket_it_is_no_fuller_than_full() {
    let redis = OwnRedis::start().await;
    let process = Process::open(&[redis.url()]);
    await_status(&process.health, Status::Ok).await;
    let rate = Rate { burst: 3, every: Duration::from_mins(1) };
    redis.ask("SET identityd:bucket:a 9000000000000000").await.unwrap();
    match process.take("a", rate).await {
        Some(wait) => assert!(wait <= rate.every, "{wait:?}"),
        None => panic!("it is full"),
    }
    redis.ask("SET identityd:bucket:b moon").await.unwrap();
    assert_eq!(process.take("b", rate).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_given_and_a_wrong_one_is_said_to_be_wrong() {
    let redis = OwnRedis::with(&["--requirepass", "hunter2"]).await;
    let right = Process::open(&[format!("redis.url=redis://:hunter2@{}", redis.network.address)]);
    await_status(&right.health, Status::Ok).await;
    let wrong = Process::open(&[format!("redis.url=redis://:hunter3@{}", redis.network.address)]);
    await_status(&wrong.health, Status::Failing).await;
    let said = wrong.health.all()["redis"].clone();
    assert_eq!((said.required, said.detail.as_deref()), (false, Some("refuses the password")));
}

#[tokio::test(flavor = "multi_thread")]
async fn with_tls_it_trusts_the_authority_of_the_file_and_no_other() {
    // As the binary does at its start. Another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let place = Scratch::new("redis-tls");
    let openssl = |line: &str| {
        let made = Command::new("openssl").args(line.split(' ')).current_dir(place.path()).output().unwrap();
        assert!(made.status.success(), "{line}: {}", String::from_utf8_lossy(&made.stderr));
    };
    place.file("names", "subjectAltName=IP:127.0.0.1");
    openssl("req -x509 -newkey ed25519 -nodes -keyout ca.key -out ca.pem -subj /CN=authority -days 2");
    openssl("req -newkey ed25519 -nodes -keyout server.key -out request.pem -subj /CN=redis");
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem",
    );
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let file = |name: &str| place.join(name);
    let _redis = OwnRedis::with(&[
        "--bind",
        "127.0.0.1",
        "--tls-port",
        &port,
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        &file("server.pem"),
        "--tls-key-file",
        &file("server.key"),
        "--tls-ca-cert-file",
        &file("ca.pem"),
    ])
    .await;
    let url = format!("redis.url=rediss://127.0.0.1:{port}");
    let trusting = Process::open(&[url.clone(), format!("redis.ca_file={}", file("ca.pem"))]);
    await_status(&trusting.health, Status::Ok).await;
    let stranger = Process::open(&[url]);
    await_status(&stranger.health, Status::Failing).await;
    trusting.cache.announce(["over TLS".into()]);
    trusting.hears("over TLS").await;
    assert_eq!(stranger.heard(), Vec::<String>::new());
}
