//! HR marks, computed from evaluated rounds.

use banqiao_directory::CityCode;
use banqiao_kit::identifier::{DivisionCode, DivisionKind};
use banqiao_proto::lab::v1::{self as proto, HrMark, MarkScope};
use jiff::{Timestamp, ToSpan, tz::Offset};

use super::RoundId;
use crate::{catalogue::ItemCode, institution::Level, report::timestamp};

/// Months for which a mark holds at most (`MARK_VALIDITY`).
const MONTHS: i32 = 12;
/// Hours of the cities' time before UTC: China has no daylight saving time.
const HOURS: i8 = 8;

/// An evaluated round of an item, and what an institution reached in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JudgedRound {
    /// The item.
    pub item: ItemCode,
    /// The round.
    pub round: RoundId,
    /// Its scheme.
    pub scheme: String,
    /// How far the mark reaches.
    pub scope: MarkScope,
    /// Province or city of the scope.
    pub scope_code: String,
    /// When it closed, in microseconds since 1970-01-01 UTC.
    pub closes_at_us: i64,
    /// When it was evaluated, in microseconds since 1970-01-01 UTC.
    pub evaluated_at_us: i64,
    /// Whether the institution passed; none where it did not take part.
    pub passed: Option<bool>,
}

/// A mark of an institution for an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemMark {
    /// The item.
    pub item: ItemCode,
    /// How far it reaches.
    pub scope: MarkScope,
    /// Province or city of the scope.
    pub scope_code: String,
    /// The scheme.
    pub scheme: String,
    /// The round that was passed.
    pub round: RoundId,
    /// From when on it holds, in microseconds since 1970-01-01 UTC.
    pub from_us: i64,
    /// From when on it does not hold any more.
    pub until_us: i64,
}

impl ItemMark {
    /// Whether it is in force at a time.
    pub const fn is_in_force(&self, at_us: i64) -> bool {
        self.from_us <= at_us && at_us < self.until_us
    }

    /// The mark in an answer.
    pub fn shown(&self) -> HrMark {
        HrMark {
            scope: self.scope.into(),
            scope_code: self.scope_code.clone(),
            label: label(self.scope, &self.scope_code),
            scheme: self.scheme.clone(),
            round_id: self.round.as_str().to_owned(),
            valid_from: Some(timestamp(self.from_us)),
            valid_until: Some(timestamp(self.until_us)),
        }
    }

    /// The mark with its item in an answer.
    pub fn listed(&self) -> proto::ItemMark {
        proto::ItemMark {
            item_code: self.item.as_str().to_owned(),
            mark: Some(self.shown()),
        }
    }
}

/// The marks of an institution of a level, from the rounds of its items in the order of item and closing time (`MARK_VALIDITY`): each
/// passed round gives one, from its evaluation to that of the scheme's next round, and for twelve months at most.
pub fn marks(rounds: &[JudgedRound], level: Level) -> Vec<ItemMark> {
    let mut marks = Vec::new();
    for (place, judged) in rounds.iter().enumerate() {
        let entitled = judged.scope != MarkScope::Region || level >= Level::Second;
        if judged.passed != Some(true) || !entitled {
            continue;
        }
        let follows = |later: &&JudgedRound| {
            (&later.scheme, later.scope, &later.scope_code)
                == (&judged.scheme, judged.scope, &judged.scope_code)
        };
        let of_item = rounds.iter().skip(place + 1);
        let of_item = of_item.take_while(|later| later.item == judged.item);
        let later = of_item.filter(follows);
        let next = later.map(|later| later.evaluated_at_us).min();
        let from_us = judged.evaluated_at_us;
        let until_us = months_after(from_us).min(next.unwrap_or(i64::MAX));
        if from_us < until_us {
            marks.push(ItemMark {
                item: judged.item.clone(),
                scope: judged.scope,
                scope_code: judged.scope_code.clone(),
                scheme: judged.scheme.clone(),
                round: judged.round.clone(),
                from_us,
                until_us,
            });
        }
    }
    marks
}

/// The same day and time of the cities twelve months later.
fn months_after(at_us: i64) -> i64 {
    let later = Timestamp::from_microsecond(at_us).ok().and_then(|at| {
        let civil = Offset::constant(HOURS).to_datetime(at);
        let later = civil.checked_add(MONTHS.months()).ok()?;
        Offset::constant(HOURS).to_timestamp(later).ok()
    });
    // Only times beyond every calendar have none.
    later.map_or(at_us, Timestamp::as_microsecond)
}

/// Whether a mark of a scope counts in a city.
pub fn covers(scope: MarkScope, scope_code: &str, city: CityCode) -> bool {
    let city = city.as_str();
    match scope {
        MarkScope::National => true,
        MarkScope::Province => scope_code.len() == 6 && scope_code.get(..2) == city.get(..2),
        MarkScope::Region => {
            let division = DivisionCode::parse(city)
                .ok()
                .and_then(|code| code.division());
            division.is_some_and(|division| division.kind == DivisionKind::City)
        }
        MarkScope::City => scope_code == city,
        MarkScope::Unspecified => false,
    }
}

