//! The tasks that keep a gateway's view of the world up to date.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use banqiao_directory::{Catalog, DecodedSets, Envelope, ServiceSet};
use banqiao_identity::CrlOutcome;
use banqiao_ledger::{Document, DocumentKind, StoreError};
use banqiao_policy::{Grant, GrantSet};
use banqiao_proto::directory::v1::{Grant as ProtoGrant, RegisterDescriptorSetRequest};
use banqiao_telemetry::Chain;
use parking_lot::Mutex;
use prost::Message;

use super::ConfiguredService;
use crate::{adopt, carried::Carried, rights::Route, state, worker::Shared};

/// How often the revision of grants and descriptors is read (DESIGN §5).
pub(super) const REVISION_POLL: Duration = Duration::from_millis(500);
/// How often watched files are looked at: a revocation has to bite within 2 s.
pub(super) const FILE_POLL: Duration = Duration::from_millis(700);

/// Where the view comes from.
#[derive(Debug)]
pub(super) struct Upkeep {
    pub(super) shared: Arc<Shared>,
    pub(super) services: Vec<ConfiguredService>,
    /// The service that the gateway offers of its own accord, and where it answers.
    pub(super) own: (ServiceSet, Route),
    pub(super) directory_file: PathBuf,
    pub(super) crl_files: Vec<PathBuf>,
    pub(super) refresh: Duration,
    /// What the documents in force were read from. It is held while they are read: of two readers at once, the one that
    /// read first could else put a revoked grant back in force, and nothing would set it right.
    pub(super) known: tokio::sync::Mutex<Known>,
    /// The content of the CRL file that was refused last.
    pub(super) refused_crl: Mutex<Option<[u8; 32]>>,
}

/// What the documents in force were read from.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Their revision.
    revision: Option<u64>,
    /// Their descriptor sets. Grants change often, and the sets with them hardly ever.
    sets: DecodedSets,
}

impl From<DecodedSets> for Known {
    fn from(sets: DecodedSets) -> Self {
        Self {
            revision: None,
            sets,
        }
    }
}

impl Upkeep {
    /// Reads the grants and the registered descriptors, and puts them in force.
    pub(super) async fn read_documents(&self) -> Result<(), StoreError> {
        let mut known = self.known.lock().await;
        self.read_into(&mut known).await
    }

    /// As [`Upkeep::read_documents`], with the turn at hand.
    async fn read_into(&self, known: &mut Known) -> Result<(), StoreError> {
        let (revision, grants) = self.shared.ledger.documents(DocumentKind::Grant).await?;
        let (later, sets) = self
            .shared
            .ledger
            .documents(DocumentKind::DescriptorSet)
            .await?;
        let grants = grant_set(grants);
        let (catalog, routes) = self.catalog(sets, &mut known.sets);
        known.sets.sweep();
        let now = self.shared.clock.now_us();
        self.shared.metrics.grants(grants.in_force(now));
        self.shared.rights.change(|snapshot| {
            snapshot.grants_digest = grants.digest();
            snapshot.grants = Arc::new(grants);
            snapshot.catalog = Arc::new(catalog);
            snapshot.routes = Arc::new(routes);
        });
        self.shared.rights.grants_are_current();
        // A change between the two reads is seen at the next poll.
        known.revision = Some(revision.min(later));
        Ok(())
    }

    /// The services of the configuration, with what has been registered since in their place.
    fn catalog(
        &self,
        registered: Vec<Document>,
        sets: &mut DecodedSets,
    ) -> (Carried, HashMap<Arc<str>, Route>) {
        let mut catalog = Catalog::default();
        let mut routes = HashMap::new();
        for service in &self.services {
            routes.insert(Arc::from(service.name.as_str()), service.route.clone());
            let Some(set) = &service.descriptor_set else {
                continue;
            };
            match sets
                .decode(set)
                .and_then(|set| set.restrict([&service.name]))
            {
                Ok(set) => catalog = catalog.replacing(set),
                Err(error) => tracing::error!(service = service.name, %error, "not carried"),
            }
        }
        for document in registered {
            match registration(&document, sets) {
                Ok((set, route)) => {
                    if let Some(route) = route {
                        for service in set.services() {
                            routes.insert(Arc::clone(&service.name), route.clone());
                        }
                    }
                    catalog = catalog.replacing(set);
                }
                Err(error) => tracing::error!(key = document.key, error, "not carried"),
            }
        }
        // Last: nothing that was configured or registered takes its place.
        let (set, route) = &self.own;
        for service in set.services() {
            routes.insert(Arc::clone(&service.name), route.clone());
        }
        catalog = catalog.replacing(set.clone());
        (Carried::new(catalog), routes)
    }

    /// Looks for changed grants and descriptors.
    pub(super) async fn poll_documents(&self) {
        let mut known = self.known.lock().await;
        let read = match self.shared.ledger.revision().await {
            Ok(revision) if Some(revision) == known.revision => {
                self.shared.rights.grants_are_current();
                Ok(())
            }
            Ok(_) => self.read_into(&mut known).await,
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            tracing::warn!(error = %Chain(&error), "the grants cannot be read");
        }
    }

