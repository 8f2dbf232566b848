//! `identityd rotate`: rotates what is due. No key has a schedule in this release, so nothing ever is.
use super::{
    Exit, Global, once,
    process::{self, Mode},
};

const NOTHING: &str = "nothing is due: no key has a rotation schedule in this release\n";

pub(super) fn run(global: &Global, watch: bool) -> anyhow::Result<Exit> {
    let config = global.complete(watch)?;
    if watch {
        process::run(global, config, Mode { name: "rotate", public: false, background: false })?;
        return Ok(Exit::Ok);
    }
    once(config, NOTHING)
}
