//! The search index in SQLite.

use std::ops::Range;

use sqlx::{Executor as _, SqliteConnection, query, query_as, sqlite::SqliteArguments};

use super::{LEDGER, Reads, Writer, rows};
use crate::{
    facet::{Facet, ValueRange},
    index::{Extent, Level, Part, Posting, Probe, Unit},
    private::Token,
    store::{Fault, StoreError, index, numbers, stored},
};

impl Writer {
    pub(crate) async fn keep_unit(&mut self, unit: &Unit) -> Result<(), Fault> {
        self.file.check().map_err(Fault::Storage)?;
        self.connection
            .execute(query("BEGIN IMMEDIATE"))
            .await
            .map_err(Fault::sqlite)?;
        self.begun = true;
        let kept = match keep(&mut self.connection, unit).await {
            Ok(()) => self
                .connection
                .execute(query("COMMIT"))
                .await
                .map(|_| ())
                .map_err(Fault::sqlite),
            Err(fault) => Err(fault),
        };
        if kept.is_err() {
            self.rollback().await?;
        }
        self.begun = false;
        kept
    }
}

async fn keep(connection: &mut SqliteConnection, unit: &Unit) -> Result<(), Fault> {
    let inserted = query(
        "INSERT INTO span (ledger, level, n, first_us, last_us) VALUES (?1, ?2, ?3, ?4, ?5) \
         ON CONFLICT DO NOTHING",
    )
    .bind(LEDGER)
    .bind(unit.id.level.number())
    .bind(stored(unit.id.n).map_err(Fault::Storage)?)
    .bind(unit.first_us)
    .bind(unit.last_us)
    .execute(&mut *connection)
    .await
    .map_err(Fault::sqlite)?;
    if inserted.rows_affected() == 0 {
        return Ok(());
    }
    let posting = |arguments: &mut SqliteArguments, posting: &Posting| {
        rows::posting(arguments, unit.id, posting)
    };
    rows::POSTINGS
        .execute(connection, &unit.postings, posting)
        .await?;
    let part = |arguments: &mut SqliteArguments, part: &Part| rows::part(arguments, unit.id, part);
    rows::PARTS.execute(connection, &unit.parts, part).await
}

impl Reads {
    pub(crate) async fn index_extent(&self, group: Level) -> Result<Extent, StoreError> {
        query_as(
            "SELECT h.size, \
             coalesce((SELECT max(n) + 1 FROM span WHERE ledger = ?1 AND level = 12), 0), \
             coalesce((SELECT max(n) + 1 FROM span WHERE ledger = ?1 AND level = 14), 0), \
             coalesce((SELECT max(n) + 1 FROM span WHERE ledger = ?1 AND level = ?2), 0), \
             coalesce((SELECT max(n) + 1 FROM span WHERE ledger = ?1 AND level = 22), 0) \
             FROM head h WHERE h.ledger = ?1",
        )
        .bind(LEDGER)
        .bind(group.number())
        .fetch_one(&self.pool())
        .await
        .map_err(StoreError::Database)
        .and_then(|row| index::extent(group, row))
    }

    pub(crate) async fn timed(
        &self,
        from: u64,
        until: u64,
    ) -> Result<Vec<(i64, Vec<u8>)>, StoreError> {
        query_as(
            "SELECT time_us, bytes FROM entry WHERE ledger = ?1 AND idx >= ?2 AND idx < ?3 \
             ORDER BY idx",
        )
        .bind(LEDGER)
        .bind(stored(from)?)
        .bind(stored(until)?)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn made_between(
        &self,
        entries: Range<u64>,
        times: Range<i64>,
    ) -> Result<Vec<u64>, StoreError> {
        query_as(
            "SELECT idx FROM entry WHERE ledger = ?1 AND idx >= ?2 AND idx < ?3 \
             AND time_us >= ?4 AND time_us < ?5 ORDER BY idx",
        )
        .bind(LEDGER)
        .bind(stored(entries.start)?)
        .bind(stored(entries.end)?)
        .bind(times.start)
        .bind(times.end)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)
        .and_then(numbers)
    }

