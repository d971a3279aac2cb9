//! Bytes from outside change nothing and break nothing.

use std::sync::LazyLock;

use banqiao_directory::ManualClock;
use banqiao_identity::{CertificateFault, Identity};
use proptest::prelude::*;
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::scene::{City, clock, loopback, trust};

struct Scene {
    city: City,
    gateway: Identity,
    crl: Vec<u8>,
    _clock: ManualClock,
}

static SCENE: LazyLock<Scene> = LazyLock::new(|| {
    let clock = clock();
    let city = City::new("qingdao.jiaodong", &clock);
    let gateway = city.gateway();
    trust(&gateway, [&city]);
    let revoke = |path: &str| {
        city.system(path);
        let reason = banqiao_identity::pki::RevocationReason::KeyCompromise;
        let id = format!("spiffe://qingdao.jiaodong/{path}");
        city.authority
            .revoke(&id, reason, crate::scene::DAY)
            .unwrap()
    };
    revoke("hrss/card");
    let crl = revoke("hrss/pension").crl.unwrap().der;
    Scene {
        city,
        gateway,
        crl,
        _clock: clock,
    }
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_are_no_certificate_and_no_crl(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        let Scene { gateway, .. } = &*SCENE;
        prop_assert!(gateway.peer(&[CertificateDer::from(bytes.clone())]).is_err());
        prop_assert!(gateway.offer_crl(&bytes).is_err());
    }

    #[test]
    fn spoilt_certificates_are_refused(at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        let Scene { gateway, .. } = &*SCENE;
        let mut bytes = gateway.own().chain[0].to_vec();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if cut {
            bytes.truncate(at);
        }
        let verdict = gateway.peer(&[CertificateDer::from(bytes)]);
        prop_assert!(matches!(
            verdict,
            Err(CertificateFault::Invalid(_) | CertificateFault::Untrusted | CertificateFault::Expired)
        ), "{verdict:?}");
    }

    #[test]
    fn spoilt_crls_are_refused(at in any::<prop::sample::Index>(), bit in 0_u8..8, cut in any::<bool>()) {
        let Scene { gateway, crl, .. } = &*SCENE;
        let mut bytes = crl.clone();
        let at = at.index(bytes.len());
        bytes[at] ^= 1 << bit;
        if cut {
            bytes.truncate(at);
        }
        prop_assert!(gateway.offer_crl(&bytes).is_err());
        prop_assert_eq!(gateway.crls()[0].number, 1);
    }
}

#[tokio::test]
async fn garbage_and_silence_end_a_handshake_with_an_error() {
    let Scene { city, gateway, .. } = &*SCENE;
    assert_eq!(gateway.own().id.trust_domain(), &city.domain);
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0x16, 3, 1, 0xff, 0xff],
        b"",
    ] {
        let (mut near, far) = loopback().await;
        let client = async {
            near.write_all(bytes).await.unwrap();
            near.shutdown().await.unwrap();
            let mut rest = Vec::new();
            // An alert or nothing; the connection ends either way.
            let _ = near.read_to_end(&mut rest).await;
        };
        let (served, ()) = tokio::join!(gateway.accept(far), client);
        assert_eq!(served.unwrap_err().fault(), None);
    }
}
