//! A Redis server of a test's own, behind a network of its own; and replicas that follow.
use crate::{
    app::{TestApp, server},
    cli_support::Scratch,
    fault_proxy::{FaultProxy, Upstream},
    support::PATIENCE,
};
use identityd::{
    app::App,
    authorization,
    platform::{
        health::{Health, Status},
        tasks::Tasks,
    },
};
use std::{
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader},
    net::UnixStream,
};

/// A server that a test may damage.
pub struct OwnRedis {
    place: Scratch,
    arguments: Vec<String>,
    child: Child,
    pub network: FaultProxy,
}

impl OwnRedis {
    pub async fn start() -> Self {
        Self::with(&[]).await
    }

    /// With more settings, as redis-server takes them.
    pub async fn with(arguments: &[&str]) -> Self {
        let place = Scratch::new("redis");
        let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
        let network = FaultProxy::before(socket(&place)).await;
        let child = launch(&place, &arguments);
        let own = Self { place, arguments, child, network };
        own.await_answer().await;
        own
    }

    /// For another network before it.
    pub fn upstream(&self) -> Upstream {
        socket(&self.place)
    }

    /// For a process to use it.
    pub fn url(&self) -> String {
        format!("redis.url=redis://{}", self.network.address)
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Begins it again, empty.
    pub async fn restart(&mut self) {
        self.kill();
        self.child = launch(&self.place, &self.arguments);
        self.await_answer().await;
    }

    /// It stands still: connections stay, and nothing answers.
    pub fn freeze(&self) {
        self.signal(rustix::process::Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(rustix::process::Signal::CONT);
    }

    /// Everything in it is gone.
    pub async fn flush(&self) {
        assert_eq!(self.ask("FLUSHALL").await.as_deref(), Some("+OK"));
    }

    /// One command, as one line, past the network; the first line of the answer.
    pub async fn ask(&self, line: &str) -> Option<String> {
        let mut stream = UnixStream::connect(self.place.path().join("socket")).await.ok()?;
        stream.write_all(format!("{line}\r\n").as_bytes()).await.ok()?;
        BufReader::new(stream).lines().next_line().await.ok()?
    }

    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).unwrap();
    }

    async fn await_answer(&self) {
        eventually("Redis answers", async || {
            let answer = self.ask("PING").await.unwrap_or_default();
            answer == "+PONG" || answer.starts_with("-NOAUTH")
        })
        .await;
    }
}

impl Drop for OwnRedis {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(place: &Scratch) -> Upstream {
    Upstream::Unix(place.path().join("socket"))
}

fn launch(place: &Scratch, arguments: &[String]) -> Child {
    let mut command = Command::new(server("TEST_REDIS_SERVER"));
    command.args(["--port", "0", "--unixsocket", &place.join("socket")]);
    command.args(["--save", "", "--appendonly", "no", "--dir", &place.join("")]).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

/// A prefix that nobody else has on the server of `tests/servers`.
pub fn own_prefix() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("redis.prefix=it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// What a process that stays up does, for the authorization state.
pub fn follow(app: &App) -> Tasks {
    let (tasks, database, health) = (Tasks::default(), app.database.clone(), app.health.clone());
    let (state, keys, cache) = (app.work.state_handle(), app.work.keys_handle(), app.work.cache().clone());
    let stale_max = app.config.authorization.stale_max();
    tasks.spawn("tail", move |stop| {
        authorization::follow(state, keys, database, cache, health, stale_max, stop)
    });
    tasks
}

/// Follows, and has had an answer of Redis.
pub async fn following(app: &App) -> Tasks {
    let tasks = follow(app);
    await_redis(app, Status::Ok).await;
    tasks
}

pub async fn await_redis(app: &App, status: Status) {
    await_status(&app.health, status).await;
}

/// Until Redis is known to be so.
pub async fn await_status(health: &Health, status: Status) {
    let so = async || health.all().get("redis").is_some_and(|redis| redis.status == status);
    eventually(&format!("Redis is {status:?}"), so).await;
}

/// Asks again until it is so; answers how long that took.
pub async fn eventually(what: &str, mut so: impl AsyncFnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !so().await {
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::task::yield_now().await;
    }
    began.elapsed()
}

/// A counter; 0 where it was never counted.
pub fn counted(app: &App, metric: &str) -> u64 {
    let text = app.metrics.render().unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(metric).map(|value| value.trim().to_owned()));
    line.map_or(0, |value| value.parse().unwrap())
}

/// The address of the database server.
pub fn database_address(app: &TestApp) -> Upstream {
    let url = app.database_url();
    let address = url.rsplit('@').next().unwrap().split('/').next().unwrap();
    Upstream::Tcp(address.parse().unwrap())
}
