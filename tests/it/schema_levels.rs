//! The rule for a schema and the releases beside it: a migration only expands, so a release works on its own level and on
//! the next one's, and refuses what is behind it.
use crate::{
    cli_support::{Outcome, ask, sql},
    crash::Scene,
    postgres_support::{Caller, Callers, KINDS},
    process::{agent, beside, serve},
};
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use identityd::platform::keys::sha256;
use serde_json::json;
use std::{collections::BTreeSet, fs, path::Path, time::Instant};

/// Was before the first release.
const BASELINE: &str = "2026-11-24-000000_start";
/// Migrations that take something away which the release before them does not use any more: folder, and the beginning
/// of the statement. Each goes with the squash that follows; the list only shrinks otherwise.
const CONTRACTS: &[(&str, &str)] = &[];

/// What landed is not edited any more: a database that had it before would pass for current and lack what was added.
/// SHA-256 of up.sql and down.sql, in base64. A new migration has its row by the time the next one comes.
const LANDED: &[(&str, &str)] = &[
    (BASELINE, "KSCiEugFN6Ygnj4mhatEloOSi1yPjzoWnOegtqiOh6o"),
    ("2026-11-25-060000_wrapped_keys", "tL8fON0zYjjMWf62j9MpZSyea73VIpJ2Tl7QnA+8meI"),
    ("2026-11-25-070000_relay", "qhwoBMm/VcXGD+9yKBGkwHfvsK6JCPu2CVPaiKzLvoU"),
    ("2026-11-25-080000_first_seq", "P+ljyj7RalXRN2IvI3xup0cIcXPSRaOGR055lD31J1k"),
];

/// What the next release could add, one statement a transaction: a column to each table there is, a table of its own, an
/// index.
fn expand(scene: &Scene) {
    let tables = "SELECT string_agg(oid::regclass::text, ' ' ORDER BY relname) AS cell FROM pg_class
        WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
          AND relname <> '__diesel_schema_migrations'";
    let add = |table: &str| format!("ALTER TABLE {table} ADD COLUMN of_next text NOT NULL DEFAULT 'x'");
    let columns: Vec<String> = ask(&scene.database.url(), tables).split(' ').map(add).collect();
    assert!(columns.len() > 20, "{columns:?}");
    let more = [
        "CREATE TABLE of_next (id uuid PRIMARY KEY)",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON of_next TO identityd_app",
        "CREATE INDEX CONCURRENTLY orgs_of_next ON orgs (of_next)",
        "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000')",
    ];
    for statement in columns.iter().map(String::as_str).chain(more) {
        // As `migrate up` does; one that finds no gap is run again.
        let url =
            format!("{}?options=-c%20role=identityd_owner%20-c%20lock_timeout=5s", scene.database.url());
        sql(&url, statement);
    }
}

#[test]
fn a_release_goes_on_beside_the_schema_of_the_next_and_starts_on_it() {
    let scene = Scene::new("levels");
    let running = scene.start_with(&[]);
    let caller = Caller::of(&scene, &running);
    let callers = Callers::start(&caller, "old", 3);
    callers.await_all(Instant::now());
    expand(&scene);
    callers.await_all(Instant::now());

    let started = scene.start_with(&[]);
    let note = "the database is of a newer release; this one goes on beside it";
    assert!(started.log().contains(note), "{}", started.log());
    for kind in KINDS {
        assert!(caller.at(&started).ask(&agent(), kind, "made by the one that was started").status < 300);
    }
    let (seen, made) = callers.stop();
    let refused: Vec<_> = seen.iter().filter(|seen| seen.status >= 400).map(|seen| &seen.code).collect();
    assert!(refused.is_empty(), "of {} were refused {refused:?}", seen.len());
    assert!(made.len() > 3, "{made:?}");
    scene.verify();
    for server in [&running, &started] {
        let log = server.log();
        assert!(!log.contains("\"WARN\"") && !log.contains("\"ERROR\""), "{log}");
    }
    // Operators' commands of this release too.
    assert_eq!(beside(&scene.place, &scene.database, &["user", "reset", "bob@example.io"]).0, 0);
    let (code, said) = beside(&scene.place, &scene.database, &["migrate", "status"]);
    assert!(code == 0 && said.ends_with("(of a newer release)"), "{said}");
}

