//! The schema: migrations that are part of the binary, and how far a database is from what they make.
//!
//! **Invariant:** whoever changes the schema holds `SCHEMA_LOCK` and acts as `identityd_owner`.
//! **Invariant:** a migration only expands. So a release works on its own level and on that of the release after it, and
//! `migrate up` may run before its processes are replaced. What nobody uses any more goes one release later (contract).
mod catalogue;
mod roles;

pub use catalogue::{Area, Difference, describe};
pub use roles::ROLES;

use super::db::Database;
use diesel::{
    ConnectionError, QueryableByName,
    connection::SimpleConnection,
    migration::{Migration, MigrationSource},
    pg::Pg,
    result::Error as QueryError,
    sql_types::{BigInt, Bool, Text},
};
use diesel_async::{
    AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _,
    async_connection_wrapper::AsyncConnectionWrapper,
};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use std::{collections::BTreeSet, time::Duration};
use tokio::time::Instant;

const EMBEDDED: EmbeddedMigrations = embed_migrations!("migrations");

/// Keys of advisory locks; arbitrary, but the same in every release.
const SCHEMA_LOCK: i64 = 0x6964_656e_7401;
const ROLES_LOCK: i64 = 0x6964_656e_7402;
/// How long one run waits for another.
const LOCK_MAX: Duration = Duration::from_mins(10);
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// A migration may take its time, but not wait long for a table: whoever comes after it would wait too.
const PATIENT: &str = "SET statement_timeout = 0; SET lock_timeout = '5s'; SET idle_in_transaction_session_timeout = 0; \
    SET client_min_messages = warning; SET search_path = public";
/// Outside of a transaction run `CREATE INDEX CONCURRENTLY` and its like, which wait for others and block nobody.
const OUTSIDE: &str = "SET lock_timeout = 0";
const INSIDE: &str = "SET lock_timeout = '5s'";
/// `level` is asked by the service's own role.
const READABLE: &str = "GRANT SELECT ON __diesel_schema_migrations TO identityd_app, identityd_platform";

type AnyError = Box<dyn std::error::Error + Send + Sync>;
type Blocking = AsyncConnectionWrapper<AsyncPgConnection>;

/// Why the schema is not as it should be. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum MigrateError {
    #[error("the database cannot be reached")]
    Connect(#[from] ConnectionError),
    #[error("the database refuses")]
    Query(#[from] QueryError),
    #[error(
        "the roles of the service are missing or not as they should be, and {user} may not make them: run what \
         `identityd migrate roles` prints as a superuser, once for the cluster"
    )]
    Roles { user: String },
    #[error(
        "{user} may not act as identityd_owner: run `GRANT identityd_owner TO \"{user}\"` as a superuser"
    )]
    NotOwner {
        user: String,
        #[source]
        source: QueryError,
    },
    #[error(
        "identityd_owner may not make tables here: run `GRANT USAGE, CREATE ON SCHEMA public TO identityd_owner` as \
         the owner of the database"
    )]
    NoSchema,
    #[error("another run has been changing the schema for ten minutes")]
    Busy,
    #[error("migration {version} was applied by a newer release: revert it with that release")]
    Unknown { version: String },
    #[error("migration {name} failed; those before it stay")]
    Migration {
        name: String,
        #[source]
        source: AnyError,
    },
    #[error("the list of migrations cannot be read")]
    List(#[source] AnyError),
    #[error("the work was cut off")]
    CutOff(#[from] tokio::task::JoinError),
}

/// How far a database is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Level {
    /// Nothing was ever applied.
    Empty,
    /// So many migrations of this binary are not applied: it cannot work.
    Behind(usize),
    /// As this binary needs it.
    Current,
    /// Nothing is missing, and a newer release was here: beside the next one's schema this binary works.
    Ahead,
}

/// One migration, of this binary or of the database.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Digits of its date and time; the order.
    pub version: String,
    /// The folder's name; none where a newer release applied it.
    pub name: Option<String>,
    /// Has the database seen it?
    pub applied: bool,
}

