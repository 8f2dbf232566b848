//! E-mail addresses.
use std::fmt;

const LEN_MAX: usize = 254;

/// A lower-cased address with one `@`, that a mail server would take. The only way to hold one is to have parsed it.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct EmailAddress(String);

impl EmailAddress {
    /// Trims and lower-cases.
    pub fn parse(raw: &str) -> Option<Self> {
        let address = raw.trim().to_lowercase();
        let (local, domain) = address.split_once('@')?;
        let plain = |c: char| !c.is_whitespace() && !c.is_control() && !"<>()[],;:\\\"".contains(c);
        let label = |label: &str| {
            !label.is_empty()
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_alphanumeric() || c == '-')
        };
        let dots = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
        let valid = !local.is_empty()
            && local.chars().all(plain)
            && dots
            && domain.contains('.')
            && domain.split('.').all(label)
            && address.len() <= LEN_MAX;
        valid.then_some(Self(address))
    }

    /// The address.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_lower_cased_and_what_is_none_is_refused() {
        assert_eq!(
            EmailAddress::parse(" Zoë.O'Hara+x@Example.IO ").unwrap().as_str(),
            "zoë.o'hara+x@example.io"
        );
        for wrong in [
            "",
            "a",
            "@",
            "a@",
            "@b.c",
            "a@b",
            "a@b@c.d",
            "a b@c.d",
            "a@b..c",
            "a@-b.c",
            ".a@b.c",
            "a\n@b.c",
            "a@b.c,d@e.f",
            "<a@b.c>",
            "a@b.c\0",
        ] {
            assert!(EmailAddress::parse(wrong).is_none(), "{wrong:?}");
        }
        assert!(EmailAddress::parse(&format!("{}@b.c", "a".repeat(300))).is_none());
    }
}
