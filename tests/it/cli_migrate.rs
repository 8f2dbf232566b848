//! `identityd migrate`, on databases of its own.
use crate::cli_support::{Scratch, ScratchDatabase, ask, identityd, level_of, sql};
use identityd::platform::{
    migrations::Level,
    postgres::{Data, Postgres},
};
use std::{fs, process::Stdio};

const CATALOGUE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations/catalogue.snap");

fn migrated(purpose: &str) -> ScratchDatabase {
    let database = ScratchDatabase::new(purpose);
    let up = database.migrate(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    database
}

/// The folders, in order: what a first `up` prints.
fn names() -> Vec<String> {
    let entries = fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap();
    let folders = entries.map(Result::unwrap).filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = folders.map(|entry| entry.file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn an_empty_database_comes_to_this_release_and_stays_there() {
    let database = ScratchDatabase::new("up");
    let before = database.migrate(&["status"]);
    assert!(before.code == 0 && before.out.lines().all(|line| line.starts_with("pending  ")), "{before:?}");
    let pending = database.migrate(&["check"]);
    assert!(
        pending.code == 6 && pending.out.starts_with(&format!("migration {} is not", names()[0])),
        "{pending:?}"
    );

    let first = database.migrate(&["up"]);
    assert_eq!((first.code, first.out.lines().map(str::to_owned).collect()), (0, names()));
    let second = database.migrate(&["up"]);
    assert_eq!((second.code, second.out.as_str()), (0, ""));
    assert_eq!(second.err, "nothing to run: every migration is applied\n");

    let after = database.migrate(&["status"]);
    assert!(after.out.lines().all(|line| line.starts_with("applied  ")), "{after:?}");
    let clean = database.migrate(&["check"]);
    assert_eq!((clean.code, clean.out.as_str()), (0, ""), "{}", clean.err);
}

#[test]
fn what_was_changed_by_hand_is_found() {
    let database = migrated("drift");
    database.sql(
        "DROP INDEX jobs_due; ALTER TABLE orgs DISABLE ROW LEVEL SECURITY; \
         ALTER POLICY org ON api_keys USING (true); ALTER TABLE jobs ALTER kind DROP NOT NULL; \
         ALTER TABLE sessions ADD colour text; GRANT SELECT ON passwords TO PUBLIC; \
         ALTER TABLE passwords DISABLE TRIGGER audit_guard; \
         CREATE OR REPLACE FUNCTION require_audit() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
         ALTER TABLE leases DROP CONSTRAINT leases_pkey; CREATE TABLE diary (day date)",
    );
    let checked = database.migrate(&["check"]);
    let found: Vec<&str> = checked.out.lines().map(|line| line.split_once("; ").unwrap().0).collect();
    assert_eq!(
        found,
        [
            "api_keys policy org differs",
            "function require_audit() differs",
            "jobs column kind differs",
            "jobs index jobs_due is missing",
            "leases constraint leases_pkey is missing",
            "orgs relation differs",
            "passwords trigger audit_guard differs",
            "diary column day is of no migration",
            "diary relation is of no migration",
            "passwords grant to PUBLIC is of no migration",
            "sessions column colour is of no migration",
        ],
        "{}",
        checked.out
    );
    assert_eq!((checked.code, checked.err.lines().count()), (6, 1));
}

#[test]
fn months_of_the_audit_log_are_no_difference() {
    let database = migrated("months");
    database.sql(
        "CREATE TABLE audit_log_2001_01 PARTITION OF audit_log FOR VALUES FROM ('2001-01-01') TO ('2001-02-01')",
    );
    assert_eq!(database.migrate(&["check"]).code, 0);
}

#[test]
fn down_goes_back_and_up_comes_again() {
    let database = migrated("down");
    let count = names().len();
    let last = database.migrate(&["down"]);
    assert_eq!((last.code, last.out), (0, format!("{}\n", names()[count - 1])));
    let all = database.migrate(&["down", "100"]);
    assert_eq!((all.code, all.out.lines().count()), (0, count - 1));
    let none = database.migrate(&["down"]);
    assert_eq!((none.code, none.err.as_str()), (0, "nothing to revert: no migration is applied\n"));
    let left = "SELECT count(*)::text AS cell FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind <> 'i'";
    assert_eq!(ask(&database.url(), left), "1", "only Diesel's own table is left");

    assert_eq!(database.migrate(&["up"]).out.lines().count(), count);
    assert_eq!(database.migrate(&["check"]).code, 0);
}

#[test]
fn a_newer_release_is_recognised() {
    let database = migrated("newer");
    database.sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')");
    let status = database.migrate(&["status"]);
    assert!(status.out.ends_with("applied  99990101000000  (of a newer release)\n"), "{status:?}");
    let checked = database.migrate(&["check"]);
    let said = "migration 99990101000000 was applied by a newer release\n";
    assert_eq!((checked.code, checked.out.as_str()), (6, said));
    assert_eq!(database.migrate(&["up"]).code, 0);
    let down = database.migrate(&["down"]);
    assert!(down.code == 1 && down.err.contains("revert it with that release"), "{down:?}");
}

#[test]
fn the_service_may_look_but_not_change() {
    let database = migrated("service");
    let url = database.service_url();
    for (command, key, code) in [
        ("status", "IDENTITYD_DATABASE__URL", 0),
        ("check", "IDENTITYD_DATABASE__URL", 0),
        ("up", "IDENTITYD_DATABASE__URL", 1),
        ("up", "IDENTITYD_DATABASE__MIGRATE_URL", 1),
        ("down", "IDENTITYD_DATABASE__MIGRATE_URL", 1),
    ] {
        let output = identityd(&["migrate", command]).env(key, &url).output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{command} by {key}: {output:?}");
    }
    assert_eq!(database.migrate(&["check"]).code, 0, "nothing was changed by trying");
}

#[test]
fn two_at_once_share_the_work() {
    let scratch = Scratch::new("cluster");
    let directory = scratch.path().join("postgres");
    let server = Postgres::start(&directory, Data::ThrownAway).unwrap();
    let url = server.url("postgres", "");
    let (one, other) = (
        ScratchDatabase::on(url.trim_end_matches('/'), "one"),
        ScratchDatabase::on(url.trim_end_matches('/'), "other"),
    );
    // The cluster is new, so that they also race for the roles, and across databases.
    let start = |database: &ScratchDatabase| {
        let mut command = database.migration(&["up"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = [&one, &other, &one, &other].map(start).into();
    let outputs: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    for output in &outputs {
        assert!(output.status.success(), "{output:?}");
    }
    let lines: usize =
        outputs.iter().map(|output| String::from_utf8_lossy(&output.stdout).lines().count()).sum();
    assert_eq!(lines, 2 * names().len(), "each ran once in each database");
    assert_eq!((one.migrate(&["check"]).code, other.migrate(&["check"]).code), (0, 0));
}

#[test]
fn roles_are_made_only_by_whom_may() {
    let scratch = Scratch::new("roles");
    let server = Postgres::start(&scratch.path().join("postgres"), Data::ThrownAway).unwrap();
    let url = server.url("postgres", "postgres");
    sql(&url, "CREATE ROLE clerk LOGIN");
    sql(&url, "CREATE ROLE maker LOGIN CREATEROLE");
    sql(&url, "CREATE DATABASE records OWNER maker");
    let up = |user: &str| {
        let url = server.url(user, "records");
        let output =
            identityd(&["migrate", "up"]).env("IDENTITYD_DATABASE__MIGRATE_URL", url).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, told) = up("clerk");
    assert!(
        code == Some(1) && told.contains("clerk may not make them: run what `identityd migrate roles`"),
        "{told}"
    );
    assert_eq!(
        up("maker").0,
        Some(0),
        "with CREATEROLE, and as the owner of the database, nobody else is needed"
    );
    let (code, told) = up("clerk");
    assert!(code == Some(1) && told.contains("GRANT identityd_owner TO \"clerk\""), "{told}");

    let printed = identityd(&["migrate", "roles"]).output().unwrap();
    sql(&url, &String::from_utf8(printed.stdout).unwrap());
}

#[test]
fn the_service_knows_how_far_the_database_is() {
    let database = migrated("level");
    let level = || level_of(&database.service_url());
    assert_eq!(level(), Level::Current);
    database.sql("INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')");
    assert_eq!(level(), Level::Ahead);
    database.sql("DELETE FROM __diesel_schema_migrations WHERE version < '99990101000000'");
    assert_eq!(level(), Level::Behind(names().len()));
    database.sql("DELETE FROM __diesel_schema_migrations");
    assert_eq!(level(), Level::Empty);
    database.sql("DROP TABLE __diesel_schema_migrations");
    assert_eq!(level(), Level::Empty);
}

/// `IDENTITYD_REGENERATE=1` writes it anew.
#[test]
fn generated_catalogue_is_what_the_migrations_make() {
    let database = migrated("catalogue");
    let catalogue = database.migrate(&["catalogue"]).out;
    if std::env::var_os("IDENTITYD_REGENERATE").is_some() {
        fs::write(CATALOGUE, catalogue).unwrap();
        return;
    }
    let committed = fs::read_to_string(CATALOGUE).unwrap();
    assert!(
        catalogue == committed,
        "run `./dev regenerate`, and read the difference in migrations/catalogue.snap"
    );
}
