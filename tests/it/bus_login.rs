//! SCRAM-SHA-256 over TLS with a private authority, and what is said of each thing that can be wrong with it.
use crate::{
    app::server,
    bus_contract::open,
    cli_support::Scratch,
    kafka_support::{make_topic, shared_broker},
    process::{Served, migrated, until},
};
use identityd::platform::{bus::BusError, telemetry::chain};
use serde_json::{Value, json};
use std::{
    fs,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    runtime::Runtime,
};

/// Settings for SCRAM over TLS.
pub fn secure(broker: &str, password_file: &str, ca_file: &str) -> Vec<String> {
    vec![
        format!("kafka.brokers={:?}", [broker]),
        "kafka.security=sasl_ssl".to_owned(),
        "kafka.username=identityd".to_owned(),
        format!("kafka.password_file={password_file}"),
        format!("kafka.ca_file={ca_file}"),
    ]
}

/// What the shared node's clients need.
pub fn tls_file(name: &str) -> String {
    format!("{}/{name}", server("TEST_KAFKA_TLS"))
}

async fn attempt(flags: &[String], topic: &str) -> Result<usize, BusError> {
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    open(&flags).unwrap().unwrap().check(topic).await
}

/// Passes connections on, and counts them.
struct Counting {
    address: String,
    count: Arc<AtomicUsize>,
}

impl Counting {
    async fn before(broker: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let count = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&count);
        tokio::spawn(async move {
            while let Ok((mut ours, _)) = listener.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let mut theirs = TcpStream::connect(&broker).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut ours, &mut theirs).await });
            }
        });
        Self { address, count }
    }

    fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn scram_over_tls_with_a_private_authority_gets_in() {
    let topic = make_topic("scram", 2).await;
    let broker = server("TEST_KAFKA_TLS_BROKER");
    let right = secure(&broker, &tls_file("password"), &tls_file("ca.pem"));
    assert_eq!(attempt(&right, &topic).await.unwrap(), 2);
}

#[tokio::test]
async fn a_wrong_password_is_named_and_tried_once() {
    let (place, topic) = (Scratch::new("password"), make_topic("password", 1).await);
    let wrong = place.file("password", "not-the-password\n");
    let proxy = Counting::before(server("TEST_KAFKA_TLS_BROKER")).await;
    let fault = attempt(&secure(&proxy.address, &wrong, &tls_file("ca.pem")), &topic).await.unwrap_err();
    assert!(matches!(fault, BusError::Login(_)) && fault.is_fault(), "{fault:?}");
    assert_eq!(fault.to_string(), "the brokers refuse kafka.username with kafka.password");
    assert!(!chain(&fault).contains("not-the-password"), "{}", chain(&fault));
    assert_eq!(proxy.count(), 1);
}

#[tokio::test]
async fn a_wrong_authority_and_a_wrong_name_are_named_and_tried_once() {
    let (place, topic) = (Scratch::new("authority"), make_topic("authority", 1).await);
    let (key, other) = (place.join("other.key"), place.join("other.pem"));
    let request =
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=other -keyout";
    let made =
        Command::new("openssl").args(request.split(' ')).args([&key, "-out", &other]).output().unwrap();
    assert!(made.status.success());
    let proxy = Counting::before(server("TEST_KAFKA_TLS_BROKER")).await;
    let fault = attempt(&secure(&proxy.address, &tls_file("password"), &other), &topic).await.unwrap_err();
    assert!(matches!(fault, BusError::Certificate(_)) && fault.is_fault(), "{fault:?}");
    assert_eq!(proxy.count(), 1);

    // The certificate is for 127.0.0.1 only.
    let named = server("TEST_KAFKA_TLS_BROKER").replace("127.0.0.1", "localhost");
    let right = secure(&named, &tls_file("password"), &tls_file("ca.pem"));
    let fault = attempt(&right, &topic).await.unwrap_err();
    assert!(matches!(fault, BusError::Certificate(_)), "{fault:?}");
}

#[tokio::test]
async fn a_listener_of_another_kind_ends_in_an_error_soon_and_without_an_address() {
    let (plain, secured) = (shared_broker(), server("TEST_KAFKA_TLS_BROKER"));
    let (password, ca) = (tls_file("password"), tls_file("ca.pem"));
    let in_clear = vec![format!("kafka.brokers={:?}", [&secured]), "kafka.security=plaintext".to_owned()];
    let without_login = [
        vec![format!("kafka.brokers={:?}", [&secured]), "kafka.security=ssl".to_owned()],
        vec![format!("kafka.ca_file={ca}")],
    ]
    .concat();
    let nobody = vec!["kafka.brokers=[\"127.0.0.1:1\"]".to_owned(), "kafka.security=plaintext".to_owned()];
    for flags in [in_clear, without_login, secure(&plain, &password, &ca), nobody] {
        let began = Instant::now();
        let error = attempt(&flags, "any").await.unwrap_err();
        assert!(!error.to_string().contains("127.0.0.1"), "{error}");
        assert!(began.elapsed() < Duration::from_secs(8), "{error:?} after {:?}", began.elapsed());
    }
}

#[test]
fn files_that_cannot_be_read_and_settings_that_do_not_go_together_are_refused() {
    let brokers = "kafka.brokers=[\"127.0.0.1:9092\"]";
    assert!(open(&[]).unwrap().is_none(), "no brokers, no bus");
    let fault = |flags: &[&str]| open(flags).err().expect("a fault").to_string();
    assert_eq!(
        fault(&[brokers, "kafka.security=ssl", "kafka.ca_file=/nowhere"]),
        "kafka.ca_file cannot be read"
    );
    assert!(fault(&[brokers]).starts_with("kafka.username is needed"));
    assert!(fault(&[brokers, "kafka.username=u"]).starts_with("kafka.password is needed"));
}

#[test]
fn a_process_with_a_wrong_password_says_so_serves_on_and_does_not_hammer() {
    let (place, database) = (Scratch::new("hammer"), migrated("hammer"));
    let wrong = place.file("password", "not-the-password");
    let runtime = Runtime::new().unwrap();
    let proxy = runtime.block_on(Counting::before(server("TEST_KAFKA_TLS_BROKER")));
    let settings = secure(&proxy.address, &wrong, &tls_file("ca.pem"));
    let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
    let served = Served::start(&place, &database, &settings);
    let ready = || served.call("GET", "/readyz", None, &Value::Null);
    let told = json!({
        "status": "failing", "required": false, "detail": "the brokers refuse kafka.username with kafka.password",
    });
    until(&(200, told), || {
        let (status, body) = ready();
        (status, body["dependencies"]["kafka"].clone())
    });
    // Its work goes on beside, for longer than the pause after what passes by itself could be after a first failure.
    let told = Instant::now();
    while told.elapsed() < Duration::from_secs(3) {
        assert_eq!(ready().0, 200);
    }
    assert_eq!(proxy.count(), 1);
    let log = served.log();
    assert_eq!(log.matches("relaying the audit log fails").count(), 1, "{log}");
    assert!(!log.contains("not-the-password"), "{log}");
    assert_eq!(fs::read_to_string(wrong).unwrap(), "not-the-password");
}
