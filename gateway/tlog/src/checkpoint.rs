//! C2SP `tlog-checkpoint`: what a ledger signs about its tree.

use std::{fmt, str::FromStr};

use crate::{
    hash::{EMPTY_ROOT, Hash, MAX_SIZE, TreeHead},
    note::{MAX_NAME_BYTES, Note, NoteError, SignatureError, Signer, Verifier},
    text,
};

/// Why a note is not a checkpoint, or not one to believe.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// A tree without leaves whose root is not `SHA-256("")`.
    #[error("the root of the empty tree is another")]
    EmptyRoot,
    /// Not exactly three lines: origin, size, root.
    #[error("a checkpoint has exactly three lines: origin, size and root")]
    Form,
    /// Not a note.
    #[error("the checkpoint is not a signed note")]
    Note(#[source] NoteError),
    /// An origin that is empty, too long or not in one line.
    #[error("the origin is one line of 1 to 255 bytes")]
    Origin,
    /// The checkpoint of another log.
    #[error("the checkpoint is of {0}")]
    OtherOrigin(String),
    /// Not the base64 of 32 bytes.
    #[error("the root is not 32 bytes in base64")]
    Root,
    /// Not signed by a known key.
    #[error("the checkpoint is not signed as it must be")]
    Signature(#[source] SignatureError),
    /// Not a decimal number without leading zeroes, at most [`MAX_SIZE`].
    #[error("the size is not a decimal number below 2^63 without leading zeroes")]
    Size,
}

/// The tree of a log at one size, as its three lines say. Read from a string it is parsed, not verified: see
/// [`Self::open`].
///
/// Extension lines, which C2SP permits and advises against, are refused: nobody could say what they mean.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    head: TreeHead,
}

impl Checkpoint {
    /// A checkpoint to sign.
    ///
    /// # Errors
    ///
    /// [`CheckpointError::Origin`], and [`CheckpointError::Size`] above [`MAX_SIZE`].
    pub fn new(origin: &str, head: TreeHead) -> Result<Self, CheckpointError> {
        let control = |byte: u8| byte < b' ';
        if origin.is_empty() || origin.len() > MAX_NAME_BYTES || origin.bytes().any(control) {
            return Err(CheckpointError::Origin);
        }
        if head.size > MAX_SIZE {
            return Err(CheckpointError::Size);
        }
        Ok(Self {
            origin: origin.to_owned(),
            head,
        })
    }

    /// Reads a checkpoint that is signed by a key of its log, of which there may be two while one replaces the other.
    ///
    /// # Errors
    ///
    /// See [`CheckpointError`]. `keys` must be those of `origin`: the name of a key proves nothing.
    pub fn open(note: &Note, origin: &str, keys: &[Verifier]) -> Result<Self, CheckpointError> {
        note.verify(keys).map_err(CheckpointError::Signature)?;
        let checkpoint: Self = note.text().parse()?;
        if checkpoint.origin != origin {
            return Err(CheckpointError::OtherOrigin(checkpoint.origin));
        }
        if checkpoint.head.size == 0 && checkpoint.head.root != EMPTY_ROOT {
            return Err(CheckpointError::EmptyRoot);
        }
        Ok(checkpoint)
    }

    /// Signs the checkpoint. The caller sees to it that it is consistent with all that the log signed before.
    ///
    /// # Errors
    ///
    /// None in practice: a checkpoint is a well-formed text.
    pub fn sign(&self, key: &Signer) -> Result<Note, NoteError> {
        let text = self.to_string();
        let signature = key.sign(&text);
        Note::new(text, signature)
    }

    /// Which log.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Leaves.
    pub const fn size(&self) -> u64 {
        self.head.size
    }

    /// Root over them.
    pub const fn root(&self) -> &Hash {
        &self.head.root
    }

    /// Size and root.
    pub const fn head(&self) -> TreeHead {
        self.head
    }
}

/// The text of the note.
impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let root = text::encode(self.head.root);
        writeln!(f, "{}\n{}\n{root}", self.origin, self.head.size)
    }
}

impl FromStr for Checkpoint {
    type Err = CheckpointError;

    fn from_str(text: &str) -> Result<Self, CheckpointError> {
        let mut lines = text.split('\n');
        let (Some(origin), Some(size), Some(root), Some(""), None) = (
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
            lines.next(),
        ) else {
            return Err(CheckpointError::Form);
        };
        let size = text::size(size).ok_or(CheckpointError::Size)?;
        let root = text::hash(root).ok_or(CheckpointError::Root)?;
        Self::new(origin, TreeHead { size, root })
    }
}

#[cfg(test)]
mod tests;
