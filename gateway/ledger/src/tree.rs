//! The inclusion proofs of one commit.
//!
//! They need nothing of the database: whatever stands to the left of a new leaf is in the frontier that the commit
//! began with, and whatever stands to its right came with it.

use std::sync::{Arc, OnceLock};

use crate::digest::{Frontier, Hash, node_hash};

/// The nodes of one height that a batch made or changed, from number `first` on.
#[derive(Debug)]
struct Row {
    first: u64,
    nodes: Vec<Hash>,
}

/// The entries of one commit in the tree of its checkpoint.
///
/// Its nodes are computed where the first proof is asked for, not on the thread that commits: about one hash a leaf
/// for the whole batch, and none for each proof.
#[derive(Debug)]
pub(crate) struct Batch {
    before: Frontier,
    leaves: Vec<Hash>,
    rows: OnceLock<Vec<Row>>,
    checkpoint: Arc<str>,
}

impl Batch {
    /// Leaves that were appended at once behind a frontier, and the checkpoint of the tree with them.
    pub(crate) const fn new(before: Frontier, leaves: Vec<Hash>, checkpoint: Arc<str>) -> Self {
        Self {
            before,
            leaves,
            rows: OnceLock::new(),
            checkpoint,
        }
    }

    /// The checkpoint that was signed over the tree after this commit: a C2SP signed note.
    pub(crate) fn checkpoint(&self) -> &str {
        &self.checkpoint
    }

    /// Entries of the ledger at that checkpoint.
    pub(crate) fn size(&self) -> u64 {
        self.before.count() + u64::try_from(self.leaves.len()).unwrap_or(0)
    }

    /// The nodes of every height, from the leaves to the root.
    fn rows(&self) -> &[Row] {
        self.rows.get_or_init(|| {
            let mut row = Row {
                first: self.before.count(),
                nodes: self.leaves.clone(),
            };
            let mut rows = Vec::new();
            while row.first > 0 || row.nodes.len() > 1 {
                let height = u32::try_from(rows.len()).unwrap_or(u32::MAX);
                let above = row.above(|| subtree(&self.before, height));
                rows.push(row);
                row = above;
            }
            rows.push(row);
            rows
        })
    }

    /// The inclusion proof of one of this commit's entries in the tree of its checkpoint (RFC 6962 §2.1.1).
    /// `None` for an entry of another commit.
    pub(crate) fn inclusion(&self, index: u64) -> Option<Vec<Hash>> {
        if index < self.before.count() || index >= self.size() {
            return None;
        }
        let mut number = index;
        let rows = self.rows();
        let mut path = Vec::with_capacity(rows.len());
        for (row, height) in rows.iter().zip(0_u32..) {
            let sibling = number ^ 1;
            if sibling < row.first {
                path.push(subtree(&self.before, height)?);
            } else if let Some(node) = usize::try_from(sibling - row.first)
                .ok()
                .and_then(|at| row.nodes.get(at))
            {
                path.push(*node);
            }
            number /= 2;
        }
        Some(path)
    }
}

impl Row {
    /// The nodes one higher. `left` gives the node before the first, which the batch did not change.
    fn above(&self, left: impl FnOnce() -> Option<Hash>) -> Self {
        let mut nodes = Vec::with_capacity(self.nodes.len() / 2 + 1);
        let mut rest = self.nodes.as_slice();
        if self.first % 2 == 1
            && let Some((node, others)) = rest.split_first()
        {
            nodes.push(left().map_or(*node, |left| node_hash(&left, node)));
            rest = others;
        }
        let (pairs, last) = rest.as_chunks::<2>();
        nodes.extend(pairs.iter().map(|[left, right]| node_hash(left, right)));
        // A node without a right sibling stands for itself one higher (RFC 6962 §2.1).
        nodes.extend(last);
        Self {
            first: self.first / 2,
            nodes,
        }
    }
}

/// The root of the full subtree of 2^height leaves at the frontier's right edge.
fn subtree(frontier: &Frontier, height: u32) -> Option<Hash> {
    let count = frontier.count();
    if height >= u64::BITS || count >> height & 1 == 0 {
        return None;
    }
    let larger = (count >> height >> 1).count_ones();
    frontier
        .hashes()
        .get(usize::try_from(larger).ok()?)
        .copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::leaf_hash;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count).map(|n| leaf_hash(&n.to_be_bytes())).collect()
    }

    fn frontier(leaves: &[Hash]) -> Frontier {
        let mut frontier = Frontier::new();
        for leaf in leaves {
            frontier.push(*leaf);
        }
        frontier
    }

    /// RFC 6962 §2.1.1, word by word.
    fn reference(index: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() < 2 {
            return Vec::new();
        }
        let half = leaves.len().next_power_of_two() / 2;
        let (left, right) = leaves.split_at(half);
        let (mut path, other) = if index < half {
            (reference(index, left), right)
        } else {
            (reference(index - half, right), left)
        };
        path.push(frontier(other).root());
        path
    }

    #[test]
    fn proofs_of_a_batch_are_those_of_the_whole_tree() {
        for before in [0, 1, 2, 3, 7, 8, 9, 31, 100, 255, 256, 257, 511] {
            for added in [1, 2, 3, 8, 33, 64, 257] {
                let all = leaves(before + added);
                let (old, new) = all.split_at(usize::try_from(before).unwrap());
                let batch = Batch::new(frontier(old), new.to_vec(), "".into());
                assert_eq!(batch.size(), before + added);
                assert_eq!(batch.rows().last().unwrap().nodes, [frontier(&all).root()]);
                for index in before..before + added {
                    let expected = reference(usize::try_from(index).unwrap(), &all);
                    assert_eq!(
                        batch.inclusion(index),
                        Some(expected),
                        "{index} of {before} + {added}"
                    );
                }
                assert_eq!(batch.inclusion(before + added), None);
                assert_eq!(before.checked_sub(1).and_then(|n| batch.inclusion(n)), None);
            }
        }
    }
}
