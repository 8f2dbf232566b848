//! `identityd completions`: for the shell.
use super::{Cli, Exit, print};
use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

#[derive(Args)]
pub(super) struct Options {
    /// Which shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(options: Options) -> anyhow::Result<Exit> {
    let mut script = vec![];
    clap_complete::generate(options.shell, &mut Cli::command(), "identityd", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}
