//! `identityd config`, and the small commands that need no server.
use crate::cli_support::{Outcome, Scratch, identityd, run};
use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    process::Stdio,
    thread,
};

/// Enough for production.
const SOUND: &str = "[http]\npublic_url = \"https://id.example\"\n";

#[test]
fn a_sound_configuration_is_said_to_be_so() {
    let scratch = Scratch::new("sound");
    let file = scratch.file("identityd.toml", SOUND);
    let checked = run(&["config", "check", "--config", &file]);
    assert_eq!(checked, outcome(0, "", "the configuration can be used\n"));
    let named = identityd(&["config", "check"]).env("IDENTITYD_CONFIG", &file).output().unwrap();
    assert_eq!(Outcome::from(named), checked);
}

#[test]
fn every_mistake_is_named_with_key_and_origin() {
    let scratch = Scratch::new("mistakes");
    let text = "colour = \"red\"\n[http]\nlisten = \"everywhere\"\ncors.origins = [\"https://portal.example/\"]\n\
        [authentication]\nsession_hours = 0\nsession_idle_hours = \"long\"\n\
        [telemetry]\nlog = \"identityd=loud=\"\n[mail]\nfrom = \"nobody\"\n";
    let file = scratch.file("identityd.toml", text);
    let secret = scratch.file("mail-url", "smtp://:hunter2@\n");
    let output = identityd(&["config", "check", "--config", &file])
        .args([
            "--set",
            "database.url=postgres://app:hunter2@db:none/x",
            "--set",
            "redis.url=redis://:hunter2@[::",
        ])
        .args([
            "--set",
            "vault.secret_id_file=/nowhere",
            "--set",
            "http.concurrency_max=0",
            "--set",
            "keys.file=k",
        ])
        .args(["--set", "vault.address=https://vault", "--set", "vault.role_id=r"])
        .env("IDENTITYD_MAIL__URL_FILE", &secret)
        .env("IDENTITYD_HTTP__DRAIN_SECONDS", "soon")
        .env("IDENTITYD_DATABASE__MIGRATE_URL", "hunter2")
        .env("IDENTITYD_TELEMETRY__OTLP_ENDPOINT", "collector:4318")
        .output()
        .unwrap();
    let checked = Outcome::from(output);
    assert!(checked.code == 1 && checked.out.is_empty() && !checked.err.contains("hunter2"), "{checked:?}");
    let variable = |name: &str| format!("environment variable IDENTITYD_{name}");
    let flag = |key: &str| format!("flag --set {key}=…");
    for (key, words, origin) in [
        ("colour", "there is no such key", format!("{file}:1")),
        ("http.listen", "invalid socket address syntax", format!("{file}:3")),
        ("http.cors.origins", "expected origins", format!("{file}:4")),
        ("authentication.session_hours", "at least 1", format!("{file}:6")),
        ("authentication.session_idle_hours", "invalid type", format!("{file}:7")),
        ("telemetry.log", "not a filter", format!("{file}:9")),
        ("mail.from", "expected an address", format!("{file}:11")),
        ("mail.url", "expected smtp://", variable("MAIL__URL_FILE")),
        ("http.drain_seconds", "invalid type", variable("HTTP__DRAIN_SECONDS")),
        ("database.migrate_url", "not a PostgreSQL URL", variable("DATABASE__MIGRATE_URL")),
        ("telemetry.otlp_endpoint", "expected http://", variable("TELEMETRY__OTLP_ENDPOINT")),
        ("database.url", "not a PostgreSQL URL", flag("database.url")),
        ("redis.url", "not a Redis URL", flag("redis.url")),
        ("vault.secret_id_file", "the file cannot be read", flag("vault.secret_id_file")),
        ("http.concurrency_max", "at least 1", flag("http.concurrency_max")),
        ("keys.file", "a key file is for development", flag("keys.file")),
        ("http.public_url", "https:// is needed in production", "not set".to_owned()),
    ] {
        let line = checked.err.lines().find_map(|line| line.trim().strip_prefix(&format!("{key}: ")));
        let told =
            line.is_some_and(|line| line.starts_with(words) && line.ends_with(&format!(" ({origin})")));
        assert!(told, "{key}: {words} … ({origin})\n{}", checked.err);
    }
    assert_eq!(checked.err.lines().count(), 1 + 17, "each once, and nothing else: {}", checked.err);
}

