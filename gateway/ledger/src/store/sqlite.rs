//! The SQLite store: WAL with `synchronous = FULL`, owned by one process.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use banqiao_tlog::tile::Tile;
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, Row as _, SqliteConnection, query,
    query_as, query_scalar,
};
use uuid::Uuid;

use super::{
    CONNECT_TIMEOUT, CommitFault, Edge, Expired, Fault, LEDGER, Orphan, StoreError, WriterSettings,
    number, stored,
};
use crate::{
    digest::Frontier,
    keyring::Month,
    ledger::LedgerObserver,
    plan::{Found, Head, Plan, Wanted},
    step::Step,
    witness::{Contradiction, Credential, KeptCosignature, KeptLinks, WitnessStep},
};

mod archive;
mod audit;
mod erase;
mod file;
mod grouped;
mod index;
mod reads;
mod reconcile;
mod rows;
mod setup;
mod write;

use file::FileGuard;
pub(crate) use file::Ownership;
pub(crate) use reads::{Reads, tables};
pub(crate) use setup::options;

/// The connection that writes.
pub(crate) struct Writer {
    connection: SqliteConnection,
    file: FileGuard,
    /// The lease of the boot, as of the transaction that has begun.
    leased: bool,
    begun: bool,
    pub(super) observer: Arc<dyn LedgerObserver>,
    /// A batch is being written, and no other transaction.
    finishing: Arc<AtomicBool>,
}

impl Writer {
    pub(crate) async fn open(
        path: &Path,
        settings: &WriterSettings,
        create: bool,
    ) -> Result<Self, Fault> {
        let file = FileGuard::open(path, create).map_err(Fault::Storage)?;
        let options = options(path).disable_statement_logging();
        let connect = tokio::time::timeout(CONNECT_TIMEOUT, options.connect());
        let mut connection = match connect.await {
            Ok(connected) => connected.map_err(Fault::sqlite)?,
            Err(_) => return Err(Fault::Connection(StoreError::Timeout)),
        };
        setup::check(&mut connection).await?;
        setup::migrate(&mut connection, settings.city).await?;
        setup::settle(&mut connection).await?;
        // A small batch is one message with its COMMIT: only SQLite itself can tell when the one turns into the other.
        let finishing = Arc::new(AtomicBool::new(false));
        let batch = Arc::clone(&finishing);
        let observer = Arc::clone(&settings.observer);
        let mut handle = connection.lock_handle().await.map_err(Fault::sqlite)?;
        handle.set_commit_hook(move || {
            if batch.load(Ordering::Relaxed) {
                observer.reached(Step::Committing);
            }
            true
        });
        drop(handle);
        Ok(Self {
            connection,
            file,
            leased: false,
            begun: false,
            observer: Arc::clone(&settings.observer),
            finishing,
        })
    }

    pub(crate) async fn begin(&mut self, boot: Uuid) -> Result<Head, Fault> {
        self.file.check().map_err(Fault::Storage)?;
        // One message to the connection's thread instead of two.
        let row = self
            .connection
            .fetch_one(
                query(
                    "BEGIN IMMEDIATE; SELECT size, frontier, frozen IS NOT NULL, EXISTS \
                     (SELECT 1 FROM lease WHERE ledger = 1 AND boot = ?1 AND fenced = 0), \
                     origin, note, detached FROM head WHERE ledger = 1",
                )
                .bind(boot),
            )
            .await
            .map_err(Fault::sqlite)?;
        self.begun = true;
        let column = Fault::sqlite;
        let size: i64 = row.try_get(0).map_err(column)?;
        let frontier: Vec<u8> = row.try_get(1).map_err(column)?;
        let frozen: bool = row.try_get(2).map_err(column)?;
        self.leased = row.try_get(3).map_err(column)?;
        let frontier = number(size)
            .and_then(|size| Frontier::from_bytes(size, &frontier).map_err(StoreError::Frontier))
            .map_err(Fault::Storage)?;
        Ok(Head {
            frontier,
            frozen,
            origin: row.try_get(4).map_err(column)?,
            note: row.try_get(5).map_err(column)?,
            detached: number(row.try_get(6).map_err(column)?).map_err(Fault::Storage)?,
        })
    }

