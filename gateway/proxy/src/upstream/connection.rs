//! One HTTP/2 connection to an upstream, its driver, and the places on it.

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use banqiao_identity::{Expect, Identity, Peer};
use banqiao_telemetry::{Chain, ConnectionKind, Metrics, OpenConnection};
use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{Instant, Sleep, sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    cork::Cork,
    settings::{DATA_FRAME_BUDGET, Limits, RECEIPT_ROOM},
};

/// Resets that may leave a connection at once, and one more in each [`RESET_INTERVAL`]. Below the 20 pending resets
/// at which h2 servers end a connection and every caller on it.
const RESET_BURST: u32 = 10;
const RESET_INTERVAL: Duration = Duration::from_millis(2);

/// A connection. Dropping the last reference lets open streams finish.
#[derive(Debug)]
pub(super) struct Connection {
    peer: Peer,
    authority: http::uri::Authority,
    sender: SendRequest<Bytes>,
    in_flight: AtomicUsize,
    capacity: usize,
    /// A place became free.
    freed: Notify,
    /// No new calls: the far end said GOAWAY, or the connection broke.
    closed: AtomicBool,
    cancel: CancellationToken,
    resets: Mutex<Resets>,
    tasks: TaskTracker,
    _open: OpenConnection,
}

#[derive(Debug)]
struct Resets {
    left: u32,
    since: Instant,
    /// When the next reset that had to wait may leave.
    queue: Instant,
}

/// A place for one call on a connection.
#[derive(Debug)]
pub(crate) struct Lease {
    connection: Arc<Connection>,
}

impl Connection {
    /// Connects, proves identities, and starts the driver. `on_close` hears once whether the connection broke.
    pub(super) async fn open(
        address: &str,
        expect: &Expect,
        identity: &Identity,
        limits: &Arc<Limits>,
        tasks: &TaskTracker,
        metrics: &Metrics,
        on_close: impl FnOnce(bool) + Send + 'static,
    ) -> Result<Arc<Self>, String> {
        let mut stream = None;
        let mut cause = format!("{address} has no address");
        for candidate in super::resolve(address).await? {
            match TcpStream::connect(candidate).await {
                Ok(open) => {
                    stream = Some(open);
                    break;
                }
                Err(error) => cause = format!("{address}: {error}"),
            }
        }
        let stream = stream.ok_or(cause)?;
        stream
            .set_nodelay(true)
            .map_err(|error| error.to_string())?;
        let (tls, peer) = identity
            .connect(expect, stream)
            .await
            .map_err(|error| format!("TLS with {address}: {}", Chain(&error)))?;
        let authority = address
            .parse()
            .map_err(|_| format!("{address} is not an authority of the form host:port"))?;
        let cork = Cork::new(tls);
        let (sender, connection) = h2::client::Builder::new()
            .initial_window_size(limits.stream_window)
            .initial_connection_window_size(limits.connection_window)
            .max_frame_size(limits.frame)
            .max_header_list_size(limits.header_list * 2 + RECEIPT_ROOM)
            .data_frame_budget(DATA_FRAME_BUDGET)
            .enable_push(false)
            .handshake(cork.clone())
            .await
            .map_err(|error| format!("HTTP/2 with {address}: {error}"))?;
        let this = Arc::new(Self {
            peer,
            authority,
            sender,
            in_flight: AtomicUsize::new(0),
            capacity: limits.streams_per_connection as usize,
            freed: Notify::new(),
            closed: AtomicBool::new(false),
            cancel: CancellationToken::new(),
            resets: Mutex::new(Resets {
                left: RESET_BURST,
                since: Instant::now(),
                queue: Instant::now(),
            }),
            tasks: tasks.clone(),
            _open: metrics.connection(match expect {
                Expect::Gateway(_) => ConnectionKind::ToGateway,
                Expect::City(_) | Expect::Id(_) => ConnectionKind::ToService,
            }),
        });
        let driven = Arc::downgrade(&this);
        let cancel = this.cancel.clone();
        let limits = Arc::clone(limits);
        tasks.spawn(async move {
            let broken = drive(connection, cork, cancel, &limits).await;
            if let Some(connection) = driven.upgrade() {
                connection.closed.store(true, Ordering::Release);
                connection.freed.notify_waiters();
            }
            on_close(broken);
        });
        Ok(this)
    }

    pub(super) const fn peer(&self) -> &Peer {
        &self.peer
    }

    pub(super) fn usable(&self) -> bool {
        !self.closed.load(Ordering::Acquire)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    /// Ends the connection and everything on it.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.cancel.cancel();
    }

    pub(super) fn vacant(this: &Arc<Self>) -> Option<Lease> {
        let limit = this
            .capacity
            .min(this.sender.current_max_send_streams().max(1));
        (this.in_flight() < limit).then(|| Lease::new(Arc::clone(this)))
    }

