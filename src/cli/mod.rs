//! L5: the command line. One file a command; data goes to standard output, and everything else to standard error.
mod bootstrap;
mod completions;
mod config;
mod dev;
mod dev_serve;
mod difference;
mod doctor;
mod exit;
mod export;
mod healthcheck;
mod keys;
mod migrate;
mod openapi;
mod policy;
mod process;
mod reconcile;
mod rotate;
mod seed;
mod seeding;
mod serve;
mod user;

pub use exit::Exit;

use crate::{
    app::{Adapters, App, database_of},
    kernel::{Actor, Ctx, Token, TokenKind, Workload},
    platform::{
        config::{self as configuration, Config, ConfigError, ConfigFile, Flag, Loaded, surroundings},
        entropy::Entropy,
    },
};
use clap::{Args, Parser, Subcommand};
use std::{
    fmt::{self, Display},
    io::{self, Write as _},
    path::PathBuf,
};

/// What was typed.
#[derive(Parser)]
#[command(name = "identityd", version, about = "User and organization service", after_help = exit::HELP)]
pub struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Where the configuration comes from; every command takes these.
#[derive(Args)]
struct Global {
    /// Configuration file in TOML; the variable `IDENTITYD_CONFIG` names it too
    #[arg(long, global = true, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Sets one key, over file and environment; may be repeated
    #[arg(long = "set", global = true, value_name = "KEY=VALUE", value_parser = Flag::parse)]
    flags: Vec<Flag>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the API
    Serve,
    /// Bring organizations to their declared state, again and again
    Reconcile,
    /// Rotate what is due
    Rotate(Pace),
    /// Export the audit log
    Export(Pace),
    /// Run everything on this machine, with a database of its own, to try and to develop
    Dev(dev::Options),
    /// Print a token for the first calls to an empty platform
    Bootstrap(bootstrap::Options),
    /// Bring the database to the schema of this release, or compare it
    #[command(subcommand)]
    Migrate(migrate::Command),
    /// Make the keys that Vault wraps, or wrap them anew
    #[command(subcommand)]
    Keys(keys::Command),
    /// Look at everything that a process needs, and say what is wrong, why it matters and how to mend it
    Doctor(doctor::Options),
    /// Show and check the configuration
    #[command(subcommand)]
    Config(config::Command),
    /// Print the OpenAPI document
    Openapi,
    /// Show what the policies say
    #[command(subcommand)]
    Policy(policy::Command),
    /// Ask a running server whether it is alive
    Healthcheck(healthcheck::Options),
    /// Print completions for a shell
    Completions(completions::Options),
    /// Help a person who cannot sign in
    #[command(subcommand)]
    User(user::Command),
}

/// Once, or as long as the process lives.
#[derive(Args)]
struct Pace {
    /// Stay up and do it again whenever it is due
    #[arg(long)]
    watch: bool,
}

/// Does what was typed.
pub fn run(cli: Cli) -> Exit {
    // Fails only where somebody has chosen a provider already, and there is one to choose.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match dispatch(cli) {
        Ok(exit) => exit,
        Err(error) => {
            note(format_args!("identityd: {error:#}"));
            Exit::of(&error)
        }
    }
}

fn dispatch(Cli { global, command }: Cli) -> anyhow::Result<Exit> {
    match command {
        Command::Serve => serve::run(&global),
        Command::Reconcile => reconcile::run(&global),
        Command::Rotate(Pace { watch }) => rotate::run(&global, watch),
        Command::Export(Pace { watch }) => export::run(&global, watch),
        Command::Dev(options) => dev::run(&global, options),
        Command::Bootstrap(options) => bootstrap::run(&global, options),
        Command::Migrate(command) => migrate::run(&global, command),
        Command::Keys(command) => keys::run(&global, command),
        Command::Doctor(options) => doctor::run(&global, options),
        Command::Config(command) => config::run(&global, command),
        Command::Openapi => openapi::run(),
        Command::Policy(command) => policy::run(command),
        Command::Healthcheck(options) => healthcheck::run(&global, options),
        Command::Completions(options) => completions::run(options),
        Command::User(command) => user::run(&global, command),
    }
}

