//! `identityd openapi`: the document, for generators and for `docs/openapi.json`.
use super::{Exit, print};
use crate::app;

pub(super) fn run() -> anyhow::Result<Exit> {
    print(&format!("{}\n", serde_json::to_string_pretty(&app::document()?)?))?;
    Ok(Exit::Ok)
}
