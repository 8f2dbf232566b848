//! Redis: a capped stream that every process reads from where it stopped, and buckets that all processes share.
//!
//! **Invariant:** only the follower decides whether Redis answers. Whoever finds it silent says so, and from then on
//! nobody asks it until the follower, which nobody waits for, has had an answer again.
use super::{
    CacheError,
    bucket::{Buckets, Rate, Taken},
};
use crate::platform::{
    clock::Clock, config, health::Health, metrics::Metrics, secret::Secret, tasks::Stop, telemetry::chain,
};
use deadpool_redis::{
    Manager, Pool, PoolError, Runtime,
    redis::{
        AsyncConnectionConfig, Client, ErrorKind, RedisError, Script, TlsCertificates,
        aio::MultiplexedConnection, cmd, pipe, streams::StreamReadReply,
    },
};
use std::{
    collections::VecDeque,
    convert::Infallible,
    fs, io,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::sync::Notify;

/// How long a request may wait for Redis, once: whoever waited in vain is the last one to ask.
const CALL_MAX: Duration = Duration::from_millis(250);
const SEND_MAX: Duration = Duration::from_millis(500);
pub(super) const CONNECT_MAX: Duration = Duration::from_secs(1);
/// Doubled for each time that it did not come to an answer.
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_secs(4);
/// For how long the server holds a question that it has nothing to answer to. An idle follower knows after this time,
/// and not sooner, that Redis answers.
const BLOCK: Duration = Duration::from_secs(1);
/// How far the answer may come after that.
const BLOCK_SLACK: Duration = Duration::from_millis(500);
const CONNECTIONS_MAX: usize = 4;
/// What the stream keeps, about.
const STREAM_MAX: usize = 100_000;
/// Announcements in one answer, and in one go.
const BATCH_MAX: usize = 256;
/// Announcements that wait for Redis; then the oldest go.
const WAITING_MAX: usize = 4096;
/// How far back a process reads that has no place in the stream yet: to before it read the facts.
const FROM_BEFORE: Duration = Duration::from_mins(1);
/// What an entry has for a field.
const FIELD: &str = "w";
const NAME: &str = "redis";

/// GCRA on the server's own clock, in microseconds: takes one from each bucket if each has one. Answers 0 and after how
/// long each is full; or which has none (the longest), and for how long.
pub(super) static TAKE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(
        "local t = redis.call('TIME')
         local now, full_at, nth, longest = t[1] * 1000000 + t[2], {}, 0, 0
         for i, key in ipairs(KEYS) do
           local every, burst = tonumber(ARGV[2 * i - 1]), tonumber(ARGV[2 * i])
           local held = tonumber(redis.call('GET', key)) or now
           -- Whatever another clock or another hand left there, it is no fuller than full.
           full_at[i] = math.min(math.max(held, now), now + every * burst) + every
           local wait = full_at[i] - every * burst - now
           if wait > longest then nth, longest = i, wait end
         end
         if nth > 0 then return {nth, longest} end
         local answer = {0}
         for i, key in ipairs(KEYS) do
           local full_in = full_at[i] - now
           redis.call('SET', key, string.format('%.0f', full_at[i]), 'PX', math.ceil(full_in / 1000))
           answer[i + 1] = full_in
         end
         return answer",
    )
});

/// One Redis server, and what to do without it.
pub struct Redis {
    client: Client,
    pool: Pool,
    prefix: String,
    /// Counts what comes to this process: asked first, and alone while Redis does not answer.
    own: Buckets,
    waiting: Mutex<VecDeque<String>>,
    wake: Notify,
    answers: AtomicBool,
    /// Did it take the last announcement? It may answer questions and refuse to write.
    writes: AtomicBool,
    metrics: Metrics,
    health: Health,
}

