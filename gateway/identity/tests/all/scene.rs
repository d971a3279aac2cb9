//! Cities with real CAs, peers that present any certificate, and connections between them.

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use banqiao_directory::{Clock, ManualClock, TrustDomain};
use banqiao_identity::{
    CrlOutcome, Expect, HandshakeError, Identity, IdentityFiles, IdentitySettings, Peer,
    pki::{CertificateRequest, CityAuthority, DEFAULT_CRL_LIFETIME, NewAuthority},
};
use rcgen::{
    CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType, SerialNumber,
};
use rustls::{
    AlertDescription, ClientConfig, DigitallySignedStruct, Error as TlsError, ServerConfig,
    SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::aws_lc_rs::default_provider,
    sign::{CertifiedKey, SingleCertAndKey},
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use tempfile::TempDir;
use time::OffsetDateTime;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// 2027-01-15 08:00:00 UTC.
pub(crate) const NOW_S: i64 = 1_800_000_000;

/// A clock that stands at [`NOW_S`].
pub(crate) fn clock() -> ManualClock {
    ManualClock::new(NOW_S * 1_000_000)
}

pub(crate) fn advance(clock: &ManualClock, by: Duration) {
    clock.advance_us(i64::try_from(by.as_micros()).unwrap());
}

pub(crate) const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// A city with its CA.
pub(crate) struct City {
    pub(crate) authority: CityAuthority,
    pub(crate) clock: Clock,
    pub(crate) dir: TempDir,
    pub(crate) domain: TrustDomain,
}

impl City {
    pub(crate) fn new(domain: &str, clock: &ManualClock) -> Self {
        Self::with(NewAuthority::new(domain.parse().unwrap()), clock)
    }

    pub(crate) fn with(new: NewAuthority, clock: &ManualClock) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (authority, _) = CityAuthority::create(dir.path(), &new, clock.clock()).unwrap();
        Self {
            authority,
            clock: clock.clock(),
            dir,
            domain: new.trust_domain,
        }
    }

    pub(crate) fn crl(&self) -> Vec<u8> {
        std::fs::read(self.authority.crl_path()).unwrap()
    }

    pub(crate) fn write_crl(&self) -> Vec<u8> {
        self.authority.write_crl(DEFAULT_CRL_LIFETIME).unwrap().der
    }

    /// The identity of the city's gateway, which trusts nobody yet.
    pub(crate) fn gateway(&self) -> Identity {
        self.load(&CertificateRequest::gateway(&self.domain))
    }

    /// The identity of a system of the city, which trusts nobody yet.
    pub(crate) fn system(&self, path: &str) -> Identity {
        self.load(&CertificateRequest::system(&self.domain, path).unwrap())
    }

    fn load(&self, request: &CertificateRequest) -> Identity {
        let issued = self.authority.issue(request).unwrap();
        load(&issued.certificate, &issued.private_key, self.clock.clone()).unwrap()
    }

    /// A certificate with any content at all, signed by the city's CA.
    pub(crate) fn sign(
        &self,
        params: &CertificateParams,
        key: &impl PublicKeyData,
    ) -> CertificateDer<'static> {
        let pem = std::fs::read_to_string(self.dir.path().join("ca.key")).unwrap();
        let issuer = KeyPair::from_pem(&pem).unwrap();
        let issuer = Issuer::from_ca_cert_der(self.authority.certificate(), issuer).unwrap();
        params.signed_by(key, &issuer).unwrap().der().clone()
    }
}

pub(crate) fn load(
    certificate: &Path,
    private_key: &Path,
    clock: Clock,
) -> Result<Identity, banqiao_identity::IdentityError> {
    let files = IdentityFiles {
        certificate: certificate.to_owned(),
        private_key: private_key.to_owned(),
    };
    Identity::load(files, IdentitySettings::default(), clock)
}

/// The bundles of these cities.
pub(crate) fn bundles<'a>(
    cities: impl IntoIterator<Item = &'a City>,
) -> BTreeMap<TrustDomain, Vec<CertificateDer<'static>>> {
    cities
        .into_iter()
        .map(|city| {
            (
                city.domain.clone(),
                vec![city.authority.certificate().clone()],
            )
        })
        .collect()
}

/// Makes an identity trust these cities, with their present CRLs.
pub(crate) fn trust<'a>(identity: &Identity, cities: impl IntoIterator<Item = &'a City> + Clone) {
    assert!(identity.replace_bundles(bundles(cities.clone())).unwrap());
    for city in cities {
        assert_eq!(identity.offer_crl(&city.crl()).unwrap(), CrlOutcome::Taken);
    }
}

/// A sound leaf, to be spoilt.
pub(crate) fn leaf(id: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![uri(id)];
    params.not_before = OffsetDateTime::from_unix_timestamp(NOW_S - 60).unwrap();
    params.not_after = OffsetDateTime::from_unix_timestamp(NOW_S + 30 * 24 * 60 * 60).unwrap();
    params.serial_number = Some(SerialNumber::from(77));
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ClientAuth,
        ExtendedKeyUsagePurpose::ServerAuth,
    ];
    params
}

