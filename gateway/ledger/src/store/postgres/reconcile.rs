//! Reconciliation in PostgreSQL.

use sqlx::{PgConnection, query, query_as, query_scalar};
use uuid::Uuid;

use super::{LEDGER, Reads, Writer, statement};
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
        let rows: Vec<(Uuid, i64, Vec<u8>)> = query_as(
            "SELECT exchange, idx, bytes FROM entry \
             WHERE ledger = $1 AND exchange IS NOT NULL AND exchange >= $2 AND exchange < $3 \
             AND (exchange > $2 OR idx > $4) AND kind IN (1, 3, 4) \
             ORDER BY exchange, idx LIMIT $5",
        )
        .bind(LEDGER)
        .bind(Uuid::from_bytes(*from))
        .bind(Uuid::from_bytes(*until))
        .bind(behind.map_or(Ok(-1), stored)?)
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)?;
        rows.into_iter()
            .map(|(exchange, index, bytes)| {
                CallRow::of(exchange.into_bytes().to_vec(), index, bytes)
            })
            .collect()
    }

    pub(crate) async fn compared(&self) -> Result<Vec<Compared>, StoreError> {
        let rows: Vec<ComparedRow> = query_as(
            "SELECT city, until_ms, at_us, found, (SELECT count(*) FROM reconcile_open o \
             WHERE o.ledger = r.ledger AND o.city = r.city) \
             FROM reconcile r WHERE ledger = $1 ORDER BY city",
        )
        .bind(LEDGER)
        .fetch_all(&self.pool)
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
        let rows: Vec<(Uuid, i64)> = query_as(
            "SELECT exchange, attempt FROM reconcile_open WHERE ledger = $1 AND city = $2 \
             AND (exchange, attempt) > ($3, $4) ORDER BY exchange, attempt LIMIT $5",
        )
        .bind(LEDGER)
        .bind(city)
        .bind(Uuid::from_bytes(behind.exchange))
        .bind(i64::from(behind.attempt))
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)?;
        rows.into_iter()
            .map(|(exchange, attempt)| open_attempt(exchange.into_bytes().to_vec(), attempt))
            .collect()
    }
}

impl Writer {
    /// Takes or renews a turn. `None`: another boot has it, and lives.
    pub(crate) async fn claim_turn(
        &mut self,
        boot: Uuid,
        turn: &Turn,
    ) -> Result<Option<i64>, Fault> {
        statement(
            query(
                "INSERT INTO reconcile (ledger, city, until_ms, at_us, found, holder, held_us) \
                 VALUES ($1, $2, $3, 0, 0, NULL, 0) ON CONFLICT DO NOTHING",
            )
            .bind(LEDGER)
            .bind(&turn.city)
            .bind(turn.first_ms)
            .execute(&mut self.connection),
        )
        .await?;
        statement(
            query_scalar(
                "UPDATE reconcile SET holder = $3, \
                 held_us = (extract(epoch FROM clock_timestamp()) * 1000000)::bigint + $4 \
                 WHERE ledger = $1 AND city = $2 AND (holder IS NULL OR holder = $3 \
                 OR held_us < (extract(epoch FROM clock_timestamp()) * 1000000)::bigint \
                 OR NOT EXISTS (SELECT 1 FROM lease l WHERE l.ledger = $1 \
                 AND l.boot = reconcile.holder AND NOT l.fenced AND l.until_us > \
                 (extract(epoch FROM clock_timestamp()) * 1000000)::bigint)) \
                 RETURNING until_ms",
            )
            .bind(LEDGER)
            .bind(&turn.city)
            .bind(boot)
            .bind(turn.micros())
            .fetch_optional(&mut self.connection),
        )
        .await
    }
}

/// Within a transaction: moves on how far this ledger is compared. Steps are few: one statement for each change.
pub(super) async fn steps(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), Fault> {
    let columns = |attempts: &[OpenAttempt]| {
        let exchange = |attempt: &OpenAttempt| Uuid::from_bytes(attempt.exchange);
        let exchanges: Vec<_> = attempts.iter().map(exchange).collect();
        let number = |attempt: &OpenAttempt| i64::from(attempt.attempt);
        let attempts: Vec<_> = attempts.iter().map(number).collect();
        (exchanges, attempts)
    };
    for step in &plan.reconciled {
        // Where another replica has moved on meanwhile, what it found stands.
        let moved = query(
            "UPDATE reconcile SET until_ms = $3, at_us = $4, found = found + $5 \
             WHERE ledger = $1 AND city = $2 AND until_ms = $6",
        )
        .bind(LEDGER)
        .bind(&step.city)
        .bind(step.until_ms)
        .bind(step.at_us)
        .bind(stored(step.found).map_err(Fault::Storage)?)
        .bind(step.from_ms);
        statement(moved.execute(&mut *connection)).await?;
        let (exchanges, attempts) = columns(&step.ended);
        let ended = query(
            "DELETE FROM reconcile_open o USING UNNEST($3::uuid[], $4::bigint[]) \
             AS w (exchange, attempt) WHERE o.ledger = $1 AND o.city = $2 \
             AND o.exchange = w.exchange AND o.attempt = w.attempt",
        )
        .bind(LEDGER)
        .bind(&step.city)
        .bind(exchanges)
        .bind(attempts);
        statement(ended.execute(&mut *connection)).await?;
        let (exchanges, attempts) = columns(&step.open);
        let open = query(
            "INSERT INTO reconcile_open (ledger, city, exchange, attempt) \
             SELECT $1, $2, * FROM UNNEST($3::uuid[], $4::bigint[]) ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(&step.city)
        .bind(exchanges)
        .bind(attempts);
        statement(open.execute(&mut *connection)).await?;
    }
    Ok(())
}
