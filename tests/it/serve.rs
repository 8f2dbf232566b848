//! The service as a process, on real PostgreSQL and SMTP: the main job, two at once, leaving, and what it refuses.
use crate::{
    app::server,
    cli_support::{Scratch, ScratchDatabase, identityd, run},
    main_job_support::{Front, PASSWORD},
    process::{Served, agent, beside, call, migrated, serve, until},
};
use serde_json::{Value, json};
use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
};

/// `identityd serve` by itself.
fn alone<'f>(server: &Served, mails: &str, domain: &str) -> Front<'f> {
    Front::new(&server.url, mails, domain, || ())
}

/// The first administrator, from the token that `identityd bootstrap` prints.
fn bootstrapped(front: &Front<'_>, place: &Scratch, database: &ScratchDatabase) -> String {
    let (code, operator) = beside(place, database, &["bootstrap"]);
    assert_eq!(code, 0, "{operator}");
    front.first_administrator(&operator)
}

fn says_no_secret(server: &Served, front: &Front<'_>) {
    for (what, secret) in &*front.secrets.borrow() {
        assert!(!server.log().contains(secret.as_str()), "the log holds the {what} {secret}");
    }
}

/// With mails in a directory of the test's own.
fn started(purpose: &str) -> (Scratch, ScratchDatabase, Served, String) {
    let (place, database) = (Scratch::new(purpose), migrated(purpose));
    let server = Served::start(&place, &database, &[]);
    let admin = bootstrapped(&alone(&server, &place.join("mail"), "example.io"), &place, &database);
    (place, database, server, admin)
}

#[test]
fn the_main_job_on_serve_with_mail_over_smtp() {
    let (place, database) = (Scratch::new("job"), migrated("job"));
    let mail = format!("mail.url={}", server("TEST_SMTP_URL"));
    let served = Served::start(&place, &database, &[&mail]);
    let domain = format!("job{}.example", std::process::id());
    let front = alone(&served, &server("TEST_SMTP_DIR"), &domain);
    let admin = bootstrapped(&front, &place, &database);
    front.main_job(&admin);
    says_no_secret(&served, &front);
}

#[test]
fn the_main_job_on_dev() {
    let place = Scratch::new("dev");
    let (ready, mail) = (place.join("ready.json"), format!("mail.url=file:{}", place.join("mail")));
    let mut command = identityd(&["dev", "--ephemeral", "--port", "0", "--ready-file", &ready]);
    command
        .args(["--set", "telemetry.log=info", "--set", "telemetry.format=json", "--set", &mail])
        .current_dir(place.path());
    let mut served = Served::run(command);
    until(&true, || Path::new(&ready).exists());
    let ready: Value = serde_json::from_slice(&std::fs::read(&ready).unwrap()).unwrap();
    assert_eq!(ready["url"], served.url);
    let (email, password) = (ready["admin"]["email"].as_str().unwrap(), &ready["admin"]["password"]);
    let front = alone(&served, &place.join("mail"), "dev.example");
    let admin = front.sign_in(email, password.as_str().unwrap());
    front.main_job(&admin);
    says_no_secret(&served, &front);
    served.terminate();
    assert!(served.wait().success());
}

#[test]
fn dev_does_not_outlive_its_database() {
    let place = Scratch::new("dev-ended");
    let mut command = identityd(&["dev", "--ephemeral", "--port", "0"]);
    command.args(["--set", "telemetry.log=info", "--set", "telemetry.format=json"]).current_dir(place.path());
    let mut served = Served::run(command);
    for pid in served.children() {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
    }
    assert!(!served.wait().success());
    until(&true, || served.log().contains("the PostgreSQL server has ended"));
}

#[test]
fn two_on_one_database_agree() {
    let (place, database, one, admin) = started("two");
    let other = Served::start(&place, &database, &[]);
    assert_eq!(other.call("GET", "/v1/auth/userinfo", Some(&admin), &Value::Null).0, 200);
    let body = json!({ "display_name": "laptop", "scopes": ["models:read"] });
    let (status, key) = one.call("POST", "/organizations/me/api-keys", Some(&admin), &body);
    assert_eq!(status, 201, "{key}");
    let check = json!({ "apiKeySecret": key["secret"] });
    let status =
        |server: &Served| server.call("POST", "/v1/auth/validate-api-key", None, &check).1["status"].clone();
    until(&json!("active"), || status(&other));
    let path = format!("/organizations/me/api-keys/{}/revoke", key["apiKeyId"].as_str().unwrap());
    assert_eq!(one.call("POST", &path, Some(&admin), &Value::Null).0, 204);
    assert_eq!(status(&one), "revoked", "at once where it was done");
    until(&json!("revoked"), || status(&other));
    assert_eq!(other.call("POST", "/v1/auth/logout", Some(&admin), &Value::Null).0, 204);
    until(&401, || one.call("GET", "/v1/auth/userinfo", Some(&admin), &Value::Null).0);
}

