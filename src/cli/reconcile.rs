//! `identityd reconcile`: the background work, without the API. Declared organizations come with their release; until
//! then it is the audit sequencer, the jobs and the sweepers, which `serve` may leave to it.
use super::{
    Exit, Global,
    process::{self, Mode},
};

pub(super) fn run(global: &Global) -> anyhow::Result<Exit> {
    let mode = Mode { name: "reconcile", public: false, background: true };
    process::run(global, global.complete(true)?, mode)?;
    Ok(Exit::Ok)
}
