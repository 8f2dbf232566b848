//! Searches what is kept, sent and shown for secrets, in the clear and in the forms in which they hide.
use crate::{
    cli_support::{ask, sql},
    kafka_support::{client, make_topic, read_topic, shared_broker},
    process::Served,
    redis_support::OwnRedis,
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD},
};
use deadpool_redis::redis::{self, Value as Reply};
use rskafka::{
    client::partition::{Compression, UnknownTopicHandling},
    record::Record,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};
use tokio::runtime::Runtime;

/// Shorter ones would be found everywhere.
const SECRET_MIN: usize = 8;
const TOKEN_LEN: usize = 69;
/// Type and public part of a token.
const TOKEN_PUBLIC: usize = 20;

/// A place, and all that can be read there.
pub type Place = (String, Vec<u8>);

/// What nobody may find.
#[derive(Default)]
pub struct Secrets(Vec<(String, Vec<u8>)>);

impl Secrets {
    /// Of a token only what is secret about it: its public part, and the claims of an access token, may be shown.
    pub fn add(&mut self, what: &str, secret: &str) {
        let secret = match secret.rsplit_once('.') {
            Some((_, signature)) if secret.starts_with("eyJ") => signature,
            _ if secret.starts_with("id") && secret.len() == TOKEN_LEN => &secret[TOKEN_PUBLIC..],
            _ => secret,
        };
        self.add_bytes(what, secret.as_bytes());
    }

    pub fn add_bytes(&mut self, what: &str, secret: &[u8]) {
        assert!(secret.len() >= SECRET_MIN, "{what} is too short to be looked for");
        self.0.push((what.to_owned(), secret.to_vec()));
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Which secret is where in which form; never the secret itself.
    pub fn found_in(&self, places: &[Place]) -> BTreeSet<String> {
        let forms: Vec<_> = self
            .0
            .iter()
            .flat_map(|(what, secret)| forms(secret).into_iter().map(move |(form, text)| (what, form, text)))
            .collect();
        // By how they begin: each byte of a place is looked at once, however many secrets there are.
        let mut by_start = HashMap::<&[u8], Vec<usize>>::new();
        for (index, (_, _, text)) in forms.iter().enumerate() {
            by_start.entry(&text[..SECRET_MIN]).or_default().push(index);
        }
        let mut found = BTreeSet::new();
        for (place, bytes) in places {
            for (at, start) in bytes.windows(SECRET_MIN).enumerate() {
                for index in by_start.get(start).into_iter().flatten() {
                    let (what, form, text) = &forms[*index];
                    if bytes[at..].starts_with(text) {
                        found.insert(format!("{what} in {place}, {form}"));
                    }
                }
            }
        }
        found
    }
}

/// As it is, in hexadecimal, and in base64 wherever it stands in what was encoded.
fn forms(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let hex = hex(secret);
    let mut forms = vec![
        ("as it is", secret.to_vec()),
        ("in hex", hex.to_uppercase().into_bytes()),
        ("in hex", hex.into_bytes()),
    ];
    for before in 0..3 {
        let within = [&[0; 2][..before], secret].concat();
        // Without the letters that hold bits of a neighbour too.
        let (first, last) = ((before * 8).div_ceil(6), within.len() * 8 / 6);
        for encoded in [STANDARD_NO_PAD.encode(&within), URL_SAFE_NO_PAD.encode(&within)] {
            forms.push(("in base64", encoded[first..last].to_owned().into_bytes()));
        }
    }
    forms
}

fn hex(bytes: &[u8]) -> String {
    let mut hex = String::new();
    for byte in bytes {
        write!(hex, "{byte:02x}").unwrap();
    }
    hex
}

/// Every row of every table, as a superuser sees it, and what its bytes are.
pub fn database(url: &str) -> Vec<Place> {
    let tables = ask(
        url,
        "SELECT string_agg(c.oid::regclass::text, ' ' ORDER BY 1) AS cell FROM pg_class c
         WHERE relkind = 'r' AND relnamespace NOT IN ('pg_catalog'::regnamespace, 'information_schema'::regnamespace)",
    );
    let place = |table: &str| {
        let query = format!("SELECT coalesce(string_agg(t::text, E'\\n'), '') AS cell FROM {table} t");
        let text = ask(url, &query);
        let bytes = text.split("\\x").skip(1).flat_map(unhex);
        (format!("table {table}"), text.bytes().chain(bytes).collect())
    };
    tables.split(' ').map(place).collect()
}

/// The bytes that a text begins with in hexadecimal, with an end.
fn unhex(text: &str) -> Vec<u8> {
    let digits = text.bytes().take_while(u8::is_ascii_hexdigit).count();
    let pairs = (0..digits / 2).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap());
    pairs.chain([b'\n']).collect()
}

