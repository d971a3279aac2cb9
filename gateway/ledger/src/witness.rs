//! What a city's witness keeps beside its ledger: the newest checkpoint that it cosigned of each other log, and the
//! cosignatures that its own checkpoints got (C2SP tlog-witness, tlog-cosignature).

use banqiao_tlog::hash::{Hash, TreeHead};

/// A step of the witness's memory of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WitnessStep {
    /// Which log.
    pub origin: String,
    /// What must still be the newest when the step is made. `None`: nothing was cosigned yet.
    pub previous: Option<TreeHead>,
    /// What is cosigned next.
    pub next: TreeHead,
    /// The checkpoint, a signed note.
    pub note: String,
}

/// What shows that receipts of another log are of the history that its witnesses saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptLinks {
    /// Which log.
    pub origin: String,
    /// The witnessed checkpoint: a signed note with its cosignatures.
    pub note: String,
    /// Entries at that checkpoint.
    pub size: u64,
    /// Trees of the checkpoints of receipts, each with the proof that it is the beginning of the witnessed one
    /// (RFC 6962 §2.1.2).
    pub links: Vec<(TreeHead, Vec<Hash>)>,
}

/// Two checkpoints that a log has signed and that cannot both be of one history: kept for ever.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contradiction {
    /// Which log.
    pub origin: String,
    /// When it was found, microseconds UTC.
    pub time_us: i64,
    /// The witnessed checkpoint.
    pub first: String,
    /// The other one, as a receipt or another witness had it.
    pub second: String,
}

/// Kind of a credential. The numbers are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CredentialKind {
    /// A certificate (DER) of a system that called; its name is the SHA-256 of its public key.
    Certificate = 1,
    /// A CRL (DER); its name is the SHA-256 of its city's trust domain.
    Crl = 2,
}

impl CredentialKind {
    /// The number that is stored.
    pub(crate) const fn number(self) -> i16 {
        self as i16
    }
}

/// A certificate or CRL, as it was at some time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// What it is.
    pub kind: CredentialKind,
    /// What it is found by.
    pub name: [u8; 32],
    /// When it was first seen, microseconds UTC.
    pub time_us: i64,
    /// DER.
    pub bytes: Vec<u8>,
}

/// A receipt's tree, linked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The witnessed checkpoint: a signed note with its cosignatures.
    pub note: String,
    /// The proof that the receipt's tree is the beginning of the witnessed one.
    pub proof: Vec<Hash>,
}

/// A witness's signature under one of our checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptCosignature {
    /// Entries at the checkpoint.
    pub size: u64,
    /// Name of the witness's key.
    pub witness: String,
    /// When it cosigned, in seconds since 1970.
    pub time_s: u64,
    /// The signature line, without its newline.
    pub line: String,
}
