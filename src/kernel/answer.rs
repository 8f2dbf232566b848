//! What an operation answered, in a form that can be stored and given again (Idempotency-Key).
use super::Secret;
use serde_json::Value;
use std::{any::Any, borrow::Cow, fmt, sync::Arc};

/// Status, headers and body of an answer. Handlers make it from a use case's value; `seal` stores it.
#[derive(Clone, Debug)]
pub struct Answer {
    /// HTTP status code.
    pub status: u16,
    /// Header names and values beyond the content type.
    pub headers: Vec<(String, String)>,
    /// `None`: no content.
    pub body: Option<Value>,
    /// A body member that must not be stored in the clear.
    pub secret: Option<SecretMember>,
}

/// A top-level body member that is shown once.
#[derive(Clone, Debug)]
pub struct SecretMember {
    /// The member's name.
    pub name: Cow<'static, str>,
    /// Its value.
    pub value: Secret<String>,
}

type Render = Arc<dyn Fn(&dyn Any) -> Option<Answer> + Send + Sync>;

/// A caller's wish that this operation happen once, whatever is resent.
#[derive(Clone)]
pub struct Idempotency {
    /// The `Idempotency-Key` header.
    pub key: String,
    /// SHA-256 of method, path and body: the same key with another request is refused.
    pub fingerprint: [u8; 32],
    render: Option<Render>,
}

impl Idempotency {
    /// A wish, before the handler has said how it answers.
    pub fn new(key: String, fingerprint: [u8; 32]) -> Self {
        Self { key, fingerprint, render: None }
    }

    pub(super) fn answering<T: 'static>(self, answer: fn(&T) -> Answer) -> Self {
        let render: Render = Arc::new(move |value| value.downcast_ref().map(answer));
        Self { render: Some(render), ..self }
    }

    /// The answer to store for this value; `None` when the value is not the one the handler answers with.
    pub fn render(&self, value: &dyn Any) -> Option<Answer> {
        self.render.as_ref().and_then(|render| render(value))
    }
}

impl fmt::Debug for Idempotency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Idempotency").field("key", &self.key).finish_non_exhaustive()
    }
}
