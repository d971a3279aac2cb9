//! One running item service: built from its configuration, served, stopped.

use std::{net::SocketAddr, time::Duration};

use banqiao_directory::Clock;
use banqiao_kit::{DatabaseError, Server, ServerError, Service};
use banqiao_proto::item::v1::catalogue_service_server::{self, CatalogueServiceServer};
use banqiao_telemetry::{Chain, Telemetry, TelemetryError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use crate::{
    calendars::Calendars,
    catalogue::Catalogue,
    config::ItemConfig,
    service::CatalogueServer,
    store::{Store, StoreError},
};

/// Full names of the gRPC services, for health and reflection.
const NAMES: &[&str] = &[catalogue_service_server::SERVICE_NAME];

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
    catalogue: Catalogue,
    calendars: Calendars,
    store: Store,
    clock: Clock,
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
        // Boxed: opening a database and migrating it holds much that its callers need not carry.
        Box::pin(Self::build(config, clock)).await
    }

    async fn build(config: ItemConfig, clock: Clock) -> Result<Self, RunError> {
        let telemetry =
            Telemetry::build(config.telemetry, clock.clone()).map_err(RunError::Telemetry)?;
        let server = Server::bind(
            config.listen,
            config.trust,
            telemetry.clone(),
            clock.clone(),
        );
        let server = server.await.map_err(RunError::Server)?.drain(config.drain);
        let store = Store::open(&config.database)
            .await
            .map_err(RunError::Database)?;
        let calendars = Calendars::new(store.clone(), config.calendar);
        calendars.refresh().await.map_err(RunError::Store)?;
        Ok(Self {
            catalogue: config.catalogue,
            calendars,
            store,
            clock,
            server,
            telemetry,
            stopping: CancellationToken::new(),
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

    /// The calendar by which it counts.
    pub const fn calendars(&self) -> &Calendars {
        &self.calendars
    }

    /// Serves until `shutdown` completes, then finishes what is open and closes the database.
    ///
    /// # Errors
    /// The transport failed.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let tasks = TaskTracker::new();
        let stopping = self.stopping.clone();
        tasks.spawn(sweep(self.calendars.clone(), self.sweep, stopping.clone()));
        let service = Service {
            routes: self.routes(),
            names: NAMES,
            descriptors: banqiao_proto::FILE_DESCRIPTOR_SET,
            stopping: stopping.clone(),
        };
        let served = self.server.serve(service, shutdown).await;
        // The server cancels it as it begins to stop, but not when it cannot begin.
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
        self.store.close().await;
        let telemetry = self.telemetry;
        // It waits for the collector.
        if let Err(error) = tokio::task::spawn_blocking(move || telemetry.shutdown()).await {
            tracing::warn!(error = %Chain(&error), "telemetry was not stopped");
        }
        served.map_err(RunError::Server)
    }

    /// The gRPC services, one for each part.
    fn routes(&self) -> Routes {
        let catalogue = CatalogueServer::new(self.catalogue.clone(), self.clock.clone());
        Routes::new(CatalogueServiceServer::new(catalogue))
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

/// Loads calendars that were imported meanwhile.
async fn sweep(calendars: Calendars, every: Duration, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(every))
        .await
        .is_some()
    {
        match calendars.refresh().await {
            Ok(true) => tracing::info!("an imported calendar was loaded"),
            Ok(false) => {}
            Err(error) => tracing::warn!(error = %Chain(&error), "cannot look for calendars"),
        }
    }
}
