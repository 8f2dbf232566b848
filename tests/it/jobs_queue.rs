//! The job queue and leases: claimed by one, fenced by epochs, retried with patience, given up in the end.
use crate::{
    app::{TestApp, id},
    support::count,
};
use identityd::{
    authorization::{Action, Target},
    identity,
    jobs::{self, ATTEMPTS_MAX, Claimed, Handler, JobError, Runner},
    kernel::{Actor, Ctx, OrgId, UserId, Workload},
    work::{Audited, Tx, Upkeep, UpkeepTx, WorkError},
};
use insta::assert_json_snapshot;
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

const EXPIRE: &str = "UPDATE jobs SET lease_until = now() - interval '1 second'";
const DUE: &str = "UPDATE jobs SET run_at = now()";

async fn enqueue(app: &TestApp, org: OrgId, kind: &str) {
    app.write(org, async |tx| Ok(jobs::enqueue(tx, kind, json!({})).await?)).await;
}

async fn claim(app: &TestApp, owner: &str) -> Option<Claimed> {
    let claim = async |tx: &mut UpkeepTx<'_>| Ok::<_, WorkError>(jobs::claim(tx, owner).await?);
    app.work().upkeep(Upkeep::Jobs, claim).await.unwrap()
}

/// Ends a job in a write that has an effect as well.
async fn complete(app: &TestApp, org: OrgId, claimed: &Claimed) -> Result<(), WorkError> {
    let ctx = app.work().ctx(Actor::Workload(Workload::Jobs));
    let permit = app.work().permit(&ctx, Action::UsersInvite, Target::Org(org)).await.unwrap();
    let write = async |tx: &mut Tx<'_>| {
        jobs::enqueue(tx, "effect", json!({ "attempt": claimed.attempts })).await?;
        jobs::complete(tx, claimed).await?;
        Ok(Audited::new((), tx.event("x")))
    };
    app.work().write(&ctx, permit, write).await
}

/// A runner of jobs of kind `test`, which do this.
fn runner(app: &TestApp, handler: Handler) -> Runner {
    Runner::new(Arc::clone(&app.app.work), "runner".to_owned(), HashMap::from([("test", handler)]))
}

fn failing(text: &'static str) -> Handler {
    Arc::new(move |_: Ctx, _: Claimed| Box::pin(async move { Err::<(), JobError>(text.into()) }))
}

#[actix_web::test]
async fn a_job_holds_ids_only_and_says_on_whose_behalf() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    let invited = app.post("alice", "/v1/orgs/acme/invites", json!({ "email": "a@example.io" })).await;
    let user: UserId = id(&invited["body"]["userId"]);
    let row = app.rows(
        "SELECT job_id, org_id, kind, payload, enqueued_by, attempts, lease_owner, lease_until, epoch, last_error
         FROM jobs",
    );
    let row = row.await;
    assert_eq!(row[0]["payload"], json!({ "userId": user }));
    assert_json_snapshot!("a_job", row);
}

#[tokio::test]
async fn a_job_is_there_if_the_write_commits_and_wakes_a_runner() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    let woken = app.work().wakes().jobs.notified();
    enqueue(&app, org, "test").await;
    tokio::time::timeout(Duration::from_secs(1), woken).await.unwrap();
    assert_eq!(count(&app, "jobs").await, 1);
}

#[tokio::test]
async fn a_job_is_claimed_by_one() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    enqueue(&app, org, "test").await;
    let open = app.work().upkeep::<_, WorkError>(Upkeep::Jobs, async |tx| {
        let first = jobs::claim(tx, "one").await?.unwrap();
        assert!(claim(&app, "other").await.is_none(), "not even before the first claim is committed");
        Ok(first)
    });
    let first = open.await.unwrap();
    assert_eq!((first.kind.as_str(), first.org, first.epoch, first.attempts), ("test", Some(org), 1, 1));
    assert!(claim(&app, "other").await.is_none());
    assert!(claim(&app, "one").await.is_none(), "whose claim it is has it already");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_runners_do_each_job_once() {
    let app = TestApp::with(&["database.connections_max=10"]).await;
    let org = app.org("alice", "acme").await;
    app.write(org, async |tx| {
        for _ in 0..40 {
            jobs::enqueue(tx, "test", json!({})).await?;
        }
        Ok(())
    })
    .await;
    let done = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&done);
    let handler: Handler = Arc::new(move |_: Ctx, _: Claimed| {
        counted.fetch_add(1, Ordering::Relaxed);
        Box::pin(async { Ok(()) })
    });
    let run = |_| {
        let runner = runner(&app, Arc::clone(&handler));
        tokio::spawn(async move { while runner.run_one().await.unwrap() {} })
    };
    for task in (0..8).map(run).collect::<Vec<_>>() {
        task.await.unwrap();
    }
    assert_eq!((done.load(Ordering::Relaxed), count(&app, "jobs").await), (40, 0));
}

