//! RFC 6962 hashing, and the digest of one direction of a call.
//!
//! Both trees of this crate are of this form: the tree over a ledger's entries and the small tree over the
//! messages of one direction. `leaf = SHA-256(0x00 ‖ content)`, `node = SHA-256(0x01 ‖ left ‖ right)`, and the
//! root of no leaves is `SHA-256("")` (RFC 6962 §2.1).

use aws_lc_rs::digest::{Context, SHA256};
use banqiao_proto::ledger::v1 as proto;

mod message;

pub use banqiao_tlog::{
    frontier::{Frontier, FrontierError},
    hash::{EMPTY_ROOT, Hash, leaf_hash, node_hash, sha256},
};
pub use message::MessageDigest;

/// A frontier as entries hold it.
pub fn frontier_to_proto(frontier: &Frontier) -> proto::Frontier {
    proto::Frontier {
        count: frontier.count(),
        hashes: frontier.hashes().iter().map(|hash| hash.to_vec()).collect(),
    }
}

/// A leaf whose content arrives in pieces.
struct Leaf(Context);

impl Leaf {
    fn begin() -> Self {
        let mut context = Context::new(&SHA256);
        context.update(&[0]);
        Self(context)
    }

    fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    fn finish(self) -> Hash {
        let mut hash = [0; 32];
        hash.copy_from_slice(self.0.finish().as_ref());
        hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaf_in_pieces_is_the_leaf() {
        let mut leaf = Leaf::begin();
        for piece in [&b"ab"[..], b"", b"c"] {
            leaf.update(piece);
        }
        assert_eq!(leaf.finish(), leaf_hash(b"abc"));
    }

    #[test]
    fn frontier_of_an_entry_has_all_hashes() {
        let mut frontier = Frontier::new();
        frontier.extend((0..7_u8).map(|index| leaf_hash(&[index])));
        let entry = frontier_to_proto(&frontier);
        assert_eq!(entry.count, 7);
        assert_eq!(entry.hashes.concat(), frontier.to_bytes());
    }
}
