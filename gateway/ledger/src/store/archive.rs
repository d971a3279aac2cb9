//! Reading across the border between the archive and the database.
//!
//! A row that was there when it was looked for is taken from the database. What is missing below the head's `detached`
//! lies in the archive; that number is read behind the rows, so that entries which leave meanwhile are not missed.

use std::{collections::BTreeMap, ops::Range, sync::Arc};

use banqiao_proto::ledger::v1::Kind;

use super::{EntryColumns, Reads, StoreError, Tables, number, reconcile::CallRow};
use crate::{
    archive::{Archive, BUNDLE},
    digest::Hash,
    entry::{Decoded, decode},
    reader::Stored,
};

/// Archived entries that are read at once.
const TOGETHER: usize = 512;

/// Size, archived entries, and the first entry of a call that is open.
pub(super) type StockRow = (i64, i64, Option<i64>);

/// How much of a ledger lies where.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stock {
    pub(crate) size: u64,
    /// Entries that are archived: those below this index.
    pub(crate) detached: u64,
    /// OPEN entry of the oldest call in flight.
    pub(crate) oldest_open: Option<u64>,
}

impl Reads {
    pub(crate) async fn stock(&self) -> Result<Stock, StoreError> {
        let (size, detached, oldest) = tables!(self, store => store.stock().await)?;
        Ok(Stock {
            size: number(size)?,
            detached: number(detached)?,
            oldest_open: oldest.map(number).transpose()?,
        })
    }

    /// What stands beside the entries from an index until another, in the database only.
    pub(crate) async fn evidence_within(
        &self,
        from: u64,
        until: u64,
    ) -> Result<Vec<(u64, i16, Vec<u8>)>, StoreError> {
        tables!(self, store => store.evidence_within(from, until).await)
    }

    /// The archive, where it is known.
    pub(crate) fn archive(&self, before: u64) -> Result<Arc<Archive>, StoreError> {
        self.archive
            .clone()
            .ok_or(StoreError::ArchiveUnnamed { before })
    }

    /// Compares the files of a run with its sums. Returns the digest of the sums.
    pub(crate) async fn archived_sums(
        &self,
        run: &str,
        first: u64,
        detached: u64,
    ) -> Result<Hash, StoreError> {
        let (archive, run) = (self.archive(detached)?, run.to_owned());
        blocking(move || archive.check(&run, first)).await
    }

    /// A whole bundle out of the archive, as its tile in the database has it.
    async fn archived_bundle(&self, n: u64, detached: u64) -> Result<Vec<Stored>, StoreError> {
        let archive = self.archive(detached)?;
        let tile = self.tile(0, n).await?.ok_or(StoreError::Corrupt("tiles"))?;
        blocking(move || archive.bundle(n, &tile)).await
    }

    /// The archived entries from an index until another.
    async fn archived(&self, range: Range<u64>, detached: u64) -> Result<Vec<Stored>, StoreError> {
        let mut found = Vec::new();
        for n in range.start / BUNDLE..range.end.div_ceil(BUNDLE) {
            let bundle = self.archived_bundle(n, detached).await?;
            found.extend(bundle.into_iter().filter(|it| range.contains(&it.index)));
        }
        Ok(found)
    }

    /// The archived part of a range of which the database has the rows from an index on, and how many entries are archived.
    async fn lacking(
        &self,
        from: u64,
        until: u64,
        first: Option<u64>,
    ) -> Result<Option<(Range<u64>, u64)>, StoreError> {
        let end = first.unwrap_or(until).min(until);
        if from >= end {
            return Ok(None);
        }
        let detached = self.stock().await?.detached;
        let end = end.min(detached);
        Ok((from < end).then_some((from..end, detached)))
    }

    /// The entries from an index until another, by index.
    pub(crate) async fn range(&self, from: u64, until: u64) -> Result<Vec<Stored>, StoreError> {
        let rows = tables!(self, store => store.range(from, until).await)?;
        let first = rows.first().map(|row| row.index);
        let Some((lacking, detached)) = self.lacking(from, until, first).await? else {
            return Ok(rows);
        };
        let mut found = self.archived(lacking, detached).await?;
        found.extend(rows);
        Ok(found)
    }

    /// The entries at some indices, which rise, by index.
    pub(crate) async fn at(&self, indices: &[u64]) -> Result<Vec<Stored>, StoreError> {
        let rows = tables!(self, store => store.at(indices).await)?;
        if rows.len() == indices.len() {
            return Ok(rows);
        }
        let detached = self.stock().await?.detached;
        let mut found: BTreeMap<u64, Stored> =
            rows.into_iter().map(|row| (row.index, row)).collect();
        let mut bundles: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for index in indices {
            if *index < detached && !found.contains_key(index) {
                bundles.entry(index / BUNDLE).or_default().push(*index);
            }
        }
        for (n, wanted) in bundles {
            let bundle = self.archived_bundle(n, detached).await?;
            let wanted = bundle.into_iter().filter(|it| wanted.contains(&it.index));
            found.extend(wanted.map(|it| (it.index, it)));
        }
        Ok(found.into_values().collect())
    }

