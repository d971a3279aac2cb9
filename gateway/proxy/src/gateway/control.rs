//! The handle by which a running gateway is watched and steered.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use banqiao_directory::{CityCode, Envelope};
use banqiao_identity::{CrlState, CrlWarning, Identity};
use banqiao_ledger::{Ledger, LedgerState};
use banqiao_proto::exchange::v1::Reason;
use banqiao_proto::ledger::v1::{
    GetEntriesRequest, GetEntriesResponse, counterparty_service_client::CounterpartyServiceClient,
};
use banqiao_telemetry::Chain;
use tokio::{sync::mpsc, time::interval};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::upkeep::{FILE_POLL, REVISION_POLL, Upkeep};
use crate::{
    adopt, credentials, peers,
    reconcile::{self, ReconcileEvent, ReconcileOutcome},
    rights::Snapshot,
    subject::{EnteredReport, SubjectError, SubjectQuestion},
    transparency::{Standing, cosigners, links::Links, memory, monitor, unlinked},
    worker::{Shared, Worker},
};

pub use crate::adopt::AdoptError as PublishError;

/// Largest answer with the entries of one exchange.
const MAX_ENTRIES_BYTES: usize = 64 << 20;
/// How often receipts are linked to witnessed checkpoints: they have a minute (LEDGER.md §3).
const LINK_EVERY: Duration = Duration::from_secs(2);
/// How long the calls of a lost lease have to end before a new boot begins.
const LEASE_CLEAR: Duration = Duration::from_millis(200);

/// The handle. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Control {
    shared: Arc<Shared>,
    workers: Arc<[Arc<Worker>]>,
    upkeep: Arc<Upkeep>,
}

/// State of an upstream address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointState {
    /// `host:port`.
    pub address: String,
    /// Open connections of all workers.
    pub connections: usize,
    /// Not ejected by any worker.
    pub healthy: bool,
}

/// State of a gateway.
#[derive(Clone, Debug)]
pub struct Status {
    /// Upstream addresses that have been used.
    pub endpoints: Vec<EndpointState>,
    /// Calls in flight.
    pub calls: usize,
    /// Whether it takes no more calls.
    pub draining: bool,
    /// Every CRL that is held.
    pub crls: Vec<CrlState>,
    /// CRLs that need attention.
    pub crl_warnings: Vec<CrlWarning>,
    /// State of the ledger.
    pub ledger: LedgerState,
}

