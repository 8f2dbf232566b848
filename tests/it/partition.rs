//! A replica is cut off from PostgreSQL: it stops changing things within a second, answers key checks for as long as it
//! may, and hears of denials as long as there is Redis. On the machine's own clocks.
use crate::{
    app::{TestApp, send},
    fault_proxy::{Fault, FaultProxy},
    redis_support::{OwnRedis, await_redis, counted, database_address, eventually, follow, following},
};
use actix_web::test::TestRequest;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use identityd::{
    app::{App, Listener},
    authorization::{Action, Role, Target},
    kernel::{Actor, Ctx, Id, IdentityId, OrgId, SessionId, Token, UserStatus},
    platform::{clock::Clock, health::Status, tasks::Tasks},
    work::WorkError,
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use uuid::Uuid;

const SENT: &str = "identityd_wakeups_total{outcome=\"sent\"}";
const HEARD: &str = "identityd_wakeups_total{outcome=\"heard\"}";

/// An org, a key in it, and a replica that can be cut off from PostgreSQL.
struct Scene {
    app: TestApp,
    org: OrgId,
    key: String,
    secret: String,
    other: App,
    network: FaultProxy,
}

impl Scene {
    async fn set(flags: &[&str]) -> Self {
        Self::of(flags, flags).await
    }

    /// With settings of each side's own.
    async fn of(flags: &[&str], flags_there: &[&str]) -> Self {
        let app = TestApp::with(flags).await;
        let org = app.org("alice", "acme").await;
        app.member(org, "bob", Role::Admin).await;
        let (key, secret) = issue(&app, org).await;
        let network = FaultProxy::before(database_address(&app)).await;
        let url = app.database_url();
        let server = url.rsplit('@').next().unwrap().split('/').next().unwrap().to_owned();
        let through = url.replace(&server, &network.address.to_string());
        let other = app.replica_at(&through, Clock::system(), flags_there).await;
        Self { app, org, key, secret, other, network }
    }

    async fn bob(&self) -> Ctx {
        let (identity, session) = (self.app.person("bob").await, session());
        self.other.work.ctx(Actor::Person { identity, session })
    }

    /// May Bob invite somebody, as the other replica sees it?
    async fn may_invite(&self, bob: &Ctx) -> Result<(), WorkError> {
        self.other.work.permit(bob, Action::UsersInvite, Target::Org(self.org)).await.map(drop)
    }

    async fn revoke(&self) {
        let path = format!("/v1/orgs/acme/api-keys/{}/revoke", self.key);
        assert_eq!(self.app.post("alice", &path, Value::Null).await["status"], 204);
    }

    fn status(&self) -> &'static str {
        let kid = Token::parse(&self.secret).unwrap().kid();
        self.other.work.state().key_by_kid(&kid).unwrap().key.status.as_str()
    }

    /// The check of the key at the other replica.
    async fn check(&self) -> Value {
        let body = json!({ "apiKeySecret": self.secret });
        let request = TestRequest::post().uri("/v1/auth/validate-api-key").set_json(body);
        send(&self.other, request.peer_addr("127.0.0.1:9".parse().unwrap()), Listener::Http).await
    }
}

fn session() -> SessionId {
    Id::from_uuid(Uuid::from_u128(0x5E55))
}

/// A key of alice's, and its secret.
async fn issue(app: &TestApp, org: OrgId) -> (String, String) {
    let user = app.work().state().member(app.person("alice").await, org).unwrap().user;
    let issued = app.post("alice", &format!("/v1/orgs/{org}/users/{user}/api-keys"), json!({})).await;
    let text = |name: &str| issued["body"][name].as_str().unwrap().to_owned();
    (text("apiKeyId"), text("secret"))
}

