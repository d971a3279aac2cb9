//! The city's cards, the history of their states, and the answers to loss reports.
//!
//! Reading and writing are apart: callers read, decide with pure functions, and hand a [`Write`] to one transaction that goes through only if
//! every card is still at the version that was read. Whoever loses reads and decides again. The two stores share their tests, not
//! their SQL.

mod cause;
mod mapped;
mod postgres;
mod row;
mod shape;
mod sqlite;

pub use cause::Cause;
use std::sync::Arc;

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_kit::{
    CallError, Database, DatabaseError, DatabaseSettings, ExchangeId, FaultKind, Migrations,
    Refusal, Rule, RuleTable, Violation, classify,
    mapping::{Mapped, Mapping},
};
use banqiao_proto::card::v1::{CardFunction, VerificationMethod};
use tokio::sync::watch;
use uuid::Uuid;

use mapped::Bureau;
pub(crate) use mapped::{execute_many, parsed, unreadable};
pub use shape::CARD_MAPPING;
pub(crate) use shape::{field, optional_field};

use crate::{
    card::{Card, CardNumber, ChipCode},
    request::{Function, Lookup},
    state::State,
};

const MIGRATIONS: Migrations = Migrations {
    postgres: &[
        (
            "cards",
            include_str!("../migrations/postgres/0001_cards.sql"),
        ),
        (
            "changes",
            include_str!("../migrations/postgres/0002_changes.sql"),
        ),
        (
            "loss reports",
            include_str!("../migrations/postgres/0003_loss_reports.sql"),
        ),
        ("life", include_str!("../migrations/postgres/0004_life.sql")),
        ("outbox", banqiao_kit::OUTBOX_POSTGRES),
        (
            "pension transfers",
            include_str!("../migrations/postgres/0006_pension_transfers.sql"),
        ),
        (
            "insurance",
            include_str!("../migrations/postgres/0007_insurance.sql"),
        ),
        (
            "eligibility",
            include_str!("../migrations/postgres/0008_eligibility.sql"),
        ),
        (
            "mapping",
            include_str!("../migrations/postgres/0009_mapping.sql"),
        ),
    ],
    sqlite: &[
        ("cards", include_str!("../migrations/sqlite/0001_cards.sql")),
        (
            "changes",
            include_str!("../migrations/sqlite/0002_changes.sql"),
        ),
        (
            "loss reports",
            include_str!("../migrations/sqlite/0003_loss_reports.sql"),
        ),
        ("life", include_str!("../migrations/sqlite/0004_life.sql")),
        ("outbox", banqiao_kit::OUTBOX_SQLITE),
        (
            "pension transfers",
            include_str!("../migrations/sqlite/0006_pension_transfers.sql"),
        ),
        (
            "insurance",
            include_str!("../migrations/sqlite/0007_insurance.sql"),
        ),
        (
            "eligibility",
            include_str!("../migrations/sqlite/0008_eligibility.sql"),
        ),
    ],
};

/// A card with what the store keeps beside it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredCard {
    /// The card.
    pub card: Card,
    /// Random bytes of this record, for evidence digests.
    pub salt: [u8; 32],
    /// Grows by one with each change of the row.
    pub version: i64,
    /// What only this service writes.
    pub life: Life,
}

/// What applications leave on a card beside its states.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Life {
    /// Wrong PINs in a row.
    pub wrong_pins: u8,
    /// The electronic card was issued or moved here by an application, so that an import of older data does not take it away.
    pub electronic_issued: bool,
    /// The card that it follows.
    pub predecessor: Option<CardNumber>,
    /// The card that follows it.
    pub successor: Option<CardNumber>,
}

/// A new card that is nobody's yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blank {
    /// 卡号.
    pub number: CardNumber,
    /// 卡识别码.
    pub chip: ChipCode,
    /// 规范版本.
    pub specification: String,
}

/// A part of a card that changes. The numbers are those of `banqiao.card.v1.CardFunction`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// The electronic card: NORMAL while one is linked.
    Electronic,
    /// 金融功能.
    Financial,
    /// 社保功能.
    Social,
}

impl Part {
    /// The part in an answer.
    pub const fn shown(self) -> CardFunction {
        match self {
            Self::Electronic => CardFunction::Electronic,
            Self::Financial => CardFunction::Financial,
            Self::Social => CardFunction::Social,
        }
    }

    fn of(number: i32) -> Option<Self> {
        [Self::Electronic, Self::Financial, Self::Social]
            .into_iter()
            .find(|part| i32::from(part.shown()) == number)
    }
}

impl From<Function> for Part {
    fn from(function: Function) -> Self {
        match function {
            Function::Financial => Self::Financial,
            Function::Social => Self::Social,
        }
    }
}

