//! What can go wrong at a CA.

use std::{io, path::PathBuf};

use banqiao_directory::{SpiffeId, TrustDomain};

use crate::{CertificateFault, IdentityError};

/// Why a CA's command failed. Nothing has been issued or revoked then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// `ca.json` cannot be understood.
    #[error("{path} is damaged")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The certificate in the file breaks the profile.
    #[error("{path} cannot be used")]
    Fault {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CertificateFault,
    },
    /// A file cannot be read or written.
    #[error("cannot {what} {path}")]
    File {
        /// What was tried.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key file is open to others, or holds no key.
    #[error("cannot use the private key")]
    Key(#[source] IdentityError),
    /// Files of a CA without `ca.json`: an `init-city` that was cut off, or something else.
    #[error("{path} is in the way: move it elsewhere, or choose another folder")]
    Leftover {
        /// The file.
        path: PathBuf,
    },
    /// A name that cannot be in a certificate or a file name.
    #[error("{name:?} cannot be used: {rule}")]
    Name {
        /// The name.
        name: String,
        /// What it must be.
        rule: &'static str,
    },
    /// No CA in the folder.
    #[error("{dir} holds no city CA: make one with `banqiao pki init-city`")]
    NoAuthority {
        /// The folder.
        dir: PathBuf,
    },
    /// The certificate would be valid for longer than the CA itself.
    #[error("the certificate would outlive its CA")]
    OutlivesAuthority,
    /// The folder holds another city's CA.
    #[error("{dir} holds the CA of {found}")]
    OtherCity {
        /// The folder.
        dir: PathBuf,
        /// Its city.
        found: TrustDomain,
    },
    /// Random numbers or signatures cannot be made.
    #[error("cannot sign")]
    Sign(#[source] rcgen::Error),
    /// The file name belongs to another identity, or to one with other host names or addresses.
    #[error(
        "{name} already holds a certificate of {id} for {names:?}: choose another file name, or renew it"
    )]
    Taken {
        /// The file name without extension.
        name: String,
        /// Whose certificate it is.
        id: SpiffeId,
        /// Its host names and addresses.
        names: Vec<String>,
    },
    /// Nothing of this serial, identity or file name has been issued.
    #[error("nothing has been issued under {0:?}")]
    Unknown(String),
    /// `ca.json` was written by a newer program.
    #[error("{path} has version {version}, which this program does not know")]
    Version {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
}
