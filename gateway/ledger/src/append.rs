//! What callers hand to the ledger, and what they get back.

use std::{fmt, ops::Range, sync::Arc};

use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{Entry, PrivatePart},
};
use bytes::Bytes;

use crate::{
    digest::Hash, entry::EntryError, keyring::Month, reconcile::ReconcileStep, tree::Batch,
};

/// One entry to append, with what has to happen in the same transaction.
///
/// The caller leaves `version`, `suite`, `uid`, `private_commitment`, `time_us`, `clock` and `replica` unset: the
/// ledger fills them and overwrites what stands there.
#[derive(Clone, Default)]
pub struct Append {
    /// The entry.
    pub entry: Entry,
    /// Its private part, stored encrypted beside it.
    pub private: Option<PrivatePart>,
    /// Salt of the commitment to the private part, 32 random bytes, where the caller opens it to others. Otherwise
    /// the ledger makes one.
    pub salt: Option<[u8; 32]>,
    /// Changes that commit together with the entry, or not at all.
    pub effects: Vec<Effect>,
}

impl Append {
    /// An entry without private part and effects.
    pub const fn new(entry: Entry) -> Self {
        Self {
            entry,
            private: None,
            salt: None,
            effects: Vec::new(),
        }
    }

    /// Adds the private part. An empty one counts as none.
    #[must_use]
    pub fn with_private(mut self, private: PrivatePart) -> Self {
        self.private = Some(private);
        self
    }

    /// Sets the salt of the commitment.
    #[must_use]
    pub const fn with_salt(mut self, salt: [u8; 32]) -> Self {
        self.salt = Some(salt);
        self
    }

    /// Adds an effect.
    #[must_use]
    pub fn with(mut self, effect: Effect) -> Self {
        self.effects.push(effect);
        self
    }
}

/// Never shows the private part or a document.
impl fmt::Debug for Append {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Append")
            .field("kind", &self.entry.kind)
            .field("method", &self.entry.method)
            .field("private", &self.private.is_some())
            .field("effects", &self.effects)
            .finish_non_exhaustive()
    }
}

/// A change that commits together with its entry. Calls are known by the exchange, attempt and side of the entry,
/// and by the peer that is named here.
#[derive(Clone, PartialEq, Eq)]
pub enum Effect {
    /// The provider's claim: this exchange and attempt of the consumer's ledger was not seen before.
    /// Otherwise the append fails with [`AppendError::Replayed`].
    Claim {
        /// The consumer's ledger: its city.
        consumer: String,
    },
    /// The call ends: it must be in flight, otherwise the append fails with [`AppendError::AlreadyClosed`].
    Close {
        /// The other side, as it was named when the call was opened.
        peer: String,
    },
    /// Removes a document, if it is there, and counts the revision up.
    DeleteDocument {
        /// Kind of document.
        kind: DocumentKind,
        /// Its key.
        key: String,
    },
    /// Entries lie in the archive, and their rows may go: see [`Ledger::write_run`](crate::Ledger::write_run). They must be the oldest that are not
    /// archived yet, otherwise the append fails with [`AppendError::Overtaken`].
    Detach {
        /// The indices.
        entries: Range<u64>,
    },
    /// Removes private parts: ciphertext with salt, and tokens, of the entries at these indices, which rise.
    Erase {
        /// The indices.
        indices: Vec<u64>,
    },
    /// Keeps what another city has proven, beside the entry. Evidence is never removed.
    Evidence {
        /// What it is.
        kind: EvidenceKind,
        /// Its bytes.
        bytes: Bytes,
    },
    /// The call is in flight from now on, until it is closed by this replica or, when this replica's
    /// lease has run out, by another one.
    Open {
        /// The other side: what tells the calls of one attempt to several cities apart.
        peer: String,
    },
    /// Stores a document in place of the one with its key, and counts the revision up.
    PutDocument {
        /// Kind of document.
        kind: DocumentKind,
        /// Its key.
        key: String,
        /// Its content.
        bytes: Vec<u8>,
    },
    /// A part of the exchanges with another city is compared.
    Reconciled(ReconcileStep),
    /// Closes a month: every replica destroys its keys, of which nothing can be opened or found any more.
    RetireMonth(Month),
}

