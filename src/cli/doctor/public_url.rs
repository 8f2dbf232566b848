//! The URL under which callers know us.
use super::{
    CHECK_MAX, late,
    report::{Check, Subject},
};
use crate::platform::{
    config::{Config, ConfigError},
    telemetry::chain,
};
use reqwest::{Certificate, Client, redirect::Policy};
use std::time::Duration;
use url::Url;

const PUBLIC_URL: Subject = Subject {
    name: "public_url",
    why: "links in mails begin with it, and a token that names another issuer is refused",
};

pub(super) const ALL: &[Subject] = &[PUBLIC_URL];

const KEY: &str = "http.public_url";
const RESOLVE_MAX: Duration = Duration::from_secs(5);
/// What /healthz answers, and no other page of ours.
const ALIVE: &[u8] = b"{\"status\":\"ok\"}";

pub(super) async fn examine(config: &Config, mistakes: &[ConfigError]) -> Vec<Check> {
    if let Some(mistake) = mistakes.iter().find(|mistake| mistake.key == KEY) {
        return vec![PUBLIC_URL.failed(mistake.message.clone(), KEY)];
    }
    let url = &config.http.public_url;
    vec![match reach(url).await {
        Ok(()) => PUBLIC_URL.ok(format!("{url} leads to an identityd")),
        // Callers may stand elsewhere, and see another name server.
        Err(found) => PUBLIC_URL.warning(
            format!("{url}: {found}"),
            "ask from where callers are, if not from here; else http.public_url, its name, or the proxy before us",
        ),
    }]
}

async fn reach(url: &Url) -> Result<(), String> {
    let (host, port) = (url.host_str().unwrap_or_default(), url.port_or_known_default().unwrap_or_default());
    let resolve = tokio::net::lookup_host((host.trim_matches(['[', ']']), port));
    match tokio::time::timeout(RESOLVE_MAX, resolve).await {
        Ok(Ok(_)) => (),
        Ok(Err(_)) => return Err("its name has no address here".to_owned()),
        Err(_) => return Err(format!("its name is not resolved within {} s", RESOLVE_MAX.as_secs())),
    }
    let base = url.as_str().trim_end_matches('/');
    let asked = async {
        let mut answer = client()?.get(format!("{base}/healthz")).send().await?;
        let status = answer.status();
        Ok::<_, reqwest::Error>((status, answer.chunk().await?.unwrap_or_default()))
    };
    match asked.await {
        Ok((status, body)) if status == 200 && body == ALIVE => Ok(()),
        Ok((status, _)) => Err(format!("/healthz answers {}, not as an identityd does", status.as_u16())),
        Err(error) if error.is_timeout() => Err(late()),
        Err(error) => Err(why(&chain(&error.without_url()))),
    }
}

/// Without proxies: the surroundings are read in `platform::config` alone.
fn client() -> Result<Client, reqwest::Error> {
    let mut builder = Client::builder().timeout(CHECK_MAX).redirect(Policy::none()).no_proxy();
    for authority in rustls_native_certs::load_native_certs().certs {
        if let Ok(authority) = Certificate::from_der(&authority) {
            builder = builder.add_root_certificate(authority);
        }
    }
    builder.build()
}

fn why(chain: &str) -> String {
    match chain.contains("certificate") {
        true => "its certificate is not trusted here".to_owned(),
        false => "it cannot be reached from here".to_owned(),
    }
}
