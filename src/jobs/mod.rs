//! L3: the job queue. A use case enqueues in its write; a runner claims under upkeep, and may run a job twice.
//!
//! **Invariant:** a payload holds ids only: secrets are minted by the job, names and addresses read by it.
//! **Invariant:** only the claim that holds the row's epoch may finish a job.
mod lease;
mod queue;
mod runner;

pub use lease::{hold, hold_epoch, release};
pub use queue::{ATTEMPTS_MAX, Claimed, claim, complete, enqueue, sweep};
pub use runner::{Handler, JobError, Runner};
