//! With what a database of `identityd dev` begins. `docs/dev-seed.md` describes the file.
use crate::{
    authorization::{PlatformRole, Role, ScopeSet},
    kernel::{EmailAddress, Name, Secret},
    orgs::Slug,
};
use serde::{Deserialize, Deserializer, de::Error as _};
use std::{
    collections::BTreeSet,
    fmt::{self, Display},
    fs::File,
    io::{self, Read as _},
    num::NonZeroU32,
    path::{Path, PathBuf},
};

/// What `--seed demo` stands for.
const DEMO: &str = include_str!("dev/demo.yaml");
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Organizations and people to begin with; empty by default.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seed {
    #[serde(default)]
    pub(super) orgs: Vec<Org>,
    #[serde(default)]
    pub(super) people: Vec<Person>,
}

/// An organization.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Org {
    #[serde(deserialize_with = "slug")]
    pub(super) slug: Slug,
    #[serde(deserialize_with = "name")]
    pub(super) name: Name,
    #[serde(default)]
    pub(super) service_accounts: Vec<ServiceAccount>,
}

/// A service account of an organization.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ServiceAccount {
    #[serde(deserialize_with = "name")]
    pub(super) name: Name,
    #[serde(default)]
    pub(super) description: String,
    #[serde(default)]
    pub(super) roles: Vec<Role>,
    #[serde(default)]
    pub(super) keys: Vec<Key>,
}

/// A person, who can sign in at once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Person {
    #[serde(deserialize_with = "email")]
    pub(super) email: EmailAddress,
    #[serde(deserialize_with = "name")]
    pub(super) name: Name,
    /// None: one is made up and shown once.
    pub(super) password: Option<Secret<String>>,
    #[serde(default)]
    pub(super) platform_roles: Vec<PlatformRole>,
    #[serde(default)]
    pub(super) orgs: Vec<Membership>,
}

/// A person's membership in an organization of the same file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Membership {
    #[serde(deserialize_with = "slug")]
    pub(super) org: Slug,
    pub(super) roles: Vec<Role>,
    #[serde(default)]
    pub(super) keys: Vec<Key>,
}

/// An API key, which is shown once.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Key {
    #[serde(deserialize_with = "name")]
    pub(super) name: Name,
    /// None: what a key gets whose issuer names no scope.
    #[serde(default, deserialize_with = "scopes")]
    pub(super) scopes: Option<ScopeSet>,
    pub(super) expires_in_days: Option<NonZeroU32>,
}

fn slug<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Slug, D::Error> {
    let text = String::deserialize(deserializer)?;
    Slug::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} cannot be a slug")))
}

fn name<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Name, D::Error> {
    let text = String::deserialize(deserializer)?;
    Name::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} cannot be a name")))
}

fn email<'de, D: Deserializer<'de>>(deserializer: D) -> Result<EmailAddress, D::Error> {
    let text = String::deserialize(deserializer)?;
    EmailAddress::parse(&text).ok_or_else(|| D::Error::custom(format!("{text:?} is no e-mail address")))
}

/// In a file that somebody wrote by hand an unknown scope is a mistake, and so is a list without any.
fn scopes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ScopeSet>, D::Error> {
    let names = Vec::<String>::deserialize(deserializer)?;
    if names.is_empty() {
        return Err(D::Error::custom("name a scope, or leave the list out for the usual ones"));
    }
    let set = ScopeSet::parse(names.iter().map(String::as_str));
    set.map(Some).map_err(|unknown| D::Error::custom(format!("there is no scope {unknown:?}")))
}

/// Why there is nothing to begin with.
#[derive(Debug, thiserror::Error)]
pub(super) enum SeedError {
    #[error("the seed {} cannot be read", .0.display())]
    File(PathBuf, #[source] io::Error),
    #[error("the seed {} is larger than a mebibyte", .0.display())]
    TooLarge(PathBuf),
    #[error("the seed is not as docs/dev-seed.md says")]
    Form(#[from] serde_yaml_ng::Error),
    #[error("the seed does not fit together:{0}")]
    Content(Mistakes),
}

/// Each with the place in the file.
#[derive(Debug, Default)]
pub(super) struct Mistakes(Vec<(String, String)>);

impl Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(place, mistake)| write!(f, "\n  {place}: {mistake}"))
    }
}

