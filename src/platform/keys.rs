//! Keys: the pepper of tokens and passwords, the signing key of access tokens, the audit and the data key.
//!
//! **Invariant:** whatever is done with a key is done in memory. Where keys come from matters at the start, and to
//! `vouched`, which asks nobody either.
mod file;
mod ring;
mod wrapped;

pub use ring::{KeyRing, SigningKey, sha256};
pub use wrapped::{WrappedKey, import, list, make, rewrap};

pub(in crate::platform) use ring::KEY_LEN;

use super::{
    db::Database,
    entropy::Entropy,
    vault::{Vault, VaultError},
};
use std::{io, ops::Deref, path::Path};

/// The keys of this process.
pub enum Keys {
    /// From a file, which production refuses.
    Local(KeyRing),
    /// From the database, where they are wrapped by Vault Transit.
    Vault { ring: KeyRing, vault: Vault },
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
    #[error("the database with the wrapped keys cannot be reached")]
    Unreachable(#[from] diesel::ConnectionError),
    #[error("the wrapped keys cannot be read or written")]
    Rows(#[from] diesel::result::Error),
    #[error("the database has no wrapped keys: run `identityd keys init`")]
    NotMade,
    #[error("the database has wrapped keys, but no {0} key: restore wrapped_keys from a backup")]
    Lost(&'static str),
    #[error(
        "the database has no wrapped keys, and what was made with keys: take those along with `identityd keys init \
         --from FILE`, or restore wrapped_keys from a backup"
    )]
    Used,
    #[error(
        "the Transit key of vault.key is not derived, so that wrapped keys can be put in each other's place"
    )]
    Unbound,
    #[error("the {kind} key, version {version}, is wrapped by another Transit key than vault.key")]
    Elsewhere { kind: String, version: i16 },
    #[error("there are wrapped keys already; whoever replaced them would lose what they protect")]
    Made,
    #[error("Vault cannot wrap a key")]
    Wrap(#[source] VaultError),
    #[error("Vault cannot unwrap the {kind} key, version {version}")]
    Unwrap {
        kind: String,
        version: i16,
        #[source]
        source: VaultError,
    },
    /// Of a process that was let in once, and may not be any more.
    #[error("Vault does not vouch for this process at the moment")]
    Unvouched,
}

impl Keys {
    /// Reads the key ring.
    pub fn open(path: &Path) -> Result<Self, KeysError> {
        Ok(Self::Local(KeyRing::of(file::read(path)?)?))
    }

    /// Reads the key ring, and makes it first where there is none. Two processes may do so at once.
    pub fn open_or_create(path: &Path, entropy: &Entropy) -> Result<Self, KeysError> {
        Ok(Self::Local(KeyRing::of(file::read_or_create(path, entropy)?)?))
    }

    /// The same keys each time, for tests.
    pub fn from_seed(seed: [u8; 32]) -> Result<Self, KeysError> {
        Ok(Self::Local(file::ring_of(&Entropy::from_seed(seed))?))
    }

    /// Takes the wrapped keys of the database and has Vault unwrap them.
    pub async fn unwrapped(vault: Vault, database: &Database) -> Result<Self, KeysError> {
        let mut conn = database.connect().await?;
        let ring = KeyRing::of(wrapped::unwrap_all(&vault, &mut conn).await?)?;
        Ok(Self::Vault { ring, vault })
    }

    /// Who is asked whether this process may still make credentials that outlive it.
    pub fn vault(&self) -> Option<&Vault> {
        match self {
            Self::Local(_) => None,
            Self::Vault { vault, .. } => Some(vault),
        }
    }

    /// May a credential be made that lives for long? Whoever takes this process's login away in Vault stops that, though
    /// the keys are in memory.
    pub fn vouched(&self) -> Result<(), KeysError> {
        match self.vault() {
            Some(vault) if !vault.vouches() => Err(KeysError::Unvouched),
            _ => Ok(()),
        }
    }
}

/// Wherever keys are from, they are used alike.
impl Deref for Keys {
    type Target = KeyRing;

    fn deref(&self) -> &KeyRing {
        match self {
            Self::Local(ring) | Self::Vault { ring, .. } => ring,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _};

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
