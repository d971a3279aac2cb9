//! Layer: a call to all cities at once (`banqiao-to: *`).
//!
//! The one request goes to each city as a call of its own, with the same exchange id: it passes the layers from resolve
//! on by itself, has its own OPEN, CLOSE and receipt, and its city is the peer by which the ledger tells it from the
//! others. What the cities stream is merged message by message. A CLOSE without a provider says what became of
//! each, and the caller reads the same in `banqiao-outcomes-bin`: whatever did not answer to the end makes the status
//! `PARTIAL_RESULT`, so that a city that cannot be reached never looks like one that has nothing.
//!
//! All parts run in the task of the call and are polled together: they share the caller's stream, which wakes one task.

mod cities;
mod merge;
mod outcome;
mod part;

use std::{pin::pin, sync::Arc, time::Duration};

use banqiao_directory::CityCode;
use banqiao_proto::{
    exchange::v1::{Outcomes, Reason},
    ledger::v1::{Direction, Side},
};
use bytes::Bytes;
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, HeaderName, HeaderValue};
use prost::Message as _;
use tokio::{sync::Semaphore, time::Instant};

pub(crate) use merge::Sender;
pub(crate) use part::Part;

use self::merge::Written;
use crate::{
    authorise,
    call::Call,
    carried::MethodPlan,
    clients::FanOutSlot,
    forward::{self, EXCHANGE_ID, Flow, Responder, Stop},
    rate, record,
    refusal::Refusal,
    rescue,
    resolve::{self, Next},
    stack,
    wire::{self, Coding, Target},
};

const TO: HeaderName = HeaderName::from_static("banqiao-to");
const OUTCOMES: HeaderName = HeaderName::from_static("banqiao-outcomes-bin");

/// What a city's part is cut short by, so that the others' answers and the outcomes still reach the caller in its own
/// deadline: at most a tenth of what is left.
const OWN_SHARE: Duration = Duration::from_millis(100);

/// A question to all cities.
struct Question {
    plan: Arc<MethodPlan>,
    cities: Vec<CityCode>,
    /// The whole request, which every part sends.
    request: Vec<Bytes>,
    direction: Direction,
    /// When the caller's time is over.
    deadline: Instant,
    _slot: FanOutSlot,
}

/// Whether a call of a system of this city goes to all cities.
pub(crate) fn is_asked(call: &Call) -> bool {
    let reserved = call.reserved.as_ref();
    reserved.is_some_and(|known| known.to == Some(Target::All)) && call.side == Side::Consumer
}

/// Carries a call to all cities to its end.
pub(crate) async fn run(
    mut call: Call,
    headers: HeaderMap,
    body: RecvStream,
    respond: SendResponse<Bytes>,
) {
    let client = Arc::new(Responder::new(respond));
    let question = match question(&mut call, &headers, body, &client).await {
        Ok(question) => question,
        Err(Stop::Refused(refusal)) => {
            let receipt = record::refused(&call, &refusal).await;
            rescue::answer(call, &refusal, receipt, &client);
            return;
        }
        Err(Stop::Gone) => {
            let refusal = Refusal::new(Reason::Cancelled, "the caller went away");
            record::refused(&call, &refusal).await;
            client.reset();
            measure(call, refusal.status(), refusal.reason);
            return;
        }
    };
    stack::annotate(&mut call);
    let (outcomes, written) = ask(&call, &headers, &question, &client).await;
    let (status, reason) = end(&call, question, outcomes, written, &client).await;
    measure(call, status, reason);
}