/// Every key of a Redis server, with what it holds.
pub fn redis(url: &str) -> Vec<Place> {
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("*").query(&mut connection).unwrap();
    let mut place = |key: Vec<u8>| {
        let kind: String = redis::cmd("TYPE").arg(&key).query(&mut connection).unwrap();
        let (command, all): (_, &[&str]) = match kind.as_str() {
            "string" => ("GET", &[]),
            "hash" => ("HGETALL", &[]),
            "stream" => ("XRANGE", &["-", "+"]),
            "list" => ("LRANGE", &["0", "-1"]),
            "set" => ("SMEMBERS", &[]),
            "zset" => ("ZRANGE", &["0", "-1"]),
            gone => {
                assert_eq!(gone, "none", "a kind of key that nobody reads");
                return ("an expired key of Redis".to_owned(), key);
            }
        };
        let held: Reply = redis::cmd(command).arg(&key).arg(all).query(&mut connection).unwrap();
        let name = format!("Redis {kind} {}", String::from_utf8_lossy(&key));
        let mut bytes = [key, b"\n".to_vec()].concat();
        add_reply(&held, &mut bytes);
        (name, bytes)
    };
    let mut places = vec![];
    for key in keys {
        places.push(place(key));
    }
    places
}

fn add_reply(reply: &Reply, bytes: &mut Vec<u8>) {
    match reply {
        Reply::BulkString(text) => bytes.extend_from_slice(text),
        Reply::Array(all) => all.iter().for_each(|one| add_reply(one, bytes)),
        other => bytes.extend_from_slice(format!("{other:?}").as_bytes()),
    }
    bytes.push(b'\n');
}

/// Every record of a topic: key, value and headers.
pub async fn topic(brokers: &[String], name: &str) -> Place {
    let mut bytes = vec![];
    for record in read_topic(brokers, name).await.into_iter().flatten() {
        let headers = record.headers.into_iter().flat_map(|(name, value)| [name.into_bytes(), value]);
        for part in [record.key, record.value].into_iter().flatten().chain(headers) {
            bytes.extend_from_slice(&part);
            bytes.push(b'\n');
        }
    }
    (format!("topic {name}"), bytes)
}

/// What a process says, and how it was started: its arguments and surroundings, as others on its machine may read them.
pub fn process(name: &str, served: &Served) -> [Place; 2] {
    [(format!("log of {name}"), served.log().into_bytes()), started_with(name, served.id())]
}

fn started_with(name: &str, id: u32) -> Place {
    let read = |what: &str| fs::read(format!("/proc/{id}/{what}")).unwrap();
    (format!("command line of {name}"), [read("cmdline"), read("environ")].concat())
}

const PLANTED: &str = "planted+secret/of?42~bytes";

