//! The database behind a ledger: SQLite or PostgreSQL, each with its own SQL, held together by one test suite.
//!
//! A `Writer` is the one connection of the batcher; [`Reads`] are connections for everything else.

use std::{path::PathBuf, sync::Arc, time::Duration};

use banqiao_directory::CityCode;
use banqiao_tlog::{hash::TreeHead, tile::Tile};
use sqlx::postgres::PgConnectOptions;
use uuid::Uuid;

use crate::{
    append::{Document, DocumentKind},
    archive::Archive,
    keyring::Month,
    ledger::LedgerObserver,
    plan::{Found, Head, Plan, Wanted},
    prepare::CallId,
    reader::Stored,
    reconcile::Turn,
    step::Step,
    witness::{Contradiction, Credential, KeptCosignature, KeptLinks, WitnessStep},
};

/// Calls the store that is there.
macro_rules! each {
    ($on:expr, $store:ident => $call:expr) => {
        match $on {
            Self::Postgres($store) => $call,
            Self::Sqlite($store) => $call,
        }
    };
}

/// Calls the store that is there, for reading.
macro_rules! tables {
    ($on:expr, $store:ident => $call:expr) => {
        match &$on.tables {
            Tables::Postgres($store) => $call,
            Tables::Sqlite($store) => $call,
        }
    };
}

mod archive;
mod audit;
mod error;
mod fault;
mod index;
mod postgres;
mod reconcile;
mod sqlite;

pub(crate) use audit::{EntryColumns, Extent, TileRow};
pub use error::StoreError;
pub(crate) use fault::{CommitFault, Fault};
pub(crate) use index::UnitRow;
pub(crate) use reconcile::CallRow;
pub(crate) use sqlite::{Ownership, options as sqlite_options};

/// The one ledger of a database, until a city shards by agency.
const LEDGER: i16 = 1;
/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the database is.
#[derive(Clone)]
pub(crate) enum StoreUrl {
    Postgres(Box<PgConnectOptions>),
    Sqlite(PathBuf),
}

impl StoreUrl {
    pub(crate) fn parse(url: &str) -> Result<Self, StoreError> {
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            // The error may quote the URL, and the URL may hold a password.
            return url
                .parse()
                .map(|it| Self::Postgres(Box::new(it)))
                .map_err(|_| StoreError::Url);
        }
        let path = url
            .strip_prefix("sqlite://")
            .or_else(|| url.strip_prefix("sqlite:"));
        match path {
            Some(path) if !path.is_empty() && !path.contains(['?', '#']) && path != ":memory:" => {
                Ok(Self::Sqlite(path.into()))
            }
            _ => Err(StoreError::Url),
        }
    }
}

/// Whether a database has no tables, or does not exist, in so far as it can be made.
pub(crate) async fn is_empty(url: &StoreUrl) -> Result<bool, StoreError> {
    let tables: i64 = match url {
        StoreUrl::Sqlite(path) if !path.exists() => 0,
        StoreUrl::Sqlite(path) => sqlite::tables(path).await?,
        StoreUrl::Postgres(options) => postgres::Reads::new(options).tables().await?,
    };
    Ok(tables == 0)
}

/// How a database is opened for writing.
#[derive(Clone)]
pub(crate) struct WriterSettings {
    pub(crate) url: StoreUrl,
    pub(crate) city: CityCode,
    pub(crate) failover: bool,
    /// Is told of each step.
    pub(crate) observer: Arc<dyn LedgerObserver>,
}

/// Origin, time, and the two checkpoints.
pub(crate) type ContradictionRow = (String, i64, String, String);

/// A call that a dead boot left open.
pub(crate) struct Orphan {
    pub(crate) call: CallId,
    pub(crate) peer: String,
    /// Its OPEN entry.
    pub(crate) index: u64,
    pub(crate) opened: Vec<u8>,
}

/// A boot whose lease has run out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expired {
    pub(crate) boot: Uuid,
    pub(crate) replica: String,
}

/// The private part of an entry, as it is stored.
pub(crate) struct SealedRow {
    pub(crate) month: Month,
    pub(crate) ciphertext: Vec<u8>,
}

/// The right edge of the entries, for the check at a start.
pub(crate) struct Edge {
    /// Entries that are there, by the highest index.
    pub(crate) size: u64,
    /// Leaves and entries from the asked index on.
    pub(crate) leaves: Vec<(Vec<u8>, Vec<u8>)>,
}

