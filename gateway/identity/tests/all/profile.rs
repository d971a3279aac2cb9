//! Certificates that break the profile, each with the alert that its holder sees.

use banqiao_identity::{BundleError, CertificateFault, pki::NewAuthority};
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P521_SHA512, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::AlertDescription;
use time::OffsetDateTime;

use crate::scene::{
    City, DAY, NOW_S, Stranger, advance, bundles, clock, leaf, refused_client, trust, uri,
};

const CARD: &str = "spiffe://qingdao.jiaodong/hrss/card";

/// Refused as [`CertificateFault::Invalid`] with this text, and `bad_certificate` on the wire.
async fn assert_invalid(params: CertificateParams, expected: &str) {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let server = qingdao.gateway();
    trust(&server, [&qingdao]);
    let key = KeyPair::generate().unwrap();
    let certificate = qingdao.sign(&params, &key);
    let Err(CertificateFault::Invalid(text)) = server.peer(std::slice::from_ref(&certificate))
    else {
        panic!("{expected}")
    };
    assert_eq!(text, expected);
    let (error, alert) =
        refused_client(&server, &Stranger::presenting(vec![certificate], key)).await;
    assert!(
        matches!(error.fault(), Some(CertificateFault::Invalid(_))),
        "{error:?}"
    );
    assert_eq!(alert, AlertDescription::BadCertificate, "{expected}");
}

#[tokio::test]
async fn a_leaf_has_exactly_one_uri_name_and_it_is_a_spiffe_id() {
    let with = |names: &[&str]| {
        let mut params = leaf(CARD);
        params.subject_alt_names = names.iter().copied().map(uri).collect();
        params
    };
    assert_invalid(with(&[]), "no SPIFFE ID").await;
    assert_invalid(with(&[CARD, CARD]), "more than one URI name").await;
    let other = "spiffe://qingdao.jiaodong/gateway";
    assert_invalid(with(&[CARD, other]), "more than one URI name").await;
    assert_invalid(
        with(&[CARD, "https://qingdao.test/"]),
        "more than one URI name",
    )
    .await;
    assert_invalid(
        with(&["https://qingdao.test/"]),
        "the URI name is not a SPIFFE ID",
    )
    .await;
    assert_invalid(
        with(&["spiffe://qingdao.jiaodong/a/../gateway"]),
        "the URI name is not a SPIFFE ID",
    )
    .await;
    // A second extension with another name, which some parsers would prefer.
    let mut twice = leaf(CARD);
    let mut names = vec![0x30, 35, 0x86, 33];
    names.extend(other.as_bytes());
    twice
        .custom_extensions
        .push(CustomExtension::from_oid_content(&[2, 5, 29, 17], names));
    assert_invalid(twice, "an extension is malformed or stands twice").await;
}

#[tokio::test]
async fn a_leaf_is_no_ca_and_says_what_it_is_for() {
    let mut authority = leaf(CARD);
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    assert_invalid(authority, "a leaf must not have the CA bit").await;

    for extra in [KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign] {
        let mut signer = leaf(CARD);
        signer.key_usages.push(extra);
        assert_invalid(
            signer,
            "a leaf must not be allowed to sign certificates or CRLs",
        )
        .await;
    }
    let mut silent = leaf(CARD);
    silent.key_usages.clear();
    assert_invalid(silent, "a leaf must state its key usage").await;
    let mut enciphers = leaf(CARD);
    enciphers.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    assert_invalid(
        enciphers,
        "a leaf must be allowed to make digital signatures",
    )
    .await;

    let mut silent = leaf(CARD);
    silent.extended_key_usages.clear();
    assert_invalid(silent, "a leaf must state its extended key usage").await;
}

#[tokio::test]
async fn a_client_has_the_client_purpose() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let server = qingdao.gateway();
    trust(&server, [&qingdao]);
    for usage in [
        rcgen::ExtendedKeyUsagePurpose::ServerAuth,
        rcgen::ExtendedKeyUsagePurpose::Any,
    ] {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf(CARD);
        params.extended_key_usages = vec![usage];
        let stranger = Stranger::presenting(vec![qingdao.sign(&params, &key)], key);
        let (error, alert) = refused_client(&server, &stranger).await;
        assert!(
            matches!(error.fault(), Some(CertificateFault::Invalid(_))),
            "{error:?}"
        );
        assert_eq!(alert, AlertDescription::BadCertificate);
    }
}

#[tokio::test]
async fn serials_and_critical_extensions_are_checked() {
    let with = |serial: &[u8]| {
        let mut params = leaf(CARD);
        params.serial_number = Some(SerialNumber::from_slice(serial));
        params
    };
    assert_invalid(with(&[0]), "a serial is greater than zero").await;
    assert_invalid(with(&[0x40; 21]), "a serial has 1 to 20 bytes").await;

    let mut critical = leaf(CARD);
    let mut extension =
        CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 55_555, 1], vec![5, 0]);
    extension.set_criticality(true);
    critical.custom_extensions.push(extension);
    assert_invalid(critical, "an unknown critical extension").await;
}

