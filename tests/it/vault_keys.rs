//! Keys: the same contract for a key ring in a file and for keys that a real OpenBao wraps; and what of them needs Vault.
use crate::{
    cli_support::{Scratch, ScratchDatabase, ask, connection},
    process::migrated,
    vault_support::{Bao, Place, SERVICE, SETUP, block, vault},
};
use chrono::{DateTime, Utc};
use identityd::platform::{
    clock::Clock,
    db::Database,
    entropy::Entropy,
    keys::{self, Keys, KeysError},
    vault::VaultError,
};
use serde_json::json;
use std::{error::Error, path::Path, time::Duration};

fn clock() -> Clock {
    let epoch: DateTime<Utc> = "2026-01-05T09:00:00Z".parse().unwrap();
    Clock::manual(epoch)
}

/// Makes the keys of a database, as `identityd keys init` does.
fn made(place: &Place<'_>, database: &ScratchDatabase) -> &'static [&'static str] {
    let setup = place.vault(SETUP, &clock());
    block(async { keys::make(&setup, &mut connection(&database.url()).await).await.unwrap() })
}

/// Those keys, in a process of the service.
fn opened(place: &Place<'_>, database: &ScratchDatabase, clock: &Clock) -> Result<Keys, KeysError> {
    let service = place.vault(SERVICE, clock);
    let database = Database::parse(&database.service_url(), None).unwrap();
    block(Keys::unwrapped(service, &database))
}

/// What holds of keys wherever they are from. `open` opens the same ones again, as another process would.
fn contract(open: impl Fn() -> Keys, others: &Keys) {
    let (keys, again, entropy) = (open(), open(), Entropy::from_seed([9; 32]));

    let (stored, version) = keys.fingerprint("token");
    assert_eq!(version, keys.pepper_version());
    assert!(again.matches("token", &stored, version), "a token is known after a restart");
    assert!(!again.matches("tokem", &stored, version) && !others.matches("token", &stored, version));
    assert!(!again.matches("token", &stored, version + 1) && again.pepper(version + 1).is_none());

    let mac = keys.mac(&[b"ab", b"c"]);
    assert!(again.mac_matches(&[b"ab", b"c"], &mac) && !again.mac_matches(&[b"a", b"bc"], &mac));
    assert!(!others.mac_matches(&[b"ab", b"c"], &mac));

    let sealed = keys.seal(&entropy, b"here", b"secret").unwrap();
    assert_eq!(again.open_sealed(b"here", &sealed).unwrap(), b"secret");
    assert!(again.open_sealed(b"there", &sealed).is_err() && others.open_sealed(b"here", &sealed).is_err());

    let kid = &keys.signing().unwrap().kid;
    assert_eq!(again.signing_by_kid(kid).unwrap().x, keys.signing().unwrap().x);
    assert!(others.signing_by_kid(kid).is_none());

    assert!(keys.vouched().is_ok());
}

#[test]
fn keys_in_a_file_keep_the_contract() {
    let place = Scratch::new("ring");
    let open = |name: &str| Keys::open_or_create(Path::new(&place.join(name)), &Entropy::from_os()).unwrap();
    contract(|| open("keys.json"), &open("others.json"));
}

#[test]
fn keys_that_vault_wraps_keep_the_contract() {
    let bao = Bao::shared();
    let (place, clock) = (Place::new(&bao), clock());
    let (database, other) = (migrated("wrapped"), migrated("wrapped"));
    assert_eq!(made(&place, &database), ["pepper", "audit", "data", "signing"]);
    assert!(made(&place, &database).is_empty(), "may run twice");
    made(&place, &other);
    contract(|| opened(&place, &database, &clock).unwrap(), &opened(&place, &other, &clock).unwrap());
}

#[test]
fn keys_are_wrapped_where_they_lie() {
    let bao = Bao::shared();
    let (place, database) = (Place::new(&bao), migrated("lie"));
    made(&place, &database);
    let rows = "SELECT string_agg(kind || version || ' ' || transit_key || ' ' || left(wrapped, 9), ',' ORDER BY kind)
        AS cell FROM wrapped_keys";
    assert_eq!(
        ask(&database.service_url(), rows),
        "audit1 identityd vault:v1:,data1 identityd vault:v1:,pepper1 identityd vault:v1:,signing1 identityd vault:v1:"
    );
    let refused = block(async {
        let setup = place.vault(SETUP, &clock());
        let mut service = connection(&database.service_url()).await;
        let made = keys::make(&setup, &mut service).await;
        (made, keys::rewrap(&setup, &mut connection(&database.service_url()).await).await)
    });
    assert!(
        matches!(refused, (Err(KeysError::Rows(_)), Err(KeysError::Rows(_)))),
        "the service may only look"
    );
}

#[test]
fn a_database_without_keys_says_how_they_are_made() {
    let bao = Bao::shared();
    let error = opened(&Place::new(&bao), &migrated("bare"), &clock()).err().unwrap();
    assert_eq!(error.to_string(), "the database has no wrapped keys: run `identityd keys init`");
}

#[test]
fn a_key_ring_can_be_taken_along_and_nothing_is_lost() {
    let bao = Bao::shared();
    let (place, scratch, database) = (Place::new(&bao), Scratch::new("along"), migrated("along"));
    let file = scratch.join("keys.json");
    let ring = Keys::open_or_create(Path::new(&file), &Entropy::from_os()).unwrap();
    let import = || {
        let setup = place.vault(SETUP, &clock());
        block(async { keys::import(&setup, &mut connection(&database.url()).await, Path::new(&file)).await })
    };
    assert_eq!(import().unwrap(), 4);
    let wrapped = opened(&place, &database, &clock()).unwrap();
    assert_eq!(wrapped.fingerprint("token"), ring.fingerprint("token"));
    assert_eq!(wrapped.signing().unwrap().kid, ring.signing().unwrap().kid);
    assert!(matches!(import(), Err(KeysError::Made)), "keys are not replaced");
}

#[test]
fn old_versions_of_the_transit_key_unwrap_until_vault_is_told_otherwise() {
    let bao = Bao::shared();
    let (place, database, clock) = (Place::new(&bao), migrated("rotate"), clock());
    made(&place, &database);
    let before = opened(&place, &database, &clock).unwrap().fingerprint("token");
    place.rotate();
    let setup = place.vault(SETUP, &clock);
    assert!(
        block(setup.make_key("pepper/1")).unwrap().starts_with("vault:v2:"),
        "new keys are under the new version"
    );
    assert_eq!(opened(&place, &database, &clock).unwrap().fingerprint("token"), before);

    place.forget_versions_below(2);
    let error = opened(&place, &database, &clock).err().unwrap();
    assert!(matches!(&error, KeysError::Unwrap { source: VaultError::Refused(_), .. }), "{error:?}");

    place.forget_versions_below(1);
    let rewrap =
        || block(async { keys::rewrap(&setup, &mut connection(&database.url()).await).await.unwrap() });
    assert_eq!((rewrap(), rewrap()), (4, 0));
    place.forget_versions_below(2);
    assert_eq!(opened(&place, &database, &clock).unwrap().fingerprint("token"), before);
}

#[test]
fn sealed_or_gone_leaves_the_keys_in_memory_and_takes_the_word_for_new_ones() {
    let bao = Bao::own();
    let (database, clock) = (migrated("sealed"), clock());
    let keys = {
        let place = Place::new(&bao);
        made(&place, &database);
        opened(&place, &database, &clock).unwrap()
    };
    let used = || keys.matches("token", &keys.fingerprint("token").0, keys.pepper_version());
    let vault = keys.vault().unwrap();
    bao.seal();
    assert!(matches!(block(vault.confirm()), Err(VaultError::Sealed)));
    assert!(used() && matches!(keys.vouched(), Err(KeysError::Unvouched)));
    bao.unseal();
    block(vault.confirm()).unwrap();
    assert!(used() && keys.vouched().is_ok());

    bao.kill();
    assert!(matches!(block(vault.confirm()), Err(VaultError::Unreachable(_))));
    assert!(used() && keys.vouched().is_err());
}

#[test]
fn nobody_vouches_for_whom_nobody_asked_about_for_half_a_minute() {
    let bao = Bao::shared();
    let (place, database, clock) = (Place::new(&bao), migrated("stale"), clock());
    made(&place, &database);
    let keys = opened(&place, &database, &clock).unwrap();
    clock.tick(Duration::from_secs(30));
    assert!(keys.vouched().is_ok());
    clock.tick(Duration::from_secs(1));
    assert!(keys.vouched().is_err());
    block(keys.vault().unwrap().confirm()).unwrap();
    assert!(keys.vouched().is_ok());
}

#[test]
fn no_secret_stands_in_what_is_shown() {
    let bao = Bao::shared();
    let (place, database) = (Place::new(&bao), migrated("shown"));
    made(&place, &database);
    let (secret_id, wrong) = (place.secret_id(SERVICE), "0b5ad3c1-aaaa-bbbb-cccc-1234567890ab");
    let mut settings = place.settings(SERVICE, &secret_id);
    let login = vault(&settings, &clock());
    block(login.confirm()).unwrap();
    place.permit(SERVICE, &["encrypt"]);
    let service = Database::parse(&database.service_url(), None).unwrap();
    let forbidden = block(Keys::unwrapped(login, &service)).err().unwrap();
    settings.push(format!("vault.secret_id=\"{wrong}\""));
    let refused = block(vault(&settings, &clock()).confirm()).unwrap_err();

    let wrapped = ask(&database.url(), "SELECT string_agg(wrapped, ' ') AS cell FROM wrapped_keys");
    let texts = [told(&forbidden), told(&refused)];
    for text in &texts {
        for secret in [secret_id.as_str(), wrong].into_iter().chain(wrapped.split(' ')) {
            assert!(!text.contains(secret), "{text}");
        }
    }
    assert!(texts[0].contains("Vault does not permit") && texts[1].contains("Vault refuses the login"));
    let flags: Vec<_> =
        settings.iter().map(|flag| identityd::platform::config::Flag::parse(flag).unwrap()).collect();
    let loaded = identityd::platform::config::load(None, &flags).map_err(|_| ()).unwrap();
    let shown = format!("{:?} {}", loaded.config, loaded.show());
    assert!(!shown.contains(wrong) && shown.contains("vault.secret_id = \"***\""), "{shown}");
}

/// All that can be made of an error.
fn told(error: &dyn Error) -> String {
    let mut text = format!("{error:?} {error}");
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text} {source:?} {source}");
        next = source.source();
    }
    text
}

