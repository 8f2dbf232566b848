//! `kill -9` of either of two processes at each named point of a write, of sequencing, relaying and a job. What was
//! acknowledged is there, the log is whole and on Kafka, and every invite is mailed, at most once too often.
//!
//! A point is a statement that the process says to PostgreSQL: it stops there, and is killed. `IDENTITYD_KILLS` says how
//! many of the seeds are run, up to 50; by default each point comes once.
use crate::{
    app::server,
    audit_relay::to,
    cli_support::{Scratch, ScratchDatabase, ask},
    crash::verify_log,
    kafka_support::{make_topic, shared_broker},
    process::{Served, agent, beside, call, migrated, serve, until},
    redis_support::own_prefix,
    replicas_support::verify_relayed,
    round_robin::RoundRobin,
    tripwire::{
        Point,
        Side::{self, After, Before},
        Tripwire,
    },
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Instant,
};
use tokio::runtime::Runtime;

const SEEDS: u64 = 50;
const TIMES_MAX: u64 = 4;
/// Jobs that wait while more invites are made.
const JOBS_MAX: i64 = 3;

const fn point(name: &'static str, within: &'static str, at: &'static str, side: Side) -> Point {
    Point { name, within, at, side }
}

const CHANGE: &str = "INSERT INTO \"service_accounts\"";
const PLACED: &str = "INSERT INTO audit_log";
const READ: &str = "FROM audit_log WHERE seq >= $1";
const MOVE: &str = "UPDATE relay_positions";
const ARM: &str = "UPDATE \"invite_tokens\"";
const END: &str = "DELETE FROM jobs WHERE job_id = $1";

const POINTS: [Point; 22] = [
    point("write: nothing changed yet", "", CHANGE, Before),
    point("write: changed", "", CHANGE, After),
    point("write: in the outbox", CHANGE, "INSERT INTO audit_outbox", After),
    point("write: before commit", CHANGE, "COMMIT", Before),
    point("write: committed, not answered", CHANGE, "COMMIT", After),
    point("sequencing: head locked", "", "FROM audit_head FOR UPDATE", After),
    point("sequencing: out of the outbox", "", "DELETE FROM audit_outbox", After),
    point("sequencing: on the log", "", PLACED, After),
    point("sequencing: heads moved", "", "UPDATE audit_head SET", After),
    point("sequencing: before commit", PLACED, "COMMIT", Before),
    point("sequencing: committed", PLACED, "COMMIT", After),
    point("relay: read", "", READ, After),
    point("relay: not sent yet", READ, "COMMIT", After),
    point("relay: acknowledged, not noted", "", MOVE, Before),
    point("relay: before commit", MOVE, "COMMIT", Before),
    point("relay: committed", MOVE, "COMMIT", After),
    point("job: claimed", "", ARM, Before),
    point("job: before commit", ARM, "COMMIT", Before),
    point("job: committed, not mailed", ARM, "COMMIT", After),
    point("job: mailed, not ended", "", END, Before),
    point("job: before commit of its end", END, "COMMIT", Before),
    point("job: ended", END, "COMMIT", After),
];

/// What a seed says.
#[derive(Debug)]
struct Plan {
    point: Point,
    replica: usize,
    time: usize,
}

impl Plan {
    /// Each point at each replica comes before any comes again.
    fn of(seed: u64) -> Self {
        let all = u64::try_from(POINTS.len()).unwrap();
        let (point, turn) = (usize::try_from(seed % all).unwrap(), seed / all + seed % all);
        let mixed = seed.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
        let time = usize::try_from(1 + mixed % TIMES_MAX).unwrap();
        Self { point: POINTS[point], replica: usize::try_from(turn % 2).unwrap(), time }
    }

    /// Only who holds the lease comes there.
    fn is_leased(&self) -> bool {
        ["sequencing", "relay"].iter().any(|what| self.point.name.starts_with(what))
    }
}

/// Two processes, each with a way of its own to the database.
struct Scene {
    runtime: Runtime,
    place: Scratch,
    database: ScratchDatabase,
    settings: Vec<String>,
    topic: String,
    domain: String,
    key: String,
    round_robin: RoundRobin,
    wires: [Tripwire; 2],
    processes: Vec<Served>,
    mails: Mails,
    made: BTreeSet<String>,
    invited: BTreeSet<String>,
}

impl Scene {
    fn new() -> Self {
        let runtime = Runtime::new().unwrap();
        let (place, database) = (Scratch::new("kills"), migrated("kills"));
        let topic = runtime.block_on(make_topic("kills", 3));
        let mut settings = vec![
            format!("mail.url={}", server("TEST_SMTP_URL")),
            format!("redis.url={}", server("TEST_REDIS_URL")),
            own_prefix(),
        ];
        settings.extend(to(&[shared_broker()], &topic));
        let address = database.url().split(['@', '/']).nth(3).unwrap().parse().unwrap();
        let wires = [(); 2].map(|()| Tripwire::before(&runtime, address));
        let round_robin = RoundRobin::start(&runtime);
        let domain = format!("kills{}.example", std::process::id());
        let mails = Mails::new(&domain);
        let mut scene = Self {
            runtime,
            place,
            database,
            settings,
            topic,
            domain,
            key: String::new(),
            round_robin,
            wires,
            processes: vec![],
            mails,
            made: BTreeSet::new(),
            invited: BTreeSet::new(),
        };
        scene.key = scene.bootstrap();
        for replica in 0..2 {
            let process = scene.start(replica);
            scene.processes.push(process);
        }
        until(&2, || scene.round_robin.ready());
        scene
    }

