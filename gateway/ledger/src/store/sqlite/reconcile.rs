//! Reconciliation in SQLite.

use sqlx::{SqliteConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{LEDGER, Reads, Writer};
use crate::{
    plan::Plan,
    reconcile::{Compared, OpenAttempt, Turn},
    store::{
        Fault, StoreError,
        reconcile::{CallRow, ComparedRow, compared, open_attempt},
        stored,
    },
};

impl Reads {
    pub(crate) async fn calls(
        &self,
        from: &[u8; 16],
        behind: Option<u64>,
        until: &[u8; 16],
        limit: u32,
    ) -> Result<Vec<CallRow>, StoreError> {
        let rows: Vec<(Vec<u8>, i64, Vec<u8>)> = query_as(
            "SELECT exchange, idx, bytes FROM entry INDEXED BY entry_exchange \
             WHERE ledger = ?1 AND exchange IS NOT NULL AND exchange >= ?2 AND exchange < ?3 \
             AND (exchange > ?2 OR idx > ?4) AND kind IN (1, 3, 4) \
             ORDER BY exchange, idx LIMIT ?5",
        )
        .bind(LEDGER)
        .bind(&from[..])
        .bind(&until[..])
        .bind(behind.map_or(Ok(-1), stored)?)
        .bind(limit)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)?;
        rows.into_iter()
            .map(|(exchange, index, bytes)| CallRow::of(exchange, index, bytes))
            .collect()
    }

    pub(crate) async fn compared(&self) -> Result<Vec<Compared>, StoreError> {
        let rows: Vec<ComparedRow> = query_as(
            "SELECT city, until_ms, at_us, found, (SELECT count(*) FROM reconcile_open o \
             WHERE o.ledger = r.ledger AND o.city = r.city) \
             FROM reconcile r WHERE ledger = ?1 ORDER BY city",
        )
        .bind(LEDGER)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)?;
        compared(rows)
    }

    pub(crate) async fn open_attempts(
        &self,
        city: &str,
        behind: OpenAttempt,
        limit: u32,
    ) -> Result<Vec<OpenAttempt>, StoreError> {
        let rows: Vec<(Vec<u8>, i64)> = query_as(
            "SELECT exchange, attempt FROM reconcile_open WHERE ledger = ?1 AND city = ?2 \
             AND (exchange, attempt) > (?3, ?4) ORDER BY exchange, attempt LIMIT ?5",
        )
        .bind(LEDGER)
        .bind(city)
        .bind(&behind.exchange[..])
        .bind(behind.attempt)
        .bind(limit)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)?;
        rows.into_iter()
            .map(|(exchange, attempt)| open_attempt(exchange, attempt))
            .collect()
    }
}

impl Writer {
    /// Takes or renews a turn. One process owns the file: every other boot that had it is over.
    pub(crate) async fn claim_turn(
        &mut self,
        boot: Uuid,
        turn: &Turn,
        now_us: i64,
    ) -> Result<Option<i64>, Fault> {
        query(
            "INSERT INTO reconcile (ledger, city, until_ms, at_us, found, holder, held_us) \
             VALUES (?1, ?2, ?3, 0, 0, NULL, 0) ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(&turn.city)
        .bind(turn.first_ms)
        .execute(&mut self.connection)
        .await
        .map_err(Fault::sqlite)?;
        let until_us = now_us.saturating_add(turn.micros());
        query_scalar(
            "UPDATE reconcile SET holder = ?3, held_us = ?4 \
             WHERE ledger = ?1 AND city = ?2 RETURNING until_ms",
        )
        .bind(LEDGER)
        .bind(&turn.city)
        .bind(boot)
        .bind(until_us)
        .fetch_optional(&mut self.connection)
        .await
        .map_err(Fault::sqlite)
    }
}

/// Within a transaction: moves on how far this ledger is compared. Steps are few: one statement for each change.
pub(super) async fn steps(connection: &mut SqliteConnection, plan: &Plan<'_>) -> Result<(), Fault> {
    for step in &plan.reconciled {
        // Where another replica has moved on meanwhile, what it found stands.
        query(
            "UPDATE reconcile SET until_ms = ?3, at_us = ?4, found = found + ?5 \
             WHERE ledger = ?1 AND city = ?2 AND until_ms = ?6",
        )
        .bind(LEDGER)
        .bind(&step.city)
        .bind(step.until_ms)
        .bind(step.at_us)
        .bind(stored(step.found).map_err(Fault::Storage)?)
        .bind(step.from_ms)
        .execute(&mut *connection)
        .await
        .map_err(Fault::sqlite)?;
        for attempt in &step.ended {
            query(
                "DELETE FROM reconcile_open \
                 WHERE ledger = ?1 AND city = ?2 AND exchange = ?3 AND attempt = ?4",
            )
            .bind(LEDGER)
            .bind(&step.city)
            .bind(&attempt.exchange[..])
            .bind(attempt.attempt)
            .execute(&mut *connection)
            .await
            .map_err(Fault::sqlite)?;
        }
        for attempt in &step.open {
            query(
                "INSERT INTO reconcile_open (ledger, city, exchange, attempt) \
                 VALUES (?1, ?2, ?3, ?4) ON CONFLICT DO NOTHING",
            )
            .bind(LEDGER)
            .bind(&step.city)
            .bind(&attempt.exchange[..])
            .bind(attempt.attempt)
            .execute(&mut *connection)
            .await
            .map_err(Fault::sqlite)?;
        }
    }
    Ok(())
}
