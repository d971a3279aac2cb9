//! Connections to the next hop: peer gateways and this city's services.
//!
//! Each worker has its own pool, so that no call crosses threads. An endpoint that cannot be reached, or whose
//! connections break, is ejected for a jittered, growing time while others serve.

mod connection;

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use banqiao_identity::{Expect, Identity};
use banqiao_telemetry::Metrics;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use connection::Connection;
pub(crate) use connection::{Keepalive, Lease};

use crate::settings::Limits;

/// First pause after a failure. Doubles up to [`LONGEST_EJECTION`]; each is jittered by half.
const FIRST_EJECTION: Duration = Duration::from_millis(50);
/// A dead endpoint is tried again at least this often.
const LONGEST_EJECTION: Duration = Duration::from_secs(5);

/// Where a call goes next, and who must be there.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Addresses, `host:port`.
    pub(crate) addresses: Arc<[String]>,
    /// The identity that the far end must prove.
    pub(crate) expect: Expect,
}

/// Why no connection could be had.
#[derive(Debug, thiserror::Error)]
#[error("no endpoint of {expect} could be reached; the last attempt: {cause}")]
pub(crate) struct Unreachable {
    expect: String,
    cause: String,
    /// When another attempt makes sense.
    pub(crate) retry_after: Duration,
}

/// The pool of one worker.
#[derive(Debug)]
pub(crate) struct Pool {
    identity: Identity,
    limits: Arc<Limits>,
    tasks: TaskTracker,
    metrics: Metrics,
    /// By whom they must prove to be, each with the addresses that were asked for.
    endpoints: Mutex<HashMap<Expect, Vec<Arc<Endpoint>>>>,
}

/// One address with the identity expected there.
#[derive(Debug)]
struct Endpoint {
    address: String,
    expect: Expect,
    state: Mutex<State>,
    /// One connection attempt at a time; the others wait for its outcome.
    connecting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    connections: Vec<Arc<Connection>>,
    failures: u32,
    ejected_until: Option<Instant>,
    /// Of the last attempt to connect.
    cause: String,
}

impl Pool {
    pub(crate) fn new(
        identity: Identity,
        limits: Arc<Limits>,
        tasks: TaskTracker,
        metrics: Metrics,
    ) -> Self {
        Self {
            identity,
            limits,
            tasks,
            metrics,
            endpoints: Mutex::default(),
        }
    }

    /// A place for one call on a connection to the target, on the least busy healthy endpoint.
    ///
    /// # Errors
    ///
    /// [`Unreachable`] when every endpoint is ejected or fails.
    pub(crate) async fn lease(&self, target: &Target) -> Result<Lease, Unreachable> {
        let mut endpoints: Vec<_> = target
            .addresses
            .iter()
            .map(|address| self.endpoint(address, &target.expect))
            .collect();
        // Stable, so that equally busy endpoints are taken in the directory's order.
        endpoints.sort_by_key(|endpoint| endpoint.load());
        let mut cause = String::from("it has no address");
        let mut retry_after = LONGEST_EJECTION;
        for endpoint in &endpoints {
            match self.lease_on(endpoint).await {
                Ok(lease) => return Ok(lease),
                Err((why, wait)) => {
                    cause = why;
                    retry_after = retry_after.min(wait);
                }
            }
        }
        Err(Unreachable {
            expect: format!("{:?}", target.expect),
            cause,
            retry_after,
        })
    }

    /// Open connections and health of each endpoint: (address, connections, healthy).
    pub(crate) fn status(&self) -> Vec<(String, usize, bool)> {
        let now = Instant::now();
        let endpoints = self.endpoints.lock();
        endpoints
            .values()
            .flatten()
            .map(|endpoint| {
                let state = endpoint.state.lock();
                let healthy = state.ejected_until.is_none_or(|until| until <= now);
                (endpoint.address.clone(), state.connections.len(), healthy)
            })
            .collect()
    }

    /// Ends connections whose far end is no longer trusted, and forgets broken ones.
    pub(crate) fn recheck(&self) {
        for endpoint in self.endpoints.lock().values().flatten() {
            endpoint.state.lock().connections.retain(|connection| {
                let trusted = self.identity.check(connection.peer()).is_ok();
                if !trusted {
                    connection.close();
                }
                trusted && connection.usable()
            });
        }
    }

    fn endpoint(&self, address: &str, expect: &Expect) -> Arc<Endpoint> {
        let mut endpoints = self.endpoints.lock();
        // Each call asks: it allocates nothing where the endpoint is known.
        let known = endpoints.get(expect).and_then(|known| {
            let mut known = known.iter();
            known.find(|endpoint| endpoint.address == address)
        });
        if let Some(endpoint) = known {
            return Arc::clone(endpoint);
        }
        let endpoint = Arc::new(Endpoint {
            address: address.to_owned(),
            expect: expect.clone(),
            state: Mutex::default(),
            connecting: tokio::sync::Mutex::default(),
        });
        let known = endpoints.entry(expect.clone()).or_default();
        known.push(Arc::clone(&endpoint));
        endpoint
    }