#[test]
fn what_unwraps_to_no_key_is_refused() {
    let bao = Bao::shared();
    let (place, database) = (Place::new(&bao), migrated("odd"));
    made(&place, &database);
    let short = block(place.vault(SETUP, &clock()).wrap("data/1", b"short")).unwrap();
    database.sql(&format!("UPDATE wrapped_keys SET wrapped = '{short}' WHERE kind = 'data'"));
    assert!(matches!(opened(&place, &database, &clock()), Err(KeysError::Key("not 32 bytes"))));
}

#[test]
fn a_wrapped_key_opens_in_its_own_place_and_by_the_transit_key_of_the_configuration_only() {
    let bao = Bao::shared();
    let (place, database) = (Place::new(&bao), migrated("places"));
    made(&place, &database);
    let damaged = |change: &str| {
        database.sql(&format!("CREATE TABLE good AS TABLE wrapped_keys; {change}"));
        let error = opened(&place, &database, &clock()).err();
        database.sql("TRUNCATE wrapped_keys; INSERT INTO wrapped_keys TABLE good; DROP TABLE good");
        error.unwrap()
    };
    for change in [
        "UPDATE wrapped_keys k SET wrapped = o.wrapped FROM good o WHERE k.kind = 'signing' AND o.kind = 'data'",
        "UPDATE wrapped_keys SET version = 2 WHERE kind = 'pepper'",
        "INSERT INTO wrapped_keys (kind, version, transit_key, wrapped)
           SELECT kind, 7, transit_key, wrapped FROM good WHERE kind = 'signing'",
    ] {
        let error = damaged(change);
        assert!(
            matches!(&error, KeysError::Unwrap { source: VaultError::Refused(_), .. }),
            "{change}: {error:?}"
        );
    }
    let renamed = damaged("UPDATE wrapped_keys SET transit_key = 'other' WHERE kind = 'signing'");
    assert_eq!(
        renamed.to_string(),
        "the signing key, version 1, is wrapped by another Transit key than vault.key"
    );
    assert!(opened(&place, &database, &clock()).is_ok());
}

