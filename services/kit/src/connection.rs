//! Connections: accepted, proven by TLS, watched while they are open.

use std::{
    collections::HashMap,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use banqiao_directory::SpiffeId;
use banqiao_identity::{Identity, Peer};
use banqiao_proto::ReasonTable;
use banqiao_telemetry::{Chain, ConnectionKind, Metrics, OpenConnection};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::server::TlsStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::server::Connected;

/// A gateway in the same city answers in milliseconds; this is for a loaded machine.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// Connections at once: a city's gateway has some replicas with a connection per core, and probes connect beside.
const MAX_CONNECTIONS: usize = 256;
/// Pause after a failed accept, which is most often a lack of file descriptors: trying at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often open connections are judged again without a change of certificates: certificates and CRLs run out by themselves.
const RECHECK: Duration = Duration::from_secs(10);
/// How long a connection of somebody else than the gateway lives: long enough to be told that it is refused.
const STRANGER: Duration = Duration::from_secs(10);

/// Who is at the other end; in the extensions of every request.
#[derive(Clone, Debug)]
pub(crate) struct Remote {
    pub(crate) peer: Arc<Peer>,
}

/// Every open connection, so that it can be closed from outside.
#[derive(Clone, Debug)]
pub(crate) struct Connections(Arc<Open>);

#[derive(Debug)]
struct Open {
    gateway: SpiffeId,
    identity: Identity,
    metrics: Metrics,
    next: AtomicU64,
    live: Mutex<HashMap<u64, (Arc<Peer>, CancellationToken)>>,
}

impl Connections {
    pub(crate) fn new(gateway: SpiffeId, identity: Identity, metrics: Metrics) -> Self {
        let (next, live) = (AtomicU64::new(0), Mutex::default());
        Self(Arc::new(Open {
            gateway,
            identity,
            metrics,
            next,
            live,
        }))
    }

    /// Accepts connections until `stop` is cancelled, and hands on those whose handshake succeeds.
    pub(crate) async fn accept(
        self,
        listener: TcpListener,
        ready: mpsc::Sender<io::Result<Connection>>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let accepting = async {
            loop {
                // The permit first: connections beyond the limit wait in the kernel's queue.
                let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                    return;
                };
                match listener.accept().await {
                    Ok((tcp, address)) => {
                        let (this, ready) = (self.clone(), ready.clone());
                        tasks.spawn(stop.clone().run_until_cancelled_owned(async move {
                            if let Some(connection) = this.prove(tcp, address, place).await {
                                // The server is stopping when nobody takes it.
                                let _ = ready.send(Ok(connection)).await;
                            }
                        }));
                    }
                    Err(error) => {
                        tracing::warn!(error = %Chain(&error), "cannot accept a connection");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                }
            }
        };
        stop.run_until_cancelled(accepting).await;
    }

    async fn prove(
        &self,
        tcp: TcpStream,
        address: SocketAddr,
        place: OwnedSemaphorePermit,
    ) -> Option<Connection> {
        // gRPC's small frames must not wait for each other; a socket that refuses this works all the same.
        let _ = tcp.set_nodelay(true);
        match timeout(HANDSHAKE, self.0.identity.accept(tcp)).await {
            Ok(Ok((tls, peer))) => Some(self.open(tls, peer, place)),
            Ok(Err(error)) => {
                if let Some(fault) = error.fault() {
                    self.0
                        .metrics
                        .refused_tls(ReasonTable::name(fault.reason()));
                }
                tracing::debug!(%address, error = %Chain(&error), "a TLS handshake failed");
                None
            }
            Err(_) => {
                self.0.metrics.limit_hit("handshake_timeout");
                tracing::debug!(%address, "a TLS handshake took too long");
                None
            }
        }
    }

    fn open(
        &self,
        tls: TlsStream<TcpStream>,
        peer: Peer,
        place: OwnedSemaphorePermit,
    ) -> Connection {
        let (peer, close) = (Arc::new(peer), CancellationToken::new());
        let is_gateway = peer.id == self.0.gateway;
        let from_outside = close.clone().cancelled_owned();
        let closed = async move {
            if is_gateway {
                from_outside.await;
            } else {
                // Either way it is over.
                let _ = timeout(STRANGER, from_outside).await;
            }
        };
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        self.0
            .live
            .lock()
            .insert(number, (Arc::clone(&peer), close));
        Connection {
            tls,
            closed: Box::pin(closed),
            remote: Remote { peer },
            _entry: Entry {
                connections: self.clone(),
                number,
            },
            _open: self.0.metrics.connection(ConnectionKind::Service),
            _place: place,
        }
    }

    /// Closes connections whose peer is no longer good, as soon as that is known, until `stop` is cancelled.
    pub(crate) async fn watch_peers(self, stop: CancellationToken) {
        let mut generation = self.0.identity.generation();
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = generation.changed() => {}
                () = tokio::time::sleep(RECHECK) => {}
            }
            for (peer, close) in self.0.live.lock().values() {
                if let Err(fault) = self.0.identity.check(peer) {
                    tracing::warn!(peer = %peer.id, error = %fault, "closing a connection");
                    close.cancel();
                }
            }
        }
    }

    /// Closes every connection.
    pub(crate) fn close_all(&self) {
        for (_, close) in self.0.live.lock().values() {
            close.cancel();
        }
    }
}

/// Takes the connection out of the list when it is dropped.
#[derive(Debug)]
struct Entry {
    connections: Connections,
    number: u64,
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.connections.0.live.lock().remove(&self.number);
    }
}

/// An open connection of a proven peer. It ends with an error when it is closed from outside.
pub(crate) struct Connection {
    tls: TlsStream<TcpStream>,
    closed: Pin<Box<dyn Future<Output = ()> + Send>>,
    remote: Remote,
    _entry: Entry,
    _open: OpenConnection,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = Remote;

    fn connect_info(&self) -> Remote {
        self.remote.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // A connection is always being read, so this is where closing is noticed.
        if self.closed.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.tls).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(context)
    }
}
