//! 办件编号: division, day, serial, check character.
//!
//! GB/T 39046-2020 asks for an..50 (Q). The form is a proposal of this project (D): `{division 6}{YYYYMMDD}{serial 8}{check}`. It is
//! unique across cities because a division belongs to one city and that city's service gives each serial of a day once.

use std::{fmt, str::FromStr};

use banqiao_directory::CityCode;
use banqiao_kit::{Broken, Rule, RuleTable, identifier::DivisionCode};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};

const NUMBER: Rule = Rule::design(
    "CASE_NUMBER",
    "a case number has the six digits of a division, the day as YYYYMMDD, a serial of eight digits and a check character",
    "GB/T 39046-2020",
);
const CHECK: Rule = Rule::design(
    "CASE_NUMBER_CHECK",
    "the check character of the case number is wrong",
    "GB 32100-2015, its method",
);

pub(super) fn rules() -> RuleTable {
    const PLACES: &[&str] = &[
        "StartCase",
        "ActOnCase",
        "ReadCase",
        "SearchCases",
        "WatchCase",
        "RateCase",
    ];
    RuleTable::new("办件编号").fields([&NUMBER, &CHECK], PLACES)
}

/// The 31 symbols of GB 32100-2015; a symbol's value is its place.
const ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
const DIGITS: usize = 22;
const SERIALS: u32 = 100_000_000;

/// A number with a right check character, of a division that the network knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct CaseNumber([u8; DIGITS + 1]);

/// Place of a case within its division and day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Serial(u32);

impl Serial {
    /// A serial of at most eight digits.
    pub fn new(serial: i64) -> Option<Self> {
        let serial = u32::try_from(serial).ok();
        serial.filter(|serial| *serial < SERIALS).map(Self)
    }
}

impl CaseNumber {
    /// The number of a case.
    pub fn new(division: DivisionCode, day: Date, serial: Serial) -> Self {
        let digits = format!(
            "{division}{:04}{:02}{:02}{:08}",
            day.year(),
            day.month(),
            day.day(),
            serial.0
        );
        let mut number = [b'0'; DIGITS + 1];
        for (place, digit) in number.iter_mut().zip(digits.bytes()) {
            *place = digit;
        }
        number[DIGITS] = check(&number[..DIGITS]);
        Self(number)
    }

    /// Parses a number.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        let number: [u8; DIGITS + 1] = text.as_bytes().try_into().map_err(|_| Broken(&NUMBER))?;
        let number = Self(number);
        let digits = &number.0[..DIGITS];
        if !digits.iter().all(u8::is_ascii_digit) || !ALPHABET.contains(&number.0[DIGITS]) {
            return Err(Broken(&NUMBER));
        }
        if check(digits) != number.0[DIGITS] {
            return Err(Broken(&CHECK));
        }
        let part = |from: usize, to: usize| text[from..to].parse().ok();
        let day = part(6, 10).zip(part(10, 12)).zip(part(12, 14));
        let day = day.and_then(|((year, month), day)| {
            Date::new(year, i8::try_from(month).ok()?, i8::try_from(day).ok()?).ok()
        });
        let division = DivisionCode::parse(&text[..6]).ok();
        let city = division.and_then(|division| division.route().ok());
        (day.is_some() && city.is_some())
            .then_some(number)
            .ok_or(Broken(&NUMBER))
    }

    /// The number as text.
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever stored.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The city that decides the case: the route to its service.
    pub fn city(&self) -> Option<CityCode> {
        DivisionCode::parse(&self.as_str()[..6]).ok()?.route().ok()
    }
}

/// The check character of GB 32100-2015, carried on to 22 digits: weights 3^(i-1) mod 31, C = (31 - Σ mod 31) mod 31.
fn check(digits: &[u8]) -> u8 {
    let (mut sum, mut weight) = (0_usize, 1_usize);
    for digit in digits {
        sum += usize::from(digit.wrapping_sub(b'0')) * weight;
        weight = weight * 3 % 31;
    }
    ALPHABET[(31 - sum % 31) % 31]
}

impl fmt::Debug for CaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for CaseNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for CaseNumber {
    type Err = Broken;

    fn from_str(text: &str) -> Result<Self, Broken> {
        Self::parse(text)
    }
}

impl TryFrom<String> for CaseNumber {
    type Error = Broken;

    fn try_from(text: String) -> Result<Self, Broken> {
        Self::parse(&text)
    }
}

impl From<CaseNumber> for String {
    fn from(number: CaseNumber) -> Self {
        number.as_str().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn number(division: &str, serial: i64) -> CaseNumber {
        let division = DivisionCode::parse(division).unwrap();
        CaseNumber::new(division, date(2026, 11, 23), Serial::new(serial).unwrap())
    }

    #[test]
    fn a_number_holds_division_day_serial_and_check() {
        let number = number("370202", 1);
        // Σ of 3702022026112300000001 with weights 1, 3, 9, 27, 19, … mod 31, computed apart from this program.
        assert_eq!(number.as_str(), "3702022026112300000001A");
        assert_eq!(number.city().unwrap().as_str(), "370200");
        assert_eq!(CaseNumber::parse(number.as_str()), Ok(number));
        assert!(number.as_str().len() <= 50, "an..50");
    }

    #[test]
    fn numbers_of_other_forms_are_refused() {
        for bad in [
            "",
            "3702022026112300000001",
            "37020220261123000000011K",
            "3702022026133200000001A",
        ] {
            assert!(CaseNumber::parse(bad).is_err(), "{bad}");
        }
        // A zone of the statistics bureau is no division that decides.
        let zone = number("370671", 1);
        assert_eq!(CaseNumber::parse(zone.as_str()), Err(Broken(&NUMBER)));
        assert_eq!(Serial::new(100_000_000), None);
    }

    #[test]
    fn cities_never_meet() {
        assert_ne!(number("370202", 7), number("370602", 7));
        assert_eq!(number("371102", 7).city().unwrap().as_str(), "371100");
    }

    proptest! {
        #[test]
        fn a_mistyped_digit_is_caught(serial in 0_i64..100_000_000, at in 0_usize..22, by in 1_u8..10) {
            let mut text = number("370602", serial).as_str().to_owned().into_bytes();
            text[at] = (text[at] - b'0' + by) % 10 + b'0';
            prop_assert!(CaseNumber::parse(std::str::from_utf8(&text).unwrap()).is_err());
        }

        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC{0,30}") {
            let _ = CaseNumber::parse(&text);
        }
    }
}
