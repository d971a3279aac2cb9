//! The tree over the entries: checkpoints, tiles and proofs, verified with nothing but the log's public key.

use std::time::Duration;

use banqiao_ledger::{
    Append, Appended, KeptCosignature, Ledger, WitnessStep,
    verify::{Step, Verification},
};
use banqiao_proto::ledger::v1::{Entry, Kind};
use banqiao_tlog::{
    checkpoint::Checkpoint,
    hash::{TreeHead, leaf_hash},
    note::{Note, Verifier},
    proof::{verify_consistency, verify_inclusion},
    tile::{Tile, TileId, decode_bundle, tiles},
    verify::{TreeVerifier, compare_tile},
};
use sqlx::{Connection as _, SqliteConnection};
use uuid::Uuid;

use crate::bed::{
    Bed, ORIGIN, append_all, chain, entries, id, on_both_stores, open, opening, signer, wait_for,
};

on_both_stores! {
    checkpoint_of_another_tree_freezes,
    entries_are_proven_by_the_checkpoint_of_their_commit,
    entries_from_before_the_tree_get_their_tiles,
    log_of_another_origin_is_refused,
    new_key_goes_on_with_the_log,
    tile_that_was_changed_freezes_a_later_start,
    what_was_witnessed_only_moves_forward,
    whole_log_is_verified_from_its_tiles,
}

fn keys() -> Vec<Verifier> {
    vec![signer(ORIGIN, 1).verifier().clone()]
}

fn head(note: &str) -> TreeHead {
    let note = Note::parse(note.as_bytes()).unwrap();
    Checkpoint::open(&note, ORIGIN, &keys()).unwrap().head()
}

fn verify(appended: &Appended) -> TreeHead {
    let tree = head(appended.checkpoint());
    assert_eq!(appended.leaf, leaf_hash(appended.entry()));
    verify_inclusion(&appended.leaf, appended.index, &appended.inclusion(), &tree).unwrap();
    tree
}

/// Appends so many entries at once, and verifies each.
async fn grow(ledger: &Ledger, entries: usize) -> Vec<Appended> {
    let appends = (0..entries)
        .map(|_| Append::new(open(Uuid::now_v7())))
        .collect();
    let outcomes = append_all(&ledger.appender(), appends).await;
    let appended: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    for appended in &appended {
        verify(appended);
    }
    appended
}

/// The newest published checkpoint, once it holds all entries.
async fn published(ledger: &Ledger) -> TreeHead {
    let reader = ledger.reader();
    wait_for("the newest checkpoint", || async {
        let note = reader.checkpoint().await.unwrap()?;
        Some(head(&note)).filter(|head| head.size == ledger.size())
    })
    .await
}

/// Computes the tree anew from the entries, and compares every tile and the published root.
async fn verify_all(ledger: &Ledger) -> u64 {
    let published = published(ledger).await;
    let reader = ledger.reader();
    let mut verifier = TreeVerifier::new();
    for bundle in banqiao_tlog::tile::bundles(published.size) {
        let bytes = reader.bundle(bundle).await.unwrap().unwrap();
        for entry in decode_bundle(bundle, &bytes).unwrap() {
            for tile in verifier.push(leaf_hash(entry)) {
                same(ledger, &tile).await;
            }
        }
    }
    for tile in verifier.partial_tiles() {
        same(ledger, &tile).await;
    }
    verifier.compare_head(&published).unwrap();
    published.size
}

async fn same(ledger: &Ledger, computed: &Tile) {
    let stored = ledger.reader().tile(computed.id()).await.unwrap().unwrap();
    compare_tile(computed, Some(stored.as_flattened())).unwrap();
}

async fn entries_are_proven_by_the_checkpoint_of_their_commit(bed: Bed) {
    let ledger = bed.open("a").await;
    let mut trees = Vec::new();
    for entries in [1, 2, 5, 64, 300, 1] {
        let appended = grow(&ledger, entries).await;
        trees.extend(appended.iter().map(|one| head(one.checkpoint())));
        // The entries of one commit share its checkpoint.
        let (first, last) = (&appended[0], &appended[entries - 1]);
        if first.checkpoint() == last.checkpoint() {
            assert!(head(first.checkpoint()).size > last.index);
        }
    }
    let newest = published(&ledger).await;
    assert_eq!(newest.size, 373);
    let reader = ledger.reader();
    for tree in trees {
        let proof = reader.consistency(tree.size, newest.size).await.unwrap();
        verify_consistency(&tree, &newest, &proof).unwrap();
    }
    for index in [0, 7, 255, 256, 372] {
        let proof = reader.inclusion(index, newest.size).await.unwrap();
        let stored = reader
            .bundle(banqiao_tlog::tile::BundleId::widest(index / 256, newest.size).unwrap())
            .await
            .unwrap()
            .unwrap();
        let bundle = banqiao_tlog::tile::BundleId::widest(index / 256, newest.size).unwrap();
        let entry = decode_bundle(bundle, &stored).unwrap()[usize::try_from(index % 256).unwrap()];
        verify_inclusion(&leaf_hash(entry), index, &proof, &newest).unwrap();
    }
    assert!(reader.inclusion(373, 373).await.is_err());
    assert!(reader.consistency(373, 374).await.is_err());
    ledger.close().await;
}

