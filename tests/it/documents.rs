//! The documents speak of what is there: files, headings, recipes, commands.
use crate::cli_support::run;
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
/// Where documents are.
const PLACES: &[&str] = &["README.md", "docs", "charts"];
/// A span of code that begins so is a path.
const FOLDERS: &[&str] =
    &["benches/", "charts/", "config/", "docs/", "migrations/", "policies/", "src/", "tests/"];

struct Document {
    path: PathBuf,
    text: String,
}

impl Document {
    fn all() -> Vec<Self> {
        let mut found = vec![];
        let mut left: Vec<PathBuf> = PLACES.iter().map(|place| Path::new(ROOT).join(place)).collect();
        while let Some(path) = left.pop() {
            if path.is_dir() {
                left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
            } else if path.extension().is_some_and(|extension| extension == "md")
                || path.ends_with("llms.txt")
            {
                found.push(Self { text: fs::read_to_string(&path).unwrap(), path });
            }
        }
        assert!(found.len() > 20, "only {} documents", found.len());
        found
    }

    /// What links lead to, but for other sites.
    fn links(&self) -> impl Iterator<Item = &str> {
        let targets = self.text.split("](").skip(1).filter_map(|rest| Some(rest.split_once(')')?.0));
        targets.filter(|target| !target.contains("://"))
    }

    /// As a link names them.
    fn headings(&self) -> Vec<String> {
        let lines = self.text.lines().filter(|line| line.starts_with('#'));
        let named = lines.map(|line| line.trim_start_matches('#').trim().to_lowercase().replace(' ', "-"));
        named.map(|name| name.replace(|c: char| !c.is_alphanumeric() && c != '-' && c != '_', "")).collect()
    }

    /// Lines of code, in spans and in blocks.
    fn code(&self) -> impl Iterator<Item = &str> {
        self.text.split('`').skip(1).step_by(2).flat_map(str::lines)
    }
}

/// Upper-case words of the code that no answer holds.
const NO_CODES: &[&str] = &[
    "CARGO_MANIFEST_DIR",
    "CARGO_PKG_VERSION",
    "IDENTITYD_CONFIG",
    "IDENTITYD_PG_BIN",
    "KUBERNETES_SERVICE_HOST",
    "LC_ALL",
    "PG_VERSION",
];
/// Not of an error: on the audit log only, or of one word.
const ELSEWHERE: &[&str] = &[
    "ACCOUNT_ENUMERATION",
    "ACCOUNT_UNDER_ATTACK",
    "CREDENTIAL_STUFFING",
    "NO_ACTIVE_MEMBERSHIP",
    "ORG_NOT_ALLOWED",
    "ORG_UNDER_ATTACK",
];
const OF_ONE_WORD: &[&str] = &["INTERNAL", "OVERLOADED", "TIMEOUT", "UNAUTHENTICATED"];

#[test]
fn every_error_code_is_explained_and_no_other() {
    let read = |path: &Path| fs::read_to_string(path).unwrap();
    let mut text = String::new();
    let mut left: Vec<PathBuf> = ["src", "policies"].map(|place| Path::new(ROOT).join(place)).into();
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            text += &read(&path);
        }
    }
    let word = |text: &&str| {
        text.contains('_')
            && !text.ends_with('_')
            && text.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')
    };
    let mut coded: BTreeSet<&str> = text.split('"').filter(word).collect();
    coded.retain(|code| !NO_CODES.contains(code) && !ELSEWHERE.contains(code));
    coded.extend(OF_ONE_WORD);
    let errors = read(&Path::new(ROOT).join("docs/ERRORS.md"));
    let rows = errors.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    assert_eq!(coded, rows.map(|(code, _)| code).collect());
}

#[test]
fn every_link_leads_to_a_file_and_to_a_heading_of_it() {
    let mut wrong = vec![];
    for document in Document::all() {
        for link in document.links() {
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let path =
                if file.is_empty() { document.path.clone() } else { document.path.with_file_name(file) };
            let there = path.exists()
                && (heading.is_empty() || {
                    let text = fs::read_to_string(&path).unwrap();
                    Document { path, text }.headings().iter().any(|known| known == heading)
                });
            if !there {
                wrong.push(format!("{}: {link}", document.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_path_in_code_is_of_a_file() {
    let mut wrong = vec![];
    for document in Document::all() {
        for path in document.code().filter(|code| FOLDERS.iter().any(|folder| code.starts_with(folder))) {
            let pattern = path.contains(['*', '<', '{', ' ']);
            if !pattern && !Path::new(ROOT).join(path).exists() {
                wrong.push(format!("{}: {path}", document.path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_recipe_is_in_the_justfile() {
    let justfile = fs::read_to_string(Path::new(ROOT).join("Justfile")).unwrap();
    let known: BTreeSet<&str> = justfile.lines().filter_map(|line| line.split([' ', ':']).next()).collect();
    for recipe in named("./dev ").into_iter().map(|words| words[0].clone()) {
        assert!(recipe == "help" || known.contains(recipe.as_str()), "there is no recipe {recipe}");
    }
}

#[test]
fn every_command_is_one_of_the_binary() {
    let commands = named("identityd ");
    assert!(commands.len() > 10, "{commands:?}");
    for words in commands {
        let words: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        assert_eq!(run(&words).code, 0, "{words:?}");
    }
}

/// The words after a name that code begins with, as far as they are no arguments.
fn named(name: &str) -> BTreeSet<Vec<String>> {
    let word = |word: &&str| word.bytes().all(|byte| byte.is_ascii_lowercase());
    let mut found = BTreeSet::new();
    for document in Document::all() {
        let lines = document.code().filter_map(|line| line.strip_prefix(name));
        found.extend(lines.map(|rest| rest.split_whitespace().take_while(word).map(str::to_owned).collect()));
    }
    found.remove(&vec![]);
    found
}
