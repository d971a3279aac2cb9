//! Lines of a sheet of beneficiaries.

use banqiao_kit::{SheetColumn, Violation};
use banqiao_proto::card::v1::{
    Beneficiary, ImportBeneficiariesRequest, InsuranceScheme, PaymentState,
};

use crate::columns::{at, value};

/// The columns with their further names: 人社 codes, where they are known, and Chinese ones.
pub const BENEFICIARY_SHEET: [SheetColumn; BENEFICIARY_COLUMNS.len()] = [
    column(0, &["AAC002", "社会保障号码", "公民身份号码"]),
    column(1, &["险种"]),
    column(2, &["待遇发放状态"]),
    column(3, &["停发日期", "暂停或停发起始日期"]),
    column(4, &["下次核查日期"]),
];

const fn column(at: usize, also: &'static [&'static str]) -> SheetColumn {
    SheetColumn {
        name: BENEFICIARY_COLUMNS[at],
        also,
    }
}

/// The columns; all are required in the header.
pub const BENEFICIARY_COLUMNS: &[&str] = &[
    "social_security_number",
    "scheme",
    "payment_state",
    "not_paid_from",
    "due_on",
];

const SCHEME: &str = "INSURANCE_SCHEME_";
const STATE: &str = "PAYMENT_STATE_";

/// The request of a line.
///
/// # Errors
/// Every field that names no value of its enumeration.
pub fn beneficiary_line(
    line: u64,
    fields: &[String],
) -> Result<ImportBeneficiariesRequest, Vec<Violation>> {
    let mut faults = Vec::new();
    let scheme = |name: &str| InsuranceScheme::from_str_name(name).map(i32::from);
    let state = |name: &str| PaymentState::from_str_name(name).map(i32::from);
    let beneficiary = Beneficiary {
        social_security_number: at(fields, 0),
        scheme: value("scheme", SCHEME, &at(fields, 1), scheme, &mut faults),
        payment_state: value("payment_state", STATE, &at(fields, 2), state, &mut faults),
        not_paid_from: at(fields, 3),
        due_on: at(fields, 4),
    };
    if faults.is_empty() {
        Ok(ImportBeneficiariesRequest {
            line,
            beneficiary: Some(beneficiary),
        })
    } else {
        Err(faults)
    }
}

/// The line of a beneficiary.
pub fn beneficiary_row(beneficiary: &Beneficiary) -> [String; 5] {
    let name = |name: &str, prefix: &str| name.strip_prefix(prefix).unwrap_or(name).to_owned();
    [
        beneficiary.social_security_number.clone(),
        name(beneficiary.scheme().as_str_name(), SCHEME),
        name(beneficiary.payment_state().as_str_name(), STATE),
        beneficiary.not_paid_from.clone(),
        beneficiary.due_on.clone(),
    ]
}
