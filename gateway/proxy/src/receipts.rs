//! Layer: the receipts of other cities, verified before what they are about goes on (LEDGER.md §3).
//!
//! A consumer's gateway sends the receipt of its OPEN with the request, and opens the entry's private part, so that neither
//! side can later name another operator. A provider's gateway sends the receipt of its CLOSE (or REFUSED) with the
//! trailers, and of a stream the receipt of its OPEN with the headers. What was received is kept beside the entry that
//! names it by its hash, also where it is refused.

use std::{
    collections::BTreeMap,
    mem,
    sync::atomic::{AtomicU64, Ordering},
};

use banqiao_directory::{City, CityCode, Receipts as Demand, SpiffeId};
use banqiao_ledger::{
    check_opening,
    receipt::{self, Disagreement, Expected, KnownCheckpoints, Proven},
};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{Direction, Entry, Kind, PrivateOpening, Side},
};
use banqiao_telemetry::Chain;
use banqiao_tlog::hash::TreeHead;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;
use prost::Message as _;

use crate::{call::Call, refusal::Refusal, transparency::log_keys, wire};

const NAME: &str = "banqiao-receipt-bin";
pub(crate) const RECEIPT: HeaderName = HeaderName::from_static(NAME);
pub(crate) const PRIVATE: HeaderName = HeaderName::from_static("banqiao-private-bin");
pub(crate) const WANT: HeaderName = HeaderName::from_static("banqiao-want-receipt");

/// A request of so few bytes is held by every gateway, whatever its `held_message`: its OPEN has the request's root.
const HELD_BY_ALL: u64 = 1_000;
/// Checkpoints of one city that wait to be linked. Beyond this the oldest are dropped, and counted as unlinked.
const WAITING: usize = 16_384;

/// What this gateway remembers of receipts.
#[derive(Debug, Default)]
pub(crate) struct Receipts {
    known: KnownCheckpoints,
    /// Version of the directory that the known checkpoints were verified with.
    version: AtomicU64,
    /// Trees of the checkpoints of receipts that are not linked to a witnessed one yet.
    seen: Mutex<BTreeMap<CityCode, Seen>>,
}

/// Signed trees of one log, each with the note that signs it, and since when it waits, in seconds since 1970.
type Seen = BTreeMap<(u64, [u8; 32]), (String, i64)>;

/// A tree that a log has signed.
#[derive(Clone, Debug)]
pub(crate) struct Signed {
    pub(crate) head: TreeHead,
    pub(crate) note: String,
    /// Since when it waits to be linked, in seconds since 1970.
    pub(crate) since_s: i64,
}

/// A receipt of the other side, as it came.
#[derive(Clone, Debug)]
pub(crate) struct Received {
    pub(crate) bytes: Bytes,
    pub(crate) hash: [u8; 32],
    /// What the consumer's entry commits to.
    pub(crate) opening: Option<PrivateOpening>,
    /// The request as the other side's entry has it.
    request: Option<Direction>,
}

impl Received {
    fn new(bytes: Bytes) -> Self {
        Self {
            hash: banqiao_ledger::digest::sha256(&bytes),
            bytes,
            opening: None,
            request: None,
        }
    }

    /// The request that came is another than the consumer has entered, or one of a single message that every consumer's
    /// gateway holds was entered without its root.
    pub(crate) fn contradicts(&self, request: &Direction, unary: bool) -> Option<Refusal> {
        let Some(entered) = self.request.as_ref().filter(|entered| entered.complete) else {
            let held = unary && request.complete && request.bytes <= HELD_BY_ALL;
            return held.then(|| foreign("no whole request"));
        };
        let differs =
            request.complete && (&entered.root, entered.count) != (&request.root, request.count);
        differs.then(|| foreign("another request than the call in hand"))
    }
}

impl Receipts {
    /// Trees that wait to be linked, oldest first; they are forgotten here.
    pub(crate) fn take(&self, city: CityCode) -> Vec<Signed> {
        let mut seen = self.seen.lock();
        let taken = seen.get_mut(&city).map(mem::take).unwrap_or_default();
        taken
            .into_iter()
            .map(|((size, root), (note, since_s))| Signed {
                head: TreeHead { size, root },
                note,
                since_s,
            })
            .collect()
    }

