//! Backups: of one moment, complete, and refused when they are not what was written.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use banqiao_ledger::{
    Append, AppendError, Contradiction, Credential, CredentialKind, DocumentKind, Effect,
    EvidenceKind, KeptCosignature, KeptLinks, Ledger, WitnessStep,
    backup::{self, BackupError, Manifest},
    digest::sha256,
    reconcile::{OpenAttempt, ReconcileStep, Turn},
    verify::{Step, Verification},
};
use banqiao_proto::ledger::v1::{Entry, Kind};
use banqiao_tlog::{
    hash::{TreeHead, leaf_hash},
    note::Verifier,
};
use sqlx::{Connection as _, SqliteConnection};

use crate::bed::{
    Bed, ORIGIN, append_all, chain, claiming, closing, entries, id, on_both_stores, opening,
    private, signer, wait_for,
};

on_both_stores! {
    backup_is_restored_into_either_store,
    backup_of_a_moment_is_made_while_entries_are_written,
    restore_that_fails_leaves_nothing_that_opens,
}

fn keys() -> Vec<Verifier> {
    vec![signer(ORIGIN, 1).verifier().clone()]
}

/// A ledger with something in every table; two of its calls are open.
async fn full(bed: &Bed) -> Ledger {
    let ledger = bed.open("one").await;
    let put = |key: &str| Effect::PutDocument {
        kind: DocumentKind::Grant,
        key: key.into(),
        bytes: b"a grant".to_vec(),
    };
    let mut appends: Vec<Append> = (0..300).map(|number| claiming(id(number))).collect();
    appends.push(opening(id(1_001)).with_private(private()));
    appends.push(opening(id(1_002)));
    appends.push(claiming(id(1_003)).with(put("one")));
    for outcome in append_all(&ledger.appender(), appends).await {
        outcome.unwrap();
    }
    shown_by_others(&ledger).await;
    let size = ledger.size();
    let reader = ledger.reader();
    wait_for("the checkpoint", || async {
        let head = reader.head().await.unwrap()?;
        (head.size() == size).then_some(())
    })
    .await;
    let kept = KeptCosignature {
        size,
        witness: "yantai.jiaodong/witness".into(),
        time_s: 1,
        line: "a line".into(),
    };
    ledger.keep_cosignature(kept).await.unwrap();
    let step = WitnessStep {
        origin: "yantai.jiaodong/ledger/1".into(),
        previous: None,
        next: TreeHead {
            size: 1,
            root: leaf_hash(b"a"),
        },
        note: "a note".into(),
    };
    assert!(ledger.step_witness(step).await.unwrap());
    ledger
}

/// What a ledger keeps of other cities.
async fn shown_by_others(ledger: &Ledger) {
    let origin = || "yantai.jiaodong/ledger/1".to_owned();
    let head = TreeHead {
        size: 1,
        root: leaf_hash(b"a"),
    };
    let links = KeptLinks {
        origin: origin(),
        note: "a note".into(),
        size: 2,
        links: vec![(head, vec![leaf_hash(b"b")])],
    };
    ledger.keep_links(links).await.unwrap();
    let contradiction = Contradiction {
        origin: origin(),
        time_us: 1,
        first: "a note".into(),
        second: "another".into(),
    };
    ledger.keep_contradiction(contradiction).await.unwrap();
    let credential = Credential {
        kind: CredentialKind::Crl,
        name: [7; 32],
        time_us: 1,
        bytes: b"a list".to_vec(),
    };
    ledger.keep_credential(credential).await.unwrap();
    let turn = Turn {
        city: "370600".into(),
        first_ms: 1,
        lasts: Duration::from_secs(60),
    };
    assert_eq!(ledger.claim_turn(turn).await.unwrap(), Some(1));
    let step = ReconcileStep {
        city: "370600".into(),
        from_ms: 1,
        until_ms: 2,
        at_us: 3,
        open: vec![OpenAttempt {
            exchange: [9; 16],
            attempt: 1,
        }],
        ..ReconcileStep::default()
    };
    let entry = Entry {
        kind: Kind::Reconciled.into(),
        ..Entry::default()
    };
    let receipt = Effect::Evidence {
        kind: EvidenceKind::Receipt,
        bytes: b"a receipt".as_slice().into(),
    };
    let append = Append::new(entry)
        .with(Effect::Reconciled(step))
        .with(receipt);
    ledger.appender().append(append).await.unwrap();
}

/// Tables that have rows only behind thousands of entries, or a month that is over: their own tests fill them.
const SELDOM: [&str; 4] = ["span", "posting", "presence", "retired_month"];

async fn write(bed: &Bed, name: &str) -> (PathBuf, Manifest) {
    let folder = bed.folder.path().join(name);
    let manifest = backup::write(&bed.url, &folder, 5, &mut |_| {}).await;
    (folder, manifest.unwrap())
}

