//! 参保和待遇状态核验: whether a person has a right under a scheme of social insurance on a day.
//!
//! ```text
//!   Asked ──▶ Entitlements ──▶ records of the person ──▶ judge (pure: POLICIES in force on the day) ──▶ YES | NO | UNKNOWN
//!                  └── a system of this city asks, insured elsewhere ──▶ that city, once, through the gateway
//! ```
//!
//! What is not recorded, is too old, or lies with a city that does not answer is UNKNOWN with its reason. No answer is ever
//! a default.

mod ask;
mod export;
mod import;
mod judge;
mod mapped;
mod policy;
mod request;
mod service;
mod sheet;
mod store;
mod synthetic;

use std::time::Duration;

use banqiao_directory::{CityCode, Clock};
use banqiao_kit::{
    RuleTable, civil_date,
    identifier::{CitizenId, DivisionCode},
};
use banqiao_proto::card::v1::{InsuranceScheme, InsuredStatus, TreatmentState};
use jiff::civil::Date;

pub use ask::OtherCities;
pub use judge::{Judgement, judge};
pub(crate) use mapped::{
    INSERT_PERIODS, INSURANCE, SCHEME, UPDATE_PERIODS, numbers, scheme_name, scheme_of, without,
};
pub use policy::{POLICIES, Policy, Requirement};
pub use request::{Asked, ImportedPeriod};
pub(crate) use request::{FUTURE, optional_date, parse_scheme};
pub use service::EntitlementServer;
pub use sheet::{INSURANCE_COLUMNS, INSURANCE_SHEET, insurance_line, insurance_row};
pub(crate) use store::{citizen, date, list, optional};
pub use synthetic::insured;

use crate::store::Store;

/// A period in which nothing changes in a person's insurance under a scheme.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Period {
    /// 社会保障号码.
    pub holder: CitizenId,
    /// Scheme.
    pub scheme: InsuranceScheme,
    /// 参保地.
    pub division: DivisionCode,
    /// First day.
    pub begins_on: Date,
    /// Last day; none while it goes on.
    pub ends_on: Option<Date>,
    /// 参保状态.
    pub status: InsuredStatus,
    /// 待遇状态.
    pub treatment: TreatmentState,
    /// First and last day of a suspension of 联网结算.
    pub suspension: Option<(Date, Date)>,
    /// Day of the bureau's records.
    pub as_of: Date,
}

impl Period {
    /// Whether a day lies in the period.
    pub fn covers(&self, day: Date) -> bool {
        self.begins_on <= day && self.ends_on.is_none_or(|end| day <= end)
    }
}

/// By what a city judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntitlementTerms {
    /// How old records may be, whole days.
    pub record_age: Duration,
}

impl EntitlementTerms {
    /// Contributions are recorded by month and reach the bureau's systems in the first half of the next one (D).
    pub const DEFAULT: Self = Self {
        record_age: Duration::from_secs(45 * 86_400),
    };
}

/// The insured persons of a city. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Entitlements {
    store: store::PeriodStore,
    city: CityCode,
    clock: Clock,
    terms: EntitlementTerms,
}

impl Entitlements {
    /// The insured persons of `city` in an open store.
    pub fn new(store: &Store, city: CityCode, clock: Clock, terms: EntitlementTerms) -> Self {
        let store = store::PeriodStore::new(store);
        Self {
            store,
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

    /// What the records of this city say, and nobody else's.
    ///
    /// # Errors
    /// See [`crate::StoreError`].
    pub async fn judge(&self, asked: &Asked) -> Result<Judgement, crate::StoreError> {
        let today = civil_date(self.clock.now_us());
        let periods = self
            .store
            .periods(&asked.holder, asked.scheme, today)
            .await?;
        Ok(judge(asked, &periods, self.city, self.terms))
    }
}

/// The rules of entitlement, policies included.
pub(crate) fn rules() -> RuleTable {
    let table = RuleTable::new("Entitlement (待遇资格核验)");
    let table = policy::rules(judge::rules(table));
    import::rules(request::rules(ask::rules(table)))
}
