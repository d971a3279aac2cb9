//! Appending: order, atomicity, the queue, and the end.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use banqiao_ledger::{
    AppendError, DocumentKind, Effect, FailureKind, Ledger, LedgerObserver, LedgerState,
    digest::{Frontier, leaf_hash},
};
use banqiao_proto::ledger::v1::Kind;
use parking_lot::Mutex;

use crate::bed::{Bed, append_all, claiming, closing, entries, id, on_both_stores, opening, ready};

on_both_stores![
    indices_are_dense_under_concurrent_appenders,
    counters_have_no_holes,
    everything_queued_is_committed_before_the_end,
    entries_cannot_be_changed_or_removed,
    full_queue_refuses_but_never_an_end,
    dropped_wait_does_not_cancel_the_commit,
    rejected_entry_does_not_take_its_batch_with_it,
    head_is_the_tree_over_all_leaves,
];

async fn indices_are_dense_under_concurrent_appenders(bed: Bed) {
    let ledger = bed.open("one").await;
    let tasks: Vec<_> = (0..8)
        .map(|task| {
            let ledger = ledger.clone();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .build()
                    .unwrap();
                runtime.block_on(async {
                    let appender = ledger.appender();
                    let exchanges = (0..50).map(|number| id(task * 1_000 + number));
                    append_all(&appender, exchanges.map(claiming).collect()).await
                })
            })
        })
        .collect();
    let outcomes = tokio::task::spawn_blocking(|| {
        tasks
            .into_iter()
            .flat_map(|task| task.join().unwrap())
            .collect::<Vec<_>>()
    });
    let indices: BTreeSet<u64> = outcomes
        .await
        .unwrap()
        .into_iter()
        .map(|outcome| outcome.unwrap().index)
        .collect();
    assert!(indices.into_iter().eq(0..400));
    assert_eq!(ledger.size(), 400);
    assert_eq!(entries(&ledger).await.len(), 400);
}

async fn counters_have_no_holes(bed: Bed) {
    let ledger = bed.open("one").await;
    let appends = [1, 2, 1, 3, 2, 4].map(|number| claiming(id(number)));
    let outcomes = append_all(&ledger.appender(), appends.into()).await;
    let refused: Vec<bool> = outcomes.iter().map(Result::is_err).collect();
    assert_eq!(refused, [false, false, true, false, true, false]);
    let counters: Vec<u64> = entries(&ledger)
        .await
        .into_iter()
        .map(|entry| {
            let replica = entry.replica.unwrap();
            assert_eq!(
                (replica.id.as_str(), &replica.boot[..]),
                ("one", &ledger.boot().as_bytes()[..])
            );
            replica.counter
        })
        .collect();
    assert_eq!(counters, [0, 1, 2, 3]);
}

async fn everything_queued_is_committed_before_the_end(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    let waiting: Vec<_> = (0..200)
        .map(|number| appender.append(claiming(id(number))))
        .collect();
    let mut state = ledger.state();
    ledger.count(banqiao_proto::exchange::v1::Reason::Overloaded, None);
    ledger.clone().close().await;
    for waiting in waiting {
        waiting.await.unwrap();
    }
    assert_eq!(*state.borrow_and_update(), LedgerState::Closed);
    assert_eq!(
        appender.append(claiming(id(999))).await,
        Err(AppendError::Unavailable)
    );
    assert_eq!(
        appender.append_queued(claiming(id(999))).await,
        Err(AppendError::Unavailable)
    );
    assert_eq!(
        bed.count("SELECT count(*) FROM lease").await,
        0,
        "the lease is released"
    );

    let again = bed.open("one").await;
    let found = entries(&again).await;
    assert_eq!(found.len(), 201);
    assert_eq!(found[200].kind(), Kind::Summary);
}

