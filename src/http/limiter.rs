//! How often somebody may ask: takes one from each bucket that a request counts in, or answers 429.
//!
//! **Invariant:** who is known counts as himself and never by his network, so nobody pays for his neighbours; an
//! organization's bucket is for its own members and keys, so no stranger empties it. Without Redis each process counts
//! by itself, and no request fails.
use super::{
    auth::Access,
    extract,
    problem::Problem,
    rates::{Class, Classes},
};
use crate::{
    authorization::{Holder, UserFact},
    kernel::{AccessClaims, Actor, Ctx, OrgId, UserStatus},
    ledger::network,
    platform::cache::{Rate, Taken},
};
use actix_web::{
    HttpMessage as _, HttpRequest,
    http::{
        StatusCode,
        header::{HeaderMap, HeaderName, HeaderValue},
    },
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use std::{fmt::Write as _, net::IpAddr, time::Duration};

/// What is left, as draft-ietf-httpapi-ratelimit-headers has it.
pub const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
/// Of the keyed digest that names a bucket.
const DIGEST_LEN: usize = 16;

/// By what a request is counted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Subject {
    Network,
    Principal,
    Key,
    Org,
}

impl Subject {
    fn as_str(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Principal => "principal",
            Self::Key => "key",
            Self::Org => "org",
        }
    }

    fn whose(self) -> &'static str {
        match self {
            Self::Network => "from this network",
            Self::Principal => "by you",
            Self::Key => "with this API key",
            Self::Org => "in this organization",
        }
    }
}

/// What a request has to take before it is looked at.
pub struct Charge {
    class: Class,
    subjects: Vec<Subject>,
    wanted: Vec<(String, Rate)>,
}

/// What the answer's headers say of it.
struct Told {
    policy: String,
    state: String,
}

impl Charge {
    /// Of this caller. `None`: nothing limits him here.
    pub fn of(
        request: &HttpRequest,
        access: &Access,
        ctx: &Ctx,
        claims: Option<&AccessClaims>,
    ) -> Option<Self> {
        let class = Classes::class(request)?;
        if class == Class::Checks && ctx.source.address.is_some_and(|address| is_friend(access, address)) {
            return None;
        }
        let limits = access.limits.of(class);
        let mut charge = Self { class, subjects: vec![], wanted: vec![] };
        let mut count = |subject: Subject, limit: Option<Rate>, who: &dyn Fn() -> String| {
            if let Some(rate) = limit {
                let digest = access.work.keys().fingerprint(&format!("{}\0{}", subject.as_str(), who())).0;
                let digest = URL_SAFE_NO_PAD.encode(digest.get(..DIGEST_LEN).unwrap_or(&digest));
                charge.wanted.push((format!("{}:{}:{digest}", class.as_str(), subject.as_str()), rate));
                charge.subjects.push(subject);
            }
        };
        let state = access.work.state();
        let org = match ctx.actor {
            Actor::Key { key } => {
                count(Subject::Key, limits.key.0, &|| key.to_string());
                let is_needed = limits.principal.0.is_some() || limits.org.0.is_some();
                let fact = is_needed.then(|| state.key(key)).flatten();
                if let Some(fact) = &fact {
                    count(Subject::Principal, limits.principal.0, &|| holder(fact.holder));
                }
                fact.map(|fact| fact.org)
            }
            Actor::Person { identity, .. } => {
                count(Subject::Principal, limits.principal.0, &|| ctx.actor.principal());
                let named = request.match_info().get("org").and_then(|name| extract::org(access, name));
                let named = named.or_else(|| claims.and_then(|claims| claims.org_id));
                // A suspended member takes nothing of the others'.
                let is_active = |user: UserFact| user.status == UserStatus::Active;
                named.filter(|org| state.member(identity, *org).is_some_and(is_active))
            }
            Actor::Operator { .. } | Actor::Workload(_) => {
                count(Subject::Principal, limits.principal.0, &|| ctx.actor.principal());
                None
            }
            Actor::Anonymous => {
                count(Subject::Network, limits.network.0, &|| from(ctx.source.address));
                None
            }
        };
        if let Some(org) = org {
            count(Subject::Org, limits.org.0, &|| OrgId::to_string(&org));
        }
        (!charge.wanted.is_empty()).then_some(charge)
    }

