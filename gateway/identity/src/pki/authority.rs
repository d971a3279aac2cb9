//! The CA of one city, in one folder.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use banqiao_directory::{Clock, TrustDomain};
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{
    CertificateRequest, IssuedCertificate, KeyKind, PkiError, Revocation, RevocationReason,
    files::{self, Lock, PUBLIC, SECRET},
    record::Ledger,
    sign,
};
use crate::{
    CertificateFault,
    profile::{read_authority, read_leaf, sha256},
};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// How long a CRL is current: a day, so that a stolen key is useless after two (one more of grace).
pub const DEFAULT_CRL_LIFETIME: Duration = DAY;
/// Ten years: replacing a CA takes the signatures of the other cities.
const DEFAULT_AUTHORITY_LIFETIME: Duration = DAY.saturating_mul(3_652);
/// How long an expired certificate stays on the CRL, in seconds, for gateways whose clocks are behind.
const KEEP_EXPIRED_S: i64 = 30 * 24 * 60 * 60;

/// A CA to make.
#[derive(Clone, Debug)]
pub struct NewAuthority {
    /// The city's trust domain.
    pub trust_domain: TrustDomain,
    /// Name of the body that runs it, for people who read certificates.
    pub organization: String,
    /// Kind of its key.
    pub key: KeyKind,
    /// How long its certificate is valid.
    pub lifetime: Duration,
    /// How long its first CRL is current.
    pub crl_lifetime: Duration,
}

impl NewAuthority {
    /// ECDSA P-256, ten years, a CRL of a day.
    pub fn new(trust_domain: TrustDomain) -> Self {
        Self {
            organization: trust_domain.to_string(),
            trust_domain,
            key: KeyKind::default(),
            lifetime: DEFAULT_AUTHORITY_LIFETIME,
            crl_lifetime: DEFAULT_CRL_LIFETIME,
        }
    }
}

/// Whether a command made something, or found it made already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was there and is still good: nothing has changed.
    Kept,
    /// It is new.
    Made,
}

/// A certificate with its files.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Whether it is new.
    pub outcome: Outcome,
    /// What `ca.json` says of it.
    pub record: IssuedCertificate,
    /// PEM certificate.
    pub certificate: PathBuf,
    /// PEM private key, mode 0600.
    pub private_key: PathBuf,
}

/// A CRL that was written.
#[derive(Clone, Debug)]
pub struct WrittenCrl {
    /// Its number.
    pub number: u64,
    /// When the next one is due, in seconds since 1970-01-01 UTC.
    pub next_update_s: i64,
    /// Number of certificates that it revokes.
    pub revoked: usize,
    /// Where it stands.
    pub path: PathBuf,
    /// The CRL in DER.
    pub der: Vec<u8>,
}

/// What a revocation did.
#[derive(Clone, Debug)]
pub struct Revoked {
    /// The certificates that are revoked from now on; empty if they all were already.
    pub certificates: Vec<IssuedCertificate>,
    /// The CRL that says so; `None` if nothing has changed.
    pub crl: Option<WrittenCrl>,
}

/// A CA and what it has issued.
#[derive(Clone, Debug)]
pub struct AuthorityStatus {
    /// The city.
    pub trust_domain: TrustDomain,
    /// SHA-256 of the CA certificate's DER.
    pub certificate_sha256: [u8; 32],
    /// Last second of the CA certificate's validity, since 1970-01-01 UTC.
    pub not_after_s: i64,
    /// Number of the newest CRL.
    pub crl_number: u64,
    /// Everything that was issued, oldest first.
    pub certificates: Vec<IssuedCertificate>,
}

/// The CA of one city. Several processes may use one folder at a time.
#[derive(Clone, Debug)]
pub struct CityAuthority {
    dir: PathBuf,
    trust_domain: TrustDomain,
    certificate: CertificateDer<'static>,
    not_after_s: i64,
    clock: Clock,
}

