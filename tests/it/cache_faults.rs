//! Redis is flushed, restarted, frozen and cut off while two replicas work: what they do is the same, and no request
//! fails. PostgreSQL is always there; without it, see `partition`.
use crate::{
    app::{PASSWORD, TestApp, send},
    cli_support::Scratch,
    fault_proxy::{Fault, FaultProxy},
    http_support::{acme_with, ask, post_from},
    process::{beside, migrated},
    redis_support::{
        OwnRedis, await_redis, await_status, counted, database_address, eventually, follow, following,
    },
    support::until,
};
use actix_web::test::TestRequest;
use identityd::{
    app::{App, Listener},
    authorization::{Fact, ServiceAccountFact},
    kernel::{Id, KeyStatus, OrgId, ServiceAccountStatus, Token},
    platform::health::Status,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

/// What a change may take to be seen by polling alone, with the machine's own delays.
const POLLED_MAX: Duration = Duration::from_secs(1);

/// Two replicas that follow, each through the same Redis, and changes that one makes and the other sees.
struct Pair {
    app: TestApp,
    org: OrgId,
    other: App,
    said: u128,
}

impl Pair {
    async fn on(redis: &OwnRedis) -> Self {
        let app = acme_with(&[&redis.url()]).await;
        let org = app.work().state().org_by_slug("acme").unwrap();
        let other = app.replica(&[&redis.url()]).await;
        Self { app, org, other, said: 0 }
    }

    /// One change; how long the other took to see it.
    async fn change(&mut self) -> Duration {
        self.said += 1;
        let service_account = Id::from_uuid(Uuid::from_u128(self.said));
        let (org, status, roles) = (self.org, ServiceAccountStatus::Active, vec![]);
        let fact = ServiceAccountFact { service_account, org, status, roles };
        self.app.fact(self.org, Fact::ServiceAccount(fact)).await;
        let state = self.other.work.state();
        eventually("the other sees it", async || state.service_account(service_account).is_some()).await
    }

    /// A key is issued and revoked; how long the other took to refuse it.
    async fn revocation(&self) -> Duration {
        let user = self.app.work().state().member(self.app.person("owner").await, self.org).unwrap().user;
        let issued = self.app.post("owner", &format!("/v1/orgs/acme/users/{user}/api-keys"), json!({})).await;
        let kid = Token::parse(issued["body"]["secret"].as_str().unwrap()).unwrap().kid();
        let status = || self.other.work.state().key_by_kid(&kid).map(|view| view.key.status);
        eventually("the other knows it", async || status() == Some(KeyStatus::Active)).await;
        let path = format!("/v1/orgs/acme/api-keys/{}/revoke", issued["body"]["apiKeyId"].as_str().unwrap());
        assert_eq!(self.app.post("owner", &path, Value::Null).await["status"], 204);
        eventually("the other refuses it", async || status() == Some(KeyStatus::Revoked)).await
    }

    /// Ada signs in at both.
    async fn sign_in(&self) {
        let body = json!({ "email": "ada@example.io", "password": PASSWORD });
        for app in [&self.app.app, &self.other] {
            let answer = ask(app, post_from("198.51.100.7", "/v1/auth/login", &body)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    }

    /// Work goes on: revocations are seen within the bound of polling, and people sign in.
    async fn goes_on(&self, why: &str) {
        for _ in 0..4 {
            let took = self.revocation().await;
            assert!(took < POLLED_MAX, "{why}: {took:?}");
            self.sign_in().await;
        }
    }
}

/// NOTIFY stands still. Each change is made once the other replica has seen the one before, and so has just asked: by
/// asking every 250 ms alone it would see none sooner than that after the last.
#[tokio::test(flavor = "multi_thread")]
async fn an_announcement_wakes_another_replica_where_notify_does_not() {
    let redis = OwnRedis::start().await;
    let app = acme_with(&[&redis.url()]).await;
    let org = app.work().state().org_by_slug("acme").unwrap();
    let network = FaultProxy::before(database_address(&app)).await;
    network.set(Fault::FreezeSaying("LISTEN authz"));
    let through = app.database_url().replace(&at(&app), &network.address.to_string());
    let other = app.replica_at(&through, app.clock.clone(), &[&redis.url()]).await;
    let mut pair = Pair { app, org, other, said: 0 };
    let (here, there) = (following(&pair.app.app).await, following(&pair.other).await);
    let mut cycles = vec![];
    for _ in 0..40 {
        let began = Instant::now();
        pair.change().await;
        cycles.push(began.elapsed());
    }
    let woken = cycles.iter().filter(|cycle| **cycle < Duration::from_millis(150)).count();
    assert!(woken >= 5, "woken, not polling: {cycles:?}");
    assert!(counted(&pair.other, "identityd_wakeups_total{outcome=\"heard\"}") >= 20);
    // And without either: by asking.
    redis.network.set(Fault::Cut);
    await_redis(&pair.other, Status::Failing).await;
    for _ in 0..4 {
        assert!(pair.change().await < POLLED_MAX);
    }
    for tasks in [here, there] {
        tasks.stop(Duration::from_secs(5)).await;
    }
}

fn at(app: &TestApp) -> String {
    app.database_url().rsplit('@').next().unwrap().split('/').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_befalls_redis_revocations_are_seen_and_people_sign_in() {
    let mut redis = OwnRedis::start().await;
    let pair = Pair::on(&redis).await;
    let tasks = [following(&pair.app.app).await, following(&pair.other).await];
    pair.goes_on("all is well").await;

    redis.flush().await;
    pair.goes_on("flushed").await;

    redis.network.set(Fault::Delay(Duration::from_millis(150)));
    pair.goes_on("slower than anybody waits").await;
    redis.network.set(Fault::None);

    redis.network.reset();
    pair.goes_on("reset").await;

    redis.restart().await;
    pair.goes_on("restarted").await;
    for app in [&pair.app.app, &pair.other] {
        await_redis(app, Status::Ok).await;
    }

    redis.network.set(Fault::Cut);
    pair.goes_on("cut off").await;
    await_redis(&pair.other, Status::Failing).await;
    redis.network.set(Fault::None);
    await_redis(&pair.other, Status::Ok).await;

    redis.kill();
    pair.goes_on("gone").await;
    for tasks in tasks {
        tasks.stop(Duration::from_secs(5)).await;
    }
}

/// Whoever finds it frozen is the last to wait for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_redis_is_waited_for_once() {
    let redis = OwnRedis::start().await;
    let pair = Pair::on(&redis).await;
    let tasks = [following(&pair.app.app).await, following(&pair.other).await];
    redis.freeze();
    pair.goes_on("frozen").await;
    for app in [&pair.app.app, &pair.other] {
        let waited = counted(app, "identityd_redis_errors_total{call=\"bucket\"}");
        assert!(waited <= 2, "the answer to the follower may have been on its way: {waited}");
        await_redis(app, Status::Failing).await;
        let ready = send(app, TestRequest::get().uri("/readyz"), Listener::Http).await;
        let shown = json!({ "status": "failing", "required": false, "detail": "does not answer" });
        assert_eq!((&ready["status"], &ready["body"]["dependencies"]["redis"]), (&json!(200), &shown));
        assert_eq!(ready["body"]["status"], "ready");
    }
    redis.thaw();
    for app in [&pair.app.app, &pair.other] {
        await_redis(app, Status::Ok).await;
    }
    pair.goes_on("thawed").await;
    for tasks in tasks {
        tasks.stop(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_announces_what_it_did_before_it_ends() {
    let redis = OwnRedis::start().await;
    let frozen = FaultProxy::before(redis.upstream()).await;
    frozen.set(Fault::Freeze);
    let urls = [redis.url(), format!("redis.url=redis://{}", frozen.address)];
    let bootstrapped = tokio::task::spawn_blocking(move || {
        let (place, database) = (Scratch::new("announces"), migrated("announces"));
        urls.map(|url| beside(&place, &database, &["--set", &url, "bootstrap"]))
    });
    let [with, without] = bootstrapped.await.unwrap();
    assert_eq!(with.0, 0, "{}", with.1);
    assert_eq!(redis.ask("XLEN identityd:authz").await.as_deref(), Some(":1"));
    assert_eq!(without.0, 0, "it does not need Redis: {}", without.1);
}

/// As after a failover to what only reads, or when its memory is full.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_answers_and_takes_nothing_is_failing() {
    let redis = OwnRedis::start().await;
    let pair = Pair::on(&redis).await;
    let tasks = [following(&pair.app.app).await, following(&pair.other).await];
    redis.ask("CONFIG SET maxmemory 1").await.unwrap();
    pair.goes_on("full").await;
    await_redis(&pair.app.app, Status::Failing).await;
    let said = pair.app.app.health.all()["redis"].clone();
    assert_eq!((said.required, said.detail.as_deref()), (false, Some("answers with errors")));
    redis.ask("CONFIG SET maxmemory 0").await.unwrap();
    await_redis(&pair.app.app, Status::Ok).await;
    pair.goes_on("roomy").await;
    for tasks in tasks {
        tasks.stop(Duration::from_secs(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_while_redis_is_away_is_sent_when_it_is_back() {
    let redis = OwnRedis::start().await;
    let pair = Pair::on(&redis).await;
    let sender = following(&pair.app.app).await;
    redis.network.set(Fault::Cut);
    await_redis(&pair.app.app, Status::Failing).await;
    let before = counted(&pair.app.app, SENT);
    pair.app.org("alice", "late").await;
    redis.network.set(Fault::None);
    eventually("it is sent", async || counted(&pair.app.app, SENT) > before).await;
    sender.stop(Duration::from_secs(5)).await;
}

const SENT: &str = "identityd_wakeups_total{outcome=\"sent\"}";

#[tokio::test(flavor = "multi_thread")]
async fn a_process_starts_without_redis_and_finds_it_later() {
    let redis = OwnRedis::start().await;
    redis.network.set(Fault::Cut);
    let pair = Pair::on(&redis).await;
    let tasks = follow(&pair.app.app);
    await_status(&pair.app.app.health, Status::Failing).await;
    assert!(pair.app.app.health.is_ready());
    pair.sign_in().await;
    redis.network.set(Fault::None);
    await_redis(&pair.app.app, Status::Ok).await;
    until(&pair.app, "true").await;
    tasks.stop(Duration::from_secs(5)).await;
}
