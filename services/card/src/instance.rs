//! One running card service: built from its configuration, served, stopped.

use std::{net::SocketAddr, time::Duration};

use banqiao_directory::Clock;
use banqiao_kit::{DatabaseError, Gateway, Server, ServerError, Service};
use banqiao_proto::card::v1::{
    card_life_service_server::{CardLifeServiceServer, SERVICE_NAME as LIFE_SERVICE_NAME},
    card_service_server::{CardServiceServer, SERVICE_NAME},
    eligibility_service_server::{EligibilityServiceServer, SERVICE_NAME as ELIGIBILITY_SERVICE},
    entitlement_service_server::{EntitlementServiceServer, SERVICE_NAME as ENTITLEMENT_SERVICE},
    pension_transfer_service_server::{
        PensionTransferServiceServer, SERVICE_NAME as PENSION_SERVICE_NAME,
    },
};
use banqiao_telemetry::{Chain, Telemetry, TelemetryError};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;

use crate::{
    cards::Cards,
    cities::Cities,
    config::CardConfig,
    eligibility::{Eligibility, EligibilityServer, EligibilityWatches},
    entitlement::{EntitlementServer, Entitlements, OtherCities},
    life::CardLifeServer,
    pension::{PensionCourier, PensionServer, PensionStore, ProgressWatches, Transfers},
    service::CardServer,
    store::Store,
    verification::VerificationPolicy,
    watch::Watches,
};

/// Largest request message: that of the methods' options, and far more than a line of an import needs.
const MAX_REQUEST: usize = 64 * 1024;
/// Largest request about a transfer: a table with six hundred periods is a tenth of it.
const MAX_TRANSFER: usize = 1024 * 1024;
/// Largest response: the results of the longest import.
const MAX_RESPONSE: usize = 64 * 1024 * 1024;

/// Why a card service does not run.
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

/// A card service that is bound and has its database open.
#[derive(Debug)]
pub struct Instance {
    cards: Cards,
    server: Server,
    telemetry: Telemetry,
    watches: Watches,
    transfers: Transfers,
    progress: ProgressWatches,
    gateway: Option<Gateway>,
    entitlement: EntitlementServer,
    eligibility: EligibilityServer,
    eligibility_watches: EligibilityWatches,
    /// Whose changes by the bureau's own programs are looked for, and how often.
    payments: (Eligibility, Duration),
    stopping: CancellationToken,
    sweep: Duration,
}

