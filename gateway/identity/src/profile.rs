//! What a certificate of this network must look like, checked on top of what webpki checks.
//!
//! webpki accepts a leaf without EKU, with `keyCertSign`, with any serial and any key that its algorithms can
//! use, and it does not look at a trust anchor at all beyond its name and key. The profile closes these gaps
//! (RFC 5280 §4, X509-SVID §2–4).

use std::sync::Arc;

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_directory::SpiffeId;
use x509_parser::{
    certificate::{TbsCertificate, X509Certificate},
    extensions::{GeneralName, ParsedExtension},
    oid_registry::{
        OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
        OID_SIG_ED25519,
    },
    prelude::FromDer,
    public_key::PublicKey,
    x509::{SubjectPublicKeyInfo, X509Version},
};

use crate::CertificateFault::{self, Invalid};

/// RSA keys below this number of bits are refused.
const MIN_RSA_BITS: usize = 2_048;
/// The longest serial in bytes (RFC 5280 §4.1.2.2).
const MAX_SERIAL_BYTES: usize = 20;

/// A leaf certificate that keeps to the profile. Says nothing yet about who signed it.
#[derive(Clone, Debug)]
pub(crate) struct Leaf {
    pub(crate) id: SpiffeId,
    /// SHA-256 of the DER of the public key (SubjectPublicKeyInfo).
    pub(crate) key_sha256: [u8; 32],
    /// Content bytes of the serial, as they stand in the certificate and in CRLs.
    pub(crate) serial: Arc<[u8]>,
    pub(crate) not_before_s: i64,
    pub(crate) not_after_s: i64,
    pub(crate) client_auth: bool,
    pub(crate) server_auth: bool,
}

/// A CA certificate that keeps to the profile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Authority {
    pub(crate) not_before_s: i64,
    pub(crate) not_after_s: i64,
}

/// Reads a leaf and checks it against the profile.
pub(crate) fn read_leaf(der: &[u8]) -> Result<Leaf, CertificateFault> {
    let certificate = parse(der)?;
    let tbs = &certificate.tbs_certificate;
    check_common(tbs)?;
    // The identity first: it is what a stranger gets wrong most often, and what the log line needs.
    let id = spiffe_id(tbs)?;
    if tbs
        .basic_constraints()
        .map_err(|_| EXTENSION)?
        .is_some_and(|found| found.value.ca)
    {
        return Err(Invalid("a leaf must not have the CA bit"));
    }
    let usage = tbs
        .key_usage()
        .map_err(|_| EXTENSION)?
        .ok_or(Invalid("a leaf must state its key usage"))?
        .value;
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(Invalid(
            "a leaf must not be allowed to sign certificates or CRLs",
        ));
    }
    if !usage.digital_signature() {
        return Err(Invalid("a leaf must be allowed to make digital signatures"));
    }
    let purposes = tbs
        .extended_key_usage()
        .map_err(|_| EXTENSION)?
        .ok_or(Invalid("a leaf must state its extended key usage"))?
        .value;
    Ok(Leaf {
        id,
        key_sha256: sha256(tbs.subject_pki.raw),
        serial: tbs.raw_serial().into(),
        not_before_s: tbs.validity.not_before.timestamp(),
        not_after_s: tbs.validity.not_after.timestamp(),
        client_auth: purposes.client_auth,
        server_auth: purposes.server_auth,
    })
}

/// Reads a CA certificate of a bundle and checks it against the profile.
pub(crate) fn read_authority(der: &[u8]) -> Result<Authority, CertificateFault> {
    let certificate = parse(der)?;
    let tbs = &certificate.tbs_certificate;
    check_common(tbs)?;
    if !tbs
        .basic_constraints()
        .map_err(|_| EXTENSION)?
        .is_some_and(|found| found.value.ca)
    {
        return Err(Invalid("a CA certificate must have the CA bit"));
    }
    let usage = tbs
        .key_usage()
        .map_err(|_| EXTENSION)?
        .ok_or(Invalid("a CA certificate must state its key usage"))?
        .value;
    if !usage.key_cert_sign() || !usage.crl_sign() {
        return Err(Invalid(
            "a CA certificate must be allowed to sign certificates and CRLs",
        ));
    }
    Ok(Authority {
        not_before_s: tbs.validity.not_before.timestamp(),
        not_after_s: tbs.validity.not_after.timestamp(),
    })
}

