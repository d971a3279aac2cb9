//! Reading from PostgreSQL.

use std::time::Duration;

use banqiao_tlog::hash::TreeHead;
use sqlx::{
    ConnectOptions as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
    query_as, query_scalar,
};
use uuid::Uuid;

use super::LEDGER;
use crate::{
    append::{Document, DocumentKind},
    keyring::Month,
    reader::Stored,
    store::{ContradictionRow, DocumentRow, SealedRow, StoreError, entries, number, stored},
};

/// Readers are few: an auditor or two, the console, and the poll for new documents.
const CONNECTIONS: u32 = 4;
/// A poll each 500 ms that finds no connection must notice soon.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// The connections that read.
pub(crate) struct Reads {
    pub(super) pool: PgPool,
}

impl Reads {
    pub(crate) fn new(options: &PgConnectOptions) -> Self {
        let options = options
            .clone()
            .application_name("banqiao-reader")
            .options([
                ("statement_timeout", "30s"),
                ("default_transaction_read_only", "on"),
            ])
            .disable_statement_logging();
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_lazy_with(options);
        Self { pool }
    }

    /// Tables in the database, whosever.
    pub(crate) async fn tables(&self) -> Result<i64, StoreError> {
        query_scalar(
            "SELECT count(*) FROM pg_catalog.pg_tables \
             WHERE schemaname NOT IN ('pg_catalog', 'information_schema')",
        )
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn documents(
        &self,
        kind: DocumentKind,
    ) -> Result<(u64, Vec<Document>), StoreError> {
        // One statement, so that the revision is that of the documents.
        let rows: Vec<DocumentRow> = query_as(
            "SELECT r.revision, d.key, d.bytes FROM document_revision r \
             LEFT JOIN document d ON d.ledger = r.ledger AND d.kind = $2 \
             WHERE r.ledger = $1 ORDER BY d.key",
        )
        .bind(LEDGER)
        .bind(kind.number())
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)?;
        crate::store::documents(rows)
    }

    pub(crate) async fn revision(&self) -> Result<u64, StoreError> {
        self.number("SELECT revision FROM document_revision WHERE ledger = $1")
            .await
    }

    pub(crate) async fn size(&self) -> Result<u64, StoreError> {
        self.number("SELECT size FROM head WHERE ledger = $1").await
    }

    async fn number(&self, sql: &'static str) -> Result<u64, StoreError> {
        let found = query_scalar(sql).bind(LEDGER).fetch_one(&self.pool).await;
        found.map_err(StoreError::Database).and_then(number)
    }

    pub(crate) async fn months(&self) -> Result<Vec<Month>, StoreError> {
        let rows: Vec<(i32,)> =
            query_as("SELECT month FROM month_key WHERE ledger = $1 ORDER BY month")
                .bind(LEDGER)
                .fetch_all(&self.pool)
                .await
                .map_err(StoreError::Database)?;
        Ok(rows
            .into_iter()
            .map(|(month,)| Month::from_number(month))
            .collect())
    }

