//! Connections to the admin listener, each with who is at its other end.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use banqiao_directory::SpiffeId;
use banqiao_identity::Identity;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::transport::server::Connected;

use super::Actor;
use crate::config::Role;

/// A handshake takes two round trips.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Handshakes at one time.
const WAITING: usize = 16;

/// A connection with its actor.
pub(super) struct Line<I> {
    io: I,
    actor: Actor,
}

impl<I> Line<I> {
    pub(super) const fn new(io: I, actor: Actor) -> Self {
        Self { io, actor }
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
    let handshakes = tasks.clone();
    let accepting = async move {
        loop {
            let Ok((stream, address)) = socket.accept().await else {
                tokio::time::sleep(Duration::from_millis(10)).await;
                continue;
            };
            let Ok(permit) = sender.clone().reserve_owned().await else {
                return;
            };
            let (identity, roles) = (identity.clone(), roles.clone());
            handshakes.spawn(async move {
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
                        permit.send(Ok(Line::new(stream, actor)));
                    }
                    None => tracing::warn!(id = %peer.id, "an identity without an admin role"),
                }
            });
        }
    };
    tasks.spawn(stop.clone().run_until_cancelled_owned(accepting));
    ReceiverStream::new(receiver)
}
