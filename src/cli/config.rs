//! `identityd config`: what is configured, and what could be.
use super::{Exit, Global, note, print};
use crate::platform::config::{Config, reference};
use clap::Subcommand;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print every key with its value and where that came from; secrets are masked
    Show,
    /// Name every mistake
    Check,
    /// Print the JSON schema of the configuration
    Schema,
    /// Print docs/configuration.md
    Reference,
}

pub(super) fn run(global: &Global, command: Command) -> anyhow::Result<Exit> {
    match command {
        Command::Show => print(&global.load()?.show())?,
        Command::Check => {
            global.checked()?;
            note("the configuration can be used");
        }
        Command::Schema => {
            let schema = serde_json::to_string_pretty(&schemars::schema_for!(Config))?;
            print(&format!("{schema}\n"))?;
        }
        Command::Reference => print(&reference())?,
    }
    Ok(Exit::Ok)
}
