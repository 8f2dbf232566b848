//! Which class of routes an operation belongs to. How often each class may be asked is set under `limits`.
//!
//! **Invariant:** every operation with an action is in exactly one class, as its `x-rate-limit` in the document says:
//! where no handler names one, it follows from the action.
use crate::{
    authorization::Action,
    platform::config::{ClassLimits, Limits},
};
use actix_web::{HttpRequest, web};
use serde_json::Value;
use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

/// The extension of an operation that names its class.
pub const EXTENSION: &str = "x-rate-limit";

/// What is limited together.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// A password is tried.
    SignIn,
    /// Other ways to a password: an invite is accepted, the own one changed.
    Recovery,
    /// Mail goes to somebody.
    Invites,
    /// A secret is made.
    KeyIssue,
    /// Much goes out at once.
    Exports,
    Reads,
    Writes,
    /// Services ask for somebody else, many times a second.
    Checks,
}

impl Class {
    const ALL: [Self; 8] = [
        Self::SignIn,
        Self::Recovery,
        Self::Invites,
        Self::KeyIssue,
        Self::Exports,
        Self::Reads,
        Self::Writes,
        Self::Checks,
    ];

    /// As in the configuration and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignIn => "sign_in",
            Self::Recovery => "recovery",
            Self::Invites => "invites",
            Self::KeyIssue => "key_issue",
            Self::Exports => "exports",
            Self::Reads => "reads",
            Self::Writes => "writes",
            Self::Checks => "checks",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.as_str() == name)
    }

    /// Are all processes counted together? What only protects a process is not worth a question to Redis.
    pub fn is_shared(self) -> bool {
        !matches!(self, Self::Reads | Self::Checks)
    }

    pub(super) fn limits(self, limits: &Limits) -> ClassLimits {
        match self {
            Self::SignIn => limits.sign_in,
            Self::Recovery => limits.recovery,
            Self::Invites => limits.invites,
            Self::KeyIssue => limits.key_issue,
            Self::Exports => limits.exports,
            Self::Reads => limits.reads,
            Self::Writes => limits.writes,
            Self::Checks => limits.checks,
        }
    }

    /// Of an operation as the document has it. `None`: it has no action, or one of which its handler must name the class.
    pub(super) fn of(method: &str, operation: &serde_json::Map<String, Value>) -> Option<Self> {
        if let Some(named) = operation.get(EXTENSION) {
            return Self::parse(named.as_str()?);
        }
        match Action::parse(operation.get("x-action")?.as_str()?)? {
            // Signing in, renewing and checking keys are one action, and differ in everything else.
            Action::SignInUse => None,
            Action::AuditExport => Some(Self::Exports),
            Action::PoliciesEvaluate => Some(Self::Checks),
            _ if method == "get" => Some(Self::Reads),
            Action::UsersInvite if method == "post" => Some(Self::Invites),
            Action::KeysIssue | Action::KeysRotate => Some(Self::KeyIssue),
            _ => Some(Self::Writes),
        }
    }
}

/// The class of each operation and page.
#[derive(Clone, Default)]
pub struct Classes(HashMap<String, Vec<(String, Class)>>);

impl Classes {
    /// Reads them off the complete document.
    pub fn of(document: &Value) -> Self {
        let mut classes = Self::default();
        let paths = document.get("paths").and_then(Value::as_object);
        for (path, item) in paths.into_iter().flatten() {
            for (method, operation) in item.as_object().into_iter().flatten() {
                let named = operation.get(EXTENSION).and_then(Value::as_str);
                if let Some(class) = named.and_then(Class::parse) {
                    classes.put(path, &method.to_uppercase(), class);
                }
            }
        }
        classes
    }

    /// Adds a page, which is in no document.
    #[must_use]
    pub fn and(mut self, path: &str, method: &str, class: Class) -> Self {
        self.put(path, method, class);
        self
    }

    fn put(&mut self, path: &str, method: &str, class: Class) {
        self.0.entry(path.to_owned()).or_default().push((method.to_owned(), class));
    }

    /// Of a request. A path without parameters, such as that of key checks, is its own pattern.
    pub(super) fn class(request: &HttpRequest) -> Option<Class> {
        let classes = request.app_data::<web::Data<Self>>()?;
        let of_path = match classes.0.get(request.path()) {
            Some(of_path) => of_path,
            None => classes.0.get(&request.match_pattern()?)?,
        };
        let method = request.method().as_str();
        of_path.iter().find(|(known, _)| known == method).map(|(_, class)| *class)
    }
}

/// The limits that are in force. They can be set anew while requests are answered.
pub struct RateLimits(RwLock<Limits>);

impl RateLimits {
    /// Those of the configuration.
    pub fn new(limits: Limits) -> Self {
        Self(RwLock::new(limits))
    }

    /// From now on these.
    pub fn replace(&self, limits: Limits) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = limits;
    }

    pub(super) fn of(&self, class: Class) -> ClassLimits {
        class.limits(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn class(method: &str, operation: &Value) -> Option<&'static str> {
        Class::of(method, operation.as_object().unwrap()).map(Class::as_str)
    }

    #[test]
    fn a_class_follows_from_the_action_and_a_handler_may_name_another() {
        for (method, action, expected) in [
            ("get", "users:read", Some("reads")),
            ("get", "users:invite", Some("reads")),
            ("post", "users:invite", Some("invites")),
            ("delete", "users:invite", Some("writes")),
            ("post", "keys:rotate", Some("key_issue")),
            ("get", "audit:export", Some("exports")),
            ("post", "policies:evaluate", Some("checks")),
            ("post", "sign-in:use", None),
            ("get", "no:such", None),
        ] {
            assert_eq!(class(method, &json!({ "x-action": action })), expected, "{method} {action}");
        }
        assert_eq!(
            class("post", &json!({ "x-action": "sign-in:use", "x-rate-limit": "sign_in" })),
            Some("sign_in")
        );
        assert_eq!(class("post", &json!({ "x-action": "users:update", "x-rate-limit": "typo" })), None);
        assert_eq!(class("get", &json!({})), None);
    }
}
