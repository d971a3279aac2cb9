//! This process's own certificate and key, read from files.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use banqiao_directory::SpiffeId;
use rustls::{crypto::CryptoProvider, sign::CertifiedKey};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use zeroize::Zeroizing;

use crate::{
    CertificateFault, IdentityError,
    profile::{read_leaf, sha256},
};

/// The largest certificate or key file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024;

/// Where the certificate and key stand.
#[derive(Clone, Debug)]
pub struct IdentityFiles {
    /// PEM certificates, the leaf first. What follows the leaf is sent to peers too.
    pub certificate: PathBuf,
    /// PEM private key (PKCS #8, SEC 1 or PKCS #1) that nobody but its owner may read: mode 0600 or 0400.
    pub private_key: PathBuf,
}

/// The certificate with which this process speaks.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct OwnCertificate {
    /// The identity.
    pub id: SpiffeId,
    /// SHA-256 of the DER of the public key.
    pub key_sha256: [u8; 32],
    /// Serial: its bytes as they stand in the DER integer.
    pub serial: Arc<[u8]>,
    /// First second of the validity, since 1970-01-01 UTC.
    pub not_before_s: i64,
    /// Last second of the validity, since 1970-01-01 UTC.
    pub not_after_s: i64,
    /// The certificates of the file in DER, the leaf first.
    pub chain: Arc<[CertificateDer<'static>]>,
}

/// Certificate and key as they were read together.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) own: Arc<OwnCertificate>,
    pub(crate) certified: Arc<CertifiedKey>,
    /// SHA-256 of both files' bytes, to see whether they have changed.
    pub(crate) digest: [u8; 32],
}

/// Bytes of both files.
pub(crate) struct FileBytes {
    certificate: Vec<u8>,
    private_key: Zeroizing<Vec<u8>>,
}

impl FileBytes {
    pub(crate) fn read(files: &IdentityFiles) -> Result<Self, IdentityError> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| IdentityError::Read { path, source }
        };
        let certificate =
            read_bounded(File::open(&files.certificate).map_err(failed(&files.certificate))?)
                .map_err(failed(&files.certificate))?;
        Ok(Self {
            certificate,
            private_key: read_private_key(&files.private_key)?,
        })
    }

    pub(crate) fn digest(&self) -> [u8; 32] {
        let parts = [sha256(&self.certificate), sha256(&self.private_key)];
        sha256(parts.as_flattened())
    }

    /// Parses both, and checks that they belong together and that the certificate keeps to the profile now.
    pub(crate) fn load(
        &self,
        files: &IdentityFiles,
        provider: &CryptoProvider,
        now_s: i64,
    ) -> Result<Loaded, IdentityError> {
        let no_certificate = || IdentityError::NoCertificate {
            path: files.certificate.clone(),
        };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&self.certificate)
            .collect::<Result<_, _>>()
            .map_err(|_| no_certificate())?;
        let leaf = chain.first().ok_or_else(no_certificate)?;
        let unusable = |fault| IdentityError::Unusable {
            path: files.certificate.clone(),
            source: fault,
        };
        let profile = read_leaf(leaf).map_err(unusable)?;
        if now_s < profile.not_before_s || profile.not_after_s < now_s {
            return Err(unusable(CertificateFault::Expired));
        }
        // rustls wipes the key's bytes after it has parsed them.
        let key = PrivateKeyDer::from_pem_slice(&self.private_key).map_err(|_| {
            IdentityError::NoPrivateKey {
                path: files.private_key.clone(),
            }
        })?;
        let own = OwnCertificate {
            id: profile.id,
            key_sha256: profile.key_sha256,
            serial: profile.serial,
            not_before_s: profile.not_before_s,
            not_after_s: profile.not_after_s,
            chain: chain.clone().into(),
        };
        let certified =
            CertifiedKey::from_der(chain, key, provider).map_err(|source| match source {
                rustls::Error::InconsistentKeys(_) => IdentityError::KeyMismatch {
                    certificate: files.certificate.clone(),
                    private_key: files.private_key.clone(),
                },
                // Of a key that could not be used nothing is repeated.
                _ => IdentityError::NoPrivateKey {
                    path: files.private_key.clone(),
                },
            })?;
        Ok(Loaded {
            own: Arc::new(own),
            certified: Arc::new(certified),
            digest: self.digest(),
        })
    }
}

/// Reads a private key file into memory that is wiped. A file that others may read or write is refused.
pub(crate) fn read_private_key(path: &Path) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let failed = |source| IdentityError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(failed)?;
    // Of the open file, so that nobody can swap it between the check and the reading.
    let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o7777;
    if mode & !0o600 != 0 {
        return Err(IdentityError::KeyExposed {
            path: path.to_owned(),
            mode,
        });
    }
    read_bounded(file).map(Zeroizing::new).map_err(failed)
}

/// Reads a file of at most [`MAX_FILE_BYTES`], without leaving copies of it behind in grown buffers.
fn read_bounded(mut file: File) -> io::Result<Vec<u8>> {
    let length = file.metadata()?.len();
    if length > MAX_FILE_BYTES {
        return Err(io::Error::new(
            io::ErrorKind::FileTooLarge,
            "larger than 256 KiB",
        ));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    file.read_exact(&mut bytes)?;
    Ok(bytes)
}