#[test]
fn a_release_refuses_a_database_behind_it_and_says_what_to_run() {
    let scene = Scene::new("behind");
    let down = scene.database.migrate(&["down"]);
    assert_eq!(down.code, 0, "{down:?}");
    let said = "the database is 1 migration behind: run `identityd migrate up`";
    let outcome: Outcome = serve(&scene.place, &scene.database, &[]).output().unwrap().into();
    assert!(outcome.code == 1 && outcome.err.contains(said), "{outcome:?}");
    for command in [&["reconcile"][..], &["bootstrap"], &["user", "reset", "ada@example.io"], &["rotate"]] {
        let (code, told) = beside(&scene.place, &scene.database, command);
        assert!(code == 1 && told.contains(said), "{command:?}: {told}");
    }
    assert_eq!(scene.database.migrate(&["up"]).code, 0);
    let server = scene.start_with(&[]);
    assert_eq!(server.call("GET", "/readyz", None, &json!(null)).0, 200);
}

#[test]
fn a_migration_since_the_first_release_only_expands() {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).unwrap() {
        let path = entry.unwrap().path();
        let folder = path.file_name().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && folder.as_str() > BASELINE {
            for statement in narrowing(&read(&path)) {
                found.insert((folder.clone(), statement));
            }
        }
    }
    let excepted = |(folder, statement): &(String, String)| {
        CONTRACTS.iter().any(|(known, beginning)| known == folder && statement.starts_with(beginning))
    };
    let unknown: Vec<_> = found.iter().filter(|one| !excepted(one)).collect();
    assert!(
        unknown.is_empty(),
        "the release before would not go on beside these: expand now, contract one release later (docs/OPERATIONS.md, \
         Upgrading): {unknown:#?}"
    );
    let gone = CONTRACTS.iter().filter(|(folder, beginning)| {
        !found.iter().any(|(known, statement)| known == folder && statement.starts_with(beginning))
    });
    assert_eq!(gone.count(), 0, "an exception that nothing needs");
}

#[test]
fn a_migration_that_landed_is_not_edited() {
    for (folder, landed) in LANDED {
        let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/migrations")).join(folder);
        let text = |file: &str| fs::read(path.join(file)).unwrap();
        let now = STANDARD_NO_PAD.encode(sha256(&[&text("up.sql"), &text("down.sql")]));
        assert_eq!(&now, landed, "{folder}: write a migration of its own");
    }
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let folders =
        fs::read_dir(migrations).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    let mut names: Vec<String> =
        folders.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned()).collect();
    names.sort();
    names.pop();
    let held = |name: &String| LANDED.iter().any(|(folder, _)| folder == name);
    assert!(names.iter().all(held), "each but the newest is held: {names:?}");
}

fn read(folder: &Path) -> String {
    fs::read_to_string(folder.join("up.sql")).unwrap()
}

/// The statements of a migration that take something away from the release before it, or ask something new of it. What
/// stands in comments and texts does not count; what a `DO` block runs does.
fn narrowing(sql: &str) -> Vec<String> {
    let made: BTreeSet<String> = statements(sql).iter().filter_map(|one| made_table(one)).collect();
    let of_new = |statement: &String| {
        let words: Vec<&str> = statement.split_whitespace().collect();
        let table = match words.as_slice() {
            ["alter", "table", "only", table, ..] | ["alter", "table", table, ..] => table,
            ["create", "unique", "index", rest @ ..] => {
                rest.iter().skip_while(|word| **word != "on").nth(1).unwrap_or(&"")
            }
            _ => return false,
        };
        made.contains(table.split('(').next().unwrap_or(table))
    };
    statements(sql).into_iter().filter(|one| is_narrowing(one) && !of_new(one)).collect()
}

