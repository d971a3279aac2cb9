//! Whether a value passes, and whether enough of them do. Exact: there is no binary fraction anywhere.

use std::collections::BTreeMap;

use banqiao_kit::identifier::CreditCode;
use banqiao_proto::lab::v1::{Evaluation, QualityRound};

use crate::{
    catalogue::{AllowableError, Catalogue, ItemCode},
    decimal::Decimal,
    store::SampleValue,
};

/// Share of the samples that must pass, in percent (`ROUND_PASSED`).
const PASS_PERCENT: u64 = 80;

/// Whether a value differs from a target by no more than the allowable total error (`ALLOWABLE_ERROR`): the absolute limit for targets
/// up to its bound, itself included, and the percentage of the target above it.
pub fn within(error: &AllowableError, target: Decimal, value: Decimal) -> bool {
    let Some(difference) = value.minus(target).map(Decimal::abs) else {
        return false;
    };
    match error.below {
        Some(below) if target <= below.up_to => difference <= below.limit,
        // Both sides times a hundred, so that nothing is divided.
        _ => difference
            .times(Decimal::of(100, 0))
            .zip(error.percent.times(target))
            .is_some_and(|(difference, limit)| difference <= limit),
    }
}

/// Whether so many of the samples are enough (`ROUND_PASSED`).
pub const fn passes(passed_samples: u32, samples: u32) -> bool {
    samples > 0 && passed_samples as u64 * 100 >= samples as u64 * PASS_PERCENT
}

/// How an institution did in an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Score {
    /// The institution.
    pub institution: CreditCode,
    /// The item.
    pub item: ItemCode,
    /// Samples of the item.
    pub samples: u32,
    /// Samples whose value passed.
    pub passed_samples: u32,
}

impl Score {
    /// Whether the item was passed.
    pub const fn is_passed(&self) -> bool {
        passes(self.passed_samples, self.samples)
    }

    /// The score in an answer.
    pub fn shown(&self) -> Evaluation {
        Evaluation {
            institution: self.institution.to_string(),
            item_code: self.item.as_str().to_owned(),
            samples: self.samples,
            passed_samples: self.passed_samples,
            passed: self.is_passed(),
        }
    }
}

