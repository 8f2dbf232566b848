//! What is decided by a slice is what all policies say: the same decision, by the same policies.
use super::{in_full::told, *};
use crate::{
    authorization::{POLICIES, PlatformRole, Role, SCHEMA},
    kernel::{Id, OrgStatus, UserStatus},
};
use rand_chacha::ChaCha20Rng;
use rand_core::{RngCore, SeedableRng};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A debug build takes long: `./dev test --release a_slice_says` asks them all.
const QUESTIONS: u32 = if cfg!(debug_assertions) { 20_000 } else { 100_000 };
const KINDS: [&str; 11] = [
    "User",
    "ServiceAccount",
    "Person",
    "Workload",
    "Anonymous",
    "Platform",
    "Account",
    "Organization",
    "ApiKey",
    "Model",
    "Role",
];
/// What somebody may call himself.
const NAMES: [&str; 9] =
    ["", "jobs", "bootstrap", "a\"b\\", "User::\"x\"", "ключ-🔑", "\u{0}\n\u{202e}", "..", "owner"];

struct Dice(ChaCha20Rng);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0.next_u32() as usize % bound
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 0
    }

    fn node(&mut self, kind: &'static str) -> Node {
        let small = |dice: &mut Self| Uuid::from_u128(1 + dice.below(2) as u128);
        let id = match self.below(12) {
            0 => self.one(&NAMES).repeat(1 + self.below(500)),
            1 => self.one(&NAMES).to_owned(),
            _ => small(self).to_string(),
        };
        let mut node =
            Node::plain(kind, if kind == "Workload" { self.one(&NAMES[1..3]).to_owned() } else { id });
        let org = (
            Id::from_uuid(small(self)),
            self.one(&[OrgStatus::Active, OrgStatus::Suspended, OrgStatus::PendingDelete]),
        );
        let status = self.one(&["active", "active", UserStatus::Suspended.as_str(), "disabled", "invited"]);
        match kind {
            "User" | "ServiceAccount" => (node.org, node.status) = (Some(org), Some(status)),
            "ApiKey" | "Model" => node.org = Some(org),
            "Workload" => node.org = self.coin().then_some(org),
            "Organization" => node = Node::org(org),
            _ => (),
        }
        if kind == "User" {
            node.mfa_due_at_s = self.one(&[None, Some(5), Some(i64::MAX), Some(i64::MIN)]);
        }
        if kind == "ApiKey" {
            node.user = self.coin().then(|| Id::from_uuid(small(self)));
        }
        if matches!(kind, "User" | "ServiceAccount") {
            node.roles = (0..self.below(3)).map(|_| ("Role", self.one(Role::ALL).as_str())).collect();
        }
        if matches!(kind, "User" | "Person") && self.below(3) == 0 {
            node.roles.push(("PlatformRole", self.one(PlatformRole::ALL).as_str()));
        }
        node
    }
}

fn kind(name: &str) -> &'static str {
    KINDS.into_iter().find(|kind| *kind == name).unwrap()
}

