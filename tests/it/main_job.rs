//! The main job, from an empty database to a revoked key, each step on the audit log.
use crate::app::{PASSWORD, TestApp};
use actix_web::http::Method;
use identityd::{
    credentials::operators::{self, Purpose},
    kernel::{Actor, Workload},
};
use serde_json::{Value, json};

#[actix_web::test]
async fn an_administrator_gets_in_and_a_service_checks_a_key_until_it_is_revoked() {
    let app = TestApp::with(&["orgs.self_service=false"]).await;
    let operator = app.work().ctx(Actor::Workload(Workload::OperatorCli));
    let (_, token) =
        operators::issue_operator_token(app.work(), &operator, Purpose::Bootstrap).await.unwrap();
    app.bearer("operator", token.expose());

    let org = app.post("operator", "/v1/orgs", json!({ "name": "Acme", "slug": "acme" })).await;
    assert_eq!(org["status"], 201, "{org}");
    let invite = app.post("operator", "/v1/orgs/acme/invites", json!({ "email": "ada@example.io" })).await;
    assert_eq!(invite["status"], 202, "{invite}");
    let user = invite["body"]["userId"].as_str().unwrap().to_owned();
    assert_eq!(
        app.get("operator", &format!("/v1/orgs/acme/users/{user}")).await["body"]["status"],
        "invited"
    );

    let path = format!("/v1/orgs/acme/users/{user}/api-keys");
    let key = app.post("operator", &path, json!({ "scopes": ["admin"] })).await;
    assert_eq!(key["status"], 201, "{key}");
    assert_eq!(app.get("operator", "/v1/orgs").await["status"], 401, "the token ended with the first key");
    app.bearer("cli", key["body"]["secret"].as_str().unwrap());
    assert_eq!(app.get("cli", &format!("/v1/orgs/acme/users/{user}")).await["body"]["status"], "active");

    let body = json!({ "token": app.invite_token().await, "password": PASSWORD, "displayName": "Ada" });
    let accepted = app.call(Method::POST, None, "/v1/invites/accept", body).await;
    assert_eq!(accepted["status"], 200, "{accepted}");
    let signed_in = app.sign_in("ada").await;
    assert_eq!(signed_in["status"], 200, "{signed_in}");
    app.bearer("ada", signed_in["body"]["access_token"].as_str().unwrap());

    let machine = app.post("ada", "/v1/orgs/acme/service-accounts", json!({ "name": "router" })).await;
    assert_eq!(machine["status"], 201, "{machine}");
    let machine = machine["body"]["serviceAccountId"].as_str().unwrap();
    let path = format!("/v1/orgs/acme/service-accounts/{machine}/api-keys");
    let issued = app.post("ada", &path, json!({ "display_name": "edge" })).await;
    assert_eq!(issued["status"], 201, "{issued}");
    let secret = issued["body"]["secret"].clone();
    let check = async || {
        let body = json!({ "apiKeySecret": secret });
        app.call(Method::POST, None, "/v1/auth/validate-api-key", body).await["body"].clone()
    };
    let checked = check().await;
    assert_eq!(checked["valid"], true, "{checked}");
    assert_eq!(checked["scopes"], json!(["inference:invoke", "models:read"]));

    let path = format!("/v1/orgs/acme/api-keys/{}/revoke", issued["body"]["apiKeyId"].as_str().unwrap());
    assert_eq!(app.post("ada", &path, json!({ "reason": "drill" })).await["status"], 204);
    let checked = check().await;
    assert_eq!((&checked["valid"], &checked["status"]), (&json!(false), &json!("revoked")));

    app.sequence().await;
    let log = app.get("ada", "/v1/audit/events?org=acme").await;
    assert_eq!(log["status"], 200, "{log}");
    let told: Vec<(&Value, &Value)> = log["body"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|event| (&event["action"], &event["outcome"]))
        .collect();
    let told: Vec<String> =
        told.iter().map(|(action, outcome)| format!("{action} {outcome}").replace('"', "")).collect();
    assert_eq!(
        told,
        [
            "orgs:create allow",
            "users:invite allow",
            "keys:issue allow",
            "users:invite allow",
            "sign-in:use allow",
            "sign-in:use allow",
            "service-accounts:manage allow",
            "keys:issue allow",
            "keys:revoke allow",
            "sign-in:use deny",
        ]
    );
}
