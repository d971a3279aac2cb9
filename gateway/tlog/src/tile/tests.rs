use proptest::prelude::*;

use super::*;
use crate::{
    hash::{MAX_SIZE, leaf_hash},
    reference,
};

fn ids(text: &str) -> Vec<TileId> {
    text.split_whitespace()
        .map(|path| path.parse().unwrap())
        .collect()
}

#[test]
fn paths_are_those_of_the_specification() {
    // Indices of C2SP tlog-tiles and of golang.org/x/mod sumdb/tlog (TestTilePath), whose own paths also name the
    // tile height.
    for (level, index, width, path) in [
        (0, 1_234_067, 256, "tile/0/x001/x234/067"),
        (0, 1, 256, "tile/0/001"),
        (0, 1, 5, "tile/0/001.p/5"),
        (5, 123_456_078, 256, "tile/5/x123/x456/078"),
        (5, 123_456_078, 2, "tile/5/x123/x456/078.p/2"),
        (0, 3_057_500, 255, "tile/0/x003/x057/500.p/255"),
        (63, 0, 1, "tile/63/000.p/1"),
        (0, 999, 256, "tile/0/999"),
        (0, 1_000, 256, "tile/0/x001/000"),
        (0, u64::MAX, 256, "tile/0/x018/x446/x744/x073/x709/x551/615"),
    ] {
        let tile = TileId::new(level, index, width).unwrap();
        assert_eq!(tile.to_string(), path);
        assert_eq!(path.parse(), Ok(tile));
    }
    let bundle = BundleId::new(1_234_067, 8).unwrap();
    assert_eq!(bundle.to_string(), "tile/entries/x001/x234/067.p/8");
    assert_eq!(bundle.to_string().parse(), Ok(bundle));
}

#[test]
fn a_tile_has_one_path() {
    for bad in [
        "",
        "tile",
        "tile/",
        "tile/0",
        "tile/0/",
        "/tile/0/000",
        "tile/00/000",
        "tile/64/000",
        "tile/256/000",
        "tile/-1/000",
        "tile/entries/000",
        "tile/data/000",
        "tile/0/0",
        "tile/0/0000",
        "tile/0/x000",
        "tile/0/x000/001",
        "tile/0/001/002",
        "tile/0/x01/002",
        "tile/0/X001/002",
        "tile/0/x001//002",
        "tile/0/x001/x002",
        "tile/0/000.p",
        "tile/0/000.p/",
        "tile/0/000.p/0",
        "tile/0/000.p/01",
        "tile/0/000.p/256",
        "tile/0/000.p/1/",
        "tile/0/000.p/1.p/1",
        "tile/0/000 ",
        "tile/0/+00",
        "tile/0/../000",
        "tile/0/x018/x446/x744/x073/x709/x551/616",
        "tile/0/x001/x018/x446/x744/x073/x709/x551/615",
    ] {
        assert!(bad.parse::<TileId>().is_err(), "{bad}");
    }
    for bad in ["tile/0/000", "tile/entries/", "tile/entries/x000/000"] {
        assert!(bad.parse::<BundleId>().is_err(), "{bad}");
    }
    assert_eq!(TileId::new(64, 0, 1), Err(TileError::Level(64)));
    assert_eq!(TileId::new(0, 0, 0), Err(TileError::Width(0)));
    assert_eq!(TileId::new(0, 0, 257), Err(TileError::Width(257)));
    assert_eq!(BundleId::new(0, 257), Err(TileError::Width(257)));
}

#[test]
fn a_tree_has_the_tiles_of_the_specification() {
    // C2SP tlog-tiles, Partial Tiles: a tree of 70,000, and one of 256.
    let full: Vec<TileId> = tiles_completed(0, 70_000).collect();
    assert_eq!(full.iter().filter(|tile| tile.level() == 0).count(), 273);
    assert_eq!(full.iter().filter(|tile| tile.level() == 1).count(), 1);
    assert_eq!(full.len(), 274);
    let partial: Vec<TileId> = partial_tiles(70_000).collect();
    assert_eq!(
        partial,
        ids("tile/0/273.p/112 tile/1/001.p/17 tile/2/000.p/1")
    );
    assert_eq!(
        tiles(256).collect::<Vec<_>>(),
        ids("tile/0/000 tile/1/000.p/1")
    );
    assert_eq!(tiles(0).count(), 0);
    assert_eq!(bundles(0).count(), 0);
    let bundles: Vec<String> = bundles(300).map(|bundle| bundle.to_string()).collect();
    assert_eq!(bundles, ["tile/entries/000", "tile/entries/001.p/44"]);
    assert_eq!(
        tiles_completed(65_535, 65_537).collect::<Vec<_>>(),
        ids("tile/0/255 tile/1/000")
    );
    assert_eq!(tiles_completed(300, 200).count(), 0);
    assert_eq!(tiles_completed(u64::MAX - 1, u64::MAX).count(), 0);
    assert_eq!(partial_tiles(u64::MAX).count(), 8);
}

