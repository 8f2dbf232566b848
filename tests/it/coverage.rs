//! Nets over every operation of the OpenAPI document: nobody gets in who must not, and no change is without its event.
//! The lists of exceptions only shrink.
use crate::app::{PASSWORD, TestApp, id};
use actix_web::http::Method;
use identityd::{
    app,
    authorization::{PlatformRole, Role},
    kernel::OrgId,
};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// An operation as the document has it.
struct Operation {
    id: String,
    method: Method,
    path: String,
    action: Option<String>,
    /// Answers without a credential, always or for some bodies.
    open: bool,
    keyed: bool,
    example: Value,
    document: Value,
}

impl Operation {
    fn mutates(&self) -> bool {
        self.method != Method::GET
    }

    fn in_org(&self) -> bool {
        self.path.contains("{org}") || self.filters_by_org()
    }

    /// Names its org in the query.
    fn filters_by_org(&self) -> bool {
        matches!(self.path.as_str(), "/v1/audit/events" | "/v1/revocations")
    }
}

fn operations() -> Vec<Operation> {
    let document = app::document().unwrap();
    let mut operations = vec![];
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array();
            let parameters = operation["parameters"].as_array().unwrap();
            operations.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase().parse().unwrap(),
                path: path.clone(),
                action: operation["x-action"].as_str().map(ToOwned::to_owned),
                open: security.is_some_and(|schemes| schemes.contains(&json!({}))),
                keyed: parameters.iter().any(|parameter| parameter["name"] == "Idempotency-Key"),
                example: operation["requestBody"]["content"]["application/json"]["example"].clone(),
                document: operation.clone(),
            });
        }
    }
    operations
}

/// Acme with one of everything, its owner Ada signed in twice; and a stranger who owns another organization.
struct Scene {
    app: TestApp,
    ids: Value,
}

async fn scene() -> Scene {
    let app = TestApp::new().await;
    app.person_with("root", &[PlatformRole::PlatformAdmin]).await;
    let org = app.org("olga", "acme").await;
    app.joined(org, "olga", "ada", &["owner"]).await;
    let (signed_in, second) =
        (app.sign_in("ada").await["body"].clone(), app.sign_in("ada").await["body"].clone());
    app.bearer("ada", signed_in["access_token"].as_str().unwrap());
    let bob = app.member(org, "bob", Role::Viewer).await;
    let invite = app.post("ada", "/v1/orgs/acme/invites", json!({ "email": "carol@example.io" })).await;
    let token = app.invite_token().await;
    let machine = app.post("ada", "/v1/orgs/acme/service-accounts", json!({ "name": "edge" })).await;
    let machine = machine["body"]["serviceAccountId"].as_str().unwrap().to_owned();
    let keys = format!("/v1/orgs/acme/service-accounts/{machine}/api-keys");
    let key = app.post("ada", &keys, json!({ "scopes": ["models:read"] })).await;
    let own = app.post("ada", "/organizations/me/api-keys", json!({ "scopes": ["models:read"] })).await;
    assert_eq!(own["status"], 201, "{own}");
    app.bearer("key", own["body"]["secret"].as_str().unwrap());
    let other = app.org("sam", "other").await;
    app.joined(other, "sam", "stranger", &["owner"]).await;
    app.bearer("stranger", app.sign_in("stranger").await["body"]["access_token"].as_str().unwrap());
    let ids = json!({
        "users": bob, "invites": invite["body"]["inviteId"], "service-accounts": machine,
        "api-keys": key["body"]["apiKeyId"], "me": own["body"]["apiKeyId"], "sessions": second["session_id"],
        "secret": own["body"]["secret"], "invite": token, "refresh": second["refresh_token"],
    });
    Scene { app, ids }
}

impl Scene {
    /// The path with the ids of this scene, in this org.
    fn path(&self, operation: &Operation, org: &str) -> String {
        let path = operation.path.replace("{org}", org).replace("{role}", "manager");
        if operation.filters_by_org() {
            return format!("{path}?org={org}");
        }
        let kinds = [
            "/organizations/me",
            "/api-keys/{id}",
            "/service-accounts/{id}",
            "/invites/{id}",
            "/users/{id}",
            "/sessions/{id}",
        ];
        let kind = kinds.iter().find(|kind| operation.path.contains(**kind)).copied().unwrap_or("/none");
        let name = kind.trim_start_matches("/organizations/").trim_matches('/').trim_end_matches("/{id}");
        path.replace("{id}", self.ids[name].as_str().unwrap_or_default())
    }