    /// A tree waits to be linked. Returns how many others had to be forgotten for it.
    pub(crate) fn remember(&self, city: CityCode, signed: Signed) -> usize {
        let Signed {
            head,
            note,
            since_s,
        } = signed;
        let mut seen = self.seen.lock();
        let heads = seen.entry(city).or_default();
        heads
            .entry((head.size, head.root))
            .or_insert((note, since_s));
        let mut dropped = 0;
        while heads.len() > WAITING {
            heads.pop_first();
            dropped += 1;
        }
        dropped
    }

    /// Cities with trees that wait to be linked.
    pub(crate) fn waiting(&self) -> Vec<CityCode> {
        let seen = self.seen.lock();
        let waiting = seen.iter().filter(|(_, heads)| !heads.is_empty());
        waiting.map(|(city, _)| *city).collect()
    }
}

/// Whether a call with another city must have that city's receipts. A city that demands receipts gives them too, so
/// that either city's setting is enough.
fn demanded(call: &Call, other: &City) -> bool {
    let directory = &call.snapshot.directory;
    let own = directory.city(call.conn.worker.shared.names.city);
    own.is_some_and(|city| city.receipts == Demand::Required) || other.receipts == Demand::Required
}

/// Provider's side: the receipt of the consumer's OPEN, and the private part that it commits to.
pub(crate) fn admit(call: &mut Call) -> Result<(), Refusal> {
    let snapshot = std::sync::Arc::clone(&call.snapshot);
    let Some(consumer) = call
        .consumer_city
        .and_then(|city| snapshot.directory.city(city))
    else {
        return Ok(());
    };
    if call.side != Side::Provider {
        return Ok(());
    }
    let reserved = call.reserved.as_mut();
    let (receipt, private) = reserved.map_or((None, None), |known| {
        (known.receipt.take(), known.private.take())
    });
    let Some(bytes) = receipt else {
        return if demanded(call, consumer) {
            Err(counted(call, missing()))
        } else {
            Ok(())
        };
    };
    if consumer.ledger.is_none() && !demanded(call, consumer) {
        return Ok(());
    }
    let mut received = Received::new(bytes);
    let checked = open_of_consumer(call, consumer, private, &mut received);
    call.received = Some(received);
    checked.map_err(|refusal| counted(call, refusal))
}

fn open_of_consumer(
    call: &Call,
    consumer: &City,
    private: Option<Bytes>,
    received: &mut Received,
) -> Result<(), Refusal> {
    let proven = prove(call, consumer, received)?;
    let expected = Expected {
        kinds: &[Kind::Open],
        side: Side::Consumer,
        ..expected(call)
    };
    agree(&expected.naming(None), &proven.entry)?;
    received.opening = opening(call, &proven.entry, private)?;
    received.request = proven.entry.request;
    Ok(())
}

/// The private part of the consumer's entry must be the one that it commits to, and name whom the metadata names.
fn opening(
    call: &Call,
    entry: &Entry,
    private: Option<Bytes>,
) -> Result<Option<PrivateOpening>, Refusal> {
    let invalid = |what: &'static str| Refusal::new(Reason::PrivatePartInvalid, what);
    let named = call
        .reserved
        .as_ref()
        .map(|known| (known.operator.as_deref(), known.case_number.as_deref()));
    let (operator, case) = named.unwrap_or_default();
    let (operator, case) = (operator.unwrap_or_default(), case.unwrap_or_default());
    let Some(bytes) = private else {
        return if entry.private_commitment.is_empty() && operator.is_empty() && case.is_empty() {
            Ok(None)
        } else {
            Err(invalid("the private part is not opened"))
        };
    };
    let opening = PrivateOpening::decode(bytes)
        .map_err(|_| invalid("the opening of the private part is malformed"))?;
    let part = check_opening(&entry.private_commitment, &opening)
        .map_err(|_| invalid("the private part is not the one that the entry commits to"))?;
    if (part.operator.as_str(), part.case_number.as_str()) != (operator, case) {
        return Err(invalid(
            "the private part names another operator or case than the metadata",
        ));
    }
    Ok(Some(opening))
}