#[tokio::test]
async fn the_most_overdue_job_comes_first_and_one_of_tomorrow_not_at_all() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    for kind in ["tomorrow", "late", "later"] {
        enqueue(&app, org, kind).await;
    }
    app.sabotage(
        "UPDATE jobs SET run_at = now() + CASE kind WHEN 'tomorrow' THEN interval '1 day'
           WHEN 'late' THEN interval '-1 hour' ELSE interval '-1 day' END",
    )
    .await;
    assert_eq!(claim(&app, "one").await.unwrap().kind, "later");
    assert_eq!(claim(&app, "one").await.unwrap().kind, "late");
    assert!(claim(&app, "one").await.is_none());
}

#[tokio::test]
async fn a_claim_whose_lease_ran_out_is_overtaken_and_can_no_longer_complete() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    enqueue(&app, org, "test").await;
    let first = claim(&app, "frozen").await.unwrap();
    app.sabotage(EXPIRE).await;
    let second = claim(&app, "successor").await.unwrap();
    assert_eq!((second.job, second.epoch, second.attempts), (first.job, first.epoch + 1, 2));
    let events = count(&app, "audit_outbox").await;
    assert!(matches!(complete(&app, org, &first).await, Err(WorkError::Superseded)));
    assert_eq!(count(&app, "jobs WHERE kind = 'effect'").await, 0, "its effect is undone with it");
    assert_eq!(count(&app, "audit_outbox").await, events);
    complete(&app, org, &second).await.unwrap();
    assert_eq!(
        app.rows("SELECT kind, payload FROM jobs").await,
        json!([{ "kind": "effect", "payload": { "attempt": 2 } }])
    );
    assert!(matches!(complete(&app, org, &second).await, Err(WorkError::Superseded)), "and once only");
}

#[tokio::test]
async fn a_runner_that_was_overtaken_neither_ends_nor_puts_back_the_job() {
    for good in [true, false] {
        let app = Arc::new(TestApp::new().await);
        let org = app.org("alice", "acme").await;
        enqueue(&app, org, "test").await;
        // A handler that sleeps through its lease: another process takes the job meanwhile.
        let meanwhile = Arc::downgrade(&app);
        let handler: Handler = Arc::new(move |_: Ctx, _: Claimed| {
            let app = meanwhile.upgrade().unwrap();
            Box::pin(async move {
                app.sabotage(EXPIRE).await;
                assert!(claim(&app, "successor").await.is_some());
                if good { Ok(()) } else { Err("in vain".into()) }
            })
        });
        assert!(runner(&app, handler).run_one().await.unwrap());
        let left = app.rows("SELECT lease_owner, epoch, last_error FROM jobs").await;
        assert_eq!(left, json!([{ "lease_owner": "successor", "epoch": 2, "last_error": null }]));
    }
}

#[actix_web::test]
async fn a_runner_that_was_overtaken_before_it_wrote_mints_no_token_and_mails_nobody() {
    let app = TestApp::new().await;
    app.org("alice", "acme").await;
    app.post("alice", "/v1/orgs/acme/invites", json!({ "email": "a@example.io" })).await;
    let first = claim(&app, "frozen").await.unwrap();
    app.sabotage(EXPIRE).await;
    let second = claim(&app, "successor").await.unwrap();
    let send = async |claimed| {
        let ctx = app.work().ctx(Actor::Workload(Workload::Jobs));
        identity::send_invite(app.work(), &app.app.mailer, ctx, claimed).await
    };
    send(second).await.unwrap();
    let left = async || app.rows("SELECT kid FROM invite_tokens").await;
    let (token, events) = (left().await, count(&app, "audit_outbox").await);
    assert!(send(first).await.is_err());
    assert_eq!((left().await, count(&app, "audit_outbox").await), (token, events));
    assert_eq!(app.mails().await.len(), 1, "the one that works");
}

#[tokio::test]
async fn a_failing_job_waits_twice_as_long_each_time_and_is_given_up_after_twelve() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    enqueue(&app, org, "test").await;
    let runner = runner(&app, failing("the moon is in the way"));
    let waits = [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 3600];
    assert_eq!(i32::try_from(waits.len()).unwrap(), ATTEMPTS_MAX);
    for (attempt, wait) in (1..).zip(waits) {
        assert!(runner.run_one().await.unwrap(), "attempt {attempt}");
        assert!(!runner.run_one().await.unwrap(), "not before its time");
        // The clock is the database's, which goes on.
        let query = format!(
            "SELECT attempts, lease_owner, last_error,
               run_at - now() BETWEEN interval '{} s' AND interval '{wait} s' AS waits FROM jobs",
            wait / 2
        );
        let error = "the moon is in the way";
        let row = json!({ "attempts": attempt, "lease_owner": null, "last_error": error, "waits": true });
        assert_eq!(app.rows(&query).await, json!([row]));
        app.sabotage(DUE).await;
    }
    assert!(!runner.run_one().await.unwrap(), "it is given up");
    identityd::app::sweep(app.work(), "me").await.unwrap();
    assert_eq!(count(&app, "jobs").await, 1, "and stays for a person to see");
    app.sabotage("UPDATE jobs SET run_at = now() - interval '31 days'").await;
    assert_eq!(identityd::app::sweep(app.work(), "me").await.unwrap(), 1, "for a month");
    assert_eq!(count(&app, "jobs").await, 0);
}

