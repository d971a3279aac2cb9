//! A range of a database's rows: how it is read, and how it is checked.

use std::{cmp::min, collections::BTreeMap};

use banqiao_proto::ledger::v1::Entry;
use banqiao_tlog::tile::WIDTH;

use super::{
    finding::{Finding, Problem},
    walk::Walk,
};
use crate::store::{EntryColumns, Reads, StoreError, TileRow};

/// Entries that are read at once. Tile-aligned; with entries of the usual 500 bytes it is 2 MiB, at most 256 MiB.
const RANGE: u64 = 4_096;
/// Levels that a tree of 64-bit size can have.
const LEVELS: u8 = 8;

/// The rows of the entries from an index until another.
pub(super) struct Rows {
    pub(super) from: u64,
    until: u64,
    entries: Vec<EntryColumns>,
    tiles: BTreeMap<(u8, u64), TileRow>,
    checkpoints: Vec<(i64, String)>,
    private: Vec<i64>,
}

/// What was seen in a range.
pub(super) struct Seen {
    pub(super) from: u64,
    /// By place, from `from` on. Where the entry is of a newer version its uid is unknown.
    pub(super) uids: Vec<Option<[u8; 16]>>,
    pub(super) finding: Option<Finding>,
}

impl Rows {
    /// The index behind the last of them.
    pub(super) const fn until(&self) -> u64 {
        self.until
    }

    /// Reads the next range. The last one ends with the log.
    pub(super) async fn read(reads: &Reads, from: u64, size: u64) -> Result<Self, StoreError> {
        let until = min(size, (from / RANGE + 1) * RANGE);
        let entries = reads.columns(from, until).await?;
        let mut tiles = BTreeMap::new();
        for level in 0..LEVELS {
            let complete = |size: u64| size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
            let (first, end) = (complete(from), complete(until));
            if first == end {
                break;
            }
            for row in reads.whole_tiles(level, first, end).await? {
                let n = u64::try_from(row.0).map_err(|_| StoreError::Corrupt("number"))?;
                tiles.insert((level, n), row);
            }
        }
        let above = (from > 0).then_some(from);
        Ok(Self {
            from,
            until,
            entries,
            tiles,
            checkpoints: reads.checkpoints(above, until).await?,
            private: reads.private_indices(from, until).await?,
        })
    }

    /// Checks the rows in the order of their indices, up to the first that fails.
    pub(super) fn check(mut self, walk: &mut Walk) -> Seen {
        let mut uids = Vec::with_capacity(self.entries.len());
        let finding = self.walk(walk, &mut uids).err().map(|found| {
            let number = walk.tree.size() / u64::from(WIDTH);
            let stored = self.tiles.get(&(0, number));
            walk.earliest(found, stored.map(|(_, _, bytes)| bytes.as_slice()))
        });
        Seen {
            from: self.from,
            uids,
            finding,
        }
    }

    fn walk(&mut self, walk: &mut Walk, uids: &mut Vec<Option<[u8; 16]>>) -> Result<(), Finding> {
        let entries = std::mem::take(&mut self.entries);
        let mut entries = entries.into_iter().peekable();
        let mut checkpoints = self.checkpoints.iter().peekable();
        let mut private = self.private.iter().copied().peekable();
        for index in self.from..=self.until {
            while let Some((size, note)) = checkpoints.next_if(|(size, _)| reached(*size, index)) {
                if u64::try_from(*size).is_err() {
                    return Err(Finding::new(0, Problem::NegativeCheckpoint(*size)));
                }
                walk.checkpoint(note)?;
            }
            if index == self.until {
                break;
            }
            let row = entries
                .next_if(|row| u64::try_from(row.index) == Ok(index))
                .ok_or_else(|| Finding::new(index, Problem::EntryMissing))?;
            let taken = walk.entry(&row.bytes, Some(&row.leaf))?;
            let sealed = private
                .next_if(|sealed| u64::try_from(*sealed) == Ok(index))
                .is_some();
            uids.push(match &taken.entry {
                Some(entry) => {
                    columns(&row, entry).map_err(|problem| Finding::new(index, problem))?;
                    let commits = !entry.private_commitment.is_empty();
                    if sealed && !commits {
                        return Err(Finding::new(index, Problem::Private));
                    }
                    walk.counts.committed += u64::from(commits);
                    walk.counts.private += u64::from(sealed);
                    // Without a uid there can be no row of it, which is what will be said.
                    Some(entry.uid.as_slice().try_into().unwrap_or_default())
                }
                None => None,
            });
            for tile in &taken.tiles {
                let row = self.tiles.get(&(tile.id().level(), tile.id().index()));
                walk.tile(
                    tile,
                    row.map(|(_, root, _)| root.as_slice()),
                    row.map(|(_, _, bytes)| bytes.as_slice()),
                )?;
            }
        }
        Ok(())
    }
}

/// Whether a checkpoint of some size is due before the entry with an index.
fn reached(size: i64, index: u64) -> bool {
    u64::try_from(size).is_ok_and(|size| size <= index) || size < 0
}

/// The columns that searches go by repeat what the bytes say.
fn columns(row: &EntryColumns, entry: &Entry) -> Result<(), Problem> {
    // PostgreSQL keeps small numbers: one that is not has the largest of them.
    let kind = row.kind == entry.kind
        || (i16::try_from(entry.kind).is_err() && row.kind == i32::from(i16::MAX));
    if !kind {
        return Err(Problem::Column("kind"));
    }
    if row.time_us != entry.time_us {
        return Err(Problem::Column("time_us"));
    }
    if row.exchange.as_deref().unwrap_or_default() != entry.exchange {
        return Err(Problem::Column("exchange"));
    }
    Ok(())
}