    /// Offers every CRL in the watched files and the state folder. True when one was taken.
    pub(super) fn read_crls(&self) -> bool {
        let kept = state::crl_folder(&self.shared.names.state);
        let mut taken = false;
        for path in self
            .crl_files
            .iter()
            .chain([&kept])
            .flat_map(|path| files(path))
        {
            let Ok(bytes) = fs::read(&path) else { continue };
            match self.shared.identity.offer_crl(&der(&bytes)) {
                Ok(CrlOutcome::Taken) => {
                    tracing::info!(path = %path.display(), "CRL taken over");
                    self.shared.metrics.reloaded("crl", true);
                    taken = true;
                }
                Ok(CrlOutcome::Known | CrlOutcome::Older) => {}
                Err(error) => {
                    // Said once for each content, or a bad file would fill the log.
                    let digest = banqiao_ledger::digest::sha256(&bytes);
                    if self.refused_crl.lock().replace(digest) != Some(digest) {
                        self.shared.metrics.reloaded("crl", false);
                        tracing::warn!(path = %path.display(), error = %Chain(&error), "CRL refused");
                    }
                }
            }
        }
        if taken {
            state::save_crls(&self.shared);
        }
        taken
    }

    /// Reads the own certificate and key again.
    pub(super) fn read_certificate(&self) -> bool {
        match self.shared.identity.reload() {
            Ok(changed) => {
                if changed {
                    tracing::info!("certificate reloaded");
                    self.shared.metrics.reloaded("certificate", true);
                }
                changed
            }
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "the certificate was not reloaded");
                self.shared.metrics.reloaded("certificate", false);
                false
            }
        }
    }

    /// Takes over the directory in the watched file, if it is another one.
    pub(super) async fn read_directory(&self) -> Option<u64> {
        let json = fs::read(&self.directory_file).ok()?;
        let envelope = Envelope::parse(&json).ok()?;
        let held = self.shared.rights.snapshot();
        if envelope.digest() == held.directory.digest() {
            return None;
        }
        match adopt::directory(&self.shared, &envelope, "gateway", "file").await {
            Ok(version) => Some(version),
            Err(error) => {
                tracing::debug!(error = %Chain(&error), "the directory in the file was not taken over");
                None
            }
        }
    }

    /// Tells telemetry what is due when.
    pub(super) fn gauge(&self) {
        let Shared {
            metrics,
            rights,
            identity,
            ledger,
            pressure,
            limits,
            ..
        } = &*self.shared;
        pressure.sample(limits.memory);
        let directory = &rights.snapshot().directory;
        metrics.directory(
            directory.version(),
            directory.issued_at_us(),
            directory.expires_at_us(),
        );
        metrics.certificate(identity.own().not_after_s);
        let crls = identity.crls();
        metrics.crls(
            crls.iter()
                .map(|crl| (crl.trust_domain.as_str(), crl.next_update_s)),
        );
        metrics.ledger_size(ledger.size());
        metrics.ledger_writable(ledger.writable());
    }
}

fn grant_set(documents: Vec<Document>) -> GrantSet {
    GrantSet::new(documents.into_iter().filter_map(|document| {
        let grant = ProtoGrant::decode(&*document.bytes).ok()?;
        match Grant::parse(grant, None, None) {
            Ok(grant) => Some(grant),
            Err(faults) => {
                tracing::error!(
                    id = document.key,
                    ?faults,
                    "a stored grant is not sound: it grants nothing"
                );
                None
            }
        }
    }))
}

/// A registered set, and where its services are if the registration says it.
fn registration(
    document: &Document,
    sets: &mut DecodedSets,
) -> Result<(ServiceSet, Option<Route>), String> {
    let request = RegisterDescriptorSetRequest::decode(&*document.bytes)
        .map_err(|error| error.to_string())?;
    let mut set = sets
        .decode(&request.descriptor_set)
        .map_err(|error| error.to_string())?;
    if !request.services.is_empty() {
        set = set
            .restrict(&request.services)
            .map_err(|error| error.to_string())?;
    }
    if request.endpoints.is_empty() {
        return Ok((set, None));
    }
    let identity = request
        .identity
        .parse()
        .map_err(|_| "its identity is no SPIFFE ID".to_owned())?;
    Ok((
        set,
        Some(Route {
            endpoints: request.endpoints.into(),
            identity,
        }),
    ))
}

/// A file, or the `.crl`, `.der` and `.pem` files of a folder.
fn files(path: &Path) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_owned()];
    }
    let Ok(entries) = fs::read_dir(path) else {
        return Vec::new();
    };
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| {
            let kind = path.extension().and_then(|kind| kind.to_str());
            matches!(kind, Some("crl" | "der" | "pem"))
        })
        .collect();
    files.sort();
    files
}

/// The DER in a PEM file, or the file itself.
fn der(bytes: &[u8]) -> Vec<u8> {
    use rustls::pki_types::{CertificateRevocationListDer, pem::PemObject};
    if !bytes.starts_with(b"-----") {
        return bytes.to_vec();
    }
    CertificateRevocationListDer::from_pem_slice(bytes)
        .map_or_else(|_| bytes.to_vec(), |crl| crl.as_ref().to_vec())
}
