//! What must be known before a ledger is written to: the anchor, the agreement of a witness, the mark of a rollback.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use banqiao_ledger::{
    Append, AppendError, EpochError, FailureKind, FreezeReason, Ledger, LedgerObserver,
    LedgerSettings, LedgerState, begin_epoch, standing,
    verify::{Problem, Step, Verification},
};
use banqiao_proto::ledger::v1::{Entry, Epoch, Kind};
use banqiao_tlog::{checkpoint::Checkpoint, hash::TreeHead, note::Note};

use crate::bed::{
    Bed, ORIGIN, chain, claiming, closing, entries, id, on_both_stores, opening, ready, signer,
    state, wait_for,
};

on_both_stores! {
    epoch_begins_with_what_it_takes_the_place_of,
    frozen_ledger_stays_frozen_after_a_restart,
    held_ledger_takes_nothing_until_it_is_confirmed,
}

fn unconfirmed(state: LedgerState) -> bool {
    state == LedgerState::Frozen(FreezeReason::Unconfirmed)
}

async fn held_ledger_takes_nothing_until_it_is_confirmed(bed: Bed) {
    let first = bed.open("one").await;
    assert!(first.doubted(), "an empty one");
    first.appender().append(opening(id(1))).await.unwrap();
    first.close().await;
    let hold = LedgerSettings {
        hold: true,
        ..bed.settings("two")
    };
    let ledger = bed.open_with(hold).await;
    state(&ledger, unconfirmed).await;
    assert!(!ledger.writable() && !ledger.doubted());
    let appender = ledger.appender();
    let refused = appender.append(claiming(id(2))).await;
    assert_eq!(refused, Err(AppendError::Frozen));
    // What may wait waits; nothing is closed for the boot that is over.
    let end = appender.append_queued(closing(id(1)));
    assert_eq!(entries(&ledger).await.len(), 1);
    ledger.confirm().await.unwrap();
    ready(&ledger).await;
    // The call was closed by one of the two.
    let ended = end.await;
    assert!(
        matches!(&ended, Ok(_) | Err(AppendError::AlreadyClosed)),
        "{ended:?}"
    );
    appender.append(claiming(id(2))).await.unwrap();
    assert_eq!(entries(&ledger).await.len(), 3);
    ledger.close().await;
}

async fn frozen_ledger_stays_frozen_after_a_restart(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    appender.append(claiming(id(1))).await.unwrap();
    ledger.freeze("a witness holds more".into()).await.unwrap();
    state(&ledger, |state| matches!(state, LedgerState::Frozen(_))).await;
    assert_eq!(
        appender.append(claiming(id(2))).await,
        Err(AppendError::Frozen)
    );
    assert_eq!(entries(&ledger).await.len(), 1, "it can be read");
    ledger.close().await;
    // Who closes a ledger that cannot be written does not wait for its thread.
    let refused = wait_for("the file to be free", || async {
        let refused = chain(&bed.try_open(bed.settings("two")).await.unwrap_err());
        (!refused.contains("another process")).then_some(refused)
    })
    .await;
    assert!(refused.contains("marked as frozen"), "{refused}");
    // A gateway starts all the same, and says so.
    let hold = LedgerSettings {
        hold: true,
        ..bed.settings("two")
    };
    let ledger = bed.open_with(hold).await;
    let frozen = LedgerState::Frozen(FreezeReason::Flagged);
    state(&ledger, |state| state == frozen).await;
    assert!(ledger.confirm().await.is_err());
    assert_eq!(entries(&ledger).await.len(), 1);
    ledger.close().await;
}

/// Size that an anchor states.
fn anchored(path: &Path) -> Option<u64> {
    let note = Note::parse(&fs::read(path).ok()?).unwrap();
    let keys = [signer(ORIGIN, 1).verifier().clone()];
    Some(Checkpoint::open(&note, ORIGIN, &keys).unwrap().size())
}

async fn written(ledger: &Ledger, anchor: &Path) {
    wait_for("the anchor", || async {
        (anchored(anchor) == Some(ledger.size())).then_some(())
    })
    .await;
}

/// The database's file with all that was committed.
async fn file(bed: &Bed) -> Vec<u8> {
    bed.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        .await
        .unwrap();
    fs::read(bed.file()).unwrap()
}

fn set_back(bed: &Bed, file: &[u8]) {
    for ending in ["db-wal", "db-shm"] {
        let _ = fs::remove_file(bed.file().with_extension(ending));
    }
    fs::write(bed.file(), file).unwrap();
}

/// Counts how often a ledger was found to be unusable.
#[derive(Default)]
struct Attempts(AtomicUsize);

