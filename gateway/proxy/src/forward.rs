//! Layer: the way to the service and back.
//!
//! A call passes five steps: **intake** (a unary request of up to 256 KiB is held, so that its OPEN can carry its
//! root), **open**, **exchange** (both directions flow; a unary answer of up to 256 KiB is held), **close**, and the
//! answer. [`guard`] watches the steps in which something outside may end the call; the writing of an entry is never
//! interrupted, so that it is always known whether it stands.

mod disclose;
mod exchange;
mod flow;
mod guard;
mod headers;
mod responder;
mod source;

use std::{
    borrow::Cow,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use banqiao_directory::Idempotency;
use banqiao_proto::exchange::v1::Reason;
use banqiao_proto::ledger::v1::{Direction, Subject};
use banqiao_telemetry::Side as MetricSide;
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::HeaderMap;
use parking_lot::Mutex;
use tokio::time::Instant;

pub(crate) use responder::Responder;

use self::{
    exchange::{Attempt, Finish, Intake},
    flow::Flow,
    guard::Stop,
};
use crate::{
    call::Call,
    calls::Registered,
    carried::MethodPlan,
    record::{self, Ended, Progress, Running},
    refusal::Refusal,
    rescue,
    resolve::Next,
    wire::{Coding, DisclosureMask},
};

/// gRPC status OK.
const OK: u32 = 0;
/// gRPC status CANCELLED.
const CANCELLED: u32 = 1;

/// A call on its way.
struct Forward {
    call: Call,
    next: Next,
    plan: Arc<MethodPlan>,
    mask: Option<Arc<DisclosureMask>>,
    responder: Responder,
    flows: Mutex<Flows>,
    progress: Progress,
    registered: Registered,
    /// An OPEN of this attempt stands in the ledger.
    opened: AtomicBool,
    /// The one new attempt that a call may have is used up.
    retried: AtomicBool,
    /// The last message, in milliseconds since the call began.
    active: AtomicU64,
}

struct Flows {
    request: Flow,
    response: Flow,
}

/// Carries a permitted call to its end.
pub(crate) async fn run(
    call: Call,
    next: Next,
    headers: HeaderMap,
    body: RecvStream,
    respond: SendResponse<Bytes>,
) {
    let Some(plan) = call.plan.clone() else {
        // Resolving sets the plan of every call that it lets through.
        return;
    };
    let mask = match call
        .grant
        .as_ref()
        .map_or(Ok(None), |grant| plan.mask(grant))
    {
        Ok(mask) => mask,
        Err(error) => {
            let refusal = Refusal::new(
                Reason::DisclosureFailed,
                format!("the grant names fields that the method does not have: {error}"),
            );
            record::refused(&call, &refusal).await;
            rescue::answer(call, &refusal, respond);
            return;
        }
    };
    let peer = Arc::clone(&call.conn.peer);
    let grant = call.grant.clone();
    let registered = call.conn.worker.calls.register(peer, grant);
    let in_flight = call
        .conn
        .worker
        .shared
        .metrics
        .in_flight(metric_side(&call));
    let mut forward = Forward {
        flows: Mutex::new(Flows::new(&plan, &headers, mask.is_some(), &call)),
        call,
        next,
        plan,
        mask,
        responder: Responder::new(respond),
        progress: Progress::default(),
        registered,
        opened: AtomicBool::new(false),
        retried: AtomicBool::new(false),
        active: AtomicU64::new(0),
    };
    let (status, reason) = forward.carry(&headers, body).await;
    forward.measure(status, reason);
    drop(in_flight);
}

impl Flows {
    fn new(plan: &MethodPlan, headers: &HeaderMap, masked: bool, call: &Call) -> Self {
        let method = &plan.method;
        let mut max = method.max_response_bytes;
        if masked {
            let limit = call.conn.worker.shared.limits.disclosed_message;
            max = max.min(u32::try_from(limit).unwrap_or(u32::MAX));
        }
        let mut request = Flow::request(method.max_request_bytes, &plan.request_subjects);
        request.announce(Coding::of(headers));
        Self {
            request,
            response: Flow::response(max, &plan.response_subjects),
        }
    }
}

impl Forward {
    /// The whole way. Returns the status and the reason that the call ended with.
    async fn carry(&mut self, headers: &HeaderMap, body: RecvStream) -> (u32, Reason) {
        let mut intake = match self.intake(body).await {
            Ok(intake) => intake,
            Err(stop) => return self.stopped_early(stop).await,
        };
        loop {
            if self.opens_first()
                && let Err(refusal) = self.open(&intake).await
            {
                return self.refuse(refusal).await;
            }
            match self.attempt(&mut intake, headers).await {
                Attempt::Done(finish) => return self.finish(finish).await,
                Attempt::Again(refusal) => self.again(refusal).await,
            }
        }
    }

    /// Whether an OPEN must be durable before the request goes on.
    fn opens_first(&self) -> bool {
        let method = &self.plan.method;
        !self.call.decides()
            || !method.is_unary()
            || method.idempotency != Idempotency::NoSideEffects
    }

    async fn open(&self, intake: &Intake) -> Result<(), Refusal> {
        let (request, subjects) = {
            let mut flows = self.flows.lock();
            let whole = intake.is_whole().then(|| flows.request.direction());
            (whole, flows.request.subjects())
        };
        record::open(&self.call, request, subjects).await?;
        self.opened.store(true, Ordering::Relaxed);
        self.overflow().await
    }

    /// The OPEN of a call that was to be entered at its end only.
    async fn open_late(&self) -> Result<(), Refusal> {
        let (request, subjects) = {
            let mut flows = self.flows.lock();
            (flows.request.direction(), flows.request.subjects())
        };
        record::open(&self.call, Some(request), subjects).await?;
        self.opened.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// Subjects beyond what one entry holds go into PROGRESS entries.
    async fn overflow(&self) -> Result<(), Refusal> {
        loop {
            let overflows = {
                let flows = self.flows.lock();
                flows.request.overflows() || flows.response.overflows()
            };
            if !overflows {
                return Ok(());
            }
            self.progress.enter(&self.call, || self.running()).await?;
        }
    }

    fn running(&self) -> Running {
        let mut flows = self.flows.lock();
        let from = if flows.request.overflows() {
            &mut flows.request
        } else {
            &mut flows.response
        };
        let mut subjects = from.subjects();
        if subjects.is_empty() {
            subjects = flows.request.subjects();
        }
        Running {
            request: flows.request.direction(),
            response: flows.response.direction(),
            subjects,
        }
    }

    /// An attempt failed in transport, and the method may be tried again: a new attempt of the same exchange.
    async fn again(&mut self, refusal: Refusal) {
        if self.call.decides() {
            return;
        }
        let ended = self.ended(
            refusal.status(),
            refusal.reason,
            Reason::Unspecified,
            refusal.detail,
        );
        // Whether it could be entered or not: the next OPEN says whether anything may go on.
        let _ = record::close(&self.call, ended).await;
        self.opened.store(false, Ordering::Relaxed);
        self.call.attempt += 1;
    }

    /// The call ended before anything left this gateway.
    async fn stopped_early(&self, stop: Stop) -> (u32, Reason) {
        match stop {
            Stop::Refused(refusal) => self.refuse(refusal).await,
            Stop::Gone => {
                let refusal = Refusal::new(Reason::Cancelled, "the caller went away");
                record::refused(&self.call, &refusal).await;
                self.responder.reset();
                (CANCELLED, Reason::Cancelled)
            }
        }
    }

    async fn refuse(&self, refusal: Refusal) -> (u32, Reason) {
        record::refused(&self.call, &refusal).await;
        rescue::end(&self.call, &self.responder, &refusal);
        (refusal.status(), refusal.reason)
    }

    /// Enters the end of the call and answers, in the order that the side of the call asks for.
    async fn finish(&self, finish: Finish) -> (u32, Reason) {
        let (status, reason, peer_reason) = finish.outcome();
        let text = finish.text();
        if let Err(refusal) = self.overflow().await
            && self.call.decides()
        {
            return self.refuse(refusal).await;
        }
        if self.call.decides() {
            let ended = self.ended(status, reason, peer_reason, text);
            if let Err(refusal) = record::close(&self.call, ended).await {
                return self.refuse(refusal).await;
            }
            self.answer(finish);
        } else {
            // The answer may still grow the record by nothing: all its messages have been read.
            let ended = self.ended(status, reason, peer_reason, text);
            self.answer(finish);
            let _ = record::close(&self.call, ended).await;
        }
        (status, reason)
    }

    fn answer(&self, finish: Finish) {
        let sent = match finish {
            Finish::Whole {
                head,
                body,
                trailers,
            } => self.release(head, body, trailers),
            Finish::Streamed { trailers } => self.responder.trailers(trailers),
            Finish::Stopped(refusal) => {
                rescue::end(&self.call, &self.responder, &refusal);
                Ok(())
            }
            Finish::Gone => {
                self.responder.reset();
                Ok(())
            }
        };
        if sent.is_err() {
            tracing::debug!(exchange = %self.call.exchange, "the caller was gone before its answer");
        }
    }

    fn release(
        &self,
        head: http::Response<()>,
        body: Vec<Bytes>,
        trailers: Option<HeaderMap>,
    ) -> Result<(), responder::Gone> {
        let Some(trailers) = trailers else {
            return self.responder.headers(head, true);
        };
        self.responder.headers(head, false)?;
        for piece in body {
            self.responder.held(piece)?;
        }
        self.responder.trailers(trailers)
    }

    fn ended(
        &self,
        status: u32,
        reason: Reason,
        peer_reason: Reason,
        error_text: Cow<'static, str>,
    ) -> Ended {
        let (request, response, subjects) = self.directions();
        Ended {
            status,
            reason,
            peer_reason,
            request: Some(request),
            response: Some(response),
            subjects,
            error_text,
            opened: self.opened.load(Ordering::Relaxed),
        }
    }

    fn directions(&self) -> (Direction, Direction, Vec<Subject>) {
        let mut flows = self.flows.lock();
        let mut subjects = flows.request.subjects();
        subjects.append(&mut flows.response.subjects());
        (
            flows.request.direction(),
            flows.response.direction(),
            subjects,
        )
    }

    /// A message or a part of one is passing.
    fn touch(&self) {
        let now = u64::try_from(self.call.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.active.store(now, Ordering::Relaxed);
    }

    fn last_active(&self) -> Instant {
        let since = std::time::Duration::from_millis(self.active.load(Ordering::Relaxed));
        self.call
            .started
            .checked_add(since)
            .unwrap_or(self.call.started)
    }

    fn measure(self, status: u32, reason: Reason) {
        let call = self.call;
        let method = &self.plan.method;
        let peer_city = call.other_city();
        call.conn.worker.shared.metrics.call(
            &banqiao_telemetry::CallLabels {
                side: metric_side(&call),
                service: &method.service,
                method: &method.name,
                peer_city: peer_city.as_ref().map_or("", |city| city.as_str()),
                code: rescue::code(status),
                reason: rescue::reason_label(reason),
            },
            call.started.elapsed(),
        );
        call.span
            .end(rescue::code(status), rescue::reason_label(reason));
    }
}

pub(crate) fn metric_side(call: &Call) -> MetricSide {
    match call.side {
        banqiao_proto::ledger::v1::Side::Provider => MetricSide::Provider,
        banqiao_proto::ledger::v1::Side::Local => MetricSide::Local,
        _ => MetricSide::Consumer,
    }
}
