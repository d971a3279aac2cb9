//! Archived entries in SQLite.

use sqlx::{Executor as _, SqliteConnection, query, query_as, query_scalar};

use super::{LEDGER, Reads, Writer};
use crate::{
    plan::Plan,
    store::{Fault, StoreError, archive::StockRow, number, stored},
};

/// Within a transaction: lets rows go.
pub(super) async fn detach(
    connection: &mut SqliteConnection,
    plan: &Plan<'_>,
) -> Result<(), Fault> {
    let Some(until) = plan.detached else {
        return Ok(());
    };
    query("UPDATE head SET detached = ?2 WHERE ledger = ?1")
        .bind(LEDGER)
        .bind(stored(until).map_err(Fault::Storage)?)
        .execute(connection)
        .await
        .map(drop)
        .map_err(Fault::sqlite)
}

impl Writer {
    pub(crate) async fn drop_archived(&mut self, most: u64) -> Result<u64, Fault> {
        self.file.check().map_err(Fault::Storage)?;
        let last: Option<i64> = query_scalar(
            "SELECT max(idx) FROM (SELECT idx FROM entry WHERE ledger = ?1 \
             AND idx < (SELECT detached FROM head WHERE ledger = ?1) ORDER BY idx LIMIT ?2)",
        )
        .bind(LEDGER)
        .bind(stored(most).map_err(Fault::Storage)?)
        .fetch_one(&mut self.connection)
        .await
        .map_err(Fault::sqlite)?;
        let Some(last) = last else {
            return Ok(0);
        };
        self.connection
            .execute(query("BEGIN IMMEDIATE"))
            .await
            .map_err(Fault::sqlite)?;
        self.begun = true;
        let dropped = match drop_until(&mut self.connection, last).await {
            Ok(dropped) => self
                .connection
                .execute(query("COMMIT"))
                .await
                .map(|_| dropped)
                .map_err(Fault::sqlite),
            Err(fault) => Err(fault),
        };
        if dropped.is_err() {
            self.rollback().await?;
        }
        self.begun = false;
        dropped
    }
}

async fn drop_until(connection: &mut SqliteConnection, last: i64) -> Result<u64, Fault> {
    query("DELETE FROM evidence WHERE ledger = ?1 AND idx <= ?2")
        .bind(LEDGER)
        .bind(last)
        .execute(&mut *connection)
        .await
        .map_err(Fault::sqlite)?;
    query("DELETE FROM entry WHERE ledger = ?1 AND idx <= ?2")
        .bind(LEDGER)
        .bind(last)
        .execute(connection)
        .await
        .map(|deleted| deleted.rows_affected())
        .map_err(Fault::sqlite)
}

impl Reads {
    pub(crate) async fn stock(&self) -> Result<StockRow, StoreError> {
        query_as(
            "SELECT size, detached, (SELECT min(idx) FROM in_flight WHERE ledger = ?1) \
             FROM head WHERE ledger = ?1",
        )
        .bind(LEDGER)
        .fetch_one(&self.pool())
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn evidence_within(
        &self,
        from: u64,
        until: u64,
    ) -> Result<Vec<(u64, i16, Vec<u8>)>, StoreError> {
        let rows: Vec<(i64, i16, Vec<u8>)> = query_as(
            "SELECT idx, kind, bytes FROM evidence WHERE ledger = ?1 AND idx >= ?2 AND idx < ?3 \
             ORDER BY idx, kind",
        )
        .bind(LEDGER)
        .bind(stored(from)?)
        .bind(stored(until)?)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)?;
        rows.into_iter()
            .map(|(index, kind, bytes)| Ok((number(index)?, kind, bytes)))
            .collect()
    }
}
