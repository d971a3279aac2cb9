//! RFC 6962 hashing: the frontier of a growing tree, and the digest of one direction of a call.
//!
//! Both trees of this crate are of this form: the tree over a ledger's entries and the small tree over the
//! messages of one direction. `leaf = SHA-256(0x00 ‖ content)`, `node = SHA-256(0x01 ‖ left ‖ right)`, and the
//! root of no leaves is `SHA-256("")` (RFC 6962 §2.1).

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256, digest};
use banqiao_proto::ledger::v1 as proto;

mod message;

pub use message::MessageDigest;

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Root of a tree without leaves: `SHA-256("")`.
pub const EMPTY_ROOT: Hash = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24,
    0x27, 0xae, 0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Hash of a leaf: `SHA-256(0x00 ‖ content)`.
pub fn leaf_hash(content: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(&[0]);
    context.update(content);
    finish(context)
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

fn finish(context: Context) -> Hash {
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// Why bytes are not a frontier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frontier of {count} leaves has {} hashes, not {found} bytes", .count.count_ones())]
pub struct FrontierError {
    count: u64,
    found: usize,
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
    /// When the length does not fit the count.
    pub fn from_bytes(count: u64, bytes: &[u8]) -> Result<Self, FrontierError> {
        let (hashes, rest) = bytes.as_chunks::<32>();
        let expected = usize::try_from(count.count_ones()).unwrap_or(usize::MAX);
        if !rest.is_empty() || hashes.len() != expected {
            return Err(FrontierError {
                count,
                found: bytes.len(),
            });
        }
        Ok(Self {
            count,
            hashes: hashes.to_vec(),
        })
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
        let mut subtrees = self.hashes.iter().rev();
        let Some(smallest) = subtrees.next() else {
            return EMPTY_ROOT;
        };
        subtrees.fold(*smallest, |right, left| node_hash(left, &right))
    }

    /// The frontier as entries hold it.
    pub fn to_proto(&self) -> proto::Frontier {
        proto::Frontier {
            count: self.count,
            hashes: self.hashes.iter().map(|hash| hash.to_vec()).collect(),
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
        finish(self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// RFC 6962 §2.1, word by word: the definition that the frontier has to agree with.
    fn reference_root(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => sha256(b""),
            [leaf] => *leaf,
            _ => {
                let half = leaves.len().next_power_of_two() / 2;
                node_hash(
                    &reference_root(&leaves[..half]),
                    &reference_root(&leaves[half..]),
                )
            }
        }
    }

    /// Roots of the eight test leaves of the Certificate Transparency reference implementation.
    #[test]
    fn roots_are_those_of_the_certificate_transparency_vectors() {
        let leaves: [&[u8]; 8] = [
            b"",
            b"\x00",
            b"\x10",
            b"\x20\x21",
            b"\x30\x31",
            b"\x40\x41\x42\x43",
            b"\x50\x51\x52\x53\x54\x55\x56\x57",
            b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
        ];
        let roots = [
            "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
            "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
            "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
            "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
            "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
            "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
            "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
            "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
        ];
        let mut frontier = Frontier::new();
        assert_eq!(frontier.root(), EMPTY_ROOT);
        assert_eq!(EMPTY_ROOT, sha256(b""));
        for (leaf, root) in leaves.iter().zip(roots) {
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
    }

    proptest! {
        #[test]
        fn frontier_agrees_with_the_definition(count in 0_u16..600) {
            let leaves: Vec<Hash> = (0..count).map(|i| leaf_hash(&i.to_be_bytes())).collect();
            let mut frontier = Frontier::new();
            for leaf in &leaves {
                frontier.push(*leaf);
            }
            prop_assert_eq!(frontier.root(), reference_root(&leaves));
            let read = Frontier::from_bytes(frontier.count(), &frontier.to_bytes()).unwrap();
            prop_assert_eq!(read, frontier);
        }
    }
}
