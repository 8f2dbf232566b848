//! Each context's `schema.rs` is what the migrated database says of its tables. `IDENTITYD_REGENERATE=1` writes them.
use crate::cli_support::{ScratchDatabase, ask};
use serde_json::Value;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

/// The tables of each context. No other context can name them: `schema` is private.
const OWNED: &[(&str, &[&str])] = &[
    ("orgs", &["orgs"]),
    ("identity", &["identities", "invite_tokens", "memberships", "role_bindings"]),
    ("authn", &["login_networks", "login_throttle", "passwords", "refresh_tokens", "sessions"]),
    ("credentials", &["api_key_usage", "api_keys", "operator_tokens", "service_accounts"]),
    ("audit", &["audit_log", "audit_org_head", "audit_pii"]),
];
/// Tables of no context, each with the reason why it has no `table!`.
const UNOWNED: &[(&str, &str)] = &[
    ("audit_head", "one row: the sequencer locks and moves it in SQL"),
    ("audit_outbox", "ledger inserts, the sequencer takes out; both in SQL, under different rights"),
    ("authz_clock", "one row: authorization raises it in SQL, last in a transaction"),
    ("authz_fact", "authorization upserts with parameters only, which Diesel's upsert does not"),
    ("idempotency_keys", "work claims a key with an advisory lock, in SQL"),
    ("jobs", "claimed with SKIP LOCKED on the database's clock, in SQL"),
    ("leases", "held with SKIP LOCKED on the database's clock, in SQL"),
    ("relay_positions", "one row a topic, moved from where it is in SQL"),
    ("wrapped_keys", "platform reads them before there is a context, in SQL"),
];
/// A line may have so many characters.
const WIDTH: usize = 110;

/// Columns in their order, the primary key, and keys to other tables.
const CATALOGUE: &str = "SELECT jsonb_agg(row)::text AS cell FROM (
    SELECT c.relname AS name,
      (SELECT jsonb_agg(jsonb_build_array(a.attname, format_type(a.atttypid, NULL), a.attnotnull) ORDER BY a.attnum)
         FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) AS columns,
      (SELECT jsonb_agg(a.attname ORDER BY key.place) FROM pg_index i
         CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY key(attnum, place)
         JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = key.attnum
         WHERE i.indrelid = c.oid AND i.indisprimary) AS key,
      (SELECT coalesce(jsonb_agg(jsonb_build_array(f.confrelid::regclass::text, a.attname)
           ORDER BY f.confrelid::regclass::text), '[]')
         FROM pg_constraint f JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = f.conkey[1]
         WHERE f.conrelid = c.oid AND f.contype = 'f' AND cardinality(f.conkey) = 1) AS parents
    FROM pg_class c WHERE c.relnamespace = 'public'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
      AND c.relname <> '__diesel_schema_migrations') row";

#[test]
fn generated_schema_files_are_current() {
    let tables = catalogue();
    for (context, owned) in OWNED {
        let (file, text) = (file_of(context), schema(&tables, owned));
        if std::env::var_os("IDENTITYD_REGENERATE").is_some() {
            if fs::read_to_string(&file).ok().as_deref() != Some(text.as_str()) {
                fs::write(file, text).unwrap();
            }
            continue;
        }
        let committed = fs::read_to_string(&file).unwrap();
        assert!(committed == text, "{}: run `./dev regenerate`, and read the difference", file.display());
    }
}

#[test]
fn every_table_has_an_owner_or_a_reason() {
    let found: BTreeSet<String> = catalogue().into_keys().collect();
    let owned = OWNED.iter().flat_map(|(_, tables)| *tables).copied();
    let listed: Vec<&str> = owned.chain(UNOWNED.iter().map(|(table, _)| *table)).collect();
    let once: BTreeSet<String> = listed.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(once.len(), listed.len(), "a table has one owner");
    assert_eq!(found, once);
}

fn catalogue() -> BTreeMap<String, Value> {
    let database = ScratchDatabase::new("schema");
    let up = database.migrate(&["up"]);
    assert_eq!(up.code, 0, "{up:?}");
    let rows: Vec<Value> = serde_json::from_str(&ask(&database.url(), CATALOGUE)).unwrap();
    rows.into_iter().map(|row| (row["name"].as_str().unwrap().to_owned(), row)).collect()
}

fn file_of(context: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src").join(context).join("schema.rs")
}

/// As rustfmt would leave it.
fn schema(tables: &BTreeMap<String, Value>, owned: &[&str]) -> String {
    let mut text =
        "// Generated from the migrated database by the test `generated_schema_files_are_current`. \
                    Do not edit.\n"
            .to_owned();
    for name in owned {
        text += &table(name, &tables[*name]);
    }
    let mut joins = String::new();
    for name in owned {
        for parent in tables[*name]["parents"].as_array().unwrap() {
            let [parent, column] = [&parent[0], &parent[1]].map(|text| text.as_str().unwrap());
            if owned.contains(&parent) {
                writeln!(joins, "diesel::joinable!({name} -> {parent} ({column}));").unwrap();
            }
        }
    }
    if !joins.is_empty() {
        write!(text, "\n{joins}").unwrap();
    }
    if owned.len() > 1 {
        let one_line = format!("diesel::allow_tables_to_appear_in_same_query!({});", owned.join(", "));
        let broken =
            format!("diesel::allow_tables_to_appear_in_same_query!(\n    {}\n);", owned.join(",\n    "));
        let one_line = if one_line.len() <= WIDTH { one_line } else { broken };
        write!(text, "\n{one_line}\n").unwrap();
    }
    text
}

fn table(name: &str, of: &Value) -> String {
    let words = |value: &Value| {
        let words: Vec<&str> = value.as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        words.join(", ")
    };
    let mut text = format!("\ndiesel::table! {{\n    {name} ({}) {{\n", words(&of["key"]));
    for column in of["columns"].as_array().unwrap() {
        let kind = diesel_type(column[1].as_str().unwrap());
        let kind = if column[2] == true { kind } else { format!("Nullable<{kind}>") };
        let column = column[0].as_str().unwrap();
        writeln!(text, "        {column} -> {kind},").unwrap();
    }
    text + "    }\n}\n"
}

fn diesel_type(kind: &str) -> String {
    let one = match kind.trim_end_matches("[]") {
        "bigint" => "Int8",
        "boolean" => "Bool",
        "bytea" => "Bytea",
        "integer" => "Int4",
        "jsonb" => "Jsonb",
        "smallint" => "Int2",
        "text" => "Text",
        "timestamp with time zone" => "Timestamptz",
        "uuid" => "Uuid",
        unknown => panic!("teach this test the type {unknown}"),
    };
    if kind.ends_with("[]") { format!("Array<{one}>") } else { one.to_owned() }
}
