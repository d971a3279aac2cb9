//! What the tests measure the crate against: RFC 6962 §2.1 word by word, and trees of any size.

use crate::{
    hash::{Hash, leaf_hash, node_hash, sha256},
    tile::TileId,
};

/// The eight test leaves of the Certificate Transparency reference implementation.
pub(crate) const CT_LEAVES: [&[u8]; 8] = [
    b"",
    b"\x00",
    b"\x10",
    b"\x20\x21",
    b"\x30\x31",
    b"\x40\x41\x42\x43",
    b"\x50\x51\x52\x53\x54\x55\x56\x57",
    b"\x60\x61\x62\x63\x64\x65\x66\x67\x68\x69\x6a\x6b\x6c\x6d\x6e\x6f",
];

/// Roots over the first one to eight of them (`testonly/constants.go` of transparency-dev/merkle).
pub(crate) const CT_ROOTS: [&str; 8] = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
];

/// `MTH` of RFC 6962 §2.1.
pub(crate) fn root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => sha256(b""),
        [leaf] => *leaf,
        _ => {
            let (left, right) = leaves.split_at(split(leaves.len()));
            node_hash(&root(left), &root(right))
        }
    }
}

/// `PATH` of RFC 6962 §2.1.1.
pub(crate) fn path(index: usize, leaves: &[Hash]) -> Vec<Hash> {
    if leaves.len() < 2 {
        return Vec::new();
    }
    let k = split(leaves.len());
    let (left, right) = leaves.split_at(k);
    let (mut path, sibling) = if index < k {
        (path(index, left), right)
    } else {
        (path(index - k, right), left)
    };
    path.push(root(sibling));
    path
}

/// `PROOF` of RFC 6962 §2.1.2.
pub(crate) fn proof(old: usize, leaves: &[Hash]) -> Vec<Hash> {
    fn subproof(old: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if old == leaves.len() {
            return if whole {
                Vec::new()
            } else {
                vec![root(leaves)]
            };
        }
        let k = split(leaves.len());
        let (left, right) = leaves.split_at(k);
        let (mut proof, sibling) = if old <= k {
            (subproof(old, left, whole), right)
        } else {
            (subproof(old - k, right, false), left)
        };
        proof.push(root(sibling));
        proof
    }
    subproof(old, leaves, true)
}

fn split(count: usize) -> usize {
    count.next_power_of_two() / 2
}

/// Leaves that all differ.
pub(crate) fn leaves(count: usize) -> Vec<Hash> {
    (0..count)
        .map(|index| leaf_hash(format!("leaf {index}").as_bytes()))
        .collect()
}

/// The hashes of one tile, by the definition in C2SP `tlog-tiles`, Merkle Tree.
pub(crate) fn tile(id: TileId, leaves: &[Hash]) -> Vec<Hash> {
    let span = 256_usize.pow(u32::from(id.level()));
    let first = usize::try_from(id.index()).unwrap() * 256;
    (first..first + usize::from(id.width()))
        .map(|i| root(&leaves[i * span..(i + 1) * span]))
        .collect()
}

/// A tree whose leaves are all the same, so that every hash of it is known at any size.
pub(crate) struct Uniform {
    /// Root of a full subtree, by height.
    subtrees: Vec<Hash>,
    /// A full tile, by level.
    tiles: Vec<Vec<Hash>>,
}

impl Uniform {
    pub(crate) fn new() -> Self {
        let mut subtrees = vec![leaf_hash(b"uniform")];
        for height in 0..63 {
            subtrees.push(node_hash(&subtrees[height], &subtrees[height]));
        }
        let tiles = (0..8).map(|level| vec![subtrees[level * 8]; 256]).collect();
        Self { subtrees, tiles }
    }

    pub(crate) fn leaf(&self) -> Hash {
        self.subtrees[0]
    }

    pub(crate) fn tile(&self, id: TileId) -> Option<&[Hash]> {
        Some(&self.tiles[usize::from(id.level())][..usize::from(id.width())])
    }

    pub(crate) fn root(&self, size: u64) -> Hash {
        (0..64)
            .filter(|height| size >> height & 1 == 1)
            .map(|height| self.subtrees[height])
            .reduce(|right, left| node_hash(&left, &right))
            .unwrap_or_else(|| sha256(b""))
    }
}
