//! What doctors decided, what became of its delivery, and counts of it. Nothing is ever rewritten.

mod postgres;
mod row;
mod sqlite;

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_kit::{Database, ExchangeId, NewParcel, Outbox, PostError, identifier::CreditCode};
use banqiao_proto::lab::v1::{Decision, DecisionOutcome, DecisionSide, RepeatReason};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::{catalogue::ItemCode, report::ReportKey};

/// A decision to write.
#[derive(Clone, Debug, PartialEq)]
pub struct DecisionWrite {
    /// The decision's number.
    pub id: Uuid,
    /// Who decided.
    pub institution: CreditCode,
    /// The report.
    pub report: ReportKey,
    /// The item.
    pub item: ItemCode,
    /// Everything about it.
    pub decision: Decision,
    /// When it was decided, in microseconds since 1970-01-01 UTC.
    pub decided_at_us: i64,
    /// SHA-256 of what was asked for, to tell a repetition from another request.
    pub digest: [u8; 32],
    /// It came from another city.
    pub received: bool,
    /// The system that asked.
    pub client: SpiffeId,
    /// Its request id.
    pub request_id: Uuid,
    /// Its exchange.
    pub exchange: ExchangeId,
    /// Now, in microseconds since 1970-01-01 UTC.
    pub now_us: i64,
    /// The message for the city of the report.
    pub parcel: Option<NewParcel>,
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Delivery {
    /// Nothing yet.
    Waiting,
    /// It was taken.
    Delivered,
    /// It will never be taken, and why.
    Returned(String),
}

/// A decision as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredDecision {
    /// Its number: decisions are numbered from 1 without gaps, in the order of their commits.
    pub seq: i64,
    /// The decision.
    pub decision: Decision,
    /// SHA-256 of what was asked for.
    pub digest: [u8; 32],
    /// It came from another city.
    pub received: bool,
    /// When it was written, in microseconds since 1970-01-01 UTC.
    pub recorded_at_us: i64,
    /// What became of its delivery.
    pub delivery: Delivery,
}

/// Which decisions are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionCountSearch {
    /// For whom.
    pub side: DecisionSide,
    /// The institutions.
    pub institutions: Vec<CreditCode>,
    /// The items; empty: all.
    pub items: Vec<ItemCode>,
    /// First time.
    pub from_us: i64,
    /// Time before which it was decided.
    pub before_us: i64,
}

/// How many decisions of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DecisionCount {
    /// The institution.
    pub institution: CreditCode,
    /// The item.
    pub item: ItemCode,
    /// What was decided.
    pub outcome: DecisionOutcome,
    /// Why it is repeated.
    pub reason: RepeatReason,
    /// How many.
    pub count: u64,
}

/// Why a decision is not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DecisionError {
    /// As many decisions as are kept wait for this city already.
    #[error("too many decisions wait for {0}: its gateway has been out of reach for long")]
    OutboxFull(CityCode),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for DecisionError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<PostError> for DecisionError {
    fn from(error: PostError) -> Self {
        match error {
            PostError::Database(error) => error.into(),
            PostError::Full(city) => Self::OutboxFull(city),
            _ => Self::Store(StoreError::Corrupt("length of a decision")),
        }
    }
}

impl Store {
    /// The messages to other cities that wait.
    pub const fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    /// The decision that a client's request made.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn decision_of(
        &self,
        client: &SpiffeId,
        request_id: Uuid,
    ) -> Result<Option<StoredDecision>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::of_request(pool, client, request_id).await,
            Database::Sqlite(database) => sqlite::of_request(database, client, request_id).await,
        }
    }

    /// A decision by its number.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn decision(&self, id: Uuid) -> Result<Option<StoredDecision>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::by_id(pool, id).await,
            Database::Sqlite(database) => sqlite::by_id(database, id).await,
        }
    }

    /// Writes a decision, and posts its message, in one transaction.
    ///
    /// # Errors
    /// A conflict where the same request or decision came first; see [`DecisionError`].
    pub async fn write_decision(&self, write: &DecisionWrite) -> Result<(), DecisionError> {
        match &self.database {
            Database::Postgres(pool) => Box::pin(postgres::write(pool, write)).await,
            Database::Sqlite(database) => Box::pin(sqlite::write(database, write)).await,
        }?;
        if write.parcel.is_some() {
            self.outbox.wake();
        }
        Ok(())
    }

    /// Takes a message off and writes what became of it, in one transaction, unless another replica did so before.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn decision_carried(
        &self,
        seq: i64,
        id: Uuid,
        delivery: &Delivery,
        exchange: Option<ExchangeId>,
        now_us: i64,
    ) -> Result<(), StoreError> {
        let returned = match delivery {
            Delivery::Returned(why) => Some(why.as_str()),
            Delivery::Waiting | Delivery::Delivered => None,
        };
        let exchange = exchange.map(|exchange| exchange.to_string());
        let row = row::DeliveryRow {
            id: id.to_string(),
            returned,
            exchange,
            now_us,
        };
        match &self.database {
            Database::Postgres(pool) => Box::pin(postgres::carried(pool, seq, &row)).await,
            Database::Sqlite(database) => Box::pin(sqlite::carried(database, seq, &row)).await,
        }
    }

    /// Decisions of an institution's side after a number, in the order of their numbers.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn decisions(
        &self,
        side: DecisionSide,
        institution: CreditCode,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StoredDecision>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => {
                postgres::of_side(pool, side, institution, after, limit).await
            }
            Database::Sqlite(database) => {
                sqlite::of_side(database, side, institution, after, limit).await
            }
        }
    }

    /// The decisions that count, by institution, item, outcome and reason.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn decision_counts(
        &self,
        search: &DecisionCountSearch,
    ) -> Result<Vec<DecisionCount>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::counts(pool, search).await,
            Database::Sqlite(database) => sqlite::counts(database, search).await,
        }
    }

    /// How many reports, by institution, had one of the `drawn` items recognised and none repeated.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn saved_draws(
        &self,
        search: &DecisionCountSearch,
        drawn: &[&ItemCode],
    ) -> Result<Vec<(CreditCode, u64)>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::draws(pool, search, drawn).await,
            Database::Sqlite(database) => sqlite::draws(database, search, drawn).await,
        }
    }
}