    pub(crate) async fn look_up<'a>(&mut self, wanted: &Wanted<'a>) -> Result<Found<'a>, Fault> {
        let mut found = Found {
            leased: self.leased,
            ..Found::default()
        };
        write::look_up(&mut self.connection, wanted, &mut found).await?;
        if !wanted.months.is_empty() {
            found.months.extend(self.months().await?);
        }
        Ok(found)
    }

    pub(crate) async fn finish(&mut self, boot: Uuid, plan: &Plan<'_>) -> Result<(), CommitFault> {
        self.finishing.store(true, Ordering::Relaxed);
        let observer = &*self.observer;
        let finished = write::finish(&mut self.connection, observer, boot, plan).await;
        self.finishing.store(false, Ordering::Relaxed);
        finished?;
        self.begun = false;
        Ok(())
    }

    pub(crate) async fn commit(&mut self) -> Result<(), CommitFault> {
        self.connection
            .execute(query("COMMIT"))
            .await
            .map_err(CommitFault::sqlite)?;
        self.begun = false;
        Ok(())
    }

    pub(crate) async fn rollback(&mut self) -> Result<(), Fault> {
        if self.begun {
            self.begun = false;
            self.connection
                .execute(query("ROLLBACK"))
                .await
                .map_err(Fault::sqlite)?;
        }
        Ok(())
    }

    pub(crate) async fn index_of(&mut self, uid: &[u8; 16]) -> Result<Option<u64>, Fault> {
        let index: Option<i64> =
            query_scalar("SELECT idx FROM entry_uid WHERE ledger = ?1 AND uid = ?2")
                .bind(LEDGER)
                .bind(&uid[..])
                .fetch_optional(&mut self.connection)
                .await
                .map_err(Fault::sqlite)?;
        index.map(number).transpose().map_err(Fault::Storage)
    }

    pub(crate) async fn edge(&mut self, from: u64) -> Result<Edge, Fault> {
        let last: Option<i64> = query_scalar("SELECT max(idx) FROM entry WHERE ledger = ?1")
            .bind(LEDGER)
            .fetch_one(&mut self.connection)
            .await
            .map_err(Fault::sqlite)?;
        let leaves = query_as(
            "SELECT leaf, bytes FROM entry WHERE ledger = ?1 AND idx >= ?2 \
             ORDER BY idx LIMIT 1024",
        )
        .bind(LEDGER)
        .bind(stored(from).map_err(Fault::Storage)?)
        .fetch_all(&mut self.connection)
        .await
        .map_err(Fault::sqlite)?;
        let size = number(last.map_or(0, |last| last + 1)).map_err(Fault::Storage)?;
        Ok(Edge { size, leaves })
    }

    pub(crate) async fn leaf(&mut self, index: u64) -> Result<Option<Vec<u8>>, Fault> {
        query_scalar("SELECT leaf FROM entry WHERE ledger = ?1 AND idx = ?2")
            .bind(LEDGER)
            .bind(stored(index).map_err(Fault::Storage)?)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(Fault::sqlite)
    }

    pub(crate) async fn leaves(&mut self, from: u64, until: u64) -> Result<Vec<Vec<u8>>, Fault> {
        query_scalar(
            "SELECT leaf FROM entry WHERE ledger = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
        )
        .bind(LEDGER)
        .bind(stored(from).map_err(Fault::Storage)?)
        .bind(stored(until).map_err(Fault::Storage)?)
        .fetch_all(&mut self.connection)
        .await
        .map_err(Fault::sqlite)
    }

    pub(crate) async fn tile_roots(
        &mut self,
        level: u8,
        from: u64,
        until: u64,
    ) -> Result<Vec<Vec<u8>>, Fault> {
        query_scalar(
            "SELECT root FROM tile WHERE ledger = ?1 AND level = ?2 AND n >= ?3 AND n < ?4 ORDER BY n",
        )
        .bind(LEDGER)
        .bind(level)
        .bind(stored(from).map_err(Fault::Storage)?)
        .bind(stored(until).map_err(Fault::Storage)?)
        .fetch_all(&mut self.connection)
        .await
        .map_err(Fault::sqlite)
    }

    pub(crate) async fn tiles(&mut self) -> Result<u64, Fault> {
        let tiles: i64 = query_scalar(
            "SELECT coalesce(max(n) + 1, 0) FROM tile WHERE ledger = ?1 AND level = 0",
        )
        .bind(LEDGER)
        .fetch_one(&mut self.connection)
        .await
        .map_err(Fault::sqlite)?;
        number(tiles).map_err(Fault::Storage)
    }

    pub(crate) async fn put_tiles(&mut self, tiles: &[Tile]) -> Result<(), Fault> {
        rows::TILES
            .execute(&mut self.connection, tiles, rows::tile)
            .await
    }

    /// Publishes the newest checkpoint, unless it is.
    pub(crate) async fn publish(&mut self, now_us: i64) -> Result<(), Fault> {
        query(
            "INSERT INTO checkpoint (ledger, size, time_us, note) SELECT ledger, size, ?2, note \
             FROM head WHERE ledger = ?1 AND note IS NOT NULL ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(now_us)
        .execute(&mut self.connection)
        .await
        .map_err(Fault::sqlite)?;
        Ok(())
    }

    /// Moves the witness's memory of a log on. `false`: it is not what the step begins with.
    pub(crate) async fn step_witness(&mut self, step: &WitnessStep) -> Result<bool, Fault> {
        let next = stored(step.next.size).map_err(Fault::Storage)?;
        let statement_of = match step.previous {
            None => query(
                "INSERT INTO witness_state (ledger, origin, size, root, note) \
                 VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
            )
            .bind(LEDGER)
            .bind(&step.origin)
            .bind(next)
            .bind(&step.next.root[..])
            .bind(&step.note),
            Some(previous) => query(
                "UPDATE witness_state SET size = ?3, root = ?4, note = ?5 \
                 WHERE ledger = ?1 AND origin = ?2 AND size = ?6 AND root = ?7",
            )
            .bind(LEDGER)
            .bind(&step.origin)
            .bind(next)
            .bind(&step.next.root[..])
            .bind(&step.note)
            .bind(stored(previous.size).map_err(Fault::Storage)?)
            .bind(previous.root.to_vec()),
        };
        let done = statement_of
            .execute(&mut self.connection)
            .await
            .map_err(Fault::sqlite)?;
        Ok(done.rows_affected() == 1)
    }

    pub(crate) async fn keep_links(&mut self, kept: &KeptLinks) -> Result<(), Fault> {
        let size = stored(kept.size).map_err(Fault::Storage)?;
        let heads: Vec<i64> = kept
            .links
            .iter()
            .map(|(head, _)| stored(head.size))
            .collect::<Result<_, _>>()
            .map_err(Fault::Storage)?;
        query("BEGIN IMMEDIATE")
            .execute(&mut self.connection)
            .await
            .map_err(Fault::sqlite)?;
        let written = async {
            let note = query(
                "INSERT INTO witnessed (ledger, origin, size, note) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO NOTHING",
            )
            .bind(LEDGER)
            .bind(&kept.origin)
            .bind(size)
            .bind(&kept.note);
            note.execute(&mut self.connection)
                .await
                .map_err(Fault::sqlite)?;
            for ((head, proof), number) in kept.links.iter().zip(heads) {
                let link = query(
                    "INSERT INTO link (ledger, origin, size, root, witnessed, proof) \
                     VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO NOTHING",
                )
                .bind(LEDGER)
                .bind(&kept.origin)
                .bind(number)
                .bind(&head.root[..])
                .bind(size)
                .bind(proof.concat());
                link.execute(&mut self.connection)
                    .await
                    .map_err(Fault::sqlite)?;
            }
            query("COMMIT")
                .execute(&mut self.connection)
                .await
                .map_err(Fault::sqlite)?;
            Ok(())
        };
        let outcome: Result<(), Fault> = written.await;
        if outcome.is_err() {
            let _ = self.rollback().await;
        }
        outcome
    }

    pub(crate) async fn keep_credential(&mut self, kept: &Credential) -> Result<(), Fault> {
        let insert = query(
            "INSERT INTO credential (ledger, kind, name, time_us, bytes) \
             SELECT ?1, ?2, ?3, ?4, ?5 WHERE NOT EXISTS (SELECT 1 FROM credential \
             WHERE ledger = ?1 AND kind = ?2 AND name = ?3 AND bytes = ?5) \
             ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(kept.kind.number())
        .bind(&kept.name[..])
        .bind(kept.time_us)
        .bind(&kept.bytes);
        insert
            .execute(&mut self.connection)
            .await
            .map_err(Fault::sqlite)?;
        Ok(())
    }

    pub(crate) async fn keep_contradiction(&mut self, kept: &Contradiction) -> Result<(), Fault> {
        let insert = query(
            "INSERT INTO contradiction (ledger, origin, time_us, first, second) \
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(&kept.origin)
        .bind(kept.time_us)
        .bind(&kept.first)
        .bind(&kept.second);
        insert
            .execute(&mut self.connection)
            .await
            .map_err(Fault::sqlite)?;
        Ok(())
    }

    /// Keeps a witness's signature under one of our checkpoints.
    pub(crate) async fn keep_cosignature(&mut self, kept: &KeptCosignature) -> Result<(), Fault> {
        let insert = query(
            "INSERT INTO cosignature (ledger, size, witness, time_s, line) \
             VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(stored(kept.size).map_err(Fault::Storage)?)
        .bind(&kept.witness)
        .bind(stored(kept.time_s).map_err(Fault::Storage)?)
        .bind(&kept.line);
        insert
            .execute(&mut self.connection)
            .await
            .map_err(Fault::sqlite)?;
        Ok(())
    }

    pub(crate) async fn published(&mut self) -> Result<Option<String>, Fault> {
        query_scalar("SELECT note FROM checkpoint WHERE ledger = ?1 ORDER BY size DESC LIMIT 1")
            .bind(LEDGER)
            .fetch_optional(&mut self.connection)
            .await
            .map_err(Fault::sqlite)
    }

    pub(crate) async fn unconfirmed(&mut self) -> Result<bool, Fault> {
        query_scalar("SELECT unconfirmed IS NOT NULL FROM head WHERE ledger = ?1")
            .bind(LEDGER)
            .fetch_one(&mut self.connection)
            .await
            .map_err(Fault::sqlite)
    }

    pub(crate) async fn put_confirmed(&mut self) -> Result<(), Fault> {
        query("UPDATE head SET unconfirmed = NULL WHERE ledger = ?1")
            .bind(LEDGER)
            .execute(&mut self.connection)
            .await
            .map_err(Fault::sqlite)?;
        Ok(())
    }

    pub(crate) async fn put_frozen(&mut self, reason: &str) -> Result<(), Fault> {
        query("UPDATE head SET frozen = ?2 WHERE ledger = ?1 AND frozen IS NULL")
            .bind(LEDGER)
            .bind(reason)
            .execute(&mut self.connection)
            .await
            .map_err(Fault::sqlite)?;
        Ok(())
    }

    pub(crate) async fn put_origin(&mut self, origin: &str) -> Result<(), Fault> {
        query("UPDATE head SET origin = ?2 WHERE ledger = ?1")
            .bind(LEDGER)
            .bind(origin)
            .execute(&mut self.connection)
            .await
            .map_err(Fault::sqlite)?;
        Ok(())
    }

    pub(crate) async fn months(&mut self) -> Result<Vec<(Month, [u8; 8])>, Fault> {
        let rows = query_as("SELECT month, key_id FROM month_key WHERE ledger = ?1 ORDER BY month")
            .bind(LEDGER)
            .fetch_all(&mut self.connection)
            .await
            .map_err(Fault::sqlite)?;
        super::months(rows).map_err(Fault::Storage)
    }

    pub(crate) async fn take_lease(
        &mut self,
        boot: Uuid,
        replica: &str,
        now_us: i64,
    ) -> Result<(), Fault> {
        query(
            "INSERT INTO lease (ledger, boot, replica, seen_us, fenced) VALUES (?1, ?2, ?3, ?4, 0)",
        )
        .bind(LEDGER)
        .bind(boot)
        .bind(replica)
        .bind(now_us)
        .execute(&mut self.connection)
        .await
        .map_err(Fault::sqlite)?;
        Ok(())
    }

    pub(crate) async fn renew_lease(&mut self, boot: Uuid, now_us: i64) -> Result<bool, Fault> {
        self.file.check().map_err(Fault::Storage)?;
        let renewed =
            query("UPDATE lease SET seen_us = ?3 WHERE ledger = ?1 AND boot = ?2 AND fenced = 0")
                .bind(LEDGER)
                .bind(boot)
                .bind(now_us)
                .execute(&mut self.connection)
                .await
                .map_err(Fault::sqlite)?;
        Ok(renewed.rows_affected() == 1)
    }

    pub(crate) async fn release_lease(&mut self, boot: Uuid) -> Result<(), Fault> {
        // Whoever opens the file next treats what is left as a boot that is over.
        query(
            "DELETE FROM lease WHERE ledger = ?1 AND boot = ?2 AND NOT EXISTS \
             (SELECT 1 FROM in_flight i WHERE i.ledger = ?1 AND i.boot = ?2)",
        )
        .bind(LEDGER)
        .bind(boot)
        .execute(&mut self.connection)
        .await
        .map_err(Fault::sqlite)?;
        Ok(())
    }

    /// One process owns the file: every other boot is over.
    pub(crate) async fn expired_leases(&mut self, boot: Uuid) -> Result<Vec<Expired>, Fault> {
        let rows: Vec<(Uuid, String)> =
            query_as("SELECT boot, replica FROM lease WHERE ledger = ?1 AND boot <> ?2")
                .bind(LEDGER)
                .bind(boot)
                .fetch_all(&mut self.connection)
                .await
                .map_err(Fault::sqlite)?;
        Ok(rows
            .into_iter()
            .map(|(boot, replica)| Expired { boot, replica })
            .collect())
    }

    pub(crate) async fn fence(&mut self, boot: Uuid) -> Result<bool, Fault> {
        let fenced = query("UPDATE lease SET fenced = 1 WHERE ledger = ?1 AND boot = ?2")
            .bind(LEDGER)
            .bind(boot)
            .execute(&mut self.connection)
            .await
            .map_err(Fault::sqlite)?;
        Ok(fenced.rows_affected() == 1)
    }

    pub(crate) async fn orphans(&mut self, boot: Uuid, limit: u32) -> Result<Vec<Orphan>, Fault> {
        type Row = (Vec<u8>, i64, i32, Vec<u8>, i64, Vec<u8>);
        let rows: Vec<Row> = query_as(
            "SELECT i.exchange, i.attempt, i.side, i.peer, i.idx, e.bytes FROM in_flight i \
             JOIN entry e ON e.ledger = i.ledger AND e.idx = i.idx \
             WHERE i.ledger = ?1 AND i.boot = ?2 ORDER BY i.idx LIMIT ?3",
        )
        .bind(LEDGER)
        .bind(boot)
        .bind(limit)
        .fetch_all(&mut self.connection)
        .await
        .map_err(Fault::sqlite)?;
        rows.into_iter()
            .map(|(exchange, attempt, side, peer, index, opened)| {
                let exchange = exchange
                    .try_into()
                    .map_err(|_| StoreError::Corrupt("exchange"))?;
                super::orphan(exchange, attempt, side, peer, index, opened)
            })
            .collect::<Result<_, _>>()
            .map_err(Fault::Storage)
    }

    pub(crate) async fn drop_lease(&mut self, boot: Uuid) -> Result<(), Fault> {
        query(
            "DELETE FROM lease WHERE ledger = ?1 AND boot = ?2 AND fenced = 1 AND NOT EXISTS \
             (SELECT 1 FROM in_flight i WHERE i.ledger = ?1 AND i.boot = ?2)",
        )
        .bind(LEDGER)
        .bind(boot)
        .execute(&mut self.connection)
        .await
        .map_err(Fault::sqlite)?;
        Ok(())
    }

    pub(crate) async fn close(self) {
        // What is committed is in the WAL in any case.
        let _ = self.connection.close().await;
    }
}