#[test]
fn leaves_under_a_tile_are_known() {
    let leaves = |path: &str| path.parse::<TileId>().unwrap().leaves();
    assert_eq!(leaves("tile/0/001"), Some(256..512));
    assert_eq!(leaves("tile/0/001.p/5"), Some(256..261));
    assert_eq!(leaves("tile/1/001.p/17"), Some(65_536..69_888));
    assert_eq!(leaves("tile/7/000.p/255"), Some(0..255 << 56));
    assert_eq!(leaves("tile/7/000"), None);
    assert_eq!(leaves("tile/8/000.p/1"), None);
    assert_eq!(leaves("tile/63/000.p/1"), None);
    assert_eq!(TileId::widest(0, u64::MAX, u64::MAX), None);
    assert_eq!(TileId::widest(8, 0, u64::MAX), None);
    assert_eq!(TileId::widest(0, 1, 256), None);
}

#[test]
fn tile_of_a_wrong_length_is_refused() {
    let id = TileId::new(0, 0, 2).unwrap();
    let tile = Tile::from_bytes(id, &[7; 64]).unwrap();
    assert_eq!(tile.to_bytes(), [7; 64]);
    assert_eq!(tile.hashes(), [[7; 32]; 2]);
    for length in [0, 32, 63, 65, 96] {
        assert_eq!(
            Tile::from_bytes(id, &vec![7; length]),
            Err(TileError::Length {
                tile: id,
                found: length
            })
        );
    }
}

#[test]
fn built_tiles_are_those_of_the_definition() {
    let leaves = reference::leaves(66_000);
    let mut builder = TileBuilder::new();
    let mut size = 0;
    // Steps within a tile, to its edge, over it, and over the edge of a tile at level 1.
    for step in [1, 254, 1, 1, 255, 700, 64_100, 223, 1, 464] {
        let next = size + step;
        let completed = builder.extend(leaves[size..next].iter().copied());
        let mut expected: Vec<TileId> = tiles_completed(size as u64, next as u64).collect();
        let mut found: Vec<TileId> = completed.iter().map(Tile::id).collect();
        expected.sort_unstable();
        found.sort_unstable();
        assert_eq!(found, expected);
        for tile in completed.iter().chain(&builder.partial_tiles()) {
            assert_eq!(tile.hashes(), reference::tile(tile.id(), &leaves));
        }
        let partial: Vec<TileId> = builder.partial_tiles().iter().map(Tile::id).collect();
        assert_eq!(partial, partial_tiles(next as u64).collect::<Vec<_>>());
        assert_eq!(builder.root(), reference::root(&leaves[..next]));

        let tiles = builder.partial_tiles();
        let resumed = TileBuilder::resume(builder.size(), |id| {
            let tile = tiles.iter().find(|tile| tile.id() == id)?;
            Some(tile.hashes())
        });
        assert_eq!(resumed.as_ref(), Ok(&builder));
        size = next;
    }
    assert_eq!(size, leaves.len());
}

#[test]
fn builder_wants_exactly_the_partial_tiles() {
    let hashes = [[0; 32]; 256];
    let tile = TileId::new(0, 1, 44).unwrap();
    assert_eq!(
        TileBuilder::resume(300, |_| None),
        Err(TileError::Missing(tile))
    );
    assert_eq!(
        TileBuilder::resume(300, |id| hashes.get(..usize::from(id.width()) + 1)),
        Err(TileError::Length {
            tile,
            found: 45 * 32
        })
    );
    assert_eq!(
        TileBuilder::resume(MAX_SIZE + 1, |_| None),
        Err(TileError::Size(MAX_SIZE + 1))
    );
}

#[test]
fn builder_at_the_largest_size_has_a_frontier() {
    let hashes = [[0; 32]; 256];
    let builder =
        TileBuilder::resume(MAX_SIZE, |id| hashes.get(..usize::from(id.width()))).unwrap();
    assert_eq!(builder.frontier().hashes().len(), 63);
}