impl CityAuthority {
    /// Makes a CA with its first CRL in a folder, or finds that of the same city there.
    ///
    /// # Errors
    ///
    /// When the folder holds another city's CA, or files that are in the way, or cannot be written.
    pub fn create(
        dir: &Path,
        new: &NewAuthority,
        clock: Clock,
    ) -> Result<(Self, Outcome), PkiError> {
        fs::create_dir_all(dir).map_err(files::failed("make", dir))?;
        let lock = Lock::hold(dir)?;
        if let Some(mut ledger) = Ledger::read(dir)? {
            if ledger.trust_domain != new.trust_domain {
                return Err(PkiError::OtherCity {
                    dir: dir.to_owned(),
                    found: ledger.trust_domain,
                });
            }
            let authority = Self::load(dir, clock)?;
            if !authority.crl_path().exists() {
                // A former command was cut off before its last step.
                authority.sign_crl(&mut ledger, &*authority.key()?, new.crl_lifetime)?;
            }
            return Ok((authority, Outcome::Kept));
        }
        // Without `ca.json` nobody has used these; but a CA key is nothing to overwrite on a guess.
        for name in ["ca.key", "ca.crt"] {
            let path = dir.join(name);
            if path.exists() {
                return Err(PkiError::Leftover { path });
            }
        }
        let now_s = clock.now_s();
        let key = sign::generate(new.key)?;
        let certificate = sign::self_sign(
            &key,
            &new.trust_domain,
            &new.organization,
            now_s,
            new.lifetime,
        )?;
        files::replace(&dir.join("ca.key"), sign::key_pem(&key).as_bytes(), SECRET)?;
        files::replace(&dir.join("ca.crt"), certificate.pem().as_bytes(), PUBLIC)?;
        let mut ledger = Ledger::new(new.trust_domain.clone());
        // Last of the three: from now on the folder is a CA.
        ledger.write(dir)?;
        let authority = Self::load(dir, clock)?;
        authority.sign_crl(&mut ledger, &key, new.crl_lifetime)?;
        drop(lock);
        Ok((authority, Outcome::Made))
    }

    /// Opens the CA in a folder. Its key is read only when something is to be signed.
    ///
    /// # Errors
    ///
    /// When there is none, or its files are damaged.
    pub fn load(dir: &Path, clock: Clock) -> Result<Self, PkiError> {
        let ledger = Ledger::read(dir)?.ok_or_else(|| PkiError::NoAuthority {
            dir: dir.to_owned(),
        })?;
        let path = dir.join("ca.crt");
        let fault = |source| PkiError::Fault {
            path: path.clone(),
            source,
        };
        let certificate = CertificateDer::from_pem_slice(&files::read(&path)?)
            .map_err(|_| fault(CertificateFault::Invalid("no PEM certificate")))?;
        let profile = read_authority(&certificate).map_err(fault)?;
        Ok(Self {
            dir: dir.to_owned(),
            trust_domain: ledger.trust_domain,
            certificate,
            not_after_s: profile.not_after_s,
            clock,
        })
    }

    /// The city.
    pub const fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The CA's certificate, for the city's bundle.
    pub const fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// Where the newest CRL stands.
    pub fn crl_path(&self) -> PathBuf {
        self.dir.join("crl.der")
    }

    /// Issues a certificate with a new key, unless the present one of that file name is for the same, live, and
    /// has at least a third of its lifetime left.
    ///
    /// A renewed certificate does not revoke the former one: systems change over while both are good.
    ///
    /// # Errors
    ///
    /// When the file name is taken by another live certificate, the CA would expire first, or a file cannot be
    /// read or written.
    pub fn issue(&self, request: &CertificateRequest) -> Result<Issued, PkiError> {
        let _lock = Lock::hold(&self.dir)?;
        let mut ledger = self.ledger()?;
        let now_s = self.clock.now_s();
        let not_after_s = sign::end_of(now_s, request.lifetime);
        if not_after_s > self.not_after_s {
            return Err(PkiError::OutlivesAuthority);
        }
        let certificate = self.dir.join(format!("{}.crt", request.name));
        let private_key = self.dir.join(format!("{}.key", request.name));
        let newest = ledger
            .certificates
            .iter()
            .rev()
            .find(|issued| issued.name == request.name);
        if let Some(present) = newest.filter(|issued| issued.is_live_at(now_s) && !request.renew) {
            if present.id != request.id || present.names != request.names() {
                return Err(PkiError::Taken {
                    name: present.name.clone(),
                    id: present.id.clone(),
                    names: present.names.clone(),
                });
            }
            let left_s = present.not_after_s - now_s;
            let young = left_s >= (present.not_after_s - present.issued_at_s) / 3;
            if young && files_hold(&certificate, &private_key, present) {
                let record = present.clone();
                return Ok(Issued {
                    outcome: Outcome::Kept,
                    record,
                    certificate,
                    private_key,
                });
            }
        }
        let serial = sign::serial()?;
        let key = sign::generate(request.key)?;
        let signed = sign::sign(
            request,
            &serial,
            &key,
            &self.certificate,
            &*self.key()?,
            now_s,
        )?;
        let record = IssuedCertificate {
            serial: hex::encode(serial),
            id: request.id.clone(),
            kind: request.kind,
            name: request.name.clone(),
            names: request.names(),
            issued_at_s: now_s,
            not_after_s,
            revoked: None,
        };
        // First, so that no certificate exists that could not be revoked.
        ledger.certificates.push(record.clone());
        ledger.write(&self.dir)?;
        files::replace(&private_key, sign::key_pem(&key).as_bytes(), SECRET)?;
        files::replace(&certificate, signed.pem().as_bytes(), PUBLIC)?;
        Ok(Issued {
            outcome: Outcome::Made,
            record,
            certificate,
            private_key,
        })
    }

