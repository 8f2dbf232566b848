//! What is counted. Names are Prometheus names; label values come from enums and routes, never from callers.
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric, text},
    metrics::{counter::Counter, family::Family, gauge::ConstGauge, histogram::Histogram},
    registry::{Registry, Unit},
};
use std::{
    fmt,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

/// Seconds; a key check takes far less than the first, a sign-in about the middle.
const LATENCY_BUCKETS: [f64; 12] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// The metrics of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: RwLock<Registry>,
    requests: Family<RequestLabels, Histogram, fn() -> Histogram>,
    auth_attempts: Family<AuthLabels, Counter>,
    auth_attempts_all: Counter,
    auth_failures: Counter,
    sessions_created: Counter,
    sessions_revoked: Counter,
    keys_issued: Counter,
    keys_revoked: Counter,
    key_checks: Family<OutcomeLabels, Counter>,
    stale_answers: Counter,
    authorization_asked: Counter,
    decisions: Family<OutcomeLabels, Counter>,
    evaluations: Family<OutcomeLabels, Counter>,
    decision_records: Family<OutcomeLabels, Counter>,
    audit_sequenced: Counter,
    audit_relayed: Counter,
    jobs: Family<JobLabels, Counter>,
    shed: Counter,
    wakeups: Family<OutcomeLabels, Counter>,
    redis_errors: Family<CallLabels, Counter>,
    rate_limited: Family<LimitLabels, Counter>,
    attacks: Family<AttackLabels, Counter>,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct RequestLabels {
    http_request_method: &'static str,
    http_route: String,
    http_response_status_code: u16,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct AuthLabels {
    method: &'static str,
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct CallLabels {
    call: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct LimitLabels {
    class: &'static str,
    subject: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct AttackLabels {
    kind: &'static str,
}

#[derive(Clone, PartialEq, Eq, Hash, Debug, EncodeLabelSet)]
struct JobLabels {
    kind: String,
    outcome: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Registers everything, each under its own name and, where dashboards of the platform read one, the older one.
    pub fn new() -> Self {
        let latency: fn() -> Histogram = || Histogram::new(LATENCY_BUCKETS);
        let inner = Inner {
            registry: RwLock::new(Registry::default()),
            requests: Family::new_with_constructor(latency),
            auth_attempts: Family::default(),
            auth_attempts_all: Counter::default(),
            auth_failures: Counter::default(),
            sessions_created: Counter::default(),
            sessions_revoked: Counter::default(),
            keys_issued: Counter::default(),
            keys_revoked: Counter::default(),
            key_checks: Family::default(),
            stale_answers: Counter::default(),
            authorization_asked: Counter::default(),
            decisions: Family::default(),
            evaluations: Family::default(),
            decision_records: Family::default(),
            audit_sequenced: Counter::default(),
            audit_relayed: Counter::default(),
            jobs: Family::default(),
            shed: Counter::default(),
            wakeups: Family::default(),
            redis_errors: Family::default(),
            rate_limited: Family::default(),
            attacks: Family::default(),
        };
        let metrics = Self(Arc::new(inner));
        metrics.register();
        metrics
    }

    fn register(&self) {
        let inner = &self.0;
        let mut registry = inner.registry.write().unwrap_or_else(PoisonError::into_inner);
        registry.register_with_unit(
            "http_server_request_duration",
            "Time to answer a request",
            Unit::Seconds,
            inner.requests.clone(),
        );
        registry.register("identityd_auth_attempts", "Sign-ins", inner.auth_attempts.clone());
        registry.register("identityd_sessions_created", "Sessions begun", inner.sessions_created.clone());
        registry.register("identityd_sessions_revoked", "Sessions ended", inner.sessions_revoked.clone());
        registry.register("identityd_api_keys_issued", "API keys issued", inner.keys_issued.clone());
        registry.register("identityd_api_keys_revoked", "API keys revoked", inner.keys_revoked.clone());
        registry.register("identityd_api_key_validations", "API key checks", inner.key_checks.clone());
        registry.register(
            "identityd_stale_answers",
            "Key checks answered from a state that PostgreSQL had not confirmed lately",
            inner.stale_answers.clone(),
        );
        registry.register(
            "identityd_authorization_asked",
            "Questions to PostgreSQL for which a request waited, because memory was not enough",
            inner.authorization_asked.clone(),
        );
        registry.register("identityd_authorization_decisions", "Permits asked for", inner.decisions.clone());
        registry.register(
            "identityd_policy_evaluations",
            "Answers to the questions of other services",
            inner.evaluations.clone(),
        );
        registry.register(
            "identityd_decision_records",
            "Decisions for other services, by what became of their record",
            inner.decision_records.clone(),
        );
        registry.register(
            "identityd_audit_sequenced",
            "Audit events put on the log",
            inner.audit_sequenced.clone(),
        );
        registry.register(
            "identityd_audit_relayed",
            "Audit events that the brokers acknowledged",
            inner.audit_relayed.clone(),
        );
        registry.register("identityd_jobs", "Jobs run", inner.jobs.clone());
        registry.register("identityd_requests_shed", "Requests refused for want of room", inner.shed.clone());
        registry.register(
            "identityd_wakeups",
            "Announcements of commits, through Redis",
            inner.wakeups.clone(),
        );
        registry.register("identityd_redis_errors", "Calls to Redis that failed", inner.redis_errors.clone());
        registry.register("identityd_rate_limited", "Requests answered 429", inner.rate_limited.clone());
        registry.register("identityd_sign_in_attacks", "Patterns of failed sign-ins", inner.attacks.clone());
        self.register_aliases(&mut registry);
    }

    /// Names that the platform's dashboards read. What this release cannot do yet stays at zero.
    fn register_aliases(&self, registry: &mut Registry) {
        let inner = &self.0;
        let older = registry.sub_registry_with_prefix("user_org_service");
        older.register("auth_attempts", "Alias", inner.auth_attempts_all.clone());
        older.register("auth_failures", "Alias", inner.auth_failures.clone());
        older.register("auth_mfa_attempts", "Alias", Counter::<u64>::default());
        older.register("auth_mfa_attempt_duration_seconds", "Alias", Histogram::new(LATENCY_BUCKETS));
        older.register("auth_sessions_created", "Alias", inner.sessions_created.clone());
        older.register("auth_sessions_revoked", "Alias", inner.sessions_revoked.clone());
        older.register("auth_oidc_login_attempts", "Alias", Counter::<u64>::default());
        older.register("auth_oidc_callback", "Alias", Counter::<u64>::default());
        older.register("auth_recovery_attempts", "Alias", Counter::<u64>::default());
        older.register("apikeys_issued", "Alias", inner.keys_issued.clone());
        older.register("apikeys_revoked", "Alias", inner.keys_revoked.clone());
    }

    /// Adds a value that is read when asked for.
    pub fn gauge(
        &self,
        name: &'static str,
        help: &'static str,
        read: impl Fn() -> f64 + Send + Sync + 'static,
    ) {
        let reading = Reading { name, help, read: Box::new(read) };
        let mut registry = self.0.registry.write().unwrap_or_else(PoisonError::into_inner);
        registry.register_collector(Box::new(reading));
    }

    /// OpenMetrics text.
    pub fn render(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        let registry = self.0.registry.read().unwrap_or_else(PoisonError::into_inner);
        text::encode(&mut out, &registry)?;
        Ok(out)
    }

    /// One answered request.
    pub fn request(&self, method: &str, route: String, status: u16, took: Duration) {
        let labels = RequestLabels {
            http_request_method: known_method(method),
            http_route: route,
            http_response_status_code: status,
        };
        self.0.requests.get_or_create(&labels).observe(took.as_secs_f64());
    }

    /// What became of the records of so many decisions: `kept`, `published`, `counted` or `lost`.
    pub fn decisions_recorded(&self, outcome: &'static str, count: usize) {
        let count = u64::try_from(count).unwrap_or_default();
        self.0.decision_records.get_or_create(&OutcomeLabels { outcome }).inc_by(count);
    }

    /// One sign-in, by `method` (`password`, `refresh`, …) with `outcome` (`success`, `failure`, `throttled`).
    pub fn auth_attempt(&self, method: &'static str, outcome: &'static str) {
        self.0.auth_attempts.get_or_create(&AuthLabels { method, outcome }).inc();
        self.0.auth_attempts_all.inc();
        if outcome != "success" {
            self.0.auth_failures.inc();
        }
    }

    /// A session begun.
    pub fn session_created(&self) {
        self.0.sessions_created.inc();
    }

    /// Sessions ended before their time.
    pub fn sessions_revoked(&self, count: usize) {
        self.0.sessions_revoked.inc_by(u64::try_from(count).unwrap_or_default());
    }

    /// A key issued.
    pub fn key_issued(&self) {
        self.0.keys_issued.inc();
    }

    /// A key revoked.
    pub fn key_revoked(&self) {
        self.0.keys_revoked.inc();
    }

    /// A key checked, with its outcome (`valid`, `unknown`, `revoked`, …).
    pub fn key_check(&self, outcome: &'static str, stale: bool) {
        self.0.key_checks.get_or_create(&OutcomeLabels { outcome }).inc();
        if stale {
            self.0.stale_answers.inc();
        }
    }

    /// A permit asked for: `allow`, `deny` or `stale`.
    pub fn decision(&self, outcome: &'static str) {
        self.0.decisions.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A question of another service answered.
    pub fn evaluation(&self, allowed: bool) {
        let outcome = if allowed { "allow" } else { "deny" };
        self.0.evaluations.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// Events that got their place on the log.
    pub fn sequenced(&self, count: usize) {
        self.0.audit_sequenced.inc_by(u64::try_from(count).unwrap_or_default());
    }

    /// Events of the log that were acknowledged elsewhere.
    pub fn relayed(&self, count: usize) {
        self.0.audit_relayed.inc_by(u64::try_from(count).unwrap_or_default());
    }

    /// A job run: `done`, `retry` or `dead`.
    pub fn job(&self, kind: &str, outcome: &'static str) {
        self.0.jobs.get_or_create(&JobLabels { kind: kind.to_owned(), outcome }).inc();
    }

    /// A request asked PostgreSQL what is new.
    pub fn authorization_asked(&self) {
        self.0.authorization_asked.inc();
    }

    /// An announcement of a commit: `sent`, `heard` or `dropped`.
    pub fn wakeup(&self, outcome: &'static str) {
        self.0.wakeups.get_or_create(&OutcomeLabels { outcome }).inc();
    }

    /// A call to Redis that failed: to `announce`, to `follow`, or for a `bucket`.
    pub fn redis_error(&self, call: &'static str) {
        self.0.redis_errors.get_or_create(&CallLabels { call }).inc();
    }

    /// A request that came too soon after others of its class, by the subject that it counts for.
    pub fn rate_limited(&self, class: &'static str, subject: &'static str) {
        self.0.rate_limited.get_or_create(&LimitLabels { class, subject }).inc();
    }

    /// Failed sign-ins that look like an attack: `stuffing`, `account` or `org`.
    pub fn attack(&self, kind: &'static str) {
        self.0.attacks.get_or_create(&AttackLabels { kind }).inc();
    }

    /// A request refused because too many are at work.
    pub fn request_shed(&self) {
        self.0.shed.inc();
    }
}

struct Reading {
    name: &'static str,
    help: &'static str,
    read: Box<dyn Fn() -> f64 + Send + Sync>,
}

impl fmt::Debug for Reading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Collector for Reading {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let gauge = ConstGauge::new((self.read)());
        let metric = encoder.encode_descriptor(self.name, self.help, None, gauge.metric_type())?;
        gauge.encode(metric)
    }
}

/// Methods are chosen by callers, so only the known ones become labels.
fn known_method(method: &str) -> &'static str {
    ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD"]
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("OTHER")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dashboards_find_their_names() {
        let metrics = Metrics::new();
        metrics.gauge("identityd_answer", "The answer", || 42.0);
        metrics.auth_attempt("password", "failure");
        metrics.request("BREW", "/v1/orgs".into(), 405, Duration::from_millis(3));
        let text = metrics.render().unwrap();
        for line in [
            "identityd_auth_attempts_total{method=\"password\",outcome=\"failure\"} 1",
            "user_org_service_auth_attempts_total 1",
            "user_org_service_auth_failures_total 1",
            "user_org_service_auth_mfa_attempts_total 0",
            "user_org_service_auth_oidc_callback_total 0",
            "user_org_service_apikeys_issued_total 0",
            "identityd_answer 42",
            "http_server_request_duration_seconds_count{http_request_method=\"OTHER\",http_route=\"/v1/orgs\",\
             http_response_status_code=\"405\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
