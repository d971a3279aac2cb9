//! Certificates for the tests, issued independently of `banqiao pki`, sound and unsound ones.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result};
use banqiao_directory::Clock;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    ExtendedKeyUsagePurpose, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose, RevokedCertParams,
    SanType, SerialNumber,
};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use time::OffsetDateTime;

/// What a certificate is to say. [`Profile::system`] gives a sound one; tests break it.
#[derive(Clone, Debug)]
pub struct Profile {
    /// SPIFFE IDs.
    pub ids: Vec<String>,
    /// Addresses that a client may connect to.
    pub addresses: Vec<IpAddr>,
    /// First moment of validity, in seconds from now.
    pub from_s: i64,
    /// End of validity, in seconds from now.
    pub until_s: i64,
    /// Marks the leaf as a CA.
    pub authority: bool,
    /// Extended key usages: client, server.
    pub usages: Vec<ExtendedKeyUsagePurpose>,
}

impl Profile {
    /// A system of a city.
    pub fn system(id: &str, address: IpAddr) -> Self {
        Self {
            ids: vec![id.to_owned()],
            addresses: vec![address],
            from_s: -3_600,
            until_s: 86_400,
            authority: false,
            usages: vec![
                ExtendedKeyUsagePurpose::ClientAuth,
                ExtendedKeyUsagePurpose::ServerAuth,
            ],
        }
    }
}

/// A certificate with its key.
#[derive(Clone, Debug)]
pub struct Credential {
    /// PEM of the certificate.
    pub certificate_pem: String,
    /// PEM of the private key.
    pub key_pem: String,
    /// Serial number.
    pub serial: Vec<u8>,
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Credential {
    /// Writes `<name>.crt` and, readable by the owner alone, `<name>.key`.
    ///
    /// # Errors
    ///
    /// Fails when the folder cannot be written.
    pub fn write(&self, folder: &Path, name: &str) -> Result<()> {
        fs::write(folder.join(format!("{name}.crt")), &self.certificate_pem)?;
        let key = folder.join(format!("{name}.key"));
        let mut file = fs::File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(key)?;
        std::io::Write::write_all(&mut file, self.key_pem.as_bytes())?;
        Ok(())
    }

    /// The certificate (DER).
    pub fn der(&self) -> Vec<u8> {
        self.certificate.to_vec()
    }

    fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        (vec![self.certificate.clone()], key.into())
    }
}

