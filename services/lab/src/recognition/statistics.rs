//! How often results were recognised, why they were repeated, and what that saved.

use std::collections::BTreeMap;

use banqiao_kit::{Violation, Violations, identifier::CreditCode};
use banqiao_proto::lab::v1::{
    DecisionOutcome, DecisionSide, InstitutionStatistics, ItemStatistics, ReadStatisticsRequest,
    ReadStatisticsResponse, ReasonCount, RecognitionCounts,
};
use prost_types::Timestamp;

use super::{Estimates, Recognition, rule};
use crate::{
    catalogue::ItemCode,
    decimal::{Decimal, divide},
    report::microseconds,
    store::{DecisionCount, DecisionCountSearch, StoreError},
};

/// Most institutions, and most items, that a request names.
const MOST_NAMED: usize = 100;

/// A parsed request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatisticsSearch(DecisionCountSearch);

/// Decisions of one kind, added up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CountedDecisions {
    recognised: u64,
    reasons: BTreeMap<i32, u64>,
    saved_fen: i64,
    unpriced: u64,
}

impl CountedDecisions {
    /// Adds decisions of an item, with what the estimates say of it.
    pub fn add(&mut self, count: &DecisionCount, estimates: &Estimates) {
        if count.outcome == DecisionOutcome::Recognised {
            self.recognised += count.count;
            match estimates.of(&count.item) {
                Some(estimate) => {
                    let number = i64::try_from(count.count).unwrap_or(i64::MAX);
                    let saved = estimate.price_fen.saturating_mul(number);
                    self.saved_fen = self.saved_fen.saturating_add(saved);
                }
                None => self.unpriced += count.count,
            }
        } else {
            *self.reasons.entry(count.reason.into()).or_default() += count.count;
        }
    }

    /// The counts in an answer.
    pub fn shown(&self) -> RecognitionCounts {
        let repeated = self.reasons.values().sum();
        let decided = self.recognised + repeated;
        RecognitionCounts {
            decided,
            recognised: self.recognised,
            repeated,
            recognition_rate: rate(self.recognised, decided),
            reasons: self
                .reasons
                .iter()
                .map(|(reason, count)| ReasonCount {
                    reason: *reason,
                    count: *count,
                })
                .collect(),
            estimated_saved_fen: self.saved_fen,
            unpriced: self.unpriced,
        }
    }
}

/// A share in percent with two decimals, half to even; empty of nothing.
fn rate(part: u64, whole: u64) -> String {
    let hundredths = divide(i128::from(part) * 10_000, i128::from(whole));
    hundredths.map_or_else(String::new, |units| Decimal::of(units, 2).to_string())
}

impl Recognition {
    /// Judges a request.
    ///
    /// # Errors
    /// Every field that breaks a rule.
    pub fn statistics_search(
        &self,
        request: &ReadStatisticsRequest,
    ) -> Result<StatisticsSearch, Vec<Violation>> {
        let mut faults = Violations::new();
        let city = self.reports.city();
        let side = DecisionSide::try_from(request.side);
        if side.is_err() {
            faults.add("side", &rule::SIDE);
        }
        for (field, length) in [
            ("institutions", request.institutions.len()),
            ("item_codes", request.item_codes.len()),
        ] {
            if length > MOST_NAMED {
                faults.add(field, &rule::STATISTICS);
            }
        }
        let mut institutions = Vec::new();
        for (place, code) in request.institutions.iter().take(MOST_NAMED).enumerate() {
            let field = format!("institutions[{place}]");
            match faults.check(field.clone(), self.reports.institutions().find(code)) {
                Some(institution) if institution.city == city => {
                    institutions.push(institution.credit_code);
                }
                Some(_) => faults.add(field, &rule::STATISTICS),
                None => {}
            }
        }
        if request.institutions.is_empty() {
            let all = self.reports.institutions().iter();
            let of_city = all.filter(|institution| institution.city == city);
            institutions.extend(of_city.map(|institution| institution.credit_code));
        }
        let mut items = Vec::new();
        for (place, code) in request.item_codes.iter().take(MOST_NAMED).enumerate() {
            items.extend(faults.check(format!("item_codes[{place}]"), ItemCode::parse(code)));
        }
        let bound = |time: &Option<Timestamp>, open| match time {
            None => Some(open),
            Some(time) => microseconds(time),
        };
        let span = bound(&request.from, i64::MIN).zip(bound(&request.before, i64::MAX));
        let span = span.filter(|(from, before)| from <= before);
        if span.is_none() {
            faults.add("before", &rule::STATISTICS);
        }
        match (side, span) {
            (Ok(side), Some((from_us, before_us))) if faults.is_empty() => {
                Ok(StatisticsSearch(DecisionCountSearch {
                    side,
                    institutions,
                    items,
                    from_us,
                    before_us,
                }))
            }
            _ => Err(faults.into_vec()),
        }
    }

