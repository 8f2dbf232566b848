//! Reads the four layers, and says of every mistake which key it is in and where its value came from.
use super::{Config, DEFAULTS};
use crate::platform::secret::Secret;
use figment::{
    Figment, Metadata, Profile, Provider,
    error::Kind,
    providers::{Env, Format, Toml},
    value::{Dict, Map, Value},
};
use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

const PREFIX: &str = "IDENTITYD_";
const DEFAULTS_NAME: &str = "default";
const FLAG_NAME: &str = "flag --set";
/// What figment calls a text, of which the defaults are the only one without a name of its own.
const DEFAULTS_SOURCE: &str = "TOML source string";
/// What figment calls the environment under our prefix.
const ENVIRONMENT_NAME: &str = "`IDENTITYD_` environment variable(s)";
/// Variables with our prefix that mean something to scripts and to the command line, and are no configuration.
const NOT_CONFIGURATION: &[&str] = &["config", "kafka_libs", "pg_bin", "tools"];
/// Keys whose value never appears anywhere.
const SECRETS: &[&str] =
    &["database.url", "database.migrate_url", "redis.url", "kafka.password", "vault.secret_id", "mail.url"];
/// Below this likeness a suggestion would only confuse.
const LIKENESS_MIN: f64 = 0.8;

/// One mistake in the configuration.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{key}: {message} ({origin})")]
pub struct ConfigError {
    /// The key, as `database.url`; a file's name where the file itself cannot be read.
    pub key: String,
    /// What is wrong with it, and what to do.
    pub message: String,
    /// Where its value came from.
    pub origin: String,
}

/// `--set KEY=VALUE`.
#[derive(Clone, Debug)]
pub struct Flag {
    key: String,
    value: Value,
}

impl Flag {
    /// The value is TOML where it can be read so, and else a string.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (key, value) =
            text.split_once('=').ok_or("expected KEY=VALUE, for example http.listen=127.0.0.1:80")?;
        let typed = Toml::string(&format!("value = {value}")).data().ok();
        let typed =
            typed.and_then(|data| data.into_values().next()).and_then(|mut dict| dict.remove("value"));
        Ok(Self { key: key.to_owned(), value: typed.unwrap_or_else(|| Value::from(value)) })
    }

    /// A flag that says what another flag of the command line means.
    pub fn new(key: &str, value: impl Into<Value>) -> Self {
        Self { key: key.to_owned(), value: value.into() }
    }
}

impl Provider for Flag {
    fn metadata(&self) -> Metadata {
        Metadata::named(FLAG_NAME)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let mut keys = self.key.rsplit('.');
        let last = keys.next().unwrap_or_default().to_owned();
        let nest = |inner: Dict, key: &str| Dict::from([(key.to_owned(), Value::from(inner))]);
        Ok(Profile::Default.collect(keys.fold(Dict::from([(last, self.value.clone())]), nest)))
    }
}

/// The configuration, and where each value came from.
pub struct Loaded {
    /// What was read.
    pub config: Config,
    figment: Figment,
}

/// Reads defaults, file, environment and flags, in this order.
pub fn load(file: Option<&Path>, flags: &[Flag]) -> Result<Loaded, Vec<ConfigError>> {
    load_over("", &[], file, flags)
}

/// The same over the presets of a command, which count as little as defaults. `whose` names them as an origin.
pub fn load_over(
    whose: &str,
    presets: &[Flag],
    file: Option<&Path>,
    flags: &[Flag],
) -> Result<Loaded, Vec<ConfigError>> {
    let mut figment = Figment::from(Toml::string(DEFAULTS));
    for preset in presets {
        figment = figment.merge(Named { name: whose.to_owned(), inner: preset.clone() });
    }
    if let Some(path) = file {
        let text = fs::read_to_string(path).map_err(|error| vec![unreadable(path, "--config", &error)])?;
        let named = path.display().to_string();
        figment = figment.merge(Named { name: named, inner: Toml::string(&text) });
    }
    figment = figment.merge(Env::prefixed(PREFIX).ignore(NOT_CONFIGURATION).split("__"));
    for flag in flags {
        figment = figment.merge(flag.clone());
    }
    let mut config: Config = figment
        .extract()
        .map_err(|errors| errors.into_iter().map(|error| explain(&error)).collect::<Vec<_>>())?;
    resolve_files(&mut config)?;
    Ok(Loaded { config, figment })
}