/// What this gateway has entered of a call that it made, for comparison with the provider's receipt.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    /// Hash of the receipt that went with the request.
    pub(crate) sent: Option<&'a [u8; 32]>,
    /// The request as it was sent.
    pub(crate) request: Option<&'a Direction>,
    /// The request went whole: the provider must have got all of it to answer.
    pub(crate) whole: bool,
    /// The answer as it came.
    pub(crate) response: Option<&'a Direction>,
    /// gRPC status of the answer; `None` while it is still to come.
    pub(crate) status: Option<u32>,
}

/// Consumer's side: the receipt that came with an answer, or with the headers of a stream.
///
/// An error without a receipt keeps its cause: the provider's gateway may be unable to enter anything. What was received is
/// returned in any case, to be kept.
pub(crate) fn check(
    call: &Call,
    value: Option<&HeaderValue>,
    entered: &Entered<'_>,
) -> (Option<Received>, Result<(), Refusal>) {
    let snapshot = &call.snapshot;
    let provider = call
        .provider
        .as_ref()
        .and_then(|(city, _)| snapshot.directory.city(*city));
    let Some(provider) = provider else {
        return (None, Ok(()));
    };
    let demanded = demanded(call, provider);
    let Some(value) = value else {
        let lacking = demanded && entered.status.is_none_or(|status| status == 0);
        let outcome = if lacking {
            Err(counted(call, missing()))
        } else {
            Ok(())
        };
        return (None, outcome);
    };
    if provider.ledger.is_none() && !demanded {
        return (None, Ok(()));
    }
    let Some(bytes) = wire::binary(value).filter(|bytes| bytes.len() <= receipt::MAX_RECEIPT_BYTES)
    else {
        return (None, Err(counted(call, invalid("not a receipt"))));
    };
    let received = Received::new(bytes);
    let outcome = answer_of_provider(call, provider, &received, entered);
    (
        Some(received),
        outcome.map_err(|refusal| counted(call, refusal)),
    )
}

fn answer_of_provider(
    call: &Call,
    provider: &City,
    received: &Received,
    entered: &Entered<'_>,
) -> Result<(), Refusal> {
    let proven = prove(call, provider, received)?;
    let kinds: &[Kind] = match entered.status {
        None => &[Kind::Open],
        Some(0) => &[Kind::Close],
        Some(_) => &[Kind::Close, Kind::Refused],
    };
    let expected = Expected {
        kinds,
        side: Side::Provider,
        request: entered.request,
        response: entered.response,
        status: entered.status,
        ..expected(call)
    }
    .naming(entered.sent);
    let expected = match entered.status {
        None => opened_since(call, expected),
        Some(_) => expected,
    };
    if proven.entry.kind() != Kind::Refused {
        agree(&expected, &proven.entry)?;
        // What is left open proves nothing later: an OK says what was answered, and to what.
        let open =
            |direction: &Option<Direction>| !direction.as_ref().is_some_and(|it| it.complete);
        return match entered.status {
            Some(0) if open(&proven.entry.response) => Err(foreign("no whole response")),
            Some(0) if entered.whole && open(&proven.entry.request) => {
                Err(foreign("no whole request"))
            }
            _ => Ok(()),
        };
    }
    // What reached the provider otherwise than it was sent is why it refused, or part of it: the cause is not to be hidden
    // behind the difference, and nothing was done.
    let refused = Expected {
        purpose: &proven.entry.purpose,
        basis: &proven.entry.basis,
        request: None,
        peer_receipt: None,
        ..expected
    };
    agree(&refused, &proven.entry)
}