#[test]
fn a_file_that_cannot_be_read_is_told_of_whom_named_it() {
    let typed = run(&["config", "check", "--config", "/nowhere"]);
    assert!(typed.code == 1 && typed.err.contains("/nowhere: the file cannot be read"), "{typed:?}");
    assert!(typed.err.ends_with(" (--config)\n"), "{typed:?}");
    let named = identityd(&["config", "check"]).env("IDENTITYD_CONFIG", "/nowhere").output().unwrap();
    let named = Outcome::from(named);
    assert!(named.err.ends_with(" (environment variable IDENTITYD_CONFIG)\n"), "{named:?}");
    let scratch = Scratch::new("syntax");
    let file = scratch.file("identityd.toml", "[http]\nworkers = 1\n[mail]\nurl = smtp://:hunter2@x\n");
    let broken = run(&["config", "check", "--config", &file]);
    assert!(broken.err.ends_with(&format!("{file}: this is no TOML ({file}:4)\n")), "{broken:?}");
    assert!(!broken.err.contains("hunter2"));
}

#[test]
fn in_production_redis_is_asked_over_tls_or_on_this_machine() {
    let scratch = Scratch::new("plain-redis");
    let file = scratch.file("identityd.toml", SOUND);
    for (url, fine) in [
        ("redis://:hunter2@redis.example:6379", false),
        ("redis://10.0.0.7", false),
        ("redis://127.0.0.1:6379", true),
        ("redis://localhost", true),
        ("rediss://redis.example", true),
    ] {
        let url = format!("redis.url={url}");
        let checked =
            run(&["config", "check", "--config", &file, "--set", "environment=production", "--set", &url]);
        let told = checked.err.contains("redis.url: rediss:// is needed in production");
        assert_eq!(told, !fine, "{url}: {}", checked.err);
    }
}

#[test]
fn settings_of_kafka_go_together_or_are_refused() {
    let scratch = Scratch::new("kafka");
    let file = scratch.file("identityd.toml", SOUND);
    let password = scratch.file("password", "hunter2\n");
    let password = format!("kafka.password_file={password}");
    let check = |settings: &[&str]| {
        let flags = settings.iter().flat_map(|setting| ["--set", setting]);
        run(&["config", "check", "--config", &file].into_iter().chain(flags).collect::<Vec<_>>())
    };
    let brokers = "kafka.brokers=[\"kafka-0.example:9093\"]";
    let whole = check(&[brokers, "kafka.username=u", &password, "kafka.ca_file=/etc/ca.pem"]);
    assert_eq!(whole.code, 0, "{whole:?}");
    assert_eq!(check(&["kafka.security=plaintext"]).code, 0, "without brokers nothing of it counts");
    for (settings, keys) in [
        ([brokers, ""].as_slice(), ["kafka.username", "kafka.password"].as_slice()),
        (&["kafka.brokers=[\"kafka-0.example\"]", "kafka.security=ssl"], &["kafka.brokers"]),
        (
            &[brokers, "kafka.security=plaintext", "kafka.ca_file=/etc/ca.pem"],
            &["kafka.security", "kafka.ca_file"],
        ),
        (&[brokers, "kafka.security=ssl", &password], &["kafka.password"]),
        (&[brokers, "kafka.security=ssl", "kafka.audit_topic="], &["kafka.audit_topic"]),
        (
            &[brokers, "kafka.security=ssl", "kafka.decisions_topic=audit.identity"],
            &["kafka.decisions_topic"],
        ),
    ] {
        let settings: Vec<&str> = settings.iter().copied().filter(|setting| !setting.is_empty()).collect();
        let refused = check(&settings);
        assert_eq!(refused.err.matches("\n  kafka.").count(), keys.len(), "{}", refused.err);
        for key in keys {
            assert!(refused.err.contains(&format!("\n  {key}: ")), "{key}: {}", refused.err);
        }
        assert!(!refused.err.contains("hunter2"));
    }
}

