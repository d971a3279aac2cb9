//! Erasure in SQLite.

use sqlx::{SqliteConnection, query, query_scalar};

use super::{LEDGER, Writer};
use crate::{
    index::Level,
    keyring::Month,
    plan::Plan,
    store::{Fault, stored},
};

/// Within a transaction: removes private parts and closes months. Erasures are few: statements for each entry.
///
/// What is deleted is overwritten in the file too.
pub(super) async fn erase(connection: &mut SqliteConnection, plan: &Plan<'_>) -> Result<(), Fault> {
    if !plan.erased.is_empty() {
        pragma(connection, "PRAGMA secure_delete = ON").await?;
    }
    for index in &plan.erased {
        let segment = stored(index / Level::Segment.entries()).map_err(Fault::Storage)?;
        let index = stored(*index).map_err(Fault::Storage)?;
        query("DELETE FROM private WHERE ledger = ?1 AND idx = ?2")
            .bind(LEDGER)
            .bind(index)
            .execute(&mut *connection)
            .await
            .map_err(Fault::sqlite)?;
        query("DELETE FROM token WHERE ledger = ?1 AND segment = ?2 AND idx = ?3")
            .bind(LEDGER)
            .bind(segment)
            .bind(index)
            .execute(&mut *connection)
            .await
            .map_err(Fault::sqlite)?;
    }
    for (month, time_us) in &plan.retired {
        query(
            "INSERT INTO retired_month (ledger, month, time_us) VALUES (?1, ?2, ?3) \
             ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(month.number())
        .bind(time_us)
        .execute(&mut *connection)
        .await
        .map_err(Fault::sqlite)?;
    }
    Ok(())
}

/// Behind the commit of an erasure: moves what is in the log of the file (the WAL) into the file, and cuts the log off.
/// Readers may be in the way; then the log goes with a later checkpoint.
pub(super) async fn forget(connection: &mut SqliteConnection) {
    for statement in [
        "PRAGMA secure_delete = OFF",
        "PRAGMA wal_checkpoint(TRUNCATE)",
    ] {
        if let Err(fault) = pragma(connection, statement).await {
            tracing::debug!(error = %fault.into_error(), "the log of the file is not cut off yet");
        }
    }
}

async fn pragma(connection: &mut SqliteConnection, statement: &'static str) -> Result<(), Fault> {
    query(statement)
        .fetch_all(connection)
        .await
        .map(drop)
        .map_err(Fault::sqlite)
}

impl Writer {
    pub(crate) async fn retired_months(&mut self) -> Result<Vec<Month>, Fault> {
        let months: Vec<i32> =
            query_scalar("SELECT month FROM retired_month WHERE ledger = ?1 ORDER BY month")
                .bind(LEDGER)
                .fetch_all(&mut self.connection)
                .await
                .map_err(Fault::sqlite)?;
        Ok(months.into_iter().map(Month::from_number).collect())
    }
}
