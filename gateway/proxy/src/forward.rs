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
use banqiao_ledger::{Appended, receipt::Issued};
use banqiao_proto::exchange::v1::Reason;
use banqiao_proto::ledger::v1::{Direction, Side, Subject};
use banqiao_telemetry::{InFlight, Side as MetricSide};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderValue};
use parking_lot::Mutex;
use prost::Message as _;
use tokio::time::Instant;

pub(crate) use flow::Flow;
pub(crate) use guard::Stop;
pub(crate) use headers::{EXCHANGE_ID, STATUS};
pub(crate) use responder::{Gone, Responder};
pub(crate) use source::{chunk, passed};

use self::exchange::{Attempt, Finish, Intake};
use crate::{
    call::Call,
    calls::Registered,
    carried::MethodPlan,
    receipts::{self, Entered, RECEIPT, Received},
    record::{self, Ended, Opened, Progress, Running},
    refusal::Refusal,
    rescue,
    resolve::Next,
    wire::{self, Coding, DisclosureMask},
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
    statement: Mutex<Statement>,
    _in_flight: InFlight,
}

/// The receipts of this attempt.
#[derive(Debug, Default)]
struct Statement {
    /// Of our OPEN, as it goes with the request.
    own: Option<Issued>,
    /// Our OPEN, whose receipt goes with the headers of a streamed answer.
    opened: Option<Appended>,
    /// Our OPEN has the root of the request.
    whole: bool,
    /// The opening of its private part, for the provider.
    private: Option<HeaderValue>,
    /// Of the provider's OPEN or CLOSE.
    received: Option<Received>,
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
    let responder = Responder::new(respond);
    if let Some(mut forward) = prepare(call, next, &headers, responder).await {
        let (status, reason) = forward.carry(&headers, body).await;
        forward.measure(status, reason);
    }
}

/// Carries a permitted call whose request has been read whole.
pub(crate) async fn run_held(
    call: Call,
    next: Next,
    headers: HeaderMap,
    request: Vec<Bytes>,
    responder: Responder,
) {
    if let Some(mut forward) = prepare(call, next, &headers, responder).await {
        let (status, reason) = match forward.whole(request) {
            Ok(intake) => forward.carry_on(intake, &headers).await,
            Err(stop) => forward.stopped_early(stop).await,
        };
        forward.measure(status, reason);
    }
}

