//! Documents by digest: uploads in chunks that go on where they broke off, kept by the SHA-256 of their bytes, read in chunks.
//!
//! ```text
//!   DeclaredDocument (SHA-256, size, content type) ──begin──▶ received so far
//!   chunks of 1 MiB, each with its SHA-256 ──append, one transaction each──▶ table `document_chunk`
//!   the last one ──▶ the whole is hashed as it stands in the database ──▶ table `document`, or nothing of it
//!   pull(): the same from another city's service, through the gateways
//! ```
//!
//! The bytes lie in the service's own database: a document is there for every replica, is saved with the records that name it, and a
//! crash loses at most the chunk that was not answered. Memory is one chunk for each stream, and streams are bounded.
//!
//! Uploads are apart for each owner, so nobody spoils another's upload, and a document is there for whoever has brought all its bytes: to
//! know its digest is not enough. The bytes are stored once. Uploads that nobody goes on with, and documents that no record names ([`DocumentStore::keep_postgres`],
//! [`DocumentStore::keep_sqlite`]), are dropped after a while.
//!
//! A service appends [`DOCUMENT_POSTGRES`] and [`DOCUMENT_SQLITE`] to its migrations, and [`DOCUMENT_HOLDER_POSTGRES`] and
//! [`DOCUMENT_HOLDER_SQLITE`] after them.

mod content;
mod declared;
mod pull;
mod rule;
mod statement;
mod upload;

use std::{sync::Arc, time::Duration};

use aws_lc_rs::digest::{SHA256, digest};
use banqiao_directory::Clock;
use futures_util::{Stream, stream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    database::{Database, FaultKind, classify},
    rescue::CallError,
    rule::{Broken, Rule, Violation},
};

pub use content::{ContentType, content_type};
pub use declared::{DeclaredDocument, DocumentDigest, DocumentTerms};
pub use pull::{Chunks, DocumentSource, PullError, pull};
pub use rule::document_rules;
use statement::{ChunkRow, postgres, reading, sqlite, transact};
pub use upload::UploadProgress;

/// The tables of documents on PostgreSQL.
pub const DOCUMENT_POSTGRES: &str = include_str!("../migrations/postgres/document.sql");
/// The tables of documents on SQLite.
pub const DOCUMENT_SQLITE: &str = include_str!("../migrations/sqlite/document.sql");

/// The table of who has brought which document, on PostgreSQL.
pub const DOCUMENT_HOLDER_POSTGRES: &str =
    include_str!("../migrations/postgres/document_holder.sql");
/// The table of who has brought which document, on SQLite.
pub const DOCUMENT_HOLDER_SQLITE: &str = include_str!("../migrations/sqlite/document_holder.sql");

/// Bytes of every chunk but the last: small beside gRPC's limits, large beside the cost of a transaction.
pub const DOCUMENT_CHUNK: usize = 1024 * 1024;

/// Streams of documents at once, each with some chunks in memory.
const STREAMS: usize = 32;
/// When to try again while other streams are open.
const RETRY: Duration = Duration::from_secs(5);
/// How long an upload waits for its next chunk, and a document for a record that names it.
const LIFE: Duration = Duration::from_secs(24 * 3_600);
/// What one pass of [`DocumentStore::expire`] drops at most.
const EXPIRED_AT_ONCE: i64 = 64;

/// A part of a document. `Debug` shows no content.
#[derive(Clone, PartialEq, Eq)]
pub struct DocumentChunk {
    /// First byte, from 0.
    pub offset: u64,
    /// The bytes: at most [`DOCUMENT_CHUNK`].
    pub content: Vec<u8>,
    /// SHA-256 of the bytes.
    pub sha256: Vec<u8>,
}

impl DocumentChunk {
    /// A chunk of bytes, with their digest.
    pub fn new(offset: u64, content: Vec<u8>) -> Self {
        Self {
            offset,
            sha256: sha256(&content).to_vec(),
            content,
        }
    }
}

impl std::fmt::Debug for DocumentChunk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DocumentChunk")
            .field("offset", &self.offset)
            .field("length", &self.content.len())
            .finish_non_exhaustive()
    }
}

