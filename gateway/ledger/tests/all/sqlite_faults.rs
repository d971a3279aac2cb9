//! What can happen to a file.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    process::Command,
};

use banqiao_ledger::{AppendError, FreezeReason, LedgerSettings, LedgerState};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{EntryFilter, Kind},
};

use crate::bed::{Bed, chain, claiming, closing, id, matching, opening, ready, state, wait_for};

const STORAGE: LedgerState = LedgerState::Frozen(FreezeReason::Storage);

#[tokio::test]
async fn file_made_read_only_refuses_until_it_is_writable() {
    let bed = Bed::sqlite();
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    appender.append(opening(id(1))).await.unwrap();
    fs::set_permissions(bed.file(), Permissions::from_mode(0o400)).unwrap();
    // Nothing was lost that was not acknowledged: the first append after it is refused, or finds it frozen.
    let outcome = appender.append(claiming(id(2))).await;
    assert_eq!(outcome, Err(AppendError::Frozen));
    state(&ledger, |state| state == STORAGE).await;
    assert_eq!(
        appender.append(claiming(id(2))).await,
        Err(AppendError::Frozen)
    );
    ledger.count_gap(Reason::LedgerUnavailable, None);
    ledger.count_gap(Reason::LedgerUnavailable, None);
    let end = appender.append_queued(closing(id(1)));
    assert_eq!(ledger.size(), 1);

    fs::set_permissions(bed.file(), Permissions::from_mode(0o600)).unwrap();
    ready(&ledger).await;
    end.await.unwrap();
    appender.append(claiming(id(2))).await.unwrap();
    let filter = EntryFilter {
        kinds: vec![Kind::Summary.into()],
        ..EntryFilter::default()
    };
    let gaps = wait_for("the gap", || async {
        let found = matching(&ledger, &filter).await;
        (!found.is_empty()).then_some(found)
    })
    .await;
    let summary = gaps[0].summary.as_ref().unwrap();
    assert!(summary.gap);
    assert_eq!(summary.counts[0].count, 2);
    assert_eq!(summary.counts[0].reason(), Reason::LedgerUnavailable);
}

#[tokio::test]
async fn file_that_is_gone_is_not_made_anew() {
    let bed = Bed::sqlite();
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    appender.append(claiming(id(1))).await.unwrap();
    let away = bed.folder.path().join("away");
    fs::create_dir(&away).unwrap();
    let files = ["ledger.db", "ledger.db-wal", "ledger.db-shm"];
    for file in files {
        fs::rename(bed.folder.path().join(file), away.join(file)).unwrap();
    }
    assert_eq!(
        appender.append(claiming(id(2))).await,
        Err(AppendError::Frozen)
    );
    state(&ledger, |state| state == STORAGE).await;
    assert!(!bed.file().exists());
    for file in files {
        // Closing the file may have folded the WAL into it.
        let _ = fs::rename(away.join(file), bed.folder.path().join(file));
    }
    ready(&ledger).await;
    appender.append(claiming(id(2))).await.unwrap();
    assert_eq!(ledger.size(), 2);
}

#[tokio::test]
async fn older_copy_of_the_file_is_a_rollback() {
    let bed = Bed::sqlite();
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    appender.append(claiming(id(1))).await.unwrap();
    bed.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        .await
        .unwrap();
    let copy = bed.folder.path().join("copy.db");
    fs::copy(bed.file(), &copy).unwrap();
    appender.append(claiming(id(2))).await.unwrap();
    let newest = bed.folder.path().join("newest.db");
    bed.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        .await
        .unwrap();
    fs::copy(bed.file(), &newest).unwrap();

    fs::rename(&copy, bed.file()).unwrap();
    assert_eq!(
        appender.append(claiming(id(3))).await,
        Err(AppendError::Frozen)
    );
    let rollback = LedgerState::Frozen(FreezeReason::Rollback);
    state(&ledger, |state| state == rollback).await;
    assert_eq!(
        appender.append(claiming(id(3))).await,
        Err(AppendError::Frozen)
    );

    // The way out is a better backup.
    fs::rename(&newest, bed.file()).unwrap();
    ready(&ledger).await;
    assert_eq!(
        appender.append(claiming(id(2))).await,
        Err(AppendError::Replayed)
    );
    assert_eq!(appender.append(claiming(id(3))).await.unwrap().index, 2);
}

#[tokio::test]
async fn only_one_process_may_own_the_file() {
    let bed = Bed::sqlite();
    let ledger = bed.open("one").await;
    let error = bed.try_open(bed.settings("two")).await.unwrap_err();
    assert!(
        chain(&error).contains("another process uses"),
        "{}",
        chain(&error)
    );
    ledger.close().await;
    bed.open("two").await;
}

/// A file system of two megabytes, where the machine lets us have one.
struct Small(std::path::PathBuf);

impl Small {
    fn mount(at: std::path::PathBuf) -> Option<Self> {
        fs::create_dir(&at).unwrap();
        let mut mount = Command::new("mount");
        let mounted = mount
            .args(["-t", "tmpfs", "-o", "size=2m", "tmpfs"])
            .arg(&at)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Self(at))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[tokio::test]
async fn full_disk_refuses_until_there_is_room() {
    let bed = Bed::sqlite();
    let Some(small) = Small::mount(bed.folder.path().join("small")) else {
        eprintln!("SKIPPED: no file system can be mounted here");
        return;
    };
    let url = format!("sqlite://{}", small.0.join("ledger.db").display());
    let ledger = bed
        .open_with(LedgerSettings {
            url,
            ..bed.settings("one")
        })
        .await;
    let appender = ledger.appender();
    appender.append(opening(id(0))).await.unwrap();
    let ballast = small.0.join("ballast");
    fs::write(&ballast, vec![0; 1 << 20]).unwrap();
    let mut committed = 1;
    let error = loop {
        let mut append = claiming(id(committed));
        append.entry.basis = "x".repeat(20_000);
        match appender.append(append).await {
            Ok(_) => committed += 1,
            Err(error) => break error,
        }
    };
    assert!(committed < 200);
    // The commit may have failed before its end (refused) or at it (found out later to be absent, and tried again).
    assert!(
        matches!(error, AppendError::Frozen | AppendError::Unavailable),
        "{error:?}"
    );
    state(&ledger, |state| state == STORAGE).await;
    let end = appender.append_queued(closing(id(0)));
    fs::remove_file(&ballast).unwrap();
    ready(&ledger).await;
    end.await.unwrap();
    appender.append(claiming(id(committed + 1))).await.unwrap();
    for number in 1..committed {
        let found = ledger.reader().exchange(id(number), false).await.unwrap();
        assert_eq!(found.len(), 1, "what was acknowledged is there: {number}");
    }
    ledger.close().await;
}
