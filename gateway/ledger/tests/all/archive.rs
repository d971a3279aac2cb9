//! Entries leave the database, and nothing that reads the ledger notices, but for who looks for them where they were.

use std::{fs, ops::Range, path::PathBuf};

use banqiao_ledger::{
    ARCHIVED, Append, AppendError, Effect, EvidenceKind, Ledger, LedgerSettings, Run, StoreError,
    backup::{self, BackupError},
    reconcile::Pair,
    verify::{FolderVerification, Problem, Step, Verification},
};
use banqiao_proto::ledger::v1::{AdminChange, Entry, EntryFilter, Erase, Kind};
use banqiao_tlog::tile::BundleId;
use bytes::Bytes;

use crate::{
    bed::{
        Bed, CLIENT, NOW, ORIGIN, SUBJECT, append_all, chain, closing, entries, id, matching,
        on_both_stores, open, opening, private, signer, wait_for,
    },
    index::{agree, everything, indexed, made, synthesis},
};

on_both_stores![
    archived_entries_are_read_as_before,
    searches_find_archived_entries,
    rows_stay_until_an_entry_archives_them,
    calls_that_are_open_stay,
    changes_in_an_archive_are_found,
    private_parts_of_archived_entries_are_erased,
    backup_of_what_is_not_archived_is_restored_beside_the_archive,
];

const DAY_US: i64 = 86_400_000_000;
/// Two segments, which are old.
const OLD: u64 = 2 * 4_096;
/// What is younger: two segments and a little, which stay in any case.
const YOUNG: u64 = 2 * 4_096 + 50;
/// Entries with what another city has proven.
const PROVEN: u64 = 600;

fn folder(bed: &Bed) -> PathBuf {
    bed.folder.path().join("archive")
}

fn settings(bed: &Bed) -> LedgerSettings {
    LedgerSettings {
        archive: Some(folder(bed)),
        ..bed.settings("one")
    }
}

fn proof(index: u64) -> Vec<u8> {
    format!("synthetic receipt {index}").into_bytes()
}

fn append(index: u64) -> Append {
    let exchange = id(index.into());
    let append = match index % 2 {
        0 => opening(exchange),
        _ => closing(id((index - 1).into())),
    };
    if index < PROVEN {
        append.with_private(private()).with(Effect::Evidence {
            kind: EvidenceKind::Receipt,
            bytes: Bytes::from(proof(index)),
        })
    } else {
        append
    }
}

/// Appends more than the queue holds at once.
async fn fill(ledger: &Ledger, mut appends: Vec<Append>) {
    let appender = ledger.appender();
    while !appends.is_empty() {
        let some = appends.drain(..appends.len().min(2_048)).collect();
        let outcomes = append_all(&appender, some).await;
        assert!(outcomes.iter().all(Result::is_ok));
    }
}

/// A ledger of old and young entries, every call of which has ended.
async fn filled(bed: &Bed) -> Ledger {
    let ledger = bed.open_with(settings(bed)).await;
    for part in [0..OLD, OLD..OLD + YOUNG] {
        fill(&ledger, part.map(append).collect()).await;
        bed.clock.set_us(NOW + DAY_US);
    }
    indexed(&ledger, OLD + 8_192).await;
    ledger
}

async fn detach(ledger: &Ledger, run: &Run) -> Result<u64, AppendError> {
    let entry = Entry {
        kind: Kind::Admin.into(),
        admin: Some(AdminChange {
            action: ARCHIVED.into(),
            actor: "socket:operator".into(),
            target: run.to_string(),
            after: run.digest.to_vec(),
            ..AdminChange::default()
        }),
        ..Entry::default()
    };
    let entries = run.entries.clone();
    let append = Append::new(entry).with(Effect::Detach { entries });
    ledger.appender().append(append).await.map(|it| it.index)
}

