//! One running laboratory service: built from its configuration, served, stopped.

use std::{net::SocketAddr, time::Duration};

use banqiao_directory::Clock;
use banqiao_kit::{DatabaseError, Gateway, Server, ServerError, Service};
use banqiao_proto::lab::v1::{
    catalogue_service_server::{self, CatalogueServiceServer},
    fhir_service_server::{self, FhirServiceServer},
    quality_service_server::{self, QualityServiceServer},
    recognition_service_server::{self, RecognitionServiceServer},
    referral_service_server::{self, ReferralServiceServer},
    report_service_server::{self, ReportServiceServer},
};
use banqiao_telemetry::{Chain, Telemetry, TelemetryError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use crate::{
    catalogue::CatalogueServer,
    config::LabConfig,
    courier::{LabCourier, sweep},
    fhir::FhirServer,
    quality::{QualityServer, Rounds},
    recognition::{Recognition, RecognitionServer},
    referral::{MAX_CHUNK, ReferralServer, ReferralWatches, Referrals},
    report::{ReportServer, Reports, Watches},
    store::Store,
};

/// Largest request message: a FHIR bundle of many reports.
const MAX_REQUEST: usize = 4 * 1024 * 1024;
/// Largest response: the results of the longest bulk call.
const MAX_RESPONSE: usize = 64 * 1024 * 1024;

/// Names of the services, for health checks.
const NAMES: [&str; 6] = [
    catalogue_service_server::SERVICE_NAME,
    fhir_service_server::SERVICE_NAME,
    quality_service_server::SERVICE_NAME,
    recognition_service_server::SERVICE_NAME,
    referral_service_server::SERVICE_NAME,
    report_service_server::SERVICE_NAME,
];

/// Why a laboratory service does not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// The database.
    #[error("cannot open the database")]
    Database(#[source] DatabaseError),
    /// Address, certificates or transport.
    #[error("cannot serve")]
    Server(#[source] ServerError),
    /// Telemetry.
    #[error("cannot start telemetry")]
    Telemetry(#[source] TelemetryError),
}

/// A laboratory service that is bound and has its database open.
#[derive(Debug)]
pub struct Instance {
    reports: Reports,
    rounds: Rounds,
    recognition: Recognition,
    referrals: Referrals,
    referral_watches: ReferralWatches,
    referral_sweep: Duration,
    gateway: Option<Gateway>,
    server: Server,
    telemetry: Telemetry,
    watches: Watches,
    stopping: CancellationToken,
}

impl Instance {
    /// Opens the database and listens. Nothing global is touched: a process may run several, and installs its own log.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn start(config: LabConfig, clock: Clock) -> Result<Self, RunError> {
        // Boxed: opening a database and migrating it holds much that its callers need not carry.
        Box::pin(Self::build(config, clock)).await
    }

    async fn build(config: LabConfig, clock: Clock) -> Result<Self, RunError> {
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
        let stopping = CancellationToken::new();
        let watches = Watches::new(store.clone(), config.city, config.watch, stopping.clone());
        let reports = Reports::new(
            store,
            config.city,
            clock,
            config.catalogue,
            config.institutions,
        );
        let rounds = Rounds::new(&reports, config.quality_organisers);
        let recognition = Recognition::new(reports.clone(), rounds.clone(), config.estimates);
        let referrals = Referrals::new(&reports);
        let referral_watches =
            ReferralWatches::new(referrals.clone(), config.watch, stopping.clone());
        let gateway = config
            .gateway
            .map(|settings| Gateway::new(settings, server.identity()));
        Ok(Self {
            reports,
            rounds,
            recognition,
            referrals,
            referral_watches,
            referral_sweep: config.referral_sweep,
            gateway,
            server,
            telemetry,
            watches,
            stopping,
        })
    }

    /// The address that it listens on.
    pub const fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// The reports, for an import by the process itself.
    pub const fn reports(&self) -> &Reports {
        &self.reports
    }

    /// Its measurements.
    pub const fn telemetry(&self) -> &Telemetry {
        &self.telemetry
    }

    /// Serves until `shutdown` completes, then finishes what is open and closes the database.
    ///
    /// # Errors
    /// The transport failed.
    pub async fn serve(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let tasks = TaskTracker::new();
        let (watches, stopping) = (self.watches.clone(), self.stopping.clone());
        tasks.spawn(async move { watches.follow().await });
        if let Some(gateway) = self.gateway {
            let courier = LabCourier::new(&self.reports, self.referrals.clone(), gateway);
            let (getter, every) = (courier.clone(), self.referral_sweep);
            tasks.spawn(getter.get_documents(every, stopping.clone()));
            let (outbox, stop) = (self.reports.store().outbox().clone(), stopping.clone());
            tasks.spawn(async move { outbox.send(&courier, stop).await });
        }
        let referral_watches = self.referral_watches.clone();
        tasks.spawn(async move { referral_watches.follow().await });
        let every = self.referral_sweep;
        tasks.spawn(sweep(self.referrals.clone(), every, stopping.clone()));
        let home = self.server.identity().home().clone();
        let catalogue = CatalogueServer::new(
            self.reports.catalogue().clone(),
            self.reports.institutions().clone(),
        );
        let fhir = FhirServer::new(self.reports.clone(), home.clone());
        let quality = QualityServer::new(self.rounds);
        let recognition = RecognitionServer::new(self.recognition);
        let referrals = ReferralServer::new(self.referrals, self.referral_watches);
        let reports = ReportServer::new(self.reports.clone(), self.watches, home);
        let routes = Routes::new(CatalogueServiceServer::new(catalogue))
            .add_service(FhirServiceServer::new(fhir).max_decoding_message_size(MAX_REQUEST))
            .add_service(
                QualityServiceServer::new(quality)
                    .max_decoding_message_size(MAX_REQUEST)
                    .max_encoding_message_size(MAX_RESPONSE),
            )
            .add_service(
                RecognitionServiceServer::new(recognition)
                    .max_decoding_message_size(MAX_REQUEST)
                    .max_encoding_message_size(MAX_RESPONSE),
            )
            .add_service(
                ReferralServiceServer::new(referrals)
                    .max_decoding_message_size(MAX_CHUNK)
                    .max_encoding_message_size(MAX_CHUNK),
            )
            .add_service(
                ReportServiceServer::new(reports)
                    .max_decoding_message_size(MAX_REQUEST)
                    .max_encoding_message_size(MAX_RESPONSE),
            );
        let service = Service {
            routes,
            names: &NAMES,
            descriptors: banqiao_proto::FILE_DESCRIPTOR_SET,
            stopping: stopping.clone(),
        };
        let served = self.server.serve(service, shutdown).await;
        // The server cancels it as it begins to stop, but not when it cannot begin.
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
        self.reports.store().close().await;
        let telemetry = self.telemetry;
        // It waits for the collector.
        if let Err(error) = tokio::task::spawn_blocking(move || telemetry.shutdown()).await {
            tracing::warn!(error = %Chain(&error), "telemetry was not stopped");
        }
        served.map_err(RunError::Server)
    }
}

/// Runs a laboratory service until `shutdown` completes.
///
/// # Errors
/// See [`RunError`].
pub async fn run(config: LabConfig, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    Instance::start(config, Clock::system())
        .await?
        .serve(shutdown)
        .await
}
