//! Reports as FHIR R4: bundles of `DiagnosticReport`, `Observation`, `Patient` and `Specimen`, in and out.
//!
//! What comes in is read element by element; whatever this service does not hold is listed by its path, so that a sender knows what stays
//! with it alone. What goes out holds everything that the service holds, and reads back as the same report.

mod json;
mod read;
mod service;
mod write;

use banqiao_proto::lab::v1::{Comparator, ReportStatus, Sex};

pub use read::{FhirError, FhirReports, read};
pub use service::FhirServer;
pub use write::write;

pub(crate) use service::rules;

/// System of 公民身份号码 in identifiers. No registered URI was found: a proposal of this project, as are the next two.
pub const CITIZEN_SYSTEM: &str = "urn:banqiao:citizen-id";
/// System of 统一社会信用代码 in identifiers.
pub const CREDIT_SYSTEM: &str = "urn:banqiao:unified-social-credit-code";
/// System of the number of a report at its institution.
pub const REPORT_NUMBER_SYSTEM: &str = "urn:banqiao:report-number";
/// Extension with what this service adds to a result. It is not read back.
const NORMALISED_EXTENSION: &str = "urn:banqiao:normalised-value";
/// Extension with an HR mark that this service computed. What a sender puts there is not held, and listed as such.
const MARK_EXTENSION: &str = "urn:banqiao:hr-mark";
const UCUM_SYSTEM: &str = "http://unitsofmeasure.org";

/// Statuses of FHIR under which a report is out.
const STATUSES: [(ReportStatus, &str); 6] = [
    (ReportStatus::Final, "final"),
    (ReportStatus::Corrected, "corrected"),
    (ReportStatus::Amended, "amended"),
    (ReportStatus::Appended, "appended"),
    (ReportStatus::Cancelled, "cancelled"),
    (ReportStatus::EnteredInError, "entered-in-error"),
];
const COMPARATORS: [(Comparator, &str); 4] = [
    (Comparator::Less, "<"),
    (Comparator::LessOrEqual, "<="),
    (Comparator::GreaterOrEqual, ">="),
    (Comparator::Greater, ">"),
];
const SEXES: [(Sex, &str); 3] = [
    (Sex::Male, "male"),
    (Sex::Female, "female"),
    (Sex::Other, "other"),
];

/// The code of a value.
fn code_of<T: PartialEq + Copy>(table: &[(T, &'static str)], value: T) -> Option<&'static str> {
    let found = table.iter().find(|(known, _)| *known == value);
    found.map(|(_, code)| *code)
}

/// The value of a code.
fn value_of<T: Copy>(table: &[(T, &str)], code: &str) -> Option<T> {
    let found = table.iter().find(|(_, known)| *known == code);
    found.map(|(value, _)| *value)
}
