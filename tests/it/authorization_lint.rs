//! What policies must never allow: each rule that is taken away is missed, by name.
use identityd::authorization::{Bench, CASES, INVARIANTS, POLICIES, SCHEMA, cases, lint};
use std::{fs, process::Command};

/// What is wrong with these policies: the invariant, and the policy that is to blame.
fn findings(policies: &str) -> Vec<(String, Option<String>)> {
    let report = lint(SCHEMA, policies, INVARIANTS).unwrap();
    report.findings.into_iter().map(|finding| (finding.invariant, finding.policy)).collect()
}

/// The policies without one of them.
fn without(id: &str) -> String {
    let start = POLICIES.find(&format!("@id(\"{id}\")")).unwrap();
    let end = start + POLICIES[start..].find(";\n").unwrap() + 2;
    format!("{}{}", &POLICIES[..start], &POLICIES[end..])
}

fn blamed(findings: &[(String, Option<String>)], invariant: &str, policy: &str) -> bool {
    findings.contains(&(invariant.to_owned(), Some(policy.to_owned())))
}

#[test]
fn our_policies_allow_nothing_that_they_must_not() {
    let report = lint(SCHEMA, POLICIES, INVARIANTS).unwrap();
    assert!(report.findings.is_empty(), "{report}");
    assert!(report.questions > 300 && report.evaluations > 10_000, "{report}");
    assert!(report.method.contains("enumeration"), "{report}");
}

#[test]
fn a_forbid_that_is_taken_away_is_missed() {
    let found = findings(&without("tenant.isolation.user.key"));
    assert!(blamed(&found, "tenants.apart", "role.owner"), "{found:?}");
    assert!(found.contains(&("tenants.apart".to_owned(), None)), "the forbid itself is missed: {found:?}");
    let found = findings(&without("user.not_active"));
    assert!(
        blamed(&found, "principal.active", "role.member")
            && found.iter().all(|(name, _)| name == "principal.active"),
        "{found:?}"
    );
    for (taken, missed) in [
        ("service_account.not_active", "principal.active"),
        ("org.not_active.user", "org.active"),
        ("scope.ceiling", "scope.ceiling"),
        ("org.restore.platform_only", "org.restore"),
        ("owner.protected", "owners"),
        ("grants.roles", "grants.roles"),
        ("grants.scopes", "grants.scopes"),
        ("grants.admin_scope", "grants.admin_scope"),
        ("mfa.enrolment_due", "mfa.due"),
    ] {
        let found = findings(&without(taken));
        assert!(found.iter().any(|(name, _)| name == missed), "without {taken}: {found:?}");
    }
}

