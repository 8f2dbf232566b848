//! The binary: everything is in the library.
use clap::Parser as _;
use identityd::cli::{self, Cli};
use std::process::ExitCode;

fn main() -> ExitCode {
    cli::run(Cli::parse()).into()
}
