//! CRLs: taken from anyone, believed from the CA only, never backwards, never for ever.

use std::time::Duration;

use banqiao_identity::{
    CertificateFault, CrlError, CrlOutcome, CrlStanding, Expect,
    pki::{DEFAULT_CRL_LIFETIME, NewAuthority, RevocationReason},
};
use rcgen::KeyPair;
use rustls::AlertDescription;

use crate::scene::{
    City, DAY, NOW_S, Stranger, advance, bundles, clock, connection, leaf, refused_client, trust,
};

const CARD: &str = "spiffe://qingdao.jiaodong/hrss/card";

#[tokio::test]
async fn revoked_certificate_is_refused_mid_connection_and_at_the_door() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let (server, client) = (qingdao.gateway(), qingdao.system("hrss/card"));
    trust(&server, [&qingdao]);
    trust(&client, [&qingdao]);
    let expect = Expect::Gateway(qingdao.domain.clone());
    let open = connection(&client, &expect, &server).await;
    assert_eq!(server.check(&open.seen_by_server), Ok(()));

    let mut generation = server.generation();
    generation.mark_unchanged();
    let reason = RevocationReason::KeyCompromise;
    let revoked = qingdao
        .authority
        .revoke(CARD, reason, DEFAULT_CRL_LIFETIME)
        .unwrap();
    let crl = revoked.crl.unwrap();
    assert_eq!(
        revoked.certificates[0].serial,
        hex::encode(&open.seen_by_server.serial)
    );
    assert_eq!(server.offer_crl(&crl.der), Ok(CrlOutcome::Taken));
    assert!(generation.has_changed().unwrap());
    assert_eq!(
        server.check(&open.seen_by_server),
        Err(CertificateFault::Revoked)
    );
    assert_eq!(server.check(&open.seen_by_client), Ok(()));
    assert_eq!(server.crls()[0].revoked, 1);

    // The same certificate at the door, although it was remembered as well signed.
    let stranger = Stranger::presenting(client.own().chain.to_vec(), KeyPair::generate().unwrap());
    let (error, alert) = refused_client(&server, &stranger).await;
    assert_eq!(error.fault(), Some(CertificateFault::Revoked));
    assert_eq!(alert, AlertDescription::CertificateRevoked);
}

#[test]
fn crl_number_never_decreases() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let gateway = qingdao.gateway();
    let first = qingdao.crl();
    let issued = qingdao.system("hrss/card").own();
    trust(&gateway, [&qingdao]);
    let peer = gateway.peer(&issued.chain).unwrap();

    let revoked = qingdao
        .authority
        .revoke(CARD, RevocationReason::Unspecified, DAY)
        .unwrap();
    let second = revoked.crl.unwrap();
    assert_eq!(second.number, 2);
    assert_eq!(gateway.offer_crl(&second.der), Ok(CrlOutcome::Taken));
    let generation = *gateway.generation().borrow();
    assert_eq!(gateway.offer_crl(&first), Ok(CrlOutcome::Older));
    assert_eq!(gateway.offer_crl(&second.der), Ok(CrlOutcome::Known));
    assert_eq!(*gateway.generation().borrow(), generation);
    assert_eq!(gateway.check(&peer), Err(CertificateFault::Revoked));

    // Nor by way of a directory without the city, and back.
    assert!(gateway.replace_bundles(bundles([])).unwrap());
    assert!(gateway.crls().is_empty());
    assert_eq!(gateway.check(&peer), Err(CertificateFault::Untrusted));
    assert_eq!(gateway.offer_crl(&second.der), Err(CrlError::Unsigned));
    assert!(gateway.replace_bundles(bundles([&qingdao])).unwrap());
    assert_eq!(gateway.check(&peer), Err(CertificateFault::CrlUnavailable));
    assert_eq!(gateway.offer_crl(&first), Ok(CrlOutcome::Older));
    assert_eq!(gateway.offer_crl(&second.der), Ok(CrlOutcome::Taken));
    assert_eq!(gateway.check(&peer), Err(CertificateFault::Revoked));
}

#[test]
fn two_crls_of_one_number_are_a_conflict() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let gateway = qingdao.gateway();
    trust(&gateway, [&qingdao]);
    let state = qingdao.dir.path().join("ca.json");
    let backup = std::fs::read(&state).unwrap();
    assert_eq!(
        gateway.offer_crl(&qingdao.write_crl()),
        Ok(CrlOutcome::Taken)
    );
    // The CA's machine is restored from a backup, and uses number 2 again.
    std::fs::write(&state, backup).unwrap();
    advance(&clock, Duration::from_secs(60));
    assert_eq!(
        gateway.offer_crl(&qingdao.write_crl()),
        Err(CrlError::Conflicting)
    );
    assert_eq!(
        gateway.offer_crl(&qingdao.write_crl()),
        Ok(CrlOutcome::Taken)
    );
}

