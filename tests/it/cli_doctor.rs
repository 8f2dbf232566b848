//! `identityd doctor`: on servers that are well, and with one thing wrong at a time.
use crate::{
    app::server,
    cli_support::{Scratch, ScratchDatabase, connection, identityd, sql},
    doctor_support::{Installation, NAMES},
    kafka_support::topic_name,
    process::{Served, until},
    redis_support::OwnRedis,
    support::PATIENCE,
    vault_support::{Bao, SERVICE},
};
use chrono::{TimeDelta, Utc};
use identityd::platform::{
    clock::Clock,
    db,
    postgres::{Data, Postgres},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpListener,
    thread,
    time::{Duration, Instant},
};
use tokio::runtime::Runtime;

/// For one check, as docs/OPERATIONS.md says; together a group of them takes no more once nobody answers.
const CHECK_MAX: Duration = Duration::from_secs(10);

fn status<'f>(found: &'f BTreeMap<String, (String, String)>, name: &str) -> (&'f str, &'f str) {
    found.get(name).map_or(("ok", ""), |(status, text)| (status.as_str(), text.as_str()))
}

#[test]
fn what_is_well_is_said_to_be_so_and_what_was_not_looked_at_too() {
    let bao = Bao::shared();
    let installation = Installation::new(&bao, "well");
    let (code, found) = installation.doctor(&[]);
    let seen: Vec<(&str, &str)> =
        found.iter().map(|(name, (status, _))| (name.as_str(), status.as_str())).collect();
    let expected = [("kafka.settings", "skipped"), ("public_url", "warning"), ("vault.key", "skipped")];
    assert_eq!((code, seen), (0, expected.to_vec()), "{found:?}");
    assert!(status(&found, "public_url").1.contains("it cannot be reached from here"), "{found:?}");

    // What the documented policy of the service may look at, it looks at.
    installation.vault.permit_reading(SERVICE);
    let (code, out, err) = installation.run(&["doctor"], &[]);
    assert_eq!((code, err.as_str()), (0, "17 ok, 1 warning, 0 failed, 1 skipped\n"), "{out}");
    for line in [
        "ok       vault.key             identityd is aes256-gcm96, version 1, unwraps from version 1 on\n",
        "ok       kafka.topic           it.well.",
        "ok       database.schema       every migration is applied, and nothing was changed since\n",
        "warning  public_url            https://localhost:1/: it cannot be reached from here\n         why: ",
    ] {
        assert!(out.contains(line), "{line}\n{out}");
    }
}

#[test]
fn the_public_url_is_asked_whether_it_leads_to_us() {
    let bao = Bao::shared();
    let installation = Installation::new(&bao, "url");
    let (url, answering) = answering(&["{\"status\":\"ok\"}", "<html>"], "");
    let there = format!("http.public_url={url}");
    let development = ["environment=development", &there];
    assert_eq!(status(&installation.doctor(&development).1, "public_url").0, "ok");
    let (code, found) = installation.doctor(&development);
    let other = status(&found, "public_url");
    assert!(code == 0 && other.0 == "warning" && other.1.contains("not as an identityd does"), "{found:?}");
    answering.join().unwrap();
    let (_, found) = installation.doctor(&["http.public_url=https://nowhere.invalid"]);
    assert!(status(&found, "public_url").1.ends_with("its name has no address here"), "{found:?}");
    installation.fails(
        &["http.public_url=http://localhost:1"],
        &[("configuration", "http.public_url: https://"), ("public_url", "https:// is needed in production")],
    );
}

#[test]
fn a_mistake_in_the_configuration_does_not_stop_the_other_checks() {
    let bao = Bao::shared();
    let installation = Installation::new(&bao, "mistake");
    installation.fails(
        &["http.concurrency_max=0", "mail.url=smtp://127.0.0.1:1"],
        &[("configuration", "http.concurrency_max: at least 1"), ("mail", "")],
    );
    installation.fails(&["http.no=1"], &[("configuration", "http.no: there is no such key")]);
    let (code, out, _) = installation.run(&["doctor", "--config", "/nowhere"], &[]);
    assert_eq!(
        (code, out.matches("the configuration cannot be read").count()),
        (9, NAMES.len() - 1),
        "{out}"
    );
}

