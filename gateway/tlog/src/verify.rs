//! A whole log verified again: from its leaf hashes every tile and every root is computed anew and compared with
//! what is stored.
//!
//! ```
//! use banqiao_tlog::{hash::leaf_hash, verify::{TreeVerifier, compare_tile}};
//!
//! # fn stored(_: banqiao_tlog::tile::TileId) -> Option<Vec<u8>> { None }
//! # fn main() -> Result<(), banqiao_tlog::verify::Divergence> {
//! let mut tree = TreeVerifier::new();
//! for entry in [b"a", b"b"] {
//!     for tile in tree.push(leaf_hash(entry)) {
//!         compare_tile(&tile, stored(tile.id()).as_deref())?;
//!     }
//! }
//! # let checkpoint = tree.head();
//! tree.compare_head(&checkpoint)?;
//! # Ok(())
//! # }
//! ```

use std::ops::Range;

use crate::{
    frontier::Frontier,
    hash::{Hash, TreeHead},
    tile::{Tile, TileBuilder, TileError, TileId, partial_tiles},
};

/// First byte of a saved state.
const STATE_VERSION: u8 = 1;

/// Where what is stored departs from the leaves.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Divergence {
    /// A tile holds another hash than its leaves give.
    #[error("{tile} departs from the leaves {} to {}", .leaves.start, .leaves.end.saturating_sub(1))]
    Hash {
        /// The tile.
        tile: TileId,
        /// The leaves under the first hash that is wrong.
        leaves: Range<u64>,
    },
    /// A tile that the log must have is not stored.
    #[error("{0} is not stored")]
    Missing(TileId),
    /// A signed root is another than the leaves give: the first wrong leaf is one of those since the last root that
    /// agreed.
    #[error("the root of {size} leaves departs from leaves {verified} to {}", .size.saturating_sub(1))]
    Root {
        /// Leaves.
        size: u64,
        /// Leaves at the last root that agreed.
        verified: u64,
    },
    /// A root of another size than the verifier has come to.
    #[error("a root of {found} leaves cannot be compared with a tree of {size}")]
    Size {
        /// Leaves that the verifier has come to.
        size: u64,
        /// Leaves that the root is over.
        found: u64,
    },
    /// A stored tile has not as many bytes as it must.
    #[error("the stored tile has a wrong length")]
    Tile(#[source] TileError),
}

impl Divergence {
    /// The first leaf that can be wrong, or nothing when no leaf is in question.
    pub fn first_index(&self) -> Option<u64> {
        match self {
            Self::Hash { leaves, .. } => Some(leaves.start),
            Self::Missing(tile) | Self::Tile(TileError::Length { tile, .. }) => {
                tile.leaves().map(|leaves| leaves.start)
            }
            Self::Root { verified, .. } => Some(*verified),
            Self::Size { .. } | Self::Tile(_) => None,
        }
    }
}

/// Why bytes are not a saved state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// Not as many bytes as the size demands, or sizes that cannot be.
    #[error("the saved state of the verification is damaged")]
    Damaged,
    /// Saved by another version.
    #[error("the saved state of the verification is of version {0}")]
    Version(u8),
}

/// Computes a log's tree anew, leaf by leaf. Memory is at most 64 KiB, and so is its saved state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TreeVerifier {
    tiles: TileBuilder,
    /// Leaves at the last root that agreed.
    verified: u64,
}

impl TreeVerifier {
    /// Begins with the first leaf.
    pub fn new() -> Self {
        Self {
            tiles: TileBuilder::new(),
            verified: 0,
        }
    }

