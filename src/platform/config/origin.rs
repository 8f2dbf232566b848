//! Where a value came from: which line of the file, which variable, which flag.
use super::load::{ConfigError, PREFIX};
use figment::{Figment, Metadata};
use std::collections::BTreeMap;
use toml_edit::{ImDocument, TableLike};

const DEFAULTS_NAME: &str = "default";
pub(super) const FLAG_NAME: &str = "flag --set";
/// What figment calls a text, of which the defaults are the only one without a name of its own.
const DEFAULTS_SOURCE: &str = "TOML source string";
/// What figment calls the environment under our prefix.
const ENVIRONMENT_NAME: &str = "`IDENTITYD_` environment variable(s)";

/// Every layer, and the lines of the one that has lines.
pub(super) struct Origins {
    pub(super) figment: Figment,
    pub(super) lines: Lines,
}

impl Origins {
    /// Where a key has its value from; a default is one, too.
    pub(super) fn of(&self, key: &str) -> Option<String> {
        self.figment.find_metadata(key).map(|metadata| self.named(metadata, key))
    }

    /// The same of a key that somebody set.
    pub(super) fn set(&self, key: &str) -> Option<String> {
        self.of(key).filter(|origin| origin != DEFAULTS_NAME)
    }

    fn named(&self, metadata: &Metadata, key: &str) -> String {
        match metadata.name.as_ref() {
            FLAG_NAME => format!("{FLAG_NAME} {key}=…"),
            ENVIRONMENT_NAME => {
                format!("environment variable {PREFIX}{}", key.to_uppercase().replace('.', "__"))
            }
            DEFAULTS_SOURCE => DEFAULTS_NAME.to_owned(),
            other => match self.lines.of_key.get(key).filter(|_| other == self.lines.file) {
                Some(line) => format!("{other}:{line}"),
                None => other.to_owned(),
            },
        }
    }
}

/// On which line of a file a key stands.
#[derive(Default)]
pub(super) struct Lines {
    file: String,
    of_key: BTreeMap<String, usize>,
}

impl Lines {
    /// Finds them, or says on which one a text is no TOML. Does not repeat it: it may hold a secret.
    pub(super) fn of(file: &str, text: &str) -> Result<Self, ConfigError> {
        let line = |place: usize| 1 + text.bytes().take(place).filter(|byte| *byte == b'\n').count();
        let document = ImDocument::parse(text).map_err(|error| ConfigError {
            key: file.to_owned(),
            message: "this is no TOML".to_owned(),
            origin: format!("{file}:{}", line(error.span().map_or(0, |span| span.start))),
        })?;
        let (mut of_key, mut left) = (BTreeMap::new(), vec![]);
        left.push((String::new(), document.as_table() as &dyn TableLike));
        while let Some((within, table)) = left.pop() {
            for (name, item) in table.iter() {
                let key = format!("{within}{name}");
                let span = table.get_key_value(name).and_then(|(key, _)| key.span()).or_else(|| item.span());
                if let Some(inner) = item.as_table_like() {
                    left.push((format!("{key}."), inner));
                }
                of_key.insert(key, line(span.map_or(0, |span| span.start)));
            }
        }
        Ok(Self { file: file.to_owned(), of_key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_on_its_line_however_it_is_written() {
        let text = "environment = \"production\"\nhttp.workers = 1\nhttp.cors.origins = [\n  \"a\",\n]\n\n\
                    [mail]\nfrom = \"x\"\n[authentication.password]\n# passes\niterations = 1\n\
                    [kafka]\nbrokers = []\nusername = \"\"\"\na\"\"\"\nredis = { prefix = \"x\" }\n";
        let lines = Lines::of("f", text).unwrap();
        for (key, line) in [
            ("environment", 1),
            ("http.workers", 2),
            ("http.cors.origins", 3),
            ("mail.from", 8),
            ("authentication.password.iterations", 11),
            ("kafka.username", 14),
            ("kafka.redis.prefix", 16),
        ] {
            assert_eq!(lines.of_key.get(key), Some(&line), "{key}");
        }
    }

    #[test]
    fn a_text_that_is_no_toml_is_not_repeated() {
        let error = Lines::of("f", "a = 1\nurl = \"hunter2\n").err().unwrap();
        assert_eq!(error.to_string(), "f: this is no TOML (f:2)");
    }
}
