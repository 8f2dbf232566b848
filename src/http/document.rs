//! The OpenAPI document: what handlers say of themselves, completed with what is true of all of them.
use super::{
    idempotency, problem,
    rates::{Class, EXTENSION},
    request,
};
use serde_json::{Map, Value, json};
use utoipa::openapi::{
    ContactBuilder, InfoBuilder, License, OpenApi, OpenApiBuilder, RefOr, SecurityRequirement, ServerBuilder,
    Tag,
    schema::Schema,
    security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
    tag::TagBuilder,
};
use utoipa::{PartialSchema as _, ToSchema as _};

const DESCRIPTION: &str = "Identities, organizations, sign-in, API keys, permissions and their audit log. Errors are \
    `application/problem+json` with a stable `code`; lists are bare arrays with the next page in `Link`.";

/// The document before any handler has added to it.
pub fn base() -> OpenApi {
    let license = {
        let mut license = License::new("Apache-2.0");
        license.identifier = Some("Apache-2.0".to_owned());
        license
    };
    let contact = ContactBuilder::new().name(Some("identityd operators")).build();
    let info = InfoBuilder::new()
        .title("identityd")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license))
        .contact(Some(contact))
        .build();
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An access token, an API key, or a bootstrap token"))
        .build();
    let key = ApiKey::Header(ApiKeyValue::with_description(
        "X-API-Key",
        "An API key; Authorization goes before it",
    ));
    let mut document = OpenApiBuilder::new()
        .info(info)
        .servers(Some([ServerBuilder::new().url("/").build()]))
        .tags(Some(tags()))
        .security(Some(["bearer", "apiKey"].map(|name| SecurityRequirement::new(name, Vec::<String>::new()))))
        .build();
    let components = document.components.get_or_insert_default();
    components.security_schemes.insert("bearer".to_owned(), SecurityScheme::Http(bearer).into());
    components.security_schemes.insert("apiKey".to_owned(), SecurityScheme::ApiKey(key).into());
    let mut schemas: Vec<(String, RefOr<Schema>)> = vec![];
    problem::ProblemBody::schemas(&mut schemas);
    schemas.push(("Problem".to_owned(), problem::ProblemBody::schema()));
    components.schemas.extend(schemas);
    document
}

fn tags() -> Vec<Tag> {
    [
        ("sign-in", "Signing in and out, sessions, and who one is"),
        ("organizations", "Tenants"),
        ("people", "Members of an organization, their roles, and invites"),
        ("service accounts", "Machines of an organization"),
        ("api keys", "Long-lived credentials of people and machines"),
        ("policy", "May this principal do that, and what to forget of what was told"),
        ("audit", "What happened"),
        ("operations", "Health and metrics"),
    ]
    .map(|(name, description)| TagBuilder::new().name(name).description(Some(description)).build())
    .into()
}

/// Adds to every operation what no handler has to repeat, and on which listeners it is.
pub fn complete(document: &OpenApi, listeners: &[(&str, Vec<String>)]) -> Result<Value, serde_json::Error> {
    let mut document = serde_json::to_value(document)?;
    let Some(paths) = document.get_mut("paths").and_then(Value::as_object_mut) else { return Ok(document) };
    for (path, item) in paths {
        let on: Vec<&str> =
            listeners.iter().filter(|(_, paths)| paths.contains(path)).map(|(name, _)| *name).collect();
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let Some(operation) = operation.as_object_mut() else { continue };
            operation.insert("x-listeners".to_owned(), json!(on));
            complete_operation(path, method, operation);
        }
    }
    Ok(document)
}

fn complete_operation(path: &str, method: &str, operation: &mut Map<String, Value>) {
    let summary = operation.get("summary").and_then(Value::as_str).unwrap_or_default().to_owned();
    operation.entry("description").or_insert_with(|| summary.into());
    let public = operation.get("security") == Some(&json!([{}]));
    let body = operation.contains_key("requestBody");
    let class = Class::of(method, operation);
    let mut problems = vec![
        ("400", "Malformed: the URL, a header, or the body"),
        (
            "503",
            "Too busy, or a dependency does not answer: `code` names it, `Retry-After` says when to try again",
        ),
    ];
    if !public {
        problems.push(("401", "No credential, or none that holds"));
        problems.push(("403", "A policy forbids it: `code` says why, `policyIds` name the policies"));
    }
    if let Some(class) = class {
        // Whichever of its extensions utoipa has put first: the document is the same each time.
        operation.retain(|name, _| name != EXTENSION);
        operation.insert(EXTENSION.to_owned(), json!(class.as_str()));
        problems.push((
            "429",
            "Too much: `Retry-After` says when to try again, `RateLimit` of what there was too much",
        ));
    }
    if path.contains('{') {
        problems.push(("404", "There is nothing here, or it is not for the caller to see"));
    }
    if body {
        problems.push(("413", "The body is larger than 256 KiB"));
        problems.push(("415", "The body is not JSON"));
    }
    if body || operation.contains_key("parameters") {
        problems.push(("422", "A member of the request is not valid: `errors` name it"));
    }
    if let Some(responses) = operation.entry("responses").or_insert_with(|| json!({})).as_object_mut() {
        for (status, description) in problems {
            responses.entry(status).or_insert_with(|| json!({ "description": description }));
        }
        for (status, response) in responses.iter_mut() {
            describe(status, response);
        }
    }
    let mut shared =
        vec![header(request::VERSION.as_str(), "The dated revision of the API", request::VERSIONS)];
    if method == "post" && idempotency::applies(path) && !public {
        shared.push(json!({
            "name": "Idempotency-Key", "in": "header", "required": false,
            "description": "The same key with the same request answers again what was answered, for 24 hours",
            "schema": { "type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$" },
        }));
    }
    if let Some(parameters) = operation.entry("parameters").or_insert_with(|| json!([])).as_array_mut() {
        parameters.extend(shared);
    }
}

fn header(name: &str, description: &str, values: &[&str]) -> Value {
    json!({
        "name": name, "in": "header", "required": false, "description": description,
        "schema": { "type": "string", "enum": values },
    })
}

/// Errors are problems, whoever wrote them down.
fn describe(status: &str, response: &mut Value) {
    let Some(response) = response.as_object_mut() else { return };
    if status.starts_with(['4', '5']) && !response.contains_key("content") {
        let schema = json!({ "schema": { "$ref": "#/components/schemas/Problem" } });
        response.insert("content".to_owned(), json!({ problem::CONTENT_TYPE: schema }));
    }
}
