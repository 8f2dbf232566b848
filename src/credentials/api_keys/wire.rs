//! What requests say of API keys, and answers show.
use super::{
    error::KeyError,
    model::{
        ApiKey, IssuedKey, KeyPatch, NewKey, parse_cidrs, parse_days, parse_expiry, parse_name,
        parse_overlap, parse_scopes,
    },
};
use crate::{
    authorization::Holder,
    http::{answer, extract, schema},
    kernel::{Answer, Metadata, Reason, Secret},
};
use actix_web::http::{StatusCode, header::LOCATION};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

/// An API key, without its secret.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = ApiKey)]
pub(in crate::credentials) struct ApiKeyView {
    pub(in crate::credentials) api_key_id: Uuid,
    /// `SHA256:` and the digest of the secret in base64url.
    pub(in crate::credentials) fingerprint: String,
    /// The last letters of the secret.
    last4: String,
    #[serde(rename = "display_name")]
    display_name: String,
    /// `active`, `rotating`, `quarantined`, `revoked` or `expired`.
    status: &'static str,
    scopes: Vec<&'static str>,
    issued_at: DateTime<Utc>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    last_used_at: Option<DateTime<Utc>>,
    /// `user` or `service_account`.
    principal_type: &'static str,
    principal_id: Uuid,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    user_id: Option<Uuid>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    allowed_cidrs: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    rate_limit: Option<Value>,
    #[schema(value_type = Object)]
    annotations: Value,
    /// The key that this one takes over from.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    replaces: Option<Uuid>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl ApiKeyView {
    pub(in crate::credentials) fn of(key: &ApiKey, now: DateTime<Utc>) -> Self {
        let (principal_type, principal_id) = principal(key.holder);
        Self {
            api_key_id: key.id.uuid(),
            fingerprint: key.fingerprint.clone(),
            last4: key.last4.clone(),
            display_name: key.display_name.clone(),
            status: key.shown_status(now),
            scopes: key.scopes.names().collect(),
            issued_at: key.issued_at,
            expires_at: key.expires_at,
            last_used_at: key.last_used_at,
            principal_type,
            principal_id,
            user_id: matches!(key.holder, Holder::User(_)).then_some(principal_id),
            allowed_cidrs: key.allowed_cidrs.iter().map(ToString::to_string).collect(),
            rate_limit: key.rate_limit.clone(),
            annotations: key.annotations.clone(),
            replaces: key.replaces.map(|key| key.uuid()),
            created_at: key.issued_at,
            updated_at: key.updated_at,
        }
    }
}

/// The words for a holder in answers.
pub(in crate::credentials) fn principal(holder: Holder) -> (&'static str, Uuid) {
    match holder {
        Holder::User(user) => ("user", user.uuid()),
        Holder::ServiceAccount(account) => ("service_account", account.uuid()),
    }
}

/// For the document.
pub(in crate::credentials) fn example() -> Value {
    json!({
        "apiKeyId": "0193a5f0-7b1c-7000-8000-000000000003", "fingerprint": "SHA256:n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg",
        "last4": "x3Zq", "display_name": "ci", "status": "active", "scopes": ["inference:invoke", "models:read"],
        "issuedAt": "2026-11-01T09:00:00Z", "principalType": "user",
        "principalId": "0193a5f0-7b1c-7000-8000-000000000002", "userId": "0193a5f0-7b1c-7000-8000-000000000002",
        "annotations": {}, "createdAt": "2026-11-01T09:00:00Z", "updatedAt": "2026-11-01T09:00:00Z",
    })
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct IssueKey {
    #[serde(rename = "display_name", alias = "displayName")]
    #[schema(value_type = Option<schema::KeyName>)]
    display_name: Option<String>,
    /// `inference:invoke` and `models:read` when left out; `admin`: all that the holder may do.
    #[schema(value_type = Option<Vec<schema::ScopeName>>)]
    scopes: Option<Vec<String>>,
    /// 1 to 3650; no end when left out.
    #[serde(default, deserialize_with = "extract::whole")]
    #[schema(minimum = 1, maximum = 3650)]
    expires_in_days: Option<i64>,
    #[schema(value_type = Option<Object>)]
    annotations: Option<Value>,
    /// Networks from which the key may be used.
    allowed_cidrs: Option<Vec<String>>,
    /// Kept for the gateways that enforce it.
    #[schema(value_type = Option<Object>)]
    rate_limit: Option<Value>,
}

impl IssueKey {
    pub(super) fn new_key(self, now: DateTime<Utc>) -> Result<NewKey, KeyError> {
        Ok(NewKey {
            display_name: parse_name(&self.display_name.unwrap_or_default())?,
            scopes: parse_scopes(&self.scopes.unwrap_or_default())?,
            expires_at: parse_days(self.expires_in_days, now)?,
            allowed_cidrs: parse_cidrs(&self.allowed_cidrs.unwrap_or_default())?,
            rate_limit: rate_limit(self.rate_limit)?,
            annotations: annotations(self.annotations)?.unwrap_or_default(),
        })
    }
}

fn annotations(value: Option<Value>) -> Result<Option<Metadata>, KeyError> {
    value.map(|value| Metadata::parse(value).ok_or(KeyError::AnnotationsInvalid)).transpose()
}

fn rate_limit(value: Option<Value>) -> Result<Option<Value>, KeyError> {
    let parse = |value| Metadata::parse(value).ok_or(KeyError::RateLimitInvalid).map(Metadata::into_value);
    value.map(parse).transpose()
}

/// A key just made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct IssuedKeyView {
    api_key_id: Uuid,
    /// Shown this once; put in where the answer is written.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, required)]
    secret: Option<&'static str>,
    fingerprint: String,
    status: &'static str,
    scopes: Vec<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    expires_at: Option<DateTime<Utc>>,
}

