//! Processes that are replaced one after the other under load: no request fails.
use crate::{
    app::server,
    crash::verify_log,
    main_job_support::{Front, PASSWORD},
    process::{agent, call, until},
    replicas_support::{Pair, Site},
    vault_support::Bao,
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

const ROUNDS: usize = 3;
/// So often each client is answered before the next process is told to stop.
const BETWEEN: usize = 5;
const ACCOUNTS: &str = "/v1/orgs/first/service-accounts";

/// Somebody who asks the same again and again, on one connection, and takes no other answer.
struct Client {
    what: &'static str,
    answered: Arc<AtomicUsize>,
    thread: JoinHandle<Duration>,
}

impl Client {
    fn start(
        what: &'static str,
        url: &str,
        stop: &Arc<AtomicBool>,
        ask: impl Fn(&ureq::Agent, &str, usize) -> Result<(u16, Value), ureq::Error> + Send + 'static,
        right: impl Fn(&(u16, Value)) -> bool + Send + 'static,
    ) -> Self {
        let answered = Arc::<AtomicUsize>::default();
        let (url, stop, count) = (url.to_owned(), Arc::clone(stop), Arc::clone(&answered));
        let thread = thread::spawn(move || {
            let (agent, mut longest) = (agent(), Duration::ZERO);
            while !stop.load(Ordering::Relaxed) {
                let began = Instant::now();
                let answer = ask(&agent, &url, count.load(Ordering::Relaxed));
                assert!(answer.as_ref().is_ok_and(&right), "{what}: {answer:?}");
                longest = longest.max(began.elapsed());
                count.fetch_add(1, Ordering::Relaxed);
            }
            longest
        });
        Self { what, answered, thread }
    }

    fn answered(&self) -> usize {
        assert!(!self.thread.is_finished(), "{}: a request failed", self.what);
        self.answered.load(Ordering::Relaxed)
    }
}

#[test]
fn replaced_one_after_the_other_under_load_they_fail_no_request() {
    let bao = Bao::shared();
    let site = Site::new(&bao, "rolling");
    let more = crate::app::unlimited();
    let mut pair = Pair::start(&site, &more);
    let url = pair.round_robin.url.clone();
    let domain = format!("rolling{}.example", std::process::id());
    let front = Front::new(&url, &server("TEST_SMTP_DIR"), &domain, || pair.settle());
    let admin = front.first_administrator(&site.bootstrap());
    let (status, key) = front.call("POST", "/organizations/me/api-keys", Some(&admin), &json!({}));
    assert_eq!(status, 201, "{key}");
    // A key check asks nobody before it says no.
    (front.settle)();
    drop(front);

    let stop = Arc::<AtomicBool>::default();
    let clients = clients(&url, &stop, &admin, &key["secret"], &format!("ada@{domain}"));
    for round in 0..ROUNDS {
        for at in 0..2 {
            let before: Vec<usize> = clients.iter().map(Client::answered).collect();
            let goes_on =
                || clients.iter().zip(&before).all(|(client, before)| client.answered() > before + BETWEEN);
            until(&true, goes_on);
            let began = Instant::now();
            pair.replace(at, &more);
            println!("round {round}: process {at} replaced in {:.1?}", began.elapsed());
        }
    }
    stop.store(true, Ordering::Relaxed);
    let mut written = 0;
    for Client { what, answered, thread } in clients {
        let longest = thread.join().unwrap();
        let count = answered.load(Ordering::Relaxed);
        println!("{what}: {count} answered, none wrong, the slowest after {longest:.0?}");
        written += if what == "writes" { count } else { 0 };
    }
    verify_log(|query| site.number(query));
    let kept = site.number("SELECT count(*) FROM service_accounts");
    assert_eq!(usize::try_from(kept).unwrap(), written);
    println!("{} entries twice on the topic", site.verify_relayed());
}

fn clients(url: &str, stop: &Arc<AtomicBool>, admin: &str, secret: &Value, email: &str) -> Vec<Client> {
    let check = json!({ "apiKeySecret": secret });
    let credentials = json!({ "email": email, "password": PASSWORD });
    let (reader, writer) = (admin.to_owned(), admin.to_owned());
    let mut clients = vec![
        Client::start(
            "key checks",
            url,
            stop,
            move |agent, url, _| call(agent, url, "POST", "/v1/auth/validate-api-key", None, &check),
            |(status, answer)| *status == 200 && answer["valid"] == true,
        ),
        Client::start(
            "reads",
            url,
            stop,
            move |agent, url, _| {
                call(agent, url, "GET", &format!("{ACCOUNTS}?limit=5"), Some(&reader), &Value::Null)
            },
            |(status, answer)| *status == 200 && answer.is_array(),
        ),
        Client::start(
            "sign-ins",
            url,
            stop,
            move |agent, url, _| call(agent, url, "POST", "/v1/auth/login", None, &credentials),
            |(status, answer)| *status == 200 && answer["access_token"].is_string(),
        ),
    ];
    for number in 0..2 {
        let writer = writer.clone();
        clients.push(Client::start(
            "writes",
            url,
            stop,
            move |agent, url, n| {
                let body = json!({ "name": format!("machine {number} {n}") });
                call(agent, url, "POST", ACCOUNTS, Some(&writer), &body)
            },
            |(status, _)| *status == 201,
        ));
    }
    clients
}
