//! `identityd policy`: what the policies say.
use super::{Exit, difference::difference, note, print};
use crate::authorization::{Engine, POLICIES, SCHEMA};
use anyhow::Context as _;
use clap::Subcommand;
use std::{fs, path::PathBuf};

#[derive(Subcommand)]
pub(super) enum Command {
    /// Print which role may do what: x may, o to one's own only
    Matrix {
        /// Compare with a file instead, and show the difference
        #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "policies/matrix.snap")]
        check: Option<PathBuf>,
    },
}

pub(super) fn run(command: Command) -> anyhow::Result<Exit> {
    let Command::Matrix { check } = command;
    let matrix = Engine::load(SCHEMA, POLICIES, false)?.matrix().to_string();
    let Some(path) = check else {
        print(&matrix)?;
        return Ok(Exit::Ok);
    };
    let expected = fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
    if expected == matrix {
        return Ok(Exit::Ok);
    }
    print(&difference(&expected, &matrix))?;
    note(format_args!(
        "the policies say something else than {}: look at the difference, and if it is meant, run \
         `identityd policy matrix` and put its output there",
        path.display()
    ));
    Ok(Exit::Difference)
}
