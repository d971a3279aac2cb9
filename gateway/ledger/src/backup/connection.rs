//! A connection that reads or writes whole tables, in either store.

use futures_util::TryStreamExt as _;
use sqlx::{
    Arguments as _, ConnectOptions as _, Connection as _, Executor as _, PgConnection, Row as _,
    SqliteConnection, postgres::PgArguments, query, query_as, query_scalar, query_with,
    sqlite::SqliteArguments,
};
use uuid::Uuid;

use super::table::{Kind, Statements, Table, Value};
use crate::store::{Extent, StoreError, StoreUrl, sqlite_options};

/// The connection.
pub(crate) enum Connection {
    Postgres(Box<PgConnection>),
    Sqlite(Box<SqliteConnection>),
}

/// Executes a statement that both stores have.
macro_rules! run {
    ($on:expr, $sql:expr) => {
        match $on {
            Self::Postgres(it) => it.execute($sql).await.map(drop),
            Self::Sqlite(it) => it.execute($sql).await.map(drop),
        }
        .map_err(StoreError::Database)
    };
}

impl Connection {
    pub(crate) async fn open(url: &StoreUrl) -> Result<Self, StoreError> {
        let database = StoreError::Database;
        Ok(match url {
            StoreUrl::Postgres(options) => {
                let options = options
                    .as_ref()
                    .clone()
                    .application_name("banqiao-backup")
                    .disable_statement_logging();
                Self::Postgres(Box::new(options.connect().await.map_err(database)?))
            }
            StoreUrl::Sqlite(path) => {
                let options = sqlite_options(path).disable_statement_logging();
                Self::Sqlite(Box::new(options.connect().await.map_err(database)?))
            }
        })
    }