    /// The example of the document, where it can be sent as it stands.
    fn body(&self, operation: &Operation) -> Value {
        let ids = &self.ids;
        match operation.id.as_str() {
            "login" => json!({ "email": "ada@example.io", "password": PASSWORD }),
            "refresh" => json!({ "refresh_token": ids["refresh"] }),
            "exchange_token" | "portal_token" | "portal_api_token" => {
                json!({ "grant_type": "refresh_token", "refresh_token": ids["refresh"] })
            }
            "logout" | "portal_logout" | "portal_api_logout" => json!({ "token": ids["refresh"] }),
            "accept_invite" => {
                json!({ "token": ids["invite"], "password": PASSWORD, "displayName": "Carol" })
            }
            "validate_api_key" => json!({ "apiKeySecret": ids["secret"] }),
            "change_my_password" => {
                json!({ "currentPassword": PASSWORD, "newPassword": "a different long pass phrase" })
            }
            "create_org" => json!({ "name": "Third", "slug": "third" }),
            "create_invite" => json!({ "email": "dora@example.io", "roles": ["member"] }),
            "issue_my_key" => json!({ "display_name": "laptop", "scopes": ["models:read"] }),
            _ => operation.example.clone(),
        }
    }

    /// Sends it as the document says.
    async fn send(&self, operation: &Operation, caller: Option<&str>, org: &str) -> Value {
        let path = self.path(operation, org);
        self.app.call(operation.method.clone(), caller, &path, self.body(operation)).await
    }
}

#[actix_web::test]
async fn every_operation_is_documented_for_whoever_generates_a_client() {
    let operations = operations();
    let ids: BTreeSet<&str> = operations.iter().map(|operation| operation.id.as_str()).collect();
    assert_eq!(ids.len(), operations.len(), "an operationId is there twice");
    for Operation { id, action, document, method, .. } in &operations {
        for member in ["summary", "description"] {
            assert!(document[member].as_str().is_some_and(|text| !text.is_empty()), "{id} has no {member}");
        }
        assert!(!document["x-listeners"].as_array().unwrap().is_empty(), "{id} is on no listener");
        let of_the_service = document["tags"] == json!(["operations"]);
        assert_eq!(action.is_none(), of_the_service, "{id} must have exactly one action");
        if let Some(body) = document.get("requestBody") {
            assert!(
                body["content"]["application/json"]["example"].is_object(),
                "{id}: its body has no example"
            );
            assert_ne!(method, Method::GET);
        }
        for (status, response) in document["responses"].as_object().unwrap() {
            let content = response["content"].as_object();
            if status.starts_with('2') && !of_the_service && status != "204" {
                let json = &content.unwrap()["application/json"];
                let shown = json.get("example").or(json.get("examples")).is_some();
                assert!(shown, "{id}: {status} has no example");
            }
            if status.starts_with(['4', '5']) {
                let is_problem =
                    content.is_some_and(|content| content.contains_key("application/problem+json"));
                assert!(is_problem || id == "readyz", "{id}: {status} is no problem");
            }
        }
        assert!(
            document["responses"].get("503").is_some() && document["responses"].get("400").is_some(),
            "{id}"
        );
    }
}

#[actix_web::test]
async fn nobody_gets_in_without_a_credential_that_holds() {
    let scene = scene().await;
    scene.app.bearer("garbled", "eyJhbGciOiJFZERTQSJ9.e30.AAAA");
    scene.app.bearer("unknown", "idk_0000000000000000000000000000000000000000000000000000000000");
    for operation in operations().iter().filter(|operation| !operation.open) {
        for caller in [None, Some("garbled"), Some("unknown")] {
            let answer = scene.send(operation, caller, "acme").await;
            assert_eq!(answer["status"], 401, "{} as {caller:?}: {answer}", operation.id);
            assert!(answer["headers"]["www-authenticate"].is_string(), "{}: {answer}", operation.id);
        }
    }
}

/// Ending what is not there, or not the caller's, changes nothing and says nothing.
const SILENT: [&str; 1] = ["end_session"];

#[actix_web::test]
async fn what_belongs_to_another_organization_is_not_there() {
    let scene = scene().await;
    let acme = scene.app.get("ada", "/v1/orgs/acme").await["body"]["orgId"].clone();
    let before = scene.app.events().await;
    for operation in operations().iter().filter(|operation| !operation.open && operation.path.contains('{')) {
        let asked = if operation.in_org() { vec!["acme", "other"] } else { vec![""] };
        for org in asked {
            if org == "other" && !operation.path.contains("{id}") {
                continue; // it is the stranger's own
            }
            let answer = scene.send(operation, Some("stranger"), org).await;
            let expected = if SILENT.contains(&operation.id.as_str()) { 204 } else { 404 };
            assert_eq!(answer["status"], expected, "{} in {org:?}: {answer}", operation.id);
        }
    }
    let done = |events: &Value| {
        let all = events.as_array().unwrap().iter().map(|row| &row["event"]);
        all.filter(|event| event["org"] == acme && event["outcome"] == "allow").count()
    };
    assert_eq!(done(&scene.app.events().await), done(&before), "a stranger changed something");
}

/// Of these every role may do every one.
const FOR_EVERYBODY: [&str; 1] = ["orgs:read"];

