//! Quality rounds, what institutions reported in them, and how they were evaluated. Nothing is ever rewritten.

mod postgres;
mod row;
mod sqlite;

use std::collections::BTreeMap;

use banqiao_directory::SpiffeId;
use banqiao_kit::{Database, identifier::CreditCode};
use banqiao_proto::lab::v1::QualityRound;

use super::{Store, StoreError};
use crate::{
    catalogue::ItemCode,
    quality::{JudgedRound, Round, RoundId, Score},
};

/// A round as it stands.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredRound {
    /// The round, with its targets.
    pub round: QualityRound,
    /// When it was evaluated, in microseconds since 1970-01-01 UTC; none before.
    pub evaluated_at_us: Option<i64>,
}

/// A sample of an item that an institution measures in a round.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SampleKey {
    /// The round.
    pub round: RoundId,
    /// The institution.
    pub institution: CreditCode,
    /// The item.
    pub item: ItemCode,
    /// The sample.
    pub sample: String,
}

/// The value of a sample that counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampleValue {
    /// Which sample.
    pub key: SampleKey,
    /// Its version: 1 for the first, one more for each other value.
    pub version: i32,
    /// The number as it was sent.
    pub value: String,
}

/// What one transaction writes of results. All of it or nothing.
#[derive(Clone, Debug)]
pub struct ResultWrite {
    /// The values, with the versions that they get.
    pub values: Vec<SampleValue>,
    /// The rounds that must be open still, sorted.
    pub rounds: Vec<RoundId>,
    /// The system; none for the operators of the service.
    pub client: Option<SpiffeId>,
    /// When, in microseconds since 1970-01-01 UTC.
    pub now_us: i64,
}

/// Who evaluates a round, when, and by what.
#[derive(Clone, Debug)]
pub struct NewEvaluation {
    /// The round.
    pub round: RoundId,
    /// Version of the catalogue with the allowable errors.
    pub catalogue: String,
    /// The system; none for the operators of the service.
    pub client: Option<SpiffeId>,
    /// When, in microseconds since 1970-01-01 UTC.
    pub now_us: i64,
}

/// An evaluation as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluated {
    /// How institutions did, by institution and item.
    pub scores: Vec<Score>,
    /// When, in microseconds since 1970-01-01 UTC.
    pub at_us: i64,
    /// It had been evaluated before.
    pub repeated: bool,
}

impl Store {
    /// Registers a round; false when one of this number stands, and then nothing is written.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn register_round(
        &self,
        round: &Round,
        client: Option<&SpiffeId>,
        now_us: i64,
    ) -> Result<bool, StoreError> {
        match &self.database {
            Database::Postgres(pool) => {
                Box::pin(postgres::register(pool, round, client, now_us)).await
            }
            Database::Sqlite(database) => {
                Box::pin(sqlite::register(database, round, client, now_us)).await
            }
        }
    }

    /// These rounds, those that are not there left out.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn rounds(&self, ids: &[RoundId]) -> Result<Vec<StoredRound>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::rounds(pool, ids).await,
            Database::Sqlite(database) => sqlite::rounds(database, ids).await,
        }
    }

    /// The values that count of these rounds and institutions.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn sample_values(
        &self,
        rounds: &[RoundId],
        institutions: &[CreditCode],
    ) -> Result<Vec<SampleValue>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::values(pool, rounds, institutions).await,
            Database::Sqlite(database) => sqlite::values(database, rounds, institutions).await,
        }
    }

    /// Writes values in one transaction, as long as their rounds are open.
    ///
    /// # Errors
    /// A conflict where another value came first or a round is not open any more; see [`StoreError`].
    pub async fn write_results(&self, write: &ResultWrite) -> Result<(), StoreError> {
        match &self.database {
            Database::Postgres(pool) => Box::pin(postgres::write_results(pool, write)).await,
            Database::Sqlite(database) => Box::pin(sqlite::write_results(database, write)).await,
        }
    }

    /// Evaluates a round, once: `judge` makes scores of the values that count.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn evaluate_round(
        &self,
        new: &NewEvaluation,
        judge: impl FnOnce(&[SampleValue]) -> Vec<Score> + Send,
    ) -> Result<Evaluated, StoreError> {
        match &self.database {
            Database::Postgres(pool) => Box::pin(postgres::evaluate(pool, new, judge)).await,
            Database::Sqlite(database) => Box::pin(sqlite::evaluate(database, new, judge)).await,
        }
    }

    /// How institutions did in a round, by institution and item.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn scores(&self, round: &RoundId) -> Result<Vec<Score>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::scores(pool, round).await,
            Database::Sqlite(database) => sqlite::scores(database, round).await,
        }
    }

    /// The evaluated rounds of items (empty: all), with what each of the institutions reached in them, by item and closing time. One
    /// question, however many institutions.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn judged_rounds(
        &self,
        institutions: &[CreditCode],
        items: &[ItemCode],
    ) -> Result<BTreeMap<CreditCode, Vec<JudgedRound>>, StoreError> {
        let rows = match &self.database {
            Database::Postgres(pool) => postgres::judged(pool, institutions, items).await,
            Database::Sqlite(database) => sqlite::judged(database, institutions, items).await,
        }?;
        let mut judged: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for row in rows {
            let (institution, round) = row.try_into()?;
            judged.entry(institution).or_default().push(round);
        }
        Ok(judged)
    }
}