    /// Revokes the certificate of a serial, or every live one of a SPIFFE ID or file name, and writes a CRL.
    ///
    /// # Errors
    ///
    /// When nothing was ever issued under that, or a file cannot be read or written.
    pub fn revoke(
        &self,
        which: &str,
        reason: RevocationReason,
        crl_lifetime: Duration,
    ) -> Result<Revoked, PkiError> {
        let _lock = Lock::hold(&self.dir)?;
        let mut ledger = self.ledger()?;
        let now_s = self.clock.now_s();
        let mut known = false;
        let mut certificates = Vec::new();
        for issued in &mut ledger.certificates {
            let by_serial = issued.serial.eq_ignore_ascii_case(which);
            if !by_serial && issued.id.as_str() != which && issued.name != which {
                continue;
            }
            known = true;
            if issued.revoked.is_none() && (by_serial || issued.is_live_at(now_s)) {
                issued.revoked = Some(Revocation {
                    at_s: now_s,
                    reason,
                });
                certificates.push(issued.clone());
            }
        }
        if !known {
            return Err(PkiError::Unknown(which.to_owned()));
        }
        let crl = if certificates.is_empty() {
            None
        } else {
            Some(self.sign_crl(&mut ledger, &*self.key()?, crl_lifetime)?)
        };
        Ok(Revoked { certificates, crl })
    }

    /// Writes a CRL with the next number.
    ///
    /// # Errors
    ///
    /// When a file cannot be read or written.
    pub fn write_crl(&self, lifetime: Duration) -> Result<WrittenCrl, PkiError> {
        let _lock = Lock::hold(&self.dir)?;
        self.sign_crl(&mut self.ledger()?, &*self.key()?, lifetime)
    }

    /// The CA and what it has issued.
    ///
    /// # Errors
    ///
    /// When `ca.json` cannot be read.
    pub fn status(&self) -> Result<AuthorityStatus, PkiError> {
        let ledger = self.ledger()?;
        Ok(AuthorityStatus {
            trust_domain: ledger.trust_domain,
            certificate_sha256: sha256(&self.certificate),
            not_after_s: self.not_after_s,
            crl_number: ledger.crl_number,
            certificates: ledger.certificates,
        })
    }

    /// Call under the lock.
    fn sign_crl(
        &self,
        ledger: &mut Ledger,
        key: &KeyPair,
        lifetime: Duration,
    ) -> Result<WrittenCrl, PkiError> {
        let now_s = self.clock.now_s();
        ledger.crl_number += 1;
        let number = ledger.crl_number;
        let listed: Vec<_> = ledger
            .certificates
            .iter()
            .filter(|issued| {
                issued.revoked.is_some() && now_s <= issued.not_after_s + KEEP_EXPIRED_S
            })
            .collect();
        let revoked = listed.len();
        let der = sign::sign_crl(
            listed.into_iter(),
            number,
            &self.certificate,
            key,
            now_s,
            lifetime,
        )?;
        ledger.write(&self.dir)?;
        let path = self.crl_path();
        files::replace(&path, &der, PUBLIC)?;
        Ok(WrittenCrl {
            number,
            next_update_s: sign::end_of(now_s, lifetime),
            revoked,
            path,
            der,
        })
    }

    fn ledger(&self) -> Result<Ledger, PkiError> {
        Ledger::read(&self.dir)?.ok_or_else(|| PkiError::NoAuthority {
            dir: self.dir.clone(),
        })
    }

    fn key(&self) -> Result<Zeroizing<KeyPair>, PkiError> {
        sign::read_key(&self.dir.join("ca.key"))
    }
}

/// Whether the files hold this very certificate and its key, so that they need not be made again.
fn files_hold(certificate: &Path, private_key: &Path, record: &IssuedCertificate) -> bool {
    let leaf = files::read(certificate)
        .ok()
        .and_then(|pem| CertificateDer::from_pem_slice(&pem).ok())
        .and_then(|der| read_leaf(&der).ok());
    let (Some(leaf), Ok(key)) = (leaf, sign::read_key(private_key)) else {
        return false;
    };
    hex::encode(&leaf.serial) == record.serial
        && sha256(&key.subject_public_key_info()) == leaf.key_sha256
}
