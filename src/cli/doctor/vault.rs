//! Vault, or the key ring in its place.
use super::{
    CHECK_MAX,
    database::{SKEW_MAX, apart},
    late,
    report::{Check, Subject},
};
use crate::{
    app::database_of,
    platform::{
        clock::Clock,
        config::Config,
        keys::{Keys, KeysError},
        telemetry::chain,
        vault::{TransitKey, Vault, VaultError},
    },
};
use std::{io::ErrorKind, path::Path, time::Duration};

/// For one answer. A login takes two, within one check.
const ANSWER_MAX: Duration = Duration::from_secs(4);

const VAULT: Subject = Subject {
    name: "vault",
    why: "no process starts without it, and without it no API key is issued or rotated",
};
const LOGIN: Subject = Subject { name: "vault.login", why: VAULT.why };
const KEY: Subject = Subject {
    name: "vault.key",
    why: "new keys are wrapped by it, and nobody else may be able to unwrap them",
};
const KEYS: Subject = Subject {
    name: "keys",
    why: "without each of them no password, key or session works, and no process starts",
};
const CLOCK: Subject = Subject {
    name: "vault.clock",
    why: "what Vault's audit log and ours say of one moment is told together by the time",
};

pub(super) const ALL: &[Subject] = &[VAULT, LOGIN, KEY, KEYS, CLOCK];

const SETTINGS: &str =
    "vault.address, vault.ca_file and vault.namespace; unseal it, or start it, as your Vault's operators do";

pub(super) async fn examine(config: &Config, clock: &Clock) -> Vec<Check> {
    if config.vault.address.is_none() {
        let skipped = |subject: Subject| subject.skipped("vault.address is not set");
        return vec![skipped(VAULT), skipped(LOGIN), skipped(KEY), key_ring(config), skipped(CLOCK)];
    }
    let mut settings = config.vault.clone();
    settings.timeout_seconds = settings.timeout_seconds.min(ANSWER_MAX.as_secs());
    match Vault::new(&settings, clock.clone()) {
        Ok(vault) => of_vault(config, vault).await,
        Err(error) => stopped(VAULT.failed(error.to_string(), "correct this setting")),
    }
}

fn stopped(check: Check) -> Vec<Check> {
    let others = ALL.iter().skip(1).map(|subject| subject.skipped("see vault"));
    std::iter::once(check).chain(others).collect()
}

async fn of_vault(config: &Config, vault: Vault) -> Vec<Check> {
    let skew = match vault.look().await {
        Ok(skew) => skew,
        Err(error) => return stopped(VAULT.failed(error.to_string(), SETTINGS)),
    };
    let there = VAULT.ok("it answers, unsealed");
    let clock = match skew {
        Some(skew) if skew.abs() > SKEW_MAX => {
            CLOCK.warning(apart(skew, "Vault's clock"), "synchronize this machine's clock and Vault's by NTP")
        }
        Some(_) => CLOCK.ok(format!("less than {} s apart", SKEW_MAX.num_seconds())),
        None => CLOCK.skipped("Vault's answers have no date"),
    };
    if let Err(error) = vault.confirm().await {
        let fix =
            "vault.role_id, vault.secret_id, vault.auth_mount, and the role's policies: docs/OPERATIONS.md";
        let login = LOGIN.failed(error.to_string(), fix);
        return vec![there, login, KEY.skipped("see vault.login"), KEYS.skipped("see vault.login"), clock];
    }
    let key = key(&vault).await;
    vec![there, LOGIN.ok("AppRole lets us in"), key, keys(config, vault).await, clock]
}

async fn key(vault: &Vault) -> Check {
    let name = vault.key();
    match vault.describe_key().await {
        Ok(TransitKey { kind, supports_decryption, derived, .. }) if !supports_decryption || !derived => {
            let wrong = match supports_decryption {
                true => "not derived: wrapped keys can be put in each other's place".to_owned(),
                false => format!("{kind}, which cannot unwrap our keys"),
            };
            KEY.failed(
                format!("{name} is {wrong}"),
                "name a key such as `vault write transit/keys/identityd derived=true` makes, in vault.key",
            )
        }
        Ok(TransitKey { exportable: true, .. }) => KEY.warning(
            format!("{name} is exportable: whoever may export it can unwrap our keys without Vault"),
            "let no policy permit transit/export or transit/backup for it; it cannot be taken back",
        ),
        Ok(TransitKey { kind, latest_version, min_decryption_version, .. }) => KEY.ok(format!(
            "{name} is {kind}, version {latest_version}, unwraps from version {min_decryption_version} on"
        )),
        Err(VaultError::Forbidden(path)) => KEY.left_to(
            format!("we may not read {path}"),
            format!("permit it: path \"{path}\" {{ capabilities = [\"read\"] }}"),
        ),
        Err(error) => KEY.failed(error.to_string(), "vault.transit_mount, vault.key, vault.namespace"),
    }
}

async fn keys(config: &Config, vault: Vault) -> Check {
    let Ok(database) = database_of(config) else { return KEYS.skipped("see database") };
    match tokio::time::timeout(CHECK_MAX, Keys::unwrapped(vault, &database)).await {
        Ok(Ok(_)) => KEYS.ok("Vault unwraps every key"),
        Ok(Err(KeysError::Unreachable(_))) => KEYS.skipped("see database"),
        Ok(Err(error)) => KEYS.failed(
            chain(&error),
            "`identityd keys status` lists them; docs/OPERATIONS.md says how keys are made",
        ),
        Err(_) => KEYS.failed(late(), SETTINGS),
    }
}

/// Of a desk.
fn key_ring(config: &Config) -> Check {
    let Some(file) = &config.keys.file else {
        return KEYS.failed("neither vault.address nor keys.file is set", "set vault.address");
    };
    match Keys::open(file) {
        Ok(_) => KEYS.ok(format!("the key ring {} can be used", file.display())),
        Err(KeysError::File(_, error)) if error.kind() == ErrorKind::NotFound => not_made(file),
        Err(error) => KEYS.failed(error.to_string(), "keys.file"),
    }
}

fn not_made(file: &Path) -> Check {
    let found = format!("there is no key ring {}; the first process makes one", file.display());
    KEYS.warning(found, "of a database that is in use, bring back its own")
}
