//! Certificate revocation lists: whose they are, how new, and what they revoke.

use std::{fmt, sync::Arc};

use banqiao_directory::TrustDomain;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::TrustAnchor;
use webpki::{CertRevocationList, OwnedCertRevocationList, RawPublicKeyEntity};
use x509_parser::{prelude::FromDer, revocation_list::CertificateRevocationList};

use crate::AuthorityId;

/// The largest CRL that is looked at, in bytes: about 400,000 revoked certificates.
pub const MAX_CRL_BYTES: usize = 16 * 1024 * 1024;

/// How far ahead of our clock a CRL may have been made, in seconds.
const MAX_CLOCK_SKEW_S: i64 = 300;

/// Why a CRL is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CrlError {
    /// Another CRL with the same number is held: the CA's state was restored or copied. The CA must go on with a
    /// higher number.
    #[error("a different CRL with the same number is already held")]
    Conflicting,
    /// Made more than five minutes in the future.
    #[error("the CRL is dated in the future")]
    InFuture,
    /// Not a complete, direct CRL of version 2 with a number and a next update.
    #[error("not a CRL that can be used: {0}")]
    Malformed(&'static str),
    /// More than [`MAX_CRL_BYTES`].
    #[error("the CRL is larger than 16 MiB")]
    TooLarge,
    /// No CA of any city's bundle has signed it.
    #[error("no CA of any city's bundle has signed the CRL")]
    Unsigned,
}

/// What became of an offered CRL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CrlOutcome {
    /// It is the one that is held.
    Known,
    /// A newer one has been seen: a CRL number never decreases.
    Older,
    /// It is newer, and in force from now on.
    Taken,
}

/// A CRL that is held.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CrlState {
    /// The city whose CA signed it.
    pub trust_domain: TrustDomain,
    /// The CA that signed it; a city has several while it changes its CA.
    pub issuer: AuthorityId,
    /// CRL number (RFC 5280 §5.2.3).
    pub number: u64,
    /// When it was made, in seconds since 1970-01-01 UTC.
    pub this_update_s: i64,
    /// When the next one is due, in seconds since 1970-01-01 UTC.
    pub next_update_s: i64,
    /// Number of certificates that it revokes.
    pub revoked: usize,
    /// The CRL itself, to serve and to keep.
    pub der: Arc<[u8]>,
}

/// A city whose CRL needs attention.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrlWarning {
    /// The city.
    pub trust_domain: TrustDomain,
    /// The CA.
    pub issuer: AuthorityId,
    /// What is wrong.
    pub standing: CrlStanding,
    /// When peers of this city are refused (or since when), in seconds since 1970-01-01 UTC; `None` if no CRL is held.
    pub refused_from_s: Option<i64>,
}

impl fmt::Display for CrlWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CRL of {}: {}", self.trust_domain, self.standing)
    }
}

/// How a CRL stands in time, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum CrlStanding {
    /// In the first half of its lifetime.
    Fresh,
    /// In the second half of its lifetime: a newer one should have come.
    Ageing,
    /// Past its next update, within the grace: still used.
    Overdue,
    /// Past its grace: the city's certificates are refused.
    Expired,
    /// None is held: the city's certificates are refused.
    Absent,
}

impl fmt::Display for CrlStanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fresh => "fresh",
            Self::Ageing => "past half of its lifetime, and no newer one has come",
            Self::Overdue => "past its next update and used only for the grace",
            Self::Expired => "past its grace, so the city's certificates are refused",
            Self::Absent => "none at hand, so the city's certificates are refused",
        })
    }
}

/// A CRL that has been parsed; nobody has checked its signature yet.
pub(crate) struct Offered<'a> {
    der: &'a [u8],
    parsed: CertificateRevocationList<'a>,
    list: CertRevocationList<'static>,
    number: u64,
    this_update_s: i64,
    next_update_s: i64,
}

