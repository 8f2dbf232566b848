//! The transport: an HTTP client of our own, a login, and how long it is good for. All of it blocks.
use super::error::VaultError;
use crate::platform::{config, secret::Secret};
use hashicorp_vault::client::{EndpointResponse, HttpVerb, TokenData, VaultClient, VaultResponse};
use reqwest::{
    Certificate,
    blocking::Client,
    header::{DATE, HeaderMap, HeaderValue},
    redirect::Policy,
};
use rustls::pki_types::{CertificateDer, pem::PemObject as _};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::json;
use std::{
    fs,
    path::PathBuf,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use url::Url;

const NAMESPACE: &str = "X-Vault-Namespace";
/// A standby may send us to the active node, and that one no further.
const REDIRECTS_MAX: usize = 2;

/// Where Vault is, and who we are there.
pub(super) struct Settings {
    address: Url,
    namespace: Option<HeaderValue>,
    ca_file: Option<PathBuf>,
    role_id: String,
    secret_id: Secret<String>,
    /// Read anew at each login, since whoever hands secret ids out replaces them.
    secret_id_file: Option<PathBuf>,
    auth_mount: String,
    pub(super) transit_mount: String,
    pub(super) key: String,
    pub(super) timeout: Duration,
}

impl Settings {
    pub(super) fn of(config: &config::Vault) -> Result<Self, VaultError> {
        let lacks = |key, what| VaultError::Setting { key, what, source: None };
        let namespace = config.namespace.as_ref().map(|name| HeaderValue::from_str(name)).transpose();
        Ok(Self {
            address: config.address.clone().ok_or_else(|| lacks("vault.address", "needed"))?,
            namespace: namespace.map_err(|_| lacks("vault.namespace", "no name of a namespace"))?,
            ca_file: config.ca_file.clone(),
            role_id: config.role_id.clone().ok_or_else(|| lacks("vault.role_id", "needed"))?,
            secret_id: config.secret_id.clone().ok_or_else(|| lacks("vault.secret_id", "needed"))?,
            secret_id_file: config.secret_id_file.clone(),
            auth_mount: config.auth_mount.clone(),
            transit_mount: config.transit_mount.clone(),
            key: config.key.clone(),
            timeout: Duration::from_secs(config.timeout_seconds),
        })
    }

    fn secret_id(&self) -> Result<Secret<String>, VaultError> {
        let Some(file) = &self.secret_id_file else { return Ok(self.secret_id.clone()) };
        match fs::read_to_string(file) {
            Ok(text) => Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => Err(VaultError::Setting {
                key: "vault.secret_id_file",
                what: "the file cannot be read",
                source: Some(error.into()),
            }),
        }
    }

    /// The client of every request: whom it trusts, how long it waits, which namespace it means.
    pub(super) fn client(&self) -> Result<Client, VaultError> {
        let mut headers = HeaderMap::new();
        if let Some(namespace) = &self.namespace {
            headers.insert(NAMESPACE, namespace.clone());
        }
        let secure = self.address.scheme() == "https";
        let mut builder = Client::builder()
            .default_headers(headers)
            .timeout(self.timeout)
            .connect_timeout(self.timeout)
            .redirect(Policy::limited(REDIRECTS_MAX))
            // Else a redirect could take the token onto an open line.
            .https_only(secure)
            // The surroundings are read in `config` alone. Frames of HTTP/2 show headers in logs.
            .no_proxy()
            .http1_only();
        for authority in self.authorities().map_err(|source| VaultError::Setting {
            key: "vault.ca_file",
            what: "no certificate authority can be read from it",
            source: Some(source),
        })? {
            builder = builder.add_root_certificate(authority);
        }
        builder.build().map_err(VaultError::of_http)
    }

    /// Those of the file alone, or else the system's.
    fn authorities(&self) -> Result<Vec<Certificate>, Box<dyn std::error::Error + Send + Sync>> {
        let Some(file) = &self.ca_file else {
            let system = rustls_native_certs::load_native_certs().certs;
            // One that this library cannot read is left out, as everywhere.
            return Ok(system.iter().filter_map(|der| Certificate::from_der(der).ok()).collect());
        };
        let mut authorities = vec![];
        for der in CertificateDer::pem_file_iter(file)? {
            authorities.push(Certificate::from_der(&der?)?);
        }
        if authorities.is_empty() { Err("there is none".into()) } else { Ok(authorities) }
    }

    /// When an answer was given that needs no login, by Vault's own clock.
    pub(super) fn date(&self, http: &Client) -> Result<Option<String>, VaultError> {
        let path = "sys/health";
        let url = self.address.join(&format!("/v1/{path}")).map_err(|_| VaultError::Form)?;
        let answer = http.get(url).send().map_err(VaultError::of_http)?;
        match answer.status().as_u16() {
            // Not initialized: of no more use than sealed.
            501 | 503 => Err(VaultError::Sealed),
            _ => Ok(answer.headers().get(DATE).and_then(|date| date.to_str().ok()).map(str::to_owned)),
        }
    }

    /// Logs in by AppRole. Not by the transport's own call, which takes no client and no other mount.
    pub(super) fn log_in(&self, http: Client, now: Duration) -> Result<Session, VaultError> {
        #[derive(Deserialize)]
        struct Answer {
            auth: Auth,
        }
        #[derive(Deserialize)]
        struct Auth {
            client_token: Secret<String>,
            lease_duration: u64,
            renewable: bool,
        }
        let path = format!("auth/{}/login", self.auth_mount);
        let url = self.address.join(&format!("/v1/{path}")).map_err(|_| VaultError::Form)?;
        let body = json!({ "role_id": self.role_id, "secret_id": self.secret_id()?.expose() });
        let answer = http.post(url).body(body.to_string()).send().map_err(VaultError::of_http)?;
        match answer.status().as_u16() {
            200 => (),
            status @ (400 | 401 | 403 | 404) => return Err(VaultError::Login(status)),
            status => return Err(VaultError::of_status(status, &path)),
        }
        let text = Secret::new(answer.text().map_err(VaultError::of_http)?);
        let Answer { auth } = serde_json::from_str(text.expose()).map_err(|_| VaultError::Form)?;
        let lease = Lease::of(Duration::from_secs(auth.lease_duration), auth.renewable, now);
        // Looks the token up, so a session that is there has been let in.
        let client =
            VaultClient::new_from_reqwest(self.address.as_str(), auth.client_token.into_inner(), http)
                .map_err(|error| VaultError::of(error, "auth/token/lookup-self"))?;
        Ok(Session { client, lease: Mutex::new(lease) })
    }
}

/// A login. Neither it nor the client in it may be printed: that shows the token.
pub(super) struct Session {
    client: VaultClient<TokenData>,
    lease: Mutex<Lease>,
}

/// For how long a login is good.
#[derive(Clone, Copy)]
pub(super) struct Lease {
    granted: Duration,
    renewable: bool,
    /// None: it does not end.
    renew_at: Option<Duration>,
}

/// What is to be done about a lease.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Due {
    Nothing,
    Renewal,
    /// It cannot be renewed, or not for as long as at first.
    Login,
}

