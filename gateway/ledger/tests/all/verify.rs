//! A whole ledger verified from its database: what is sound passes, and whatever somebody changes behind the ledger's
//! back is found, with the first index.

use std::{collections::BTreeMap, sync::atomic::Ordering, time::Duration};

use banqiao_ledger::{
    Append, Decoded, Ledger, decode,
    digest::{Frontier, leaf_hash},
    verify::{FolderVerification, StateError, Step, Summary, Verification},
};
use banqiao_proto::ledger::v1::Entry;
use banqiao_tlog::note::Verifier;
use prost::Message as _;
use sqlx::{Connection as _, PgConnection, SqliteConnection};
use uuid::Uuid;

use crate::bed::{
    Bed, ORIGIN, append_all, chain, close, entries, on_both_stores, open, private, signer, wait_for,
};

on_both_stores! {
    entries_that_were_changed_are_found,
    entries_that_were_moved_are_found,
    growing_ledger_is_verified,
    head_that_was_changed_is_found,
    interrupted_verification_comes_to_the_same_verdict,
    sound_ledger_is_verified,
    tail_that_was_cut_off_is_found,
    tiles_and_checkpoints_that_were_changed_are_found,
    uids_and_columns_that_were_changed_are_found,
}

const ENTRIES: u64 = 1_500;

pub(crate) fn keys() -> Vec<Verifier> {
    vec![signer(ORIGIN, 1).verifier().clone()]
}

/// What is wrong, in words, and with which index.
type Verdict = Result<Summary, (u64, String)>;

async fn verify(bed: &Bed, keys: Vec<Verifier>) -> Verdict {
    let verification = Verification::open(&bed.url, keys, None).await.unwrap();
    finish(verification).await
}

async fn finish(mut verification: Verification) -> Verdict {
    loop {
        match verification.step().await.unwrap() {
            Step::More(progress) => assert!(progress.done <= progress.size),
            Step::Sound => return Ok(verification.summary()),
            Step::Unsound(finding) => return Err((finding.index, chain(&*finding))),
        }
    }
}

/// Appends so many entries, some with a private part, and waits until their checkpoint is published.
pub(crate) async fn grow(ledger: &Ledger, entries: usize) {
    let appends: Vec<_> = (0..entries)
        .map(|number| {
            let append = Append::new(open(Uuid::now_v7()));
            if number % 3 == 0 {
                append.with_private(private())
            } else {
                append
            }
        })
        .collect();
    // The queue is bounded.
    let mut appends = appends.into_iter().peekable();
    while appends.peek().is_some() {
        let some = appends.by_ref().take(500).collect();
        for outcome in append_all(&ledger.appender(), some).await {
            outcome.unwrap();
        }
    }
    let reader = ledger.reader();
    wait_for("the checkpoint", || async {
        let head = reader.head().await.unwrap()?;
        (head.size() == ledger.size()).then_some(())
    })
    .await;
}

/// A ledger that two boots wrote and nobody guards any more, with a copy of what it holds.
struct Scene {
    bed: Bed,
}

const TABLES: [(&str, &str, &str); 6] = [
    (
        "CREATE TABLE old_head AS SELECT * FROM head",
        "DELETE FROM head",
        "INSERT INTO head SELECT * FROM old_head",
    ),
    (
        "CREATE TABLE old_entry AS SELECT * FROM entry",
        "DELETE FROM entry",
        "INSERT INTO entry SELECT * FROM old_entry",
    ),
    (
        "CREATE TABLE old_uid AS SELECT * FROM entry_uid",
        "DELETE FROM entry_uid",
        "INSERT INTO entry_uid SELECT * FROM old_uid",
    ),
    (
        "CREATE TABLE old_tile AS SELECT * FROM tile",
        "DELETE FROM tile",
        "INSERT INTO tile SELECT * FROM old_tile",
    ),
    (
        "CREATE TABLE old_checkpoint AS SELECT * FROM checkpoint",
        "DELETE FROM checkpoint",
        "INSERT INTO checkpoint SELECT * FROM old_checkpoint",
    ),
    (
        "CREATE TABLE old_private AS SELECT * FROM private",
        "DELETE FROM private",
        "INSERT INTO private SELECT * FROM old_private",
    ),
];

