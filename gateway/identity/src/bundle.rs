//! The CA bundles of the cities, as the directory lists them.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
};

use banqiao_directory::TrustDomain;
use rustls_pki_types::{CertificateDer, TrustAnchor};

use crate::{
    CertificateFault::{self, Invalid},
    profile::{read_authority, sha256},
};

/// A CA: SHA-256 over its name and public key, so that a renewed certificate of the same CA is the same CA.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AuthorityId([u8; 32]);

impl AuthorityId {
    /// The digest.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    pub(crate) fn of(anchor: &TrustAnchor<'_>) -> Self {
        let (name, key) = (
            anchor.subject.as_ref(),
            anchor.subject_public_key_info.as_ref(),
        );
        let mut bytes = Vec::with_capacity(8 + name.len() + key.len());
        // The length first, so that no other pair of name and key has the same bytes.
        bytes.extend_from_slice(&u64::try_from(name.len()).unwrap_or(u64::MAX).to_be_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(key);
        Self(sha256(&bytes))
    }
}

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A set of bundles that is refused; the set in force stays.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// A CA certificate breaks the profile.
    #[error("CA certificate {index} of {trust_domain} cannot be trusted")]
    Authority {
        /// The city.
        trust_domain: TrustDomain,
        /// Position in the city's bundle, from 0.
        index: usize,
        /// What is wrong with it.
        #[source]
        fault: CertificateFault,
    },
    /// One CA stands in two cities' bundles, so that each could speak for the other.
    #[error("{first} and {second} list the same CA")]
    Shared {
        /// One city.
        first: TrustDomain,
        /// The other.
        second: TrustDomain,
    },
}

/// A CA of a city.
#[derive(Debug)]
pub(crate) struct Anchor {
    pub(crate) id: AuthorityId,
    pub(crate) trust: TrustAnchor<'static>,
    der: CertificateDer<'static>,
    not_before_s: i64,
    not_after_s: i64,
}

impl Anchor {
    fn read(der: CertificateDer<'static>) -> Result<Self, CertificateFault> {
        let authority = read_authority(&der)?;
        let trust = webpki::anchor_from_trusted_cert(&der)
            .map_err(|_| Invalid("not a CA certificate"))?
            .to_owned();
        Ok(Self {
            id: AuthorityId::of(&trust),
            trust,
            der,
            not_before_s: authority.not_before_s,
            not_after_s: authority.not_after_s,
        })
    }

    pub(crate) const fn is_valid_at(&self, now_s: i64) -> bool {
        self.not_before_s <= now_s && now_s <= self.not_after_s
    }
}

/// The bundles of all cities.
#[derive(Debug, Default)]
pub(crate) struct Bundles(BTreeMap<TrustDomain, Vec<Anchor>>);

impl Bundles {
    /// Reads every CA of every city, or none.
    pub(crate) fn read(
        bundles: BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>,
    ) -> Result<Self, BundleError> {
        let mut owners: HashMap<AuthorityId, TrustDomain> = HashMap::new();
        let mut cities = BTreeMap::new();
        for (trust_domain, certificates) in bundles {
            let mut anchors = Vec::with_capacity(certificates.len());
            for (index, der) in certificates.into_iter().enumerate() {
                let anchor = Anchor::read(der).map_err(|fault| BundleError::Authority {
                    trust_domain: trust_domain.clone(),
                    index,
                    fault,
                })?;
                match owners.insert(anchor.id, trust_domain.clone()) {
                    Some(first) if first != trust_domain => {
                        return Err(BundleError::Shared {
                            first,
                            second: trust_domain,
                        });
                    }
                    _ => anchors.push(anchor),
                }
            }
            // A city without a CA is not known at all.
            if !anchors.is_empty() {
                cities.insert(trust_domain, anchors);
            }
        }
        Ok(Self(cities))
    }

    /// Whether both hold the same certificates in the same order.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        fn ders(
            bundles: &Bundles,
        ) -> impl Iterator<Item = (&TrustDomain, &CertificateDer<'static>)> {
            bundles
                .0
                .iter()
                .flat_map(|(city, anchors)| anchors.iter().map(move |anchor| (city, &anchor.der)))
        }
        ders(self).eq(ders(other))
    }

    /// The CAs of one city; `None` if it is unknown.
    pub(crate) fn city(&self, trust_domain: &TrustDomain) -> Option<&[Anchor]> {
        self.0.get(trust_domain).map(Vec::as_slice)
    }

    /// Every CA with its city.
    pub(crate) fn anchors(&self) -> impl Iterator<Item = (&TrustDomain, &Anchor)> {
        self.0
            .iter()
            .flat_map(|(city, anchors)| anchors.iter().map(move |anchor| (city, anchor)))
    }
}
