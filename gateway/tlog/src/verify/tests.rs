use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{hash::MAX_SIZE, reference, tile::tiles};

fn stored(leaves: &[Hash]) -> BTreeMap<TileId, Vec<u8>> {
    tiles(leaves.len() as u64)
        .map(|id| (id, reference::tile(id, leaves).concat()))
        .collect()
}

/// Verifies leaves against tiles, and the root at every size that `heads` has.
fn verify(
    tree: &mut TreeVerifier,
    leaves: &[Hash],
    stored: &BTreeMap<TileId, Vec<u8>>,
    heads: &[TreeHead],
) -> Result<(), Divergence> {
    let from = usize::try_from(tree.size()).unwrap();
    for leaf in &leaves[from..] {
        for tile in tree.push(*leaf) {
            compare_tile(&tile, stored.get(&tile.id()).map(|bytes| &bytes[..]))?;
        }
        let size = tree.size();
        for head in heads.iter().filter(|head| head.size == size) {
            tree.compare_head(head)?;
        }
    }
    for tile in tree.partial_tiles() {
        compare_tile(&tile, stored.get(&tile.id()).map(|bytes| &bytes[..]))?;
    }
    Ok(())
}

fn head(leaves: &[Hash], size: usize) -> TreeHead {
    TreeHead {
        size: size as u64,
        root: reference::root(&leaves[..size]),
    }
}

#[test]
fn whole_log_agrees_and_the_first_wrong_place_is_named() {
    let leaves = reference::leaves(66_000);
    let good = stored(&leaves);
    let heads = [1, 255, 256, 40_000, 65_536, 66_000].map(|size| head(&leaves, size));
    let mut tree = TreeVerifier::new();
    assert_eq!(verify(&mut tree, &leaves, &good, &heads), Ok(()));
    assert_eq!((tree.size(), tree.verified()), (66_000, 66_000));
    assert_eq!(tree.head(), heads[5]);

    // A flipped bit in a stored tile: at level 0 one leaf, at level 1 the 256 leaves of one tile.
    for (path, byte, leaves_under) in [
        ("tile/0/003", 32 * 7 + 5, 775..776),
        ("tile/1/000", 32 * 255, 65_280..65_536),
        ("tile/0/257.p/208", 31, 65_792..65_793),
        ("tile/2/000.p/1", 0, 0..65_536),
    ] {
        let tile: TileId = path.parse().unwrap();
        let mut bad = good.clone();
        bad.get_mut(&tile).unwrap()[byte] ^= 1;
        let divergence = verify(&mut TreeVerifier::new(), &leaves, &bad, &heads).unwrap_err();
        assert_eq!(divergence.first_index(), Some(leaves_under.start));
        assert_eq!(
            divergence,
            Divergence::Hash {
                tile,
                leaves: leaves_under
            }
        );

        bad.get_mut(&tile).unwrap().pop();
        let divergence = verify(&mut TreeVerifier::new(), &leaves, &bad, &heads).unwrap_err();
        assert!(matches!(divergence, Divergence::Tile(_)));
        assert!(divergence.first_index().is_some());

        bad.remove(&tile);
        let divergence = verify(&mut TreeVerifier::new(), &leaves, &bad, &heads).unwrap_err();
        assert_eq!(divergence, Divergence::Missing(tile));
    }

    // A changed leaf: found in its tile, and at the edge, where no tile is full, by the next root.
    for (index, first) in [(0, 0), (300, 300), (40_001, 40_001), (65_999, 65_999)] {
        let mut bad = leaves.clone();
        bad[index][0] ^= 1;
        let divergence = verify(&mut TreeVerifier::new(), &bad, &good, &[]).unwrap_err();
        assert_eq!(divergence.first_index(), Some(first));
    }
    let mut bad = leaves.clone();
    bad[65_990][0] ^= 1;
    assert_eq!(
        verify(&mut TreeVerifier::new(), &bad, &good, &heads),
        Err(Divergence::Root {
            size: 66_000,
            verified: 65_536
        })
    );
}

#[test]
fn root_of_another_size_is_not_compared() {
    let leaves = reference::leaves(3);
    let mut tree = TreeVerifier::new();
    assert_eq!(tree.compare_head(&TreeHead::EMPTY), Ok(()));
    tree.push(leaves[0]);
    assert_eq!(
        tree.compare_head(&head(&leaves, 2)),
        Err(Divergence::Size { size: 1, found: 2 })
    );
    assert_eq!(tree.compare_head(&head(&leaves, 1)), Ok(()));
}

#[test]
fn verification_goes_on_where_it_stopped() {
    let leaves = reference::leaves(66_000);
    let good = stored(&leaves);
    let heads = [head(&leaves, 66_000)];
    for stop in [0, 1, 255, 256, 300, 65_535, 65_536, 65_900] {
        let mut tree = TreeVerifier::new();
        for leaf in &leaves[..stop] {
            tree.push(*leaf);
        }
        let state = tree.to_bytes();
        let mut resumed = TreeVerifier::from_bytes(&state).unwrap();
        assert_eq!(resumed, tree);
        assert_eq!(verify(&mut resumed, &leaves, &good, &heads), Ok(()));
        assert_eq!(resumed.verified(), 66_000);
    }
}

#[test]
fn damaged_state_is_refused_or_found_at_the_next_root() {
    let leaves = reference::leaves(300);
    let mut tree = TreeVerifier::new();
    for leaf in &leaves {
        tree.push(*leaf);
    }
    let state = tree.to_bytes();
    assert_eq!(state.len(), 1 + 8 + 8 + 45 * 32);
    for length in 0..state.len() {
        assert!(TreeVerifier::from_bytes(&state[..length]).is_err());
    }
    let mut longer = state.clone();
    longer.push(0);
    assert_eq!(TreeVerifier::from_bytes(&longer), Err(StateError::Damaged));
    let mut other = state.clone();
    other[0] = 2;
    assert_eq!(
        TreeVerifier::from_bytes(&other),
        Err(StateError::Version(2))
    );
    let mut ahead = state.clone();
    ahead[16] = 255;
    ahead[15] = 255;
    assert_eq!(TreeVerifier::from_bytes(&ahead), Err(StateError::Damaged));
    let mut changed = state;
    changed[40] ^= 1;
    let mut resumed = TreeVerifier::from_bytes(&changed).unwrap();
    assert!(resumed.compare_head(&head(&leaves, 300)).is_err());
    let mut huge = vec![STATE_VERSION];
    huge.extend_from_slice(&(MAX_SIZE + 1).to_be_bytes());
    huge.extend_from_slice(&[0; 8]);
    huge.extend_from_slice(&[0; 128 * 32]);
    assert_eq!(TreeVerifier::from_bytes(&huge), Err(StateError::Damaged));
}

proptest! {
    #[test]
    fn any_bytes_are_a_state_or_refused(version in 0_u8..3, size in prop_oneof![0_u64..2_000, any::<u64>()], rest: Vec<u8>) {
        let mut bytes = vec![version];
        bytes.extend_from_slice(&size.to_be_bytes());
        bytes.extend_from_slice(&rest);
        if let Ok(tree) = TreeVerifier::from_bytes(&bytes) {
            prop_assert_eq!(tree.to_bytes(), bytes);
        }
    }
}
