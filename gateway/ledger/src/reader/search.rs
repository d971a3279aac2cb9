//! How a search finds its entries.

use std::{
    ops::{Range, RangeInclusive},
    sync::Arc,
};

use crate::{
    entry::Decoded,
    facet::{BLOCK, Facet, time_value},
    keyring::MonthKeys,
    ledger::Core,
    private::{SEGMENT, Token},
    query::{FacetFilter, Query},
    reader::{
        Order, Page, Stored, decode,
        postings::{Intersection, Posting, Union},
    },
    store::StoreError,
};

/// A prefix with more values than this is not looked up by its values; the entries themselves decide.
const MAX_PREFIX_VALUES: usize = 64;
/// Entries that are found by their tokens and read at once.
const TOGETHER: usize = 64;

/// Entries that match, in order.
pub(super) async fn search(
    core: &Core,
    query: &Query,
    page: Page,
) -> Result<Vec<Stored>, StoreError> {
    let mut search = Search {
        core,
        query,
        page,
        found: Vec::new(),
    };
    let Some(range) = search.range().await? else {
        return Ok(Vec::new());
    };
    if query.is_private() {
        search.by_tokens(&range).await?;
    } else if let Some(exchange) = query.exchange() {
        let mut entries = core.reads.exchange(exchange.as_bytes()).await?;
        entries.retain(|stored| range.contains(&stored.index));
        search.take(entries)?;
    } else {
        search.by_blocks(&range).await?;
    }
    Ok(search.found)
}

struct Search<'a> {
    core: &'a Core,
    query: &'a Query,
    page: Page,
    found: Vec<Stored>,
}

impl Search<'_> {
    /// The indices that can match, by cursor and time. `None`: there are none.
    async fn range(&self) -> Result<Option<Range<u64>>, StoreError> {
        let reads = &self.core.reads;
        let mut range = 0..reads.size().await?;
        match (self.page.cursor, self.page.order) {
            (Some(cursor), Order::Ascending) => range.start = cursor.saturating_add(1),
            (Some(cursor), Order::Descending) => range.end = range.end.min(cursor),
            (None, _) => {}
        }
        let (from, until) = (self.query.begin_us(), self.query.end_us());
        if from.is_some() || until.is_some() {
            let minutes = time_value(from.unwrap_or(0))..=time_value(until.unwrap_or(i64::MAX));
            let Some((first, last)) = reads.block_bounds(Facet::Time, &minutes).await? else {
                return Ok(None);
            };
            range.start = range.start.max(first * BLOCK);
            range.end = range.end.min((last + 1) * BLOCK);
        }
        Ok((!range.is_empty()).then_some(range))
    }

    async fn by_tokens(&mut self, range: &Range<u64>) -> Result<(), StoreError> {
        let months = self.months(range).await?;
        let unions = self.query.private().map(|(kind, value)| {
            Union::new(months.iter().map(|(keys, segments)| {
                Posting::Token(Token::new(keys, kind, value), segments.clone())
            }))
        });
        let mut entries = Intersection(unions.collect());
        let (reads, order) = (&self.core.reads, self.page.order);
        let mut target = Some(start(range, order));
        loop {
            let mut indices = Vec::with_capacity(TOGETHER);
            while indices.len() < TOGETHER
                && let Some(from) = target
                && let Some(index) = entries.seek(reads, order, from).await?
                && range.contains(&index)
            {
                indices.push(index);
                target = order.step(index);
            }
            if indices.is_empty() || self.take(reads.at(&indices).await?)? {
                return Ok(());
            }
        }
    }

    /// The months that entries in the range can be of and whose keys are at hand, and the segments that hold them.
    async fn months(
        &self,
        range: &Range<u64>,
    ) -> Result<Vec<(Arc<MonthKeys>, RangeInclusive<u64>)>, StoreError> {
        let (reads, keyring) = (&self.core.reads, &self.core.preparer.keyring);
        let mut months = Vec::new();
        for month in reads.months().await? {
            let Some(keys) = keyring.held(month).map_err(StoreError::Keys)? else {
                continue;
            };
            let (begin, end) = month.bounds_us();
            let minutes = time_value(begin)..=time_value(end - 1);
            let Some((first, last)) = reads.block_bounds(Facet::Time, &minutes).await? else {
                continue;
            };
            let first = (first * BLOCK).max(range.start) / SEGMENT;
            let last = ((last + 1) * BLOCK).min(range.end).saturating_sub(1) / SEGMENT;
            if first <= last {
                months.push((keys, first..=last));
            }
        }
        Ok(months)
    }

    async fn by_blocks(&mut self, range: &Range<u64>) -> Result<(), StoreError> {
        let mut blocks = Intersection(self.unions().await?);
        let (reads, order) = (&self.core.reads, self.page.order);
        let mut target = start(range, order) / BLOCK;
        while let Some(block) = blocks.seek(reads, order, target).await? {
            let from = (block * BLOCK).max(range.start);
            let until = ((block + 1) * BLOCK).min(range.end);
            if from >= until {
                break;
            }
            let entries = reads.range(from, until).await?;
            if self.take(entries)? {
                break;
            }
            let Some(next) = order.step(block) else { break };
            target = next;
        }
        Ok(())
    }

    /// The lists of blocks that a match must be in.
    async fn unions(&self) -> Result<Vec<Union>, StoreError> {
        let mut unions = Vec::new();
        for filter in self.query.facets() {
            let (facet, values) = match filter {
                FacetFilter::Any(facet, values) => (facet, values),
                FacetFilter::Range(facet, range) => {
                    let mut values: Vec<Box<[u8]>> = Vec::new();
                    while values.len() <= MAX_PREFIX_VALUES
                        && let Some(value) = self
                            .core
                            .reads
                            .next_value(facet, values.last().map(AsRef::as_ref), &range)
                            .await?
                    {
                        values.push(value);
                    }
                    if values.len() > MAX_PREFIX_VALUES {
                        continue;
                    }
                    (facet, values)
                }
            };
            unions.push(Union::new(
                values.into_iter().map(|value| Posting::Facet(facet, value)),
            ));
        }
        Ok(unions)
    }

    /// Takes the matches among entries in ascending order; `true` when the page is full.
    fn take(&mut self, mut entries: Vec<Stored>) -> Result<bool, StoreError> {
        if self.page.order == Order::Descending {
            entries.reverse();
        }
        for stored in entries {
            if self.found.len() >= self.page.limit {
                return Ok(true);
            }
            // Entries of a newer version stay uninterpreted: no filter can be said to hold for them.
            if let Decoded::Entry(entry) = decode(&stored)?
                && self.query.matches(&entry)
            {
                self.found.push(stored);
            }
        }
        Ok(self.found.len() >= self.page.limit)
    }
}

const fn start(range: &Range<u64>, order: Order) -> u64 {
    match order {
        Order::Ascending => range.start,
        Order::Descending => range.end - 1,
    }
}
