//! The key ring in a local file: for a desk and for tests. Production refuses it.
use super::{
    KeyRing, KeysError,
    ring::{KEY_LEN, Material},
};
use crate::platform::{entropy::Entropy, secret::Secret};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _},
    path::Path,
};

const OWNER_ONLY: u32 = 0o600;
const OTHERS: u32 = 0o077;

/// The ring as it is written: versions of 32-byte keys in base64.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    pepper: BTreeMap<i16, String>,
    audit: BTreeMap<i16, String>,
    data: BTreeMap<i16, String>,
    signing: BTreeMap<i16, String>,
}

impl Written {
    fn fresh(entropy: &Entropy) -> Self {
        let key = || BTreeMap::from([(1, STANDARD.encode(entropy.bytes::<KEY_LEN>()))]);
        Self { pepper: key(), audit: key(), data: key(), signing: key() }
    }

    fn decoded(&self) -> Result<Material, KeysError> {
        let decoded = |keys: &BTreeMap<i16, String>| {
            let decode = |(version, text): (&i16, &String)| match STANDARD.decode(text) {
                Ok(bytes) => Ok((*version, bytes)),
                Err(_) => Err(KeysError::Key("not base64")),
            };
            keys.iter().map(decode).collect::<Result<BTreeMap<i16, Vec<u8>>, KeysError>>()
        };
        Ok(Material {
            pepper: decoded(&self.pepper)?,
            audit: decoded(&self.audit)?,
            data: decoded(&self.data)?,
            signing: decoded(&self.signing)?,
        })
    }
}

/// What the file holds.
pub(super) fn read(path: &Path) -> Result<Material, KeysError> {
    let name = || path.display().to_string();
    let failed = |error| KeysError::File(name(), error);
    if fs::metadata(path).map_err(failed)?.permissions().mode() & OTHERS != 0 {
        return Err(KeysError::Exposed(name()));
    }
    let text = Secret::new(fs::read_to_string(path).map_err(failed)?);
    serde_json::from_str::<Written>(text.expose())?.decoded()
}

/// The same, and makes it first where there is none. Two processes may do so at once.
pub(super) fn read_or_create(path: &Path, entropy: &Entropy) -> Result<Material, KeysError> {
    if !path.exists() {
        create(path, &serde_json::to_vec_pretty(&Written::fresh(entropy))?)
            .map_err(|error| KeysError::File(path.display().to_string(), error))?;
    }
    read(path)
}

/// The same keys each time.
pub(super) fn ring_of(entropy: &Entropy) -> Result<KeyRing, KeysError> {
    KeyRing::of(Written::fresh(entropy).decoded()?)
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
