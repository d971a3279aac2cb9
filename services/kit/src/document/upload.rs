//! Uploads: chunk after chunk, each written before the next is taken, the whole verified as it stands in the database.

use aws_lc_rs::digest::{Context, SHA256};
use futures_util::{Stream, StreamExt};
use uuid::Uuid;

use super::{
    DOCUMENT_CHUNK, DeclaredDocument, DocumentChunk, DocumentError, DocumentStore, length,
    place_of, rule,
    statement::{NewChunk, NewUpload, reading, transact},
};
use crate::rescue::CallError;

/// Uploads that one owner may have open.
const OPEN_UPLOADS: i64 = 64;

/// How far an upload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadProgress {
    /// Bytes that are there: the next chunk begins here.
    pub received: u64,
    /// The whole document is there, and has its digest.
    pub complete: bool,
}

/// An upload that goes on.
pub(super) struct Upload<'a> {
    id: String,
    declared: &'a DeclaredDocument,
    owner: &'a str,
    size: i64,
    pub(super) received: u64,
}

/// What became of a chunk.
enum Appended {
    /// It is there, and so much in all.
    Received(i64),
    /// It does not belong there: so much is there.
    Elsewhere(i64),
    /// The upload ended meanwhile: another stream of the owner brought the rest, or it was dropped.
    Ended,
}

impl DocumentStore {
    /// How far an owner's upload of a document is.
    ///
    /// # Errors
    /// See [`DocumentError`].
    pub async fn progress(
        &self,
        declared: &DeclaredDocument,
        owner: &str,
    ) -> Result<UploadProgress, DocumentError> {
        if self.is_here(declared, owner).await? {
            return Ok(whole(declared));
        }
        let digest = declared.digest().as_bytes();
        let open = reading!(&self.database, statements, connection, {
            statements::upload_of(connection, owner, digest).await
        })?;
        let received = open.map_or(0, |open| u64::try_from(open.received).unwrap_or_default());
        Ok(UploadProgress {
            received,
            complete: false,
        })
    }

    /// Takes chunks of a declared document until its end, or until the stream ends. What was taken stays when the stream breaks off:
    /// the next call goes on after it.
    ///
    /// # Errors
    /// See [`DocumentError`], and the stream's own error.
    pub async fn receive(
        &self,
        declared: &DeclaredDocument,
        owner: &str,
        mut chunks: impl Stream<Item = Result<DocumentChunk, CallError>> + Unpin,
    ) -> Result<UploadProgress, CallError> {
        let _place = self.place()?;
        let Some(mut upload) = Box::pin(self.begin(declared, owner)).await? else {
            return Ok(whole(declared));
        };
        while upload.received < declared.size() {
            let Some(chunk) = chunks.next().await else {
                return Ok(UploadProgress {
                    received: upload.received,
                    complete: false,
                });
            };
            if !Box::pin(self.append(&mut upload, &chunk?)).await? {
                return Ok(whole(declared));
            }
        }
        Ok(Box::pin(self.finish(&upload)).await?)
    }

