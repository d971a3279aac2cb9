//! C2SP `tlog-tiles`: a tree cut into tiles of 256 hashes, and its entries into bundles of 256.
//!
//! A tile at level `l` spans eight levels of the Merkle tree. Its hashes are roots of full subtrees of `256^l`
//! leaves; at level 0 they are the leaf hashes. Full tiles never change. What lies right of them is in partial
//! tiles, at most one at each level.

use std::{cmp::min, ops::Range};

use crate::hash::Hash;

mod builder;
mod bundle;
mod path;

pub use builder::TileBuilder;
pub use bundle::{BundleError, MAX_BUNDLE_BYTES, MAX_ENTRY_BYTES, decode_bundle, encode_bundle};
pub use path::BundleId;

/// Hashes of a full tile, and entries of a full bundle.
pub const WIDTH: u16 = 256;

/// The highest level that a path may name (C2SP `tlog-tiles`, Merkle Tree). A tree of 64-bit size has levels 0 to 7.
pub const MAX_LEVEL: u8 = 63;

/// Levels that a tree of 64-bit size can have.
const LEVELS: u8 = 8;

/// Why something is not a tile.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TileError {
    /// Not as many bytes or hashes as the tile has.
    #[error("{tile} has {} bytes, not {found}", usize::from(.tile.width()) * 32)]
    Length {
        /// The tile.
        tile: TileId,
        /// Bytes that were given.
        found: usize,
    },
    /// A level above [`MAX_LEVEL`].
    #[error("tiles have levels 0 to 63, not {0}")]
    Level(u8),
    /// A tile that is needed was not given.
    #[error("{0} is missing")]
    Missing(TileId),
    /// Not a path of a tile or bundle in its one canonical form.
    #[error("not the path of a tile or entry bundle")]
    Path,
    /// A tree larger than [`MAX_SIZE`](crate::hash::MAX_SIZE).
    #[error("a tree of {0} leaves is too large")]
    Size(u64),
    /// A width of 0, or above 256.
    #[error("tiles are 1 to 256 hashes wide, not {0}")]
    Width(u16),
}

/// Which tile: level, index within the level, and width in hashes (256 if it is full).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TileId {
    level: u8,
    index: u64,
    width: u16,
}

impl TileId {
    /// A tile by its coordinates.
    ///
    /// # Errors
    ///
    /// [`TileError::Level`] above 63, [`TileError::Width`] of 0 or above 256.
    pub const fn new(level: u8, index: u64, width: u16) -> Result<Self, TileError> {
        if level > MAX_LEVEL {
            return Err(TileError::Level(level));
        }
        if width == 0 || width > WIDTH {
            return Err(TileError::Width(width));
        }
        Ok(Self {
            level,
            index,
            width,
        })
    }

    /// The tile as wide as a tree of `size` leaves has it, or nothing if the tree ends before it.
    pub fn widest(level: u8, index: u64, size: u64) -> Option<Self> {
        let hashes = size.checked_shr(8 * u32::from(level))?;
        let rest = hashes.checked_sub(index.checked_mul(u64::from(WIDTH))?)?;
        let width = u16::try_from(min(rest, u64::from(WIDTH))).ok()?;
        Self::new(level, index, width).ok()
    }

    /// Level: 0 holds the leaf hashes.
    pub const fn level(self) -> u8 {
        self.level
    }

    /// Index within the level.
    pub const fn index(self) -> u64 {
        self.index
    }

    /// Hashes, 1 to 256.
    pub const fn width(self) -> u16 {
        self.width
    }

    /// Whether it has 256 hashes, so that it never changes again.
    pub const fn is_full(self) -> bool {
        self.width == WIDTH
    }

    /// The leaves under it, or nothing when they are beyond any 64-bit tree.
    pub fn leaves(self) -> Option<Range<u64>> {
        let first = self.index.checked_mul(u64::from(WIDTH))?;
        let end = first.checked_add(u64::from(self.width))?;
        Some(self.scale(first)?..self.scale(end)?)
    }

    /// Hashes of this level in leaves.
    fn scale(self, hashes: u64) -> Option<u64> {
        hashes.checked_mul(1_u64.checked_shl(8 * u32::from(self.level))?)
    }
}

/// A tile and its hashes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tile {
    id: TileId,
    hashes: Vec<Hash>,
}

impl Tile {
    /// Reads a tile as it is served: its hashes, one after the other.
    ///
    /// # Errors
    ///
    /// [`TileError::Length`] unless there are exactly `32 × width` bytes.
    pub fn from_bytes(id: TileId, bytes: &[u8]) -> Result<Self, TileError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        if !rest.is_empty() || hashes.len() != usize::from(id.width) {
            return Err(TileError::Length {
                tile: id,
                found: bytes.len(),
            });
        }
        Ok(Self {
            id,
            hashes: hashes.to_vec(),
        })
    }

    /// `hashes` are as many as `id` is wide.
    const fn from_hashes(id: TileId, hashes: Vec<Hash>) -> Self {
        Self { id, hashes }
    }

    /// Which tile it is.
    pub const fn id(&self) -> TileId {
        self.id
    }

    /// Its hashes.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// The tile as it is served and stored: 8,192 bytes if it is full.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.as_flattened().to_vec()
    }
}

/// The full tiles that a tree has at size `new` and had not at size `old`, level by level; none if `new` is smaller.
///
/// Lazy: a large step has many tiles.
pub fn tiles_completed(old: u64, new: u64) -> impl Iterator<Item = TileId> {
    (0..LEVELS).flat_map(move |level| {
        let full = |size: u64| size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
        (full(old)..full(new)).map(move |index| TileId {
            level,
            index,
            width: WIDTH,
        })
    })
}

/// The partial tiles of a tree, by rising level: at most one at each (C2SP `tlog-tiles`, Partial Tiles).
pub fn partial_tiles(size: u64) -> impl Iterator<Item = TileId> {
    (0..LEVELS).filter_map(move |level| {
        let full = size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
        TileId::widest(level, full, size)
    })
}

/// All tiles of a tree: the full ones, then the partial ones. Lazy.
pub fn tiles(size: u64) -> impl Iterator<Item = TileId> {
    tiles_completed(0, size).chain(partial_tiles(size))
}

/// The entry bundles of a tree in the order of their entries; the last one may be partial. Lazy.
pub fn bundles(size: u64) -> impl Iterator<Item = BundleId> {
    (0..size.div_ceil(u64::from(WIDTH))).filter_map(move |index| BundleId::widest(index, size))
}

#[cfg(test)]
mod tests;
