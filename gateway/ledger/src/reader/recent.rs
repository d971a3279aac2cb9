//! The times of the entries behind the end of the search index.
//!
//! What is indexed has a span by which a search passes over it. These entries have none yet, and each search by date would
//! read all of their times; so they are read once and kept.

use std::ops::Range;

use parking_lot::Mutex;

use crate::{
    index::Level,
    store::{Reads, StoreError},
};

/// More entries than these are not looked at beforehand: then the index is only being made.
const MOST: u64 = Level::Chunk.entries();

/// Entries and their earliest and latest time.
#[derive(Clone, Debug)]
struct Known {
    entries: Range<u64>,
    first_us: i64,
    last_us: i64,
}

/// What is known of the entries behind the index. Entries never change, so it stays true while the ledger grows.
#[derive(Debug, Default)]
pub(crate) struct Recent(Mutex<Option<Known>>);

impl Recent {
    /// Whether entries behind the index can be of some times.
    pub(super) async fn can_be_of(
        &self,
        reads: &Reads,
        entries: Range<u64>,
        times: &Range<i64>,
    ) -> Result<bool, StoreError> {
        if entries.end.saturating_sub(entries.start) > MOST {
            return Ok(true);
        }
        let known = self.0.lock().clone();
        let mut known = known
            .filter(|known| known.entries.start == entries.start)
            .unwrap_or(Known {
                entries: entries.start..entries.start,
                first_us: i64::MAX,
                last_us: i64::MIN,
            });
        if known.entries.end < entries.end {
            let new = known.entries.end..entries.end;
            let (first_us, last_us) = reads.times(new).await?;
            known.first_us = known.first_us.min(first_us);
            known.last_us = known.last_us.max(last_us);
            known.entries.end = entries.end;
            *self.0.lock() = Some(known.clone());
        }
        Ok(known.last_us >= times.start && known.first_us < times.end)
    }
}