    /// Every entry of an exchange, by index.
    pub(crate) async fn exchange(&self, exchange: &[u8; 16]) -> Result<Vec<Stored>, StoreError> {
        let rows = tables!(self, store => store.exchange(exchange).await)?;
        let detached = self.stock().await?.detached;
        if detached == 0 {
            return Ok(rows);
        }
        let archive = self.archive(detached)?;
        let (first, behind) = ((*exchange, 0), next(*exchange));
        let records = blocking(move || archive.exchanges(first, behind, usize::MAX)).await?;
        let mut indices: Vec<u64> = records.into_iter().map(|(_, index)| index).collect();
        indices.extend(rows.iter().map(|row| row.index));
        indices.sort_unstable();
        indices.dedup();
        self.at(&indices).await
    }

    /// OPEN, CLOSE and REFUSED entries of exchanges from one on and before another, by exchange and index; of the
    /// first exchange only those behind an index, where one is given.
    pub(crate) async fn calls(
        &self,
        from: &[u8; 16],
        behind: Option<u64>,
        until: &[u8; 16],
        limit: u32,
    ) -> Result<Vec<CallRow>, StoreError> {
        let rows = tables!(self, store => store.calls(from, behind, until, limit).await)?;
        let detached = self.stock().await?.detached;
        if detached == 0 {
            return Ok(rows);
        }
        let most = usize::try_from(limit).unwrap_or(usize::MAX);
        let archive = self.archive(detached)?;
        let mut found: BTreeMap<([u8; 16], u64), CallRow> = rows
            .into_iter()
            .map(|row| ((row.exchange, row.index), row))
            .collect();
        let mut start = (*from, behind.map_or(0, |behind| behind.saturating_add(1)));
        let mut taken = 0;
        while taken < most {
            let (archive, end) = (Arc::clone(&archive), *until);
            let records = blocking(move || archive.exchanges(start, Some(end), TOGETHER)).await?;
            let Some((exchange, index)) = records.last().copied() else {
                break;
            };
            start = (exchange, index.saturating_add(1));
            let exchanges: BTreeMap<u64, [u8; 16]> = records
                .into_iter()
                .filter(|record| !found.contains_key(record))
                .map(|(exchange, index)| (index, exchange))
                .collect();
            let indices: Vec<u64> = exchanges.keys().copied().collect();
            for stored in self.at(&indices).await? {
                if let Some(exchange) = exchanges.get(&stored.index)
                    && of_call(&stored)?
                {
                    let row = CallRow {
                        exchange: *exchange,
                        index: stored.index,
                        bytes: stored.bytes.to_vec(),
                    };
                    found.insert((*exchange, stored.index), row);
                    taken += 1;
                }
            }
        }
        Ok(found.into_values().take(most).collect())
    }

    /// Indices of the entries from an index until another that were made from a time until another, rising.
    pub(crate) async fn made_between(
        &self,
        entries: Range<u64>,
        times: Range<i64>,
    ) -> Result<Vec<u64>, StoreError> {
        let detached = self.stock().await?.detached;
        let mut found = Vec::new();
        if entries.start < detached {
            let archived = entries.start..entries.end.min(detached);
            for stored in self.range(archived.start, archived.end).await? {
                if let Decoded::Entry(entry) = decoded(&stored)?
                    && times.contains(&entry.time_us)
                {
                    found.push(stored.index);
                }
            }
        }
        let rest = entries.start.max(detached)..entries.end.max(detached);
        if !rest.is_empty() {
            found.extend(tables!(self, store => store.made_between(rest, times).await)?);
        }
        Ok(found)
    }

    /// The entries from an index until another, by index, with the columns that repeat what they say. Of archived ones
    /// the columns are what the entry says, and the leaf is the one of the tile.
    pub(crate) async fn columns(
        &self,
        from: u64,
        until: u64,
    ) -> Result<Vec<EntryColumns>, StoreError> {
        let rows = tables!(self, store => store.columns(from, until).await)?;
        let first = rows.first().and_then(|row| u64::try_from(row.index).ok());
        let Some((lacking, detached)) = self.lacking(from, until, first).await? else {
            return Ok(rows);
        };
        let mut found = Vec::new();
        for stored in self.archived(lacking, detached).await? {
            found.push(EntryColumns::archived(&stored)?);
        }
        found.extend(rows);
        Ok(found)
    }

    /// What another city has proven beside an entry.
    pub(crate) async fn evidence(
        &self,
        index: u64,
        kind: i16,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let row = tables!(self, store => store.evidence(index, kind).await)?;
        if row.is_some() {
            return Ok(row);
        }
        let detached = self.stock().await?.detached;
        if index >= detached {
            return Ok(None);
        }
        let archive = self.archive(detached)?;
        blocking(move || archive.evidence(index, kind)).await
    }
}

/// The exchange behind one. `None`: it is the last that there can be.
fn next(exchange: [u8; 16]) -> Option<[u8; 16]> {
    let next = u128::from_be_bytes(exchange).checked_add(1);
    next.map(u128::to_be_bytes)
}

fn decoded(stored: &Stored) -> Result<Decoded, StoreError> {
    let index = stored.index;
    decode(&stored.bytes).map_err(|source| StoreError::Entry { index, source })
}

/// Whether an entry begins or ends a call.
fn of_call(stored: &Stored) -> Result<bool, StoreError> {
    Ok(match decoded(stored)? {
        Decoded::Entry(entry) => {
            matches!(entry.kind(), Kind::Open | Kind::Close | Kind::Refused)
        }
        Decoded::Newer { .. } => false,
    })
}

async fn blocking<T: Send + 'static>(
    read: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(read).await {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime is being shut down.
            Err(_) => Err(StoreError::Timeout),
        },
    }
}