async fn entries_cannot_be_changed_or_removed(bed: Bed) {
    let ledger = bed.open("one").await;
    ledger.appender().append(claiming(id(1))).await.unwrap();
    for sql in [
        "UPDATE entry SET kind = 2",
        "DELETE FROM entry",
        "UPDATE entry_uid SET idx = 7",
        "DELETE FROM entry_uid",
        "DELETE FROM claim",
    ] {
        let error = bed.execute(sql).await.unwrap_err();
        assert!(
            error.to_string().contains("never changed or removed"),
            "{sql}: {error}"
        );
    }
}

async fn full_queue_refuses_but_never_an_end(bed: Bed) {
    let ledger = bed
        .open_with(banqiao_ledger::LedgerSettings {
            queue: 4,
            reserve: 2,
            ..bed.settings("one")
        })
        .await;
    let appender = ledger.appender();
    for number in 0..3 {
        appender.append(opening(id(number))).await.unwrap();
    }
    let held = Held::head(&bed).await;
    let waiting: Vec<_> = (10..14)
        .map(|number| appender.append(claiming(id(number))))
        .collect();
    assert_eq!(
        appender.append(claiming(id(14))).await,
        Err(AppendError::QueueFull)
    );
    let ends: Vec<_> = (0..3)
        .map(|number| appender.append_queued(closing(id(number))))
        .collect();
    held.release().await;
    for waiting in waiting.into_iter().chain(ends) {
        waiting.await.unwrap();
    }
    appender.append(claiming(id(15))).await.unwrap();
    assert_eq!(bed.count("SELECT count(*) FROM in_flight").await, 0);
}

async fn dropped_wait_does_not_cancel_the_commit(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    drop(appender.append(opening(id(1))));
    // The end stands behind the beginning that nobody waits for any more.
    appender.append_queued(closing(id(1))).await.unwrap();
    assert_eq!(ledger.size(), 2);
}

async fn rejected_entry_does_not_take_its_batch_with_it(bed: Bed) {
    let ledger = bed.open("one").await;
    bed.execute(if bed.is_postgres() {
        "CREATE FUNCTION poison() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
         IF encode(NEW.key, 'escape') = 'poison' THEN RAISE EXCEPTION 'poison' USING ERRCODE = '22000'; \
         END IF; RETURN NEW; END $$; \
         CREATE TRIGGER poison BEFORE INSERT ON document FOR EACH ROW EXECUTE FUNCTION poison()"
    } else {
        "CREATE TRIGGER poison BEFORE INSERT ON document WHEN NEW.key = x'706f69736f6e' \
         BEGIN SELECT RAISE(ABORT, 'poison'); END"
    })
    .await
    .unwrap();
    let appender = ledger.appender();
    let held = Held::head(&bed).await;
    let good = |number| {
        let put = Effect::PutDocument {
            kind: DocumentKind::Grant,
            key: "good".into(),
            bytes: vec![],
        };
        appender.append_queued(claiming(id(number)).with(put))
    };
    let bytes = b"x".to_vec();
    let poison = Effect::PutDocument {
        kind: DocumentKind::Grant,
        key: "poison".into(),
        bytes,
    };
    let before: Vec<_> = (0..5).map(good).collect();
    let poisoned = appender.append_queued(claiming(id(99)).with(poison));
    let behind: Vec<_> = (10..15).map(good).collect();
    held.release().await;
    for waiting in before {
        waiting.await.unwrap();
    }
    assert_eq!(poisoned.await, Err(AppendError::Unavailable));
    for waiting in behind {
        waiting.await.unwrap();
    }
    ready(&ledger).await;
    // Nothing of the poisoned entry is there, and no index is missing.
    assert_eq!(entries(&ledger).await.len(), 10);
    assert_eq!(bed.count("SELECT count(*) FROM claim").await, 10);
    assert_eq!(
        ledger.documents(DocumentKind::Grant).await.unwrap().1.len(),
        1
    );
    appender.append(claiming(id(99))).await.unwrap();
}

