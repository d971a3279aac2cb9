//! One running item service: built from its configuration, served, stopped.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use banqiao_directory::Clock;
use banqiao_kit::{DatabaseError, Gateway, Server, ServerError, Service};
use banqiao_proto::item::v1::{
    case_service_server::{self, CaseServiceServer},
    catalogue_service_server::{self, CatalogueServiceServer},
    material_service_server::{self, MaterialServiceServer},
    rating_service_server::{self, RatingServiceServer},
    statistics_service_server::{self, StatisticsServiceServer},
};
use banqiao_telemetry::{Chain, Telemetry, TelemetryError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use crate::{
    calendars::Calendars,
    cases::Cases,
    config::ItemConfig,
    coordination::{Coordinator, ThroughGateway},
    material::{DataCalls, Materials},
    peers::Peers,
    ratings::Ratings,
    service::{CaseServer, CatalogueServer, MaterialServer, RatingServer, StatisticsServer},
    store::{Store, StoreError},
    watch::Watches,
};

/// Largest request message: that of the methods' options.
const MAX_REQUEST: usize = 64 * 1024;
/// Largest message with a chunk of a document.
const MAX_CHUNK: usize = 1_179_648;

/// Full names of the gRPC services.
pub const SERVICES: &[&str] = &[
    catalogue_service_server::SERVICE_NAME,
    case_service_server::SERVICE_NAME,
    material_service_server::SERVICE_NAME,
    rating_service_server::SERVICE_NAME,
    statistics_service_server::SERVICE_NAME,
];

/// Why an item service does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The database.
    #[error("cannot open the database")]
    Database(#[source] DatabaseError),
    /// Address, certificates or transport.
    #[error("cannot serve")]
    Server(#[source] ServerError),
    /// What the database holds.
    #[error("cannot read the database")]
    Store(#[source] StoreError),
    /// Telemetry.
    #[error("cannot start telemetry")]
    Telemetry(#[source] TelemetryError),
}

/// An item service that is bound and has its database open.
#[derive(Debug)]
pub struct Instance {
    cases: Cases,
    coordinator: Option<Coordinator>,
    materials: Materials,
    peers: Peers,
    watches: Watches,
    server: Server,
    telemetry: Telemetry,
    stopping: CancellationToken,
    sweep: Duration,
}

impl Instance {
    /// Opens the database and listens. Nothing global is touched: a process may run several, and installs its own log.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn start(config: ItemConfig, clock: Clock) -> Result<Self, RunError> {
        Self::start_apart(config, clock.clone(), clock).await
    }

    /// As [`Instance::start`], with a clock of its own for the cases: a rehearsal moves their time, and certificates stay valid.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn start_apart(
        config: ItemConfig,
        clock: Clock,
        cases: Clock,
    ) -> Result<Self, RunError> {
        // Boxed: opening a database and migrating it holds much that its callers need not carry.
        Box::pin(Self::build(config, clock, cases)).await
    }

    async fn build(config: ItemConfig, clock: Clock, records: Clock) -> Result<Self, RunError> {
        let telemetry =
            Telemetry::build(config.telemetry, clock.clone()).map_err(RunError::Telemetry)?;
        let server = Server::bind(config.listen, config.trust, telemetry.clone(), clock);
        let server = server.await.map_err(RunError::Server)?.drain(config.drain);
        let store = Store::open(&config.database)
            .await
            .map_err(RunError::Database)?;
        let calendars = Calendars::new(store.clone(), config.calendar);
        calendars.refresh().await.map_err(RunError::Store)?;
        let stopping = CancellationToken::new();
        let watches = Watches::new(store.clone(), config.watch, stopping.clone());
        let cases = Cases::new(store, config.catalogue, calendars, config.city, records);
        let gateway = config
            .gateway
            .map(|settings| Gateway::new(settings, server.identity()));
        let network = gateway.and_then(ThroughGateway::new);
        let calls = network
            .clone()
            .map(|network| Arc::new(network) as Arc<dyn DataCalls>);
        let materials = Materials::new(cases.clone(), calls);
        let coordinator = network.map(|network| Coordinator::new(cases.clone(), Arc::new(network)));
        Ok(Self {
            cases,
            coordinator,
            materials,
            peers: config.peers,
            watches,
            server,
            telemetry,
            stopping,
            sweep: config.sweep,
        })
    }

    /// The address that it listens on.
    pub const fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// Its measurements.
    pub const fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// The cases, for the process itself.
    pub const fn cases(&self) -> &Cases {
        &self.cases
    }

    /// Serves until `shutdown` completes, then finishes what is open and closes the database.
    ///
    /// # Errors
    /// The transport failed.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let tasks = TaskTracker::new();
        let stopping = self.stopping.clone();
        let watches = self.watches.clone();
        tasks.spawn(async move { watches.follow().await });
        tasks.spawn(sweep(self.cases.clone(), self.sweep, stopping.clone()));
        tasks.spawn(drop_documents(
            self.materials.clone(),
            self.sweep,
            stopping.clone(),
        ));
        if let Some(coordinator) = self.coordinator.clone() {
            tasks.spawn(coordinate(coordinator, self.sweep, stopping.clone()));
        }
        let service = Service {
            routes: self.routes(),
            names: SERVICES,
            descriptors: banqiao_proto::FILE_DESCRIPTOR_SET,
            stopping: stopping.clone(),
        };
        let served = self.server.serve(service, shutdown).await;
        // The server cancels it as it begins to stop, but not when it cannot begin.
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
        self.cases.store().close().await;
        let telemetry = self.telemetry;
        // It waits for the collector.
        if let Err(error) = tokio::task::spawn_blocking(move || telemetry.shutdown()).await {
            tracing::warn!(error = %Chain(&error), "telemetry was not stopped");
        }
        served.map_err(RunError::Server)
    }

    /// The gRPC services, one for each part.
    fn routes(&self) -> Routes {
        let (catalogue, clock) = (self.cases.catalogue().clone(), self.cases.clock().clone());
        let catalogue = CatalogueServer::new(catalogue, clock);
        let (watches, peers) = (self.watches.clone(), self.peers.clone());
        let statistics = StatisticsServer::new(self.cases.clone(), peers.clone());
        let ratings = RatingServer::new(self.cases.clone(), watches.clone(), peers.clone());
        let statistics = StatisticsServiceServer::new(statistics);
        let ratings = RatingServiceServer::new(ratings).max_decoding_message_size(MAX_REQUEST);
        let materials = MaterialServer::new(self.materials.clone(), peers.clone());
        let materials = MaterialServiceServer::new(materials)
            .max_decoding_message_size(MAX_CHUNK)
            .max_encoding_message_size(MAX_CHUNK);
        let cases = CaseServer::new(self.cases.clone(), watches, peers, self.materials.clone());
        let cases = CaseServiceServer::new(cases).max_decoding_message_size(MAX_REQUEST);
        let catalogue = CatalogueServiceServer::new(catalogue);
        Routes::new(catalogue.max_decoding_message_size(MAX_REQUEST))
            .add_service(cases)
            .add_service(materials)
            .add_service(ratings)
            .add_service(statistics.max_decoding_message_size(MAX_REQUEST))
    }
}

/// Runs an item service until `shutdown` completes.
///
/// # Errors
/// See [`RunError`].
pub async fn run(config: ItemConfig, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    Instance::start(config, Clock::system())
        .await?
        .serve(shutdown)
        .await
}

/// Loads calendars that were imported meanwhile, and lets the clocks of cases run.
async fn sweep(cases: Cases, every: Duration, stop: CancellationToken) {
    let ratings = Ratings::new(cases.clone());
    while stop
        .run_until_cancelled(tokio::time::sleep(every))
        .await
        .is_some()
    {
        match cases.calendars().refresh().await {
            Ok(true) => tracing::info!("an imported calendar was loaded"),
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %Chain(&error), "cannot look for calendars"),
        }
        match cases.run_clocks().await {
            Ok(0) => {}
            Ok(changed) => tracing::info!(changed, "limits of cases were near or over"),
            Err(error) => tracing::warn!(error = %Chain(&error), "cannot look at limits"),
        }
        // Boxed: it holds a transaction.
        match Box::pin(ratings.run_clocks()).await {
            Ok(0) => {}
            Ok(changed) => tracing::info!(changed, "rectifications went on"),
            Err(error) => tracing::warn!(error = %Chain(&error), "cannot look at rectifications"),
        }
    }
}

/// Drops uploads that nobody goes on with, and documents that belong to no case.
async fn drop_documents(materials: Materials, every: Duration, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(every))
        .await
        .is_some()
    {
        if let Err(error) = Box::pin(materials.documents().expire()).await {
            tracing::warn!(error = %Chain(&error), "cannot drop documents");
        }
    }
}

/// Takes joint cases on at the other cities.
async fn coordinate(coordinator: Coordinator, every: Duration, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(every))
        .await
        .is_some()
    {
        if let Some(Err(error)) = stop.run_until_cancelled(coordinator.pass()).await {
            tracing::warn!(error = %Chain(&error), "cannot take joint cases on");
        }
    }
}
