//! Layer: the entries of a call. Outside everything that can refuse, so that refusals are entries too.
//!
//! Which entry must be durable before what (DESIGN §4):
//!
//! - consumer: OPEN before the request leaves; CLOSE after the answer, not blocking it;
//! - provider, and a call within one city: OPEN before the service is called, unless the method has no side effects
//!   and is unary with a response that is held; CLOSE before the first byte of a held response, or before the
//!   trailers of a stream;
//! - both, for what is not held: PROGRESS, at most one window behind what crosses.

mod progress;

use std::{borrow::Cow, time::Duration};

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_ledger::{
    Append, AppendError, Appended, Effect, EvidenceKind, Waiting, receipt::Issued,
};
use banqiao_proto::{
    ReasonTable,
    exchange::v1::{Outcomes, Reason},
    ledger::v1::{
        Decision, Direction, Entry, Kind, Party, PrivateOpening, PrivatePart, Result as CallResult,
        Side, Subject,
    },
};

pub(crate) use progress::{Progress, Running};

use prost::Message as _;

use crate::{call::Call, receipts::Received, refusal::Refusal, wire::MAX_PATH};

/// How often the CLOSE of a call that ended while the ledger could not be written is tried again.
const RETRY: Duration = Duration::from_millis(250);

/// Enters a refusal: as an entry within the client's quota, else as a count. A refusal stands even when it cannot
/// be entered; then it is counted towards the gap entry that follows on recovery.
///
/// Returns the entry's receipt, where there is an entry.
pub(crate) async fn refused(call: &Call, refusal: &Refusal) -> Option<Issued> {
    let shared = &call.conn.worker.shared;
    let client = call.client.as_ref();
    tracing::info!(
        exchange = %call.exchange,
        reason = ReasonTable::name(refusal.reason),
        client = client.map(SpiffeId::as_str),
        method = &*call.path,
        "call refused"
    );
    if !shared.ledger.writable() {
        shared.ledger.count_gap(refusal.reason, client);
        return None;
    }
    if matches!(refusal.reason, Reason::LedgerUnavailable) {
        shared.ledger.count_gap(refusal.reason, client);
        return None;
    }
    if refusal.reason == Reason::Overloaded || !call.conn.client.refusal_is_entered() {
        shared.ledger.count(refusal.reason, client);
        return None;
    }
    let limit = shared.limits.progress_timeout;
    let appended = call.conn.worker.appender.append(refusing(call, refusal));
    let appended = tokio::time::timeout(limit, appended).await;
    match appended.unwrap_or(Err(AppendError::Unavailable)) {
        Ok(appended) => (call.side == Side::Provider)
            .then(|| appended.receipt())
            .flatten(),
        Err(error) => {
            tracing::warn!(exchange = %call.exchange, error = %error, "a refusal could not be entered");
            shared.ledger.count_gap(refusal.reason, client);
            None
        }
    }
}

fn refusing(call: &Call, refusal: &Refusal) -> Append {
    let mut entry = base(call, Kind::Refused);
    entry.decision.get_or_insert_default().reason = refusal.reason.into();
    entry.result = Some(CallResult {
        status: refusal.status(),
        reason: refusal.reason.into(),
        duration_us: elapsed_us(call),
        ..CallResult::default()
    });
    let mut private = first_private(call);
    private.error_text = refusal.detail.clone().into_owned();
    with_evidence(
        Append::new(entry).with_private(private),
        call.received.as_ref(),
    )
}

/// The receipt of the other side, beside the first entry that names it.
fn with_evidence(append: Append, received: Option<&Received>) -> Append {
    match received {
        Some(received) => append.with(Effect::Evidence {
            kind: EvidenceKind::Receipt,
            bytes: received.bytes.clone(),
        }),
        None => append,
    }
}

