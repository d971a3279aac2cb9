//! Keys and signatures of a CA.

use std::{path::Path, time::Duration};

use banqiao_directory::TrustDomain;
use base64::{Engine, engine::general_purpose::STANDARD};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateRevocationListParams,
    DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519,
    RevokedCertParams, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use time::OffsetDateTime;
use zeroize::Zeroizing;

use super::{CertificateRequest, IssuedCertificate, KeyKind, PkiError, RevocationReason};
use crate::{IdentityError, certificate::read_private_key};

/// How far back a validity begins, so that peers whose clocks are behind accept it at once.
const BACKDATE_S: i64 = 300;
/// Longest common name (RFC 5280, ub-common-name).
const MAX_COMMON_NAME: usize = 64;

/// A new key.
pub(super) fn generate(kind: KeyKind) -> Result<Zeroizing<KeyPair>, PkiError> {
    let algorithm = match kind {
        KeyKind::EcdsaP256 => &PKCS_ECDSA_P256_SHA256,
        KeyKind::EcdsaP384 => &PKCS_ECDSA_P384_SHA384,
        KeyKind::Ed25519 => &PKCS_ED25519,
    };
    KeyPair::generate_for(algorithm)
        .map(Zeroizing::new)
        .map_err(PkiError::Sign)
}

/// The key in a file that nobody else can read.
pub(super) fn read_key(path: &Path) -> Result<Zeroizing<KeyPair>, PkiError> {
    let bytes = read_private_key(path).map_err(PkiError::Key)?;
    let unusable = || {
        PkiError::Key(IdentityError::NoPrivateKey {
            path: path.to_owned(),
        })
    };
    let der = PrivateKeyDer::from_pem_slice(&bytes)
        .map(Zeroizing::new)
        .map_err(|_| unusable())?;
    KeyPair::try_from(&*der)
        .map(Zeroizing::new)
        .map_err(|_| unusable())
}

/// PKCS #8 in PEM, in memory that is wiped.
pub(super) fn key_pem(key: &KeyPair) -> Zeroizing<String> {
    const LINE: usize = 64;
    let base64 = Zeroizing::new(STANDARD.encode(key.serialized_der()));
    // Enough room from the start: growing would leave copies behind.
    let mut pem = Zeroizing::new(String::with_capacity(
        base64.len() + base64.len() / LINE + 64,
    ));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at(rest.len().min(LINE));
        pem.push_str(line);
        pem.push('\n');
        rest = after;
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

/// A random serial of 16 bytes: positive, and without a leading zero that encoders would drop.
pub(super) fn serial() -> Result<[u8; 16], PkiError> {
    let mut serial = [0; 16];
    aws_lc_rs::rand::fill(&mut serial)
        .map_err(|_| PkiError::Sign(rcgen::Error::RingUnspecified))?;
    serial[0] = serial[0] & 0x7f | 0x40;
    Ok(serial)
}

/// The CA's own certificate.
pub(super) fn self_sign(
    key: &KeyPair,
    trust_domain: &TrustDomain,
    organization: &str,
    now_s: i64,
    lifetime: Duration,
) -> Result<Certificate, PkiError> {
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    params.distinguished_name = subject(organization, &format!("{trust_domain} CA"));
    params.not_before = date(now_s - BACKDATE_S)?;
    params.not_after = date(end_of(now_s, lifetime))?;
    // It issues leaves only.
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    // The SPIFFE ID of the trust domain itself (X509-SVID §3.2).
    params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}"))?];
    params.self_signed(key).map_err(PkiError::Sign)
}

