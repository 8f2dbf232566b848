//! The main job as whoever uses identityd does it: over HTTP, with mails, on one process or on several.
use crate::process::{agent, call, mailed_token, redacted, until};
use serde_json::{Value, json};
use std::{cell::RefCell, path::PathBuf};

pub const PASSWORD: &str = "correct horse battery staple";
/// The one call that does not ask PostgreSQL before it says no.
const KEY_CHECK: &str = "/v1/auth/validate-api-key";

/// Where identityd is to be reached. It remembers every secret that came out of it or went in.
pub struct Front<'f> {
    pub url: String,
    /// Where its mails arrive.
    pub mails: PathBuf,
    /// Of everybody's address.
    pub domain: String,
    /// Waits until every process has heard what was done last.
    pub settle: Box<dyn Fn() + 'f>,
    pub secrets: RefCell<Vec<(String, String)>>,
}

impl<'f> Front<'f> {
    pub fn new(url: &str, mails: &str, domain: &str, settle: impl Fn() + 'f) -> Self {
        let secrets = RefCell::new(vec![("password".to_owned(), PASSWORD.to_owned())]);
        let (url, mails, domain) = (url.to_owned(), mails.into(), domain.to_owned());
        Self { url, mails, domain, settle: Box::new(settle), secrets }
    }

    /// One request, on a connection of its own.
    pub fn call(&self, method: &str, path: &str, bearer: Option<&str>, body: &Value) -> (u16, Value) {
        if path == KEY_CHECK {
            (self.settle)();
        }
        let (status, answer) = call(&agent(), &self.url, method, path, bearer, body)
            .unwrap_or_else(|error| panic!("{method} {path}: {error}"));
        for secret in ["access_token", "refresh_token", "secret"] {
            if let Some(text) = answer[secret].as_str() {
                self.remember(&format!("{secret} of {path}"), text);
            }
        }
        (status, answer)
    }

    pub fn remember(&self, what: &str, secret: &str) {
        self.secrets.borrow_mut().push((what.to_owned(), secret.to_owned()));
    }

    fn mailed_token(&self, email: &str) -> String {
        let token = mailed_token(&self.mails, email);
        self.remember("invite token", &token);
        token
    }

    /// The first administrator, by the token that `identityd bootstrap` printed; his access token.
    pub fn first_administrator(&self, operator: &str) -> String {
        self.remember("bootstrap token", operator);
        let post = |path: &str, body: Value| self.call("POST", path, Some(operator), &body);
        let email = format!("ada@{}", self.domain);
        assert_eq!(post("/v1/orgs", json!({ "name": "First", "slug": "first" })).0, 201);
        assert_eq!(post("/v1/orgs/first/invites", json!({ "email": email })).0, 202);
        let body = json!({ "token": self.mailed_token(&email), "password": PASSWORD, "displayName": "Ada" });
        assert_eq!(self.call("POST", "/v1/invites/accept", None, &body).0, 200);
        self.sign_in(&email, PASSWORD)
    }

    pub fn sign_in(&self, email: &str, password: &str) -> String {
        let body = json!({ "email": email, "password": password });
        let (status, tokens) = self.call("POST", "/v1/auth/login", None, &body);
        assert_eq!(status, 200, "{tokens}");
        tokens["access_token"].as_str().unwrap().to_owned()
    }

    /// What an administrator and a service do; holds the answers against those of every other run.
    pub fn main_job(&self, admin: &str) {
        let mut job = Job { front: self, transcript: vec![] };
        let email = format!("bob@{}", self.domain);
        let new = json!({ "name": "Research", "slug": "research" });
        job.step("the administrator creates an organization", "POST", "/v1/orgs", Some(admin), new);
        let body = json!({ "email": email, "roles": ["manager"] });
        job.step("and invites Bob", "POST", "/v1/orgs/research/invites", Some(admin), body);
        let body = json!({ "token": self.mailed_token(&email), "password": PASSWORD, "displayName": "Bob" });
        job.step("who accepts", "POST", "/v1/invites/accept", None, body);
        let body = json!({ "email": email, "password": PASSWORD });
        let tokens = job.step("and signs in", "POST", "/v1/auth/login", None, body);
        let bob = tokens["access_token"].as_str().unwrap();
        job.step("and is known", "GET", "/v1/auth/userinfo", Some(bob), Value::Null);
        let body = json!({ "display_name": "laptop", "scopes": ["models:read"] });
        let key = job.step("and issues himself a key", "POST", "/organizations/me/api-keys", Some(bob), body);
        let check = json!({ "apiKeySecret": key["secret"] });
        job.step("which a service validates", "POST", KEY_CHECK, None, check.clone());
        let path = format!("/organizations/me/api-keys/{}/revoke", key["apiKeyId"].as_str().unwrap());
        job.step("until Bob revokes it", "POST", &path, Some(bob), json!({ "reason": "lost" }));
        job.step("and it is good for nothing", "POST", KEY_CHECK, None, check);
        let events = || -> Vec<Value> {
            let (status, events) =
                self.call("GET", "/v1/audit/events?org=research", Some(admin), &Value::Null);
            assert_eq!(status, 200, "{events}");
            let told = |event: &Value| {
                let who = event["actor"].as_str().unwrap().split(':').next().unwrap();
                json!(format!(
                    "{who} {} {}",
                    event["action"].as_str().unwrap(),
                    event["outcome"].as_str().unwrap()
                ))
            };
            events.as_array().unwrap().iter().rev().map(told).collect()
        };
        until(&true, || events().len() >= 8);
        job.transcript.push(json!({ "step": "all of it is on the audit log", "body": events() }));
        let hide = |step: &Value| -> Value {
            serde_json::from_str(&step.to_string().replace(&self.domain, "example.io")).unwrap()
        };
        let transcript: Vec<Value> = job.transcript.iter().map(hide).collect();
        insta::assert_yaml_snapshot!("main_job", transcript);
    }
}

/// Each answer, without what is another each time.
struct Job<'f> {
    front: &'f Front<'f>,
    transcript: Vec<Value>,
}

impl Job<'_> {
    fn step(&mut self, label: &str, method: &str, path: &str, bearer: Option<&str>, body: Value) -> Value {
        let (status, answer) = self.front.call(method, path, bearer, &body);
        self.transcript.push(json!({ "step": label, "status": status, "body": redacted(&answer) }));
        answer
    }
}