    /// Takes one from each, if each has one, in one question.
    pub async fn take(self, request: &HttpRequest, access: &Access) -> Result<(), Problem> {
        let cache = access.work.cache();
        let taken = if self.class.is_shared() {
            cache.take(&self.wanted).await
        } else {
            cache.take_here(&self.wanted)
        };
        let (told, refused) = self.tell(&taken);
        request.extensions_mut().insert(told);
        let Some((subject, wait)) = refused else { return Ok(()) };
        access.work.metrics().rate_limited(self.class.as_str(), subject.as_str());
        Err(refusal(self.class, subject, whole_seconds(wait)))
    }

    fn tell(&self, taken: &Taken) -> (Told, Option<(Subject, Duration)>) {
        let mut told = Told { policy: String::new(), state: String::new() };
        for (nth, (subject, (_, rate))) in self.subjects.iter().zip(&self.wanted).enumerate() {
            let name = format!("{}-{}", self.class.as_str(), subject.as_str());
            let item = |list: &mut String, item: std::fmt::Arguments<'_>| {
                let _ = write!(list, "{}\"{name}\";{item}", if list.is_empty() { "" } else { ", " });
            };
            item(&mut told.policy, format_args!("q={};w={}", rate.burst, whole_seconds(rate.window())));
            match taken {
                Taken::Allowed(left) => {
                    if let Some(left) = left.get(nth) {
                        item(
                            &mut told.state,
                            format_args!("r={};t={}", left.count, whole_seconds(left.full_in)),
                        );
                    }
                }
                Taken::Refused { nth: refused, wait } if *refused == nth => {
                    item(&mut told.state, format_args!("r=0;t={}", whole_seconds(*wait)));
                }
                Taken::Refused { .. } => (),
            }
        }
        let refused = match taken {
            Taken::Allowed(_) => None,
            Taken::Refused { nth, wait } => self.subjects.get(*nth).map(|subject| (*subject, *wait)),
        };
        (told, refused)
    }
}

/// Charges this caller, if anything limits him here.
pub(super) async fn charge(
    request: &HttpRequest,
    access: &Access,
    ctx: &Ctx,
    claims: Option<&AccessClaims>,
) -> Result<(), Problem> {
    match Charge::of(request, access, ctx, claims) {
        Some(charge) => charge.take(request, access).await,
        None => Ok(()),
    }
}

/// Who asks for others, many times a second.
fn is_friend(access: &Access, address: IpAddr) -> bool {
    access.work.config().validate.trusted_callers.iter().any(|network| network.contains(&address))
}

fn holder(holder: Holder) -> String {
    match holder {
        Holder::User(user) => format!("user:{user}"),
        Holder::ServiceAccount(account) => format!("service_account:{account}"),
    }
}

fn from(address: Option<IpAddr>) -> String {
    address.map_or_else(|| "unknown".to_owned(), network)
}

/// Rounded up: whoever waits that long is let in.
fn whole_seconds(wait: Duration) -> u64 {
    u64::try_from(wait.as_millis()).unwrap_or(u64::MAX).div_ceil(1000).max(1)
}

fn refusal(class: Class, subject: Subject, seconds: u64) -> Problem {
    const STATUS: StatusCode = StatusCode::TOO_MANY_REQUESTS;
    let whose = subject.whose();
    match class {
        Class::SignIn | Class::Recovery => {
            let detail = format!("too many attempts {whose}; try again in {seconds} seconds");
            Problem::retry_after(STATUS, "TOO_MANY_ATTEMPTS", &detail, seconds)
                .member("error", "slow_down")
                .member("error_description", detail)
        }
        _ => {
            let detail = format!("too many requests of this kind {whose}; try again in {seconds} seconds");
            Problem::retry_after(STATUS, "RATE_LIMITED", detail, seconds)
        }
    }
}

/// Says on an answer what its request took, and what is left.
pub(super) fn mark(request: &HttpRequest, headers: &mut HeaderMap) {
    let extensions = request.extensions();
    let Some(Told { policy, state }) = extensions.get() else { return };
    for (name, value) in [(RATE_LIMIT_POLICY, policy), (RATE_LIMIT, state)] {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.append(name, value);
        }
    }
}
