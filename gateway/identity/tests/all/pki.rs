//! A city's CA on disk.

use std::{collections::BTreeSet, fs, os::unix::fs::PermissionsExt, path::Path, thread};

use banqiao_identity::pki::{
    AdminRole, CertificateKind, CertificateRequest, CertificateSummary, CityAuthority, CrlSummary,
    DEFAULT_CRL_LIFETIME, KeyKind, NewAuthority, Outcome, PkiError, RevocationReason,
};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use crate::scene::{City, DAY, NOW_S, advance, clock, trust};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn certificate(path: &Path) -> CertificateDer<'static> {
    CertificateDer::from_pem_file(path).unwrap()
}

#[test]
fn a_city_is_made_once_and_found_again() {
    let clock = clock();
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("cities/qingdao");
    let new = NewAuthority {
        organization: "青岛市大数据发展管理局".to_owned(),
        ..NewAuthority::new("qingdao.jiaodong".parse().unwrap())
    };
    let (made, outcome) = CityAuthority::create(&dir, &new, clock.clock()).unwrap();
    assert_eq!(outcome, Outcome::Made);
    assert_eq!(mode(&dir.join("ca.key")), 0o600);
    let first = fs::read(dir.join("crl.der")).unwrap();
    assert_eq!(
        CrlSummary::read(&first).unwrap().number.as_deref(),
        Some("1")
    );

    let (found, outcome) = CityAuthority::create(&dir, &new, clock.clock()).unwrap();
    assert_eq!(outcome, Outcome::Kept);
    assert_eq!(found.certificate(), made.certificate());
    assert_eq!(fs::read(dir.join("crl.der")).unwrap(), first);

    let yantai = NewAuthority::new("yantai.jiaodong".parse().unwrap());
    let error = CityAuthority::create(&dir, &yantai, clock.clock()).unwrap_err();
    assert!(matches!(error, PkiError::OtherCity { .. }), "{error}");

    let summary = CertificateSummary::read(made.certificate()).unwrap();
    assert!(summary.authority && summary.fault.is_none());
    assert!(
        summary.subject.contains("青岛市大数据发展管理局"),
        "{}",
        summary.subject
    );
}

#[test]
fn a_ca_key_is_never_overwritten() {
    let clock = clock();
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("ca.key"), "someone's key").unwrap();
    let new = NewAuthority::new("qingdao.jiaodong".parse().unwrap());
    let error = CityAuthority::create(dir.path(), &new, clock.clock()).unwrap_err();
    assert!(matches!(error, PkiError::Leftover { .. }), "{error}");
    assert_eq!(
        fs::read(dir.path().join("ca.key")).unwrap(),
        b"someone's key"
    );
    let error = CityAuthority::load(dir.path(), clock.clock()).unwrap_err();
    assert!(matches!(error, PkiError::NoAuthority { .. }), "{error}");
}

