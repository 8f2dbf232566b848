//! What the migrations make, told by the database itself, and in what a live database differs from it.
use super::MigrateError;
use diesel::{QueryableByName, sql_types::Text};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use std::{collections::BTreeMap, fmt::Write as _};

const CATALOGUE: &str = include_str!("catalogue.sql");
/// What the embedded migrations made, when a test last wrote it down.
const EXPECTED: &str = include_str!("../../../migrations/catalogue.snap");

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

/// One line for each thing that is not as the migrations make it.
pub(super) fn differences(found: &str) -> Vec<String> {
    compare(EXPECTED, found)
}

fn compare(expected: &str, found: &str) -> Vec<String> {
    let (expected, mut found) = (read(expected), read(found));
    let mut lines = vec![];
    for (key, expected) in expected {
        match found.remove(key) {
            None => lines.push(format!("{key} is missing; expected {expected}")),
            Some(found) if found != expected => {
                lines.push(format!("{key} differs; expected {expected}; found {found}"));
            }
            Some(_) => (),
        }
    }
    lines.extend(found.into_iter().map(|(key, found)| format!("{key} is of no migration; found {found}")));
    lines
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
        assert_eq!(
            compare(expected, found),
            [
                "orgs column name differs; expected text, not null; found text",
                "orgs index orgs_list is missing; expected CREATE INDEX",
                "orgs trigger spy is of no migration; found CREATE TRIGGER",
            ]
        );
        assert_eq!(compare(expected, expected), Vec::<String>::new());
    }

    #[test]
    fn the_committed_catalogue_has_one_line_a_thing() {
        assert_eq!(read(EXPECTED).len(), EXPECTED.lines().count());
    }
}
