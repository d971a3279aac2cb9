//! Whom this gateway trusts: the cities' CA bundles and CRLs, as one immutable set that is swapped whole.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use banqiao_directory::SpiffeId;
use parking_lot::Mutex;
use rustls::crypto::WebPkiSupportedAlgorithms;
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, Error as WebpkiError, ExtendedKeyUsageValidator, KeyPurposeIdIter};

use crate::{
    CertificateFault::{self, Invalid},
    bundle::{AuthorityId, Bundles},
    crl::{Crl, CrlStanding, CrlWarning},
    profile::{read_leaf, sha256},
};

/// Verified leaves that are remembered; beyond it all are forgotten. A city has some hundreds of systems.
const REMEMBERED_LEAVES: usize = 4_096;

/// Who stands at the other end of a connection, proven by certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// The identity.
    pub id: SpiffeId,
    /// SHA-256 of the DER of the certificate's public key.
    pub key_sha256: [u8; 32],
    /// Serial of the certificate: its bytes as they stand in the DER integer.
    pub serial: Arc<[u8]>,
    /// The CA that issued the certificate.
    pub issuer: AuthorityId,
    /// First second of the certificate's validity, since 1970-01-01 UTC.
    pub not_before_s: i64,
    /// Last second of the certificate's validity, since 1970-01-01 UTC.
    pub not_after_s: i64,
}

/// What a certificate is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Usage {
    Client,
    /// The handshake has already checked which.
    Either,
    Server,
}

/// A leaf whose signature and profile have been checked against the bundles in force.
#[derive(Debug)]
struct Verified {
    peer: Peer,
    client_auth: bool,
    server_auth: bool,
}

/// Bundles and CRLs in force.
#[derive(Debug)]
pub(crate) struct Trust {
    bundles: Arc<Bundles>,
    crls: BTreeMap<AuthorityId, Arc<Crl>>,
    /// By SHA-256 of the leaf. Rests on the bundles alone; time and CRLs are checked at each use.
    verified: Arc<Mutex<HashMap<[u8; 32], Arc<Verified>>>>,
}

impl Trust {
    /// Trusts nobody.
    pub(crate) fn nobody() -> Self {
        Self {
            bundles: Arc::default(),
            crls: BTreeMap::new(),
            verified: Arc::default(),
        }
    }

    pub(crate) fn bundles(&self) -> &Bundles {
        &self.bundles
    }

    pub(crate) fn crls(&self) -> impl Iterator<Item = &Arc<Crl>> {
        self.crls.values()
    }

    pub(crate) fn crl(&self, issuer: AuthorityId) -> Option<&Arc<Crl>> {
        self.crls.get(&issuer)
    }

    /// The set with other bundles. CRLs of CAs that are no longer listed are let go.
    pub(crate) fn with_bundles(&self, bundles: Bundles) -> Self {
        let listed = |id: &AuthorityId, crl: &Arc<Crl>| {
            bundles
                .anchors()
                .any(|(city, anchor)| anchor.id == *id && *city == crl.state.trust_domain)
        };
        let crls = self.crls.iter().filter(|(id, crl)| listed(id, crl));
        let crls = crls.map(|(id, crl)| (*id, Arc::clone(crl))).collect();
        Self {
            bundles: Arc::new(bundles),
            crls,
            verified: Arc::default(),
        }
    }

    /// The set with one more or newer CRL.
    pub(crate) fn with_crl(&self, crl: Crl) -> Self {
        let mut crls = self.crls.clone();
        crls.insert(crl.state.issuer, Arc::new(crl));
        Self {
            bundles: Arc::clone(&self.bundles),
            crls,
            verified: Arc::clone(&self.verified),
        }
    }

    /// Who the chain's leaf is, if it is good now. Certificates after the leaf are ignored: a CA that issues
    /// leaves stands itself in its city's bundle.
    pub(crate) fn verify(
        &self,
        leaf: &CertificateDer<'_>,
        usage: Usage,
        algorithms: &WebPkiSupportedAlgorithms,
        now_s: i64,
        grace_s: i64,
    ) -> Result<Peer, CertificateFault> {
        let digest = sha256(leaf);
        let known = self.verified.lock().get(&digest).map(Arc::clone);
        let verified = match known {
            Some(verified) => verified,
            None => {
                let verified = Arc::new(self.prove(leaf, algorithms, now_s)?);
                let mut remembered = self.verified.lock();
                if remembered.len() >= REMEMBERED_LEAVES {
                    remembered.clear();
                }
                remembered.insert(digest, Arc::clone(&verified));
                verified
            }
        };
        match usage {
            Usage::Client if !verified.client_auth => {
                return Err(Invalid(
                    "its extended key usage has no client authentication",
                ));
            }
            Usage::Server if !verified.server_auth => {
                return Err(Invalid(
                    "its extended key usage has no server authentication",
                ));
            }
            _ => {}
        }
        self.check(&verified.peer, now_s, grace_s)?;
        Ok(verified.peer.clone())
    }