impl Global {
    /// Reads every layer. What is read may still not go together: `checked` looks at that too.
    fn load(&self) -> Result<Loaded, Misconfigured> {
        configuration::load(self.file().as_ref(), &self.flags).map_err(Misconfigured)
    }

    /// The same, with what can be used of it, for whoever names every mistake.
    fn survey(&self) -> Result<Loaded, Misconfigured> {
        let surveyed = configuration::survey("", &[], self.file().as_ref(), &self.flags);
        surveyed.map_err(|mistake| Misconfigured(vec![mistake]))
    }

    /// The configuration, if its values go together.
    fn checked(&self) -> Result<Config, Misconfigured> {
        let loaded = self.survey()?;
        Misconfigured::unless_none(configuration::check(&loaded))?;
        Ok(loaded.config)
    }

    /// The same, if nothing is missing that a process needs; `mail`: also to send mail.
    fn complete(&self, mail: bool) -> Result<Config, Misconfigured> {
        let loaded = self.survey()?;
        let mistakes = [configuration::check(&loaded), configuration::missing(&loaded, mail)].concat();
        Misconfigured::unless_none(mistakes)?;
        Ok(loaded.config)
    }

    fn file(&self) -> Option<ConfigFile> {
        let named = |named_by| move |path| ConfigFile { path, named_by };
        let typed = self.config.clone().map(named("--config"));
        typed.or_else(|| surroundings::config_file().map(named("environment variable IDENTITYD_CONFIG")))
    }
}

/// Every mistake in the configuration, one a line.
#[derive(Debug, thiserror::Error)]
struct Misconfigured(Vec<ConfigError>);

impl Misconfigured {
    fn unless_none(mistakes: Vec<ConfigError>) -> Result<(), Self> {
        if mistakes.is_empty() { Ok(()) } else { Err(Self(mistakes)) }
    }
}

impl Display for Misconfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the configuration cannot be used")?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n  {mistake}"))
    }
}

/// Data, for whoever reads our output. A reader that has seen enough is no failure.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// A word for the person at the terminal.
fn note(text: impl Display) {
    // Where there is nobody to tell, there is nobody to tell that either.
    let _ = writeln!(io::stderr(), "{text}");
}

/// For an operator with access to the database: runs one use case in a process of its own.
fn operator(
    global: &Global,
    body: impl AsyncFnOnce(&App, &Ctx) -> anyhow::Result<Exit>,
) -> anyhow::Result<Exit> {
    let config = global.complete(false)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(Box::pin(async {
        let database = database_of(&config)?;
        process::check(&database).await?;
        let app = App::start(Adapters::of_command(config, database).await?).await?;
        let ctx = app.work.ctx(Actor::Workload(Workload::OperatorCli));
        let done = body(&app, &ctx).await;
        app.work.cache().flush().await;
        done
    }))
}

/// For a mode that runs once: looks whether it could work at all, and says what it found.
fn once(config: Config, found: &str) -> anyhow::Result<Exit> {
    let database = database_of(&config)?;
    briefly(process::check(&database))??;
    print(found)?;
    Ok(Exit::Ok)
}

/// Strong, and easy to copy: as the secret part of a token is.
fn random_password(entropy: &Entropy) -> String {
    Token::mint(TokenKind::Cookie, entropy).expose().chars().skip(20).take(24).collect()
}

/// For a command that asks the database something and ends.
fn briefly<T>(work: impl Future<Output = T>) -> io::Result<T> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn global_options_stand_before_or_after_the_command() {
        let before = Cli::try_parse_from(["identityd", "--set", "a.b=1", "config", "show"]).unwrap();
        let after =
            Cli::try_parse_from(["identityd", "config", "show", "--set", "a.b=1", "--set", "c=2"]).unwrap();
        assert_eq!((before.global.flags.len(), after.global.flags.len()), (1, 2));
        assert!(Cli::try_parse_from(["identityd", "--set", "novalue", "serve"]).is_err());
    }
}