#[tokio::test]
async fn a_job_that_works_in_the_end_is_gone() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    enqueue(&app, org, "test").await;
    let handler: Handler = Arc::new(|_: Ctx, claimed: Claimed| {
        Box::pin(async move { if claimed.attempts < 3 { Err("not yet".into()) } else { Ok(()) } })
    });
    let runner = runner(&app, handler);
    for left in [1, 1, 0] {
        runner.run_one().await.unwrap();
        assert_eq!(count(&app, "jobs").await, left);
        app.sabotage(DUE).await;
    }
}

#[tokio::test]
async fn a_job_of_an_unknown_kind_is_put_back_for_a_newer_release() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    enqueue(&app, org, "of.tomorrow").await;
    assert!(runner(&app, failing("never called")).run_one().await.unwrap());
    let row = app.rows("SELECT attempts, lease_owner, last_error FROM jobs").await;
    let error = "no handler for jobs of kind of.tomorrow";
    assert_eq!(row, json!([{ "attempts": 1, "lease_owner": null, "last_error": error }]));
}

#[tokio::test]
async fn what_went_wrong_is_kept_within_a_bound() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    enqueue(&app, org, "test").await;
    let long: &'static str = "ü".repeat(2000).leak();
    runner(&app, failing(long)).run_one().await.unwrap();
    let row = app.rows("SELECT length(last_error) AS letters FROM jobs").await;
    assert_eq!(row, json!([{ "letters": 500 }]));
}

#[tokio::test]
async fn a_runner_acts_as_the_jobs_and_says_for_whom() {
    let app = TestApp::new().await;
    let org = app.org("alice", "acme").await;
    app.post("alice", "/v1/orgs/acme/invites", json!({ "email": "a@example.io" })).await;
    assert_eq!(app.mails().await.len(), 1);
    let told = app.events().await.as_array().unwrap().last().unwrap()["event"].clone();
    let alice = app.actor("alice").await.to_string();
    assert_eq!((&told["actor"], &told["body"]["by"]), (&json!("workload:jobs"), &json!(alice)));
    assert_eq!((&told["org"], &told["outcome"]), (&json!(org), &json!("allow")));
}

// Leases ---------------------------------------------------------------------------------------------------------

async fn hold(app: &TestApp, name: &str, owner: &str) -> bool {
    let hold = async |tx: &mut UpkeepTx<'_>| Ok::<_, WorkError>(jobs::hold(tx, name, owner, 60).await?);
    app.work().upkeep(Upkeep::Lease, hold).await.unwrap()
}

#[tokio::test]
async fn a_lease_is_one_owners_until_it_runs_out() {
    let app = TestApp::new().await;
    let lease = async || {
        let query =
            "SELECT owner, epoch, lease_until - now() BETWEEN interval '50 s' AND interval '60 s' AS whole
            FROM leases WHERE name = 'sweeper'";
        app.rows(query).await[0].clone()
    };
    assert!(hold(&app, "sweeper", "one").await);
    assert_eq!(lease().await, json!({ "owner": "one", "epoch": 1, "whole": true }));
    assert!(!hold(&app, "sweeper", "other").await);
    app.sabotage("UPDATE leases SET lease_until = now() + interval '1 second'").await;
    assert!(hold(&app, "sweeper", "one").await);
    assert_eq!(lease().await, json!({ "owner": "one", "epoch": 1, "whole": true }), "kept, not taken anew");
    app.sabotage("UPDATE leases SET lease_until = now() - interval '1 second'").await;
    assert!(hold(&app, "sweeper", "other").await);
    assert_eq!(lease().await, json!({ "owner": "other", "epoch": 2, "whole": true }));
    assert!(!hold(&app, "sweeper", "one").await);
    assert!(!hold(&app, "no-such-lease", "one").await);
    assert!(hold(&app, "sequencer", "one").await, "leases are apart");
}

#[tokio::test]
async fn whoever_works_under_a_lease_is_not_overtaken_though_it_runs_out() {
    let app = TestApp::new().await;
    let work = app.work().upkeep::<_, WorkError>(Upkeep::Lease, async |tx| {
        assert!(jobs::hold(tx, "sweeper", "slow", 0).await?);
        assert!(!hold(&app, "sweeper", "hasty").await, "its row is locked until the work is done");
        Ok(())
    });
    work.await.unwrap();
    assert!(hold(&app, "sweeper", "hasty").await);
}