fn is_narrowing(statement: &str) -> bool {
    let has = |words: &str| format!(" {statement} ").contains(&format!(" {words} "));
    let begins = |words: &str| statement.starts_with(words);
    let adds_column = has("add column") || (begins("alter table") && has("add") && !has("add constraint"));
    has("drop") && !has("drop not null")
        || has("rename")
        || begins("truncate")
        || begins("delete")
        || begins("revoke")
        || has("restrictive")
        || begins("alter table")
            && (has("type")
                || has("set not null")
                || has("add constraint")
                || has("add unique")
                || has("add check"))
        || adds_column && has("not null") && !has("default") && !has("generated")
        || begins("create unique index")
        || begins("create constraint trigger")
}

fn made_table(statement: &str) -> Option<String> {
    let rest = statement.strip_prefix("create table ")?;
    let rest = rest.strip_prefix("if not exists ").unwrap_or(rest);
    Some(rest.split([' ', '(']).next()?.to_owned())
}

/// In lower case, with single spaces, without comments and texts.
fn statements(sql: &str) -> Vec<String> {
    let mut plain = String::new();
    let mut rest = sql;
    while let Some(first) = rest.chars().next() {
        let cut = if rest.starts_with("--") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if first == '\'' {
            plain.push_str("''");
            rest[1..].find('\'').map_or(rest.len(), |end| end + 2)
        } else {
            // Brackets and `$$` are words of their own, so that what a block runs is seen.
            match first {
                '(' | ')' | ',' | '$' => plain.extend([' ', first, ' ']),
                _ => plain.push(first),
            }
            first.len_utf8()
        };
        rest = &rest[cut..];
    }
    let one = |text: &str| text.to_lowercase().split_whitespace().collect::<Vec<_>>().join(" ");
    plain.split(';').map(one).filter(|text| !text.is_empty()).collect()
}

#[test]
fn what_narrows_a_schema_is_told_from_what_expands_it() {
    for expands in [
        "CREATE TABLE a (b text NOT NULL); ALTER TABLE a ADD CONSTRAINT c CHECK (b <> ''); CREATE UNIQUE INDEX i ON a (b)",
        "ALTER TABLE orgs ADD COLUMN colour text",
        "ALTER TABLE orgs ADD COLUMN colour text NOT NULL DEFAULT 'red'",
        "ALTER TABLE orgs ALTER name DROP NOT NULL",
        "COMMENT ON COLUMN orgs.name IS 'do not drop; rename'; -- DROP TABLE orgs\nSELECT 1",
        "CREATE INDEX CONCURRENTLY i ON orgs (name)",
        "GRANT SELECT ON orgs TO identityd_app",
    ] {
        assert!(narrowing(expands).is_empty(), "{expands}: {:?}", narrowing(expands));
    }
    for narrows in [
        "DROP TABLE orgs",
        "ALTER TABLE orgs DROP COLUMN name",
        "ALTER TABLE orgs DROP name",
        "ALTER TABLE orgs RENAME COLUMN name TO title",
        "ALTER TABLE orgs ALTER COLUMN name TYPE varchar(20)",
        "ALTER TABLE orgs ALTER name SET NOT NULL",
        "ALTER TABLE orgs ADD COLUMN colour text NOT NULL",
        "ALTER TABLE orgs ADD colour text NOT NULL",
        "alter table orgs\n  add constraint c check (name <> '')",
        "CREATE UNIQUE INDEX i ON orgs (name)",
        "REVOKE SELECT ON orgs FROM identityd_app",
        "DO $$ BEGIN ALTER TABLE orgs DROP COLUMN name; END $$",
        "DELETE FROM orgs",
    ] {
        assert!(!narrowing(narrows).is_empty(), "{narrows}");
    }
}
