//! 检验结果互认: what can be recognised and every reason against it, what doctors decided, and how often.
//!
//! ```text
//!   found reports ──▶ AssessReports ──▶ verdict and reasons (advice)      doctor ──▶ RecordDecision ──▶ decision, for good
//!   decision ──▶ outbox ──gateways──▶ DeliverDecision in the city of the report       decisions ──▶ ReadStatistics
//! ```

mod assess;
mod courier;
mod decision;
mod decisions;
mod estimate;
mod rule;
mod service;
mod specimen;
mod statistics;

use std::sync::Arc;

pub use assess::{AssessTerms, Assessed, assess_result};
pub use courier::DecisionCourier;
pub use decision::{NewDecision, RecordDecision, repeat_reasons};
pub use decisions::{Decisions, Recorded};
pub use estimate::{ESTIMATE_COLUMNS, Estimate, Estimates};
pub use service::{MAX_ASSESSED, RecognitionServer};
pub use statistics::{CountedDecisions, StatisticsSearch};

pub(crate) use rule::rules;

use crate::{quality::Rounds, report::Reports};

/// What recognition needs: the city's reports, its organisers, its estimates. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Recognition {
    reports: Reports,
    rounds: Rounds,
    estimates: Arc<Estimates>,
}

impl Recognition {
    /// Recognition in a city. Systems that organise its quality rounds see the decisions of every institution.
    pub const fn new(reports: Reports, rounds: Rounds, estimates: Arc<Estimates>) -> Self {
        Self {
            reports,
            rounds,
            estimates,
        }
    }
}
