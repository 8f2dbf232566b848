//! What makes a password.
use super::error::PasswordError;
use crate::kernel::Secret;
use std::collections::BTreeSet;
use unicode_normalization::UnicodeNormalization as _;

/// As the only factor.
const CHARS_MIN: usize = 15;
const CHARS_MAX: usize = 128;
/// Whatever is longer is not hashed: its length alone would cost.
const BYTES_MAX: usize = 512;
const DISTINCT_MIN: usize = 5;
/// Words that everybody tries first, alone or one after another.
const COMMON: &[&str] = &[
    "0123456789",
    "123456789",
    "987654321",
    "1234567890",
    "12345678",
    "123456",
    "12345",
    "1234",
    "123",
    "abcdefghij",
    "abcdef",
    "abc",
    "qwertyuiop",
    "qwertz",
    "qwerty",
    "asdfghjkl",
    "asdf",
    "zxcvbnm",
    "password",
    "passwort",
    "passw0rd",
    "contraseña",
    "welcome",
    "letmein",
    "changeme",
    "admin",
    "administrator",
    "root",
    "secret",
    "iloveyou",
    "monkey",
    "dragon",
    "sunshine",
    "princess",
    "football",
    "baseball",
    "master",
    "superman",
    "batman",
    "trustno1",
    "login",
    "identityd",
    "test",
    "user",
    "guest",
    "default",
    "hello",
    "whatever",
    "summer",
    "winter",
    "spring",
    "autumn",
    "company",
    "!",
    "?",
    ".",
    "-",
    "_",
    "#",
    "0",
    "1",
];

/// A password that somebody chose, and that is strong enough. Normalized once (NFC), and else as received.
#[derive(Clone, Debug)]
pub struct NewPassword(Secret<String>);

impl NewPassword {
    /// Length counts, not composition; what is tried first everywhere does not count.
    pub fn parse(raw: &str, email: &str) -> Result<Self, PasswordError> {
        let password = normalize(raw).ok_or(PasswordError::TooLong)?;
        let chars = password.chars().count();
        if chars < CHARS_MIN {
            return Err(PasswordError::TooShort { min: CHARS_MIN });
        }
        if chars > CHARS_MAX {
            return Err(PasswordError::TooLong);
        }
        if is_common(&password, email) {
            return Err(PasswordError::TooCommon);
        }
        Ok(Self(Secret::new(password)))
    }

    /// For hashing.
    pub(super) fn into_inner(self) -> String {
        self.0.into_inner()
    }
}

/// `None`: no password of ours is that long.
pub(in crate::authn) fn normalize(raw: &str) -> Option<String> {
    (raw.len() <= BYTES_MAX).then(|| raw.nfc().collect())
}

fn is_common(password: &str, email: &str) -> bool {
    let lower = password.to_lowercase();
    let distinct: BTreeSet<char> = lower.chars().collect();
    if distinct.len() < DISTINCT_MIN {
        return true;
    }
    let local = email.split('@').next().unwrap_or_default();
    let mut known: Vec<&str> = COMMON.to_vec();
    known.extend([local, email].into_iter().filter(|word| word.len() >= 3));
    known.sort_by_key(|word| std::cmp::Reverse(word.len()));
    // What is left when every known word is taken away is what has to be guessed.
    let rest = known.iter().fold(lower, |rest, word| rest.replace(word, ""));
    rest.chars().count() < DISTINCT_MIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_counts_and_the_obvious_does_not() {
        let parse = |password: &str| NewPassword::parse(password, "ada.lovelace@example.io");
        assert!(parse("correct horse battery staple").is_ok());
        assert!(parse("ünïcödé çhärs 15").is_ok());
        assert!(matches!(parse("short"), Err(PasswordError::TooShort { min: 15 })));
        assert!(matches!(parse(&"x".repeat(600)), Err(PasswordError::TooLong)));
        assert!(matches!(parse(&"ab c-d_eF".repeat(15)), Err(PasswordError::TooLong)));
        for common in [
            "aaaaaaaaaaaaaaaaaa",
            "123456789123456789",
            "passwordpassword123",
            "Password123456789!",
            "qwertyuiopasdfghjkl",
            "ada.lovelaceada.lovelace",
            "ada.lovelace@example.io",
            "changemechangeme1",
        ] {
            assert!(matches!(parse(common), Err(PasswordError::TooCommon)), "{common}");
        }
    }

    #[test]
    fn two_spellings_of_one_character_are_one_password() {
        assert_eq!(normalize("e\u{301}"), normalize("é"));
    }
}
