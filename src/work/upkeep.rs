//! Housekeeping: what it is called, what it may change, and under which rights.

/// Tables that `upkeep` may change: no audit, no row-level security. Ids and digests, answers kept to be repeated, and
/// what a job is to do; no secret but sealed.
pub const OPERATIONAL: &[&str] = &[
    "api_key_usage",
    "idempotency_keys",
    "jobs",
    "leases",
    "login_throttle",
    "login_networks",
    "refresh_tokens",
    "relay_positions",
];

/// Housekeeping, by name, for logs and metrics.
#[derive(Clone, Copy, Debug)]
pub enum Upkeep {
    /// Takes a due job, puts it back, or ends it.
    Jobs,
    /// Gives events their place on the log.
    Sequence,
    /// Reads the log for those it is relayed to, and notes how far they have it.
    Relay,
    /// Turns a refresh token over.
    Refresh,
    /// Counts sign-in attempts.
    Throttle,
    /// Notes when keys were last used.
    Usage,
    /// Takes a lease.
    Lease,
    /// Takes away what nobody asks for any more.
    Sweep,
    /// Forgets facts that no longer hold.
    ForgetFacts,
}

impl Upkeep {
    /// The database's role for it.
    pub(super) fn role(self) -> &'static str {
        match self {
            Self::Sequence | Self::Relay => "identityd_sequencer",
            Self::ForgetFacts => "identityd_platform",
            Self::Jobs | Self::Refresh | Self::Throttle | Self::Usage | Self::Lease | Self::Sweep => "none",
        }
    }
}
