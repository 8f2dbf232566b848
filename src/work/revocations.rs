//! What changed that somebody may keep answers about: from memory, and from PostgreSQL where it is longer ago.
use super::{Work, WorkError};
use crate::authorization::{Permit, Revocations};

impl Work {
    /// What changed after the revision `from`, as far as the permit sees. `None`: that can no longer be told, or `from` is
    /// none of our revisions.
    pub async fn revocations(
        &self,
        permit: &Permit,
        from: i64,
        limit: usize,
    ) -> Result<Option<Revocations>, WorkError> {
        let wanted = (permit.scope(), limit);
        if from > self.state.applied() {
            // Of a process that is ahead; or of a database that was set back since.
            if !self.hear_since(self.clock.monotonic()).await {
                return Err(WorkError::Stale);
            }
            if from > self.state.applied() {
                return Ok(None);
            }
        }
        if let Some(found) = self.state.revocations(from, wanted) {
            return Ok(Some(found));
        }
        let mut conn = self.pool.get().await?;
        Ok(self.state.older_revocations(&mut conn, from, wanted).await?)
    }
}
