//! Reconciliation: what this ledger and those of the other cities hold of their exchanges, compared by itself and on
//! demand. Never on the path of a call.
//!
//! Which records agree is pure and in `banqiao_ledger::reconcile`; here stands who is asked for what.

mod comparison;
mod report;
mod task;

use std::{collections::BTreeMap, time::Duration};

use banqiao_directory::CityCode;
use banqiao_ledger::{AppendError, LedgerError, StoreError, reconcile::Malformed};
use banqiao_proto::ledger::v1::{Discrepancy, Reconciled};
use parking_lot::Mutex;

pub(crate) use task::{by_itself, on_demand, settled_ms};

use crate::{local::Counterparts, peers::PeerError};

/// How often each city is compared with by itself. Every call is looked at once; a quarter of an hour is soon enough
/// for what a person then has to look into.
pub const DEFAULT_RECONCILE_INTERVAL: Duration = Duration::from_secs(900);
/// Time of exchanges that is compared at once: at 1,000 calls a second some 3.6 million.
pub const DEFAULT_RECONCILE_WINDOW: Duration = Duration::from_secs(3_600);
/// The newest exchanges wait so long. Longer than a peer takes an exchange id after it was made (`exchange_skew`), so
/// that nothing comes into a span that is compared already.
pub const DEFAULT_RECONCILE_GRACE: Duration = Duration::from_secs(1_200);

/// When what is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReconcileSettings {
    /// How often each city is compared with.
    pub interval: Duration,
    /// Time of exchanges that is compared at once.
    pub window: Duration,
    /// How long the newest exchanges wait.
    pub grace: Duration,
}

impl Default for ReconcileSettings {
    fn default() -> Self {
        Self {
            interval: DEFAULT_RECONCILE_INTERVAL,
            window: DEFAULT_RECONCILE_WINDOW,
            grace: DEFAULT_RECONCILE_GRACE,
        }
    }
}

/// What this gateway knows of its comparisons.
#[derive(Debug)]
pub(crate) struct Reconciliation {
    pub(crate) settings: ReconcileSettings,
    /// What other cities read here.
    pub(crate) counterparts: Counterparts,
    /// Why the last comparison with a city was not finished.
    problems: Mutex<BTreeMap<CityCode, String>>,
}

impl Reconciliation {
    pub(crate) fn new(settings: ReconcileSettings) -> Self {
        Self {
            settings,
            counterparts: Counterparts::default(),
            problems: Mutex::default(),
        }
    }

    /// Why the last comparison with each city was not finished.
    pub(crate) fn problems(&self) -> BTreeMap<CityCode, String> {
        self.problems.lock().clone()
    }
}

/// What a comparison on demand tells while it runs.
#[derive(Clone, Debug, PartialEq)]
pub enum ReconcileEvent {
    /// Something differs.
    Found(Box<Discrepancy>),
    /// So many milliseconds of the span are compared.
    Progress(u64),
}

/// What came of a comparison on demand.
#[derive(Clone, Debug, PartialEq)]
pub struct ReconcileOutcome {
    /// As it was entered.
    pub reconciled: Reconciled,
    /// Why it was not finished.
    pub problem: Option<String>,
    /// The other city could not be reached.
    pub unreachable: bool,
}

/// Why a comparison was not finished.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReconcileError {
    #[error("the outcome could not be entered")]
    Append(#[from] AppendError),
    #[error("the ledger cannot be written")]
    Ledger(#[from] LedgerError),
    #[error("the other city's gateway sent what is no comparison")]
    Malformed(#[from] Malformed),
    #[error("the other city's gateway does not answer in time")]
    Patience,
    #[error(transparent)]
    Peer(#[from] PeerError),
    #[error("the ledger cannot be read")]
    Store(#[from] StoreError),
}

impl ReconcileError {
    /// The other city is away, rather than at fault.
    fn is_unreachable(&self) -> bool {
        match self {
            Self::Patience | Self::Peer(PeerError::Unreachable { .. }) => true,
            Self::Peer(PeerError::Status { source, .. }) => {
                source.code() == tonic::Code::Unavailable
            }
            _ => false,
        }
    }
}
