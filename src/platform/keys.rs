//! Keys: the pepper of tokens and passwords, the signing key of access tokens, the audit and the data key.
//!
//! One enum, one variant so far: a key ring in a local file, which production refuses.
use super::{entropy::Entropy, secret::Secret};
use aws_lc_rs::{
    aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    constant_time::verify_slices_are_equal,
    digest, hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{DecodingKey, EncodingKey};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

const KEY_LEN: usize = 32;
const MAC_LEN: usize = 32;
const OWNER_ONLY: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// The keys of this process.
pub struct Keys {
    peppers: BTreeMap<i16, Vec<u8>>,
    pepper_version: i16,
    audit: BTreeMap<i16, hmac::Key>,
    data: BTreeMap<i16, LessSafeKey>,
    signing: BTreeMap<i16, SigningKey>,
}

/// Signs access tokens, and is published.
pub struct SigningKey {
    /// Names the key in token headers and in the JWKS: the RFC 7638 thumbprint.
    pub kid: String,
    /// For signing.
    pub encoding: EncodingKey,
    /// For checking.
    pub decoding: DecodingKey,
    /// The public key, base64url, as the `x` of its JWK (RFC 8037).
    pub x: String,
}

/// Why a key can't be had or used.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    #[error("the key ring {0} cannot be read or made")]
    File(String, #[source] io::Error),
    #[error("the key ring {0} is readable by others than its owner: chmod 600")]
    Exposed(String),
    #[error("the key ring cannot be understood")]
    Form(#[from] serde_json::Error),
    #[error("the key ring holds a key that cannot be used: {0}")]
    Key(&'static str),
    #[error("a sealed value cannot be opened")]
    Sealed,
}

/// The ring as it is written: versions of 32-byte keys in base64.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ring {
    pepper: BTreeMap<i16, String>,
    audit: BTreeMap<i16, String>,
    data: BTreeMap<i16, String>,
    signing: BTreeMap<i16, String>,
}

impl Ring {
    fn fresh(entropy: &Entropy) -> Self {
        let key = || BTreeMap::from([(1, STANDARD.encode(entropy.bytes::<KEY_LEN>()))]);
        Self { pepper: key(), audit: key(), data: key(), signing: key() }
    }
}

impl Keys {
    /// Reads the key ring.
    pub fn open(path: &Path) -> Result<Self, KeysError> {
        let name = || path.display().to_string();
        let failed = |error| KeysError::File(name(), error);
        if fs::metadata(path).map_err(failed)?.permissions().mode() & OTHERS != 0 {
            return Err(KeysError::Exposed(name()));
        }
        let text = Secret::new(fs::read_to_string(path).map_err(failed)?);
        Self::from_ring(&serde_json::from_str(text.expose())?)
    }

    /// Reads the key ring, and makes it first where there is none. Two processes may do so at once.
    pub fn open_or_create(path: &Path, entropy: &Entropy) -> Result<Self, KeysError> {
        if !path.exists() {
            create(path, &serde_json::to_vec_pretty(&Ring::fresh(entropy))?)
                .map_err(|error| KeysError::File(path.display().to_string(), error))?;
        }
        Self::open(path)
    }

    /// The same keys each time, for tests.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, KeysError> {
        Self::from_ring(&Ring::fresh(&Entropy::from_seed(seed)))
    }

    fn from_ring(ring: &Ring) -> Result<Self, KeysError> {
        let decoded = |keys: &BTreeMap<i16, String>| {
            keys.iter()
                .map(|(version, text)| {
                    let bytes = STANDARD.decode(text).map_err(|_| KeysError::Key("not base64"))?;
                    if bytes.len() == KEY_LEN {
                        Ok((*version, bytes))
                    } else {
                        Err(KeysError::Key("not 32 bytes"))
                    }
                })
                .collect::<Result<BTreeMap<i16, Vec<u8>>, KeysError>>()
        };
        let (peppers, audit) = (decoded(&ring.pepper)?, decoded(&ring.audit)?);
        let data = decoded(&ring.data)?.into_iter().map(|(version, key)| {
            let key = UnboundKey::new(&aead::AES_256_GCM, &key).map_err(|_| KeysError::Key("data"))?;
            Ok((version, LessSafeKey::new(key)))
        });
        let signing = decoded(&ring.signing)?
            .into_iter()
            .map(|(version, seed)| Ok((version, SigningKey::from_seed(&seed)?)))
            .collect::<Result<BTreeMap<_, _>, KeysError>>()?;
        let pepper_version = *peppers.keys().next_back().ok_or(KeysError::Key("no pepper"))?;
        if signing.is_empty() || audit.is_empty() || ring.data.is_empty() {
            return Err(KeysError::Key("a kind is missing"));
        }
        Ok(Self {
            pepper_version,
            peppers,
            audit: audit
                .into_iter()
                .map(|(version, key)| (version, hmac::Key::new(hmac::HMAC_SHA256, &key)))
                .collect(),
            data: data.collect::<Result<_, KeysError>>()?,
            signing,
        })
    }

    /// The version under which new hashes are made.
    pub fn pepper_version(&self) -> i16 {
        self.pepper_version
    }

    /// A pepper still in use.
    pub fn pepper(&self, version: i16) -> Option<&[u8]> {
        self.peppers.get(&version).map(Vec::as_slice)
    }

    /// What is stored in a token's place: HMAC-SHA-256 under the current pepper.
    pub fn fingerprint(&self, token: &str) -> ([u8; MAC_LEN], i16) {
        let version = self.pepper_version;
        (self.hmac_of(token, version).unwrap_or_default(), version)
    }

    /// Is this the token that was stored so? In constant time.
    pub fn matches(&self, token: &str, stored: &[u8], version: i16) -> bool {
        self.hmac_of(token, version).is_some_and(|hmac| verify_slices_are_equal(&hmac, stored).is_ok())
    }

    fn hmac_of(&self, token: &str, version: i16) -> Option<[u8; MAC_LEN]> {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.pepper(version)?);
        hmac::sign(&key, token.as_bytes()).as_ref().try_into().ok()
    }

    /// Authenticates an outbox row: two bytes of key version, then HMAC-SHA-256.
    pub fn mac(&self, parts: &[&[u8]]) -> Vec<u8> {
        let Some((version, key)) = self.audit.iter().next_back() else { return vec![] };
        [&version.to_be_bytes()[..], mac_of(key, parts).as_ref()].concat()
    }

    /// Was this row authenticated by one of us?
    pub fn mac_matches(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        let Some((version, mac)) = mac.split_first_chunk() else { return false };
        let key = self.audit.get(&i16::from_be_bytes(*version));
        key.is_some_and(|key| verify_slices_are_equal(mac_of(key, parts).as_ref(), mac).is_ok())
    }

    /// Encrypts (AES-256-GCM) what may only be read back by us, bound to where it is kept.
    pub fn seal(&self, entropy: &Entropy, place: &[u8], plain: &[u8]) -> Result<Vec<u8>, KeysError> {
        let (version, key) = self.data.iter().next_back().ok_or(KeysError::Key("no data key"))?;
        let nonce: [u8; NONCE_LEN] = entropy.bytes();
        let mut sealed = plain.to_vec();
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place), &mut sealed)
            .map_err(|_| KeysError::Sealed)?;
        Ok([&version.to_be_bytes()[..], &nonce, &sealed].concat())
    }

    /// The reverse of `seal`.
    pub fn open_sealed(&self, place: &[u8], sealed: &[u8]) -> Result<Vec<u8>, KeysError> {
        let (version, rest) = sealed.split_first_chunk().ok_or(KeysError::Sealed)?;
        let (nonce, body) = rest.split_first_chunk().ok_or(KeysError::Sealed)?;
        let key = self.data.get(&i16::from_be_bytes(*version)).ok_or(KeysError::Sealed)?;
        let mut body = body.to_vec();
        let plain = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(place), &mut body)
            .map_err(|_| KeysError::Sealed)?;
        Ok(plain.to_vec())
    }

    /// Signs new tokens.
    pub fn signing(&self) -> Option<&SigningKey> {
        self.signing.values().next_back()
    }

    /// Checks tokens signed by this or an earlier key.
    pub fn signing_by_kid(&self, kid: &str) -> Option<&SigningKey> {
        self.signing.values().find(|key| key.kid == kid)
    }
}

