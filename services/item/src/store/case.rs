//! Cases, their history, and the one writer that puts many steps into one transaction.
//!
//! Reading and writing are apart: callers read, decide with pure functions, and hand a [`NewCaseWrite`] to the writer. Writes that wait while a
//! transaction commits go together into the next one, so that a slow disk costs time and not throughput. Each goes through only if
//! its case is still at the version that was read; whoever loses reads and decides again.

mod postgres;
mod sqlite;
mod writer;

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_kit::{Database, identifier::DivisionCode};
use banqiao_proto::item::v1::CaseState;
use jiff::civil::Date;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::case::{Case, CaseFilter, CaseNumber, Event, NewEvent};
pub(super) use writer::Writer;

/// What one decision writes. All of it or nothing.
#[derive(Clone, Debug)]
pub struct NewCaseWrite {
    /// The case after it.
    pub case: Case,
    /// Version at which it was read; none for a new case.
    pub base: Option<i64>,
    /// Entries, in order.
    pub events: Vec<NewEvent>,
}

/// The first answer to a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstAnswer {
    /// SHA-256 of the request.
    pub digest: [u8; 32],
    /// Where the case stood.
    pub standing: StoredStanding,
}

/// Where a case stood after an entry of its history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoredStanding {
    /// The case.
    pub number: CaseNumber,
    /// State.
    pub state: CaseState,
    /// Version.
    pub version: i64,
    /// Number of the entry.
    pub seq: i64,
    /// When.
    pub at_us: i64,
}

#[derive(sqlx::FromRow)]
struct AnswerRow {
    seq: i64,
    case_number: String,
    version: i64,
    to_state: i32,
    request_digest: Option<String>,
    at: i64,
}

impl TryFrom<AnswerRow> for FirstAnswer {
    type Error = StoreError;

    fn try_from(row: AnswerRow) -> Result<Self, StoreError> {
        let mut digest = [0; 32];
        if let Some(text) = row.request_digest {
            hex::decode_to_slice(text, &mut digest).map_err(|_| StoreError::Corrupt("digest"))?;
        }
        let number = row.case_number.parse();
        Ok(Self {
            digest,
            standing: StoredStanding {
                number: number.map_err(|_| StoreError::Corrupt("case number"))?,
                state: CaseState::try_from(row.to_state)
                    .map_err(|_| StoreError::Corrupt("state"))?,
                version: row.version,
                seq: row.seq,
                at_us: row.at,
            },
        })
    }
}

/// Which entries a watch sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventFilter {
    /// Those of a case.
    Case(CaseNumber),
    /// Those of a department's cases.
    Department {
        /// The department; empty for every one.
        department: String,
        /// Only warnings.
        warnings_only: bool,
    },
}

/// Which cases the service has to look at by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pending {
    /// Their joint handling goes on; after a number.
    Coordination(Option<CaseNumber>),
    /// Their clock does something up to a time.
    Due(i64),
    /// They wait for the calendar of a year up to this one.
    Missing(i16),
}

macro_rules! on {
    ($store:expr, $function:ident($($argument:expr),*)) => {
        match &$store.database {
            Database::Postgres(pool) => postgres::$function(pool, $($argument),*).await,
            Database::Sqlite(database) => sqlite::$function(database, $($argument),*).await,
        }
    };
}

impl Store {
    /// Takes `count` serials of a division and day, and gives the first. Serials that are not used leave a gap.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn take_serials(
        &self,
        division: DivisionCode,
        day: Date,
        count: i64,
    ) -> Result<i64, StoreError> {
        let last: i64 = on!(self, take_serials(division, day, count))?;
        Ok(last - count + 1)
    }

    /// A case.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn case(&self, number: CaseNumber) -> Result<Option<Case>, StoreError> {
        on!(self, case(number))
    }

    /// The case that a number of a receiving city's own system stands for.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn case_of_local_number(
        &self,
        receiving_city: CityCode,
        local_number: &str,
    ) -> Result<Option<Case>, StoreError> {
        on!(self, case_of_local_number(receiving_city, local_number))
    }

    /// The first answer to a request.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn first_answer(
        &self,
        client: &SpiffeId,
        request_id: Uuid,
    ) -> Result<Option<FirstAnswer>, StoreError> {
        on!(self, first_answer(client, request_id))
    }

    /// The history of a case, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn history(&self, number: CaseNumber) -> Result<Vec<Event>, StoreError> {
        on!(self, case_events(number, 0, i64::MAX))
    }

    /// Entries after a number, oldest first, at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn events(
        &self,
        filter: &EventFilter,
        after: i64,
        limit: i64,
    ) -> Result<Vec<Event>, StoreError> {
        match filter {
            EventFilter::Case(number) => on!(self, case_events(*number, after, limit)),
            EventFilter::Department {
                department,
                warnings_only,
            } => on!(
                self,
                department_events(department, *warnings_only, after, limit)
            ),
        }
    }

    /// Cases that a filter holds for, a page of them.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn search(&self, filter: &CaseFilter) -> Result<Vec<Case>, StoreError> {
        on!(self, search(filter))
    }

    /// Cases that wait for the service itself, at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn pending(&self, pending: Pending, limit: i64) -> Result<Vec<Case>, StoreError> {
        on!(self, pending(pending, limit))
    }

    /// Number of the newest entry in the database, of whatever replica; wakes the waiters of [`Store::heads`].
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn poll_head(&self) -> Result<i64, StoreError> {
        let head = on!(self, head())?;
        self.writer.advance(head);
        Ok(head)
    }

    /// The number of the newest entry that this process knows of, as it grows.
    pub fn heads(&self) -> watch::Receiver<i64> {
        self.writer.heads()
    }

    /// Writes a decision, together with others that wait, and gives the number of its last entry.
    ///
    /// When the future is dropped, or the connection breaks during the commit, the outcome is unknown: repeat the request with its request id.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the case is not at its version any more, a new one is there already, or the request id was
    /// used meanwhile. See [`StoreError`] for the rest.
    pub async fn write(&self, write: NewCaseWrite) -> Result<i64, StoreError> {
        self.writer.write(write).await
    }
}
