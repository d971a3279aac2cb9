//! The service behind a gateway: it answers as its protos say, unless the test has told it otherwise.

use std::{
    collections::HashMap,
    fmt,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use h2::{SendStream, server::SendResponse};
use http::{HeaderMap, HeaderValue, Response, request::Parts};
use prost::Message as _;
use rustls::ServerConfig;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::{
    echo,
    wire::{Message, Messages, send},
};

/// The metadata by which a client chooses a script; it is none of the network's names, so it passes gateways.
pub const SCRIPT: &str = "x-script";

/// What the service does with a call.
pub type Script = Arc<dyn Fn(Incoming) -> BoxFuture<'static, Result<()>> + Send + Sync>;

/// A call that reached the service.
#[derive(Debug)]
pub struct Incoming {
    /// Method, path, headers.
    pub head: Parts,
    /// The request's messages.
    pub messages: Messages,
    respond: SendResponse<Bytes>,
}

impl Incoming {
    /// Answers with headers; messages and trailers follow.
    ///
    /// # Errors
    ///
    /// Fails when the call is gone.
    pub fn answer(&mut self, headers: HeaderMap) -> Result<Reply> {
        let mut response = Response::new(());
        *response.headers_mut() = headers;
        response
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/grpc"));
        Ok(Reply(self.respond.send_response(response, false)?))
    }

    /// Answers with one block of headers that ends the call.
    ///
    /// # Errors
    ///
    /// Fails when the call is gone.
    pub fn trailers_only(&mut self, headers: HeaderMap) -> Result<()> {
        let mut response = Response::new(());
        *response.headers_mut() = headers;
        response
            .headers_mut()
            .insert("content-type", HeaderValue::from_static("application/grpc"));
        self.respond.send_response(response, true)?;
        Ok(())
    }

    /// Cuts the call off before any headers.
    pub fn reset(&mut self, reason: h2::Reason) {
        self.respond.send_reset(reason);
    }

    /// Waits until the caller resets the call.
    pub async fn cancelled(&mut self) {
        // An error means that the connection is gone, and the caller with it.
        let _reason = std::future::poll_fn(|cx| self.respond.poll_reset(cx)).await;
    }
}

/// The answer under way.
#[derive(Debug)]
pub struct Reply(SendStream<Bytes>);

impl Reply {
    /// Sends a message.
    ///
    /// # Errors
    ///
    /// Fails when the call is gone.
    pub async fn send(&mut self, message: &Message) -> Result<()> {
        send(&mut self.0, message.frame(), false).await
    }

    /// Sends bytes that need not be a message.
    ///
    /// # Errors
    ///
    /// Fails when the call is gone.
    pub async fn send_raw(&mut self, bytes: Bytes) -> Result<()> {
        send(&mut self.0, bytes, false).await
    }

    /// Ends with trailers.
    ///
    /// # Errors
    ///
    /// Fails when the call is gone.
    pub fn end(mut self, trailers: HeaderMap) -> Result<()> {
        self.0.send_trailers(trailers)?;
        Ok(())
    }

    /// Ends with OK.
    ///
    /// # Errors
    ///
    /// Fails when the call is gone.
    pub fn ok(self) -> Result<()> {
        self.end(status(0, ""))
    }

    /// Cuts the answer off.
    pub fn reset(mut self, reason: h2::Reason) {
        self.0.send_reset(reason);
    }

    /// Waits until the caller resets the call.
    pub async fn cancelled(&mut self) {
        let _reason = std::future::poll_fn(|cx| self.0.poll_reset(cx)).await;
    }
}

/// The block of a status. The message must be a header value already.
///
/// # Panics
///
/// When the message is not.
#[expect(
    clippy::expect_used,
    reason = "a wrong literal in a test is found by that test"
)]
pub fn status(code: u32, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", code.into());
    if !message.is_empty() {
        trailers.insert("grpc-message", message.parse().expect("a header value"));
    }
    trailers
}

/// What reached the service.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Path.
    pub path: String,
    /// Headers.
    pub headers: HeaderMap,
    /// When the caller's reset arrived, if it did.
    pub cancelled: Option<Instant>,
}

struct Shared {
    scripts: Mutex<HashMap<String, Script>>,
    seen: Mutex<Vec<Seen>>,
}

