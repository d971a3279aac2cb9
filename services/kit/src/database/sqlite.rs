//! Opening of SQLite: one writer, several readers, write-ahead log.

use std::{fs::OpenOptions, os::unix::fs::OpenOptionsExt, path::Path, time::Duration};

use sqlx::{
    SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::DatabaseError;

/// Readers beside the one writer. SQLite reads in its own threads; more than the cores of a small machine bring nothing.
const READERS: u32 = 4;
/// Waiting for a connection, or for another process's lock, longer than this is an overload.
const WAIT: Duration = Duration::from_secs(5);

/// A SQLite file. Writers queue for the one connection instead of failing with `SQLITE_BUSY`.
#[derive(Clone, Debug)]
pub struct SqliteDatabase {
    readers: SqlitePool,
    writer: SqlitePool,
}

impl SqliteDatabase {
    pub(super) async fn open(path: &Path) -> Result<Self, DatabaseError> {
        create(path)?;
        let options = SqliteConnectOptions::new()
            .filename(path)
            .foreign_keys(true)
            .busy_timeout(WAIT)
            .journal_mode(SqliteJournalMode::Wal)
            // A committed report survives power loss.
            .synchronous(SqliteSynchronous::Full);
        let pool = |connections| {
            SqlitePoolOptions::new()
                .max_connections(connections)
                .acquire_timeout(WAIT)
        };
        let writer = pool(1)
            .connect_with(options.clone())
            .await
            .map_err(DatabaseError::Connect)?;
        verify(&writer).await?;
        let readers = pool(READERS)
            .connect_with(options)
            .await
            .map_err(DatabaseError::Connect)?;
        Ok(Self { readers, writer })
    }

    /// The connections for reading.
    pub const fn readers(&self) -> &SqlitePool {
        &self.readers
    }

    /// The one connection for writing. Begin with `BEGIN IMMEDIATE`, so that no other process writes between read and write.
    pub const fn writer(&self) -> &SqlitePool {
        &self.writer
    }

    pub(super) async fn close(&self) {
        self.readers.close().await;
        // The last connection to close empties the write-ahead log into the file.
        self.writer.close().await;
    }
}

/// A new file is readable by its owner only: it will hold personal information. SQLite gives its log the same mode.
fn create(path: &Path) -> Result<(), DatabaseError> {
    let opened = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path);
    opened.map(drop).map_err(|source| DatabaseError::File {
        path: path.to_owned(),
        source,
    })
}

async fn verify(writer: &SqlitePool) -> Result<(), DatabaseError> {
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(writer)
        .await
        .map_err(DatabaseError::Connect)?;
    if mode != "wal" {
        let (setting, required) = ("journal_mode", "wal");
        return Err(DatabaseError::Unsafe {
            setting,
            required,
            found: mode,
        });
    }
    let level: i64 = sqlx::query_scalar("PRAGMA synchronous")
        .fetch_one(writer)
        .await
        .map_err(DatabaseError::Connect)?;
    if level != 2 {
        let (setting, required) = ("synchronous", "2 (FULL)");
        return Err(DatabaseError::Unsafe {
            setting,
            required,
            found: level.to_string(),
        });
    }
    Ok(())
}