    pub(super) async fn wait(self: Arc<Self>) -> Option<Lease> {
        loop {
            let freed = self.freed.notified();
            if !self.usable() {
                return None;
            }
            if let Some(lease) = Self::vacant(&self) {
                return Some(lease);
            }
            freed.await;
        }
    }

    /// How long a reset has to wait so that a burst of cancels does not end the connection for all others.
    fn reset_delay(&self) -> Duration {
        let mut resets = self.resets.lock();
        let now = Instant::now();
        let refill = now.duration_since(resets.since).as_micros() / RESET_INTERVAL.as_micros();
        if refill > 0 {
            resets.left = resets
                .left
                .saturating_add(u32::try_from(refill).unwrap_or(u32::MAX))
                .min(RESET_BURST);
            resets.since = now;
        }
        if resets.left > 0 && resets.queue <= now {
            resets.left -= 1;
            return Duration::ZERO;
        }
        resets.queue = resets.queue.max(now) + RESET_INTERVAL;
        resets.queue - now
    }
}

impl Lease {
    fn new(connection: Arc<Connection>) -> Self {
        connection.in_flight.fetch_add(1, Ordering::Relaxed);
        Self { connection }
    }

    /// Sends the headers of a request.
    ///
    /// # Errors
    ///
    /// The connection ended before the request could leave.
    pub(crate) async fn send(
        &self,
        request: http::Request<()>,
        end: bool,
    ) -> Result<(ResponseFuture, h2::SendStream<Bytes>), h2::Error> {
        let sent = match self.connection.sender.clone().ready().await {
            Ok(mut sender) => sender.send_request(request, end),
            Err(error) => Err(error),
        };
        if sent.is_err() {
            // GOAWAY or a dead transport: the next call must not choose this connection again.
            self.connection.closed.store(true, Ordering::Release);
        }
        sent
    }

    /// The authority that requests on this connection carry.
    pub(crate) fn authority(&self) -> http::uri::Authority {
        self.connection.authority.clone()
    }

    /// Resets the stream of this place, now or as soon as the pacing allows.
    pub(crate) fn reset(self, mut stream: h2::SendStream<Bytes>) {
        let wait = self.connection.reset_delay();
        if wait.is_zero() {
            stream.send_reset(h2::Reason::CANCEL);
            return;
        }
        let tasks = self.connection.tasks.clone();
        tasks.spawn(async move {
            sleep(wait).await;
            stream.send_reset(h2::Reason::CANCEL);
            drop(self);
        });
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.connection.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.connection.freed.notify_one();
    }
}

type Transport = Cork<tokio_rustls::client::TlsStream<TcpStream>>;

/// Polls the connection until it ends, releases its writes, and probes it. Returns whether it broke.
async fn drive(
    mut connection: h2::client::Connection<Transport, Bytes>,
    cork: Transport,
    cancel: CancellationToken,
    limits: &Limits,
) -> bool {
    let mut keepalive = connection
        .ping_pong()
        .map(|pings| Keepalive::new(pings, limits.keepalive_interval, limits.keepalive_timeout));
    let mut cancelled = pin!(cancel.cancelled());
    poll_fn(|cx| {
        if cancelled.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        if let Some(keepalive) = &mut keepalive
            && keepalive.poll(cx).is_ready()
        {
            return Poll::Ready(true);
        }
        let state = Pin::new(&mut connection).poll(cx);
        let written = cork.release(cx);
        match state {
            Poll::Ready(outcome) => Poll::Ready(outcome.is_err()),
            Poll::Pending if matches!(written, Poll::Ready(Err(_))) => Poll::Ready(true),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// HTTP/2 PINGs at an interval, also while idle. Ready when one was not answered in time.
pub(crate) struct Keepalive {
    pings: h2::PingPong,
    interval: Duration,
    timeout: Duration,
    timer: Pin<Box<Sleep>>,
    waiting: bool,
}

impl Keepalive {
    pub(crate) fn new(pings: h2::PingPong, interval: Duration, timeout: Duration) -> Self {
        Self {
            pings,
            interval,
            timeout,
            timer: Box::pin(sleep(interval)),
            waiting: false,
        }
    }

    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.waiting {
                match self.pings.poll_pong(cx) {
                    Poll::Ready(Ok(_)) => {
                        self.waiting = false;
                        self.timer.as_mut().reset(Instant::now() + self.interval);
                        continue;
                    }
                    Poll::Ready(Err(_)) => return Poll::Ready(()),
                    Poll::Pending => return self.timer.as_mut().poll(cx),
                }
            }
            match self.timer.as_mut().poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(()) => {
                    if self.pings.send_ping(h2::Ping::opaque()).is_err() {
                        return Poll::Ready(());
                    }
                    self.waiting = true;
                    self.timer.as_mut().reset(Instant::now() + self.timeout);
                }
            }
        }
    }
}