impl Lease {
    fn of(granted: Duration, renewable: bool, now: Duration) -> Self {
        Self { granted, renewable, renew_at: (!granted.is_zero()).then(|| now + two_thirds(granted)) }
    }

    fn renewed(self, time: Duration, renewable: bool, now: Duration) -> Self {
        // Close to its longest life a token is renewed for less and less: then a new one is due.
        let renewable = renewable && time * 2 >= self.granted;
        Self { renewable, renew_at: Some(now + two_thirds(time)), ..self }
    }

    fn due(self, now: Duration) -> Due {
        match self.renew_at {
            Some(at) if at <= now && self.renewable => Due::Renewal,
            Some(at) if at <= now => Due::Login,
            _ => Due::Nothing,
        }
    }
}

fn two_thirds(time: Duration) -> Duration {
    time * 2 / 3
}

impl Session {
    /// What is due at this time of the monotonic clock.
    pub(super) fn due(&self, now: Duration) -> Due {
        self.lease.lock().unwrap_or_else(PoisonError::into_inner).due(now)
    }

    /// One call by the transport.
    pub(super) fn call<D: DeserializeOwned>(
        &self,
        request: &Request,
    ) -> Result<VaultResponse<D>, VaultError> {
        let (verb, body) = match &request.body {
            Some(body) => (HttpVerb::POST, Some(body.expose().as_str())),
            None => (HttpVerb::GET, None),
        };
        match self.client.call_endpoint::<D>(verb, &request.path, None, body) {
            Ok(EndpointResponse::VaultResponse(answer)) => Ok(answer),
            Ok(EndpointResponse::Empty) => Err(VaultError::Form),
            Err(error) => Err(VaultError::of(error, &request.path)),
        }
    }

    /// Notes for how long the lease was renewed.
    pub(super) fn renewed<D>(&self, answer: &VaultResponse<D>, now: Duration) -> Result<(), VaultError> {
        let auth = answer.auth.as_ref().ok_or(VaultError::Form)?;
        let time = auth.lease_duration.as_ref().map_or(Duration::ZERO, |duration| duration.0);
        let mut lease = self.lease.lock().unwrap_or_else(PoisonError::into_inner);
        *lease = lease.renewed(time, auth.renewable, now);
        Ok(())
    }
}

/// A path below `/v1/`, and what is sent there; without a body it is read.
#[derive(Clone)]
pub(super) struct Request {
    pub(super) path: String,
    pub(super) body: Option<Secret<String>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_hours(1);

    #[test]
    fn a_lease_is_renewed_at_two_thirds_of_its_time() {
        let lease = Lease::of(HOUR, true, HOUR);
        assert_eq!(lease.due(HOUR + Duration::from_mins(39)), Due::Nothing);
        assert_eq!(lease.due(HOUR + Duration::from_mins(40)), Due::Renewal);
        let renewed = lease.renewed(HOUR, true, HOUR * 2);
        assert_eq!(renewed.due(HOUR * 2 + Duration::from_mins(39)), Due::Nothing);
        assert_eq!(renewed.due(HOUR * 3), Due::Renewal);
    }

    #[test]
    fn what_cannot_be_renewed_for_long_is_followed_by_a_login() {
        assert_eq!(Lease::of(HOUR, false, HOUR).due(HOUR * 2), Due::Login);
        let short = Lease::of(HOUR, true, HOUR).renewed(HOUR / 3, true, HOUR * 2);
        assert_eq!((short.due(HOUR * 2), short.due(HOUR * 3)), (Due::Nothing, Due::Login));
        assert_eq!(Lease::of(Duration::ZERO, false, HOUR).due(HOUR * 1000), Due::Nothing);
    }
}
