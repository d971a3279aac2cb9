//! One digest for all exchanges of a minute.

use aws_lc_rs::digest::{Context, SHA256};
use banqiao_proto::{
    exchange::v1::{Reason, Trace},
    ledger::v1::{DirectionDigest, ExchangeRecord, RecordState, Side, WindowDigest},
    reasons,
};
use uuid::Uuid;

use super::{Key, Malformed, Pair};
use crate::digest::Hash;

/// Length of a window in milliseconds: a minute.
pub const WINDOW_MS: i64 = 60_000;

/// Begins what is hashed, so that it is no digest of anything else.
const DOMAIN: &[u8] = b"banqiao-reconcile-v1\0";

/// The first exchange ids at and behind a span of milliseconds since 1970 (RFC 9562 §5.7: the first 48 bits).
pub fn bounds(from_ms: i64, until_ms: i64) -> ([u8; 16], [u8; 16]) {
    let first = |ms: i64| {
        let ms = u64::try_from(ms).unwrap_or(0).min((1 << 48) - 1);
        (u128::from(ms) << 80).to_be_bytes()
    };
    (first(from_ms), first(until_ms))
}

/// When an exchange id was made, in milliseconds since 1970.
pub fn made_ms(exchange: &[u8; 16]) -> i64 {
    let [a, b, c, d, e, f, ..] = *exchange;
    i64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

/// What stands in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// When it begins, milliseconds since 1970.
    pub start_ms: i64,
    /// Exchanges and attempts of which both cities must hold something.
    pub count: u64,
    /// Over what both must agree on.
    pub digest: Hash,
}

impl Window {
    /// As it is told to the other city.
    pub fn told(&self) -> WindowDigest {
        WindowDigest {
            start_ms: self.start_ms,
            count: self.count,
            digest: self.digest.to_vec(),
        }
    }

    /// As the other city told it.
    ///
    /// # Errors
    ///
    /// When its digest is none.
    pub fn heard(told: &WindowDigest) -> Result<Self, Malformed> {
        Ok(Self {
            start_ms: told.start_ms,
            count: told.count,
            digest: told.digest.as_slice().try_into().map_err(|_| Malformed)?,
        })
    }
}

/// Makes windows of records that come in the order of their keys.
pub struct Windows {
    pair: Pair,
    open: Option<(i64, u64, Context)>,
}

impl std::fmt::Debug for Windows {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Windows")
            .field("pair", &self.pair)
            .finish_non_exhaustive()
    }
}

impl Windows {
    /// No windows yet.
    pub const fn new(pair: Pair) -> Self {
        Self { pair, open: None }
    }

    /// Adds a record. Returns the window before it, if this one is the first of the next.
    ///
    /// # Errors
    ///
    /// When the record has no key.
    pub fn add(&mut self, record: &ExchangeRecord) -> Result<Option<Window>, Malformed> {
        let key = Key::of(record, self.pair)?;
        let Some(print) = fingerprint(record, key) else {
            return Ok(None);
        };
        let start = made_ms(&key.exchange).div_euclid(WINDOW_MS) * WINDOW_MS;
        let before = match &self.open {
            Some((open, ..)) if *open != start => self.finish(),
            _ => None,
        };
        let (_, count, context) = self.open.get_or_insert_with(|| {
            let mut context = Context::new(&SHA256);
            context.update(DOMAIN);
            (start, 0, context)
        });
        *count += 1;
        context.update(&print);
        Ok(before)
    }

    /// The last window, if there is one.
    pub fn finish(&mut self) -> Option<Window> {
        let (start_ms, count, context) = self.open.take()?;
        let mut digest = [0; 32];
        digest.copy_from_slice(context.finish().as_ref());
        Some(Window {
            start_ms,
            count,
            digest,
        })
    }
}

/// The reason that others see instead of one.
pub(super) fn shown(reason: Reason) -> Reason {
    match reasons().rule(reason).shown_as() {
        Reason::Unspecified => reason,
        shown => shown,
    }
}

/// Whether a record is as it should be when the other city holds nothing of the exchange.
pub(super) fn stands_alone(record: &ExchangeRecord) -> bool {
    let rule = reasons().rule(record.reason());
    match (record.side(), record.state()) {
        // It never left this city.
        (Side::Consumer, RecordState::Refused) => true,
        // It did not reach the other: PEER_UNREACHABLE.
        (Side::Consumer, RecordState::Closed) => {
            record.reason() != Reason::Unspecified
                && rule
                    .at_consumer
                    .is_some_and(|held| held.provider() == Trace::None)
        }
        // The other gateway did not make it: it refuses such calls itself, or it was somebody else's statement.
        (Side::Provider, RecordState::Refused) => rule
            .at_provider
            .is_some_and(|held| held.consumer() == Trace::None),
        _ => false,
    }
}

/// Whether a provider enters a REFUSED of its own where it raises a reason.
pub(super) fn is_refusal(reason: Reason) -> bool {
    let held = reasons().rule(reason).at_provider;
    held.is_some_and(|held| held.provider() == Trace::Refused)
}

/// Digest of what both cities must hold alike of an attempt: equal prints agree in everything that is compared. What
/// may honestly differ makes the prints differ too, and is then compared record by record. `None`: the other city
/// need not hold anything.
fn fingerprint(record: &ExchangeRecord, key: Key) -> Option<Hash> {
    if stands_alone(record) {
        return None;
    }
    let mut context = Context::new(&SHA256);
    let mut add = |part: &[u8]| {
        context.update(&(part.len() as u64).to_be_bytes());
        context.update(part);
    };
    add(&key.exchange);
    add(&key.attempt.to_be_bytes());
    add(key.consumer.as_str().as_bytes());
    for digest in [
        &record.method_digest,
        &record.client_digest,
        &record.purpose_digest,
    ] {
        add(digest);
    }
    // What the provider's gateway says of the end, as the consumer hears it.
    let said = match record.side() {
        Side::Provider => shown(record.reason()),
        _ => record.peer_reason(),
    };
    let own = record.side() == Side::Consumer && record.reason() != Reason::Unspecified;
    match record.state() {
        RecordState::Open => add(b"open"),
        RecordState::Closed if !own && record.side() == Side::Consumer && is_refusal(said) => {
            add(b"refused");
            add(&record.status.to_be_bytes());
            add(&i32::from(said).to_be_bytes());
        }
        RecordState::Refused if is_refusal(record.reason()) => {
            add(b"refused");
            add(&record.status.to_be_bytes());
            add(&i32::from(said).to_be_bytes());
        }
        RecordState::Closed if !own => {
            add(b"closed");
            add(&record.status.to_be_bytes());
            add(&i32::from(said).to_be_bytes());
            for direction in [&record.request, &record.response] {
                let DirectionDigest {
                    root,
                    count,
                    complete,
                } = direction.clone().unwrap_or_default();
                add(&root);
                add(&count.to_be_bytes());
                add(&[u8::from(complete)]);
            }
        }
        // Looked at one by one.
        state => {
            add(b"own");
            add(&(state as i32).to_be_bytes());
            add(&record.side.to_be_bytes());
        }
    }
    let mut print = [0; 32];
    print.copy_from_slice(context.finish().as_ref());
    Some(print)
}

/// The exchange id as people write it.
impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Uuid::from_bytes(self.exchange), self.attempt)
    }
}
