//! Redis, Kafka and the mail server.
use super::{
    CHECK_MAX, bounded,
    report::{Check, Subject},
};
use crate::platform::{
    bus::{Bus, BusError},
    cache::{self, Inspected},
    config::Config,
    mail::Mailer,
};

const REDIS: Subject = Subject {
    name: "redis",
    why: "without it each process counts sign-ins by itself, and hears of changes from the database alone",
};
const REDIS_MEMORY: Subject = Subject {
    name: "redis.memory",
    why: "an announcement that was dropped is heard of later, from the database, or not while that is away",
};
const KAFKA: Subject =
    Subject { name: "kafka", why: "without it nothing is relayed; the audit log keeps what waits" };
const TOPIC: Subject = Subject {
    name: "kafka.topic",
    why: "the audit log is relayed to it, and identityd makes none: readers see nothing of it until then",
};
const TOPIC_SETTINGS: Subject = Subject {
    name: "kafka.settings",
    why: "they decide whether an acknowledged entry can be lost, and for how long readers find it",
};
const MAIL: Subject =
    Subject { name: "mail", why: "invites go by mail; they wait, and are given up after twelve tries" };

pub(super) const ALL: &[Subject] = &[REDIS, REDIS_MEMORY, KAFKA, TOPIC, TOPIC_SETTINGS, MAIL];

/// The oldest whose streams and scripts we use.
const REDIS_VERSION_MIN: u32 = 6;

pub(super) async fn examine(config: &Config) -> Vec<Check> {
    let (redis, kafka, mail) = tokio::join!(redis(config), kafka(config), mail(config));
    redis.into_iter().chain(kafka).chain([mail]).collect()
}

async fn redis(config: &Config) -> [Check; 2] {
    let Some(url) = &config.redis.url else {
        return [REDIS, REDIS_MEMORY].map(|subject| subject.skipped("redis.url is not set"));
    };
    let fix = "redis.url: its scheme, host, port, user and password; redis.ca_file";
    match bounded(cache::inspect(url, &config.redis)).await {
        Ok(found) => [server(&found), memory(&found)],
        Err(error) => [REDIS.failed(error, fix), REDIS_MEMORY.skipped("see redis")],
    }
}

fn server(found: &Inspected) -> Check {
    let version = found.version.as_deref();
    let major = version.and_then(|version| version.split('.').next()?.parse().ok());
    match (version, major) {
        _ if found.is_primary == Some(false) => {
            REDIS.failed("it is a replica, which takes no writes", "name the primary in redis.url")
        }
        (Some(version), Some(..REDIS_VERSION_MIN)) => {
            REDIS.failed(format!("Redis {version} is too old"), "upgrade it to 6 or later")
        }
        (Some(version), _) => REDIS.ok(format!("Redis {version} answers")),
        (None, _) => REDIS.ok("it answers, and does not let us ask for its version"),
    }
}

fn memory(found: &Inspected) -> Check {
    match (&found.evicts_by, &found.version) {
        (Some(policy), _) => REDIS_MEMORY.warning(
            format!("maxmemory-policy is {policy}: once it is full, announcements may be dropped"),
            "maxmemory-policy noeviction or volatile-ttl, or a maxmemory that is never reached",
        ),
        (None, Some(_)) => REDIS_MEMORY.ok("announcements are not evicted"),
        (None, None) => REDIS_MEMORY.left_to("we may not ask for it", "let redis.url's user run INFO"),
    }
}

async fn kafka(config: &Config) -> [Check; 3] {
    let topic = &config.kafka.audit_topic;
    let bus = match Bus::open(&config.kafka) {
        Ok(Some(bus)) => bus,
        Ok(None) => {
            return [KAFKA, TOPIC, TOPIC_SETTINGS].map(|subject| subject.skipped("kafka.brokers is not set"));
        }
        Err(error) => return broken(error.to_string(), "correct this setting"),
    };
    match tokio::time::timeout(CHECK_MAX, bus.check(topic)).await.unwrap_or(Err(BusError::Timeout)) {
        Ok(partitions) => [
            KAFKA.ok("the brokers let us in"),
            TOPIC.ok(format!("{topic} is there, with {partitions} partitions")),
            TOPIC_SETTINGS.left_to(
                "not checked: replicas, min.insync.replicas, retention.ms, cleanup.policy, the right to write",
                format!("compare `kafka-topics.sh --describe --topic {topic}` with docs/OPERATIONS.md"),
            ),
        ],
        Err(error @ BusError::Topic(_)) => [
            KAFKA.ok("the brokers let us in"),
            TOPIC.failed(error.to_string(), "`kafka-topics.sh --create …` as in docs/OPERATIONS.md, or its ACLs"),
            TOPIC_SETTINGS.skipped("see kafka.topic"),
        ],
        Err(error) => {
            broken(error.to_string(), "kafka.brokers, kafka.security, kafka.username, kafka.password, kafka.ca_file")
        }
    }
}

fn broken(found: String, fix: &str) -> [Check; 3] {
    [KAFKA.failed(found, fix), TOPIC.skipped("see kafka"), TOPIC_SETTINGS.skipped("see kafka")]
}

async fn mail(config: &Config) -> Check {
    let fix = "mail.url: its scheme, host, port, user, password and tls; mail.from";
    let Some(url) = &config.mail.url else { return MAIL.failed("mail.url is not set", fix) };
    if url.expose().starts_with("file:") {
        // To open it would make the directory.
        return MAIL.ok("mails go into a directory");
    }
    let mailer = match Mailer::open(url.expose(), &config.mail.from) {
        Ok(mailer) => mailer,
        Err(error) => return MAIL.failed(error.to_string(), fix),
    };
    match bounded(mailer.check()).await {
        Ok(()) => MAIL.ok("the mail server takes our connection; nothing was sent"),
        Err(error) => MAIL.failed(error, fix),
    }
}