/// The connection that writes. Only the batcher has one.
///
/// A transaction is `begin`, any number of steps, and `commit` or `rollback`. Whatever fails, the caller
/// rolls back or drops the connection.
pub(crate) enum Writer {
    Postgres(Box<postgres::Writer>),
    Sqlite(Box<sqlite::Writer>),
}

impl Writer {
    /// Connects, checks that the database keeps what it acknowledges, and brings the tables up to date. A
    /// file that is missing is only made where that is said.
    pub(crate) async fn open(settings: &WriterSettings, create: bool) -> Result<Self, Fault> {
        Ok(match &settings.url {
            StoreUrl::Postgres(options) => {
                Self::Postgres(Box::new(postgres::Writer::open(options, settings).await?))
            }
            StoreUrl::Sqlite(path) => Self::Sqlite(Box::new(
                sqlite::Writer::open(path, settings, create).await?,
            )),
        })
    }

    /// Tells that a step was reached.
    pub(crate) fn reached(&self, step: Step) {
        each!(self, store => store.observer.reached(step));
    }

    /// Begins a transaction of a boot, locks the head and reads it.
    pub(crate) async fn begin(&mut self, boot: Uuid) -> Result<Head, Fault> {
        each!(self, store => store.begin(boot).await)
    }

    /// Looks up what a batch depends on.
    pub(crate) async fn look_up<'a>(
        &mut self,
        boot: Uuid,
        wanted: &Wanted<'a>,
    ) -> Result<Found<'a>, Fault> {
        match self {
            Self::Postgres(store) => store.look_up(boot, wanted).await,
            Self::Sqlite(store) => store.look_up(wanted).await,
        }
    }

    /// Writes a planned batch and commits.
    pub(crate) async fn finish(&mut self, boot: Uuid, plan: &Plan<'_>) -> Result<(), CommitFault> {
        each!(self, store => store.finish(boot, plan).await)
    }

    /// Commits.
    pub(crate) async fn commit(&mut self) -> Result<(), CommitFault> {
        each!(self, store => store.commit().await)
    }

    /// Rolls back.
    pub(crate) async fn rollback(&mut self) -> Result<(), Fault> {
        each!(self, store => store.rollback().await)
    }

    /// Index of the entry with a uid.
    pub(crate) async fn index_of(&mut self, uid: &[u8; 16]) -> Result<Option<u64>, Fault> {
        each!(self, store => store.index_of(uid).await)
    }

    /// The entries from an index on, at most 1,024. Without the limit, PostgreSQL takes a bound that it does not know
    /// for one that a third of the entries lie behind, and sorts the table.
    pub(crate) async fn edge(&mut self, from: u64) -> Result<Edge, Fault> {
        each!(self, store => store.edge(from).await)
    }

    /// Leaf hash of an entry.
    pub(crate) async fn leaf(&mut self, index: u64) -> Result<Option<Vec<u8>>, Fault> {
        each!(self, store => store.leaf(index).await)
    }

    /// Leaf hashes from an index until another.
    pub(crate) async fn leaves(&mut self, from: u64, until: u64) -> Result<Vec<Vec<u8>>, Fault> {
        each!(self, store => store.leaves(from, until).await)
    }

    /// Roots of the full tiles of a level, from a number until another.
    pub(crate) async fn tile_roots(
        &mut self,
        level: u8,
        from: u64,
        until: u64,
    ) -> Result<Vec<Vec<u8>>, Fault> {
        each!(self, store => store.tile_roots(level, from, until).await)
    }

    /// Full tiles of the lowest level.
    pub(crate) async fn tiles(&mut self) -> Result<u64, Fault> {
        each!(self, store => store.tiles().await)
    }

    /// Within a transaction: stores full tiles.
    pub(crate) async fn put_tiles(&mut self, tiles: &[Tile]) -> Result<(), Fault> {
        each!(self, store => store.put_tiles(tiles).await)
    }

    /// Makes the newest checkpoint one that others are shown.
    pub(crate) async fn publish(&mut self, now_us: i64) -> Result<(), Fault> {
        each!(self, store => store.publish(now_us).await)
    }

    /// Moves the witness's memory of a log on. `false`: it is not what the step begins with.
    pub(crate) async fn step_witness(&mut self, step: &WitnessStep) -> Result<bool, Fault> {
        each!(self, store => store.step_witness(step).await)
    }

    /// Keeps the links of receipts to a witnessed checkpoint, all or none.
    pub(crate) async fn keep_links(&mut self, kept: &KeptLinks) -> Result<(), Fault> {
        each!(self, store => store.keep_links(kept).await)
    }

    /// Keeps a certificate or a CRL, unless it is there.
    pub(crate) async fn keep_credential(&mut self, kept: &Credential) -> Result<(), Fault> {
        each!(self, store => store.keep_credential(kept).await)
    }

    /// Keeps two checkpoints of one log that contradict each other.
    pub(crate) async fn keep_contradiction(&mut self, kept: &Contradiction) -> Result<(), Fault> {
        each!(self, store => store.keep_contradiction(kept).await)
    }

    /// Keeps a witness's signature under one of our checkpoints.
    pub(crate) async fn keep_cosignature(&mut self, kept: &KeptCosignature) -> Result<(), Fault> {
        each!(self, store => store.keep_cosignature(kept).await)
    }

    /// Takes or renews a turn at comparing with another city. `None`: another boot has it.
    pub(crate) async fn claim_turn(
        &mut self,
        boot: Uuid,
        turn: &Turn,
        now_us: i64,
    ) -> Result<Option<i64>, Fault> {
        match self {
            Self::Postgres(store) => store.claim_turn(boot, turn).await,
            Self::Sqlite(store) => store.claim_turn(boot, turn, now_us).await,
        }
    }

    /// The newest published checkpoint.
    pub(crate) async fn published(&mut self) -> Result<Option<String>, Fault> {
        each!(self, store => store.published().await)
    }

    /// Whether a witness has to agree before the ledger is written: see `unconfirmed` in the head.
    pub(crate) async fn unconfirmed(&mut self) -> Result<bool, Fault> {
        each!(self, store => store.unconfirmed().await)
    }

    /// A witness has agreed.
    pub(crate) async fn put_confirmed(&mut self) -> Result<(), Fault> {
        each!(self, store => store.put_confirmed().await)
    }

    /// Marks the head as frozen, unless it is.
    pub(crate) async fn put_frozen(&mut self, reason: &str) -> Result<(), Fault> {
        each!(self, store => store.put_frozen(reason).await)
    }

    /// Within a transaction: names the log.
    pub(crate) async fn put_origin(&mut self, origin: &str) -> Result<(), Fault> {
        each!(self, store => store.put_origin(origin).await)
    }

    /// Months that entries were encrypted in, and the names of their keys.
    pub(crate) async fn months(&mut self) -> Result<Vec<(Month, [u8; 8])>, Fault> {
        each!(self, store => store.months().await)
    }

    /// Months whose keys are to be destroyed.
    pub(crate) async fn retired_months(&mut self) -> Result<Vec<Month>, Fault> {
        each!(self, store => store.retired_months().await)
    }

    /// Takes a lease for a boot.
    pub(crate) async fn take_lease(
        &mut self,
        boot: Uuid,
        replica: &str,
        ttl: Duration,
        now_us: i64,
    ) -> Result<(), Fault> {
        match self {
            Self::Postgres(store) => store.take_lease(boot, replica, ttl).await,
            Self::Sqlite(store) => store.take_lease(boot, replica, now_us).await,
        }
    }

    /// Renews the lease: a real commit, which also shows that the database can be written. `false`: it is lost.
    pub(crate) async fn renew_lease(
        &mut self,
        boot: Uuid,
        ttl: Duration,
        now_us: i64,
    ) -> Result<bool, Fault> {
        match self {
            Self::Postgres(store) => store.renew_lease(boot, ttl).await,
            Self::Sqlite(store) => store.renew_lease(boot, now_us).await,
        }
    }

    /// Ends the lease at once: it goes when the boot has no open calls, otherwise it runs out now.
    pub(crate) async fn release_lease(&mut self, boot: Uuid) -> Result<(), Fault> {
        each!(self, store => store.release_lease(boot).await)
    }

    /// Boots other than this one whose lease has run out.
    pub(crate) async fn expired_leases(&mut self, boot: Uuid) -> Result<Vec<Expired>, Fault> {
        each!(self, store => store.expired_leases(boot).await)
    }

    /// Within a transaction: forbids a boot to write, if its lease has still run out. `false`: it lives.
    pub(crate) async fn fence(&mut self, boot: Uuid) -> Result<bool, Fault> {
        each!(self, store => store.fence(boot).await)
    }

    /// Some of the calls that a boot left open.
    pub(crate) async fn orphans(&mut self, boot: Uuid, limit: u32) -> Result<Vec<Orphan>, Fault> {
        each!(self, store => store.orphans(boot, limit).await)
    }

    /// Forgets a fenced lease without open calls.
    pub(crate) async fn drop_lease(&mut self, boot: Uuid) -> Result<(), Fault> {
        each!(self, store => store.drop_lease(boot).await)
    }

    /// Removes the oldest rows of archived entries, at most so many. Returns how many entries went; 0: none are left.
    pub(crate) async fn drop_archived(&mut self, most: u64) -> Result<u64, Fault> {
        each!(self, store => store.drop_archived(most).await)
    }

    /// Closes the connection.
    pub(crate) async fn close(self) {
        each!(self, store => store.close().await);
    }
}