    /// Begins a transaction that sees one moment of the ledger, however long it lasts and whoever writes meanwhile.
    pub(crate) async fn begin_snapshot(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(it) => it
                .execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
                .await
                .map(drop),
            Self::Sqlite(it) => it.execute("BEGIN").await.map(drop),
        }
        .map_err(StoreError::Database)
    }

    pub(crate) async fn begin(&mut self) -> Result<(), StoreError> {
        run!(self, "BEGIN")
    }

    pub(crate) async fn commit(&mut self) -> Result<(), StoreError> {
        run!(self, "COMMIT")
    }

    /// City and head.
    pub(crate) async fn head(&mut self) -> Result<(String, Extent), StoreError> {
        type Head = (String, i64, Vec<u8>, Option<String>, Option<String>, i64);
        const HEAD: &str =
            "SELECT city, size, frontier, origin, note, detached FROM head WHERE ledger = 1";
        let row: Head = match self {
            Self::Postgres(it) => query_as(HEAD).fetch_one(&mut **it).await,
            Self::Sqlite(it) => query_as(HEAD).fetch_one(&mut **it).await,
        }
        .map_err(StoreError::Database)?;
        let (city, size, frontier, origin, note, detached) = row;
        let number = |number| u64::try_from(number).map_err(|_| StoreError::Corrupt("number"));
        let extent = Extent {
            size: number(size)?,
            frontier,
            origin,
            note,
            entries: None,
            checkpoints: None,
            detached: number(detached)?,
        };
        Ok((city, extent))
    }

    /// Whether a ledger was ever kept here.
    pub(crate) async fn is_used(&mut self) -> Result<bool, StoreError> {
        let tables: i64 = match self {
            Self::Postgres(it) => {
                query_scalar(
                    "SELECT count(*) FROM information_schema.tables \
                     WHERE table_schema = current_schema() AND table_name IN ('head', 'entry')",
                )
                .fetch_one(&mut **it)
                .await
            }
            Self::Sqlite(it) => {
                query_scalar("SELECT count(*) FROM sqlite_schema")
                    .fetch_one(&mut **it)
                    .await
            }
        }
        .map_err(StoreError::Database)?;
        Ok(tables > 0)
    }

    /// Gives every row of a table, in its order.
    pub(crate) async fn rows<E: From<StoreError>>(
        &mut self,
        of: &'static Statements,
        mut each: impl FnMut(Vec<Value>) -> Result<(), E>,
    ) -> Result<(), E> {
        let database = |error| E::from(StoreError::Database(error));
        let sql: &'static str = &of.select;
        match self {
            Self::Postgres(it) => {
                let mut rows = query(sql).fetch(&mut **it);
                while let Some(row) = rows.try_next().await.map_err(database)? {
                    let value = |(at, (_, kind)): (usize, &(&str, Kind))| {
                        Ok(match kind {
                            Kind::Bytes => row.try_get::<Option<_>, _>(at)?.map(Value::Bytes),
                            Kind::Number => row.try_get::<Option<_>, _>(at)?.map(Value::Number),
                            Kind::Text => row.try_get::<Option<_>, _>(at)?.map(Value::Text),
                            Kind::Uuid => row
                                .try_get::<Option<Uuid>, _>(at)?
                                .map(|id| Value::Bytes(id.into_bytes().to_vec())),
                        }
                        .unwrap_or(Value::Null))
                    };
                    let values = of.table.columns.iter().enumerate().map(value);
                    each(values.collect::<Result<_, _>>().map_err(database)?)?;
                }
            }
            Self::Sqlite(it) => {
                let mut rows = query(sql).fetch(&mut **it);
                while let Some(row) = rows.try_next().await.map_err(database)? {
                    let value = |(at, (_, kind)): (usize, &(&str, Kind))| {
                        Ok(match kind {
                            Kind::Bytes | Kind::Uuid => {
                                row.try_get::<Option<_>, _>(at)?.map(Value::Bytes)
                            }
                            Kind::Number => row.try_get::<Option<_>, _>(at)?.map(Value::Number),
                            Kind::Text => row.try_get::<Option<_>, _>(at)?.map(Value::Text),
                        }
                        .unwrap_or(Value::Null))
                    };
                    let values = of.table.columns.iter().enumerate().map(value);
                    each(values.collect::<Result<_, _>>().map_err(database)?)?;
                }
            }
        }
        Ok(())
    }

    /// Inserts rows: one, or a whole group.
    pub(crate) async fn insert(
        &mut self,
        table: &'static Table,
        sql: &'static str,
        rows: &[Vec<Value>],
    ) -> Result<(), StoreError> {
        let unbound = |error| StoreError::Database(sqlx::Error::Encode(error));
        let kinds = || table.columns.iter().map(|(_, kind)| *kind);
        match self {
            Self::Postgres(it) => {
                let mut bound = PgArguments::default();
                for (value, kind) in rows.iter().flat_map(|row| row.iter().zip(kinds())) {
                    match (value, kind) {
                        (Value::Number(number), _) => bound.add(*number),
                        (Value::Text(text), _) => bound.add(text.as_str()),
                        (Value::Bytes(bytes), Kind::Uuid) => match Uuid::from_slice(bytes) {
                            Ok(id) => bound.add(id),
                            Err(_) => return Err(StoreError::Corrupt("id")),
                        },
                        (Value::Bytes(bytes), _) => bound.add(&bytes[..]),
                        (Value::Null, Kind::Bytes) => bound.add(None::<&[u8]>),
                        (Value::Null, Kind::Number) => bound.add(None::<i64>),
                        (Value::Null, Kind::Text) => bound.add(None::<&str>),
                        (Value::Null, Kind::Uuid) => bound.add(None::<Uuid>),
                    }
                    .map_err(unbound)?;
                }
                query_with(sql, bound).execute(&mut **it).await.map(drop)
            }
            Self::Sqlite(it) => {
                let mut bound = SqliteArguments::default();
                for value in rows.iter().flatten() {
                    match value {
                        Value::Number(number) => bound.add(*number),
                        Value::Text(text) => bound.add(text.clone()),
                        Value::Bytes(bytes) => bound.add(bytes.clone()),
                        Value::Null => bound.add(None::<i64>),
                    }
                    .map_err(unbound)?;
                }
                query_with(sql, bound).execute(&mut **it).await.map(drop)
            }
        }
        .map_err(StoreError::Database)
    }

    /// Marks the ledger as one that may not be written to, for a reason.
    pub(crate) async fn put_frozen(&mut self, reason: &str) -> Result<(), StoreError> {
        const FREEZE: &str = "UPDATE head SET frozen = $1 WHERE ledger = 1";
        match self {
            Self::Postgres(it) => query(FREEZE)
                .bind(reason)
                .execute(&mut **it)
                .await
                .map(drop),
            Self::Sqlite(it) => query(FREEZE)
                .bind(reason)
                .execute(&mut **it)
                .await
                .map(drop),
        }
        .map_err(StoreError::Database)
    }

    /// Why the ledger is frozen, where it is.
    pub(crate) async fn frozen(&mut self) -> Result<Option<String>, StoreError> {
        const FROZEN: &str = "SELECT frozen FROM head WHERE ledger = 1";
        match self {
            Self::Postgres(it) => query_scalar(FROZEN).fetch_one(&mut **it).await,
            Self::Sqlite(it) => query_scalar(FROZEN).fetch_one(&mut **it).await,
        }
        .map_err(StoreError::Database)
    }

    /// Demands that a witness agrees before the ledger is written by a gateway.
    pub(crate) async fn put_unconfirmed(&mut self) -> Result<(), StoreError> {
        run!(
            self,
            "UPDATE head SET unconfirmed = 'epoch' WHERE ledger = 1"
        )
    }

    /// Forgets the row that comes with the tables and is in the backup too.
    pub(crate) async fn make_room(&mut self) -> Result<(), StoreError> {
        run!(self, "DELETE FROM document_revision WHERE ledger = 1")
    }

    /// Sets the head to what was restored. It stays frozen.
    pub(crate) async fn put_head(&mut self, head: &Extent) -> Result<(), StoreError> {
        const HEAD: &str = "UPDATE head SET size = $1, frontier = $2, origin = $3, note = $4, \
                            detached = $5, \
                            unconfirmed = 'restored' WHERE ledger = 1";
        let number = |number| i64::try_from(number).map_err(|_| StoreError::Corrupt("number"));
        let (size, detached) = (number(head.size)?, number(head.detached)?);
        macro_rules! bound {
            ($on:expr) => {
                query(HEAD)
                    .bind(size)
                    .bind(&head.frontier)
                    .bind(&head.origin)
                    .bind(&head.note)
                    .bind(detached)
                    .execute(&mut **$on)
                    .await
                    .map(drop)
            };
        }
        match self {
            Self::Postgres(it) => bound!(it),
            Self::Sqlite(it) => bound!(it),
        }
        .map_err(StoreError::Database)
    }

    /// Gives the calls that were open at the backup to boots that are over, so that the next start closes them.
    pub(crate) async fn put_leases(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Postgres(it) => it
                .execute(
                    "INSERT INTO lease (ledger, boot, replica, until_us, fenced) \
                     SELECT DISTINCT 1, boot, 'restored', 0, false FROM in_flight",
                )
                .await
                .map(drop),
            Self::Sqlite(it) => it
                .execute(
                    "INSERT INTO lease (ledger, boot, replica, seen_us, fenced) \
                     SELECT DISTINCT 1, boot, 'restored', 0, 0 FROM in_flight",
                )
                .await
                .map(drop),
        }
        .map_err(StoreError::Database)
    }

    /// The ledger is whole: it may be opened.
    pub(crate) async fn put_usable(&mut self) -> Result<(), StoreError> {
        run!(self, "UPDATE head SET frozen = NULL WHERE ledger = 1")
    }

    pub(crate) async fn close(self) {
        // Everything that matters is committed.
        match self {
            Self::Postgres(it) => drop(it.close().await),
            Self::Sqlite(it) => drop(it.close().await),
        }
    }
}
