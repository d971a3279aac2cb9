//! What a good handshake agrees on, and whom either end refuses.

use std::sync::Arc;

use banqiao_identity::{CertificateFault, Expect, HandshakeError, refusal_by_peer};
use rcgen::{ExtendedKeyUsagePurpose, KeyPair};
use rustls::{AlertDescription, HandshakeKind, NamedGroup, ProtocolVersion, client::Resumption};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;

use crate::scene::{
    City, Stranger, clock, connection, leaf, loopback, refused_client, refused_server, trust,
};

#[tokio::test]
async fn two_gateways_agree_on_tls13_the_hybrid_key_exchange_and_h2() {
    let clock = clock();
    let (qingdao, yantai) = (
        City::new("qingdao.jiaodong", &clock),
        City::new("yantai.jiaodong", &clock),
    );
    let (client, server) = (yantai.gateway(), qingdao.gateway());
    trust(&client, [&qingdao, &yantai]);
    trust(&server, [&qingdao, &yantai]);

    let expect = Expect::Gateway(qingdao.domain.clone());
    let mut open = connection(&client, &expect, &server).await;
    open.echo().await;
    assert_eq!(open.seen_by_client.id, qingdao.domain.gateway());
    assert_eq!(open.seen_by_client.key_sha256, server.own().key_sha256);
    assert_eq!(open.seen_by_client.serial, server.own().serial);
    assert_eq!(open.seen_by_server.id, yantai.domain.gateway());

    let (_, tls) = open.server.get_ref();
    assert_eq!(tls.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = tls.negotiated_key_exchange_group().unwrap();
    assert_eq!(group.name(), NamedGroup::X25519MLKEM768);
    assert_eq!(tls.alpn_protocol(), Some(&b"h2"[..]));
    let chain = tls.peer_certificates().unwrap();
    assert_eq!(server.peer(chain).unwrap(), open.seen_by_server);
    assert_eq!(client.own_fault(), None);
}

#[tokio::test]
async fn client_accepts_only_whom_it_expects_whatever_the_host_names() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let (client, server) = (qingdao.gateway(), qingdao.system("hrss/card"));
    trust(&client, [&qingdao]);
    trust(&server, [&qingdao]);
    let card = server.own().id.clone();

    for expect in [
        Expect::Id(card.clone()),
        Expect::City(qingdao.domain.clone()),
    ] {
        let open = connection(&client, &expect, &server).await;
        assert_eq!(open.seen_by_client.id, card);
    }
    for expect in [
        Expect::Gateway(qingdao.domain.clone()),
        Expect::Id("spiffe://qingdao.jiaodong/hrss/pension".parse().unwrap()),
        Expect::City("yantai.jiaodong".parse().unwrap()),
        Expect::Gateway("yantai.jiaodong".parse().unwrap()),
    ] {
        let (near, far) = loopback().await;
        let (connected, served) = tokio::join!(client.connect(&expect, near), server.accept(far));
        let fault = connected.unwrap_err().fault();
        assert_eq!(
            fault.map(CertificateFault::reason),
            Some(CertificateFault::Invalid("").reason())
        );
        let HandshakeError::Tls(seen) = served.unwrap_err() else {
            panic!()
        };
        assert!(matches!(
            refusal_by_peer(&seen),
            Some(CertificateFault::Invalid(_))
        ));
    }
}

#[tokio::test]
async fn wrong_servers_are_refused_with_the_alert_of_the_table() {
    let clock = clock();
    let (qingdao, yantai) = (
        City::new("qingdao.jiaodong", &clock),
        City::new("yantai.jiaodong", &clock),
    );
    let client = yantai.gateway();
    trust(&client, [&qingdao, &yantai]);
    let expect = Expect::Gateway(qingdao.domain.clone());
    let present = |city: &City, id: &str, usages: &[ExtendedKeyUsagePurpose]| {
        let key = KeyPair::generate().unwrap();
        let mut params = leaf(id);
        params.extended_key_usages = usages.to_vec();
        Stranger::presenting(vec![city.sign(&params, &key)], key)
    };
    use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};

    // Yantai's CA vouches for Qingdao's gateway.
    let forged = present(&yantai, "spiffe://qingdao.jiaodong/gateway", &[ServerAuth]);
    let (error, alert) = refused_server(&client, &expect, &forged).await;
    assert_eq!(error.fault(), Some(CertificateFault::Untrusted));
    assert_eq!(alert, AlertDescription::UnknownCA);

    // A sound certificate of Yantai's own gateway.
    let other = present(&yantai, "spiffe://yantai.jiaodong/gateway", &[ServerAuth]);
    let (_, alert) = refused_server(&client, &expect, &other).await;
    assert_eq!(alert, AlertDescription::BadCertificate);

    // For clients only.
    let client_only = present(&qingdao, "spiffe://qingdao.jiaodong/gateway", &[ClientAuth]);
    let (_, alert) = refused_server(&client, &expect, &client_only).await;
    assert_eq!(alert, AlertDescription::BadCertificate);
}

