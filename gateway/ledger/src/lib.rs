//! The ledger of one city: canonical entries, their digests and private parts, the batcher that commits
//! them in groups, two stores, and search.
//!
//! What it is not: it decides nothing about calls, and it speaks to no other city.
//!
//! ```text
//! worker ─ Appender ─▶ queue ─▶ batcher (own thread) ─▶ plan ─▶ one transaction ─▶ SQLite | PostgreSQL
//!    ▲                             │
//!    └── releaser (one wake) ◀─────┘ answers of one commit
//! ```

#![forbid(unsafe_code)]

mod anchor;
mod append;
mod appender;
mod archive;
mod batcher;
mod entry;
mod epoch;
mod facet;
mod index;
mod keyring;
mod ledger;
mod plan;
mod prepare;
mod private;
mod query;
mod queue;
mod reader;
pub mod reconcile;
mod report;
pub mod retention;
mod rotation;
mod step;
mod store;
mod tally;
mod tree;
mod witness;

pub mod backup;
pub mod digest;
pub mod receipt;
pub mod synthetic;
pub mod verify;

pub use append::{Append, AppendError, Appended, Document, DocumentKind, Effect, EvidenceKind};
pub use appender::{Appender, Waiting};
pub use archive::{ARCHIVED, Run};
pub use entry::{Decoded, EntryError, MAX_ENTRY_BYTES, VERSION, decode, encode};
pub use epoch::{EpochError, Standing, begin_epoch, standing};
pub use keyring::{KeyringError, Month};
pub use ledger::{
    DEFAULT_KEY_OVERLAP, DEFAULT_QUEUE, DEFAULT_RESERVE, DEFAULT_SUMMARY_INTERVAL,
    DEFAULT_TOKEN_GROUP, FailureKind, FreezeReason, LeaseSettings, Ledger, LedgerError,
    LedgerObserver, LedgerSettings, LedgerState,
};
pub use private::{PrivateError, check_opening, new_salt};
pub use query::{Query, QueryError};
pub use reader::{LogFile, LogFiles, Order, Page, ProofError, Reader, Stored, Tail};
pub use report::SubjectReport;
pub use rotation::RotationError;
pub use step::Step;
pub use store::StoreError;
pub use witness::{
    Contradiction, Credential, CredentialKind, KeptCosignature, KeptLinks, Linked, WitnessStep,
};