async fn stop(all: impl IntoIterator<Item = Tasks>) {
    for tasks in all {
        tasks.stop(Duration::from_secs(15)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_it_refuses_administration_within_a_second_and_key_checks_after_stale_max() {
    let scene = Scene::set(&["authorization.stale_max_seconds=2"]).await;
    let (bob, tasks) = (scene.bob().await, follow(&scene.other));
    assert!(scene.may_invite(&bob).await.is_ok());
    scene.network.set(Fault::Freeze);
    let cut = Instant::now();
    eventually("administration stops", async || {
        matches!(scene.may_invite(&bob).await, Err(WorkError::Stale))
    })
    .await;
    assert!(cut.elapsed() < Duration::from_secs(1), "{:?}", cut.elapsed());
    let stale = scene.check().await;
    assert_eq!((&stale["body"]["valid"], &stale["body"]["stale"]), (&json!(true), &json!(true)), "{stale}");
    let mut last_answer = cut;
    eventually("key checks stop", async || {
        let answer = scene.check().await;
        match answer["status"].as_u64().unwrap() {
            200 => last_answer = Instant::now(),
            status => assert_eq!((status, &answer["body"]["code"]), (503, &json!("AUTHORIZATION_STALE"))),
        }
        answer["status"] == 503
    })
    .await;
    // What was asked before the end of the two seconds may be answered half a second later: it asks PostgreSQL first.
    assert!(last_answer - cut < Duration::from_millis(2600), "{:?}", last_answer - cut);
    eventually("it says so", async || !scene.other.health.is_ready()).await;
    scene.network.set(Fault::None);
    eventually("it works again", async || scene.may_invite(&bob).await.is_ok()).await;
    stop([tasks]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_notify_costs_no_more_than_asking() {
    let scene = Scene::set(&[]).await;
    let tasks = follow(&scene.other);
    scene.network.set(Fault::FreezeSaying("LISTEN authz"));
    scene.revoke().await;
    let took = eventually("it is seen", async || scene.status() == "revoked").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    stop([tasks]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_from_postgres_denials_still_arrive_through_redis() {
    let redis = OwnRedis::start().await;
    let scene = Scene::set(&[&redis.url()]).await;
    let tasks = [following(&scene.app.app).await, following(&scene.other).await];
    let (alice, bob) = (scene.app.person("alice").await, scene.app.person("bob").await);
    scene.network.set(Fault::Freeze);
    scene.revoke().await;
    let took = eventually("the key is denied", async || scene.status() == "revoked").await;
    assert!(took < Duration::from_secs(1), "{took:?}");
    let checked = scene.check().await;
    assert_eq!((&checked["body"]["valid"], &checked["body"]["code"]), (&json!(false), &json!("KEY_REVOKED")));

    let user = scene.app.work().state().member(bob, scene.org).unwrap().user;
    let path = format!("/v1/orgs/acme/users/{user}/suspend");
    assert_eq!(scene.app.post("alice", &path, Value::Null).await["status"], 200);
    let state = scene.other.work.state();
    eventually("bob is denied", async || state.user(user).unwrap().status == UserStatus::Suspended).await;
    // A grant does not come this way.
    let path = format!("/v1/orgs/acme/users/{user}/restore");
    assert_eq!(scene.app.post("alice", &path, Value::Null).await["status"], 200);
    end_session(&scene, alice).await;
    eventually("the session is denied", async || !state.is_session_live(alice, session(), i64::MAX)).await;
    assert_eq!(state.user(user).unwrap().status, UserStatus::Suspended);

    scene.network.set(Fault::None);
    eventually("bob is back", async || state.user(user).unwrap().status == UserStatus::Active).await;
    assert_eq!(scene.status(), "revoked", "PostgreSQL says so too");
    assert!(!state.is_session_live(alice, session(), i64::MAX));
    stop(tasks).await;
}

/// Says that a session is over, as ending it does.
async fn end_session(scene: &Scene, identity: IdentityId) {
    use identityd::authorization::{Fact, SessionFact};
    let until_s = scene.app.clock.now().timestamp() + 3600;
    let fact = SessionFact { session: session(), identity, until_s };
    scene.app.fact(scene.org, Fact::Session(fact)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_follower_goes_on_where_it_stopped() {
    let redis = OwnRedis::start().await;
    let between = FaultProxy::before(redis.upstream()).await;
    let there = format!("redis.url=redis://{}", between.address);
    let scene = Scene::of(&[&redis.url()], &[&there]).await;
    let tasks = [following(&scene.app.app).await, following(&scene.other).await];
    let (sent, heard) = (|| counted(&scene.app.app, SENT), || counted(&scene.other, HEARD));
    eventually("it has heard everything", async || heard() == sent()).await;
    scene.network.set(Fault::Freeze);
    between.set(Fault::Freeze);
    let before = sent();
    scene.revoke().await;
    eventually("it is announced", async || sent() > before).await;
    assert_eq!(heard(), before);
    between.reset();
    between.set(Fault::None);
    eventually("the key is denied", async || scene.status() == "revoked").await;
    eventually("it has heard everything", async || heard() == sent()).await;
    scene.revoke().await; // again, which changes nothing
    assert_eq!((heard(), sent()), (before + 1, before + 1), "each once: it went on, and did not begin anew");
    stop(tasks).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_committed_is_denied_no_longer_than_until_postgres_is_asked() {
    let redis = OwnRedis::start().await;
    let scene = Scene::set(&[&redis.url()]).await;
    let tasks = following(&scene.other).await;
    scene.network.set(Fault::Freeze);
    let told =
        format!("{{\"seq\":9000000000000000000,\"denials\":[{{\"key\":[\"{}\",\"revoked\"]}}]}}", scene.key);
    let announce = async |mac: &[u8]| {
        let (mac, heard) = (STANDARD_NO_PAD.encode(mac), counted(&scene.other, HEARD));
        let entry = format!("XADD identityd:authz * w '{mac}.{told}'");
        assert!(redis.ask(&entry).await.unwrap().starts_with('$'));
        eventually("it is heard", async || counted(&scene.other, HEARD) == heard + 1).await;
    };
    announce(&[0; 32]).await;
    assert_eq!(scene.status(), "active", "whoever can write into Redis alone is not believed");
    announce(&scene.app.work().keys().mac(&[b"authorization wake-up", told.as_bytes()])).await;
    eventually("it is denied", async || scene.status() == "revoked").await;
    scene.network.set(Fault::None);
    eventually("it is given back", async || scene.status() == "active").await;
    assert_eq!(scene.check().await["body"]["valid"], true);
    stop([tasks]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_redis_a_denial_is_heard_when_postgres_is_back() {
    let mut redis = OwnRedis::start().await;
    let scene = Scene::set(&[&redis.url()]).await;
    let tasks = [following(&scene.app.app).await, following(&scene.other).await];
    redis.kill();
    await_redis(&scene.other, Status::Failing).await;
    scene.network.set(Fault::Cut);
    scene.revoke().await;
    assert_eq!(scene.status(), "active");
    scene.network.set(Fault::None);
    eventually("it is seen", async || scene.status() == "revoked").await;
    stop(tasks).await;
}
