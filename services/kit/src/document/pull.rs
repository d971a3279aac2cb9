//! Getting a document from another city's service: from where the last attempt broke off, verified chunk by chunk and as a whole.

use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use tonic::Status;

use super::{
    DeclaredDocument, DocumentChunk, DocumentError, DocumentStore, UploadProgress, rule,
    upload::Upload,
};
use crate::{gateway::CallRefusal, rule::Broken};

/// Attempts in a row that bring nothing before a pull is given up for now.
const FRUITLESS: u32 = 2;

/// The chunks of a document as another service sends them.
pub type Chunks = Pin<Box<dyn Stream<Item = Result<DocumentChunk, Status>> + Send>>;

/// Where a document is got from: a method of another city's service, called through a [`crate::Gateway`].
pub trait DocumentSource: Send + Sync {
    /// Opens the document at a byte.
    fn open(&self, offset: u64) -> impl Future<Output = Result<Chunks, CallRefusal>> + Send;
}

/// Why a document was not got. What came stays, and the next pull goes on after it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The other service refuses, or the way there is broken.
    #[error("the document does not come")]
    Refused(#[source] CallRefusal),
    /// It sends something else than was declared.
    #[error("the other service sends another document than was declared")]
    Other(#[source] DocumentError),
    /// It ends before the document does.
    #[error("the other service sends {received} bytes, and no more")]
    Short {
        /// Bytes that are there.
        received: u64,
    },
    /// This service's own store.
    #[error(transparent)]
    Store(DocumentError),
}

impl From<DocumentError> for PullError {
    fn from(error: DocumentError) -> Self {
        match error {
            DocumentError::CallerField(..) | DocumentError::CallerOffset { .. } => {
                Self::Other(error)
            }
            error => Self::Store(error),
        }
    }
}

/// Gets a document into the store, as `owner`. A connection that breaks is opened again as long as each brings something.
///
/// # Errors
/// See [`PullError`].
pub async fn pull(
    store: &DocumentStore,
    declared: &DeclaredDocument,
    owner: &str,
    source: &impl DocumentSource,
) -> Result<UploadProgress, PullError> {
    let mut fruitless = 0;
    loop {
        let _place = store.place()?;
        let Some(mut upload) = Box::pin(store.begin(declared, owner)).await? else {
            return Ok(UploadProgress {
                received: declared.size(),
                complete: true,
            });
        };
        let before = upload.received;
        let outcome = if upload.received < declared.size() {
            Box::pin(take(store, &mut upload, source)).await
        } else {
            Ok(())
        };
        if upload.received == declared.size() {
            return Ok(Box::pin(store.finish(&upload)).await?);
        }
        fruitless = if upload.received > before {
            0
        } else {
            fruitless + 1
        };
        if let Err(error) = outcome
            && (fruitless >= FRUITLESS || !goes_on(&error))
        {
            return Err(error);
        }
        if fruitless >= FRUITLESS {
            let received = upload.received;
            return Err(PullError::Short { received });
        }
        tracing::debug!(digest = %declared.digest(), received = upload.received, "a document comes on");
    }
}

/// Takes what one connection brings.
async fn take(
    store: &DocumentStore,
    upload: &mut Upload<'_>,
    source: &impl DocumentSource,
) -> Result<(), PullError> {
    let opened = source.open(upload.received).await;
    let mut chunks = opened.map_err(PullError::Refused)?;
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|status| PullError::Refused(CallRefusal::of(&status)))?;
        if !Box::pin(store.append(upload, &chunk)).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether another connection may bring what this one did not.
fn goes_on(error: &PullError) -> bool {
    match error {
        PullError::Refused(refusal) => refusal.is_retryable(),
        // Bytes that changed on their way.
        PullError::Other(DocumentError::CallerField(_, Broken(broken))) => {
            **broken == rule::CHUNK_DIGEST
        }
        _ => false,
    }
}