/// A document that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredDocument {
    /// What it is named by.
    pub digest: DocumentDigest,
    /// Bytes.
    pub size: u64,
    /// Content type, as its first upload declared it.
    pub content_type: String,
    upload: String,
}

/// Why a document is not taken or given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// A field of the request or of a chunk breaks a rule.
    #[error("{0}: {1}")]
    CallerField(&'static str, Broken),
    /// A chunk that does not begin where the ones before end.
    #[error("{received} bytes were received: the next chunk begins there")]
    CallerOffset {
        /// Bytes that are there.
        received: u64,
    },
    /// More streams than the service carries.
    #[error("this service carries {STREAMS} streams of documents at once")]
    CallerTooManyStreams,
    /// More open uploads than an owner may have.
    #[error("too many uploads of this owner are open")]
    CallerTooManyUploads,
    /// The document is not here.
    #[error("there is no such document here")]
    CallerUnknown,
    /// The stored bytes are not those that were written.
    #[error("a stored document has an impossible {0}")]
    Corrupt(&'static str),
    /// The database.
    #[error("the database did not take or give a document")]
    Database(#[from] sqlx::Error),
}

impl DocumentError {
    const fn field(field: &'static str, rule: &'static Rule) -> Self {
        Self::CallerField(field, Broken(rule))
    }
}

impl From<DocumentError> for CallError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::CallerField(field, Broken(rule)) => {
                let field = field.into();
                Self::CallerInvalid(vec![Violation { field, rule }])
            }
            DocumentError::CallerOffset { .. } => rule::OFFSET.because(error.to_string()),
            DocumentError::CallerTooManyStreams => rule::STREAMS.for_now(error.to_string(), RETRY),
            DocumentError::CallerTooManyUploads => rule::UPLOADS.because(error.to_string()),
            DocumentError::CallerUnknown => rule::UNKNOWN.because(error.to_string()),
            DocumentError::Corrupt(_) => Self::Internal(error.into()),
            DocumentError::Database(source) => match classify(&source) {
                FaultKind::Broken => Self::Internal(source.into()),
                FaultKind::Conflict | FaultKind::Unavailable => {
                    Self::StoreUnavailable(source.into())
                }
            },
        }
    }
}

/// The documents in a service's database. Cheap to clone.
#[derive(Clone, Debug)]
pub struct DocumentStore {
    database: Database,
    clock: Clock,
    terms: DocumentTerms,
    streams: Arc<Semaphore>,
}

impl DocumentStore {
    /// The documents in a database whose migrations made their tables.
    pub fn new(database: Database, clock: Clock, terms: DocumentTerms) -> Self {
        Self {
            database,
            clock,
            terms,
            streams: Arc::new(Semaphore::new(STREAMS)),
        }
    }

    /// What is taken.
    pub const fn terms(&self) -> &DocumentTerms {
        &self.terms
    }

    /// A document; none where it is not here, or not whole yet.
    ///
    /// # Errors
    /// The database's.
    pub async fn find(
        &self,
        digest: &DocumentDigest,
    ) -> Result<Option<StoredDocument>, DocumentError> {
        let row = reading!(&self.database, statements, connection, {
            statements::find(connection, digest.as_bytes()).await
        })?;
        row.map(|row| {
            Ok(StoredDocument {
                digest: *digest,
                size: u64::try_from(row.size).map_err(|_| DocumentError::Corrupt("size"))?,
                content_type: row.content_type,
                upload: row.upload,
            })
        })
        .transpose()
    }

    /// The chunks of a document from a byte on, one at a time as they are taken.
    ///
    /// # Errors
    /// The byte lies after the end, or too many streams are open.
    pub fn read(
        &self,
        document: StoredDocument,
        offset: u64,
    ) -> Result<
        impl Stream<Item = Result<DocumentChunk, DocumentError>> + Send + use<>,
        DocumentError,
    > {
        if offset > document.size {
            return Err(DocumentError::field("offset", &rule::BEGINNING));
        }
        let reading = Reading {
            store: self.clone(),
            _place: self.place()?,
            document,
            offset,
        };
        Ok(stream::try_unfold(reading, |mut reading| async move {
            let chunk = Box::pin(reading.next()).await?;
            Ok(chunk.map(|chunk| (chunk, reading)))
        }))
    }

