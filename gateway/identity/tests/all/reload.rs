//! Certificates, keys and bundles change under open connections.

use std::{fs, os::unix::fs::PermissionsExt};

use banqiao_identity::{
    CertificateFault, CrlOutcome, Expect, IdentityError,
    pki::{CertificateRequest, RevocationReason},
};

use crate::scene::{City, DAY, bundles, clock, connection, load, trust};

#[tokio::test]
async fn renewed_certificate_comes_into_force_and_open_connections_stay() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let (server, client) = (qingdao.gateway(), qingdao.system("hrss/card"));
    trust(&server, [&qingdao]);
    trust(&client, [&qingdao]);
    let expect = Expect::Gateway(qingdao.domain.clone());
    let mut before = connection(&client, &expect, &server).await;
    assert!(!server.reload().unwrap());
    let kept_config = server.server_config();

    let request = CertificateRequest::gateway(&qingdao.domain).renew(true);
    let renewed = qingdao.authority.issue(&request).unwrap();
    let mut generation = server.generation();
    generation.mark_unchanged();
    assert!(server.reload().unwrap());
    assert!(generation.has_changed().unwrap());
    assert_eq!(hex::encode(&server.own().serial), renewed.record.serial);
    assert!(!server.reload().unwrap());

    let after = connection(&client, &expect, &server).await;
    assert_eq!(after.seen_by_client.serial, server.own().serial);
    assert_ne!(after.seen_by_client.serial, before.seen_by_client.serial);
    // Who keeps the configuration has the new certificate too.
    assert!(std::sync::Arc::ptr_eq(
        &kept_config,
        &server.server_config()
    ));
    // The former certificate is not revoked: what rests on it goes on.
    before.echo().await;
    assert_eq!(client.check(&before.seen_by_client), Ok(()));

    // Once it is, the client sees it by the CRL.
    let former = hex::encode(&before.seen_by_client.serial);
    let revoked = qingdao
        .authority
        .revoke(&former, RevocationReason::Superseded, DAY)
        .unwrap();
    assert_eq!(
        client.offer_crl(&revoked.crl.unwrap().der),
        Ok(CrlOutcome::Taken)
    );
    assert_eq!(
        client.check(&before.seen_by_client),
        Err(CertificateFault::Revoked)
    );
    assert_eq!(client.check(&after.seen_by_client), Ok(()));
}

#[test]
fn reload_keeps_what_is_in_force_when_the_files_are_wrong() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let gateway = qingdao.gateway();
    let serial = gateway.own().serial.clone();
    let dir = qingdao.dir.path();
    let (certificate, key) = (dir.join("gateway.crt"), dir.join("gateway.key"));
    qingdao.system("hrss/card");
    let sound = (fs::read(&certificate).unwrap(), fs::read(&key).unwrap());

    // Between the two renames of a renewal.
    fs::write(&certificate, fs::read(dir.join("hrss-card.crt")).unwrap()).unwrap();
    assert!(matches!(
        gateway.reload(),
        Err(IdentityError::KeyMismatch { .. })
    ));
    fs::write(&key, fs::read(dir.join("hrss-card.key")).unwrap()).unwrap();
    assert!(matches!(
        gateway.reload(),
        Err(IdentityError::IdentityChanged { .. })
    ));
    fs::write(&certificate, b"nothing").unwrap();
    assert!(matches!(
        gateway.reload(),
        Err(IdentityError::NoCertificate { .. })
    ));
    fs::write(&certificate, &sound.0).unwrap();
    fs::write(&key, b"nothing").unwrap();
    assert!(matches!(
        gateway.reload(),
        Err(IdentityError::NoPrivateKey { .. })
    ));
    fs::remove_file(&key).unwrap();
    assert!(matches!(gateway.reload(), Err(IdentityError::Read { .. })));
    assert_eq!(gateway.own().serial, serial);
    assert_eq!(*gateway.generation().borrow(), 0);

    fs::write(&key, &sound.1).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(!gateway.reload().unwrap());
}