    /// Checks profile and signature: the domain of the leaf's SPIFFE ID is read first, then only that city's
    /// CAs are asked, so that no city's CA can vouch for another city's name.
    fn prove(
        &self,
        leaf: &CertificateDer<'_>,
        algorithms: &WebPkiSupportedAlgorithms,
        now_s: i64,
    ) -> Result<Verified, CertificateFault> {
        let profile = read_leaf(leaf)?;
        let bundle = self
            .bundles
            .city(profile.id.trust_domain())
            .ok_or(CertificateFault::Untrusted)?;
        // webpki does not look at an anchor's validity.
        let valid: Vec<_> = bundle
            .iter()
            .filter(|anchor| anchor.is_valid_at(now_s))
            .map(|anchor| anchor.trust.clone())
            .collect();
        let certificate = EndEntityCert::try_from(leaf).map_err(fault_of)?;
        let since_epoch = Duration::from_secs(u64::try_from(now_s).unwrap_or(0));
        let path = certificate
            .verify_for_usage(
                algorithms.all,
                &valid,
                &[],
                UnixTime::since_unix_epoch(since_epoch),
                ProfilePurposes,
                None,
                None,
            )
            .map_err(fault_of)?;
        Ok(Verified {
            client_auth: profile.client_auth,
            server_auth: profile.server_auth,
            peer: Peer {
                id: profile.id,
                key_sha256: profile.key_sha256,
                serial: profile.serial,
                issuer: AuthorityId::of(path.anchor()),
                not_before_s: profile.not_before_s,
                not_after_s: profile.not_after_s,
            },
        })
    }

    /// Whether a peer that has been verified is still good now.
    pub(crate) fn check(
        &self,
        peer: &Peer,
        now_s: i64,
        grace_s: i64,
    ) -> Result<(), CertificateFault> {
        let bundle = self
            .bundles
            .city(peer.id.trust_domain())
            .ok_or(CertificateFault::Untrusted)?;
        if !bundle
            .iter()
            .any(|anchor| anchor.id == peer.issuer && anchor.is_valid_at(now_s))
        {
            return Err(CertificateFault::Untrusted);
        }
        if now_s < peer.not_before_s || peer.not_after_s < now_s {
            return Err(CertificateFault::Expired);
        }
        let crl = self
            .crls
            .get(&peer.issuer)
            .ok_or(CertificateFault::CrlUnavailable)?;
        // What an old CRL revokes stays revoked; only its silence is worth nothing.
        if crl.revokes(&peer.serial) {
            return Err(CertificateFault::Revoked);
        }
        if crl.standing(now_s, grace_s) >= CrlStanding::Expired {
            return Err(CertificateFault::CrlUnavailable);
        }
        Ok(())
    }

    /// Every CA whose CRL is not fresh. A CA whose own certificate has expired needs none.
    pub(crate) fn crl_warnings(&self, now_s: i64, grace_s: i64) -> Vec<CrlWarning> {
        let mut warnings: Vec<CrlWarning> = Vec::new();
        for (trust_domain, anchor) in self.bundles.anchors() {
            let crl = self.crls.get(&anchor.id);
            let standing = crl.map_or(CrlStanding::Absent, |crl| crl.standing(now_s, grace_s));
            let repeated = warnings.iter().any(|warning| warning.issuer == anchor.id);
            if standing == CrlStanding::Fresh || !anchor.is_valid_at(now_s) || repeated {
                continue;
            }
            warnings.push(CrlWarning {
                trust_domain: trust_domain.clone(),
                issuer: anchor.id,
                standing,
                refused_from_s: crl.map(|crl| crl.state.next_update_s.saturating_add(grace_s)),
            });
        }
        warnings
    }
}

/// The profile has already judged the extended key usage; webpki must only read it.
struct ProfilePurposes;

impl ExtendedKeyUsageValidator for ProfilePurposes {
    fn validate(&self, purposes: KeyPurposeIdIter<'_, '_>) -> Result<(), WebpkiError> {
        for purpose in purposes {
            purpose?;
        }
        Ok(())
    }
}

/// The fault that an error of webpki stands for.
fn fault_of(error: WebpkiError) -> CertificateFault {
    match error {
        WebpkiError::CertExpired { .. } | WebpkiError::CertNotValidYet { .. } => {
            CertificateFault::Expired
        }
        // A CA of the right name and the wrong key, or of another kind of key, is a wrong CA.
        WebpkiError::InvalidSignatureForPublicKey
        | WebpkiError::UnknownIssuer
        | WebpkiError::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => {
            CertificateFault::Untrusted
        }
        WebpkiError::InvalidCertValidity => Invalid("it ends before it begins"),
        WebpkiError::NameConstraintViolation => Invalid("the CA may not issue this name"),
        WebpkiError::UnsupportedCriticalExtension => Invalid("an unknown critical extension"),
        WebpkiError::UnsupportedSignatureAlgorithmContext(_) => {
            Invalid("signed with an unknown algorithm")
        }
        _ => Invalid("webpki cannot read it"),
    }
}
