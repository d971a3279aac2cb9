use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{
    hash::{MAX_SIZE, leaf_hash, sha256},
    reference::{self, CT_LEAVES, CT_ROOTS, Uniform},
    text,
    tile::{TileId, tiles},
};

/// Every tile of a tree, by the definition.
fn all_tiles(leaves: &[Hash]) -> BTreeMap<TileId, Vec<Hash>> {
    tiles(leaves.len() as u64)
        .map(|id| (id, reference::tile(id, leaves)))
        .collect()
}

/// A source of only the tiles that a generator said it needs.
fn only<'t>(
    all: &'t BTreeMap<TileId, Vec<Hash>>,
    needed: Result<Vec<TileId>, SourceError>,
) -> impl Fn(TileId) -> Option<&'t [Hash]> {
    let needed = needed.unwrap();
    move |id| {
        let hashes = needed.contains(&id).then(|| all.get(&id))?;
        hashes.map(|hashes| &hashes[..])
    }
}

fn hash(text: &str) -> Hash {
    text::hash(text).unwrap()
}

fn vectors(file: &str) -> Vec<Vec<&str>> {
    file.lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| line.split('\t').collect())
        .collect()
}

/// A root or leaf hash of a vector. Some are words instead of hashes, which would be refused for their length and not
/// for what the vector is about: a hash stands for the word.
fn read_hash(field: &str) -> Option<Hash> {
    match field {
        "-" => None,
        _ => text::hash(field).or_else(|| Some(sha256(&text::decode(field)?))),
    }
}

/// The proof of a vector, or nothing when a hash is not 32 bytes.
fn read(field: &str) -> Option<Vec<Hash>> {
    let bytes: Vec<Vec<u8>> = match field {
        "." => Vec::new(),
        _ => field
            .split(' ')
            .map(|hash| text::decode(hash.trim_matches('-')).unwrap())
            .collect(),
    };
    proof_hashes(&bytes).ok()
}

/// `testdata/inclusion` of transparency-dev/merkle.
#[test]
fn prefix_of_a_tree_has_the_root_that_it_had_then() {
    let leaves: Vec<Hash> = (0..70_u64).map(|n| leaf_hash(&n.to_be_bytes())).collect();
    for size in 1..=leaves.len() {
        let all = &leaves[..size];
        let tree = TreeHead {
            size: size as u64,
            root: reference::root(all),
        };
        for index in 0..size {
            let proof = reference::path(index, all);
            let prefix = prefix_root(&leaves[index], index as u64, &proof, &tree);
            assert_eq!(
                prefix,
                Ok(reference::root(&leaves[..=index])),
                "{index} of {size}"
            );
            let mut wrong = proof;
            if let Some(hash) = wrong.last_mut() {
                hash[0] ^= 1;
                let prefix = prefix_root(&leaves[index], index as u64, &wrong, &tree);
                assert_eq!(prefix, Err(ProofError::Root));
            }
        }
    }
}

#[test]
fn inclusion_vectors_are_judged_as_published() {
    let vectors = vectors(include_str!("../../testdata/inclusion.tsv"));
    assert_eq!(vectors.len(), 98);
    for vector in vectors {
        let [verdict, index, size, leaf, root, proof, name] = vector[..] else {
            panic!("{vector:?}");
        };
        let valid = || {
            let tree = TreeHead {
                size: size.parse().unwrap(),
                root: read_hash(root)?,
            };
            let leaf = read_hash(leaf)?;
            verify_inclusion(&leaf, index.parse().unwrap(), &read(proof)?, &tree).ok()
        };
        assert_eq!(valid().is_some(), verdict == "valid", "{name}");
    }
}

/// `testdata/consistency` of transparency-dev/merkle.
#[test]
fn consistency_vectors_are_judged_as_published() {
    let vectors = vectors(include_str!("../../testdata/consistency.tsv"));
    assert_eq!(vectors.len(), 98);
    for vector in vectors {
        let [verdict, old_size, size, old_root, root, proof, name] = vector[..] else {
            panic!("{vector:?}");
        };
        let head = |size: &str, root| {
            Some(TreeHead {
                size: size.parse().unwrap(),
                root: read_hash(root)?,
            })
        };
        let valid = || {
            verify_consistency(
                &head(old_size, old_root)?,
                &head(size, root)?,
                &read(proof)?,
            )
            .ok()
        };
        assert_eq!(valid().is_some(), verdict == "valid", "{name}");
    }
}