#[tokio::test]
async fn client_without_certificate_sees_certificate_required() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let server = qingdao.gateway();
    trust(&server, [&qingdao]);
    let (error, alert) = refused_client(&server, &Stranger::bare()).await;
    assert_eq!(error.fault(), Some(CertificateFault::Missing));
    assert_eq!(alert, AlertDescription::CertificateRequired);
}

#[tokio::test]
async fn key_of_another_does_not_pass() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let server = qingdao.gateway();
    trust(&server, [&qingdao]);
    let stolen = qingdao.sign(
        &leaf("spiffe://qingdao.jiaodong/hrss/card"),
        &KeyPair::generate().unwrap(),
    );
    let thief = Stranger::presenting(vec![stolen], KeyPair::generate().unwrap());
    let (error, alert) = refused_client(&server, &thief).await;
    // Not a fault of the certificate: the handshake itself is forged (RFC 8446 §4.4.3).
    assert_eq!(error.fault(), None);
    assert_eq!(alert, AlertDescription::DecryptError);
}

#[tokio::test]
async fn peers_that_do_not_speak_http2_are_refused() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let server = qingdao.gateway();
    trust(&server, [&qingdao]);
    let key = KeyPair::generate().unwrap();
    let sound = qingdao.sign(&leaf("spiffe://qingdao.jiaodong/hrss/card"), &key);
    let mut stranger = Stranger::presenting(vec![sound], key);

    stranger.alpn = vec![b"http/1.1".to_vec()];
    let (_, alert) = refused_client(&server, &stranger).await;
    assert_eq!(alert, AlertDescription::NoApplicationProtocol);

    // rustls would let a client pass that names no protocol.
    stranger.alpn.clear();
    let (near, far) = loopback().await;
    let connector = TlsConnector::from(Arc::new(stranger.client()));
    let name = ServerName::try_from("gateway.test").unwrap();
    let (served, _) = tokio::join!(server.accept(far), connector.connect(name, near));
    assert!(matches!(served.unwrap_err(), HandshakeError::Alpn));
}

#[tokio::test]
async fn no_ticket_is_ever_sent() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let server = qingdao.gateway();
    trust(&server, [&qingdao]);
    let key = KeyPair::generate().unwrap();
    let sound = qingdao.sign(&leaf("spiffe://qingdao.jiaodong/hrss/card"), &key);
    let mut config = Stranger::presenting(vec![sound], key).client();
    config.resumption = Resumption::in_memory_sessions(8);
    let connector = TlsConnector::from(Arc::new(config));

    for _ in 0..2 {
        let (near, far) = loopback().await;
        let client = async {
            let name = ServerName::try_from("gateway.test").unwrap();
            let mut stream = connector.connect(name, near).await.unwrap();
            // Whatever the server sends after its handshake comes before this byte.
            stream.read_u8().await.unwrap();
            stream
        };
        let server = async {
            let (mut stream, _) = server.accept(far).await.unwrap();
            stream.write_u8(1).await.unwrap();
            stream.flush().await.unwrap();
            stream
        };
        let (stream, _open) = tokio::join!(client, server);
        let (_, tls) = stream.get_ref();
        assert_eq!(tls.tls13_tickets_received(), 0);
        assert_eq!(tls.handshake_kind(), Some(HandshakeKind::Full));
    }
}

#[tokio::test]
async fn tls12_is_not_spoken() {
    let clock = clock();
    let qingdao = City::new("qingdao.jiaodong", &clock);
    let server = qingdao.gateway();
    // A ClientHello of TLS 1.2 (RFC 5246 §7.4.1.2): ECDHE-ECDSA-AES128-GCM, P-256, ECDSA with SHA-256.
    let mut hello = vec![0x03, 0x03];
    hello.extend([0x5a; 32]);
    hello.extend([0x00, 0x00, 0x02, 0xc0, 0x2b, 0x01, 0x00, 0x00, 0x10]);
    hello.extend([0x00, 0x0a, 0x00, 0x04, 0x00, 0x02, 0x00, 0x17]);
    hello.extend([0x00, 0x0d, 0x00, 0x04, 0x00, 0x02, 0x04, 0x03]);
    let length = u8::try_from(hello.len()).unwrap();
    let mut record = vec![0x16, 0x03, 0x01, 0x00, length + 4, 0x01, 0x00, 0x00, length];
    record.extend(hello);

    let (mut near, far) = loopback().await;
    let client = async {
        near.write_all(&record).await.unwrap();
        let mut answer = [0; 7];
        near.read_exact(&mut answer).await.unwrap();
        drop(near);
        answer
    };
    let (served, answer) = tokio::join!(server.accept(far), client);
    assert!(matches!(served.unwrap_err(), HandshakeError::Tls(_)));
    // A fatal alert: protocol_version.
    assert_eq!(answer, [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 70]);
}
