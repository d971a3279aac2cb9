//! A city's CA: one folder that issues the certificates of the city's gateway, systems and administrators.
//!
//! The folder belongs on a machine that no gateway runs on; gateways get a certificate, its key and the CRL.
//!
//! | file | holds |
//! |---|---|
//! | `ca.crt`, `ca.key` | the CA's certificate and key (mode 0600) |
//! | `ca.json` | every certificate that was issued, revocations, CRL number |
//! | `ca.lock` | locked while a command changes the folder |
//! | `crl.der` | the newest CRL |
//! | `<name>.crt`, `<name>.key` | an issued certificate and its key (mode 0600) |
//!
//! Every change is written to `ca.json` before the file that it is about, and every file is replaced by renaming,
//! so that a crash at any step loses at most a serial or a CRL number, and a gateway that reloads meanwhile never
//! reads half a file.

mod authority;
mod error;
mod files;
mod inspect;
mod record;
mod request;
mod sign;

pub use authority::{
    AuthorityStatus, CityAuthority, DEFAULT_CRL_LIFETIME, Issued, NewAuthority, Outcome, Revoked,
    WrittenCrl,
};
pub use error::PkiError;
pub use inspect::{CertificateSummary, CrlSummary};
pub use record::{CertificateKind, IssuedCertificate, Revocation, RevocationReason};
pub use request::{AdminRole, CertificateRequest, KeyKind};
