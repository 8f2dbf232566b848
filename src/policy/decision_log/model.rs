use crate::{
    authorization::Action,
    kernel::{Actor, OrgId},
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

/// Longer words are none of ours.
const WORD_BYTES_MAX: usize = 128;
/// Policies that are named.
const NAMED_MAX: usize = 8;
/// Whose allow is plain, beside reading: what services ask all the time. Anything else hands something out or changes it.
const PLAIN: [Action; 4] =
    [Action::InferenceInvoke, Action::BudgetsSpend, Action::SelfManage, Action::PoliciesEvaluate];

/// One answer, and what was asked. What the caller wrote is here as he wrote it; what of it is kept is ids and words.
#[derive(Clone, Debug)]
pub struct Decided {
    /// Names the answer.
    pub id: Uuid,
    pub at: DateTime<Utc>,
    pub request_id: String,
    /// Who asked.
    pub caller: Actor,
    pub org: OrgId,
    pub principal_type: String,
    pub principal_id: String,
    /// The key that the principal came with.
    pub api_key_id: Option<String>,
    pub action: String,
    pub resource_type: String,
    pub resource_id: String,
    pub allowed: bool,
    /// `ALLOWED`, or why not.
    pub code: String,
    pub policy_ids: Vec<String>,
    /// Of the authorization state.
    pub revision: i64,
    /// The policies that decided.
    pub bundle: String,
}

impl Decided {
    /// May it be lost, if that is counted?
    pub(super) fn is_plain(&self) -> bool {
        let plain = |action: Action| action.as_str().ends_with(":read") || PLAIN.contains(&action);
        self.allowed && Action::parse(&self.action).is_some_and(plain)
    }

    /// What is kept of it.
    pub(super) fn entry(&self) -> Value {
        let resource = match self.resource_type.as_str() {
            "model" | "organization" => word(&self.resource_id),
            _ => id(&self.resource_id),
        };
        let policies: Vec<&str> = self.policy_ids.iter().filter_map(|id| word(id)).take(NAMED_MAX).collect();
        json!({
            "v": 1,
            "id": self.id,
            "time": self.at,
            "caller": self.caller.to_string(),
            "org": self.org,
            "principal": { "type": word(&self.principal_type), "id": id(&self.principal_id) },
            "key": self.api_key_id.as_deref().and_then(id),
            "action": word(&self.action),
            "resource": { "type": word(&self.resource_type), "id": resource },
            "outcome": if self.allowed { "allow" } else { "deny" },
            "code": word(&self.code),
            "policies": policies,
            "revision": self.revision,
            "bundle": word(&self.bundle),
            "req": word(&self.request_id),
        })
    }

    /// The RFC 8785 bytes of that, which are hashed.
    pub(super) fn bytes(&self) -> Result<Vec<u8>, serde_json::Error> {
        serde_json_canonicalizer::to_vec(&self.entry())
    }
}

/// An id, or nothing: what else stands in its place may be somebody's address.
fn id(text: &str) -> Option<&str> {
    Uuid::try_parse(text).is_ok().then_some(text)
}

/// A word as identifiers are made of, or nothing.
fn word(text: &str) -> Option<&str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._:/-+=".contains(&byte);
    (!text.is_empty() && text.len() <= WORD_BYTES_MAX && text.bytes().all(plain)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::Id;

    fn decided(action: Action, allowed: bool) -> Decided {
        Decided {
            id: Uuid::nil(),
            at: DateTime::UNIX_EPOCH,
            request_id: "r".into(),
            caller: Actor::Anonymous,
            org: Id::from_uuid(Uuid::nil()),
            principal_type: "user".into(),
            principal_id: Uuid::nil().to_string(),
            api_key_id: None,
            action: action.as_str().into(),
            resource_type: "model".into(),
            resource_id: "llama-3.1/8b".into(),
            allowed,
            code: "ALLOWED".into(),
            policy_ids: vec!["role.owner".into()],
            revision: 7,
            bundle: "b".into(),
        }
    }

    #[test]
    fn only_allows_of_what_is_asked_all_the_time_are_plain() {
        let plain: Vec<&str> = Action::ALL
            .iter()
            .filter(|action| decided(**action, true).is_plain())
            .map(|action| action.as_str())
            .filter(|action| !action.ends_with(":read"))
            .collect();
        assert_eq!(plain, ["policies:evaluate", "budgets:spend", "self:manage", "inference:invoke"]);
        assert!(Action::ALL.iter().all(|action| !decided(*action, false).is_plain()), "a denial is not");
        assert!(!Decided { action: "no:such".into(), ..decided(Action::OrgsRead, true) }.is_plain());
    }

    #[test]
    fn what_is_kept_is_ids_and_words() {
        let mut written = decided(Action::InferenceInvoke, true);
        written.principal_id = "ada@example.io".into();
        written.resource_type = "user".into();
        written.resource_id = "Ada Lovelace".into();
        written.api_key_id = Some("idk_secret".into());
        let entry = written.entry();
        for member in [&entry["principal"]["id"], &entry["resource"]["id"], &entry["key"]] {
            assert!(member.is_null(), "{entry}");
        }
        assert_eq!(decided(Action::InferenceInvoke, true).entry()["resource"]["id"], "llama-3.1/8b");
        for text in ["a b", "ada@example.io", "", &"x".repeat(129)] {
            assert_eq!(word(text), None);
        }
    }
}