#[actix_web::test]
async fn a_role_that_is_too_small_is_refused_and_told_why() {
    let scene = scene().await;
    let acme: OrgId = id(&scene.app.get("ada", "/v1/orgs/acme").await["body"]["orgId"]);
    for role in Role::ALL {
        scene.app.member(acme, role.as_str(), *role).await;
    }
    let operations = operations();
    let mut refused_somewhere = BTreeSet::new();
    for operation in operations.iter().filter(|operation| !operation.open && operation.in_org()) {
        let action = operation.action.as_deref().unwrap();
        for role in Role::ALL.iter().filter(|role| cell(action, role.as_str()) == ".") {
            let answer = scene.send(operation, Some(role.as_str()), "acme").await;
            let which = format!("{} as {}: {answer}", operation.id, role.as_str());
            assert_eq!(answer["status"], 403, "{which}");
            let why = &answer["body"];
            assert!(why["policyIds"].is_array() || why["code"] == "NO_MATCHING_PERMIT", "{which}");
            refused_somewhere.insert(action);
        }
        // A key that may do less than its holder, who owns the organization.
        let answer = scene.send(operation, Some("key"), "acme").await;
        assert_eq!(answer["status"], 403, "{} with a small key: {answer}", operation.id);
        assert!(
            refused_somewhere.contains(action) || FOR_EVERYBODY.contains(&action),
            "nobody is refused {action}"
        );
    }
}

/// `x`, `o` or `.`: a cell of the committed matrix.
fn cell(action: &str, role: &str) -> &'static str {
    let mut lines =
        include_str!("../../policies/matrix.snap").lines().skip_while(|line| !line.contains("owner "));
    let column = lines.next().unwrap().split_whitespace().position(|name| name == role).unwrap();
    let row = lines.find(|line| line.split_whitespace().next() == Some(action)).unwrap();
    row.split_whitespace().nth(column + 1).unwrap()
}

/// These change nothing that anybody decides: they mint and check tokens.
const WITHOUT_AN_EVENT: [&str; 5] =
    ["exchange_token", "portal_token", "portal_api_token", "refresh", "validate_api_key"];

/// After these the caller may not ask again, not even for the answer.
const LOCKS_OUT: [&str; 1] = ["suspend_org"];

#[actix_web::test]
async fn every_change_leaves_an_event_and_its_repetition_none() {
    for operation in operations().iter().filter(|operation| operation.mutates()) {
        let scene = scene().await;
        let app = &scene.app;
        let caller = match operation.id.as_str() {
            "restore_org" => {
                assert_eq!(
                    app.post("ada", "/v1/orgs/acme/suspend", json!({ "reason": "drill" })).await["status"],
                    200
                );
                "root"
            }
            "restore_user" => {
                let path = format!("/v1/orgs/acme/users/{}/suspend", scene.ids["users"].as_str().unwrap());
                assert_eq!(app.post("ada", &path, json!({})).await["status"], 200);
                "ada"
            }
            _ => "ada",
        };
        let before = app.events().await.as_array().unwrap().len();
        let (path, body) = (scene.path(operation, "acme"), scene.body(operation));
        let key = [("Idempotency-Key", "once")];
        let headers = if operation.keyed { key.as_slice() } else { &[] };
        let caller = (!operation.open).then_some(caller);
        let answer = app.call_with(operation.method.clone(), caller, &path, body.clone(), headers).await;
        let status = answer["status"].as_u64().unwrap();
        assert!(matches!(status, 200..=299), "{}: {answer}", operation.id);
        assert!(
            operation.document["responses"].get(status.to_string()).is_some(),
            "{}: {answer}",
            operation.id
        );

        let events = app.events().await;
        let left: Vec<&Value> = events.as_array().unwrap().iter().skip(before).collect();
        if WITHOUT_AN_EVENT.contains(&operation.id.as_str()) {
            assert!(left.is_empty(), "{} is no exception any more: {left:?}", operation.id);
            continue;
        }
        let named = |event: &&&Value| event["event"]["action"] == *operation.action.as_deref().unwrap();
        let told = left.iter().find(named).unwrap_or_else(|| panic!("{} left {left:?}", operation.id));
        assert_eq!(told["event"]["outcome"], "allow", "{}: {told}", operation.id);

        if operation.keyed && !LOCKS_OUT.contains(&operation.id.as_str()) {
            let again = app.call_with(operation.method.clone(), caller, &path, body, headers).await;
            assert_eq!(
                (&again["status"], &again["body"]),
                (&answer["status"], &answer["body"]),
                "{}",
                operation.id
            );
            let events = app.events().await.as_array().unwrap().len();
            assert_eq!(events, before + left.len(), "{} was done twice", operation.id);
        }
    }
}

#[actix_web::test]
async fn reading_leaves_no_event() {
    let scene = scene().await;
    let before = scene.app.events().await;
    for operation in operations().iter().filter(|operation| !operation.mutates()) {
        let answer = scene.send(operation, Some("ada"), "acme").await;
        let alive = operation.id != "readyz"; // nothing has confirmed the state of this process
        assert!(!alive || answer["status"] == 200, "{}: {answer}", operation.id);
    }
    assert_eq!(scene.app.events().await, before);
}
