//! `ca.json`: what a CA has issued and revoked.

use std::{fmt, io, path::Path, str::FromStr};

use banqiao_directory::{SpiffeId, TrustDomain};
use serde::{Deserialize, Serialize};

use super::{PkiError, files};

/// Version of the file that this program writes.
const VERSION: u32 = 1;

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum CertificateKind {
    /// A person or console at the admin listener.
    Admin,
    /// The city's gateway.
    Gateway,
    /// A system that calls or serves.
    System,
}

impl fmt::Display for CertificateKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Admin => "admin",
            Self::Gateway => "gateway",
            Self::System => "system",
        })
    }
}

/// Why a certificate is revoked (RFC 5280 §5.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum RevocationReason {
    /// The system has moved to another agency or city.
    AffiliationChanged,
    /// The system is shut down.
    CessationOfOperation,
    /// The key may be known to others.
    KeyCompromise,
    /// The right to take part was withdrawn.
    PrivilegeWithdrawn,
    /// Another certificate replaces it.
    Superseded,
    /// Not stated.
    #[default]
    Unspecified,
}

impl fmt::Display for RevocationReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::AffiliationChanged => "affiliation-changed",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::KeyCompromise => "key-compromise",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
            Self::Superseded => "superseded",
            Self::Unspecified => "unspecified",
        })
    }
}

/// That a certificate was revoked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Revocation {
    /// When, in seconds since 1970-01-01 UTC.
    pub at_s: i64,
    /// Why.
    pub reason: RevocationReason,
}

/// A certificate that was issued.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IssuedCertificate {
    /// Serial in hexadecimal.
    pub serial: String,
    /// The identity.
    #[serde(with = "text")]
    pub id: SpiffeId,
    /// What it is for.
    pub kind: CertificateKind,
    /// File name without extension.
    pub name: String,
    /// Host names and IP addresses.
    pub names: Vec<String>,
    /// When it was issued, in seconds since 1970-01-01 UTC.
    pub issued_at_s: i64,
    /// Last second of its validity, since 1970-01-01 UTC.
    pub not_after_s: i64,
    /// Whether it was revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<Revocation>,
}

impl IssuedCertificate {
    /// Whether it is neither revoked nor expired.
    pub const fn is_live_at(&self, now_s: i64) -> bool {
        self.revoked.is_none() && now_s <= self.not_after_s
    }
}

/// The whole of `ca.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ledger {
    version: u32,
    #[serde(with = "text")]
    pub(super) trust_domain: TrustDomain,
    /// Number of the newest CRL. Written before that CRL is, so that no number is used twice.
    pub(super) crl_number: u64,
    pub(super) certificates: Vec<IssuedCertificate>,
}

impl Ledger {
    pub(super) const fn new(trust_domain: TrustDomain) -> Self {
        Self {
            version: VERSION,
            trust_domain,
            crl_number: 0,
            certificates: Vec::new(),
        }
    }

    /// Reads the file; `None` if there is none.
    pub(super) fn read(dir: &Path) -> Result<Option<Self>, PkiError> {
        let path = dir.join("ca.json");
        let bytes = match files::read(&path) {
            Err(PkiError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(None);
            }
            read => read?,
        };
        let ledger: Self = serde_json::from_slice(&bytes).map_err(|source| PkiError::Damaged {
            path: path.clone(),
            source,
        })?;
        if ledger.version != VERSION {
            return Err(PkiError::Version {
                path,
                version: ledger.version,
            });
        }
        Ok(Some(ledger))
    }

    /// Writes the file. Call only under the lock, with what was read under it.
    pub(super) fn write(&self, dir: &Path) -> Result<(), PkiError> {
        let path = dir.join("ca.json");
        let mut bytes = serde_json::to_vec_pretty(self).map_err(|source| PkiError::Damaged {
            path: path.clone(),
            source,
        })?;
        bytes.push(b'\n');
        files::replace(&path, &bytes, files::PUBLIC)
    }
}

/// Names as text.
mod text {
    use std::fmt::Display;

    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    use super::FromStr;

    pub(super) fn serialize<S: Serializer>(name: &impl Display, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(name)
    }

    pub(super) fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
