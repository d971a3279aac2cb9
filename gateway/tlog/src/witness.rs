//! C2SP `tlog-witness`, `add-checkpoint`: the request of a log, what a witness decides, and its reply.
//!
//! The witness must compare with its record and replace it in one atomic step, and must have stored the new
//! checkpoint before it answers; both belong to the caller, who has the storage.

use std::{fmt, str};

use crate::{
    checkpoint::{Checkpoint, CheckpointError},
    cosignature::{TimeError, WitnessSigner},
    hash::{EMPTY_ROOT, Hash, TreeHead},
    note::{MAX_NOTE_BYTES, Note, NoteError, Signature, SignatureError, Verifier},
    proof::{ProofError, verify_consistency},
    text,
};

/// The most hashes of a consistency proof that a request may carry.
pub const MAX_PROOF_LINES: usize = 63;

/// The largest request, in bytes.
pub const MAX_REQUEST_BYTES: usize = MAX_HEAD_BYTES + MAX_NOTE_BYTES;

/// `Content-Type` of the reply to a conflict.
pub const SIZE_CONTENT_TYPE: &str = "text/x.tlog.size";

/// `old` line of 24 bytes at most, proof lines of 45 each, and the empty line.
const MAX_HEAD_BYTES: usize = 24 + MAX_PROOF_LINES * 45 + 1;

/// Why bytes are not a request.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The note is not a checkpoint.
    #[error("the request has no checkpoint")]
    Checkpoint(#[source] CheckpointError),
    /// No old size, proof lines and empty line before the note.
    #[error("the request is not an old size, proof lines, an empty line and a checkpoint")]
    Form,
    /// What follows the empty line is not a note.
    #[error("the request has no signed note")]
    Note(#[source] NoteError),
    /// A line of the proof is not the base64 of 32 bytes.
    #[error("line {0} of the proof is not a hash")]
    Proof(usize),
    /// More than [`MAX_REQUEST_BYTES`], or [`MAX_PROOF_LINES`].
    #[error("the request is too long")]
    TooLong,
}

/// The body of an `add-checkpoint` request: a checkpoint, and the proof that it grew out of an older one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    old_size: u64,
    proof: Vec<Hash>,
    note: Note,
    checkpoint: Checkpoint,
}

impl AddCheckpoint {
    /// A request to send: the signed checkpoint, the size that the witness last cosigned or 0, and the consistency
    /// proof between them, which is empty from size 0.
    ///
    /// # Errors
    ///
    /// [`RequestError::Checkpoint`] when the note is none, [`RequestError::TooLong`] above [`MAX_PROOF_LINES`].
    pub fn new(old_size: u64, proof: Vec<Hash>, note: Note) -> Result<Self, RequestError> {
        if proof.len() > MAX_PROOF_LINES {
            return Err(RequestError::TooLong);
        }
        let checkpoint = note.text().parse().map_err(RequestError::Checkpoint)?;
        Ok(Self {
            old_size,
            proof,
            note,
            checkpoint,
        })
    }

    /// Reads a request of at most [`MAX_REQUEST_BYTES`]. Nothing of it is verified.
    ///
    /// # Errors
    ///
    /// See [`RequestError`]; each is answered as [`Refusal::Request`].
    pub fn parse(body: &[u8]) -> Result<Self, RequestError> {
        if body.len() > MAX_REQUEST_BYTES {
            return Err(RequestError::TooLong);
        }
        let body = str::from_utf8(body).map_err(|_| RequestError::Form)?;
        let (head, note) = body.split_once("\n\n").ok_or(RequestError::Form)?;
        let mut lines = head.split('\n');
        let old_size = lines
            .next()
            .and_then(|line| line.strip_prefix("old "))
            .and_then(text::size)
            .ok_or(RequestError::Form)?;
        let mut proof = Vec::new();
        for (position, line) in lines.enumerate() {
            if position == MAX_PROOF_LINES {
                return Err(RequestError::TooLong);
            }
            proof.push(text::hash(line).ok_or(RequestError::Proof(position + 1))?);
        }
        let note = Note::parse(note.as_bytes()).map_err(RequestError::Note)?;
        Self::new(old_size, proof, note)
    }

    /// The size that the witness is thought to have cosigned last.
    pub const fn old_size(&self) -> u64 {
        self.old_size
    }

    /// The consistency proof.
    pub fn proof(&self) -> &[Hash] {
        &self.proof
    }

    /// The checkpoint as it was signed. Not to be believed before [`decide`] accepts it.
    pub const fn note(&self) -> &Note {
        &self.note
    }

    /// What the checkpoint claims: its origin says whose keys and record [`decide`] needs.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }
}

/// The body of the request.
impl fmt::Display for AddCheckpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_size)?;
        for hash in &self.proof {
            writeln!(f, "{}", text::encode(hash))?;
        }
        write!(f, "\n{}", self.note)
    }
}

/// A log that a witness knows, and what it last cosigned of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessedLog {
    /// Origin, by which the log is known.
    pub origin: String,
    /// The keys that are trusted for the origin.
    pub keys: Vec<Verifier>,
    /// The checkpoint that was cosigned last, if any ever was.
    pub latest: Option<TreeHead>,
}

