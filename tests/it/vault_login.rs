//! Being let in by a real OpenBao: how long a login is good, what is done when it is not, and who is trusted.
use crate::{
    cli_support::Scratch,
    vault_support::{Bao, Place, SERVICE, SETUP, block, vault},
};
use chrono::{DateTime, Utc};
use identityd::platform::{clock::Clock, vault::VaultError};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

fn clock() -> Clock {
    let epoch: DateTime<Utc> = "2026-01-05T09:00:00Z".parse().unwrap();
    Clock::manual(epoch)
}

#[test]
fn a_login_is_renewed_at_two_thirds_of_its_time() {
    let bao = Bao::shared();
    let (place, clock) = (Place::new(&bao), clock());
    let service = place.vault(SERVICE, &clock);
    let renewed = || -> Vec<bool> {
        block(service.confirm()).unwrap();
        place.logins().iter().map(|login| login["last_renewal_time"].as_u64().is_some()).collect()
    };
    assert_eq!(renewed(), [false]);
    clock.tick(Duration::from_secs(2399));
    assert_eq!(renewed(), [false]);
    clock.tick(Duration::from_secs(1));
    assert_eq!(renewed(), [true], "the same login, for longer");
}

#[test]
fn a_login_that_cannot_be_renewed_is_followed_by_another() {
    let bao = Bao::shared();
    let place = Place::with_logins(&bao, &json!({ "token_ttl": "1h", "token_type": "batch" }));
    let (clock, wrapped) = (clock(), block(place.vault(SETUP, &clock()).make_key("pepper/1")).unwrap());
    let service = place.vault(SERVICE, &clock);
    for hour in 0..3 {
        block(service.confirm()).unwrap();
        assert_eq!(block(service.unwrap_key("pepper/1", &wrapped)).unwrap().expose().len(), 32, "{hour}");
        clock.tick(Duration::from_hours(1));
    }
}

#[test]
fn a_login_that_was_taken_away_costs_one_login_and_no_call() {
    let bao = Bao::shared();
    let (place, clock) = (Place::new(&bao), clock());
    let wrapped = block(place.vault(SETUP, &clock).make_key("pepper/1")).unwrap();
    let service = place.vault(SERVICE, &clock);
    block(service.confirm()).unwrap();
    let logins = || -> Vec<Value> {
        place.logins().into_iter().filter(|login| login["meta"]["role_name"] == SERVICE).collect()
    };
    let before = logins();
    place.revoke(&before[0]);
    // Four at once: one of them logs in.
    let unwrapped = block(async {
        let unwrap = || service.unwrap_key("pepper/1", &wrapped);
        tokio::join!(unwrap(), unwrap(), unwrap(), unwrap())
    });
    assert!(unwrapped.0.is_ok() && unwrapped.1.is_ok() && unwrapped.2.is_ok() && unwrapped.3.is_ok());
    let after = logins();
    assert_eq!(after.len(), 1);
    assert_ne!(after[0]["accessor"], before[0]["accessor"]);
}

#[test]
fn who_may_not_is_told_so_and_does_not_hammer() {
    let bao = Bao::shared();
    let (place, clock) = (Place::new(&bao), clock());
    let service = place.vault(SERVICE, &clock);
    let refused = || {
        let path = format!(
            "Vault does not permit {}/encrypt/identityd: see the policies of the role",
            place.transit()
        );
        assert_eq!(block(service.wrap("pepper/1", &[7; 32])).unwrap_err().to_string(), path);
        place.logins().len()
    };
    assert_eq!(refused(), 2, "the login might have been the reason, once");
    assert_eq!((refused(), refused()), (2, 2));
    clock.tick(Duration::from_mins(1));
    assert_eq!(refused(), 3);
    place.permit(SERVICE, &["encrypt"]);
    assert!(block(service.wrap("pepper/1", &[7; 32])).is_ok());
}