impl LedgerObserver for Attempts {
    fn committed(&self, _: usize, _: usize, _: Duration) {}
    fn queue_depth(&self, _: usize) {}
    fn failed(&self, kind: FailureKind) {
        assert_eq!(kind, FailureKind::Frozen);
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn database_behind_its_anchor_is_refused() {
    let bed = Bed::sqlite();
    let elsewhere = tempfile::tempdir().unwrap();
    let anchor = elsewhere.path().join("anchor");
    let settings = LedgerSettings {
        anchor: Some(anchor.clone()),
        ..bed.settings("one")
    };
    let ledger = bed.open_with(settings.clone()).await;
    ledger.appender().append(claiming(id(1))).await.unwrap();
    written(&ledger, &anchor).await;
    ledger.close().await;
    let old = file(&bed).await;
    let ledger = bed.open_with(settings.clone()).await;
    ledger.appender().append(claiming(id(2))).await.unwrap();
    written(&ledger, &anchor).await;
    ledger.close().await;
    let new = file(&bed).await;

    let refused =
        async |settings: LedgerSettings| chain(&bed.try_open(settings).await.unwrap_err());
    // The disk of the database was set back, and the other was not.
    set_back(&bed, &old);
    let said = refused(settings.clone()).await;
    assert!(said.contains("LEDGER_ROLLBACK"), "{said}");
    let hold = LedgerSettings {
        hold: true,
        ..settings.clone()
    };
    let attempts = Arc::new(Attempts::default());
    let observer = Arc::<Attempts>::clone(&attempts);
    let ledger = Ledger::open(hold, bed.clock(), observer).await.unwrap();
    // However often it looks again.
    wait_for("some attempts", || async {
        (attempts.0.load(Ordering::SeqCst) > 4).then_some(())
    })
    .await;
    let frozen = LedgerState::Frozen(FreezeReason::Rollback);
    assert_eq!(*ledger.state().borrow(), frozen);
    ledger.close().await;
    // As many entries, and others.
    let ledger = bed.open("one").await;
    ledger.appender().append(claiming(id(3))).await.unwrap();
    ledger.close().await;
    let said = refused(settings.clone()).await;
    assert!(said.contains("LEDGER_ROLLBACK"), "{said}");
    // An anchor that nobody signed says nothing, and is no reason to go on.
    set_back(&bed, &new);
    let sound = fs::read_to_string(&anchor).unwrap();
    fs::write(&anchor, sound.replace("\n2\n", "\n1\n")).unwrap();
    let said = refused(settings.clone()).await;
    assert!(said.contains("no checkpoint of this ledger"), "{said}");
    fs::write(&anchor, sound).unwrap();
    let ledger = bed.open_with(settings).await;
    assert_eq!(entries(&ledger).await.len(), 2);
    ledger.close().await;
}

const NEXT: &str = "qingdao.jiaodong/ledger/2";

/// The first entry of the second epoch.
fn second() -> Epoch {
    let head = TreeHead {
        size: 7,
        root: [3; 32],
    };
    let last = Checkpoint::new(ORIGIN, head).unwrap();
    Epoch {
        epoch: 2,
        predecessor: ORIGIN.into(),
        checkpoint: last.sign(&signer(ORIGIN, 1)).unwrap().to_string(),
        receipts: vec![vec![1; 32], vec![2; 32]],
        lost: 3,
    }
}

async fn problem(bed: &Bed) -> Option<Problem> {
    let key = signer(NEXT, 2).verifier().clone();
    let mut verification = Verification::open(&bed.url, vec![key], None).await.unwrap();
    loop {
        match verification.step().await.unwrap() {
            Step::More(_) => {}
            Step::Sound => return None,
            Step::Unsound(finding) => return Some(finding.problem),
        }
    }
}

async fn epoch_begins_with_what_it_takes_the_place_of(bed: Bed) {
    let settings = |bed: &Bed| LedgerSettings {
        signer: signer(NEXT, 2),
        ..bed.settings("one")
    };
    let began = begin_epoch(settings(&bed), bed.clock(), second()).await;
    assert_eq!(began.unwrap(), 0);
    let again = begin_epoch(settings(&bed), bed.clock(), second()).await;
    assert!(matches!(again, Err(EpochError::NotEmpty(1))), "{again:?}");
    let held = standing(&bed.url).await.unwrap();
    assert_eq!((held.size, held.origin.as_deref()), (1, Some(NEXT)));
    assert_eq!((held.city.as_str(), held.frozen), ("370200", None));
    let ledger = bed.open_with(settings(&bed)).await;
    assert!(ledger.doubted(), "a witness has to agree");
    assert_eq!(entries(&ledger).await[0].epoch, Some(second()));
    ledger.appender().append(claiming(id(1))).await.unwrap();
    ledger.close().await;
    assert_eq!(problem(&bed).await, None);

    let other = |bed: &Bed| {
        if bed.is_postgres() {
            Bed::postgres()
        } else {
            Bed::sqlite()
        }
    };
    // One that says nothing of what came before, and ones that say something else.
    let silent = other(&bed);
    let ledger = silent.open_with(settings(&silent)).await;
    ledger.appender().append(claiming(id(1))).await.unwrap();
    ledger.close().await;
    assert_eq!(problem(&silent).await, Some(Problem::Epoch));
    let changes: [fn(&mut Epoch); 3] = [
        |epoch| epoch.epoch = 3,
        |epoch| epoch.predecessor = NEXT.into(),
        |epoch| epoch.checkpoint = epoch.checkpoint.replace("ledger/1", "ledger/9"),
    ];
    for change in changes {
        let bed = other(&bed);
        let mut epoch = second();
        change(&mut epoch);
        begin_epoch(settings(&bed), bed.clock(), epoch)
            .await
            .unwrap();
        assert_eq!(problem(&bed).await, Some(Problem::Epoch));
    }
    let late = other(&bed);
    begin_epoch(settings(&late), late.clock(), second())
        .await
        .unwrap();
    let ledger = late.open_with(settings(&late)).await;
    let entry = Entry {
        kind: Kind::Epoch.into(),
        epoch: Some(second()),
        ..Entry::default()
    };
    ledger.appender().append(Append::new(entry)).await.unwrap();
    ledger.close().await;
    assert_eq!(problem(&late).await, Some(Problem::Epoch));
}