/// Values under the name of where they come from.
struct Named<P> {
    name: String,
    inner: P,
}

impl<P: Provider> Provider for Named<P> {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        self.inner.data()
    }
}

fn unreadable(path: &Path, origin: &str, error: &std::io::Error) -> ConfigError {
    let message = format!("the file cannot be read: {error}");
    ConfigError { key: path.display().to_string(), message, origin: origin.to_owned() }
}

fn resolve_files(config: &mut Config) -> Result<(), Vec<ConfigError>> {
    /// A key, its value, and the file that may hold it.
    type Pair<'a> = (&'a str, &'a mut Option<Secret<String>>, &'a Option<PathBuf>);
    let pairs: [Pair<'_>; 6] = [
        ("database.url", &mut config.database.url, &config.database.url_file),
        ("database.migrate_url", &mut config.database.migrate_url, &config.database.migrate_url_file),
        ("redis.url", &mut config.redis.url, &config.redis.url_file),
        ("kafka.password", &mut config.kafka.password, &config.kafka.password_file),
        ("vault.secret_id", &mut config.vault.secret_id, &config.vault.secret_id_file),
        ("mail.url", &mut config.mail.url, &config.mail.url_file),
    ];
    let mut errors = vec![];
    for (key, value, file) in pairs {
        let Some(path) = file else { continue };
        let file_key = format!("{key}_file");
        if value.is_some() {
            let message = format!("give either {key} or {file_key}, not both");
            errors.push(ConfigError { key: file_key, message, origin: path.display().to_string() });
            continue;
        }
        match fs::read_to_string(path) {
            Ok(text) => *value = Some(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned())),
            Err(error) => {
                errors.push(ConfigError {
                    key: file_key.clone(),
                    ..unreadable(path, &path.display().to_string(), &error)
                });
            }
        }
    }
    if errors.is_empty() { Ok(()) } else { Err(errors) }
}

fn explain(error: &figment::Error) -> ConfigError {
    let mut path = error.path.clone();
    let message = match &error.kind {
        Kind::UnknownField(field, _) => {
            if path.last() != Some(field) {
                path.push(field.clone());
            }
            unknown(&path.join("."))
        }
        Kind::MissingField(field) => {
            path.push(field.to_string());
            "a value is needed".to_owned()
        }
        // The text of other kinds repeats the value, which may be a secret.
        kind if concerns_secret(&path.join(".")) => {
            let kind = matches!(kind, Kind::InvalidType(..)).then_some("a string").unwrap_or("another value");
            format!("expected {kind}")
        }
        kind => kind.to_string(),
    };
    let origin = match &error.metadata {
        Some(metadata) => origin(metadata, &path.join(".")),
        None => "nowhere set".to_owned(),
    };
    ConfigError { key: path.join("."), message, origin }
}

/// Is it a secret, what holds one, or what stands where one should?
fn concerns_secret(path: &str) -> bool {
    let within = |inner: &str, outer: &str| {
        inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
    };
    path.is_empty() || SECRETS.iter().any(|secret| within(path, secret) || within(secret, path))
}

fn unknown(key: &str) -> String {
    let likeness = |known: &String| strsim::jaro_winkler(known, key);
    let nearest =
        keys().into_iter().map(|entry| entry.key).max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
    match nearest.filter(|known| likeness(known) >= LIKENESS_MIN) {
        Some(known) => format!("there is no such key; did you mean {known}?"),
        None => "there is no such key; `identityd config schema` lists all".to_owned(),
    }
}

