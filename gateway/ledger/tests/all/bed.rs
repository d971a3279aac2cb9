//! A ledger to test on, in either store.

use std::{future::Future, path::PathBuf, sync::Arc, time::Duration};

use banqiao_directory::{Clock, ManualClock};
use banqiao_ledger::{
    Append, AppendError, Appended, Appender, Decoded, Effect, LeaseSettings, Ledger, LedgerError,
    LedgerSettings, LedgerState, Order, Page, Query, decode,
};
use banqiao_proto::ledger::v1::{Entry, EntryFilter, Kind, Party, PrivatePart, Side, Subject};
use banqiao_tlog::note::Signer;
use sqlx::{Connection as _, Executor as _, PgConnection, SqliteConnection};
use tempfile::TempDir;
use uuid::Uuid;

use crate::postgres::Cluster;

/// Makes of each function a test on SQLite and one on PostgreSQL.
macro_rules! on_both_stores {
    ($($(#[$attribute:meta])* $name:ident),* $(,)?) => {
        mod sqlite {
            $(
                $(#[$attribute])*
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::bed::Bed::sqlite()).await;
                }
            )*
        }
        mod postgres {
            $(
                $(#[$attribute])*
                #[tokio::test]
                async fn $name() {
                    super::$name($crate::bed::Bed::postgres()).await;
                }
            )*
        }
    };
}
pub(crate) use on_both_stores;

/// 2026-11-15 12:00 UTC.
pub(crate) const NOW: i64 = 1_794_744_000_000_000;

/// Origin of the log.
pub(crate) const ORIGIN: &str = "qingdao.jiaodong/ledger/1";

/// A key of a log, the same for the same seed.
pub(crate) fn signer(origin: &str, seed: u8) -> Arc<Signer> {
    Arc::new(Signer::from_seed(origin, &[seed; 32]).unwrap())
}

/// A database, a folder of keys and a clock.
pub(crate) struct Bed {
    pub(crate) folder: TempDir,
    pub(crate) url: String,
    pub(crate) clock: ManualClock,
    pub(crate) cluster: Option<Arc<Cluster>>,
}

impl Bed {
    pub(crate) fn sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}", folder.path().join("ledger.db").display());
        Self {
            folder,
            url,
            clock: ManualClock::new(NOW),
            cluster: None,
        }
    }

    pub(crate) fn postgres() -> Self {
        Self::on(Cluster::shared())
    }

    pub(crate) fn on(cluster: Arc<Cluster>) -> Self {
        let url = cluster.create_database();
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            url,
            clock: ManualClock::new(NOW),
            cluster: Some(cluster),
        }
    }

    pub(crate) fn is_postgres(&self) -> bool {
        self.cluster.is_some()
    }

    /// The file of an SQLite ledger.
    pub(crate) fn file(&self) -> PathBuf {
        self.folder.path().join("ledger.db")
    }

    /// Settings with short times.
    pub(crate) fn settings(&self, replica: &str) -> LedgerSettings {
        let keys = self.folder.path().join("keys");
        LedgerSettings {
            lease: LeaseSettings {
                ttl: Duration::from_secs(60),
                renew: Duration::from_millis(50),
            },
            summary_interval: Duration::from_secs(3_600),
            ..LedgerSettings::new(
                &self.url,
                "370200".parse().unwrap(),
                replica,
                keys,
                signer(ORIGIN, 1),
            )
        }
    }

    pub(crate) fn clock(&self) -> Clock {
        self.clock.clock()
    }

    pub(crate) async fn open(&self, replica: &str) -> Ledger {
        self.open_with(self.settings(replica)).await
    }

    pub(crate) async fn open_with(&self, settings: LedgerSettings) -> Ledger {
        // With SQLite the thread of a ledger that was just dropped may still be ending.
        wait_for("the ledger to open", || async {
            match self.try_open(settings.clone()).await {
                Ok(ledger) => Some(ledger),
                Err(error) if chain(&error).contains("another process") => None,
                Err(error) => panic!("{}", chain(&error)),
            }
        })
        .await
    }

    pub(crate) async fn try_open(&self, settings: LedgerSettings) -> Result<Ledger, LedgerError> {
        Ledger::open(settings, self.clock(), Arc::new(())).await
    }

    /// Executes SQL behind the ledger's back.
    pub(crate) async fn execute(&self, sql: &'static str) -> Result<u64, sqlx::Error> {
        if self.is_postgres() {
            let mut connection = PgConnection::connect(&self.url).await?;
            Ok(connection.execute(sql).await?.rows_affected())
        } else {
            let mut connection = SqliteConnection::connect(&self.url).await?;
            Ok(connection.execute(sql).await?.rows_affected())
        }
    }

    /// A count that SQL makes behind the ledger's back.
    pub(crate) async fn count(&self, sql: &'static str) -> i64 {
        if self.is_postgres() {
            let mut connection = PgConnection::connect(&self.url).await.unwrap();
            sqlx::query_scalar(sql)
                .fetch_one(&mut connection)
                .await
                .unwrap()
        } else {
            let mut connection = SqliteConnection::connect(&self.url).await.unwrap();
            sqlx::query_scalar(sql)
                .fetch_one(&mut connection)
                .await
                .unwrap()
        }
    }
}

