//! Erasure in PostgreSQL.

use sqlx::{PgConnection, query, query_scalar};

use super::{LEDGER, Writer, statement};
use crate::{
    index::Level,
    keyring::Month,
    plan::Plan,
    store::{Fault, stored},
};

/// Within a transaction: removes private parts and closes months.
///
/// The rows are dead at once; the server overwrites them when it vacuums the tables.
pub(super) async fn erase(connection: &mut PgConnection, plan: &Plan<'_>) -> Result<(), Fault> {
    if !plan.erased.is_empty() {
        let numbers = |number: fn(&u64) -> u64| {
            let numbers = plan.erased.iter().map(|index| stored(number(index)));
            numbers
                .collect::<Result<Vec<i64>, _>>()
                .map_err(Fault::Storage)
        };
        let indices = numbers(|index| *index)?;
        let segments = numbers(|index| index / Level::Segment.entries())?;
        let deleted = query("DELETE FROM private WHERE ledger = $1 AND idx = ANY($2)")
            .bind(LEDGER)
            .bind(&indices)
            .execute(&mut *connection);
        statement(deleted).await?;
        let deleted = query(
            "DELETE FROM token t USING UNNEST($2::bigint[], $3::bigint[]) AS w (segment, idx) \
             WHERE t.ledger = $1 AND t.segment = w.segment AND t.idx = w.idx",
        )
        .bind(LEDGER)
        .bind(&segments)
        .bind(&indices)
        .execute(&mut *connection);
        statement(deleted).await?;
    }
    for (month, time_us) in &plan.retired {
        let inserted = query(
            "INSERT INTO retired_month (ledger, month, time_us) VALUES ($1, $2, $3) \
             ON CONFLICT DO NOTHING",
        )
        .bind(LEDGER)
        .bind(month.number())
        .bind(time_us)
        .execute(&mut *connection);
        statement(inserted).await?;
    }
    Ok(())
}

impl Writer {
    pub(crate) async fn retired_months(&mut self) -> Result<Vec<Month>, Fault> {
        let months: Vec<i32> = statement(
            query_scalar("SELECT month FROM retired_month WHERE ledger = $1 ORDER BY month")
                .bind(LEDGER)
                .fetch_all(&mut self.connection),
        )
        .await?;
        Ok(months.into_iter().map(Month::from_number).collect())
    }
}