/// On whose behalf a state changes.
#[derive(Clone, Debug)]
pub struct Actor {
    /// City where it was asked for.
    pub city: CityCode,
    /// Client system and exchange; none when the city's own service acts by itself.
    pub call: Option<(SpiffeId, ExchangeId)>,
}

/// A change that is to be written.
#[derive(Clone, Debug)]
pub struct NewChange {
    /// The card.
    pub number: CardNumber,
    /// What of it changes.
    pub part: Part,
    /// State before; none for a new card.
    pub from: Option<State>,
    /// State after.
    pub to: State,
    /// Who asked.
    pub actor: Actor,
    /// Why.
    pub cause: Cause,
    /// When, in microseconds since 1970-01-01 UTC.
    pub changed_at_us: i64,
}

/// A change of the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Its number: changes are numbered from 1 without gaps, in the order of their commits.
    pub seq: i64,
    /// The card.
    pub number: CardNumber,
    /// What of it changes.
    pub part: Part,
    /// State before; none for a new card.
    pub from: Option<State>,
    /// State after.
    pub to: State,
    /// City where it was asked for.
    pub actor_city: CityCode,
    /// Client system and exchange, as text; none when the city's own service acted by itself.
    pub call: Option<(String, String)>,
    /// Why.
    pub cause: Cause,
    /// When, in microseconds since 1970-01-01 UTC.
    pub changed_at_us: i64,
}

/// What became of a loss report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportAnswer {
    /// It was applied to a card, or the card stood so already.
    Applied {
        /// State of the function.
        state: State,
        /// End of a temporary loss.
        until_us: Option<i64>,
        /// Number of the change that made it so. None: the last one of the [`Write`] that the report is part of.
        seq: Option<i64>,
    },
    /// Nothing matched.
    NothingMatched,
}

/// A report with its first answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Who chose the request id.
    pub client: SpiffeId,
    /// The request id.
    pub request_id: Uuid,
    /// SHA-256 of the request, to tell a repetition from another request.
    pub digest: [u8; 32],
    /// The first answer.
    pub answer: ReportAnswer,
    /// The exchange of the first request.
    pub exchange: ExchangeId,
    /// When it was first answered.
    pub reported_at_us: i64,
    /// The whole answer of an application, encoded.
    pub outcome: Option<Vec<u8>>,
    /// The identity verification that it uses up.
    pub verification: Option<Use>,
}

/// An identity verification that serves an application and no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// SHA-256 of the reference of the client that verified.
    pub reference_digest: [u8; 32],
    /// How the person was verified.
    pub method: VerificationMethod,
}

/// The first answer to a report, as the store gives it back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirstAnswer {
    /// SHA-256 of the request.
    pub digest: [u8; 32],
    /// The answer; where it was applied, its `seq` is set.
    pub answer: ReportAnswer,
    /// The whole answer of an application.
    pub outcome: Option<Vec<u8>>,
}

/// What one transaction writes. All of it or nothing.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// New cards, with their version.
    pub inserts: Vec<StoredCard>,
    /// Changed cards, each with the version at which it was read.
    pub updates: Vec<StoredCard>,
    /// Changes, in order.
    pub changes: Vec<NewChange>,
    /// A report with its answer.
    pub report: Option<Report>,
    /// A new card that leaves the stock.
    pub blank: Option<CardNumber>,
}

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
    /// The mapping of the bureau's tables has no statement for this.
    #[error("the mapping has no statement {0}")]
    NotMapped(&'static str),
    /// The operating system gives no random bytes.
    #[error("no random bytes for a new record")]
    NoRandomBytes,
    /// The database is away or overloaded.
    #[error("the database is not available")]
    Unavailable(#[source] sqlx::Error),
    /// A record of the bureau's tables is not as its mapping says, or the bureau's tables refuse one.
    #[error("a record of the mapped tables cannot be used: {0}")]
    Unreadable(&'static str),
}

impl StoreError {
    /// What is wrong with a record, where it is the record and not the store.
    pub(crate) fn of_a_record(&self) -> Option<Violation> {
        let (field, refusal) = match self {
            Self::NotMapped(statement) => (*statement, &NOT_MAPPED),
            Self::Unreadable(field) => (*field, &RECORD_UNREADABLE),
            _ => return None,
        };
        Some(Violation {
            field: field.into(),
            rule: &refusal.rule,
        })
    }
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
            StoreError::Broken(_) | StoreError::Corrupt(_) | StoreError::NoRandomBytes => {
                Self::Internal(error.into())
            }
            StoreError::Unreadable(field) => {
                RECORD_UNREADABLE.because(format!("the record in its city's own tables: {field}"))
            }
            StoreError::NotMapped(statement) => {
                NOT_MAPPED.because(format!("this city's mapping has no statement {statement}"))
            }
        }
    }
}