#[test]
fn a_database_that_is_behind_changed_or_open_is_found() {
    let bao = Bao::shared();
    let installation = Installation::new(&bao, "changed");
    let database = &installation.database;
    database.sql("ALTER TABLE orgs DISABLE ROW LEVEL SECURITY");
    installation.fails(&[], &[("database.row_security", "orgs relation differs")]);
    database.sql("ALTER TABLE orgs ENABLE ROW LEVEL SECURITY; ALTER POLICY org ON api_keys USING (true)");
    installation.fails(&[], &[("database.row_security", "api_keys policy org differs")]);
    database.sql("CREATE POLICY open ON sessions USING (true); DROP INDEX jobs_due");
    installation.fails(
        &[],
        &[
            ("database.row_security", "sessions policy open is of no migration"),
            ("database.schema", "jobs index jobs_due is missing"),
        ],
    );
    database.sql(
        "DELETE FROM __diesel_schema_migrations
           WHERE version = (SELECT max(version) FROM __diesel_schema_migrations)",
    );
    installation.fails(
        &[],
        &[
            ("database.row_security", "api_keys policy org differs"),
            ("database.schema", "the database is 1 migration behind"),
        ],
    );
    let empty = ScratchDatabase::new("doctor_empty");
    let (code, found) = installation.doctor(&[&format!("database.url={}", empty.service_url())]);
    assert_eq!((code, status(&found, "database.schema")), (9, ("failed", "the database is empty")));
    assert_eq!(status(&found, "database.row_security"), ("skipped", "see database.schema"));
    assert_eq!(status(&found, "database.role").0, "ok", "{found:?}");
}

#[test]
fn a_database_of_a_newer_release_is_no_failure() {
    let bao = Bao::shared();
    let installation = Installation::new(&bao, "newer");
    installation.database.sql(
        "INSERT INTO __diesel_schema_migrations (version) VALUES ('99990101000000'); CREATE TABLE next (id uuid)",
    );
    let (code, found) = installation.doctor(&[]);
    assert_eq!((code, status(&found, "database.schema").0), (0, "warning"), "{found:?}");
}

#[test]
fn a_role_for_which_row_level_security_does_not_hold_is_found() {
    let bao = Bao::shared();
    let installation = Installation::new(&bao, "role");
    let (database, role) = (&installation.database, format!("doctor_{}", std::process::id()));
    database.sql(&format!("CREATE ROLE {role} LOGIN BYPASSRLS"));
    let url = database.url().replace("://postgres@", &format!("://{role}@"));
    // The keys are the service's own to read.
    installation.fails(
        &[&format!("database.url={url}")],
        &[
            ("database.role", "which bypasses row-level security"),
            ("database.schema", "permission denied"),
            ("keys", "permission denied"),
        ],
    );
    database.sql(&format!("DROP ROLE {role}"));
    installation
        .fails(&[&format!("database.url={}", database.url())], &[("database.role", "which is a superuser")]);
}

#[test]
fn a_service_that_may_become_more_than_it_should_is_found() {
    let (bao, place) = (Bao::shared(), Scratch::new("doctor_roles"));
    let postgres = Postgres::start(&place.path().join("postgres"), Data::ThrownAway).unwrap();
    let url = postgres.url("postgres", "postgres");
    let up = identityd(&["migrate", "up"]).env("IDENTITYD_DATABASE__MIGRATE_URL", &url).output().unwrap();
    assert!(up.status.success(), "{up:?}");
    let installation = Installation::new(&bao, "roles");
    let service = format!("database.url={}", postgres.url("identityd_app", "postgres"));
    let keys = ("keys", "the database has no wrapped keys");
    installation.fails(&[&service], &[keys]);
    sql(&url, "GRANT pg_read_all_data TO identityd_app");
    installation.fails(&[&service], &[("database.roles", "role identityd_app differs"), keys]);
}

