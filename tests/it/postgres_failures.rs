//! PostgreSQL goes away under load, and has no connection to spare: clear answers meanwhile, every kind of request works
//! again soon after, and nothing that was acknowledged is lost.
use crate::{
    cli_support::ask,
    crash::Scene,
    postgres_support::{Caller, Callers, Kind, OwnPostgres, Seen},
    process::{Served, agent, beside, until},
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

/// For the service's role; who is connected is sent away.
fn limit(scene: &Scene, connections: i32) {
    scene.database.sql(&format!(
        "ALTER ROLE identityd_app CONNECTION LIMIT {connections};
         SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 'identityd_app'"
    ));
}

#[test]
fn at_the_connection_limit_it_says_so_and_recovers_once_there_is_room() {
    let postgres = OwnPostgres::start("limit-server");
    let scene = postgres.scene("limit");
    let server = scene.start_with(&[REQUEST_MAX, "authorization.stale_max_seconds=3"]);
    let caller = Caller::of(&scene, &server);
    let mut made = burst(&caller, "before");

    // Others have every connection.
    limit(&scene, 0);
    let agent = agent();
    let answer = |kind| {
        let Seen { status, code, .. } = caller.ask(&agent, kind, "never");
        (status, code)
    };
    let unavailable = (503, "DATABASE_UNAVAILABLE".to_owned());
    let stale = (503, "AUTHORIZATION_STALE".to_owned());
    assert_eq!(answer(Kind::KeyCheck).0, 200);
    until(&unavailable, || answer(Kind::SignIn));
    until(&unavailable, || answer(Kind::List));
    until(&stale, || answer(Kind::Change));
    until(&stale, || answer(Kind::KeyCheck));
    until(&(503, "failing".into(), true.into()), || ready(&server));
    let full = "too many connections for role";
    assert!(server.log().contains(full), "{}", server.log());
    let (code, said) = beside(&scene.place, &scene.database, &["bootstrap"]);
    assert!(code == 1 && said.contains(full), "{said}");

    // There is room for the tail and two more.
    limit(&scene, 4);
    let connected =
        "SELECT count(*) FROM pg_stat_activity WHERE usename = 'identityd_app' AND state = 'idle'";
    until(&(200, "ok".into(), true.into()), || ready(&server));
    until(&true, || scene.number(connected) >= 2);
    let callers = Callers::start(&caller, "narrow", 8);
    callers.await_all(Instant::now());
    let narrow = callers.shown();

    let freed = Instant::now();
    scene.database.sql("ALTER ROLE identityd_app CONNECTION LIMIT -1");
    let worked = callers.await_all(freed);
    println!("works after {worked:.2?}; {narrow}");
    let (seen, names) = callers.stop();
    for code in seen.iter().filter(|seen| seen.status == 503).map(|seen| seen.code.as_str()) {
        assert_eq!(code, "DATABASE_UNAVAILABLE");
    }
    made.extend(names);
    made.extend(burst(&caller, "after"));
    verify(&scene, &server, made);
}