impl Scene {
    async fn new(bed: Bed) -> Self {
        for (boot, parts) in [[300, 501], [200, 499]].into_iter().enumerate() {
            let ledger = bed.open(if boot == 0 { "a" } else { "b" }).await;
            for entries in parts {
                grow(&ledger, entries).await;
            }
            ledger.close().await;
        }
        for table in ["entry", "entry_uid", "tile", "checkpoint"] {
            let drops: &[String] = &if bed.is_postgres() {
                vec![format!("DROP TRIGGER {table}_is_final ON {table}")]
            } else {
                (1..=2)
                    .map(|n| format!("DROP TRIGGER {table}_is_final_{n}"))
                    .collect()
            };
            for drop in drops {
                // The names are those above.
                bed.execute(String::leak(drop.clone())).await.unwrap();
            }
        }
        for (copy, ..) in TABLES {
            bed.execute(copy).await.unwrap();
        }
        Self { bed }
    }

    async fn execute(&self, sql: &'static str) {
        assert!(self.bed.execute(sql).await.unwrap() > 0, "{sql}");
    }

    /// Executes SQL with bytes for $1.
    async fn put(&self, sql: &'static str, bytes: &[u8]) {
        let changed = if self.bed.is_postgres() {
            let mut connection = PgConnection::connect(&self.bed.url).await.unwrap();
            let put = sqlx::query(sql).bind(bytes).execute(&mut connection).await;
            put.unwrap().rows_affected()
        } else {
            let mut connection = SqliteConnection::connect(&self.bed.url).await.unwrap();
            let put = sqlx::query(sql).bind(bytes).execute(&mut connection).await;
            put.unwrap().rows_affected()
        };
        assert!(changed > 0, "{sql}");
    }

    async fn bytes(&self, sql: &'static str) -> Vec<u8> {
        if self.bed.is_postgres() {
            let mut connection = PgConnection::connect(&self.bed.url).await.unwrap();
            sqlx::query_scalar(sql)
                .fetch_one(&mut connection)
                .await
                .unwrap()
        } else {
            let mut connection = SqliteConnection::connect(&self.bed.url).await.unwrap();
            sqlx::query_scalar(sql)
                .fetch_one(&mut connection)
                .await
                .unwrap()
        }
    }

    /// Makes the ledger what it was.
    async fn restore(&self) {
        for (_, delete, insert) in TABLES {
            self.bed.execute(delete).await.unwrap();
            self.bed.execute(insert).await.unwrap();
        }
    }

    /// The ledger as it is now is found wrong, and made what it was.
    async fn finds(&self, index: u64, words: &str) {
        let (found, said) = verify(&self.bed, keys()).await.unwrap_err();
        assert!(
            found == index && said.contains(words),
            "{index} {words}: {found} {said}"
        );
        self.restore().await;
    }