#[test]
fn certificates_of_all_kinds_carry_what_they_should() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let domain = &qingdao.domain;
    let requests = [
        CertificateRequest::gateway(domain)
            .loopback()
            .host("GW.qingdao.example")
            .unwrap(),
        CertificateRequest::system(domain, "hrss/card")
            .unwrap()
            .loopback()
            .key(KeyKind::EcdsaP384),
        CertificateRequest::admin(domain, AdminRole::Auditor, "synthetic-1")
            .unwrap()
            .key(KeyKind::Ed25519),
    ];
    let gateway = qingdao.gateway();
    trust(&gateway, [&qingdao]);
    for (request, (id, name, hosts)) in requests.iter().zip([
        (
            "spiffe://qingdao.jiaodong/gateway",
            "gateway-2",
            &[
                "gateway.qingdao.jiaodong",
                "localhost",
                "gw.qingdao.example",
                "127.0.0.1",
                "::1",
            ][..],
        ),
        (
            "spiffe://qingdao.jiaodong/hrss/card",
            "hrss-card",
            &["localhost", "127.0.0.1", "::1"],
        ),
        (
            "spiffe://qingdao.jiaodong/admin/auditor/synthetic-1",
            "auditor-synthetic-1",
            &[],
        ),
    ]) {
        // The city's first gateway has the usual file name already.
        let request = request.clone().file_name(name).unwrap();
        let issued = qingdao.authority.issue(&request).unwrap();
        assert_eq!(issued.outcome, Outcome::Made);
        assert_eq!(issued.record.id.as_str(), id);
        assert_eq!(
            issued.private_key,
            qingdao.dir.path().join(format!("{name}.key"))
        );
        assert_eq!(mode(&issued.private_key), 0o600);
        let der = certificate(&issued.certificate);
        let summary = CertificateSummary::read(&der).unwrap();
        assert_eq!(summary.fault, None);
        assert_eq!(summary.dns, hosts);
        assert_eq!(summary.serial, issued.record.serial);
        assert_eq!(summary.not_after_s, issued.record.not_after_s);
        assert_eq!(gateway.peer(&[der]).unwrap().id.as_str(), id);
        // Nothing that is printed holds a key.
        let key = fs::read_to_string(&issued.private_key).unwrap();
        let middle = key.lines().nth(1).unwrap();
        let state = fs::read_to_string(qingdao.dir.path().join("ca.json")).unwrap();
        assert!(!format!("{issued:?}{request:?}{:?}{state}", qingdao.authority).contains(middle));
    }
    let kinds: Vec<_> = qingdao
        .authority
        .status()
        .unwrap()
        .certificates
        .iter()
        .map(|issued| issued.kind)
        .collect();
    use CertificateKind::{Admin, Gateway, System};
    assert_eq!(kinds, [Gateway, Gateway, System, Admin]);
}

#[test]
fn issuing_again_keeps_what_is_good_and_renews_what_is_old() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let request = CertificateRequest::system(&qingdao.domain, "hrss/card").unwrap();
    let issue = |request: &CertificateRequest| qingdao.authority.issue(request).unwrap();
    let first = issue(&request);
    assert_eq!(issue(&request).outcome, Outcome::Kept);
    assert_eq!(issue(&request).record, first.record);

    // Other names under the same file name would silently change a running service.
    let other = request.clone().host("card.example").unwrap();
    let error = qingdao.authority.issue(&other).unwrap_err();
    assert!(matches!(error, PkiError::Taken { .. }), "{error}");
    assert_eq!(issue(&other.renew(true)).outcome, Outcome::Made);
    let second = issue(&request.clone().renew(true));
    assert_ne!(second.record.serial, first.record.serial);

    // A lost key, a key that does not fit.
    fs::remove_file(&second.private_key).unwrap();
    let third = issue(&request);
    assert_eq!(third.outcome, Outcome::Made);
    fs::copy(qingdao.dir.path().join("ca.key"), &third.private_key).unwrap();
    assert_eq!(issue(&request).outcome, Outcome::Made);

    // Two thirds of ninety days later, and after a revocation.
    advance(&clock, DAY * 61);
    assert_eq!(issue(&request).outcome, Outcome::Made);
    assert_eq!(issue(&request).outcome, Outcome::Kept);
    qingdao
        .authority
        .revoke("hrss-card", RevocationReason::Unspecified, DAY)
        .unwrap();
    assert_eq!(issue(&request).outcome, Outcome::Made);
}

#[test]
fn revoking_twice_changes_nothing_and_unknown_names_are_errors() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let card = CertificateRequest::system(&qingdao.domain, "hrss/card").unwrap();
    let serial = qingdao.authority.issue(&card).unwrap().record.serial;
    let revoke = |which: &str| {
        qingdao
            .authority
            .revoke(which, RevocationReason::KeyCompromise, DEFAULT_CRL_LIFETIME)
    };
    let revoked = revoke(&serial.to_uppercase()).unwrap();
    assert_eq!(revoked.certificates.len(), 1);
    let crl = revoked.crl.unwrap();
    assert_eq!((crl.number, crl.revoked), (2, 1));
    let summary = CrlSummary::read(&crl.der).unwrap();
    assert_eq!(summary.revoked, [(serial.clone(), NOW_S)]);
    assert_eq!(summary.next_update_s, Some(NOW_S + 24 * 60 * 60));

    for which in [&serial, "spiffe://qingdao.jiaodong/hrss/card", "hrss-card"] {
        let again = revoke(which).unwrap();
        assert!(again.certificates.is_empty() && again.crl.is_none());
    }
    let error = revoke("hrss-pension").unwrap_err();
    assert!(matches!(error, PkiError::Unknown(_)), "{error}");

    // Long after its own end it leaves the CRL, not the record.
    advance(&clock, DAY * 121);
    let crl = qingdao.authority.write_crl(DAY).unwrap();
    assert_eq!((crl.number, crl.revoked), (3, 0));
    assert!(
        qingdao.authority.status().unwrap().certificates[0]
            .revoked
            .is_some()
    );
}

