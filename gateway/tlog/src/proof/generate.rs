//! Proofs made from tiles, in two steps, so that the tiles may come from anywhere between them: which tiles are
//! needed, then the proof from their hashes.

use std::{collections::BTreeSet, ops::Range, slice};

use crate::{
    frontier::{join, root_of},
    hash::Hash,
    tile::TileId,
};

/// Why a proof cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SourceError {
    /// The empty tree contains nothing and says nothing of what follows it.
    #[error("nothing is proven of an empty tree")]
    EmptyTree,
    /// The leaf lies outside the tree.
    #[error("leaf {index} is not in a tree of {size}")]
    Index {
        /// The leaf.
        index: u64,
        /// Leaves.
        size: u64,
    },
    /// A tile that is needed was not given.
    #[error("{0} is missing")]
    Missing(TileId),
    /// The older tree is larger than the newer one.
    #[error("a tree of {old} leaves does not grow into one of {new}")]
    Shrunk {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer tree.
        new: u64,
    },
    /// A tile was given that is not as wide as it was asked for.
    #[error("{tile} has {} hashes, not {found}", .tile.width())]
    Width {
        /// The tile.
        tile: TileId,
        /// Hashes that were given.
        found: usize,
    },
}

/// The tiles that the proof of leaf `index` in a tree of `size` leaves is made from, each as wide as that tree has
/// it, in rising order and each once: at most three for each of the eight levels.
///
/// # Errors
///
/// [`SourceError::EmptyTree`], [`SourceError::Index`].
pub fn inclusion_tiles(index: u64, size: u64) -> Result<Vec<TileId>, SourceError> {
    Ok(tiles(&inclusion_ranges(index, size)?, size))
}

/// The inclusion proof of leaf `index` in a tree of `size` leaves, the leaf's sibling first (RFC 6962 §2.1.1).
///
/// `hashes` gives the tiles that [`inclusion_tiles`] names. They are believed: a proof from wrong
/// tiles does not verify.
///
/// # Errors
///
/// As [`inclusion_tiles`], and [`SourceError::Missing`] or [`SourceError::Width`] for a tile.
pub fn inclusion_proof<'t>(
    index: u64,
    size: u64,
    hashes: &impl Fn(TileId) -> Option<&'t [Hash]>,
) -> Result<Vec<Hash>, SourceError> {
    proof(&inclusion_ranges(index, size)?, size, hashes)
}

/// The tiles that the proof from a tree of `old` leaves to one of `new` is made from, each as wide as the newer tree
/// has it, in rising order and each once.
///
/// # Errors
///
/// [`SourceError::EmptyTree`], [`SourceError::Shrunk`].
pub fn consistency_tiles(old: u64, new: u64) -> Result<Vec<TileId>, SourceError> {
    Ok(tiles(&consistency_ranges(old, new)?, new))
}

/// The consistency proof from a tree of `old` leaves to one of `new` (RFC 6962 §2.1.2).
///
/// `hashes` gives the tiles that [`consistency_tiles`] names. They are believed: a proof from wrong
/// tiles does not verify.
///
/// # Errors
///
/// As [`consistency_tiles`], and [`SourceError::Missing`] or [`SourceError::Width`] for a tile.
pub fn consistency_proof<'t>(
    old: u64,
    new: u64,
    hashes: &impl Fn(TileId) -> Option<&'t [Hash]>,
) -> Result<Vec<Hash>, SourceError> {
    proof(&consistency_ranges(old, new)?, new, hashes)
}

/// The tiles that the root of a tree of `size` leaves is made from: those at its right edge.
pub fn root_tiles(size: u64) -> Vec<TileId> {
    tiles(slice::from_ref(&(0..size)), size)
}

/// Root of a tree of `size` leaves, from the tiles that [`root_tiles`] names. They are believed.
///
/// # Errors
///
/// [`SourceError::Missing`] or [`SourceError::Width`] for a tile.
pub fn tree_root<'t>(
    size: u64,
    hashes: &impl Fn(TileId) -> Option<&'t [Hash]>,
) -> Result<Hash, SourceError> {
    subtree_root(&(0..size), size, hashes)
}

