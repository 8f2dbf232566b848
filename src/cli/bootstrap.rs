//! `identityd bootstrap`: a token for the first calls to an empty platform, or to one that nobody can administer.
use super::{Exit, Global, note, operator, print};
use crate::credentials::operators::{Purpose, issue_operator_token};
use clap::Args;

#[derive(Args)]
pub(super) struct Options {
    /// For a platform whose administrators are all locked out
    #[arg(long)]
    recovery: bool,
}

pub(super) fn run(global: &Global, options: Options) -> anyhow::Result<Exit> {
    let purpose = if options.recovery { Purpose::Recovery } else { Purpose::Bootstrap };
    operator(global, async |app, ctx| {
        let (_, token) = issue_operator_token(&app.work, ctx, purpose).await?;
        note(
            "good for one hour, one organization, its first administrator and his first key; send it as a bearer",
        );
        print(&format!("{}\n", token.expose()))?;
        Ok(Exit::Ok)
    })
}