/// Enters the beginning of a call, with the provider's claim where this is the provider. The entry is in the queue when this
/// returns: the future, which is part of each call's, holds the wait and not the entry.
///
/// # Errors
///
/// [`Reason::Replayed`] or [`Reason::LedgerUnavailable`]: nothing may cross.
pub(crate) fn open(
    call: &Call,
    request: Option<Direction>,
    subjects: Vec<Subject>,
) -> impl Future<Output = Result<Opened, Refusal>> {
    let (append, opening) = opening(call, request, subjects);
    let appended = call.conn.worker.appender.append(append);
    async move {
        let appended = in_time(call, appended).await?;
        Ok(Opened { appended, opening })
    }
}

/// The OPEN entry, and for a consumer what its private commitment is to.
fn opening(
    call: &Call,
    request: Option<Direction>,
    subjects: Vec<Subject>,
) -> (Append, Option<PrivateOpening>) {
    let mut entry = base(call, Kind::Open);
    entry.request = request;
    let mut private = first_private(call);
    private.subjects = subjects;
    let salt = (call.side == Side::Consumer)
        .then(banqiao_ledger::new_salt)
        .flatten();
    let opening = salt.map(|salt| PrivateOpening {
        salt: salt.to_vec(),
        content: private.encode_to_vec(),
    });
    let mut append = Append::new(entry)
        .with_private(private)
        .with(Effect::Open { peer: peer(call) });
    if let Some(salt) = salt {
        append = append.with_salt(salt);
    }
    append = with_evidence(append, call.received.as_ref());
    if let Some(claim) = claim(call) {
        append = append.with(claim);
    }
    (append, opening)
}

/// An OPEN that stands.
#[derive(Debug)]
pub(crate) struct Opened {
    /// Where it stands, which its receipt is made from.
    pub(crate) appended: Appended,
    /// What its private commitment is to, for the provider.
    pub(crate) opening: Option<PrivateOpening>,
}

/// gRPC status UNAVAILABLE.
const UNAVAILABLE: u32 = 14;

/// Waits for an OPEN entry, as long as the call and the record allow. Where the ledger does not answer in time, the entry
/// may still be committed when it comes back: then a CLOSE follows it.
async fn in_time(call: &Call, mut appended: Waiting) -> Result<Appended, Refusal> {
    let limit = call.conn.worker.shared.limits.progress_timeout;
    let left = call.deadline.map_or(limit, |deadline| {
        deadline
            .saturating_duration_since(tokio::time::Instant::now())
            .min(limit)
    });
    if let Ok(outcome) = tokio::time::timeout(left, &mut appended).await {
        return outcome.map_err(|error| unwritable(&error));
    }
    follow(call, appended);
    Err(unwritable(&AppendError::Unavailable))
}

/// Closes a call whose OPEN comes too late, if it comes.
fn follow(call: &Call, appended: Waiting) {
    let ended = Ended {
        status: UNAVAILABLE,
        reason: Reason::LedgerUnavailable,
        opened: true,
        ..Ended::default()
    };
    let follow = closing(call, &ended);
    let worker = std::sync::Arc::clone(&call.conn.worker);
    let stop = worker.closing.clone();
    worker.tasks.clone().spawn(async move {
        let committed = tokio::select! {
            // What is still open then is closed by the lease.
            () = stop.cancelled() => return,
            outcome = appended => outcome.is_ok(),
        };
        if committed {
            let _ = worker.appender.append_queued(follow).await;
        }
    });
}

/// How a call ended, as its CLOSE says it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ended {
    pub(crate) status: u32,
    pub(crate) reason: Reason,
    pub(crate) peer_reason: Reason,
    pub(crate) request: Option<Direction>,
    pub(crate) response: Option<Direction>,
    pub(crate) subjects: Vec<Subject>,
    pub(crate) error_text: Cow<'static, str>,
    /// An OPEN stands before it.
    pub(crate) opened: bool,
    /// Consumer's side: the provider's receipt.
    pub(crate) received: Option<Received>,
}