/// An error with its sources.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let sources = std::iter::successors(Some(error), |error| error.source());
    sources
        .map(ToString::to_string)
        .collect::<Vec<_>>()
        .join(": ")
}

/// Waits until there is something.
pub(crate) async fn wait_for<T, F: Future<Output = Option<T>>>(
    what: &str,
    found: impl Fn() -> F,
) -> T {
    let waiting = async {
        loop {
            if let Some(it) = found().await {
                return it;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(30), waiting).await {
        Ok(it) => it,
        Err(_) => panic!("waited in vain for {what}"),
    }
}

/// Waits until the ledger is in a state that is meant.
pub(crate) async fn state(ledger: &Ledger, meant: impl Fn(LedgerState) -> bool) -> LedgerState {
    let mut states = ledger.state();
    let waiting = states.wait_for(|state| meant(*state));
    match tokio::time::timeout(Duration::from_secs(30), waiting).await {
        Ok(state) => *state.unwrap(),
        Err(_) => panic!(
            "waited in vain for a state; it is {:?}",
            *ledger.state().borrow()
        ),
    }
}

pub(crate) async fn ready(ledger: &Ledger) {
    state(ledger, |state| state == LedgerState::Ready).await;
}

pub(crate) const CLIENT: &str = "spiffe://yantai.jiaodong/hospital/his";
/// A synthetic number: its sequence is 000.
pub(crate) const SUBJECT: &str = "370202199001010001";

/// An OPEN entry of an exchange.
pub(crate) fn open(exchange: Uuid) -> Entry {
    Entry {
        kind: Kind::Open.into(),
        exchange: exchange.as_bytes().to_vec(),
        attempt: 1,
        side: Side::Consumer.into(),
        client: Some(Party {
            spiffe_id: CLIENT.into(),
            city: "370600".into(),
            agency: "hospital".into(),
            key_sha256: vec![1; 32],
        }),
        provider: Some(Party {
            city: "370200".into(),
            ..Party::default()
        }),
        method: "/banqiao.card.v1.CardService/VerifyCard".into(),
        purpose: "benefit-eligibility".into(),
        basis: "statutory:809-15".into(),
        ..Entry::default()
    }
}

/// A CLOSE entry of an exchange.
pub(crate) fn close(exchange: Uuid) -> Entry {
    Entry {
        kind: Kind::Close.into(),
        result: Some(Default::default()),
        ..open(exchange)
    }
}

pub(crate) fn private() -> PrivatePart {
    PrivatePart {
        subjects: vec![Subject {
            kind: 1,
            value: SUBJECT.into(),
        }],
        operator: "synthetic-operator-17".into(),
        case_number: "synthetic-case-2026-1".into(),
        client_address: "192.0.2.77".into(),
        error_text: "synthetic-error-text".into(),
        peer: None,
    }
}

pub(crate) const PEER: &str = "370200";

pub(crate) fn opening(exchange: Uuid) -> Append {
    Append::new(open(exchange)).with(Effect::Open { peer: PEER.into() })
}

pub(crate) fn closing(exchange: Uuid) -> Append {
    Append::new(close(exchange)).with(Effect::Close { peer: PEER.into() })
}

pub(crate) fn claiming(exchange: Uuid) -> Append {
    Append::new(open(exchange)).with(Effect::Claim {
        consumer: "370600".into(),
    })
}

/// Appends many at once.
pub(crate) async fn append_all(
    appender: &Appender,
    appends: Vec<Append>,
) -> Vec<Result<Appended, AppendError>> {
    let waiting: Vec<_> = appends
        .into_iter()
        .map(|append| appender.append(append))
        .collect();
    let mut outcomes = Vec::new();
    for waiting in waiting {
        outcomes.push(waiting.await);
    }
    outcomes
}

/// Every entry, oldest first.
pub(crate) async fn entries(ledger: &Ledger) -> Vec<Entry> {
    matching(ledger, &EntryFilter::default()).await
}

/// The entries that match, oldest first.
pub(crate) async fn matching(ledger: &Ledger, filter: &EntryFilter) -> Vec<Entry> {
    let page = Page {
        limit: 100_000,
        order: Order::Ascending,
        cursor: None,
        open_private: false,
    };
    let query = Query::parse(filter).unwrap();
    let found = ledger.reader().search(&query, page).await.unwrap();
    found
        .iter()
        .map(|stored| match decode(&stored.bytes) {
            Ok(Decoded::Entry(entry)) => *entry,
            other => panic!("{other:?}"),
        })
        .collect()
}

pub(crate) fn id(number: u128) -> Uuid {
    Uuid::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 + number)
}
