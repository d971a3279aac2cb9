//! Which entries can match, by the search index.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use crate::{
    index::{Bits, Extent, Level, Probe},
    keyring::MonthKeys,
    ledger::Core,
    private::Token,
    query::{FacetFilter, Query},
    store::StoreError,
};

/// Units and which of their entries can match.
pub(super) type Found = BTreeMap<u64, Bits>;

/// Units of one level that follow one another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stretch {
    pub(super) level: Level,
    pub(super) units: Range<u64>,
    /// Not behind the end of the index.
    pub(super) indexed: bool,
}

/// What a query asks of the index.
pub(super) struct Sets<'a> {
    core: &'a Core,
    query: &'a Query,
    extent: Extent,
    facets: Vec<FacetFilter>,
    /// From a time until another, where the query says so.
    times: Option<Range<i64>>,
    /// Months that entries were encrypted in and whose keys are at hand. Only for queries by private parts.
    months: Vec<Arc<MonthKeys>>,
}

impl<'a> Sets<'a> {
    pub(super) async fn new(
        core: &'a Core,
        query: &'a Query,
        extent: Extent,
    ) -> Result<Self, StoreError> {
        let (from, until) = (query.begin_us(), query.end_us());
        let mut months = Vec::new();
        if query.is_private() {
            for month in core.reads.months().await? {
                months.extend(
                    core.preparer
                        .keyring
                        .held(month)
                        .map_err(StoreError::Keys)?,
                );
            }
        }
        Ok(Self {
            core,
            query,
            extent,
            facets: query.facets(),
            times: (from.is_some() || until.is_some())
                .then(|| from.unwrap_or(i64::MIN)..until.unwrap_or(i64::MAX)),
            months,
        })
    }

    /// The units to look into for entries in a range of indices, rising: of each part of the ledger the largest. Index ranges
    /// and chunks outside the times that are asked for are left out, and so are entries that are not indexed yet.
    pub(super) async fn stretches(&self, range: Range<u64>) -> Result<Vec<Stretch>, StoreError> {
        let extent = &self.extent;
        let mut stretches = Vec::new();
        let mut stretch = |level: Level, from: u64, until: u64, indexed| {
            let (from, until) = (from.max(range.start), until.min(range.end));
            if from < until {
                let units = from / level.entries()..until.div_ceil(level.entries());
                stretches.push(Stretch {
                    level,
                    units,
                    indexed,
                });
            }
        };
        let chunk = Level::Chunk.entries();
        for chunks in self.chunks(&range).await? {
            stretch(Level::Chunk, chunks.start * chunk, chunks.end * chunk, true);
        }
        stretch(
            Level::Segment,
            extent.chunks * chunk,
            extent.indexed(),
            true,
        );
        let recent = extent.indexed()..extent.size;
        let can_match = match &self.times {
            Some(times) if recent.start.max(range.start) < recent.end.min(range.end) => {
                let (core, recent) = (self.core, recent.clone());
                core.recent.can_be_of(&core.reads, recent, times).await?
            }
            _ => true,
        };
        if can_match {
            stretch(Level::Segment, recent.start, recent.end, false);
        }
        Ok(stretches)
    }

    /// The chunks that can hold matches.
    async fn chunks(&self, range: &Range<u64>) -> Result<Vec<Range<u64>>, StoreError> {
        let extent = &self.extent;
        let Some(times) = &self.times else {
            return Ok(std::iter::once(0..extent.chunks).collect());
        };
        let reads = &self.core.reads;
        let size = Level::Range.entries();
        let ranges = range.start / size..range.end.div_ceil(size).min(extent.ranges);
        let chunks_of = Level::Range.holds(Level::Chunk);
        let mut within: Vec<Range<u64>> = Vec::new();
        for span in reads
            .spans_meeting(Level::Range, ranges, times.clone())
            .await?
        {
            within.push(span.n * chunks_of..(span.n + 1) * chunks_of);
        }
        // The range that is not complete has no span yet.
        within.push(extent.ranges * chunks_of..extent.chunks);
        let mut chunks = Vec::new();
        for candidates in within {
            let met = reads
                .spans_meeting(Level::Chunk, candidates, times.clone())
                .await?;
            if let (Some(first), Some(last)) = (met.first(), met.last()) {
                chunks.push(first.n..last.n + 1);
            }
        }
        Ok(chunks)
    }

    /// The entries within some units and a range of indices that can match.
    pub(super) async fn find(
        &self,
        level: Level,
        units: Range<u64>,
        indexed: bool,
        range: &Range<u64>,
    ) -> Result<Found, StoreError> {
        let mut found: Found = units
            .map(|n| {
                let first = n * level.entries();
                let within = |index: u64| index.saturating_sub(first);
                (
                    n,
                    Bits::between(level, within(range.start), within(range.end)),
                )
            })
            .collect();
        found.retain(|_, bits| !bits.is_empty());
        if level == Level::Chunk {
            self.keep_present(&mut found).await?;
        }
        if let Some(times) = &self.times {
            let made = self.made(level, &found, indexed, times).await?;
            intersect(&mut found, &made);
        }
        // Before the tokens: a set is read at once, tokens segment by segment and row by row.
        if indexed {
            self.keep_facets(level, &mut found).await?;
        }
        for (kind, value) in self.query.private() {
            let Some(units) = hull(&found) else {
                return Ok(found);
            };
            let tokens: Vec<Token> = self
                .months(level, units, indexed)
                .await?
                .map(|keys| Token::new(keys, kind, value))
                .collect();
            let holds = level.holds(Level::Segment);
            let segments: Vec<u64> = found
                .iter()
                .flat_map(|(n, bits)| bits.segments().map(move |place| n * holds + place))
                .collect();
            let mut with = Found::new();
            for index in self.core.reads.tokens(&tokens, &segments).await? {
                let (n, position) = (index / level.entries(), index % level.entries());
                let bits = with.entry(n).or_insert_with(|| Bits::none(level));
                bits.add(position);
            }
            intersect(&mut found, &with);
        }
        Ok(found)
    }

