//! 行政区划代码, codes of administrative divisions (GB/T 2260).

use std::fmt;

use banqiao_directory::CityCode;

use super::division_table::DIVISIONS;
use crate::rule::{Broken, Rule};

const FORM: Rule = Rule::quoted(
    "DIVISION_FORM",
    "a division code has six digits and does not begin with 0",
    "GB/T 2260",
);
const UNKNOWN: Rule = Rule::quoted(
    "DIVISION_UNKNOWN",
    "the code is no present or former division of the network's cities",
    "GB/T 2260",
);
const NOT_A_ROUTE: Rule = Rule::design(
    "DIVISION_NOT_A_ROUTE",
    "a code of a statistical zone names no government: give the division of GB/T 2260",
    "NBS statistical codes",
);

/// Every rule that [`DivisionCode`] may name.
pub const DIVISION_RULES: [&Rule; 3] = [&FORM, &UNKNOWN, &NOT_A_ROUTE];

/// What a division is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DivisionKind {
    /// A city of the network.
    City,
    /// A district, county or county-level city.
    County,
    /// A division that was abolished; old records carry it.
    Former {
        /// Code of the division that took its place.
        successor: &'static str,
        /// Year of the change.
        year: u16,
    },
    /// A city that takes part as a guest (鲁政发〔2020〕2号 (二十四)).
    GuestCity,
    /// A functional zone of the statistics bureau: good in addresses, never a routing key.
    StatisticalZone,
}

/// A division of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Division {
    /// Six digits.
    pub code: &'static str,
    /// Name in Chinese.
    pub name: &'static str,
    /// What it is.
    pub kind: DivisionKind,
}

/// The divisions that the network knows.
#[derive(Clone, Copy, Debug)]
pub struct Network;

impl Network {
    /// Every division, in code order.
    pub const fn divisions() -> &'static [Division] {
        DIVISIONS
    }

    /// The present districts and counties of a city, in code order.
    pub fn counties(city: CityCode) -> impl Iterator<Item = &'static Division> {
        DIVISIONS.iter().filter(move |division| {
            division.kind == DivisionKind::County && division.code[..4] == city.as_str()[..4]
        })
    }
}

/// Six digits of a division; it need not be one that the table knows.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DivisionCode([u8; 6]);

impl DivisionCode {
    /// Parses six digits.
    ///
    /// # Errors
    /// The text has another form.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        let digits: [u8; 6] = text.as_bytes().try_into().map_err(|_| Broken(&FORM))?;
        if digits.iter().all(u8::is_ascii_digit) && digits[0] != b'0' {
            Ok(Self(digits))
        } else {
            Err(Broken(&FORM))
        }
    }

    /// Parses the code of a division that the network's table knows, former ones and zones included.
    ///
    /// # Errors
    /// The text has another form, or the table does not hold it.
    pub fn parse_known(text: &str) -> Result<Self, Broken> {
        let code = Self::parse(text)?;
        code.division().map(|_| code).ok_or(Broken(&UNKNOWN))
    }

    /// The six digits.
    pub fn as_str(&self) -> &str {
        // Only digits are ever stored.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// What the table knows of it.
    pub fn division(&self) -> Option<&'static Division> {
        let code = self.as_str();
        DIVISIONS
            .binary_search_by(|division| division.code.cmp(code))
            .ok()
            .map(|at| &DIVISIONS[at])
    }

    /// The division in force today: itself, or the successor of a former one.
    pub fn present(&self) -> Option<&'static Division> {
        let division = self.division()?;
        match division.kind {
            DivisionKind::Former { successor, .. } => Self::parse(successor).ok()?.division(),
            _ => Some(division),
        }
    }

    /// The city that a known code lies in: its first four digits.
    pub fn city(&self) -> Option<CityCode> {
        self.division()?;
        format!("{}00", &self.as_str()[..4]).parse().ok()
    }

    /// The city to which a call about this division goes.
    ///
    /// # Errors
    /// The code is unknown, or that of a statistical zone.
    pub fn route(&self) -> Result<CityCode, Broken> {
        let division = self.division().ok_or(Broken(&UNKNOWN))?;
        if division.kind == DivisionKind::StatisticalZone {
            return Err(Broken(&NOT_A_ROUTE));
        }
        self.city().ok_or(Broken(&UNKNOWN))
    }
}

impl fmt::Debug for DivisionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for DivisionCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> DivisionCode {
        DivisionCode::parse(text).unwrap()
    }

    #[test]
    fn the_table_is_sorted_and_whole() {
        assert!(DIVISIONS.is_sorted_by(|a, b| a.code < b.code));
        let count = |city: &str| Network::counties(city.parse().unwrap()).count();
        assert_eq!(
            ["370200", "370600", "370700", "371000", "371100"].map(count),
            [10, 11, 12, 4, 4]
        );
        for division in DIVISIONS {
            assert!(code(division.code).present().is_some(), "{}", division.code);
            assert!(code(division.code).city().is_some(), "{}", division.code);
        }
    }

    #[test]
    fn former_codes_lead_to_their_successors() {
        for (old, new) in [
            ("370205", "370203"),
            ("370284", "370211"),
            ("370282", "370215"),
            ("371081", "371003"),
            ("370634", "370614"),
            ("370684", "370614"),
            ("370281", "370281"),
        ] {
            assert_eq!(code(old).present().unwrap().code, new);
        }
        assert_eq!(code("370284").route().unwrap().as_str(), "370200");
    }

    #[test]
    fn zones_lie_in_a_city_but_are_no_routes() {
        for zone in [
            "370671", "370672", "370676", "370772", "371071", "371073", "371171",
        ] {
            assert_eq!(code(zone).route(), Err(Broken(&NOT_A_ROUTE)), "{zone}");
            assert!(code(zone).city().is_some());
        }
    }

    #[test]
    fn each_rule_is_named() {
        assert_eq!(DivisionCode::parse("37020"), Err(Broken(&FORM)));
        assert_eq!(DivisionCode::parse("37020a"), Err(Broken(&FORM)));
        assert_eq!(DivisionCode::parse("070200"), Err(Broken(&FORM)));
        assert_eq!(DivisionCode::parse_known("370299"), Err(Broken(&UNKNOWN)));
        assert_eq!(code("110000").route(), Err(Broken(&UNKNOWN)));
        assert_eq!(code("110000").city(), None);
    }
}
