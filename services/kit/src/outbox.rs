//! Messages to other cities that must arrive: written in the transaction that makes them necessary, sent until they are answered.
//!
//! ```text
//!   a service's transaction: its own rows + post(parcel) ──commit──▶ table `outbox`
//!   send(): the oldest parcel of each destination ──Courier──▶ answered: the courier takes it off, in a transaction with
//!                                                              what the answer means; else again after a growing pause
//! ```
//!
//! Parcels for one destination go one by one in the order in which they were posted, so no later one overtakes; destinations do
//! not wait for each other. Several replicas may send the same parcel: its request id makes that harmless, and only one of them
//! takes it off. A crash loses nothing: what was answered but not yet taken off is sent again under the same request id.
//!
//! Each service owns its table in its own database: it appends [`OUTBOX_POSTGRES`] and [`OUTBOX_SQLITE`] to its migrations.

mod postgres;
mod sqlite;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use banqiao_directory::CityCode;
use banqiao_telemetry::Chain;
use futures_util::future::join_all;
use tokio::{sync::Notify, time::Instant};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::database::{Database, FaultKind, classify};

/// The table of an outbox on PostgreSQL.
pub const OUTBOX_POSTGRES: &str = include_str!("../migrations/postgres/outbox.sql");
/// The table of an outbox on SQLite.
pub const OUTBOX_SQLITE: &str = include_str!("../migrations/sqlite/outbox.sql");

/// Parcels that wait for one destination at most: a city that is down for weeks, at some hundred parcels a day.
pub const OUTBOX_LIMIT: i64 = 10_000;
/// Longest payload in bytes.
pub const MAX_PARCEL: usize = 1024 * 1024;

/// First pause after a failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause: a city that comes back is noticed within this.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// How often parcels of other replicas, and of a stopped one, are looked for.
const POLL: Duration = Duration::from_secs(5);

/// A message that is to be sent.
#[derive(Clone, PartialEq, Eq)]
pub struct NewParcel {
    /// City that is to have it.
    pub destination: CityCode,
    /// What it is, in the service's own words.
    pub kind: &'static str,
    /// The record that it is about, in the service's own words.
    pub subject: String,
    /// Under which request id it is sent, each time.
    pub request_id: Uuid,
    /// The message, encoded.
    pub payload: Vec<u8>,
    /// When it was posted, in microseconds since 1970-01-01 UTC.
    pub posted_at_us: i64,
}

impl fmt::Debug for NewParcel {
    // The payload is about a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NewParcel")
            .field("destination", &self.destination)
            .field("kind", &self.kind)
            .field("request_id", &self.request_id)
            .finish_non_exhaustive()
    }
}

/// A message that waits.
#[derive(Clone, PartialEq, Eq, sqlx::FromRow)]
pub struct Parcel {
    /// Its number, in the order of posting.
    pub seq: i64,
    /// City that is to have it, as its code.
    pub destination: String,
    /// What it is.
    pub kind: String,
    /// The record that it is about.
    pub subject: String,
    /// Under which request id it is sent, as a UUID in text.
    pub request_id: String,
    /// The message, encoded.
    pub payload: Vec<u8>,
    /// When it was posted, in microseconds since 1970-01-01 UTC.
    pub posted_at: i64,
}

impl fmt::Debug for Parcel {
    // The payload is about a person.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Parcel")
            .field("seq", &self.seq)
            .field("destination", &self.destination)
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

/// Why a parcel is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostError {
    /// The database.
    #[error("the outbox cannot be written")]
    Database(#[from] sqlx::Error),
    /// As many parcels as are kept wait for this city already.
    #[error("{OUTBOX_LIMIT} messages wait for {0} already")]
    Full(CityCode),
    /// The payload is longer than [`MAX_PARCEL`].
    #[error("a message of {0} bytes is longer than {MAX_PARCEL}")]
    TooLong(usize),
}

impl PostError {
    /// Whose fault it is, where it is the database's.
    pub fn fault(&self) -> Option<FaultKind> {
        match self {
            Self::Database(error) => Some(classify(error)),
            Self::Full(_) | Self::TooLong(_) => None,
        }
    }
}

/// What became of a parcel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carried {
    /// It was answered and taken off, by this replica or another.
    Done,
    /// Not now: again after the pause of this many failures in a row, or after this time if it is longer.
    Later(Option<Duration>),
}

/// Carries parcels. It takes a parcel off itself, in the transaction that writes what the answer means.
pub trait Courier: Send + Sync {
    /// Sends a parcel once.
    fn carry(&self, parcel: &Parcel) -> impl Future<Output = Carried> + Send;
}

/// A service's outbox. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbox {
    database: Database,
    posted: Arc<Notify>,
}

impl Outbox {
    /// The outbox in a service's database, whose migrations made its table.
    pub fn new(database: Database) -> Self {
        Self {
            database,
            posted: Arc::default(),
        }
    }

