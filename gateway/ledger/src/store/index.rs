//! What the search index is read and written by, the same on both stores.

use std::ops::Range;

use super::{Fault, Reads, StoreError, Tables, Writer, number};
use crate::{
    facet::{Facet, ValueRange},
    index::{Extent, Level, Part, Probe, Unit},
    private::Token,
};

/// An indexed unit and the times of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) n: u64,
    pub(crate) first_us: i64,
    pub(crate) last_us: i64,
}

/// Number, first and last time.
pub(super) type SpanRow = (i64, i64, i64);

pub(super) fn spans(rows: Vec<SpanRow>) -> Result<Vec<Span>, StoreError> {
    rows.into_iter()
        .map(|(n, first_us, last_us)| {
            Ok(Span {
                n: number(n)?,
                first_us,
                last_us,
            })
        })
        .collect()
}

/// A stored posting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct UnitRow {
    pub(crate) n: u64,
    pub(crate) facet: i16,
    pub(crate) value: Vec<u8>,
    pub(crate) entries: Vec<u8>,
}

pub(super) fn unit_rows(
    rows: Vec<(i64, i16, Vec<u8>, Vec<u8>)>,
) -> Result<Vec<UnitRow>, StoreError> {
    rows.into_iter()
        .map(|(n, facet, value, entries)| {
            Ok(UnitRow {
                n: number(n)?,
                facet,
                value,
                entries,
            })
        })
        .collect()
}

/// Unit and stored set.
pub(crate) type Set = (u64, Vec<u8>);

pub(super) fn sets(rows: Vec<(i64, Vec<u8>)>) -> Result<Vec<Set>, StoreError> {
    rows.into_iter()
        .map(|(n, entries)| Ok((number(n)?, entries)))
        .collect()
}

/// A part of a group: the group, and what is stored.
pub(crate) type PartRow = (u64, Part);

pub(super) fn parts(rows: Vec<(i64, i16, Vec<u8>)>) -> Result<Vec<PartRow>, StoreError> {
    rows.into_iter()
        .map(|(n, part, pairs)| Ok((number(n)?, Part { part, pairs })))
        .collect()
}

pub(super) fn tokens(rows: Vec<(Vec<u8>,)>) -> Result<Vec<Token>, StoreError> {
    rows.into_iter()
        .map(|(token,)| {
            let token = token.try_into().map(Token);
            token.map_err(|_| StoreError::Corrupt("token"))
        })
        .collect()
}

/// Size, segments, chunks, groups and ranges.
pub(super) type ExtentRow = (i64, i64, i64, i64, i64);

pub(super) fn extent(group: Level, row: ExtentRow) -> Result<Extent, StoreError> {
    let (size, segments, chunks, groups, ranges) = row;
    Ok(Extent {
        size: number(size)?,
        group,
        segments: number(segments)?,
        chunks: number(chunks)?,
        groups: number(groups)?,
        ranges: number(ranges)?,
    })
}

impl Writer {
    /// Stores a unit of the search index, unless it is there.
    pub(crate) async fn keep_unit(&mut self, unit: &Unit) -> Result<(), Fault> {
        each!(self, store => store.keep_unit(unit).await)
    }
}

impl Reads {
    /// How far the index goes, with groups of a level, and the size of the ledger at that same moment.
    pub(crate) async fn index_extent(&self, group: Level) -> Result<Extent, StoreError> {
        tables!(self, store => store.index_extent(group).await)
    }

    /// Times and bytes of the entries from an index until another, by index.
    pub(crate) async fn timed(
        &self,
        from: u64,
        until: u64,
    ) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        tables!(self, store => store.timed(from, until).await)
    }

    /// The earliest and the latest time of the entries from an index until another.
    pub(crate) async fn times(&self, entries: Range<u64>) -> Result<(i64, i64), StoreError> {
        let (first, last) = tables!(self, store => store.times(entries).await)?;
        first.zip(last).ok_or(StoreError::Corrupt("entries"))
    }

    /// The spans of some units, rising.
    pub(crate) async fn spans(
        &self,
        level: Level,
        units: Range<u64>,
    ) -> Result<Vec<Span>, StoreError> {
        self.spans_meeting(level, units, i64::MIN..i64::MAX).await
    }

    /// The spans of some units that have entries from a time until another, rising.
    pub(crate) async fn spans_meeting(
        &self,
        level: Level,
        units: Range<u64>,
        times: Range<i64>,
    ) -> Result<Vec<Span>, StoreError> {
        tables!(self, store => store.spans_meeting(level, units, times).await)
    }

    /// Every posting of some units, by unit.
    pub(crate) async fn unit_rows(
        &self,
        level: Level,
        units: Range<u64>,
    ) -> Result<Vec<UnitRow>, StoreError> {
        tables!(self, store => store.unit_rows(level, units).await)
    }

    /// The sets of some units for the values in a range.
    pub(crate) async fn postings(
        &self,
        level: Level,
        units: &[u64],
        facet: Facet,
        values: &ValueRange,
    ) -> Result<Vec<Set>, StoreError> {
        tables!(self, store => store.postings(level, units, facet, values).await)
    }

    /// The search tokens of some segments.
    pub(crate) async fn tokens_of(&self, segments: Range<u64>) -> Result<Vec<Token>, StoreError> {
        tables!(self, store => store.tokens_of(segments).await)
    }

    /// Those parts of some groups of a level that some tokens are looked up in.
    pub(crate) async fn parts(
        &self,
        level: Level,
        groups: &[u64],
        probes: &[Probe],
    ) -> Result<Vec<PartRow>, StoreError> {
        tables!(self, store => store.parts(level, groups, probes).await)
    }

    /// Indices of the entries with one of some tokens, within some segments.
    pub(crate) async fn tokens(
        &self,
        tokens: &[Token],
        segments: &[u64],
    ) -> Result<Vec<u64>, StoreError> {
        tables!(self, store => store.tokens(tokens, segments).await)
    }
}