static RECORD_UNREADABLE: Refusal = Refusal::conflict(Rule::design(
    "RECORD_UNREADABLE",
    "a record whose codes, dates or numbers the city's mapping does not know is refused and never guessed",
    "card service, mapping",
)
.remedy("ask the issuing city: its service's log names the column and the code"));
static NOT_MAPPED: Refusal = Refusal::conflict(
    Rule::design(
        "NOT_MAPPED",
        "where a city serves its own tables, only what it named a statement for is written",
        "card service, mapping",
    )
    .remedy("ask the issuing city to name the statement in its mapping"),
);

pub(crate) fn rules() -> RuleTable {
    RuleTable::new("A city's own tables")
        .refusal(&RECORD_UNREADABLE, &["every method"])
        .refusal(&NOT_MAPPED, &["every method"])
}

/// Cards in the order of their numbers.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The cards.
    pub cards: Vec<StoredCard>,
    /// Number and field of records that cannot be used, on mapped tables only.
    pub unreadable: Vec<(String, &'static str)>,
    /// The number after which the next page begins; none at the end.
    pub last: Option<String>,
}

/// The database of a city's cards. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    database: Database,
    /// The bureau's own tables, where there are some.
    mapped: Option<Mapped>,
    /// The cards in them.
    bureau: Option<Arc<Bureau>>,
    /// Number of the newest change that this process knows of.
    head: watch::Sender<i64>,
}

