//! What a certificate or CRL says, for people.

use std::net::IpAddr;

use banqiao_directory::SpiffeId;
use rustls_pki_types::CertificateDer;
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer,
    revocation_list::CertificateRevocationList,
};

use crate::{
    CertificateFault,
    profile::{self, parse, read_authority, read_leaf},
};

/// What a certificate says. Text in it comes from outside: escape it before it is shown.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CertificateSummary {
    /// The identity, if there is exactly one.
    pub id: Option<SpiffeId>,
    /// Distinguished name of the holder.
    pub subject: String,
    /// Distinguished name of the CA.
    pub issuer: String,
    /// Serial in hexadecimal.
    pub serial: String,
    /// First second of the validity, since 1970-01-01 UTC.
    pub not_before_s: i64,
    /// Last second of the validity, since 1970-01-01 UTC.
    pub not_after_s: i64,
    /// Whether it has the CA bit.
    pub authority: bool,
    /// Host names.
    pub dns: Vec<String>,
    /// SHA-256 of the DER.
    pub sha256: [u8; 32],
    /// What in it breaks the profile of this network, apart from validity and signature.
    pub fault: Option<CertificateFault>,
}

impl CertificateSummary {
    /// Reads a certificate.
    ///
    /// # Errors
    ///
    /// When it is none.
    pub fn read(der: &CertificateDer<'_>) -> Result<Self, CertificateFault> {
        let certificate = parse(der)?;
        let authority = certificate.is_ca();
        let (id, fault) = if authority {
            (None, read_authority(der).err())
        } else {
            match read_leaf(der) {
                Ok(leaf) => (Some(leaf.id), None),
                Err(fault) => (None, Some(fault)),
            }
        };
        Ok(Self {
            id,
            subject: certificate.subject().to_string(),
            issuer: certificate.issuer().to_string(),
            serial: hex::encode(certificate.raw_serial()),
            not_before_s: certificate.validity().not_before.timestamp(),
            not_after_s: certificate.validity().not_after.timestamp(),
            authority,
            dns: host_names(&certificate),
            sha256: profile::sha256(der),
            fault,
        })
    }
}

/// What a CRL says; its signature has not been checked.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CrlSummary {
    /// Distinguished name of the CA.
    pub issuer: String,
    /// CRL number in decimal, if it has one.
    pub number: Option<String>,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub this_update_s: i64,
    /// When the next one is due, in seconds since 1970-01-01 UTC.
    pub next_update_s: Option<i64>,
    /// Serials in hexadecimal with the time of revocation in seconds since 1970-01-01 UTC.
    pub revoked: Vec<(String, i64)>,
}

impl CrlSummary {
    /// Reads a CRL in DER; `None` if it is none.
    pub fn read(der: &[u8]) -> Option<Self> {
        let Ok(([], crl)) = CertificateRevocationList::from_der(der) else {
            return None;
        };
        Some(Self {
            issuer: crl.issuer().to_string(),
            number: crl.crl_number().map(ToString::to_string),
            this_update_s: crl.last_update().timestamp(),
            next_update_s: crl.next_update().map(|next| next.timestamp()),
            revoked: crl
                .iter_revoked_certificates()
                .map(|entry| {
                    (
                        hex::encode(entry.raw_serial()),
                        entry.revocation_date.timestamp(),
                    )
                })
                .collect(),
        })
    }
}

fn host_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    names
        .value
        .general_names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(dns) => Some((*dns).to_owned()),
            GeneralName::IPAddress(octets) => {
                let v4 = <[u8; 4]>::try_from(*octets).map(IpAddr::from);
                v4.or_else(|_| <[u8; 16]>::try_from(*octets).map(IpAddr::from))
                    .ok()
                    .map(|address| address.to_string())
            }
            _ => None,
        })
        .collect()
}