/// What an entry of the other side says of a call, whichever side that is.
fn expected(call: &Call) -> Expected<'_> {
    let shared = &call.conn.worker.shared;
    let provider = call.provider.as_ref();
    let tolerance = u64::try_from(shared.limits.receipt_age.as_micros()).unwrap_or(u64::MAX);
    Expected {
        exchange: call.exchange.as_bytes(),
        attempt: call.attempt,
        client: call.client.as_ref().map_or("", SpiffeId::as_str),
        provider_city: provider.map_or("", |(city, _)| city.as_str()),
        provider: provider
            .and_then(|(_, system)| system.as_ref())
            .map_or("", SpiffeId::as_str),
        method: &call.path,
        purpose: call.purpose(),
        basis: call
            .reserved
            .as_ref()
            .map_or("", |known| known.basis.as_sent()),
        now_us: Some((
            shared.clock.now_us(),
            tolerance.saturating_add(shared.ledger.clock_error_us()),
        )),
        ..Expected::default()
    }
}

/// A provider's OPEN is made when the call begins, and comes with the first headers of the service.
fn opened_since<'a>(call: &Call, expected: Expected<'a>) -> Expected<'a> {
    let since = u64::try_from(call.started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let now_us = expected
        .now_us
        .map(|(now, tolerance)| (now, tolerance.saturating_add(since)));
    Expected { now_us, ..expected }
}

/// Verifies that the entry of a receipt is in the ledger of a city, and remembers the checkpoint to link it.
fn prove(call: &Call, city: &City, received: &Received) -> Result<Proven, Refusal> {
    let shared = &call.conn.worker.shared;
    let receipts = &shared.receipts;
    let version = call.snapshot.directory.version();
    if receipts.version.swap(version, Ordering::AcqRel) != version {
        // Keys may have been withdrawn.
        receipts.known.clear();
    }
    let Some(ledger) = &city.ledger else {
        return Err(invalid("the directory lists no ledger of that city"));
    };
    let keys = || log_keys(city).map(|(_, keys)| keys).unwrap_or_default();
    let mut proven = receipt::verify(&received.bytes, &ledger.origin, keys, &receipts.known)
        .map_err(|error| {
            tracing::warn!(
                exchange = %call.exchange,
                city = city.code.as_str(),
                error = %Chain(&error),
                "a receipt proves nothing"
            );
            invalid("the receipt does not prove its entry")
        })?;
    let signed = Signed {
        head: proven.head,
        note: mem::take(&mut proven.checkpoint),
        since_s: shared.clock.now_s(),
    };
    for _ in 0..receipts.remember(city.code, signed) {
        shared.metrics.receipt("unlinked");
    }
    shared.metrics.receipt("verified");
    Ok(proven)
}

fn agree(expected: &Expected<'_>, entry: &Entry) -> Result<(), Refusal> {
    match expected.disagreement(entry) {
        None => Ok(()),
        Some(Disagreement::Time) => Err(Refusal::new(
            Reason::ReceiptStale,
            "the entry of the receipt is out of its time",
        )
        .field(NAME, "is of an entry that was made just now")),
        Some(disagreement) => Err(foreign(disagreement.to_string())),
    }
}

fn missing() -> Refusal {
    Refusal::new(
        Reason::ReceiptMissing,
        "the other city's gateway sent no receipt",
    )
    .field(NAME, "is required between these cities")
}

fn invalid(what: &'static str) -> Refusal {
    Refusal::new(Reason::ReceiptInvalid, what)
        .field(NAME, "is a receipt of the ledger that the directory lists")
}

fn foreign(what: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Reason::ReceiptForeign, "the receipt is of something else").field(NAME, what)
}

fn counted(call: &Call, refusal: Refusal) -> Refusal {
    let outcome = match refusal.reason {
        Reason::ReceiptMissing => "missing",
        Reason::ReceiptForeign => "foreign",
        Reason::ReceiptStale => "stale",
        Reason::PrivatePartInvalid => "private",
        _ => "invalid",
    };
    call.conn.worker.shared.metrics.receipt(outcome);
    refusal
}

/// Takes the receipt out of headers or trailers: clients get it only where they ask for it.
pub(crate) fn take(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(RECEIPT)
}