    /// An organization, and the key of its administrator.
    fn bootstrap(&mut self) -> String {
        let mut server = Served::start(&self.place, &self.database, &self.settings());
        let (code, operator) = beside(&self.place, &self.database, &["bootstrap"]);
        assert_eq!(code, 0, "{operator}");
        let post = |path: &str, body: Value| server.call("POST", path, Some(&operator), &body);
        until(&201, || post("/v1/orgs", json!({ "name": "Acme", "slug": "acme" })).0);
        let ada = format!("ada@{}", self.domain);
        let (_, invite) = post("/v1/orgs/acme/invites", json!({ "email": ada }));
        let path = format!("/v1/orgs/acme/users/{}/api-keys", invite["userId"].as_str().unwrap());
        let (status, key) = post(&path, json!({ "scopes": ["admin"] }));
        assert_eq!(status, 201, "{key}");
        self.invited.insert(ada);
        self.drained();
        server.terminate();
        assert!(server.wait().success());
        key["secret"].as_str().unwrap().to_owned()
    }

    fn settings(&self) -> Vec<&str> {
        self.settings.iter().map(String::as_str).collect()
    }

    fn start(&self, replica: usize) -> Served {
        let address = self.wires[replica].address;
        let name = self.database.url().rsplit('/').next().unwrap().to_owned();
        let url = format!("database.url=postgres://identityd_app@{address}/{name}");
        let process =
            Served::run(serve(&self.place, &self.database, &[self.settings(), vec![&url]].concat()));
        self.round_robin.add(&process.url);
        process
    }

    fn number(&self, query: &str) -> i64 {
        ask(&self.database.url(), &format!("SELECT ({query})::text AS cell")).parse().unwrap()
    }

    /// Until nothing waits to be done.
    fn drained(&self) {
        until(&0, || self.number("SELECT (SELECT count(*) FROM audit_outbox) + (SELECT count(*) FROM jobs)"));
    }

    /// Lets a process stop there, under load, kills it, and starts another one in its place.
    fn kill_at(&mut self, seed: u64, plan: &Plan) {
        let Plan { point, replica, time } = plan;
        let load = Load::start(self, seed);
        let owner = owner(&self.processes[*replica]);
        self.wires[*replica].arm(*point, *time);
        let mut waited = 0;
        until(&true, || {
            waited += 1;
            if plan.is_leased() && waited % 4 == 0 {
                // As if the other one's leases had run out.
                let theirs = format!("UPDATE leases SET lease_until = '-infinity' WHERE owner <> '{owner}'");
                self.database.sql(&theirs);
            }
            self.wires[*replica].is_reached()
        });
        let dead = self.processes.remove(*replica);
        self.round_robin.remove(&dead.url);
        dead.kill();
        // As if its leases and claims had run out: nobody waits for that here.
        self.database.sql(&format!(
            "UPDATE leases SET lease_until = '-infinity' WHERE owner = '{owner}';
             UPDATE jobs SET lease_until = '-infinity' WHERE lease_owner = '{owner}'"
        ));
        let (made, invited) = load.stop();
        self.made.extend(made);
        self.invited.extend(invited);
        let next = self.start(*replica);
        self.processes.insert(*replica, next);
    }

    /// Nothing acknowledged is lost, and whatever there is has had its effects. Answers how many mails and records there
    /// are beyond one each.
    fn verify(&mut self) -> (usize, usize) {
        self.drained();
        verify_log(|query| self.number(query));
        let names = |query: &str| -> BTreeSet<String> {
            ask(&self.database.url(), &format!("SELECT coalesce(string_agg({query}"))
                .split_terminator(',')
                .map(str::to_owned)
                .collect()
        };
        let accounts = names("name, ','), '') AS cell FROM service_accounts");
        let members = names("email, ','), '') AS cell FROM memberships");
        let lost: Vec<_> = self.made.difference(&accounts).chain(self.invited.difference(&members)).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
        let told =
            "SELECT count(*) FROM audit_log WHERE action = 'service-accounts:manage' AND outcome = 'allow'";
        assert_eq!(usize::try_from(self.number(told)).unwrap(), accounts.len());
        let mailed = self.mails.look();
        let mailed_to: BTreeSet<String> = mailed.keys().cloned().collect();
        assert_eq!(mailed_to, members, "each is mailed, and nobody else");
        assert!(mailed.values().all(|count| *count <= 2), "mailed more than twice: {mailed:?}");
        let twice = mailed.values().filter(|count| **count == 2).count();
        (twice, verify_relayed(&self.runtime, &self.database.url(), &self.topic))
    }
}

