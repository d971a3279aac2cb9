//! The database behind a ledger.

use crate::{
    append::{Document, DocumentKind},
    entry::EntryError,
    facet::{Facet, ValueRange},
    keyring::{KeyringError, Month},
    private::{PrivateError, Token},
    reader::{Order, Stored},
};

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// What is stored contradicts itself.
    #[error("the stored {0} is corrupt")]
    Corrupt(&'static str),
    /// What is stored is no canonical entry.
    #[error("what is stored is no entry")]
    Entry(#[source] EntryError),
    /// A month's key cannot be read.
    #[error("a month's key cannot be used")]
    Keys(#[source] KeyringError),
    /// A private part does not agree with its entry.
    #[error("a stored private part cannot be opened")]
    Private(#[source] PrivateError),
    /// Not a URL of a known store.
    #[error("not a database URL: sqlite://<file> or postgres://…")]
    Url,
}

pub(crate) struct StoreUrl;
impl StoreUrl {
    pub(crate) fn parse(_: &str) -> Result<Self, StoreError> {
        Err(StoreError::Url)
    }
}
pub(crate) struct Reads;
pub(crate) struct SealedRow {
    pub(crate) month: Month,
    pub(crate) ciphertext: Vec<u8>,
}
impl Reads {
    pub(crate) fn new(_: &StoreUrl) -> Self {
        Self
    }
    pub(crate) async fn documents(
        &self,
        _: DocumentKind,
    ) -> Result<(u64, Vec<Document>), StoreError> {
        Err(StoreError::Url)
    }
    pub(crate) async fn revision(&self) -> Result<u64, StoreError> {
        Err(StoreError::Url)
    }
    pub(crate) async fn size(&self) -> Result<u64, StoreError> {
        Err(StoreError::Url)
    }
    pub(crate) async fn months(&self) -> Result<Vec<Month>, StoreError> {
        Err(StoreError::Url)
    }
    pub(crate) async fn exchange(&self, _: &[u8; 16]) -> Result<Vec<Stored>, StoreError> {
        Err(StoreError::Url)
    }
    pub(crate) async fn range(&self, _: u64, _: u64) -> Result<Vec<Stored>, StoreError> {
        Err(StoreError::Url)
    }
    pub(crate) async fn private(&self, _: u64) -> Result<Option<SealedRow>, StoreError> {
        Err(StoreError::Url)
    }
    pub(crate) async fn blocks(
        &self,
        _: Facet,
        _: &[u8],
        _: u64,
        _: Order,
        _: u32,
    ) -> Result<Vec<u64>, StoreError> {
        Err(StoreError::Url)
    }
    pub(crate) async fn tokens(
        &self,
        _: Token,
        _: u64,
        _: Order,
        _: u32,
    ) -> Result<Vec<u64>, StoreError> {
        Err(StoreError::Url)
    }
    pub(crate) async fn block_bounds(
        &self,
        _: Facet,
        _: &ValueRange,
    ) -> Result<Option<(u64, u64)>, StoreError> {
        Err(StoreError::Url)
    }
    pub(crate) async fn next_value(
        &self,
        _: Facet,
        _: Option<&[u8]>,
        _: &ValueRange,
    ) -> Result<Option<Box<[u8]>>, StoreError> {
        Err(StoreError::Url)
    }
}
