//! `identityd user`: for people who cannot help themselves any more.
use super::{Exit, Global, exit::Stop, operator, print};
use crate::{
    authn::{PasswordError, reset_password},
    kernel::{EmailAddress, Secret},
};
use anyhow::Context as _;
use clap::Subcommand;
use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

const PASSWORD_BYTES_MAX: u64 = 4096;

#[derive(Subcommand)]
pub(super) enum Command {
    /// Give a locked-out administrator a new password, and end all his sessions
    Reset {
        /// The person's e-mail address
        email: String,
        /// Read the password from here, `-` for standard input; by default one is made and printed
        #[arg(long, value_name = "FILE")]
        password_file: Option<PathBuf>,
    },
}

pub(super) fn run(global: &Global, command: Command) -> anyhow::Result<Exit> {
    let Command::Reset { email, password_file } = command;
    let email =
        EmailAddress::parse(&email).ok_or_else(|| Stop::new(Exit::Usage, "this is no e-mail address"))?;
    let chosen = password_file.as_deref().map(read).transpose()?;
    operator(global, async |app, ctx| {
        let made = chosen.is_none();
        let password = chosen.unwrap_or_else(|| Secret::new(super::random_password(&app.entropy)));
        match reset_password(&app.work, &app.hasher, ctx, &email, password.expose()).await {
            Ok(_) if made => print(&format!("{}\n", password.expose()))?,
            Ok(_) => (),
            Err(PasswordError::NotFound) => {
                return Err(Stop::new(Exit::NotFound, format!("nobody has the address {email}")).into());
            }
            Err(other) => return Err(other.into()),
        }
        Ok(Exit::Ok)
    })
}

fn read(path: &Path) -> anyhow::Result<Secret<String>> {
    let mut text = String::new();
    let read = match path.to_str() {
        Some("-") => io::stdin().take(PASSWORD_BYTES_MAX).read_to_string(&mut text),
        _ => fs::File::open(path).and_then(|file| file.take(PASSWORD_BYTES_MAX).read_to_string(&mut text)),
    };
    read.with_context(|| format!("the password cannot be read from {}", path.display()))?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}
