//! Receipts: an entry with the proof that it is in a ledger (LEDGER.md §3). Pure: whoever holds the ledger's public key
//! can verify one.

use std::{collections::HashMap, fmt, mem, sync::Arc};

use banqiao_proto::ledger::v1::{Entry, Receipt};
use banqiao_tlog::{
    checkpoint::{Checkpoint, CheckpointError},
    hash::TreeHead,
    note::{Note, NoteError, Verifier},
    proof::{ProofError, proof_hashes, verify_inclusion},
};
use bytes::Bytes;
use parking_lot::Mutex;
use prost::Message as _;

use crate::{
    append::Appended,
    digest::{Hash, leaf_hash, sha256},
    entry::{self, Decoded, EntryError},
};

mod agree;

pub use agree::{Disagreement, Expected, MAX_CLOCK_BOUND_US};

/// Largest receipt in bytes, so that it fits into the metadata of a call.
pub const MAX_RECEIPT_BYTES: usize = 4_096;
/// Largest checkpoint of a receipt: three lines and the signature of the log's key, or of two while one replaces the other.
const MAX_CHECKPOINT_BYTES: usize = 1_024;
/// Checkpoints that are remembered as verified, in each of two generations.
const REMEMBERED: usize = 1_024;

/// A receipt as it is handed out.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// The serialised `banqiao.ledger.v1.Receipt`.
    pub bytes: Bytes,
    /// SHA-256 of the bytes: what the other side's entry names it by.
    pub hash: Hash,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

impl Appended {
    /// The receipt of the entry. `None` where it would be larger than [`MAX_RECEIPT_BYTES`], as that of a long stream that
    /// was cut off is: its entry holds a frontier for each 1,024 messages.
    pub fn receipt(&self) -> Option<Issued> {
        let receipt = Receipt {
            entry: self.entry().to_vec(),
            index: self.index,
            inclusion_path: self.inclusion().concat(),
            checkpoint: self.checkpoint().to_owned(),
        };
        let bytes = Bytes::from(receipt.encode_to_vec());
        if bytes.len() > MAX_RECEIPT_BYTES {
            return None;
        }
        let hash = sha256(&bytes);
        Some(Issued { bytes, hash })
    }
}

/// Why a receipt proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The checkpoint is not one of the ledger: another origin, or not signed by its key.
    #[error("the checkpoint is not one of the ledger")]
    Checkpoint(#[source] CheckpointError),
    /// The entry is not in canonical form.
    #[error("the entry is malformed")]
    Entry(#[source] EntryError),
    /// The entry is not shown to be in the tree of the checkpoint.
    #[error("the entry is not in the tree of the checkpoint")]
    Inclusion(#[source] ProofError),
    /// Not a protobuf message of the type.
    #[error("not a receipt")]
    Malformed,
    /// The entry is of a newer version of the format.
    #[error("the entry is of version {0}, which this program does not know")]
    Newer(u32),
    /// The checkpoint is not a signed note.
    #[error("the checkpoint is not a signed note")]
    Note(#[source] NoteError),
    /// More than [`MAX_RECEIPT_BYTES`], or a checkpoint of more than 1,024.
    #[error("a receipt has at most 4,096 bytes, and its checkpoint 1,024")]
    TooLarge,
}

/// A receipt whose entry is proven to be in the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Proven {
    /// The entry.
    pub entry: Box<Entry>,
    /// Its leaf hash.
    pub leaf: Hash,
    /// Its index.
    pub index: u64,
    /// The tree of the receipt's checkpoint.
    pub head: TreeHead,
    /// The checkpoint: a signed note.
    pub checkpoint: String,
    /// SHA-256 of the receipt.
    pub hash: Hash,
}

/// Verifies a receipt of the ledger with an origin and its keys.
///
/// One signature is verified for each checkpoint, not for each receipt: a commit of many entries has one checkpoint. The
/// keys are asked for only where a checkpoint is not known yet.
///
/// # Errors
///
/// See [`ReceiptError`]. Whether the entry is of the call in hand is another question: [`Expected::disagreement`].
pub fn verify(
    bytes: &[u8],
    origin: &str,
    keys: impl FnOnce() -> Vec<Verifier>,
    known: &KnownCheckpoints,
) -> Result<Proven, ReceiptError> {
    if bytes.len() > MAX_RECEIPT_BYTES {
        return Err(ReceiptError::TooLarge);
    }
    let receipt = Receipt::decode(bytes).map_err(|_| ReceiptError::Malformed)?;
    let entry = match entry::decode(&receipt.entry).map_err(ReceiptError::Entry)? {
        Decoded::Entry(entry) => entry,
        Decoded::Newer { version } => return Err(ReceiptError::Newer(version)),
    };
    if receipt.checkpoint.len() > MAX_CHECKPOINT_BYTES {
        return Err(ReceiptError::TooLarge);
    }
    let hashes: Vec<&[u8]> = receipt.inclusion_path.chunks(32).collect();
    let path = proof_hashes(&hashes).map_err(ReceiptError::Inclusion)?;
    let head = known.open(&receipt.checkpoint, origin, keys)?;
    let leaf = leaf_hash(&receipt.entry);
    verify_inclusion(&leaf, receipt.index, &path, &head).map_err(ReceiptError::Inclusion)?;
    Ok(Proven {
        entry,
        leaf,
        index: receipt.index,
        head,
        checkpoint: receipt.checkpoint,
        hash: sha256(bytes),
    })
}

/// The log that a receipt says it is of, by the first line of its checkpoint. Nothing of it is verified.
pub fn origin(bytes: &[u8]) -> Option<String> {
    let receipt = Receipt::decode(bytes).ok()?;
    let (origin, _) = receipt.checkpoint.split_once('\n')?;
    Some(origin.to_owned())
}

/// Checkpoints whose signature was verified. Bounded: the older half is forgotten when it is full.
///
/// Whoever changes the keys of a log clears it.
#[derive(Debug, Default)]
pub struct KnownCheckpoints(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<Hash, (Arc<str>, TreeHead)>,
    old: HashMap<Hash, (Arc<str>, TreeHead)>,
}

impl KnownCheckpoints {
    /// None is known.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets all.
    pub fn clear(&self) {
        *self.0.lock() = Generations::default();
    }

    fn open(
        &self,
        text: &str,
        origin: &str,
        keys: impl FnOnce() -> Vec<Verifier>,
    ) -> Result<TreeHead, ReceiptError> {
        let hash = sha256(text.as_bytes());
        {
            let known = self.0.lock();
            let found = known.young.get(&hash).or_else(|| known.old.get(&hash));
            if let Some((of, head)) = found
                && **of == *origin
            {
                return Ok(*head);
            }
        }
        let note = Note::parse(text.as_bytes()).map_err(ReceiptError::Note)?;
        let head = Checkpoint::open(&note, origin, &keys())
            .map_err(ReceiptError::Checkpoint)?
            .head();
        let mut known = self.0.lock();
        if known.young.len() >= REMEMBERED {
            known.old = mem::take(&mut known.young);
        }
        known.young.insert(hash, (origin.into(), head));
        Ok(head)
    }
}

#[cfg(test)]
mod tests;