/// The connections that read, and the archive of what is in the database no more.
pub(crate) struct Reads {
    tables: Tables,
    archive: Option<Arc<Archive>>,
}

enum Tables {
    Postgres(postgres::Reads),
    Sqlite(sqlite::Reads),
}

impl Reads {
    /// Connections are made when they are needed.
    pub(crate) fn new(url: &StoreUrl, archive: Option<PathBuf>) -> Self {
        let tables = match url {
            StoreUrl::Postgres(options) => Tables::Postgres(postgres::Reads::new(options)),
            StoreUrl::Sqlite(path) => Tables::Sqlite(sqlite::Reads::new(path)),
        };
        let archive = archive.map(|folder| Arc::new(Archive::new(folder)));
        Self { tables, archive }
    }

    /// Drops connections that may belong to a file that is not there any more.
    pub(crate) fn renew(&self) {
        match &self.tables {
            Tables::Postgres(_) => {}
            Tables::Sqlite(store) => store.renew(),
        }
    }

    pub(crate) async fn documents(
        &self,
        kind: DocumentKind,
    ) -> Result<(u64, Vec<Document>), StoreError> {
        tables!(self, store => store.documents(kind).await)
    }

    pub(crate) async fn revision(&self) -> Result<u64, StoreError> {
        tables!(self, store => store.revision().await)
    }

