//! The steps of everything that the ledger writes.
//!
//! A crash may come between any two of them. The crash tests take their list from here, so that a step that is added is
//! tested; a gateway does nothing at them.

macro_rules! steps {
    ($($(#[doc = $text:literal])+ $step:ident = $name:literal,)+) => {
        /// A step that the ledger has just reached.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Step {
            $($(#[doc = $text])+ $step,)+
        }

        impl Step {
            /// Every step.
            pub const ALL: &[Self] = &[$(Self::$step),+];

            /// Its name in tests.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$step => $name,)+
                }
            }
        }
    };
}

steps! {
    /// The database is open and its tables are up to date, for the first time in this process.
    Opened = "step:opened",
    /// What is stored has been verified.
    Verified = "step:verified",
    /// The log is named and its missing tiles are written, but not committed.
    Planting = "step:planting",
    /// That is committed.
    Planted = "step:planted",
    /// This boot has its lease.
    LeaseTaken = "step:lease-taken",
    /// A commit holds the lock of the head.
    HeadLocked = "step:head-locked",
    /// What the batch depends on has been looked up.
    LookedUp = "step:looked-up",
    /// The batch is planned, and its checkpoint signed.
    Planned = "step:planned",
    /// The documents that the batch changes are written.
    DocumentsStored = "step:documents-stored",
    /// The tiles that the batch makes full are written.
    TilesStored = "step:tiles-stored",
    /// The rows are written, and the head is not. SQLite, with a large batch: PostgreSQL takes rows and head at once.
    RowsStored = "step:rows-stored",
    /// Rows and head with its checkpoint are written; the COMMIT is not.
    Committing = "step:committing",
    /// The COMMIT is done, and nobody was told.
    Committed = "step:committed",
    /// The callers have their answers.
    Answered = "step:answered",
    /// The newest checkpoint is about to be published.
    Publishing = "step:publishing",
    /// It is published.
    Published = "step:published",
    /// Our witness is about to move on, before it cosigns.
    SteppingWitness = "step:stepping-witness",
    /// It has.
    WitnessStepped = "step:witness-stepped",
    /// Another city's cosignature is about to be kept.
    KeepingCosignature = "step:keeping-cosignature",
    /// It is kept.
    CosignatureKept = "step:cosignature-kept",
    /// The lease is about to be renewed.
    Renewing = "step:renewing",
    /// It is renewed.
    Renewed = "step:renewed",
    /// Rows of archived entries are about to be removed.
    DroppingArchived = "step:dropping-archived",
    /// They are.
    ArchivedDropped = "step:archived-dropped",
    /// A dead boot is forbidden to write, but that is not committed.
    Fencing = "step:fencing",
    /// That is committed.
    Fenced = "step:fenced",
    /// The calls that it left open are about to be closed.
    ClosingOrphans = "step:closing-orphans",
    /// They are closed; its lease is still there.
    OrphansClosed = "step:orphans-closed",
    /// After a failure the database is open again.
    Reopened = "step:reopened",
    /// What became of a commit without an answer is known, and nobody was told.
    Resolved = "step:resolved",
    /// The ledger can be written again.
    Recovered = "step:recovered",
    /// The lease is about to be given up at the end.
    Releasing = "step:releasing",
    /// It is given up.
    Released = "step:released",
}
