//! The city's database. Each part has a module of its own below this one, and migrations of its own at the end of the
//! list: applied ones never change.

mod calendar;
mod case;
mod material;
mod rating;
mod row;
pub(crate) mod tally;

use case::Writer;
pub use case::{EventFilter, FirstAnswer, NewCaseWrite, Pending, StoredStanding};
pub use material::{MaterialEntry, MaterialEntryKind};
pub use rating::{FirstRatingAnswer, NewRatingWrite};
pub use tally::TallyRow;

use banqiao_kit::{
    CallError, Database, DatabaseError, DatabaseSettings, FaultKind, Migrations, classify,
};
use tokio::sync::watch;

const MIGRATIONS: Migrations = Migrations {
    postgres: &[
        (
            "calendars",
            include_str!("../migrations/postgres/0001_calendars.sql"),
        ),
        (
            "cases",
            include_str!("../migrations/postgres/0002_cases.sql"),
        ),
        (
            "case events",
            include_str!("../migrations/postgres/0003_case_events.sql"),
        ),
        (
            "ratings and figures",
            include_str!("../migrations/postgres/0004_ratings_and_figures.sql"),
        ),
        ("documents", banqiao_kit::document::DOCUMENT_POSTGRES),
        (
            "materials",
            include_str!("../migrations/postgres/0005_materials.sql"),
        ),
        (
            "document holders",
            banqiao_kit::document::DOCUMENT_HOLDER_POSTGRES,
        ),
    ],
    sqlite: &[
        (
            "calendars",
            include_str!("../migrations/sqlite/0001_calendars.sql"),
        ),
        ("cases", include_str!("../migrations/sqlite/0002_cases.sql")),
        (
            "case events",
            include_str!("../migrations/sqlite/0003_case_events.sql"),
        ),
        (
            "ratings and figures",
            include_str!("../migrations/sqlite/0004_ratings_and_figures.sql"),
        ),
        ("documents", banqiao_kit::document::DOCUMENT_SQLITE),
        (
            "materials",
            include_str!("../migrations/sqlite/0005_materials.sql"),
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

/// The database of a city's cases. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    writer: Writer,
    /// Number of the newest rating or step of a rectification that this process knows of.
    ratings_head: watch::Sender<i64>,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn open(settings: &DatabaseSettings) -> Result<Self, DatabaseError> {
        let database = Database::open(settings, MIGRATIONS).await?;
        Ok(Self {
            writer: Writer::start(database.clone()),
            database,
            ratings_head: watch::Sender::new(0),
        })
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.database.close().await;
    }
}