/// Archives what was made before a time, and returns what it was.
async fn archive(ledger: &Ledger, before_us: i64) -> Range<u64> {
    let first = ledger.archived().await.unwrap();
    loop {
        let left = ledger.archivable(before_us).await.unwrap();
        if left.is_empty() {
            break;
        }
        let mut told = Vec::new();
        let run = ledger
            .write_run(left, |done| told.push(done))
            .await
            .unwrap();
        assert_eq!(told.last(), Some(&(run.entries.end - run.entries.start)));
        detach(ledger, &run).await.unwrap();
    }
    while ledger.drop_archived().await.unwrap() > 0 {}
    first..ledger.archived().await.unwrap()
}

const ROWS: &str = "SELECT count(*) FROM entry";
const PROOFS: &str = "SELECT count(*) FROM evidence";

/// Everything that anybody can read of a ledger, in one text.
async fn read(ledger: &Ledger) -> Vec<String> {
    let reader = ledger.reader();
    let size = OLD + YOUNG;
    let mut said = Vec::new();
    for entry in entries(ledger).await.into_iter().take(16_434) {
        said.push(format!("{entry:?}"));
    }
    for filter in [
        EntryFilter {
            subject: SUBJECT.into(),
            ..EntryFilter::default()
        },
        EntryFilter {
            from_us: NOW - 5,
            until_us: NOW + 5,
            kinds: vec![Kind::Close.into()],
            ..EntryFilter::default()
        },
        EntryFilter {
            client: CLIENT.into(),
            exchange_id: id(4_000).to_string(),
            ..EntryFilter::default()
        },
    ] {
        let found = matching(ledger, &filter).await;
        assert!(!found.is_empty());
        said.push(format!("{found:?}"));
    }
    for number in [0, 3_000, 8_190, 8_192, 12_000] {
        let found = reader.exchange(id(number), false).await.unwrap();
        assert_eq!(found.len(), 2);
        said.push(format!("{number}: {found:?} {:?}", found[0].bytes));
    }
    for index in [0, 255, 256, 599, 600, 9_000] {
        let evidence = reader.evidence(index, EvidenceKind::Receipt).await.unwrap();
        assert_eq!(evidence.is_some(), index < PROVEN);
        let private = reader.open_private(index).await.unwrap();
        let inclusion = reader.inclusion(index, size).await.unwrap();
        said.push(format!("{evidence:?} {private:?} {inclusion:?}"));
    }
    for n in [0, 31, 32, 40] {
        let id = BundleId::new(n, 256).unwrap();
        said.push(format!("{:?}", reader.bundle(id).await.unwrap().unwrap()));
    }
    let pair = Pair {
        here: "370600".parse().unwrap(),
        there: "370200".parse().unwrap(),
    };
    let made_ms = banqiao_ledger::reconcile::made_ms(id(0).as_bytes());
    let mut records = reader.records(pair, made_ms, made_ms + 1);
    let mut count = 0;
    while let Some(record) = records.next().await.unwrap() {
        count += 1;
        said.push(format!("{record:?}"));
    }
    assert_eq!(count, size / 2);
    let mut tail = reader.tail(Some(OLD - 100)).await.unwrap();
    said.push(format!("{:?}", tail.ready().await.unwrap()));
    said.push(format!("{:?}", tail.ready().await.unwrap()));
    said
}

async fn verified(bed: &Bed, archive: Option<PathBuf>) -> Result<Step, StoreError> {
    let keys = vec![signer(ORIGIN, 1).verifier().clone()];
    let mut verification =
        Verification::open_archived(&bed.url, keys.clone(), None, archive.clone()).await?;
    loop {
        match verification.step().await? {
            Step::More(_) => {
                // As an auditor who is interrupted at every step.
                let state = verification.state();
                let mut next =
                    Verification::open_archived(&bed.url, keys.clone(), None, archive.clone())
                        .await?;
                if next.progress().size > verification.progress().done {
                    next.resume(&state).unwrap();
                    if next.progress() == verification.progress() && next.progress().done < OLD {
                        verification = next;
                    }
                }
            }
            step => return Ok(step),
        }
    }
}

