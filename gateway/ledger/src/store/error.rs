//! What can be wrong with a database.

use std::path::PathBuf;

use banqiao_directory::CityCode;

use crate::{
    digest::FrontierError,
    entry::EntryError,
    keyring::{KeyringError, Month},
    private::PrivateError,
};

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The anchor cannot be used: it is no checkpoint of this log, signed by its key.
    #[error("the anchor {} is no checkpoint of this ledger", .path.display())]
    Anchor {
        /// The file.
        path: PathBuf,
    },
    /// A file of the archive cannot be read or written.
    #[error("the archive's file {} cannot be used", .path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A file of the archive is not what was archived.
    #[error("the archive's file {} is not what was archived: {problem}", .path.display())]
    ArchiveDiffers {
        /// The file.
        path: PathBuf,
        /// Index of the first entry that is concerned.
        index: u64,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Nobody has said where the archive is.
    #[error(
        "the entries before index {before} were moved to an archive: name its folder (ledger.archive in the config, \
         --archive on the command line)"
    )]
    ArchiveUnnamed {
        /// Index of the first entry that is in the database.
        before: u64,
    },
    /// What is stored contradicts itself.
    #[error("the stored {0} is corrupt")]
    Corrupt(&'static str),
    /// The database reported an error.
    #[error("the database failed")]
    Database(#[source] sqlx::Error),
    /// What is stored is no canonical entry.
    #[error("entry {index} is not in canonical form")]
    Entry {
        /// Its index.
        index: u64,
        /// Why.
        #[source]
        source: EntryError,
    },
    /// The file cannot be opened or written.
    #[error("the database file {} cannot be used", .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The head is marked as frozen.
    #[error("the ledger is marked as frozen")]
    Flagged,
    /// The stored frontier is malformed.
    #[error("the stored head is corrupt")]
    Frontier(#[source] FrontierError),
    /// Another process has the SQLite file open.
    #[error("another process uses {}; with SQLite only one may, with PostgreSQL several", .path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// A month's key is gone, while entries of that month are there.
    #[error("the key of {month} is missing from the folder of keys; restore it")]
    KeyMissing {
        /// The month.
        month: Month,
    },
    /// Another replica uses another key.
    #[error(
        "the key of {month} is not the one that the ledger was written with; replicas share one folder of keys"
    )]
    KeyDiffers {
        /// The month.
        month: Month,
    },
    /// A month's key cannot be read.
    #[error("a month's key cannot be used")]
    Keys(#[source] KeyringError),
    /// The tables cannot be made or brought up to date.
    #[error("the tables cannot be brought up to date")]
    Migration(#[source] sqlx::migrate::MigrateError),
    /// The file was replaced, removed or made read-only while it was open.
    #[error("the database file {} was {change} while it was open", .path.display())]
    Moved {
        /// The file.
        path: PathBuf,
        /// What happened to it.
        change: &'static str,
    },
    /// The database holds the ledger of another city.
    #[error("the database holds the ledger of {found}, not of {expected}")]
    OtherCity {
        /// The city that was configured.
        expected: CityCode,
        /// The city that is stored.
        found: String,
    },
    /// The newest checkpoint was signed by another key.
    #[error(
        "the newest checkpoint was signed by another key than {key}: name the one before as previous_signing_key"
    )]
    OtherKey {
        /// The key that was configured.
        key: String,
    },
    /// The database holds the log of another origin: another epoch, or another city's.
    #[error("the database holds the log {found}, not {expected}")]
    OtherOrigin {
        /// The origin that was configured.
        expected: String,
        /// The origin that is stored.
        found: String,
    },
    /// A private part does not agree with its entry.
    #[error("a stored private part cannot be opened")]
    Private(#[source] PrivateError),
    /// The database holds less than, or something else than, what was committed to it.
    #[error("the database was rolled back: LEDGER_ROLLBACK")]
    Rollback,
    /// The database does not answer in time.
    #[error("the database does not answer in time")]
    Timeout,
    /// The database is set up so that it may lose what it has acknowledged.
    #[error("the database may lose commits: {setting} is {value}, it must be {needed}")]
    Unsafe {
        /// The setting.
        setting: &'static str,
        /// What it is.
        value: String,
        /// What it must be.
        needed: &'static str,
    },
    /// Not a URL of a known store.
    #[error(
        "not a database URL: it has the form sqlite://<file> or postgres://<user>@<host>/<database>"
    )]
    Url,
}
