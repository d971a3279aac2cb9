//! A ledger verified from its tile tree in a folder: what is sound passes, what somebody changed is found, and a
//! verification goes on where it was left.

use std::{fs, path::Path};

use banqiao_ledger::{
    Ledger,
    verify::{FolderVerification, Problem, StateError, Step},
};
use banqiao_tlog::tile::{bundles, tiles};

use crate::{
    bed::{Bed, ORIGIN, on_both_stores, signer, wait_for},
    verify::{grow, keys},
};

on_both_stores! {
    tile_tree_in_a_folder_is_verified,
    verified_tile_tree_is_gone_on_with,
}

/// Writes the tile tree of a ledger of some size, which is the published one.
async fn export(ledger: &Ledger, folder: &Path, size: u64) {
    let reader = ledger.reader();
    wait_for("the checkpoint", || async {
        let head = reader.head().await.unwrap();
        head.filter(|head| head.size() == size)
    })
    .await;
    let write = |name: String, bytes: &[u8]| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    };
    for id in tiles(size) {
        let hashes = reader.tile(id).await.unwrap().unwrap();
        write(id.to_string(), hashes.as_flattened());
    }
    for id in bundles(size) {
        write(id.to_string(), &reader.bundle(id).await.unwrap().unwrap());
    }
    let note = reader.checkpoint().await.unwrap().unwrap();
    write("checkpoint".into(), note.as_bytes());
}

async fn verified_tile_tree_is_gone_on_with(bed: Bed) {
    const FIRST: u64 = 8_700;
    let ledger = bed.open("a").await;
    grow(&ledger, FIRST.try_into().unwrap()).await;
    let folder = tempfile::tempdir().unwrap();
    export(&ledger, folder.path(), FIRST).await;
    let begin = || FolderVerification::open(folder.path(), keys(), None).unwrap();
    let finish = |mut verification: FolderVerification| loop {
        match verification.step().unwrap() {
            Step::More(_) => {}
            Step::Sound => return Ok(verification.summary()),
            Step::Unsound(found) => return Err(*found),
        }
    };
    let resumed = |state: &[u8]| {
        let mut verification = begin();
        verification.resume(state).map(|()| verification)
    };
    let whole = finish(begin()).unwrap();
    let mut states = Vec::new();
    let mut interrupted = begin();
    while let Step::More(progress) = interrupted.step().unwrap() {
        let state = interrupted.state();
        let again = resumed(&state).unwrap();
        assert_eq!(again.progress(), progress);
        assert_eq!(finish(again).unwrap(), whole);
        states.push((progress.done, state));
    }
    let done: Vec<u64> = states.iter().map(|(done, _)| *done).collect();
    assert_eq!(done, [4_096, 8_192, FIRST]);

    // The log has grown meanwhile, and the last part ended within a bundle.
    let before = tempfile::tempdir().unwrap();
    export(&ledger, before.path(), FIRST).await;
    grow(&ledger, 300).await;
    export(&ledger, folder.path(), FIRST + 300).await;
    for (_, state) in &states {
        let summary = finish(resumed(state).unwrap()).unwrap();
        assert_eq!(summary.head.size, FIRST + 300);
    }
    let newest = {
        let mut verification = begin();
        assert!(matches!(verification.step().unwrap(), Step::More(_)));
        verification.state()
    };
    let mut older = FolderVerification::open(before.path(), keys(), None).unwrap();
    older.resume(&newest).unwrap();
    let found = finish(older).unwrap_err();
    assert!(
        matches!(found.problem, Problem::RolledBack { .. }),
        "{found}"
    );
    let others = vec![signer(ORIGIN, 2).verifier().clone()];
    let mut other = FolderVerification::open(folder.path(), others, None).unwrap();
    other.resume(&newest).unwrap();
    assert!(
        finish(other).is_err(),
        "its checkpoint is signed by no key of these"
    );
    let mut none = FolderVerification::open(folder.path(), Vec::new(), None).unwrap();
    assert_eq!(none.resume(&newest), Err(StateError::Keys));
    ledger.close().await;
}

async fn tile_tree_in_a_folder_is_verified(bed: Bed) {
    let ledger = bed.open("a").await;
    grow(&ledger, 1_500).await;
    let folder = tempfile::tempdir().unwrap();
    export(&ledger, folder.path(), 1_500).await;
    ledger.close().await;
    let verify = |keys| {
        let mut verification = FolderVerification::open(folder.path(), keys, None).unwrap();
        loop {
            match verification.step().unwrap() {
                Step::More(progress) => assert_eq!(progress.size, 1_500),
                Step::Sound => return Ok(verification.summary()),
                Step::Unsound(found) => return Err(*found),
            }
        }
    };
    let summary = verify(keys()).unwrap();
    assert_eq!(
        (summary.head.size, summary.tiles, summary.signatures),
        (1_500, 7, 1)
    );
    assert_eq!(verify(Vec::new()).unwrap().signatures, 0);
    assert!(verify(vec![signer(ORIGIN, 2).verifier().clone()]).is_err());
    let spoil = |name: &str, at: usize| {
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        fs::write(&path, bytes).unwrap();
        let found = verify(keys()).unwrap_err();
        fs::remove_file(&path).unwrap();
        let missing = verify(keys()).unwrap_err();
        fs::write(&path, whole).unwrap();
        (found, missing)
    };
    let (found, missing) = spoil("tile/0/003", 2 * 32);
    assert_eq!((found.index, missing.index), (770, 768));
    let (found, missing) = spoil("tile/0/005.p/220", 219 * 32);
    assert_eq!((found.index, missing.index), (1_499, 1_280));
    let (found, missing) = spoil("tile/1/000.p/5", 32);
    assert_eq!((found.index, missing.index), (256, 0));
    // Eight bytes into the bundle of the third tile, within its first entry.
    let (found, missing) = spoil("tile/entries/002", 40);
    assert_eq!((found.index, missing.index), (512, 512));
    assert!(matches!(missing.problem, Problem::BundleMissing(_)));
    let (found, _) = spoil("tile/entries/005.p/220", 1);
    assert!(
        matches!(found.problem, Problem::Bundle { .. }) && found.index == 1_280,
        "{found}"
    );
}