#[test]
fn told_to_stop_under_load_it_fails_no_request() {
    let (place, database, first, admin) = started("stop");
    first.kill();
    let mut server = Served::start(&place, &database, &["http.drain_seconds=2"]);
    let (leaving, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..4)
        .map(|client| {
            let (url, admin) = (server.url.clone(), admin.clone());
            let (leaving, done) = (Arc::clone(&leaving), Arc::clone(&done));
            thread::spawn(move || {
                let agent = agent();
                let path = "/v1/orgs/first/service-accounts";
                for n in 0.. {
                    if leaving.load(Ordering::Relaxed) {
                        return;
                    }
                    let body = json!({ "name": format!("machine {client} {n}") });
                    let made = call(&agent, &url, "POST", path, Some(&admin), &body).unwrap();
                    assert_eq!(made.0, 201, "{made:?}");
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    until(&true, || done.load(Ordering::Relaxed) > 20);
    server.terminate();
    // As a load balancer does: it sends no more once it is told.
    until(&503, || server.call("GET", "/readyz", None, &Value::Null).0);
    // Whoever keeps a connection is told, and it is closed: reading comes to an end.
    let last = raw(&server, "GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n");
    assert!(last.starts_with("HTTP/1.1 200") && last.contains("\r\nconnection: close\r\n"), "{last}");
    leaving.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
    assert!(server.wait().success());
    assert!(server.log().contains("\"message\":\"stopped\""));
}

/// What is answered until the server closes the connection.
fn raw(server: &Served, request: &str) -> String {
    let mut socket = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    socket.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn head_is_answered_as_get_is_without_the_body() {
    let (_place, _database, server, _admin) = started("head");
    let ask = |method: &str, path: &str| {
        raw(&server, &format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"))
    };
    for (path, status) in [("/healthz", "200"), ("/v1/orgs", "401"), ("/nowhere", "404")] {
        let (got, head) = (ask("GET", path), ask("HEAD", path));
        let length =
            |answer: &str| answer.lines().find(|line| line.starts_with("content-length")).map(str::to_owned);
        assert!(head.starts_with(&format!("HTTP/1.1 {status}")), "{head}");
        assert!(head.ends_with("\r\n\r\n") && !got.ends_with("\r\n\r\n"), "{head}");
        assert_eq!(length(&head), length(&got));
    }
    let refused = ask("HEAD", "/v1/auth/login");
    assert!(refused.starts_with("HTTP/1.1 405") && refused.contains("\r\nallow: POST\r\n"), "{refused}");
}

#[test]
fn an_operator_helps_who_is_locked_out() {
    let (place, database, server, _) = started("reset");
    let (code, password) = beside(&place, &database, &["user", "reset", "ada@example.io"]);
    assert_eq!(code, 0, "{password}");
    let body = json!({ "email": "ada@example.io", "password": PASSWORD });
    until(&401, || server.call("POST", "/v1/auth/login", None, &body).0);
    alone(&server, "", "").sign_in("ada@example.io", &password);
    let (code, why) = beside(&place, &database, &["user", "reset", "nobody@example.io"]);
    assert_eq!((code, why.contains("nobody has the address")), (4, true), "{why}");
}

#[test]
fn the_other_modes_say_what_they_do() {
    let (place, database) = (Scratch::new("modes"), migrated("modes"));
    assert_eq!(
        beside(&place, &database, &["rotate"]),
        (0, "nothing is due: no key has a rotation schedule in this release".into())
    );
    assert_eq!(
        beside(&place, &database, &["export"]),
        (0, "nothing is queued: exports cannot be asked for in this release".into())
    );
}

/// Ends with this code and says this.
fn refused(mut command: Command, code: i32, words: &str) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.contains(words), "{said:?} does not say {words:?}");
}

#[test]
fn it_does_not_serve_as_a_role_for_which_row_level_security_would_not_hold() {
    let (place, database) = (Scratch::new("roles"), migrated("roles"));
    let name = format!("r{}", std::process::id());
    let made = [
        (format!("CREATE ROLE {name}_super LOGIN SUPERUSER"), format!("{name}_super"), "superuser"),
        (
            format!("CREATE ROLE {name}_bypass LOGIN BYPASSRLS"),
            format!("{name}_bypass"),
            "bypasses row-level security",
        ),
        (
            format!("CREATE ROLE {name}_heir LOGIN IN ROLE identityd_owner"),
            format!("{name}_heir"),
            "may become the owner",
        ),
    ];
    for (statement, role, words) in made {
        database.sql(&statement);
        let as_role =
            format!("database.url={}", database.url().replace("://postgres@", &format!("://{role}@")));
        let command = serve(&place, &database, &[&as_role]);
        refused(command, 1, words);
        database.sql(&format!("DROP ROLE {role}"));
    }
}

#[test]
fn without_a_database_or_with_another_it_says_so() {
    let place = Scratch::new("none");
    let missing = run(&["serve"]);
    assert_eq!(missing.code, 1);
    for key in ["database.url: needed", "mail.url: needed", "http.public_url", "vault.address: needed"] {
        assert!(missing.err.contains(key), "{}", missing.err);
    }
    let empty = ScratchDatabase::new("none");
    refused(serve(&place, &empty, &[]), 1, "run `identityd migrate up`");
    let away = serve(&place, &empty, &["database.url=postgres://identityd_app@127.0.0.1:1/none"]);
    refused(away, 1, "database.url: the database cannot be reached");
}
