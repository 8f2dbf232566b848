//! `kill -9` between any two steps of a change: what was acknowledged is there, what is there is on the audit log, and
//! the log has no gap.
use crate::{
    cli_support::{Scratch, ScratchDatabase, ask, connection},
    process::{Served, agent, beside, call, migrated, until},
};
use diesel_async::SimpleAsyncConnection as _;
use serde_json::{Value, json};
use std::{collections::BTreeSet, thread};
use tokio::runtime::Runtime;

/// A lock that is held until this is dropped.
pub struct Held {
    runtime: Runtime,
    conn: Option<diesel_async::AsyncPgConnection>,
}

impl Held {
    pub fn take(database: &ScratchDatabase, table: &str) -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let conn = runtime.block_on(async {
            let mut conn = connection(&database.url()).await;
            // The server would end it after fifteen seconds.
            let lock = format!(
                "SET idle_in_transaction_session_timeout = 0; SET ROLE identityd_owner; BEGIN;
                 LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE"
            );
            conn.batch_execute(&lock).await.unwrap();
            conn
        });
        Self { runtime, conn: Some(conn) }
    }

    pub fn release(mut self) {
        self.runtime.block_on(async { self.conn.take().unwrap().batch_execute("ROLLBACK").await.unwrap() });
    }
}

/// A server on a database of its own, with an organization and the key of its administrator.
pub struct Scene {
    pub place: Scratch,
    pub database: ScratchDatabase,
    pub key: String,
}

impl Scene {
    pub fn new(purpose: &str) -> Self {
        Self::on(purpose, migrated(purpose))
    }

    /// On a database that has the schema.
    pub fn on(purpose: &str, database: ScratchDatabase) -> Self {
        let place = Scratch::new(purpose);
        let server = Served::start(&place, &database, &[]);
        let (code, operator) = beside(&place, &database, &["bootstrap"]);
        assert_eq!(code, 0, "{operator}");
        let post = |path: &str, body: Value| server.call("POST", path, Some(&operator), &body);
        until(&201, || post("/v1/orgs", json!({ "name": "Acme", "slug": "acme" })).0);
        let (_, invite) = post("/v1/orgs/acme/invites", json!({ "email": "ada@example.io" }));
        let path = format!("/v1/orgs/acme/users/{}/api-keys", invite["userId"].as_str().unwrap());
        let (status, key) = post(&path, json!({ "scopes": ["admin"] }));
        assert_eq!(status, 201, "{key}");
        server.kill();
        Self { place, database, key: key["secret"].as_str().unwrap().to_owned() }
    }

    fn start(&self) -> Served {
        self.start_with(&[])
    }

    pub fn start_with(&self, settings: &[&str]) -> Served {
        // Callers without end ask more than people do.
        let limits = crate::app::unlimited();
        let settings: Vec<&str> = limits.iter().map(String::as_str).chain(settings.iter().copied()).collect();
        Served::start(&self.place, &self.database, &settings)
    }

    pub fn rename(&self, server: &Served, name: &str) -> Result<u16, ureq::Error> {
        let body = json!({ "displayName": name });
        Ok(server.try_call("PATCH", "/v1/orgs/acme", Some(&self.key), &body)?.0)
    }

    pub fn number(&self, query: &str) -> i64 {
        ask(&self.database.url(), &format!("SELECT ({query})::text AS cell")).parse().unwrap()
    }

    /// Sends a rename that comes to a lock, and kills the server there.
    fn cut_off(&self, table: &str, name: &str, statement: &str) {
        let server = self.start();
        let held = Held::take(&self.database, table);
        let (at, key, renamed) = (server.url.clone(), self.key.clone(), json!({ "displayName": name }));
        let caller =
            thread::spawn(move || call(&agent(), &at, "PATCH", "/v1/orgs/acme", Some(&key), &renamed));
        until(&true, || self.waiting(statement) > 0);
        server.kill();
        assert!(caller.join().unwrap().is_err(), "nobody answered");
        held.release();
        until(&0, || self.waiting(statement));
    }

    /// How many statements like this wait for a lock.
    pub fn waiting(&self, statement: &str) -> i64 {
        self.number(&format!(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
             AND query ILIKE '%{statement}%'"
        ))
    }

    fn org_name(&self) -> String {
        ask(&self.database.url(), "SELECT name AS cell FROM orgs WHERE slug = 'acme'")
    }