pub(crate) fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().unwrap())
}

/// Someone who presents any certificate, and takes whatever it is shown.
pub(crate) struct Stranger {
    chain: Vec<CertificateDer<'static>>,
    key: KeyPair,
    pub(crate) alpn: Vec<Vec<u8>>,
}

impl Stranger {
    /// Presents nothing.
    pub(crate) fn bare() -> Self {
        Self::presenting(Vec::new(), KeyPair::generate().unwrap())
    }

    /// Presents a chain with a key that need not belong to it: the chain is judged before the key is.
    pub(crate) fn presenting(chain: Vec<CertificateDer<'static>>, key: KeyPair) -> Self {
        Self {
            chain,
            key,
            alpn: vec![b"h2".to_vec()],
        }
    }

    fn certified(&self) -> Arc<SingleCertAndKey> {
        let key = PrivateKeyDer::Pkcs8(self.key.serialize_der().into());
        let key = default_provider()
            .key_provider
            .load_private_key(key)
            .unwrap();
        Arc::new(CertifiedKey::new(self.chain.clone(), key).into())
    }

    pub(crate) fn client(&self) -> ClientConfig {
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Gullible));
        let mut config = if self.chain.is_empty() {
            builder.with_no_client_auth()
        } else {
            builder.with_client_cert_resolver(self.certified())
        };
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }

    pub(crate) fn server(&self) -> ServerConfig {
        let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .unwrap()
            .with_no_client_auth()
            .with_cert_resolver(self.certified());
        config.alpn_protocols.clone_from(&self.alpn);
        config
    }
}

/// Takes any server.
#[derive(Debug)]
struct Gullible;

impl ServerCertVerifier for Gullible {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        default_provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// Both ends of a TCP connection on this machine.
pub(crate) async fn loopback() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (near, far) = tokio::join!(TcpStream::connect(address), listener.accept());
    (near.unwrap(), far.unwrap().0)
}

/// How a server of ours refuses a stranger, and the alert that the stranger sees. The stranger sends before and
/// after it is refused, as an HTTP/2 client does that has not read yet: a server that closes at once would reset
/// the connection under its hands.
pub(crate) async fn refused_client(
    server: &Identity,
    stranger: &Stranger,
) -> (HandshakeError, AlertDescription) {
    let (near, far) = loopback().await;
    let client = async {
        let connector = TlsConnector::from(Arc::new(stranger.client()));
        let mut stream = connector
            .connect("gateway.test".try_into().unwrap(), near)
            .await?;
        for _ in 0..2 {
            stream.write_all(&[b'x'; 16 * 1024]).await?;
            stream.flush().await?;
            stream.get_ref().0.readable().await?;
        }
        stream.read_u8().await
    };
    let (served, seen) = tokio::join!(server.accept(far), client);
    (served.unwrap_err(), alert(&seen.unwrap_err()))
}

/// How a client of ours refuses a server, and the alert that the server sees.
pub(crate) async fn refused_server(
    client: &Identity,
    expect: &Expect,
    stranger: &Stranger,
) -> (HandshakeError, AlertDescription) {
    let (near, far) = loopback().await;
    let acceptor = TlsAcceptor::from(Arc::new(stranger.server()));
    let (connected, seen) = tokio::join!(client.connect(expect, near), acceptor.accept(far));
    (connected.unwrap_err(), alert(&seen.unwrap_err()))
}

fn alert(error: &std::io::Error) -> AlertDescription {
    match error.get_ref().and_then(|error| error.downcast_ref()) {
        Some(TlsError::AlertReceived(alert)) => *alert,
        _ => panic!("no alert, but {error:?}"),
    }
}

/// A connection that both ends have accepted, and who each sees at the other.
pub(crate) struct Connection {
    pub(crate) client: tokio_rustls::client::TlsStream<TcpStream>,
    pub(crate) server: tokio_rustls::server::TlsStream<TcpStream>,
    pub(crate) seen_by_client: Peer,
    pub(crate) seen_by_server: Peer,
}

pub(crate) async fn connection(
    client: &Identity,
    expect: &Expect,
    server: &Identity,
) -> Connection {
    let (near, far) = loopback().await;
    let (client, server) = tokio::join!(client.connect(expect, near), server.accept(far));
    let (client, seen_by_client) = client.unwrap();
    let (server, seen_by_server) = server.unwrap();
    Connection {
        client,
        server,
        seen_by_client,
        seen_by_server,
    }
}

impl Connection {
    /// Sends a byte there and back.
    pub(crate) async fn echo(&mut self) {
        let client = async {
            self.client.write_u8(7).await?;
            self.client.flush().await?;
            self.client.read_u8().await
        };
        let server = async {
            let byte = self.server.read_u8().await?;
            self.server.write_u8(byte).await?;
            self.server.flush().await
        };
        let (echoed, served) = tokio::join!(client, server);
        served.unwrap();
        assert_eq!(echoed.unwrap(), 7);
    }
}
