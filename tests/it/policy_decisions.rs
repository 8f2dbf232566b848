//! `/v1/policy/evaluate`: what other services are told, and that nothing they say widens it.
use crate::{
    app::TestApp,
    http_support::{ask, bearing, post_from},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use identityd::{
    authorization::{PlatformRole, Role},
    kernel::{OrgId, UserId, UserStatus},
};
use jsonwebtoken::Algorithm;
use serde_json::{Value, json};
use std::time::Duration;

const EVALUATE: &str = "/v1/policy/evaluate";
const BATCH: &str = "/v1/policy/evaluate-batch";

/// Acme with its owner Ada, who asks, and a member.
struct Scene {
    app: TestApp,
    org: OrgId,
    bob: UserId,
}

async fn scene() -> Scene {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    let bob = app.member(org, "bob", Role::Member).await;
    Scene { app, org, bob }
}

fn about(who: impl ToString, action: &str, resource: impl Into<Value>) -> Value {
    json!({
        "subject": { "orgId": "acme", "principalId": who.to_string(), "principalType": "user" },
        "action": action, "resource": resource.into(),
    })
}

impl Scene {
    async fn ask(&self, question: Value) -> Value {
        let answer = self.app.post("ada", EVALUATE, question).await;
        assert_eq!(answer["status"], 200, "{answer}");
        answer["body"].clone()
    }

    async fn told(&self, question: Value) -> (String, String) {
        let answer = self.ask(question).await;
        (answer["decision"].as_str().unwrap().to_owned(), answer["code"].as_str().unwrap().to_owned())
    }

    /// A key of bob's with these scopes.
    async fn key(&self, scopes: &[&str]) -> Value {
        let path = format!("/v1/orgs/acme/users/{}/api-keys", self.bob);
        let issued = self.app.post("ada", &path, json!({ "scopes": scopes })).await;
        assert_eq!(issued["status"], 201, "{issued}");
        issued["body"].clone()
    }
}

fn no(code: &str) -> (String, String) {
    ("deny".to_owned(), code.to_owned())
}

fn yes() -> (String, String) {
    ("allow".to_owned(), "ALLOWED".to_owned())
}

#[actix_web::test]
async fn an_answer_says_why_by_which_policies_at_which_revision_and_for_how_long() {
    let scene = scene().await;
    let answer = scene.ask(about(scene.bob, "inference:invoke", "model/small")).await;
    assert_eq!(answer["decision"], "allow");
    assert_eq!((&answer["policyId"], &answer["policyIds"]), (&json!("role.member"), &json!(["role.member"])));
    assert_eq!((&answer["ttlSeconds"], &answer["obligations"]), (&json!(5), &json!([])));
    assert_eq!(answer["revision"], scene.app.work().state().applied().to_string());
    assert_eq!(answer["bundle"], scene.app.work().engine().bundle());
    assert_eq!(answer["question"]["resource"], json!({ "id": "small", "type": "model" }));
    assert_eq!(answer["evaluatedAt"], "2026-01-05T09:00:00Z");
    let denied = scene.ask(about(scene.bob, "users:invite", "organization/acme")).await;
    assert_eq!((&denied["decision"], &denied["code"]), (&json!("deny"), &json!("NO_MATCHING_PERMIT")));
    assert_eq!((&denied["policyId"], &denied["ttlSeconds"]), (&json!("default.deny"), &json!(1)));
    assert_ne!(denied["decisionId"], answer["decisionId"]);
}

/// Checked as any JOSE library does: the payload put back between header and signature.
#[actix_web::test]
async fn a_signature_holds_for_this_answer_to_this_question_only() {
    let scene = scene().await;
    let jwks = scene.app.get("ada", "/.well-known/jwks.json").await["body"].clone();
    for (path, question) in [
        (EVALUATE, about(scene.bob, "inference:invoke", "model/small")),
        (BATCH, json!({ "evaluations": [about(scene.bob, "orgs:read", "organization/acme")] })),
    ] {
        let mut answer = scene.app.post("ada", path, question).await["body"].clone();
        let signature = answer.as_object_mut().unwrap().remove("signature").unwrap();
        assert!(is_signed(&jwks, &answer, signature.as_str().unwrap()), "{answer}");
        let forged = serde_json::to_string(&answer).unwrap().replace("acme", "evil").replace("allow", "deny");
        assert!(!is_signed(&jwks, &serde_json::from_str(&forged).unwrap(), signature.as_str().unwrap()));
    }
    let unsigned = format!("{EVALUATE}?signature=none");
    let plain = scene.app.post("ada", &unsigned, about(scene.bob, "orgs:read", "organization/acme")).await;
    assert!(plain["body"].get("signature").is_none(), "{plain}");
}

fn is_signed(jwks: &Value, answer: &Value, signature: &str) -> bool {
    let canonical = serde_json_canonicalizer::to_vec(answer).unwrap();
    let (header, signature) = signature.split_once("..").unwrap();
    let named: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap();
    assert_eq!(named["alg"], "EdDSA");
    let key = jwks["keys"].as_array().unwrap().iter().find(|key| key["kid"] == named["kid"]).unwrap();
    let key = jsonwebtoken::DecodingKey::from_ed_components(key["x"].as_str().unwrap()).unwrap();
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(canonical));
    jsonwebtoken::crypto::verify(signature, signed.as_bytes(), &key, Algorithm::EdDSA).unwrap()
}