/// The proofs that RFC 6962 §2.1.3 shows of a tree of seven leaves, by the names it gives to the nodes.
#[test]
fn proofs_are_those_of_the_rfc_example() {
    let leaves: Vec<Hash> = CT_LEAVES[..7].iter().map(|leaf| leaf_hash(leaf)).collect();
    let [a, b, c, d, e, f, j] = leaves[..] else {
        panic!("seven leaves");
    };
    let (g, h, i) = (node_hash(&a, &b), node_hash(&c, &d), node_hash(&e, &f));
    let (k, l) = (node_hash(&g, &h), node_hash(&i, &j));
    let root = node_hash(&k, &l);
    assert_eq!(hex::encode(root), CT_ROOTS[6]);
    let all = all_tiles(&leaves);
    let source = |id: TileId| all.get(&id).map(|hashes| &hashes[..]);
    assert_eq!(inclusion_proof(0, 7, &source), Ok(vec![b, h, l]));
    assert_eq!(inclusion_proof(3, 7, &source), Ok(vec![c, g, l]));
    assert_eq!(inclusion_proof(4, 7, &source), Ok(vec![f, j, k]));
    assert_eq!(inclusion_proof(6, 7, &source), Ok(vec![i, k]));
    assert_eq!(consistency_proof(3, 7, &source), Ok(vec![c, d, g, l]));
    assert_eq!(consistency_proof(4, 7, &source), Ok(vec![l]));
    assert_eq!(consistency_proof(6, 7, &source), Ok(vec![i, j, k]));
    assert_eq!(tree_root(7, &source), Ok(root));
}

/// Answers of the Certificate Transparency log Google Argon 2020, as golang.org/x/mod keeps them in
/// `sumdb/tlog/testdata/argon2020`.
#[test]
fn proofs_of_a_public_log_are_verified() {
    let mut lines = include_str!("../../testdata/argon2020.txt")
        .lines()
        .filter(|line| !line.starts_with('#'));
    let entry = text::decode(lines.next().unwrap()).unwrap();
    let inclusion = read(lines.next().unwrap()).unwrap();
    let consistency = read(lines.next().unwrap()).unwrap();
    let tree = TreeHead {
        size: 961_984_013,
        root: hash("dwlueapdd7LaOEnX2W2Wp9v2XE+KzejHRQGHwEx0oaM="),
    };
    let old = TreeHead {
        size: 3_654_490,
        root: hash("AuIZ5V6sDUj1vn3Y1K85oOaQ7y+FJJKtyRTl1edIKBQ="),
    };
    let leaf = leaf_hash(&entry);
    assert_eq!(verify_inclusion(&leaf, 10_000, &inclusion, &tree), Ok(()));
    assert_eq!(
        verify_inclusion(&leaf, 10_001, &inclusion, &tree),
        Err(ProofError::Root)
    );
    assert_eq!(verify_consistency(&old, &tree, &consistency), Ok(()));
    let other = TreeHead {
        size: old.size + 1,
        ..old
    };
    assert!(verify_consistency(&other, &tree, &consistency).is_err());
}