    async fn lease_on(&self, endpoint: &Arc<Endpoint>) -> Result<Lease, (String, Duration)> {
        loop {
            if let Some(lease) = endpoint.vacant() {
                return Ok(lease);
            }
            if endpoint.state.lock().connections.len() >= self.limits.upstream_connections {
                return endpoint.crowded().await.ok_or_else(|| endpoint.refusal());
            }
            let _turn = endpoint.connecting.lock().await;
            // Whoever had the turn before may have opened one.
            if let Some(lease) = endpoint.vacant() {
                return Ok(lease);
            }
            if let Some(refusal) = endpoint.ejection() {
                return Err(refusal);
            }
            // Boxed: calls that find a connection need no room for making one.
            match Box::pin(self.connect(endpoint)).await {
                Ok(connection) => endpoint.opened(connection),
                Err(cause) => {
                    endpoint.failed(cause);
                    return Err(endpoint.refusal());
                }
            }
        }
    }

    async fn connect(&self, endpoint: &Arc<Endpoint>) -> Result<Arc<Connection>, String> {
        let attempt = Connection::open(
            &endpoint.address,
            &endpoint.expect,
            &self.identity,
            &self.limits,
            &self.tasks,
            &self.metrics,
            {
                let endpoint = Arc::downgrade(endpoint);
                move |broken| {
                    if let Some(endpoint) = endpoint.upgrade() {
                        endpoint.closed(broken);
                    }
                }
            },
        );
        match tokio::time::timeout(self.limits.connect_timeout, attempt).await {
            Ok(outcome) => outcome,
            Err(_) => Err("timed out".to_owned()),
        }
    }
}

impl Endpoint {
    /// Calls in flight, with ejected endpoints behind all others.
    fn load(&self) -> usize {
        let state = self.state.lock();
        if state
            .ejected_until
            .is_some_and(|until| until > Instant::now())
        {
            return usize::MAX;
        }
        state
            .connections
            .iter()
            .map(|connection| connection.in_flight())
            .sum()
    }

    /// A place on a connection that has one free.
    fn vacant(&self) -> Option<Lease> {
        let state = self.state.lock();
        let usable = state
            .connections
            .iter()
            .filter(|connection| connection.usable());
        usable
            .min_by_key(|connection| connection.in_flight())
            .and_then(Connection::vacant)
    }

    /// Every connection is full: waits for the least busy one.
    async fn crowded(&self) -> Option<Lease> {
        let connection = {
            let state = self.state.lock();
            let usable = state
                .connections
                .iter()
                .filter(|connection| connection.usable());
            usable
                .min_by_key(|connection| connection.in_flight())
                .cloned()?
        };
        connection.wait().await
    }

    fn opened(&self, connection: Arc<Connection>) {
        let mut state = self.state.lock();
        state.connections.retain(|held| held.usable());
        state.connections.push(connection);
        state.failures = 0;
        state.ejected_until = None;
    }

    fn failed(&self, cause: String) {
        let mut state = self.state.lock();
        state.failures = state.failures.saturating_add(1);
        let growth = 1_u32 << state.failures.saturating_sub(1).min(10);
        let pause = FIRST_EJECTION.saturating_mul(growth).min(LONGEST_EJECTION);
        state.ejected_until = Some(Instant::now() + jittered(pause));
        tracing::info!(
            address = self.address,
            cause,
            failures = state.failures,
            "endpoint ejected"
        );
        state.cause = cause;
    }

    fn closed(&self, broken: bool) {
        self.state
            .lock()
            .connections
            .retain(|connection| connection.usable());
        if broken {
            tracing::info!(address = self.address, "connection to the endpoint broke");
        }
    }

    fn ejection(&self) -> Option<(String, Duration)> {
        let state = self.state.lock();
        let until = state.ejected_until?;
        let now = Instant::now();
        (until > now).then(|| (state.cause.clone(), until - now))
    }

    fn refusal(&self) -> (String, Duration) {
        self.ejection()
            .unwrap_or_else(|| (self.state.lock().cause.clone(), FIRST_EJECTION))
    }
}

/// A pause between half of `pause` and all of it, so that replicas do not come back in step.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::random_range(0.5..=1.0))
}

/// Resolves `host:port` to addresses.
async fn resolve(address: &str) -> Result<Vec<SocketAddr>, String> {
    tokio::net::lookup_host(address)
        .await
        .map(Iterator::collect)
        .map_err(|error| format!("{address} does not resolve: {error}"))
}
