//! Lists: bare arrays, keyset pages, the next one in `Link`.
use super::problem::Problem;
use crate::kernel::Page;
use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{HeaderValue, LINK},
    web,
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use uuid::Uuid;

/// How many a list answers when nobody says.
pub const DEFAULT: i64 = 50;
/// The same for lists of which an existing client looks only at page one.
pub const DEFAULT_LONG: i64 = 1000;

/// `?limit=&cursor=`.
#[derive(Clone, Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct PageQuery {
    /// How many at most, from 1 to 1000.
    #[param(required = false, value_type = i64, minimum = 1, maximum = 1000)]
    limit: Option<i64>,
    /// From `Link: <…>; rel="next"` of the page before.
    #[param(required = false, value_type = String, pattern = "^([A-Za-z0-9_-]{21}[AQgw])?$")]
    cursor: Option<String>,
}

impl PageQuery {
    /// The page that is asked for.
    pub fn page(&self, default: i64) -> Result<Page, Problem> {
        let limit = self.limit.unwrap_or(default);
        if !(1..=Page::LIMIT_MAX).contains(&limit) {
            return Err(Problem::invalid("limit", "LIMIT_INVALID", "limit must be between 1 and 1000"));
        }
        let after = match self.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
            None => Uuid::nil(),
            Some(cursor) => decode(cursor).ok_or_else(|| {
                Problem::invalid("cursor", "CURSOR_INVALID", "take the cursor from the Link header")
            })?,
        };
        Ok(Page { after, limit })
    }
}

/// The state that `?status=` names; none, or an empty one: any.
pub fn status<S>(
    word: Option<&str>,
    parse: impl Fn(&str) -> Option<S>,
    words: &[&str],
) -> Result<Option<S>, Problem> {
    let unknown =
        || Problem::invalid("status", "STATUS_INVALID", format!("status is one of {}", words.join(", ")));
    word.filter(|word| !word.is_empty()).map(|word| parse(word).ok_or_else(unknown)).transpose()
}

/// Answers a page; a full one points to the next.
pub fn respond<T: Serialize>(
    request: &HttpRequest,
    page: Page,
    items: &[T],
    last: Option<Uuid>,
) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    let full = i64::try_from(items.len()).is_ok_and(|count| count == page.limit);
    if let Some(last) = last.filter(|_| full) {
        let kept = web::Query::<Vec<(String, String)>>::from_query(request.query_string());
        let mut query = kept.map(web::Query::into_inner).unwrap_or_default();
        query.retain(|(name, _)| name != "cursor" && name != "limit");
        query.push(("limit".to_owned(), page.limit.to_string()));
        query.push(("cursor".to_owned(), encode(last)));
        let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
        let link = format!("<{}?{query}>; rel=\"next\"", request.path());
        if let Ok(link) = HeaderValue::from_str(&link) {
            response.insert_header((LINK, link));
        }
    }
    response.json(items)
}

fn encode(last: Uuid) -> String {
    URL_SAFE_NO_PAD.encode(last.as_bytes())
}

fn decode(cursor: &str) -> Option<Uuid> {
    Uuid::from_slice(&URL_SAFE_NO_PAD.decode(cursor).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_reads_back_and_garbage_does_not() {
        let id = Uuid::from_u128(7);
        let page = |limit, cursor: &str| PageQuery { limit, cursor: Some(cursor.to_owned()) }.page(DEFAULT);
        assert_eq!(page(None, &encode(id)).unwrap(), Page { after: id, limit: DEFAULT });
        assert_eq!(page(Some(1), "").unwrap(), Page { after: Uuid::nil(), limit: 1 });
        assert_eq!(page(Some(0), "").unwrap_err().code(), "LIMIT_INVALID");
        assert_eq!(page(Some(1001), "").unwrap_err().code(), "LIMIT_INVALID");
        assert_eq!(page(None, "' OR 1=1").unwrap_err().code(), "CURSOR_INVALID");
    }
}
