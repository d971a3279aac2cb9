//! 室间质评: rounds with their challenge samples, what institutions measured, the evaluation, and the HR marks that follow.
//!
//! ```text
//!   organiser ──▶ RegisterRound ──▶ Round            institutions ──▶ SubmitResults, until the round closes
//!   organiser ──▶ EvaluateRound, once ──▶ Score of each institution and item ──▶ marks(): the HR marks, never stored, never sent in
//! ```

mod judge;
mod mark;
mod round;
mod rounds;
mod rule;
mod service;
mod sheet;
mod submit;

use std::sync::Arc;

use banqiao_directory::{CityCode, Clock, SpiffeId};

pub use judge::{Score, passes, within};
pub use mark::{ItemMark, JudgedRound, covers, marks};
pub use round::{Round, RoundId};
pub use service::{MAX_SUBMIT_LINES, QualityServer};
pub use sheet::{RESULT_SHEET, ROUND_SHEET, RoundLine, result_line, round_line, rounds_of};
pub use submit::{SUBMIT_BATCH, SubmitCounts, SubmitLine};

pub(crate) use rule::{MARK_IGNORED, rules};

use crate::{catalogue::Catalogue, institution::Institutions, report::Reports, store::Store};

/// In whose name something is done about rounds.
#[derive(Clone, Debug)]
pub enum QualityActor {
    /// The operators of the service, from its command line.
    Operator,
    /// A system of an organiser: it may do it about every institution.
    Organiser(SpiffeId),
    /// Another system: it reports for its own institution, and sees that one's evaluations.
    System(SpiffeId),
}

impl QualityActor {
    /// The system; none for the operators.
    pub const fn client(&self) -> Option<&SpiffeId> {
        match self {
            Self::Operator => None,
            Self::Organiser(client) | Self::System(client) => Some(client),
        }
    }

    /// Whether targets and every evaluation are open to it.
    pub const fn organises(&self) -> bool {
        matches!(self, Self::Operator | Self::Organiser(_))
    }
}

/// The quality rounds of a city. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Rounds {
    store: Store,
    city: CityCode,
    clock: Clock,
    catalogue: Arc<Catalogue>,
    institutions: Arc<Institutions>,
    organisers: Arc<[SpiffeId]>,
}

impl Rounds {
    /// The rounds in the database of a city's reports, organised by these systems.
    pub fn new(reports: &Reports, organisers: Arc<[SpiffeId]>) -> Self {
        Self {
            store: reports.store().clone(),
            city: reports.city(),
            clock: reports.clock().clone(),
            catalogue: Arc::clone(reports.catalogue()),
            institutions: Arc::clone(reports.institutions()),
            organisers,
        }
    }

    /// In whose name a client acts.
    pub fn actor(&self, client: &SpiffeId) -> QualityActor {
        if self.organisers.contains(client) {
            QualityActor::Organiser(client.clone())
        } else {
            QualityActor::System(client.clone())
        }
    }
}
