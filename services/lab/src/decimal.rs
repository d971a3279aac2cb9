//! Decimal numbers as laboratories write them: exact, with the places that the sender wrote.

use std::{cmp::Ordering, fmt};

use banqiao_kit::{Broken, Rule};

/// Most digits of a number. No laboratory has more, and products with any factor of a catalogue stay exact in 128 bits.
const MAX_DIGITS: usize = 15;

/// Rule of every number.
pub(crate) const DECIMAL: Rule = Rule::design(
    "DECIMAL",
    "a number has at most 15 decimal digits, perhaps a point and a minus sign, and no exponent: send ranges and words as text",
    "FHIR R4 decimal, narrowed",
);

/// A decimal number: `units` × 10^-`places`. `3.50` keeps its two places, and equals `3.5`.
#[derive(Clone, Copy)]
pub struct Decimal {
    units: i128,
    places: u32,
}

impl Decimal {
    /// One.
    pub const ONE: Self = Self {
        units: 1,
        places: 0,
    };
    /// Zero.
    pub const ZERO: Self = Self {
        units: 0,
        places: 0,
    };

    /// Parses a number.
    ///
    /// # Errors
    /// It has another form, or too many digits.
    pub fn parse(text: &str) -> Result<Self, Broken> {
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, fraction) = match digits.split_once('.') {
            Some((_, "")) => return Err(Broken(&DECIMAL)),
            Some(parts) => parts,
            None => (digits, ""),
        };
        // `007` is no number in JSON, and nobody means one by it.
        let sound = !whole.is_empty()
            && (whole == "0" || !whole.starts_with('0'))
            && whole.len() + fraction.len() <= MAX_DIGITS
            && whole
                .bytes()
                .chain(fraction.bytes())
                .all(|byte| byte.is_ascii_digit());
        if !sound {
            return Err(Broken(&DECIMAL));
        }
        let units = whole
            .bytes()
            .chain(fraction.bytes())
            .fold(0_i128, |sum, digit| sum * 10 + i128::from(digit - b'0'));
        Ok(Self {
            units: if negative { -units } else { units },
            places: u32::try_from(fraction.len()).unwrap_or_default(),
        })
    }

    /// A number of units of 10^-`places`.
    pub(crate) const fn of(units: i128, places: u32) -> Self {
        Self { units, places }
    }

    /// Digits behind the point.
    pub const fn places(self) -> u32 {
        self.places
    }

    /// Whether it is above zero.
    pub const fn is_positive(self) -> bool {
        self.units > 0
    }

    /// The number without its sign.
    pub const fn abs(self) -> Self {
        Self {
            units: self.units.abs(),
            places: self.places,
        }
    }

    /// The difference; none when it is too large to be exact.
    pub fn minus(self, other: Self) -> Option<Self> {
        let places = self.places.max(other.places);
        let units = self.at(places)?.checked_sub(other.at(places)?)?;
        Some(Self { units, places })
    }

    /// The product; none when it is too large to be exact.
    pub fn times(self, other: Self) -> Option<Self> {
        Some(Self {
            units: self.units.checked_mul(other.units)?,
            places: self.places.checked_add(other.places)?,
        })
    }

    /// Units of 10^-`places`, for at least as many places as the number has.
    fn at(self, places: u32) -> Option<i128> {
        self.units
            .checked_mul(ten_to(places.checked_sub(self.places)?)?)
    }

    pub(crate) const fn units(self) -> i128 {
        self.units
    }
}

/// 10^`exponent`.
pub(crate) fn ten_to(exponent: u32) -> Option<i128> {
    10_i128.checked_pow(exponent)
}

/// The quotient, rounded half to even; none when the divisor is not above zero.
pub(crate) fn divide(dividend: i128, divisor: i128) -> Option<i128> {
    if divisor <= 0 {
        return None;
    }
    let (quotient, rest) = (dividend.div_euclid(divisor), dividend.rem_euclid(divisor));
    let up = match rest.cmp(&(divisor - rest)) {
        Ordering::Less => false,
        Ordering::Equal => quotient % 2 != 0,
        Ordering::Greater => true,
    };
    quotient.checked_add(i128::from(up))
}

impl PartialEq for Decimal {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Decimal {}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> Ordering {
        let places = self.places.max(other.places);
        match (self.at(places), other.at(places)) {
            (Some(one), Some(two)) => one.cmp(&two),
            // Only one of them can be that large, and the sign of its units tells.
            (None, _) => self.units.cmp(&0),
            (_, None) => 0.cmp(&other.units),
        }
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.units < 0 { "-" } else { "" };
        let width = usize::try_from(self.places).unwrap_or_default() + 1;
        let digits = format!("{:0width$}", self.units.unsigned_abs());
        let (whole, fraction) = digits.split_at(digits.len() + 1 - width);
        let point = if fraction.is_empty() { "" } else { "." };
        write!(f, "{sign}{whole}{point}{fraction}")
    }
}

impl fmt::Debug for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    #[test]
    fn numbers_keep_their_places() {
        for text in ["0", "3.50", "-0.07", "123456789012345", "0.000001", "-12"] {
            assert_eq!(decimal(text).to_string(), text);
        }
        assert_eq!(decimal("3.50"), decimal("3.5"));
        assert!(decimal("-0.07") < decimal("-0.069"));
        assert!(decimal("10") > decimal("9.99999"));
    }

    #[test]
    fn other_forms_are_refused() {
        for text in [
            "",
            "-",
            ".5",
            "5.",
            "1e3",
            "+1",
            " 1",
            "1,5",
            "１",
            "1.2.3",
            "NaN",
            "007",
            "1234567890123456",
        ] {
            assert_eq!(Decimal::parse(text), Err(Broken(&DECIMAL)), "{text}");
        }
    }

    #[test]
    fn a_half_is_rounded_to_even() {
        for (dividend, divisor, rounded) in [
            (5, 2, 2),
            (7, 2, 4),
            (-5, 2, -2),
            (-7, 2, -4),
            (8, 3, 3),
            (-1, 3, 0),
        ] {
            assert_eq!(
                divide(dividend, divisor),
                Some(rounded),
                "{dividend}/{divisor}"
            );
        }
        assert_eq!(divide(1, 0), None);
    }

    proptest! {
        #[test]
        fn what_is_shown_is_what_was_parsed(units in -999_999_999_999_999_i128..=999_999_999_999_999, places in 0_u32..=6) {
            let number = Decimal::of(units, places);
            let shown = number.to_string();
            let parsed = Decimal::parse(&shown);
            if let Ok(parsed) = parsed {
                prop_assert_eq!(parsed, number);
                prop_assert_eq!(parsed.to_string(), shown);
            } else {
                prop_assert!(shown.bytes().filter(u8::is_ascii_digit).count() > MAX_DIGITS);
            }
        }

        #[test]
        fn order_is_that_of_the_numbers(a in -9_999_i64..9_999, b in -9_999_i64..9_999, p in 0_u32..4, q in 0_u32..4) {
            let (one, two) = (Decimal::of(a.into(), p), Decimal::of(b.into(), q));
            let exact = (i128::from(a) * 10_i128.pow(q)).cmp(&(i128::from(b) * 10_i128.pow(p)));
            prop_assert_eq!(one.cmp(&two), exact);
            prop_assert_eq!(one.minus(two).unwrap().is_positive(), exact == Ordering::Greater);
        }
    }
}
