//! Versions as entity tags (RFC 9110): `ETag` on every resource, `If-Match` on every change.
use super::problem::Problem;
use crate::kernel::Answer;
use actix_web::{
    FromRequest, HttpRequest,
    dev::Payload,
    http::{
        StatusCode,
        header::{self, Header as _},
    },
};
use std::future::{Ready, ready};
use utoipa::IntoParams;

/// Which versions a change may be made to; empty: any.
#[derive(Clone, Debug, Default)]
pub struct IfMatch(Option<Vec<i64>>);

/// The header, for the document.
#[derive(IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "documents the header that IfMatch reads")]
pub struct IfMatchParam {
    /// The `ETag` of the version to change; 412 if it was changed since.
    #[param(rename = "If-Match", required = false, value_type = String, example = "\"3\"",
        pattern = r#"^(\*|(W/)?"[!#-+.-~-]*"( *, *(W/)?"[!#-+.-~-]*")*)$"#)]
    if_match: Option<String>,
}

impl IfMatch {
    /// May this version be changed?
    pub fn matches(&self, version: i64) -> bool {
        self.0.as_ref().is_none_or(|versions| versions.contains(&version))
    }
}

impl FromRequest for IfMatch {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        if !request.headers().contains_key(header::IF_MATCH) {
            return ready(Ok(Self(None)));
        }
        ready(match header::IfMatch::parse(request) {
            Ok(header::IfMatch::Any) => Ok(Self(None)),
            Ok(header::IfMatch::Items(tags)) if !tags.is_empty() => {
                // A weak tag never matches strongly, and a tag that is none of ours matches nothing.
                let strong = tags.iter().filter(|tag| !tag.weak);
                Ok(Self(Some(strong.filter_map(|tag| tag.tag().parse().ok()).collect())))
            }
            _ => Err(malformed()),
        })
    }
}

fn malformed() -> Problem {
    let detail = "If-Match holds entity tags in double quotes, such as \"3\", or *";
    Problem::new(StatusCode::BAD_REQUEST, "IF_MATCH_MALFORMED", detail)
}

/// Adds the tag of a version.
#[must_use]
pub fn tagged(answer: Answer, version: i64) -> Answer {
    super::answer::with_header(answer, header::ETAG.as_str(), format!("\"{version}\""))
}

/// Somebody else was first.
pub fn mismatch() -> Problem {
    Problem::new(
        StatusCode::PRECONDITION_FAILED,
        "VERSION_MISMATCH",
        "it was changed since you read it: read it again, then decide again",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use actix_web::test::TestRequest;

    fn read(header: Option<&str>) -> Result<IfMatch, Problem> {
        let request = TestRequest::default();
        let request = match header {
            Some(value) => request.insert_header((header::IF_MATCH, value)),
            None => request,
        };
        IfMatch::from_request(&request.to_http_request(), &mut Payload::None).into_inner()
    }

    fn matches(header: Option<&str>, version: i64) -> bool {
        read(header).unwrap().matches(version)
    }

    #[test]
    fn tags_match_as_the_rfc_has_it() {
        assert!(matches(None, 3) && matches(Some("*"), 3) && matches(Some("\"3\""), 3));
        assert!(matches(Some("\"1\",W/\"ab\" , \"3\""), 3));
        assert!(!matches(Some("\"2\""), 3) && !matches(Some("W/\"3\""), 3) && !matches(Some("\"other\""), 3));
        for wrong in ["", "3", "garbage", "\"3", "\"a\"b\""] {
            assert_eq!(read(Some(wrong)).unwrap_err().code(), "IF_MATCH_MALFORMED", "{wrong}");
        }
    }
}
