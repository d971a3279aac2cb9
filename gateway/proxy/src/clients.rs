//! What is counted for each identity: open connections, open calls, and refusals that get an entry of their own.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use banqiao_directory::SpiffeId;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::settings::Limits;

/// Every identity that has a connection.
#[derive(Debug)]
pub(crate) struct Clients {
    known: Mutex<HashMap<SpiffeId, Arc<Client>>>,
    connections: AtomicUsize,
    limits: Arc<Limits>,
}

/// One identity.
#[derive(Debug)]
pub(crate) struct Client {
    connections: AtomicUsize,
    calls: AtomicUsize,
    /// Of them those to all cities.
    fan_outs: AtomicUsize,
    limits: Arc<Limits>,
    refusals: Mutex<Refusals>,
}

#[derive(Debug)]
struct Refusals {
    left: u32,
    since: Instant,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct ConnectionSlot {
    clients: Arc<Clients>,
    client: Option<(SpiffeId, Arc<Client>)>,
}

/// A call that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct CallSlot(Arc<Client>);

/// A call to all cities that is counted until this is dropped.
#[derive(Debug)]
pub(crate) struct FanOutSlot(Arc<Client>);

impl Clients {
    pub(crate) fn new(limits: Arc<Limits>) -> Self {
        Self {
            known: Mutex::default(),
            connections: AtomicUsize::new(0),
            limits,
        }
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    /// Counts a connection before anything is read from it. `None`: there are too many in all.
    pub(crate) fn connect(self: &Arc<Self>) -> Option<ConnectionSlot> {
        let slot = ConnectionSlot {
            clients: Arc::clone(self),
            client: None,
        };
        let before = self.connections.fetch_add(1, Ordering::Relaxed);
        (before < self.limits.connections).then_some(slot)
    }
}

impl ConnectionSlot {
    /// Counts the connection for its identity. `None`: this identity has too many.
    pub(crate) fn identify(&mut self, id: &SpiffeId) -> Option<Arc<Client>> {
        let clients = &self.clients;
        let mut known = clients.known.lock();
        let client = Arc::clone(known.entry(id.clone()).or_insert_with(|| {
            Arc::new(Client {
                connections: AtomicUsize::new(0),
                calls: AtomicUsize::new(0),
                fan_outs: AtomicUsize::new(0),
                limits: Arc::clone(&clients.limits),
                refusals: Mutex::new(Refusals {
                    left: clients.limits.refusals_per_minute,
                    since: Instant::now(),
                }),
            })
        }));
        let before = client.connections.fetch_add(1, Ordering::Relaxed);
        self.client = Some((id.clone(), Arc::clone(&client)));
        (before < clients.limits.connections_per_peer).then_some(client)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.clients.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some((_, client)) = &self.client {
            client.connections.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Client {
    /// Counts a call. `None`: too many are open.
    pub(crate) fn call(self: &Arc<Self>) -> Option<CallSlot> {
        let slot = CallSlot(Arc::clone(self));
        let before = self.calls.fetch_add(1, Ordering::Relaxed);
        (before < self.limits.client_concurrency).then_some(slot)
    }

    /// Counts a call to all cities. `None`: too many are open.
    pub(crate) fn fan_out(self: &Arc<Self>) -> Option<FanOutSlot> {
        let slot = FanOutSlot(Arc::clone(self));
        let before = self.fan_outs.fetch_add(1, Ordering::Relaxed);
        (before < self.limits.client_fan_outs).then_some(slot)
    }

    /// Whether a refusal gets an entry of its own, or is only counted.
    pub(crate) fn refusal_is_entered(&self) -> bool {
        let mut refusals = self.refusals.lock();
        let quota = self.limits.refusals_per_minute;
        let refill = refusals.since.elapsed().as_millis() * u128::from(quota) / 60_000;
        if refill > 0 {
            let refill = u32::try_from(refill).unwrap_or(u32::MAX);
            refusals.left = refusals.left.saturating_add(refill).min(quota);
            refusals.since = Instant::now();
        }
        if refusals.left == 0 {
            return false;
        }
        refusals.left -= 1;
        true
    }
}

impl Drop for FanOutSlot {
    fn drop(&mut self) {
        self.0.fan_outs.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for CallSlot {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::Relaxed);
    }
}