#[tokio::test]
async fn a_redis_that_refuses_or_forgets_is_found() {
    let redis = OwnRedis::with(&["--requirepass", "hunter2", "--maxmemory", "64mb"]).await;
    let url = redis.url();
    let right = url.replace("redis://", "redis://:hunter2@");
    redis.ask("AUTH hunter2\r\nCONFIG SET maxmemory-policy allkeys-lru").await;
    tokio::task::spawn_blocking(move || {
        let bao = Bao::shared();
        let installation = Installation::new(&bao, "redis");
        let wrong = url.replace("redis://", "redis://:hunter3@");
        installation.fails(&[&wrong], &[("redis", "Redis refuses the password")]);
        installation.fails(&[&url], &[("redis", "Redis ")]);
        let (code, found) = installation.doctor(&[&right]);
        let memory = status(&found, "redis.memory");
        assert_eq!((code, status(&found, "redis").0, memory.0), (0, "ok", "warning"), "{found:?}");
        assert!(memory.1.starts_with("maxmemory-policy is allkeys-lru"), "{found:?}");
    })
    .await
    .unwrap();
}

#[test]
fn a_topic_that_is_missing_is_found_and_a_process_says_so_from_its_start() {
    let bao = Bao::shared();
    let installation = Installation::new(&bao, "topic");
    let missing = topic_name("none");
    let setting = format!("kafka.audit_topic={missing}");
    installation.fails(&[&setting], &[("kafka.topic", &format!("there is no topic {missing}"))]);
    installation.fails(
        &[&format!("kafka.password_file={}", installation.place.file("wrong", "hunter2"))],
        &[("kafka", "the brokers refuse kafka.username with kafka.password")],
    );

    let brokers = format!("kafka.brokers={:?}", [server("TEST_KAFKA_BROKER")]);
    let more = [brokers.as_str(), "kafka.security=plaintext", &setting];
    let served = Served::start(&installation.place, &installation.database, &more);
    let detail = format!(
        "there is no topic {missing}, or kafka.username may not see it: make it as docs/OPERATIONS.md says"
    );
    let told = json!({ "status": "failing", "required": false, "detail": detail });
    until(&(200, told), || {
        let (status, body) = served.call("GET", "/readyz", None, &Value::Null);
        (status, body["dependencies"]["kafka"].clone())
    });
    let log = served.log();
    assert!(log.lines().any(|line| line.contains("WARN") && line.contains(&detail)), "{log}");
}

#[test]
fn a_mail_server_that_is_gone_or_of_another_kind_is_found_and_gets_no_mail() {
    let bao = Bao::shared();
    let installation = Installation::new(&bao, "mail");
    installation.fails(&["mail.url=smtp://127.0.0.1:1"], &[("mail", "the mail server refuses")]);
    let secure = server("TEST_SMTP_URL").replace("smtp://", "smtps://");
    installation.fails(&[&format!("mail.url={secure}")], &[("mail", "the mail server refuses")]);
    let login = server("TEST_SMTP_URL").replace("smtp://", "smtp://nobody:hunter2@");
    installation.fails(&[&format!("mail.url={login}")], &[("mail", "the mail server refuses")]);
}

#[test]
fn a_vault_that_is_sealed_refuses_or_is_gone_is_found() {
    let bao = Bao::own();
    let installation = Installation::new(&bao, "vault");
    let refused = "Vault refuses the login (status 400)";
    installation.fails(&["vault.secret_id=hunter2"], &[("vault.login", refused)]);
    installation.vault.permit_reading(SERVICE);
    installation.fails(
        &["vault.key=other"],
        &[("vault.key", "Vault has nothing at"), ("keys", "is wrapped by another Transit key")],
    );
    installation.vault.rotate();
    installation.vault.forget_versions_below(2);
    installation.fails(&[], &[("keys", "key, version 1: Vault refuses what")]);
    bao.seal();
    installation.fails(&[], &[("vault", "Vault is sealed")]);
    bao.kill();
    installation.fails(&[], &[("vault", "Vault cannot be reached")]);
}