#[test]
fn nothing_is_proven_outside_the_tree() {
    let tree = |size| TreeHead { size, root: EMPTY };
    const EMPTY: Hash = crate::hash::EMPTY_ROOT;
    assert_eq!(
        verify_inclusion(&EMPTY, 0, &[], &tree(0)),
        Err(ProofError::EmptyTree)
    );
    assert_eq!(
        verify_inclusion(&EMPTY, 1, &[], &tree(1)),
        Err(ProofError::Index { index: 1, size: 1 })
    );
    assert_eq!(
        verify_consistency(&tree(0), &tree(0), &[]),
        Err(ProofError::EmptyTree)
    );
    assert_eq!(
        verify_consistency(&tree(0), &tree(1), &[]),
        Err(ProofError::EmptyTree)
    );
    assert_eq!(
        verify_consistency(&tree(2), &tree(1), &[]),
        Err(ProofError::Shrunk { old: 2, new: 1 })
    );
    assert_eq!(inclusion_tiles(0, 0), Err(SourceError::EmptyTree));
    assert_eq!(
        inclusion_tiles(5, 5),
        Err(SourceError::Index { index: 5, size: 5 })
    );
    assert_eq!(consistency_tiles(0, 5), Err(SourceError::EmptyTree));
    assert_eq!(
        consistency_tiles(6, 5),
        Err(SourceError::Shrunk { old: 6, new: 5 })
    );
    assert_eq!(proof_hashes(&vec![[0; 32]; 65]), Err(ProofError::TooLong));
    assert_eq!(
        proof_hashes(&[vec![0; 32], vec![0; 31]]),
        Err(ProofError::HashLength {
            position: 1,
            found: 31
        })
    );
}

#[test]
fn tiles_that_are_missing_or_narrow_are_named() {
    let tile = TileId::new(0, 0, 7).unwrap();
    assert_eq!(
        inclusion_proof(0, 7, &|_| None),
        Err(SourceError::Missing(tile))
    );
    let narrow = [[0; 32]; 6];
    assert_eq!(
        consistency_proof(3, 7, &|_| Some(&narrow[..])),
        Err(SourceError::Width { tile, found: 6 })
    );
    assert_eq!(tree_root(0, &|_| None), Ok(crate::hash::EMPTY_ROOT));
    assert_eq!(tree_root(7, &|_| None), Err(SourceError::Missing(tile)));
}

#[test]
fn proofs_agree_with_the_definition_at_every_size_up_to_300() {
    let leaves = reference::leaves(300);
    for size in 1..=300 {
        let leaves = &leaves[..size];
        let all = all_tiles(leaves);
        let source = |id: TileId| all.get(&id).map(|hashes| &hashes[..]);
        let n = size as u64;
        let tree = TreeHead {
            size: n,
            root: reference::root(leaves),
        };
        assert_eq!(tree_root(n, &source), Ok(tree.root));
        // All pairs up to 100, then the ones next to edges and a sample of the rest.
        for m in (1..=size).filter(|m| size <= 100 || m % 7 == size % 7 || size - m < 3 || *m < 3) {
            let index = m as u64 - 1;
            let path = inclusion_proof(index, n, &source).unwrap();
            assert_eq!(path, reference::path(m - 1, leaves));
            assert_eq!(
                verify_inclusion(&leaves[m - 1], index, &path, &tree),
                Ok(())
            );
            let old = TreeHead {
                size: m as u64,
                root: reference::root(&leaves[..m]),
            };
            let proof = consistency_proof(old.size, n, &source).unwrap();
            assert_eq!(proof, reference::proof(m, leaves));
            assert_eq!(verify_consistency(&old, &tree, &proof), Ok(()));
        }
    }
}