    pub(crate) async fn times(
        &self,
        entries: Range<u64>,
    ) -> Result<(Option<i64>, Option<i64>), StoreError> {
        query_as(
            "SELECT min(time_us), max(time_us) FROM entry WHERE ledger = ?1 AND idx >= ?2 \
             AND idx < ?3",
        )
        .bind(LEDGER)
        .bind(stored(entries.start)?)
        .bind(stored(entries.end)?)
        .fetch_one(&self.pool())
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn spans_meeting(
        &self,
        level: Level,
        units: Range<u64>,
        times: Range<i64>,
    ) -> Result<Vec<index::Span>, StoreError> {
        query_as(
            "SELECT n, first_us, last_us FROM span WHERE ledger = ?1 AND level = ?2 \
             AND n >= ?3 AND n < ?4 AND last_us >= ?5 AND first_us < ?6 ORDER BY n",
        )
        .bind(LEDGER)
        .bind(level.number())
        .bind(stored(units.start)?)
        .bind(stored(units.end)?)
        .bind(times.start)
        .bind(times.end)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)
        .and_then(index::spans)
    }

    pub(crate) async fn unit_rows(
        &self,
        level: Level,
        units: Range<u64>,
    ) -> Result<Vec<index::UnitRow>, StoreError> {
        query_as(
            "SELECT n, facet, value, entries FROM posting WHERE ledger = ?1 AND level = ?2 \
             AND n >= ?3 AND n < ?4 ORDER BY n",
        )
        .bind(LEDGER)
        .bind(level.number())
        .bind(stored(units.start)?)
        .bind(stored(units.end)?)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)
        .and_then(index::unit_rows)
    }

    /// One look into the key for each unit, instead of reading past all other values.
    pub(crate) async fn postings(
        &self,
        level: Level,
        units: &[u64],
        facet: Facet,
        values: &ValueRange,
    ) -> Result<Vec<index::Set>, StoreError> {
        query_as(
            "SELECT p.n, p.entries FROM json_each(?3) AS s CROSS JOIN posting p ON p.ledger = ?1 \
             AND p.level = ?2 AND p.n = s.value AND p.facet = ?4 AND p.value >= ?5 AND p.value <= ?6",
        )
        .bind(LEDGER)
        .bind(level.number())
        .bind(list(units))
        .bind(facet.number())
        .bind(&values.start()[..])
        .bind(&values.end()[..])
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)
        .and_then(index::sets)
    }

    pub(crate) async fn tokens_of(&self, segments: Range<u64>) -> Result<Vec<Token>, StoreError> {
        query_as(
            "SELECT DISTINCT token FROM token WHERE ledger = ?1 AND segment >= ?2 AND segment < ?3",
        )
        .bind(LEDGER)
        .bind(stored(segments.start)?)
        .bind(stored(segments.end)?)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)
        .and_then(index::tokens)
    }

    pub(crate) async fn parts(
        &self,
        level: Level,
        groups: &[u64],
        probes: &[Probe],
    ) -> Result<Vec<index::PartRow>, StoreError> {
        let parts: Vec<i16> = probes.iter().map(|probe| probe.part).collect();
        query_as(
            "SELECT p.n, p.part, p.pairs FROM json_each(?3) AS s CROSS JOIN json_each(?4) AS w \
             CROSS JOIN presence p ON p.ledger = ?1 AND p.level = ?2 AND p.n = s.value \
             AND p.part = w.value",
        )
        .bind(LEDGER)
        .bind(level.number())
        .bind(list(groups))
        .bind(list(&parts))
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)
        .and_then(index::parts)
    }

    pub(crate) async fn tokens(
        &self,
        tokens: &[Token],
        segments: &[u64],
    ) -> Result<Vec<u64>, StoreError> {
        let mut found = Vec::new();
        for token in tokens {
            let rows: Vec<(i64,)> = query_as(
                "SELECT t.idx FROM json_each(?3) AS s CROSS JOIN token t ON t.ledger = ?1 \
                 AND t.segment = s.value AND t.token = ?2",
            )
            .bind(LEDGER)
            .bind(&token.0[..])
            .bind(list(segments))
            .fetch_all(&self.pool())
            .await
            .map_err(StoreError::Database)?;
            found.extend(numbers(rows)?);
        }
        Ok(found)
    }
}

/// Numbers as a JSON array, which SQLite reads like a table.
fn list<N: ToString>(numbers: &[N]) -> String {
    let words: Vec<String> = numbers.iter().map(N::to_string).collect();
    format!("[{}]", words.join(","))
}