    /// Begins an upload, or goes on with it; none where the owner has brought the document already.
    pub(super) async fn begin<'a>(
        &self,
        declared: &'a DeclaredDocument,
        owner: &'a str,
    ) -> Result<Option<Upload<'a>>, DocumentError> {
        if self.is_here(declared, owner).await? {
            return Ok(None);
        }
        let digest = declared.digest().as_bytes();
        let size = i64::try_from(declared.size())
            .map_err(|_| DocumentError::field("size", self.terms.size_rule))?;
        let (id, now_us) = (Uuid::now_v7().to_string(), self.clock.now_us());
        let new = NewUpload {
            upload: &id,
            digest,
            owner,
            size,
            content_type: declared.content_type(),
        };
        let open = transact!(&self.database, statements, connection, {
            let open = statements::upload_of(connection, owner, digest).await?;
            if open.is_some() {
                return Ok(open);
            }
            if statements::open_uploads(connection, owner).await? >= OPEN_UPLOADS {
                return Ok(None);
            }
            statements::insert_upload(connection, &new, now_us).await?;
            statements::upload_of(connection, owner, digest).await
        })?;
        let open = open.ok_or(DocumentError::CallerTooManyUploads)?;
        if open.size != size {
            // The digest is of one document only, so one of the two sizes is wrong; what was received decides at its end.
            self.give_up(&open.upload).await?;
            return Err(DocumentError::field("size", &rule::WHOLE));
        }
        Ok(Some(Upload {
            id: open.upload,
            declared,
            owner,
            size,
            received: u64::try_from(open.received).unwrap_or_default(),
        }))
    }

    /// Writes a chunk; false when another stream of the owner brought the rest meanwhile.
    pub(super) async fn append(
        &self,
        upload: &mut Upload<'_>,
        chunk: &DocumentChunk,
    ) -> Result<bool, DocumentError> {
        let (ordinal, within) = place_of(chunk.offset);
        let left = upload.declared.size().saturating_sub(chunk.offset);
        if within != 0 || left == 0 {
            let received = upload.received;
            return Err(DocumentError::CallerOffset { received });
        }
        if length(&chunk.content) != left.min(DOCUMENT_CHUNK as u64) {
            return Err(DocumentError::field("chunk.content", &rule::CHUNK));
        }
        let digest = super::sha256(&chunk.content);
        // Not secret: the sender knows both.
        if chunk.sha256 != digest {
            return Err(DocumentError::field("chunk.sha256", &rule::CHUNK_DIGEST));
        }
        if ordinal == 0 && !upload.declared.fits(&chunk.content) {
            self.give_up(&upload.id).await?;
            return Err(DocumentError::field("content_type", &rule::SIGNATURE));
        }
        let appended = self.write(upload, ordinal, &digest, chunk).await?;
        match appended {
            Appended::Received(received) => {
                upload.received = u64::try_from(received).unwrap_or_default();
                Ok(true)
            }
            Appended::Elsewhere(received) => Err(DocumentError::CallerOffset {
                received: u64::try_from(received).unwrap_or_default(),
            }),
            Appended::Ended if self.is_here(upload.declared, upload.owner).await? => Ok(false),
            Appended::Ended => Err(DocumentError::CallerOffset { received: 0 }),
        }
    }

    async fn write(
        &self,
        upload: &Upload<'_>,
        ordinal: u64,
        digest: &[u8; 32],
        chunk: &DocumentChunk,
    ) -> Result<Appended, DocumentError> {
        let number = |value: u64| i64::try_from(value).map_err(|_| DocumentError::Corrupt("size"));
        let (ordinal, offset) = (number(ordinal)?, number(chunk.offset)?);
        let after = number(chunk.offset + length(&chunk.content))?;
        let (id, now_us) = (upload.id.as_str(), self.clock.now_us());
        let new = NewChunk {
            ordinal,
            digest,
            content: &chunk.content,
        };
        let appended = transact!(&self.database, statements, connection, {
            let Some(received) = statements::hold_upload(connection, id).await? else {
                return Ok(Appended::Ended);
            };
            if offset == received {
                statements::insert_chunk(connection, id, &new, (after, now_us)).await?;
                return Ok(Appended::Received(after));
            }
            // Sent again because its answer was lost, or by two at once.
            let there = statements::chunk_digest(connection, id, ordinal).await?;
            Ok(if there.as_deref() == Some(digest.as_slice()) {
                Appended::Received(received)
            } else {
                Appended::Elsewhere(received)
            })
        })?;
        Ok(appended)
    }

    /// Hashes what was received, and makes a document of it.
    pub(super) async fn finish(
        &self,
        upload: &Upload<'_>,
    ) -> Result<UploadProgress, DocumentError> {
        let (declared, owner) = (upload.declared, upload.owner);
        match self.is_as_declared(upload).await {
            Ok(true) => {}
            Ok(false) => {
                self.give_up(&upload.id).await?;
                return Err(DocumentError::field("sha256", &rule::WHOLE));
            }
            // Another stream of the same upload came first.
            Err(DocumentError::CallerUnknown) if self.is_here(declared, owner).await? => {
                return Ok(whole(declared));
            }
            Err(error) => return Err(error),
        }
        let (id, now_us) = (upload.id.as_str(), self.clock.now_us());
        let new = NewUpload {
            upload: id,
            digest: declared.digest().as_bytes(),
            owner: "",
            size: upload.size,
            content_type: declared.content_type(),
        };
        transact!(&self.database, statements, connection, {
            if !statements::end_upload(connection, id).await? {
                return Ok(());
            }
            // The same bytes are stored once, whoever brought them.
            if !statements::insert_document(connection, &new, now_us).await? {
                statements::drop_chunks(connection, id).await?;
            }
            statements::insert_holder(connection, new.digest, owner).await
        })?;
        if self.is_here(declared, owner).await? {
            Ok(whole(declared))
        } else {
            Err(DocumentError::CallerOffset { received: 0 })
        }
    }

    async fn is_as_declared(&self, upload: &Upload<'_>) -> Result<bool, DocumentError> {
        let (mut hashed, mut size) = (Context::new(&SHA256), 0);
        for ordinal in 0..upload.declared.size().div_ceil(DOCUMENT_CHUNK as u64) {
            let content = self.chunk(&upload.id, ordinal).await?.content;
            hashed.update(&content);
            size += length(&content);
        }
        let digest = hashed.finish();
        Ok(
            size == upload.declared.size()
                && digest.as_ref() == upload.declared.digest().as_bytes(),
        )
    }

    /// Whether an owner has brought the document, and it is what it is declared to be. Whoever only knows its digest learns nothing.
    async fn is_here(
        &self,
        declared: &DeclaredDocument,
        owner: &str,
    ) -> Result<bool, DocumentError> {
        let digest = declared.digest().as_bytes();
        let held = reading!(&self.database, statements, connection, {
            statements::is_held(connection, digest, owner).await
        })?;
        if !held {
            return Ok(false);
        }
        let Some(stored) = self.find(declared.digest()).await? else {
            return Ok(false);
        };
        if stored.size != declared.size() {
            return Err(DocumentError::field("size", &rule::WHOLE));
        }
        if stored.content_type != declared.content_type()
            && !declared.fits(&self.chunk(&stored.upload, 0).await?.content)
        {
            return Err(DocumentError::field("content_type", &rule::SIGNATURE));
        }
        let now_us = self.clock.now_us();
        transact!(&self.database, statements, connection, {
            statements::touch(connection, digest, now_us).await
        })?;
        Ok(true)
    }

    async fn give_up(&self, upload: &str) -> Result<(), DocumentError> {
        transact!(&self.database, statements, connection, {
            statements::end_upload(connection, upload).await?;
            statements::drop_chunks(connection, upload).await
        })?;
        Ok(())
    }
}

const fn whole(declared: &DeclaredDocument) -> UploadProgress {
    UploadProgress {
        received: declared.size(),
        complete: true,
    }
}
