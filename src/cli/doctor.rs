//! `identityd doctor`: looks at everything that `serve` needs as `serve` would use it, and changes nothing.
//!
//! **Invariant:** whatever is broken, the other checks are made; no check waits longer than `CHECK_MAX` for an answer; and
//! no text holds a secret.
mod database;
mod public_url;
mod report;
mod services;
mod vault;

use super::{Exit, Global, Misconfigured, note, print};
use crate::platform::{
    clock::Clock,
    config::{self as configuration, ConfigError},
    telemetry::chain,
};
use clap::{Args, ValueEnum};
use report::{Check, Report, Subject};
use std::{error::Error, time::Duration};

/// For one check.
const CHECK_MAX: Duration = Duration::from_secs(10);

#[derive(Args)]
pub(super) struct Options {
    /// For people, or for programs
    #[arg(long, short, value_enum, default_value = "text")]
    output: Output,
}

#[derive(Clone, Copy, ValueEnum)]
enum Output {
    Text,
    Json,
}

const CONFIGURATION: Subject =
    Subject { name: "configuration", why: "no process starts with a setting that it cannot use" };

pub(super) fn run(global: &Global, Options { output }: Options) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let report = Report { checks: runtime.block_on(Box::pin(examine(global))) };
    // Whoever does not answer holds a thread, which nobody waits for any more.
    runtime.shutdown_background();
    match output {
        Output::Text => print(&report.text())?,
        Output::Json => print(&format!("{}\n", serde_json::to_string_pretty(&report.json())?))?,
    }
    note(report.summary());
    Ok(if report.failed() { Exit::Unwell } else { Exit::Ok })
}

async fn examine(global: &Global) -> Vec<Check> {
    let loaded = match global.survey() {
        Ok(loaded) => loaded,
        Err(Misconfigured(mistakes)) => {
            let others = [database::ALL, services::ALL, vault::ALL, public_url::ALL].concat();
            let skipped = others.iter().map(|subject| subject.skipped("the configuration cannot be read"));
            return std::iter::once(misconfigured(&mistakes)).chain(skipped).collect();
        }
    };
    let mistakes = [configuration::check(&loaded), configuration::missing(&loaded, true)].concat();
    let first = match mistakes.as_slice() {
        [] => CONFIGURATION.ok("every setting can be used"),
        mistakes => misconfigured(mistakes),
    };
    let (config, clock) = (&loaded.config, Clock::system());
    let (database, services, vault, public_url) = tokio::join!(
        database::examine(config, &clock),
        services::examine(config),
        vault::examine(config, &clock),
        public_url::examine(config, &mistakes),
    );
    [vec![first], database, services, vault, public_url].into_iter().flatten().collect()
}

fn misconfigured(mistakes: &[ConfigError]) -> Check {
    let lines: Vec<String> = mistakes.iter().map(ToString::to_string).collect();
    CONFIGURATION.failed(lines.join("\n"), "correct these keys; docs/configuration.md says what each means")
}

/// Why something did not work, as one line.
async fn bounded<T, E: Error + 'static>(work: impl Future<Output = Result<T, E>>) -> Result<T, String> {
    match tokio::time::timeout(CHECK_MAX, work).await {
        Ok(done) => done.map_err(|error| chain(&error)),
        Err(_) => Err(late()),
    }
}

fn late() -> String {
    format!("no answer within {} s", CHECK_MAX.as_secs())
}
