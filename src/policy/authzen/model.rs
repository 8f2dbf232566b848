//! Requests of the OpenID `AuthZEN` Authorization API 1.0. Members that it does not know are ignored.
use crate::{
    http::{extract, problem::Problem},
    policy::decisions::{PolicyError, bounded},
};
use actix_web::http::StatusCode;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Map, Value};
use utoipa::ToSchema;

/// A subject or a resource.
#[derive(Clone, Deserialize, ToSchema)]
#[schema(as = AuthzenEntity)]
pub(super) struct Entity {
    /// Of subjects `user`, `service_account` or `api_key`; of resources as at `/v1/policy/evaluate`.
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) id: String,
    #[serde(default, deserialize_with = "extract::object_or_default")]
    #[schema(value_type = Option<Properties>)]
    pub(super) properties: Properties,
}

/// What is read of them; neither gives the subject anything.
#[derive(Clone, Default, Deserialize, ToSchema)]
#[schema(as = AuthzenProperties)]
#[serde(rename_all = "camelCase")]
pub(super) struct Properties {
    /// The organization: UUID or slug. Left out: the subject's, or the caller's.
    pub(super) org_id: Option<String>,
    /// Of a subject: only as far as these roles go.
    pub(super) roles: Option<Vec<String>>,
}

/// What is to be done.
#[derive(Clone, Deserialize, ToSchema)]
#[schema(as = AuthzenAction)]
pub(super) struct Verb {
    /// Such as `inference:invoke`.
    pub(super) name: String,
}

/// What else the caller knows.
#[derive(Clone, Default, Deserialize, ToSchema)]
#[schema(as = AuthzenContext)]
#[serde(rename_all = "camelCase")]
pub(super) struct Circumstances {
    /// The API key that the subject came with: its scopes bound the answer.
    pub(super) api_key_id: Option<String>,
    /// Where the subject came from: a key that is bound to networks needs it.
    pub(super) client_ip: Option<String>,
    /// The answer must be as new as this revision.
    #[serde(default, deserialize_with = "crate::policy::decisions::revision")]
    #[schema(value_type = Option<String>, pattern = "^[0-9]{1,18}$")]
    pub(super) at_least_revision: Option<i64>,
}

/// A question, or what many questions have in common.
#[derive(Clone, Default, Deserialize, ToSchema)]
#[schema(as = AuthzenEvaluation)]
pub(super) struct Evaluation {
    #[serde(default, deserialize_with = "extract::object")]
    pub(super) subject: Option<Entity>,
    #[serde(default, deserialize_with = "extract::object")]
    pub(super) action: Option<Verb>,
    #[serde(default, deserialize_with = "extract::object")]
    pub(super) resource: Option<Entity>,
    #[serde(default, deserialize_with = "extract::object")]
    pub(super) context: Option<Circumstances>,
}

/// Many questions.
#[derive(Deserialize, ToSchema)]
#[schema(as = AuthzenEvaluations)]
pub(super) struct Evaluations {
    /// What a question leaves out.
    #[serde(flatten)]
    pub(super) shared: Evaluation,
    /// None: one question, the shared one.
    #[serde(default, deserialize_with = "questions")]
    #[schema(value_type = Option<Vec<Evaluation>>)]
    pub(super) evaluations: Vec<Evaluation>,
    #[serde(default, deserialize_with = "extract::object_or_default")]
    #[schema(value_type = Option<Options>)]
    pub(super) options: Options,
}

fn questions<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Evaluation>, D::Error> {
    let all = Option::<Vec<Map<String, Value>>>::deserialize(deserializer)?.unwrap_or_default();
    all.into_iter().map(|one| Evaluation::deserialize(Value::Object(one)).map_err(D::Error::custom)).collect()
}

/// How many questions are gone through.
#[derive(Default, Deserialize, ToSchema)]
#[schema(as = AuthzenOptions)]
pub(super) struct Options {
    #[serde(default, deserialize_with = "extract::or_default")]
    #[schema(value_type = Option<Semantic>)]
    pub(super) evaluations_semantic: Semantic,
}

/// When it ends.
#[derive(Clone, Copy, PartialEq, Eq, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AuthzenSemantic)]
pub(super) enum Semantic {
    /// After the last question.
    #[default]
    ExecuteAll,
    /// After the first no.
    DenyOnFirstDeny,
    /// After the first yes.
    PermitOnFirstPermit,
}

impl Semantic {
    /// Is this answer the last?
    pub(super) fn ends_with(self, allowed: bool) -> bool {
        match self {
            Self::ExecuteAll => false,
            Self::DenyOnFirstDeny => !allowed,
            Self::PermitOnFirstPermit => allowed,
        }
    }
}

/// A question with nothing left out.
#[derive(Clone)]
pub(super) struct Complete {
    pub(super) subject: Entity,
    pub(super) action: Verb,
    pub(super) resource: Entity,
    pub(super) context: Circumstances,
}

impl Evaluation {
    /// What many questions share is copied for each: it is looked at before.
    pub(super) fn bounded(&self) -> Result<(), PolicyError> {
        let entities = [&self.subject, &self.resource].into_iter().flatten();
        let words = entities.clone().flat_map(|entity| [&entity.kind, &entity.id]);
        let words = words.chain(self.action.iter().map(|action| &action.name));
        let words = words.chain(self.context.iter().filter_map(|context| context.api_key_id.as_ref()));
        let words = words.chain(entities.clone().filter_map(|entity| entity.properties.org_id.as_ref()));
        let roles = entities.filter_map(|entity| entity.properties.roles.as_ref());
        bounded(words, roles)
    }

    /// Takes from the shared what it leaves out itself. `Err`: what is in neither.
    pub(super) fn complete(self, shared: &Self) -> Result<Complete, &'static str> {
        Ok(Complete {
            subject: self.subject.or_else(|| shared.subject.clone()).ok_or("subject")?,
            action: self.action.or_else(|| shared.action.clone()).ok_or("action")?,
            resource: self.resource.or_else(|| shared.resource.clone()).ok_or("resource")?,
            context: self.context.or_else(|| shared.context.clone()).unwrap_or_default(),
        })
    }
}

/// What a question of many got instead of an answer.
#[derive(Clone, Serialize, ToSchema)]
#[schema(as = AuthzenError)]
pub(super) struct ItemError {
    pub(super) message: String,
    pub(super) status: u16,
}

/// As a request that cannot be read is refused there.
pub(super) fn missing(member: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "INVALID_BODY", format!("{member} is missing"))
}