impl fmt::Debug for Effect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Claim { consumer } => write!(f, "Claim({consumer})"),
            Self::Close { peer } => write!(f, "Close({peer})"),
            Self::DeleteDocument { kind, key } => write!(f, "DeleteDocument({kind:?}, {key})"),
            Self::Detach { entries } => write!(f, "Detach({entries:?})"),
            Self::Erase { indices } => write!(f, "Erase({} entries)", indices.len()),
            Self::Evidence { kind, bytes } => {
                write!(f, "Evidence({kind:?}, {} bytes)", bytes.len())
            }
            Self::Open { peer } => write!(f, "Open({peer})"),
            Self::PutDocument { kind, key, bytes } => {
                write!(f, "PutDocument({kind:?}, {key}, {} bytes)", bytes.len())
            }
            Self::Reconciled(step) => write!(f, "Reconciled({}, {})", step.city, step.until_ms),
            Self::RetireMonth(month) => write!(f, "RetireMonth({month})"),
        }
    }
}

/// Kind of evidence. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum EvidenceKind {
    /// The receipt that the other side gave: a serialised `banqiao.ledger.v1.Receipt`, as it came.
    Receipt = 1,
}

impl EvidenceKind {
    /// The number that is stored.
    pub(crate) const fn number(self) -> i16 {
        self as i16
    }
}

/// Kind of a document that lives beside the entries. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DocumentKind {
    /// A registered descriptor set; the key is its digest.
    DescriptorSet = 2,
    /// The directory in force; the key is `current`.
    Directory = 3,
    /// A proposal to erase private parts; the key is its id.
    Erasure = 4,
    /// A grant; the key is its id.
    Grant = 1,
}

impl DocumentKind {
    /// The number that is stored.
    pub(crate) const fn number(self) -> i16 {
        self as i16
    }
}

/// A document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Its key, unique in its kind.
    pub key: String,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// Where an entry was committed.
#[derive(Clone, Debug)]
pub struct Appended {
    /// Its index in the ledger.
    pub index: u64,
    /// Its leaf hash.
    pub leaf: Hash,
    bytes: Bytes,
    batch: Arc<Batch>,
}

/// The same entry at the same place.
impl PartialEq for Appended {
    fn eq(&self, other: &Self) -> bool {
        (self.index, self.leaf) == (other.index, other.leaf)
    }
}

impl Eq for Appended {}

impl Appended {
    pub(crate) const fn new(leaf: Hash, bytes: Bytes, index: u64, batch: Arc<Batch>) -> Self {
        Self {
            index,
            leaf,
            bytes,
            batch,
        }
    }

    /// The entry as it is in the ledger.
    pub const fn entry(&self) -> &Bytes {
        &self.bytes
    }

    /// The checkpoint that was signed with the commit: a C2SP signed note.
    pub fn checkpoint(&self) -> &str {
        self.batch.checkpoint()
    }

    /// Proof that the entry is in the tree of [`Self::checkpoint`] (RFC 6962 §2.1.1).
    pub fn inclusion(&self) -> Vec<Hash> {
        // The batch is the one that the entry was committed in.
        self.batch.inclusion(self.index).unwrap_or_default()
    }
}

/// Why an entry was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The call is not in flight: it was closed before, never opened, or closed for a lost lease.
    #[error("the call is not open in the ledger")]
    AlreadyClosed,
    /// The ledger is read-only until its storage has been verified again.
    #[error("the ledger is frozen")]
    Frozen,
    /// The caller made an entry that has no canonical form.
    #[error("the entry is malformed")]
    Invalid(#[source] EntryError),
    /// Another replica has taken this one for dead and closes its calls.
    #[error("this replica lost its lease")]
    LeaseLost,
    /// Other entries are the next to be archived: somebody else has archived some meanwhile.
    #[error("other entries are the next to be archived")]
    Overtaken,
    /// More appends are waiting than the queue holds.
    #[error("the ledger's queue is full")]
    QueueFull,
    /// The claim exists.
    #[error("the exchange and attempt were seen before")]
    Replayed,
    /// The entry or its private part exceeds 65,535 bytes.
    #[error("the entry is too large")]
    TooLarge,
    /// The ledger cannot be written now. Nothing was appended, or, when the wait was given up, it may be.
    #[error("the ledger cannot be written")]
    Unavailable,
}

impl AppendError {
    /// The reason that a caller is refused with.
    pub const fn reason(&self) -> Reason {
        match self {
            Self::AlreadyClosed | Self::LeaseLost => Reason::LeaseLost,
            Self::Frozen
            | Self::Invalid(_)
            | Self::Overtaken
            | Self::QueueFull
            | Self::Unavailable => Reason::LedgerUnavailable,
            Self::Replayed => Reason::Replayed,
            Self::TooLarge => Reason::MetadataTooLarge,
        }
    }
}