impl Store {
    /// Opens the database and brings its schema up to date.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn open(settings: &DatabaseSettings) -> Result<Self, DatabaseError> {
        Self::open_mapped(settings, None).await
    }

    /// Opens the database, and checks the mapping where the cards are in the bureau's own tables.
    ///
    /// # Errors
    /// See [`DatabaseError`].
    pub async fn open_mapped(
        settings: &DatabaseSettings,
        mapping: Option<&Mapping>,
    ) -> Result<Self, DatabaseError> {
        let database = Database::open(settings, MIGRATIONS).await?;
        let (mut mapped, mut bureau) = (None, None);
        match (mapping, &database) {
            (None, _) => {}
            (Some(mapping), Database::Postgres(pool)) => {
                let fitting = mapping.check(pool).await.map_err(DatabaseError::Mapping)?;
                if fitting.holds(shape::RELATION) {
                    bureau = Some(Arc::new(Bureau::open(pool, fitting.clone()).await?));
                }
                mapped = Some(fitting);
            }
            (Some(_), Database::Sqlite(_)) => return Err(DatabaseError::MappingNeedsPostgres),
        }
        Ok(Self {
            database,
            mapped,
            bureau,
            head: watch::Sender::new(0),
        })
    }

    /// The card that a caller names, whatever else was given with it.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn find(&self, lookup: &Lookup) -> Result<Option<StoredCard>, StoreError> {
        let (numbers, chips) = match lookup {
            Lookup::Chip(chip) => (vec![], vec![chip]),
            Lookup::Number(number) => (vec![number], vec![]),
        };
        Ok(self.find_all(&numbers, &chips).await?.pop())
    }

    /// Every card that has one of these numbers or chips.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn find_all(
        &self,
        numbers: &[&CardNumber],
        chips: &[&ChipCode],
    ) -> Result<Vec<StoredCard>, StoreError> {
        match (&self.database, &self.bureau) {
            // Boxed, as the others of a bureau: a snapshot with its statements, which most networks never need.
            (Database::Postgres(pool), Some(bureau)) => {
                Box::pin(bureau.find_all(pool, numbers, chips)).await
            }
            (Database::Postgres(pool), None) => postgres::find_all(pool, numbers, chips).await,
            (Database::Sqlite(database), _) => sqlite::find_all(database, numbers, chips).await,
        }
    }

    /// Cards after a number, in the order in which the database keeps numbers, at most `limit`. An empty number begins.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn page(&self, after: &str, limit: i64) -> Result<Page, StoreError> {
        let cards = match (&self.database, &self.bureau) {
            (Database::Postgres(pool), Some(bureau)) => {
                return Box::pin(bureau.page(pool, after, limit)).await;
            }
            (Database::Postgres(pool), None) => postgres::page(pool, after, limit).await,
            (Database::Sqlite(database), _) => sqlite::page(database, after, limit).await,
        }?;
        let last = cards
            .last()
            .map(|stored| stored.card.number.as_str().to_owned());
        Ok(Page {
            cards,
            last,
            ..Page::default()
        })
    }

    /// The first answer to a report.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn first_answer(
        &self,
        client: &SpiffeId,
        request_id: Uuid,
    ) -> Result<Option<FirstAnswer>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::first_answer(pool, client, request_id).await,
            Database::Sqlite(database) => sqlite::first_answer(database, client, request_id).await,
        }
    }

    /// Whether a client's identity verification served an application already.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn is_used(
        &self,
        client: &SpiffeId,
        reference_digest: &[u8; 32],
    ) -> Result<bool, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::is_used(pool, client, reference_digest).await,
            Database::Sqlite(database) => sqlite::is_used(database, client, reference_digest).await,
        }
    }

    /// A new card of the stock, if there is one. It leaves the stock with the [`Write`] that names it. Different seeds choose apart, so
    /// that callers at once do not meet at one card.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn blank(&self, seed: u128) -> Result<Option<Blank>, StoreError> {
        // The stock is numbered in runs: a place among its first cards.
        let place = i64::try_from(seed % 16).unwrap_or_default();
        for place in [place, 0] {
            let blank = match &self.database {
                Database::Postgres(pool) => postgres::blank(pool, place).await,
                Database::Sqlite(database) => sqlite::blank(database, place).await,
            }?;
            if blank.is_some() {
                return Ok(blank);
            }
        }
        Ok(None)
    }

    /// New cards of the stock after a number, in the order in which the database keeps numbers, at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn blanks_after(&self, after: &str, limit: i64) -> Result<Vec<Blank>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::blanks_after(pool, after, limit).await,
            Database::Sqlite(database) => sqlite::blanks_after(database, after, limit).await,
        }
    }

    /// Adds new cards to the stock, apart from those that are there or were issued, and says how many.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn add_blanks(&self, blanks: &[Blank]) -> Result<u64, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::add_blanks(pool, blanks).await,
            Database::Sqlite(database) => sqlite::add_blanks(database, blanks).await,
        }
    }

    /// Cards with a temporary loss whose end has come, at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn ended_losses(
        &self,
        now_us: i64,
        limit: i64,
    ) -> Result<Vec<StoredCard>, StoreError> {
        match (&self.database, &self.bureau) {
            (Database::Postgres(pool), Some(bureau)) => {
                Box::pin(bureau.ended_losses(pool, now_us, limit)).await
            }
            (Database::Postgres(pool), None) => postgres::ended_losses(pool, now_us, limit).await,
            (Database::Sqlite(database), _) => sqlite::ended_losses(database, now_us, limit).await,
        }
    }

    /// Changes after a number, oldest first, at most `limit`.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn changes(&self, after: i64, limit: i64) -> Result<Vec<Change>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::changes(pool, after, limit).await,
            Database::Sqlite(database) => sqlite::changes(database, after, limit).await,
        }
    }

    /// The history of a card, oldest first.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn history(&self, number: &CardNumber) -> Result<Vec<Change>, StoreError> {
        match &self.database {
            Database::Postgres(pool) => postgres::history(pool, number).await,
            Database::Sqlite(database) => sqlite::history(database, number).await,
        }
    }

    /// Number of the newest change in the database, of whatever replica; wakes the waiters of [`Store::heads`].
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

    /// The number of the newest change that this process knows of, as it grows.
    pub fn heads(&self) -> watch::Receiver<i64> {
        self.head.subscribe()
    }

    /// Writes everything in one transaction, and gives the number of the last change (0 when there is none).
    ///
    /// When the future is dropped or the connection breaks during the commit, the outcome is unknown: repeat the request with its request id.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a card is not at its version any more, a new one is there already, or the request id
    /// was used meanwhile. See [`StoreError`] for the rest.
    pub async fn write(&self, write: &Write) -> Result<i64, StoreError> {
        // Boxed: a transaction with its statements, which every caller's future would hold.
        let last = match &self.database {
            Database::Postgres(pool) => {
                Box::pin(postgres::write(pool, write, self.bureau.as_deref())).await
            }
            Database::Sqlite(database) => Box::pin(sqlite::write(database, write)).await,
        }?;
        self.advance(last);
        Ok(last)
    }

    /// The database, in which transfers stand beside the cards.
    pub const fn database(&self) -> &Database {
        &self.database
    }

    /// The bureau's own tables, where a relation is mapped.
    pub(crate) fn mapped(&self, relation: &str) -> Option<Mapped> {
        let mapped = self.mapped.clone();
        mapped.filter(|mapped| mapped.holds(relation))
    }

    /// Closes the database.
    pub async fn close(&self) {
        self.database.close().await;
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
