//! A new epoch: the ledger that takes the place of one whose end was lost (LEDGER.md §3).

use std::{fs::File, sync::Arc};

use banqiao_directory::Clock;
use banqiao_proto::ledger::v1::{Entry, Epoch, Kind};

use crate::{
    append::{Append, AppendError},
    backup::connection::Connection,
    ledger::{Ledger, LedgerError, LedgerSettings},
    store::{StoreError, StoreUrl},
};

/// Why an epoch cannot be begun.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EpochError {
    /// The first entry was refused.
    #[error("the first entry of the epoch was not written")]
    Append(#[source] AppendError),
    /// The new ledger cannot be opened.
    #[error("the database of the new epoch cannot be used")]
    Ledger(#[source] LedgerError),
    /// There are entries already.
    #[error("the database of the new epoch already holds {0} entries")]
    NotEmpty(u64),
    /// The database cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What a database says of its ledger, without opening it for writing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// City code.
    pub city: String,
    /// Origin of the log.
    pub origin: Option<String>,
    /// Entries.
    pub size: u64,
    /// The newest checkpoint.
    pub checkpoint: Option<String>,
    /// Why it is frozen.
    pub frozen: Option<String>,
}

/// Reads the head of the ledger in a database.
///
/// # Errors
///
/// When there is none, or it cannot be read.
pub async fn standing(url: &str) -> Result<Standing, StoreError> {
    let url = StoreUrl::parse(url)?;
    if let StoreUrl::Sqlite(path) = &url {
        File::open(path).map_err(|source| StoreError::File {
            path: path.clone(),
            source,
        })?;
    }
    let mut connection = Connection::open(&url).await?;
    let (city, head) = connection.head().await?;
    let frozen = connection.frozen().await?;
    connection.close().await;
    Ok(Standing {
        city,
        origin: head.origin,
        size: head.size,
        checkpoint: head.note,
        frozen,
    })
}

/// Begins an epoch in an empty database: its first entry is `epoch`. A gateway writes to it once a witness has agreed that
/// it knows of nothing newer.
///
/// # Errors
///
/// [`EpochError`].
pub async fn begin_epoch(
    settings: LedgerSettings,
    clock: Clock,
    epoch: Epoch,
) -> Result<u64, EpochError> {
    let url = StoreUrl::parse(&settings.url)?;
    let ledger = Ledger::open(settings, clock, Arc::new(())).await;
    let ledger = ledger.map_err(EpochError::Ledger)?;
    let size = ledger.size();
    if size > 0 {
        ledger.close().await;
        return Err(EpochError::NotEmpty(size));
    }
    // Before the entry: a ledger with it and without the mark would be written without anybody's word.
    let mut connection = Connection::open(&url).await?;
    connection.put_unconfirmed().await?;
    connection.close().await;
    let entry = Entry {
        kind: Kind::Epoch.into(),
        epoch: Some(epoch),
        ..Entry::default()
    };
    let appended = ledger.appender().append(Append::new(entry)).await;
    ledger.close().await;
    appended
        .map(|appended| appended.index)
        .map_err(EpochError::Append)
}
