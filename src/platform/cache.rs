//! What the processes of one installation share for speed: announcements to each other, and buckets.
//!
//! **Invariant:** nothing in here is truth. Whatever is lost or late changes when something happens, never what; every
//! call is bounded; and while Redis does not answer, nobody waits for it.
mod bucket;
mod inspect;
mod memory;
mod redis;

pub use bucket::{Left, Rate, Taken};
pub use inspect::{Inspected, inspect};
pub use memory::Memory;
pub use redis::Redis;

use super::{clock::Clock, config, health::Health, metrics::Metrics, tasks::Stop};
use std::{io, sync::Arc};

/// Where it is kept. Cheap to clone.
#[derive(Clone)]
pub enum Cache {
    /// In this process, which then hears only itself and counts only what comes to it.
    Memory(Arc<Memory>),
    /// In Redis, for any number of processes.
    Redis(Arc<Redis>),
}

/// What is wrong with the settings.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("redis.url is not a Redis URL such as rediss://:password@host:6379")]
    Url(#[source] deadpool_redis::redis::RedisError),
    #[error("the certificate authorities of redis.ca_file cannot be read")]
    Authorities(#[source] io::Error),
    #[error("no pool of Redis connections can be made")]
    Pool(#[from] deadpool_redis::BuildError),
    /// Only `inspect` says so: a process goes on without it.
    #[error("Redis {0}")]
    Failed(&'static str),
}

/// Can `Cache::open` read it?
pub fn is_url(url: &str) -> bool {
    deadpool_redis::redis::Client::open(url).is_ok()
}

impl Cache {
    /// What the configuration names; without a URL, memory. It connects when asked, not before.
    pub fn open(
        settings: &config::Redis,
        clock: &Clock,
        metrics: &Metrics,
        health: &Health,
    ) -> Result<Self, CacheError> {
        Ok(match &settings.url {
            Some(url) => Self::Redis(Arc::new(Redis::open(url, settings, clock, metrics, health)?)),
            None => Self::Memory(Arc::new(Memory::new(clock.clone()))),
        })
    }

    /// Tells every process that follows, this one too. Does not wait: what cannot be sent now is sent later, or never.
    pub fn announce(&self, texts: impl IntoIterator<Item = String>) {
        match self {
            Self::Memory(memory) => texts.into_iter().for_each(|text| memory.announce(text)),
            Self::Redis(redis) => redis.announce(texts.into_iter()),
        }
    }

    /// Sends what is announced here and hears what is announced anywhere, until told to stop.
    pub async fn follow(&self, heard: impl Fn(&str), stop: Stop) {
        match self {
            Self::Memory(memory) => memory.follow(heard, stop).await,
            Self::Redis(redis) => redis.follow(heard, stop).await,
        }
    }

    /// For a process that ends without following: sends what it announced, if that can be done within a second.
    pub async fn flush(&self) {
        match self {
            Self::Memory(_) => (),
            Self::Redis(redis) => redis.flush().await,
        }
    }

    /// Takes one from each of these buckets, if there is one left in each: the same for all processes, in one question.
    pub async fn take(&self, wanted: &[(String, Rate)]) -> Taken {
        match self {
            Self::Memory(memory) => memory.take(wanted),
            Self::Redis(redis) => redis.take(wanted).await,
        }
    }

    /// The same from buckets of this process alone: nobody else is asked.
    pub fn take_here(&self, wanted: &[(String, Rate)]) -> Taken {
        match self {
            Self::Memory(memory) => memory.take(wanted),
            Self::Redis(redis) => redis.take_here(wanted),
        }
    }
}
