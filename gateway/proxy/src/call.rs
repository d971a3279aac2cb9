//! One call on its way through the layers.

use std::sync::Arc;

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_policy::Grant;
use banqiao_proto::ledger::v1::Side;
use banqiao_telemetry::{CallSpan, OTHER};
use http::HeaderValue;
use tokio::time::Instant;
use uuid::Uuid;

use crate::{
    accept::Listener,
    carried::MethodPlan,
    clients::CallSlot,
    connection::Conn,
    receipts::Received,
    rights::Snapshot,
    wire::{ExchangeId, Reserved, Target},
};

/// What is known of a call. The layers fill it from the outside in.
#[derive(Debug)]
pub(crate) struct Call {
    pub(crate) conn: Arc<Conn>,
    pub(crate) started: Instant,
    pub(crate) side: Side,
    pub(crate) exchange: Uuid,
    pub(crate) attempt: u32,
    /// The path: of a refused one the escaped form.
    pub(crate) path: Arc<str>,
    /// The reserved metadata, once it is admitted.
    pub(crate) reserved: Option<Reserved>,
    /// The system that calls.
    pub(crate) client: Option<SpiffeId>,
    /// The city of the system that calls.
    pub(crate) consumer_city: Option<CityCode>,
    /// The city that is called, and the system where the caller named one.
    pub(crate) provider: Option<(CityCode, Option<SpiffeId>)>,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) plan: Option<Arc<MethodPlan>>,
    pub(crate) grant: Option<Arc<Grant>>,
    pub(crate) deadline: Option<Instant>,
    /// Provider's side: the receipt of the consumer's OPEN.
    pub(crate) received: Option<Received>,
    pub(crate) span: CallSpan,
    /// Counts the call for its client while it is open.
    pub(crate) slot: Option<CallSlot>,
}

impl Call {
    /// A call of which only the connection is known. It has an exchange id of its own until a peer's is admitted.
    pub(crate) fn begin(conn: Arc<Conn>, path: &str, span: CallSpan) -> Self {
        let snapshot = conn.worker.shared.rights.snapshot();
        Self {
            started: Instant::now(),
            side: match conn.listener {
                Listener::Client => Side::Consumer,
                Listener::InterCity => Side::Provider,
            },
            exchange: Uuid::now_v7(),
            attempt: 1,
            path: crate::wire::escape_path(path.as_bytes()).into(),
            reserved: None,
            client: (conn.listener == Listener::Client).then(|| conn.peer.id.clone()),
            consumer_city: None,
            provider: None,
            snapshot,
            plan: None,
            grant: None,
            deadline: None,
            received: None,
            span,
            slot: None,
            conn,
        }
    }

    /// The part of a call to all cities that goes to one of them: the same exchange, with that city as its peer.
    pub(crate) fn to(&self, city: CityCode, deadline: Instant) -> Self {
        let tracer = &self.conn.worker.shared.tracer;
        let parent = self.span.traceparent();
        let parent = parent.as_ref().and_then(|parent| parent.to_str().ok());
        let reserved = self.reserved.clone().map(|known| Reserved {
            to: Some(Target::City(city)),
            // Its hash is part of the outcome.
            want_receipt: true,
            ..known
        });
        Self {
            conn: Arc::clone(&self.conn),
            started: self.started,
            side: Side::Consumer,
            exchange: self.exchange,
            attempt: self.attempt,
            path: Arc::clone(&self.path),
            reserved,
            client: self.client.clone(),
            consumer_city: self.consumer_city,
            provider: None,
            snapshot: Arc::clone(&self.snapshot),
            plan: None,
            grant: None,
            deadline: Some(deadline),
            received: None,
            span: tracer.start(parent, OTHER, banqiao_telemetry::Side::Consumer),
            slot: None,
        }
    }

    /// `banqiao-exchange-id` of this call.
    pub(crate) fn exchange_id(&self) -> HeaderValue {
        ExchangeId {
            uuid: self.exchange,
            attempt: self.attempt,
        }
        .header_value()
    }

    /// Whether the client asks for a receipt in the trailers.
    pub(crate) fn wants_receipt(&self) -> bool {
        self.reserved
            .as_ref()
            .is_some_and(|reserved| reserved.want_receipt)
    }

    /// Whether this gateway is the one that grants access.
    pub(crate) fn decides(&self) -> bool {
        self.side != Side::Consumer
    }

    /// The purpose, or nothing before it is admitted.
    pub(crate) fn purpose(&self) -> &str {
        self.reserved
            .as_ref()
            .map_or("", |reserved| &reserved.purpose)
    }

    /// The city on the other side of the call, as its code.
    pub(crate) fn other_city(&self) -> Option<CityCode> {
        match self.side {
            Side::Provider => self.consumer_city,
            _ => self.provider.as_ref().map(|(city, _)| *city),
        }
    }
}
