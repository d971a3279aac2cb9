//! What a verification finds wrong, and where.

use std::path::PathBuf;

use banqiao_tlog::{
    checkpoint::CheckpointError,
    hash::TreeHead,
    tile::{BundleError, BundleId, TileId},
    verify::Divergence,
};
use uuid::Uuid;

use crate::{entry::EntryError, rotation::RotationError};

/// The first thing that is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The first index that fails: of the entry itself, of the first entry under a tile or root that can be wrong, or
    /// of the last entry that a checkpoint covers.
    pub index: u64,
    /// What is wrong.
    pub problem: Problem,
}

impl Finding {
    pub(super) const fn new(index: u64, problem: Problem) -> Self {
        Self { index, problem }
    }

    /// A departure from the computed tree. `fallback` is named where no leaf is in question.
    pub(super) fn departure(divergence: Divergence, fallback: u64) -> Self {
        let index = divergence.first_index().unwrap_or(fallback);
        Self::new(index, Problem::Tree(divergence))
    }

    /// Something wrong with a checkpoint over so many entries.
    pub(super) const fn checkpoint(size: u64, problem: CheckpointProblem) -> Self {
        Self::new(
            size.saturating_sub(1),
            Problem::Checkpoint { size, problem },
        )
    }
}

impl std::fmt::Display for Finding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "index {}: {}", self.index, self.problem)
    }
}

impl std::error::Error for Finding {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        std::error::Error::source(&self.problem)
    }
}

/// What is wrong (LEDGER.md §1 to §3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    /// A file of the archive is not what was archived.
    #[error("the archive's file {} is not what was archived: {problem}", .path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// The digest of a run's sums is not the one that the ledger has.
    #[error("the sums of the archive's run {run} are not those that the ledger has the digest of")]
    ArchiveSums {
        /// The run.
        run: String,
    },
    /// Entries are said to be archived, and no entry of the ledger says so.
    #[error("entries from here to {until} are said to be archived, and no entry archives them")]
    ArchiveUnentered {
        /// The index behind the last of them.
        until: u64,
    },
    /// An entry bundle of a tile tree is malformed.
    #[error("{bundle} is malformed")]
    Bundle {
        /// The bundle.
        bundle: BundleId,
        /// Why.
        #[source]
        source: BundleError,
    },
    /// An entry bundle of a tile tree is not there.
    #[error("{0} is not stored")]
    BundleMissing(BundleId),
    /// A checkpoint is not one, or not one to believe.
    #[error("the checkpoint of {size} entries is not valid")]
    Checkpoint {
        /// Entries that it is over.
        size: u64,
        /// What is wrong.
        #[source]
        problem: CheckpointProblem,
    },
    /// A column that is searched by says something else than the entry.
    #[error("its column {0} does not say what its bytes say")]
    Column(&'static str),
    /// The counters of a boot have a hole, or one of them stands twice.
    #[error(
        "boot {boot} of replica {replica} counts {found} here, {expected} was due: entries were lost, repeated or moved"
    )]
    Counter {
        /// Replica of the configuration.
        replica: String,
        /// Its boot.
        boot: Uuid,
        /// The counter that was due.
        expected: u64,
        /// The counter that is there.
        found: u64,
    },
    /// The bytes are no canonical entry.
    #[error("its bytes are no canonical entry")]
    Entry(#[source] EntryError),
    /// Nothing is stored at an index below the size.
    #[error("the entry is missing")]
    EntryMissing,
    /// An entry is stored that the head does not count.
    #[error("an entry is stored at index {at}, and the head counts {size}")]
    EntrySuperfluous {
        /// Where.
        at: i64,
        /// Entries by the head.
        size: u64,
    },
    /// The frontier in the head row is not that of the entries.
    #[error("the head's frontier is not that of the {size} entries")]
    Frontier {
        /// Entries by the head.
        size: u64,
    },
    /// A KEY entry is not signed by both keys.
    #[error("it changes the ledger's key, and is not valid")]
    KeyChange(#[source] RotationError),
    /// A KEY entry replaces a key that does not sign here.
    #[error("it replaces a key that is not the one which signs the checkpoints before it")]
    KeyUnused,
    /// An epoch after the first does not begin with the entry that names the one before, or one stands elsewhere.
    #[error(
        "a later epoch begins with one entry that names the end of the epoch before, and nothing else is one"
    )]
    Epoch,
    /// The stored leaf hash is not that of the bytes.
    #[error("its stored leaf hash is not that of its bytes")]
    Leaf,
    /// A checkpoint is stored for a size that no ledger has.
    #[error("a checkpoint is stored for {0} entries")]
    NegativeCheckpoint(i64),
    /// The ledger has another origin.
    #[error("the ledger is {found}, not {expected}")]
    Origin {
        /// The origin that was asked for.
        expected: String,
        /// The origin that is stored.
        found: String,
    },
    /// A private part is stored beside an entry that commits to none.
    #[error("a private part is stored beside it, and it commits to none")]
    Private,
    /// The log is not the one that an earlier part of this verification was about.
    #[error("the log was rewritten: it had another root of {} entries when this verification began", .0.size)]
    Rewritten(TreeHead),
    /// The log has fewer entries than when this verification began.
    #[error(
        "the log was rolled back: it had {before} entries when this verification began, and has {now}"
    )]
    RolledBack {
        /// Entries then.
        before: u64,
        /// Entries now.
        now: u64,
    },
    /// The stored root of a tile is not that of its hashes.
    #[error("the stored root of {0} is not that of its hashes")]
    TileRoot(TileId),
    /// A tile is stored that a tree of this size does not have.
    #[error("tile {n} of level {level} is stored, which a tree of {size} entries does not have")]
    TileSuperfluous {
        /// Its level.
        level: i64,
        /// Its number.
        n: i64,
        /// Entries.
        size: u64,
    },
    /// The ledger has no origin.
    #[error("the ledger has no origin: no gateway with a key has opened it")]
    Unnamed,
    /// A tile, root or checkpoint departs from the entries.
    #[error(transparent)]
    Tree(Divergence),
    /// The uid row of an entry names another index, or there is none.
    #[error("the row of its uid {}", .found.map_or_else(|| "is missing".to_owned(), |index| format!("names index {index}")))]
    Uid {
        /// The index that the row names.
        found: Option<i64>,
    },
    /// A uid row names an entry that has another uid, or none that the head counts.
    #[error("a row of uid {uid} names it, which is of no such entry")]
    UidSuperfluous {
        /// The uid.
        uid: Uuid,
    },
}

/// What is wrong with a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointProblem {
    /// It was published for more entries than the ledger has: the ledger was cut off, or rolled back.
    #[error("it was published, and the ledger has {size} entries")]
    Beyond {
        /// Entries of the ledger.
        size: u64,
    },
    /// It is malformed, of another log, or not signed by a known key.
    #[error(transparent)]
    Refused(CheckpointError),
    /// Its key is known, and it is not the one whose turn it is: no KEY entry names it, or it was replaced.
    #[error("it is signed by a key that no KEY entry names, or that was replaced")]
    OtherKey,
    /// It is stored under another size than it states.
    #[error("it states {0} entries")]
    Size(u64),
    /// The head has none, though others were published.
    #[error("the head has none, though checkpoints were published before")]
    Absent,
}
