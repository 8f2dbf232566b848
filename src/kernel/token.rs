//! Random tokens: `type "_" kid secret crc`, sixty-nine characters that a scanner can find.
use super::Secret;
use crate::platform::entropy::Entropy;

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const KID_LEN: usize = 16;
const SECRET_LEN: usize = 43;
const CRC_LEN: usize = 6;
const PREFIX_LEN: usize = 4;
const TOKEN_LEN: usize = PREFIX_LEN + KID_LEN + SECRET_LEN + CRC_LEN;
/// Bytes above would favour the first letters of the alphabet.
const FAIR_MAX: u8 = 248;

/// The public part of a token, by which it is found.
pub type Kid = [u8; KID_LEN];

/// What a token is for. Its three letters are the token's first.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TokenKind {
    /// A person's API key.
    UserKey,
    /// A service account's API key.
    ServiceAccountKey,
    /// A refresh token.
    Refresh,
    /// An invitation.
    Invite,
    /// A browser session's cookie.
    Cookie,
    /// A bootstrap or recovery token.
    Operator,
}

impl TokenKind {
    const ALL: [Self; 6] =
        [Self::UserKey, Self::ServiceAccountKey, Self::Refresh, Self::Invite, Self::Cookie, Self::Operator];

    const fn prefix(self) -> &'static str {
        match self {
            Self::UserKey => "idk_",
            Self::ServiceAccountKey => "ids_",
            Self::Refresh => "idr_",
            Self::Invite => "idi_",
            Self::Cookie => "idc_",
            Self::Operator => "idz_",
        }
    }
}

/// A token in the clear. It exists while it is made, sent or checked.
#[derive(Clone, Debug)]
pub struct Token {
    kind: TokenKind,
    kid: Kid,
    text: Secret<String>,
}

impl Token {
    /// A new one: 256 bits of secret.
    pub fn mint(kind: TokenKind, entropy: &Entropy) -> Self {
        let body = letters::<{ KID_LEN + SECRET_LEN }>(entropy);
        let text = [kind.prefix().as_bytes(), &body].concat();
        let text = [text.as_slice(), &checksum(&text)].concat();
        let mut kid = [0; KID_LEN];
        for (to, from) in kid.iter_mut().zip(body) {
            *to = from;
        }
        Self { kind, kid, text: Secret::new(String::from_utf8_lossy(&text).into_owned()) }
    }

    /// Reads one without asking anybody: form and checksum say whether it can be one of ours.
    pub fn parse(text: &str) -> Option<Self> {
        let kind = TokenKind::ALL.into_iter().find(|kind| text.starts_with(kind.prefix()))?;
        let (body, crc) = text.as_bytes().split_last_chunk::<CRC_LEN>()?;
        let alphanumeric = text.bytes().skip(PREFIX_LEN).all(|byte| byte.is_ascii_alphanumeric());
        if text.len() != TOKEN_LEN || !alphanumeric || checksum(body) != *crc {
            return None;
        }
        let kid = *body.get(PREFIX_LEN..)?.first_chunk()?;
        Some(Self { kind, kid, text: Secret::new(text.to_owned()) })
    }

    /// What it is for.
    pub fn kind(&self) -> TokenKind {
        self.kind
    }

    /// By which it is found.
    pub fn kid(&self) -> Kid {
        self.kid
    }

    /// The kid as text, for storage.
    pub fn kid_str(&self) -> String {
        String::from_utf8_lossy(&self.kid).into_owned()
    }

    /// The whole token, for the one who gets it and for its HMAC.
    pub fn expose(&self) -> &str {
        self.text.expose()
    }

    /// The last letters, by which a person tells keys apart.
    pub fn last4(&self) -> String {
        let text = self.expose();
        text.chars().skip(text.len().saturating_sub(4)).collect()
    }
}

/// Letters of the alphabet with equal chance each, by rejection sampling.
fn letters<const N: usize>(entropy: &Entropy) -> [u8; N] {
    let mut out = [0; N];
    let mut random =
        std::iter::repeat_with(|| entropy.bytes::<64>()).flatten().filter(|byte| *byte < FAIR_MAX);
    for slot in &mut out {
        let index = usize::from(random.next().unwrap_or_default()) % ALPHABET.len();
        *slot = ALPHABET.get(index).copied().unwrap_or(b'0');
    }
    out
}

/// CRC-32/ISO-HDLC in base62, the most significant digit first.
fn checksum(body: &[u8]) -> [u8; CRC_LEN] {
    let mut rest = usize::try_from(crc32fast::hash(body)).unwrap_or_default();
    let mut out = [b'0'; CRC_LEN];
    for slot in out.iter_mut().rev() {
        *slot = ALPHABET.get(rest % ALPHABET.len()).copied().unwrap_or(b'0');
        rest /= ALPHABET.len();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minted_token_reads_back() {
        let token = Token::mint(TokenKind::UserKey, &Entropy::from_seed([1; 32]));
        let read = Token::parse(token.expose()).unwrap();
        assert_eq!((read.kind(), read.kid()), (TokenKind::UserKey, token.kid()));
        assert_eq!(token.expose().len(), TOKEN_LEN);
        assert_eq!(format!("{token:?}").matches(token.expose()).count(), 0);
    }

    /// Published: other implementations of the scanner check themselves against these.
    #[test]
    fn the_checksum_has_test_vectors() {
        let body = format!("idk_{}", "0".repeat(59));
        assert_eq!(&checksum(body.as_bytes()), b"2wcFsz");
        let body = format!("ids_{}", "z".repeat(59));
        assert_eq!(&checksum(body.as_bytes()), b"4Ewmir");
    }

    #[test]
    fn what_is_not_a_token_is_refused_without_looking_it_up() {
        let token = Token::mint(TokenKind::Refresh, &Entropy::from_seed([1; 32]));
        let text = token.expose();
        let other = if text.ends_with('0') { "1" } else { "0" };
        let (start, _) = text.split_at(text.len() - 1);
        let typo = format!("{start}{other}");
        for wrong in ["", "idk_", "idx_00", &typo, start, &format!("{text}0"), &text.replace("idr", "idé")] {
            assert!(Token::parse(wrong).is_none(), "{wrong}");
        }
    }
}
