//! The right edge of a growing tree.

use std::fmt;

use crate::hash::{EMPTY_ROOT, Hash, MAX_SIZE, TreeHead, node_hash};

/// Why bytes are not a frontier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrontierError {
    /// One hash stands for each bit that is set in the count.
    #[error("a frontier of {count} leaves has {} hashes, not {found} bytes", .count.count_ones())]
    Length {
        /// Leaves.
        count: u64,
        /// Bytes that were given.
        found: usize,
    },
    /// More leaves than [`MAX_SIZE`].
    #[error("a frontier of {count} leaves is larger than any tree")]
    TooLarge {
        /// Leaves.
        count: u64,
    },
}

/// The right edge of a tree: the roots of its full subtrees, largest first, one for each bit of the count.
///
/// It is all that is needed to append leaves and to know the root: at most 64 hashes.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Frontier {
    count: u64,
    hashes: Vec<Hash>,
}

impl Frontier {
    /// The frontier of an empty tree.
    pub const fn new() -> Self {
        Self {
            count: 0,
            hashes: Vec::new(),
        }
    }

    /// Reads a frontier as [`Self::to_bytes`] writes it.
    ///
    /// # Errors
    ///
    /// When the length does not fit the count, or the count is larger than [`MAX_SIZE`].
    pub fn from_bytes(count: u64, bytes: &[u8]) -> Result<Self, FrontierError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        let expected = usize::try_from(count.count_ones()).unwrap_or(usize::MAX);
        if !rest.is_empty() || hashes.len() != expected {
            return Err(FrontierError::Length {
                count,
                found: bytes.len(),
            });
        }
        if count > MAX_SIZE {
            return Err(FrontierError::TooLarge { count });
        }
        Ok(Self {
            count,
            hashes: hashes.to_vec(),
        })
    }

    /// `hashes` are one for each bit of `count`, largest subtree first.
    pub(crate) const fn from_subtrees(count: u64, hashes: Vec<Hash>) -> Self {
        Self { count, hashes }
    }

    /// The hashes, largest subtree first, one after the other.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.hashes.as_flattened().to_vec()
    }

    /// Leaves.
    pub const fn count(&self) -> u64 {
        self.count
    }

    /// Roots of the full subtrees, largest first.
    pub fn hashes(&self) -> &[Hash] {
        &self.hashes
    }

    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf: Hash) {
        let mut node = leaf;
        // Each trailing 1 bit of the count is a full subtree of the size that the new one has now.
        for _ in 0..self.count.trailing_ones() {
            if let Some(left) = self.hashes.pop() {
                node = node_hash(&left, &node);
            }
        }
        self.hashes.push(node);
        self.count += 1;
    }

    /// Root of the tree (RFC 6962 §2.1).
    pub fn root(&self) -> Hash {
        join(self.hashes.iter().copied())
    }

    /// Size and root of the tree.
    pub fn head(&self) -> TreeHead {
        TreeHead {
            size: self.count,
            root: self.root(),
        }
    }
}

impl Extend<Hash> for Frontier {
    fn extend<T: IntoIterator<Item = Hash>>(&mut self, leaves: T) {
        for leaf in leaves {
            self.push(leaf);
        }
    }
}

impl fmt::Debug for Frontier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Frontier({} leaves, root {})",
            self.count,
            hex::encode(self.root())
        )
    }
}

/// Root over hashes, taken as the leaves of a tree of their own (RFC 6962 §2.1).
///
/// Over a full tile it is the hash that stands for the tile one level up.
pub fn root_of(hashes: &[Hash]) -> Hash {
    let mut frontier = Frontier::new();
    frontier.extend(hashes.iter().copied());
    frontier.root()
}

/// Root over full subtrees that lie side by side, each smaller than the one to its left.
pub(crate) fn join(subtrees: impl DoubleEndedIterator<Item = Hash>) -> Hash {
    subtrees
        .rev()
        .reduce(|right, left| node_hash(&left, &right))
        .unwrap_or(EMPTY_ROOT)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{
        hash::leaf_hash,
        reference::{CT_LEAVES, CT_ROOTS, root},
    };

    #[test]
    fn roots_are_those_of_the_certificate_transparency_vectors() {
        let mut frontier = Frontier::new();
        assert_eq!(frontier.root(), EMPTY_ROOT);
        for (leaf, root) in CT_LEAVES.iter().zip(CT_ROOTS) {
            frontier.push(leaf_hash(leaf));
            assert_eq!(
                hex::encode(frontier.root()),
                root,
                "{} leaves",
                frontier.count()
            );
        }
    }

    #[test]
    fn frontier_of_a_wrong_length_is_refused() {
        assert!(Frontier::from_bytes(3, &[0; 32]).is_err());
        assert!(Frontier::from_bytes(1, &[0; 31]).is_err());
        assert!(Frontier::from_bytes(0, &[]).is_ok());
        let all = [0; 64 * 32];
        assert!(Frontier::from_bytes(MAX_SIZE, &all[32..]).is_ok());
        assert_eq!(
            Frontier::from_bytes(u64::MAX, &all),
            Err(FrontierError::TooLarge { count: u64::MAX })
        );
    }

    proptest! {
        #[test]
        fn frontier_agrees_with_the_definition(count in 0_u16..600) {
            let leaves: Vec<Hash> = (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect();
            let mut frontier = Frontier::new();
            frontier.extend(leaves.iter().copied());
            prop_assert_eq!(frontier.root(), root(&leaves));
            let read = Frontier::from_bytes(frontier.count(), &frontier.to_bytes()).unwrap();
            prop_assert_eq!(read, frontier);
        }
    }
}
