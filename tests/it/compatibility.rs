//! A dated revision of the API keeps its promises: what a client of it may rely on, the document of today still says.
use identityd::{app, http::request::VERSIONS};
use serde_json::{Value, json};
use std::{collections::BTreeSet, fs, path::Path};

#[test]
fn the_document_breaks_no_client_of_a_dated_revision() {
    for version in VERSIONS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/api").join(format!("{version}.json"));
        let old = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let broken = broken(&serde_json::from_str(&old).unwrap(), &app::document().unwrap());
        assert!(
            broken.is_empty(),
            "clients of {version} break; add what is new beside what is old:\n{}",
            broken.join("\n")
        );
    }
}

/// Which way a schema travels: what we take may only widen, what we give may only narrow.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Taken,
    Given,
}

struct Comparison<'d> {
    old: &'d Value,
    new: &'d Value,
    broken: Vec<String>,
}

fn broken(old: &Value, new: &Value) -> Vec<String> {
    let mut comparison = Comparison { old, new, broken: vec![] };
    for (path, item) in old["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let place = format!("{method} {path}");
            match new["paths"][path].get(method) {
                None => comparison.broken.push(format!("{place} is gone")),
                Some(now) => comparison.operation(&place, operation, now),
            }
        }
    }
    comparison.broken
}

impl Comparison<'_> {
    fn must(&mut self, holds: bool, place: &str, what: &str) {
        if !holds {
            self.broken.push(format!("{place}: {what}"));
        }
    }

    fn operation(&mut self, place: &str, old: &Value, new: &Value) {
        self.must(old["operationId"] == new["operationId"], place, "its operationId is another");
        let closed =
            |operation: &Value| operation["security"].as_array().is_none_or(|any| !any.contains(&json!({})));
        self.must(closed(old) || !closed(new), place, "it now needs a credential");
        let name = |parameter: &Value| (parameter["in"].to_string(), parameter["name"].to_string());
        let find = |of: &Value, wanted: &Value| {
            of["parameters"]
                .as_array()
                .into_iter()
                .flatten()
                .find(|found| name(found) == name(wanted))
                .cloned()
        };
        for parameter in old["parameters"].as_array().into_iter().flatten() {
            let place = format!("{place} {}", parameter["name"]);
            match find(new, parameter) {
                None => self.must(false, &place, "it is gone"),
                Some(now) => self.schema(Way::Taken, &place, &parameter["schema"], &now["schema"], 0),
            }
        }
        for parameter in new["parameters"].as_array().into_iter().flatten() {
            let was = find(old, parameter).is_some_and(|was| was["required"] == true);
            self.must(
                was || parameter["required"] != true,
                place,
                &format!("{} is needed now", parameter["name"]),
            );
        }
        let needed = |operation: &Value| operation["requestBody"]["required"] == true;
        self.must(needed(old) || !needed(new), place, "a body is needed now");
        if let Some(body) = old.get("requestBody") {
            self.contents(Way::Taken, &format!("{place} body"), body, &new["requestBody"]);
        }
        for (status, response) in old["responses"].as_object().unwrap() {
            if status.starts_with('2') {
                let place = format!("{place} {status}");
                match new["responses"].get(status) {
                    None => self.must(false, &place, "it is gone"),
                    Some(now) => self.contents(Way::Given, &place, response, now),
                }
            }
        }
    }

    fn contents(&mut self, way: Way, place: &str, old: &Value, new: &Value) {
        for (media, content) in old["content"].as_object().into_iter().flatten() {
            match new["content"].get(media) {
                None => self.must(false, place, &format!("{media} is gone")),
                Some(now) => self.schema(way, place, &content["schema"], &now["schema"], 0),
            }
        }
    }

    fn schema(&mut self, way: Way, place: &str, old: &Value, new: &Value, depth: usize) {
        assert!(depth < 20, "{place} is too deep");
        let (old, new) = (resolve(self.old, old), resolve(self.new, new));
        let widens = |old: &BTreeSet<String>, new: &BTreeSet<String>| match way {
            Way::Taken => old.is_subset(new),
            Way::Given => new.is_subset(old),
        };
        self.must(widens(&words(&old["type"]), &words(&new["type"])), place, "its type is another");
        let enums = (words(&old["enum"]), words(&new["enum"]));
        let limited = match way {
            Way::Taken => enums.1.is_empty() || !enums.0.is_empty() && widens(&enums.0, &enums.1),
            Way::Given => enums.0.is_empty() || !enums.1.is_empty() && widens(&enums.0, &enums.1),
        };
        self.must(limited, place, "its words are others");
        if way == Way::Taken {
            for bound in
                ["pattern", "minLength", "maxLength", "minimum", "maximum", "minItems", "maxItems", "format"]
            {
                let same = old[bound] == new[bound];
                self.must(same || new[bound].is_null(), place, &format!("its {bound} is another"));
            }
        }
        let (was, is) = (words(&old["required"]), words(&new["required"]));
        self.must(widens(&is, &was), place, "other members are needed, or sure, than were");
        for (name, member) in old["properties"].as_object().into_iter().flatten() {
            let place = format!("{place}.{name}");
            match new["properties"].get(name) {
                None => self.must(false, &place, "it is gone"),
                Some(now) => self.schema(way, &place, member, now, depth + 1),
            }
        }
        if old["items"].is_object() {
            self.schema(way, &format!("{place}[]"), &old["items"], &new["items"], depth + 1);
        }
        for several in ["oneOf", "allOf", "anyOf"] {
            let none = vec![];
            let (was, is) =
                (old[several].as_array().unwrap_or(&none), new[several].as_array().unwrap_or(&none));
            self.must(was.len() == is.len(), place, &format!("its {several} is another"));
            for (old, new) in was.iter().zip(is) {
                self.schema(way, place, old, new, depth + 1);
            }
        }
    }
}