#[test]
fn a_planted_secret_is_found_in_each_form() {
    let mut secrets = Secrets::default();
    secrets.add("it", PLANTED);
    let all = |around: &[u8]| [around, PLANTED.as_bytes(), around].concat();
    let hex = hex(PLANTED.as_bytes());
    let mut hidden = vec![("as it is", all(b"x")), ("in hex", hex.to_uppercase().into_bytes())];
    hidden.push(("in hex", hex.into_bytes()));
    for around in [&b""[..], b"1", b"22", b"333", b"user:"] {
        hidden.push(("in base64", STANDARD_NO_PAD.encode(all(around)).into_bytes()));
        hidden.push(("in base64", URL_SAFE_NO_PAD.encode(all(around)).into_bytes()));
    }
    for (form, bytes) in hidden {
        let found = secrets.found_in(&[("here".to_owned(), bytes.clone())]);
        assert_eq!(found, BTreeSet::from([format!("it in here, {form}")]), "{bytes:?}");
    }
    let nearly = PLANTED.as_bytes()[1..].to_vec();
    assert!(secrets.found_in(&[("nearly".to_owned(), nearly)]).is_empty());
}

#[test]
fn a_planted_secret_is_found_in_each_place() {
    let runtime = Runtime::new().unwrap();
    let mut secrets = Secrets::default();
    secrets.add("it", PLANTED);

    let data = crate::cli_support::ScratchDatabase::new("planted");
    sql(
        &data.url(),
        &format!(
            "CREATE TABLE of_text AS SELECT '{PLANTED}' AS a;
             CREATE TABLE of_bytes AS SELECT convert_to('{PLANTED}', 'UTF8') AS a;
             CREATE TABLE of_encoded AS SELECT convert_to(encode('{PLANTED}', 'base64'), 'UTF8') AS a;
             CREATE SCHEMA other; CREATE TABLE other.of_json AS SELECT jsonb_build_array('{PLANTED}') AS a;
             CREATE TABLE of_nothing AS SELECT 'nothing' AS a"
        ),
    );
    let mut places = database(&data.url());

    let own = runtime.block_on(OwnRedis::start());
    let url = format!("redis://{}", own.network.address);
    let mut connection = redis::Client::open(url.as_str()).unwrap().get_connection().unwrap();
    for command in [
        ["SET", "a", PLANTED].as_slice(),
        &["HSET", "b", "field", PLANTED],
        &["XADD", "c", "*", "field", PLANTED],
        &["RPUSH", "d", PLANTED],
        &["SADD", "e", PLANTED],
        &["ZADD", "f", "1", PLANTED],
        &["SET", PLANTED, "1"],
        &["SET", "h", "nothing"],
    ] {
        let _: Reply = redis::cmd(command[0]).arg(&command[1..]).query(&mut connection).unwrap();
    }
    places.extend(redis(&url));

    let name = runtime.block_on(plant_record());
    places.push(runtime.block_on(topic(&[shared_broker()], &name)));

    let mut child = Command::new("sh")
        .args(["-c", "echo here; read wait", "sh", PLANTED])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Its arguments can be read once it runs, and not yet when it was begun.
    let mut said = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(said.next().unwrap().unwrap(), "here");
    places.push(started_with("a shell", child.id()));
    drop(child.stdin.take());
    child.wait().unwrap();

    let expected = [
        "table of_text, as it is",
        "table of_bytes, as it is",
        "table of_bytes, in hex",
        "table of_encoded, in base64",
        "table other.of_json, as it is",
        "Redis string a, as it is",
        "Redis hash b, as it is",
        "Redis stream c, as it is",
        "Redis list d, as it is",
        "Redis set e, as it is",
        "Redis zset f, as it is",
        &format!("Redis string {PLANTED}, as it is"),
        &format!("topic {name}, as it is"),
        "command line of a shell, as it is",
    ];
    assert_eq!(secrets.found_in(&places), expected.iter().map(|place| format!("it in {place}")).collect());
}

/// In a header, where one looks last.
async fn plant_record() -> String {
    let topic = make_topic("planted", 1).await;
    let client = client(&[shared_broker()]).await;
    let partition = client.partition_client(&topic, 0, UnknownTopicHandling::Retry).await.unwrap();
    let headers = BTreeMap::from([("header".to_owned(), PLANTED.as_bytes().to_vec())]);
    let record = Record { key: None, value: None, headers, timestamp: chrono::Utc::now() };
    partition.produce(vec![record], Compression::NoCompression).await.unwrap();
    topic
}
