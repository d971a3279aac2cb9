//! 公民身份号码, the citizen's identity number (GB 11643-1999).

use std::fmt;

use jiff::civil::Date;

use crate::rule::{Broken, Rule};

const SOURCE: &str = "GB 11643-1999";

const LENGTH: Rule = Rule::memory(
    "CITIZEN_ID_LENGTH",
    "a citizen's identity number has 18 characters",
    SOURCE,
);
const CHARACTER: Rule = Rule::memory(
    "CITIZEN_ID_CHARACTER",
    "a citizen's identity number has 17 digits and then a digit or an upper-case X",
    SOURCE,
);
const BIRTH_DATE: Rule = Rule::memory(
    "CITIZEN_ID_BIRTH_DATE",
    "digits 7 to 14 are a date of birth that exists and is not in the future",
    SOURCE,
);
const CHECK_DIGIT: Rule =
    Rule::memory("CITIZEN_ID_CHECK_DIGIT", "the check digit is wrong", SOURCE);

/// Every rule that [`CitizenId::parse`] may name.
pub const CITIZEN_ID_RULES: [&Rule; 4] = [&LENGTH, &CHARACTER, &BIRTH_DATE, &CHECK_DIGIT];

/// Weights of digits 1 to 17: 2^(18-i) mod 11.
const WEIGHTS: [u32; 17] = [7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2];
const CHECKS: [u8; 11] = *b"10X98765432";

/// A citizen's identity number with a right check digit and a possible date of birth.
///
/// The first six digits are the place of registration at the time; they are not compared with today's list of
/// divisions, because numbers of abolished divisions stay valid. `Debug` shows nothing of it, and there is no `Display`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CitizenId([u8; 18]);

impl CitizenId {
    /// Parses a number; `today` is the date where the card-issuing cities are.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: &str, today: Date) -> Result<Self, Broken> {
        let bytes: [u8; 18] = text.as_bytes().try_into().map_err(|_| Broken(&LENGTH))?;
        let (digits, check) = bytes.split_at(17);
        if !digits.iter().all(u8::is_ascii_digit) || !(check[0].is_ascii_digit() || check == b"X") {
            return Err(Broken(&CHARACTER));
        }
        let number = Self(bytes);
        if number.birth_date().is_none_or(|born| born > today) {
            return Err(Broken(&BIRTH_DATE));
        }
        if citizen_check_digit(digits) != Some(check[0]) {
            return Err(Broken(&CHECK_DIGIT));
        }
        Ok(number)
    }

    /// The number as text. It is personal information: it belongs into a record or an answer, never into a log.
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever stored.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// Whether the number cannot be a person's: sequence 000, which is not issued (used for synthetic people).
    pub fn is_synthetic(&self) -> bool {
        self.0[14..17] == *b"000"
    }

    /// Whether the number is a man's: digit 17 is odd (GB 11643-1999).
    pub fn is_male(&self) -> bool {
        self.0[16] % 2 == 1
    }

    /// Date of birth. A number that was parsed has one.
    pub fn birth_date(&self) -> Option<Date> {
        let number = |from: usize, to: usize| {
            self.0[from..to]
                .iter()
                .fold(0_i16, |sum, digit| sum * 10 + i16::from(digit - b'0'))
        };
        let (month, day) = (
            i8::try_from(number(10, 12)).ok()?,
            i8::try_from(number(12, 14)).ok()?,
        );
        Date::new(number(6, 10), month, day).ok()
    }
}

impl fmt::Debug for CitizenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CitizenId(redacted)")
    }
}

/// The check character of 17 digits; none when they are not 17 digits.
pub fn citizen_check_digit(digits: &[u8]) -> Option<u8> {
    if digits.len() != WEIGHTS.len() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let sum: u32 = digits
        .iter()
        .zip(WEIGHTS)
        .map(|(digit, weight)| u32::from(digit - b'0') * weight)
        .sum();
    CHECKS.get(usize::try_from(sum % 11).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<CitizenId, &'static str> {
        CitizenId::parse(text, date(2026, 11, 23)).map_err(|Broken(rule)| rule.code)
    }

    #[test]
    fn vectors_are_accepted() {
        // The standard's own sample, and numbers with sequence 000 that belong to nobody.
        for text in [
            "11010519491231002X",
            "370202199001010007",
            "370602198506150002",
            "370705197002280006",
            "371002199211050007",
            "371102196609300004",
        ] {
            assert_eq!(parse(text).unwrap().as_str(), text);
        }
    }

    #[test]
    fn numbers_of_abolished_divisions_stay_valid() {
        for region in ["370284", "371081", "370205", "999999"] {
            let digits = format!("{region}19700228000");
            let check = citizen_check_digit(digits.as_bytes()).unwrap();
            assert!(
                parse(&format!("{digits}{}", char::from(check))).is_ok(),
                "{region}"
            );
        }
    }

    #[test]
    fn each_rule_is_named() {
        for (text, code) in [
            ("", "CITIZEN_ID_LENGTH"),
            ("37020219900101000", "CITIZEN_ID_LENGTH"),
            ("３７０２０２", "CITIZEN_ID_CHARACTER"),
            ("11010519491231002x", "CITIZEN_ID_CHARACTER"),
            ("1101051949123100XX", "CITIZEN_ID_CHARACTER"),
            ("370202199002300007", "CITIZEN_ID_BIRTH_DATE"),
            ("370202199013010007", "CITIZEN_ID_BIRTH_DATE"),
            ("370202202611240009", "CITIZEN_ID_BIRTH_DATE"),
            ("370202199001010008", "CITIZEN_ID_CHECK_DIGIT"),
        ] {
            assert_eq!(parse(text), Err(code), "{text}");
        }
    }

    #[test]
    fn somebody_born_today_has_a_number() {
        let digits = b"37020220261123000";
        let check = char::from(citizen_check_digit(digits).unwrap());
        assert!(parse(&format!("37020220261123000{check}")).is_ok());
    }

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(
            format!("{:?}", parse("11010519491231002X").unwrap()),
            "CitizenId(redacted)"
        );
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC{0,24}") {
            let _ = parse(&text);
        }

        #[test]
        fn a_mistyped_digit_is_caught(position in 0_usize..17, by in 1_u8..10) {
            let mut bytes = *b"370202199001010007";
            bytes[position] = (bytes[position] - b'0' + by) % 10 + b'0';
            prop_assert!(parse(std::str::from_utf8(&bytes).unwrap()).is_err());
        }
    }
}
