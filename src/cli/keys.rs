//! `identityd keys`: the keys that Vault wraps and the database keeps. The service only reads them, so this runs as the
//! role of the migrations.
use super::{Exit, Global, briefly, note, print};
use crate::platform::{
    clock::Clock,
    config::Config,
    db::Database,
    keys::{self, WrappedKey},
    vault::Vault,
};
use anyhow::Context as _;
use clap::{Args, Subcommand};
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection as _};
use std::{fmt::Write as _, path::PathBuf};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Make the first key of each kind; may run twice, or at once
    Init(Init),
    /// List the wrapped keys, and the version of the Transit key that wraps each
    Status,
    /// Wrap every key anew, under the newest version of its Transit key
    Rewrap,
}

#[derive(Args)]
pub(super) struct Init {
    /// Take the keys of this key ring, for a database that has used it so far
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

pub(super) fn run(global: &Global, command: Command) -> anyhow::Result<Exit> {
    let config = global.checked()?;
    briefly(perform(&config, command))?
}

async fn perform(config: &Config, command: Command) -> anyhow::Result<Exit> {
    if matches!(command, Command::Status) {
        let mut conn = connect(config, config.database.migrate_url.is_some()).await?;
        print(&table(&keys::list(&mut conn).await?))?;
        return Ok(Exit::Ok);
    }
    config.vault.address.as_ref().context("vault.address is not set: the Vault that wraps the keys")?;
    let vault = Vault::new(&config.vault, Clock::system())?;
    let mut conn = connect(config, true).await?;
    match command {
        Command::Init(Init { from: Some(file) }) => {
            let count = keys::import(&vault, &mut conn, &file).await?;
            print(&format!("{count} keys of {} are wrapped\n", file.display()))?;
            note("the file is not needed any more: keep it apart, or destroy it");
        }
        Command::Init(Init { from: None }) => {
            let made = keys::make(&vault, &mut conn).await?;
            if made.is_empty() {
                note("nothing to make: there is a key of each kind");
            }
            print(&made.iter().flat_map(|kind| [*kind, "\n"]).collect::<String>())?;
        }
        Command::Rewrap => {
            let changed = keys::rewrap(&vault, &mut conn).await?;
            print(&format!("{changed} keys are wrapped under a newer version than before\n"))?;
        }
        Command::Status => (),
    }
    Ok(Exit::Ok)
}

/// As the owner of the tables, or as the service's own role, which may look.
async fn connect(config: &Config, as_owner: bool) -> anyhow::Result<AsyncPgConnection> {
    let settings = &config.database;
    let url = match as_owner {
        true => settings.migrate_url.as_ref().context(
            "database.migrate_url is not set: the database, as a role that may `SET ROLE identityd_owner`",
        )?,
        false => settings.url.as_ref().context("neither database.migrate_url nor database.url is set")?,
    };
    let database = Database::parse(url.expose(), settings.ca_file.as_deref())?;
    let mut conn = database.connect().await.context("the database cannot be reached")?;
    if as_owner {
        conn.batch_execute("SET ROLE identityd_owner").await?;
    }
    Ok(conn)
}

fn table(rows: &[WrappedKey]) -> String {
    let mut text = String::new();
    for row in rows {
        let (kind, version, transit) = (&row.kind, row.version, row.transit_version());
        let _ = writeln!(text, "{kind:<8}  {version:>3}  {} {transit}", row.transit_key);
    }
    text
}