async fn whole_log_is_verified_from_its_tiles(bed: Bed) {
    let mut size = 0;
    for round in 0..3 {
        let ledger = bed.open("a").await;
        for entries in [200, 57, 1, 500] {
            size += u64::try_from(grow(&ledger, entries).await.len()).unwrap();
        }
        assert_eq!(verify_all(&ledger).await, size, "{round}");
        for beyond in [
            TileId::new(0, size / 256 + 1, 1).unwrap(),
            TileId::new(0, size / 256, 256).unwrap(),
            TileId::new(2, 0, 1).unwrap(),
            TileId::new(0, (1 << 54) - 1, 256).unwrap(),
        ] {
            assert_eq!(
                ledger.reader().tile(beyond).await.unwrap(),
                None,
                "{beyond}"
            );
        }
        ledger.close().await;
    }
    let full = bed.count("SELECT count(*) FROM tile WHERE level = 0").await;
    assert_eq!(u64::try_from(full).unwrap(), size / 256);
    assert!(tiles(size).count() > usize::try_from(full).unwrap());
}

async fn entries_from_before_the_tree_get_their_tiles(bed: Bed) {
    let ledger = bed.open("a").await;
    grow(&ledger, 700).await;
    ledger.close().await;
    // As a ledger was before there were tiles and checkpoints.
    unlock(&bed).await;
    for sql in [
        "DELETE FROM tile",
        "DELETE FROM checkpoint",
        "UPDATE head SET note = NULL, origin = NULL",
    ] {
        bed.execute(sql).await.unwrap();
    }
    let ledger = bed.open("a").await;
    grow(&ledger, 1).await;
    assert_eq!(verify_all(&ledger).await, 701);
    ledger.close().await;
}

async fn log_of_another_origin_is_refused(bed: Bed) {
    let ledger = bed.open("a").await;
    grow(&ledger, 1).await;
    ledger.close().await;
    let mut settings = bed.settings("a");
    settings.signer = signer("qingdao.jiaodong/ledger/2", 1);
    let error = chain(&bed.try_open(settings).await.unwrap_err());
    assert!(
        error.contains("holds the log qingdao.jiaodong/ledger/1, not qingdao.jiaodong/ledger/2"),
        "{error}"
    );
}

async fn new_key_goes_on_with_the_log(bed: Bed) {
    let ledger = bed.open("a").await;
    let old = grow(&ledger, 3).await;
    published(&ledger).await;
    ledger.close().await;
    let mut settings = bed.settings("a");
    settings.signer = signer(ORIGIN, 2);
    // Nobody says that it takes the place of the other.
    let error = chain(&bed.try_open(settings.clone()).await.unwrap_err());
    assert!(error.contains("previous_signing_key"), "{error}");
    settings.previous_signer = Some(signer(ORIGIN, 1));
    settings.key_overlap = Duration::from_secs(60);
    for round in 0..2 {
        let ledger = bed.open_with(settings.clone()).await;
        let appended = append_all(&ledger.appender(), vec![opening(id(9 + round))]).await;
        let appended = appended.into_iter().next().unwrap().unwrap();
        let note = Note::parse(appended.checkpoint().as_bytes()).unwrap();
        assert!(Checkpoint::open(&note, ORIGIN, &keys()).is_err());
        let both = [keys(), vec![signer(ORIGIN, 2).verifier().clone()]].concat();
        let new = Checkpoint::open(&note, ORIGIN, &both).unwrap().head();
        let before = head(old[2].checkpoint());
        let proof = ledger
            .reader()
            .consistency(before.size, new.size)
            .await
            .unwrap();
        verify_consistency(&before, &new, &proof).unwrap();
        // Said once, before anything else that the new key signs.
        let kinds: Vec<Kind> = entries(&ledger).await.iter().map(Entry::kind).collect();
        assert_eq!(kinds[3], Kind::Key);
        assert_eq!(kinds.iter().filter(|kind| **kind == Kind::Key).count(), 1);
        ledger.close().await;
    }
    // With both keys, and with the old one, which vouches for the new.
    let new = signer(ORIGIN, 2).verifier().clone();
    for keys in [keys(), [keys(), vec![new]].concat()] {
        assert_eq!(fault(&bed, keys).await, None);
    }
}

