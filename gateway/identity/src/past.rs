//! A certificate as it was judged at some moment: for evidence that is looked at later.

use std::collections::BTreeMap;

use banqiao_directory::TrustDomain;
use rustls::pki_types::CertificateDer;

use crate::{
    CertificateFault, Peer,
    bundle::Bundles,
    crl::Offered,
    tls::provider,
    trust::{Trust, Usage},
};

/// Who a certificate's holder was at a moment, by the CA certificates (DER) and the CRL of its city at that moment, and by
/// the same rules by which gateways let connections in.
///
/// # Errors
///
/// Why it would have been refused. [`CertificateFault::CrlUnavailable`]: there is no CRL that says anything about that
/// moment.
pub fn peer_at(
    trust_domain: &TrustDomain,
    authorities: &[Vec<u8>],
    crl: Option<&[u8]>,
    leaf: &[u8],
    at_s: i64,
    grace_s: i64,
) -> Result<Peer, CertificateFault> {
    let certificates = authorities.iter().cloned().map(CertificateDer::from);
    let bundle = BTreeMap::from([(trust_domain.clone(), certificates.collect())]);
    let bundles = Bundles::read(bundle).map_err(|_| CertificateFault::Untrusted)?;
    let algorithms = provider().signature_verification_algorithms;
    let mut trust = Trust::nobody().with_bundles(bundles);
    if let Some(der) = crl
        && let Ok(offered) = Offered::parse(der, at_s)
    {
        let signer = trust
            .bundles()
            .anchors()
            .find(|(_, anchor)| offered.is_signed_by(&anchor.trust, &algorithms))
            .map(|(_, anchor)| anchor.id);
        if let Some(issuer) = signer {
            trust = trust.with_crl(offered.into_crl(trust_domain.clone(), issuer));
        }
    }
    let leaf = CertificateDer::from(leaf);
    trust.verify(&leaf, Usage::Client, &algorithms, at_s, grace_s)
}