impl<'a> Offered<'a> {
    /// Parses a CRL that could be used here.
    pub(crate) fn parse(der: &'a [u8], now_s: i64) -> Result<Self, CrlError> {
        if der.len() > MAX_CRL_BYTES {
            return Err(CrlError::TooLarge);
        }
        // webpki refuses version 1, delta and indirect CRLs, unknown critical extensions and a missing next update.
        let list: CertRevocationList<'static> = OwnedCertRevocationList::from_der(der)
            .map_err(|_| CrlError::Malformed("not a complete CRL of version 2"))?
            .into();
        let Ok(([], parsed)) = CertificateRevocationList::from_der(der) else {
            return Err(CrlError::Malformed("not a DER CRL"));
        };
        parsed
            .tbs_cert_list
            .extensions_map()
            .map_err(|_| CrlError::Malformed("an extension stands twice"))?;
        // One CRL must speak for all certificates of its CA: a missing part would read as "not revoked".
        if list.issuing_distribution_point().is_some() {
            return Err(CrlError::Malformed(
                "it speaks for a part of the certificates only",
            ));
        }
        let number = match parsed
            .crl_number()
            .map(|number| number.to_u64_digits())
            .as_deref()
        {
            None => return Err(CrlError::Malformed("it has no number")),
            Some([]) => 0,
            Some([number]) => *number,
            Some(_) => return Err(CrlError::Malformed("its number is 2^64 or more")),
        };
        let this_update_s = parsed.last_update().timestamp();
        let next_update_s = parsed
            .next_update()
            .ok_or(CrlError::Malformed("it has no next update"))?
            .timestamp();
        if next_update_s <= this_update_s {
            return Err(CrlError::Malformed("its next update is not after this one"));
        }
        if this_update_s > now_s.saturating_add(MAX_CLOCK_SKEW_S) {
            return Err(CrlError::InFuture);
        }
        Ok(Self {
            der,
            parsed,
            list,
            number,
            this_update_s,
            next_update_s,
        })
    }

    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    /// Whether the CA has signed this CRL.
    pub(crate) fn is_signed_by(
        &self,
        authority: &TrustAnchor<'_>,
        algorithms: &WebPkiSupportedAlgorithms,
    ) -> bool {
        if self.list.issuer() != authority.subject.as_ref() {
            return false;
        }
        let spki = webpki::spki_for_anchor(authority);
        let Ok(key) = RawPublicKeyEntity::try_from(&spki) else {
            return false;
        };
        // The parameters of RSA-PSS stand behind the same OID: every algorithm of the OID is tried.
        let stated = self.parsed.signature_algorithm.algorithm.as_bytes();
        algorithms
            .all
            .iter()
            .filter(|known| oid_of(&known.signature_alg_id()) == Some(stated))
            .any(|known| {
                key.verify_signature(
                    *known,
                    self.parsed.tbs_cert_list.as_ref(),
                    &self.parsed.signature_value.data,
                )
                .is_ok()
            })
    }

    /// The CRL to hold, once its signature has been checked.
    pub(crate) fn into_crl(self, trust_domain: TrustDomain, issuer: AuthorityId) -> Crl {
        let revoked = self.parsed.tbs_cert_list.revoked_certificates.len();
        Crl {
            state: CrlState {
                trust_domain,
                issuer,
                number: self.number,
                this_update_s: self.this_update_s,
                next_update_s: self.next_update_s,
                revoked,
                der: self.der.into(),
            },
            list: self.list,
        }
    }
}

/// The content of the OID with which an encoded AlgorithmIdentifier begins.
fn oid_of(algorithm: &[u8]) -> Option<&[u8]> {
    let [0x06, length, rest @ ..] = algorithm else {
        return None;
    };
    rest.get(..usize::from(*length))
}

/// A CRL in force.
#[derive(Debug)]
pub(crate) struct Crl {
    pub(crate) state: CrlState,
    list: CertRevocationList<'static>,
}

impl Crl {
    /// Whether the certificate with this serial is revoked.
    pub(crate) fn revokes(&self, serial: &[u8]) -> bool {
        // The owned list was read whole when it was parsed, so that an error cannot come; it would deny.
        self.list
            .find_serial(serial)
            .map_or(true, |entry| entry.is_some())
    }

    /// How the CRL stands at a time.
    pub(crate) fn standing(&self, now_s: i64, grace_s: i64) -> CrlStanding {
        let CrlState {
            this_update_s,
            next_update_s,
            ..
        } = self.state;
        // Half of the lifetime first, so that the sum cannot overflow.
        let half_s = this_update_s + (next_update_s - this_update_s) / 2;
        if now_s > next_update_s.saturating_add(grace_s) {
            CrlStanding::Expired
        } else if now_s > next_update_s {
            CrlStanding::Overdue
        } else if now_s > half_s {
            CrlStanding::Ageing
        } else {
            CrlStanding::Fresh
        }
    }
}
