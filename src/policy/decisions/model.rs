//! A question in the caller's words, and its answer.
use super::error::PolicyError;
use crate::{
    kernel::{Ctx, OrgId},
    policy::decision_log::Decided,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

/// Longer names name nothing of ours, and would be echoed.
const NAME_CHARS_MAX: usize = 512;

/// Something by its type and id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(super) struct Named {
    /// Its id, or its name.
    pub(super) id: String,
    /// `organization`, `user`, `service_account`, `api_key`, `model`, `platform`, or `account`: what is the principal's
    /// own.
    #[serde(rename = "type")]
    pub(super) kind: String,
}

/// The question that was answered. Its members are in the order in which RFC 8785 has them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Asked {
    /// What is to be done.
    pub(super) action: String,
    /// The API key that the principal came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) api_key_id: Option<String>,
    /// The principal's organization.
    #[schema(value_type = Uuid)]
    pub(super) org_id: OrgId,
    /// The principal.
    pub(super) principal_id: String,
    /// `user` or `service_account`.
    pub(super) principal_type: String,
    /// On what it is to be done.
    pub(super) resource: Named,
    /// The roles that the principal was held to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(super) roles: Option<Vec<String>>,
}

impl Asked {
    /// Refuses what is too long to be echoed.
    pub(super) fn bounded(self) -> Result<Self, PolicyError> {
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
pub(super) struct Answer {
    /// What was asked.
    pub(super) asked: Asked,
    /// It may.
    pub(super) allowed: bool,
    /// `ALLOWED`, or why not.
    pub(super) code: String,
    /// The policies that decided.
    pub(super) policy_ids: Vec<String>,
    /// What they ask of whoever enforces it.
    pub(super) obligations: Vec<String>,
    /// For how long it may be kept.
    pub(super) ttl_seconds: i64,
    /// Names this answer.
    pub(super) decision_id: Uuid,
    /// The revision of the state that it was made at.
    pub(super) revision: i64,
    /// The policies that it was made by.
    pub(super) bundle: String,
    /// When it was made.
    pub(super) evaluated_at: DateTime<Utc>,
    /// PostgreSQL has not confirmed the state lately.
    pub(super) stale: bool,
}

impl Answer {
    /// The same for the decision log.
    pub(super) fn decided(&self, ctx: &Ctx) -> Decided {
        let asked = &self.asked;
        Decided {
            id: self.decision_id,
            at: self.evaluated_at,
            request_id: ctx.request_id.clone(),
            caller: ctx.actor,
            org: asked.org_id,
            principal_type: asked.principal_type.clone(),
            principal_id: asked.principal_id.clone(),
            api_key_id: asked.api_key_id.clone(),
            action: asked.action.clone(),
            resource_type: asked.resource.kind.clone(),
            resource_id: asked.resource.id.clone(),
            allowed: self.allowed,
            code: self.code.clone(),
            policy_ids: self.policy_ids.clone(),
            revision: self.revision,
            bundle: self.bundle.clone(),
        }
    }

    /// The same for people.
    pub(super) fn reason(&self) -> String {
        let by = self.policy_ids.join(", ");
        match (self.allowed, by.is_empty()) {
            (true, _) => format!("allowed by {by}"),
            (false, false) => format!("forbidden by {by} ({})", self.code),
            (false, true) => format!("no policy allows it ({})", self.code),
        }
    }

    /// The first of the policies; without one, the rule that what nobody allows is denied.
    pub(super) fn policy_id(&self) -> &str {
        self.policy_ids.first().map_or("default.deny", String::as_str)
    }
}
