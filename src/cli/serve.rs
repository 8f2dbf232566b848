//! `identityd serve`: the API.
use super::{
    Exit, Global,
    process::{self, Mode},
};

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let config = global.complete(true)?;
    let background = config.background.enabled;
    process::run(global, config, Mode { name: "serve", public: true, background })?;
    Ok(Exit::Ok)
}
