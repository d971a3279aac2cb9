//! A worker: one thread with its own runtime, listener sockets, upstream connections and calls.

use std::{
    io,
    net::TcpListener,
    sync::{Arc, Weak},
    thread::JoinHandle,
    time::Duration,
};

use banqiao_identity::Identity;
use banqiao_ledger::{Appender, Ledger};
use banqiao_policy::RateLimiter;
use banqiao_telemetry::{Metrics, Tracer};
use parking_lot::Mutex;
use tokio::runtime::Builder;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    Names,
    accept::{self, Listener},
    calls::Calls,
    clients::Clients,
    connection::Conn,
    credentials::Kept,
    local::LocalServices,
    peers::Peers,
    pressure::Pressure,
    receipts::Receipts,
    reconcile::Reconciliation,
    rights::Rights,
    settings::Limits,
    transparency::Transparency,
    upstream::Pool,
};

/// How often calls are checked against grants and certificates that end by the clock.
const RECHECK: Duration = Duration::from_millis(500);

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) names: Names,
    pub(crate) limits: Arc<Limits>,
    pub(crate) identity: Identity,
    pub(crate) ledger: Ledger,
    /// For entries of the upkeep, which runs beside the workers.
    pub(crate) appender: Appender,
    /// One directory is taken over at a time.
    pub(crate) adopting: tokio::sync::Mutex<()>,
    /// The directory that was refused last.
    pub(crate) refused_directory: Mutex<Option<[u8; 32]>>,
    pub(crate) rights: Rights,
    pub(crate) rates: RateLimiter,
    pub(crate) clients: Arc<Clients>,
    pub(crate) pressure: Pressure,
    pub(crate) metrics: Metrics,
    pub(crate) tracer: Tracer,
    pub(crate) clock: banqiao_directory::Clock,
    pub(crate) peers: Peers,
    pub(crate) local: LocalServices,
    pub(crate) transparency: Transparency,
    pub(crate) receipts: Receipts,
    pub(crate) credentials: Kept,
    pub(crate) reconciliation: Reconciliation,
    /// Bytes that are held for disclosure at this moment.
    pub(crate) disclosure: Arc<tokio::sync::Semaphore>,
    /// No new calls.
    pub(crate) draining: CancellationToken,
}

/// One worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) appender: Appender,
    pub(crate) pool: Pool,
    pub(crate) calls: Arc<Calls>,
    pub(crate) tasks: TaskTracker,
    /// Stops the listeners and drains the connections.
    pub(crate) closing: CancellationToken,
    connections: Mutex<Vec<Weak<Conn>>>,
}

/// A worker's thread, from outside.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) worker: Arc<Worker>,
    /// Ends the thread, whatever is still open.
    pub(crate) stop: CancellationToken,
    pub(crate) thread: JoinHandle<()>,
}

impl Worker {
    /// Remembers a connection, so that it ends when its certificate does.
    pub(crate) fn watch(&self, conn: &Arc<Conn>) {
        let mut connections = self.connections.lock();
        if connections.len() == connections.capacity() {
            connections.retain(|held| held.strong_count() > 0);
        }
        connections.push(Arc::downgrade(conn));
    }

    /// Ends what rests on a certificate or a grant that no longer holds.
    pub(crate) fn recheck(&self) {
        let identity = &self.shared.identity;
        let snapshot = self.shared.rights.snapshot();
        self.calls
            .recheck(identity, &snapshot.grants, self.shared.clock.now_us());
        self.pool.recheck();
        self.connections.lock().retain(|held| {
            let Some(conn) = held.upgrade() else {
                return false;
            };
            if identity.check(&conn.peer).is_err() {
                conn.distrusted.cancel();
            }
            true
        });
    }

    async fn sentinel(self: Arc<Self>) {
        let mut identity = self.shared.identity.generation();
        let mut rights = self.shared.rights.generation();
        let mut ticks = tokio::time::interval(RECHECK);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Ok(()) = identity.changed() => {}
                Ok(()) = rights.changed() => {}
            }
            self.recheck();
        }
    }
}

/// Starts a worker on the sockets given.
///
/// # Errors
///
/// The thread or its runtime cannot be made.
pub(crate) fn start(
    number: usize,
    shared: Arc<Shared>,
    sockets: Vec<(Listener, TcpListener)>,
) -> io::Result<Running> {
    let (ready, started) = std::sync::mpsc::sync_channel(1);
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let thread = std::thread::Builder::new()
        .name(format!("worker-{number}"))
        .spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => {
                    let _ = ready.send(Err(error));
                    return;
                }
            };
            runtime.block_on(async move {
                let tasks = TaskTracker::new();
                let worker = Arc::new(Worker {
                    appender: shared.ledger.appender(),
                    pool: Pool::new(
                        shared.identity.clone(),
                        Arc::clone(&shared.limits),
                        tasks.clone(),
                        shared.metrics.clone(),
                    ),
                    calls: Arc::default(),
                    closing: CancellationToken::new(),
                    connections: Mutex::default(),
                    tasks,
                    shared,
                });
                worker.tasks.spawn(Arc::clone(&worker).sentinel());
                for (listener, socket) in sockets {
                    worker
                        .tasks
                        .spawn(accept::run(Arc::clone(&worker), listener, socket));
                }
                let _ = ready.send(Ok(worker));
                stopped.cancelled().await;
            });
        })?;
    let worker = started
        .recv()
        .map_err(|_| io::Error::other("a worker died at its start"))??;
    Ok(Running {
        worker,
        stop,
        thread,
    })
}