/// The scores of a round, by institution and item, from the values that count.
pub(super) fn scores(
    round: &QualityRound,
    values: &[SampleValue],
    catalogue: &Catalogue,
) -> Vec<Score> {
    let mut targets = BTreeMap::new();
    let mut samples: BTreeMap<&str, u32> = BTreeMap::new();
    for item in &round.items {
        for sample in &item.samples {
            targets.insert(
                (item.item_code.as_str(), sample.sample.as_str()),
                &sample.target,
            );
            *samples.entry(&item.item_code).or_default() += 1;
        }
    }
    let mut scores: BTreeMap<(CreditCode, ItemCode), u32> = BTreeMap::new();
    for value in values {
        let key = (value.key.institution, value.key.item.clone());
        let passed = scores.entry(key).or_default();
        let target = targets.get(&(value.key.item.as_str(), value.key.sample.as_str()));
        let target = target.and_then(|target| Decimal::parse(target).ok());
        let error = catalogue.item(value.key.item.as_str());
        let error = error.and_then(|item| item.allowable_error);
        let number = Decimal::parse(&value.value).ok();
        if let (Some(target), Some(error), Some(number)) = (target, error, number) {
            *passed += u32::from(within(&error, target, number));
        }
    }
    scores
        .into_iter()
        .map(|((institution, item), passed_samples)| Score {
            institution,
            samples: samples.get(item.as_str()).copied().unwrap_or_default(),
            item,
            passed_samples,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalogue::BelowLimit;

    fn decimal(text: &str) -> Decimal {
        Decimal::parse(text).unwrap()
    }

    /// The items of the catalogue whose limit has two parts.
    fn piecewise() -> Vec<(String, AllowableError, BelowLimit)> {
        let catalogue = Catalogue::built_in().unwrap();
        let items = catalogue.items().iter().filter_map(|item| {
            let error = item.allowable_error?;
            Some((item.abbreviation.clone(), error, error.below?))
        });
        items.collect()
    }

    #[test]
    fn limits_hold_at_their_edges_as_the_standard_prints_them() {
        let catalogue = Catalogue::built_in().unwrap();
        for (loinc, target, value, passes) in [
            // ALT: 6 U/L up to 40 U/L, 15 % above.
            ("1742-6", "40", "46", true),
            ("1742-6", "40", "46.1", false),
            ("1742-6", "40", "34", true),
            ("1742-6", "40", "33.9", false),
            ("1742-6", "40.01", "46.0115", true),
            ("1742-6", "40.01", "46.0116", false),
            ("1742-6", "100", "115", true),
            ("1742-6", "100", "85.0", true),
            ("1742-6", "100", "115.0001", false),
            // K: 0.2 mmol/L up to 3.3, 6 % above.
            ("2823-3", "3.3", "3.5", true),
            ("2823-3", "3.3", "3.51", false),
            ("2823-3", "3.31", "3.5086", true),
            ("2823-3", "3.31", "3.5087", false),
            // GLU: 0.21 mmol/L up to 3, 7 % above: both parts meet.
            ("14749-6", "3", "3.21", true),
            ("14749-6", "3.00", "3.211", false),
            ("14749-6", "3.001", "3.21107", true),
            ("14749-6", "3.001", "3.211071", false),
            // TSH: only the percentage; the low limit that the standard prints has a wrong unit.
            ("3016-3", "0.1", "0.12", true),
            ("3016-3", "0.1", "0.121", false),
            // WBC: a percentage alone.
            ("6690-2", "4.0", "4.6", true),
            ("6690-2", "4.0", "4.61", false),
        ] {
            let error = catalogue.item(loinc).unwrap().allowable_error.unwrap();
            let judged = within(&error, decimal(target), decimal(value));
            assert_eq!(judged, passes, "{loinc}: {value} for {target}");
        }
    }

    #[test]
    fn four_of_five_pass_and_nothing_passes_of_none() {
        assert!(passes(4, 5) && passes(8, 10) && passes(5, 6) && passes(20, 20));
        assert!(!passes(3, 5) && !passes(7, 10) && !passes(4, 6) && !passes(0, 5) && !passes(0, 0));
    }

    proptest! {
        #[test]
        fn at_the_bound_the_absolute_limit_holds_and_just_above_it_the_percentage(
            which in 0_usize..64, below in 0_i128..=1_000, step in 1_i128..=1_000,
        ) {
            let items = piecewise();
            let (name, error, limit) = &items[which % items.len()];
            // Targets in thousandths of the bound, at it and below: exactly the limit passes, a billionth more does not.
            let target = limit.up_to.times(Decimal::of(1_000 - below.min(999), 3)).unwrap();
            let edge = target.minus(limit.limit.times(Decimal::of(-1, 0)).unwrap()).unwrap();
            let over = edge.minus(Decimal::of(-1, 9)).unwrap();
            prop_assert!(within(error, target, edge), "{name}: {edge} for {target}");
            prop_assert!(!within(error, target, over), "{name}: {over} for {target}");
            // Above the bound only the percentage counts.
            let target = limit.up_to.times(Decimal::of(1_000 + step, 3)).unwrap();
            let share = error.percent.times(target).unwrap().times(Decimal::of(1, 2)).unwrap();
            let edge = target.minus(share).unwrap();
            let over = edge.minus(Decimal::of(1, 9)).unwrap();
            prop_assert!(within(error, target, edge), "{name}: {edge} for {target}");
            prop_assert!(!within(error, target, over), "{name}: {over} for {target}");
        }

        #[test]
        fn a_limit_is_the_same_on_both_sides_and_nearer_values_pass_too(
            percent in 1_i128..=50, target in 1_i128..=9_999_999, off in 0_i128..=9_999_999, places in 0_u32..4,
        ) {
            let error = AllowableError { percent: Decimal::of(percent, 0), below: None };
            let target = Decimal::of(target, places);
            let (high, low) = (
                target.minus(Decimal::of(-off, places)).unwrap(),
                target.minus(Decimal::of(off, places)).unwrap(),
            );
            let judged = within(&error, target, high);
            prop_assert_eq!(judged, within(&error, target, low));
            prop_assert_eq!(judged, off * 100 <= percent * target.units());
            if judged && off > 0 {
                prop_assert!(within(&error, target, target.minus(Decimal::of(1 - off, places)).unwrap()));
            }
        }
    }
}