/// Everything that must hold before any city is asked.
async fn question(
    call: &mut Call,
    headers: &HeaderMap,
    body: RecvStream,
    client: &Responder,
) -> Result<Question, Stop> {
    let Some(slot) = call.conn.client.fan_out() else {
        let shared = &call.conn.worker.shared;
        shared.metrics.limit_hit("client_fan_outs");
        let what = "this client has too many open calls to all cities";
        return Err(Refusal::new(Reason::ClientBusy, what).into());
    };
    let plan = cities::plan(call).await?;
    let cities = cities::named(call, &plan);
    call.plan = Some(Arc::clone(&plan));
    stack::deadline(call, headers);
    let longest = call.conn.worker.shared.limits.fan_out_deadline;
    let deadline = call.deadline.unwrap_or(call.started + longest);
    call.deadline = Some(deadline);
    let (request, direction) = {
        let read = pin!(read(call, &plan, headers, body));
        merge::until(deadline, client, read).await?
    };
    Ok(Question {
        plan,
        cities,
        request,
        direction,
        deadline,
        _slot: slot,
    })
}

/// Reads the one request, which is held: it is sent as often as there are cities.
async fn read(
    call: &Call,
    plan: &MethodPlan,
    headers: &HeaderMap,
    mut body: RecvStream,
) -> Result<(Vec<Bytes>, Direction), Stop> {
    let held = call.conn.worker.shared.limits.held_message;
    let max = u32::try_from(held)
        .unwrap_or(u32::MAX)
        .min(plan.method.max_request_bytes);
    let mut flow = Flow::request(max, &plan.request_subjects);
    flow.announce(Coding::of(headers));
    let mut request = Vec::new();
    while let Some(chunk) = forward::chunk(&mut body).await.map_err(|_| Stop::Gone)? {
        flow.inspect(&chunk)?;
        forward::passed(&mut body, chunk.len());
        if flow.count() > 1 {
            break;
        }
        request.push(chunk);
    }
    flow.finish()?;
    if flow.count() != 1 {
        let what = "a call of this method has exactly one request message";
        return Err(Refusal::new(Reason::MessageMalformed, what).into());
    }
    Ok((request, flow.direction()))
}

/// Asks every city, and passes on what they answer.
async fn ask(
    call: &Call,
    headers: &HeaderMap,
    question: &Question,
    client: &Arc<Responder>,
) -> (Outcomes, Written) {
    let limits = &call.conn.worker.shared.limits;
    let turns = Arc::new(Semaphore::new(limits.fan_out));
    let left = question.deadline.saturating_duration_since(Instant::now());
    let deadline = question.deadline - OWN_SHARE.min(left / 10);
    let (merge, messages) = merge::channel();
    let max = u32::try_from(limits.fan_out_message)
        .unwrap_or(u32::MAX)
        .min(question.plan.method.max_response_bytes);
    let mut parts = Vec::with_capacity(question.cities.len());
    let mut legs: Vec<merge::Leg> = Vec::with_capacity(question.cities.len());
    for city in &question.cities {
        let part = Arc::new(Part::new(*city, max, Arc::clone(client)));
        parts.push(Arc::clone(&part));
        let leg = leg(
            call.to(*city, deadline),
            addressed(headers, *city),
            question.request.clone(),
            (part, merge.clone()),
            Arc::clone(&turns),
        );
        legs.push(Box::pin(leg));
    }
    // The merged answer ends when the last part has ended.
    drop(merge);
    let head = merge::head(call);
    let writing = merge::write(client, head, messages, question.deadline);
    let written = merge::together(legs, writing).await;
    let wanted = call.wants_receipt();
    let cities = parts.iter().map(|part| part.outcome(wanted)).collect();
    (Outcomes { cities }, written)
}

/// The request's headers as they go to one city.
fn addressed(headers: &HeaderMap, city: CityCode) -> HeaderMap {
    let mut headers = headers.clone();
    if let Ok(city) = HeaderValue::from_str(city.as_str()) {
        headers.insert(TO, city);
    }
    headers
}