/// Makes the roles where they are missing, and runs what is pending. The names of what ran.
pub async fn up(database: &Database) -> Result<Vec<String>, MigrateError> {
    roles::ensure(database).await?;
    let connection = take_over(database).await?;
    blocking(connection, |connection| {
        let pending = connection.pending_migrations(EMBEDDED).map_err(MigrateError::List)?;
        // Before the first of them, so that a service that waits for the last can see how far we are.
        say(connection, READABLE)?;
        let run = |migration: Box<dyn Migration<Pg>>| {
            let name = migration.name().to_string();
            let outside = !migration.metadata().run_in_transaction();
            say(connection, if outside { OUTSIDE } else { INSIDE })?;
            match connection.run_migration(&migration) {
                Ok(_) => Ok(name),
                Err(source) => Err(MigrateError::Migration { name, source }),
            }
        };
        pending.into_iter().map(run).collect()
    })
    .await
}

/// Reverts the last `count`. The names of what was reverted.
pub async fn down(database: &Database, count: usize) -> Result<Vec<String>, MigrateError> {
    let connection = take_over(database).await?;
    blocking(connection, move |connection| {
        let known: Vec<Box<dyn Migration<Pg>>> = EMBEDDED.migrations().map_err(MigrateError::List)?;
        let applied = connection.applied_migrations().map_err(MigrateError::List)?;
        let revert = |version: diesel::migration::MigrationVersion<'static>| {
            let Some(migration) = known.iter().find(|one| one.name().version() == version) else {
                return Err(MigrateError::Unknown { version: version.to_string() });
            };
            let name = migration.name().to_string();
            match connection.revert_migration(migration) {
                Ok(_) => Ok(name),
                Err(source) => Err(MigrateError::Migration { name, source }),
            }
        };
        applied.into_iter().take(count).map(revert).collect()
    })
    .await
}

/// Every migration there is, in their order.
pub async fn status(database: &Database) -> Result<Vec<Entry>, MigrateError> {
    entries(&mut database.connect().await?).await
}

/// What is different from what this binary needs, one line each. Changes nothing, and any role may ask.
pub async fn check(database: &Database) -> Result<Vec<String>, MigrateError> {
    let mut connection = database.connect().await?;
    let mut lines = vec![];
    for Entry { version, name, applied } in entries(&mut connection).await? {
        match name {
            Some(name) if !applied => lines.push(format!("migration {name} is not applied")),
            None => lines.push(format!("migration {version} was applied by a newer release")),
            Some(_) => (),
        }
    }
    if lines.is_empty() {
        // Before that, every difference would only repeat which migrations are missing.
        lines = differences(&mut connection).await?.into_iter().map(|difference| difference.text).collect();
    }
    Ok(lines)
}

/// What the database has otherwise than this binary's migrations make it. Changes nothing, and any role may ask.
pub async fn differences(connection: &mut AsyncPgConnection) -> Result<Vec<Difference>, MigrateError> {
    Ok(catalogue::differences(&describe(connection).await?))
}

/// How far the database is, for whoever is about to serve from it. The service's own role may ask.
pub async fn level(connection: &mut AsyncPgConnection) -> Result<Level, MigrateError> {
    let entries = entries(connection).await?;
    let pending = entries.iter().filter(|entry| !entry.applied).count();
    Ok(match () {
        () if entries.len() == pending => Level::Empty,
        () if pending > 0 => Level::Behind(pending),
        () if entries.iter().any(|entry| entry.name.is_none()) => Level::Ahead,
        () => Level::Current,
    })
}

async fn entries(connection: &mut AsyncPgConnection) -> Result<Vec<Entry>, MigrateError> {
    let mut applied = applied(connection).await?;
    let known: Vec<Box<dyn Migration<Pg>>> = EMBEDDED.migrations().map_err(MigrateError::List)?;
    let mut entries: Vec<Entry> = known
        .iter()
        .map(|migration| {
            let version = migration.name().version().to_string();
            Entry { applied: applied.remove(&version), name: Some(migration.name().to_string()), version }
        })
        .collect();
    entries.extend(applied.into_iter().map(|version| Entry { version, name: None, applied: true }));
    entries.sort_by(|a, b| a.version.cmp(&b.version));
    Ok(entries)
}

/// Diesel's harness would make the table first, which not every role may.
async fn applied(connection: &mut AsyncPgConnection) -> Result<BTreeSet<String>, QueryError> {
    const TABLE: &str = "SELECT to_regclass('public.__diesel_schema_migrations') IS NOT NULL AS yes";
    const VERSIONS: &str = "SELECT version::text AS text FROM public.__diesel_schema_migrations";
    if !answer(connection, TABLE).await? {
        return Ok(BTreeSet::new());
    }
    let versions: Vec<Words> = diesel::sql_query(VERSIONS).load(connection).await?;
    Ok(versions.into_iter().map(|version| version.text).collect())
}

