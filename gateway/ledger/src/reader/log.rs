//! The log as its verifiers read it: checkpoints, tiles, bundles, proofs (C2SP tlog-tiles).

use std::collections::BTreeMap;

use banqiao_tlog::{
    checkpoint::Checkpoint,
    hash::{Hash, TreeHead},
    note::Note,
    proof::{
        SourceError, consistency_proof, consistency_tiles, inclusion_proof, inclusion_tiles,
        proof_hashes, root_tiles, tree_root,
    },
    tile::{BundleId, TileId},
};
use bytes::Bytes;

use super::{
    Reader,
    files::{self, LogFile},
};
use crate::{
    append::EvidenceKind,
    store::StoreError,
    witness::{Contradiction, Credential, CredentialKind, Linked},
};

/// Why a proof cannot be given.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// What was asked for lies outside the tree.
    #[error("the log has no such proof")]
    Outside(#[source] SourceError),
    /// The database cannot be read.
    #[error("the ledger's database cannot be used")]
    Store(#[from] StoreError),
}

impl Reader {
    /// The newest published checkpoint, a C2SP signed note. `None` before the first commit.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn checkpoint(&self) -> Result<Option<String>, StoreError> {
        self.core.reads.checkpoint().await
    }

    /// How the tree of a receipt of another log is linked to what that log's witnesses saw. `None`: not yet.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn link(&self, origin: &str, head: &TreeHead) -> Result<Option<Linked>, StoreError> {
        let Some((note, proof)) = self.core.reads.link(origin, head).await? else {
            return Ok(None);
        };
        let hashes: Vec<&[u8]> = proof.chunks(32).collect();
        let proof = proof_hashes(&hashes).map_err(|_| StoreError::Corrupt("proof"))?;
        Ok(Some(Linked { note, proof }))
    }

    /// The certificate or CRL with a name as it was known at a moment (microseconds UTC); where none was, the first one
    /// after it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn credential(
        &self,
        kind: CredentialKind,
        name: [u8; 32],
        at_us: i64,
    ) -> Result<Option<Credential>, StoreError> {
        let row = self
            .core
            .reads
            .credential(kind.number(), &name, at_us)
            .await?;
        Ok(row.map(|(time_us, bytes)| Credential {
            kind,
            name,
            time_us,
            bytes,
        }))
    }

    /// Checkpoints of other logs that contradict each other, oldest first.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn contradictions(&self) -> Result<Vec<Contradiction>, StoreError> {
        let rows = self.core.reads.contradictions().await?;
        let contradiction = |(origin, time_us, first, second)| Contradiction {
            origin,
            time_us,
            first,
            second,
        };
        Ok(rows.into_iter().map(contradiction).collect())
    }

    /// The first published checkpoint that holds an entry and has so many cosignatures, with them; else the newest that
    /// holds it. `None`: none does yet.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn checkpoint_over(
        &self,
        index: u64,
        cosignatures: u32,
    ) -> Result<Option<String>, StoreError> {
        let reads = &self.core.reads;
        let Some((size, mut note)) = reads.checkpoint_over(index, cosignatures).await? else {
            return Ok(None);
        };
        for line in reads.cosignatures(size).await? {
            note.push_str(&line);
            note.push('\n');
        }
        Ok(Some(note))
    }

    /// What another city has proven beside our entry with an index.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn evidence(
        &self,
        index: u64,
        kind: EvidenceKind,
    ) -> Result<Option<Bytes>, StoreError> {
        let bytes = self.core.reads.evidence(index, kind.number()).await?;
        Ok(bytes.map(Bytes::from))
    }

    /// What other cities have proven beside our entries before an index, newest first, at most so many: the index of the
    /// entry, and the bytes. What has left the database for the archive is not among it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn evidence_before(
        &self,
        before: u64,
        kind: EvidenceKind,
        most: u32,
    ) -> Result<Vec<(u64, Vec<u8>)>, StoreError> {
        let reads = &self.core.reads;
        reads.evidence_before(before, kind.number(), most).await
    }

    /// The newest checkpoint of another log that our witness has cosigned.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn witnessed(&self, origin: &str) -> Result<Option<TreeHead>, StoreError> {
        self.core.reads.witnessed(origin).await
    }

    /// The newest checkpoint of another log that our witness has cosigned, as that log signed it.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn witnessed_note(&self, origin: &str) -> Result<Option<String>, StoreError> {
        self.core.reads.witnessed_note(origin).await
    }

    /// Root of the tree over the first entries.
    ///
    /// # Errors
    ///
    /// When there are not so many, or the database cannot be read.
    pub async fn root(&self, size: u64) -> Result<Hash, ProofError> {
        let tiles = self.tiles(root_tiles(size)).await?;
        let hashes = |id: TileId| tiles.get(&id).map(Vec::as_slice);
        tree_root(size, &hashes).map_err(ProofError::Outside)
    }

    /// The signature lines that other cities' witnesses gave under our checkpoint of some size.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn cosignatures(&self, size: u64) -> Result<Vec<String>, StoreError> {
        self.core.reads.cosignatures(size).await
    }

    /// Entries in the database, by whichever replica.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn size(&self) -> Result<u64, StoreError> {
        self.core.reads.size().await
    }

    /// A tile's hashes. `None` when the tree is not so large.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn tile(&self, id: TileId) -> Result<Option<Vec<Hash>>, StoreError> {
        files::tile(&self.core.reads, id).await
    }

    /// An entry bundle, as C2SP tlog-tiles has it. `None` when the log is not so long.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn bundle(&self, id: BundleId) -> Result<Option<Vec<u8>>, StoreError> {
        files::bundle(&self.core.reads, id).await
    }

    /// A file of the log, as C2SP tlog-tiles has it. `None` when the log is not so long.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn file(&self, file: LogFile) -> Result<Option<Vec<u8>>, StoreError> {
        files::file(&self.core.reads, file).await
    }

    /// The inclusion proof of an entry in the tree of some size (RFC 6962 §2.1.1).
    ///
    /// # Errors
    ///
    /// When the entry or the size lies outside the log, or the database cannot be read.
    pub async fn inclusion(&self, index: u64, size: u64) -> Result<Vec<Hash>, ProofError> {
        let wanted = inclusion_tiles(index, size).map_err(ProofError::Outside)?;
        let tiles = self.tiles(wanted).await?;
        let hashes = |id: TileId| tiles.get(&id).map(Vec::as_slice);
        inclusion_proof(index, size, &hashes).map_err(ProofError::Outside)
    }

    /// The proof that the tree of one size is the beginning of the tree of another (RFC 6962 §2.1.2).
    ///
    /// # Errors
    ///
    /// When a size lies outside the log, or the database cannot be read.
    pub async fn consistency(&self, old: u64, new: u64) -> Result<Vec<Hash>, ProofError> {
        let wanted = consistency_tiles(old, new).map_err(ProofError::Outside)?;
        let tiles = self.tiles(wanted).await?;
        let hashes = |id: TileId| tiles.get(&id).map(Vec::as_slice);
        consistency_proof(old, new, &hashes).map_err(ProofError::Outside)
    }

    /// The tiles that are there.
    async fn tiles(&self, wanted: Vec<TileId>) -> Result<BTreeMap<TileId, Vec<Hash>>, StoreError> {
        let mut tiles = BTreeMap::new();
        for id in wanted {
            if let Some(hashes) = self.tile(id).await? {
                tiles.insert(id, hashes);
            }
        }
        Ok(tiles)
    }

    /// The newest published checkpoint, read.
    ///
    /// # Errors
    ///
    /// When the database cannot be read, or holds no checkpoint there.
    pub async fn head(&self) -> Result<Option<Checkpoint>, StoreError> {
        let Some(note) = self.checkpoint().await? else {
            return Ok(None);
        };
        Note::parse(note.as_bytes())
            .ok()
            .and_then(|note| note.text().parse().ok())
            .map(Some)
            .ok_or(StoreError::Corrupt("checkpoint"))
    }
}