/// One city's part: a call like any other from here on.
async fn leg(
    mut call: Call,
    headers: HeaderMap,
    request: Vec<Bytes>,
    (part, merge): (Arc<Part>, Sender),
    turns: Arc<Semaphore>,
) {
    let late = || {
        Refusal::new(
            Reason::DeadlineExceeded,
            "the deadline passed at the gateway",
        )
    };
    let deadline = call.deadline.unwrap_or(call.started);
    let turn = tokio::time::timeout_at(deadline, turns.acquire_owned()).await;
    let permitted = match &turn {
        Ok(_) => tokio::time::timeout_at(deadline, permit(&mut call, &part))
            .await
            .unwrap_or_else(|_| Err(late())),
        Err(_) => Err(late()),
    };
    let responder = Responder::merged(part, merge);
    match permitted {
        Ok(next) => {
            stack::annotate(&mut call);
            forward::run_held(call, next, headers, request, responder).await;
        }
        Err(refusal) => {
            let receipt = record::refused(&call, &refusal).await;
            rescue::answer(call, &refusal, receipt, &responder);
        }
    }
    drop(turn);
}

/// The layers that decide, for one city.
async fn permit(call: &mut Call, part: &Part) -> Result<Next, Refusal> {
    let next = resolve::find(call).await?;
    part.check_by(cities::allowed(call)?);
    authorise::decide(call)?;
    rate::take(call)?;
    let longest = call.plan.as_ref().and_then(|plan| plan.method.max_deadline);
    let until = longest.and_then(|longest| call.started.checked_add(longest));
    call.deadline = match (call.deadline, until) {
        (Some(asked), Some(until)) => Some(asked.min(until)),
        (asked, until) => asked.or(until),
    };
    Ok(next)
}

/// Enters what became of the whole, and says it to the caller.
async fn end(
    call: &Call,
    question: Question,
    mut outcomes: Outcomes,
    written: Written,
    client: &Responder,
) -> (u32, Reason) {
    let refusal = match written {
        Written::Gone => Some(Refusal::new(Reason::Cancelled, "the caller went away")),
        Written::Late => Some(Refusal::new(
            Reason::DeadlineExceeded,
            "the deadline passed at the gateway",
        )),
        Written::Whole => outcome::partial(&outcomes),
    };
    let metrics = &call.conn.worker.shared.metrics;
    for city in &outcomes.cities {
        metrics.asked_city(&city.city, outcome::word(city.result()));
    }
    let value = wire::binary_value(&outcomes.encode_to_vec());
    for city in &mut outcomes.cities {
        city.receipt.clear();
    }
    let (status, reason) = refusal
        .as_ref()
        .map_or((0, Reason::Unspecified), |it| (it.status(), it.reason));
    let entered = record::sum_up(call, question.direction, outcomes, (status, reason)).await;
    if !matches!(written, Written::Whole) {
        // In the middle of a message no status can follow.
        client.reset();
        return (status, reason);
    }
    let refusal = match entered {
        Ok(()) => refusal,
        Err(unwritten) => Some(unwritten),
    };
    let mut trailers = match &refusal {
        Some(refusal) => rescue::trailers(call, refusal),
        None => merge::sound(call),
    };
    trailers.insert(EXCHANGE_ID, call.exchange_id());
    trailers.insert(OUTCOMES, value);
    let sent = match &refusal {
        Some(refusal) if !client.begun() => {
            client.headers(rescue::trailers_only(refusal.reason, trailers), true)
        }
        _ => merge::close(call, client, trailers),
    };
    if sent.is_err() {
        tracing::debug!(exchange = %call.exchange, "the caller was gone before its status");
    }
    refusal.map_or((0, Reason::Unspecified), |it| (it.status(), it.reason))
}

/// Ends the call's span and measurement: its parts have their own, by city.
fn measure(call: Call, status: u32, reason: Reason) {
    let method = call.plan.as_ref().map(|plan| &plan.method);
    let labels = banqiao_telemetry::CallLabels {
        side: forward::metric_side(&call),
        service: method.map_or("", |method| &method.service),
        method: method.map_or("", |method| &method.name),
        peer_city: "*",
        code: rescue::code(status),
        reason: rescue::reason_label(reason),
    };
    let metrics = &call.conn.worker.shared.metrics;
    metrics.call(&labels, call.started.elapsed());
    call.span
        .end(rescue::code(status), rescue::reason_label(reason));
}
