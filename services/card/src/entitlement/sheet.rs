//! Lines of a sheet of insured persons.

use banqiao_kit::{SheetColumn, Violation};
use banqiao_proto::card::v1::{
    ImportInsuranceRequest, InsurancePeriod, InsuranceScheme, InsuredStatus, TreatmentState,
};

use crate::columns::{at, value};

/// The columns with their further names: 人社 codes, where they are known, and Chinese ones.
pub const INSURANCE_SHEET: [SheetColumn; INSURANCE_COLUMNS.len()] = [
    column(0, &["AAC002", "社会保障号码", "公民身份号码"]),
    column(1, &["险种"]),
    column(2, &["AAB301", "参保地行政区划"]),
    column(3, &["AAE030", "开始日期"]),
    column(4, &["AAE031", "终止日期"]),
    column(5, &["参保状态"]),
    column(6, &["待遇状态"]),
    column(7, &["暂停联网结算起"]),
    column(8, &["暂停联网结算止"]),
    column(9, &["数据日期"]),
];

const fn column(at: usize, also: &'static [&'static str]) -> SheetColumn {
    SheetColumn {
        name: INSURANCE_COLUMNS[at],
        also,
    }
}

/// The columns; all are required in the header.
pub const INSURANCE_COLUMNS: &[&str] = &[
    "social_security_number",
    "scheme",
    "insured_division",
    "begins_on",
    "ends_on",
    "insured_status",
    "treatment_state",
    "settlement_suspended_from",
    "settlement_suspended_until",
    "recorded_as_of",
];

const SCHEME: &str = "INSURANCE_SCHEME_";
const STATUS: &str = "INSURED_STATUS_";
const TREATMENT: &str = "TREATMENT_STATE_";

/// The request of a line.
///
/// # Errors
/// Every field that names no value of its enumeration.
pub fn insurance_line(
    line: u64,
    fields: &[String],
) -> Result<ImportInsuranceRequest, Vec<Violation>> {
    let mut faults = Vec::new();
    let scheme = |name: &str| InsuranceScheme::from_str_name(name).map(i32::from);
    let status = |name: &str| InsuredStatus::from_str_name(name).map(i32::from);
    let treatment = |name: &str| TreatmentState::from_str_name(name).map(i32::from);
    let period = InsurancePeriod {
        social_security_number: at(fields, 0),
        scheme: value("scheme", SCHEME, &at(fields, 1), scheme, &mut faults),
        insured_division: at(fields, 2),
        begins_on: at(fields, 3),
        ends_on: at(fields, 4),
        insured_status: value(
            "insured_status",
            STATUS,
            &at(fields, 5),
            status,
            &mut faults,
        ),
        treatment_state: value(
            "treatment_state",
            TREATMENT,
            &at(fields, 6),
            treatment,
            &mut faults,
        ),
        settlement_suspended_from: at(fields, 7),
        settlement_suspended_until: at(fields, 8),
        recorded_as_of: at(fields, 9),
    };
    if faults.is_empty() {
        Ok(ImportInsuranceRequest {
            line,
            period: Some(period),
        })
    } else {
        Err(faults)
    }
}

/// The line of a period.
pub fn insurance_row(period: &InsurancePeriod) -> [String; 10] {
    let name = |name: &str, prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
    [
        period.social_security_number.clone(),
        name(period.scheme().as_str_name(), SCHEME),
        period.insured_division.clone(),
        period.begins_on.clone(),
        period.ends_on.clone(),
        name(period.insured_status().as_str_name(), STATUS),
        name(period.treatment_state().as_str_name(), TREATMENT),
        period.settlement_suspended_from.clone(),
        period.settlement_suspended_until.clone(),
        period.recorded_as_of.clone(),
    ]
}