#[test]
fn a_wrong_secret_id_is_a_fault_of_the_configuration_and_is_read_anew_once_a_minute() {
    let bao = Bao::shared();
    let (place, clock, scratch) = (Place::new(&bao), clock(), Scratch::new("secret-id"));
    let file = scratch.file("secret-id", "00000000-0000-0000-0000-000000000000\n");
    let mut settings = place.settings(SERVICE, "");
    settings.retain(|setting| !setting.starts_with("vault.secret_id="));
    settings.push(format!("vault.secret_id_file={file}"));
    let service = vault(&settings, &clock);
    let refused = block(service.confirm()).unwrap_err();
    assert!(matches!(refused, VaultError::Login(_)) && refused.is_fault(), "{refused:?}");
    assert!(refused.to_string().contains("vault.secret_id"));
    scratch.file("secret-id", &place.secret_id(SERVICE));
    assert!(matches!(block(service.confirm()), Err(VaultError::Resting)));
    clock.tick(Duration::from_secs(59));
    assert!(matches!(block(service.confirm()), Err(VaultError::Resting)));
    clock.tick(Duration::from_secs(1));
    block(service.confirm()).unwrap();
    assert_eq!(place.logins().len(), 1);
}

#[test]
fn whoever_is_frozen_is_waited_for_as_long_as_was_said() {
    let bao = Bao::own();
    let (place, clock) = (Place::new(&bao), clock());
    let mut settings = place.settings(SERVICE, &place.secret_id(SERVICE));
    settings.push("vault.timeout_seconds=1".to_owned());
    let service = vault(&settings, &clock);
    block(service.confirm()).unwrap();
    bao.freeze();
    let begun = Instant::now();
    // More than may be under way at once: those that find no room are answered as well.
    let answers: Vec<_> = block(async {
        let all = (0..12).map(|_| service.confirm());
        futures_util::future::join_all(all).await
    });
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert!(answers.iter().all(|answer| matches!(answer, Err(VaultError::Slow))));
    assert!(!service.vouches());
    bao.thaw();
    block(service.confirm()).unwrap();
    assert!(service.vouches());
}

#[test]
fn only_the_authorities_of_the_file_are_trusted() {
    let (certificates, clock) = (Scratch::new("ca"), clock());
    let bao = Bao::with_tls(&certificates);
    let place = Place::new(&bao);
    let mut settings = place.settings(SERVICE, &place.secret_id(SERVICE));
    block(vault(&settings, &clock).confirm()).unwrap();

    let ca_file = settings.iter().position(|setting| setting.starts_with("vault.ca_file=")).unwrap();
    settings.remove(ca_file);
    let untrusted = block(vault(&settings, &clock).confirm()).unwrap_err();
    assert!(matches!(untrusted, VaultError::Untrusted(_)) && untrusted.is_fault(), "{untrusted:?}");

    let none = certificates.file("none.pem", "");
    settings.push(format!("vault.ca_file={none}"));
    let unread = block(vault(&settings, &clock).confirm()).unwrap_err();
    assert_eq!(unread.to_string(), "vault.ca_file: no certificate authority can be read from it");
}

#[test]
fn the_namespace_is_where_the_mounts_are() {
    let bao = Bao::own();
    let (place, clock) = (Place::in_namespace(&bao, "team"), clock());
    let mut settings = place.settings(SERVICE, &place.secret_id(SERVICE));
    let wrapped = block(place.vault(SETUP, &clock).make_key("pepper/1")).unwrap();
    let service = vault(&settings, &clock);
    assert_eq!(block(service.unwrap_key("pepper/1", &wrapped)).unwrap().expose().len(), 32);
    settings.retain(|setting| !setting.starts_with("vault.namespace="));
    assert!(matches!(block(vault(&settings, &clock).confirm()), Err(VaultError::Login(_))));
}

#[test]
fn a_mount_that_is_not_there_is_named() {
    let bao = Bao::shared();
    let (place, clock) = (Place::new(&bao), clock());
    bao.root("POST", &format!("sys/policies/acl/{}", place.policy(SERVICE)), &everything());
    let mut settings = place.settings(SERVICE, &place.secret_id(SERVICE));
    settings.push("vault.transit_mount=nowhere".to_owned());
    let error = block(vault(&settings, &clock).wrap("pepper/1", &[7; 32])).unwrap_err();
    assert!(error.is_fault() && error.to_string().contains("nowhere/encrypt/identityd"), "{error}");
}

fn everything() -> Value {
    json!({ "policy": "path \"*\" { capabilities = [\"update\", \"read\"] }" })
}
