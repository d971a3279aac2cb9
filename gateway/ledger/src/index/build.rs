//! How units are made.

use std::collections::BTreeMap;

use banqiao_proto::ledger::v1::Entry;
use prost::Message as _;

use super::{Gathering, Level, Posting, Unit, UnitId, bits};
use crate::{
    entry::VERSION,
    facet::facets,
    store::{StoreError, UnitRow},
};

/// The positions that hold each value.
type Values = BTreeMap<(i16, Box<[u8]>), Vec<u16>>;

/// A segment, of the times and bytes of its entries.
pub(crate) fn segment(n: u64, entries: &[(i64, Vec<u8>)]) -> Result<Unit, StoreError> {
    let mut values = Values::new();
    for (position, (_, bytes)) in (0_u16..).zip(entries) {
        // What is no entry of a known version has no values. Whether the bytes are canonical, those find out who read
        // them: an unfiltered search and `audit verify`.
        let entry = match Entry::decode(bytes.as_slice()) {
            Ok(entry) if entry.version <= VERSION => entry,
            _ => continue,
        };
        for (facet, value) in facets(&entry) {
            let positions = values.entry((facet.number(), value)).or_default();
            // Both cities of an entry may be the same.
            if positions.last() != Some(&position) {
                positions.push(position);
            }
        }
    }
    let times = entries.iter().map(|(time_us, _)| (*time_us, *time_us));
    unit(Level::Segment, n, times, values)
}

/// A chunk, of the spans and the postings of its segments, both by segment.
pub(crate) fn merge(n: u64, spans: &[(i64, i64)], rows: &[UnitRow]) -> Result<Unit, StoreError> {
    let first = n * Level::Chunk.holds(Level::Segment);
    let mut values = Values::new();
    for row in rows {
        let offset = row
            .n
            .checked_sub(first)
            .and_then(|at| u16::try_from(at * Level::Segment.entries()).ok())
            .ok_or(StoreError::Corrupt("index"))?;
        let key = (row.facet, row.value.as_slice().into());
        let positions = values.entry(key).or_default();
        for position in bits::positions(&row.entries)? {
            positions.push(
                position
                    .checked_add(offset)
                    .ok_or(StoreError::Corrupt("index"))?,
            );
        }
    }
    unit(Level::Chunk, n, spans.iter().copied(), values)
}

/// A group, of the spans and the search tokens of its chunks.
pub(crate) fn group(n: u64, spans: &[(i64, i64)], tokens: Gathering) -> Result<Unit, StoreError> {
    let unit = unit(tokens.level(), n, spans.iter().copied(), Values::new())?;
    let parts = tokens.parts();
    Ok(Unit { parts, ..unit })
}

/// A range, of the spans of its chunks.
pub(crate) fn range(n: u64, spans: &[(i64, i64)]) -> Result<Unit, StoreError> {
    unit(Level::Range, n, spans.iter().copied(), Values::new())
}

fn unit(
    level: Level,
    n: u64,
    times: impl Iterator<Item = (i64, i64)>,
    values: Values,
) -> Result<Unit, StoreError> {
    let (first_us, last_us) = times
        .reduce(|(first, last), (begin, end)| (first.min(begin), last.max(end)))
        .ok_or(StoreError::Corrupt("index"))?;
    let postings = values
        .into_iter()
        .map(|((facet, value), positions)| Posting {
            facet,
            value,
            entries: bits::stored(level, &positions),
        });
    Ok(Unit {
        id: UnitId { level, n },
        first_us,
        last_us,
        postings: postings.collect(),
        parts: Vec::new(),
    })
}