#[test]
fn bundles_are_read_back_and_nothing_else_is() {
    let entries: [&[u8]; 3] = [b"abc", b"", &[1; MAX_ENTRY_BYTES]];
    let bytes = encode_bundle(&entries).unwrap();
    let id = |width| BundleId::new(0, width).unwrap();
    assert_eq!(bytes[..5], *b"\x00\x03abc");
    assert_eq!(decode_bundle(id(3), &bytes).unwrap(), entries);
    for width in [1, 2, 4, 256] {
        assert!(matches!(
            decode_bundle(id(width), &bytes),
            Err(BundleError::Count { .. })
        ));
    }
    assert_eq!(
        decode_bundle(id(3), &bytes[..bytes.len() - 1]),
        Err(BundleError::Truncated { position: 2 })
    );
    assert_eq!(
        decode_bundle(id(1), b"\x00"),
        Err(BundleError::Truncated { position: 0 })
    );
    assert!(matches!(
        decode_bundle(id(1), b""),
        Err(BundleError::Count { found: 0, .. })
    ));
    assert_eq!(encode_bundle(&[] as &[&[u8]]), Err(BundleError::Entries(0)));
    assert_eq!(encode_bundle(&[b""; 257]), Err(BundleError::Entries(257)));
    assert_eq!(
        encode_bundle(&[vec![0; 65_536]]),
        Err(BundleError::EntryLength {
            position: 0,
            length: 65_536
        })
    );
    let largest = encode_bundle(&vec![vec![0; MAX_ENTRY_BYTES]; 256]).unwrap();
    assert_eq!(largest.len(), MAX_BUNDLE_BYTES);
}

/// `cmd/skylight/testdata/witness/mirror` of FiloSottile/sunlight: 300 leaves "record <n>", made with
/// golang.org/x/mod/sumdb/tlog. The root stands in its checkpoint; the tiles were compared by their SHA-256.
#[test]
fn tree_of_another_implementation_has_the_same_root_and_tiles() {
    let mut builder = TileBuilder::new();
    let completed =
        builder.extend((0..300).map(|index| leaf_hash(format!("record {index}").as_bytes())));
    assert_eq!(
        crate::text::encode(builder.root()),
        "gw31yQrqZZCcEOPrzX+bpy3nJ6QgngTKn8G1m0i62uU="
    );
    let tiles: Vec<(String, String)> = completed
        .iter()
        .chain(&builder.partial_tiles())
        .map(|tile| {
            let digest = crate::hash::sha256(&tile.to_bytes());
            (tile.id().to_string(), hex::encode(digest))
        })
        .collect();
    let tiles: Vec<(&str, &str)> = tiles.iter().map(|(a, b)| (&**a, &**b)).collect();
    assert_eq!(
        tiles,
        [
            (
                "tile/0/000",
                "66a1d43136a854a5776d5bce14bf101c925fc7d4b32f1be23b658f636ebfcddb"
            ),
            (
                "tile/0/001.p/44",
                "699f078d937f13343d71ad39321757de3ecf391e8d7a1b2015ad38bd36f5d60a"
            ),
            (
                "tile/1/000.p/1",
                "dcef9e571841bfe2defd16306f8a7d69f5054092fb8b7f983970c646f7f5fd85"
            ),
        ]
    );
}

proptest! {
    #[test]
    fn every_path_is_read_back(level in 0..=MAX_LEVEL, index: u64, width in 1..=WIDTH) {
        let tile = TileId::new(level, index, width).unwrap();
        prop_assert_eq!(tile.to_string().parse(), Ok(tile));
        let bundle = BundleId::new(index, width).unwrap();
        prop_assert_eq!(bundle.to_string().parse(), Ok(bundle));
    }

    #[test]
    fn what_is_read_as_a_path_is_written_the_same(path in "tile/(entries|[0-9]{1,2})/(x[0-9]{3}/){0,7}[0-9]{3}(\\.p/[0-9]{1,3})?") {
        if let Ok(tile) = path.parse::<TileId>() {
            prop_assert_eq!(tile.to_string(), path.as_str());
        }
        if let Ok(bundle) = path.parse::<BundleId>() {
            prop_assert_eq!(bundle.to_string(), path.as_str());
        }
    }

    #[test]
    fn any_bytes_are_a_bundle_or_refused(bytes: Vec<u8>, width in 1..=WIDTH) {
        let id = BundleId::new(0, width).unwrap();
        if let Ok(entries) = decode_bundle(id, &bytes) {
            prop_assert_eq!(encode_bundle(&entries), Ok(bytes));
        }
    }
}