/// Every way to spoil a list of hashes a little.
fn mutations(proof: &[Hash], bit: usize) -> Vec<Vec<Hash>> {
    let mut all = Vec::new();
    for position in 0..proof.len() {
        let mut flipped = proof.to_vec();
        flipped[position][bit / 8] ^= 1 << (bit % 8);
        let mut removed = proof.to_vec();
        removed.remove(position);
        let mut doubled = proof.to_vec();
        doubled.insert(position, proof[position]);
        all.extend([flipped, removed, doubled, proof[..position].to_vec()]);
        if position > 0 {
            let mut swapped = proof.to_vec();
            swapped.swap(position - 1, position);
            all.push(swapped);
        }
    }
    for extra in [[0; 32], crate::hash::EMPTY_ROOT] {
        all.push([&[extra], proof].concat());
        all.push([proof, &[extra]].concat());
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn proofs_from_needed_tiles_agree_with_the_definition(size in 1_usize..70_000, at: prop::sample::Index) {
        let leaves = reference::leaves(size);
        let all = all_tiles(&leaves);
        let (index, n) = (at.index(size), size as u64);
        let source = only(&all, inclusion_tiles(index as u64, n));
        let path = inclusion_proof(index as u64, n, &source).unwrap();
        prop_assert_eq!(path, reference::path(index, &leaves));
        let old = index as u64 + 1;
        let source = only(&all, consistency_tiles(old, n));
        let proof = consistency_proof(old, n, &source).unwrap();
        prop_assert_eq!(proof, reference::proof(index + 1, &leaves));
        let source = only(&all, Ok(root_tiles(n)));
        prop_assert_eq!(tree_root(n, &source), Ok(reference::root(&leaves)));
    }
}

proptest! {
    #[test]
    fn no_spoiled_inclusion_proof_is_taken(size in 1_usize..300, at: prop::sample::Index, bit in 0_usize..256) {
        let leaves = reference::leaves(size);
        let index = at.index(size);
        let path = reference::path(index, &leaves);
        let tree = TreeHead { size: size as u64, root: reference::root(&leaves) };
        let (leaf, index) = (leaves[index], index as u64);
        prop_assert_eq!(verify_inclusion(&leaf, index, &path, &tree), Ok(()));
        for spoiled in mutations(&path, bit) {
            prop_assert!(verify_inclusion(&leaf, index, &spoiled, &tree).is_err());
        }
        for other in (0..tree.size).filter(|other| *other != index) {
            prop_assert!(verify_inclusion(&leaf, other, &path, &tree).is_err());
        }
        let mut other = leaf;
        other[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(verify_inclusion(&other, index, &path, &tree).is_err());
        let other = TreeHead { root: other, ..tree };
        prop_assert!(verify_inclusion(&leaf, index, &path, &other).is_err());
    }

    #[test]
    fn no_spoiled_consistency_proof_is_taken(size in 1_usize..300, at: prop::sample::Index, bit in 0_usize..256) {
        let leaves = reference::leaves(size);
        let older = at.index(size) + 1;
        let proof = reference::proof(older, &leaves);
        let new = TreeHead { size: size as u64, root: reference::root(&leaves) };
        let old = TreeHead { size: older as u64, root: reference::root(&leaves[..older]) };
        prop_assert_eq!(verify_consistency(&old, &new, &proof), Ok(()));
        for spoiled in mutations(&proof, bit) {
            prop_assert!(verify_consistency(&old, &new, &spoiled).is_err());
        }
        let spoil = |head: &TreeHead| {
            let mut head = *head;
            head.root[bit / 8] ^= 1 << (bit % 8);
            head
        };
        prop_assert!(verify_consistency(&spoil(&old), &new, &proof).is_err());
        prop_assert!(verify_consistency(&old, &spoil(&new), &proof).is_err());
        prop_assert!(size == older || verify_consistency(&new, &old, &proof).is_err());
    }

    #[test]
    fn proofs_of_any_size_are_made_and_verified(size in 1..=u64::MAX, shrink in 0_u32..64, at: u64, from: u64) {
        let size = (size >> shrink).max(1);
        let (index, older) = (at % size, from % size + 1);
        let uniform = Uniform::new();
        let source = |id| uniform.tile(id);
        let head = |size| TreeHead { size, root: uniform.root(size) };
        prop_assert_eq!(tree_root(size, &source), Ok(uniform.root(size)));
        let path = inclusion_proof(index, size, &source).unwrap();
        prop_assert!(path.len() <= MAX_PROOF_HASHES);
        prop_assert_eq!(verify_inclusion(&uniform.leaf(), index, &path, &head(size)), Ok(()));
        let proof = consistency_proof(older, size, &source).unwrap();
        prop_assert!(size > MAX_SIZE || proof.len() <= MAX_PROOF_HASHES);
        prop_assert_eq!(verify_consistency(&head(older), &head(size), &proof), Ok(()));
        prop_assert!(inclusion_tiles(index, size).unwrap().len() <= 24);
    }
}