#[actix_web::test]
async fn what_the_caller_claims_only_narrows() {
    let scene = scene().await;
    let with_roles = |roles: Value| {
        let mut question = about(scene.bob, "inference:invoke", "model/small");
        question["subject"]["roles"] = roles;
        question
    };
    assert_eq!(scene.told(with_roles(json!(["member"]))).await, yes());
    assert_eq!(scene.told(with_roles(Value::Null)).await, yes(), "left out");
    assert_eq!(scene.told(with_roles(json!(["viewer"]))).await, no("NO_MATCHING_PERMIT"), "a role he lacks");
    assert_eq!(scene.told(with_roles(json!([]))).await, no("NO_MATCHING_PERMIT"), "none of them");
    let mut widened = about(scene.bob, "users:invite", "organization/acme");
    widened["subject"]["roles"] = json!(["owner", "platform-admin"]);
    widened["context"] = json!({ "inScope": true, "credential": { "mfa": true }, "roles": ["owner"] });
    assert_eq!(scene.told(widened).await, no("NO_MATCHING_PERMIT"));

    let key = scene.key(&["models:read"]).await;
    let by_key = |key: &Value, action: &str| {
        let mut question = about(scene.bob, action, "model/small");
        question["context"] = json!({ "apiKeyId": key });
        question
    };
    assert_eq!(scene.told(by_key(&key["apiKeyId"], "models:read")).await, yes());
    assert_eq!(scene.told(by_key(&key["apiKeyId"], "inference:invoke")).await, no("SCOPE_EXCEEDED"));
    let mut anothers = about(scene.app.person("ada").await, "models:read", "model/small");
    anothers["context"] = json!({ "apiKeyId": key["apiKeyId"] });
    assert_eq!(scene.told(anothers).await, no("CREDENTIAL_NOT_VALID"), "another's key");
    let path = format!("/v1/orgs/acme/api-keys/{}/revoke", key["apiKeyId"].as_str().unwrap());
    assert_eq!(scene.app.post("ada", &path, json!({})).await["status"], 204);
    assert_eq!(scene.told(by_key(&key["apiKeyId"], "models:read")).await, no("CREDENTIAL_NOT_VALID"));
    for nonsense in ["", "x", "0193a5f0-7b1c-7000-8000-000000000003"] {
        assert_eq!(scene.told(by_key(&json!(nonsense), "models:read")).await, no("CREDENTIAL_NOT_VALID"));
    }
}

