//! The rustls side: one provider, two verifiers, and the configurations of servers and clients.
//!
//! TLS 1.3 only, X25519MLKEM768 first, ALPN `h2`, client certificate required, no tickets and no resumption:
//! rustls does not verify a resumed client again. The verifiers read the trust in force at each handshake, so a
//! configuration that somebody keeps never grows old.

use std::{fmt, net::Ipv4Addr, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use banqiao_directory::{Clock, SpiffeId, TrustDomain};
use rustls::{
    ClientConfig, DigitallySignedStruct, DistinguishedName, Error as TlsError, PeerIncompatible,
    ServerConfig, SignatureScheme,
    client::{
        ResolvesClientCert, Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms,
        aws_lc_rs::{default_provider, kx_group},
        verify_tls13_signature,
    },
    server::{
        ClientHello, ResolvesServerCert, StoresServerSessions,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
    time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::{
    CertificateFault, Peer,
    certificate::Loaded,
    trust::{Trust, Usage},
};

/// The one application protocol: HTTP/2 (RFC 9113 §3.2).
pub(crate) const ALPN_H2: &[u8] = b"h2";

/// Whom a client expects at the other end. DNS names play no part.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Expect {
    /// Any system of the city.
    City(TrustDomain),
    /// The city's gateway.
    Gateway(TrustDomain),
    /// This very system.
    Id(SpiffeId),
}

impl Expect {
    /// The city whose CA must have issued the certificate.
    pub const fn trust_domain(&self) -> &TrustDomain {
        match self {
            Self::City(domain) | Self::Gateway(domain) => domain,
            Self::Id(id) => id.trust_domain(),
        }
    }

    /// Whether this is the identity that is expected.
    pub fn admits(&self, id: &SpiffeId) -> bool {
        match self {
            Self::City(domain) => id.trust_domain() == domain,
            Self::Gateway(domain) => id.trust_domain() == domain && id.is_gateway(),
            Self::Id(expected) => id == expected,
        }
    }

    /// The name to hand to rustls, which sends it as SNI (RFC 6066 §3): the trust domain. No verifier looks at it.
    pub fn server_name(&self) -> ServerName<'static> {
        // A trust domain that is no DNS name (SPIFFE allows such) goes without SNI, as addresses do.
        ServerName::try_from(self.trust_domain().as_str().to_owned())
            .unwrap_or_else(|_| ServerName::IpAddress(Ipv4Addr::LOCALHOST.into()))
    }
}

/// What the verifiers and resolvers read at each handshake.
pub(crate) struct Live {
    pub(crate) clock: Clock,
    pub(crate) grace_s: i64,
    pub(crate) loaded: ArcSwap<Loaded>,
    pub(crate) provider: Arc<CryptoProvider>,
    pub(crate) trust: ArcSwap<Trust>,
}

impl Live {
    pub(crate) fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.provider.signature_verification_algorithms
    }

    /// Who the certificate's holder is, if it is good now.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        usage: Usage,
    ) -> Result<Peer, CertificateFault> {
        self.trust.load().verify(
            leaf,
            usage,
            self.algorithms(),
            self.clock.now_s(),
            self.grace_s,
        )
    }
}

impl fmt::Debug for Live {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Live")
            .field("own", &self.loaded.load().own.id)
            .finish_non_exhaustive()
    }
}

/// The aws-lc-rs provider with the hybrid post-quantum key exchange first. Always passed explicitly: the
/// process-wide default belongs to whoever sets it first.
pub(crate) fn provider() -> CryptoProvider {
    CryptoProvider {
        kx_groups: vec![
            kx_group::X25519MLKEM768,
            kx_group::X25519,
            kx_group::SECP256R1,
            kx_group::SECP384R1,
        ],
        ..default_provider()
    }
}