/// What a process is called in leases and jobs.
fn owner(process: &Served) -> String {
    let log = process.log();
    let started = log.lines().find(|line| line.contains("\"message\":\"started\"")).unwrap();
    serde_json::from_str::<Value>(started).unwrap()["owner"].as_str().unwrap().to_owned()
}

/// Administrators who go on until told to stop, and take a broken connection for what it is.
struct Load {
    stop: Arc<AtomicBool>,
    makers: Vec<JoinHandle<Vec<String>>>,
    inviter: JoinHandle<Vec<String>>,
}

impl Load {
    fn start(scene: &Scene, seed: u64) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let client =
            |of: String, path: &'static str, member: &'static str, right: u16, pause: Option<String>| {
                let (url, key, stop) = (scene.round_robin.url.clone(), scene.key.clone(), Arc::clone(&stop));
                thread::spawn(move || {
                    let (agent, mut acknowledged) = (agent(), vec![]);
                    for n in 0.. {
                        if stop.load(Ordering::Relaxed) {
                            break;
                        }
                        if let Some(database) = &pause {
                            let waiting = || ask(database, "SELECT count(*)::text AS cell FROM jobs");
                            until(&true, || {
                                waiting().parse::<i64>().unwrap() <= JOBS_MAX || stop.load(Ordering::Relaxed)
                            });
                        }
                        let name = of.replace('#', &n.to_string());
                        let body = json!({ member: name });
                        match call(&agent, &url, "POST", path, Some(&key), &body).unwrap() {
                            (status, _) if status == right => acknowledged.push(name),
                            (502 | 503, _) => (),
                            other => panic!("{other:?}"),
                        }
                    }
                    acknowledged
                })
            };
        let accounts = "/v1/orgs/acme/service-accounts";
        let makers =
            (0..2).map(|maker| client(format!("machine {seed} {maker} #"), accounts, "name", 201, None));
        let inviter = client(
            format!("guest-{seed}-#@{}", scene.domain),
            "/v1/orgs/acme/invites",
            "email",
            202,
            Some(scene.database.url()),
        );
        Self { makers: makers.collect(), inviter, stop }
    }

    fn stop(self) -> (Vec<String>, Vec<String>) {
        self.stop.store(true, Ordering::Relaxed);
        let made = self.makers.into_iter().flat_map(|maker| maker.join().unwrap()).collect();
        (made, self.inviter.join().unwrap())
    }
}

/// The mails of one domain; each file is read once.
struct Mails {
    directory: PathBuf,
    domain: String,
    seen: BTreeSet<PathBuf>,
    to: BTreeMap<String, usize>,
}

impl Mails {
    fn new(domain: &str) -> Self {
        let directory = PathBuf::from(server("TEST_SMTP_DIR"));
        let mut mails =
            Self { directory, domain: domain.to_owned(), seen: BTreeSet::new(), to: BTreeMap::new() };
        mails.seen = mails.all().collect();
        mails
    }

    fn all(&self) -> impl Iterator<Item = PathBuf> {
        let entries = fs::read_dir(&self.directory).unwrap().map(|entry| entry.unwrap().path());
        entries.filter(|path| path.extension().is_some_and(|extension| extension == "eml"))
    }

    /// How many mails each has.
    fn look(&mut self) -> BTreeMap<String, usize> {
        for path in self.all().collect::<Vec<_>>() {
            if self.seen.insert(path.clone()) {
                let text = fs::read_to_string(path).unwrap();
                let to = text.lines().find_map(|line| line.strip_prefix("To: ")).unwrap().trim();
                if to.ends_with(&self.domain) {
                    *self.to.entry(to.to_owned()).or_default() += 1;
                }
            }
        }
        self.to.clone()
    }
}

#[test]
fn killed_at_any_named_point_either_of_two_loses_nothing_that_it_acknowledged() {
    let seeds = std::env::var("IDENTITYD_KILLS").map_or(POINTS.len(), |count| count.parse().unwrap());
    let seeds = u64::try_from(seeds).unwrap().min(SEEDS);
    let (mut scene, began) = (Scene::new(), Instant::now());
    let (mut mails_twice, mut records_twice) = (0, 0);
    for seed in 0..seeds {
        let plan = Plan::of(seed);
        println!("seed {seed}: {} the {}. time, process {}", plan.point.name, plan.time, plan.replica);
        scene.kill_at(seed, &plan);
        let (mails, records) = scene.verify();
        let more = mails - mails_twice;
        println!("  {more} mails and {} records twice", records - records_twice);
        assert!(more <= 1, "one job was cut off, and {more} mails are there twice");
        (mails_twice, records_twice) = (mails, records);
    }
    let (took, made, invited) = (began.elapsed(), scene.made.len(), scene.invited.len());
    println!(
        "{seeds} kills in {took:.0?}: of {made} accounts and {invited} invites that were acknowledged none is lost; \
         {mails_twice} mails and {records_twice} records are there twice"
    );
    assert!(made > POINTS.len(), "there was no load");
}