#[test]
fn a_key_that_cannot_unwrap_or_may_leave_vault_is_found() {
    let bao = Bao::own();
    let installation = Installation::new(&bao, "key");
    installation.vault.permit_reading(SERVICE);
    let path = |name: &str| format!("{}/keys/{name}", installation.vault.transit());
    installation.vault.root("POST", &path("identityd/config"), &json!({ "exportable": true }));
    let (code, found) = installation.doctor(&[]);
    assert_eq!((code, status(&found, "vault.key").0), (0, "warning"), "{found:?}");

    let transit = format!("{}-other", installation.vault.transit());
    bao.root("POST", &format!("sys/mounts/{transit}"), &json!({ "type": "transit" }));
    bao.root("POST", &format!("{transit}/keys/identityd"), &json!({ "type": "ed25519" }));
    let policy = format!("path \"{transit}/keys/identityd\" {{ capabilities = [\"read\"] }}");
    let name = format!("sys/policies/acl/{}", installation.vault.policy(SERVICE));
    bao.root("POST", &name, &json!({ "policy": policy }));
    let (code, found) = installation.doctor(&[&format!("vault.transit_mount={transit}")]);
    let key = status(&found, "vault.key");
    assert_eq!((code, key), (9, ("failed", "identityd is ed25519, which cannot unwrap our keys")));
}

#[test]
fn clocks_that_are_apart_are_told() {
    let database = ScratchDatabase::new("doctor_clock");
    let measure = |by: TimeDelta| {
        let clock = Clock::manual(Utc::now() + by);
        Runtime::new()
            .unwrap()
            .block_on(async { db::clock_skew(&mut connection(&database.url()).await, &clock).await.unwrap() })
    };
    let minute = TimeDelta::minutes(1);
    // A clock that stands sees the way of the answer as the other's lead.
    let way = TimeDelta::from_std(PATIENCE).unwrap();
    let (ahead, behind) = (measure(-minute), measure(minute));
    assert!(ahead >= minute && ahead < minute + way, "{ahead}");
    assert!(behind > -minute - TimeDelta::seconds(1) && behind < way - minute, "{behind}");

    let bao = Bao::shared();
    let installation = Installation::new(&bao, "clock");
    let head = "date: Thu, 01 Jan 2015 00:00:00 GMT\r\n";
    let (url, _answering) = answering(&["{}", "{}"], head);
    let (_, found) = installation.doctor(&[&format!("vault.address={url}")]);
    let clock = status(&found, "vault.clock");
    assert!(clock.0 == "warning" && clock.1.ends_with(" s behind this machine's"), "{found:?}");
}

#[test]
fn servers_that_take_connections_and_say_nothing_are_given_up_together() {
    let bao = Bao::shared();
    let installation = Installation::new(&bao, "silent");
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let began = Instant::now();
    installation.fails(
        &[
            &format!("database.url=postgres://identityd_app:hunter2@{address}/identityd?sslmode=disable"),
            &format!("redis.url=redis://:hunter2@{address}"),
            &format!("kafka.brokers={:?}", [address.to_string()]),
            &format!("mail.url=smtp://me:hunter2@{address}"),
            &format!("vault.address=http://{address}"),
        ],
        &[
            ("database", "no answer within 10 s"),
            ("redis", "does not answer"),
            ("kafka", "do not answer in time"),
            ("mail", "no answer within 10 s"),
            ("vault", "does not answer in time"),
        ],
    );
    // The rest is for a machine under the load of a whole suite.
    assert!(began.elapsed() < CHECK_MAX * 2, "{:?}", began.elapsed());
}

/// Who says 200 to so many requests, with these bodies.
fn answering(bodies: &[&'static str], head: &'static str) -> (String, thread::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let bodies = bodies.to_vec();
    let answer = move || {
        for body in bodies {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 200 OK\r\n{head}content-length: {length}\r\nconnection: close\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).unwrap();
        }
    };
    (url, thread::spawn(answer))
}
