//! Which report: its institution and its number there.

use std::fmt;

use banqiao_kit::{
    Broken, Rule,
    identifier::{CitizenId, CreditCode},
};
use jiff::civil::Date;

/// Rule of a report's number.
pub(super) const REPORT_NUMBER: Rule = Rule::design(
    "REPORT_NUMBER",
    "a report number has 1 to 50 printable ASCII characters without space",
    "GB/T 39046-2020 an..50",
);

/// Number of a report at its institution. `Debug` redacts: with it a report can be asked for.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReportNumber(String);

impl ReportNumber {
    /// Parses a number.
    ///
    /// # Errors
    /// It has another form.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        if (1..=50).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic()) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Broken(&REPORT_NUMBER))
        }
    }

    /// The number.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for ReportNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ReportNumber(redacted)")
    }
}

/// A report anywhere in the network.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReportKey {
    /// 统一社会信用代码 of the institution.
    pub institution: CreditCode,
    /// Number there.
    pub number: ReportNumber,
}

impl ReportKey {
    /// Parses institution and number as sent.
    ///
    /// # Errors
    /// The first rule that is broken, and whether it is the institution's.
    pub fn parse(institution: &str, number: &str) -> Result<Self, Broken> {
        Ok(Self {
            institution: CreditCode::parse(institution)?,
            number: ReportNumber::parse(number)?,
        })
    }
}

/// A patient as stored: the number was judged when it came in.
pub(crate) fn stored_patient(text: &str) -> Option<CitizenId> {
    CitizenId::parse(text, Date::MAX).ok()
}