/// Why a call did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("Redis refuses, or is out of reach")]
    Redis(#[from] RedisError),
    #[error("no connection to Redis")]
    Pool(#[from] PoolError),
    #[error("Redis does not answer in time")]
    Silent(#[from] tokio::time::error::Elapsed),
}

impl Failure {
    /// For whoever runs this: without addresses.
    pub(super) fn detail(&self) -> &'static str {
        match self {
            Self::Redis(error) if error.kind() == ErrorKind::AuthenticationFailed => "refuses the password",
            Self::Redis(error) if error.is_connection_refusal() => "refuses connections",
            Self::Redis(error) if !error.is_io_error() => "answers with errors",
            _ => "does not answer",
        }
    }
}

impl Redis {
    pub(super) fn open(
        url: &Secret<String>,
        settings: &config::Redis,
        clock: &Clock,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<Self, CacheError> {
        let client = client(url, settings)?;
        let info = client.get_connection_info().clone();
        let manager = Manager::new_with_config(info, bounds(CALL_MAX)).map_err(CacheError::Url)?;
        let pool = Pool::builder(manager).max_size(CONNECTIONS_MAX).runtime(Runtime::Tokio1).build()?;
        Ok(Self {
            client,
            pool,
            prefix: settings.prefix.clone(),
            own: Buckets::new(clock.clone()),
            waiting: Mutex::default(),
            wake: Notify::new(),
            answers: AtomicBool::new(false),
            writes: AtomicBool::new(true),
            metrics: metrics.clone(),
            health: health.clone(),
        })
    }

    pub(super) fn announce(&self, texts: impl Iterator<Item = String>) {
        self.put(texts, VecDeque::push_back);
        self.wake.notify_one();
    }

    /// Puts announcements at one end of those that wait. Of too many the newest are worth most.
    fn put(&self, texts: impl Iterator<Item = String>, at: fn(&mut VecDeque<String>, String)) {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        texts.for_each(|text| at(&mut waiting, text));
        while waiting.len() > WAITING_MAX {
            waiting.pop_front();
            self.metrics.wakeup("dropped");
        }
    }

    pub(super) async fn follow(&self, heard: impl Fn(&str), stop: Stop) {
        tokio::join!(self.send(stop.clone()), self.receive(heard, stop));
    }

    async fn send(&self, mut stop: Stop) {
        loop {
            let go_on = tokio::select! {
                () = stop.wait() => false,
                () = self.wake.notified() => true,
            };
            self.send_all().await;
            if !go_on {
                return;
            }
        }
    }

    /// What waits, while Redis answers. An entry that came in though its answer did not is sent twice, and is read twice.
    async fn send_all(&self) {
        while self.answers.load(Ordering::Acquire) {
            let batch: Vec<String> = {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                let count = waiting.len().min(BATCH_MAX);
                waiting.drain(..count).collect()
            };
            if batch.is_empty() {
                return;
            }
            match self.add(&batch).await {
                Ok(()) => {
                    self.writes.store(true, Ordering::Release);
                    for _ in &batch {
                        self.metrics.wakeup("sent");
                    }
                }
                Err(failure) => {
                    self.fell_silent("announce", &failure);
                    self.writes.store(false, Ordering::Release);
                    self.health.failing(NAME, false, failure.detail());
                    self.put(batch.into_iter().rev(), VecDeque::push_front);
                }
            }
        }
    }

    /// For a process that ends without ever following: what waits, if Redis takes it within a second.
    pub(super) async fn flush(&self) {
        let batch: Vec<String> = {
            let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
            waiting.drain(..).collect()
        };
        if !batch.is_empty()
            && let Err(failure) = self.add(&batch).await
        {
            self.fell_silent("announce", &failure);
        }
    }

    async fn add(&self, batch: &[String]) -> Result<(), Failure> {
        let mut entries = pipe();
        for text in batch {
            let entry = entries.cmd("XADD").arg(self.stream()).arg("MAXLEN").arg("~").arg(STREAM_MAX);
            entry.arg("*").arg(FIELD).arg(text).ignore();
        }
        let add = async {
            let mut connection = self.pool.get().await?;
            Ok(entries.query_async(&mut connection).await?)
        };
        tokio::time::timeout(SEND_MAX, add).await?
    }

    async fn receive(&self, heard: impl Fn(&str), mut stop: Stop) {
        let (mut cursor, mut pause) = (None, RECONNECT_PAUSE);
        loop {
            tokio::select! {
                () = stop.wait() => return,
                Err(failure) = self.receive_on(&mut cursor, &heard) => {
                    let answered = self.answers.load(Ordering::Acquire);
                    pause = if answered { RECONNECT_PAUSE } else { (pause * 2).min(RECONNECT_PAUSE_MAX) };
                    self.fell_silent("follow", &failure);
                    self.health.failing(NAME, false, failure.detail());
                }
            }
            if !stop.sleep(pause).await {
                return;
            }
        }
    }

    /// On a connection of its own, which is held while there is nothing to hear, until that fails.
    async fn receive_on(
        &self,
        cursor: &mut Option<String>,
        heard: &impl Fn(&str),
    ) -> Result<Infallible, Failure> {
        let bounds = bounds(BLOCK + BLOCK_SLACK);
        let connect = self.client.get_multiplexed_async_connection_with_config(&bounds);
        let mut connection = tokio::time::timeout(CONNECT_MAX, connect).await??;
        let place = tokio::time::timeout(CONNECT_MAX, place(&mut connection, cursor.clone())).await??;
        let cursor = cursor.insert(place);
        tokio::time::timeout(CONNECT_MAX, self.prepare()).await??;
        self.answered();
        loop {
            let mut read = cmd("XREAD");
            read.arg("COUNT").arg(BATCH_MAX).arg("BLOCK").arg(BLOCK.as_millis().to_string());
            read.arg("STREAMS").arg(self.stream()).arg(cursor.as_str());
            let answer: Option<StreamReadReply> = read.query_async(&mut connection).await?;
            self.answered();
            for entry in answer.into_iter().flat_map(|answer| answer.keys).flat_map(|key| key.ids) {
                if let Some(text) = entry.get::<String>(FIELD) {
                    self.metrics.wakeup("heard");
                    heard(&text);
                }
                *cursor = entry.id;
            }
        }
    }

    /// So that no request has to connect, or to tell the server what to do.
    async fn prepare(&self) -> Result<(), Failure> {
        let mut connection = self.pool.get().await?;
        Ok(TAKE.load_async(&mut connection).await.map(drop)?)
    }

    /// What this process itself has taken is looked at first: where that is too much already, nobody is asked.
    pub(super) async fn take(&self, wanted: &[(String, Rate)]) -> Taken {
        if !self.answers.load(Ordering::Acquire) {
            return self.own.take(wanted);
        }
        if let refused @ Taken::Refused { .. } = self.own.look(wanted) {
            return refused;
        }
        match self.take_shared(wanted).await {
            Ok(taken) => {
                if matches!(taken, Taken::Allowed(_)) {
                    self.own.note(wanted);
                }
                taken
            }
            Err(failure) => {
                self.fell_silent("bucket", &failure);
                self.own.take(wanted)
            }
        }
    }

    pub(super) fn take_here(&self, wanted: &[(String, Rate)]) -> Taken {
        self.own.take(wanted)
    }

    async fn take_shared(&self, wanted: &[(String, Rate)]) -> Result<Taken, Failure> {
        let take = async {
            let mut connection = self.pool.get().await?;
            let mut call = TAKE.prepare_invoke();
            for (bucket, rate) in wanted {
                call.key(format!("{}:bucket:{bucket}", self.prefix));
                call.arg(u64::try_from(rate.every.as_micros()).unwrap_or(u64::MAX)).arg(rate.burst);
            }
            Ok::<Vec<u64>, Failure>(call.invoke_async(&mut connection).await?)
        };
        let answer = tokio::time::timeout(CALL_MAX, take).await??;
        Ok(match *answer {
            [nth, wait] if nth > 0 => {
                let nth = usize::try_from(nth - 1).unwrap_or_default();
                Taken::Refused { nth, wait: Duration::from_micros(wait) }
            }
            _ => {
                let full_in = answer.iter().skip(1).copied().map(Duration::from_micros);
                Taken::Allowed(
                    wanted.iter().zip(full_in).map(|((_, rate), full_in)| rate.left(full_in)).collect(),
                )
            }
        })
    }

    fn stream(&self) -> String {
        format!("{}:authz", self.prefix)
    }

    fn answered(&self) {
        if self.writes.load(Ordering::Acquire) {
            self.health.ok(NAME, false);
        }
        if !self.answers.swap(true, Ordering::AcqRel) {
            self.wake.notify_one();
        }
    }

    fn fell_silent(&self, call: &'static str, failure: &Failure) {
        self.metrics.redis_error(call);
        tracing::debug!(call, error = chain(failure), "Redis failed; going on without it");
        self.answers.store(false, Ordering::Release);
    }
}

/// Connects to nobody yet.
pub(super) fn client(url: &Secret<String>, settings: &config::Redis) -> Result<Client, CacheError> {
    let client = match &settings.ca_file {
        Some(path) => {
            let root_cert = Some(fs::read(path).map_err(CacheError::Authorities)?);
            Client::build_with_tls(url.expose().as_str(), TlsCertificates { client_tls: None, root_cert })
        }
        None => Client::open(url.expose().as_str()),
    };
    client.map_err(|error| match settings.ca_file {
        // The URL was looked at by `config check`.
        Some(_) => CacheError::Authorities(io::Error::other(error)),
        None => CacheError::Url(error),
    })
}

pub(super) fn bounds(response_max: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_MAX))
        .set_response_timeout(Some(response_max))
}

