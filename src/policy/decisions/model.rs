//! A question in the caller's words, and its answer.
use super::error::PolicyError;
use crate::{
    kernel::{Ctx, OrgId},
    policy::decision_log::Decided,
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use std::net::IpAddr;
use utoipa::ToSchema;
use uuid::Uuid;

/// Longer names name nothing of ours, and would be echoed.
const NAME_CHARS_MAX: usize = 512;
/// There are no more roles than that.
const ROLES_MAX: usize = 32;

/// Something by its type and id.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
pub(in crate::policy) struct Named {
    /// Its id, or its name.
    pub(in crate::policy) id: String,
    /// `organization`, `user`, `service_account`, `api_key`, `model`, `platform`, or `account`: what is the principal's
    /// own.
    #[serde(rename = "type")]
    pub(in crate::policy) kind: String,
}

/// The question that was answered. Its members are in the order in which RFC 8785 has them.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::policy) struct Asked {
    /// What is to be done.
    pub(in crate::policy) action: String,
    /// The API key that the principal came with.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(in crate::policy) api_key_id: Option<String>,
    /// Where the principal came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, nullable = false)]
    pub(in crate::policy) client_ip: Option<IpAddr>,
    /// The principal's organization.
    #[schema(value_type = Uuid)]
    pub(in crate::policy) org_id: OrgId,
    /// The principal.
    pub(in crate::policy) principal_id: String,
    /// `user` or `service_account`.
    pub(in crate::policy) principal_type: String,
    /// On what it is to be done.
    pub(in crate::policy) resource: Named,
    /// The roles that the principal was held to.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub(in crate::policy) roles: Option<Vec<String>>,
}

impl Asked {
    /// What could not be read as a question.
    pub(in crate::policy) fn nothing(org_id: OrgId) -> Self {
        let resource = Named { id: String::new(), kind: String::new() };
        let (action, principal_id, principal_type) = (String::new(), String::new(), String::new());
        Self {
            action,
            api_key_id: None,
            client_ip: None,
            org_id,
            principal_id,
            principal_type,
            resource,
            roles: None,
        }
    }

    /// Refuses what is too long to be echoed.
    pub(in crate::policy) fn bounded(self) -> Result<Self, PolicyError> {
        let Named { id, kind } = &self.resource;
        let words = [&self.action, &self.principal_id, &self.principal_type, id, kind].into_iter();
        bounded(words.chain(&self.api_key_id), &self.roles)?;
        Ok(self)
    }
}

/// Names are as long, and roles as many, as ours can be.
pub(in crate::policy) fn bounded<'a>(
    words: impl IntoIterator<Item = &'a String>,
    roles: impl IntoIterator<Item = &'a Vec<String>>,
) -> Result<(), PolicyError> {
    let is_long = |word: &String| word.chars().nth(NAME_CHARS_MAX).is_some();
    if words.into_iter().any(is_long) {
        return Err(PolicyError::TooLong("question"));
    }
    for roles in roles {
        if roles.len() > ROLES_MAX {
            return Err(PolicyError::TooManyRoles(ROLES_MAX));
        }
        if roles.iter().any(is_long) {
            return Err(PolicyError::TooLong("roles"));
        }
    }
    Ok(())
}

/// The answer to one question.
#[derive(Clone, Debug)]
pub(in crate::policy) struct Answer {
    /// What was asked.
    pub(in crate::policy) asked: Asked,
    /// It may.
    pub(in crate::policy) allowed: bool,
    /// `ALLOWED`, or why not.
    pub(in crate::policy) code: String,
    /// The policies that decided.
    pub(in crate::policy) policy_ids: Vec<String>,
    /// What they ask of whoever enforces it.
    pub(in crate::policy) obligations: Vec<String>,
    /// For how long it may be kept.
    pub(in crate::policy) ttl_seconds: i64,
    /// Names this answer.
    pub(in crate::policy) decision_id: Uuid,
    /// The revision of the state that it was made at.
    pub(in crate::policy) revision: i64,
    /// The policies that it was made by.
    pub(in crate::policy) bundle: String,
    /// When it was made.
    pub(in crate::policy) evaluated_at: DateTime<Utc>,
    /// PostgreSQL has not confirmed the state lately.
    pub(in crate::policy) stale: bool,
    /// Whoever asked may: it goes on the decision log.
    pub(in crate::policy) on_record: bool,
}

impl Answer {
    /// The same for the decision log.
    pub(in crate::policy) fn decided(&self, ctx: &Ctx) -> Option<Decided> {
        let asked = &self.asked;
        self.on_record.then(|| Decided {
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
        })
    }

    /// The same for people.
    pub(in crate::policy) fn reason(&self) -> String {
        let by = self.policy_ids.join(", ");
        match (self.allowed, by.is_empty()) {
            (true, _) => format!("allowed by {by}"),
            (false, false) => format!("forbidden by {by} ({})", self.code),
            (false, true) => format!("no policy allows it ({})", self.code),
        }
    }

    /// The first of the policies; without one, the rule that what nobody allows is denied.
    pub(in crate::policy) fn policy_id(&self) -> &str {
        self.policy_ids.first().map_or("default.deny", String::as_str)
    }
}