fn origin(metadata: &Metadata, key: &str) -> String {
    match metadata.name.as_ref() {
        FLAG_NAME => format!("{FLAG_NAME} {key}=…"),
        ENVIRONMENT_NAME => {
            format!("environment variable {PREFIX}{}", key.to_uppercase().replace('.', "__"))
        }
        DEFAULTS_SOURCE => DEFAULTS_NAME.to_owned(),
        file => file.to_owned(),
    }
}

impl Loaded {
    /// Was this key set by somebody, rather than by the defaults? Then where.
    pub fn origin(&self, key: &str) -> Option<String> {
        let named = self.figment.find_metadata(key).map(|metadata| origin(metadata, key));
        named.filter(|origin| origin != DEFAULTS_NAME)
    }

    /// Every key with its value and origin; secrets are masked. One line a key.
    pub fn show(&self) -> String {
        let mut out = String::new();
        for Documented { key, .. } in keys() {
            let file_key = format!("{key}_file");
            for key in [key, file_key] {
                let Ok(value) = self.figment.find_value(&key) else { continue };
                let origin = self.figment.find_metadata(&key).map(|metadata| origin(metadata, &key));
                let value =
                    if SECRETS.contains(&key.as_str()) { "\"***\"".to_owned() } else { literal(&value) };
                let _ = writeln!(out, "{key} = {value}  # {}", origin.unwrap_or_default());
            }
        }
        out
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Array(_, items) => format!("[{}]", items.iter().map(literal).collect::<Vec<_>>().join(", ")),
        Value::String(_, text) => format!("{text:?}"),
        Value::Bool(_, flag) => flag.to_string(),
        Value::Num(_, number) => number
            .to_i128()
            .map(|number| number.to_string())
            .or_else(|| number.to_u128().map(|number| number.to_string()))
            .or_else(|| number.to_f64().map(|number| number.to_string()))
            .unwrap_or_default(),
        _ => String::new(),
    }
}

/// A key as the defaults file documents it.
struct Documented {
    key: String,
    default: Option<String>,
    text: String,
}

/// The defaults file, read as documentation: comment lines, then `key = default` or `#key = …`.
fn keys() -> Vec<Documented> {
    let (mut section, mut comment, mut keys) = (String::new(), vec![], vec![]);
    for line in DEFAULTS.lines() {
        if let Some(text) = line.strip_prefix("# ") {
            comment.push(text);
        } else if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            name.clone_into(&mut section);
            comment.clear();
        } else if let Some((name, default)) = line.split_once(" = ") {
            let unset = name.strip_prefix('#');
            let name = unset.unwrap_or(name);
            let key = if section.is_empty() { name.to_owned() } else { format!("{section}.{name}") };
            let default = unset.is_none().then(|| default.to_owned());
            keys.push(Documented { key, default, text: comment.join(" ") });
            comment.clear();
        } else {
            comment.clear();
        }
    }
    keys
}

