//! 统一社会信用代码, the unified social credit code of an organisation (GB 32100-2015).

use std::fmt;

use crate::rule::{Broken, Rule};

const SOURCE: &str = "GB 32100-2015";

const LENGTH: Rule = Rule::memory(
    "CREDIT_CODE_LENGTH",
    "a unified social credit code has 18 characters",
    SOURCE,
);
const CHARACTER: Rule = Rule::memory(
    "CREDIT_CODE_CHARACTER",
    "a unified social credit code has digits and upper-case letters without I, O, S, V and Z, and six digits of a division at 3 to 8",
    SOURCE,
);
const ORGANISATION: Rule = Rule::memory(
    "CREDIT_CODE_ORGANISATION_CHECK",
    "the check character of the organisation code at 9 to 17 is wrong",
    "GB 11714-1997",
);
const CHECK: Rule = Rule::memory("CREDIT_CODE_CHECK", "the check character is wrong", SOURCE);

/// Every rule that [`CreditCode::parse`] may name.
pub const CREDIT_CODE_RULES: [&Rule; 4] = [&LENGTH, &CHARACTER, &ORGANISATION, &CHECK];

/// The 31 symbols; a symbol's value is its place.
const ALPHABET: &[u8; 31] = b"0123456789ABCDEFGHJKLMNPQRTUWXY";
/// 3^(i-1) mod 31.
const WEIGHTS: [u32; 17] = [
    1, 3, 9, 27, 19, 26, 16, 17, 20, 29, 25, 13, 8, 24, 10, 30, 28,
];
const ORGANISATION_WEIGHTS: [u32; 8] = [3, 7, 9, 10, 5, 8, 4, 2];

/// A unified social credit code whose own check character and whose organisation code's are right.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CreditCode([u8; 18]);

impl CreditCode {
    /// Parses a code.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        let bytes: [u8; 18] = text.as_bytes().try_into().map_err(|_| Broken(&LENGTH))?;
        let mut sum = 0;
        for (position, (&byte, weight)) in bytes.iter().zip(WEIGHTS).enumerate() {
            let digit_required = (2..8).contains(&position);
            let value = symbol(byte).filter(|value| !digit_required || *value < 10);
            sum += value.ok_or(Broken(&CHARACTER))? * weight;
        }
        let check = symbol(bytes[17]).ok_or(Broken(&CHARACTER))?;
        if check != (31 - sum % 31) % 31 {
            return Err(Broken(&CHECK));
        }
        if organisation_check(&bytes[8..16]) != Some(bytes[16]) {
            return Err(Broken(&ORGANISATION));
        }
        Ok(Self(bytes))
    }

    /// The code as text. An organisation's code is public.
    pub fn as_str(&self) -> &str {
        // Only ASCII is ever stored.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The organisation code (GB 11714) inside: nine characters.
    pub fn organisation(&self) -> &str {
        &self.as_str()[8..17]
    }
}

impl fmt::Debug for CreditCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for CreditCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn symbol(byte: u8) -> Option<u32> {
    ALPHABET
        .iter()
        .position(|known| *known == byte)
        .and_then(|place| u32::try_from(place).ok())
}

/// Check character of the first eight of an organisation code: digits are 0 to 9, letters A to Z are 10 to 35.
fn organisation_check(first_eight: &[u8]) -> Option<u8> {
    let mut sum = 0;
    for (byte, weight) in first_eight.iter().zip(ORGANISATION_WEIGHTS) {
        sum += char::from(*byte).to_digit(36)? * weight;
    }
    match 11 - sum % 11 {
        10 => Some(b'X'),
        11 => Some(b'0'),
        digit => Some(b'0' + u8::try_from(digit).ok()?),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(text: &str) -> Result<CreditCode, &'static str> {
        CreditCode::parse(text).map_err(|Broken(rule)| rule.code)
    }

    #[test]
    fn vectors_are_accepted() {
        // The standard's sample, and the code of an administration that stands in a public catalogue of items.
        for text in ["91350100M000100Y43", "11511300008778693M"] {
            assert_eq!(parse(text).unwrap().to_string(), text);
        }
        assert_eq!(
            parse("91350100M000100Y43").unwrap().organisation(),
            "M000100Y4"
        );
    }

    #[test]
    fn each_rule_is_named() {
        for (text, code) in [
            ("", "CREDIT_CODE_LENGTH"),
            ("9135 0100M000100Y4", "CREDIT_CODE_CHARACTER"),
            ("91350100I000100Y43", "CREDIT_CODE_CHARACTER"),
            ("913501A0M000100Y43", "CREDIT_CODE_CHARACTER"),
            ("91350100m000100Y43", "CREDIT_CODE_CHARACTER"),
            ("11511301008778693M", "CREDIT_CODE_CHECK"),
            ("91350100M000100Y44", "CREDIT_CODE_CHECK"),
        ] {
            assert_eq!(parse(text), Err(code), "{text}");
        }
    }

    #[test]
    fn a_right_outer_check_does_not_hide_a_wrong_organisation_code() {
        let mut bytes = *b"91350100M000100Y53";
        let sum: u32 = bytes
            .iter()
            .zip(WEIGHTS)
            .map(|(b, w)| symbol(*b).unwrap() * w)
            .sum();
        bytes[17] = ALPHABET[usize::try_from((31 - sum % 31) % 31).unwrap()];
        let text = std::str::from_utf8(&bytes).unwrap();
        assert_eq!(parse(text), Err("CREDIT_CODE_ORGANISATION_CHECK"));
    }

    proptest! {
        #[test]
        fn any_text_is_judged_without_a_panic(text in "\\PC{0,24}") {
            let _ = parse(&text);
        }
    }
}
