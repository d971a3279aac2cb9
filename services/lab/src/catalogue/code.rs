//! Codes of tests: WS/T 886-2026 and LOINC.

use std::fmt;

use banqiao_kit::{Broken, Rule};

/// System of the codes of WS/T 886-2026 in codings. No registered URI of the standard was found: a proposal of this project.
pub const WST886_SYSTEM: &str = "urn:banqiao:ws-t-886";
/// System of LOINC codes in codings (FHIR R4, terminologies).
pub const LOINC_SYSTEM: &str = "http://loinc.org";

/// Rule of a LOINC code.
pub(crate) const LOINC: Rule = Rule::quoted(
    "LOINC_CHECK_DIGIT",
    "a LOINC code has 1 to 7 digits, a hyphen and the check digit (mod 10) of the digits",
    "LOINC Users' Guide",
);
/// Rule of an item's code.
pub(crate) const ITEM_CODE: Rule = Rule::quoted(
    "ITEM_CODE",
    "an item's code has 7 digits and A, B or D (WS/T 886), or is a LOINC code",
    "WS/T 886-2026",
);

/// A LOINC code whose check digit is right.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Loinc(String);

impl Loinc {
    /// Parses a code.
    ///
    /// # Errors
    /// It has another form, or a wrong check digit.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        let sound = text.split_once('-').is_some_and(|(body, check)| {
            loinc_check_digit(body).is_some_and(|digit| check.as_bytes() == [digit])
        });
        if sound {
            Ok(Self(text.to_owned()))
        } else {
            Err(Broken(&LOINC))
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Loinc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The check digit of the digits before the hyphen (mod 10: every second digit from the right is doubled, and the digits are
/// summed); none when they are not 1 to 7 digits.
pub fn loinc_check_digit(body: &str) -> Option<u8> {
    if !(1..=7).contains(&body.len()) || !body.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let sum: u32 = body
        .bytes()
        .rev()
        .enumerate()
        .map(|(place, digit)| {
            let digit = u32::from(digit - b'0') * if place % 2 == 0 { 2 } else { 1 };
            digit / 10 + digit % 10
        })
        .sum();
    u8::try_from((10 - sum % 10) % 10)
        .ok()
        .map(|digit| b'0' + digit)
}

/// Code of an item: that of WS/T 886, or the LOINC code of an item that WS/T 886 does not list.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ItemCode(String);

impl ItemCode {
    /// Parses a code. It need not be in any catalogue.
    ///
    /// # Errors
    /// It has neither form.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        let wst = text.len() == 8
            && text.bytes().take(7).all(|byte| byte.is_ascii_digit())
            && text.ends_with(['A', 'B', 'D']);
        if wst || Loinc::parse(text).is_ok() {
            Ok(Self(text.to_owned()))
        } else {
            Err(Broken(&ITEM_CODE))
        }
    }

    /// The code.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is a code of WS/T 886.
    pub fn is_wst886(&self) -> bool {
        !self.0.contains('-')
    }
}

impl fmt::Debug for ItemCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn check_digits_of_known_codes_are_right() {
        for code in [
            "6690-2", "14749-6", "4548-4", "48065-7", "1742-6", "718-7", "30341-2",
        ] {
            assert!(Loinc::parse(code).is_ok(), "{code}");
        }
        for code in [
            "",
            "-",
            "6690",
            "6690-3",
            "6690-",
            "x690-2",
            "14749-66",
            "12345678-1",
        ] {
            assert_eq!(Loinc::parse(code), Err(Broken(&LOINC)), "{code}");
        }
    }

    #[test]
    fn item_codes_have_two_forms() {
        assert!(ItemCode::parse("1500104A").unwrap().is_wst886());
        assert!(!ItemCode::parse("770-8").unwrap().is_wst886());
        for code in ["1500104", "1500104C", "150010AA", "770-9", "１500104A"] {
            assert_eq!(ItemCode::parse(code), Err(Broken(&ITEM_CODE)), "{code}");
        }
    }

    proptest! {
        #[test]
        fn a_mistyped_digit_is_caught(body in 1_u32..9_999_999, place in 0_usize..7, by in 1_u8..10) {
            let body = body.to_string();
            let check = char::from(loinc_check_digit(&body).unwrap());
            let mut bytes = body.clone().into_bytes();
            let place = place % bytes.len();
            bytes[place] = (bytes[place] - b'0' + by) % 10 + b'0';
            let mistyped = String::from_utf8(bytes).unwrap();
            let code = format!("{body}-{check}");
            prop_assert!(Loinc::parse(&code).is_ok());
            let code = format!("{mistyped}-{check}");
            prop_assert!(Loinc::parse(&code).is_err());
        }

        #[test]
        fn two_neighbours_in_the_wrong_order_are_caught_but_for_09_and_90(body in 10_u32..9_999_999, place in 0_usize..6) {
            let body = body.to_string();
            let place = place % (body.len() - 1);
            let mut bytes = body.clone().into_bytes();
            let pair = (bytes[place], bytes[place + 1]);
            prop_assume!(pair.0 != pair.1 && pair != (b'0', b'9') && pair != (b'9', b'0'));
            bytes.swap(place, place + 1);
            let swapped = String::from_utf8(bytes).unwrap();
            prop_assert_ne!(loinc_check_digit(&body), loinc_check_digit(&swapped));
        }
    }
}