/// What is wrong with a ledger, by these keys.
async fn fault(bed: &Bed, keys: Vec<Verifier>) -> Option<String> {
    let mut verification = Verification::open(&bed.url, keys, None).await.unwrap();
    loop {
        match verification.step().await.unwrap() {
            Step::More(_) => {}
            Step::Sound => return None,
            Step::Unsound(finding) => return Some(chain(&finding.problem)),
        }
    }
}

/// Replicas are restarted one after the other: for a while both keys sign.
#[tokio::test]
async fn replaced_key_signs_on_until_the_overlap_ends() {
    let bed = Bed::postgres();
    let old = bed.open("a").await;
    grow(&old, 3).await;
    let mut settings = bed.settings("b");
    settings.signer = signer(ORIGIN, 2);
    settings.previous_signer = Some(signer(ORIGIN, 1));
    settings.key_overlap = Duration::from_secs(60);
    let new = bed.open_with(settings).await;
    let appended = new.appender().append(opening(id(1))).await.unwrap();
    assert_eq!(appended.index, 4);
    grow(&old, 2).await;
    assert_eq!(fault(&bed, keys()).await, None);
    bed.clock.advance_us(61_000_000);
    grow(&old, 1).await;
    let said = fault(&bed, keys()).await.unwrap();
    assert!(said.contains("was replaced"), "{said}");
    // The new key goes on, and nothing that is shown to others has the old one's signature.
    new.appender().append(opening(id(2))).await.unwrap();
    old.close().await;
    new.close().await;
}

/// A key that a KEY entry does not name is not believed, though it is a known one.
#[tokio::test]
async fn key_that_nobody_announced_is_found() {
    let bed = Bed::sqlite();
    let ledger = bed.open("a").await;
    grow(&ledger, 3).await;
    published(&ledger).await;
    ledger.close().await;
    let head: String = {
        let mut connection = SqliteConnection::connect(&bed.url).await.unwrap();
        let note = sqlx::query_scalar("SELECT note FROM head");
        note.fetch_one(&mut connection).await.unwrap()
    };
    let checkpoint: Checkpoint = Note::parse(head.as_bytes())
        .unwrap()
        .text()
        .parse()
        .unwrap();
    let forged = checkpoint.sign(&signer(ORIGIN, 2)).unwrap().to_string();
    let mut connection = SqliteConnection::connect(&bed.url).await.unwrap();
    sqlx::query("UPDATE head SET note = ?1")
        .bind(forged)
        .execute(&mut connection)
        .await
        .unwrap();
    let both = [keys(), vec![signer(ORIGIN, 2).verifier().clone()]].concat();
    let said = fault(&bed, both).await.unwrap();
    assert!(said.contains("no KEY entry names"), "{said}");
}

/// Lets a test change what nobody may.
async fn unlock(bed: &Bed) {
    let triggers: &[&'static str] = if bed.is_postgres() {
        &[
            "DROP TRIGGER tile_is_final ON tile",
            "DROP TRIGGER checkpoint_is_final ON checkpoint",
        ]
    } else {
        &[
            "DROP TRIGGER tile_is_final_1",
            "DROP TRIGGER tile_is_final_2",
            "DROP TRIGGER checkpoint_is_final_1",
            "DROP TRIGGER checkpoint_is_final_2",
        ]
    };
    for sql in [
        "UPDATE tile SET root = bytes",
        "DELETE FROM tile",
        "UPDATE checkpoint SET note = ''",
        "DELETE FROM checkpoint",
    ] {
        let refused = bed.execute(sql).await.unwrap_err().to_string();
        assert!(refused.contains("never changed or removed"), "{refused}");
    }
    for sql in triggers {
        bed.execute(sql).await.unwrap();
    }
}

async fn tile_that_was_changed_freezes_a_later_start(bed: Bed) {
    let ledger = bed.open("a").await;
    grow(&ledger, 300).await;
    ledger.close().await;
    unlock(&bed).await;
    let sql = if bed.is_postgres() {
        "UPDATE tile SET root = sha256(root)"
    } else {
        "UPDATE tile SET root = randomblob(32)"
    };
    assert_eq!(bed.execute(sql).await.unwrap(), 1);
    let error = chain(&bed.try_open(bed.settings("a")).await.unwrap_err());
    assert!(error.contains("tiles"), "{error}");
}

