//! Listeners, TLS, and the limits that hold before anybody is known.

use std::{
    io,
    net::{SocketAddr, TcpListener as StdListener},
    sync::Arc,
    time::Duration,
};

use banqiao_identity::CertificateFault;
use banqiao_proto::{ReasonTable, exchange::v1::Reason};
use banqiao_telemetry::ConnectionKind;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    clients::ConnectionSlot,
    connection::{self, Conn},
    credentials,
    worker::Worker,
};

/// Which of the two gRPC listeners a connection came in on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Listener {
    /// Systems of this city.
    Client,
    /// Gateways of other cities.
    InterCity,
}

impl Listener {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::InterCity => "inter-city",
        }
    }
}

/// Binds an address so that each worker can have a socket of its own on it.
///
/// # Errors
///
/// The address is taken by another process, or not of this machine.
pub(crate) fn bind(address: SocketAddr) -> io::Result<StdListener> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1_024)?;
    Ok(socket.into())
}

/// Takes connections until the worker stops listening.
pub(crate) async fn run(worker: Arc<Worker>, listener: Listener, socket: StdListener) {
    let socket = match TcpListener::from_std(socket) {
        Ok(socket) => socket,
        Err(error) => {
            tracing::error!(listener = listener.name(), %error, "the listener could not start");
            return;
        }
    };
    loop {
        let accepted = tokio::select! {
            biased;
            () = worker.closing.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => admit(&worker, listener, stream, address),
            Err(error) => {
                // Out of descriptors, or the peer is gone already. A short pause keeps this from spinning.
                tracing::warn!(listener = listener.name(), %error, "accept failed");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

fn admit(worker: &Arc<Worker>, listener: Listener, stream: TcpStream, address: SocketAddr) {
    let Some(slot) = worker.shared.clients.connect() else {
        worker.shared.metrics.limit_hit("connections");
        return;
    };
    if worker.shared.pressure.refuses_connections() {
        worker.shared.metrics.limit_hit("memory");
        return;
    }
    let worker = Arc::clone(worker);
    worker.tasks.clone().spawn(async move {
        serve(worker, listener, stream, address, slot).await;
    });
}

async fn serve(
    worker: Arc<Worker>,
    listener: Listener,
    stream: TcpStream,
    address: SocketAddr,
    mut slot: ConnectionSlot,
) {
    let shared = &worker.shared;
    let limits = Arc::clone(&shared.limits);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let handshake = shared.identity.accept(stream);
    let (tls, peer) = match tokio::time::timeout(limits.handshake_timeout, handshake).await {
        Err(_) => {
            shared.metrics.limit_hit("handshake_timeout");
            return;
        }
        Ok(Err(error)) => {
            if let Some(fault) = error.fault() {
                refused(&worker, listener, fault, address);
            }
            return;
        }
        Ok(Ok((tls, peer))) => (tls, Arc::new(peer)),
    };
    if listener == Listener::Client
        && let Some([leaf, ..]) = tls.get_ref().1.peer_certificates()
    {
        // Beside the connection: a slow ledger must not hold it up.
        let (worker, key, leaf) = (Arc::clone(&worker), peer.key_sha256, leaf.to_vec());
        worker.tasks.clone().spawn(async move {
            credentials::keep_certificate(&worker.shared, key, &leaf).await;
        });
    }
    let Some(client) = slot.identify(&peer.id) else {
        shared.metrics.limit_hit("connections_per_peer");
        shared.ledger.count(Reason::Overloaded, Some(&peer.id));
        return;
    };
    let open = shared.metrics.connection(match listener {
        Listener::Client => ConnectionKind::Client,
        Listener::InterCity => ConnectionKind::InterCity,
    });
    connection::run(
        Conn::new(Arc::clone(&worker), listener, peer, client, address),
        tls,
    )
    .await;
    drop((open, slot));
}

fn refused(worker: &Worker, listener: Listener, fault: CertificateFault, address: SocketAddr) {
    let reason = fault.reason();
    worker.shared.metrics.refused_tls(ReasonTable::name(reason));
    worker.shared.ledger.count(reason, None);
    tracing::info!(
        listener = listener.name(),
        %address,
        reason = ReasonTable::name(reason),
        "handshake refused"
    );
}
