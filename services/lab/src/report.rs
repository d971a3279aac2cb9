//! 检验报告: accepted, published, corrected, found, and pushed to whoever read what is no longer so.

mod accept;
mod find;
mod key;
mod publish;
mod service;
mod text;
mod watch;

use std::sync::Arc;

use banqiao_directory::{CityCode, Clock};
use banqiao_kit::RuleTable;
use banqiao_proto::lab::v1::ReportStatus;
use prost_types::Timestamp;

pub use accept::{AcceptTerms, AcceptedReport};
pub use find::{DEFAULT_FOUND, FindReports, MAX_FOUND};
pub use key::{ReportKey, ReportNumber};
pub use publish::{LineOutcome, PUBLISH_BATCH, PublishCounts, Publisher};
pub use service::{MAX_PUBLISH_LINES, ReportServer};
pub use watch::{WatchFrom, WatchSettings, Watches};

pub(crate) use key::stored_patient;

use crate::{catalogue::Catalogue, institution::Institutions, store::Store};

/// Methods that publish.
const PUBLISH: &[&str] = &["PublishReport", "PublishReports", "PublishFhir"];

/// Methods that take decimal numbers.
const NUMBERS: &[&str] = &[
    "PublishReport",
    "PublishReports",
    "PublishFhir",
    "SubmitResults",
];

/// The rules of reports, beside those of the identifiers in them.
pub(crate) fn rules() -> [RuleTable; 6] {
    let shared = RuleTable::new("Numbers in reports")
        .field(&key::REPORT_NUMBER, ONE_REPORT)
        .field(&crate::decimal::DECIMAL, NUMBERS);
    [
        accept::rules(),
        shared,
        publish::rules(),
        service::rules(),
        find::rules(),
        watch::rules(),
    ]
}

/// Methods that name reports by institution and number.
const ONE_REPORT: &[&str] = &[
    "PublishReport",
    "PublishReports",
    "PublishFhir",
    "ReadReport",
    "ReadFhir",
    "RecordDecision",
    "DeliverDecision",
];
/// Methods that name a patient.
pub(crate) const ONE_PATIENT: &[&str] = &[
    "PublishReport",
    "PublishReports",
    "PublishFhir",
    "FindReports",
];

/// Statuses of reports that are withdrawn: terminal.
pub const CANCELLED: [ReportStatus; 2] = [ReportStatus::Cancelled, ReportStatus::EnteredInError];

/// The reports of a city.
#[derive(Clone, Debug)]
pub struct Reports {
    store: Store,
    city: CityCode,
    clock: Clock,
    catalogue: Arc<Catalogue>,
    institutions: Arc<Institutions>,
}

impl Reports {
    /// The reports of a city, in its database.
    pub const fn new(
        store: Store,
        city: CityCode,
        clock: Clock,
        catalogue: Arc<Catalogue>,
        institutions: Arc<Institutions>,
    ) -> Self {
        Self {
            store,
            city,
            clock,
            catalogue,
            institutions,
        }
    }

    /// The database.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// The city.
    pub const fn city(&self) -> CityCode {
        self.city
    }

    /// The clock.
    pub const fn clock(&self) -> &Clock {
        &self.clock
    }

    /// The tests.
    pub const fn catalogue(&self) -> &Arc<Catalogue> {
        &self.catalogue
    }

    /// The institutions.
    pub const fn institutions(&self) -> &Arc<Institutions> {
        &self.institutions
    }
}

/// A time in an answer.
pub(crate) fn timestamp(at_us: i64) -> Timestamp {
    Timestamp {
        seconds: at_us.div_euclid(1_000_000),
        // Below 10^9 by construction.
        nanos: i32::try_from(at_us.rem_euclid(1_000_000) * 1_000).unwrap_or_default(),
    }
}

/// Microseconds since 1970-01-01 UTC; none for what no calendar has.
pub(crate) fn microseconds(time: &Timestamp) -> Option<i64> {
    if !(0..1_000_000_000).contains(&time.nanos) {
        return None;
    }
    time.seconds
        .checked_mul(1_000_000)?
        .checked_add(i64::from(time.nanos) / 1_000)
}
