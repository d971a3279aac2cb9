//! Archived entries in PostgreSQL.

use sqlx::{PgConnection, query, query_as, query_scalar};

use super::{LEDGER, Reads, Writer, statement};
use crate::{
    plan::Plan,
    store::{Fault, StoreError, archive::StockRow, number, stored},
};

/// Within a transaction: lets rows go.
pub(super) async fn detach(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), Fault> {
    let Some(until) = plan.detached else {
        return Ok(());
    };
    let update = query("UPDATE head SET detached = $2 WHERE ledger = $1")
        .bind(LEDGER)
        .bind(stored(until).map_err(Fault::Storage)?)
        .execute(connection);
    statement(update).await.map(drop)
}

impl Writer {
    pub(crate) async fn drop_archived(&mut self, most: u64) -> Result<u64, Fault> {
        let dropped: i64 = statement(
            query_scalar("SELECT drop_archived($1, $2)")
                .bind(LEDGER)
                .bind(stored(most).map_err(Fault::Storage)?)
                .fetch_one(&mut self.connection),
        )
        .await?;
        number(dropped).map_err(Fault::Storage)
    }
}

impl Reads {
    pub(crate) async fn stock(&self) -> Result<StockRow, StoreError> {
        query_as(
            "SELECT size, detached, (SELECT min(idx) FROM in_flight WHERE ledger = $1) \
             FROM head WHERE ledger = $1",
        )
        .bind(LEDGER)
        .fetch_one(&self.pool)
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn evidence_within(
        &self,
        from: u64,
        until: u64,
    ) -> Result<Vec<(u64, i16, Vec<u8>)>, StoreError> {
        let rows: Vec<(i64, i16, Vec<u8>)> = query_as(
            "SELECT idx, kind, bytes FROM evidence WHERE ledger = $1 AND idx >= $2 AND idx < $3 \
             ORDER BY idx, kind",
        )
        .bind(LEDGER)
        .bind(stored(from)?)
        .bind(stored(until)?)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)?;
        rows.into_iter()
            .map(|(index, kind, bytes)| Ok((number(index)?, kind, bytes)))
            .collect()
    }
}