/// Why a witness does not cosign. Each is one HTTP status of C2SP `tlog-witness`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// 409: the old size is not the one that was cosigned last. The log starts again from that one.
    #[error("the latest cosigned size is {size}, not {old}")]
    Conflict {
        /// What the request takes for the size that was cosigned last.
        old: u64,
        /// The size that was, or 0.
        size: u64,
    },
    /// 422: a tree without leaves whose root is not `SHA-256("")`.
    #[error("the root of the empty tree is another")]
    EmptyRoot,
    /// 422: the checkpoint is not shown to grow out of the one that was cosigned last. Over two signed checkpoints
    /// this may be proof of a fork, and worth keeping.
    #[error("the checkpoint is not consistent with the one cosigned last")]
    Inconsistent(#[source] ProofError),
    /// 400: the old size is larger than the checkpoint's.
    #[error("the old size {old} is larger than the size {size} of the checkpoint")]
    OldSize {
        /// The old size.
        old: u64,
        /// Size of the checkpoint.
        size: u64,
    },
    /// 400: not a request.
    #[error("not a request to add a checkpoint")]
    Request(#[source] RequestError),
    /// 403: no signature of a trusted key, or a false one in its name.
    #[error("the checkpoint is not signed by the log")]
    Signature(#[source] SignatureError),
    /// 422: a proof from nothing, which needs none.
    #[error("a proof from size 0 is empty")]
    UnneededProof,
    /// 404: a log that this witness does not know.
    #[error("the origin is unknown")]
    UnknownOrigin,
}

impl Refusal {
    /// The HTTP status code.
    pub const fn status(&self) -> u16 {
        match self {
            Self::OldSize { .. } | Self::Request(_) => 400,
            Self::Signature(_) => 403,
            Self::UnknownOrigin => 404,
            Self::Conflict { .. } => 409,
            Self::EmptyRoot | Self::Inconsistent(_) | Self::UnneededProof => 422,
        }
    }

    /// The `Content-Type` of the body.
    pub const fn content_type(&self) -> &'static str {
        match self {
            Self::Conflict { .. } => SIZE_CONTENT_TYPE,
            _ => "text/plain; charset=utf-8",
        }
    }

    /// The body: of a conflict the size in a line, else the reason in a line.
    pub fn body(&self) -> String {
        match self {
            Self::Conflict { size, .. } => format!("{size}\n"),
            _ => format!("{self}\n"),
        }
    }
}

/// A checkpoint that may be cosigned, once it is stored in place of what was latest when it was decided on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    checkpoint: Checkpoint,
    previous: Option<TreeHead>,
}

impl Accepted {
    /// The checkpoint.
    pub const fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// What must still be the latest when the checkpoint is stored; otherwise another request came between and the
    /// reply is a conflict.
    pub const fn previous(&self) -> Option<TreeHead> {
        self.previous
    }

    /// The body of the reply with status 200: one signature line. Only to be sent after the checkpoint was stored.
    ///
    /// # Errors
    ///
    /// A [`TimeError`] when `time`, in seconds since 1970, is not one a cosignature states.
    pub fn reply(&self, key: &WitnessSigner, time: u64) -> Result<String, TimeError> {
        Ok(format!("{}\n", key.cosign(&self.checkpoint, time)?))
    }
}

/// Decides on a request. `log` is what the witness knows of the origin that the request's checkpoint names, if
/// anything.
///
/// # Errors
///
/// The [`Refusal`] that the witness answers with.
pub fn decide(log: Option<&WitnessedLog>, request: &AddCheckpoint) -> Result<Accepted, Refusal> {
    let checkpoint = &request.checkpoint;
    let log = log
        .filter(|log| log.origin == checkpoint.origin())
        .ok_or(Refusal::UnknownOrigin)?;
    request.note.verify(&log.keys).map_err(Refusal::Signature)?;
    let (old, new) = (request.old_size, checkpoint.head());
    if old > new.size {
        return Err(Refusal::OldSize {
            old,
            size: new.size,
        });
    }
    let latest = log.latest.unwrap_or(TreeHead::EMPTY);
    if old != latest.size {
        return Err(Refusal::Conflict {
            old,
            size: latest.size,
        });
    }
    if new.size == 0 && new.root != EMPTY_ROOT {
        return Err(Refusal::EmptyRoot);
    }
    if old > 0 {
        verify_consistency(&latest, &new, &request.proof).map_err(Refusal::Inconsistent)?;
    } else if !request.proof.is_empty() {
        return Err(Refusal::UnneededProof);
    }
    Ok(Accepted {
        checkpoint: checkpoint.clone(),
        previous: log.latest,
    })
}

/// What a witness answered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reply {
    /// 409: the size that the witness cosigned last.
    Conflict(u64),
    /// 200: signatures, to be verified over the checkpoint before they are added to it. Those of unknown keys are
    /// to be ignored.
    Cosigned(Vec<Signature>),
    /// Any other status.
    Refused(u16),
}

/// A reply with status 200 or 409 whose body is not what the status promises.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplyError {
    /// 200 without signature lines.
    #[error("the witness answered without signatures")]
    Signatures(#[source] NoteError),
    /// 409 without a size in a line.
    #[error("the witness answered without a size")]
    Size,
}

impl Reply {
    /// Reads the reply of a witness.
    ///
    /// # Errors
    ///
    /// See [`ReplyError`].
    pub fn parse(status: u16, body: &[u8]) -> Result<Self, ReplyError> {
        match status {
            200 => Signature::parse_lines(body)
                .map(Self::Cosigned)
                .map_err(ReplyError::Signatures),
            409 => str::from_utf8(body)
                .ok()
                .and_then(|body| body.strip_suffix('\n'))
                .and_then(text::size)
                .map(Self::Conflict)
                .ok_or(ReplyError::Size),
            _ => Ok(Self::Refused(status)),
        }
    }
}

#[cfg(test)]
mod tests;