impl Mistakes {
    fn unless(&mut self, sound: bool, place: impl Into<String>, mistake: impl Into<String>) {
        if !sound {
            self.0.push((place.into(), mistake.into()));
        }
    }
}

impl Seed {
    /// `demo`, `empty`, or a file by its path.
    pub(super) fn open(name: &str) -> Result<Self, SeedError> {
        match name {
            "demo" => Self::parse(DEMO),
            "empty" => Ok(Self::default()),
            path => Self::parse(&read(Path::new(path))?),
        }
    }

    fn parse(text: &str) -> Result<Self, SeedError> {
        let seed: Self = serde_yaml_ng::from_str(text)?;
        let mistakes = seed.mistakes();
        if mistakes.0.is_empty() { Ok(seed) } else { Err(SeedError::Content(mistakes)) }
    }

    /// What each part cannot know of the others.
    fn mistakes(&self) -> Mistakes {
        let mut mistakes = Mistakes::default();
        let mut slugs = BTreeSet::new();
        for (number, org) in self.orgs.iter().enumerate() {
            let place = format!("orgs[{number}]");
            let slug = org.slug.as_str();
            mistakes.unless(slugs.insert(slug), format!("{place}.slug"), format!("{slug} is there twice"));
            // Nobody could administer it, and nobody could become its owner.
            let mut members = self.people.iter().flat_map(|person| &person.orgs);
            let owned = members.any(|member| member.org == org.slug && member.roles.contains(&Role::Owner));
            mistakes.unless(owned, &place, format!("nobody in people is owner of {slug}"));
            let mut names = BTreeSet::new();
            for (number, account) in org.service_accounts.iter().enumerate() {
                let place = format!("{place}.service_accounts[{number}].name");
                let account = account.name.as_str();
                mistakes.unless(names.insert(account), place, format!("{account} is there twice"));
            }
        }
        let mut emails = BTreeSet::new();
        for (number, person) in self.people.iter().enumerate() {
            let place = format!("people[{number}]");
            let mistake = format!("{} is there twice", person.email);
            mistakes.unless(emails.insert(&person.email), format!("{place}.email"), mistake);
            let empty = person.password.as_ref().is_some_and(|password| password.expose().is_empty());
            mistakes.unless(!empty, format!("{place}.password"), "leave it out, and one is made up");
            person.orgs_checked(&place, &slugs, &mut mistakes);
        }
        mistakes
    }
}

impl Person {
    fn orgs_checked(&self, place: &str, slugs: &BTreeSet<&str>, mistakes: &mut Mistakes) {
        let mut orgs = BTreeSet::new();
        for (number, Membership { org, roles, .. }) in self.orgs.iter().enumerate() {
            let (place, org) = (format!("{place}.orgs[{number}]"), org.as_str());
            mistakes.unless(
                slugs.contains(org),
                format!("{place}.org"),
                format!("there is no org {org} in orgs"),
            );
            mistakes.unless(orgs.insert(org), format!("{place}.org"), format!("{org} is there twice"));
            mistakes.unless(!roles.is_empty(), format!("{place}.roles"), "a member needs a role");
        }
    }
}

