//! What tests of the lower floors share.
use crate::app::{TestApp, connect};
use diesel_async::AsyncPgConnection;
use identityd::{
    flows, jobs,
    work::{Upkeep, UpkeepTx, WorkError},
};
use serde_json::{Value, json};
use std::{fmt::Write as _, time::Duration};

/// Long enough for anything here; a test that takes it has failed.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Status and code of a problem; the code is empty where it is none.
pub fn code(answer: &Value) -> (u64, &str) {
    (answer["status"].as_u64().unwrap(), answer["body"]["code"].as_str().unwrap_or_default())
}

/// Waits until PostgreSQL says yes, and fails if it does not within `PATIENCE`.
pub async fn until(app: &TestApp, condition: &str) {
    let query = format!("SELECT ({condition}) AS yes");
    let come_true = async { while app.rows(&query).await != json!([{ "yes": true }]) {} };
    assert!(tokio::time::timeout(PATIENCE, come_true).await.is_ok(), "never: {condition}");
}

/// To look at what no role of the service may see, in the types that it has.
pub async fn superuser(app: &TestApp) -> AsyncPgConnection {
    connect("superuser", app.database_url().rsplit('/').next().unwrap()).await
}

/// How many rows a table has, or what follows `FROM`.
pub async fn count(app: &TestApp, from: &str) -> u64 {
    app.rows(&format!("SELECT count(*) AS count FROM {from}")).await[0]["count"].as_u64().unwrap()
}

/// Removes for good what can no longer be restored, as the sweeper does. Answers how much it was.
pub async fn purge(app: &TestApp) -> usize {
    let take = async |tx: &mut UpkeepTx<'_>| Ok::<_, WorkError>(jobs::take(tx, "sweeper", "me", 60).await?);
    let lease = app.work().upkeep(Upkeep::Lease, take).await.unwrap().unwrap();
    flows::purge(app.work(), &lease).await.unwrap()
}

/// The tables in which a text stands anywhere, as it is or as bytes.
pub async fn places_of(app: &TestApp, text: &str) -> Vec<String> {
    let tables = "SELECT relname AS name FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' ORDER BY 1";
    let mut hex = String::new();
    text.bytes().for_each(|byte| write!(hex, "{byte:02x}").unwrap());
    let holds = |name: &str| {
        format!(
            "SELECT '{name}' AS place WHERE EXISTS (SELECT FROM {name} t
               WHERE strpos(t::text, '{text}') > 0 OR strpos(t::text, '{hex}') > 0)"
        )
    };
    let queries: Vec<String> = names(&app.rows(tables).await, "name").map(|name| holds(&name)).collect();
    names(&app.rows(&queries.join(" UNION ALL ")).await, "place").collect()
}

/// One column of texts.
pub fn names(rows: &Value, column: &str) -> impl Iterator<Item = String> {
    rows.as_array().unwrap().iter().map(move |row| row[column].as_str().unwrap().to_owned())
}
