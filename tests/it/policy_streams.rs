//! What changed, as it happens: nothing is lost by a race, a disconnection, a slow reader or a server that is away, and a
//! stream ends when it should.
use crate::{
    app::TestApp,
    fault_proxy::Fault,
    http_support::{Live, acme_with},
    redis_support::{OwnRedis, await_redis, eventually, follow, following},
    revocations_support::{Reader, SHUTDOWN_MAX, gateway, gateway_named, listed, revoke},
    support::PATIENCE,
};
use actix_web::{body::MessageBody as _, http::Method, test};
use identityd::{
    app::{self, App, Listener, Shared},
    authorization::{Fact, ServiceAccountFact},
    kernel::{Id, OrgId, ServiceAccountStatus},
    platform::{health::Status, tasks::Tasks},
};
use serde_json::{Value, json};
use std::{collections::BTreeSet, future::poll_fn, pin::pin, time::Duration};
use uuid::Uuid;

/// What a change may take to be heard, whoever is away.
const HEARD_MAX: Duration = Duration::from_secs(1);

/// Two things said: the first finds nobody, and the second that.
const FOUND_OUT_MAX: Duration = Duration::from_secs(25);

/// acme, and a process that serves it and follows the log.
struct Scene {
    app: TestApp,
    org: OrgId,
    live: Live,
    tasks: Tasks,
}

async fn scene(flags: &[&str]) -> Scene {
    let flags = [&["http.drain_seconds=0"], flags].concat();
    let app = acme_with(&flags).await;
    let org = app.work().state().org_by_slug("acme").unwrap();
    let (live, tasks) = (Live::of(&app.app), follow(&app.app));
    Scene { app, org, live, tasks }
}

impl Scene {
    async fn open(&self, bearer: &str, after: Option<i64>) -> Reader {
        Reader::open(self.live.address(), bearer, "?org=acme", after).await
    }

    /// A stream of the owner's that has begun.
    async fn reader(&self) -> Reader {
        self.app.work().catch_up().await.unwrap();
        let mut reader = self.open(&self.app.token("owner").await, None).await;
        assert_eq!(reader.status, 200);
        let first = reader.next().await.unwrap();
        assert_eq!((first.name.as_str(), &first.data["revision"]), ("revision", &json!(first.id.unwrap())));
        reader
    }

    /// Service accounts in a state, one write or one a write.
    async fn say(&self, ids: impl Iterator<Item = u128>, status: ServiceAccountStatus) {
        self.app
            .write(self.org, async |tx| {
                for id in ids {
                    let (org, service_account) = (self.org, Id::from_uuid(Uuid::from_u128(id)));
                    tx.fact(Fact::ServiceAccount(ServiceAccountFact {
                        service_account,
                        org,
                        status,
                        roles: vec![],
                    }));
                }
                Ok(())
            })
            .await;
    }

    async fn end(self) {
        tokio::time::timeout(SHUTDOWN_MAX, self.live.stop()).await.expect("no stream holds it up");
        self.tasks.stop(PATIENCE).await;
    }
}

