//! L3: the job queue. A use case enqueues in its write; a runner claims under upkeep, and may run a job twice.
//!
//! **Invariant:** a payload holds ids only: secrets are minted by the job, names and addresses read by it.
//! **Invariant:** only the claim that holds the row's epoch may finish a job, and what is written under a lease or a claim
//! locks and compares its epoch in the same transaction.
mod lease;
mod queue;
mod runner;

pub use lease::{Lease, hold, release, take};
pub use queue::{ATTEMPTS_MAX, Claimed, claim, complete, confirm, enqueue, sweep};
pub use runner::{Handler, JobError, Runner};
