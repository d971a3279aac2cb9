//! Conversions between units, exact but for one rounding at the end, and units that must not be converted.

use banqiao_kit::{Rule, RuleTable};

use super::{Normalised, item::TestItem};
use crate::decimal::{Decimal, divide, ten_to};

const NO_CONVERSION: Rule = Rule::design(
    "NO_CONVERSION",
    "the catalogue has no conversion from this unit: the value stays in the sender's unit",
    "catalogue",
);
const OUT_OF_RANGE: Rule = Rule::design(
    "OUT_OF_RANGE",
    "the number is too large to be converted exactly",
    "catalogue",
);
/// There is no unit to convert from.
pub(super) const UNIT_UNKNOWN: Rule = Rule::design(
    "UNIT_UNKNOWN",
    "the value has no unit, so it cannot be converted",
    "catalogue",
);

/// Rules by which units are never converted, whatever factor a catalogue has.
static REFUSALS: [Rule; 5] = [
    Rule::memory(
        "UREA_BASIS",
        "mg/dL may be of urea or of urea nitrogen, which differ by a factor of 2.14: send mg{BUN}/dL for urea nitrogen",
        "WS/T 404 and clinical practice",
    ),
    Rule::memory(
        "CKMB_ACTIVITY",
        "CK-MB activity in U/L has no factor to CK-MB mass: it is another test",
        "clinical practice",
    ),
    Rule::memory(
        "DDIMER_DDU",
        "D-dimer units (DDU) have no factor to fibrinogen equivalent units (FEU) that holds across assays",
        "clinical practice",
    ),
    Rule::memory(
        "DDIMER_BASIS",
        "say whether D-dimer is in FEU or in DDU: mg{FEU}/L or mg{DDU}/L",
        "clinical practice",
    ),
    Rule::memory(
        "HBA1C_FORMULA",
        "an IFCC value is converted to NGSP by the master equation from mmol/mol alone, never by a factor",
        "IFCC-NGSP master equation",
    ),
];

/// A conversion into an item's unit: value × `numerator` / `denominator` + `offset`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conversion {
    /// Unit that is converted, in UCUM.
    pub from: String,
    numerator: Decimal,
    denominator: Decimal,
    offset: Decimal,
}

impl Conversion {
    /// A conversion.
    ///
    /// # Errors
    /// A factor is not above zero.
    pub fn new(
        from: &str,
        numerator: Decimal,
        denominator: Decimal,
        offset: Decimal,
    ) -> Result<Self, &'static str> {
        if !numerator.is_positive() || !denominator.is_positive() {
            return Err("a factor must be above zero");
        }
        Ok(Self {
            from: from.to_owned(),
            numerator,
            denominator,
            offset,
        })
    }

    /// Parses `UNIT FACTOR`, `UNIT 1/DIVISOR`, or either with ` + OFFSET`.
    ///
    /// # Errors
    /// What is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (rule, offset) = match text.split_once(" + ") {
            Some((rule, offset)) => (rule, number(offset)?),
            None => (text, Decimal::ZERO),
        };
        let (from, factor) = rule.trim().split_once(' ').ok_or("must be UNIT FACTOR")?;
        let (numerator, denominator) = match factor.trim().strip_prefix("1/") {
            Some(divisor) => (Decimal::ONE, number(divisor)?),
            None => (number(factor)?, Decimal::ONE),
        };
        Self::new(from, numerator, denominator, offset).map_err(str::to_owned)
    }

    /// The factor: a decimal number, or `1/` and one.
    pub fn factor(&self) -> String {
        if self.denominator == Decimal::ONE {
            self.numerator.to_string()
        } else {
            format!("1/{}", self.denominator)
        }
    }

    /// The offset.
    pub const fn offset(&self) -> Decimal {
        self.offset
    }

    /// The converted value; none when it would not be exact before its rounding.
    ///
    /// It is rounded once, half to even, to the first place at which the converted last place of the sender has ten steps
    /// or more, so that converting back and rounding gives the sender's number again.
    pub fn apply(&self, value: Decimal) -> Option<Decimal> {
        let (numerator, denominator) = (self.numerator, self.denominator);
        // value × numerator / denominator + offset, over one common denominator.
        let dividend = value
            .units()
            .checked_mul(numerator.units())?
            .checked_mul(ten_to(denominator.places())?)?;
        let divisor = denominator
            .units()
            .checked_mul(ten_to(value.places() + numerator.places())?)?;
        let offset_scale = ten_to(self.offset.places())?;
        let dividend = dividend
            .checked_mul(offset_scale)?
            .checked_add(self.offset.units().checked_mul(divisor)?)?;
        let divisor = divisor.checked_mul(offset_scale)?;
        let places = self.places_for(value)?;
        let units = divide(dividend.checked_mul(ten_to(places)?)?, divisor)?;
        Some(Decimal::of(units, places))
    }

    /// The smallest number of places p with numerator / denominator × 10^p >= 10^(places of the value + 1).
    fn places_for(&self, value: Decimal) -> Option<u32> {
        let steps = self
            .denominator
            .units()
            .checked_mul(ten_to(self.numerator.places())?)?
            .checked_mul(ten_to(value.places() + 1)?)?;
        let slope = self
            .numerator
            .units()
            .checked_mul(ten_to(self.denominator.places())?)?;
        (0..=24).find(|places| {
            ten_to(*places)
                .and_then(|power| slope.checked_mul(power))
                .is_none_or(|reached| reached >= steps)
        })
    }
}

fn number(text: &str) -> Result<Decimal, String> {
    Decimal::parse(text.trim()).map_err(|broken| broken.to_string())
}

/// The rules of this module: they refuse a conversion, never a report.
pub(super) fn rules() -> RuleTable {
    unit_rules().fold(RuleTable::new("Conversions"), |table, rule| {
        table.answer(rule, &["PublishReport", "PublishReports", "PublishFhir"])
    })
}

/// Every rule by which a value stays in the sender's unit.
pub(crate) fn unit_rules() -> impl Iterator<Item = &'static Rule> {
    REFUSALS
        .iter()
        .chain([&NO_CONVERSION, &OUT_OF_RANGE, &UNIT_UNKNOWN])
}

/// A refusal by the code of its rule.
pub(super) fn refusal(code: &str) -> Option<&'static Rule> {
    REFUSALS.iter().find(|rule| rule.code == code)
}

/// A value in the unit of an item.
pub(super) fn apply(
    item: &TestItem,
    value: Decimal,
    ucum: &str,
) -> Result<Normalised, &'static Rule> {
    if ucum == item.ucum {
        return Ok(Normalised {
            value,
            factor: Decimal::ONE.to_string(),
            offset: Decimal::ZERO,
        });
    }
    if let Some((_, rule)) = item.refused.iter().find(|(unit, _)| unit == ucum) {
        return Err(rule);
    }
    let conversion = item
        .conversions
        .iter()
        .find(|conversion| conversion.from == ucum);
    let conversion = conversion.ok_or(&NO_CONVERSION)?;
    Ok(Normalised {
        value: conversion.apply(value).ok_or(&OUT_OF_RANGE)?,
        factor: conversion.factor(),
        offset: conversion.offset(),
    })
}
