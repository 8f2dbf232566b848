//! The context of one operation.
use super::{Actor, Answer, Id, Idempotency};
use crate::platform::entropy::Entropy;
use chrono::{DateTime, Utc};
use std::{net::IpAddr, time::Duration};
use uuid::Uuid;

/// Who is doing this, when, and on whose request. Plain data; built once per operation.
#[derive(Clone, Debug)]
pub struct Ctx {
    /// Who acts.
    pub actor: Actor,
    /// `X-Request-ID`, or one of ours.
    pub request_id: String,
    /// The one instant at which this operation happens: rows, events and answers agree on it.
    pub now: DateTime<Utc>,
    /// Where the request came from.
    pub source: Source,
    /// Set when the caller sent an `Idempotency-Key`.
    pub idempotency: Option<Idempotency>,
    /// When the request arrived, on the monotonic clock; `None`: nobody sent it. What was done before is to be known before
    /// a no.
    pub arrived: Option<Duration>,
    entropy: Entropy,
}

/// Where a request came from, as far as it is believed.
#[derive(Clone, Default, Debug)]
pub struct Source {
    /// The client's address behind trusted proxies.
    pub address: Option<IpAddr>,
    /// `User-Agent`, cut to a bound.
    pub user_agent: Option<String>,
}

impl Ctx {
    /// A context that nobody sent: a job's, a command's, a test's.
    pub fn new(actor: Actor, now: DateTime<Utc>, entropy: Entropy) -> Self {
        let request_id = uuid_v7(now, &entropy).to_string();
        Self { actor, request_id, now, source: Source::default(), idempotency: None, arrived: None, entropy }
    }

    /// A new id, ordered by `now`.
    pub fn mint<T>(&self) -> Id<T> {
        Id::from_uuid(uuid_v7(self.now, &self.entropy))
    }

    /// Randomness of this operation.
    pub fn entropy(&self) -> &Entropy {
        &self.entropy
    }

    /// Says how the use case's value will be answered, so that an idempotent write can store the answer.
    #[must_use]
    pub fn answering<T: 'static>(mut self, answer: fn(&T) -> Answer) -> Self {
        self.idempotency = self.idempotency.map(|wish| wish.answering(answer));
        self
    }

    /// The same as somebody else: a caller who became known on the way, or whoever is asked about.
    #[must_use]
    pub fn acting_as(&self, actor: Actor) -> Self {
        Self { actor, ..self.aside() }
    }

    /// The same, for what is no answer to the caller: nothing of it is kept under an Idempotency-Key.
    #[must_use]
    pub fn aside(&self) -> Self {
        Self { idempotency: None, ..self.clone() }
    }
}

fn uuid_v7(now: DateTime<Utc>, entropy: &Entropy) -> Uuid {
    let millis = u64::try_from(now.timestamp_millis()).unwrap_or_default();
    uuid::Builder::from_unix_timestamp_millis(millis, &entropy.bytes()).into_uuid()
}