#[actix_web::test]
async fn what_is_unknown_is_denied_and_what_is_elsewhere_looks_like_it() {
    let scene = scene().await;
    let other = scene.app.org("sam", "other").await;
    let eve = scene.app.member(other, "eve", Role::Member).await;
    let nobody = "0193a5f0-7b1c-7000-8000-000000000003";
    for (question, code) in [
        (about(nobody, "orgs:read", "organization/acme"), "PRINCIPAL_UNKNOWN"),
        (about("bob", "orgs:read", "organization/acme"), "PRINCIPAL_UNKNOWN"),
        (about(eve, "orgs:read", "organization/acme"), "PRINCIPAL_UNKNOWN"),
        (about(scene.bob, "orgs:fly", "organization/acme"), "ACTION_UNKNOWN"),
        (about(scene.bob, "users:read", format!("user/{nobody}")), "RESOURCE_UNKNOWN"),
        (about(scene.bob, "users:read", format!("user/{eve}")), "RESOURCE_UNKNOWN"),
        (about(scene.bob, "orgs:read", "organization/other"), "RESOURCE_UNKNOWN"),
        (about(scene.bob, "orgs:read", format!("organization/{other}")), "RESOURCE_UNKNOWN"),
        (about(scene.bob, "platform:read", "platform/platform"), "RESOURCE_UNKNOWN"),
        (about(scene.bob, "orgs:read", "cake/1"), "RESOURCE_UNKNOWN"),
    ] {
        assert_eq!(scene.told(question.clone()).await, no(code), "{question}");
    }
    let mut elsewhere = about(eve, "orgs:read", "organization/other");
    elsewhere["subject"]["orgId"] = json!("other");
    let answer = scene.app.post("ada", EVALUATE, elsewhere.clone()).await;
    assert_eq!((&answer["status"], &answer["body"]["code"]), (&json!(404), &json!("NOT_FOUND")));
    elsewhere["subject"]["orgId"] = json!("nobodys");
    assert_eq!(scene.app.post("ada", EVALUATE, elsewhere).await["status"], 404);
    scene.app.person_with("root", &[PlatformRole::PlatformAdmin]).await;
    let far = scene.app.post("root", EVALUATE, about(scene.bob, "users:read", format!("user/{eve}"))).await;
    assert_eq!(far["body"]["code"], "TENANT_MISMATCH", "who may ask in both is told: {far}");
}

#[actix_web::test]
async fn a_batch_answers_in_order_and_one_bad_org_is_its_own_affair() {
    let scene = scene().await;
    scene.app.org("sam", "other").await;
    let mut foreign = about(scene.bob, "orgs:read", "organization/other");
    foreign["subject"]["orgId"] = json!("other");
    let questions = [
        about(scene.bob, "inference:invoke", "model/small"),
        foreign,
        about(scene.bob, "users:invite", json!({ "type": "organization", "id": "acme" })),
    ];
    let answer = scene.app.post("ada", BATCH, json!({ "evaluations": questions })).await["body"].clone();
    let codes: Vec<&str> =
        answer["evaluations"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["ALLOWED", "ORG_UNKNOWN", "NO_MATCHING_PERMIT"]);
    for (many, status) in [(0, 422), (100, 200), (101, 422)] {
        let all = vec![about(scene.bob, "orgs:read", "organization/acme"); many];
        let answer = scene.app.post("ada", BATCH, json!({ "evaluations": all })).await;
        assert_eq!(answer["status"], status, "{many}");
    }
}

#[actix_web::test]
async fn who_may_not_ask_is_refused_on_the_record_and_bad_questions_are_named() {
    let scene = scene().await;
    let refused = scene.app.post("bob", EVALUATE, about(scene.bob, "orgs:read", "organization/acme")).await;
    assert_eq!((&refused["status"], &refused["body"]["code"]), (&json!(403), &json!("NO_MATCHING_PERMIT")));
    let long = "x".repeat(513);
    for (question, code) in [
        (json!({}), "INVALID_BODY"),
        (about(scene.bob, "orgs:read", "acme"), "INVALID_BODY"),
        (about(scene.bob, "orgs:read", json!({ "type": "organization" })), "INVALID_BODY"),
        (about(scene.bob, &long, "organization/acme"), "NAME_TOO_LONG"),
        (about(scene.bob, "models:read", format!("model/{long}")), "NAME_TOO_LONG"),
    ] {
        let answer = scene.app.post("ada", EVALUATE, question).await;
        assert_eq!((&answer["status"], &answer["body"]["code"]), (&json!(422), &json!(code)), "{answer}");
    }
}

/// What one process was told binds in the other from the revision on that is asked for.
#[actix_web::test]
async fn a_caller_can_demand_a_revision() {
    let scene = scene().await;
    let replica = scene.app.replica(&[]).await;
    replica.work.catch_up().await.unwrap();
    let before = replica.work.state().applied();
    let path = format!("/v1/orgs/{}/users/{}/suspend", scene.org, scene.bob);
    assert_eq!(scene.app.post("ada", &path, json!({})).await["status"], 200);
    scene.app.tick(Duration::from_millis(1)).await;
    let newest = scene.app.work().state().applied();
    assert!(newest > before);
    let token = scene.app.token("ada").await;
    let at_least = async |revision: i64| {
        let mut question = about(scene.bob, "orgs:read", "organization/acme");
        question["context"] = json!({ "atLeastRevision": revision.to_string() });
        ask(&replica, bearing(post_from("127.0.0.1", EVALUATE, &question), &token)).await
    };
    let held = at_least(newest).await;
    assert_eq!((held.status, held.code().as_str()), (200, "USER_NOT_ACTIVE"), "{held:?}");
    let ahead = at_least(newest + 1_000).await;
    assert_eq!((ahead.status, ahead.code().as_str()), (503, "REVISION_NOT_REACHED"), "{ahead:?}");
    assert_eq!(ahead.header("retry-after").as_deref(), Some("1"));
}