impl SigningKey {
    fn from_seed(seed: &[u8]) -> Result<Self, KeysError> {
        const BAD: KeysError = KeysError::Key("signing");
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| BAD)?;
        let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
        let thumbprint = format!("{{\"crv\":\"Ed25519\",\"kty\":\"OKP\",\"x\":\"{x}\"}}");
        let der = pair.to_pkcs8v1().map_err(|_| BAD)?;
        Ok(Self {
            kid: URL_SAFE_NO_PAD.encode(sha256(&[thumbprint.as_bytes()])),
            encoding: EncodingKey::from_ed_der(der.as_ref()),
            decoding: DecodingKey::from_ed_components(&x).map_err(|_| BAD)?,
            x,
        })
    }
}

/// SHA-256 of the parts, one after another.
pub fn sha256(parts: &[&[u8]]) -> [u8; 32] {
    let mut context = digest::Context::new(&digest::SHA256);
    for part in parts {
        context.update(part);
    }
    context.finish().as_ref().try_into().unwrap_or_default()
}

/// Each part with its length before it, so that no two lists look alike.
fn mac_of(key: &hmac::Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
        context.update(part);
    }
    context.sign()
}

/// Whole or not at all, and never over one that is there.
fn create(path: &Path, text: &[u8]) -> io::Result<()> {
    if let Some(directory) = path.parent() {
        fs::create_dir_all(directory)?;
    }
    let draft = path.with_extension(format!("{}.draft", std::process::id()));
    let mut file =
        OpenOptions::new().write(true).create(true).truncate(true).mode(OWNER_ONLY).open(&draft)?;
    file.write_all(text)?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_only_itself_under_its_pepper() {
        let keys = Keys::from_seed([3; 32]).unwrap();
        let (stored, version) = keys.fingerprint("token");
        assert!(keys.matches("token", &stored, version));
        assert!(!keys.matches("tokem", &stored, version));
        assert!(!keys.matches("token", &stored, version + 1));
        assert!(!Keys::from_seed([4; 32]).unwrap().matches("token", &stored, version));
    }

    #[test]
    fn what_is_sealed_opens_in_its_place_only() {
        let (keys, entropy) = (Keys::from_seed([3; 32]).unwrap(), Entropy::from_seed([9; 32]));
        let sealed = keys.seal(&entropy, b"here", b"secret").unwrap();
        assert_eq!(keys.open_sealed(b"here", &sealed).unwrap(), b"secret");
        assert!(keys.open_sealed(b"there", &sealed).is_err());
        assert!(keys.open_sealed(b"here", &sealed[1..]).is_err());
        assert!(!sealed.windows(6).any(|window| window == b"secret"));
    }

    #[test]
    fn a_mac_is_over_the_parts_and_not_their_sum() {
        let keys = Keys::from_seed([3; 32]).unwrap();
        let mac = keys.mac(&[b"ab", b"c"]);
        assert!(keys.mac_matches(&[b"ab", b"c"], &mac));
        assert!(!keys.mac_matches(&[b"a", b"bc"], &mac));
        assert!(!keys.mac_matches(&[b"ab", b"c"], &mac[..10]));
    }

    #[test]
    fn a_ring_is_made_once_for_its_owner_alone() {
        let directory = std::env::temp_dir().join(format!("identityd-keys-{}", std::process::id()));
        let path = directory.join("keys.json");
        let first = Keys::open_or_create(&path, &Entropy::from_seed([1; 32])).unwrap();
        let second = Keys::open_or_create(&path, &Entropy::from_seed([2; 32])).unwrap();
        assert_eq!(first.fingerprint("x"), second.fingerprint("x"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Keys::open(&path), Err(KeysError::Exposed(_))));
        fs::remove_dir_all(directory).unwrap();
    }
}