fn read(path: &Path) -> Result<String, SeedError> {
    let failed = |error| SeedError::File(path.to_owned(), error);
    let mut text = String::new();
    let read = File::open(path).map_err(failed)?.take(FILE_BYTES_MAX + 1).read_to_string(&mut text);
    match read {
        Ok(read) if u64::try_from(read).is_ok_and(|read| read <= FILE_BYTES_MAX) => Ok(text),
        Ok(_) => Err(SeedError::TooLarge(path.to_owned())),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOCUMENT: &str = include_str!("../../docs/dev-seed.md");

    fn refused(text: &str) -> String {
        let error = anyhow::Error::from(Seed::parse(text).unwrap_err());
        format!("{error:#}")
    }

    #[test]
    fn the_demo_has_an_administrator_and_a_key() {
        let demo = Seed::open("demo").unwrap();
        assert!(demo.people[0].platform_roles.contains(&PlatformRole::PlatformAdmin));
        assert!(demo.people[0].password.is_none(), "never a password that everybody knows");
        assert_eq!(demo.orgs[0].service_accounts[0].keys.len(), 1);
    }

    #[test]
    fn the_documented_example_is_a_seed() {
        let (_, rest) = DOCUMENT.split_once("```yaml\n").unwrap();
        let (example, _) = rest.split_once("```").unwrap();
        let seed = Seed::parse(example).unwrap();
        assert_eq!((seed.orgs.len(), seed.people.len()), (2, 3));
        for field in
            ["password", "platform_roles", "service_accounts", "description", "scopes", "expires_in_days"]
        {
            assert!(example.contains(&format!("{field}:")), "{field} is not in the example");
        }
    }

    #[test]
    fn empty_is_nothing() {
        let empty = Seed::open("empty").unwrap();
        assert!(empty.orgs.is_empty() && empty.people.is_empty());
        assert!(matches!(Seed::open("/nowhere/seed.yaml"), Err(SeedError::File(..))));
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_place() {
        let person = |fields: &str| format!("people:\n  - {{email: a@b.example, name: A, {fields}}}\n");
        let key = |fields: &str| {
            person(&format!("orgs: [{{org: acme, roles: [owner], keys: [{{name: k, {fields}}}]}}]"))
        };
        for (text, mistake) in [
            (
                "orgs:\n  - slug: acme\n    name: Acme\n    colour: red\n".to_owned(),
                "orgs[0]: unknown field `colour`",
            ),
            ("orgs:\n  - {slug: me, name: Me}\n".to_owned(), "orgs[0]: \"me\" cannot be a slug"),
            ("orgs:\n  - {slug: acme, name: ' '}\n".to_owned(), "orgs[0]: \" \" cannot be a name"),
            ("people:\n  - {email: ada, name: A}\n".to_owned(), "people[0]: \"ada\" is no e-mail address"),
            (person("platform_roles: [king]"), "people[0].platform_roles[0]: unknown variant `king`"),
            (
                person("orgs: [{org: acme, roles: [operater]}]"),
                "people[0].orgs[0].roles[0]: unknown variant `operater`",
            ),
            (key("scopes: ['keys:fly']"), "people[0].orgs[0].keys[0]: there is no scope \"keys:fly\""),
            (key("scopes: []"), "people[0].orgs[0].keys[0]: name a scope"),
            (key("expires_in_days: 0"), "people[0].orgs[0].keys[0].expires_in_days: invalid value"),
        ] {
            let told = refused(&text);
            assert!(told.contains(mistake) && told.contains(" at line "), "{told}");
        }
    }

    #[test]
    fn everything_that_does_not_fit_together_is_named_with_its_place() {
        let told = refused(
            "orgs:\n  - {slug: acme, name: Acme, service_accounts: [{name: r}, {name: r}]}\n  - {slug: Acme, name: B}\n  \
             - {slug: other, name: C}\npeople:\n  - {email: a@b.example, name: A, password: ''}\n  \
             - {email: A@B.example, name: B, orgs: [{org: nowhere, roles: []}]}\n  \
             - {email: c@b.example, name: C, orgs: [{org: acme, roles: [owner]}, {org: acme, roles: [viewer]}]}\n",
        );
        let expected = "the seed does not fit together:\
            \n  orgs[0].service_accounts[1].name: r is there twice\
            \n  orgs[1].slug: acme is there twice\
            \n  orgs[2]: nobody in people is owner of other\
            \n  people[0].password: leave it out, and one is made up\
            \n  people[1].email: a@b.example is there twice\
            \n  people[1].orgs[0].org: there is no org nowhere in orgs\
            \n  people[1].orgs[0].roles: a member needs a role\
            \n  people[2].orgs[1].org: acme is there twice";
        assert_eq!(told, expected);
    }

    #[test]
    fn a_password_is_in_no_message() {
        let seed = Seed::parse("people:\n  - {email: a@b.example, name: A, password: hunter2}\n").unwrap();
        assert!(!format!("{seed:?}").contains("hunter2"));
        assert!(!refused("people:\n  - {email: a, name: A, password: hunter2}\n").contains("hunter2"));
        let told = refused("people:\n  - {email: a@b.example, name: A, password: [hunter2]}\n");
        assert!(told.contains("people[0].password: invalid type") && !told.contains("hunter2"), "{told}");
    }
}
