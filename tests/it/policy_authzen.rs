//! OpenID `AuthZEN` 1.0 as its certification scenario goes through it, on principals and resources of our own.
use crate::{
    app::TestApp,
    http_support::{Answer, ask, bearing, post_from},
};
use actix_web::test::TestRequest;
use identityd::{
    authorization::Role,
    kernel::{OrgId, UserId},
};
use serde_json::{Value, json};

const ONE: &str = "/access/v1/evaluation";
const MANY: &str = "/access/v1/evaluations";

struct Scene {
    app: TestApp,
    org: OrgId,
    bob: UserId,
    /// A machine's key that may ask and do nothing else.
    gateway: String,
}

async fn scene() -> Scene {
    let app = TestApp::new().await;
    let org = app.org("ada", "acme").await;
    let bob = app.member(org, "bob", Role::Member).await;
    let body = json!({ "name": "gateway", "roles": ["admin"] });
    let machine = app.post("ada", "/v1/orgs/acme/service-accounts", body).await;
    let keys = format!(
        "/v1/orgs/acme/service-accounts/{}/api-keys",
        machine["body"]["serviceAccountId"].as_str().unwrap()
    );
    let key = app.post("ada", &keys, json!({ "scopes": ["policies:evaluate"] })).await;
    let gateway = key["body"]["secret"].as_str().unwrap_or_else(|| panic!("{key}")).to_owned();
    Scene { app, org, bob, gateway }
}

impl Scene {
    async fn post(&self, path: &str, body: &Value) -> Answer {
        ask(&self.app.app, bearing(post_from("127.0.0.1", path, body), &self.gateway)).await
    }

    async fn told(&self, question: Value) -> (bool, String) {
        let answer = self.post(ONE, &question).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let body = answer.json();
        (body["decision"].as_bool().unwrap(), body["context"]["code"].as_str().unwrap().to_owned())
    }

    fn bob(&self) -> Value {
        entity("user", self.bob)
    }
}

fn entity(kind: &str, id: impl ToString) -> Value {
    json!({ "type": kind, "id": id.to_string() })
}

fn question(subject: Value, action: &str, resource: Value) -> Value {
    json!({ "subject": subject, "action": { "name": action }, "resource": resource })
}

#[actix_web::test]
async fn one_question_has_one_answer_with_its_reasons_and_unknown_members_are_ignored() {
    let scene = scene().await;
    let model = || entity("model", "small");
    let mut asked = question(scene.bob(), "inference:invoke", model());
    asked["subject"]["properties"] = json!({ "department": "sales" });
    asked["context"] = json!({ "time": "2026-01-05T09:00Z" });
    asked["whatever"] = json!([1, 2]);
    assert_eq!(scene.told(asked).await, (true, "ALLOWED".into()));
    let no = |code: &str| (false, code.to_owned());
    let invite = question(scene.bob(), "users:invite", entity("organization", scene.org));
    assert_eq!(scene.told(invite).await, no("NO_MATCHING_PERMIT"));
    assert_eq!(scene.told(question(scene.bob(), "can_fly", model())).await, no("ACTION_UNKNOWN"));
    assert_eq!(
        scene.told(question(entity("dragon", "1"), "orgs:read", model())).await,
        no("PRINCIPAL_UNKNOWN")
    );
    let other = scene.app.org("sam", "other").await;
    let eve = scene.app.member(other, "eve", Role::Member).await;
    let foreign = question(entity("user", eve), "models:read", model());
    assert_eq!(scene.told(foreign).await, no("PRINCIPAL_UNKNOWN"), "as if there were none");
    let mut elsewhere = question(scene.bob(), "models:read", model());
    elsewhere["subject"]["properties"] = json!({ "orgId": other });
    assert_eq!(scene.post(ONE, &elsewhere).await.status, 404);
}

#[actix_web::test]
async fn an_api_key_is_its_holder_within_its_scopes() {
    let scene = scene().await;
    let path = format!("/v1/orgs/acme/users/{}/api-keys", scene.bob);
    let key = scene.app.post("ada", &path, json!({ "scopes": ["models:read"] })).await["body"].clone();
    let subject = || entity("api_key", key["apiKeyId"].as_str().unwrap());
    let model = || entity("model", "small");
    assert_eq!(scene.told(question(subject(), "models:read", model())).await, (true, "ALLOWED".into()));
    let beyond = scene.told(question(subject(), "inference:invoke", model())).await;
    assert_eq!(beyond, (false, "SCOPE_EXCEEDED".into()));
}