/// A city's certificate authority.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    serial: AtomicU64,
    crl_number: AtomicU64,
    revoked: Mutex<Vec<Vec<u8>>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority")
            .field("serial", &self.serial)
            .finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes an authority with a fresh key.
    ///
    /// # Errors
    ///
    /// Fails when the machine has no randomness.
    pub fn new(name: &str) -> Result<Self> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(DnType::CommonName, format!("{name} test CA"));
        parameters.not_before = moment(-7_200)?;
        parameters.not_after = moment(10 * 86_400)?;
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate()?)?;
        // Serial numbers of different authorities differ, so that a mix-up shows.
        let serial = rand::random::<u64>() >> 1;
        Ok(Self {
            issuer,
            serial: serial.into(),
            crl_number: AtomicU64::new(1),
            revoked: Mutex::default(),
        })
    }

    /// Certificate of the authority.
    pub fn der(&self) -> CertificateDer<'static> {
        self.issuer.der().clone()
    }

    /// PEM of the certificate of the authority.
    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// Issues a certificate.
    ///
    /// # Errors
    ///
    /// Fails when the profile cannot be encoded.
    pub fn issue(&self, profile: &Profile) -> Result<Credential> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters
            .distinguished_name
            .push(DnType::CommonName, "banqiao test");
        parameters.not_before = moment(profile.from_s)?;
        parameters.not_after = moment(profile.until_s)?;
        let serial = self
            .serial
            .fetch_add(1, Ordering::Relaxed)
            .to_be_bytes()
            .to_vec();
        parameters.serial_number = Some(SerialNumber::from_slice(&serial));
        for id in &profile.ids {
            parameters
                .subject_alt_names
                .push(SanType::URI(id.as_str().try_into()?));
        }
        parameters
            .subject_alt_names
            .push(SanType::DnsName("localhost".try_into()?));
        parameters.subject_alt_names.extend(
            profile
                .addresses
                .iter()
                .map(|address| SanType::IpAddress(*address)),
        );
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        if profile.authority {
            parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            parameters.key_usages.push(KeyUsagePurpose::KeyCertSign);
        }
        parameters.extended_key_usages.clone_from(&profile.usages);
        parameters.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate()?;
        let certificate = parameters.signed_by(&key, &self.issuer)?;
        Ok(Credential {
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            serial,
            certificate: certificate.der().clone(),
            key: key.serialize_der(),
        })
    }

    /// Puts a certificate on the next CRL.
    pub fn revoke(&self, credential: &Credential) {
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        revoked.push(credential.serial.clone());
    }

    /// Puts the certificate of a PEM file on the next CRL.
    ///
    /// # Errors
    ///
    /// Fails when it holds no certificate.
    pub fn revoke_pem(&self, pem: &str) -> Result<()> {
        let certificate = CertificateDer::from_pem_slice(pem.as_bytes())?;
        let mut revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        revoked.push(
            serial_of(&certificate)
                .context("no serial number")?
                .to_vec(),
        );
        Ok(())
    }

    /// Signs a CRL with the next number (DER), valid until `until_s` seconds from now.
    ///
    /// # Errors
    ///
    /// Fails when `until_s` lies an hour or more back.
    pub fn crl(&self, until_s: i64) -> Result<Vec<u8>> {
        let number = self.crl_number.fetch_add(1, Ordering::Relaxed);
        let revoked = self.revoked.lock().unwrap_or_else(PoisonError::into_inner);
        let revoked_certs = revoked
            .iter()
            .map(|serial| {
                Ok(RevokedCertParams {
                    serial_number: SerialNumber::from_slice(serial),
                    revocation_time: moment(-1)?,
                    reason_code: None,
                    invalidity_date: None,
                })
            })
            .collect::<Result<_>>()?;
        let list = CertificateRevocationListParams {
            this_update: moment(-3_600)?,
            next_update: moment(until_s)?,
            crl_number: number.into(),
            issuing_distribution_point: None,
            revoked_certs,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        Ok(list.signed_by(&self.issuer)?.der().to_vec())
    }

    /// TLS of a client that trusts this authority alone. Without a credential it sends no certificate.
    ///
    /// # Errors
    ///
    /// Fails when the credential's key does not fit.
    pub fn client(&self, credential: Option<&Credential>) -> Result<Arc<ClientConfig>> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(self.roots()?);
        let mut config = match credential {
            Some(credential) => {
                let (chain, key) = credential.parts();
                builder.with_client_auth_cert(chain, key)?
            }
            None => builder.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    /// TLS of a service that takes any certificate of this authority.
    ///
    /// # Errors
    ///
    /// Fails when the credential's key does not fit.
    pub fn server(&self, credential: &Credential) -> Result<Arc<ServerConfig>> {
        Self::server_for([self], credential)
    }

    /// TLS of a server that takes any certificate of some authorities.
    ///
    /// # Errors
    ///
    /// Fails when the credential's key does not fit.
    pub fn server_for<'a>(
        authorities: impl IntoIterator<Item = &'a Self>,
        credential: &Credential,
    ) -> Result<Arc<ServerConfig>> {
        let mut roots = RootCertStore::empty();
        for authority in authorities {
            roots.add(authority.der())?;
        }
        let roots = Arc::new(roots);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build()?;
        let (chain, key) = credential.parts();
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Arc::new(config))
    }

    fn roots(&self) -> Result<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(self.der())?;
        Ok(roots)
    }
}

/// The serial number of a certificate: the INTEGER after the version (RFC 5280 §4.1).
fn serial_of(certificate: &[u8]) -> Option<&[u8]> {
    // Certificate and TBSCertificate are SEQUENCEs; the version is an element of five bytes, tagged [0].
    let inner = contents(contents(certificate)?)?;
    contents(inner.strip_prefix(&[0xa0, 3, 2, 1, 2])?)
}

/// The contents of the DER element that stands first.
fn contents(der: &[u8]) -> Option<&[u8]> {
    let (&first, rest) = der.get(1..)?.split_first()?;
    let (length, rest) = match first {
        short @ 0..=0x7f => (usize::from(short), rest),
        long => {
            let (length, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (
                length
                    .iter()
                    .fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
                rest,
            )
        }
    };
    rest.get(..length)
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::aws_lc_rs::default_provider())
}

fn moment(from_now_s: i64) -> Result<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp(Clock::system().now_s() + from_now_s).context("time")
}
