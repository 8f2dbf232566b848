//! Runs jobs: claims one, does it under its own context, ends it or puts it back.
use super::queue::{self, ATTEMPTS_MAX, Claimed};
use crate::{
    kernel::{Actor, Ctx, Workload},
    platform::{
        tasks::Stop,
        telemetry::{Trouble, chain},
    },
    work::{Upkeep, UpkeepTx, Work, WorkError},
};
use std::{collections::HashMap, future::Future, pin::Pin, sync::Arc, time::Duration};

/// How often a runner looks for jobs that nobody woke it for.
const POLL: Duration = Duration::from_secs(1);

/// Why a job did not work. It is logged where it is put back, and tried again.
pub type JobError = Box<dyn std::error::Error + Send + Sync>;

/// Does one kind of job. It may be called twice for one job.
pub type Handler =
    Arc<dyn Fn(Ctx, Claimed) -> Pin<Box<dyn Future<Output = Result<(), JobError>> + Send>> + Send + Sync>;

/// Claims and runs jobs under a name that is this process's own.
#[derive(Clone)]
pub struct Runner {
    work: Arc<Work>,
    owner: String,
    handlers: Arc<HashMap<&'static str, Handler>>,
}

impl Runner {
    /// A runner for these kinds.
    pub fn new(work: Arc<Work>, owner: String, handlers: HashMap<&'static str, Handler>) -> Self {
        Self { work, owner, handlers: Arc::new(handlers) }
    }

    /// Runs jobs until told to stop.
    pub async fn run(self, mut stop: Stop) {
        let mut trouble = Trouble::of("taking jobs off the queue");
        loop {
            if trouble.note(self.run_one().await) == Some(true) {
                continue;
            }
            tokio::select! {
                () = stop.wait() => return,
                () = self.work.wakes().jobs.notified() => (),
                () = tokio::time::sleep(POLL) => (),
            }
        }
    }

    /// Runs the most overdue job; `false`: there is none.
    pub async fn run_one(&self) -> Result<bool, WorkError> {
        let claim = async |tx: &mut UpkeepTx<'_>| Ok::<_, WorkError>(queue::claim(tx, &self.owner).await?);
        let Some(claimed) = self.work.upkeep(Upkeep::Jobs, claim).await? else { return Ok(false) };
        let ctx = self.work.ctx(Actor::Workload(Workload::Jobs));
        let result = match self.handlers.get(claimed.kind.as_str()) {
            Some(handler) => handler(ctx, claimed.clone()).await,
            None => Err(format!("no handler for jobs of kind {}", claimed.kind).into()),
        };
        self.end(&claimed, result).await?;
        Ok(true)
    }

    async fn end(&self, claimed: &Claimed, result: Result<(), JobError>) -> Result<(), WorkError> {
        let Err(error) = result else {
            self.work.metrics().job(&claimed.kind, "done");
            let finish = async |tx: &mut UpkeepTx<'_>| Ok(queue::finish(tx, claimed).await?);
            return self.work.upkeep(Upkeep::Jobs, finish).await;
        };
        let text = chain(&*error);
        drop(error);
        let put_back =
            async |tx: &mut UpkeepTx<'_>| Ok::<_, WorkError>(queue::put_back(tx, claimed, &text).await?);
        let put = self.work.upkeep(Upkeep::Jobs, put_back).await;
        match put {
            // It goes well or ill with whoever has it now.
            Ok(false) => {
                tracing::info!(job.id = %claimed.job, kind = claimed.kind, "job is another process's now");
            }
            _ => self.tell(claimed, &text),
        }
        put.map(drop)
    }

    fn tell(&self, claimed: &Claimed, error: &str) {
        let (kind, job, attempts) = (claimed.kind.as_str(), claimed.job, claimed.attempts);
        if attempts >= ATTEMPTS_MAX {
            self.work.metrics().job(kind, "dead");
            tracing::error!(error, job.id = %job, kind, "job given up");
        } else {
            self.work.metrics().job(kind, "retry");
            tracing::warn!(error, job.id = %job, kind, attempts, "job put back");
        }
    }
}