    /// Drops uploads that nobody went on with and documents that no record names, and gives their number. Any replica may do it.
    ///
    /// # Errors
    /// The database's.
    pub async fn expire(&self) -> Result<usize, DocumentError> {
        let life = i64::try_from(LIFE.as_micros()).unwrap_or(i64::MAX);
        let before = self.clock.now_us().saturating_sub(life);
        let expired = transact!(&self.database, statements, connection, {
            let mut expired = statements::drop_uploads(connection, before, EXPIRED_AT_ONCE).await?;
            expired.extend(statements::drop_loose(connection, before, EXPIRED_AT_ONCE).await?);
            for upload in &expired {
                statements::drop_chunks(connection, upload).await?;
            }
            Ok(expired.len())
        })?;
        Ok(expired)
    }

    /// Keeps a document for good, as part of the transaction that writes the record which names it; false when it is not here.
    ///
    /// # Errors
    /// The database's.
    pub async fn keep_postgres(
        connection: &mut sqlx::PgConnection,
        digest: &DocumentDigest,
    ) -> Result<bool, sqlx::Error> {
        postgres::keep(connection, digest.as_bytes()).await
    }

    /// Keeps a document for good, as part of the transaction that writes the record which names it; false when it is not here.
    ///
    /// # Errors
    /// The database's.
    pub async fn keep_sqlite(
        connection: &mut sqlx::SqliteConnection,
        digest: &DocumentDigest,
    ) -> Result<bool, sqlx::Error> {
        sqlite::keep(connection, digest.as_bytes()).await
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, DocumentError> {
        let place = Arc::clone(&self.streams).try_acquire_owned();
        place.map_err(|_| DocumentError::CallerTooManyStreams)
    }

    /// A whole chunk as it stands, whose digest is that with which it was written.
    async fn chunk(&self, upload: &str, ordinal: u64) -> Result<ChunkRow, DocumentError> {
        let ordinal = i64::try_from(ordinal).map_err(|_| DocumentError::Corrupt("place"))?;
        let row = reading!(&self.database, statements, connection, {
            statements::chunk(connection, upload, ordinal).await
        })?;
        // An upload that ended meanwhile has no chunks any more.
        let row = row.ok_or(DocumentError::CallerUnknown)?;
        if sha256(&row.content) == *row.digest {
            Ok(row)
        } else {
            Err(DocumentError::Corrupt("chunk"))
        }
    }
}

/// A document that somebody reads.
struct Reading {
    store: DocumentStore,
    document: StoredDocument,
    offset: u64,
    _place: OwnedSemaphorePermit,
}

impl Reading {
    async fn next(&mut self) -> Result<Option<DocumentChunk>, DocumentError> {
        if self.offset >= self.document.size {
            return Ok(None);
        }
        let (ordinal, skipped) = place_of(self.offset);
        let row = self.store.chunk(&self.document.upload, ordinal).await?;
        let rest = match row.content.get(skipped..) {
            None | Some([]) => return Err(DocumentError::Corrupt("length")),
            Some(rest) => rest,
        };
        let chunk = if skipped == 0 {
            DocumentChunk {
                offset: self.offset,
                sha256: row.digest,
                content: row.content,
            }
        } else {
            DocumentChunk::new(self.offset, rest.to_vec())
        };
        self.offset += length(&chunk.content);
        Ok(Some(chunk))
    }
}

/// The chunk in which a byte lies, and its place there.
fn place_of(offset: u64) -> (u64, usize) {
    let chunk = DOCUMENT_CHUNK as u64;
    let skipped = usize::try_from(offset % chunk).unwrap_or_default();
    (offset / chunk, skipped)
}

const fn length(content: &[u8]) -> u64 {
    content.len() as u64
}

fn sha256(content: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, content).as_ref());
    bytes
}

#[cfg(test)]
mod tests;
