//! Vault, or OpenBao: Transit wraps our keys, AppRole lets us in.
//!
//! `hashicorp_vault` is the transport and no more (ADR 0013): it blocks, and what it has of its own for Transit breaks
//! with the first rotation of a key. Nothing that a request does waits for Vault: keys are unwrapped at the start.
//!
//! **Invariant:** a call runs on a thread that may block, at most `CALLS_MAX` at once; its caller waits no longer than
//! `patience`.
//! **Invariant:** after a login that failed or was of no use there is none before a pause, which doubles to a minute, and
//! is a minute at once where somebody has to mend a setting.
mod error;
mod inspect;
mod session;

pub use error::VaultError;
pub use inspect::TransitKey;

use super::{
    clock::Clock, config, health::Health, keys::KEY_LEN, secret::Secret, tasks::Stop, telemetry::chain,
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use hashicorp_vault::client::VaultResponse;
use reqwest::blocking::Client;
use serde::{Deserialize, de::DeserializeOwned, de::IgnoredAny};
use serde_json::{Value, json};
use session::{Due, Request, Session, Settings};
use std::{
    sync::{Arc, Mutex, OnceLock, PoisonError, RwLock},
    time::Duration,
};
use tokio::sync::Semaphore;

/// The name of the dependency.
const VAULT: &str = "vault";
/// Calls at once.
pub const CALLS_MAX: usize = 4;
/// How often it is asked whether our token is good.
const CONFIRM_EVERY: Duration = Duration::from_secs(5);
/// So long after the last good answer Vault still vouches for us.
const CONFIRMED_MAX: Duration = Duration::from_secs(30);
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_mins(1);

/// Our place in one Vault. Cheap to clone.
#[derive(Clone)]
pub struct Vault(Arc<Inner>);

struct Inner {
    settings: Settings,
    clock: Clock,
    http: OnceLock<Client>,
    session: RwLock<Option<Arc<Session>>>,
    /// One login at a time.
    entering: tokio::sync::Mutex<()>,
    calls: Arc<Semaphore>,
    standing: Mutex<Standing>,
}

/// How it went lately, on the monotonic clock.
#[derive(Clone, Copy, Default)]
struct Standing {
    /// Logins in a row that were of no use.
    failures: u32,
    /// Did the last of them fail, rather than lead to a refusal?
    refused: bool,
    /// No login before that.
    rest_until: Duration,
    confirmed_at: Option<Duration>,
}

impl Inner {
    /// Made at the first call, on a thread that may block.
    fn http(&self) -> Result<Client, VaultError> {
        let http = match self.http.get() {
            Some(http) => http.clone(),
            None => self.settings.client()?,
        };
        Ok(self.http.get_or_init(|| http).clone())
    }
}

impl Drop for Inner {
    /// The client waits for its own thread, which no worker of the runtime may.
    fn drop(&mut self) {
        let session = self.session.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let http = self.http.take();
        std::thread::spawn(move || drop((session, http)));
    }
}

impl Vault {
    /// Reads the settings. Nothing is asked yet.
    pub fn new(config: &config::Vault, clock: Clock) -> Result<Self, VaultError> {
        Ok(Self(Arc::new(Inner {
            settings: Settings::of(config)?,
            clock,
            http: OnceLock::new(),
            session: RwLock::default(),
            entering: tokio::sync::Mutex::default(),
            calls: Arc::new(Semaphore::new(CALLS_MAX)),
            standing: Mutex::default(),
        })))
    }

    /// The Transit key that new keys are wrapped under.
    pub fn key(&self) -> &str {
        &self.0.settings.key
    }

    /// A new random key, which nobody but Vault has seen: `vault:vN:…`. It opens in its place only.
    pub async fn make_key(&self, place: &str) -> Result<String, VaultError> {
        self.wrapped("datakey/wrapped", place, ("bits", json!(KEY_LEN * 8))).await
    }

    /// Wraps a key that is there.
    pub async fn wrap(&self, place: &str, key: &[u8]) -> Result<String, VaultError> {
        self.wrapped("encrypt", place, ("plaintext", json!(STANDARD.encode(key)))).await
    }

    /// The same key under the newest version of the Transit key.
    pub async fn rewrap(&self, place: &str, wrapped: &str) -> Result<String, VaultError> {
        self.wrapped("rewrap", place, ("ciphertext", json!(wrapped))).await
    }

    /// The key itself, whichever version of the Transit key it was wrapped under.
    pub async fn unwrap_key(&self, place: &str, wrapped: &str) -> Result<Secret<Vec<u8>>, VaultError> {
        #[derive(Deserialize)]
        struct Answer {
            plaintext: Secret<String>,
        }
        let answer: Answer = self.transit("decrypt", place, ("ciphertext", json!(wrapped))).await?;
        let key = STANDARD.decode(answer.plaintext.expose()).map_err(|_| VaultError::Form)?;
        Ok(Secret::new(key))
    }

    async fn wrapped(&self, what: &str, place: &str, input: (&str, Value)) -> Result<String, VaultError> {
        #[derive(Deserialize)]
        struct Answer {
            ciphertext: String,
        }
        Ok(self.transit::<Answer>(what, place, input).await?.ciphertext)
    }

    /// `place` is the context of a derived key: what was wrapped in one does not open in another.
    async fn transit<D>(&self, what: &str, place: &str, (name, value): (&str, Value)) -> Result<D, VaultError>
    where
        D: DeserializeOwned + Send + 'static,
    {
        let body = json!({ name: value, "context": STANDARD.encode(place) });
        let path = format!("{}/{what}/{}", self.0.settings.transit_mount, self.key());
        let answer = self.call(Request { path, body: Some(Secret::new(body.to_string())) }).await?;
        answer.data.ok_or(VaultError::Form)
    }

    // Being let in ---------------------------------------------------------------------------------------------

    /// Does Vault still vouch for this process? It did within the last half minute, and has not failed since.
    pub fn vouches(&self) -> bool {
        let (confirmed, now) = (self.standing().confirmed_at, self.now());
        confirmed.is_some_and(|at| now.saturating_sub(at) <= CONFIRMED_MAX)
    }

    /// Asks until told to stop, and keeps the login alive.
    pub async fn watch(self, health: Health, mut stop: Stop) {
        loop {
            let asked = tokio::select! {
                () = stop.wait() => return,
                asked = self.confirm() => asked,
            };
            match asked {
                // No request needs it: see `vouches` for the little that does.
                Ok(()) => health.ok(VAULT, false),
                // Why is said already.
                Err(VaultError::Resting) => (),
                Err(error) => {
                    tracing::debug!(error = chain(&error), "Vault does not vouch for this process");
                    health.failing(VAULT, false, &error.to_string());
                }
            }
            if !stop.sleep(CONFIRM_EVERY).await {
                return;
            }
        }
    }

    /// Asks once: whether our token is good, or, after two thirds of its time, for more of it.
    pub async fn confirm(&self) -> Result<(), VaultError> {
        let due = self.session().map(|session| session.due(self.now()));
        let (asked, entered) = match due {
            Some(Due::Renewal) => (self.renew().await, Ok(())),
            // What is left of the old login is good, whatever becomes of the new one.
            Some(Due::Login) => {
                let entered = self.enter(self.session()).await.map(drop);
                (self.look_self_up().await, entered)
            }
            Some(Due::Nothing) | None => (self.look_self_up().await, Ok(())),
        };
        if asked.is_err() {
            self.standing_mut(|standing| standing.confirmed_at = None);
        }
        asked.and(entered)
    }

    async fn look_self_up(&self) -> Result<(), VaultError> {
        let request = Request { path: "auth/token/lookup-self".to_owned(), body: None };
        self.call::<IgnoredAny>(request).await.map(drop)
    }

    async fn renew(&self) -> Result<(), VaultError> {
        let path = "auth/token/renew-self".to_owned();
        let request = Request { path, body: Some(Secret::new("{}".to_owned())) };
        let answer = self.call::<IgnoredAny>(request).await?;
        tracing::debug!("login to Vault renewed");
        self.session().map_or(Ok(()), |session| session.renewed(&answer, self.now()))
    }

    /// One call; where the token is not good any more, one login and one more call.
    async fn call<D>(&self, request: Request) -> Result<VaultResponse<D>, VaultError>
    where
        D: DeserializeOwned + Send + 'static,
    {
        let answer = self.attempt(&request).await;
        if answer.is_ok() {
            let confirmed_at = Some(self.now());
            self.standing_mut(|standing| *standing = Standing { confirmed_at, ..Standing::default() });
        }
        answer
    }

    async fn attempt<D>(&self, request: &Request) -> Result<VaultResponse<D>, VaultError>
    where
        D: DeserializeOwned + Send + 'static,
    {
        let session = match self.session() {
            Some(session) => session,
            None => self.enter(None).await?,
        };
        let refused = match self.send(&session, request).await {
            Err(refused @ VaultError::Forbidden(_)) => refused,
            other => return other,
        };
        let fresh = match self.enter(Some(session)).await {
            Ok(fresh) => fresh,
            Err(VaultError::Resting) if !self.standing().refused => return Err(refused),
            Err(error) => return Err(error),
        };
        let answer = self.send(&fresh, request).await;
        if let Err(VaultError::Forbidden(_)) = answer {
            self.rest(true, false);
        }
        answer
    }

    async fn send<D>(&self, session: &Arc<Session>, request: &Request) -> Result<VaultResponse<D>, VaultError>
    where
        D: DeserializeOwned + Send + 'static,
    {
        let (session, request) = (Arc::clone(session), request.clone());
        self.blocking(move || session.call(&request)).await
    }

    /// Logs in, unless somebody else has since this login was found wanting.
    async fn enter(&self, wanting: Option<Arc<Session>>) -> Result<Arc<Session>, VaultError> {
        let _alone = self.0.entering.lock().await;
        let current = self.session();
        if let Some(current) = current
            && wanting.is_none_or(|wanting| !Arc::ptr_eq(&wanting, &current))
        {
            return Ok(current);
        }
        let now = self.now();
        if now < self.standing().rest_until {
            return Err(VaultError::Resting);
        }
        let inner = Arc::clone(&self.0);
        let log_in = move || inner.settings.log_in(inner.http()?, now);
        let session = match self.blocking(log_in).await {
            Ok(session) => Arc::new(session),
            Err(error) => {
                self.rest(error.is_fault(), true);
                return Err(error);
            }
        };
        tracing::info!("logged in to Vault");
        *self.0.session.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(&session));
        Ok(session)
    }

    /// On a thread that may block, if there is one in time.
    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let calls = Arc::clone(&self.0.calls);
        let done = async {
            let room = calls.acquire_owned().await.map_err(|_| VaultError::Slow)?;
            let work = move || {
                let done = work();
                // Only now: whoever gave up waiting has left this thread behind.
                drop(room);
                done
            };
            tokio::task::spawn_blocking(work).await.unwrap_or(Err(VaultError::Slow))
        };
        tokio::time::timeout(self.patience(), done).await.unwrap_or(Err(VaultError::Slow))
    }

    /// A login is two requests, and each has the whole time.
    fn patience(&self) -> Duration {
        self.0.settings.timeout * 2 + PAUSE_MIN
    }

    /// No login for a while.
    fn rest(&self, fault: bool, refused: bool) {
        let now = self.now();
        self.standing_mut(|standing| {
            standing.failures = standing.failures.saturating_add(1);
            standing.refused = refused;
            standing.rest_until = now + pause(standing.failures, fault);
        });
    }

    fn session(&self) -> Option<Arc<Session>> {
        self.0.session.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn standing(&self) -> Standing {
        *self.0.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn standing_mut(&self, change: impl FnOnce(&mut Standing)) {
        change(&mut self.0.standing.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn now(&self) -> Duration {
        self.0.clock.monotonic()
    }
}

/// Before the next login, after so many that were of no use.
fn pause(failures: u32, fault: bool) -> Duration {
    match fault {
        true => PAUSE_MAX,
        false => (PAUSE_MIN * 2_u32.saturating_pow(failures.saturating_sub(1).min(16))).min(PAUSE_MAX),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_doubles_to_a_minute_and_a_fault_has_the_whole_one_at_once() {
        let pauses: Vec<u64> = (1..=8).map(|failures| pause(failures, false).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(pause(1, true), PAUSE_MAX);
        assert_eq!(pause(u32::MAX, false), PAUSE_MAX);
    }
}