async fn head_is_the_tree_over_all_leaves(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    let mut tree = Frontier::new();
    for batch in 0..5 {
        let appends = (0..=batch * 7)
            .map(|number| claiming(id(batch * 100 + number)))
            .collect();
        for outcome in append_all(&appender, appends).await {
            let appended = outcome.unwrap();
            assert_eq!(appended.index, tree.count());
            tree.push(appended.leaf);
        }
    }
    let mut tail = ledger.reader().tail(Some(0)).await.unwrap();
    let mut again = Frontier::new();
    loop {
        let found = tail.ready().await.unwrap();
        if found.is_empty() {
            break;
        }
        found
            .iter()
            .for_each(|stored| again.push(leaf_hash(&stored.bytes)));
    }
    assert_eq!(again, tree);
    // The ledger opens only when its head agrees with its entries.
    ledger.close().await;
    bed.open("one").await.close().await;
}

#[derive(Default)]
struct Watching {
    commits: Mutex<Vec<(usize, usize, Duration)>>,
    failures: Mutex<Vec<FailureKind>>,
}

impl LedgerObserver for Watching {
    fn committed(&self, entries: usize, bytes: usize, took: Duration) {
        self.commits.lock().push((entries, bytes, took));
    }
    fn queue_depth(&self, _: usize) {}
    fn failed(&self, kind: FailureKind) {
        self.failures.lock().push(kind);
    }
}

/// What arrives during a commit is the next batch, and callers of one runtime are answered together.
#[tokio::test]
async fn waiting_entries_are_committed_in_one_batch() {
    let bed = Bed::sqlite();
    let watching = Arc::new(Watching::default());
    let observer = Arc::clone(&watching);
    let ledger = Ledger::open(bed.settings("one"), bed.clock(), observer)
        .await
        .unwrap();
    let held = Held::head(&bed).await;
    let appender = ledger.appender();
    let first = appender.append(claiming(id(0)));
    let waiting: Vec<_> = (1..300)
        .map(|number| appender.append(claiming(id(number))))
        .collect();
    held.release().await;
    first.await.unwrap();
    for waiting in waiting {
        waiting.await.unwrap();
    }
    let commits = watching.commits.lock().clone();
    assert!(commits.len() <= 3, "{} commits", commits.len());
    assert_eq!(commits.iter().map(|commit| commit.0).sum::<usize>(), 300);
    assert!(
        commits.iter().all(|commit| commit.1 > commit.0 * 100),
        "{commits:?}"
    );
    assert!(
        watching
            .failures
            .lock()
            .iter()
            .all(|kind| *kind == FailureKind::Transient)
    );
}

/// Somebody else holds the head's lock.
pub(crate) struct Held {
    release: tokio::sync::oneshot::Sender<()>,
    task: tokio::task::JoinHandle<()>,
}

impl Held {
    pub(crate) async fn head(bed: &Bed) -> Self {
        use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};
        let (held, holding) = tokio::sync::oneshot::channel();
        let (release, released) = tokio::sync::oneshot::channel::<()>();
        let (url, postgres) = (bed.url.clone(), bed.is_postgres());
        let body = async move {
            if postgres {
                let mut connection = PgConnection::connect(&url).await.unwrap();
                connection
                    .execute("BEGIN; SELECT * FROM head FOR UPDATE")
                    .await
                    .unwrap();
                held.send(()).unwrap();
                let _ = released.await;
                connection.execute("ROLLBACK").await.unwrap();
            } else {
                let mut connection = SqliteConnection::connect(&url).await.unwrap();
                connection.execute("BEGIN IMMEDIATE").await.unwrap();
                held.send(()).unwrap();
                let _ = released.await;
                connection.execute("ROLLBACK").await.unwrap();
            }
        };
        let tracker = tokio_util::task::TaskTracker::new();
        let task = tracker.spawn(body);
        holding.await.unwrap();
        Self { release, task }
    }

    pub(crate) async fn release(self) {
        self.release.send(()).unwrap();
        self.task.await.unwrap();
    }
}
