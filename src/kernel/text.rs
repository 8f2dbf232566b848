//! Texts and documents that callers choose, within bounds.
use serde_json::{Map, Value};

const NAME_CHARS_MAX: usize = 200;
const REASON_CHARS_MAX: usize = 500;
const METADATA_BYTES_MAX: usize = 16 * 1024;

/// One trimmed line that names something: 1 to 200 characters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Name(String);

impl Name {
    /// Refuses the empty, the long, and control characters.
    pub fn parse(raw: &str) -> Option<Self> {
        line(raw, NAME_CHARS_MAX).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why something is done: 1 to 500 characters on one line.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reason(String);

impl Reason {
    /// Refuses the empty, the long, and control characters.
    pub fn parse(raw: &str) -> Option<Self> {
        line(raw, REASON_CHARS_MAX).map(Self)
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn line(raw: &str, chars_max: usize) -> Option<String> {
    let text = raw.trim();
    let good = !text.is_empty() && raw.chars().count() <= chars_max && !raw.chars().any(char::is_control);
    good.then(|| text.to_owned())
}

/// A JSON object that we keep and do not read: at most 16 KiB.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Metadata(Map<String, Value>);

impl Metadata {
    /// `None`: no object, or too large.
    pub fn parse(value: Value) -> Option<Self> {
        let Value::Object(members) = value else { return None };
        let bytes = serde_json::to_vec(&members).ok()?.len();
        (bytes <= METADATA_BYTES_MAX).then_some(Self(members))
    }

    /// For storage and answers.
    pub fn into_value(self) -> Value {
        Value::Object(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn names_are_one_bounded_line() {
        assert_eq!(Name::parse("  Åcme & Söhne ").unwrap().as_str(), "Åcme & Söhne");
        assert!(Name::parse(&"x".repeat(200)).is_some());
        for wrong in ["", "  ", "a\nb", "a\0b", &"x".repeat(201)] {
            assert!(Name::parse(wrong).is_none(), "{wrong:?}");
        }
    }

    #[test]
    fn metadata_is_a_bounded_object() {
        assert!(Metadata::parse(json!({ "a": [1, null] })).is_some());
        assert!(Metadata::parse(json!([])).is_none());
        assert!(Metadata::parse(json!({ "a": "x".repeat(17_000) })).is_none());
    }
}