#[test]
fn names_are_checked() {
    let domain = "qingdao.jiaodong".parse().unwrap();
    for bad in [
        "",
        "gateway",
        "gateway/x",
        "admin/administrator/x",
        "a//b",
        "../x",
        "a b",
        "a/é",
    ] {
        let error = CertificateRequest::system(&domain, bad).unwrap_err();
        assert!(matches!(error, PkiError::Name { .. }), "{bad}: {error}");
    }
    for bad in ["", "a/b", "..", "x y"] {
        CertificateRequest::admin(&domain, AdminRole::Operator, bad).unwrap_err();
    }
    let request = CertificateRequest::gateway(&domain);
    for bad in ["", "ca", "crl", ".x", "a/b", "../gateway", "a\nb"] {
        request.clone().file_name(bad).unwrap_err();
    }
    for bad in ["", "a b", "x/y", "1.2.3.4.5:80", "*.example"] {
        request.clone().host(bad).unwrap_err();
    }
}

#[test]
fn nothing_outlives_the_ca() {
    let clock = clock();
    let new = NewAuthority {
        lifetime: DAY * 60,
        ..NewAuthority::new("qingdao.jiaodong".parse().unwrap())
    };
    let qingdao = City::with(new, &clock);
    let request = CertificateRequest::gateway(&qingdao.domain);
    let error = qingdao.authority.issue(&request).unwrap_err();
    assert!(matches!(error, PkiError::OutlivesAuthority), "{error}");
    qingdao
        .authority
        .issue(&request.lifetime(DAY * 60))
        .unwrap();
}

#[test]
fn exposed_or_damaged_files_are_refused() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let key = qingdao.dir.path().join("ca.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    let error = qingdao.authority.write_crl(DAY).unwrap_err();
    assert!(matches!(error, PkiError::Key(_)), "{error}");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();

    let state = qingdao.dir.path().join("ca.json");
    let sound = fs::read_to_string(&state).unwrap();
    fs::write(&state, sound.replace("\"version\": 1", "\"version\": 2")).unwrap();
    let error = qingdao.authority.write_crl(DAY).unwrap_err();
    assert!(
        matches!(error, PkiError::Version { version: 2, .. }),
        "{error}"
    );
    fs::write(&state, &sound[..sound.len() / 2]).unwrap();
    let error = qingdao.authority.write_crl(DAY).unwrap_err();
    assert!(matches!(error, PkiError::Damaged { .. }), "{error}");
}

#[test]
fn concurrent_commands_lose_nothing() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    thread::scope(|scope| {
        for worker in 0..4 {
            let qingdao = &qingdao;
            scope.spawn(move || {
                // Another process would open the folder itself.
                let authority =
                    CityAuthority::load(qingdao.dir.path(), qingdao.clock.clone()).unwrap();
                for turn in 0..4 {
                    let path = format!("hrss/s{worker}-{turn}");
                    let request = CertificateRequest::system(&qingdao.domain, &path).unwrap();
                    authority.issue(&request).unwrap();
                    authority.write_crl(DAY).unwrap();
                }
            });
        }
    });
    let status = qingdao.authority.status().unwrap();
    assert_eq!(status.crl_number, 17);
    let serials: BTreeSet<_> = status
        .certificates
        .iter()
        .map(|issued| &issued.serial)
        .collect();
    assert_eq!(serials.len(), 16);
    let newest = CrlSummary::read(&qingdao.crl()).unwrap();
    assert_eq!(newest.number.as_deref(), Some("17"));
    assert!(fs::read_dir(qingdao.dir.path()).unwrap().all(|entry| {
        !entry
            .unwrap()
            .file_name()
            .to_string_lossy()
            .ends_with(".new")
    }));
}
