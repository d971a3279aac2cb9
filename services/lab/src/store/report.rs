//! Reports, who read them, and what superseded them.

mod postgres;
mod row;
mod sqlite;

use banqiao_directory::SpiffeId;
use banqiao_kit::{Database, ExchangeId, identifier::CitizenId};
use banqiao_proto::lab::v1::{Report, ReportStatus};
use tokio::sync::watch;

use super::{Store, StoreError};
use crate::{
    catalogue::ItemCode,
    report::{AcceptedReport, ReportKey},
};

/// What the store says of a report before a newer one is decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportHead {
    /// Which report.
    pub key: ReportKey,
    /// Version that stands.
    pub version: i32,
    /// Its status.
    pub status: ReportStatus,
    /// Its patient.
    pub patient: CitizenId,
    /// When it was issued, in microseconds since 1970-01-01 UTC.
    pub issued_at_us: i64,
    /// SHA-256 of what the sender sent.
    pub digest: [u8; 32],
}

/// A report as it stands. `Debug` redacts: it is a patient's.
#[derive(Clone, PartialEq)]
pub struct StoredReport {
    /// Version that stands.
    pub version: u32,
    /// The report.
    pub report: Report,
}

impl std::fmt::Debug for StoredReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StoredReport")
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// A newer version of a report.
#[derive(Clone, Debug)]
pub struct Supersede {
    /// The report.
    pub report: AcceptedReport,
    /// Version that it supersedes.
    pub version: i32,
}

/// What one transaction writes. All of it or nothing.
#[derive(Clone, Debug)]
pub struct ReportWrite {
    /// New reports.
    pub inserts: Vec<AcceptedReport>,
    /// Newer versions.
    pub supersedes: Vec<Supersede>,
    /// When, in microseconds since 1970-01-01 UTC.
    pub now_us: i64,
}

/// What a search asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReportSearch {
    /// The patient.
    pub patient: CitizenId,
    /// Reports with one of these items; empty: any.
    pub items: Vec<ItemCode>,
    /// First time of collection.
    pub from_us: i64,
    /// Time before which the specimen was taken.
    pub before_us: i64,
    /// Cancelled ones too.
    pub cancelled: bool,
    /// At most so many, the newest.
    pub limit: i64,
}

/// Who is given reports.
#[derive(Clone, Debug)]
pub struct NewReading {
    /// The system.
    pub client: SpiffeId,
    /// Its exchange.
    pub exchange: ExchangeId,
    /// When, in microseconds since 1970-01-01 UTC.
    pub now_us: i64,
}

/// A superseding that a reader is told of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredChange {
    /// Its number: changes are numbered from 1 without gaps, in the order of their commits.
    pub seq: i64,
    /// Which report.
    pub key: ReportKey,
    /// Version that stands since.
    pub version: i32,
    /// Its status.
    pub status: ReportStatus,
    /// First version that the reader was given.
    pub read_version: i32,
    /// When, in microseconds since 1970-01-01 UTC.
    pub superseded_at_us: i64,
}

impl Store {
    /// What stands of these reports.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn report_heads(&self, keys: &[&ReportKey]) -> Result<Vec<ReportHead>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::heads(pool, keys).await,
            Database::Sqlite(database) => sqlite::heads(database, keys).await,
        }
    }

    /// Writes everything in one transaction.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a new report is there already, or a superseded one is not at its version any more. See
    /// [`StoreError`] for the rest.
    pub async fn write_reports(&self, write: &ReportWrite) -> Result<(), StoreError> {
        let last = match &self.database {
            Database::Postgres(pool) => Box::pin(postgres::write(pool, write)).await,
            Database::Sqlite(database) => Box::pin(sqlite::write(database, write)).await,
        }?;
        self.advance(last);
        Ok(())
    }

    /// The reports of a search, newest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn find_reports(&self, search: &ReportSearch) -> Result<Vec<ReportKey>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::find(pool, search).await,
            Database::Sqlite(database) => sqlite::find(database, search).await,
        }
    }

    /// Gives reports to a reader: records first that it has read them, so that no correction between the two is missed. They come
    /// newest first; what is not there is left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn read_reports(
        &self,
        keys: &[ReportKey],
        reading: &NewReading,
    ) -> Result<Vec<StoredReport>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => {
                postgres::record_readings(pool, keys, reading).await?;
                postgres::reports(pool, keys).await
            }
            Database::Sqlite(database) => {
                sqlite::record_readings(database, keys, reading).await?;
                sqlite::reports(database, keys).await
            }
        }
    }

    /// Reports as they stand, for this service's own judgement: no reading is recorded.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn reports(&self, keys: &[ReportKey]) -> Result<Vec<StoredReport>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::reports(pool, keys).await,
            Database::Sqlite(database) => sqlite::reports(database, keys).await,
        }
    }

    /// Supersedings of reports that a client was given in an older version, after one number and up to another.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn superseded(
        &self,
        client: &SpiffeId,
        after: i64,
        to: i64,
        limit: i64,
    ) -> Result<Vec<StoredChange>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::superseded(pool, client, after, to, limit).await,
            Database::Sqlite(database) => {
                sqlite::superseded(database, client, after, to, limit).await
            }
        }
    }

    /// Number of the newest change in the database, of whatever replica; wakes the waiters of [`Store::report_changes`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn poll_report_changes(&self) -> Result<i64, StoreError> {
        let head = match &self.database {
            Database::Postgres(pool) => postgres::head(pool).await,
            Database::Sqlite(database) => sqlite::head(database).await,
        }?;
        self.advance(head);
        Ok(head)
    }

    /// The number of the newest change that this process knows of, as it grows.
    pub fn report_changes(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
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