#[test]
fn a_permit_that_reaches_too_far_is_named() {
    let wider = POLICIES.replace("principal has org && resource == principal.org }", "principal has org }");
    assert_ne!(wider, POLICIES);
    assert_eq!(findings(&wider), [("tenants.apart".to_owned(), Some("bootstrap.own_org".to_owned()))]);
    let anybody = format!(
        "{POLICIES}@id(\"open\") permit (principal is Anonymous, action == Action::\"orgs:read\", resource is Organization);"
    );
    assert_eq!(findings(&anybody), [("anonymous".to_owned(), Some("open".to_owned()))]);
    // Two roles at once, which no member of a smaller sample has.
    let both = format!(
        "{POLICIES}@id(\"both\") permit (principal in Role::\"analyst\", action == Action::\"platform:read\", resource)
          when {{ principal in Role::\"auditor\" && principal in Role::\"billing-admin\" }};"
    );
    assert_eq!(findings(&both), [("platform.reserved".to_owned(), Some("both".to_owned()))]);
}

#[test]
fn what_the_enumeration_does_not_vary_no_policy_reads() {
    for condition in [
        "context.nowS < 5",
        "principal == User::\"alice\"",
        "principal in Role::\"ownr\"",
        "principal.status == \"actve\"",
        "context == context",
        "principal has mfaDueAtS && principal.mfaDueAtS < 5",
    ] {
        let policies = format!(
            "{POLICIES}@id(\"odd\") @reason(\"ODD\") forbid (principal is User, action == Action::\"users:read\", resource) when {{ {condition} }};"
        );
        let found = findings(&policies);
        assert!(blamed(&found, "abstraction", "odd"), "{condition}: {found:?}");
    }
}

#[test]
fn the_command_says_so_by_its_exit_code() {
    let directory = tempfile("policy-lint");
    let lint = |more: &[&str]| {
        let output = Command::new(env!("CARGO_BIN_EXE_identityd"))
            .args(["policy", "lint", "--output", "json"])
            .args(more)
            .output()
            .unwrap();
        (output.status.code(), serde_json::from_slice::<serde_json::Value>(&output.stdout).unwrap())
    };
    let (code, report) = lint(&[]);
    assert_eq!((code, &report["findings"]), (Some(0), &serde_json::json!([])));
    fs::write(directory.join("all.cedar"), without("scope.ceiling")).unwrap();
    let (code, report) = lint(&["--policies", directory.to_str().unwrap()]);
    assert_eq!((code, &report["findings"][0]["invariant"]), (Some(9), &serde_json::json!("scope.ceiling")));
    fs::remove_dir_all(directory).unwrap();
}

fn tempfile(name: &str) -> std::path::PathBuf {
    let directory = std::env::temp_dir().join(format!("identityd-{name}-{}", std::process::id()));
    fs::create_dir_all(&directory).unwrap();
    directory
}

fn policy(arguments: &[&str]) -> (Option<i32>, String) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_identityd")).arg("policy").args(arguments).output().unwrap();
    (
        output.status.code(),
        String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap(),
    )
}

#[test]
fn cases_are_decided_as_they_say_and_those_that_are_not_are_shown() {
    assert!(cases(CASES).unwrap().len() >= 40);
    let (code, told) = policy(&["test"]);
    assert_eq!(code, Some(0), "{told}");
    let directory = tempfile("policy-test");
    let file = directory.join("cases.yaml");
    let files = file.to_str().unwrap();
    fs::write(&file, "- { name: hope, ask: User orgs:delete Organization, roles: [admin], expect: allow }")
        .unwrap();
    let (code, told) = policy(&["test", files]);
    assert!(code == Some(9) && told.contains("hope: NO_MATCHING_PERMIT [], expected allow"), "{told}");
    fs::write(&file, "- { name: x, ask: User orgs:delete Organization, roles: [owner], expect: allow, policies: [role.admin] }").unwrap();
    assert_eq!(policy(&["test", files]).0, Some(9), "allowed, by another policy");
    for wrong in [
        "ask: User orgs:fly Organization, expect: allow",
        "ask: Unicorn orgs:read Organization, expect: allow",
        "ask: User orgs:read Organization, roles: [ownr], expect: allow",
        "ask: Anonymous sign-in:use Platform, roles: [owner], expect: allow",
        "ask: User orgs:read Organization, where: { moon: full }, expect: allow",
        "ask: User orgs:read Organization, where: { principal.status: actve }, expect: allow",
        "ask: User orgs:read Organization, expects: allow",
    ] {
        fs::write(&file, format!("- {{ name: x, {wrong} }}")).unwrap();
        assert_eq!(policy(&["test", files]).0, Some(1), "{wrong}");
    }
    fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_denial_is_explained_by_what_decided_what_was_false_and_what_would_turn_it_over() {
    let bench = Bench::new(SCHEMA, POLICIES).unwrap();
    let all = cases(CASES).unwrap();
    let explained = |name: &str| bench.explain(all.iter().find(|case| case.name == name).unwrap()).unwrap();
    let told = explained("and none of another org");
    for part in [
        "=> TENANT_MISMATCH",
        "decided by tenant.isolation.user.key:",
        "unless { principal.org == resource.org }",
        "role.owner permits, and is outweighed",
        "if resource.org were own: allow",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let told = explained("and nobody else's");
    for part in [
        "role.member.own_key does not permit: permit(",
        "if resource.user were principal: allow",
        "if principal in Role::\"owner\" were yes: allow",
    ] {
        assert!(told.contains(part), "{part}: {told}");
    }
    let (code, told) = policy(&["explain", "a suspended member"]);
    assert!(code == Some(0) && told.contains("if principal.status were active: allow"), "{told}");
    assert_eq!(policy(&["explain", "no such case"]).0, Some(4));
}

#[test]
fn a_difference_is_told_by_role_and_by_case() {
    let directory = tempfile("policy-diff");
    let candidate = directory.to_str().unwrap();
    fs::write(directory.join("all.cedar"), POLICIES).unwrap();
    assert_eq!(policy(&["diff", "--candidate", candidate]), (Some(0), String::new()));
    let tighter = POLICIES.replace(
        "Action::\"audit:read\", Action::\"audit:export\"], resource)",
        "Action::\"audit:read\"], resource)",
    );
    assert_ne!(tighter, POLICIES);
    fs::write(directory.join("all.cedar"), tighter).unwrap();
    let (code, told) = policy(&["diff", "--candidate", candidate]);
    assert_eq!(code, Some(6), "{told}");
    assert!(told.contains("-audit:export") && told.contains("+audit:export"), "{told}");
    assert!(
        told.contains("an auditor does: allow [\"role.auditor\"], and would be NO_MATCHING_PERMIT []"),
        "{told}"
    );
    fs::remove_dir_all(directory).unwrap();
}