/// The subtrees whose roots are the inclusion proof, as ranges of leaves.
fn inclusion_ranges(index: u64, size: u64) -> Result<Vec<Range<u64>>, SourceError> {
    if size == 0 {
        return Err(SourceError::EmptyTree);
    }
    if index >= size {
        return Err(SourceError::Index { index, size });
    }
    let mut ranges = Vec::new();
    let (mut start, mut end) = (0, size);
    while end - start > 1 {
        let middle = start + left_leaves(end - start);
        if index < middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    ranges.reverse();
    Ok(ranges)
}

/// The subtrees whose roots are the consistency proof, as ranges of leaves.
fn consistency_ranges(old: u64, new: u64) -> Result<Vec<Range<u64>>, SourceError> {
    if old == 0 || new == 0 {
        return Err(SourceError::EmptyTree);
    }
    if old > new {
        return Err(SourceError::Shrunk { old, new });
    }
    let mut ranges = Vec::new();
    let (mut start, mut end) = (0, new);
    while old != end {
        let middle = start + left_leaves(end - start);
        if old <= middle {
            ranges.push(middle..end);
            end = middle;
        } else {
            ranges.push(start..middle);
            start = middle;
        }
    }
    // A subtree that begins with the tree is the older tree, whose root the verifier has.
    if start != 0 {
        ranges.push(start..end);
    }
    ranges.reverse();
    Ok(ranges)
}

/// Leaves of the left subtree: the largest power of two below `leaves`, of which there are at least two.
const fn left_leaves(leaves: u64) -> u64 {
    1 << (63 - (leaves - 1).leading_zeros())
}

fn tiles(ranges: &[Range<u64>], size: u64) -> Vec<TileId> {
    let needed: BTreeSet<TileId> = ranges
        .iter()
        .flat_map(full_subtrees)
        .filter_map(|subtree| subtree.place(size))
        .map(|(tile, _)| tile)
        .collect();
    needed.into_iter().collect()
}

fn proof<'t>(
    ranges: &[Range<u64>],
    size: u64,
    hashes: &impl Fn(TileId) -> Option<&'t [Hash]>,
) -> Result<Vec<Hash>, SourceError> {
    ranges
        .iter()
        .map(|range| subtree_root(range, size, hashes))
        .collect()
}

fn subtree_root<'t>(
    range: &Range<u64>,
    size: u64,
    hashes: &impl Fn(TileId) -> Option<&'t [Hash]>,
) -> Result<Hash, SourceError> {
    let subtrees = full_subtrees(range)
        .filter_map(|subtree| subtree.place(size))
        .map(|(tile, span)| {
            let found = hashes(tile).ok_or(SourceError::Missing(tile))?;
            found
                .get(span)
                .filter(|_| found.len() == usize::from(tile.width()))
                .map(root_of)
                .ok_or(SourceError::Width {
                    tile,
                    found: found.len(),
                })
        })
        .collect::<Result<Vec<Hash>, SourceError>>()?;
    Ok(join(subtrees.into_iter()))
}

/// A full subtree: `2^height` leaves, `index` such subtrees to its left.
#[derive(Clone, Copy)]
struct Subtree {
    height: u32,
    index: u64,
}

impl Subtree {
    /// The tile that holds it, as wide as a tree of `size` leaves has it, and the hashes in the tile that it is the
    /// root of.
    fn place(self, size: u64) -> Option<(TileId, Range<usize>)> {
        let level = u8::try_from(self.height / 8).ok()?;
        let count = 1_u64 << (self.height % 8);
        let first = self.index * count;
        let tile = TileId::widest(level, first / 256, size)?;
        let start = usize::try_from(first % 256).ok()?;
        Some((tile, start..start + usize::try_from(count).ok()?))
    }
}

/// The full subtrees side by side that make up a range, largest first. The range begins at a multiple of the largest.
fn full_subtrees(range: &Range<u64>) -> impl Iterator<Item = Subtree> {
    let leaves = range.end - range.start;
    let mut start = range.start;
    (0..u64::BITS)
        .rev()
        .filter(move |height| leaves >> height & 1 == 1)
        .map(move |height| {
            let subtree = Subtree {
                height,
                index: start >> height,
            };
            start += 1 << height;
            subtree
        })
}