    /// Rewrites an entry, with or without its leaf.
    async fn rewrite(
        &self,
        [read, bytes, leaf]: [&'static str; 3],
        with_leaf: bool,
        change: impl FnOnce(&mut Entry),
    ) {
        let Ok(Decoded::Entry(mut entry)) = decode(&self.bytes(read).await) else {
            panic!("no entry");
        };
        change(&mut entry);
        let changed = entry.encode_to_vec();
        self.put(bytes, &changed).await;
        if with_leaf {
            self.put(leaf, &leaf_hash(&changed)).await;
        }
    }
}

/// Statements that read and write one entry.
macro_rules! entry {
    ($index:literal) => {
        [
            concat!("SELECT bytes FROM entry WHERE idx = ", $index),
            concat!("UPDATE entry SET bytes = $1 WHERE idx = ", $index),
            concat!("UPDATE entry SET leaf = $1 WHERE idx = ", $index),
        ]
    };
}

async fn sound_ledger_is_verified(bed: Bed) {
    let scene = Scene::new(bed).await;
    let summary = verify(&scene.bed, keys()).await.unwrap();
    assert_eq!(
        (summary.head.size, summary.origin.as_str()),
        (ENTRIES, ORIGIN)
    );
    assert_eq!(
        (summary.tiles, summary.uninterpreted, summary.boots),
        (5, 0, 2)
    );
    let published = scene.bed.count("SELECT count(*) FROM checkpoint").await;
    assert_eq!(i64::try_from(summary.checkpoints), Ok(published));
    assert_eq!(summary.signatures, summary.checkpoints);
    assert_eq!(summary.private, Some(summary.committed));
    assert!(summary.committed > 400);
    // Without keys no signature is looked at.
    let unsigned = verify(&scene.bed, Vec::new()).await.unwrap();
    assert_eq!(
        unsigned,
        Summary {
            signatures: 0,
            ..summary.clone()
        }
    );
    // A private part may have been erased, and is counted.
    scene
        .execute("DELETE FROM private WHERE idx IN (0, 3, 6)")
        .await;
    let erased = verify(&scene.bed, keys()).await.unwrap();
    assert_eq!(
        erased,
        Summary {
            private: summary.private.map(|stored| stored - 3),
            ..summary
        }
    );
    // Nothing was written: the next start finds all as it was.
    scene.restore().await;
    for origin in [Some(ORIGIN.to_owned()), None] {
        let verification = Verification::open(&scene.bed.url, keys(), origin)
            .await
            .unwrap();
        finish(verification).await.unwrap();
    }
    let other =
        Verification::open(&scene.bed.url, keys(), Some("x.jiaodong/ledger/1".into())).await;
    let (_, said) = finish(other.unwrap()).await.unwrap_err();
    assert!(
        said.contains("the ledger is qingdao.jiaodong/ledger/1, not x.jiaodong/ledger/1"),
        "{said}"
    );
}

async fn entries_that_were_changed_are_found(bed: Bed) {
    let scene = Scene::new(bed).await;
    let purpose = |entry: &mut Entry| entry.purpose = "other".into();
    scene.rewrite(entry!(700), false, purpose).await;
    scene.finds(700, "leaf hash is not that of its bytes").await;
    scene.rewrite(entry!(700), true, purpose).await;
    scene
        .finds(700, "tile/0/002 departs from the leaves 700 to 700")
        .await;
    // Behind the last full tile only checkpoints know.
    let before = scene
        .bed
        .count("SELECT max(size) FROM checkpoint WHERE size <= 1450")
        .await;
    scene.rewrite(entry!(1450), true, purpose).await;
    let words = format!("departs from leaves {before} to 1499");
    scene.finds(u64::try_from(before).unwrap(), &words).await;
    scene
        .put("UPDATE entry SET leaf = $1 WHERE idx = 3", &[7; 32])
        .await;
    scene.finds(3, "leaf hash is not that of its bytes").await;
    // Somebody changed two: the first is named, whatever shows it.
    scene.rewrite(entry!(520), true, purpose).await;
    scene.rewrite(entry!(530), false, purpose).await;
    scene
        .finds(520, "tile/0/002 departs from the leaves 520 to 520")
        .await;
    // Bytes that are no entry at all.
    for bytes in [&b"\x08\x01\x08\x01"[..], b"", b"\x08\x00"] {
        scene.put(entry!(42)[1], bytes).await;
        scene.put(entry!(42)[2], &leaf_hash(bytes)).await;
        scene.finds(42, "its bytes are no canonical entry: ").await;
    }
    // A newer version is a leaf like others: only the tree says that it was not there.
    scene.put(entry!(42)[1], b"\x08\x02").await;
    scene.put(entry!(42)[2], &leaf_hash(b"\x08\x02")).await;
    scene
        .finds(42, "tile/0/000 departs from the leaves 42 to 42")
        .await;
    scene
        .rewrite(entry!(600), true, |entry| {
            entry.replica.as_mut().unwrap().counter += 1;
        })
        .await;
    scene
        .finds(600, "of replica a counts 601 here, 600 was due")
        .await;
}

async fn entries_that_were_moved_are_found(bed: Bed) {
    let scene = Scene::new(bed).await;
    scene.execute("DELETE FROM entry WHERE idx = 900").await;
    scene.finds(900, "the entry is missing").await;
    scene.execute("INSERT INTO entry SELECT ledger, 1500, kind, time_us, exchange, leaf, bytes FROM entry WHERE idx = 7").await;
    scene
        .finds(1_500, "stored at index 1500, and the head counts 1500")
        .await;
    // A copy in the middle, the others one further.
    for sql in [
        "UPDATE entry SET idx = -idx WHERE idx > 400",
        "UPDATE entry SET idx = -idx + 1 WHERE idx < 0",
        "INSERT INTO entry SELECT ledger, 401, kind, time_us, exchange, leaf, bytes FROM entry WHERE idx = 400",
    ] {
        scene.execute(sql).await;
    }
    scene.finds(401, "counts 400 here, 401 was due").await;
    // Two that changed places, with everything that hangs on them.
    for sql in [
        "UPDATE entry SET idx = -1 WHERE idx = 10",
        "UPDATE entry SET idx = 10 WHERE idx = 12",
        "UPDATE entry SET idx = 12 WHERE idx = -1",
        "UPDATE entry_uid SET idx = 22 - idx WHERE idx IN (10, 12)",
    ] {
        scene.execute(sql).await;
    }
    scene.finds(10, "counts 12 here, 10 was due").await;
    scene
        .execute("UPDATE entry SET idx = -5 WHERE idx = 0")
        .await;
    scene.finds(0, "the entry is missing").await;
}

async fn tail_that_was_cut_off_is_found(bed: Bed) {
    let scene = Scene::new(bed).await;
    scene.execute("DELETE FROM entry WHERE idx >= 1200").await;
    scene.finds(1_200, "the entry is missing").await;
    // A copy of the ledger with another head is what a backup is.
    let size = u64::try_from(
        scene
            .bed
            .count("SELECT min(size) FROM checkpoint WHERE size >= 300")
            .await,
    )
    .unwrap();
    let mut frontier = Frontier::new();
    let ledger = scene.bed.open("a").await;
    for entry in entries(&ledger)
        .await
        .iter()
        .take(usize::try_from(size).unwrap())
    {
        frontier.push(leaf_hash(&entry.encode_to_vec()));
    }
    ledger.close().await;
    scene.restore().await;
    let cut = async || {
        scene.put(
            "UPDATE head SET frontier = $1, size = (SELECT min(size) FROM checkpoint WHERE size >= 300), \
             note = (SELECT note FROM checkpoint WHERE size >= 300 ORDER BY size LIMIT 1)",
            &frontier.to_bytes(),
        )
        .await;
        scene
            .execute("DELETE FROM entry WHERE idx >= (SELECT size FROM head)")
            .await;
        scene
            .execute("DELETE FROM tile WHERE level > 0 OR (n + 1) * 256 > (SELECT size FROM head)")
            .await;
    };
    cut().await;
    scene
        .finds(size, "it was published, and the ledger has ")
        .await;
    cut().await;
    scene
        .execute("DELETE FROM checkpoint WHERE size > (SELECT size FROM head)")
        .await;
    scene.finds(size, "a row of uid ").await;
    // Only whoever saw more can know that it was more: here a verification that was interrupted.
    let verification = Verification::open(&scene.bed.url, keys(), None)
        .await
        .unwrap();
    let state = verification.state();
    cut().await;
    scene
        .execute("DELETE FROM checkpoint WHERE size > (SELECT size FROM head)")
        .await;
    scene
        .execute("DELETE FROM entry_uid WHERE idx >= (SELECT size FROM head)")
        .await;
    assert_eq!(verify(&scene.bed, keys()).await.unwrap().head.size, size);
    let mut again = Verification::open(&scene.bed.url, keys(), None)
        .await
        .unwrap();
    again.resume(&state).unwrap();
    let (index, said) = finish(again).await.unwrap_err();
    assert_eq!(index, size);
    assert!(said.contains("rolled back: it had 1500 entries"), "{said}");
}

async fn tiles_and_checkpoints_that_were_changed_are_found(bed: Bed) {
    let scene = Scene::new(bed).await;
    let mut tile = scene
        .bytes("SELECT bytes FROM tile WHERE level = 0 AND n = 1")
        .await;
    tile[5 * 32] ^= 1;
    scene
        .put(
            "UPDATE tile SET bytes = $1 WHERE level = 0 AND n = 1",
            &tile,
        )
        .await;
    scene
        .finds(261, "tile/0/001 departs from the leaves 261 to 261")
        .await;
    scene
        .put("UPDATE tile SET root = $1 WHERE n = 4", &[1; 32])
        .await;
    scene
        .finds(
            1_024,
            "the stored root of tile/0/004 is not that of its hashes",
        )
        .await;
    scene.execute("DELETE FROM tile WHERE n = 3").await;
    scene.finds(768, "tile/0/003 is not stored").await;
    scene
        .execute("INSERT INTO tile SELECT ledger, 0, 5, root, bytes FROM tile WHERE n = 4")
        .await;
    scene.finds(1_500, "tile 5 of level 0 is stored").await;
    scene
        .execute("INSERT INTO tile SELECT ledger, 1, 0, root, bytes FROM tile WHERE n = 4")
        .await;
    scene.finds(1_500, "tile 0 of level 1 is stored").await;

    let size = u64::try_from(scene.bed.count("SELECT min(size) FROM checkpoint").await).unwrap();
    let note = String::from_utf8(
        scene
            .bytes(if scene.bed.is_postgres() {
                "SELECT convert_to(note, 'UTF8') FROM checkpoint ORDER BY size LIMIT 1"
            } else {
                "SELECT CAST(note AS BLOB) FROM checkpoint ORDER BY size LIMIT 1"
            })
            .await,
    )
    .unwrap();
    let change = if scene.bed.is_postgres() {
        "UPDATE checkpoint SET note = convert_from($1, 'UTF8') WHERE size = (SELECT min(size) FROM checkpoint)"
    } else {
        "UPDATE checkpoint SET note = CAST($1 AS TEXT) WHERE size = (SELECT min(size) FROM checkpoint)"
    };
    let bad: BTreeMap<String, &str> = [
        (
            note.replacen("qingdao", "weihai", 1),
            "the checkpoint is of weihai.jiaodong/ledger/1",
        ),
        (note.replacen('\n', "\n1", 1), "is false"),
        ("text\n".into(), "the checkpoint is not a signed note"),
        (
            note.replacen("\n\n", "\nmore\n\n", 1),
            "exactly three lines",
        ),
    ]
    .into();
    for (note, words) in bad {
        scene.put(change, note.as_bytes()).await;
        scene.finds(size - 1, words).await;
    }
    // A true signature over another tree: without keys it is the root that tells.
    scene.execute("UPDATE checkpoint SET note = (SELECT max(note) FROM old_checkpoint WHERE size > 1000) WHERE size < 1000").await;
    scene.finds(size - 1, "it states ").await;
    let (index, said) = verify(&scene.bed, vec![signer(ORIGIN, 2).verifier().clone()])
        .await
        .unwrap_err();
    assert_eq!(index, size - 1);
    assert!(said.contains("no signature is by a known key"), "{said}");
    // A key of another log is none of this one's.
    let other = signer("x.jiaodong/ledger/1", 1).verifier().clone();
    assert!(verify(&scene.bed, vec![other.clone()]).await.is_err());
    assert!(
        verify(&scene.bed, [vec![other], keys()].concat())
            .await
            .is_ok()
    );
    scene.execute("INSERT INTO checkpoint SELECT ledger, 1501, time_us, note FROM checkpoint WHERE size = 1500").await;
    scene
        .finds(1_500, "it was published, and the ledger has 1500 entries")
        .await;
}

async fn head_that_was_changed_is_found(bed: Bed) {
    let scene = Scene::new(bed).await;
    let mut frontier = scene.bytes("SELECT frontier FROM head").await;
    frontier[0] ^= 1;
    scene.put("UPDATE head SET frontier = $1", &frontier).await;
    scene
        .finds(1_499, "frontier is not that of the 1500 entries")
        .await;
    scene
        .execute("UPDATE head SET note = (SELECT note FROM checkpoint ORDER BY size LIMIT 1)")
        .await;
    scene.finds(1_499, "it states ").await;
    scene.execute("UPDATE head SET note = NULL").await;
    scene.finds(1_499, "the head has none, though").await;
    scene.execute("UPDATE head SET origin = NULL").await;
    scene.finds(0, "the ledger has no origin").await;
    scene.execute("UPDATE head SET size = 1499").await;
    scene.finds(1_498, "frontier").await;
    scene.execute("UPDATE head SET size = 1501").await;
    scene.finds(1_500, "the entry is missing").await;
}

async fn uids_and_columns_that_were_changed_are_found(bed: Bed) {
    let scene = Scene::new(bed).await;
    scene
        .execute("UPDATE entry_uid SET idx = 5 WHERE idx = 77")
        .await;
    scene.finds(77, "the row of its uid names index 5").await;
    scene
        .execute("DELETE FROM entry_uid WHERE idx = 1400")
        .await;
    scene.finds(1_400, "the row of its uid is missing").await;
    // The first is named, whatever shows it.
    scene.execute("DELETE FROM entry_uid WHERE idx = 400").await;
    scene.execute("DELETE FROM entry WHERE idx = 500").await;
    scene.finds(400, "the row of its uid is missing").await;
    let stray = if scene.bed.is_postgres() {
        "INSERT INTO entry_uid SELECT 1, '01900000-0000-7000-8000-000000000001', 12"
    } else {
        "INSERT INTO entry_uid SELECT 1, x'01900000000070008000000000000001', 12"
    };
    scene.execute(stray).await;
    scene
        .finds(
            12,
            "a row of uid 01900000-0000-7000-8000-000000000001 names it",
        )
        .await;
    scene
        .execute("UPDATE entry SET kind = 3 WHERE idx = 8")
        .await;
    scene
        .finds(8, "column kind does not say what its bytes say")
        .await;
    scene
        .execute("UPDATE entry SET time_us = 1 WHERE idx = 9")
        .await;
    scene.finds(9, "column time_us").await;
    scene
        .execute("UPDATE entry SET exchange = NULL WHERE idx = 10")
        .await;
    scene.finds(10, "column exchange").await;
    scene
        .execute("UPDATE private SET idx = 1 WHERE idx = 0")
        .await;
    scene.finds(1, "it commits to none").await;
}

async fn interrupted_verification_comes_to_the_same_verdict(bed: Bed) {
    let ledger = bed.open("a").await;
    grow(&ledger, 9_000).await;
    let close = Append::new(close(Uuid::now_v7()));
    ledger.close().await;
    let whole = verify(&bed, keys()).await.unwrap();
    let mut first = Verification::open(&bed.url, keys(), None).await.unwrap();
    let mut states = vec![first.state()];
    while let Step::More(_) = first.step().await.unwrap() {
        states.push(first.state());
    }
    assert!(states.len() > 3, "{}", states.len());
    let resumed = async |keys: Vec<Verifier>, state: &[u8]| {
        let mut again = Verification::open(&bed.url, keys, None).await.unwrap();
        again.resume(state).map(|()| again)
    };
    for state in &states {
        let again = resumed(keys(), state).await.unwrap();
        assert_eq!(again.state(), *state);
        assert_eq!(finish(again).await.unwrap(), whole);
    }
    // The ledger may have grown in between, by another boot too.
    let ledger = bed.open("b").await;
    append_all(&ledger.appender(), vec![close]).await;
    ledger.close().await;
    let whole = verify(&bed, keys()).await.unwrap();
    assert_eq!((whole.head.size, whole.boots), (9_001, 2));
    for state in &states {
        assert_eq!(
            finish(resumed(keys(), state).await.unwrap()).await.unwrap(),
            whole
        );
    }
    let middle = &states[1];
    for (keys, state, error) in [
        (Vec::new(), middle.clone(), StateError::Keys),
        (keys(), middle[1..].to_vec(), StateError::Damaged),
        (keys(), Vec::new(), StateError::Damaged),
    ] {
        assert_eq!(resumed(keys, &state).await.err(), Some(error));
    }
    // What the first part has not seen yet, the second finds.
    for sql in if bed.is_postgres() {
        &[
            "DROP TRIGGER entry_is_final ON entry",
            "DELETE FROM entry WHERE idx = 8500",
        ][..]
    } else {
        &[
            "DROP TRIGGER entry_is_final_2",
            "DELETE FROM entry WHERE idx = 8500",
        ]
    } {
        bed.execute(sql).await.unwrap();
    }
    let found = verify(&bed, keys()).await.unwrap_err();
    assert_eq!(found, (8_500, "index 8500: the entry is missing".into()));
    let again = finish(resumed(keys(), middle).await.unwrap())
        .await
        .unwrap_err();
    assert_eq!(again, found);
}

async fn growing_ledger_is_verified(bed: Bed) {
    let ledger = bed.open("a").await;
    grow(&ledger, 300).await;
    let over = std::sync::atomic::AtomicBool::new(false);
    let growing = async {
        while !over.load(Ordering::Relaxed) {
            let appends = (0..50).map(|_| Append::new(open(Uuid::now_v7()))).collect();
            for outcome in append_all(&ledger.appender(), appends).await {
                outcome.unwrap();
            }
        }
    };
    let verifying = async {
        let mut sizes = Vec::new();
        while sizes.len() < 10 || sizes.last() == sizes.first() {
            sizes.push(verify(&bed, keys()).await.unwrap().head.size);
        }
        over.store(true, Ordering::Relaxed);
        sizes
    };
    let both = async { tokio::join!(growing, verifying) };
    let ((), sizes) = tokio::time::timeout(Duration::from_secs(60), both)
        .await
        .unwrap();
    assert!(
        sizes.is_sorted() && sizes.last() > sizes.first(),
        "{sizes:?}"
    );
    ledger.close().await;
}

#[tokio::test]
async fn what_is_no_ledger_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let missing = format!("sqlite://{}", folder.path().join("none.db").display());
    for (url, words) in [
        ("mysql://x/y", "not a database URL"),
        (&missing, "none.db cannot be used"),
        ("postgres://nobody@127.0.0.1:1/none", "the database failed"),
    ] {
        let error = chain(&Verification::open(url, Vec::new(), None).await.unwrap_err());
        assert!(error.contains(words), "{error}");
    }
    assert!(!folder.path().join("none.db").exists());
    assert!(FolderVerification::open(folder.path(), Vec::new(), None).is_err());
    let bed = Bed::sqlite();
    bed.open("a").await.close().await;
    assert_eq!(verify(&bed, keys()).await.unwrap().head.size, 0);
}
