//! A gateway, assembled: workers on their threads, and the tasks that keep what they judge by up to date.

mod control;
mod upkeep;

use std::{collections::HashMap, io, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use banqiao_directory::{
    Clock, DecodedSets, Directory, DirectoryError, Envelope, EnvelopeError, verify_first,
};
use banqiao_identity::{BundleError, Identity};
use banqiao_ledger::{Ledger, StoreError};
use banqiao_policy::{GrantSet, RateLimiter};
use banqiao_telemetry::{Metrics, Tracer};
use banqiao_tlog::cosignature::WitnessSigner;
use parking_lot::Mutex;
use tokio::{sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use control::{Control, EndpointState, PublishError, Status};

use crate::{
    Names,
    accept::{self, Listener},
    adopt,
    carried::Carried,
    clients::Clients,
    credentials::Kept,
    local::LocalServices,
    peers::Peers,
    pressure::Pressure,
    receipts::Receipts,
    reconcile::{ReconcileSettings, Reconciliation},
    rights::{Rights, Route, Snapshot},
    settings::Limits,
    state,
    subject::OwnService,
    transparency::{Transparency, TransparencySettings},
    worker::{self, Running, Shared},
};

/// A service of this city as the configuration names it.
#[derive(Clone, Debug)]
pub struct ConfiguredService {
    /// Full name.
    pub name: String,
    /// Descriptor set that describes it. Without one it is carried once a set is registered.
    pub descriptor_set: Option<Arc<[u8]>>,
    /// Where it is, and who must be there.
    pub route: Route,
}

/// What a gateway is made of.
#[derive(Debug)]
pub struct Parts {
    /// City, trust domain, state folder.
    pub names: Names,
    /// Address of the client listener. Port 0: any.
    pub client: SocketAddr,
    /// Address of the inter-city listener. Port 0: any.
    pub inter_city: SocketAddr,
    /// Worker threads.
    pub workers: usize,
    /// Limits.
    pub limits: Limits,
    /// This gateway's identity.
    pub identity: Identity,
    /// This city's ledger.
    pub ledger: Ledger,
    /// The key of this city's witness; without it the gateway cosigns nothing.
    pub witness: Option<Arc<WitnessSigner>>,
    /// Services of this city.
    pub services: Vec<ConfiguredService>,
    /// File of the directory, watched for newer versions.
    pub directory_file: PathBuf,
    /// SHA-256 of the first directory.
    pub directory_pin: [u8; 32],
    /// Files and folders of CRLs, watched.
    pub crl_files: Vec<PathBuf>,
    /// When the ledger is compared with those of the other cities.
    pub reconcile: ReconcileSettings,
    /// How the other cities' witnesses are watched.
    pub transparency: TransparencySettings,
    /// How often peers are asked for directories, CRLs and catalogues.
    pub refresh: Duration,
    /// Measurements.
    pub metrics: Metrics,
    /// Traces.
    pub tracer: Tracer,
    /// The clock.
    pub clock: Clock,
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// An address cannot be listened on.
    #[error("cannot listen on {address}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A CA bundle of the directory cannot be used.
    #[error("a CA bundle of the directory cannot be used")]
    Bundles(#[source] BundleError),
    /// A configured descriptor set cannot be used.
    #[error("the descriptor set of {service} cannot be used")]
    Catalog {
        /// The service.
        service: String,
        /// Why.
        #[source]
        source: banqiao_directory::CatalogError,
    },
    /// There is no valid directory, neither kept nor in the file.
    #[error("no directory can be used: {path}")]
    Directory {
        /// The file that was tried last.
        path: PathBuf,
        /// Why.
        #[source]
        source: DirectoryProblem,
    },
    /// The grants or the registered descriptors cannot be read.
    #[error("the ledger's documents cannot be read")]
    Documents(#[source] StoreError),
    /// The directory does not list this gateway's city with its trust domain.
    #[error("the directory does not list this city with this trust domain")]
    NotListed,
    /// The gateway's own service cannot be offered.
    #[error("the gateway's own service cannot be offered")]
    OwnService(#[source] io::Error),
    /// A thread could not be started.
    #[error("a worker could not be started")]
    Worker(#[source] io::Error),
}

/// Why a directory file is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DirectoryProblem {
    /// Not an envelope.
    #[error("it is not a signed directory")]
    Envelope(#[source] EnvelopeError),
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// It does not verify.
    #[error("it does not verify from the pinned first directory")]
    Verify(#[source] Box<DirectoryError>),
}

/// A running gateway.
#[derive(Debug)]
pub struct Gateway {
    control: Control,
    workers: Vec<Running>,
    client: SocketAddr,
    inter_city: SocketAddr,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Gateway {
    /// Starts a gateway inside a tokio runtime, which keeps its upkeep; calls run on threads of their own.
    ///
    /// # Errors
    ///
    /// [`StartError`]; nothing keeps running then.
    pub async fn start(parts: Parts) -> Result<Self, StartError> {
        let (directory, envelope) = first_directory(&parts)?;
        let listed = directory.city(parts.names.city);
        if listed.is_none_or(|city| city.trust_domain != parts.names.trust_domain) {
            return Err(StartError::NotListed);
        }
        parts
            .identity
            .replace_bundles(adopt::bundles(&directory))
            .map_err(StartError::Bundles)?;
        let mut sets = DecodedSets::default();
        let snapshot = snapshot(&parts, (directory, envelope), &mut sets)?;
        let (client, client_sockets) = bind(parts.client, parts.workers)?;
        let (inter_city, inter_city_sockets) = bind(parts.inter_city, parts.workers)?;
        let own = OwnService::bind(&parts.identity).await;
        let (own, own_socket) = own.map_err(StartError::OwnService)?.into_parts();
        let limits = Arc::new(parts.limits);
        let tasks = TaskTracker::new();
        let stop = CancellationToken::new();
        let shared = Arc::new(Shared {
            appender: parts.ledger.appender(),
            adopting: tokio::sync::Mutex::default(),
            refused_directory: Mutex::default(),
            clients: Arc::new(Clients::new(Arc::clone(&limits))),
            disclosure: Arc::new(Semaphore::new(limits.disclosure_budget)),
            draining: CancellationToken::new(),
            identity: parts.identity,
            ledger: parts.ledger,
            local: LocalServices::new(),
            transparency: Transparency::new(parts.witness, parts.transparency),
            receipts: Receipts::default(),
            credentials: Kept::default(),
            reconciliation: Reconciliation::new(parts.reconcile),
            metrics: parts.metrics,
            names: parts.names,
            peers: Peers::default(),
            pressure: Pressure::default(),
            rates: RateLimiter::new(),
            rights: Rights::new(snapshot),
            tracer: parts.tracer,
            clock: parts.clock,
            limits,
        });
        let upkeep = upkeep::Upkeep {
            shared: Arc::clone(&shared),
            services: parts.services,
            own,
            directory_file: parts.directory_file,
            crl_files: parts.crl_files,
            refresh: parts.refresh,
            refused_crl: Mutex::default(),
            known: tokio::sync::Mutex::new(sets.into()),
        };
        OwnService::serve(own_socket, &shared, &tasks, &stop);
        upkeep.read_crls();
        upkeep
            .read_documents()
            .await
            .map_err(StartError::Documents)?;
        let mut workers = Vec::new();
        for (number, sockets) in client_sockets
            .into_iter()
            .zip(inter_city_sockets)
            .enumerate()
        {
            let sockets = vec![
                (Listener::Client, sockets.0),
                (Listener::InterCity, sockets.1),
            ];
            let started = worker::start(number, Arc::clone(&shared), sockets);
            workers.push(started.map_err(StartError::Worker)?);
        }
        let calls = workers
            .iter()
            .map(|running| Arc::clone(&running.worker))
            .collect();
        let control = Control::new(shared, calls, Arc::new(upkeep));
        control.keep_up(&tasks, &stop);
        Ok(Self {
            control,
            workers,
            client,
            inter_city,
            tasks,
            stop,
        })
    }

    /// The handle by which a running gateway is watched and steered.
    pub const fn control(&self) -> &Control {
        &self.control
    }

    /// Address of the client listener.
    pub const fn client_address(&self) -> SocketAddr {
        self.client
    }

    /// Address of the inter-city listener.
    pub const fn inter_city_address(&self) -> SocketAddr {
        self.inter_city
    }

    /// Takes no more calls, lets the open ones finish within the drain limit, ends the rest with a status and an
    /// entry, and stops.
    pub async fn drain(self) {
        self.control.drain();
        let limit = self.control.shared().limits.drain;
        let open = || {
            self.workers
                .iter()
                .map(|running| running.worker.calls.len())
                .sum::<usize>()
        };
        if wait_until(limit, || open() == 0).await.is_err() {
            tracing::warn!(
                calls = open(),
                "the drain limit passed: open calls are ended"
            );
            for running in &self.workers {
                running
                    .worker
                    .calls
                    .end_all(banqiao_proto::exchange::v1::Reason::Draining);
            }
            // What writing their entries and statuses takes.
            let _ = wait_until(Duration::from_secs(5), || open() == 0).await;
        }
        for running in &self.workers {
            running.worker.closing.cancel();
        }
        // The last bytes of the last answers leave with their connections' GOAWAY.
        let connections = || self.control.shared().clients.connections();
        let _ = wait_until(Duration::from_secs(1), || connections() == 0).await;
        self.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        for running in self.workers {
            running.stop.cancel();
            let joined = tokio::task::spawn_blocking(move || running.thread.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("a worker had died");
            }
        }
    }
}

/// Polls a condition until it holds.
///
/// # Errors
///
/// It did not within the limit.
async fn wait_until(limit: Duration, holds: impl Fn() -> bool) -> Result<(), ()> {
    let end = Instant::now() + limit;
    while !holds() {
        if Instant::now() >= end {
            return Err(());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// The newer of the kept directory and the one in the file.
fn first_directory(parts: &Parts) -> Result<(Directory, Envelope), StartError> {
    let kept = state::directory_path(&parts.names.state);
    let kept = read_directory(&kept, &parts.directory_pin);
    let file = read_directory(&parts.directory_file, &parts.directory_pin);
    match (kept, file) {
        (Ok(kept), Ok(file)) => Ok(if kept.0.version() >= file.0.version() {
            kept
        } else {
            file
        }),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => Ok(one),
        (Err(_), Err(source)) => Err(StartError::Directory {
            path: parts.directory_file.clone(),
            source,
        }),
    }
}

fn read_directory(
    path: &std::path::Path,
    pin: &[u8; 32],
) -> Result<(Directory, Envelope), DirectoryProblem> {
    let json = std::fs::read(path).map_err(DirectoryProblem::Read)?;
    let envelope = Envelope::parse(&json).map_err(DirectoryProblem::Envelope)?;
    let directory =
        verify_first(&envelope, pin).map_err(|error| DirectoryProblem::Verify(Box::new(error)))?;
    Ok((directory, envelope))
}

fn snapshot(
    parts: &Parts,
    (directory, envelope): (Directory, Envelope),
    sets: &mut DecodedSets,
) -> Result<Snapshot, StartError> {
    for service in &parts.services {
        let Some(set) = &service.descriptor_set else {
            continue;
        };
        sets.decode(set)
            .and_then(|set| set.restrict([&service.name]))
            .map_err(|source| StartError::Catalog {
                service: service.name.clone(),
                source,
            })?;
    }
    let mut remote = HashMap::new();
    for city in directory.cities() {
        if let Some(kept) = state::load_catalog(&parts.names.state, city.code, &remote) {
            remote.insert(city.code, Arc::new(kept));
        }
    }
    let grants = GrantSet::new([]);
    Ok(Snapshot {
        envelope: envelope.to_json().unwrap_or_default().into(),
        directory: Arc::new(directory),
        fetched_at_us: parts.clock.now_us(),
        grants_digest: grants.digest(),
        grants: Arc::new(grants),
        catalog: Arc::new(Carried::default()),
        remote: Arc::new(remote),
        routes: Arc::default(),
    })
}

type Sockets = Vec<std::net::TcpListener>;

fn bind(address: SocketAddr, workers: usize) -> Result<(SocketAddr, Sockets), StartError> {
    let mut address = address;
    let mut sockets = Vec::new();
    for _ in 0..workers.max(1) {
        let socket =
            accept::bind(address).map_err(|source| StartError::Bind { address, source })?;
        // Port 0 becomes a port with the first socket; the others share it.
        address = socket
            .local_addr()
            .map_err(|source| StartError::Bind { address, source })?;
        sockets.push(socket);
    }
    Ok((address, sockets))
}