async fn archived_entries_are_read_as_before(bed: Bed) {
    let ledger = filled(&bed).await;
    let before = read(&ledger).await;
    assert_eq!(
        ledger.archivable(NOW).await.unwrap(),
        0..0,
        "nothing is older"
    );
    assert_eq!(archive(&ledger, NOW + 1).await, 0..OLD);
    assert!(read(&ledger).await == before);
    assert_eq!(bed.count(ROWS).await, i64::try_from(YOUNG + 1).unwrap());
    assert_eq!(bed.count(PROOFS).await, 0);
    // Those at the right edge stay, however old.
    bed.clock.set_us(NOW + 400 * DAY_US);
    let left = ledger.archivable(NOW + 300 * DAY_US).await.unwrap();
    assert_eq!(
        left,
        OLD..OLD,
        "8,192 at the edge, and less than a segment before them"
    );

    ledger.close().await;
    assert_eq!(
        verified(&bed, Some(folder(&bed))).await.unwrap(),
        Step::Sound
    );
    // The archive alone is a log of its own, of whoever reads such.
    let keys = vec![signer(ORIGIN, 1).verifier().clone()];
    let mut alone = FolderVerification::open(&folder(&bed), keys, Some(ORIGIN)).unwrap();
    loop {
        match alone.step().unwrap() {
            Step::More(_) => {}
            step => break assert_eq!(step, Step::Sound),
        }
    }
    assert_eq!(alone.summary().head.size, OLD);
    // Whoever does not say where the entries are is told.
    let error = chain(&verified(&bed, None).await.unwrap_err());
    assert!(
        error.contains("before index 8192") && error.contains("--archive"),
        "{error}"
    );
    let homeless = bed.open("one").await;
    let error = homeless.reader().open_private(5).await.unwrap_err();
    assert!(
        matches!(error, StoreError::ArchiveUnnamed { before: OLD }),
        "{error}"
    );
    assert!(homeless.reader().open_private(OLD).await.unwrap().is_none());
}

/// Any search, whatever of it is where.
async fn searches_find_archived_entries(bed: Bed) {
    const ENTRIES: u64 = 16_384 + 3 * 4_096 + 700;
    let of = synthesis(ENTRIES, 3);
    made(&bed, &of).await;
    let ledger = bed.open_with(settings(&bed)).await;
    indexed(&ledger, ENTRIES - ENTRIES % 4_096).await;
    let all = everything(&ledger).await;
    let moved = archive(&ledger, of.until_us + 1).await;
    assert_eq!(moved, 0..16_384 + 4_096);
    let again = everything(&ledger).await;
    assert!(again[..all.len()] == all[..]);
    // An ADMIN entry of this test is the last.
    agree(&ledger, &again, 100).await;
}

