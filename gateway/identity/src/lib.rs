//! Who is who: SPIFFE identities out of X.509 certificates, per city, over TLS 1.3.
//!
//! ```text
//!   files ──▶ own certificate ─┐
//!   directory ──▶ CA bundles ──┤── Identity ──▶ server_config, client_config, accept, connect
//!   peers, files ──▶ CRLs ─────┘       └──────▶ check(&Peer), generation()   for connections that are open
//! ```
//!
//! A verifier reads the leaf's SPIFFE ID first and then asks only the CAs of the city that the ID names, so that
//! no city can vouch for another's name. The status of every certificate must be known: each CA's CRL is checked
//! against its signature when it is offered, its number never decreases, and past its next update it counts only
//! for a stated grace. What is wrong with a certificate is a [`CertificateFault`], which the peer sees as the TLS
//! alert of the table in `banqiao/exchange/v1/reason.proto`.
//!
//! [`pki`] is the other side: a city's CA, which no running gateway needs.
//!
//! What this crate is not: it decides who somebody is, never what they may do.

#![forbid(unsafe_code)]

mod bundle;
mod certificate;
mod crl;
mod fault;
mod handshake;
mod identity;
mod past;
pub mod pki;
mod profile;
mod tls;
mod trust;

pub use bundle::{AuthorityId, BundleError};
pub use certificate::{IdentityFiles, OwnCertificate};
pub use crl::{CrlError, CrlOutcome, CrlStanding, CrlState, CrlWarning, MAX_CRL_BYTES};
pub use fault::{CertificateFault, handshake_fault, refusal_by_peer};
pub use handshake::HandshakeError;
pub use identity::{DEFAULT_CRL_GRACE, Identity, IdentityError, IdentitySettings};
pub use past::peer_at;
pub use tls::Expect;
pub use trust::Peer;