/// Enters the end of a call and waits until it is durable. The entry is in the queue when this returns.
///
/// # Errors
///
/// As of [`open`].
pub(crate) fn close(call: &Call, ended: Ended) -> impl Future<Output = Result<Appended, Refusal>> {
    let limit = call.conn.worker.shared.limits.progress_timeout;
    let append = closing(call, &ended);
    let appended = call.conn.worker.appender.append_queued(append);
    async move {
        match tokio::time::timeout(limit, appended).await {
            Ok(Ok(appended)) => Ok(appended),
            // It stays in the queue and is committed when the ledger comes back.
            Err(_) => Err(unwritable(&AppendError::Unavailable)),
            Ok(Err(error)) => {
                if ended.opened {
                    owe(call, closing(call, &ended), &error);
                }
                Err(unwritable(&error))
            }
        }
    }
}

/// Enters what became of a call to all cities as a whole: a CLOSE without a provider, beside the entries of each city.
///
/// # Errors
///
/// As of [`open`].
pub(crate) async fn sum_up(
    call: &Call,
    request: Direction,
    outcomes: Outcomes,
    (status, reason): (u32, Reason),
) -> Result<(), Refusal> {
    let mut entry = base(call, Kind::Close);
    entry.request = Some(request);
    entry.result = Some(CallResult {
        status,
        reason: reason.into(),
        duration_us: elapsed_us(call),
        ..CallResult::default()
    });
    entry.outcomes = Some(outcomes);
    let append = Append::new(entry).with_private(first_private(call));
    let limit = call.conn.worker.shared.limits.progress_timeout;
    let appended = call.conn.worker.appender.append_queued(append.clone());
    match tokio::time::timeout(limit, appended).await {
        Ok(Ok(_)) => Ok(()),
        // It stays in the queue, as of [`close`].
        Err(_) => Err(unwritable(&AppendError::Unavailable)),
        Ok(Err(error)) => {
            owe(call, append, &error);
            Err(unwritable(&error))
        }
    }
}

/// What a call has begun is ended as soon as the ledger can be written again.
fn owe(call: &Call, append: Append, error: &AppendError) {
    if !matches!(
        error,
        AppendError::Unavailable | AppendError::QueueFull | AppendError::Frozen
    ) {
        return;
    }
    let worker = std::sync::Arc::clone(&call.conn.worker);
    let stop = worker.closing.clone();
    worker.tasks.clone().spawn(async move {
        loop {
            tokio::select! {
                // What is still open then is closed by the lease.
                () = stop.cancelled() => return,
                () = tokio::time::sleep(RETRY) => {}
            }
            match worker.appender.append_queued(append.clone()).await {
                Err(AppendError::Unavailable | AppendError::QueueFull | AppendError::Frozen) => {}
                _ => return,
            }
        }
    });
}

fn closing(call: &Call, ended: &Ended) -> Append {
    let mut entry = base(call, Kind::Close);
    entry.request.clone_from(&ended.request);
    entry.response.clone_from(&ended.response);
    entry.result = Some(CallResult {
        status: ended.status,
        reason: ended.reason.into(),
        peer_reason: ended.peer_reason.into(),
        duration_us: elapsed_us(call),
        ..CallResult::default()
    });
    if let Some(received) = &ended.received {
        entry.peer_receipt = received.hash.to_vec();
    }
    let mut private = if ended.opened {
        private(call)
    } else {
        first_private(call)
    };
    private.subjects.clone_from(&ended.subjects);
    private.error_text.push_str(&ended.error_text);
    let append = with_evidence(
        Append::new(entry).with_private(private),
        ended.received.as_ref(),
    );
    if ended.opened {
        return append.with(Effect::Close { peer: peer(call) });
    }
    let append = with_evidence(append, call.received.as_ref());
    match claim(call) {
        Some(claim) => append.with(claim),
        None => append,
    }
}

/// What must not stand in the first entry of a call itself.
fn first_private(call: &Call) -> PrivatePart {
    PrivatePart {
        peer: call
            .received
            .as_ref()
            .and_then(|received| received.opening.clone()),
        ..private(call)
    }
}

