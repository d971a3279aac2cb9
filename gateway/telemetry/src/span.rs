//! One span per hop of a call.

use http::HeaderValue;
use opentelemetry::{
    Context, KeyValue,
    trace::{Span as _, SpanKind, Status, TraceContextExt, Tracer as _},
};
use opentelemetry_sdk::trace::{SdkTracer, Span};
use tonic::Code;

use crate::{
    metrics::{OTHER, Side, code_name},
    traceparent::TraceParent,
};

/// Makes spans; cloning is cheap. Where no collector is configured it makes empty ones at no cost.
#[derive(Clone, Debug, Default)]
pub struct Tracer(Option<SdkTracer>);

/// What may be said about a call beside its method and outcome.
///
/// The list is closed so that no payload, identity number, operator or case gets into a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKey {
    /// SPIFFE ID of the calling system.
    Client,
    /// Exchange id and attempt.
    Exchange,
    /// Code of the other city.
    PeerCity,
    /// SPIFFE ID of the provider.
    Provider,
}

impl SpanKey {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "banqiao.client",
            Self::Exchange => "banqiao.exchange",
            Self::PeerCity => "banqiao.peer_city",
            Self::Provider => "banqiao.provider",
        }
    }
}

impl Tracer {
    pub(crate) const fn new(tracer: SdkTracer) -> Self {
        Self(Some(tracer))
    }

    /// A tracer that makes empty spans.
    pub const fn off() -> Self {
        Self(None)
    }

    /// Whether spans go anywhere.
    pub const fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the span of one call.
    ///
    /// `traceparent` is the header's value when it came exactly once; a malformed one begins a new trace. `method` is
    /// the path from the catalogue, `/package.Service/Method`, never one from the wire, which may hold anything: while
    /// the method is not resolved, say [`OTHER`] and call [`CallSpan::resolved`] later.
    pub fn start(&self, traceparent: Option<&str>, method: &str, side: Side) -> CallSpan {
        let Some(tracer) = &self.0 else {
            return CallSpan(None);
        };
        let name = span_name(method);
        let context = match traceparent.and_then(TraceParent::parse) {
            Some(parent) => Context::new().with_remote_span_context(parent.to_remote_context()),
            None => Context::new(),
        };
        let kind = if side == Side::Client {
            SpanKind::Client
        } else {
            SpanKind::Server
        };
        let builder = tracer.span_builder(name.to_owned()).with_kind(kind);
        let span = tracer.build_with_context(builder, &context);
        CallSpan(Some(Box::new(Open {
            span,
            method: name.to_owned(),
            side,
        })))
    }
}

/// The span of one call at one hop.
///
/// Ends when [`CallSpan::end`] is called or it is dropped; dropped, it says that the call was cancelled.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct CallSpan(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    span: Span,
    // The SDK keeps an attribute that is set twice twice: what may still change is set when the span ends.
    method: String,
    side: Side,
}

impl CallSpan {
    /// The `traceparent` for the next hop. `None` where traces are off: then pass on what came, unchanged.
    ///
    /// `tracestate` is passed on unchanged in both cases.
    pub fn traceparent(&self) -> Option<HeaderValue> {
        TraceParent::of(self.0.as_ref()?.span.span_context())?.to_header()
    }

    /// Whether the span is recorded: if not, there is no use in making values for [`CallSpan::annotate`].
    pub fn is_recording(&self) -> bool {
        self.0.as_ref().is_some_and(|open| open.span.is_recording())
    }

    /// The method was found in the catalogue, and with it the side on which this gateway stands.
    pub fn resolved(&mut self, method: &str, side: Side) {
        let Some(open) = self.0.as_mut() else { return };
        open.side = side;
        if open.span.is_recording() {
            span_name(method).clone_into(&mut open.method);
            open.span.update_name(open.method.clone());
        }
    }

    /// Adds what was learned about the call; each key at most once.
    pub fn annotate(&mut self, key: SpanKey, value: &str) {
        if let Some(open) = self.0.as_mut().filter(|open| open.span.is_recording()) {
            open.span
                .set_attribute(KeyValue::new(key.as_str(), value.to_owned()));
        }
    }

    /// Ends the span with the status that the caller got, and the gateway's reason if it raised one.
    pub fn end(mut self, code: Code, reason: &str) {
        self.close(code, reason);
    }

    fn close(&mut self, code: Code, reason: &str) {
        let Some(mut open) = self.0.take() else {
            return;
        };
        if open.span.is_recording() {
            let name = code_name(code);
            open.span
                .set_attribute(KeyValue::new("rpc.system.name", "grpc"));
            open.span
                .set_attribute(KeyValue::new("rpc.method", open.method));
            open.span
                .set_attribute(KeyValue::new("banqiao.side", open.side.as_str()));
            open.span
                .set_attribute(KeyValue::new("rpc.response.status_code", name));
            if !reason.is_empty() {
                open.span
                    .set_attribute(KeyValue::new("banqiao.reason", reason.to_owned()));
            }
            if is_error(code, open.side) {
                open.span.set_attribute(KeyValue::new("error.type", name));
                open.span.set_status(Status::error(reason.to_owned()));
            }
        }
        open.span.end();
    }
}

impl Drop for CallSpan {
    fn drop(&mut self) {
        self.close(Code::Cancelled, "");
    }
}

/// The method without its leading slash. The OpenTelemetry conventions for RPC (1.45) say `_OTHER` for an unknown one.
fn span_name(method: &str) -> &str {
    if method == OTHER {
        "_OTHER"
    } else {
        method.strip_prefix('/').unwrap_or(method)
    }
}

/// To a client every status but OK is an error; to a server only those that are its own fault (conventions for gRPC).
fn is_error(code: Code, side: Side) -> bool {
    match side {
        Side::Client => code != Code::Ok,
        _ => matches!(
            code,
            Code::Unknown
                | Code::DeadlineExceeded
                | Code::Unimplemented
                | Code::Internal
                | Code::Unavailable
                | Code::DataLoss
        ),
    }
}