#[test]
fn key_that_others_can_read_is_refused() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let gateway = qingdao.gateway();
    let (certificate, key) = (
        qingdao.dir.path().join("gateway.crt"),
        qingdao.dir.path().join("gateway.key"),
    );
    for mode in [0o644, 0o640, 0o604, 0o660, 0o700, 0o610] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let error = load(&certificate, &key, clock.clock()).unwrap_err();
        assert!(matches!(error, IdentityError::KeyExposed { mode: found, .. } if found == mode));
        assert!(error.to_string().contains("0600"), "{error}");
        assert!(matches!(
            gateway.reload(),
            Err(IdentityError::KeyExposed { .. })
        ));
    }
    for mode in [0o600, 0o400] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        load(&certificate, &key, clock.clock()).unwrap();
    }
}

#[test]
fn certificate_that_peers_would_refuse_is_not_loaded() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let dir = qingdao.dir.path();
    let error = load(&dir.join("ca.crt"), &dir.join("ca.key"), clock.clock()).unwrap_err();
    assert!(matches!(error, IdentityError::Unusable { .. }), "{error:?}");

    qingdao.gateway();
    clock.advance_us(91 * 24 * 60 * 60 * 1_000_000);
    let error = load(
        &dir.join("gateway.crt"),
        &dir.join("gateway.key"),
        clock.clock(),
    )
    .unwrap_err();
    let IdentityError::Unusable { source, .. } = error else {
        panic!("{error:?}")
    };
    assert_eq!(source, CertificateFault::Expired);
}

#[tokio::test]
async fn a_city_changes_its_ca_without_an_interruption() {
    let clock = clock();
    let (old, new) = (
        City::new("qingdao.jiaodong", &clock),
        City::new("qingdao.jiaodong", &clock),
    );
    let yantai = City::new("yantai.jiaodong", &clock);
    let client = yantai.gateway();
    trust(&client, [&old, &yantai]);
    let expect = Expect::Gateway(old.domain.clone());
    let first = old.gateway();
    trust(&first, [&old, &yantai]);
    let mut open = connection(&client, &expect, &first).await;

    // Both CAs for a while. They have one name, and each its own CRL.
    let mut both = bundles([&old, &yantai]);
    both.get_mut(&old.domain)
        .unwrap()
        .push(new.authority.certificate().clone());
    assert!(client.replace_bundles(both).unwrap());
    assert_eq!(client.check(&open.seen_by_client), Ok(()));
    assert_eq!(client.offer_crl(&new.crl()), Ok(CrlOutcome::Taken));
    assert_eq!(client.crls().len(), 3);
    let second = new.gateway();
    trust(&second, [&new, &yantai]);
    let after = connection(&client, &expect, &second).await;
    assert_ne!(after.seen_by_client.issuer, open.seen_by_client.issuer);
    open.echo().await;

    // Then the new one alone: what rests on the old one is to end.
    assert!(client.replace_bundles(bundles([&new, &yantai])).unwrap());
    assert_eq!(
        client.check(&open.seen_by_client),
        Err(CertificateFault::Untrusted)
    );
    assert_eq!(client.check(&after.seen_by_client), Ok(()));
    assert_eq!(client.crls().len(), 2);
}

#[test]
fn own_certificate_is_judged_as_peers_would() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let gateway = qingdao.gateway();
    assert_eq!(gateway.own_fault(), Some(CertificateFault::Untrusted));
    trust(&gateway, [&qingdao]);
    assert_eq!(gateway.own_fault(), None);
    let revoked = qingdao
        .authority
        .revoke("gateway", RevocationReason::Unspecified, DAY)
        .unwrap();
    gateway.offer_crl(&revoked.crl.unwrap().der).unwrap();
    assert_eq!(gateway.own_fault(), Some(CertificateFault::Revoked));
}
