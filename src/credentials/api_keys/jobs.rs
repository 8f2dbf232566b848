//! Housekeeping of keys.
use super::store;
use crate::{
    http::key_usage::KeyUsage,
    work::{Upkeep, UpkeepTx, Work, WorkError},
};

/// Keys in one statement.
const BATCH_MAX: usize = 1000;

/// Writes down when keys were last used, as far as this process saw.
pub async fn flush_usage(work: &Work, usage: &KeyUsage) -> Result<(), WorkError> {
    let used = usage.take();
    for batch in used.chunks(BATCH_MAX) {
        let note = async |tx: &mut UpkeepTx<'_>| Ok::<_, WorkError>(store::note_usage(tx, batch).await?);
        if let Err(error) = work.upkeep(Upkeep::Usage, note).await {
            usage.give_back(&used);
            return Err(error);
        }
    }
    Ok(())
}
