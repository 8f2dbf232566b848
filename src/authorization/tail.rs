//! The tail: keeps the state fresh, woken by NOTIFY, by what other processes announce through the cache, and by the
//! clock where nobody does either.
use super::State;
use crate::platform::{
    cache::Cache,
    db::{Database, StorageError},
    health::Health,
    keys::Keys,
    tasks::Stop,
    telemetry::chain,
};
use diesel::sql_query;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::StreamExt as _;
use std::{pin::pin, sync::Arc, time::Duration};
use tokio::sync::Notify;

/// How often it asks when nobody notifies: well within the 900 ms after which the state is stale.
const POLL: Duration = Duration::from_millis(250);
/// How long one question may take; a long backlog is read in several.
const ASK_MAX: Duration = Duration::from_secs(10);
const CONNECT_MAX: Duration = Duration::from_secs(2);
const RECONNECT_PAUSE: Duration = Duration::from_millis(250);
/// On connections of the tail's own: a busy pool must not make the state stale.
const POSTGRES: &str = "postgres";

/// Follows the log until told to stop. `stale_max`: for how long requests are answered without PostgreSQL.
pub async fn follow(
    state: Arc<State>,
    keys: Arc<Keys>,
    database: Database,
    cache: Cache,
    health: Health,
    stale_max: Duration,
    stop: Stop,
) {
    let woken = Notify::new();
    let heard = |text: &str| {
        if state.hear(&keys, text) {
            woken.notify_one();
        }
    };
    tokio::join!(
        listen(&database, &woken, stop.clone()),
        cache.follow(heard, stop.clone()),
        read(&state, &database, &health, stale_max, &woken, stop),
    );
}

async fn read(
    state: &State,
    database: &Database,
    health: &Health,
    stale_max: Duration,
    woken: &Notify,
    mut stop: Stop,
) {
    let mut connection = None;
    loop {
        match ask(state, database, &mut connection).await {
            Ok(()) => health.ok(POSTGRES, true),
            Err(detail) => {
                connection = None;
                // Key checks go on from memory for a while; only after that is this process of no use.
                let required = state.age().is_none_or(|age| age > stale_max);
                health.failing(POSTGRES, required, detail);
            }
        }
        tokio::select! {
            () = stop.wait() => return,
            () = woken.notified() => (),
            () = tokio::time::sleep(POLL) => (),
        }
    }
}

async fn ask(
    state: &State,
    database: &Database,
    connection: &mut Option<AsyncPgConnection>,
) -> Result<(), &'static str> {
    let conn = match connection {
        Some(conn) => conn,
        None => {
            let fresh = tokio::time::timeout(CONNECT_MAX, database.connect()).await;
            connection.insert(fresh.map_err(|_| "does not answer")?.map_err(|_| "refuses connections")?)
        }
    };
    match tokio::time::timeout(ASK_MAX, state.catch_up(conn)).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(StorageError::Silent)) | Err(_) => Err("does not answer"),
        Ok(Err(error)) => {
            tracing::warn!(error = chain(&error), "the authorization state could not be read");
            Err("answers with errors")
        }
    }
}

async fn listen(database: &Database, woken: &Notify, mut stop: Stop) {
    loop {
        tokio::select! {
            () = stop.wait() => return,
            result = listen_once(database, woken) => {
                if let Err(error) = result {
                    tracing::debug!(error = chain(&error), "not listening for changes; polling goes on");
                }
            }
        }
        if !stop.sleep(RECONNECT_PAUSE).await {
            return;
        }
    }
}

/// Until the connection ends.
async fn listen_once(database: &Database, woken: &Notify) -> Result<(), StorageError> {
    let Ok(Ok(mut conn)) = tokio::time::timeout(CONNECT_MAX, database.connect()).await else { return Ok(()) };
    sql_query("LISTEN authz").execute(&mut conn).await?;
    let mut notifications = pin!(conn.notifications_stream());
    while let Some(notification) = notifications.next().await {
        notification?;
        woken.notify_one();
    }
    Ok(())
}
