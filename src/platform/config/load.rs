//! Reads the four layers, and says of every mistake which key it is in and where its value came from.
use super::{
    Config, DEFAULTS,
    origin::{FLAG_NAME, Lines, Origins},
    reference::{SECRETS, is_section, keys, unknown},
};
use crate::platform::secret::Secret;
use figment::{
    Figment, Metadata, Profile, Provider,
    error::Kind,
    providers::{Env, Format, Toml},
    value::{Dict, Map, Value},
};
use std::{
    collections::BTreeMap,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

pub(super) const PREFIX: &str = "IDENTITYD_";
/// Variables with our prefix that mean something to scripts and to the command line, and are no configuration.
const NOT_CONFIGURATION: &[&str] = &["config", "kafka_libs", "pg_bin", "tools"];

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

/// A configuration file, and who named it.
#[derive(Clone, Debug)]
pub struct ConfigFile {
    pub path: PathBuf,
    /// Such as `--config`.
    pub named_by: &'static str,
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
    /// Of single values, which have their defaults in `config`. `check` names them too.
    pub(super) mistakes: Vec<ConfigError>,
    origins: Origins,
}

/// Reads defaults, file, environment and flags, in this order.
pub fn load(file: Option<&ConfigFile>, flags: &[Flag]) -> Result<Loaded, Vec<ConfigError>> {
    load_over("", &[], file, flags)
}

/// The same over the presets of a command, which count as little as defaults. `whose` names them as an origin.
pub fn load_over(
    whose: &str,
    presets: &[Flag],
    file: Option<&ConfigFile>,
    flags: &[Flag],
) -> Result<Loaded, Vec<ConfigError>> {
    let loaded = survey(whose, presets, file, flags).map_err(|mistake| vec![mistake])?;
    if loaded.mistakes.is_empty() { Ok(loaded) } else { Err(loaded.mistakes) }
}

/// The same, for whoever wants to know every mistake: it goes on without the values that are wrong. An error is a layer
/// that cannot be read at all.
pub fn survey(
    whose: &str,
    presets: &[Flag],
    file: Option<&ConfigFile>,
    flags: &[Flag],
) -> Result<Loaded, ConfigError> {
    let mut figment = Figment::from(Toml::string(DEFAULTS));
    for preset in presets {
        figment = figment.merge(Named { name: whose.to_owned(), inner: preset.clone() });
    }
    let mut lines = Lines::default();
    if let Some(ConfigFile { path, named_by }) = file {
        let name = path.display().to_string();
        let text = fs::read_to_string(path).map_err(|error| unreadable(&name, named_by, &error))?;
        lines = Lines::of(&name, &text)?;
        figment = figment.merge(Named { name, inner: Toml::string(&text) });
    }
    figment = figment.merge(Env::prefixed(PREFIX).ignore(NOT_CONFIGURATION).split("__"));
    for flag in flags {
        figment = figment.merge(flag.clone());
    }
    let origins = Origins { figment, lines };
    let (mut config, mut mistakes) = extract(&origins)?;
    mistakes.extend(resolve_files(&mut config, &origins));
    Ok(Loaded { config, mistakes, origins })
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

fn unreadable(key: &str, origin: &str, error: &io::Error) -> ConfigError {
    let message = format!("the file cannot be read: {error}");
    ConfigError { key: key.to_owned(), message, origin: origin.to_owned() }
}

/// Tries each value by itself over the defaults, so that one that is wrong hides no other.
fn extract(origins: &Origins) -> Result<(Config, Vec<ConfigError>), ConfigError> {
    let of_layer = |error: figment::Error| ConfigError {
        key: "configuration".to_owned(),
        message: "a layer cannot be read".to_owned(),
        origin: error.metadata.map(|metadata| metadata.name.to_string()).unwrap_or_default(),
    };
    let defaults = Figment::from(Toml::string(DEFAULTS));
    let (mut sound, mut mistakes) = (defaults.clone(), vec![]);
    for (key, value) in leaves(origins.figment.data().map_err(of_layer)?) {
        let messages = match unknown(&key) {
            Some(message) => vec![message],
            None => faults(&defaults, &key, &value),
        };
        if messages.is_empty() {
            sound = sound.merge(Flag::new(&key, value));
            continue;
        }
        let origin = origins.of(&key).unwrap_or_default();
        let mistake = |message| ConfigError { key: key.clone(), message, origin: origin.clone() };
        mistakes.extend(messages.into_iter().map(mistake));
    }
    Ok((sound.extract().map_err(of_layer)?, mistakes))
}

/// Every value by its whole key. A section that nobody knows is one, if it holds nothing.
fn leaves(layers: Map<Profile, Dict>) -> BTreeMap<String, Value> {
    let mut left: Vec<(String, Value)> = layers.into_values().flatten().collect();
    let mut found = BTreeMap::new();
    while let Some((key, value)) = left.pop() {
        match value {
            Value::Dict(_, dict) if !dict.is_empty() || is_section(&key) => {
                left.extend(dict.into_iter().map(|(name, value)| (format!("{key}.{name}"), value)));
            }
            value => drop(found.insert(key, value)),
        }
    }
    found
}

/// What is wrong with a value, and with each item of a list.
fn faults(defaults: &Figment, key: &str, value: &Value) -> Vec<String> {
    let fault = |value: Value| {
        let tried: Result<Config, _> = defaults.clone().merge(Flag::new(key, value)).extract();
        tried.err().map(|error| explain(key, &error.kind))
    };
    let Value::Array(tag, items) = value else { return fault(value.clone()).into_iter().collect() };
    let alone = |item: &Value| fault(Value::Array(*tag, vec![item.clone()]));
    let numbered = items.iter().zip(1..).filter_map(|(item, number)| Some((number, alone(item)?)));
    let wrong: Vec<String> = numbered.map(|(number, message)| format!("item {number}: {message}")).collect();
    // That it may not be a list at all shows without items too.
    fault(Value::Array(*tag, vec![])).map_or(wrong, |message| vec![message])
}

/// The text of most kinds repeats the value, which may be a secret.
fn explain(key: &str, kind: &Kind) -> String {
    match kind {
        Kind::InvalidType(..) if SECRETS.contains(&key) => "expected a string".to_owned(),
        _ if SECRETS.contains(&key) => "expected another value".to_owned(),
        kind => kind.to_string(),
    }
}

fn resolve_files(config: &mut Config, origins: &Origins) -> Vec<ConfigError> {
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
    let mut mistakes = vec![];
    for (key, value, file) in pairs {
        let Some(path) = file else { continue };
        let file_key = format!("{key}_file");
        let origin = origins.of(&file_key).unwrap_or_default();
        if value.is_some() {
            let message = format!("give either {key} or {file_key}, not both");
            mistakes.push(ConfigError { key: file_key, message, origin });
            continue;
        }
        match secret_in(path) {
            Ok(secret) => *value = Some(secret),
            Err(error) => mistakes.push(unreadable(&file_key, &origin, &error)),
        }
    }
    mistakes
}

fn secret_in(path: &Path) -> io::Result<Secret<String>> {
    Ok(Secret::new(fs::read_to_string(path)?.trim_end_matches(['\r', '\n']).to_owned()))
}

impl Loaded {
    /// Was this key set by somebody, rather than by the defaults? Then where; of a secret in a file, where that is named.
    pub fn origin(&self, key: &str) -> Option<String> {
        self.origins.set(key).or_else(|| self.origins.set(&format!("{key}_file")))
    }

    /// Every key with its value and origin; secrets are masked. One line a key.
    pub fn show(&self) -> String {
        let mut out = String::new();
        for documented in keys() {
            let file_key = format!("{}_file", documented.key);
            for key in [documented.key, file_key] {
                let Ok(value) = self.origins.figment.find_value(&key) else { continue };
                let value =
                    if SECRETS.contains(&key.as_str()) { "\"***\"".to_owned() } else { literal(&value) };
                let _ = writeln!(out, "{key} = {value}  # {}", self.origins.of(&key).unwrap_or_default());
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
    fn one_wrong_value_hides_no_other() {
        let errors = set(&[
            "http.workers=many",
            "http.trusted_proxies=[\"10.0.0.0/8\", \"here\", \"::1/128\", \"there\"]",
            "kafka=3",
            "databse={}",
            "mail.url=7",
            "orgs.self_service=true",
        ]);
        let told: Vec<String> =
            errors.err().unwrap().iter().map(|error| format!("{}: {}", error.key, error.message)).collect();
        assert_eq!(
            told,
            [
                "databse: there is no such key; did you mean database.url?",
                "http.trusted_proxies: item 2: invalid IP address syntax",
                "http.trusted_proxies: item 4: invalid IP address syntax",
                "http.workers: invalid type: found string \"many\", expected usize",
                "kafka: expected a section, with keys of its own",
                "mail.url: expected a string",
            ]
        );
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
        let file = ConfigFile { path, named_by: "--config" };
        let loaded = load(Some(&file), &[]).unwrap();
        assert_eq!(loaded.origin("http.workers"), Some(format!("{}:2", file.path.display())));
        fs::remove_file(file.path).unwrap();
    }

    #[test]
    fn what_is_shown_masks_secrets() {
        let shown = set(&["database.url=postgres://u:hunter2@h/d"]).unwrap().show();
        assert!(shown.contains("database.url = \"***\"  # flag --set"), "{shown}");
        assert!(shown.contains("http.drain_seconds = 5  # default"), "{shown}");
        assert!(!shown.contains("hunter2"));
    }
}
