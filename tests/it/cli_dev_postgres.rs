//! `identityd dev`: its PostgreSQL server, its directory, and where it refuses to run.
use crate::cli_support::{Outcome, Scratch, ask, identityd, sql};
use identityd::platform::postgres::{self, Data, Postgres, PostgresError};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const READY_MAX: Duration = Duration::from_mins(1);

/// A running `identityd dev`.
struct Dev {
    child: Child,
    ready: serde_json::Value,
}

impl Dev {
    fn start(scratch: &Scratch, arguments: &[&str]) -> Self {
        Self::run(scratch, identityd(&[&["dev", "--port", "0"], arguments].concat()))
    }

    fn run(scratch: &Scratch, mut command: Command) -> Self {
        let file = scratch.path().join("ready.json");
        command.arg("--ready-file").arg(&file).env("TMPDIR", scratch.path());
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let begun = Instant::now();
        while !file.exists() {
            if child.try_wait().unwrap().is_some() || begun.elapsed() > READY_MAX {
                let _ = child.kill();
                panic!("not ready: {:?}", child.wait_with_output().unwrap());
            }
            thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let ready = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
        fs::remove_file(file).unwrap();
        Self { child, ready }
    }

    fn text(&self, key: &str) -> &str {
        self.ready[key].as_str().unwrap()
    }

    /// Of its database, as a superuser.
    fn superuser_url(&self) -> String {
        self.text("databaseUrl").replace("://identityd_app@", "://postgres@")
    }

    fn end(mut self, signal: Signal) -> Option<i32> {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap().code()
    }
}

fn refused(arguments: &[&str], variables: &[(&str, &str)]) -> Outcome {
    let mut command = identityd(&[&["dev", "--port", "0"], arguments].concat());
    command.envs(variables.iter().copied()).stdin(Stdio::null()).output().unwrap().into()
}

/// The process of the server, from its own file.
fn server_pid(data: &Path) -> Option<Pid> {
    let text = fs::read_to_string(data.join("postmaster.pid")).ok()?;
    Pid::from_raw(text.lines().next()?.trim().parse().ok()?)
}

fn is_alive(pid: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn until_gone(pid: Pid) {
    let begun = Instant::now();
    while is_alive(pid) {
        assert!(begun.elapsed() < Duration::from_secs(20), "{pid} does not end");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_second_start_finds_the_data_and_the_port_of_the_first() {
    let scratch = Scratch::new("again");
    let directory = scratch.join("data");
    let first = Dev::start(&scratch, &["--data-dir", &directory]);
    let url = first.superuser_url();
    sql(&url, "CREATE TABLE noted (note text); INSERT INTO noted VALUES ('kept')");
    assert_eq!(ask(first.text("databaseUrl"), "SELECT current_user::text AS cell"), "identityd_app");
    let pid = server_pid(&scratch.path().join("data/postgres/data")).unwrap();
    assert_eq!(first.end(Signal::INT), Some(0));
    assert!(!is_alive(pid), "the server ends before the process does");

    let begun = Instant::now();
    let second = Dev::start(&scratch, &["--data-dir", &directory]);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(second.superuser_url(), url);
    assert_eq!(ask(&url, "SELECT note AS cell FROM noted"), "kept");
    assert_eq!(second.end(Signal::TERM), Some(0));
}

#[test]
fn a_killed_process_takes_its_server_along_where_the_system_can() {
    let scratch = Scratch::new("killed");
    let directory = scratch.join("data");
    let dev = Dev::start(&scratch, &["--data-dir", &directory]);
    let pid = server_pid(&scratch.path().join("data/postgres/data")).unwrap();
    dev.end(Signal::KILL);
    until_gone(pid);
}

#[test]
fn a_server_that_was_left_behind_is_ended_by_the_next_start() {
    let scratch = Scratch::new("left");
    let directory = scratch.join("data");
    // Without setpriv nobody tells the server that we are gone.
    let start = || {
        let mut command = identityd(&["dev", "--port", "0", "--data-dir", &directory]);
        command
            .env("PATH", scratch.path())
            .envs(std::env::var("TEST_PG_BIN").map(|bin| ("IDENTITYD_PG_BIN", bin)));
        Dev::run(&scratch, command)
    };
    let first = start();
    let url = first.superuser_url();
    sql(&url, "CREATE TABLE noted (note text); INSERT INTO noted VALUES ('kept')");
    let left = server_pid(&scratch.path().join("data/postgres/data")).unwrap();
    first.end(Signal::KILL);
    assert!(is_alive(left), "this test is about a server that stays");

    let second = start();
    assert!(!is_alive(left));
    assert_ne!(server_pid(&scratch.path().join("data/postgres/data")), Some(left));
    assert_eq!(second.superuser_url(), url);
    assert_eq!(ask(&url, "SELECT note AS cell FROM noted"), "kept");
    assert_eq!(second.end(Signal::TERM), Some(0));
}

#[test]
fn a_directory_has_one_process_at_a_time() {
    let scratch = Scratch::new("busy");
    let directory = scratch.join("data");
    let dev = Dev::start(&scratch, &["--data-dir", &directory]);
    for arguments in [&["--data-dir", &directory][..], &["--data-dir", &directory, "--reset", "--yes"]] {
        let second = refused(arguments, &[]);
        assert!(second.code == 1 && second.err.contains("in use by another `identityd dev`"), "{second:?}");
    }
    assert_eq!(ask(dev.text("databaseUrl"), "SELECT 'unharmed' AS cell"), "unharmed");
    assert_eq!(dev.end(Signal::INT), Some(0));
}

#[test]
fn nothing_is_left_of_an_ephemeral_one() {
    let scratch = Scratch::new("ephemeral");
    let dev = Dev::start(&scratch, &["--ephemeral"]);
    assert_eq!(ask(&dev.superuser_url(), "SELECT current_setting('fsync') AS cell"), "off");
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 1);
    assert_eq!(dev.end(Signal::TERM), Some(0));
    assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
}

#[test]
fn a_reset_begins_anew_and_asks_first() {
    let scratch = Scratch::new("reset");
    let directory = scratch.join("data");
    let dev = Dev::start(&scratch, &["--data-dir", &directory]);
    sql(&dev.superuser_url(), "CREATE TABLE noted (note text)");
    assert_eq!(dev.end(Signal::TERM), Some(0));
    let unasked = refused(&["--data-dir", &directory, "--reset"], &[]);
    assert!(unasked.code == 2 && unasked.err.contains("add --yes"), "{unasked:?}");

    let anew = Dev::start(&scratch, &["--data-dir", &directory, "--reset", "--yes"]);
    let there = "SELECT coalesce(to_regclass('noted')::text, 'gone') AS cell";
    assert_eq!(ask(&anew.superuser_url(), there), "gone");
    assert_eq!(anew.end(Signal::TERM), Some(0));
}

#[test]
fn nothing_is_made_where_it_does_not_run() {
    let scratch = Scratch::new("refused");
    let directory = scratch.join("data");
    let seed = scratch.file("seed.yaml", "orgs:\n  - {slug: acme, name: Acme}\n");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = format!("http.listen={}", taken.local_addr().unwrap());
    let url = "postgres://identityd_app@db.example/identityd";
    for (arguments, variables, said) in [
        (&[][..], &[("KUBERNETES_SERVICE_HOST", "10.0.0.1")][..], "this is a pod"),
        (
            &[],
            &[("IDENTITYD_DATABASE__URL", url)],
            "database.url (environment variable IDENTITYD_DATABASE__URL) is not",
        ),
        (&["--set", "http.public_url=https://id.example"], &[], "http.public_url (flag --set"),
        (&["--set", "environment=production"], &[], "is production"),
        (&["--set", "http.concurrency_max=0"], &[], "http.concurrency_max: at least 1"),
        (&["--seed", &seed], &[], "orgs[0]: nobody in people is owner of acme"),
    ] {
        let outcome = refused(&[arguments, &["--data-dir", &directory]].concat(), variables);
        assert!(outcome.code == 1 && outcome.err.contains(said), "{outcome:?}");
        assert!(!Path::new(&directory).exists(), "{said}");
    }
    let outcome: Outcome =
        identityd(&["dev", "--set", &taken, "--data-dir", &directory]).output().unwrap().into();
    assert!(
        outcome.code == 1 && outcome.err.contains("is not free (http.listen; choose another"),
        "{outcome:?}"
    );
    assert!(!Path::new(&directory).exists());

    let foreign = refused(&["--data-dir", scratch.path().to_str().unwrap()], &[]);
    assert!(foreign.code == 2 && foreign.err.contains("which is not of `identityd dev`"), "{foreign:?}");
}

#[test]
fn what_stops_the_server_from_starting_is_told() {
    let scratch = Scratch::new("broken");
    let missing = refused(&["--ephemeral"], &[("IDENTITYD_PG_BIN", "/nowhere"), ("TMPDIR", "/tmp")]);
    assert!(missing.code == 1 && missing.err.contains("IDENTITYD_PG_BIN is /nowhere"), "{missing:?}");

    let directory = scratch.path().join("postgres");
    drop(Postgres::start(&directory, Data::ThrownAway).unwrap());
    fs::write(directory.join("data/PG_VERSION"), "9\n").unwrap();
    let error = Postgres::start(&directory, Data::ThrownAway).err().unwrap();
    assert!(matches!(&error, PostgresError::Ended { log, .. } if log.contains("incompatible")), "{error}");
    postgres::erase(&directory).unwrap();
    drop(Postgres::start(&directory, Data::ThrownAway).unwrap());
}
