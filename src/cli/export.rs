//! `identityd export`: exports the audit log. Nobody can ask for an export in this release, so none is queued.
use super::{
    Exit, Global, once,
    process::{self, Mode},
};

const NOTHING: &str = "nothing is queued: exports cannot be asked for in this release\n";

pub(super) fn run(global: &Global, watch: bool) -> anyhow::Result<Exit> {
    let config = global.complete(watch)?;
    if watch {
        process::run(global, config, Mode { name: "export", public: false, background: false })?;
        return Ok(Exit::Ok);
    }
    once(config, NOTHING)
}
