//! Growing tiles.

use std::mem;

use super::{LEVELS, Tile, TileError, TileId, WIDTH, partial_tiles};
use crate::{
    frontier::{Frontier, root_of},
    hash::{Hash, MAX_SIZE},
};

/// The partial tiles of a growing tree: takes leaf hashes, gives the tiles that they complete.
///
/// Memory is one partial tile for each level, at most 64 KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TileBuilder {
    size: u64,
    /// By level, each shorter than a full tile.
    edge: [Vec<Hash>; LEVELS as usize],
}

impl TileBuilder {
    /// An empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on from a tree of `size` leaves, whose [`partial_tiles`] are looked up with `hashes`.
    ///
    /// The hashes are believed; compare [`Self::frontier`] with one that is known before building on them.
    ///
    /// # Errors
    ///
    /// [`TileError::Missing`] or [`TileError::Length`] for a tile that is not as the size demands,
    /// [`TileError::Size`] above [`MAX_SIZE`].
    pub fn resume<'t>(
        size: u64,
        hashes: impl Fn(TileId) -> Option<&'t [Hash]>,
    ) -> Result<Self, TileError> {
        if size > MAX_SIZE {
            return Err(TileError::Size(size));
        }
        let mut builder = Self {
            size,
            ..Self::default()
        };
        for tile in partial_tiles(size) {
            let found = hashes(tile).ok_or(TileError::Missing(tile))?;
            if found.len() != usize::from(tile.width()) {
                return Err(TileError::Length {
                    tile,
                    found: found.as_flattened().len(),
                });
            }
            if let Some(edge) = builder.edge.get_mut(usize::from(tile.level())) {
                *edge = found.to_vec();
            }
        }
        Ok(builder)
    }

    /// Leaves.
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Appends a leaf by its hash. Gives the full tiles that it completes, by rising level: mostly none.
    pub fn push(&mut self, leaf: Hash) -> Vec<Tile> {
        let mut completed = Vec::new();
        let mut node = leaf;
        // Full tiles of the level before this leaf, which is the index of the one being filled.
        let mut index = self.size;
        for (level, edge) in (0..LEVELS).zip(&mut self.edge) {
            index >>= 8;
            edge.push(node);
            if edge.len() < usize::from(WIDTH) {
                break;
            }
            let hashes = mem::take(edge);
            node = root_of(&hashes);
            let id = TileId {
                level,
                index,
                width: WIDTH,
            };
            completed.push(Tile::from_hashes(id, hashes));
        }
        self.size += 1;
        completed
    }

    /// Appends leaves by their hashes, and gives all tiles that they complete.
    pub fn extend(&mut self, leaves: impl IntoIterator<Item = Hash>) -> Vec<Tile> {
        leaves
            .into_iter()
            .flat_map(|leaf| self.push(leaf))
            .collect()
    }

    /// The partial tiles, by rising level.
    pub fn partial_tiles(&self) -> Vec<Tile> {
        partial_tiles(self.size)
            .zip(self.edge.iter().filter(|edge| !edge.is_empty()))
            .map(|(id, hashes)| Tile::from_hashes(id, hashes.clone()))
            .collect()
    }

    /// The roots of the tree's full subtrees.
    pub fn frontier(&self) -> Frontier {
        let mut subtrees = Vec::new();
        for edge in self.edge.iter().rev() {
            let mut tile = Frontier::new();
            tile.extend(edge.iter().copied());
            subtrees.extend_from_slice(tile.hashes());
        }
        Frontier::from_subtrees(self.size, subtrees)
    }

    /// Root of the tree (RFC 6962 §2.1).
    pub fn root(&self) -> Hash {
        self.frontier().root()
    }
}