    /// Keeps the chunks that can hold each token that is asked for; those in no complete group can.
    async fn keep_present(&self, found: &mut Found) -> Result<(), StoreError> {
        let group = self.extent.group;
        let holds = group.holds(Level::Chunk);
        for (kind, value) in self.query.private() {
            let groups: BTreeSet<u64> = found.keys().map(|n| n / holds).collect();
            let groups: Vec<u64> = groups.range(..self.extent.groups).copied().collect();
            let (Some(first), Some(last)) = (groups.first(), groups.last()) else {
                return Ok(());
            };
            let probes: Vec<Probe> = self
                .months(group, *first..last + 1, true)
                .await?
                .map(|keys| Probe::new(group, &Token::new(keys, kind, value)))
                .collect();
            let mut with = BTreeSet::new();
            for (n, part) in self.core.reads.parts(group, &groups, &probes).await? {
                for probe in probes.iter().filter(|probe| probe.part == part.part) {
                    let places = probe.places(&part.pairs)?;
                    with.extend(places.into_iter().map(|place| n * holds + place));
                }
            }
            found.retain(|n, _| n / holds >= self.extent.groups || with.contains(n));
        }
        Ok(())
    }

    /// Keeps the indexed entries that have every value that is asked for.
    async fn keep_facets(&self, level: Level, found: &mut Found) -> Result<(), StoreError> {
        for (facet, values) in &self.facets {
            let mut with = Found::new();
            for values in values {
                let units: Vec<u64> = found.keys().copied().collect();
                if units.is_empty() {
                    return Ok(());
                }
                let reads = &self.core.reads;
                let sets = reads.postings(level, &units, *facet, values).await?;
                for (n, entries) in sets {
                    let bits = with.entry(n).or_insert_with(|| Bits::none(level));
                    bits.add_stored(&entries)?;
                }
            }
            intersect(found, &with);
        }
        Ok(())
    }

    /// The entries of some units that were made in the times that are asked for.
    async fn made(
        &self,
        level: Level,
        among: &Found,
        indexed: bool,
        times: &Range<i64>,
    ) -> Result<Found, StoreError> {
        let Some(units) = hull(among) else {
            return Ok(Found::new());
        };
        let reads = &self.core.reads;
        let (segment, holds) = (Level::Segment.entries(), level.holds(Level::Segment));
        let segments = units.start * holds..units.end * holds;
        let within =
            |first_us: i64, last_us: i64| times.contains(&first_us) && times.contains(&last_us);
        let segments: Vec<(u64, bool)> = if indexed {
            let spans = reads.spans_meeting(Level::Segment, segments, times.clone());
            let spans = spans.await?.into_iter();
            spans
                .map(|span| (span.n, within(span.first_us, span.last_us)))
                .collect()
        } else {
            segments.map(|n| (n, false)).collect()
        };
        let mut made = Found::new();
        for (n, whole) in segments {
            if !among.contains_key(&(n / holds)) {
                continue;
            }
            let entries = n * segment..(n + 1) * segment;
            let bits = made.entry(n / holds).or_insert_with(|| Bits::none(level));
            let first = n / holds * level.entries();
            if whole {
                bits.add_between(entries.start - first, entries.end - first);
            } else {
                for index in reads.made_between(entries, times.clone()).await? {
                    bits.add(index - first);
                }
            }
        }
        Ok(made)
    }

    /// The months that entries of some units can be of: behind the end of the index all of them.
    async fn months(
        &self,
        level: Level,
        units: Range<u64>,
        indexed: bool,
    ) -> Result<impl Iterator<Item = &Arc<MonthKeys>>, StoreError> {
        let spans = if indexed {
            self.core.reads.spans(level, units).await?
        } else {
            Vec::new()
        };
        Ok(self.months.iter().filter(move |keys| {
            let (begin, end) = keys.month().bounds_us();
            !indexed
                || spans
                    .iter()
                    .any(|span| span.last_us >= begin && span.first_us < end)
        }))
    }

    /// Those of some entries that have every token that is asked for.
    pub(super) async fn with_tokens(&self, indices: &[u64]) -> Result<BTreeSet<u64>, StoreError> {
        let mut kept: BTreeSet<u64> = indices.iter().copied().collect();
        for (kind, value) in self.query.private() {
            let tokens: Vec<Token> = self
                .months
                .iter()
                .map(|keys| Token::new(keys, kind, value))
                .collect();
            let segments: BTreeSet<u64> = kept
                .iter()
                .map(|index| index / Level::Segment.entries())
                .collect();
            let mut with = BTreeSet::new();
            for segment in segments {
                with.extend(self.core.reads.tokens(&tokens, &[segment]).await?);
            }
            kept.retain(|index| with.contains(index));
        }
        Ok(kept)
    }
}

/// From the first unit until behind the last.
fn hull(found: &Found) -> Option<Range<u64>> {
    let (first, _) = found.first_key_value()?;
    let (last, _) = found.last_key_value()?;
    Some(*first..*last + 1)
}

/// Keeps what is in other sets too.
fn intersect(found: &mut Found, with: &Found) {
    found.retain(|n, bits| {
        with.get(n).is_some_and(|other| {
            bits.keep(other);
            !bits.is_empty()
        })
    });
}