    pub(crate) async fn size(&self) -> Result<u64, StoreError> {
        tables!(self, store => store.size().await)
    }

    pub(crate) async fn months(&self) -> Result<Vec<Month>, StoreError> {
        tables!(self, store => store.months().await)
    }

    /// Leaf hashes from an index until another.
    pub(crate) async fn leaves(&self, from: u64, until: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        tables!(self, store => store.leaves(from, until).await)
    }

    /// A full tile.
    pub(crate) async fn tile(&self, level: u8, n: u64) -> Result<Option<Vec<u8>>, StoreError> {
        tables!(self, store => store.tile(level, n).await)
    }

    /// Roots of the full tiles of a level, from a number until another.
    pub(crate) async fn tile_roots(
        &self,
        level: u8,
        from: u64,
        until: u64,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        tables!(self, store => store.tile_roots(level, from, until).await)
    }

    /// The newest checkpoint of another log that our witness has cosigned: size and root.
    pub(crate) async fn witnessed(&self, origin: &str) -> Result<Option<TreeHead>, StoreError> {
        let row = tables!(self, store => store.witnessed(origin).await)?;
        row.map(|(size, root)| {
            Ok(TreeHead {
                size: number(size)?,
                root: root
                    .as_slice()
                    .try_into()
                    .map_err(|_| StoreError::Corrupt("hash"))?,
            })
        })
        .transpose()
    }

    /// The note of the newest checkpoint of another log that our witness has cosigned.
    pub(crate) async fn witnessed_note(&self, origin: &str) -> Result<Option<String>, StoreError> {
        tables!(self, store => store.witnessed_note(origin).await)
    }

    /// The signature lines that witnesses gave under the checkpoint of some size.
    pub(crate) async fn cosignatures(&self, size: u64) -> Result<Vec<String>, StoreError> {
        tables!(self, store => store.cosignatures(size).await)
    }

