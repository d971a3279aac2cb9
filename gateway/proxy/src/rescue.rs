//! Layer: the one place that turns a refusal into a status.

use banqiao_ledger::receipt::Issued;
use banqiao_proto::{ReasonTable, exchange::v1::Reason, ledger::v1::Side};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use tonic::Code;

use crate::{
    call::Call,
    forward::Responder,
    receipts::RECEIPT,
    refusal::Refusal,
    wire::{self, ExchangeId},
};

/// Answers a call that was refused before anything was sent, and closes its span and measurement.
pub(crate) fn answer(
    call: Call,
    refusal: &Refusal,
    receipt: Option<Issued>,
    responder: &Responder,
) {
    end(&call, responder, refusal, receipt);
    measure(call, refusal);
}

fn measure(call: Call, refusal: &Refusal) {
    let method = call.plan.as_ref().map(|plan| &plan.method);
    let city = call.other_city();
    let labels = banqiao_telemetry::CallLabels {
        side: crate::forward::metric_side(&call),
        // Names come from the catalogue only, so that a stranger cannot make new series.
        service: method.map_or("", |method| &method.service),
        method: method.map_or("", |method| &method.name),
        peer_city: city.as_ref().map_or("", |city| city.as_str()),
        code: code(refusal.status()),
        reason: reason_label(refusal.reason),
    };
    call.conn
        .worker
        .shared
        .metrics
        .call(&labels, call.started.elapsed());
    call.span
        .end(code(refusal.status()), reason_label(refusal.reason));
}

/// Ends a call with the status of a refusal: in the trailers, or in the one block of headers where none has left.
///
/// The receipt of the entry goes to another city's gateway, unless the entry says more than the caller may see.
pub(crate) fn end(call: &Call, responder: &Responder, refusal: &Refusal, receipt: Option<Issued>) {
    let mut trailers = trailers(call, refusal);
    if let Some(receipt) = receipt
        && call.side == Side::Provider
        && refusal.shown().reason == refusal.reason
    {
        trailers.insert(RECEIPT, wire::binary_value(&receipt.bytes));
    }
    let sent = if responder.begun() {
        responder.trailers(trailers)
    } else {
        responder.headers(trailers_only(refusal.reason, trailers), true)
    };
    if sent.is_err() {
        tracing::debug!(exchange = %call.exchange, "the caller was gone before its status");
    }
}

/// The block that ends a call with the status of a refusal.
pub(crate) fn trailers(call: &Call, refusal: &Refusal) -> HeaderMap {
    let shown = refusal.shown();
    let exchange = ExchangeId {
        uuid: call.exchange,
        attempt: call.attempt,
    };
    let mut status = wire::Refusal::new(shown.reason)
        .message(shown.detail.clone().into_owned())
        .exchange(exchange);
    if let Some((name, description)) = &shown.field {
        status = status.violation(name.clone().into_owned(), description.clone().into_owned());
    }
    if let Some(wait) = shown.retry_after {
        status = status.retry_after(wait);
    }
    let mut trailers = status.trailers();
    trailers.insert("banqiao-exchange-id", call.exchange_id());
    trailers
}

/// The one block of headers of an answer that has no messages.
pub(crate) fn trailers_only(reason: Reason, trailers: HeaderMap) -> Response<()> {
    let mut response = Response::new(());
    if reason == Reason::NotGrpc {
        // What is not gRPC hears it in HTTP (gRPC over HTTP/2, "Requests").
        *response.status_mut() = StatusCode::UNSUPPORTED_MEDIA_TYPE;
    }
    *response.headers_mut() = trailers;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

/// The status as telemetry names it.
pub(crate) fn code(status: u32) -> Code {
    Code::from(i32::try_from(status).unwrap_or(2))
}

/// The reason as telemetry names it.
pub(crate) fn reason_label(reason: Reason) -> &'static str {
    if reason == Reason::Unspecified {
        ""
    } else {
        ReasonTable::name(reason)
    }
}
