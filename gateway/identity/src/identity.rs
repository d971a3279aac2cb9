//! The identity of this process, and its judgement of others, kept current while connections stay open.

use std::{collections::BTreeMap, fmt, io, path::PathBuf, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use banqiao_directory::{Clock, SpiffeId, TrustDomain};
use parking_lot::Mutex;
use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::sync::watch;

use crate::{
    AuthorityId, BundleError, CertificateFault, CrlError, CrlOutcome, CrlState, CrlWarning, Expect,
    IdentityFiles, OwnCertificate, Peer,
    bundle::Bundles,
    certificate::FileBytes,
    crl::Offered,
    tls::{self, Live},
    trust::{Trust, Usage},
};

/// How long a CRL is used past its next update, unless set otherwise: a day, so that a city whose CA fails in
/// the evening is not cut off before somebody comes to work.
pub const DEFAULT_CRL_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Client configurations that are kept; a network has some tens of gateways and services.
const KEPT_CLIENT_CONFIGS: usize = 1_024;

/// What can be set.
#[derive(Clone, Debug)]
pub struct IdentitySettings {
    /// How long a CRL is used past its next update. Beyond it the city's certificates are refused.
    pub crl_grace: Duration,
}

impl Default for IdentitySettings {
    fn default() -> Self {
        Self {
            crl_grace: DEFAULT_CRL_GRACE,
        }
    }
}

/// Why the own certificate and key cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The new certificate names somebody else: an identity does not change while a process runs.
    #[error("{path} is of {found}, but this process runs as {running}")]
    IdentityChanged {
        /// The certificate file.
        path: PathBuf,
        /// Its identity.
        found: SpiffeId,
        /// The identity in force.
        running: SpiffeId,
    },
    /// Others than the owner can read or change the key file.
    #[error("{path} has mode {mode:04o}: a private key must have mode 0600")]
    KeyExposed {
        /// The key file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The key is not that of the certificate. Passes by itself while both files are being replaced.
    #[error("{private_key} is not the key of {certificate}")]
    KeyMismatch {
        /// The certificate file.
        certificate: PathBuf,
        /// The key file.
        private_key: PathBuf,
    },
    /// No PEM certificate in the file.
    #[error("{path} holds no PEM certificate")]
    NoCertificate {
        /// The certificate file.
        path: PathBuf,
    },
    /// No usable PEM private key in the file.
    #[error("{path} holds no private key that can be used")]
    NoPrivateKey {
        /// The key file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// rustls refuses the configuration: a fault of this program.
    #[error("cannot set up TLS")]
    Tls(#[source] rustls::Error),
    /// Peers would refuse the certificate.
    #[error("{path} cannot be used")]
    Unusable {
        /// The certificate file.
        path: PathBuf,
        /// Why.
        #[source]
        source: CertificateFault,
    },
}

/// This process's certificate and key, the cities it trusts, and the TLS configurations made of them.
///
/// Cheap to clone; all clones are one. Everything that can change is swapped whole: each handshake and each
/// [`Identity::check`] sees one consistent set.
#[derive(Clone)]
pub struct Identity(Arc<Inner>);

struct Inner {
    clients: Mutex<BTreeMap<Expect, Arc<ClientConfig>>>,
    files: IdentityFiles,
    generation: watch::Sender<u64>,
    live: Arc<Live>,
    server: Arc<ServerConfig>,
    /// Highest CRL number seen of each CA, also of CAs that are no longer listed. Held while anything changes.
    writer: Mutex<BTreeMap<AuthorityId, u64>>,
}

impl Identity {
    /// Reads certificate and key. Trusts nobody until [`Identity::replace_bundles`] and [`Identity::offer_crl`].
    ///
    /// Reads two small files and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, the key file is open to others, key and certificate do not belong together,
    /// or peers would refuse the certificate.
    pub fn load(
        files: IdentityFiles,
        settings: IdentitySettings,
        clock: Clock,
    ) -> Result<Self, IdentityError> {
        let provider = tls::provider();
        let loaded = FileBytes::read(&files)?.load(&files, &provider, clock.now_s())?;
        let live = Arc::new(Live {
            grace_s: i64::try_from(settings.crl_grace.as_secs()).unwrap_or(i64::MAX),
            loaded: ArcSwap::from_pointee(loaded),
            provider: Arc::new(provider),
            trust: ArcSwap::from_pointee(Trust::nobody()),
            clock,
        });
        let server = Arc::new(tls::server_config(&live).map_err(IdentityError::Tls)?);
        Ok(Self(Arc::new(Inner {
            clients: Mutex::default(),
            files,
            generation: watch::Sender::new(0),
            live,
            server,
            writer: Mutex::default(),
        })))
    }

    /// The certificate in force.
    pub fn own(&self) -> Arc<OwnCertificate> {
        Arc::clone(&self.0.live.loaded.load().own)
    }

    /// Why peers that trust what this process trusts would refuse its own certificate now: revoked, expired, not
    /// of its city's CA, or not fit for both ends of a connection.
    pub fn own_fault(&self) -> Option<CertificateFault> {
        let own = self.own();
        let leaf = own.chain.first()?;
        [Usage::Client, Usage::Server]
            .into_iter()
            .find_map(|usage| self.0.live.verify(leaf, usage).err())
    }

    /// Reads certificate and key again and puts them in force if they have changed; says whether.
    ///
    /// Open connections stay as they are: the peer proved itself, and was shown the old certificate, at their
    /// handshake. Reads two small files and blocks meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Identity::load`], and when the new certificate is of another identity. The old one stays in force.
    pub fn reload(&self) -> Result<bool, IdentityError> {
        let Inner {
            files,
            live,
            writer,
            ..
        } = &*self.0;
        let changing = writer.lock();
        let bytes = FileBytes::read(files)?;
        let current = live.loaded.load_full();
        if bytes.digest() == current.digest {
            return Ok(false);
        }
        let loaded = bytes.load(files, &live.provider, live.clock.now_s())?;
        if loaded.own.id != current.own.id {
            return Err(IdentityError::IdentityChanged {
                path: files.certificate.clone(),
                found: loaded.own.id.clone(),
                running: current.own.id.clone(),
            });
        }
        live.loaded.store(Arc::new(loaded));
        self.bump();
        drop(changing);
        Ok(true)
    }

    /// Puts other CA bundles in force, all at once; says whether they differ from those in force.
    ///
    /// A CA that issues leaves must stand in its city's bundle itself: certificates between it and the leaf are
    /// not looked at. CRLs of CAs that are no longer listed are let go. A city with an empty bundle is unknown.
    ///
    /// # Errors
    ///
    /// When a CA certificate breaks the profile, or two cities share one. Nothing changes then. A CA certificate
    /// that has expired is no error: it verifies nothing.
    pub fn replace_bundles(
        &self,
        bundles: BTreeMap<TrustDomain, Vec<CertificateDer<'static>>>,
    ) -> Result<bool, BundleError> {
        let bundles = Bundles::read(bundles)?;
        let changing = self.0.writer.lock();
        let trust = self.0.live.trust.load_full();
        if trust.bundles().same_as(&bundles) {
            return Ok(false);
        }
        self.0
            .live
            .trust
            .store(Arc::new(trust.with_bundles(bundles)));
        self.bump();
        drop(changing);
        Ok(true)
    }

    /// Takes a CRL in DER from whoever has it: its signature says whose it is.
    ///
    /// A CRL that is past its next update is taken too if its number is higher; whether it still counts is judged
    /// at each use.
    ///
    /// # Errors
    ///
    /// When it cannot be used, or no CA of a bundle has signed it. Nothing changes then.
    pub fn offer_crl(&self, der: &[u8]) -> Result<CrlOutcome, CrlError> {
        let live = &self.0.live;
        let held = |trust: &Trust| trust.crls().any(|crl| *crl.state.der == *der);
        // Peers offer the same CRL again and again.
        if held(&live.trust.load()) {
            return Ok(CrlOutcome::Known);
        }
        let offered = Offered::parse(der, live.clock.now_s())?;
        let mut highest = self.0.writer.lock();
        let trust = live.trust.load_full();
        let (trust_domain, issuer) = trust
            .bundles()
            .anchors()
            .find(|(_, anchor)| offered.is_signed_by(&anchor.trust, live.algorithms()))
            .map(|(city, anchor)| (city.clone(), anchor.id))
            .ok_or(CrlError::Unsigned)?;
        let number = offered.number();
        match highest.get(&issuer) {
            Some(seen) if number < *seen => return Ok(CrlOutcome::Older),
            Some(seen) if number == *seen => match trust.crl(issuer) {
                Some(held) if *held.state.der == *der => return Ok(CrlOutcome::Known),
                Some(_) => return Err(CrlError::Conflicting),
                // It was let go with its CA, which is back.
                None => {}
            },
            _ => {}
        }
        highest.insert(issuer, number);
        live.trust.store(Arc::new(
            trust.with_crl(offered.into_crl(trust_domain, issuer)),
        ));
        self.bump();
        Ok(CrlOutcome::Taken)
    }

    /// The CRLs that are held, to serve them and to keep them over a restart.
    pub fn crls(&self) -> Vec<CrlState> {
        self.0
            .live
            .trust
            .load()
            .crls()
            .map(|crl| crl.state.clone())
            .collect()
    }

    /// The cities whose CRL is past half of its lifetime, overdue, expired or absent.
    pub fn crl_warnings(&self) -> Vec<CrlWarning> {
        let Live {
            clock,
            grace_s,
            trust,
            ..
        } = &*self.0.live;
        trust.load().crl_warnings(clock.now_s(), *grace_s)
    }

    /// The configuration for listeners. May be kept: it always speaks with the certificate in force and judges by
    /// the trust in force.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.server)
    }

    /// The configuration for connections to whom `expect` names. May be kept, as that of the server.
    /// [`Expect::server_name`] is the name to connect with.
    ///
    /// # Errors
    ///
    /// When rustls refuses the configuration, which is a fault of this program.
    pub fn client_config(&self, expect: &Expect) -> Result<Arc<ClientConfig>, IdentityError> {
        let mut clients = self.0.clients.lock();
        if let Some(config) = clients.get(expect) {
            return Ok(Arc::clone(config));
        }
        let config =
            Arc::new(tls::client_config(&self.0.live, expect).map_err(IdentityError::Tls)?);
        if clients.len() >= KEPT_CLIENT_CONFIGS {
            clients.clear();
        }
        clients.insert(expect.clone(), Arc::clone(&config));
        Ok(config)
    }

    /// Who the holder of these certificates is, if the first of them is good now. Meant for the certificates of a
    /// completed handshake, which proved that the peer holds the key and may use it for its end.
    ///
    /// # Errors
    ///
    /// The fault, when it is not good.
    pub fn peer(&self, certificates: &[CertificateDer<'_>]) -> Result<Peer, CertificateFault> {
        let leaf = certificates.first().ok_or(CertificateFault::Missing)?;
        self.0.live.verify(leaf, Usage::Either)
    }

    /// Whether a connected peer is still good now. Cheap: no signature is checked again.
    ///
    /// Listeners ask at each [`Identity::generation`] and also from time to time, because certificates and CRLs
    /// run out without any change.
    ///
    /// # Errors
    ///
    /// The fault, when the peer's certificate has been revoked or has expired, its CA is no longer trusted, or its
    /// CA's CRL is past its grace.
    pub fn check(&self, peer: &Peer) -> Result<(), CertificateFault> {
        let Live {
            clock,
            grace_s,
            trust,
            ..
        } = &*self.0.live;
        trust.load().check(peer, clock.now_s(), *grace_s)
    }

    /// A number that grows with each change of certificate, bundles or CRLs. The change is in force before the
    /// number is seen.
    pub fn generation(&self) -> watch::Receiver<u64> {
        self.0.generation.subscribe()
    }

    /// Called with the writer's lock held, so that no change is seen under an older number.
    fn bump(&self) {
        self.0.generation.send_modify(|generation| *generation += 1);
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Identity").field(&self.own().id).finish()
    }
}
