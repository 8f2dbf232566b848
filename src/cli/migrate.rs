//! `identityd migrate`: the schema of the database.
use super::{Exit, Global, briefly, note, print};
use crate::platform::{
    config::Config,
    db::Database,
    migrations::{self, Entry, MigrateError, ROLES},
};
use anyhow::Context as _;
use clap::Subcommand;
use std::fmt::Write as _;

#[derive(Clone, Copy, Subcommand)]
pub(super) enum Command {
    /// Run what is pending, and make the roles first where they are missing; may run twice, or at once
    Up,
    /// Revert the last migrations
    Down {
        /// How many
        #[arg(default_value_t = 1)]
        count: usize,
    },
    /// List every migration, and whether the database has it
    Status,
    /// Name every difference between the database and what this release needs
    Check,
    /// Print the schema of the database in the form of migrations/catalogue.snap
    Catalogue,
    /// Print the SQL that makes the roles, for an administrator of the cluster
    Roles,
}

pub(super) fn run(global: &Global, command: Command) -> anyhow::Result<Exit> {
    if matches!(command, Command::Roles) {
        print(ROLES)?;
        return Ok(Exit::Ok);
    }
    let database = database(&global.load()?.config, command)?;
    briefly(perform(&database, command))?
}

/// Whoever only looks may do so as the service's own role.
fn database(config: &Config, command: Command) -> anyhow::Result<Database> {
    let settings = &config.database;
    let url = match command {
        Command::Up | Command::Down { .. } => settings.migrate_url.as_ref().context(
            "database.migrate_url is not set: the database, as a role that may `SET ROLE identityd_owner` \
             (IDENTITYD_DATABASE__MIGRATE_URL in the environment)",
        )?,
        Command::Status | Command::Check | Command::Catalogue | Command::Roles => {
            let either = settings.migrate_url.as_ref().or(settings.url.as_ref());
            either.context("neither database.migrate_url nor database.url is set")?
        }
    };
    Ok(Database::parse(url.expose(), settings.ca_file.as_deref())?)
}

async fn perform(database: &Database, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Up => told(migrations::up(database).await?, "nothing to run: every migration is applied"),
        Command::Down { count } => {
            told(migrations::down(database, count).await?, "nothing to revert: no migration is applied")
        }
        Command::Status => {
            print(&table(&migrations::status(database).await?))?;
            Ok(Exit::Ok)
        }
        Command::Check => check(&migrations::check(database).await?),
        Command::Catalogue => {
            let mut connection = database.connect().await.map_err(MigrateError::from)?;
            print(&migrations::describe(&mut connection).await?)?;
            Ok(Exit::Ok)
        }
        Command::Roles => Ok(Exit::Ok),
    }
}

fn told(names: Vec<String>, nothing: &str) -> anyhow::Result<Exit> {
    if names.is_empty() {
        note(nothing);
    }
    print(&lines(&names))?;
    Ok(Exit::Ok)
}

fn check(differences: &[String]) -> anyhow::Result<Exit> {
    if differences.is_empty() {
        note("the database is as this release needs it");
        return Ok(Exit::Ok);
    }
    print(&lines(differences))?;
    note("the database is not as this release needs it");
    Ok(Exit::Difference)
}

fn lines(lines: &[String]) -> String {
    lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
}

fn table(entries: &[Entry]) -> String {
    let mut text = String::new();
    for Entry { version, name, applied } in entries {
        let state = if *applied { "applied" } else { "pending" };
        let name = name.as_deref().unwrap_or("(of a newer release)");
        let _ = writeln!(text, "{state}  {version}  {name}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_says_what_is_applied_and_what_nobody_here_knows() {
        let entry = |version: &str, name: Option<&str>, applied| Entry {
            version: version.to_owned(),
            name: name.map(str::to_owned),
            applied,
        };
        let entries = [
            entry("2026", Some("2026_start"), true),
            entry("2027", Some("2027_more"), false),
            entry("2028", None, true),
        ];
        assert_eq!(
            table(&entries),
            "applied  2026  2026_start\npending  2027  2027_more\napplied  2028  (of a newer release)\n"
        );
    }
}
