//! What is answered where no handler is: 404 on an unknown path, before any 401; 405 and `Allow` on a known one.
use super::problem::Problem;
use actix_web::{
    HttpRequest, HttpResponse, ResponseError as _,
    http::{
        Method, StatusCode,
        header::{ALLOW, HeaderValue},
    },
    web,
};
use utoipa::openapi::{OpenApi, PathItem};

/// Every path that has a handler, with its methods, as the OpenAPI document has them.
#[derive(Clone, Default)]
pub struct RouteTable(Vec<(Vec<Segment>, Vec<&'static str>)>);

#[derive(Clone)]
enum Segment {
    Fixed(String),
    Any,
}

impl RouteTable {
    /// Reads the table off the document.
    pub fn of(document: &OpenApi) -> Self {
        let row = |(path, item): (&String, &PathItem)| (segments(path), methods(item));
        Self(document.paths.paths.iter().map(row).collect())
    }

    /// Adds a path that is in no document: a page's.
    #[must_use]
    pub fn and(mut self, path: &str, methods: &[&'static str]) -> Self {
        self.0.push((segments(path), methods.to_vec()));
        self
    }

    fn methods_of(&self, path: &str) -> Vec<&'static str> {
        let asked: Vec<&str> = path.split('/').collect();
        let fits = |segments: &[Segment]| {
            segments.len() == asked.len()
                && segments.iter().zip(&asked).all(|(segment, asked)| match segment {
                    Segment::Fixed(text) => text == asked,
                    Segment::Any => !asked.is_empty(),
                })
        };
        let mut found: Vec<_> = self
            .0
            .iter()
            .filter(|(segments, _)| fits(segments))
            .flat_map(|(_, methods)| methods.clone())
            .collect();
        if found.contains(&"GET") {
            found.push("HEAD");
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn segments(path: &str) -> Vec<Segment> {
    let segment =
        |text: &str| if text.starts_with('{') { Segment::Any } else { Segment::Fixed(text.to_owned()) };
    path.split('/').map(segment).collect()
}

fn methods(item: &PathItem) -> Vec<&'static str> {
    let all = [
        ("GET", &item.get),
        ("POST", &item.post),
        ("PUT", &item.put),
        ("PATCH", &item.patch),
        ("DELETE", &item.delete),
    ];
    all.into_iter().filter(|(_, operation)| operation.is_some()).map(|(method, _)| method).collect()
}

/// The default service.
pub async fn nowhere(request: HttpRequest, table: web::Data<RouteTable>) -> HttpResponse {
    let methods = table.methods_of(request.path());
    if methods.is_empty() {
        return Problem::not_found().error_response();
    }
    let allow = methods.join(", ");
    let mut response = match *request.method() {
        // Not a preflight: those are answered before.
        Method::OPTIONS => HttpResponse::NoContent().finish(),
        _ => {
            let detail = format!("this path takes {allow}");
            Problem::new(StatusCode::METHOD_NOT_ALLOWED, "METHOD_NOT_ALLOWED", detail).error_response()
        }
    };
    if let Ok(allow) = HeaderValue::from_str(&allow) {
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}