    /// Everything that happened has its place, in order and without a gap, and each change its event.
    pub fn verify(&self) {
        verify_log(|query| self.number(query));
        let changes = "SELECT version - 1 FROM orgs WHERE slug = 'acme'";
        let told = "SELECT count(*) FROM audit_log WHERE action = 'orgs:update' AND outcome = 'allow'";
        assert_eq!(self.number(changes), self.number(told), "every change of the organization is on the log");
    }
}

/// Everything that happened has its place on the log once, in order and without a gap.
pub fn verify_log(number: impl Fn(&str) -> i64) {
    until(&0, || number("SELECT count(*) FROM audit_outbox"));
    let size = number("SELECT count(*) FROM audit_log");
    assert_eq!(size, number("SELECT max(seq) + 1 FROM audit_log"));
    assert_eq!(size, number("SELECT size FROM audit_head"));
    assert_eq!(size, number("SELECT count(DISTINCT event_id) FROM audit_log"));
    let gaps =
        "SELECT count(*) FROM (SELECT org_seq, prev, row_number() OVER w AS place, lag(leaf) OVER w AS before
         FROM audit_log WINDOW w AS (PARTITION BY org_id ORDER BY org_seq)) log
         WHERE org_seq <> place OR prev IS DISTINCT FROM before";
    assert_eq!(number(gaps), 0);
}

#[test]
fn before_the_write_nothing_has_happened() {
    let scene = Scene::new("before");
    scene.cut_off("orgs", "Never", "orgs");
    let server = scene.start();
    assert_eq!(scene.org_name(), "Acme");
    scene.verify();
    assert_eq!(scene.rename(&server, "Later").unwrap(), 200);
    scene.verify();
}

#[test]
fn before_commit_nothing_has_happened() {
    let scene = Scene::new("commit");
    scene.cut_off("audit_outbox", "Never", "insert into%audit_outbox");
    let server = scene.start();
    assert_eq!(scene.org_name(), "Acme");
    scene.verify();
    assert_eq!(scene.rename(&server, "Later").unwrap(), 200);
    scene.verify();
}

#[test]
fn after_commit_it_has_happened_and_gets_its_place_later() {
    let scene = Scene::new("after");
    let server = scene.start();
    scene.verify();
    let held = Held::take(&scene.database, "audit_log");
    assert_eq!(scene.rename(&server, "Renamed").unwrap(), 200);
    server.kill();
    held.release();
    assert!(scene.number("SELECT count(*) FROM audit_outbox") > 0);
    let _next = scene.start();
    assert_eq!(scene.org_name(), "Renamed");
    scene.verify();
}

#[test]
fn after_sequencing_it_is_there_once() {
    let scene = Scene::new("sequenced");
    let server = scene.start();
    assert_eq!(scene.rename(&server, "Renamed").unwrap(), 200);
    scene.verify();
    server.kill();
    let _next = scene.start();
    assert_eq!(scene.org_name(), "Renamed");
    scene.verify();
}

#[test]
fn killed_in_the_middle_of_many_changes_it_loses_none_that_it_acknowledged() {
    let scene = Scene::new("many");
    let path = "/v1/orgs/acme/service-accounts";
    let mut acknowledged = BTreeSet::new();
    for round in 0..3 {
        let server = scene.start();
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let (url, key) = (server.url.clone(), scene.key.clone());
                thread::spawn(move || {
                    let agent = agent();
                    let mut made = vec![];
                    for n in 0.. {
                        let name = format!("machine {round} {caller} {n}");
                        let answer = call(&agent, &url, "POST", path, Some(&key), &json!({ "name": name }));
                        match answer {
                            Ok((201, _)) => made.push(name),
                            Ok(other) => panic!("{other:?}"),
                            Err(_) => break,
                        }
                    }
                    made
                })
            })
            .collect();
        let count = "SELECT count(*) FROM service_accounts";
        let before = scene.number(count);
        until(&true, || scene.number(count) > before + 20 + round * 7);
        server.kill();
        acknowledged.extend(callers.into_iter().flat_map(|caller| caller.join().unwrap()));
    }
    let server = scene.start();
    scene.verify();
    let there = server.get(&format!("{path}?limit=1000"), &scene.key);
    let there: BTreeSet<String> = there
        .as_array()
        .unwrap()
        .iter()
        .map(|account| account["name"].as_str().unwrap().to_owned())
        .collect();
    let lost: Vec<_> = acknowledged.difference(&there).collect();
    assert!(lost.is_empty() && acknowledged.len() > 60, "of {} lost {lost:?}", acknowledged.len());
    let told =
        "SELECT count(*) FROM audit_log WHERE action = 'service-accounts:manage' AND outcome = 'allow'";
    assert_eq!(scene.number(told), i64::try_from(there.len()).unwrap());
}