/// Where to read on, by the server's own clock.
async fn place(connection: &mut MultiplexedConnection, cursor: Option<String>) -> Result<String, RedisError> {
    let (seconds, micros): (u64, u64) = cmd("TIME").query_async(connection).await?;
    Ok(place_at(seconds * 1000 + micros / 1000, cursor))
}

/// Where it stopped, unless that place is ahead of the server's clock, and so another server's.
fn place_at(now_millis: u64, cursor: Option<String>) -> String {
    let stopped_at = |cursor: &String| cursor.split('-').next().and_then(|millis| millis.parse::<u64>().ok());
    let known = cursor.filter(|cursor| stopped_at(cursor).is_some_and(|millis| millis <= now_millis));
    let before = u128::from(now_millis).saturating_sub(FROM_BEFORE.as_millis());
    known.unwrap_or_else(|| format!("{before}-0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_on_where_it_stopped_or_from_a_minute_ago() {
        let place = |cursor: Option<&str>| place_at(1_000_500, cursor.map(ToOwned::to_owned));
        assert_eq!(place(None), "940500-0");
        assert_eq!(place(Some("1000500-7")), "1000500-7");
        assert_eq!(place(Some("3000-0")), "3000-0", "what was trimmed away is simply not there");
        assert_eq!(place(Some("1000501-0")), "940500-0", "of a server whose clock was ahead");
        assert_eq!(place(Some("moon")), "940500-0");
    }
}