fn resolve<'d>(document: &'d Value, schema: &'d Value) -> &'d Value {
    match schema["$ref"].as_str() {
        Some(name) => &document["components"]["schemas"][name.rsplit('/').next().unwrap()],
        None => schema,
    }
}

fn words(value: &Value) -> BTreeSet<String> {
    match value {
        Value::Null => BTreeSet::new(),
        Value::Array(all) => all.iter().map(ToString::to_string).collect(),
        one => [one.to_string()].into(),
    }
}

#[test]
fn each_way_of_breaking_is_seen() {
    let old = app::document().unwrap();
    assert_eq!(broken(&old, &old), Vec::<String>::new());
    let create = "/paths/~1v1~1orgs/post";
    let schema = "/components/schemas";
    let edits: [(&str, Value, usize); 10] = [
        ("/paths/~1v1~1orgs~1{org}/delete", Value::Null, 1),
        (&format!("{create}/operationId"), json!("make_org"), 1),
        (&format!("{create}/requestBody/content"), json!({ "application/xml": {} }), 1),
        (&format!("{create}/responses/201"), Value::Null, 1),
        (&format!("{schema}/CreateOrg/required"), json!(["name", "slug", "metadata"]), 1),
        (&format!("{schema}/CreateOrg/properties/slug/pattern"), json!("^x$"), 1),
        (&format!("{schema}/CreateOrg/properties/metadata"), Value::Null, 1),
        (&format!("{schema}/CreateOrg/properties/slug/type"), json!("integer"), 1),
        (&format!("{schema}/RoleName/enum"), json!(["owner"]), 4),
        (&format!("{schema}/AuditEvent/properties/seq"), Value::Null, 1),
    ];
    for (pointer, value, at_least) in edits {
        let mut new = old.clone();
        let (parent, name) = pointer.rsplit_once('/').unwrap();
        let parent = new.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}")).as_object_mut().unwrap();
        match value {
            Value::Null => assert!(parent.remove(name).is_some(), "{pointer}"),
            value => assert!(parent.insert(name.to_owned(), value).is_some(), "{pointer}"),
        }
        let broken = broken(&old, &new);
        assert!(broken.len() >= at_least, "{pointer}: {broken:?}");
    }
}

#[test]
fn what_is_added_breaks_nobody() {
    let old = app::document().unwrap();
    let mut new = old.clone();
    new["paths"]["/v1/new"] = json!({ "get": { "operationId": "new", "responses": {} } });
    new["components"]["schemas"]["CreateOrg"]["properties"]["new"] = json!({ "type": "string" });
    new["components"]["schemas"]["Organization"]["properties"]["new"] = json!({ "type": "string" });
    assert_eq!(broken(&old, &new), Vec::<String>::new());
}
