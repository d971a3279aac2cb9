//! The search index in PostgreSQL.

use std::ops::Range;

use sqlx::{query, query_as};

use super::{LEDGER, Reads, Writer, statement};
use crate::{
    facet::{Facet, ValueRange},
    index::{Extent, Level, Probe, Unit},
    private::Token,
    store::{Fault, StoreError, index, numbers, stored},
};

/// Span, postings and parts in one statement; whoever comes second writes none.
const KEEP: &str = "\
    WITH s AS (INSERT INTO span (ledger, level, n, first_us, last_us) \
        VALUES ($1, $2, $3, $4, $5) ON CONFLICT DO NOTHING RETURNING n), \
    p AS (INSERT INTO presence (ledger, level, n, part, pairs) \
        SELECT $1, $2, s.n, w.* FROM s, UNNEST($9::smallint[], $10::bytea[]) AS w) \
    INSERT INTO posting (ledger, level, n, facet, value, entries) \
    SELECT $1, $2, s.n, w.* FROM s, UNNEST($6::smallint[], $7::bytea[], $8::bytea[]) AS w";

impl Writer {
    pub(crate) async fn keep_unit(&mut self, unit: &Unit) -> Result<(), Fault> {
        let postings = &unit.postings;
        let facets: Vec<_> = postings.iter().map(|posting| posting.facet).collect();
        let values: Vec<_> = postings.iter().map(|posting| &posting.value[..]).collect();
        let entries: Vec<_> = postings
            .iter()
            .map(|posting| &posting.entries[..])
            .collect();
        let parts: Vec<_> = unit.parts.iter().map(|part| part.part).collect();
        let pairs: Vec<_> = unit.parts.iter().map(|part| &part.pairs[..]).collect();
        let insert = query(KEEP)
            .bind(LEDGER)
            .bind(unit.id.level.number())
            .bind(stored(unit.id.n).map_err(Fault::Storage)?)
            .bind(unit.first_us)
            .bind(unit.last_us)
            .bind(facets)
            .bind(values)
            .bind(entries)
            .bind(parts)
            .bind(pairs);
        statement(insert.execute(&mut self.connection)).await?;
        Ok(())
    }
}

impl Reads {
    pub(crate) async fn index_extent(&self, group: Level) -> Result<Extent, StoreError> {
        query_as(
            "SELECT h.size, \
             coalesce((SELECT max(n) + 1 FROM span WHERE ledger = $1 AND level = 12), 0), \
             coalesce((SELECT max(n) + 1 FROM span WHERE ledger = $1 AND level = 14), 0), \
             coalesce((SELECT max(n) + 1 FROM span WHERE ledger = $1 AND level = $2), 0), \
             coalesce((SELECT max(n) + 1 FROM span WHERE ledger = $1 AND level = 22), 0) \
             FROM head h WHERE h.ledger = $1",
        )
        .bind(LEDGER)
        .bind(group.number())
        .fetch_one(&self.pool)
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
            "SELECT time_us, bytes FROM entry WHERE ledger = $1 AND idx >= $2 AND idx < $3 \
             ORDER BY idx",
        )
        .bind(LEDGER)
        .bind(stored(from)?)
        .bind(stored(until)?)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn made_between(
        &self,
        entries: Range<u64>,
        times: Range<i64>,
    ) -> Result<Vec<u64>, StoreError> {
        query_as(
            "SELECT idx FROM entry WHERE ledger = $1 AND idx >= $2 AND idx < $3 \
             AND time_us >= $4 AND time_us < $5 ORDER BY idx",
        )
        .bind(LEDGER)
        .bind(stored(entries.start)?)
        .bind(stored(entries.end)?)
        .bind(times.start)
        .bind(times.end)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)
        .and_then(numbers)
    }

    pub(crate) async fn times(
        &self,
        entries: Range<u64>,
    ) -> Result<(Option<i64>, Option<i64>), StoreError> {
        query_as(
            "SELECT min(time_us), max(time_us) FROM entry WHERE ledger = $1 AND idx >= $2 \
             AND idx < $3",
        )
        .bind(LEDGER)
        .bind(stored(entries.start)?)
        .bind(stored(entries.end)?)
        .fetch_one(&self.pool)
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
            "SELECT n, first_us, last_us FROM span WHERE ledger = $1 AND level = $2 \
             AND n >= $3 AND n < $4 AND last_us >= $5 AND first_us < $6 ORDER BY n",
        )
        .bind(LEDGER)
        .bind(level.number())
        .bind(stored(units.start)?)
        .bind(stored(units.end)?)
        .bind(times.start)
        .bind(times.end)
        .fetch_all(&self.pool)
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
            "SELECT n, facet, value, entries FROM posting WHERE ledger = $1 AND level = $2 \
             AND n >= $3 AND n < $4 ORDER BY n",
        )
        .bind(LEDGER)
        .bind(level.number())
        .bind(stored(units.start)?)
        .bind(stored(units.end)?)
        .fetch_all(&self.pool)
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
            "SELECT p.n, p.entries FROM UNNEST($3::bigint[]) AS s (n) \
             JOIN posting p ON p.ledger = $1 AND p.level = $2 AND p.n = s.n AND p.facet = $4 \
             AND p.value >= $5 AND p.value <= $6",
        )
        .bind(LEDGER)
        .bind(level.number())
        .bind(all(units)?)
        .bind(facet.number())
        .bind(&values.start()[..])
        .bind(&values.end()[..])
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)
        .and_then(index::sets)
    }

    pub(crate) async fn tokens_of(&self, segments: Range<u64>) -> Result<Vec<Token>, StoreError> {
        query_as(
            "SELECT DISTINCT token FROM token WHERE ledger = $1 AND segment >= $2 AND segment < $3",
        )
        .bind(LEDGER)
        .bind(stored(segments.start)?)
        .bind(stored(segments.end)?)
        .fetch_all(&self.pool)
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
            "SELECT p.n, p.part, p.pairs FROM UNNEST($3::bigint[]) AS s (n) \
             CROSS JOIN UNNEST($4::smallint[]) AS w (part) \
             JOIN presence p ON p.ledger = $1 AND p.level = $2 AND p.n = s.n AND p.part = w.part",
        )
        .bind(LEDGER)
        .bind(level.number())
        .bind(all(groups)?)
        .bind(parts)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)
        .and_then(index::parts)
    }

    pub(crate) async fn tokens(
        &self,
        tokens: &[Token],
        segments: &[u64],
    ) -> Result<Vec<u64>, StoreError> {
        let tokens: Vec<_> = tokens.iter().map(|token| &token.0[..]).collect();
        query_as(
            "SELECT t.idx FROM UNNEST($3::bigint[]) AS s (n) \
             CROSS JOIN UNNEST($2::bytea[]) AS w (token) \
             JOIN token t ON t.ledger = $1 AND t.segment = s.n AND t.token = w.token",
        )
        .bind(LEDGER)
        .bind(tokens)
        .bind(all(segments)?)
        .fetch_all(&self.pool)
        .await
        .map_err(StoreError::Database)
        .and_then(numbers)
    }
}

fn all(numbers: &[u64]) -> Result<Vec<i64>, StoreError> {
    numbers.iter().map(|number| stored(*number)).collect()
}