    /// Goes on from [`Self::to_bytes`].
    ///
    /// The state is believed where it lies; a root that does not fit is found at the next [`Self::compare_head`].
    ///
    /// # Errors
    ///
    /// See [`StateError`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, StateError> {
        let (version, bytes) = bytes.split_first().ok_or(StateError::Damaged)?;
        if *version != STATE_VERSION {
            return Err(StateError::Version(*version));
        }
        let (size, bytes) = bytes.split_first_chunk().ok_or(StateError::Damaged)?;
        let (verified, bytes) = bytes.split_first_chunk().ok_or(StateError::Damaged)?;
        let (size, verified) = (u64::from_be_bytes(*size), u64::from_be_bytes(*verified));
        let (hashes, rest) = bytes.as_chunks::<32>();
        let widths = partial_tiles(size).map(|tile| usize::from(tile.width()));
        if verified > size || !rest.is_empty() || widths.sum::<usize>() != hashes.len() {
            return Err(StateError::Damaged);
        }
        let tiles = TileBuilder::resume(size, |wanted| {
            let before = partial_tiles(size)
                .take_while(|tile| *tile != wanted)
                .map(|tile| usize::from(tile.width()))
                .sum();
            hashes.get(before..before + usize::from(wanted.width()))
        })
        .map_err(|_| StateError::Damaged)?;
        Ok(Self { tiles, verified })
    }

    /// The state: version, size, size at the last root that agreed (big-endian), and the partial tiles by rising level.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = vec![STATE_VERSION];
        bytes.extend_from_slice(&self.tiles.size().to_be_bytes());
        bytes.extend_from_slice(&self.verified.to_be_bytes());
        for tile in self.tiles.partial_tiles() {
            bytes.extend_from_slice(tile.hashes().as_flattened());
        }
        bytes
    }

    /// Takes the next leaf by its hash. Gives the full tiles that it completes, mostly none: each is to be compared
    /// with the stored one by [`compare_tile`].
    pub fn push(&mut self, leaf: Hash) -> Vec<Tile> {
        self.tiles.push(leaf)
    }

    /// The partial tiles at this size, to be compared like the full ones where they are stored.
    pub fn partial_tiles(&self) -> Vec<Tile> {
        self.tiles.partial_tiles()
    }

    /// Leaves so far: the index of the next one.
    pub const fn size(&self) -> u64 {
        self.tiles.size()
    }

    /// Leaves at the last root that agreed.
    pub const fn verified(&self) -> u64 {
        self.verified
    }

    /// The roots of the full subtrees so far.
    pub fn frontier(&self) -> Frontier {
        self.tiles.frontier()
    }

    /// Size and root so far.
    pub fn head(&self) -> TreeHead {
        self.tiles.frontier().head()
    }

    /// Compares the root with that of a checkpoint of this size, whose signature the caller has verified.
    ///
    /// # Errors
    ///
    /// [`Divergence::Root`], [`Divergence::Size`].
    pub fn compare_head(&mut self, head: &TreeHead) -> Result<(), Divergence> {
        let size = self.size();
        if head.size != size {
            return Err(Divergence::Size {
                size,
                found: head.size,
            });
        }
        if head.root != self.tiles.root() {
            return Err(Divergence::Root {
                size,
                verified: self.verified,
            });
        }
        self.verified = size;
        Ok(())
    }
}

impl Default for TreeVerifier {
    fn default() -> Self {
        Self::new()
    }
}

/// Compares a tile that was computed with the bytes that are stored for it, if any are.
///
/// # Errors
///
/// [`Divergence::Missing`], [`Divergence::Tile`], or [`Divergence::Hash`] with the first hash that differs.
pub fn compare_tile(computed: &Tile, stored: Option<&[u8]>) -> Result<(), Divergence> {
    let id = computed.id();
    let stored = stored.ok_or(Divergence::Missing(id))?;
    let stored = Tile::from_bytes(id, stored).map_err(Divergence::Tile)?;
    let pairs = computed.hashes().iter().zip(stored.hashes());
    for (position, (computed, stored)) in (0_u64..).zip(pairs) {
        if computed != stored {
            let span = 1_u64 << (8 * u32::from(id.level()));
            let start = (id.index() * 256 + position) * span;
            return Err(Divergence::Hash {
                tile: id,
                leaves: start..start + span,
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
