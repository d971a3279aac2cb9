//! One connection from a client or a peer gateway: its driver, and a task for each call on it.

use std::{
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use banqiao_identity::Peer;
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{
    accept::Listener,
    clients::Client,
    cork::Cork,
    settings::{DATA_FRAME_BUDGET, RECEIPT_ROOM},
    stack,
    upstream::Keepalive,
    worker::Worker,
};

/// What every call on a connection shares.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) worker: Arc<Worker>,
    pub(crate) listener: Listener,
    pub(crate) peer: Arc<Peer>,
    pub(crate) client: Arc<Client>,
    pub(crate) address: SocketAddr,
    /// The peer's certificate no longer holds.
    pub(crate) distrusted: CancellationToken,
}

impl Conn {
    pub(crate) fn new(
        worker: Arc<Worker>,
        listener: Listener,
        peer: Arc<Peer>,
        client: Arc<Client>,
        address: SocketAddr,
    ) -> Arc<Self> {
        let distrusted = CancellationToken::new();
        let conn = Arc::new(Self {
            worker,
            listener,
            peer,
            client,
            address,
            distrusted,
        });
        conn.worker.watch(&conn);
        conn
    }
}

/// Serves a connection until it ends. Calls that are still open when it breaks end as cancelled.
pub(crate) async fn run<I: AsyncRead + AsyncWrite + Unpin + Send>(conn: Arc<Conn>, io: I) {
    let limits = Arc::clone(&conn.worker.shared.limits);
    let cork = Cork::new(io);
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(limits.stream_window)
        .initial_connection_window_size(limits.connection_window)
        .max_frame_size(limits.frame)
        // Our own check answers with a status at the limit; this is the wall behind it.
        .max_header_list_size(limits.header_list.saturating_mul(2) + RECEIPT_ROOM)
        .data_frame_budget(DATA_FRAME_BUDGET)
        .max_concurrent_streams(limits.streams_per_connection)
        .max_pending_accept_reset_streams(limits.pending_resets)
        .max_local_error_reset_streams(Some(limits.local_resets))
        .max_send_buffer_size(limits.held_message * 2);
    let preface = async {
        let mut handshake = pin!(builder.handshake::<_, Bytes>(cork.clone()));
        poll_fn(|cx| {
            let state = handshake.as_mut().poll(cx);
            match cork.release(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(None),
                _ => state.map(Result::ok),
            }
        })
        .await
    };
    let Ok(Some(h2)) = tokio::time::timeout(limits.preface_timeout, preface).await else {
        conn.worker.shared.metrics.limit_hit("preface_timeout");
        return;
    };
    drive(conn, h2, cork).await;
}

async fn drive<I: AsyncRead + AsyncWrite + Unpin + Send>(
    conn: Arc<Conn>,
    mut h2: h2::server::Connection<Cork<I>, Bytes>,
    cork: Cork<I>,
) {
    let worker = &conn.worker;
    let limits = &worker.shared.limits;
    let mut keepalive = h2
        .ping_pong()
        .map(|pings| Keepalive::new(pings, limits.keepalive_interval, limits.keepalive_timeout));
    // Spread, so that connections that were opened together do not end together.
    let age = limits
        .connection_max_age
        .mul_f64(rand::random_range(0.9..=1.0));
    let mut closing = pin!(async {
        tokio::select! {
            () = worker.closing.cancelled() => limits.connection_grace.max(limits.drain),
            () = sleep(age) => limits.connection_grace,
            () = conn.distrusted.cancelled() => DISTRUST_GRACE,
        }
    });
    let mut first = pin!(sleep(limits.preface_timeout));
    let mut grace = pin!(sleep(limits.preface_timeout));
    let mut phase = Phase::Fresh;
    poll_fn(|cx| {
        if keepalive
            .as_mut()
            .is_some_and(|keepalive| keepalive.poll(cx).is_ready())
        {
            return Poll::Ready(());
        }
        if phase == Phase::Fresh && first.as_mut().poll(cx).is_ready() {
            worker.shared.metrics.limit_hit("preface_timeout");
            return Poll::Ready(());
        }
        if phase < Phase::Draining
            && let Poll::Ready(patience) = closing.as_mut().poll(cx)
        {
            h2.graceful_shutdown();
            grace.as_mut().reset(Instant::now() + patience);
            phase = Phase::Draining;
        }
        if phase == Phase::Draining && grace.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let ended = loop {
            match h2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => {
                    phase = phase.max(Phase::Used);
                    start(&conn, request, respond);
                }
                Poll::Ready(Some(Err(_)) | None) => break true,
                Poll::Pending => break false,
            }
        };
        // Also at the end: a GOAWAY goes out if the transport takes it now.
        let written = cork.release(cx);
        if ended || matches!(written, Poll::Ready(Err(_))) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    })
    .await;
}

/// What the calls of a revoked identity have to hear their status before the connection goes.
const DISTRUST_GRACE: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    /// No request has come yet.
    Fresh,
    /// Requests have come.
    Used,
    /// No more are taken.
    Draining,
}

fn start(
    conn: &Arc<Conn>,
    request: http::Request<h2::RecvStream>,
    respond: h2::server::SendResponse<Bytes>,
) {
    let conn = Arc::clone(conn);
    conn.worker
        .tasks
        .clone()
        .spawn(stack::serve(conn, request, respond));
}
