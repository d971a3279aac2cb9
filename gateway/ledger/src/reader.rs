//! Reading a ledger: search, show, tail.

use std::sync::Arc;

use banqiao_proto::ledger::v1::{PrivateOpening, PrivatePart};
use bytes::Bytes;
use prost::Message as _;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    entry::{self, Decoded},
    ledger::Core,
    private,
    query::Query,
    store::StoreError,
};

mod files;
mod log;
mod recent;
mod search;
mod sets;

pub(crate) use files::tile as log_tile;
pub use files::{LogFile, LogFiles};
pub use log::ProofError;
pub(crate) use recent::Recent;

/// An entry as it is stored.
#[derive(Clone, PartialEq)]
pub struct Stored {
    /// Its index.
    pub index: u64,
    /// Its bytes, as hashed.
    pub bytes: Bytes,
    /// Its private part, where it was asked for, exists, and its key still does.
    pub private: Option<PrivatePart>,
}

/// Never shows the private part.
impl std::fmt::Debug for Stored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stored")
            .field("index", &self.index)
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// Which way to read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// Newest first.
    #[default]
    Descending,
    /// Oldest first.
    Ascending,
}

/// Which part of the matches to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// Most entries to return.
    pub limit: usize,
    /// Which way.
    pub order: Order,
    /// Only entries behind this index, in that order.
    pub cursor: Option<u64>,
    /// Open private parts too.
    pub open_private: bool,
}

/// Reads entries of one ledger, through connections of its own.
#[derive(Clone)]
pub struct Reader {
    core: Arc<Core>,
}

impl Reader {
    pub(crate) const fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    pub(crate) const fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Entries that match, in order.
    ///
    /// Fewer than the limit mean that there are no more. Only matches are read, apart from the last few thousand
    /// entries, which the index does not cover yet; dropping the future ends it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or holds what is no entry.
    pub async fn search(&self, query: &Query, page: Page) -> Result<Vec<Stored>, StoreError> {
        let mut found = search::search(&self.core, query, page).await?;
        if page.open_private {
            self.open_all(&mut found).await?;
        }
        Ok(found)
    }

    /// Every entry of an exchange, oldest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn exchange(
        &self,
        exchange: Uuid,
        open_private: bool,
    ) -> Result<Vec<Stored>, StoreError> {
        let mut found = self.core.reads.exchange(exchange.as_bytes()).await?;
        if open_private {
            self.open_all(&mut found).await?;
        }
        Ok(found)
    }

    /// Opens the private part of an entry. `None` when it has none, it was erased, or its month's key is gone.
    ///
    /// # Errors
    ///
    /// When the database or a key cannot be read, or what is stored does not agree with the entry.
    pub async fn open_private(&self, index: u64) -> Result<Option<PrivatePart>, StoreError> {
        let Some(stored) = self.core.reads.range(index, index + 1).await?.pop() else {
            return Ok(None);
        };
        self.open(&stored).await
    }

    /// As [`Self::open_private`], with the salt of the commitment: it shows others that the entry commits to it.
    ///
    /// # Errors
    ///
    /// As of [`Self::open_private`].
    pub async fn private_opening(&self, index: u64) -> Result<Option<PrivateOpening>, StoreError> {
        let Some(stored) = self.core.reads.range(index, index + 1).await?.pop() else {
            return Ok(None);
        };
        self.unseal(&stored).await
    }

    /// Entries from an index on, and then each as it is committed. `None`: only new ones.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn tail(&self, from: Option<u64>) -> Result<Tail, StoreError> {
        let next = match from {
            Some(from) => from,
            None => self.core.reads.size().await?,
        };
        Ok(Tail {
            core: Arc::clone(&self.core),
            size: self.core.size.subscribe(),
            next,
        })
    }

    async fn open_all(&self, found: &mut [Stored]) -> Result<(), StoreError> {
        for stored in found {
            stored.private = self.open(stored).await?;
        }
        Ok(())
    }

    async fn open(&self, stored: &Stored) -> Result<Option<PrivatePart>, StoreError> {
        let malformed = |_| StoreError::Private(private::PrivateError::Malformed);
        let opening = self.unseal(stored).await?;
        opening
            .map(|opening| PrivatePart::decode(opening.content.as_slice()).map_err(malformed))
            .transpose()
    }

    async fn unseal(&self, stored: &Stored) -> Result<Option<PrivateOpening>, StoreError> {
        let Decoded::Entry(entry) = decode(stored)? else {
            return Ok(None);
        };
        if entry.private_commitment.is_empty() {
            return Ok(None);
        }
        let Some(sealed) = self.core.reads.private(stored.index).await? else {
            return Ok(None);
        };
        let keys = self
            .core
            .preparer
            .keyring
            .held(sealed.month)
            .map_err(StoreError::Keys)?;
        let Some(keys) = keys else { return Ok(None) };
        let uid = entry
            .uid
            .as_slice()
            .try_into()
            .map_err(|_| StoreError::Corrupt("uid"))?;
        private::opening(&keys, &uid, &entry.private_commitment, &sealed.ciphertext)
            .map(Some)
            .map_err(StoreError::Private)
    }
}

/// Reads the bytes of an entry.
pub(crate) fn decode(stored: &Stored) -> Result<Decoded, StoreError> {
    let index = stored.index;
    entry::decode(&stored.bytes).map_err(|source| StoreError::Entry { index, source })
}

impl std::fmt::Debug for Reader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Reader")
    }
}

/// Entries as they are committed.
pub struct Tail {
    core: Arc<Core>,
    size: watch::Receiver<u64>,
    next: u64,
}

/// Most entries that a tail hands out at once.
const TAIL_ENTRIES: u64 = 256;
/// How often a tail looks for entries that other replicas have committed.
const TAIL_POLL: std::time::Duration = std::time::Duration::from_millis(500);

impl Tail {
    /// Entries that are already committed and not yet handed out, at most 256; none at the end of the ledger.
    ///
    /// # Errors
    ///
    /// When the database cannot be read; the tail can be read on afterwards.
    pub async fn ready(&mut self) -> Result<Vec<Stored>, StoreError> {
        self.size.mark_unchanged();
        let found = self
            .core
            .reads
            .range(self.next, self.next + TAIL_ENTRIES)
            .await?;
        if let Some(last) = found.last() {
            self.next = last.index + 1;
        }
        Ok(found)
    }

    /// The next entries, at least one: waits until there are some. Cancel-safe.
    ///
    /// # Errors
    ///
    /// When the database cannot be read; the tail can be read on afterwards.
    pub async fn next(&mut self) -> Result<Vec<Stored>, StoreError> {
        loop {
            let found = self.ready().await?;
            if !found.is_empty() {
                return Ok(found);
            }
            // Own commits are announced at once; those of other replicas are found by looking.
            let _ = tokio::time::timeout(TAIL_POLL, self.size.changed()).await;
        }
    }
}

impl std::fmt::Debug for Tail {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tail")
            .field("next", &self.next)
            .finish_non_exhaustive()
    }
}
