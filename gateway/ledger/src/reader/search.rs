//! How a search finds its entries.

use std::ops::Range;

use crate::{
    entry::Decoded,
    index::Level,
    ledger::Core,
    query::Query,
    reader::{
        Order, Page, Stored, decode,
        sets::{Found, Sets, Stretch},
    },
    store::StoreError,
};

/// Most entries that are read at once.
const TOGETHER: usize = 512;
/// Units whose sets are read at once: one at first, where the first page of a common value ends, then more and more, up to a
/// range.
const WINDOW_GROWTH: u64 = 4;
const WIDEST_WINDOW: u64 = 256;

/// Entries that match, in order.
pub(super) async fn search(
    core: &Core,
    query: &Query,
    page: Page,
) -> Result<Vec<Stored>, StoreError> {
    let extent = core.reads.index_extent(core.group).await?;
    let mut range = 0..extent.size;
    match (page.cursor, page.order) {
        (Some(cursor), Order::Ascending) => range.start = cursor.saturating_add(1),
        (Some(cursor), Order::Descending) => range.end = range.end.min(cursor),
        (None, _) => {}
    }
    let mut search = Search {
        core,
        query,
        page,
        found: Vec::new(),
    };
    let sets = Sets::new(core, query, extent).await?;
    if let Some(exchange) = query.exchange() {
        let mut entries = core.reads.exchange(exchange.as_bytes()).await?;
        entries.retain(|stored| range.contains(&stored.index));
        let indices: Vec<u64> = entries.iter().map(|stored| stored.index).collect();
        let kept = sets.with_tokens(&indices).await?;
        entries.retain(|stored| kept.contains(&stored.index));
        search.take(entries)?;
    } else {
        search.by_sets(&sets, range).await?;
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
    async fn by_sets(&mut self, sets: &Sets<'_>, range: Range<u64>) -> Result<(), StoreError> {
        let mut stretches = sets.stretches(range.clone()).await?;
        if self.page.order == Order::Descending {
            stretches.reverse();
        }
        let mut width = 1;
        for Stretch {
            level,
            mut units,
            indexed,
        } in stretches
        {
            while !units.is_empty() {
                let window = match self.page.order {
                    Order::Ascending => {
                        let end = units.end.min(units.start + width);
                        units.start..end
                    }
                    Order::Descending => {
                        let start = units.start.max(units.end.saturating_sub(width));
                        start..units.end
                    }
                };
                match self.page.order {
                    Order::Ascending => units.start = window.end,
                    Order::Descending => units.end = window.start,
                }
                width = (width * WINDOW_GROWTH).min(WIDEST_WINDOW);
                let found = sets.find(level, window, indexed, &range).await?;
                if self.read(level, found, indexed).await? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Reads the entries of some sets, as far as there is room for them; `true` when the page is full. Of indexed entries
    /// nearly all match.
    async fn read(
        &mut self,
        level: Level,
        found: Found,
        indexed: bool,
    ) -> Result<bool, StoreError> {
        let ascending = self.page.order == Order::Ascending;
        let mut units: Vec<_> = found.into_iter().collect();
        if !ascending {
            units.reverse();
        }
        let mut indices = units.iter().flat_map(|(n, bits)| {
            let first = n * level.entries();
            let positions: Box<dyn Iterator<Item = u64> + Send + '_> = if ascending {
                Box::new(bits.positions())
            } else {
                Box::new(bits.positions().rev())
            };
            positions.map(move |position| first + position)
        });
        loop {
            let room = self.page.limit.saturating_sub(self.found.len());
            let most = if indexed {
                room.clamp(1, TOGETHER)
            } else {
                TOGETHER
            };
            let mut some: Vec<u64> = indices.by_ref().take(most).collect();
            if some.is_empty() {
                return Ok(false);
            }
            some.sort_unstable();
            let entries = self.core.reads.at(&some).await?;
            if self.take(entries)? {
                return Ok(true);
            }
        }
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