/// Whoever may not ask learns from a batch neither which slugs there are nor whose a key is.
#[actix_web::test]
async fn a_batch_tells_strangers_nothing_of_what_they_named() {
    let scene = scene().await;
    let sam = scene.app.org("sam", "other").await;
    let key = scene.key(&["models:read"]).await;
    let asked = |org: &str| {
        let mut question = about(scene.bob, "orgs:read", "model/small");
        question["subject"]["orgId"] = json!(org);
        question
    };
    let body = json!({ "evaluations": [asked("acme"), asked("nobodys"), asked(&scene.org.to_string())] });
    let told = scene.app.post("sam", BATCH, body).await["body"]["evaluations"].clone();
    assert_eq!((&told[0]["question"], &told[0]["code"]), (&told[1]["question"], &told[1]["code"]), "{told}");
    assert_eq!(told[0]["question"], told[2]["question"]);
    let subject =
        |id: &Value, org: Value| json!({ "type": "api_key", "id": id, "properties": { "orgId": org } });
    let ask = async |id: &Value| {
        let asked = json!({ "subject": subject(id, json!(scene.org)), "action": { "name": "orgs:read" },
            "evaluations": [{ "resource": { "type": "model", "id": "small" } }] });
        scene.app.post("sam", "/access/v1/evaluations", asked).await["body"]["evaluations"][0]["context"]
            .clone()
    };
    let (known, unknown) = (ask(&key["apiKeyId"]).await, ask(&json!(sam)).await);
    assert_eq!(known["question"]["principalType"], "api_key", "{known}");
    assert_eq!((&known["code"], &unknown["code"]), (&json!("ORG_UNKNOWN"), &json!("ORG_UNKNOWN")));
}

#[actix_web::test]
async fn to_be_held_to_fewer_roles_lifts_no_forbid() {
    let scene = scene().await;
    let identity = Some(scene.app.person("mia").await);
    let both = [Role::Admin, Role::Manager];
    let mia = scene.app.membership(scene.org, "mia", identity, UserStatus::Active, &both).await;
    let owner =
        scene.app.work().state().user_by_either(scene.org, scene.app.person("ada").await.uuid()).unwrap();
    let held = |roles: &[&str]| {
        let mut question = about(mia, "users:suspend", format!("user/{owner}"));
        question["subject"]["roles"] = json!(roles);
        question
    };
    for roles in [&["admin", "manager"][..], &["manager"], &["admin"]] {
        assert_eq!(scene.told(held(roles)).await, no("OWNER_PROTECTED"), "{roles:?}");
    }
    let mut question = held(&[]);
    question["subject"]["roles"] = json!(vec!["x"; 33]);
    let answer = scene.app.post("ada", EVALUATE, question).await;
    assert_eq!(answer["body"]["code"], "TOO_MANY_ROLES", "{answer}");
}

#[actix_web::test]
async fn a_key_is_good_where_the_door_would_take_it() {
    let scene = scene().await;
    let path = format!("/v1/orgs/acme/users/{}/api-keys", scene.bob);
    let body = json!({ "scopes": ["models:read"], "allowedCidrs": ["192.0.2.0/24"] });
    let key = scene.app.post("ada", &path, body).await["body"]["apiKeyId"].clone();
    for (client, code) in [
        (Value::Null, "CLIENT_ADDRESS_REQUIRED"),
        (json!("nowhere"), "CLIENT_ADDRESS_REQUIRED"),
        (json!("198.51.100.1"), "CLIENT_ADDRESS_NOT_ALLOWED"),
        (json!("192.0.2.9"), "ALLOWED"),
        (json!("::ffff:192.0.2.9"), "ALLOWED"),
    ] {
        let mut question = about(scene.bob, "models:read", "model/small");
        question["context"] = json!({ "apiKeyId": key, "clientIp": client });
        assert_eq!(scene.told(question).await.1, code, "{client}");
    }
}
