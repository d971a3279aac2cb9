//! 待遇领取资格核查互认: checks of eligibility that one city makes and every other recognises.
//!
//! ```text
//!   ReportLife | ReportLossSign | ReportUnreachable ──▶ decide (pure) ──▶ one transaction: standing, history, campaign, investigation
//!   CheckEligibility, MatchEligibility ◀── verdict and date, never the trace           │
//!   WatchEligibility ◀── history, for the city that pays ◀─────────────────────────────┘
//! ```
//!
//! 社会保险经办条例 art. 26: payments stop only after 调查核实, by a decision of the paying bureau. So nothing here stops one. The state
//! of a payment comes in by [`Eligibility::import`] from the bureau's own records, or is read in the bureau's own tables, into which a
//! check writes the day by which the next one is due and nothing else; a sign of loss opens an investigation; and what goes out about
//! payments is only the instruction to resume one.

mod campaign;
mod decide;
mod export;
mod import;
mod mapped;
mod payment;
mod record;
mod request;
mod service;
mod sheet;
mod store;
mod synthetic;
mod watch;

use banqiao_directory::{CityCode, Clock};
use banqiao_kit::RuleTable;

pub(crate) use mapped::{INSERT_PAYMENTS, PAYMENT, SET_DUE_DAYS, UPDATE_PAYMENTS};
pub use payment::Swept;
pub use record::{
    Adverse, Confirmation, Event, Evidence, Payment, Person, PersonKey, Verdict, in_person,
};
pub use request::{CheckReport, Conclusion};
pub use service::EligibilityServer;
pub use sheet::{BENEFICIARY_COLUMNS, BENEFICIARY_SHEET, beneficiary_line, beneficiary_row};
pub use synthetic::beneficiaries;
pub use watch::{EligibilityWatches, WatchedBy};

use crate::store::Store;

/// By what a city recognises checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EligibilityTerms {
    /// For how many months a check is recognised.
    pub validity_months: i8,
}

impl EligibilityTerms {
    /// A rolling cycle of 12 months is common (M); that cities recognise each other's checks for as long is this project's proposal (D).
    pub const DEFAULT: Self = Self {
        validity_months: 12,
    };
}

/// The checks of a city, and the people whom it pays. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Eligibility {
    store: store::EligibilityStore,
    city: CityCode,
    clock: Clock,
    terms: EligibilityTerms,
}

impl Eligibility {
    /// The checks of `city` in an open store.
    pub fn new(store: &Store, city: CityCode, clock: Clock, terms: EligibilityTerms) -> Self {
        Self {
            store: store::EligibilityStore::new(store),
            city,
            clock,
            terms,
        }
    }

    /// The city.
    pub const fn city(&self) -> CityCode {
        self.city
    }

    /// The clock.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }
}

/// The rules of eligibility.
pub(crate) fn rules() -> RuleTable {
    let table = RuleTable::new("Eligibility (待遇领取资格核查互认)");
    let table = decide::rules(request::rules(table));
    watch::rules(service::rules(campaign::rules(import::rules(table))))
}