async fn rows_stay_until_an_entry_archives_them(bed: Bed) {
    let ledger = filled(&bed).await;
    let size = i64::try_from(OLD + YOUNG).unwrap();
    let run = ledger.write_run(0..OLD, |_| {}).await.unwrap();
    assert_eq!(ledger.drop_archived().await.unwrap(), 0);
    assert_eq!(bed.count(ROWS).await, size);
    for sql in [
        "DELETE FROM entry WHERE idx < 10",
        "DELETE FROM evidence",
        "UPDATE entry SET time_us = 0 WHERE idx = 1",
    ] {
        let error = chain(&bed.execute(sql).await.unwrap_err());
        assert!(error.contains("never changed or removed"), "{error}");
    }
    // Only the oldest that are not archived, and only such as are there.
    for entries in [4_096..OLD, 0..0, 0..OLD + YOUNG + 1] {
        let other = Run {
            entries,
            ..run.clone()
        };
        let refused = detach(&ledger, &other).await;
        assert_eq!(refused.unwrap_err(), AppendError::Overtaken);
    }
    detach(&ledger, &run).await.unwrap();
    assert_eq!(detach(&ledger, &run).await, Err(AppendError::Overtaken));
    // They go a few at a time, and whoever is interrupted goes on.
    assert_eq!(ledger.drop_archived().await.unwrap(), 512);
    let before = read(&ledger).await;
    drop(ledger);
    let ledger = bed.open_with(settings(&bed)).await;
    assert_eq!(bed.count(ROWS).await, size + 1 - 512);
    assert!(read(&ledger).await == before);
    let mut dropped = 512;
    loop {
        match ledger.drop_archived().await.unwrap() {
            0 => break,
            some => dropped += some,
        }
    }
    assert_eq!(dropped, OLD);
    assert!(read(&ledger).await == before);
    for sql in [
        "DELETE FROM entry WHERE idx = 8192",
        "UPDATE entry SET time_us = 0 WHERE idx = 8192",
    ] {
        let error = chain(&bed.execute(sql).await.unwrap_err());
        assert!(error.contains("never changed or removed"), "{error}");
    }
    assert_eq!(
        verified(&bed, Some(folder(&bed))).await.unwrap(),
        Step::Sound
    );
}

async fn calls_that_are_open_stay(bed: Bed) {
    let ledger = bed.open_with(settings(&bed)).await;
    let mut appends: Vec<Append> = (0..OLD + YOUNG).map(append).collect();
    // The call that begins at 5,000 does not end.
    appends[5_001] = Append::new(open(id(90_000)));
    fill(&ledger, appends).await;
    indexed(&ledger, OLD + 8_192).await;
    assert_eq!(ledger.archivable(NOW + 1).await.unwrap(), 0..4_096);
    ledger.appender().append(closing(id(5_000))).await.unwrap();
    assert_eq!(ledger.archivable(NOW + 1).await.unwrap(), 0..OLD);
}

/// Each change, and the index and words that it is found by.
async fn changes_in_an_archive_are_found(bed: Bed) {
    let ledger = filled(&bed).await;
    archive(&ledger, NOW + 1).await;
    let folder = folder(&bed);
    let flipped = |name: &str, at: usize| {
        let mut bytes = fs::read(folder.join(name)).unwrap();
        bytes[at] ^= 1;
        bytes
    };
    let cases: [(&str, Option<Vec<u8>>, u64, &str); 9] = [
        (
            "tile/entries/003",
            Some(flipped("tile/entries/003", 90)),
            768,
            "an entry was changed",
        ),
        ("tile/entries/031", None, 7_936, "it is missing"),
        ("tile/entries/000", Some(vec![0]), 0, "it is malformed"),
        (
            "evidence/001",
            Some(flipped("evidence/001", 20)),
            0,
            "it was changed",
        ),
        ("evidence/002", None, 0, "it is missing"),
        (
            "exchanges/0-8192",
            Some(flipped("exchanges/0-8192", 3)),
            0,
            "it was changed",
        ),
        (
            "tile/0/007",
            Some(flipped("tile/0/007", 3)),
            0,
            "it was changed",
        ),
        (
            "runs/0-8192.sha256",
            Some(b"x\n".to_vec()),
            0,
            "it is malformed",
        ),
        (
            "runs/0-8192.sha256",
            Some(Vec::new()),
            0,
            "not those that the ledger has",
        ),
    ];
    for (name, bytes, index, words) in cases {
        let sound = fs::read(folder.join(name)).unwrap();
        match bytes {
            Some(bytes) => fs::write(folder.join(name), bytes).unwrap(),
            None => fs::remove_file(folder.join(name)).unwrap(),
        }
        let found = verified(&bed, Some(folder.clone())).await.unwrap();
        let Step::Unsound(finding) = found else {
            panic!("{name}: {found:?}")
        };
        let text = finding.to_string();
        assert!(
            finding.index == index && text.contains(words),
            "{name}: {text}"
        );
        if name.starts_with("tile/entries") {
            let error = ledger.reader().open_private(index).await.unwrap_err();
            assert!(chain(&error).contains(words), "{error}");
        }
        fs::write(folder.join(name), sound).unwrap();
    }
    assert_eq!(
        verified(&bed, Some(folder.clone())).await.unwrap(),
        Step::Sound
    );
    // Who has the database can say that more is archived; the ledger does not say so.
    bed.execute("UPDATE head SET detached = 12288")
        .await
        .unwrap();
    bed.execute("DELETE FROM entry WHERE idx < 12288")
        .await
        .unwrap();
    let found = verified(&bed, Some(folder)).await.unwrap();
    let Step::Unsound(finding) = found else {
        panic!("{found:?}")
    };
    assert_eq!(finding.index, OLD);
    assert!(
        matches!(finding.problem, Problem::Archive { .. }),
        "{finding}"
    );
}

