//! RFC 6962 hashing: `leaf = SHA-256(0x00 ‖ content)`, `node = SHA-256(0x01 ‖ left ‖ right)` (§2.1).

use aws_lc_rs::digest::{Context, SHA256, digest};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Root of a tree without leaves: `SHA-256("")`.
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// The largest tree that is spoken of: sizes are signed 64-bit numbers in databases and in other implementations.
pub const MAX_SIZE: u64 = i64::MAX.cast_unsigned();

/// Hash of a leaf: `SHA-256(0x00 ‖ content)`.
pub fn leaf_hash(content: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(content);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Hash of a node: `SHA-256(0x01 ‖ left ‖ right)`.
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut content = [1; 65];
    content[1..33].copy_from_slice(left);
    content[33..].copy_from_slice(right);
    sha256(&content)
}

/// SHA-256 of bytes.
pub fn sha256(content: &[u8]) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, content).as_ref());
    hash
}

/// A tree at one size: what a checkpoint states and what proofs are about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TreeHead {
    /// Leaves.
    pub size: u64,
    /// Root over them (RFC 6962 §2.1).
    pub root: Hash,
}

impl TreeHead {
    /// The tree without leaves.
    pub const EMPTY: Self = Self {
        size: 0,
        root: EMPTY_ROOT,
    };
}

impl std::fmt::Debug for TreeHead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "TreeHead({} leaves, root {})",
            self.size,
            hex::encode(self.root)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_of_no_leaves_is_the_hash_of_nothing() {
        assert_eq!(sha256(b""), EMPTY_ROOT);
    }

    #[test]
    fn leaves_and_nodes_are_apart() {
        // transparency-dev/merkle rfc6962/rfc6962_test.go: "RFC6962 Empty Leaf", "RFC6962 Leaf", "RFC6962 Node".
        assert_eq!(
            hex::encode(leaf_hash(b"")),
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
        );
        assert_eq!(
            hex::encode(leaf_hash(b"L123456")),
            "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
        );
        let mut content = vec![1];
        content.extend_from_slice(&[7; 64]);
        assert_eq!(node_hash(&[7; 32], &[7; 32]), sha256(&content));
    }
}