    /// The newest published checkpoint.
    pub(crate) async fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        tables!(self, store => store.checkpoint().await)
    }

    pub(crate) async fn private(&self, index: u64) -> Result<Option<SealedRow>, StoreError> {
        tables!(self, store => store.private(index).await)
    }

    pub(crate) async fn link(
        &self,
        origin: &str,
        head: &TreeHead,
    ) -> Result<Option<(String, Vec<u8>)>, StoreError> {
        tables!(self, store => store.link(origin, head).await)
    }

    pub(crate) async fn credential(
        &self,
        kind: i16,
        name: &[u8; 32],
        at_us: i64,
    ) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        tables!(self, store => store.credential(kind, name, at_us).await)
    }

    pub(crate) async fn checkpoint_over(
        &self,
        index: u64,
        cosignatures: u32,
    ) -> Result<Option<(u64, String)>, StoreError> {
        let row = tables!(self, store => store.checkpoint_over(index, cosignatures).await)?;
        row.map(|(size, note)| Ok((number(size)?, note)))
            .transpose()
    }

    pub(crate) async fn contradictions(&self) -> Result<Vec<ContradictionRow>, StoreError> {
        tables!(self, store => store.contradictions().await)
    }

    /// Evidence of a kind beside entries before an index, newest first; what was archived is not among it.
    pub(crate) async fn evidence_before(
        &self,
        before: u64,
        kind: i16,
        most: u32,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let rows = tables!(self, store => store.evidence_before(before, kind, most).await)?;
        let row = |(index, bytes)| Ok((number(index)?, bytes));
        rows.into_iter().map(row).collect()
    }
}

/// A number as it is stored.
fn stored(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|_| StoreError::Corrupt("number"))
}

/// A stored number.
fn number(stored: i64) -> Result<u64, StoreError> {
    u64::try_from(stored).map_err(|_| StoreError::Corrupt("number"))
}

fn numbers(stored: Vec<(i64,)>) -> Result<Vec<u64>, StoreError> {
    stored.into_iter().map(|(it,)| number(it)).collect()
}

fn entries(rows: Vec<(i64, Vec<u8>)>) -> Result<Vec<Stored>, StoreError> {
    rows.into_iter()
        .map(|(index, bytes)| {
            Ok(Stored {
                index: number(index)?,
                bytes: bytes.into(),
                private: None,
            })
        })
        .collect()
}

fn months(rows: Vec<(i32, Vec<u8>)>) -> Result<Vec<(Month, [u8; 8])>, StoreError> {
    rows.into_iter()
        .map(|(month, id)| {
            let id = id
                .try_into()
                .map_err(|_| StoreError::Corrupt("name of a key"))?;
            Ok((Month::from_number(month), id))
        })
        .collect()
}

fn orphan(
    exchange: [u8; 16],
    attempt: i64,
    side: i32,
    peer: Vec<u8>,
    index: i64,
    opened: Vec<u8>,
) -> Result<Orphan, StoreError> {
    let attempt = u32::try_from(attempt).map_err(|_| StoreError::Corrupt("attempt"))?;
    Ok(Orphan {
        call: CallId {
            exchange,
            attempt,
            side,
        },
        peer: String::from_utf8(peer).map_err(|_| StoreError::Corrupt("peer"))?,
        index: number(index)?,
        opened,
    })
}

/// Revision, key and content.
type DocumentRow = (i64, Option<Vec<u8>>, Option<Vec<u8>>);

/// Documents with the revision that stands in each row, also in the one row of no document.
fn documents(rows: Vec<DocumentRow>) -> Result<(u64, Vec<Document>), StoreError> {
    let Some((revision, ..)) = rows.first() else {
        return Err(StoreError::Corrupt("revision"));
    };
    let revision = number(*revision)?;
    let documents = rows
        .into_iter()
        .filter_map(|(_, key, bytes)| Some((key?, bytes?)))
        .map(|(key, bytes)| {
            let key = String::from_utf8(key).map_err(|_| StoreError::Corrupt("key"))?;
            Ok(Document { key, bytes })
        })
        .collect::<Result<_, StoreError>>()?;
    Ok((revision, documents))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_choose_the_store_and_faults_never_show_them() {
        assert!(
            matches!(StoreUrl::parse("sqlite://gateway.db"), Ok(StoreUrl::Sqlite(path)) if path.ends_with("gateway.db"))
        );
        assert!(
            matches!(StoreUrl::parse("sqlite:///var/lib/g.db"), Ok(StoreUrl::Sqlite(path)) if path.is_absolute())
        );
        assert!(matches!(
            StoreUrl::parse("postgres://u:secret@h/db"),
            Ok(StoreUrl::Postgres(_))
        ));
        for bad in [
            "",
            "sqlite://",
            "sqlite::memory:",
            "sqlite://a.db?mode=ro",
            "mysql://h/db",
            "postgres://u:secret@h:port/db",
        ] {
            let error = StoreUrl::parse(bad).err().unwrap();
            assert!(!format!("{error:?} {error}").contains("secret"), "{bad}");
        }
    }
}