#[actix_web::test]
async fn what_cannot_be_read_is_400_and_who_is_not_known_401() {
    let scene = scene().await;
    let whole = question(scene.bob(), "orgs:read", entity("organization", scene.org));
    for member in ["subject", "action", "resource"] {
        for broken in [Value::Null, json!("x"), json!({}), json!([])] {
            let mut asked = whole.clone();
            asked[member] = broken;
            let answer = scene.post(ONE, &asked).await;
            assert_eq!(answer.status, 400, "{asked}: {answer:?}");
        }
    }
    for (member, part) in [("subject", "type"), ("subject", "id"), ("action", "name"), ("resource", "id")] {
        let mut asked = whole.clone();
        asked[member].as_object_mut().unwrap().remove(part);
        assert_eq!(scene.post(ONE, &asked).await.status, 400, "{asked}");
    }
    let typed = |kind: &str, body: &str| {
        let request = TestRequest::post().uri(ONE).peer_addr("127.0.0.1:9".parse().unwrap());
        bearing(request, &scene.gateway)
            .insert_header(("content-type", kind.to_owned()))
            .insert_header(("x-request-id", "cert-1"))
            .set_payload(body.to_owned())
    };
    for (kind, body, status) in [
        ("text/plain", whole.to_string(), 400),
        ("application/json", "{".into(), 400),
        ("application/json", whole.to_string(), 200),
    ] {
        let answer = ask(&scene.app.app, typed(kind, &body)).await;
        assert_eq!(
            (answer.status, answer.header("x-request-id").as_deref()),
            (status, Some("cert-1")),
            "{kind}"
        );
    }
    assert_eq!(ask(&scene.app.app, post_from("127.0.0.1", ONE, &whole)).await.status, 401);
}

#[actix_web::test]
async fn many_questions_share_members_keep_their_order_and_end_as_they_are_told_to() {
    let scene = scene().await;
    let (yes, no, broken) = (
        json!({ "resource": entity("model", "small") }),
        json!({ "action": { "name": "users:invite" }, "resource": entity("organization", scene.org) }),
        json!({}),
    );
    for (semantic, decisions) in [
        ("execute_all", vec![false, true, false, true]),
        ("deny_on_first_deny", vec![false]),
        ("permit_on_first_permit", vec![false, true]),
    ] {
        let asked = json!({
            "subject": scene.bob(), "action": { "name": "inference:invoke" },
            "evaluations": [no, yes, broken, yes], "options": { "evaluations_semantic": semantic },
        });
        let answer = scene.post(MANY, &asked).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let body = answer.json();
        let all = body["evaluations"].as_array().unwrap();
        let told: Vec<bool> = all.iter().map(|one| one["decision"].as_bool().unwrap()).collect();
        assert_eq!(told, decisions, "{semantic}");
        if semantic == "execute_all" {
            assert_eq!(
                all[2]["context"]["error"],
                json!({ "message": "resource is missing", "status": 400 })
            );
        }
        assert!(body["context"]["signature"].as_str().is_some_and(|text| text.contains("..")));
    }
    let alone = scene.post(MANY, &question(scene.bob(), "models:read", entity("model", "small"))).await;
    assert_eq!(alone.json()["decision"], true, "none: the shared one is the question");
    let unknown = json!({ "evaluations": [yes], "options": { "evaluations_semantic": "shrug" } });
    assert_eq!(scene.post(MANY, &unknown).await.status, 400);
    assert_eq!(scene.post(MANY, &json!({ "evaluations": vec![yes; 101] })).await.status, 400);
}

#[actix_web::test]
async fn where_it_is_can_be_looked_up() {
    let scene = scene().await;
    let told = scene.app.get("ada", "/.well-known/authzen-configuration").await["body"].clone();
    let base = told["policy_decision_point"].as_str().unwrap();
    assert_eq!(base, scene.app.app.config.http.issuer());
    assert_eq!(told["access_evaluation_endpoint"], format!("{}{ONE}", base.trim_end_matches('/')));
    assert_eq!(told["access_evaluations_endpoint"], format!("{}{MANY}", base.trim_end_matches('/')));
}