/// `docs/configuration.md`.
pub fn reference() -> String {
    let mut out = String::from(
        "# Configuration\n\nGenerated by `identityd config reference` from `config/default.toml`. Later layers win: \
         defaults, the file of `--config`,\nthe environment, `--set KEY=VALUE`. A key marked *secret* can be given \
         as `<key>_file`, the path of a file that holds it.\n\n| key | environment | default | meaning |\n|---|---|---|---|\n",
    );
    for Documented { key, default, text } in keys() {
        let variable = format!("{PREFIX}{}", key.to_uppercase().replace('.', "__"));
        let default = default.map_or_else(String::new, |default| format!("`{default}`"));
        let secret = if SECRETS.contains(&key.as_str()) { " *secret*" } else { "" };
        let text = text.replace(" Secret.", "").replace('|', "\\|");
        let _ = writeln!(out, "| `{key}`{secret} | `{variable}` | {default} | {text} |");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(flags: &[&str]) -> Result<Loaded, Vec<ConfigError>> {
        let flags: Vec<Flag> = flags.iter().map(|flag| Flag::parse(flag).unwrap()).collect();
        load(None, &flags)
    }

    #[test]
    fn the_defaults_alone_are_complete() {
        let loaded = set(&[]).unwrap();
        assert_eq!(loaded.config.http.issuer(), "http://127.0.0.1:8080");
        assert!(loaded.config.database.url.is_none());
    }

    #[test]
    fn every_key_of_the_schema_is_documented() {
        let schema = serde_json::to_value(schemars::schema_for!(Config)).unwrap();
        let documented: Vec<String> = keys().into_iter().map(|key| key.key).collect();
        let mut found = vec![];
        properties(&schema, &schema, "", &mut found);
        found.retain(|key| key.strip_suffix("_file").is_none_or(|key| !SECRETS.contains(&key)));
        assert_eq!(documented.iter().filter(|key| !found.contains(key)).count(), 0, "{documented:?}");
        assert_eq!(
            found.iter().filter(|key| !documented.contains(key)).collect::<Vec<_>>(),
            Vec::<&String>::new()
        );
    }

    fn properties(
        root: &serde_json::Value,
        schema: &serde_json::Value,
        prefix: &str,
        found: &mut Vec<String>,
    ) {
        let schema = match schema["$ref"].as_str() {
            Some(reference) => root.pointer(reference.trim_start_matches('#')).unwrap(),
            None => schema,
        };
        match schema["properties"].as_object() {
            Some(map) => {
                for (name, inner) in map {
                    let key = if prefix.is_empty() { name.clone() } else { format!("{prefix}.{name}") };
                    properties(root, inner, &key, found);
                }
            }
            None => found.push(prefix.to_owned()),
        }
    }

    #[test]
    fn an_unknown_key_is_an_error_with_a_suggestion_and_its_origin() {
        let errors = set(&["database.conections_max=3"]).err().unwrap();
        assert_eq!(
            errors[0].to_string(),
            "database.conections_max: there is no such key; did you mean database.connections_max? \
             (flag --set database.conections_max=…)"
        );
    }

    #[test]
    fn a_wrong_value_names_key_and_origin_and_a_secret_is_not_repeated() {
        let error = set(&["http.listen=nowhere"]).err().unwrap().remove(0);
        assert_eq!((error.key.as_str(), error.origin.as_str()), ("http.listen", "flag --set http.listen=…"));
        let error = set(&["database.url=[\"hunter2\"]"]).err().unwrap().remove(0);
        assert_eq!(error.to_string(), "database.url: expected a string (flag --set database.url=…)");
    }

    #[test]
    fn presets_win_over_defaults_and_over_nothing_else() {
        let presets = [Flag::new("http.workers", 2), Flag::new("http.drain_seconds", 1)];
        let loaded = load_over("dev", &presets, None, &[Flag::parse("http.workers=3").unwrap()]).unwrap();
        assert_eq!((loaded.config.http.workers, loaded.config.http.drain_seconds), (3, 1));
        assert_eq!(loaded.origin("http.workers").as_deref(), Some("flag --set http.workers=…"));
        assert_eq!(loaded.origin("http.drain_seconds").as_deref(), Some("dev"));
        assert_eq!((loaded.origin("http.listen"), loaded.origin("database.url")), (None, None));
    }

    #[test]
    fn a_file_is_named_whatever_its_name_says() {
        let path = std::env::temp_dir().join(format!("environment-{}.TOML", std::process::id()));
        fs::write(&path, "[http]\nworkers = 1\n").unwrap();
        let loaded = load(Some(&path), &[]).unwrap();
        assert_eq!(loaded.origin("http.workers"), Some(path.display().to_string()));
        fs::remove_file(path).unwrap();
    }

    #[test]
    fn what_is_shown_masks_secrets() {
        let shown = set(&["database.url=postgres://u:hunter2@h/d"]).unwrap().show();
        assert!(shown.contains("database.url = \"***\"  # flag --set"), "{shown}");
        assert!(shown.contains("http.drain_seconds = 5  # default"), "{shown}");
        assert!(!shown.contains("hunter2"));
    }
}
