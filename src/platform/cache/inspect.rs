//! A look at a Redis server, for an operator.
use super::{
    CacheError,
    redis::{CONNECT_MAX, Failure, TAKE, bounds, client},
};
use crate::platform::{config, secret::Secret};
use deadpool_redis::redis::{InfoDict, RedisError, aio::MultiplexedConnection, cmd};

/// What a server that lets us in says of itself; `None` where we may not ask.
pub struct Inspected {
    /// As it calls it.
    pub version: Option<String>,
    /// Does it take writes, or only follow another one?
    pub is_primary: Option<bool>,
    /// The policy by which it drops keys without an end to their life, the announcements among them, once it is full.
    pub evicts_by: Option<String>,
}

/// Connects as the service does, and does what it does without leaving a trace.
pub async fn inspect(url: &Secret<String>, settings: &config::Redis) -> Result<Inspected, CacheError> {
    let client = client(url, settings)?;
    let failed = |failure: Failure| CacheError::Failed(failure.detail());
    let bounds = bounds(CONNECT_MAX);
    let connect = client.get_multiplexed_async_connection_with_config(&bounds);
    let connected = tokio::time::timeout(CONNECT_MAX, connect).await.map_err(|late| failed(late.into()))?;
    let mut connection = connected.map_err(|error| failed(error.into()))?;
    look(&mut connection).await.map_err(|error| failed(error.into()))
}

async fn look(connection: &mut MultiplexedConnection) -> Result<Inspected, RedisError> {
    TAKE.load_async(connection).await?;
    let info = cmd("INFO").query_async::<InfoDict>(connection).await;
    let info = match info {
        Ok(info) => info,
        Err(error) if error.code() == Some("NOPERM") => InfoDict::new(""),
        Err(error) => return Err(error),
    };
    let bounded = info.get::<u64>("maxmemory").is_some_and(|bytes| bytes > 0);
    let policy: Option<String> = info.get("maxmemory_policy");
    Ok(Inspected {
        version: info.get("redis_version"),
        is_primary: info.get::<String>("role").map(|role| role == "master"),
        evicts_by: policy.filter(|policy| bounded && policy.starts_with("allkeys-")),
    })
}
