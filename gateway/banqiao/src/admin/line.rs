//! Connections to the admin listener, each with who is at its other end.

use std::{
    future::Future as _,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use banqiao_directory::SpiffeId;
use banqiao_identity::{Identity, Peer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{
    sync::{CancellationToken, DropGuard, WaitForCancellationFutureOwned},
    task::TaskTracker,
};
use tonic::transport::server::Connected;

use super::Actor;
use crate::config::Role;

/// A handshake takes two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at one time. Whoever comes above it is not waited for: somebody keeps them busy.
const HANDSHAKES: usize = 64;
/// Connections that wait to be served.
const WAITING: usize = 16;
/// How often a certificate is looked at that no change of CRLs or bundles concerns: it may run out.
const CHECK: Duration = Duration::from_secs(30);

/// A connection with its actor.
pub(super) struct Line<I> {
    io: I,
    actor: Actor,
    withdrawn: Option<Withdrawn>,
}

/// Tells a connection that its peer's certificate is good no longer, and the watch over it that the connection is gone.
struct Withdrawn {
    told: Pin<Box<WaitForCancellationFutureOwned>>,
    _gone: DropGuard,
}

impl<I> Line<I> {
    /// A connection that lasts as long as its ends want.
    pub(super) const fn new(io: I, actor: Actor) -> Self {
        Self {
            io,
            actor,
            withdrawn: None,
        }
    }

    /// A connection that breaks when its peer's certificate is revoked or runs out.
    fn watched(
        io: I,
        actor: Actor,
        identity: Identity,
        peer: Peer,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let (told, gone) = (CancellationToken::new(), stop.child_token());
        let withdrawn = Withdrawn {
            told: Box::pin(told.clone().cancelled_owned()),
            _gone: gone.clone().drop_guard(),
        };
        tasks.spawn(gone.run_until_cancelled_owned(async move {
            let mut changes = identity.generation();
            while identity.check(&peer).is_ok() {
                // Without changes, or when there will be none, time alone decides.
                let _ = tokio::time::timeout(CHECK, changes.changed()).await;
            }
            tracing::warn!(id = %peer.id, "the certificate is good no longer: disconnected");
            told.cancel();
        }));
        Self {
            io,
            actor,
            withdrawn: Some(withdrawn),
        }
    }
}

impl<I> Connected for Line<I> {
    type ConnectInfo = Actor;

    fn connect_info(&self) -> Actor {
        self.actor.clone()
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Line<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(withdrawn) = &mut self.withdrawn
            && withdrawn.told.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_read(cx, buffer)
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Line<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

/// Connections over mTLS. An identity without a role, or of another city, gets no connection.
pub(super) fn tls_lines(
    socket: TcpListener,
    identity: Identity,
    roles: Vec<(SpiffeId, Role)>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> ReceiverStream<io::Result<Line<TlsStream<TcpStream>>>> {
    let (sender, receiver) = mpsc::channel(WAITING);
    let room = Arc::new(Semaphore::new(HANDSHAKES));
    let (running, stopping) = (tasks.clone(), stop.clone());
    let accepting = async move {
        loop {
            let Ok((stream, address)) = socket.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let Ok(place) = Arc::clone(&room).try_acquire_owned() else {
                tracing::warn!(%address, "too many admin handshakes");
                continue;
            };
            let (identity, roles, sender) = (identity.clone(), roles.clone(), sender.clone());
            let (tasks, stop) = (running.clone(), stopping.clone());
            running.spawn(async move {
                let accepted =
                    tokio::time::timeout(HANDSHAKE_TIMEOUT, identity.accept(stream)).await;
                let Ok(Ok((stream, peer))) = accepted else {
                    tracing::info!(%address, "admin handshake refused");
                    return;
                };
                match roles.iter().find(|(id, _)| *id == peer.id) {
                    Some((id, role)) => {
                        let actor = Actor {
                            role: *role,
                            name: id.as_str().into(),
                        };
                        let line = Line::watched(stream, actor, identity, peer, &tasks, &stop);
                        // A listener that has stopped wants no more connections.
                        let _ = sender.send(Ok(line)).await;
                    }
                    None => tracing::warn!(id = %peer.id, "an identity without an admin role"),
                }
                drop(place);
            });
        }
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(accepting));
    ReceiverStream::new(receiver)
}