/// The configuration of every server of this process.
pub(crate) fn server_config(live: &Arc<Live>) -> Result<ServerConfig, TlsError> {
    let mut config = ServerConfig::builder_with_details(
        Arc::clone(&live.provider),
        Arc::new(Time(live.clock.clone())),
    )
    .with_protocol_versions(&[&TLS13])?
    .with_client_cert_verifier(Arc::new(PeerVerifier {
        live: Arc::clone(live),
        expect: None,
    }))
    .with_cert_resolver(Arc::new(OwnKey(Arc::clone(live))));
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.session_storage = Arc::new(NoSessions);
    config.send_tls13_tickets = 0;
    config.max_early_data_size = 0;
    Ok(config)
}

/// The configuration of a client that expects someone.
pub(crate) fn client_config(live: &Arc<Live>, expect: &Expect) -> Result<ClientConfig, TlsError> {
    let verifier = PeerVerifier {
        live: Arc::clone(live),
        expect: Some(expect.clone()),
    };
    let mut config = ClientConfig::builder_with_details(
        Arc::clone(&live.provider),
        Arc::new(Time(live.clock.clone())),
    )
    .with_protocol_versions(&[&TLS13])?
    .dangerous()
    .with_custom_certificate_verifier(Arc::new(verifier))
    .with_client_cert_resolver(Arc::new(OwnKey(Arc::clone(live))));
    config.alpn_protocols = vec![ALPN_H2.to_vec()];
    config.resumption = Resumption::disabled();
    config.enable_early_data = false;
    Ok(config)
}

/// Judges servers and clients alike.
#[derive(Debug)]
struct PeerVerifier {
    live: Arc<Live>,
    /// Servers only.
    expect: Option<Expect>,
}

impl PeerVerifier {
    fn verify(&self, leaf: &CertificateDer<'_>, usage: Usage) -> Result<(), TlsError> {
        let verdict = self
            .live
            .verify(leaf, usage)
            .and_then(|peer| match &self.expect {
                Some(expect) if !expect.admits(&peer.id) => Err(CertificateFault::Invalid(
                    "not the identity that was asked for",
                )),
                _ => Ok(()),
            });
        verdict.map_err(|fault| {
            // Debug, because strangers can cause as many of these as they like: listeners count and summarise.
            tracing::debug!(%fault, ?usage, expected = ?self.expect, "certificate refused");
            fault.into_tls()
        })
    }

    fn signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        verify_tls13_signature(message, leaf, signed, self.live.algorithms())
    }
}

/// TLS 1.2 is not compiled in.
const NO_TLS12: TlsError =
    TlsError::PeerIncompatible(PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig);

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        self.verify(end_entity, Usage::Server)
            .map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.live.algorithms().supported_schemes()
    }
}

impl ClientCertVerifier for PeerVerifier {
    /// No hints: a client has one certificate, and strangers need not learn which cities are known here.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, TlsError> {
        self.verify(end_entity, Usage::Client)
            .map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(NO_TLS12)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.live.algorithms().supported_schemes()
    }
}

/// The certificate in force, whatever a peer hints at.
#[derive(Debug)]
struct OwnKey(Arc<Live>);

impl OwnKey {
    fn certified(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.loaded.load().certified)
    }
}

impl ResolvesServerCert for OwnKey {
    fn resolve(&self, _client_hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }
}

impl ResolvesClientCert for OwnKey {
    fn resolve(
        &self,
        _root_hint_subjects: &[&[u8]],
        _sigschemes: &[SignatureScheme],
    ) -> Option<Arc<CertifiedKey>> {
        Some(self.certified())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Keeps no session, so that none can be resumed.
#[derive(Debug)]
struct NoSessions;

impl StoresServerSessions for NoSessions {
    fn put(&self, _key: Vec<u8>, _value: Vec<u8>) -> bool {
        false
    }

    fn get(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn take(&self, _key: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn can_cache(&self) -> bool {
        false
    }
}

/// Our clock for rustls.
#[derive(Debug)]
struct Time(Clock);

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        u64::try_from(self.0.now_s())
            .ok()
            .map(|now_s| UnixTime::since_unix_epoch(Duration::from_secs(now_s)))
    }
}
