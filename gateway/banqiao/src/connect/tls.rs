//! The TLS side of the command line's connections.

use std::{
    fs::File,
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use banqiao_directory::SpiffeId;
use banqiao_identity::pki::CertificateSummary;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore, SignatureScheme,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_cert_signed_by_trust_anchor,
    },
    crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
    version::TLS13,
};
use zeroize::Zeroizing;

use crate::exit::Stop;

/// Largest PEM file that is read, in bytes.
const MAX_PEM_BYTES: u64 = 256 << 10;

/// The files of a client: its certificate, its key, and the CAs of its city.
#[derive(Clone, Debug)]
pub struct TlsFiles {
    /// PEM certificate, the leaf first.
    pub certificate: PathBuf,
    /// PEM private key, mode 0600 or stricter.
    pub private_key: PathBuf,
    /// PEM certificates of the city's CA.
    pub ca: PathBuf,
}

/// A client configuration, and the name to connect with.
pub(super) fn client(files: &TlsFiles) -> Result<(Arc<ClientConfig>, ServerName<'static>), Stop> {
    let chain = certificates(&files.certificate)?;
    let wrong = |problem: &str| Stop::usage(format!("{} {problem}", files.certificate.display()));
    let leaf = chain.first().ok_or_else(|| wrong("holds no certificate"))?;
    let own = spiffe_id(leaf)
        .ok_or_else(|| wrong("is not the certificate of a system of this network"))?;
    let mut roots = RootCertStore::empty();
    for ca in certificates(&files.ca)? {
        roots.add(ca).map_err(|error| {
            Stop::usage(format!("{} holds no CA certificate", files.ca.display())).caused_by(error)
        })?;
    }
    // Always explicit: the process-wide default belongs to whoever sets it first.
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = GatewayVerifier {
        expected: own.trust_domain().gateway(),
        roots,
        provider: Arc::clone(&provider),
    };
    let refused = |error: TlsError| {
        Stop::usage(format!(
            "{} and {} do not belong together",
            files.certificate.display(),
            files.private_key.display()
        ))
        .caused_by(error)
    };
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_auth_cert(chain, private_key(&files.private_key)?)
        .map_err(refused)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    // What is sent as SNI; the verifier looks at the SPIFFE ID alone.
    let name = ServerName::try_from(own.trust_domain().as_str().to_owned())
        .map_err(|error| wrong("names a trust domain that is no host name").caused_by(error))?;
    Ok((Arc::new(config), name))
}

/// A client of an ordinary web server, whose certificate one of these CAs has issued for its name; with a certificate of
/// its own where the server asks for one.
pub(crate) fn web(ca: &Path, own: Option<(&Path, &Path)>) -> Result<ClientConfig, Stop> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(ca)? {
        roots.add(certificate).map_err(|error| {
            Stop::usage(format!("{} holds no CA certificate", ca.display())).caused_by(error)
        })?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(|error| Stop::usage("TLS 1.3 cannot be spoken").caused_by(error))?
        .with_root_certificates(roots);
    let Some((certificate, key)) = own else {
        return Ok(builder.with_no_client_auth());
    };
    builder
        .with_client_auth_cert(certificates(certificate)?, private_key(key)?)
        .map_err(|error| {
            Stop::usage(format!(
                "{} and {} do not belong together",
                certificate.display(),
                key.display()
            ))
            .caused_by(error)
        })
}

/// Accepts the gateway of one city: a certificate that the city's CA issued for `spiffe://<city>/gateway`.
///
/// Whether it was revoked is not checked: a client holds no CRL. It is short-lived, and its city's own.
#[derive(Debug)]
struct GatewayVerifier {
    expected: SpiffeId,
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for GatewayVerifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(leaf)?,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        match spiffe_id(leaf) {
            Some(id) if id == self.expected => Ok(ServerCertVerified::assertion()),
            Some(id) => Err(TlsError::General(format!("{id} is not {}", self.expected))),
            None => Err(TlsError::General(format!(
                "not the certificate of {}",
                self.expected
            ))),
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(TlsError::General("TLS 1.2 is not spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

/// The SPIFFE ID of a leaf that keeps to the network's profile.
fn spiffe_id(certificate: &CertificateDer<'_>) -> Option<SpiffeId> {
    CertificateSummary::read(certificate).ok()?.id
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Stop> {
    let unreadable = || Stop::usage(format!("{} cannot be read", path.display()));
    let bytes = read(path).map_err(|error| unreadable().caused_by(error))?;
    CertificateDer::pem_slice_iter(&bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| Stop::usage(format!("{} is not PEM", path.display())).caused_by(error))
}

/// Reads a private key that nobody but its owner may read. rustls wipes what it parsed.
fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, Stop> {
    let unreadable = || Stop::usage(format!("{} cannot be read", path.display()));
    let mode = File::open(path)
        .and_then(|file| file.metadata())
        .map_err(|error| unreadable().caused_by(error))?
        .permissions()
        .mode()
        & 0o7777;
    if mode & !0o600 != 0 {
        return Err(Stop::usage(format!(
            "{0} has mode {mode:04o}, so others may use the key: chmod 600 {0}",
            path.display()
        )));
    }
    let bytes = Zeroizing::new(read(path).map_err(|error| unreadable().caused_by(error))?);
    // Of a key that cannot be used nothing is repeated.
    PrivateKeyDer::from_pem_slice(&bytes)
        .map_err(|_| Stop::usage(format!("{} holds no private key", path.display())))
}

/// Reads a small file at once, so that no grown buffer leaves copies of it behind.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length > MAX_PEM_BYTES {
        let problem = format!("it has {length} bytes, more than {MAX_PEM_BYTES}");
        return Err(std::io::Error::new(
            std::io::ErrorKind::FileTooLarge,
            problem,
        ));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(std::io::Error::other)?];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
