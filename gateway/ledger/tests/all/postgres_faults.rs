//! What can happen to a server, and to the way to it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    time::Duration,
};

use banqiao_ledger::{
    AppendError, FailureKind, Ledger, LedgerObserver, LedgerSettings, LedgerState,
};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{EntryFilter, Kind},
};
use parking_lot::Mutex;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
};
use tokio_util::task::TaskTracker;

use crate::{
    bed::{
        Bed, append_all, chain, claiming, closing, entries, id, matching, opening, private, ready,
        state, wait_for,
    },
    postgres::Cluster,
};

#[tokio::test]
async fn stopped_server_refuses_until_it_returns() {
    let bed = Bed::on(Arc::new(Cluster::start_new()));
    let cluster = bed.cluster.as_ref().unwrap();
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    appender.append(opening(id(1))).await.unwrap();
    cluster.stop();
    assert_eq!(
        appender.append(claiming(id(2))).await,
        Err(AppendError::Unavailable)
    );
    state(&ledger, |state| state == LedgerState::Failing).await;
    assert_eq!(
        appender.append(claiming(id(2))).await,
        Err(AppendError::Unavailable)
    );
    ledger.count_gap(Reason::LedgerUnavailable, None);
    let end = appender.append_queued(closing(id(1)));
    assert!(ledger.revision().await.is_err());

    cluster.start();
    ready(&ledger).await;
    end.await.unwrap();
    appender.append(claiming(id(2))).await.unwrap();
    wait_for("readers", || async { ledger.revision().await.ok() }).await;
    let filter = EntryFilter {
        kinds: vec![Kind::Summary.into()],
        ..EntryFilter::default()
    };
    let gaps = wait_for("the gap", || async {
        let found = matching(&ledger, &filter).await;
        (!found.is_empty()).then_some(found)
    })
    .await;
    assert!(gaps[0].summary.as_ref().unwrap().gap);
    ledger.close().await;
}

const PASS: u8 = 0;
/// The next COMMIT reaches the server, and its answer nobody.
const CUT_BEHIND: u8 = 1;
/// The next COMMIT does not reach the server.
const CUT_BEFORE: u8 = 2;

/// A way to the server that can be cut at a COMMIT.
struct Way {
    _folder: tempfile::TempDir,
    url: String,
    cut: Arc<AtomicU8>,
}

impl Way {
    fn to(bed: &Bed) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let server = bed.cluster.as_ref().unwrap().socket();
        let url = bed
            .url
            .replace(server.to_str().unwrap(), folder.path().to_str().unwrap());
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let cut = Arc::new(AtomicU8::new(PASS));
        let mode = Arc::clone(&cut);
        let tracker = TaskTracker::new();
        let connections = tracker.clone();
        tracker.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = UnixStream::connect(server.join(".s.PGSQL.5432"))
                    .await
                    .unwrap();
                connections.spawn(relay(client, server, Arc::clone(&mode)));
            }
        });
        Self {
            _folder: folder,
            url,
            cut,
        }
    }
}

/// Relays until a COMMIT is to be cut; then both ends see a broken connection.
async fn relay(client: UnixStream, server: UnixStream, cut: Arc<AtomicU8>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let (mut sent, mut received) = ([0; 65_536], [0; 65_536]);
    loop {
        tokio::select! {
            Ok(count) = from_client.read(&mut sent) => {
                let message = &sent[..count];
                let commits = message.windows(7).any(|window| window == b"COMMIT\0");
                let mode = if commits { cut.swap(PASS, Ordering::SeqCst) } else { PASS };
                if count == 0 || mode == CUT_BEFORE {
                    return;
                }
                to_server.write_all(message).await.unwrap();
                if mode == CUT_BEHIND {
                    // The server has answered: the commit is done.
                    assert!(from_server.read(&mut received).await.unwrap() > 0);
                    return;
                }
            }
            Ok(count) = from_server.read(&mut received) => {
                if count == 0 {
                    return;
                }
                to_client.write_all(&received[..count]).await.unwrap();
            }
            else => return,
        }
    }
}

#[derive(Default)]
struct Failures(Mutex<Vec<FailureKind>>);

impl LedgerObserver for Failures {
    fn committed(&self, _: usize, _: usize, _: Duration) {}
    fn queue_depth(&self, _: usize) {}
    fn failed(&self, kind: FailureKind) {
        self.0.lock().push(kind);
    }
}

#[tokio::test]
async fn commit_without_an_answer_is_resolved() {
    for cut in [CUT_BEHIND, CUT_BEFORE] {
        let bed = Bed::postgres();
        let way = Way::to(&bed);
        let failures = Arc::new(Failures::default());
        let settings = LedgerSettings {
            url: way.url.clone(),
            ..bed.settings("one")
        };
        let observer = Arc::clone(&failures);
        let ledger = Ledger::open(settings, bed.clock(), observer).await.unwrap();
        let appender = ledger.appender();
        appender.append(claiming(id(0))).await.unwrap();
        way.cut.store(cut, Ordering::SeqCst);
        let batch = [1, 2, 1, 3].map(|number| claiming(id(number))).into();
        let outcomes = append_all(&appender, batch).await;
        assert_eq!(way.cut.load(Ordering::SeqCst), PASS);
        let indices: Vec<_> = outcomes
            .into_iter()
            .map(|it| it.map(|it| it.index))
            .collect();
        // Entries that came while the connection was down were refused; those in the cut commit were not.
        assert_eq!(indices[0], Ok(1), "{cut}");
        assert!(failures.0.lock().contains(&FailureKind::OutcomeUnknown));
        ready(&ledger).await;
        appender.append(claiming(id(9))).await.unwrap();
        let found = entries(&ledger).await;
        let once = found
            .iter()
            .filter(|entry| entry.exchange == id(1).as_bytes())
            .count();
        assert_eq!(once, 1, "{cut}");
        let counters: Vec<u64> = found
            .iter()
            .map(|entry| entry.replica.as_ref().unwrap().counter)
            .collect();
        assert_eq!(counters, (0..found.len() as u64).collect::<Vec<_>>());
    }
}