impl Control {
    pub(super) fn new(shared: Arc<Shared>, workers: Vec<Arc<Worker>>, upkeep: Arc<Upkeep>) -> Self {
        Self {
            shared,
            workers: workers.into(),
            upkeep,
        }
    }

    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// What calls are judged by at this moment.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.shared.rights.snapshot()
    }

    /// The ledger.
    pub fn ledger(&self) -> &Ledger {
        &self.shared.ledger
    }

    /// The identity.
    pub fn identity(&self) -> &Identity {
        &self.shared.identity
    }

    /// State of the gateway.
    pub fn status(&self) -> Status {
        let mut endpoints: Vec<EndpointState> = Vec::new();
        for worker in &*self.workers {
            for (address, connections, healthy) in worker.pool.status() {
                match endpoints.iter_mut().find(|known| known.address == address) {
                    Some(known) => {
                        known.connections += connections;
                        known.healthy &= healthy;
                    }
                    None => endpoints.push(EndpointState {
                        address,
                        connections,
                        healthy,
                    }),
                }
            }
        }
        Status {
            endpoints,
            calls: self.workers.iter().map(|worker| worker.calls.len()).sum(),
            draining: self.shared.draining.is_cancelled(),
            crls: self.shared.identity.crls(),
            crl_warnings: self.shared.identity.crl_warnings(),
            ledger: *self.shared.ledger.state().borrow(),
        }
    }

    /// How the ledger stands with the other cities' witnesses.
    pub fn standing(&self) -> Standing {
        let now_s = self.shared.clock.now_s();
        self.shared.transparency.standing(now_s)
    }

    /// Why the last comparison of the ledger with each city's was not finished.
    pub fn reconcile_problems(&self) -> BTreeMap<CityCode, String> {
        self.shared.reconciliation.problems()
    }

    /// Milliseconds since 1970 up to which exchanges can be compared: newer ones are in their grace.
    pub fn reconcilable_until_ms(&self) -> i64 {
        reconcile::settled_ms(&self.shared)
    }

    /// Compares a span of milliseconds since 1970 with a city that the directory lists, on behalf of `actor`, and
    /// enters the outcome. Goes on when nobody listens any more only to the end of a window. `None`: the directory
    /// does not list the city, or it is this one.
    pub async fn reconcile(
        &self,
        city: CityCode,
        span_ms: (i64, i64),
        actor: &str,
        events: mpsc::Sender<ReconcileEvent>,
    ) -> Option<ReconcileOutcome> {
        let snapshot = self.snapshot();
        let other = snapshot.directory.city(city);
        let other = other.filter(|other| other.code != self.shared.names.city)?;
        Some(reconcile::on_demand(&self.shared, other, span_ms, actor, events).await)
    }

    /// Begins a report of who read a person's data, by this city's ledger, on behalf of `actor`.
    ///
    /// # Errors
    ///
    /// [`SubjectError`]; nothing was shown.
    pub async fn subject_report(
        &self,
        question: SubjectQuestion,
        actor: &str,
    ) -> Result<EnteredReport, SubjectError> {
        EnteredReport::begin(Arc::clone(&self.shared), question, actor, "").await
    }

    /// Asks the gateway of another city for its entries of an exchange with this one.
    ///
    /// # Errors
    ///
    /// In plain words: the directory does not list the city, it cannot be reached, or it has no such exchange.
    pub async fn entries_of(
        &self,
        city: CityCode,
        exchange: uuid::Uuid,
    ) -> Result<GetEntriesResponse, String> {
        let snapshot = self.snapshot();
        let other = snapshot
            .directory
            .city(city)
            .ok_or_else(|| format!("the directory does not list {city}"))?;
        let channel = peers::channel(&self.shared, other)
            .await
            .map_err(|error| Chain(&error).to_string())?;
        let request = GetEntriesRequest {
            exchange_id: exchange.to_string(),
            attempt: 0,
        };
        CounterpartyServiceClient::new(channel)
            .max_decoding_message_size(MAX_ENTRIES_BYTES)
            .get_entries(request)
            .await
            .map(tonic::Response::into_inner)
            .map_err(|status| format!("{city} answers: {}", status.message()))
    }

    /// Whether new calls are taken: the directory holds, the ledger can be written, and nothing drains.
    ///
    /// # Errors
    ///
    /// What stands against it.
    pub fn ready(&self) -> Result<(), &'static str> {
        let snapshot = self.snapshot();
        if self.shared.draining.is_cancelled() {
            Err("draining")
        } else if !self.shared.ledger.writable() {
            Err("the ledger cannot be written")
        } else if self
            .shared
            .rights
            .grants_stale(self.shared.limits.grants_stale)
        {
            Err("the grants cannot be read")
        } else if snapshot.directory.status(self.shared.clock.now_us())
            == banqiao_directory::Status::Expired
        {
            Err("the directory has expired")
        } else {
            Ok(())
        }
    }

    /// Offers a directory, on behalf of `actor`.
    ///
    /// # Errors
    ///
    /// [`PublishError`]; the one in force stays.
    pub async fn publish(&self, envelope: &Envelope, actor: &str) -> Result<u64, PublishError> {
        adopt::directory(&self.shared, envelope, actor, "admin").await
    }

    /// Reads grants and descriptors again now, so that a change by this replica holds before it is answered.
    pub async fn reread(&self) {
        if let Err(error) = self.upkeep.read_documents().await {
            tracing::warn!(error = %Chain(&error), "the grants cannot be read");
        }
    }

    /// Reads certificate, CRLs and directory again and asks the peers for theirs. Returns what changed.
    pub async fn reload(&self) -> Vec<String> {
        let mut changes = Vec::new();
        if self.upkeep.read_certificate() {
            changes.push("certificate".to_owned());
        }
        if let Some(version) = self.upkeep.read_directory().await {
            changes.push(format!("directory {version}"));
        }
        if self.upkeep.read_crls() {
            changes.push("CRLs".to_owned());
        }
        changes.extend(self.shared.peers.refresh(&self.shared).await);
        changes
    }

    /// Takes no more calls. Returns how many are open.
    pub fn drain(&self) -> usize {
        if !self.shared.draining.is_cancelled() {
            tracing::info!("draining");
            self.shared.draining.cancel();
        }
        self.workers.iter().map(|worker| worker.calls.len()).sum()
    }

    /// Starts the tasks of the upkeep.
    pub(super) fn keep_up(&self, tasks: &TaskTracker, stop: &CancellationToken) {
        let each = |period: Duration| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
            ticks
        };
        let this = self.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut ticks = each(REVISION_POLL);
            loop {
                ticks.tick().await;
                this.upkeep.poll_documents().await;
            }
        }));
        let this = self.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            let mut ticks = each(FILE_POLL);
            loop {
                ticks.tick().await;
                this.upkeep.read_certificate();
                this.upkeep.read_directory().await;
                this.upkeep.read_crls();
                credentials::keep_crls(&this.shared).await;
                this.upkeep.gauge();
            }
        }));
        let this = self.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            loop {
                for change in this.shared.peers.refresh(&this.shared).await {
                    tracing::info!(change, "taken over from a peer");
                }
                // Spread, so that five gateways that start together do not ask together for ever.
                tokio::time::sleep(this.upkeep.refresh.mul_f64(rand::random_range(0.9..=1.1)))
                    .await;
            }
        }));
        let asking = cosigners::run(Arc::clone(&self.shared));
        tasks.spawn(stop.clone().run_until_cancelled_owned(asking));
        let monitoring = monitor::run(Arc::clone(&self.shared));
        tasks.spawn(stop.clone().run_until_cancelled_owned(monitoring));
        let shared = Arc::clone(&self.shared);
        tasks.spawn(
            stop.clone()
                .run_until_cancelled_owned(reconcile::by_itself(shared)),
        );
        let this = self.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            unlinked::recall(&this.shared).await;
            let mut links = Links::default();
            let mut ticks = each(LINK_EVERY);
            loop {
                ticks.tick().await;
                links.run(&this.shared).await;
            }
        }));
        let this = self.clone();
        tasks.spawn(
            stop.clone()
                .run_until_cancelled_owned(async move { this.watch_lease().await }),
        );
        let this = self.clone();
        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
            this.drop_archived().await;
        }));
        let confirming = memory::confirm(Arc::clone(&self.shared));
        tasks.spawn(stop.clone().run_until_cancelled_owned(confirming));
    }

    /// Removes the rows of archived entries that a process which ended left behind.
    async fn drop_archived(&self) {
        let ledger = &self.shared.ledger;
        let mut state = ledger.state();
        while state
            .wait_for(|state| *state == LedgerState::Ready)
            .await
            .is_ok()
        {
            match ledger.drop_archived().await {
                Ok(0) => return,
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => {
                    tracing::warn!(error = %Chain(&error), "rows of archived entries stay in the database");
                    return;
                }
            }
        }
    }

    /// A replica that lost its lease ends its calls and begins a new boot.
    async fn watch_lease(&self) {
        let mut state = self.shared.ledger.state();
        loop {
            if *state.borrow_and_update() == LedgerState::LeaseLost {
                tracing::error!("the lease was lost: open calls are ended");
                for worker in &*self.workers {
                    worker.calls.end_all(Reason::LeaseLost);
                }
                tokio::time::sleep(LEASE_CLEAR).await;
                if let Err(error) = self.shared.ledger.reopen().await {
                    tracing::error!(error = %Chain(&error), "no new lease yet");
                    tokio::time::sleep(Duration::from_secs(1)).await;
                    continue;
                }
            }
            if state.changed().await.is_err() {
                return;
            }
        }
    }
}