async fn checkpoint_of_another_tree_freezes(bed: Bed) {
    for entries in [3, 2] {
        let ledger = bed.open("a").await;
        grow(&ledger, entries).await;
        ledger.close().await;
    }
    assert!(bed.count("SELECT count(*) FROM checkpoint").await >= 2);
    // A head whose checkpoint is an older one was put together by somebody.
    bed.execute("UPDATE head SET note = (SELECT note FROM checkpoint ORDER BY size LIMIT 1)")
        .await
        .unwrap();
    let error = chain(&bed.try_open(bed.settings("a")).await.unwrap_err());
    assert!(error.contains("LEDGER_ROLLBACK"), "{error}");
}

async fn what_was_witnessed_only_moves_forward(bed: Bed) {
    const OTHER: &str = "yantai.jiaodong/ledger/1";
    let at = |size: u64| TreeHead {
        size,
        root: leaf_hash(&size.to_be_bytes()),
    };
    let step = |previous: Option<u64>, next: u64| WitnessStep {
        origin: OTHER.to_owned(),
        previous: previous.map(at),
        next: at(next),
        note: format!("{OTHER}\n{next}\n"),
    };
    let ledger = bed.open("a").await;
    assert_eq!(ledger.reader().witnessed(OTHER).await.unwrap(), None);
    for (previous, next, stepped) in [
        (Some(1), 2, false),
        (None, 3, true),
        (None, 4, false),
        (Some(2), 4, false),
        (Some(3), 5, true),
        (Some(3), 6, false),
        (Some(5), 5, true),
    ] {
        let done = ledger.step_witness(step(previous, next)).await.unwrap();
        assert_eq!(done, stepped, "{previous:?} → {next}");
    }
    let mut forked = step(Some(5), 6);
    forked.previous = Some(TreeHead {
        root: leaf_hash(b"another"),
        ..at(5)
    });
    assert!(!ledger.step_witness(forked).await.unwrap());
    // Of two that begin with the same, one makes the step.
    let both = tokio::join!(
        ledger.step_witness(step(Some(5), 7)),
        ledger.step_witness(step(Some(5), 8))
    );
    assert_eq!(
        u8::from(both.0.unwrap()) + u8::from(both.1.unwrap()),
        1,
        "exactly one"
    );
    let kept = KeptCosignature {
        size: 3,
        witness: "yantai.jiaodong/witness".to_owned(),
        time_s: 1_794_744_000,
        line: "— yantai.jiaodong/witness AAAA".to_owned(),
    };
    for _ in 0..2 {
        ledger.keep_cosignature(kept.clone()).await.unwrap();
    }
    ledger.close().await;
    let ledger = bed.open("a").await;
    let held = ledger.reader().witnessed(OTHER).await.unwrap().unwrap();
    assert!(held == at(7) || held == at(8), "{held:?}");
    let lines = ledger.reader().cosignatures(3).await.unwrap();
    assert_eq!(lines, [kept.line]);
    ledger.close().await;
}

#[tokio::test]
async fn two_replicas_grow_one_tree() {
    let bed = Bed::postgres();
    let ledgers = [bed.open("a").await, bed.open("b").await];
    let mut growing = tokio::task::JoinSet::new();
    for ledger in &ledgers {
        let ledger = ledger.clone();
        growing.spawn(async move {
            let mut trees = Vec::new();
            for entries in [1, 30, 2, 90, 300, 7, 150] {
                trees.extend(grow(&ledger, entries).await.iter().map(verify));
            }
            trees
        });
    }
    let mut trees: Vec<TreeHead> = growing.join_all().await.concat();
    trees.sort_by_key(|tree| tree.size);
    trees.dedup();
    // Every checkpoint that either of them signed is of one and the same tree.
    let reader = ledgers[0].reader();
    wait_for("both replicas' entries", || async {
        let note = reader.checkpoint().await.unwrap()?;
        (head(&note).size == 1_160).then_some(())
    })
    .await;
    for pair in trees.windows(2) {
        let [old, new] = pair else { continue };
        assert_ne!(old.size, new.size, "two roots of one size");
        let proof = reader.consistency(old.size, new.size).await.unwrap();
        verify_consistency(old, new, &proof).unwrap();
    }
    for ledger in ledgers {
        ledger.close().await;
    }
    // A replica that was not there while the tree grew finds the same.
    let third = bed.open("c").await;
    assert_eq!(verify_all(&third).await, 1_160);
    third.close().await;
}
