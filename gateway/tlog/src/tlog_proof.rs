//! C2SP `tlog-proof`: everything that shows offline that an entry is in a log: index, inclusion proof, and a
//! checkpoint with its cosignatures.

use std::{fmt, str};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    hash::Hash,
    note::{MAX_NOTE_BYTES, Note, NoteError, Verifier},
    proof::{MAX_PROOF_HASHES, ProofError, verify_inclusion},
    text,
};

/// The most extra data, in bytes: enough for an entry.
pub const MAX_EXTRA_BYTES: usize = 65_535;

/// The largest proof, in bytes.
pub const MAX_TLOG_PROOF_BYTES: usize = MAX_HEAD_BYTES + MAX_NOTE_BYTES;

const HEADER: &str = "c2sp.org/tlog-proof@v1";

/// Header, extra line, index line of 27 bytes at most, proof lines of 45 each, and the empty line.
const MAX_HEAD_BYTES: usize =
    HEADER.len() + 1 + 7 + MAX_EXTRA_BYTES.div_ceil(3) * 4 + 27 + MAX_PROOF_HASHES * 45 + 1;

/// Why bytes are not a proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlogProofError {
    /// The note is not a checkpoint.
    #[error("the proof has no checkpoint")]
    Checkpoint(#[source] CheckpointError),
    /// Not base64, empty, or more than [`MAX_EXTRA_BYTES`].
    #[error("the extra data is not 1 to 65,535 bytes in base64")]
    Extra,
    /// Not header, index, hashes, an empty line and a checkpoint.
    #[error("not a C2SP tlog-proof of version 1")]
    Form,
    /// A line of the inclusion proof is not the base64 of 32 bytes.
    #[error("line {0} of the inclusion proof is not a hash")]
    Hash(usize),
    /// Not a decimal number without leading zeroes, below 2^63.
    #[error("the index is not a decimal number below 2^63 without leading zeroes")]
    Index,
    /// What follows the empty line is not a note.
    #[error("the proof has no signed note")]
    Note(#[source] NoteError),
    /// More than [`MAX_TLOG_PROOF_BYTES`] or [`MAX_PROOF_HASHES`].
    #[error("the proof is too long")]
    TooLong,
}

/// Why a well-formed proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnprovenError {
    /// The checkpoint is not one of the log.
    #[error("the proof has no checkpoint of the log")]
    Checkpoint(#[source] CheckpointError),
    /// The leaf is not shown to be in the tree of the checkpoint.
    #[error("the entry is not shown to be in the log")]
    Inclusion(#[source] ProofError),
}

/// A proof that an entry is in a log. Parsed, not verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlogProof {
    extra: Option<Vec<u8>>,
    index: u64,
    path: Vec<Hash>,
    note: Note,
    checkpoint: Checkpoint,
}

impl TlogProof {
    /// A proof to write: index and inclusion proof of a leaf in the tree of a checkpoint.
    ///
    /// # Errors
    ///
    /// [`TlogProofError::TooLong`] above [`MAX_PROOF_HASHES`], [`TlogProofError::Index`] from 2^63 on,
    /// [`TlogProofError::Checkpoint`] when the note is none.
    pub fn new(index: u64, path: Vec<Hash>, note: Note) -> Result<Self, TlogProofError> {
        if path.len() > MAX_PROOF_HASHES {
            return Err(TlogProofError::TooLong);
        }
        if i64::try_from(index).is_err() {
            return Err(TlogProofError::Index);
        }
        let checkpoint = note.text().parse().map_err(TlogProofError::Checkpoint)?;
        Ok(Self {
            extra: None,
            index,
            path,
            note,
            checkpoint,
        })
    }

    /// The same proof with data that the application finds useful beside it. Nobody signs it.
    ///
    /// # Errors
    ///
    /// [`TlogProofError::Extra`] unless it is 1 to [`MAX_EXTRA_BYTES`].
    pub fn with_extra(self, extra: Vec<u8>) -> Result<Self, TlogProofError> {
        if extra.is_empty() || extra.len() > MAX_EXTRA_BYTES {
            return Err(TlogProofError::Extra);
        }
        Ok(Self {
            extra: Some(extra),
            ..self
        })
    }

    /// Reads a proof of at most [`MAX_TLOG_PROOF_BYTES`].
    ///
    /// # Errors
    ///
    /// See [`TlogProofError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, TlogProofError> {
        if bytes.len() > MAX_TLOG_PROOF_BYTES {
            return Err(TlogProofError::TooLong);
        }
        let proof = str::from_utf8(bytes).map_err(|_| TlogProofError::Form)?;
        let (head, note) = proof.split_once("\n\n").ok_or(TlogProofError::Form)?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(HEADER) {
            return Err(TlogProofError::Form);
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Some(extra) => {
                lines.next();
                Some(text::decode(extra).ok_or(TlogProofError::Extra)?)
            }
            None => None,
        };
        let index = lines
            .next()
            .and_then(|line| line.strip_prefix("index "))
            .ok_or(TlogProofError::Form)?;
        let index = text::size(index).ok_or(TlogProofError::Index)?;
        let mut path = Vec::new();
        for (position, line) in lines.enumerate() {
            if position == MAX_PROOF_HASHES {
                return Err(TlogProofError::TooLong);
            }
            path.push(text::hash(line).ok_or(TlogProofError::Hash(position + 1))?);
        }
        let note = Note::parse(note.as_bytes()).map_err(TlogProofError::Note)?;
        let proof = Self::new(index, path, note)?;
        match extra {
            Some(extra) => proof.with_extra(extra),
            None => Ok(proof),
        }
    }

    /// Data beside the proof, which nobody signed.
    pub fn extra(&self) -> Option<&[u8]> {
        self.extra.as_deref()
    }

    /// Index of the entry in the log.
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// The inclusion proof, the leaf's sibling first.
    pub fn path(&self) -> &[Hash] {
        &self.path
    }

    /// What the checkpoint claims: its origin says whose keys [`Self::verify`] needs.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The checkpoint as it was signed, with the signatures of log and witnesses.
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// Verifies that `leaf`, a leaf hash, is in the log `origin`, whose keys are `keys`. Gives the checkpoint.
    ///
    /// Witnesses are counted apart, with [`witnessed`](crate::cosignature::witnessed) over [`Self::note`]: without
    /// them the log may have shown this tree to nobody else.
    ///
    /// # Errors
    ///
    /// See [`UnprovenError`].
    pub fn verify(
        &self,
        leaf: &Hash,
        origin: &str,
        keys: &[Verifier],
    ) -> Result<Checkpoint, UnprovenError> {
        let checkpoint =
            Checkpoint::open(&self.note, origin, keys).map_err(UnprovenError::Checkpoint)?;
        verify_inclusion(leaf, self.index, &self.path, &checkpoint.head())
            .map_err(UnprovenError::Inclusion)?;
        Ok(checkpoint)
    }
}

/// The proof as it is stored, by custom in a file ending in `.tlog-proof`.
impl fmt::Display for TlogProof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{HEADER}")?;
        if let Some(extra) = &self.extra {
            writeln!(f, "extra {}", text::encode(extra))?;
        }
        writeln!(f, "index {}", self.index)?;
        for hash in &self.path {
            writeln!(f, "{}", text::encode(hash))?;
        }
        write!(f, "\n{}", self.note)
    }
}

#[cfg(test)]
mod tests;
