//! E-mail addresses.
use std::fmt;

/// In octets, of the whole, of what stands before the `@`, and of each label behind it (RFC 5321, 4.5.3.1; RFC 1035, 2.3.4).
const LEN_MAX: usize = 254;
const LOCAL_MAX: usize = 64;
const LABEL_MAX: usize = 63;

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
            (1..=LABEL_MAX).contains(&label.len())
                && !label.starts_with('-')
                && !label.ends_with('-')
                && label.chars().all(|c| c.is_alphanumeric() || c == '-')
        };
        let dots = !local.starts_with('.') && !local.ends_with('.') && !local.contains("..");
        let valid = (1..=LOCAL_MAX).contains(&local.len())
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
        let made = |local: usize, label: usize| {
            EmailAddress::parse(&format!("{}@{}.c", "a".repeat(local), "b".repeat(label))).is_some()
        };
        assert!(made(64, 63) && !made(65, 1) && !made(1, 64));
        let labels = [&*"b".repeat(63)].repeat(3).join(".");
        assert!(EmailAddress::parse(&format!("{}@{labels}", "a".repeat(64))).is_none(), "256 octets");
    }
}