#[test]
fn a_transit_key_that_binds_nothing_is_refused() {
    let bao = Bao::shared();
    let (place, database) = (Place::new(&bao), migrated("loose"));
    let key = format!("{}/keys/identityd", place.transit());
    place.root("POST", &format!("{key}/config"), &json!({ "deletion_allowed": true }));
    place.root("DELETE", &key, &json!({}));
    place.root("POST", &key, &json!({}));
    made(&place, &database);
    assert!(matches!(opened(&place, &database, &clock()), Err(KeysError::Unbound)));
}

#[test]
fn lost_keys_are_not_made_anew() {
    let bao = Bao::shared();
    let (place, database) = (Place::new(&bao), migrated("lost"));
    let make = || {
        let setup = place.vault(SETUP, &clock());
        block(async { keys::make(&setup, &mut connection(&database.url()).await).await })
    };
    assert_eq!((make().unwrap().len(), make().unwrap().len()), (4, 0));
    database.sql("DELETE FROM wrapped_keys WHERE kind = 'pepper'");
    assert!(matches!(make(), Err(KeysError::Lost("pepper"))));
    assert!(matches!(opened(&place, &database, &clock()), Err(KeysError::Lost("pepper"))));

    let used = migrated("used");
    used.sql("UPDATE audit_head SET size = 1");
    let setup = place.vault(SETUP, &clock());
    let refused = block(async { keys::make(&setup, &mut connection(&used.url()).await).await });
    assert!(matches!(refused, Err(KeysError::Used)));

    let fresh = migrated("at_once");
    let make = || async { keys::make(&setup, &mut connection(&fresh.url()).await).await.unwrap() };
    let made = block(async { futures_util::future::join_all((0..4).map(|_| make())).await });
    assert_eq!(made.iter().filter(|made| !made.is_empty()).count(), 1);
    assert!(opened(&place, &fresh, &clock()).is_ok());
}
