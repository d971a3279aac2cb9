//! The transfers of a city with their history, first answers and documents that wait. In the database of the cards, beside them.

mod postgres;
mod row;
mod sqlite;

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_kit::{Database, ExchangeId, NewParcel, Outbox, PostError};
use banqiao_proto::card::v1::{TransferRecord, TransferSide, TransferState};
use tokio::sync::watch;
use uuid::Uuid;

use super::{act::PensionError, transfers::Transition};
use crate::store::StoreError;

pub use row::StoredEvent;

/// A side of a transfer as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredTransfer {
    /// Its number.
    pub id: Uuid,
    /// Everything about it.
    pub record: TransferRecord,
    /// Grows by one with each change of the row.
    pub version: i64,
}

/// Something that happened, to be written.
#[derive(Clone, Debug)]
pub struct NewTransferEvent {
    /// Code of the table of transitions, or of a document's fate.
    pub event: &'static str,
    /// State before; none for the first event.
    pub from: Option<TransferState>,
    /// State after.
    pub to: TransferState,
    /// City that acted.
    pub actor_city: CityCode,
    /// System that asked; none where the service acts by itself.
    pub client: Option<SpiffeId>,
    /// Exchange of the call, or of the document's delivery.
    pub exchange: Option<ExchangeId>,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
}

/// A first answer, to be written. Its `seq` is that of the event beside it.
#[derive(Clone, Debug)]
pub(super) struct NewAnswer {
    pub(super) client: SpiffeId,
    pub(super) request_id: Uuid,
    pub(super) digest: [u8; 32],
    pub(super) answer: Transition,
}

/// A first answer as it was written.
#[derive(Clone, Copy, Debug)]
pub(super) struct FirstTransition {
    pub(super) digest: [u8; 32],
    pub(super) answer: Transition,
}

/// What one transaction writes. All of it or nothing.
#[derive(Clone, Debug, Default)]
pub(super) struct PensionWrite {
    /// Number of the transfer.
    pub(super) id: Uuid,
    /// Version at which it was read; none for a new one.
    pub(super) version: Option<i64>,
    /// The transfer, if it changes.
    pub(super) record: Option<TransferRecord>,
    /// What happened.
    pub(super) event: Option<NewTransferEvent>,
    /// A document for the other city.
    pub(super) parcel: Option<NewParcel>,
    /// The document whose answer this is.
    pub(super) take_off: Option<i64>,
    /// The answer to whoever asked.
    pub(super) answer: Option<NewAnswer>,
}

/// The part of a city's database that holds transfers. Cheap to clone.
#[derive(Clone, Debug)]
pub struct PensionStore {
    database: Database,
    outbox: Outbox,
    /// Number of the newest event that this process knows of.
    head: watch::Sender<i64>,
}

impl PensionStore {
    /// The transfers in an open database.
    pub fn new(database: Database) -> Self {
        Self {
            outbox: Outbox::new(database.clone()),
            database,
            head: watch::Sender::new(0),
        }
    }

    /// The documents that wait.
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// A transfer.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn find(&self, id: Uuid) -> Result<Option<StoredTransfer>, StoreError> {
        let row = match &self.database {
            Database::Postgres(pool) => postgres::find(pool, id).await,
            Database::Sqlite(database) => sqlite::find(database, id).await,
        }?;
        row.map(StoredTransfer::try_from).transpose()
    }

    /// The open transfer of a person at a side.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open_of(
        &self,
        side: TransferSide,
        holder: &str,
    ) -> Result<Option<StoredTransfer>, StoreError> {
        let row = match &self.database {
            Database::Postgres(pool) => postgres::open_of(pool, side, holder).await,
            Database::Sqlite(database) => sqlite::open_of(database, side, holder).await,
        }?;
        row.map(StoredTransfer::try_from).transpose()
    }

    /// Open transfers after a number, in the order of numbers.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn open(
        &self,
        after: Option<Uuid>,
        limit: i64,
    ) -> Result<Vec<StoredTransfer>, StoreError> {
        let after = after.map_or_else(String::new, |after| after.to_string());
        let rows = match &self.database {
            Database::Postgres(pool) => postgres::open(pool, &after, limit).await,
            Database::Sqlite(database) => sqlite::open(database, &after, limit).await,
        }?;
        rows.into_iter().map(StoredTransfer::try_from).collect()
    }

    /// Events of a transfer after a number, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn events(
        &self,
        id: Uuid,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::events(pool, id, after, limit).await,
            Database::Sqlite(database) => sqlite::events(database, id, after, limit).await,
        }
    }

    pub(super) async fn answer(
        &self,
        client: &SpiffeId,
        request_id: Uuid,
    ) -> Result<Option<FirstTransition>, StoreError> {
        let row = match &self.database {
            Database::Postgres(pool) => postgres::answer(pool, client, request_id).await,
            Database::Sqlite(database) => sqlite::answer(database, client, request_id).await,
        }?;
        row.map(FirstTransition::try_from).transpose()
    }

    /// Number of the newest event in the database, of whatever replica; wakes the waiters of [`PensionStore::heads`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn poll_head(&self) -> Result<i64, StoreError> {
        let head = match &self.database {
            Database::Postgres(pool) => postgres::head(pool).await,
            Database::Sqlite(database) => sqlite::head(database).await,
        }?;
        self.advance(head);
        Ok(head)
    }

    /// The number of the newest event that this process knows of, as it grows.
    pub fn heads(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    /// Writes everything in one transaction, and gives the number of the event; 0 where there is none, and where the document had
    /// been taken off before, when nothing is written.
    pub(super) async fn write(&self, write: &PensionWrite) -> Result<i64, PensionError> {
        let seq = match &self.database {
            Database::Postgres(pool) => Box::pin(postgres::write(pool, write)).await,
            Database::Sqlite(database) => Box::pin(sqlite::write(database, write)).await,
        }?;
        self.advance(seq);
        if write.parcel.is_some() {
            self.outbox.wake();
        }
        Ok(seq)
    }

    fn advance(&self, head: i64) {
        self.head.send_if_modified(|known| {
            let newer = head > *known;
            if newer {
                *known = head;
            }
            newer
        });
    }
}

impl From<sqlx::Error> for PensionError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<PostError> for PensionError {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Database(error) => error.into(),
            PostError::Full(city) => Self::OutboxFull(city),
            _ => Self::Store(StoreError::Corrupt("length of a document")),
        }
    }
}
