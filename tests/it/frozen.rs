//! Leaders that are stopped past their lease while somebody else goes on: once they go on themselves, they write nothing
//! of what they had begun. The relay, which needs brokers of its own, is in `relay_failures.rs`.
use crate::{
    app::server,
    cli_support::ask,
    crash::{Held, Scene},
    fault_proxy::{Fault, FaultProxy, Upstream},
    process::{Served, until},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

/// Fifteen seconds as the service has it; what else it has stays.
const IDLE_MAX: &str = "idle_in_transaction_session_timeout=2s";
/// The first sweep begins a minute after the start.
const SWEEP_MAX: Duration = Duration::from_secs(100);
const PASSWORD: &str = "correct horse battery staple";

/// The setting that has the server end a frozen process's transactions soon.
pub fn hasty(scene: &Scene) -> String {
    let options = format!("-c statement_timeout=10s -c lock_timeout=5s -c {IDLE_MAX}").replace(' ', "%20");
    format!("database.url={}?options={options}", scene.database.service_url())
}

/// Every lease has run out. Waits for who is at work under one.
pub fn expire(scene: &Scene) {
    scene.database.sql("UPDATE leases SET lease_until = '-infinity'");
}

/// Who has a lease, under which epoch.
pub fn leader(scene: &Scene, lease: &str) -> String {
    let query = format!("SELECT owner || ' ' || epoch AS cell FROM leases WHERE name = '{lease}'");
    ask(&scene.database.url(), &query)
}

/// Once it may: a process that was frozen does not know at first whether what it knows is so.
pub fn rename(scene: &Scene, server: &Served, name: &str) {
    until(&200, || scene.rename(server, name).unwrap());
}

#[test]
fn a_frozen_sequencer_places_nothing_once_it_thaws() {
    let scene = Scene::new("sequencers");
    expire(&scene);
    let led = leader(&scene, "sequencer");
    let first = scene.start_with(&[&hasty(&scene)]);
    until(&false, || leader(&scene, "sequencer") == led);
    let (of_first, second) = (leader(&scene, "sequencer"), scene.start_with(&[&hasty(&scene)]));

    // In the middle of a batch: the lease is taken, the head locked, the entries are not written yet.
    let held = Held::take(&scene.database, "audit_org_head");
    assert_eq!(scene.rename(&first, "One").unwrap(), 200);
    until(&true, || scene.waiting("audit_org_head") > 0);
    assert_eq!(leader(&scene, "sequencer"), of_first);
    first.freeze();
    held.release();
    expire(&scene);
    rename(&scene, &second, "Two");
    scene.verify();
    let of_second = leader(&scene, "sequencer");
    assert_ne!(of_second, of_first);
    first.thaw();
    until(&true, || first.log().contains("sequencing audit events works again"));
    rename(&scene, &first, "Three");
    scene.verify();
    assert_eq!(leader(&scene, "sequencer"), of_second);

    // And between two batches.
    second.freeze();
    expire(&scene);
    rename(&scene, &first, "Four");
    scene.verify();
    let of_first = leader(&scene, "sequencer");
    assert_ne!(of_first, of_second);
    second.thaw();
    rename(&scene, &second, "Five");
    scene.verify();
    assert_eq!(leader(&scene, "sequencer"), of_first);
}

#[test]
fn a_frozen_sweeper_takes_nothing_away_once_it_thaws() {
    let scene = Scene::new("sweepers");
    scene.database.sql(
        "INSERT INTO idempotency_keys (principal, key, fingerprint, status, headers, created_at)
         VALUES ('user:x', 'old', '', 200, '[]', now() - interval '2 days')",
    );
    let began = Instant::now();
    let first = scene.start_with(&[&hasty(&scene)]);
    let held = Held::take(&scene.database, "idempotency_keys");
    while scene.waiting("idempotency_keys") == 0 {
        assert!(began.elapsed() < SWEEP_MAX, "it does not sweep");
        thread::sleep(Duration::from_millis(50));
    }
    first.freeze();
    held.release();
    // Waits until the server has ended the transaction, since the lease is locked as long.
    scene.database.sql(
        "UPDATE leases SET owner = 'successor', epoch = epoch + 1, lease_until = now() + interval '1 hour'
         WHERE name = 'sweeper'",
    );
    let of_successor = leader(&scene, "sweeper");
    first.thaw();
    until(&true, || first.log().contains("sweeping failed; the next round tries again"));
    assert_eq!(scene.number("SELECT count(*) FROM idempotency_keys"), 1);
    assert_eq!(leader(&scene, "sweeper"), of_successor);
    rename(&scene, &first, "Works");
    scene.verify();
}

#[test]
fn a_process_frozen_over_a_job_does_not_end_it_for_its_successor() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let sink = server("TEST_SMTP_URL").replace("smtp://", "").parse().unwrap();
    let way = || runtime.block_on(FaultProxy::before(Upstream::Tcp(sink)));
    let (way_of_first, way_of_second) = (way(), way());
    let mail = |way: &FaultProxy| {
        way.set(Fault::Freeze);
        format!("mail.url=smtp://{}", way.address)
    };
    let scene = Scene::new("runners");
    scene.database.sql("DELETE FROM jobs");
    let first = scene.start_with(&[&mail(&way_of_first)]);
    let invite = |name: &str| {
        let body = json!({ "email": email(name) });
        until(&202, || first.call("POST", "/v1/orgs/acme/invites", Some(&scene.key), &body).0);
    };
    // What a run does before it mails.
    let tokens = || {
        let all = "SELECT string_agg(coalesce(kid, ''), ' ' ORDER BY user_id) AS cell FROM invite_tokens";
        ask(&scene.database.url(), all)
    };
    let job = || {
        let all = "SELECT coalesce(string_agg(epoch::text, ' '), '') AS cell FROM jobs";
        ask(&scene.database.url(), all)
    };
    let minted = || scene.number("SELECT count(kid) FROM invite_tokens");
    let before = minted();
    invite("bob");
    until(&(before + 1), minted);
    first.freeze();
    let (minted, second) = (tokens(), scene.start_with(&[&mail(&way_of_second)]));
    scene.database.sql("UPDATE jobs SET lease_until = now() - interval '1 second'");
    until(&false, || tokens() == minted);
    assert_eq!(job(), "2");

    // The first mails what it had in its hands, and goes on with another job, so it has ended this one.
    way_of_first.set(Fault::None);
    first.thaw();
    invite("carol");
    until(&1, || mails_to("carol").len());
    assert_eq!((mails_to("bob").len(), job().as_str()), (1, "2"), "the job is its successor's");
    way_of_second.set(Fault::None);
    until(&String::new(), job);
    let mails = mails_to("bob");
    assert_eq!(mails.len(), 2);
    let accept = |mail: &String| {
        let body = json!({ "token": token(mail), "password": PASSWORD, "displayName": "Bob" });
        second.call("POST", "/v1/invites/accept", None, &body).0
    };
    assert_eq!(
        (accept(&mails[0]), accept(&mails[1])),
        (404, 200),
        "the second run's is the one that is good"
    );
    scene.verify();
    assert_eq!(first.get("/v1/orgs/acme", &scene.key)["name"], Value::from("Acme"));
}

/// The sink is everybody's.
fn email(name: &str) -> String {
    format!("{name}@frozen{}.example", std::process::id())
}

/// The mails to one address, as they came.
fn mails_to(name: &str) -> Vec<String> {
    let directory = server("TEST_SMTP_DIR");
    let mut paths: Vec<_> =
        fs::read_dir(Path::new(&directory)).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "eml"));
    paths.sort();
    let text = |path| fs::read_to_string(path).unwrap().replace("=\r\n", "").replace("=\n", "");
    paths.into_iter().map(text).filter(|text| text.contains(&email(name))).collect()
}

fn token(mail: &str) -> &str {
    let at = mail.find("#idi_").unwrap();
    &mail[at + 1..at + 70]
}