#[test]
fn weak_and_unusual_keys_are_refused() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let server = qingdao.gateway();
    trust(&server, [&qingdao]);

    let p521 = KeyPair::generate_for(&PKCS_ECDSA_P521_SHA512).unwrap();
    let fault = server
        .peer(&[qingdao.sign(&leaf(CARD), &p521)])
        .unwrap_err();
    assert_eq!(
        fault,
        CertificateFault::Invalid("an elliptic-curve key is on P-256 or P-384")
    );

    // A public key of 1024 bits whose private half was thrown away.
    let spki = "MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCsvDXIFjyh2F/ii46+c0R4WiyoxOWnVfLMtBWkbidYBqJVYaIR\
                H3BuV2WnA3J+oQ1VAIqtBni78ULxSlYo9siiXgMyjl6W+qLQrOiPUQqe6uAVSF9eszpLJUj28KMWIfW0Bbhltf8r\
                uR2WLnJ6G+ew3rI2sTx0YVZuuzH5rpgOOQIDAQAB";
    let rsa = SubjectPublicKeyInfo::from_der(&STANDARD.decode(spki).unwrap()).unwrap();
    let fault = server.peer(&[qingdao.sign(&leaf(CARD), &rsa)]).unwrap_err();
    assert_eq!(
        fault,
        CertificateFault::Invalid("an RSA key has at least 2048 bits")
    );
}

#[tokio::test]
async fn only_the_city_of_the_name_can_vouch_for_it() {
    let clock = clock();
    let (qingdao, yantai) = (
        City::new("qingdao.jiaodong", &clock),
        City::new("yantai.jiaodong", &clock),
    );
    // Of the same name as Qingdao's CA, with another key.
    let impostor = City::new("qingdao.jiaodong", &clock);
    let server = qingdao.gateway();
    trust(&server, [&qingdao, &yantai]);
    for (signer, id) in [
        (&yantai, CARD),
        (&yantai, "spiffe://qingdao.jiaodong/gateway"),
        (&impostor, CARD),
        // Nobody has heard of this city.
        (&yantai, "spiffe://jinan.example/hrss/card"),
    ] {
        let key = KeyPair::generate().unwrap();
        let forged = signer.sign(&leaf(id), &key);
        // The CA's own certificate behind it changes nothing.
        let chain = vec![forged, signer.authority.certificate().clone()];
        assert_eq!(server.peer(&chain), Err(CertificateFault::Untrusted));
        let (error, alert) = refused_client(&server, &Stranger::presenting(chain, key)).await;
        assert_eq!(error.fault(), Some(CertificateFault::Untrusted));
        assert_eq!(alert, AlertDescription::UnknownCA);
    }
}

#[tokio::test]
async fn a_certificate_is_good_only_within_its_validity() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let server = qingdao.gateway();
    trust(&server, [&qingdao]);
    let at = |seconds: i64| OffsetDateTime::from_unix_timestamp(NOW_S + seconds).unwrap();
    for (from, to) in [(-7_200, -1), (1, 7_200)] {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf(CARD);
        (params.not_before, params.not_after) = (at(from), at(to));
        let stranger = Stranger::presenting(vec![qingdao.sign(&params, &key)], key);
        let (error, alert) = refused_client(&server, &stranger).await;
        assert_eq!(error.fault(), Some(CertificateFault::Expired));
        assert_eq!(alert, AlertDescription::CertificateExpired);
    }
}

#[tokio::test]
async fn an_expired_ca_vouches_for_nobody() {
    let clock = clock();
    let short = NewAuthority {
        lifetime: DAY * 100,
        crl_lifetime: DAY * 200,
        ..NewAuthority::new("qingdao.jiaodong".parse().unwrap())
    };
    let qingdao = City::with(short, &clock);
    let server = qingdao.gateway();
    trust(&server, [&qingdao]);
    let key = KeyPair::generate().unwrap();
    let mut params = leaf(CARD);
    // A leaf that outlives its CA, which our own `issue` never makes.
    params.not_after = OffsetDateTime::from_unix_timestamp(NOW_S + 300 * 24 * 60 * 60).unwrap();
    let leaf = qingdao.sign(&params, &key);
    let before = server.peer(std::slice::from_ref(&leaf)).unwrap();

    advance(&clock, DAY * 101);
    assert_eq!(server.check(&before), Err(CertificateFault::Untrusted));
    let (error, alert) = refused_client(&server, &Stranger::presenting(vec![leaf], key)).await;
    assert_eq!(error.fault(), Some(CertificateFault::Untrusted));
    assert_eq!(alert, AlertDescription::UnknownCA);
}

#[test]
fn a_bundle_with_a_bad_ca_is_refused_whole() {
    let clock = clock();
    let (qingdao, yantai) = (
        City::new("qingdao.jiaodong", &clock),
        City::new("yantai.jiaodong", &clock),
    );
    let gateway = qingdao.gateway();
    trust(&gateway, [&qingdao]);
    let before = *gateway.generation().borrow();

    let key = KeyPair::generate().unwrap();
    let mut set = bundles([&qingdao]);
    set.insert(
        yantai.domain.clone(),
        vec![
            yantai.authority.certificate().clone(),
            yantai.sign(&leaf("spiffe://yantai.jiaodong/gateway"), &key),
        ],
    );
    let error = gateway.replace_bundles(set).unwrap_err();
    assert!(
        matches!(error, BundleError::Authority { index: 1, .. }),
        "{error:?}"
    );

    let mut set = bundles([&qingdao]);
    set.insert(
        yantai.domain.clone(),
        vec![qingdao.authority.certificate().clone()],
    );
    let error = gateway.replace_bundles(set).unwrap_err();
    assert!(matches!(error, BundleError::Shared { .. }), "{error:?}");

    assert_eq!(gateway.own_fault(), None);
    assert_eq!(*gateway.generation().borrow(), before);
    assert!(!gateway.replace_bundles(bundles([&qingdao])).unwrap());
    // A city without a CA is a city that nobody knows.
    let mut set = bundles([&qingdao]);
    set.insert(yantai.domain, Vec::new());
    assert!(!gateway.replace_bundles(set).unwrap());
}