async fn replicas_share_one_order(serializable: bool) {
    let bed = Bed::postgres();
    if serializable {
        bed.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = \
             serializable', current_database()); END $$",
        )
        .await
        .unwrap();
    }
    // All at once: they race to make the tables.
    let (one, two, three) = tokio::join!(bed.open("one"), bed.open("two"), bed.open("three"));
    let replicas = [one, two, three];
    let mut waiting = Vec::new();
    let appenders: Vec<_> = replicas.iter().map(Ledger::appender).collect();
    for number in 0..100 {
        for (replica, appender) in (0..).zip(&appenders) {
            waiting.push(appender.append(claiming(id(replica * 1_000 + number))));
            // The same claim at every replica: one of them has it.
            waiting.push(appender.append(claiming(id(9_000 + number))));
        }
        tokio::task::yield_now().await;
    }
    let mut indices = Vec::new();
    let mut replayed = 0;
    for waiting in waiting {
        match waiting.await {
            Ok(appended) => indices.push(appended.index),
            Err(AppendError::Replayed) => replayed += 1,
            Err(error) => panic!("{error}"),
        }
    }
    indices.sort_unstable();
    assert!(indices.into_iter().eq(0..400));
    assert_eq!(replayed, 200);
    for ledger in replicas {
        assert_eq!(entries(&ledger).await.len(), 400);
        ledger.close().await;
    }
    bed.open("four").await.close().await;
}

#[tokio::test]
async fn replicas_write_one_order_without_gaps() {
    replicas_share_one_order(false).await;
}

/// As compatible distributed databases work: conflicts are serialisation failures and are tried again.
#[tokio::test]
async fn replicas_write_one_order_also_when_serializable() {
    replicas_share_one_order(true).await;
}

#[tokio::test]
async fn server_that_may_forget_is_refused() {
    let bed = Bed::postgres();
    let failover = LedgerSettings {
        failover: true,
        ..bed.settings("one")
    };
    let error = chain(&bed.try_open(failover).await.unwrap_err());
    assert!(error.contains("synchronous_standby_names"), "{error}");
    bed.execute(
        "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', \
         current_database()); END $$",
    )
    .await
    .unwrap();
    let error = chain(&bed.try_open(bed.settings("one")).await.unwrap_err());
    assert!(error.contains("synchronous_commit is off"), "{error}");
}

/// As the README says that it is to be operated.
#[tokio::test]
async fn gateways_role_needs_no_right_to_change_entries() {
    let bed = Bed::postgres();
    bed.open("one").await.close().await;
    bed.execute(
        "DROP ROLE IF EXISTS gateway; CREATE ROLE gateway LOGIN; \
         GRANT SELECT, INSERT ON entry, entry_uid, claim, tile, checkpoint, evidence, \
         witnessed, link, contradiction, credential, span, posting, presence TO gateway; \
         GRANT SELECT, INSERT, UPDATE, DELETE ON head, private, token, month_key, in_flight, \
         lease, document, document_revision, cosignature, witness_state TO gateway; \
         GRANT SELECT ON _sqlx_migrations TO gateway",
    )
    .await
    .unwrap();
    let url = bed.url.replace("postgres@", "gateway@");
    let ledger = bed
        .open_with(LedgerSettings {
            url: url.clone(),
            ..bed.settings("two")
        })
        .await;
    let appender = ledger.appender();
    appender
        .append(opening(id(1)).with_private(private()))
        .await
        .unwrap();
    appender.append(closing(id(1))).await.unwrap();
    appender.append(claiming(id(2))).await.unwrap();
    assert_eq!(entries(&ledger).await.len(), 3);
    let mut connection = PgConnection::connect(&url).await.unwrap();
    for sql in [
        "UPDATE entry SET kind = 2",
        "DELETE FROM entry",
        "DROP TRIGGER entry_is_final ON entry",
    ] {
        let error = connection.execute(sql).await.unwrap_err().to_string();
        assert!(
            error.contains("permission denied") || error.contains("must be owner"),
            "{error}"
        );
    }
    // What is archived leaves by a function, which takes nothing else.
    bed.execute("UPDATE head SET detached = 2").await.unwrap();
    assert_eq!(ledger.drop_archived().await.unwrap(), 2);
    assert_eq!(ledger.drop_archived().await.unwrap(), 0);
    assert_eq!(bed.count("SELECT min(idx) FROM entry").await, 2);
    ledger.close().await;
}

#[tokio::test]
async fn unreachable_server_is_an_error_at_the_start() {
    let bed = Bed::postgres();
    let url = "postgres://postgres@localhost/none?host=/nowhere".to_owned();
    let error = bed
        .try_open(LedgerSettings {
            url,
            ..bed.settings("one")
        })
        .await
        .unwrap_err();
    assert!(
        chain(&error).contains("the database failed"),
        "{}",
        chain(&error)
    );
}