fn named(entry: &Value) -> u128 {
    entry["id"].as_str().unwrap().parse::<Uuid>().unwrap().as_u128()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_revocations_are_all_heard_by_whoever_reads_and_by_whoever_comes_again() {
    const MANY: u128 = 1_000;
    let scene = scene(&[]).await;
    scene.say(1..=MANY, ServiceAccountStatus::Active).await;
    let (mut steady, mut fickle) = (scene.reader().await, scene.reader().await);
    let revoking = async {
        for id in 1..=MANY {
            scene.say(id..=id, ServiceAccountStatus::Disabled).await;
        }
    };
    let all_of_it = async {
        let mut heard = vec![];
        while heard.len() < usize::try_from(MANY).unwrap() {
            heard.push(named(&steady.revocation().await));
        }
        heard
    };
    // Is cut off again and again, in the middle of whatever comes.
    let bits = async {
        let (token, mut heard) = (scene.app.token("owner").await, BTreeSet::new());
        while heard.len() < usize::try_from(MANY).unwrap() {
            for _ in 0..130 {
                heard.insert(named(&fickle.revocation().await));
                if heard.len() == usize::try_from(MANY).unwrap() {
                    break;
                }
            }
            fickle = scene.open(&token, Some(fickle.last_id)).await;
        }
        heard
    };
    let ((), heard, resumed) = tokio::join!(revoking, all_of_it, bits);
    assert_eq!(heard, (1..=MANY).collect::<Vec<_>>(), "in the order of the changes, each once");
    assert_eq!(resumed, (1..=MANY).collect::<BTreeSet<_>>());
    drop((steady, fickle));
    scene.end().await;
}

/// One transaction has one revision, and only its last event says so: whoever is cut off within it hears it again.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_cut_off_within_a_transaction_hears_all_of_it_again() {
    let scene = scene(&[]).await;
    scene.say(1..=300, ServiceAccountStatus::Active).await;
    let mut reader = scene.reader().await;
    let began = reader.last_id;
    scene.say(1..=300, ServiceAccountStatus::Disabled).await;
    for _ in 0..299 {
        reader.revocation().await;
    }
    assert_eq!(reader.last_id, began);
    reader = scene.open(&scene.app.token("owner").await, Some(reader.last_id)).await;
    let mut heard = BTreeSet::new();
    while heard.len() < 300 {
        heard.insert(named(&reader.revocation().await));
    }
    assert!(reader.last_id > began);
    drop(reader);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_on_one_process_is_heard_on_the_stream_of_another_with_and_without_redis() {
    let redis = OwnRedis::start().await;
    let app = acme_with(&[&redis.url(), "http.drain_seconds=0"]).await;
    let other = app.replica(&[&redis.url(), "http.drain_seconds=0"]).await;
    let (here, there, live) = (following(&app.app).await, following(&other).await, Live::of(&other));
    let mut keys = vec![];
    for _ in 0..4 {
        keys.push(gateway_key(&app).await);
    }
    other.work.catch_up().await.unwrap();
    let mut reader = Reader::open(live.address(), &app.token("owner").await, "?org=acme", None).await;
    reader.next().await.unwrap();
    for (at, key) in keys.iter().enumerate() {
        if at == 2 {
            redis.network.set(Fault::Cut);
            await_redis(&other, Status::Failing).await;
        }
        let began = std::time::Instant::now();
        revoke(&app, key).await;
        assert_eq!(reader.revocation().await["id"], *key);
        let took = began.elapsed();
        println!("{} Redis: heard after {took:.1?}", if at < 2 { "with" } else { "without" });
        assert!(took < HEARD_MAX, "{at}: {took:?}");
    }
    drop(reader);
    live.stop().await;
    for tasks in [here, there] {
        tasks.stop(PATIENCE).await;
    }
}

async fn gateway_key(app: &TestApp) -> String {
    let user =
        app.work().state().member(app.person("owner").await, app.work().state().org_by_slug("acme").unwrap());
    let path = format!("/v1/orgs/acme/users/{}/api-keys", user.unwrap().user);
    let issued = app.post("owner", &path, json!({})).await;
    issued["body"]["apiKeyId"].as_str().unwrap_or_else(|| panic!("{issued}")).to_owned()
}

/// A process that has just come keeps nothing from before: PostgreSQL tells it, and then it goes on as it happens.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_at_another_process_that_was_not_there_then() {
    let scene = scene(&[]).await;
    scene.say(1..=600, ServiceAccountStatus::Active).await;
    let from = scene.reader().await.last_id;
    for at in 0..6 {
        scene.say(1 + at * 100..=100 + at * 100, ServiceAccountStatus::Disabled).await;
    }
    let other = scene.app.replica(&["http.drain_seconds=0"]).await;
    let (tasks, live) = (follow(&other), Live::of(&other));
    let mut reader =
        Reader::open(live.address(), &scene.app.token("owner").await, "?org=acme", Some(from)).await;
    let mut heard = BTreeSet::new();
    while heard.len() < 600 {
        heard.insert(named(&reader.revocation().await));
    }
    scene.say(7..=7, ServiceAccountStatus::Deleted).await;
    let last = reader.revocation().await;
    assert_eq!((named(&last), &last["reason"]), (7, &json!("deleted")));
    drop(reader);
    live.stop().await;
    tasks.stop(PATIENCE).await;
    scene.end().await;
}