/// A connection that may change the schema, and is the only one that does. The lock ends with it.
async fn take_over(database: &Database) -> Result<AsyncPgConnection, MigrateError> {
    const MAY: &str = "SELECT has_schema_privilege('identityd_owner', 'public', 'CREATE') AS yes";
    let mut connection = database.connect().await?;
    connection.batch_execute(PATIENT).await?;
    lock(&mut connection, SCHEMA_LOCK).await?;
    let user = current_user(&mut connection).await?;
    if !answer(&mut connection, MAY).await? {
        // Who may not do this is told by the server in a warning, so ask again.
        let open = "GRANT USAGE, CREATE ON SCHEMA public TO identityd_owner";
        if connection.batch_execute(open).await.is_err() || !answer(&mut connection, MAY).await? {
            return Err(MigrateError::NoSchema);
        }
    }
    match connection.batch_execute("SET ROLE identityd_owner").await {
        Ok(()) => Ok(connection),
        Err(source) => Err(MigrateError::NotOwner { user, source }),
    }
}

/// Asks again and again: a session that waits inside the server holds a snapshot, for which the other's
/// `CREATE INDEX CONCURRENTLY` would wait in turn.
async fn lock(connection: &mut AsyncPgConnection, key: i64) -> Result<(), MigrateError> {
    let begun = Instant::now();
    loop {
        let taken: Answer = diesel::sql_query("SELECT pg_try_advisory_lock($1) AS yes")
            .bind::<BigInt, _>(key)
            .get_result(connection)
            .await?;
        match taken.yes {
            true => return Ok(()),
            false if begun.elapsed() > LOCK_MAX => return Err(MigrateError::Busy),
            false => tokio::time::sleep(LOCK_PAUSE).await,
        }
    }
}

/// Diesel's harness is not async. On a thread of its own it works under any runtime.
async fn blocking<T: Send + 'static>(
    connection: AsyncPgConnection,
    work: impl FnOnce(&mut Blocking) -> Result<T, MigrateError> + Send + 'static,
) -> Result<T, MigrateError> {
    tokio::task::spawn_blocking(move || work(&mut Blocking::from(connection))).await?
}

/// The wrapper has the async method of this name as well.
fn say(connection: &mut Blocking, sql: &str) -> Result<(), QueryError> {
    SimpleConnection::batch_execute(connection, sql)
}

#[derive(QueryableByName)]
struct Answer {
    #[diesel(sql_type = Bool)]
    yes: bool,
}

#[derive(QueryableByName)]
struct Words {
    #[diesel(sql_type = Text)]
    text: String,
}

async fn answer(connection: &mut AsyncPgConnection, question: &str) -> Result<bool, QueryError> {
    let answer: Answer = diesel::sql_query(question).get_result(connection).await?;
    Ok(answer.yes)
}

async fn current_user(connection: &mut AsyncPgConnection) -> Result<String, QueryError> {
    let words: Words = diesel::sql_query("SELECT current_user::text AS text").get_result(connection).await?;
    Ok(words.text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Cargo does not see a new folder: it compiles this file anew only when a file that it knows has changed.
    #[test]
    fn every_migration_folder_is_in_the_binary() {
        let mut folders: Vec<String> = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations"))
            .unwrap()
            .map(|entry| entry.unwrap())
            .filter(|entry| entry.path().is_dir())
            .map(|entry| entry.file_name().into_string().unwrap())
            .collect();
        folders.sort();
        let embedded: Vec<Box<dyn Migration<Pg>>> = EMBEDDED.migrations().unwrap();
        let embedded: Vec<String> = embedded.iter().map(|migration| migration.name().to_string()).collect();
        assert_eq!(embedded, folders, "run: touch src/platform/migrations.rs");
    }

    #[test]
    fn every_migration_can_be_reverted() {
        for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap() {
            let path = entry.unwrap().path();
            assert!(!path.is_dir() || path.join("down.sql").is_file(), "{} has no down.sql", path.display());
        }
    }
}
