//! The service's own certificate, and the city that it belongs to: read from files, and read again as they change.

use std::{collections::BTreeMap, io, path::PathBuf, time::Duration};

use banqiao_directory::{Clock, SpiffeId, TrustDomain};
use banqiao_identity::{
    BundleError, CertificateFault, CrlError, CrlOutcome, CrlWarning, DEFAULT_CRL_GRACE, Identity,
    IdentityError, IdentityFiles, IdentitySettings,
};
use banqiao_telemetry::{Chain, Metrics};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, pem, pem::PemObject};
use tokio_util::sync::CancellationToken;

use crate::settings::Section;

/// How often the files are looked at: a revocation takes effect within seconds, and four small files cost nothing.
const DEFAULT_RELOAD: Duration = Duration::from_secs(10);

/// The `[identity]` table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustSettings {
    /// PEM certificate of this service.
    pub certificate: PathBuf,
    /// PEM private key, mode 0600.
    pub private_key: PathBuf,
    /// PEM certificates of the city's CA.
    pub ca_bundle: PathBuf,
    /// The city's CRL, DER or PEM.
    pub crl: PathBuf,
    /// How long a CRL is used past its next update.
    pub crl_grace: Duration,
    /// How often the files are looked at.
    pub reload: Duration,
}

impl TrustSettings {
    /// Reads the `[identity]` table: `certificate`, `private_key`, `ca_bundle`, `crl`, `crl_grace`, `reload`.
    pub fn read(section: &mut Section<'_>) -> Option<Self> {
        let (hour, month) = (Duration::from_secs(3_600), Duration::from_secs(31 * 86_400));
        let certificate = section.path("certificate");
        let private_key = section.path("private_key");
        let ca_bundle = section.path("ca_bundle");
        let crl = section.path("crl");
        let crl_grace = section.duration("crl_grace", DEFAULT_CRL_GRACE, Duration::ZERO..=month);
        let reload = section.duration("reload", DEFAULT_RELOAD, Duration::from_millis(100)..=hour);
        Some(Self {
            certificate: certificate?,
            private_key: private_key?,
            ca_bundle: ca_bundle?,
            crl: crl?,
            crl_grace,
            reload,
        })
    }
}

/// Why a service does not know who it is or whom to trust.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrustError {
    /// The CA bundle is refused.
    #[error("cannot trust {path}")]
    Bundle {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: BundleError,
    },
    /// The CRL is refused.
    #[error("cannot use the CRL {path}")]
    Crl {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: CrlError,
    },
    /// The own certificate and key.
    #[error("cannot use the service's own certificate and key")]
    Own(#[source] IdentityError),
    /// The own certificate would be refused by the city's gateway.
    #[error("the city's gateway would refuse this service's certificate")]
    OwnRefused(#[source] CertificateFault),
    /// A certificate or CRL in PEM cannot be read.
    #[error("{path} holds no PEM that can be read")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: pem::Error,
    },
    /// A file cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
}

/// The identity of a service, which trusts its own city only.
#[derive(Clone, Debug)]
pub struct ServiceIdentity {
    identity: Identity,
    settings: TrustSettings,
    gateway: SpiffeId,
}

impl ServiceIdentity {
    /// Reads every file. Blocks meanwhile.
    ///
    /// # Errors
    /// See [`TrustError`].
    pub fn load(settings: TrustSettings, clock: Clock) -> Result<Self, TrustError> {
        let files = IdentityFiles {
            certificate: settings.certificate.clone(),
            private_key: settings.private_key.clone(),
        };
        let identity_settings = IdentitySettings {
            crl_grace: settings.crl_grace,
        };
        let identity = Identity::load(files, identity_settings, clock).map_err(TrustError::Own)?;
        let gateway = identity.own().id.trust_domain().gateway();
        let this = Self {
            identity,
            settings,
            gateway,
        };
        this.reload_trust()?;
        match this.identity.own_fault() {
            Some(fault) => Err(TrustError::OwnRefused(fault)),
            None => Ok(this),
        }
    }

    /// The identity.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The city that this service belongs to, by its own certificate.
    pub const fn home(&self) -> &TrustDomain {
        self.gateway.trust_domain()
    }

    /// Who alone may call: the city's gateway.
    pub const fn gateway(&self) -> &SpiffeId {
        &self.gateway
    }

    fn reload_trust(&self) -> Result<bool, TrustError> {
        let path = &self.settings.ca_bundle;
        let bundle: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(path)?)
            .collect::<Result<_, _>>()
            .map_err(|source| TrustError::Pem {
                path: path.clone(),
                source,
            })?;
        let bundles = BTreeMap::from([(self.home().clone(), bundle)]);
        let changed = self.identity.replace_bundles(bundles);
        let changed = changed.map_err(|source| TrustError::Bundle {
            path: path.clone(),
            source,
        })?;
        let path = &self.settings.crl;
        let mut crl = read(path)?;
        if crl.starts_with(b"-----BEGIN") {
            let der = CertificateRevocationListDer::from_pem_slice(&crl);
            let der = der.map_err(|source| TrustError::Pem {
                path: path.clone(),
                source,
            })?;
            crl = der.as_ref().to_vec();
        }
        let outcome = self.identity.offer_crl(&crl);
        let outcome = outcome.map_err(|source| TrustError::Crl {
            path: path.clone(),
            source,
        })?;
        Ok(changed || outcome == CrlOutcome::Taken)
    }

    fn reload(&self) -> Result<bool, TrustError> {
        let own = self.identity.reload().map_err(TrustError::Own);
        let trust = self.reload_trust();
        Ok(own? | trust?)
    }

    /// Looks at the files from time to time until `stop` is cancelled, and tells operators how long certificate and CRL will do. What
    /// cannot be read leaves in force what was read before.
    pub(crate) async fn keep_current(&self, metrics: &Metrics, stop: CancellationToken) {
        let mut last_fault = String::new();
        let mut last_warnings = Vec::new();
        loop {
            self.measure(metrics);
            let warnings: Vec<_> = self.identity.crl_warnings().iter().map(warning).collect();
            if warnings != last_warnings {
                for warning in &warnings {
                    tracing::warn!("{warning}");
                }
                last_warnings = warnings;
            }
            if stop
                .run_until_cancelled(tokio::time::sleep(self.settings.reload))
                .await
                .is_none()
            {
                return;
            }
            let this = self.clone();
            let fault = match tokio::task::spawn_blocking(move || this.reload()).await {
                Ok(Ok(true)) => {
                    tracing::info!("certificates or CRL were read again");
                    String::new()
                }
                Ok(Ok(false)) => String::new(),
                Ok(Err(error)) => Chain(&error).to_string(),
                Err(error) => Chain(&error).to_string(),
            };
            if !fault.is_empty() && fault != last_fault {
                tracing::error!(error = fault, "the old certificates and CRL stay in force");
            }
            last_fault = fault;
        }
    }

    fn measure(&self, metrics: &Metrics) {
        metrics.certificate(self.identity.own().not_after_s);
        let crls = self.identity.crls();
        metrics.crls(
            crls.iter()
                .map(|crl| (crl.trust_domain.as_str(), crl.next_update_s)),
        );
    }
}

fn warning(warning: &CrlWarning) -> String {
    format!(
        "the CRL of {} is {:?}",
        warning.trust_domain, warning.standing
    )
}

fn read(path: &PathBuf) -> Result<Vec<u8>, TrustError> {
    std::fs::read(path).map_err(|source| TrustError::Read {
        path: path.clone(),
        source,
    })
}
