//! What the migrations make, told by the database itself, and in what a live database differs from it.
use super::MigrateError;
use diesel::{QueryableByName, sql_types::Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use std::{collections::BTreeMap, fmt::Write as _};

const CATALOGUE: &str = include_str!("catalogue.sql");
/// What the embedded migrations made, when a test last wrote it down.
const EXPECTED: &str = include_str!("../../../migrations/catalogue.snap");

/// One thing that is not as the migrations make it.
pub struct Difference {
    /// What it is about.
    pub area: Area,
    /// One line, which says what is expected and what is found.
    pub text: String,
    /// Is it not there at all?
    pub missing: bool,
}

/// Whom a difference concerns.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Area {
    /// The service's roles.
    Roles,
    /// Which rows a role sees.
    RowSecurity,
    /// Everything else.
    Schema,
}

/// In the value of a relation that row-level security holds.
const SECURED: &str = "row security";

#[derive(QueryableByName)]
struct Line {
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Text)]
    value: String,
}

/// The schema of a live database: `migrations/catalogue.snap` is this, after the last migration.
pub async fn describe(connection: &mut AsyncPgConnection) -> Result<String, MigrateError> {
    // The server leaves out the schema of names that the search path finds.
    connection.batch_execute("SET search_path = pg_catalog").await?;
    let lines: Vec<Line> = diesel::sql_query(CATALOGUE).load(connection).await?;
    let mut text = String::new();
    for Line { key, value } in lines {
        let _ = writeln!(text, "{key}: {value}");
    }
    Ok(text)
}

/// Each thing that is not as the migrations make it.
pub(super) fn differences(found: &str) -> Vec<Difference> {
    compare(EXPECTED, found)
}

fn compare(expected: &str, found: &str) -> Vec<Difference> {
    let (expected, mut found) = (read(expected), read(found));
    let mut differences = vec![];
    for (key, expected) in expected {
        let (found, text) = match found.remove(key) {
            None => (None, format!("{key} is missing; expected {expected}")),
            Some(found) if found != expected => {
                (Some(found), format!("{key} differs; expected {expected}; found {found}"))
            }
            Some(_) => continue,
        };
        let area = area(key, expected, found.unwrap_or(expected));
        differences.push(Difference { area, text, missing: found.is_none() });
    }
    differences.extend(found.into_iter().map(|(key, found)| Difference {
        area: area(key, found, found),
        text: format!("{key} is of no migration; found {found}"),
        missing: false,
    }));
    differences
}

fn area(key: &str, expected: &str, found: &str) -> Area {
    match key {
        _ if key.starts_with("role ") => Area::Roles,
        _ if key.contains(" policy ") => Area::RowSecurity,
        _ if key.ends_with(" relation") && expected.contains(SECURED) != found.contains(SECURED) => {
            Area::RowSecurity
        }
        _ => Area::Schema,
    }
}

fn read(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| line.split_once(": ")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_other_or_foreign_is_named() {
        let expected = "orgs column name: text, not null\norgs index orgs_list: CREATE INDEX\norgs policy org: all to app\n";
        let found = "orgs column name: text\norgs policy org: all to app\norgs trigger spy: CREATE TRIGGER\n";
        let texts = |differences: Vec<Difference>| -> Vec<String> {
            differences.into_iter().map(|difference| difference.text).collect()
        };
        assert_eq!(
            texts(compare(expected, found)),
            [
                "orgs column name differs; expected text, not null; found text",
                "orgs index orgs_list is missing; expected CREATE INDEX",
                "orgs trigger spy is of no migration; found CREATE TRIGGER",
            ]
        );
        assert_eq!(texts(compare(expected, expected)), Vec::<String>::new());
    }

    #[test]
    fn a_difference_is_about_roles_rows_or_the_rest() {
        let of = |expected: &str, found: &str| -> Vec<(Area, bool)> {
            compare(expected, found).iter().map(|one| (one.area, one.missing)).collect()
        };
        let (secured, open) = ("orgs relation: table, row security", "orgs relation: table");
        assert_eq!(of(secured, open), [(Area::RowSecurity, false)]);
        assert_eq!(of(secured, "orgs relation: table, owner me, row security"), [(Area::Schema, false)]);
        assert_eq!(of(secured, ""), [(Area::Schema, true)]);
        assert_eq!(of("", "orgs policy all: using true"), [(Area::RowSecurity, false)]);
        assert_eq!(of("role app: login", "role app: login, superuser"), [(Area::Roles, false)]);
    }

    #[test]
    fn the_committed_catalogue_has_one_line_a_thing() {
        assert_eq!(read(EXPECTED).len(), EXPECTED.lines().count());
    }
}