/// A call with what it is carried by. `None`: it was refused and answered.
async fn prepare(
    call: Call,
    next: Next,
    headers: &HeaderMap,
    responder: Responder,
) -> Option<Forward> {
    // Resolving sets the plan of every call that it lets through.
    let plan = call.plan.clone()?;
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
            let receipt = record::refused(&call, &refusal).await;
            rescue::answer(call, &refusal, receipt, &responder);
            return None;
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
    Some(Forward {
        flows: Mutex::new(Flows::new(&plan, headers, mask.is_some(), &call)),
        call,
        next,
        plan,
        mask,
        responder,
        progress: Progress::default(),
        registered,
        opened: AtomicBool::new(false),
        retried: AtomicBool::new(false),
        active: AtomicU64::new(0),
        statement: Mutex::default(),
        _in_flight: in_flight,
    })
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
        match self.intake(body).await {
            Ok(intake) => self.carry_on(intake, headers).await,
            Err(stop) => self.stopped_early(stop).await,
        }
    }

    /// The way from the moment that the request is held, or known to flow.
    async fn carry_on(&mut self, mut intake: Intake, headers: &HeaderMap) -> (u32, Reason) {
        if let Some(refusal) = self.contradiction() {
            return self.refuse(refusal).await;
        }
        loop {
            // A provider tries the service again within the attempt that its claim is of.
            if self.opens_first()
                && !self.opened.load(Ordering::Relaxed)
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
            let subjects = if self.next.peer {
                flows.request.few_subjects()
            } else {
                flows.request.subjects()
            };
            (whole, subjects)
        };
        let opened = record::open(&self.call, request, subjects).await?;
        self.state(opened);
        self.statement.lock().whole = intake.is_whole();
        self.opened.store(true, Ordering::Relaxed);
        self.overflow().await
    }

    /// What goes to the other side with the request, or with the headers of a streamed answer.
    fn state(&self, opened: Opened) {
        let mut statement = self.statement.lock();
        if self.next.peer {
            let opening = opened.opening.map(|it| it.encode_to_vec());
            statement.private = opening.map(|it| wire::binary_value(&it));
            statement.own = opened.appended.receipt();
        } else {
            statement.opened = Some(opened.appended);
        }
        statement.received = None;
    }

    /// The request is whole, and another than the consumer has entered.
    fn contradiction(&self) -> Option<Refusal> {
        let received = self.call.received.as_ref()?;
        let unary = !self.plan.method.client_streaming;
        received.contradicts(&self.flows.lock().request.direction(), unary)
    }

    /// The OPEN of a call that was to be entered at its end only.
    async fn open_late(&self) -> Result<(), Refusal> {
        let (request, subjects) = {
            let mut flows = self.flows.lock();
            (flows.request.direction(), flows.request.subjects())
        };
        let opened = record::open(&self.call, Some(request), subjects).await?;
        self.state(opened);
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
            self.flows.lock().response.restart();
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
        // Nothing of the answer that broke off was passed on.
        self.flows.lock().response.restart();
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
        let receipt = record::refused(&self.call, &refusal).await;
        rescue::end(&self.call, &self.responder, &refusal, receipt);
        (refusal.status(), refusal.reason)
    }

    /// Enters the end of the call and answers, in the order that the side of the call asks for.
    async fn finish(&self, mut finish: Finish) -> (u32, Reason) {
        let peer_reason = finish.outcome().2;
        if self.next.peer {
            finish = self.receive(finish);
        } else if let Some(refusal) = self.contradiction() {
            finish = Finish::Stopped(refusal);
        }
        let (status, reason, _) = finish.outcome();
        let text = finish.text();
        if let Err(refusal) = self.overflow().await
            && self.call.decides()
        {
            return self.refuse(refusal).await;
        }
        if self.call.decides() {
            let ended = self.ended(status, reason, peer_reason, text);
            let receipt = match record::close(&self.call, ended).await {
                Ok(appended) => self.issue(&appended),
                Err(refusal) => return self.refuse(refusal).await,
            };
            self.answer(finish, receipt);
        } else {
            // The answer may still grow the record by nothing: all its messages have been read.
            let ended = self.ended(status, reason, peer_reason, text);
            self.answer(finish, None);
            let _ = record::close(&self.call, ended).await;
        }
        (status, reason)
    }

    /// The receipt of our CLOSE, where somebody gets it.
    fn issue(&self, closed: &Appended) -> Option<Issued> {
        let wanted = self.call.side == Side::Provider || self.call.wants_receipt();
        wanted.then(|| closed.receipt()).flatten()
    }

    /// Takes the provider's receipt out of an answer and holds it against the call.
    fn receive(&self, mut finish: Finish) -> Finish {
        let Some(block) = finish.last_block() else {
            return finish;
        };
        let value = receipts::take(block);
        let status = headers::status(block).unwrap_or(OK);
        let (request, response) = {
            let flows = self.flows.lock();
            (flows.request.direction(), flows.response.direction())
        };
        let mut statement = self.statement.lock();
        let entered = Entered {
            sent: statement.own.as_ref().map(|issued| &issued.hash),
            request: Some(&request),
            whole: statement.whole,
            response: Some(&response),
            status: Some(status),
        };
        let (received, outcome) = receipts::check(&self.call, value.as_ref(), &entered);
        if received.is_some() {
            statement.received = received;
        }
        match outcome {
            Ok(()) => {
                if status != OK
                    && statement.received.is_none()
                    && let Finish::Whole { body, .. } = &mut finish
                {
                    // An error needs no receipt, and data does: messages beside an error would be nobody's.
                    body.clear();
                }
                if self.call.wants_receipt()
                    && let (Some(value), Some(block)) = (value, finish.last_block())
                {
                    block.insert(RECEIPT, value);
                }
                finish
            }
            Err(refusal) => Finish::Stopped(refusal),
        }
    }

    /// Holds the receipt of the provider's OPEN, which comes with the headers of a stream, against the call.
    fn receive_open(&self, head: &mut HeaderMap) -> Result<(), Refusal> {
        if !self.next.peer {
            return Ok(());
        }
        let value = receipts::take(head);
        if value.is_none() && !self.plan.method.server_streaming {
            return Ok(());
        }
        let mut statement = self.statement.lock();
        let entered = Entered {
            sent: statement.own.as_ref().map(|issued| &issued.hash),
            request: None,
            whole: false,
            response: None,
            status: None,
        };
        let (received, outcome) = receipts::check(&self.call, value.as_ref(), &entered);
        statement.received = received;
        outcome
    }

    /// Puts the receipt of our OPEN into the headers of a streamed answer.
    fn issue_open(&self, head: &mut HeaderMap) {
        if self.call.side != Side::Provider {
            return;
        }
        let opened = self.statement.lock().opened.take();
        if let Some(own) = opened.and_then(|it| it.receipt()) {
            head.insert(RECEIPT, wire::binary_value(&own.bytes));
        }
    }

    fn answer(&self, mut finish: Finish, receipt: Option<Issued>) {
        if let Some(receipt) = &receipt
            && let Some(block) = finish.last_block()
        {
            block.insert(RECEIPT, wire::binary_value(&receipt.bytes));
        }
        let sent = match finish {
            Finish::Whole {
                head,
                body,
                trailers,
            } => self.release(head, body, trailers),
            Finish::Streamed { trailers } => self.responder.trailers(trailers),
            Finish::Stopped(refusal) => {
                rescue::end(&self.call, &self.responder, &refusal, receipt);
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
    ) -> Result<(), Gone> {
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
            received: self.statement.lock().received.take(),
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
        Side::Provider => MetricSide::Provider,
        Side::Local => MetricSide::Local,
        _ => MetricSide::Consumer,
    }
}
