//! What a whole verification reads, the same from both stores.

use super::{Reads, StoreError, Tables};
use crate::{
    digest::leaf_hash,
    entry::{Decoded, decode},
    reader::Stored,
};

/// The head row, and how far each table goes at that same moment: one statement, so that a ledger that grows
/// contradicts nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) size: u64,
    pub(crate) frontier: Vec<u8>,
    pub(crate) origin: Option<String>,
    pub(crate) note: Option<String>,
    /// Lowest and highest index of an entry.
    pub(crate) entries: Option<(i64, i64)>,
    /// Lowest and highest size of a published checkpoint.
    pub(crate) checkpoints: Option<(i64, i64)>,
    /// Entries that are archived: those below this index.
    pub(crate) detached: u64,
}

/// Size, frontier, origin, note, archived entries, and the bounds of entries and checkpoints.
pub(super) type ExtentRow = (
    i64,
    Vec<u8>,
    Option<String>,
    Option<String>,
    i64,
    Option<i64>,
    Option<i64>,
    Option<i64>,
    Option<i64>,
);

impl Extent {
    pub(super) fn of(row: ExtentRow) -> Result<Self, StoreError> {
        let (size, frontier, origin, note, detached, first, last, smallest, largest) = row;
        Ok(Self {
            size: super::number(size)?,
            frontier,
            origin,
            note,
            entries: first.zip(last),
            checkpoints: smallest.zip(largest),
            detached: super::number(detached)?,
        })
    }
}

/// The tiles of one level, and the size of the ledger at that same moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TileExtent {
    pub(crate) size: u64,
    pub(crate) level: i64,
    pub(crate) first: i64,
    pub(crate) last: i64,
}

/// An entry with the columns that repeat what its bytes say.
#[derive(Clone, Debug)]
pub(crate) struct EntryColumns {
    pub(crate) index: i64,
    pub(crate) kind: i32,
    pub(crate) time_us: i64,
    pub(crate) exchange: Option<Vec<u8>>,
    pub(crate) leaf: Vec<u8>,
    pub(crate) bytes: Vec<u8>,
}

impl EntryColumns {
    /// Of an entry that has left the database: the columns are what it says.
    pub(super) fn archived(stored: &Stored) -> Result<Self, StoreError> {
        let index = stored.index;
        let decoded =
            decode(&stored.bytes).map_err(|source| StoreError::Entry { index, source })?;
        let (kind, time_us, exchange) = match decoded {
            Decoded::Entry(entry) => (entry.kind, entry.time_us, entry.exchange.clone()),
            Decoded::Newer { .. } => (0, 0, Vec::new()),
        };
        Ok(Self {
            index: super::stored(index)?,
            kind,
            time_us,
            exchange: (!exchange.is_empty()).then_some(exchange),
            leaf: leaf_hash(&stored.bytes).to_vec(),
            bytes: stored.bytes.to_vec(),
        })
    }
}

/// A stored full tile: number, root and hashes.
pub(crate) type TileRow = (i64, Vec<u8>, Vec<u8>);

/// Some of the uid rows in the order of their uids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct UidPage {
    /// Rows whose index lies below the asked one.
    pub(crate) below: u64,
    /// Highest index of a row.
    pub(crate) highest: Option<i64>,
    /// The last uid; `None` behind the end.
    pub(crate) last: Option<[u8; 16]>,
}

impl UidPage {
    pub(super) fn of(
        below: i64,
        highest: Option<i64>,
        last: Option<Vec<u8>>,
    ) -> Result<Self, StoreError> {
        let last = last.map(|uid| uid.try_into().map_err(|_| StoreError::Corrupt("uid")));
        Ok(Self {
            below: super::number(below)?,
            highest,
            last: last.transpose()?,
        })
    }
}

impl Reads {
    /// The head row, and how far entries and checkpoints go.
    pub(crate) async fn extent(&self) -> Result<Extent, StoreError> {
        tables!(self, store => store.extent().await)
    }

    /// How far the tiles of each level go.
    pub(crate) async fn tile_extents(&self) -> Result<Vec<TileExtent>, StoreError> {
        tables!(self, store => store.tile_extents().await)
    }

    /// The full tiles of a level, from a number until another, by number.
    pub(crate) async fn whole_tiles(
        &self,
        level: u8,
        from: u64,
        until: u64,
    ) -> Result<Vec<TileRow>, StoreError> {
        tables!(self, store => store.whole_tiles(level, from, until).await)
    }

    /// The published checkpoints of a size above one (`None`: of every size) up to another, by size.
    pub(crate) async fn checkpoints(
        &self,
        above: Option<u64>,
        until: u64,
    ) -> Result<Vec<(i64, String)>, StoreError> {
        tables!(self, store => store.checkpoints(above, until).await)
    }

    /// Indices of the private parts from an index until another, rising.
    pub(crate) async fn private_indices(
        &self,
        from: u64,
        until: u64,
    ) -> Result<Vec<i64>, StoreError> {
        tables!(self, store => store.private_indices(from, until).await)
    }

    /// How many of these uids stand beside the index of their place, counted from one on.
    pub(crate) async fn uids_in_place(
        &self,
        uids: &[[u8; 16]],
        from: u64,
    ) -> Result<u64, StoreError> {
        tables!(self, store => store.uids_in_place(uids, from).await)
    }

    /// The index that stands beside a uid.
    pub(crate) async fn uid_index(&self, uid: &[u8; 16]) -> Result<Option<i64>, StoreError> {
        tables!(self, store => store.uid_index(uid).await)
    }

    /// The uid rows from a uid on, at most so many, counted.
    pub(crate) async fn uid_page(
        &self,
        first: &[u8; 16],
        below: u64,
        limit: u32,
    ) -> Result<UidPage, StoreError> {
        tables!(self, store => store.uid_page(first, below, limit).await)
    }

    /// The uid rows from a uid on, at most so many.
    pub(crate) async fn uid_rows(
        &self,
        first: &[u8; 16],
        limit: u32,
    ) -> Result<Vec<(Vec<u8>, i64)>, StoreError> {
        tables!(self, store => store.uid_rows(first, limit).await)
    }
}