    /// The statistics.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn statistics(
        &self,
        StatisticsSearch(search): &StatisticsSearch,
    ) -> Result<ReadStatisticsResponse, StoreError> {
        let store = self.reports.store();
        let counts = store.decision_counts(search).await?;
        let drawn: Vec<_> = self.estimates.drawn().collect();
        let draws: BTreeMap<_, _> = store
            .saved_draws(search, &drawn)
            .await?
            .into_iter()
            .collect();
        let mut by_institution: BTreeMap<CreditCode, BTreeMap<ItemCode, CountedDecisions>> =
            BTreeMap::new();
        let mut totals: BTreeMap<CreditCode, CountedDecisions> = BTreeMap::new();
        let mut basis = BTreeMap::new();
        for count in &counts {
            let items = by_institution.entry(count.institution).or_default();
            let item = items.entry(count.item.clone()).or_default();
            item.add(count, &self.estimates);
            totals
                .entry(count.institution)
                .or_default()
                .add(count, &self.estimates);
            if let Some(estimate) = self.estimates.of(&count.item) {
                basis.insert(count.item.clone(), estimate.shown(&count.item));
            }
        }
        let shown = by_institution.into_iter().map(|(institution, items)| {
            let total = totals.get(&institution).map(CountedDecisions::shown);
            let items = items.iter().map(|(item, counted)| ItemStatistics {
                item_code: item.as_str().to_owned(),
                counts: Some(counted.shown()),
            });
            InstitutionStatistics {
                institution: institution.to_string(),
                total,
                items: items.collect(),
                estimated_draws_saved: draws.get(&institution).copied().unwrap_or_default(),
            }
        });
        Ok(ReadStatisticsResponse {
            city: self.reports.city().to_string(),
            institutions: shown.collect(),
            basis: basis.into_values().collect(),
            basis_version: self.estimates.version().to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use banqiao_proto::lab::v1::RepeatReason;

    use super::*;

    #[test]
    fn rates_have_two_decimals_half_to_even() {
        assert_eq!(rate(2, 3), "66.67");
        assert_eq!(rate(1, 8), "12.50");
        assert_eq!(rate(1, 1_600), "0.06");
        assert_eq!(rate(3, 1_600), "0.19");
        assert_eq!(rate(5, 5), "100.00");
        assert_eq!(rate(0, 5), "0.00");
        assert_eq!(rate(0, 0), "");
    }

    #[test]
    fn counts_add_up_and_what_has_no_price_is_told() {
        let estimates = Estimates::built_in().unwrap();
        let count = |item: &str, outcome, reason, count| DecisionCount {
            institution: CreditCode::parse("91350100M000100Y43").unwrap(),
            item: ItemCode::parse(item).unwrap(),
            outcome,
            reason,
            count,
        };
        let mut counted = CountedDecisions::default();
        let (recognised, repeated) = (DecisionOutcome::Recognised, DecisionOutcome::Repeated);
        let none = RepeatReason::Unspecified;
        counted.add(&count("1500104A", recognised, none, 3), &estimates);
        counted.add(&count("9999999A", recognised, none, 1), &estimates);
        counted.add(
            &count("1500104A", repeated, RepeatReason::Emergency, 2),
            &estimates,
        );
        let shown = counted.shown();
        assert_eq!((shown.decided, shown.recognised, shown.repeated), (6, 4, 2));
        assert_eq!(shown.recognition_rate, "66.67");
        assert_eq!((shown.estimated_saved_fen, shown.unpriced), (1_500, 1));
        assert_eq!(
            (shown.reasons[0].reason(), shown.reasons[0].count),
            (RepeatReason::Emergency, 2)
        );
    }
}