async fn restore(folder: &Path, bed: &Bed) -> Result<Manifest, BackupError> {
    backup::restore(folder, &bed.url, None, keys(), None, &mut |_| {}).await
}

async fn sound(url: &str) {
    let mut verification = Verification::open(url, keys(), None).await.unwrap();
    loop {
        match verification.step().await.unwrap() {
            Step::More(_) => {}
            Step::Sound => return,
            Step::Unsound(finding) => panic!("{finding:?}"),
        }
    }
}

async fn backup_is_restored_into_either_store(bed: Bed) {
    let ledger = full(&bed).await;
    let before = entries(&ledger).await;
    let (folder, manifest) = write(&bed, "copy").await;
    assert_eq!(manifest.size, 304);
    assert_eq!(manifest.city, "370200");
    assert_eq!(manifest.origin.as_deref(), Some(ORIGIN));
    assert!(
        manifest
            .parts
            .iter()
            .all(|part| part.rows > 0 || SELDOM.contains(&part.table.as_str())),
        "{manifest:?}"
    );
    for target in [Bed::sqlite(), Bed::postgres()] {
        assert_eq!(restore(&folder, &target).await.unwrap(), manifest);
        sound(&target.url).await;
        // The month's keys are no part of a backup.
        let keys = bed.folder.path().join("keys");
        let mut settings = target.settings("two");
        settings.keys = keys;
        let restored = target.open_with(settings).await;
        assert!(restored.doubted(), "a witness has to agree");
        // What was open at the backup is closed as interrupted.
        let after = entries(&restored).await;
        assert_eq!(after.len(), before.len() + 2);
        assert_eq!(after[..before.len()], before[..]);
        let (revision, documents) = restored.documents(DocumentKind::Grant).await.unwrap();
        assert_eq!((revision, documents.len()), (1, 1));
        let appender = restored.appender();
        let replayed = appender.append(claiming(id(7))).await.unwrap_err();
        assert_eq!(replayed, AppendError::Replayed);
        appender.append(claiming(id(2_000))).await.unwrap();
        restored.confirm().await.unwrap();
        assert!(!restored.doubted());
        restored.close().await;
        let again = restore(&folder, &target).await.unwrap_err();
        assert!(matches!(again, BackupError::NotEmpty), "{again}");
    }
    ledger.close().await;
}

async fn backup_of_a_moment_is_made_while_entries_are_written(bed: Bed) {
    let ledger = full(&bed).await;
    let appender = ledger.appender();
    let writing = async {
        let mut number = 10_000;
        loop {
            let appends = (0..50).map(|more| opening(id(number + more))).collect();
            append_all(&appender, appends).await;
            let appends = (0..50).map(|more| closing(id(number + more))).collect();
            append_all(&appender, appends).await;
            number += 50;
        }
    };
    let backing_up = async {
        let mut manifests = Vec::new();
        for number in 0..3 {
            let size = ledger.size();
            manifests.push(write(&bed, &format!("copy{number}")).await);
            // Something came between, or this would show nothing.
            wait_for("more entries", || async {
                (ledger.size() > size).then_some(())
            })
            .await;
        }
        manifests
    };
    let manifests = tokio::select! {
        manifests = backing_up => manifests,
        () = writing => panic!("it ends never"),
    };
    for (folder, manifest) in manifests {
        let target = Bed::sqlite();
        assert_eq!(restore(&folder, &target).await.unwrap(), manifest);
        sound(&target.url).await;
    }
    ledger.close().await;
}

async fn restore_that_fails_leaves_nothing_that_opens(bed: Bed) {
    let ledger = full(&bed).await;
    let (folder, _) = write(&bed, "copy").await;
    ledger.close().await;
    let target = if bed.is_postgres() {
        Bed::postgres()
    } else {
        Bed::sqlite()
    };
    let other = vec![signer(ORIGIN, 2).verifier().clone()];
    let unsound = backup::restore(&folder, &target.url, None, other, None, &mut |_| {}).await;
    assert!(
        matches!(unsound, Err(BackupError::Unsound { .. })),
        "{unsound:?}"
    );
    let refused = chain(&target.try_open(target.settings("two")).await.unwrap_err());
    assert!(refused.contains("marked as frozen"), "{refused}");
    let again = restore(&folder, &target).await.unwrap_err();
    assert!(matches!(again, BackupError::NotEmpty), "{again}");
}

