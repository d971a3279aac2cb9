//! The layers of a call, outermost first, in the one place that fixes their order.
//!
//! A layer is a function in a file of its own that may refuse the call. They are called in order by one future for
//! each call, rather than nested as boxed services: the call's facts lie in one struct that every layer adds to, and
//! nothing is allocated or boxed for each layer.
//!
//! | layer | file | may refuse because | stands here because |
//! |---|---|---|---|
//! | accept | `accept.rs` | TLS, too many connections, memory | nobody is known before it |
//! | exchange id, trace | this file | – | every answer and entry carries them |
//! | rescue | `rescue.rs` | – | the one place that turns a refusal into a status |
//! | record | `record.rs` | the ledger cannot be written | outside everything that can refuse: refusals are entries too |
//! | identity | `identity.rs` | wrong kind of identity for the listener | before anything the peer says is believed |
//! | admit | `admit.rs` | path, headers, reserved names, load, concurrency | cheap, and needs only the headers |
//! | resolve | `resolve.rs` | directory, destination, unknown method | the method's rules are needed by all that follows |
//! | all | `all.rs` | all cities are asked for what does not allow it, or too often | what goes to all becomes one call for each city, which passes the layers below by itself |
//! | receipts | `receipts.rs` | a receipt that is missing or wrong | what is refused from here on has the other side's receipt beside it |
//! | authorise | `authorise.rs` | no grant, wrong purpose, expired | the provider decides |
//! | rate | `rate.rs` | rate of the grant | only what is permitted uses up a rate |
//! | forward | `forward.rs` and `forward/` | unreachable, deadline, malformed messages | – |
//! | disclose | `forward/disclose.rs` | a response that cannot be cut | last before bytes leave the city: digests cover what leaves |

use std::sync::Arc;

use banqiao_telemetry::{OTHER, Side, SpanKey};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, Request};

use crate::{
    accept::Listener,
    admit, all, authorise,
    call::Call,
    connection::Conn,
    forward::{self, Responder},
    identity, local, rate, receipts, record,
    refusal::Refusal,
    rescue,
    resolve::{self, Next},
};

/// Serves one request.
pub(crate) async fn serve(
    conn: Arc<Conn>,
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
) {
    let (parts, body) = request.into_parts();
    if local::is_local(conn.listener, parts.uri.path()) {
        local::serve(conn, parts, body, respond).await;
        return;
    }
    // Several are none (W3C Trace Context §3.2.2.4).
    let mut traceparents = parts.headers.get_all("traceparent").iter();
    let traceparent = match (traceparents.next(), traceparents.next()) {
        (Some(one), None) => one.to_str().ok(),
        _ => None,
    };
    let side = match conn.listener {
        Listener::Client => Side::Consumer,
        Listener::InterCity => Side::Provider,
    };
    let span = conn.worker.shared.tracer.start(traceparent, OTHER, side);
    let path = parts.uri.path_and_query().map_or("", |path| path.as_str());
    let mut call = Call::begin(Arc::clone(&conn), path, span);
    match permit(&mut call, &parts).await {
        Ok(Way::One(next)) => {
            annotate(&mut call);
            forward::run(call, next, parts.headers, body, respond).await;
        }
        // Boxed: most calls are to one city, and need no room for the others.
        Ok(Way::All) => Box::pin(all::run(call, parts.headers, body, respond)).await,
        Err(refusal) => {
            let receipt = record::refused(&call, &refusal).await;
            rescue::answer(call, &refusal, receipt, &Responder::new(respond));
        }
    }
}

/// Where a call goes.
enum Way {
    One(Next),
    /// To all cities: each of them is a call that passes the layers from resolve on by itself.
    All,
}

/// The layers that decide, in order.
async fn permit(call: &mut Call, parts: &http::request::Parts) -> Result<Way, Refusal> {
    identity::check(call)?;
    admit::check(call, parts)?;
    if all::is_asked(call) {
        return Ok(Way::All);
    }
    let next = resolve::find(call).await?;
    receipts::admit(call)?;
    authorise::decide(call)?;
    rate::take(call)?;
    deadline(call, &parts.headers);
    Ok(Way::One(next))
}

pub(crate) fn annotate(call: &mut Call) {
    let side = forward::metric_side(call);
    call.span.resolved(&call.path, side);
    if !call.span.is_recording() {
        return;
    }
    if let Some(client) = &call.client {
        call.span.annotate(SpanKey::Client, client.as_str());
    }
    if let Some(city) = call.other_city() {
        call.span.annotate(SpanKey::PeerCity, city.as_str());
    }
    if let Ok(exchange) = call.exchange_id().to_str() {
        call.span.annotate(SpanKey::Exchange, exchange);
    }
}

/// The earlier of the caller's deadline and the method's.
pub(crate) fn deadline(call: &mut Call, headers: &HeaderMap) {
    let asked = headers
        .get("grpc-timeout")
        .and_then(|value| value.to_str().ok())
        .and_then(crate::wire::parse_timeout);
    let allowed = call.plan.as_ref().and_then(|plan| {
        let fallback = plan
            .method
            .is_unary()
            .then_some(call.conn.worker.shared.limits.unary_deadline);
        plan.method.max_deadline.or(fallback)
    });
    let timeout = match (asked, allowed) {
        (Some(asked), Some(allowed)) => Some(asked.min(allowed)),
        (asked, allowed) => asked.or(allowed),
    };
    call.deadline = timeout.and_then(|timeout| call.started.checked_add(timeout));
}

/// Which listener's rules hold, as the layers ask it.
pub(crate) fn from_peer_gateway(call: &Call) -> bool {
    call.conn.listener == Listener::InterCity
}