/// Nothing is kept for a reader who takes nothing; when he does, he finds all of it.
#[tokio::test(flavor = "multi_thread")]
async fn a_reader_who_stands_still_finds_everything_when_he_goes_on() {
    let scene = scene(&[]).await;
    scene.say(1..=2_000, ServiceAccountStatus::Active).await;
    let shared = Shared::of(&scene.app.app, Listener::Http).unwrap();
    let service = test::init_service(app::worker(&scene.app.app, &shared)).await;
    let request = test::TestRequest::default()
        .method(Method::GET)
        .uri("/v1/revocations?org=acme")
        .peer_addr("127.0.0.1:9".parse().unwrap())
        .insert_header(("accept", "text/event-stream"))
        .insert_header(("authorization", format!("Bearer {}", scene.app.token("owner").await)));
    let answer = test::call_service(&service, request.to_request()).await;
    assert_eq!(answer.headers().get("content-type").unwrap(), "text/event-stream");
    assert_eq!(answer.headers().get("x-accel-buffering").unwrap(), "no");
    let mut body = pin!(answer.into_body());
    let mut take = async || {
        let chunk = poll_fn(|context| body.as_mut().poll_next(context)).await.unwrap();
        String::from_utf8(chunk.unwrap_or_else(|_| panic!("it breaks off")).to_vec()).unwrap()
    };
    assert_eq!(take().await, "retry: 1000\n\n");
    assert!(take().await.starts_with("event: revision\nid: "));
    for at in 0..20 {
        scene.say(1 + at * 100..=100 + at * 100, ServiceAccountStatus::Disabled).await;
    }
    let applied = || scene.app.work().state().applied();
    let said = scene.app.rows("SELECT seq FROM authz_clock").await[0]["seq"].as_i64().unwrap();
    eventually("all is read", async || applied() == said).await;
    let (mut heard, mut chunks) = (0, 0);
    while heard < 2_000 {
        let events = take().await.matches("event: revocation\n").count();
        assert!(events <= 356, "so many at once: {events}");
        heard += events;
        chunks += usize::from(events > 0);
    }
    assert!(heard == 2_000 && chunks >= 7, "{heard} in {chunks}");
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_ends_with_its_callers_right_and_with_its_credential() {
    let scene = scene(&[]).await;
    let (_, key, secret) = gateway(&scene.app).await;
    let (account, _, other) = gateway_named(&scene.app, "core").await;
    let (mut of_key, mut of_role) = (scene.open(&secret, None).await, scene.open(&other, None).await);
    assert_eq!((of_key.status, of_role.status), (200, 200));
    revoke(&scene.app, &key).await;
    of_key.end().await;
    assert_eq!(scene.open(&secret, None).await.status, 401);

    let path = format!("/v1/orgs/acme/service-accounts/{account}");
    let lowered = scene.app.patch("owner", &path, json!({ "roles": ["viewer"] })).await;
    assert_eq!(lowered["status"], 200, "{lowered}");
    of_role.end().await;
    assert_eq!(scene.open(&other, None).await.status, 403);

    // A token that has run out.
    let mut of_person = scene.reader().await;
    scene.app.clock.tick(Duration::from_hours(2));
    of_person.end().await;
    scene.end().await;
}

/// It says how old what it says is, and ends when nothing of it may be believed any more.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_outlives_postgres_for_as_long_as_answers_do() {
    let scene = scene(&[]).await;
    let mut reader = scene.reader().await;
    scene.app.sabotage("REVOKE SELECT ON authz_clock FROM identityd_app").await;
    scene.app.clock.tick(Duration::from_secs(10));
    let age = loop {
        let event = reader.next().await.expect("it goes on");
        assert_eq!(event.name, "revision");
        if event.data["ageSeconds"].as_f64().unwrap() >= 10.0 {
            break event.data["ageSeconds"].as_f64().unwrap();
        }
    };
    assert!(age < 30.0, "{age}");
    scene.app.clock.tick(Duration::from_secs(21));
    reader.end().await;
    scene.app.sabotage("GRANT SELECT ON authz_clock TO identityd_app").await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_are_so_many_streams_and_one_that_ends_makes_room() {
    let scene = scene(&["http.streams_max=5"]).await;
    let count = |app: &App| app.streams.count();
    let readers = [scene.reader().await, scene.reader().await];
    let token = scene.app.token("owner").await;
    assert_eq!(scene.open(&token, None).await.status, 503, "an organization has a quarter, rounded up");
    assert_eq!(listed(&scene.app, "owner", "?org=acme").await.0, [], "a list is told all the same");
    drop(readers);
    // By what it says next the server finds out that nobody is there.
    let free = async {
        while count(&scene.app.app) > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(FOUND_OUT_MAX, free).await.expect("the places are free");
    assert_eq!(scene.open(&token, None).await.status, 200);
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_do_not_hold_up_a_process_that_ends_and_do_not_begin_then() {
    let scene = scene(&[]).await;
    let mut readers = vec![];
    for _ in 0..8 {
        readers.push(scene.reader().await);
    }
    let app = scene.app.app.clone();
    let ended = async {
        for reader in &mut readers {
            reader.end().await;
        }
    };
    let ((), ()) = tokio::join!(scene.end(), ended);
    assert!(app.streams.open(None).is_none());
}