/// The entry with everything that is known of the call whatever its kind.
pub(crate) fn base(call: &Call, kind: Kind) -> Entry {
    let method = call.plan.as_ref().map(|plan| &plan.method);
    let mut path = call.path.to_string();
    path.truncate(MAX_PATH);
    Entry {
        kind: kind.into(),
        exchange: call.exchange.as_bytes().to_vec(),
        attempt: call.attempt,
        side: call.side.into(),
        client: Some(client(call)),
        provider: call
            .provider
            .as_ref()
            .map(|(city, system)| party(system.as_ref(), Some(*city))),
        method: path,
        descriptor_digest: method
            .map(|method| method.descriptor_digest.to_vec())
            .unwrap_or_default(),
        purpose: call.purpose().to_owned(),
        basis: call
            .reserved
            .as_ref()
            .map_or_else(String::new, |known| known.basis.as_sent().to_owned()),
        decision: Some(Decision {
            grant_id: call
                .grant
                .as_ref()
                .map_or_else(String::new, |grant| grant.id().to_owned()),
            reason: Reason::Unspecified.into(),
            grant_set_digest: if call.decides() && call.plan.is_some() {
                call.snapshot.grants_digest.to_vec()
            } else {
                Vec::new()
            },
            directory_version: call.snapshot.directory.version(),
        }),
        peer_receipt: call
            .received
            .as_ref()
            .map(|received| received.hash.to_vec())
            .unwrap_or_default(),
        ..Entry::default()
    }
}

/// What must not stand in the entry itself.
fn private(call: &Call) -> PrivatePart {
    let reserved = call.reserved.as_ref();
    PrivatePart {
        operator: reserved
            .and_then(|known| known.operator.clone())
            .unwrap_or_default(),
        case_number: reserved
            .and_then(|known| known.case_number.clone())
            .unwrap_or_default(),
        client_address: call.conn.address.to_string(),
        ..PrivatePart::default()
    }
}

fn client(call: &Call) -> Party {
    let mut party = party(call.client.as_ref(), call.consumer_city);
    // On the inter-city listener the certificate seen is the gateway's, not the client's.
    if call.conn.listener == crate::accept::Listener::Client {
        party.key_sha256 = call.conn.peer.key_sha256.to_vec();
    }
    party
}

fn party(id: Option<&SpiffeId>, city: Option<CityCode>) -> Party {
    Party {
        spiffe_id: id.map_or_else(String::new, |id| id.as_str().to_owned()),
        city: city.map_or_else(String::new, |city| city.as_str().to_owned()),
        agency: id.map_or_else(String::new, |id| id.agency().to_owned()),
        key_sha256: Vec::new(),
    }
}

fn peer(call: &Call) -> String {
    call.other_city()
        .map_or_else(String::new, |city| city.as_str().to_owned())
}

/// A provider takes each attempt of another city's exchange once.
fn claim(call: &Call) -> Option<Effect> {
    (call.side == Side::Provider).then(|| Effect::Claim {
        consumer: peer(call),
    })
}

pub(crate) fn unwritable(error: &AppendError) -> Refusal {
    match error.reason() {
        Reason::Replayed => Refusal::new(
            Reason::Replayed,
            "this exchange and attempt has been received before",
        ),
        Reason::MetadataTooLarge => Refusal::new(
            Reason::MetadataTooLarge,
            "the record of this call would be too large",
        ),
        Reason::LeaseLost => Refusal::new(Reason::LeaseLost, "this replica lost its lease"),
        _ => Refusal::new(Reason::LedgerUnavailable, "the ledger cannot be written")
            .retry_after(Duration::from_secs(1)),
    }
}

pub(crate) fn elapsed_us(call: &Call) -> u64 {
    u64::try_from(call.started.elapsed().as_micros()).unwrap_or(u64::MAX)
}
