//! PostgreSQL goes away under load: clear answers meanwhile, every kind of request works
//! again soon after, and nothing that was acknowledged is lost.
use crate::{
    cli_support::ask,
    crash::Scene,
    postgres_support::{Caller, Callers, Kind, OwnPostgres, Seen},
    process::{Served, agent, until},
};
use rustix::process::Signal;
use serde_json::Value;
use std::{collections::BTreeSet, thread, time::Instant};

/// A request that hangs is a problem of another name, which the callers do not take.
const REQUEST_MAX: &str = "http.request_timeout_seconds=10";
/// More at once than the pool has connections.
const BURST: usize = 40;

/// What `/readyz` says: its status, and of PostgreSQL.
fn ready(server: &Served) -> (u16, Value, Value) {
    let (status, body) = server.call("GET", "/readyz", None, &Value::Null);
    let postgres = &body["dependencies"]["postgres"];
    (status, postgres["status"].clone(), postgres["required"].clone())
}

/// Many changes at once all succeed: no connection was lost to the pool. Answers their names.
fn burst(caller: &Caller, run: &str) -> Vec<String> {
    let one = |n| {
        let (caller, name) = (caller.clone(), format!("burst {run} {n}"));
        thread::spawn(move || (caller.ask(&agent(), Kind::Change, &name).status, name))
    };
    let asked: Vec<_> = (0..BURST).map(one).collect();
    let answers = asked.into_iter().map(|one| one.join().unwrap());
    answers.map(|(status, name)| (assert_eq!(status, 201), name).1).collect()
}

/// What was acknowledged is there, everything that is there is on the log, and nothing was taken for a bug of ours.
fn verify(scene: &Scene, server: &Served, made: Vec<String>) {
    scene.verify();
    let listed = "SELECT string_agg(name, E'\\n') AS cell FROM service_accounts";
    let there = ask(&scene.database.url(), listed);
    let there: BTreeSet<&str> = there.lines().collect();
    let lost: Vec<_> = made.iter().filter(|name| !there.contains(name.as_str())).collect();
    assert!(lost.is_empty(), "of {} acknowledged are lost {lost:?}", made.len());
    let told =
        "SELECT count(*) FROM audit_log WHERE action = 'service-accounts:manage' AND outcome = 'allow'";
    assert_eq!(scene.number(told), i64::try_from(there.len()).unwrap());
    assert!(!server.log().contains("\"request failed\""), "{}", server.log());
}

/// While PostgreSQL is away, key checks go on and nothing else does.
fn look(seen: &[Seen]) {
    let refused = |seen: &&Seen| seen.status == 503;
    assert!(seen.iter().filter(|seen| seen.kind == Kind::KeyCheck).all(|seen| seen.status == 200));
    for code in seen.iter().filter(refused).map(|seen| seen.code.as_str()) {
        assert!(matches!(code, "DATABASE_UNAVAILABLE" | "AUTHORIZATION_STALE"), "{code}");
    }
}

fn restarted(purpose: &str, how: Signal) {
    let mut postgres = OwnPostgres::start(&format!("{purpose}-server"));
    let scene = postgres.scene(purpose);
    let server = scene.start_with(&[REQUEST_MAX]);
    let caller = Caller::of(&scene, &server);
    let mut made = vec![];
    for round in 0..3 {
        let callers = Callers::start(&caller, &round.to_string(), 4);
        callers.await_all(Instant::now());
        let began = Instant::now();
        postgres.stop(how);
        until(&(200, "failing".into(), false.into()), || ready(&server));
        postgres.start_again();
        let (away, back) = (began.elapsed(), Instant::now());
        let worked = callers.await_all(back);
        let shown = callers.shown();
        let (seen, names) = callers.stop();
        look(&seen);
        let refused: BTreeSet<Kind> =
            seen.iter().filter(|seen| seen.status == 503).map(|seen| seen.kind).collect();
        assert!(refused.contains(&Kind::Change), "{shown}");
        println!("{purpose} {round}: away {away:.2?}; works again after {worked:.2?}; {shown}");
        made.extend(names);
        until(&(200, "ok".into(), true.into()), || ready(&server));
        made.extend(burst(&caller, &round.to_string()));
    }
    verify(&scene, &server, made);
}

#[test]
fn restarted_at_once_under_load_it_loses_nothing_that_was_acknowledged() {
    restarted("immediate", Signal::QUIT);
}

#[test]
fn restarted_fast_under_load_it_loses_nothing_that_was_acknowledged() {
    restarted("fast", Signal::INT);
}
