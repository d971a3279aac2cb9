//! What a city's witness keeps beside its ledger: the newest checkpoint that it cosigned of each other log, and the
//! cosignatures that its own checkpoints got (C2SP tlog-witness, tlog-cosignature).

use banqiao_tlog::hash::TreeHead;

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
