//! A question in the caller's words, and its answer.
use super::PolicyError;
use crate::kernel::OrgId;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Longer names name nothing of ours, and would be echoed.
const NAME_CHARS_MAX: usize = 512;

/// Something by its type and id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub struct Named {
    /// Its id, or its name.
    pub id: String,
    /// `organization`, `user`, `service_account`, `api_key`, `model`, `platform`, or `account`: what is the principal's
    /// own.
    #[serde(rename = "type")]
    pub kind: String,
}

/// The question that was answered. Its members are in the order in which RFC 8785 has them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Asked {
    /// What is to be done.
    pub action: String,
    /// The API key that the principal came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub api_key_id: Option<String>,
    /// The principal's organization.
    #[schema(value_type = Uuid)]
    pub org_id: OrgId,
    /// The principal.
    pub principal_id: String,
    /// `user` or `service_account`.
    pub principal_type: String,
    /// On what it is to be done.
    pub resource: Named,
    /// The roles that the principal was held to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub roles: Option<Vec<String>>,
}

impl Asked {
    /// Refuses what is too long to be echoed.
    pub fn bounded(self) -> Result<Self, PolicyError> {
        let named = [
            ("action", Some(&self.action)),
            ("context.apiKeyId", self.api_key_id.as_ref()),
            ("subject", Some(&self.principal_id)),
            ("subject", Some(&self.principal_type)),
            ("resource", Some(&self.resource.id)),
            ("resource", Some(&self.resource.kind)),
        ];
        let roles = self.roles.iter().flatten().map(|role| ("roles", role));
        let named = named.into_iter().filter_map(|(field, text)| Some((field, text?)));
        let long = named.chain(roles).find(|(_, text)| text.chars().nth(NAME_CHARS_MAX).is_some());
        match long.map(|(field, _)| field) {
            Some(field) => Err(PolicyError::TooLong(field)),
            None => Ok(self),
        }
    }
}

/// The answer to one question.
#[derive(Clone, Debug)]
pub struct Answer {
    /// What was asked.
    pub asked: Asked,
    /// It may.
    pub allowed: bool,
    /// `ALLOWED`, or why not.
    pub code: String,
    /// The policies that decided.
    pub policy_ids: Vec<String>,
    /// What they ask of whoever enforces it.
    pub obligations: Vec<String>,
    /// For how long it may be kept.
    pub ttl_seconds: i64,
    /// Names this answer.
    pub decision_id: Uuid,
    /// The revision of the state that it was made at.
    pub revision: i64,
    /// The policies that it was made by.
    pub bundle: String,
    /// When it was made.
    pub evaluated_at: DateTime<Utc>,
    /// PostgreSQL has not confirmed the state lately.
    pub stale: bool,
}

impl Answer {
    /// The same for people.
    pub fn reason(&self) -> String {
        let by = self.policy_ids.join(", ");
        match (self.allowed, by.is_empty()) {
            (true, _) => format!("allowed by {by}"),
            (false, false) => format!("forbidden by {by} ({})", self.code),
            (false, true) => format!("no policy allows it ({})", self.code),
        }
    }

    /// The first of the policies; without one, the rule that what nobody allows is denied.
    pub fn policy_id(&self) -> &str {
        self.policy_ids.first().map_or("default.deny", String::as_str)
    }
}
