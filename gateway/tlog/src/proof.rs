//! Inclusion and consistency proofs: verified here, made from tiles in `generate`.
//!
//! The verifiers follow RFC 9162 §2.1.3.2 and §2.1.4.2 to the letter and are strict: a proof has exactly the
//! hashes it needs, and the empty tree proves nothing.

use crate::hash::{Hash, TreeHead, node_hash};

mod generate;

pub use generate::{
    SourceError, consistency_proof, consistency_tiles, inclusion_proof, inclusion_tiles,
    root_tiles, tree_root,
};

/// The most hashes that a proof in a tree of at most [`MAX_SIZE`](crate::hash::MAX_SIZE) can have.
pub const MAX_PROOF_HASHES: usize = 64;

/// Why a proof is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// The empty tree contains nothing and says nothing of what follows it.
    #[error("nothing is proven of an empty tree")]
    EmptyTree,
    /// A hash is not 32 bytes.
    #[error("hash {position} of the proof has {found} bytes, not 32")]
    HashLength {
        /// Which hash, from 0.
        position: usize,
        /// Its bytes.
        found: usize,
    },
    /// The leaf lies outside the tree.
    #[error("leaf {index} is not in a tree of {size}")]
    Index {
        /// The leaf.
        index: u64,
        /// Leaves.
        size: u64,
    },
    /// The proof does not lead to the older root.
    #[error("the proof does not lead to the older root")]
    OldRoot,
    /// The proof does not lead to the root.
    #[error("the proof does not lead to the root")]
    Root,
    /// The older tree is larger than the newer one.
    #[error("a tree of {old} leaves does not grow into one of {new}")]
    Shrunk {
        /// Leaves of the older tree.
        old: u64,
        /// Leaves of the newer tree.
        new: u64,
    },
    /// More hashes than the proof needs.
    #[error("the proof has too many hashes")]
    TooLong,
    /// Fewer hashes than the proof needs.
    #[error("the proof has too few hashes")]
    TooShort,
}

/// Reads the hashes of a proof as a message carries them.
///
/// # Errors
///
/// [`ProofError::TooLong`] above [`MAX_PROOF_HASHES`], [`ProofError::HashLength`].
pub fn proof_hashes(hashes: &[impl AsRef<[u8]>]) -> Result<Vec<Hash>, ProofError> {
    if hashes.len() > MAX_PROOF_HASHES {
        return Err(ProofError::TooLong);
    }
    hashes
        .iter()
        .enumerate()
        .map(|(position, hash)| {
            let hash = hash.as_ref();
            hash.try_into().map_err(|_| ProofError::HashLength {
                position,
                found: hash.len(),
            })
        })
        .collect()
}

/// Verifies that `leaf`, a leaf hash, is the leaf `index` of the tree (RFC 9162 §2.1.3.2).
///
/// # Errors
///
/// See [`ProofError`]. Whatever fails, the leaf is not proven.
pub fn verify_inclusion(
    leaf: &Hash,
    index: u64,
    proof: &[Hash],
    tree: &TreeHead,
) -> Result<(), ProofError> {
    if tree.size == 0 {
        return Err(ProofError::EmptyTree);
    }
    if index >= tree.size {
        return Err(ProofError::Index {
            index,
            size: tree.size,
        });
    }
    let (mut node, mut last) = (index, tree.size - 1);
    let mut root = *leaf;
    for hash in proof {
        if last == 0 {
            return Err(ProofError::TooLong);
        }
        if node & 1 == 1 || node == last {
            root = node_hash(hash, &root);
            skip_missing_levels(&mut node, &mut last);
        } else {
            root = node_hash(&root, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::TooShort);
    }
    if root != tree.root {
        return Err(ProofError::Root);
    }
    Ok(())
}

/// The root of the tree of the leaves up to and with `index`, as the tree `tree` has them: what an older head of the same
/// log must be.
///
/// Of a signed tree and a verified inclusion proof this is proof too: a signed older head with another root is a fork,
/// whoever made the proof.
///
/// # Errors
///
/// As of [`verify_inclusion`].
pub fn prefix_root(
    leaf: &Hash,
    index: u64,
    proof: &[Hash],
    tree: &TreeHead,
) -> Result<Hash, ProofError> {
    verify_inclusion(leaf, index, proof, tree)?;
    let (mut node, mut last) = (index, tree.size - 1);
    let mut root = *leaf;
    for hash in proof {
        if node & 1 == 1 || node == last {
            root = node_hash(hash, &root);
            skip_missing_levels(&mut node, &mut last);
        }
        // What stands to the right came later.
        node >>= 1;
        last >>= 1;
    }
    Ok(root)
}

/// Verifies that the tree `new` is the tree `old` with leaves appended (RFC 9162 §2.1.4.2).
///
/// Trees of one size are consistent when their roots are equal; the proof is empty then.
///
/// # Errors
///
/// See [`ProofError`]. Over two signed roots, [`ProofError::OldRoot`] and [`ProofError::Root`] mean a fork or a bad
/// proof.
pub fn verify_consistency(
    old: &TreeHead,
    new: &TreeHead,
    proof: &[Hash],
) -> Result<(), ProofError> {
    if old.size == 0 || new.size == 0 {
        return Err(ProofError::EmptyTree);
    }
    if old.size > new.size {
        return Err(ProofError::Shrunk {
            old: old.size,
            new: new.size,
        });
    }
    if old.size == new.size {
        return match proof {
            [] if old.root == new.root => Ok(()),
            [] => Err(ProofError::Root),
            _ => Err(ProofError::TooLong),
        };
    }
    // A full subtree is its own first hash, which the proof leaves out.
    let (first, rest) = match proof {
        [] => return Err(ProofError::TooShort),
        _ if old.size.is_power_of_two() => (&old.root, proof),
        [first, rest @ ..] => (first, rest),
    };
    let (mut node, mut last) = (old.size - 1, new.size - 1);
    let full = node.trailing_ones();
    node >>= full;
    last >>= full;
    let (mut old_root, mut root) = (*first, *first);
    for hash in rest {
        if last == 0 {
            return Err(ProofError::TooLong);
        }
        if node & 1 == 1 || node == last {
            old_root = node_hash(hash, &old_root);
            root = node_hash(hash, &root);
            skip_missing_levels(&mut node, &mut last);
        } else {
            root = node_hash(&root, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    if last != 0 {
        return Err(ProofError::TooShort);
    }
    if old_root != old.root {
        return Err(ProofError::OldRoot);
    }
    if root != new.root {
        return Err(ProofError::Root);
    }
    Ok(())
}

/// At the right edge, a node that has no sibling is the same node one level up.
const fn skip_missing_levels(node: &mut u64, last: &mut u64) {
    while *node & 1 == 0 && *node != 0 {
        *node >>= 1;
        *last >>= 1;
    }
}

#[cfg(test)]
mod tests;