#[test]
fn an_unknown_key_is_refused_with_a_suggestion_wherever_it_stands() {
    let scratch = Scratch::new("unknown");
    let file = scratch.file("identityd.toml", "[databse]\nurl = \"hunter2\"\n");
    let typed = "there is no such key; did you mean database.connections_max?";
    let by_flag = run(&["config", "show", "--set", "database.conections_max=3"]);
    let flag = "flag --set database.conections_max=…";
    assert!(by_flag.err.contains(&format!("database.conections_max: {typed} ({flag})")), "{by_flag:?}");
    let by_variable =
        identityd(&["config", "show"]).env("IDENTITYD_DATABASE__CONECTIONS_MAX", "3").output().unwrap();
    let by_variable = Outcome::from(by_variable);
    let variable = "environment variable IDENTITYD_DATABASE__CONECTIONS_MAX";
    assert!(by_variable.err.contains(&format!("{typed} ({variable})")), "{by_variable:?}");
    let by_file = run(&["config", "show", "--config", &file]);
    assert!(
        by_file.err.contains("databse.url: there is no such key; did you mean database.url?")
            && by_file.err.contains(&format!("({file}:2)")),
        "{by_file:?}"
    );
    assert!(!by_file.err.contains("hunter2"));
    assert_eq!((by_flag.code, by_variable.code, by_file.code), (1, 1, 1));
}

#[test]
fn a_later_layer_wins_and_says_where_a_value_is_from() {
    let scratch = Scratch::new("layers");
    let file =
        scratch.file("identityd.toml", "[http]\ndrain_seconds = 1\nworkers = 1\nconcurrency_max = 1\n");
    let output = identityd(&["config", "show", "--config", &file, "--set", "http.concurrency_max=3"])
        .env("IDENTITYD_HTTP__CONCURRENCY_MAX", "2")
        .env("IDENTITYD_HTTP__WORKERS", "2")
        .output()
        .unwrap();
    let shown = Outcome::from(output).out;
    for line in [
        &format!("http.drain_seconds = 1  # {file}:2\n"),
        "http.workers = 2  # environment variable IDENTITYD_HTTP__WORKERS\n",
        "http.concurrency_max = 3  # flag --set http.concurrency_max=…\n",
        "http.request_timeout_seconds = 30  # default\n",
    ] {
        assert!(shown.contains(line), "{line}{shown}");
    }
}

#[test]
fn a_secret_is_masked_and_may_be_in_a_file() {
    let scratch = Scratch::new("secret");
    let secret = scratch.file("url", "postgres://identityd_app:hunter2@127.0.0.1:1/identityd\n");
    let shown = run(&["config", "show", "--set", "mail.url=smtp://me:hunter2@127.0.0.1"]);
    assert!(shown.out.contains("mail.url = \"***\"  # flag") && !shown.out.contains("hunter2"), "{shown:?}");

    let flag = format!("database.url_file={secret}");
    let shown = run(&["config", "show", "--set", &flag]);
    assert!(shown.out.contains(&format!("database.url_file = \"{secret}\"")), "{shown:?}");
    let used = run(&["migrate", "status", "--set", &flag]);
    assert!(used.code == 1 && used.err.contains("the database cannot be reached"), "{used:?}");
    assert!(!used.err.contains("hunter2"));

    let both = run(&["config", "check", "--set", &flag, "--set", "database.url=postgres://u:hunter2@h/d"]);
    assert!(both.err.contains("give either database.url or database.url_file, not both"), "{both:?}");
    assert!(both.code == 1 && !both.err.contains("hunter2"));
    assert!(both.err.contains("(flag --set database.url_file=…)"), "{both:?}");
    let gone = run(&["config", "check", "--set", "database.url_file=/nowhere"]);
    assert!(gone.code == 1 && gone.err.contains("database.url_file: the file cannot be read"), "{gone:?}");
}