/// SHA-256.
pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut sum = [0; 32];
    // SHA-256 has 32 bytes.
    sum.copy_from_slice(digest(&SHA256, bytes).as_ref());
    sum
}

const EXTENSION: CertificateFault = Invalid("an extension is malformed or stands twice");

/// Parses exactly one certificate.
pub(crate) fn parse(der: &[u8]) -> Result<X509Certificate<'_>, CertificateFault> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok(_) => Err(Invalid("bytes follow the certificate")),
        Err(_) => Err(Invalid("not a DER certificate")),
    }
}

/// What holds for leaves and CAs alike.
fn check_common(tbs: &TbsCertificate<'_>) -> Result<(), CertificateFault> {
    if tbs.version != X509Version::V3 {
        return Err(Invalid("not an X.509 version 3 certificate"));
    }
    let serial = tbs.raw_serial();
    if serial.is_empty() || serial.len() > MAX_SERIAL_BYTES {
        return Err(Invalid("a serial has 1 to 20 bytes"));
    }
    if serial[0] & 0x80 != 0 || serial.iter().all(|byte| *byte == 0) {
        return Err(Invalid("a serial is greater than zero"));
    }
    // Each lookup below refuses a second extension of its kind; a malformed one would look like none.
    tbs.extensions_map().map_err(|_| EXTENSION)?;
    let malformed =
        |found: &ParsedExtension<'_>| matches!(found, ParsedExtension::ParseError { .. });
    if tbs
        .iter_extensions()
        .any(|extension| malformed(extension.parsed_extension()))
    {
        return Err(EXTENSION);
    }
    check_key(&tbs.subject_pki)
}

/// RSA of at least 2048 bits, ECDSA on P-256 or P-384, or Ed25519.
fn check_key(key: &SubjectPublicKeyInfo<'_>) -> Result<(), CertificateFault> {
    let algorithm = &key.algorithm.algorithm;
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        let Ok(PublicKey::RSA(rsa)) = key.parsed() else {
            return Err(Invalid("the public key is malformed"));
        };
        let leading = rsa.modulus.iter().take_while(|byte| **byte == 0).count();
        let modulus = &rsa.modulus[leading..];
        let bits = modulus.len() * 8
            - modulus
                .first()
                .map_or(0, |top| top.leading_zeros() as usize);
        return if bits < MIN_RSA_BITS {
            Err(Invalid("an RSA key has at least 2048 bits"))
        } else {
            Ok(())
        };
    }
    if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = key
            .algorithm
            .parameters
            .as_ref()
            .and_then(|found| found.as_oid().ok());
        return if curve.is_some_and(|curve| curve == OID_EC_P256 || curve == OID_NIST_EC_P384) {
            Ok(())
        } else {
            Err(Invalid("an elliptic-curve key is on P-256 or P-384"))
        };
    }
    if *algorithm == OID_SIG_ED25519 {
        return Ok(());
    }
    Err(Invalid("a key is RSA, ECDSA or Ed25519"))
}

/// The one URI SAN, which must be a SPIFFE ID (X509-SVID §2).
fn spiffe_id(tbs: &TbsCertificate<'_>) -> Result<SpiffeId, CertificateFault> {
    const NONE: CertificateFault = Invalid("no SPIFFE ID");
    let names = tbs
        .subject_alternative_name()
        .map_err(|_| EXTENSION)?
        .ok_or(NONE)?;
    let mut found = None;
    for name in &names.value.general_names {
        match name {
            GeneralName::URI(_) if found.is_some() => {
                return Err(Invalid("more than one URI name"));
            }
            GeneralName::URI(uri) => found = Some(*uri),
            // Text that is not ASCII may hide a second URI from us and not from others.
            GeneralName::Invalid(..) => {
                return Err(Invalid("a malformed subject alternative name"));
            }
            _ => {}
        }
    }
    found
        .ok_or(NONE)?
        .parse()
        .map_err(|_| Invalid("the URI name is not a SPIFFE ID"))
}