pub(super) fn issued(issued: &IssuedKey) -> Answer {
    let key = &issued.key;
    let view = IssuedKeyView {
        api_key_id: key.id.uuid(),
        secret: None,
        fingerprint: key.fingerprint.clone(),
        status: key.status.as_str(),
        scopes: key.scopes.names().collect(),
        expires_at: key.expires_at,
    };
    let answer = answer::json(StatusCode::CREATED, &view);
    let answer = answer::with_secret(answer, "secret", Secret::new(issued.secret.expose().to_owned()));
    answer::with_header(answer, LOCATION.as_str(), format!("/v1/orgs/{}/api-keys/{}", key.org, key.id))
}

pub(super) fn issued_example() -> Value {
    json!({
        "apiKeyId": "0193a5f0-7b1c-7000-8000-000000000003", "secret": "idk_…", "status": "active",
        "fingerprint": "SHA256:n4bQgYhMfWWaL-qgxVrQFaO_TxsrC4Is0V1sFbDwCgg", "scopes": ["inference:invoke", "models:read"],
    })
}

#[derive(Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::credentials) struct RotateKey {
    /// How long the old key goes on: 0 to 2592000; 86400 when left out.
    #[serde(default, deserialize_with = "extract::whole")]
    #[schema(minimum = 0, maximum = 2_592_000)]
    overlap_seconds: Option<i64>,
    /// One line, for the audit log.
    #[schema(value_type = Option<schema::Reason>)]
    reason: Option<String>,
}

impl RotateKey {
    pub(in crate::credentials) fn parse(self) -> Result<(TimeDelta, Option<Reason>), KeyError> {
        Ok((parse_overlap(self.overlap_seconds)?, reason(self.reason)?))
    }
}

fn reason(text: Option<String>) -> Result<Option<Reason>, KeyError> {
    text.map(|text| Reason::parse(&text).ok_or(KeyError::ReasonInvalid)).transpose()
}

#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyQuery {
    /// Only keys in this state, as stored: an expired key is `active` or `rotating`.
    #[param(required = false, value_type = String, pattern = "^(active|rotating|quarantined|revoked)?$")]
    pub(super) status: Option<String>,
}

#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::credentials) struct UpdateKey {
    #[serde(rename = "display_name", alias = "displayName")]
    #[schema(value_type = Option<schema::KeyName>)]
    display_name: Option<String>,
    #[schema(value_type = Option<Vec<schema::ScopeName>>)]
    scopes: Option<Vec<String>>,
    #[serde(alias = "expires_at")]
    expires_at: Option<DateTime<Utc>>,
    allowed_cidrs: Option<Vec<String>>,
    #[schema(value_type = Option<Object>)]
    rate_limit: Option<Value>,
    /// Replaces what was there.
    #[schema(value_type = Option<Object>)]
    annotations: Option<Value>,
}

impl UpdateKey {
    pub(in crate::credentials) fn patch(self, now: DateTime<Utc>) -> Result<KeyPatch, KeyError> {
        Ok(KeyPatch {
            display_name: self.display_name.map(|name| parse_name(&name)).transpose()?,
            scopes: self.scopes.map(|scopes| parse_scopes(&scopes)).transpose()?,
            expires_at: self.expires_at.map(|at| parse_expiry(at, now)).transpose()?,
            allowed_cidrs: self.allowed_cidrs.map(|networks| parse_cidrs(&networks)).transpose()?,
            rate_limit: rate_limit(self.rate_limit)?,
            annotations: annotations(self.annotations)?,
        })
    }
}

#[derive(Default, Deserialize, ToSchema)]
pub(in crate::credentials) struct RevokeKey {
    /// One line, for the audit log.
    #[schema(value_type = Option<schema::Reason>)]
    reason: Option<String>,
}

impl RevokeKey {
    pub(in crate::credentials) fn reason(self) -> Result<Option<Reason>, KeyError> {
        reason(self.reason)
    }
}