    /// Posts a parcel as part of a transaction. Call [`Outbox::wake`] after its commit.
    ///
    /// # Errors
    /// See [`PostError`]. The transaction is to be given up.
    pub async fn post_postgres(
        connection: &mut sqlx::PgConnection,
        parcel: &NewParcel,
    ) -> Result<(), PostError> {
        check_length(parcel)?;
        postgres::post(connection, parcel).await
    }

    /// Posts a parcel as part of a transaction. Call [`Outbox::wake`] after its commit.
    ///
    /// # Errors
    /// See [`PostError`]. The transaction is to be given up.
    pub async fn post_sqlite(
        connection: &mut sqlx::SqliteConnection,
        parcel: &NewParcel,
    ) -> Result<(), PostError> {
        check_length(parcel)?;
        sqlite::post(connection, parcel).await
    }

    /// Takes a parcel off as part of a transaction; false when it was gone already, and then the answer was dealt with.
    ///
    /// # Errors
    /// The database's.
    pub async fn take_off_postgres(
        connection: &mut sqlx::PgConnection,
        seq: i64,
    ) -> Result<bool, sqlx::Error> {
        postgres::take_off(connection, seq).await
    }

    /// Takes a parcel off as part of a transaction; false when it was gone already, and then the answer was dealt with.
    ///
    /// # Errors
    /// The database's.
    pub async fn take_off_sqlite(
        connection: &mut sqlx::SqliteConnection,
        seq: i64,
    ) -> Result<bool, sqlx::Error> {
        sqlite::take_off(connection, seq).await
    }

    /// The oldest parcel of each destination.
    ///
    /// # Errors
    /// The database's.
    pub async fn next(&self) -> Result<Vec<Parcel>, sqlx::Error> {
        match &self.database {
            Database::Postgres(pool) => postgres::next(pool).await,
            Database::Sqlite(database) => sqlite::next(database).await,
        }
    }

    /// Tells [`Outbox::send`] that something was posted.
    pub fn wake(&self) {
        self.posted.notify_one();
    }

    /// Sends what was posted until `stop` is cancelled. Run it once in each replica.
    pub async fn send(&self, courier: &impl Courier, stop: CancellationToken) {
        let mut pauses: HashMap<String, Pause> = HashMap::new();
        loop {
            let wait = stop
                .run_until_cancelled(self.round(courier, &mut pauses))
                .await;
            let Some(wait) = wait else { return };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.posted.notified(), if !wait.is_zero() => {}
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Sends the oldest parcel of each destination that is not paused, and says how long there is nothing to do.
    async fn round(&self, courier: &impl Courier, pauses: &mut HashMap<String, Pause>) -> Duration {
        let parcels = match self.next().await {
            Ok(parcels) => parcels,
            Err(error) => {
                tracing::warn!(error = %Chain(&error), "cannot read the outbox");
                return POLL;
            }
        };
        let now = Instant::now();
        pauses.retain(|city, _| parcels.iter().any(|parcel| parcel.destination == *city));
        let due = parcels.iter().filter(|parcel| {
            pauses
                .get(&parcel.destination)
                .is_none_or(|pause| pause.until <= now)
        });
        let carried = due.map(|parcel| async move { (parcel, courier.carry(parcel).await) });
        let mut wait = POLL;
        for (parcel, outcome) in join_all(carried).await {
            match outcome {
                Carried::Done => {
                    pauses.remove(&parcel.destination);
                    // There may be a next one.
                    wait = Duration::ZERO;
                }
                Carried::Later(at_least) => {
                    let pause = pauses.entry(parcel.destination.clone()).or_default();
                    pause.lengthen(at_least);
                    tracing::debug!(?parcel, failures = pause.failures, "a message waits");
                }
            }
        }
        let now = Instant::now();
        let soonest = pauses.values().map(|pause| pause.until.duration_since(now));
        soonest.min().map_or(wait, |soonest| wait.min(soonest))
    }
}

fn check_length(parcel: &NewParcel) -> Result<(), PostError> {
    match parcel.payload.len() {
        length if length > MAX_PARCEL => Err(PostError::TooLong(length)),
        _ => Ok(()),
    }
}

/// How long a destination is left alone.
#[derive(Clone, Copy, Debug)]
struct Pause {
    failures: u32,
    until: Instant,
}

impl Default for Pause {
    fn default() -> Self {
        Self {
            failures: 0,
            until: Instant::now(),
        }
    }
}

impl Pause {
    fn lengthen(&mut self, at_least: Option<Duration>) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.failures.min(16));
        let pause = pause.max(at_least.unwrap_or_default()).min(LONGEST_PAUSE);
        self.failures = self.failures.saturating_add(1);
        self.until = Instant::now() + pause;
    }
}

#[cfg(test)]
mod tests;