async fn private_parts_of_archived_entries_are_erased(bed: Bed) {
    let ledger = filled(&bed).await;
    archive(&ledger, NOW + 1).await;
    let reader = ledger.reader();
    assert!(reader.open_private(7).await.unwrap().is_some());
    let erasable = reader.erasable(&[7, 5_000]).await.unwrap();
    assert_eq!(erasable.len(), 1);
    let entry = Entry {
        kind: Kind::Erase.into(),
        erase: Some(Erase {
            indices: vec![7],
            private_parts: 1,
            ..Erase::default()
        }),
        ..Entry::default()
    };
    let erase = Append::new(entry).with(Effect::Erase { indices: vec![7] });
    ledger.appender().append(erase).await.unwrap();
    assert!(reader.open_private(7).await.unwrap().is_none());
    let by_subject = EntryFilter {
        subject: SUBJECT.into(),
        ..EntryFilter::default()
    };
    let found = matching(&ledger, &by_subject).await;
    assert_eq!(found.len() as u64, PROVEN - 1);
    assert_eq!(
        verified(&bed, Some(folder(&bed))).await.unwrap(),
        Step::Sound
    );
}

async fn backup_of_what_is_not_archived_is_restored_beside_the_archive(bed: Bed) {
    let ledger = filled(&bed).await;
    let run = ledger.write_run(0..4_096, |_| {}).await.unwrap();
    detach(&ledger, &run).await.unwrap();
    // Some of its rows are there still: they are not part of the backup.
    assert_eq!(ledger.drop_archived().await.unwrap(), 512);
    let before = read(&ledger).await;
    let copy = bed.folder.path().join("copy");
    let manifest = backup::write(&bed.url, &copy, 5, &mut |_| {})
        .await
        .unwrap();
    assert_eq!(manifest.archived, 4_096);
    assert_eq!(manifest.parts[0].rows, OLD + YOUNG + 1 - 4_096);
    ledger.close().await;

    let keys = vec![signer(ORIGIN, 1).verifier().clone()];
    for target in [Bed::sqlite(), Bed::postgres()] {
        let mut progress = |_| {};
        let refused =
            backup::restore(&copy, &target.url, None, keys.clone(), None, &mut progress).await;
        let error = refused.unwrap_err();
        let unnamed = StoreError::ArchiveUnnamed { before: 4_096 }.to_string();
        assert!(
            matches!(error, BackupError::Store(_)) && error.to_string() == unnamed,
            "{error}"
        );
        let beside = Some(folder(&bed));
        let restored =
            backup::restore(&copy, &target.url, None, keys.clone(), beside, &mut |_| {}).await;
        assert_eq!(restored.unwrap(), manifest);
        let settings = LedgerSettings {
            archive: Some(folder(&bed)),
            keys: bed.folder.path().join("keys"),
            ..target.settings("one")
        };
        let ledger = wait_for("the ledger", || async {
            target.try_open(settings.clone()).await.ok()
        })
        .await;
        assert!(read(&ledger).await == before);
        ledger.close().await;
    }
}