/// The mark as it is printed: 全国HR, 鲁HR, 胶东HR, 青岛HR.
fn label(scope: MarkScope, scope_code: &str) -> String {
    let name = match scope {
        MarkScope::National => "全国",
        MarkScope::Province => province(scope_code),
        MarkScope::Region => "胶东",
        MarkScope::City => DivisionCode::parse(scope_code)
            .ok()
            .and_then(|code| code.division())
            .map_or(scope_code, |division| division.name.trim_end_matches('市')),
        MarkScope::Unspecified => "",
    };
    format!("{name}HR")
}

/// 简称 of a province; its code where the network has no city of it.
fn province(code: &str) -> &str {
    match code {
        "370000" => "鲁",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-01-01 00:00 in the cities.
    const START: i64 = 1_767_196_800_000_000;
    const DAY: i64 = 86_400_000_000;

    fn judged(number: i64, evaluated: i64, passed: Option<bool>) -> JudgedRound {
        JudgedRound {
            item: ItemCode::parse("1500104A").unwrap(),
            round: RoundId::parse(&format!("R{number}")).unwrap(),
            scheme: "临床化学".to_owned(),
            scope: MarkScope::Region,
            scope_code: String::new(),
            closes_at_us: START + number * DAY,
            evaluated_at_us: START + evaluated * DAY,
            passed,
        }
    }

    fn spans(rounds: &[JudgedRound], level: Level) -> Vec<(i64, i64)> {
        let days = |us: i64| (us - START) / DAY;
        let spans = marks(rounds, level);
        spans
            .iter()
            .map(|mark| (days(mark.from_us), days(mark.until_us)))
            .collect()
    }

    #[test]
    fn a_mark_holds_until_the_next_evaluation_and_twelve_months_at_most() {
        let rounds = [judged(1, 10, Some(true)), judged(100, 110, Some(true))];
        assert_eq!(spans(&rounds, Level::Second), [(10, 110), (110, 475)]);
        // Failing the next round, or staying away from it, ends the mark.
        for passed in [Some(false), None] {
            let rounds = [judged(1, 10, Some(true)), judged(100, 110, passed)];
            assert_eq!(spans(&rounds, Level::Third), [(10, 110)]);
        }
        assert_eq!(spans(&[judged(1, 10, None)], Level::Third), []);
    }

    #[test]
    fn a_round_that_is_evaluated_late_gives_no_mark_after_its_successor() {
        let rounds = [judged(1, 120, Some(true)), judged(100, 110, Some(false))];
        assert_eq!(spans(&rounds, Level::Third), []);
    }

    #[test]
    fn schemes_and_scopes_do_not_end_each_others_marks() {
        let mut other = judged(100, 110, Some(false));
        other.scheme = "急诊".to_owned();
        let mut city = judged(101, 111, Some(false));
        city.scope = MarkScope::City;
        city.scope_code = "370200".to_owned();
        let rounds = [judged(1, 10, Some(true)), other, city];
        assert_eq!(spans(&rounds, Level::Second), [(10, 375)]);
    }

    #[test]
    fn the_regions_mark_is_for_level_two_and_above() {
        let rounds = [judged(1, 10, Some(true))];
        assert_eq!(spans(&rounds, Level::First), []);
        let mut city = judged(1, 10, Some(true));
        city.scope = MarkScope::City;
        assert_eq!(spans(&[city], Level::First), [(10, 375)]);
    }

    #[test]
    fn a_leap_day_ends_on_the_last_day_of_february() {
        // 2028-02-29 08:00 in the cities.
        let leap = 1_835_395_200_000_000;
        let until = Timestamp::from_microsecond(months_after(leap)).unwrap();
        assert_eq!(until.to_string(), "2029-02-28T00:00:00Z");
    }

    #[test]
    fn scopes_reach_their_cities_and_are_printed() {
        let (qingdao, yantai): (CityCode, CityCode) =
            ("370200".parse().unwrap(), "370600".parse().unwrap());
        let binzhou: CityCode = "371600".parse().unwrap();
        for (scope, code, label_of, reach) in [
            (MarkScope::National, "", "全国HR", [true, true, true]),
            (MarkScope::Province, "370000", "鲁HR", [true, true, true]),
            (
                MarkScope::Province,
                "420000",
                "420000HR",
                [false, false, false],
            ),
            (MarkScope::Region, "", "胶东HR", [true, true, false]),
            (MarkScope::City, "370200", "青岛HR", [true, false, false]),
            (MarkScope::Unspecified, "", "HR", [false, false, false]),
        ] {
            let reached = [qingdao, yantai, binzhou].map(|city| covers(scope, code, city));
            assert_eq!(reached, reach, "{scope:?}");
            assert_eq!(label(scope, code), label_of);
        }
    }
}
