//! From entries to the record of an exchange and attempt.

use std::collections::BTreeMap;

use banqiao_directory::CityCode;
use banqiao_proto::ledger::v1::{
    Direction, DirectionDigest, Entry, ExchangeRecord, Kind, RecordState, Side,
};
use prost::Message as _;

use super::Pair;
use crate::{
    digest::{leaf_hash, sha256},
    entry::{self, Decoded},
};

/// What orders records, the same at both cities.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Exchange id.
    pub exchange: [u8; 16],
    /// Attempt.
    pub attempt: u32,
    /// The city whose system called: a dishonest one could use an exchange id of the other.
    pub consumer: CityCode,
}

/// A record of a peer that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a record of the other city is malformed")]
pub struct Malformed;

impl Key {
    /// The key of a record in the ledger of `pair.here`.
    ///
    /// # Errors
    ///
    /// When its exchange id or its side is none.
    pub fn of(record: &ExchangeRecord, pair: Pair) -> Result<Self, Malformed> {
        let exchange = record.exchange.as_slice();
        Ok(Self {
            exchange: exchange.try_into().map_err(|_| Malformed)?,
            attempt: record.attempt,
            consumer: match record.side() {
                Side::Consumer => pair.here,
                Side::Provider => pair.there,
                Side::Unspecified | Side::Local => return Err(Malformed),
            },
        })
    }
}

/// Whether an entry is of an exchange between two cities, in the ledger of `pair.here`.
pub(crate) fn is_between(entry: &Entry, pair: Pair) -> bool {
    let city = |party: &Option<banqiao_proto::ledger::v1::Party>, expected: CityCode| {
        let party = party.as_ref();
        party.is_some_and(|party| party.city == expected.as_str())
    };
    match entry.side() {
        Side::Consumer => city(&entry.provider, pair.there),
        Side::Provider => city(&entry.client, pair.there),
        Side::Unspecified | Side::Local => false,
    }
}

/// The entries of one attempt that say how it stands.
#[derive(Default)]
struct Attempt {
    open: Option<Whole>,
    close: Option<Whole>,
    refused: Option<Whole>,
    unreadable: bool,
}

struct Whole {
    entry: Entry,
    leaf: [u8; 32],
}

/// The records of one exchange, from its OPEN, CLOSE and REFUSED entries, in the order of their keys.
pub(super) fn fold(entries: &[Vec<u8>], pair: Pair) -> Vec<ExchangeRecord> {
    let mut attempts: BTreeMap<Key, (Side, Attempt)> = BTreeMap::new();
    for bytes in entries {
        let (entry, unreadable) = match entry::decode(bytes) {
            Ok(Decoded::Entry(entry)) => (*entry, false),
            // What was changed behind the ledger's back may be no canonical entry any more, and still say whose it is.
            read => match Entry::decode(bytes.as_slice()) {
                Ok(entry) => (entry, read.is_err()),
                Err(_) => continue,
            },
        };
        if !is_between(&entry, pair) {
            continue;
        }
        let stub = ExchangeRecord {
            exchange: entry.exchange.clone(),
            attempt: entry.attempt,
            side: entry.side,
            ..ExchangeRecord::default()
        };
        let Ok(key) = Key::of(&stub, pair) else {
            continue;
        };
        let side = entry.side();
        let (_, attempt) = attempts
            .entry(key)
            .or_insert_with(|| (side, Attempt::default()));
        attempt.unreadable |= unreadable;
        let leaf = leaf_hash(bytes);
        let place = match entry.kind() {
            Kind::Open => &mut attempt.open,
            Kind::Close => &mut attempt.close,
            // A replay that was refused says nothing of the call that it repeats.
            Kind::Refused => &mut attempt.refused,
            _ => continue,
        };
        *place = Some(Whole { entry, leaf });
    }
    attempts
        .into_iter()
        .filter_map(|(key, (side, attempt))| attempt.record(key, side))
        .collect()
}

impl Attempt {
    fn record(self, key: Key, side: Side) -> Option<ExchangeRecord> {
        let opened_leaf = self.open.as_ref().map(|open| open.leaf.to_vec());
        let (state, last, ended) = match (self.close, self.open, self.refused) {
            (Some(close), ..) => {
                let result = close.entry.result.as_ref();
                let interrupted = result.is_some_and(|result| result.interrupted);
                let state = if interrupted {
                    RecordState::Interrupted
                } else {
                    RecordState::Closed
                };
                (state, close, true)
            }
            (None, Some(open), _) => (RecordState::Open, open, false),
            (None, None, Some(refused)) => (RecordState::Refused, refused, true),
            (None, None, None) => return None,
        };
        let Whole { entry, leaf } = last;
        let result = entry.result.clone().unwrap_or_default();
        Some(ExchangeRecord {
            exchange: key.exchange.to_vec(),
            attempt: key.attempt,
            side: side.into(),
            state: if self.unreadable {
                RecordState::Unreadable.into()
            } else {
                state.into()
            },
            status: result.status,
            reason: result.reason,
            peer_reason: result.peer_reason,
            request: entry.request.as_ref().map(digest),
            response: entry.response.as_ref().map(digest),
            method_digest: sha256(entry.method.as_bytes()).to_vec(),
            client_digest: entry
                .client
                .as_ref()
                .map(|client| sha256(client.spiffe_id.as_bytes()).to_vec())
                .unwrap_or_default(),
            purpose_digest: purpose(&entry.purpose, &entry.basis),
            opened_leaf: opened_leaf.unwrap_or_default(),
            ended_leaf: if ended { leaf.to_vec() } else { Vec::new() },
            ended_at_us: if ended { entry.time_us } else { 0 },
        })
    }
}

fn purpose(purpose: &str, basis: &str) -> Vec<u8> {
    if purpose.is_empty() && basis.is_empty() {
        // Refused before they were read.
        return Vec::new();
    }
    // No purpose code holds a NUL.
    sha256(
        [purpose.as_bytes(), &[0], basis.as_bytes()]
            .concat()
            .as_slice(),
    )
    .to_vec()
}

fn digest(direction: &Direction) -> DirectionDigest {
    DirectionDigest {
        root: direction.root.clone(),
        count: direction.count,
        complete: direction.complete,
    }
}
