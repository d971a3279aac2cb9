//! Reading the records of a span, a page at a time.

use std::{collections::VecDeque, sync::Arc};

use banqiao_proto::ledger::v1::ExchangeRecord;
use uuid::Uuid;

use super::{Compared, OpenAttempt, Pair, record, window::bounds};
use crate::{
    ledger::Core,
    reader::{Reader, Stored},
    store::{CallRow, StoreError},
};

/// Entries that are read at once: some 300 KiB.
const PAGE: u32 = 512;

impl Reader {
    /// What this ledger holds of the exchanges between two cities whose ids were made in a span of milliseconds since
    /// 1970, in the order of their keys. Memory is a page.
    pub fn records(&self, pair: Pair, from_ms: i64, until_ms: i64) -> Records {
        let (from, until) = bounds(from_ms, until_ms);
        Records {
            core: Arc::clone(self.core()),
            pair,
            from,
            behind: None,
            until,
            rest: Vec::new(),
            ready: VecDeque::new(),
            ended: false,
        }
    }

    /// What this ledger holds of single exchanges between two cities.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn records_of(
        &self,
        pair: Pair,
        exchange: Uuid,
    ) -> Result<Vec<ExchangeRecord>, StoreError> {
        let entries = self.exchange(exchange, false).await?;
        let entries: Vec<Vec<u8>> = entries.iter().map(|it| it.bytes.to_vec()).collect();
        Ok(record::fold(&entries, pair))
    }

    /// The entries of an exchange between two cities, oldest first: of any other exchange none.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn entries_between(
        &self,
        pair: Pair,
        exchange: Uuid,
        attempt: Option<u32>,
    ) -> Result<Vec<Stored>, StoreError> {
        let mut found = self.exchange(exchange, false).await?;
        found.retain(|stored| {
            let entry =
                <banqiao_proto::ledger::v1::Entry as prost::Message>::decode(stored.bytes.as_ref());
            entry.is_ok_and(|entry| {
                record::is_between(&entry, pair)
                    && attempt.is_none_or(|attempt| entry.attempt == attempt)
            })
        });
        Ok(found)
    }

    /// How far this ledger is compared with each other city.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn compared(&self) -> Result<Vec<Compared>, StoreError> {
        self.core().reads.compared().await
    }

    /// Attempts that had not ended when they were compared with a city, in order, behind one of them.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn open_attempts(
        &self,
        city: &str,
        behind: Option<OpenAttempt>,
        limit: u32,
    ) -> Result<Vec<OpenAttempt>, StoreError> {
        self.core().reads.open_attempts(city, behind, limit).await
    }
}

/// The records of a span, as they are read.
pub struct Records {
    core: Arc<Core>,
    pair: Pair,
    /// Where the next page begins, and behind which entry of that exchange.
    from: [u8; 16],
    behind: Option<u64>,
    until: [u8; 16],
    /// Entries of the last exchange that was read, which may have more.
    rest: Vec<CallRow>,
    ready: VecDeque<ExchangeRecord>,
    ended: bool,
}

impl std::fmt::Debug for Records {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Records")
            .field("pair", &self.pair)
            .finish_non_exhaustive()
    }
}

impl Records {
    /// The next record. `None`: there are no more.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn next(&mut self) -> Result<Option<ExchangeRecord>, StoreError> {
        while self.ready.is_empty() && !self.ended {
            self.read().await?;
        }
        Ok(self.ready.pop_front())
    }

    async fn read(&mut self) -> Result<(), StoreError> {
        let page = self
            .core
            .reads
            .calls(&self.from, self.behind, &self.until, PAGE)
            .await?;
        self.ended = page.len() < PAGE as usize;
        if let Some(last) = page.last() {
            self.from = last.exchange;
            self.behind = Some(last.index);
        }
        let mut rows = std::mem::take(&mut self.rest);
        rows.extend(page);
        if !self.ended {
            // The last exchange may go on in the next page.
            let whole = rows.partition_point(|row| row.exchange < self.from);
            self.rest = rows.split_off(whole);
        }
        let pair = self.pair;
        // Decoding a page takes a millisecond or two, which the thread that carries calls does not have.
        let folded = tokio::task::spawn_blocking(move || fold(rows, pair)).await;
        self.ready = folded.map_err(|_| StoreError::Timeout)?;
        Ok(())
    }
}

/// The records of whole exchanges, from rows in the order of the exchanges.
fn fold(rows: Vec<CallRow>, pair: Pair) -> VecDeque<ExchangeRecord> {
    let mut records = VecDeque::new();
    let mut rows = rows.into_iter().peekable();
    while let Some(first) = rows.next() {
        let exchange = first.exchange;
        let mut entries = vec![first.bytes];
        while let Some(row) = rows.next_if(|row| row.exchange == exchange) {
            entries.push(row.bytes);
        }
        records.extend(record::fold(&entries, pair));
    }
    records
}