/// A table or column that a backup forgets would be missing here.
#[tokio::test]
async fn every_row_of_every_table_returns() {
    let bed = Bed::sqlite();
    let ledger = full(&bed).await;
    let (folder, manifest) = write(&bed, "copy").await;
    let target = Bed::sqlite();
    restore(&folder, &target).await.unwrap();
    let mut connection = SqliteConnection::connect(&target.url).await.unwrap();
    let attach = format!("ATTACH '{}' AS source", bed.file().display());
    let leaked = |sql: String| -> &'static str { Box::leak(sql.into_boxed_str()) };
    sqlx::query(leaked(attach))
        .execute(&mut connection)
        .await
        .unwrap();
    let tables: Vec<String> = sqlx::query_scalar(
        "SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%' \
         AND name <> '_sqlx_migrations'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    let known: BTreeSet<String> = manifest
        .parts
        .iter()
        .map(|part| part.table.clone())
        .collect();
    for table in tables {
        // The manifest has the head; a lease is of a process.
        if table == "head" || table == "lease" {
            continue;
        }
        assert!(known.contains(&table), "{table} is in no backup");
        let differ = format!(
            "SELECT (SELECT count(*) FROM (SELECT * FROM source.{table} EXCEPT SELECT * FROM main.{table})) \
             + (SELECT count(*) FROM (SELECT * FROM main.{table} EXCEPT SELECT * FROM source.{table}))"
        );
        let differ: i64 = sqlx::query_scalar(leaked(differ))
            .fetch_one(&mut connection)
            .await
            .unwrap();
        assert_eq!(differ, 0, "{table}");
    }
    ledger.close().await;
}

/// Writes the sums anew, as somebody would who has changed a backup on purpose.
fn sums(folder: &Path) {
    let mut text = String::new();
    for file in fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
    {
        let name = file.file_name().unwrap().to_str().unwrap().to_owned();
        if name != "SHA256SUMS" {
            let sum = hex::encode(sha256(&fs::read(&file).unwrap()));
            text.push_str(&format!("{sum}  {name}\n"));
        }
    }
    fs::write(folder.join("SHA256SUMS"), text).unwrap();
}

#[tokio::test]
async fn every_fault_of_a_backup_is_found() {
    let bed = Bed::sqlite();
    let ledger = full(&bed).await;
    let (folder, manifest) = write(&bed, "copy").await;
    ledger.close().await;
    let exists = backup::write(&bed.url, &folder, 5, &mut |_| {}).await;
    assert!(matches!(exists, Err(BackupError::Exists(_))), "{exists:?}");
    let target = Bed::sqlite();
    let refused = async |what: &str| {
        let error = chain(&restore(&folder, &target).await.unwrap_err());
        assert!(!target.file().exists(), "{what}: nothing was begun");
        error
    };
    let files: Vec<PathBuf> = fs::read_dir(&folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    // Beside the parts the manifest and the sums.
    assert_eq!(files.len(), manifest.parts.len() + 2);
    for file in &files {
        let sound = fs::read(file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        let mut cut = sound.clone();
        cut.pop();
        let mut changed = sound.clone();
        // In the sums: the line of the manifest, which is the one that the others hang on.
        let at = if name == "SHA256SUMS" {
            sound.len() - 50
        } else {
            sound.len() / 2
        };
        changed[at] ^= 1;
        let longer = [&sound[..], &sound[..]].concat();
        for (what, bytes) in [("cut", cut), ("changed", changed), ("longer", longer)] {
            // Without its last newline, or twice, the list of sums says the same.
            if name == "SHA256SUMS" && what != "changed" {
                continue;
            }
            fs::write(file, &bytes).unwrap();
            let error = refused(what).await;
            assert!(error.contains("is damaged"), "{name} {what}: {error}");
        }
        fs::remove_file(file).unwrap();
        let error = refused("missing").await;
        assert!(error.contains("cannot read"), "{name}: {error}");
        fs::write(file, &sound).unwrap();
    }
    let path = folder.join("manifest.json");
    let sound = fs::read_to_string(&path).unwrap();
    for (from, to, expected) in [
        ("\"size\": 304", "\"size\": 302", "another tree"),
        (
            "qingdao.jiaodong/ledger/1\\n304\\n",
            "qingdao.jiaodong/ledger/1\\n302\\n",
            "another tree",
        ),
        ("banqiao-backup-1", "banqiao-backup-2", "another format"),
        (
            "\"table\": \"tile\"",
            "\"table\": \"tiles\"",
            "the tables of a ledger",
        ),
        ("\"created_us\": 5", "\"created\": 5", "unknown field"),
    ] {
        assert!(sound.contains(from), "{from}");
        fs::write(&path, sound.replace(from, to)).unwrap();
        sums(&folder);
        let error = refused(to).await;
        assert!(error.contains(expected), "{error}");
    }
    fs::write(&path, &sound).unwrap();
    sums(&folder);
    let city = Some("370600".parse().unwrap());
    let other = backup::restore(&folder, &target.url, city, keys(), None, &mut |_| {}).await;
    assert!(
        matches!(other, Err(BackupError::OtherCity { .. })),
        "{other:?}"
    );
    restore(&folder, &target).await.unwrap();
}
