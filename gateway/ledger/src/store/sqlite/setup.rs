//! How SQLite is set up, and the proof that it is.

use std::{borrow::Cow, path::Path, time::Duration};

use banqiao_directory::CityCode;
use sqlx::{
    SqlSafeStr as _, SqlStr, SqliteConnection,
    migrate::{Migration, MigrationType, Migrator},
    query, query_as, query_scalar,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous},
};

use super::LEDGER;
use crate::store::{Fault, StoreError};

/// Only our own readers share the file, and in WAL they block nobody: a long wait means trouble.
const BUSY_TIMEOUT: Duration = Duration::from_secs(1);
/// Statements kept prepared: every one of the batcher, in each of its widths.
const STATEMENTS: usize = 128;
/// Pages of WAL before they are moved into the file: 16 MiB, so that a page that many commits touch moves once.
const CHECKPOINT_PAGES: &str = "4000";

pub(crate) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("cache_size", "-65536")
        .pragma("trusted_schema", "OFF")
}

/// Verifies what was asked for: SQLite answers a mode that a file system cannot give with another one.
pub(super) async fn check(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let journal: String = query_scalar("PRAGMA journal_mode")
        .fetch_one(&mut *connection)
        .await
        .map_err(Fault::sqlite)?;
    if journal != "wal" {
        let needed = "wal";
        return Err(Fault::Storage(StoreError::Unsafe {
            setting: "journal_mode",
            value: journal,
            needed,
        }));
    }
    let synchronous: i64 = query_scalar("PRAGMA synchronous")
        .fetch_one(&mut *connection)
        .await
        .map_err(Fault::sqlite)?;
    if synchronous != 2 {
        let (value, needed) = (synchronous.to_string(), "2 (FULL)");
        return Err(Fault::Storage(StoreError::Unsafe {
            setting: "synchronous",
            value,
            needed,
        }));
    }
    Ok(())
}

/// Brings the tables up to date and makes the head row.
pub(super) async fn migrate(
    connection: &mut SqliteConnection,
    city: CityCode,
) -> Result<(), Fault> {
    let migrator = Migrator::with_migrations(vec![
        migration(
            1,
            "ledger",
            include_str!("../../../migrations/sqlite/0001_ledger.sql").into_sql_str(),
        ),
        migration(
            2,
            "tree",
            include_str!("../../../migrations/sqlite/0002_tree.sql").into_sql_str(),
        ),
        migration(
            3,
            "witness",
            include_str!("../../../migrations/sqlite/0003_witness.sql").into_sql_str(),
        ),
        migration(
            4,
            "receipts",
            include_str!("../../../migrations/sqlite/0004_receipts.sql").into_sql_str(),
        ),
        migration(
            5,
            "reconcile",
            include_str!("../../../migrations/sqlite/0005_reconcile.sql").into_sql_str(),
        ),
        migration(
            6,
            "epochs",
            include_str!("../../../migrations/sqlite/0006_epochs.sql").into_sql_str(),
        ),
        migration(
            7,
            "ranges",
            include_str!("../../../migrations/sqlite/0007_ranges.sql").into_sql_str(),
        ),
        migration(
            8,
            "retention",
            include_str!("../../../migrations/sqlite/0008_retention.sql").into_sql_str(),
        ),
        migration(
            9,
            "presence",
            include_str!("../../../migrations/sqlite/0009_presence.sql").into_sql_str(),
        ),
        migration(
            10,
            "archive",
            include_str!("../../../migrations/sqlite/0010_archive.sql").into_sql_str(),
        ),
    ]);
    migrator
        .run(&mut *connection)
        .await
        .map_err(|error| match error {
            sqlx::migrate::MigrateError::Execute(error) => Fault::sqlite(error),
            error => Fault::Storage(StoreError::Migration(error)),
        })?;
    for insert in [
        query(
            "INSERT INTO head (ledger, city, size, frontier) VALUES (?1, ?2, 0, x'') \
             ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(city.as_str()),
        query(
            "INSERT INTO document_revision (ledger, revision) VALUES (?1, 0) ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER),
    ] {
        insert.execute(&mut *connection).await.map_err(Fault::sqlite)?;
    }
    let found: String = query_scalar("SELECT city FROM head WHERE ledger = ?1")
        .bind(LEDGER)
        .fetch_one(connection)
        .await
        .map_err(Fault::sqlite)?;
    if found == city.as_str() {
        Ok(())
    } else {
        Err(Fault::Storage(StoreError::OtherCity {
            expected: city,
            found,
        }))
    }
}

/// Moves what the WAL holds into the file, synced. After a failed sync the operating system may
/// show pages that never reached the disk: they are written again here, before anything rests on them.
pub(super) async fn settle(connection: &mut SqliteConnection) -> Result<(), Fault> {
    let (busy, _, _): (i64, i64, i64) = query_as("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(connection)
        .await
        .map_err(Fault::sqlite)?;
    if busy == 0 {
        Ok(())
    } else {
        Err(Fault::Transient(StoreError::Timeout))
    }
}

fn migration(version: i64, name: &'static str, sql: SqlStr) -> Migration {
    Migration::new(
        version,
        Cow::Borrowed(name),
        MigrationType::Simple,
        sql,
        false,
    )
}