    pub(crate) async fn exchange(&self, exchange: &[u8; 16]) -> Result<Vec<Stored>, StoreError> {
        query_as("SELECT idx, bytes FROM entry WHERE ledger = $1 AND exchange = $2 ORDER BY idx")
            .bind(LEDGER)
            .bind(Uuid::from_bytes(*exchange))
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Database)
            .and_then(entries)
    }

    pub(crate) async fn range(&self, from: u64, until: u64) -> Result<Vec<Stored>, StoreError> {
        query_as(
            "SELECT idx, bytes FROM entry WHERE ledger = $1 AND idx >= $2 AND idx < $3 ORDER BY idx",
        )
        .bind(LEDGER)
        .bind(stored(from)?)
        .bind(stored(until)?)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)
        .and_then(entries)
    }

    pub(crate) async fn at(&self, indices: &[u64]) -> Result<Vec<Stored>, StoreError> {
        let indices: Vec<i64> = indices
            .iter()
            .map(|it| stored(*it))
            .collect::<Result<_, _>>()?;
        query_as("SELECT idx, bytes FROM entry WHERE ledger = $1 AND idx = ANY($2) ORDER BY idx")
            .bind(LEDGER)
            .bind(indices)
            .fetch_all(&self.pool)
            .await
            .map_err(StoreError::Database)
            .and_then(entries)
    }

    pub(crate) async fn leaves(&self, from: u64, until: u64) -> Result<Vec<Vec<u8>>, StoreError> {
        query_scalar(
            "SELECT leaf FROM entry WHERE ledger = $1 AND idx >= $2 AND idx < $3 ORDER BY idx",
        )
        .bind(LEDGER)
        .bind(stored(from)?)
        .bind(stored(until)?)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn tile(&self, level: u8, n: u64) -> Result<Option<Vec<u8>>, StoreError> {
        query_scalar("SELECT bytes FROM tile WHERE ledger = $1 AND level = $2 AND n = $3")
            .bind(LEDGER)
            .bind(i16::from(level))
            .bind(stored(n)?)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Database)
    }

    pub(crate) async fn tile_roots(
        &self,
        level: u8,
        from: u64,
        until: u64,
    ) -> Result<Vec<Vec<u8>>, StoreError> {
        query_scalar(
            "SELECT root FROM tile WHERE ledger = $1 AND level = $2 AND n >= $3 AND n < $4 ORDER BY n",
        )
        .bind(LEDGER)
        .bind(i16::from(level))
        .bind(stored(from)?)
        .bind(stored(until)?)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        query_scalar("SELECT note FROM checkpoint WHERE ledger = $1 ORDER BY size DESC LIMIT 1")
            .bind(LEDGER)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Database)
    }

    pub(crate) async fn witnessed(
        &self,
        origin: &str,
    ) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        query_as("SELECT size, root FROM witness_state WHERE ledger = $1 AND origin = $2")
            .bind(LEDGER)
            .bind(origin)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Database)
    }

    pub(crate) async fn witnessed_note(&self, origin: &str) -> Result<Option<String>, StoreError> {
        query_scalar("SELECT note FROM witness_state WHERE ledger = $1 AND origin = $2")
            .bind(LEDGER)
            .bind(origin)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Database)
    }

    pub(crate) async fn cosignatures(&self, size: u64) -> Result<Vec<String>, StoreError> {
        query_scalar(
            "SELECT line FROM cosignature WHERE ledger = $1 AND size = $2 ORDER BY witness",
        )
        .bind(LEDGER)
        .bind(stored(size)?)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn private(&self, index: u64) -> Result<Option<SealedRow>, StoreError> {
        let row: Option<(i32, Vec<u8>)> =
            query_as("SELECT month, ciphertext FROM private WHERE ledger = $1 AND idx = $2")
                .bind(LEDGER)
                .bind(stored(index)?)
                .fetch_optional(&self.pool)
                .await
                .map_err(StoreError::Database)?;
        Ok(row.map(|(month, ciphertext)| SealedRow {
            month: Month::from_number(month),
            ciphertext,
        }))
    }

    pub(crate) async fn link(
        &self,
        origin: &str,
        head: &TreeHead,
    ) -> Result<Option<(String, Vec<u8>)>, StoreError> {
        query_as(
            "SELECT w.note, l.proof FROM link l JOIN witnessed w \
             ON w.ledger = l.ledger AND w.origin = l.origin AND w.size = l.witnessed \
             WHERE l.ledger = $1 AND l.origin = $2 AND l.size = $3 AND l.root = $4",
        )
        .bind(LEDGER)
        .bind(origin)
        .bind(stored(head.size)?)
        .bind(&head.root[..])
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::Database)
    }

    /// The newest that was there at a moment, else the first.
    pub(crate) async fn credential(
        &self,
        kind: i16,
        name: &[u8; 32],
        at_us: i64,
    ) -> Result<Option<(i64, Vec<u8>)>, StoreError> {
        query_as(
            "SELECT time_us, bytes FROM credential WHERE ledger = $1 AND kind = $2 AND name = $3 \
             ORDER BY (time_us <= $4) DESC, \
             CASE WHEN time_us <= $4 THEN -time_us ELSE time_us END LIMIT 1",
        )
        .bind(LEDGER)
        .bind(kind)
        .bind(&name[..])
        .bind(at_us)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn checkpoint_over(
        &self,
        index: u64,
        cosignatures: u32,
    ) -> Result<Option<(i64, String)>, StoreError> {
        let cosigned = query_as(
            "SELECT size, note FROM checkpoint c WHERE ledger = $1 AND size > $2 \
             AND (SELECT count(*) FROM cosignature s WHERE s.ledger = $1 AND s.size = c.size) >= $3 \
             ORDER BY size LIMIT 1",
        )
        .bind(LEDGER)
        .bind(stored(index)?)
        .bind(i64::from(cosignatures))
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::Database)?;
        if cosigned.is_some() {
            return Ok(cosigned);
        }
        query_as(
            "SELECT size, note FROM checkpoint WHERE ledger = $1 AND size > $2 \
             ORDER BY size DESC LIMIT 1",
        )
        .bind(LEDGER)
        .bind(stored(index)?)
        .fetch_optional(&self.pool)
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn contradictions(&self) -> Result<Vec<ContradictionRow>, StoreError> {
        query_as(
            "SELECT origin, time_us, first, second FROM contradiction WHERE ledger = $1 \
             ORDER BY time_us",
        )
        .bind(LEDGER)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)
    }

    /// Evidence of a kind beside entries before an index, newest first.
    pub(crate) async fn evidence_before(
        &self,
        before: u64,
        kind: i16,
        most: u32,
    ) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        query_as(
            "SELECT idx, bytes FROM evidence WHERE ledger = $1 AND idx < $2 AND kind = $3 \
             ORDER BY idx DESC LIMIT $4",
        )
        .bind(LEDGER)
        .bind(stored(before)?)
        .bind(kind)
        .bind(i64::from(most))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn evidence(
        &self,
        index: u64,
        kind: i16,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        query_scalar("SELECT bytes FROM evidence WHERE ledger = $1 AND idx = $2 AND kind = $3")
            .bind(LEDGER)
            .bind(stored(index)?)
            .bind(kind)
            .fetch_optional(&self.pool)
            .await
            .map_err(StoreError::Database)
    }
}
