//! What the tests of the command line share: the binary, directories and databases of their own.
use diesel::{QueryableByName, sql_types::Text};
use diesel_async::{RunQueryDsl as _, SimpleAsyncConnection as _};
use identityd::platform::{
    db::Database,
    migrations::{self, Level},
};
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::atomic::{AtomicU32, Ordering},
};

/// The binary, in surroundings that set nothing.
pub fn identityd(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_identityd"));
    command.args(arguments).env_clear();
    for name in ["PATH", "HOME", "IDENTITYD_PG_BIN"] {
        command.envs(std::env::var_os(name).map(|value| (name, value)));
    }
    command
}

/// How a command ended.
#[derive(PartialEq, Eq, Debug)]
pub struct Outcome {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl From<Output> for Outcome {
    fn from(output: Output) -> Self {
        let text = |bytes| String::from_utf8(bytes).unwrap();
        Self { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }
}

/// Runs the binary to its end.
pub fn run(arguments: &[&str]) -> Outcome {
    identityd(arguments).output().unwrap().into()
}

fn own_name(purpose: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("wt_cli_{purpose}_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A directory that goes with the test.
pub struct Scratch(PathBuf);

impl Scratch {
    /// In the temporary directory, where the user that PostgreSQL runs as can come.
    pub fn new(purpose: &str) -> Self {
        let path = std::env::temp_dir().join(own_name(purpose));
        fs::create_dir(&path).unwrap();
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str, text: &str) -> String {
        fs::write(self.0.join(name), text).unwrap();
        self.join(name)
    }

    pub fn join(&self, name: &str) -> String {
        self.0.join(name).to_str().unwrap().to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

/// A database that goes with the test.
pub struct ScratchDatabase {
    server: String,
    name: String,
}

impl ScratchDatabase {
    /// On the server of `tests/servers`.
    pub fn new(purpose: &str) -> Self {
        let server = crate::app::server("TEST_DATABASE_URL");
        Self::on(&server, purpose)
    }

    /// On a server by its URL without a database.
    pub fn on(server: &str, purpose: &str) -> Self {
        let database = Self { server: server.to_owned(), name: own_name(purpose) };
        sql(&format!("{server}/postgres"), &format!("CREATE DATABASE {}", database.name));
        database
    }

    /// As a superuser.
    pub fn url(&self) -> String {
        format!("{}/{}", self.server, self.name)
    }

    /// As the service's role, which is to exist.
    pub fn service_url(&self) -> String {
        self.url().replace("://postgres@", "://identityd_app@")
    }

    /// Changes something behind our back.
    pub fn sql(&self, statements: &str) {
        sql(&self.url(), statements);
    }

    /// `identityd migrate …` on it.
    pub fn migrate(&self, arguments: &[&str]) -> Outcome {
        self.migration(arguments).output().unwrap().into()
    }

    /// The same, not yet run.
    pub fn migration(&self, arguments: &[&str]) -> Command {
        let mut command = identityd(&[&["migrate"], arguments].concat());
        command.env("IDENTITYD_DATABASE__MIGRATE_URL", self.url());
        command
    }
}

impl Drop for ScratchDatabase {
    fn drop(&mut self) {
        sql(&format!("{}/postgres", self.server), &format!("DROP DATABASE {} WITH (FORCE)", self.name));
    }
}

/// Runs statements.
pub fn sql(url: &str, statements: &str) {
    blocking(async {
        let mut connection = database(url).connect().await.unwrap();
        connection.batch_execute(statements).await.unwrap();
    });
}

#[derive(QueryableByName)]
struct Cell {
    #[diesel(sql_type = Text)]
    cell: String,
}

/// Asks for one text, which the query names `cell`.
pub fn ask(url: &str, query: &str) -> String {
    blocking(async {
        let mut connection = database(url).connect().await.unwrap();
        let cell: Cell = diesel::sql_query(query).get_result(&mut connection).await.unwrap();
        cell.cell
    })
}

/// How far a database is, as the role of the URL sees it.
pub fn level_of(url: &str) -> Level {
    blocking(async { migrations::level(&mut database(url).connect().await.unwrap()).await.unwrap() })
}

/// A connection, for what holds one.
pub async fn connection(url: &str) -> diesel_async::AsyncPgConnection {
    database(url).connect().await.unwrap()
}

fn database(url: &str) -> Database {
    // Another test may have been first.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    Database::parse(url, None).unwrap()
}

fn blocking<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}