#[tokio::test]
async fn crl_counts_for_its_grace_and_no_longer() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let (server, client) = (qingdao.gateway(), qingdao.system("hrss/card"));
    trust(&server, [&qingdao]);
    trust(&client, [&qingdao]);
    let expect = Expect::Gateway(qingdao.domain.clone());
    let standing = || {
        server
            .crl_warnings()
            .first()
            .map(|warning| warning.standing)
    };
    assert_eq!(standing(), None);

    advance(&clock, DAY / 2 + Duration::from_secs(1));
    assert_eq!(standing(), Some(CrlStanding::Ageing));

    // Past the next update, within the grace of a day: accepted, with a warning.
    advance(&clock, DAY);
    assert_eq!(standing(), Some(CrlStanding::Overdue));
    let open = connection(&client, &expect, &server).await;
    let warning = &server.crl_warnings()[0];
    assert_eq!(warning.refused_from_s, Some(NOW_S + 2 * 24 * 60 * 60));
    assert!(
        warning.to_string().contains("qingdao.jiaodong"),
        "{warning}"
    );

    // Past the grace: refused, also where it is connected.
    advance(&clock, DAY / 2);
    assert_eq!(standing(), Some(CrlStanding::Expired));
    assert_eq!(
        server.check(&open.seen_by_server),
        Err(CertificateFault::CrlUnavailable)
    );
    let stranger = Stranger::presenting(client.own().chain.to_vec(), KeyPair::generate().unwrap());
    let (error, alert) = refused_client(&server, &stranger).await;
    assert_eq!(error.fault(), Some(CertificateFault::CrlUnavailable));
    assert_eq!(alert, AlertDescription::UnknownCA);

    // A fresh one heals it.
    assert_eq!(
        server.offer_crl(&qingdao.write_crl()),
        Ok(CrlOutcome::Taken)
    );
    assert_eq!(standing(), None);
    assert_eq!(server.check(&open.seen_by_server), Ok(()));
}

#[tokio::test]
async fn a_city_without_crl_is_refused() {
    let clock = clock();
    let (qingdao, yantai) = (
        City::new("qingdao.jiaodong", &clock),
        City::new("yantai.jiaodong", &clock),
    );
    let server = qingdao.gateway();
    assert!(
        server
            .replace_bundles(bundles([&qingdao, &yantai]))
            .unwrap()
    );
    assert_eq!(server.offer_crl(&yantai.crl()), Ok(CrlOutcome::Taken));
    let key = KeyPair::generate().unwrap();
    let stranger = Stranger::presenting(vec![qingdao.sign(&leaf(CARD), &key)], key);
    let (error, alert) = refused_client(&server, &stranger).await;
    assert_eq!(error.fault(), Some(CertificateFault::CrlUnavailable));
    assert_eq!(alert, AlertDescription::UnknownCA);
    let warnings = server.crl_warnings();
    assert_eq!(warnings.len(), 1);
    assert_eq!(warnings[0].trust_domain, qingdao.domain);
    assert_eq!(warnings[0].standing, CrlStanding::Absent);
    assert_eq!(warnings[0].refused_from_s, None);
}

#[test]
fn only_the_ca_itself_can_speak_for_its_certificates() {
    let clock = clock();
    let (qingdao, yantai) = (
        City::new("qingdao.jiaodong", &clock),
        City::new("yantai.jiaodong", &clock),
    );
    let impostor = City::new("qingdao.jiaodong", &clock);
    let gateway = qingdao.gateway();
    trust(&gateway, [&qingdao, &yantai]);
    // The same issuer name and a higher number, but another key.
    assert_eq!(
        gateway.offer_crl(&impostor.write_crl()),
        Err(CrlError::Unsigned)
    );
    // Yantai's CRL lists the serial of a certificate of Qingdao: it means nothing there.
    let own = gateway.own();
    let ledger = yantai.dir.path().join("ca.json");
    yantai.gateway();
    let yantai_serial = yantai.authority.status().unwrap().certificates[0]
        .serial
        .clone();
    let text = std::fs::read_to_string(&ledger).unwrap();
    std::fs::write(
        &ledger,
        text.replace(&yantai_serial, &hex::encode(&own.serial)),
    )
    .unwrap();
    let foreign = yantai
        .authority
        .revoke("gateway", RevocationReason::Unspecified, DAY)
        .unwrap();
    assert_eq!(
        gateway.offer_crl(&foreign.crl.unwrap().der),
        Ok(CrlOutcome::Taken)
    );
    assert_eq!(gateway.own_fault(), None);

    let mut tampered = qingdao.write_crl();
    let last = tampered.len() - 1;
    tampered[last] ^= 1;
    assert_eq!(gateway.offer_crl(&tampered), Err(CrlError::Unsigned));
    assert!(matches!(
        gateway.offer_crl(b"no CRL"),
        Err(CrlError::Malformed(_))
    ));
    assert_eq!(
        gateway.offer_crl(&vec![0; 16 * 1024 * 1024 + 1]),
        Err(CrlError::TooLarge)
    );
}

#[test]
fn crl_from_the_future_waits() {
    let clock = clock();
    let ahead = crate::scene::clock();
    advance(&ahead, Duration::from_secs(301));
    let dir = tempfile::tempdir().unwrap();
    let new = NewAuthority::new("qingdao.jiaodong".parse().unwrap());
    let create = |clock| banqiao_identity::pki::CityAuthority::create(dir.path(), &new, clock);
    create(clock.clock()).unwrap();
    let (authority, _) = create(ahead.clock()).unwrap();
    let qingdao = City {
        authority,
        clock: clock.clock(),
        domain: new.trust_domain.clone(),
        dir,
    };
    let crl = qingdao.write_crl();
    // The leaf too was made by the clock that is ahead, and begins five minutes back.
    advance(&clock, Duration::from_secs(1));
    let gateway = qingdao.gateway();
    clock.set_us(NOW_S * 1_000_000);
    assert!(gateway.replace_bundles(bundles([&qingdao])).unwrap());
    assert_eq!(gateway.offer_crl(&crl), Err(CrlError::InFuture));
    advance(&clock, Duration::from_secs(1));
    assert_eq!(gateway.offer_crl(&crl), Ok(CrlOutcome::Taken));
}