#[test]
fn redis_is_checked_without_its_password_being_said() {
    for (settings, said) in [
        (
            ["redis.url=http://:hunter2@redis", "redis.prefix=x"],
            "redis.url: expected redis:// or, with TLS, rediss://",
        ),
        (["redis.url=redis://:hunter2@redis", "redis.ca_file=ca.pem"], "redis.ca_file: only a rediss:// URL"),
        (["redis.url=rediss://:hunter2@redis", "redis.prefix="], "redis.prefix: at least one letter"),
    ] {
        let checked = run(&["config", "check", "--set", settings[0], "--set", settings[1]]);
        assert!(checked.code == 1 && checked.err.contains(said), "{checked:?}");
        assert!(!checked.err.contains("hunter2"));
    }
    let shown = run(&["config", "show", "--set", "redis.url=redis://:hunter2@redis"]);
    assert!(shown.out.contains("redis.url = \"***\"") && !shown.out.contains("hunter2"), "{shown:?}");
}

#[test]
fn schema_and_reference_name_every_section() {
    let schema = run(&["config", "schema"]);
    let schema: serde_json::Value = serde_json::from_str(&schema.out).unwrap();
    let sections = schema["properties"].as_object().unwrap();
    let reference = run(&["config", "reference"]).out;
    for section in sections.keys() {
        assert!(reference.contains(&format!("\n| `{section}")), "{section}");
    }
    assert_eq!(schema["additionalProperties"], false);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let mut child = identityd(&["config", "reference"]).stdout(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_wrong_command_line_is_2_and_help_is_0() {
    for wrong in [&["fly"][..], &["--set", "novalue", "serve"], &["dev", "--yes"], &["migrate", "down", "-1"]]
    {
        let outcome = run(wrong);
        assert!(
            outcome.code == 2 && outcome.out.is_empty() && outcome.err.contains("'--help'"),
            "{outcome:?}"
        );
    }
    let help = run(&["--help"]);
    assert!(
        help.code == 0 && help.err.is_empty() && help.out.contains("6 a difference was found"),
        "{help:?}"
    );
}

#[test]
fn completions_are_printed_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let outcome = run(&["completions", shell]);
        assert!(outcome.code == 0 && outcome.out.contains("healthcheck"), "{shell}: {outcome:?}");
    }
    assert_eq!(run(&["completions", "dos"]).code, 2);
}

#[test]
fn the_matrix_is_compared_with_a_file() {
    let scratch = Scratch::new("matrix");
    let matrix = run(&["policy", "matrix"]).out;
    assert!(matrix.lines().any(|line| line.starts_with("keys:issue ")), "{matrix}");
    let same = scratch.file("same", &matrix);
    assert_eq!(run(&["policy", "matrix", "--check", &same]), outcome(0, "", ""));

    let line = matrix.lines().find(|line| line.starts_with("keys:issue ")).unwrap();
    let other = scratch.file("other", &matrix.replace(line, "keys:issue everybody"));
    let checked = run(&["policy", "matrix", "--check", &other]);
    assert_eq!((checked.code, checked.out), (6, format!("-keys:issue everybody\n+{line}\n")));
    assert!(checked.err.contains(&other));
    assert_eq!(run(&["policy", "matrix", "--check", "/nowhere"]).code, 1);
}

#[test]
fn a_server_that_is_not_there_is_not_well() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let flag = format!("ops.listen={address}");
    let outcome = run(&["healthcheck", "--set", &flag]);
    assert!(
        outcome.code == 1 && outcome.err.contains(&format!("http://{address}/ is not well")),
        "{outcome:?}"
    );
    assert_eq!(run(&["healthcheck", "https://id.example"]).code, 2);
}

#[test]
fn a_server_that_says_200_is_well() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 512];
        let read = stream.read(&mut request).unwrap();
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
        String::from_utf8_lossy(&request[..read]).into_owned()
    });
    assert_eq!(run(&["healthcheck", &url]).code, 0);
    assert!(server.join().unwrap().starts_with("GET /healthz HTTP/1.1\r\nhost: 127.0.0.1:"));
}

fn outcome(code: i32, out: &str, err: &str) -> Outcome {
    Outcome { code, out: out.to_owned(), err: err.to_owned() }
}
