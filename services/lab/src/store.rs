//! The database of a city's laboratory service. Each part has a module of its own, with statements for each of the two stores; they
//! share their tests, not their SQL.

mod decision;
mod quality;
mod referral;
mod report;

use banqiao_kit::{
    CallError, Database, DatabaseError, DatabaseSettings, FaultKind, Migrations, Outbox, classify,
};
use tokio::sync::watch;

pub use decision::{
    DecisionCount, DecisionCountSearch, DecisionError, DecisionWrite, Delivery, StoredDecision,
};
pub use quality::{Evaluated, NewEvaluation, ResultWrite, SampleKey, SampleValue, StoredRound};
pub(crate) use referral::{NewReferralAnswer, ReferralWrite};
pub use referral::{
    NewReferralEvent, ReferralPull, ReferralStore, StoredReferral, StoredReferralEvent,
};
pub use report::{
    NewReading, ReportHead, ReportSearch, ReportWrite, StoredChange, StoredReport, Supersede,
};

const MIGRATIONS: Migrations = Migrations {
    postgres: &[
        (
            "reports",
            include_str!("../migrations/postgres/0001_reports.sql"),
        ),
        (
            "readings",
            include_str!("../migrations/postgres/0002_readings.sql"),
        ),
        (
            "quality",
            include_str!("../migrations/postgres/0003_quality.sql"),
        ),
        (
            "decisions",
            include_str!("../migrations/postgres/0004_decisions.sql"),
        ),
        ("outbox", banqiao_kit::OUTBOX_POSTGRES),
        ("documents", banqiao_kit::document::DOCUMENT_POSTGRES),
        (
            "referrals",
            include_str!("../migrations/postgres/0005_referrals.sql"),
        ),
        (
            "statistics",
            include_str!("../migrations/postgres/0006_statistics.sql"),
        ),
        (
            "document holders",
            banqiao_kit::document::DOCUMENT_HOLDER_POSTGRES,
        ),
    ],
    sqlite: &[
        (
            "reports",
            include_str!("../migrations/sqlite/0001_reports.sql"),
        ),
        (
            "readings",
            include_str!("../migrations/sqlite/0002_readings.sql"),
        ),
        (
            "quality",
            include_str!("../migrations/sqlite/0003_quality.sql"),
        ),
        (
            "decisions",
            include_str!("../migrations/sqlite/0004_decisions.sql"),
        ),
        ("outbox", banqiao_kit::OUTBOX_SQLITE),
        ("documents", banqiao_kit::document::DOCUMENT_SQLITE),
        (
            "referrals",
            include_str!("../migrations/sqlite/0005_referrals.sql"),
        ),
        (
            "statistics",
            include_str!("../migrations/sqlite/0006_statistics.sql"),
        ),
        (
            "document holders",
            banqiao_kit::document::DOCUMENT_HOLDER_SQLITE,
        ),
    ],
};

/// Why the store does not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A fault of this program or of the schema.
    #[error("the database refused a statement")]
    Broken(#[source] sqlx::Error),
    /// Another transaction won: read again and decide again.
    #[error("another change came first")]
    Conflict,
    /// The record breaks a rule that every writer keeps.
    #[error("a stored record has an impossible {0}")]
    Corrupt(&'static str),
    /// The database is away or overloaded.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match classify(&error) {
            FaultKind::Broken => Self::Broken(error),
            FaultKind::Conflict => Self::Conflict,
            FaultKind::Unavailable => Self::Unavailable(error),
        }
    }
}

impl From<StoreError> for CallError {
    fn from(error: StoreError) -> Self {
        match error {
            // Conflicts end here only after several attempts: an overload.
            StoreError::Conflict | StoreError::Unavailable(_) => {
                Self::StoreUnavailable(error.into())
            }
            StoreError::Broken(_) | StoreError::Corrupt(_) => Self::Internal(error.into()),
        }
    }
}

/// The database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    outbox: Outbox,
    /// Number of the newest change of a report that this process knows of.
    head: watch::Sender<i64>,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn open(settings: &DatabaseSettings) -> Result<Self, DatabaseError> {
        let database = Database::open(settings, MIGRATIONS).await?;
        Ok(Self {
            outbox: Outbox::new(database.clone()),
            database,
            head: watch::Sender::new(0),
        })
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.database.close().await;
    }
}