/// A leaf.
pub(super) fn sign(
    request: &CertificateRequest,
    serial: &[u8; 16],
    key: &KeyPair,
    authority: &CertificateDer<'_>,
    authority_key: &KeyPair,
    now_s: i64,
) -> Result<Certificate, PkiError> {
    let id = &request.id;
    let mut params = CertificateParams::default();
    params.serial_number = Some(SerialNumber::from_slice(serial));
    // For people who read certificates; nothing else looks at it.
    params.distinguished_name = subject(id.trust_domain().as_str(), &id.path()[1..]);
    params.not_before = date(now_s - BACKDATE_S)?;
    params.not_after = date(end_of(now_s, request.lifetime))?;
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    params.subject_alt_names.push(uri(id.as_str())?);
    for name in &request.dns {
        let name = name.as_ref().try_into().map_err(PkiError::Sign)?;
        params.subject_alt_names.push(SanType::DnsName(name));
    }
    params
        .subject_alt_names
        .extend(request.addresses.iter().copied().map(SanType::IpAddress));
    let issuer = Issuer::from_ca_cert_der(authority, authority_key).map_err(PkiError::Sign)?;
    params.signed_by(key, &issuer).map_err(PkiError::Sign)
}

/// A CRL with these certificates, in DER.
pub(super) fn sign_crl<'a>(
    revoked: impl Iterator<Item = &'a IssuedCertificate>,
    number: u64,
    authority: &CertificateDer<'_>,
    authority_key: &KeyPair,
    now_s: i64,
    lifetime: Duration,
) -> Result<Vec<u8>, PkiError> {
    let mut revoked_certs = Vec::new();
    for certificate in revoked {
        let Some(revocation) = certificate.revoked else {
            continue;
        };
        // `ca.json` is our own file, but people may have edited it.
        let serial = hex::decode(&certificate.serial)
            .map_err(|_| PkiError::Unknown(certificate.serial.clone()))?;
        revoked_certs.push(RevokedCertParams {
            serial_number: SerialNumber::from_slice(&serial),
            revocation_time: date(revocation.at_s)?,
            reason_code: reason_code(revocation.reason),
            invalidity_date: None,
        });
    }
    let params = CertificateRevocationListParams {
        this_update: date(now_s)?,
        next_update: date(end_of(now_s, lifetime))?,
        crl_number: SerialNumber::from(number),
        issuing_distribution_point: None,
        revoked_certs,
        key_identifier_method: KeyIdMethod::Sha256,
    };
    let issuer = Issuer::from_ca_cert_der(authority, authority_key).map_err(PkiError::Sign)?;
    Ok(params
        .signed_by(&issuer)
        .map_err(PkiError::Sign)?
        .der()
        .to_vec())
}

/// Last second of a validity that begins now.
pub(super) fn end_of(now_s: i64, lifetime: Duration) -> i64 {
    now_s.saturating_add(i64::try_from(lifetime.as_secs()).unwrap_or(i64::MAX))
}

fn subject(organization: &str, common: &str) -> DistinguishedName {
    let bounded = |text: &str| text.chars().take(MAX_COMMON_NAME).collect::<String>();
    let mut subject = DistinguishedName::new();
    subject.push(DnType::OrganizationName, bounded(organization));
    subject.push(DnType::CommonName, bounded(common));
    subject
}

fn uri(text: &str) -> Result<SanType, PkiError> {
    text.try_into().map(SanType::URI).map_err(PkiError::Sign)
}

fn date(seconds: i64) -> Result<OffsetDateTime, PkiError> {
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| PkiError::OutlivesAuthority)
}

/// RFC 5280 §5.3.1: an unspecified reason is left out.
const fn reason_code(reason: RevocationReason) -> Option<rcgen::RevocationReason> {
    use rcgen::RevocationReason as Code;
    match reason {
        RevocationReason::AffiliationChanged => Some(Code::AffiliationChanged),
        RevocationReason::CessationOfOperation => Some(Code::CessationOfOperation),
        RevocationReason::KeyCompromise => Some(Code::KeyCompromise),
        RevocationReason::PrivilegeWithdrawn => Some(Code::PrivilegeWithdrawn),
        RevocationReason::Superseded => Some(Code::Superseded),
        RevocationReason::Unspecified => None,
    }
}