/// A service on loopback with its own certificate. It stops when dropped.
pub struct Service {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Service")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Service {
    /// Starts it.
    ///
    /// # Errors
    ///
    /// Fails when the address is taken.
    pub async fn start(address: SocketAddr, tls: Arc<ServerConfig>) -> Result<Self> {
        let listener = TcpListener::bind(address)
            .await
            .context("the service's address")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            scripts: Mutex::default(),
            seen: Mutex::default(),
        });
        let stop = CancellationToken::new();
        let (inside, stopped) = (Arc::clone(&shared), stop.clone());
        let serving = async move {
            let mut connections = JoinSet::new();
            let tls = TlsAcceptor::from(tls);
            loop {
                tokio::select! {
                    () = stopped.cancelled() => return,
                    Ok((tcp, _)) = listener.accept() => {
                        connections.spawn(connection(tcp, tls.clone(), Arc::clone(&inside)));
                    }
                }
            }
        };
        // The task ends with the token, which ends with the service.
        tokio_util::task::TaskTracker::new().spawn(serving);
        Ok(Self {
            address,
            shared,
            stop,
        })
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Does `script` with each call whose `x-script` is `name`.
    pub fn script<F>(&self, name: &str, script: impl Fn(Incoming) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let script: Script = Arc::new(move |call| Box::pin(script(call)));
        lock(&self.shared.scripts).insert(name.to_owned(), script);
    }

    /// What has reached it so far, in order of arrival.
    pub fn seen(&self) -> Vec<Seen> {
        lock(&self.shared.seen).clone()
    }

    /// How many calls with this header have reached it.
    pub fn count(&self, name: &str, value: &str) -> usize {
        let fits = |seen: &&Seen| seen.headers.get(name).is_some_and(|held| held == value);
        lock(&self.shared.seen).iter().filter(fits).count()
    }

    /// Stops: connections break, new ones are refused.
    pub async fn stop(self) {
        self.stop.cancel();
        // The listener closes in its own task; connecting tells when.
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn connection(tcp: TcpStream, tls: TlsAcceptor, shared: Arc<Shared>) {
    let _no_delay = tcp.set_nodelay(true);
    // A client that breaks off is no fault of the service.
    let Ok(stream) = tls.accept(tcp).await else {
        return;
    };
    let built = h2::server::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(4 << 20)
        .max_concurrent_streams(1_000)
        .max_header_list_size(1 << 20)
        .handshake(stream)
        .await;
    let Ok(mut connection) = built else { return };
    let mut calls = JoinSet::new();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let (head, body) = request.into_parts();
        let number = {
            let mut seen = lock(&shared.seen);
            seen.push(Seen {
                path: head.uri.path().to_owned(),
                headers: head.headers.clone(),
                cancelled: None,
            });
            seen.len() - 1
        };
        let chosen = head.headers.get(SCRIPT).and_then(|name| name.to_str().ok());
        let script = chosen.and_then(|name| lock(&shared.scripts).get(name).cloned());
        let call = Incoming {
            head,
            messages: Messages::new(body),
            respond,
        };
        calls.spawn(serve(call, script, number, Arc::clone(&shared)));
        while calls.try_join_next().is_some() {}
    }
}

async fn serve(mut call: Incoming, script: Option<Script>, number: usize, shared: Arc<Shared>) {
    // Scripts that wait for the caller's reset say when it came by returning.
    let waits = script.is_some();
    // A call that its caller has left cannot be answered, and nobody is there to be told.
    let _left = match script {
        Some(script) => script(call).await,
        None => by_method(&mut call).await,
    };
    if waits && let Some(seen) = lock(&shared.seen).get_mut(number) {
        seen.cancelled = Some(Instant::now());
    }
}

/// What each method does by itself.
async fn by_method(call: &mut Incoming) -> Result<()> {
    let path = call.head.uri.path().to_owned();
    match path.as_str() {
        "/example.echo.v1.EchoService/Collect" => collect(call).await,
        "/example.echo.v1.EchoService/Expand" => expand(call).await,
        "/example.echo.v1.RuledService/Disclose" => disclose(call).await,
        "/example.echo.v1.RuledService/Watch" | "/grpc.health.v1.Health/Watch" => watch(call).await,
        "/grpc.health.v1.Health/Check" => serving(call).await,
        path if path.starts_with("/example.echo.v1.") => repeat(call).await,
        _ => call.trailers_only(status(12, "no such method")),
    }
}

/// Sends each message back as it came: the messages of a pair have the same fields.
async fn repeat(call: &mut Incoming) -> Result<()> {
    let mut headers = HeaderMap::new();
    if let Some(encoding) = call.head.headers.get("grpc-encoding") {
        headers.insert("grpc-encoding", encoding.clone());
    }
    let mut reply = call.answer(headers)?;
    while let Some(message) = call.messages.next().await? {
        reply.send(&message).await?;
    }
    reply.ok()
}

async fn collect(call: &mut Incoming) -> Result<()> {
    let mut parts = Vec::new();
    while let Some(message) = call.messages.next().await? {
        parts.push(echo::CollectRequest::decode(message.bytes)?.text);
    }
    let answer = echo::CollectResponse {
        count: parts.len() as u64,
        text: parts.join(" "),
    };
    let mut reply = call.answer(HeaderMap::new())?;
    reply.send(&Message::of(&answer)).await?;
    reply.ok()
}

async fn expand(call: &mut Incoming) -> Result<()> {
    let first = call.messages.next().await?.context("no request")?;
    let request = echo::ExpandRequest::decode(first.bytes)?;
    let padding = vec![7; request.payload_bytes as usize];
    let mut reply = call.answer(HeaderMap::new())?;
    for number in 0..request.count {
        let answer = echo::ExpandResponse {
            text: request.text.clone(),
            number,
            payload: padding.clone(),
        };
        reply.send(&Message::of(&answer)).await?;
    }
    reply.ok()
}

async fn disclose(call: &mut Incoming) -> Result<()> {
    let first = call.messages.next().await?.context("no request")?;
    let citizen = echo::DiscloseRequest::decode(first.bytes)?.citizen;
    let part = |name: &str| echo::Part {
        name: name.to_owned(),
        remark: format!("{name}-remark"),
    };
    let answer = echo::DiscloseResponse {
        citizen,
        found: true,
        balance: "1234.56".to_owned(),
        parts: vec![part("a"), part("b")],
    };
    let mut reply = call.answer(HeaderMap::new())?;
    reply.send(&Message::of(&answer)).await?;
    reply.ok()
}

/// One event, then silence until the caller leaves. The same bytes mean SERVING to a health check.
async fn watch(call: &mut Incoming) -> Result<()> {
    let mut reply = call.answer(HeaderMap::new())?;
    reply
        .send(&Message::of(&echo::WatchResponse { number: 1 }))
        .await?;
    reply.cancelled().await;
    Ok(())
}

async fn serving(call: &mut Incoming) -> Result<()> {
    let mut reply = call.answer(HeaderMap::new())?;
    reply
        .send(&Message::of(&echo::WatchResponse { number: 1 }))
        .await?;
    reply.ok()
}
