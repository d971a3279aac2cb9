//! Layer: path, headers, reserved names, load, concurrency. Needs nothing but the request's headers.

use banqiao_directory::SpiffeId;
use banqiao_proto::exchange::v1::Reason;
use http::{HeaderMap, Method, request::Parts};

use crate::{
    call::Call,
    receipts::{PRIVATE, RECEIPT},
    refusal::Refusal,
    stack::from_peer_gateway,
    wire::{CanonicalPath, Hop, check_request},
};

/// What RFC 9113 §6.5.2 adds to each field's length.
const FIELD_OVERHEAD: usize = 32;

pub(crate) fn check(call: &mut Call, parts: &Parts) -> Result<(), Refusal> {
    let shared = &call.conn.worker.shared;
    if shared.draining.is_cancelled() {
        return Err(Refusal::new(Reason::Draining, "the gateway is stopping"));
    }
    if shared.pressure.sheds() {
        shared.metrics.limit_hit("memory");
        return Err(
            Refusal::new(Reason::Overloaded, "the gateway is short of memory")
                .retry_after(std::time::Duration::from_secs(1)),
        );
    }
    if header_size(&parts.headers) > shared.limits.header_list as usize {
        shared.metrics.limit_hit("header_list");
        return Err(Refusal::new(
            Reason::MetadataTooLarge,
            "the metadata is too large",
        ));
    }
    path(call, parts)?;
    grpc(parts)?;
    reserved(call, &parts.headers)?;
    if !from_peer_gateway(call) {
        let Some(slot) = call.conn.client.call() else {
            call.conn
                .worker
                .shared
                .metrics
                .limit_hit("client_concurrency");
            return Err(Refusal::new(
                Reason::ClientBusy,
                "this client has too many open calls",
            ));
        };
        call.slot = Some(slot);
    }
    Ok(())
}

/// One canonical path: what is routed, authorised and recorded is what the service gets.
fn path(call: &mut Call, parts: &Parts) -> Result<(), Refusal> {
    let refuse = |what: String| Err(Refusal::new(Reason::PathNotCanonical, what));
    let whole = parts.uri.path_and_query().map_or("", |path| path.as_str());
    if let Err(fault) = CanonicalPath::parse(whole) {
        return refuse(fault.to_string());
    }
    let host = parts.headers.get(http::header::HOST);
    if let Some(host) = host
        && parts
            .uri
            .authority()
            .is_none_or(|authority| authority.as_str().as_bytes() != host.as_bytes())
    {
        return refuse("the authority and the host differ".to_owned());
    }
    call.path = whole.into();
    Ok(())
}

fn grpc(parts: &Parts) -> Result<(), Refusal> {
    let refuse = |what| Err(Refusal::new(Reason::NotGrpc, what));
    if parts.method != Method::POST {
        return refuse("gRPC calls are POST requests");
    }
    let content_type = parts
        .headers
        .get(http::header::CONTENT_TYPE)
        .map(http::HeaderValue::as_bytes);
    let sound = content_type.is_some_and(|kind| {
        kind.strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    });
    if !sound {
        return refuse("the content type is not application/grpc");
    }
    if parts
        .headers
        .get(http::header::TE)
        .is_none_or(|te| te.as_bytes() != b"trailers")
    {
        return refuse("gRPC calls carry te: trailers");
    }
    Ok(())
}

fn reserved(call: &mut Call, headers: &HeaderMap) -> Result<(), Refusal> {
    let peer = from_peer_gateway(call);
    let hop = if peer {
        Hop::GatewayToGateway
    } else {
        Hop::ClientToGateway
    };
    let reserved = check_request(headers, hop).map_err(|fault| {
        Refusal::new(fault.reason(), "the banqiao- metadata is not as it must be")
            .field(fault.field().to_owned(), fault.to_string())
    })?;
    if peer {
        let missing = |name| {
            Refusal::new(
                Reason::MetadataInvalid,
                "a gateway names the exchange and the client",
            )
            .field(name, "is required between gateways")
        };
        let exchange = reserved
            .exchange
            .ok_or_else(|| missing("banqiao-exchange-id"))?;
        timely(call, exchange.uuid)?;
        call.exchange = exchange.uuid;
        call.attempt = exchange.attempt;
        let client = reserved.client.clone();
        if client.as_ref().map(SpiffeId::trust_domain) != Some(call.conn.peer.id.trust_domain())
            || client.as_ref().is_some_and(SpiffeId::is_gateway)
        {
            return Err(Refusal::new(
                Reason::ClientCityMismatch,
                "a gateway speaks only for the systems of its own city",
            ));
        }
        call.client = client;
    }
    call.reserved = Some(reserved);
    Ok(())
}

/// An exchange id carries the time at which it was made (UUIDv7, RFC 9562 §5.7): a statement is good for a while only.
fn timely(call: &Call, exchange: uuid::Uuid) -> Result<(), Refusal> {
    let shared = &call.conn.worker.shared;
    let made = exchange.get_timestamp().map(|at| at.to_unix());
    let now_ms = u64::try_from(shared.clock.now_us() / 1_000).unwrap_or(0);
    let skew = u64::try_from(shared.limits.exchange_skew.as_millis()).unwrap_or(u64::MAX);
    let timely = made.is_some_and(|(seconds, nanos)| {
        let made_ms = seconds
            .saturating_mul(1_000)
            .saturating_add(u64::from(nanos / 1_000_000));
        made_ms.abs_diff(now_ms) <= skew
    });
    if timely {
        return Ok(());
    }
    Err(Refusal::new(
        Reason::MetadataInvalid,
        "the exchange id is out of its time",
    )
    .field(
        "banqiao-exchange-id",
        "is a UUIDv7 that was made too long ago, or not yet",
    ))
}

fn header_size(headers: &HeaderMap) -> usize {
    // What only gateways send has limits and room of its own.
    headers
        .iter()
        .filter(|(name, _)| **name != RECEIPT && **name != PRIVATE)
        .map(|(name, value)| name.as_str().len() + value.len() + FIELD_OVERHEAD)
        .sum()
}