#[test]
fn a_slice_says_what_all_policies_say() {
    let mut dice = Dice(ChaCha20Rng::from_seed([4; 32]));
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for self_service in [false, true] {
        let engine = Engine::load(SCHEMA, POLICIES, self_service).unwrap();
        let known: Vec<(&Slice, Action)> = engine.slices.all().collect();
        for _ in 0..QUESTIONS / 2 {
            let mut action = dice.one(Action::ALL);
            let (mut who, mut what) = (dice.one(&KINDS), dice.one(&KINDS));
            if dice.below(20) > 0 {
                let (slice, known) = dice.one(&known);
                (who, action, what) = (kind(&slice.principal), known, kind(&slice.resource));
            }
            let (principal, kind) = (dice.node(who), what);
            let resource = if dice.below(9) == 0 { principal.clone() } else { dice.node(kind) };
            let given: Vec<_> = (0..dice.below(3)).map(|_| dice.one(Role::ALL).as_str()).collect();
            let call = Call {
                now: DateTime::from_timestamp(dice.one(&[0, 5, 1_800_000_000]), 0).unwrap(),
                credential: dice.one(&["session", "session", "key", "operator", "workload", "none"]),
                in_scope: dice.below(12) > 0,
                roles: &given,
                roles_within_own: dice.below(12) > 0,
                scopes_within_own: dice.below(12) > 0,
                admin_scope: dice.below(9) == 0,
                mfa: dice.coin(),
            };
            let sliced = engine.evaluate(&principal, &resource, action, &call).unwrap();
            let full = engine.evaluate_in_full(&principal, &resource, action, &call).unwrap();
            let asked = format!("{principal:?} {action:?} {resource:?} by {}", call.credential);
            assert_eq!(sliced.as_ref().map(told), full.as_ref().map(told), "{asked}");
            let told = match &sliced {
                None => "no such question",
                Some(response) if response.decision() == Decision::Allow => "allow",
                Some(response) if response.diagnostics().reason().next().is_some() => "forbidden",
                Some(_) => "no permit",
            };
            *counts.entry(told).or_default() += 1;
        }
    }
    assert!(counts.len() == 4 && counts.values().all(|count| *count > QUESTIONS / 200), "{counts:?}");
}

/// Prints what `docs/performance.md` has: `./dev test --release --no-capture what_a_slice_saves`.
#[test]
fn what_a_slice_saves() {
    let engine = Engine::load(SCHEMA, POLICIES, false).unwrap();
    let mut dice = Dice(ChaCha20Rng::from_seed([5; 32]));
    let org = (Id::from_uuid(Uuid::from_u128(1)), OrgStatus::Active);
    let owner = Node {
        org: Some(org),
        status: Some("active"),
        roles: vec![("Role", Role::Owner.as_str())],
        ..Node::plain("User", Uuid::from_u128(2))
    };
    let key = Node::key(Uuid::from_u128(3), org, None);
    let call = Call::plain(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
    let (mut sliced, mut full) = (vec![], vec![]);
    for _ in 0..2_000 {
        let first = dice.coin();
        for ask_sliced in [first, !first] {
            let began = std::time::Instant::now();
            let answer = if ask_sliced {
                engine.evaluate(&owner, &key, Action::KeysRevoke, &call)
            } else {
                engine.evaluate_in_full(&owner, &key, Action::KeysRevoke, &call)
            };
            if ask_sliced { &mut sliced } else { &mut full }.push(began.elapsed());
            assert_eq!(answer.unwrap().unwrap().decision(), Decision::Allow);
        }
    }
    let median = |mut times: Vec<std::time::Duration>| {
        times.sort();
        times[times.len() / 2]
    };
    println!("a decision by its slice {:?}, by all policies {:?}", median(sliced), median(full));
}

/// Should one ever load: its entity has the groups above it.
#[test]
fn a_forbid_that_names_a_group_of_actions_binds() {
    let schema = format!(
        "{}\naction \"elevated\";
         action \"users:invite\" in [\"elevated\"] appliesTo {{ principal: [User], resource: [Organization], context: Call }};",
        SCHEMA.replace("\"users:invite\", ", "")
    );
    let (schema, _) = Schema::from_cedarschema_str(&schema).unwrap();
    let policies = "permit (principal, action, resource);
        forbid (principal, action in Action::\"elevated\", resource);";
    let policies: PolicySet = policies.parse().unwrap();
    let slices = Slices::of(&schema, &policies).unwrap();
    for (slice, action) in slices.all() {
        let (principal, resource) = slices.types.ends(slice).unwrap();
        let context = context(&Call::plain(DateTime::UNIX_EPOCH), false).unwrap();
        let answer = ask(slice, &slice.policies, principal, resource, context, vec![]).unwrap();
        assert_eq!(answer.decision() == Decision::Deny, action == Action::UsersInvite, "{action:?}");
    }
}
