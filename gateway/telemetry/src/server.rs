//! Traces, metrics and log context around the calls of a tonic service.

use std::{
    collections::HashMap,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use tonic::Code;
use tower::{Layer, Service};
use tracing::Instrument;

use crate::{CallLabels, CallSpan, InFlight, Metrics, OTHER, Side, SpanKey, Telemetry, Tracer};

const TRACEPARENT: &str = "traceparent";
const EXCHANGE: &str = "banqiao-exchange-id";
const GRPC_STATUS: &str = "grpc-status";

/// Longer than any exchange id with its attempt.
const MAX_EXCHANGE: usize = 64;

/// Wraps a service: each call gets a span under the caller's, is counted, and has its exchange id in the log lines
/// that are written while it is served.
///
/// Inside, the request's `traceparent` is the one of the new span, for the calls that a handler makes itself.
#[derive(Clone)]
pub struct ServerTraceLayer(Arc<Shared>);

struct Shared {
    tracer: Tracer,
    metrics: Metrics,
    methods: HashMap<Box<str>, Method>,
}

#[derive(Clone)]
struct Method {
    path: Arc<str>,
    // Where the name of the method begins in the path.
    name_at: usize,
}

impl Method {
    fn parse(path: &str) -> Option<Self> {
        let (service, method) = path.strip_prefix('/')?.split_once('/')?;
        let sound = !service.is_empty() && !method.is_empty() && !method.contains('/');
        sound.then(|| Self {
            path: path.into(),
            name_at: service.len() + 2,
        })
    }

    fn service(&self) -> &str {
        &self.path[1..self.name_at - 1]
    }

    fn name(&self) -> &str {
        &self.path[self.name_at..]
    }
}

impl ServerTraceLayer {
    /// A layer for a service that has these methods (`/package.Service/Method`). Every other path is counted as
    /// [`OTHER`], so that callers cannot invent labels.
    pub fn new<S: AsRef<str>>(telemetry: &Telemetry, methods: impl IntoIterator<Item = S>) -> Self {
        let methods = methods
            .into_iter()
            .filter_map(|path| Method::parse(path.as_ref()))
            .map(|method| ((*method.path).into(), method))
            .collect();
        Self(Arc::new(Shared {
            tracer: telemetry.tracer().clone(),
            metrics: telemetry.metrics().clone(),
            methods,
        }))
    }
}

impl fmt::Debug for ServerTraceLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerTraceLayer")
            .field("methods", &self.0.methods.len())
            .finish()
    }
}

impl<S> Layer<S> for ServerTraceLayer {
    type Service = ServerTrace<S>;

    fn layer(&self, inner: S) -> ServerTrace<S> {
        ServerTrace {
            inner,
            shared: Arc::clone(&self.0),
        }
    }
}

/// What [`ServerTraceLayer`] makes.
#[derive(Clone)]
pub struct ServerTrace<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B, R> Service<Request<B>> for ServerTrace<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Future: Send + 'static,
    R: Body,
{
    type Response = Response<ServerTraceBody<R>>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut call = Call::start(&self.shared, request.uri().path(), request.headers());
        if let Some(traceparent) = call.span.as_ref().and_then(CallSpan::traceparent) {
            request.headers_mut().insert(TRACEPARENT, traceparent);
        }
        let log = tracing::info_span!("call", exchange = call.exchange, method = call.method());
        let serving = self.inner.call(request);
        Box::pin(
            async move {
                match serving.await {
                    Ok(response) => {
                        call.ended(code(response.headers()));
                        Ok(response.map(|body| ServerTraceBody { body, call }))
                    }
                    Err(fault) => {
                        call.ended(Some(Code::Unknown));
                        Err(fault)
                    }
                }
            }
            .instrument(log),
        )
    }
}

/// A call that is being served. Whenever and however it ends, dropping it tells what became of it.
struct Call {
    shared: Arc<Shared>,
    method: Option<Method>,
    exchange: String,
    span: Option<CallSpan>,
    started: Instant,
    code: Option<Code>,
    _in_flight: InFlight,
}

impl Call {
    fn start(shared: &Arc<Shared>, path: &str, headers: &HeaderMap) -> Self {
        let method = shared.methods.get(path).cloned();
        let exchange = headers
            .get(EXCHANGE)
            .and_then(|id| id.to_str().ok())
            .filter(|id| id.len() <= MAX_EXCHANGE && id.bytes().all(is_id_byte))
            .unwrap_or_default()
            .to_owned();
        let parent = single(headers, TRACEPARENT);
        let path = method.as_ref().map_or(OTHER, |method| &method.path);
        let mut span = shared.tracer.start(parent, path, Side::Service);
        if !exchange.is_empty() {
            span.annotate(SpanKey::Exchange, &exchange);
        }
        Self {
            exchange,
            span: Some(span),
            started: Instant::now(),
            code: None,
            _in_flight: shared.metrics.in_flight(Side::Service),
            method,
            shared: Arc::clone(shared),
        }
    }

    fn ended(&mut self, code: Option<Code>) {
        self.code = code.or(self.code);
    }

    fn method(&self) -> &str {
        self.method.as_ref().map_or(OTHER, |method| &method.path)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        // No status was sent: the caller had gone.
        let code = self.code.unwrap_or(Code::Cancelled);
        let labels = CallLabels {
            side: Side::Service,
            service: self.method.as_ref().map_or(OTHER, Method::service),
            method: self.method.as_ref().map_or(OTHER, Method::name),
            peer_city: "",
            code,
            reason: "",
        };
        let duration: Duration = self.started.elapsed();
        self.shared.metrics.call(&labels, duration);
        if let Some(span) = self.span.take() {
            span.end(code, "");
        }
    }
}

/// The body of a response, which ends with the call's status in its trailers.
pub struct ServerTraceBody<B> {
    body: B,
    call: Call,
}

impl<B: Body + Unpin> Body for ServerTraceBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                self.call.ended(frame.trailers_ref().and_then(code));
            }
            Poll::Ready(Some(Err(_))) => self.call.ended(Some(Code::Unknown)),
            Poll::Ready(None) | Poll::Pending => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers
        .get(GRPC_STATUS)
        .map(|status| Code::from_bytes(status.as_bytes()))
}

/// The value of a header that came exactly once, as the specification asks of `traceparent`.
fn single<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    let mut values = headers.get_all(name).iter();
    match (values.next(), values.next()) {
        (Some(value), None) => value.to_str().ok(),
        _ => None,
    }
}

const fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/' | b'.' | b':' | b'#')
}
