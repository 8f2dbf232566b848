//! The keys in memory, wherever they came from. What is done with them needs nobody: no file, no network.
use super::KeysError;
use crate::platform::entropy::Entropy;
use aws_lc_rs::{
    aead::{self, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    constant_time::verify_slices_are_equal,
    digest, hmac,
    signature::{Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, EncodingKey};
use std::collections::BTreeMap;

/// Bytes of every key.
pub(in crate::platform) const KEY_LEN: usize = 32;
const MAC_LEN: usize = 32;

/// Keys of each kind by version: the highest is for what is new, older ones check what is old.
pub struct KeyRing {
    peppers: BTreeMap<i16, Vec<u8>>,
    pepper_version: i16,
    audit: BTreeMap<i16, hmac::Key>,
    data: BTreeMap<i16, LessSafeKey>,
    signing: BTreeMap<i16, SigningKey>,
}

/// What a ring is made of. Every kind has at least one version.
#[derive(Default)]
pub(super) struct Material {
    pub(super) pepper: BTreeMap<i16, Vec<u8>>,
    pub(super) audit: BTreeMap<i16, Vec<u8>>,
    pub(super) data: BTreeMap<i16, Vec<u8>>,
    pub(super) signing: BTreeMap<i16, Vec<u8>>,
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
    pair: Ed25519KeyPair,
    /// The protected header of what `detached` signs.
    header: String,
}

impl KeyRing {
    pub(super) fn of(material: Material) -> Result<Self, KeysError> {
        let Material { pepper, audit, data, signing } = material;
        if [&pepper, &audit, &data, &signing].iter().any(|kind| kind.is_empty()) {
            return Err(KeysError::Key("a kind is missing"));
        }
        let all = [&pepper, &audit, &data, &signing];
        if all.iter().any(|kind| kind.values().any(|key| key.len() != KEY_LEN)) {
            return Err(KeysError::Key("not 32 bytes"));
        }
        let data = data.into_iter().map(|(version, key)| {
            let key = UnboundKey::new(&aead::AES_256_GCM, &key).map_err(|_| KeysError::Key("data"))?;
            Ok((version, LessSafeKey::new(key)))
        });
        let signing = signing.into_iter().map(|(version, seed)| Ok((version, SigningKey::from_seed(&seed)?)));
        let audit =
            audit.into_iter().map(|(version, key)| (version, hmac::Key::new(hmac::HMAC_SHA256, &key)));
        Ok(Self {
            pepper_version: *pepper.keys().next_back().ok_or(KeysError::Key("no pepper"))?,
            peppers: pepper,
            audit: audit.collect(),
            data: data.collect::<Result<_, KeysError>>()?,
            signing: signing.collect::<Result<_, KeysError>>()?,
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

    /// Every key whose signatures hold: what the JWKS publishes.
    pub fn published(&self) -> impl Iterator<Item = &SigningKey> {
        self.signing.values()
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
        let kid = URL_SAFE_NO_PAD.encode(sha256(&[thumbprint.as_bytes()]));
        Ok(Self {
            encoding: EncodingKey::from_ed_der(der.as_ref()),
            decoding: DecodingKey::from_ed_components(&x).map_err(|_| BAD)?,
            header: URL_SAFE_NO_PAD.encode(format!("{{\"alg\":\"EdDSA\",\"kid\":\"{kid}\"}}")),
            kid,
            x,
            pair,
        })
    }

    /// A JWS over these bytes that does not hold them (RFC 7515, appendix F): header, nothing, signature.
    pub fn detached(&self, payload: &[u8]) -> String {
        let mut signed = String::with_capacity(self.header.len() + 1 + payload.len().div_ceil(3) * 4);
        signed.push_str(&self.header);
        signed.push('.');
        URL_SAFE_NO_PAD.encode_string(payload, &mut signed);
        let signature = self.pair.sign(signed.as_bytes());
        format!("{}..{}", self.header, URL_SAFE_NO_PAD.encode(signature))
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
