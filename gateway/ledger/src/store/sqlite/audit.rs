//! Reading a whole ledger from SQLite.

use sqlx::{query_as, query_scalar};

use super::{LEDGER, Reads};
use crate::store::{
    StoreError,
    audit::{EntryColumns, Extent, ExtentRow, TileExtent, TileRow, UidPage},
    number, stored,
};

/// Index, kind, time, exchange, leaf and bytes.
type EntryRow = (i64, i32, i64, Option<Vec<u8>>, Vec<u8>, Vec<u8>);

impl Reads {
    pub(crate) async fn extent(&self) -> Result<Extent, StoreError> {
        let row: ExtentRow = query_as(
            "SELECT size, frontier, origin, note, detached, \
             (SELECT min(idx) FROM entry WHERE ledger = ?1), \
             (SELECT max(idx) FROM entry WHERE ledger = ?1), \
             (SELECT min(size) FROM checkpoint WHERE ledger = ?1), \
             (SELECT max(size) FROM checkpoint WHERE ledger = ?1) \
             FROM head WHERE ledger = ?1",
        )
        .bind(LEDGER)
        .fetch_one(&self.pool())
        .await
        .map_err(StoreError::Database)?;
        Extent::of(row)
    }

    pub(crate) async fn tile_extents(&self) -> Result<Vec<TileExtent>, StoreError> {
        let rows: Vec<(i64, i64, i64, i64)> = query_as(
            "SELECT (SELECT size FROM head WHERE ledger = ?1), level, min(n), max(n) \
             FROM tile WHERE ledger = ?1 GROUP BY level",
        )
        .bind(LEDGER)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)?;
        rows.into_iter()
            .map(|(size, level, first, last)| {
                Ok(TileExtent {
                    size: number(size)?,
                    level,
                    first,
                    last,
                })
            })
            .collect()
    }

    pub(crate) async fn columns(
        &self,
        from: u64,
        until: u64,
    ) -> Result<Vec<EntryColumns>, StoreError> {
        let rows: Vec<EntryRow> = query_as(
            "SELECT idx, kind, time_us, exchange, leaf, bytes FROM entry \
             WHERE ledger = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
        )
        .bind(LEDGER)
        .bind(stored(from)?)
        .bind(stored(until)?)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)?;
        Ok(rows
            .into_iter()
            .map(
                |(index, kind, time_us, exchange, leaf, bytes)| EntryColumns {
                    index,
                    kind,
                    time_us,
                    exchange,
                    leaf,
                    bytes,
                },
            )
            .collect())
    }

    pub(crate) async fn whole_tiles(
        &self,
        level: u8,
        from: u64,
        until: u64,
    ) -> Result<Vec<TileRow>, StoreError> {
        query_as(
            "SELECT n, root, bytes FROM tile \
             WHERE ledger = ?1 AND level = ?2 AND n >= ?3 AND n < ?4 ORDER BY n",
        )
        .bind(LEDGER)
        .bind(level)
        .bind(stored(from)?)
        .bind(stored(until)?)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn checkpoints(
        &self,
        above: Option<u64>,
        until: u64,
    ) -> Result<Vec<(i64, String)>, StoreError> {
        query_as(
            "SELECT size, note FROM checkpoint \
             WHERE ledger = ?1 AND size > ?2 AND size <= ?3 ORDER BY size",
        )
        .bind(LEDGER)
        .bind(above.map_or(Ok(i64::MIN), stored)?)
        .bind(stored(until)?)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn private_indices(
        &self,
        from: u64,
        until: u64,
    ) -> Result<Vec<i64>, StoreError> {
        query_scalar(
            "SELECT idx FROM private WHERE ledger = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx",
        )
        .bind(LEDGER)
        .bind(stored(from)?)
        .bind(stored(until)?)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)
    }

    pub(crate) async fn uids_in_place(
        &self,
        uids: &[[u8; 16]],
        from: u64,
    ) -> Result<u64, StoreError> {
        if uids.is_empty() {
            return Ok(0);
        }
        // The uids travel as one value, and one row comes back.
        query_scalar(
            "WITH RECURSIVE w (n) AS (VALUES (0) UNION ALL SELECT n + 1 FROM w WHERE n + 1 < ?3) \
             SELECT count(*) FROM w CROSS JOIN entry_uid u \
             ON u.ledger = ?1 AND u.uid = substr(?2, n * 16 + 1, 16) AND u.idx = ?4 + n",
        )
        .bind(LEDGER)
        .bind(uids.as_flattened())
        .bind(i64::try_from(uids.len()).map_err(|_| StoreError::Corrupt("number"))?)
        .bind(stored(from)?)
        .fetch_one(&self.pool())
        .await
        .map_err(StoreError::Database)
        .and_then(number)
    }

    pub(crate) async fn uid_index(&self, uid: &[u8; 16]) -> Result<Option<i64>, StoreError> {
        query_scalar("SELECT idx FROM entry_uid WHERE ledger = ?1 AND uid = ?2")
            .bind(LEDGER)
            .bind(&uid[..])
            .fetch_optional(&self.pool())
            .await
            .map_err(StoreError::Database)
    }

    pub(crate) async fn uid_page(
        &self,
        first: &[u8; 16],
        below: u64,
        limit: u32,
    ) -> Result<UidPage, StoreError> {
        let row: (i64, Option<i64>, Option<Vec<u8>>) = query_as(
            "SELECT count(*) FILTER (WHERE idx < ?3), max(idx), max(uid) FROM \
             (SELECT uid, idx FROM entry_uid WHERE ledger = ?1 AND uid >= ?2 ORDER BY uid LIMIT ?4)",
        )
        .bind(LEDGER)
        .bind(&first[..])
        .bind(stored(below)?)
        .bind(limit)
        .fetch_one(&self.pool())
        .await
        .map_err(StoreError::Database)?;
        let (below, highest, last) = row;
        UidPage::of(below, highest, last)
    }

    pub(crate) async fn uid_rows(
        &self,
        first: &[u8; 16],
        limit: u32,
    ) -> Result<Vec<(Vec<u8>, i64)>, StoreError> {
        query_as(
            "SELECT uid, idx FROM entry_uid WHERE ledger = ?1 AND uid >= ?2 ORDER BY uid LIMIT ?3",
        )
        .bind(LEDGER)
        .bind(&first[..])
        .bind(limit)
        .fetch_all(&self.pool())
        .await
        .map_err(StoreError::Database)
    }
}