impl Instance {
    /// Opens the database and listens. Nothing global is touched: a process may run several, and installs its own log.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn start(config: CardConfig, clock: Clock) -> Result<Self, RunError> {
        Self::start_apart(config, clock.clone(), clock).await
    }

    /// As [`Instance::start`], with a clock of its own for the records: a rehearsal moves their time, and certificates stay valid.
    ///
    /// # Errors
    /// See [`RunError`].
    pub async fn start_apart(
        config: CardConfig,
        clock: Clock,
        records: Clock,
    ) -> Result<Self, RunError> {
        // Boxed: opening a database and migrating it holds much that its callers need not carry.
        Box::pin(Self::build(config, clock, records)).await
    }

    async fn build(config: CardConfig, clock: Clock, records: Clock) -> Result<Self, RunError> {
        let telemetry =
            Telemetry::build(config.telemetry, clock.clone()).map_err(RunError::Telemetry)?;
        let server = Server::bind(config.listen, config.trust, telemetry.clone(), clock);
        let server = server.await.map_err(RunError::Server)?.drain(config.drain);
        let store = Store::open_mapped(&config.database, config.mapping.as_ref())
            .await
            .map_err(RunError::Database)?;
        let stopping = CancellationToken::new();
        let watches = Watches::new(store.clone(), config.watch, stopping.clone());
        let (verifiers, validity) = config.verifiers;
        let identity = server.identity();
        let home = identity.home().clone();
        let gateway = config
            .gateway
            .map(|settings| Gateway::new(settings, identity));
        let cities = Cities::new(home.clone(), config.city, config.cities);
        let entitlements =
            Entitlements::new(&store, config.city, records.clone(), config.entitlement);
        let others = OtherCities::new(gateway.clone());
        let entitlement = EntitlementServer::new(entitlements, cities.clone(), others);
        let eligibility =
            Eligibility::new(&store, config.city, records.clone(), config.eligibility);
        let eligibility_watches =
            EligibilityWatches::new(&eligibility, config.watch, stopping.clone());
        let payments = (eligibility.clone(), config.payment_sweep);
        let eligibility = EligibilityServer::new(eligibility, eligibility_watches.clone(), cities);
        let transfers = Transfers::new(
            PensionStore::new(store.database().clone()),
            (config.city, home.clone()),
            records.clone(),
            config.calendar,
            config.pension,
        );
        let progress = ProgressWatches::new(transfers.clone(), config.watch, stopping.clone());
        let cards = Cards::new(store, config.city, records, config.terms)
            .recognising(VerificationPolicy::new(home, verifiers, validity))
            .issuing_for(config.new_card_years);
        Ok(Self {
            cards,
            server,
            telemetry,
            watches,
            transfers,
            progress,
            gateway,
            entitlement,
            eligibility,
            eligibility_watches,
            payments,
            stopping,
            sweep: config.sweep,
        })
    }

    /// The address that it listens on.
    pub const fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    /// The cards, for an import by the process itself.
    pub const fn cards(&self) -> &Cards {
        &self.cards
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
        let eligibility_watches = self.eligibility_watches;
        tasks.spawn(async move { eligibility_watches.follow().await });
        tasks.spawn(sweep(self.cards.clone(), self.sweep, stopping.clone()));
        let (payments, every) = self.payments;
        tasks.spawn(payments.follow_payments(every, stopping.clone()));
        let progress = self.progress.clone();
        tasks.spawn(async move { progress.follow().await });
        if let Some(gateway) = self.gateway {
            let courier = PensionCourier::new(self.transfers.clone(), gateway);
            let (outbox, stop) = (self.transfers.outbox().clone(), stopping.clone());
            tasks.spawn(async move { outbox.send(&courier, stop).await });
        }
        let home = self.server.identity().home().clone();
        let pension = PensionServer::new(self.transfers, self.progress, home.clone());
        let pension =
            PensionTransferServiceServer::new(pension).max_decoding_message_size(MAX_TRANSFER);
        let service = CardServer::new(self.cards.clone(), self.watches, home);
        let service = CardServiceServer::new(service)
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_RESPONSE);
        let life = CardLifeServiceServer::new(CardLifeServer::new(self.cards.clone()))
            .max_decoding_message_size(MAX_REQUEST);
        let entitlement = EntitlementServiceServer::new(self.entitlement)
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_RESPONSE);
        let eligibility = EligibilityServiceServer::new(self.eligibility)
            .max_decoding_message_size(MAX_REQUEST)
            .max_encoding_message_size(MAX_RESPONSE);
        let service = Service {
            routes: Routes::new(service)
                .add_service(life)
                .add_service(pension)
                .add_service(entitlement)
                .add_service(eligibility),
            names: &[
                SERVICE_NAME,
                LIFE_SERVICE_NAME,
                PENSION_SERVICE_NAME,
                ENTITLEMENT_SERVICE,
                ELIGIBILITY_SERVICE,
            ],
            descriptors: banqiao_proto::FILE_DESCRIPTOR_SET,
            stopping: stopping.clone(),
        };
        let served = self.server.serve(service, shutdown).await;
        // The server cancels it as it begins to stop, but not when it cannot begin.
        stopping.cancel();
        tasks.close();
        tasks.wait().await;
        self.cards.store().close().await;
        let telemetry = self.telemetry;
        // It waits for the collector.
        if let Err(error) = tokio::task::spawn_blocking(move || telemetry.shutdown()).await {
            tracing::warn!(error = %Chain(&error), "telemetry was not stopped");
        }
        served.map_err(RunError::Server)
    }
}

/// Runs a card service until `shutdown` completes.
///
/// # Errors
/// See [`RunError`].
pub async fn run(config: CardConfig, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    Instance::start(config, Clock::system())
        .await?
        .serve(shutdown)
        .await
}

/// Ends temporary losses, so that watchers learn of it.
async fn sweep(cards: Cards, every: Duration, stop: CancellationToken) {
    while stop
        .run_until_cancelled(tokio::time::sleep(every))
        .await
        .is_some()
    {
        match cards.end_temporary_losses().await {
            Ok(0) => {}
            Ok(ended) => tracing::info!(ended, "temporary losses ended"),
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "cannot end temporary losses; they end in answers all the same");
            }
        }
    }
}
