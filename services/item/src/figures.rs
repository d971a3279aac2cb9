//! The figures of months: what the tallies mean, and sums of them.

use std::collections::BTreeMap;

use banqiao_directory::CityCode;
use banqiao_kit::{Broken, Rule, RuleTable};
use banqiao_proto::item::v1::{self as proto, CaseAction, HandlingMode, RectificationAction};
use serde::{Deserialize, Serialize};

use crate::store::{
    Store, StoreError, TallyRow,
    tally::{EXCLUDED, LATE, ON_TIME, RATINGS, RECTIFICATIONS, TIMED, WORKDAYS},
};

const MONTH: Rule = Rule::design(
    "MONTHS",
    "months are written YYYY-MM, the last is not before the first, and they are at most 24",
    "item service",
);
const HALF_YEAR: Rule = Rule::quoted(
    "HALF_YEAR_REPORT",
    "the joint meeting reports each half-year: received, accepted, refused, concluded, in time, working days, corrections and ratings by city, item, mode and month",
    "鲁政发〔2020〕2号 (二十四)",
);
const ON_TIME_RATE: Rule = Rule::design(
    "ON_TIME",
    "a decision is in time when no limit had passed: promised, legal, without special procedures; it counts in its month",
    "行政许可法 art. 42, 45, 82",
);

pub(crate) fn rules() -> RuleTable {
    const BOTH: &[&str] = &["ReadFigures", "ReadReport"];
    const ALL: &[&str] = &["ReadFigures", "ReadReport", "banqiao-item report"];
    RuleTable::new("Figures")
        .field(&MONTH, BOTH)
        .field(&crate::report::FORMAT, &["ReadReport"])
        .answer(&HALF_YEAR, ALL)
        .answer(&ON_TIME_RATE, ALL)
}

/// Most months of a report.
const MOST: i32 = 24;

/// Months from the first to the last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Months {
    from: String,
    to: String,
}

impl Months {
    /// Parses the first and the last month, `YYYY-MM`.
    ///
    /// # Errors
    /// The rule that they break.
    pub fn parse(from: &str, to: &str) -> Result<Self, Broken> {
        let (first, last) = (month_number(from), month_number(to));
        let (first, last) = first.zip(last).ok_or(Broken(&MONTH))?;
        if !(0..MOST).contains(&(last - first)) {
            return Err(Broken(&MONTH));
        }
        Ok(Self {
            from: from.to_owned(),
            to: to.to_owned(),
        })
    }

    /// The first month, `YYYY-MM`.
    pub fn first(&self) -> &str {
        &self.from
    }

    /// The last month, `YYYY-MM`.
    pub fn last(&self) -> &str {
        &self.to
    }

    /// Each month, `YYYY-MM`.
    pub fn each(&self) -> impl Iterator<Item = String> {
        let first = month_number(&self.from).unwrap_or_default();
        let last = month_number(&self.to).unwrap_or_default();
        (first..=last).map(|number| format!("{:04}-{:02}", number / 12, number % 12 + 1))
    }
}

fn month_number(text: &str) -> Option<i32> {
    let (year, month) = text.split_once('-')?;
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if year.len() != 4 || month.len() != 2 || !digits(year) || !digits(month) {
        return None;
    }
    let (year, month): (i32, i32) = (year.parse().ok()?, month.parse().ok()?);
    (1..=12).contains(&month).then_some(year * 12 + month - 1)
}

macro_rules! figures {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counts. What is counted, is counted in the month in which it happened.
        #[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields)]
        pub struct Figures {
            $($(#[$doc])* pub $name: i64,)*
            /// Ratings that count, from 非常满意 to 非常不满意.
            pub ratings: [i64; 5],
        }

        impl Figures {
            /// The single counts in order, each with its name.
            pub fn counts(&self) -> Vec<(&'static str, i64)> {
                vec![$((stringify!($name), self.$name)),*]
            }

            /// Adds those of `other`.
            pub fn merge(&mut self, other: &Self) {
                $(self.$name += other.$name;)*
                for (sum, more) in self.ratings.iter_mut().zip(other.ratings) {
                    *sum += more;
                }
            }
        }
    };
}

figures! {
    /// 申请.
    submitted,
    /// 收件.
    received,
    /// 受理, by a decision or by silence.
    accepted,
    /// Of these, by silence (逾期不告知).
    deemed_accepted,
    /// 不予受理.
    not_accepted,
    /// 准予.
    granted,
    /// 不予.
    refused,
    /// 办结.
    concluded,
    /// 送达.
    delivered,
    /// Decisions in time.
    on_time,
    /// Decisions after a limit.
    late,
    /// Working days that the decisions took, together.
    workdays,
    /// Decisions of which the working days are known.
    timed,
    /// 补正告知.
    corrections,
    /// 延长期限.
    extensions,
    /// 特别程序.
    special_procedures,
    /// 撤回.
    withdrawn,
    /// 异常终止.
    terminated,
    /// 黄牌.
    yellow,
    /// 红牌.
    red,
    /// Ratings that were excluded after an appeal.
    excluded_ratings,
    /// Rectifications that began.
    rectifications,
    /// Rectifications that ended.
    rectified,
    /// Rectifications whose limit passed.
    overdue_rectifications,
}

/// A share in units of 1/10,000; none of nothing.
fn share(part: i64, whole: i64) -> Option<i64> {
    (whole > 0).then(|| (part * 10_000 + whole / 2) / whole)
}

impl Figures {
    /// Adds what a tally counted. A measure that no figure is made of is passed over.
    pub(crate) fn add(&mut self, measure: i32, counted: i64) {
        match measure {
            ON_TIME => self.on_time += counted,
            LATE => self.late += counted,
            WORKDAYS => self.workdays += counted,
            TIMED => self.timed += counted,
            EXCLUDED => self.excluded_ratings += counted,
            201..=205 => {
                let level = usize::try_from(measure - RATINGS - 1).unwrap_or_default();
                self.ratings[level] += counted;
            }
            300.. => self.add_rectification(measure - RECTIFICATIONS, counted),
            _ => self.add_action(measure, counted),
        }
    }

    fn add_rectification(&mut self, action: i32, counted: i64) {
        match RectificationAction::try_from(action) {
            Ok(RectificationAction::Open) => self.rectifications += counted,
            Ok(RectificationAction::Close | RectificationAction::Exclude) => {
                self.rectified += counted;
            }
            Ok(RectificationAction::WarnRed) => self.overdue_rectifications += counted,
            _ => {}
        }
    }

    fn add_action(&mut self, action: i32, counted: i64) {
        let figure = match CaseAction::try_from(action) {
            Ok(CaseAction::Submit) => &mut self.submitted,
            Ok(CaseAction::Receive) => &mut self.received,
            Ok(CaseAction::Accept) => &mut self.accepted,
            Ok(CaseAction::DeemAccepted) => {
                self.accepted += counted;
                &mut self.deemed_accepted
            }
            Ok(CaseAction::RefuseAcceptance) => &mut self.not_accepted,
            Ok(CaseAction::Grant) => &mut self.granted,
            Ok(CaseAction::Refuse) => &mut self.refused,
            Ok(CaseAction::Conclude) => &mut self.concluded,
            Ok(CaseAction::Deliver) => &mut self.delivered,
            Ok(CaseAction::NotifyCorrection) => &mut self.corrections,
            Ok(CaseAction::Extend) => &mut self.extensions,
            Ok(CaseAction::BeginSpecial) => &mut self.special_procedures,
            Ok(CaseAction::Withdraw) => &mut self.withdrawn,
            Ok(CaseAction::Terminate | CaseAction::Compensate) => &mut self.terminated,
            Ok(CaseAction::WarnYellow) => &mut self.yellow,
            Ok(CaseAction::WarnRed) => &mut self.red,
            _ => return,
        };
        *figure += counted;
    }

    /// Decisions in time, in 1/10,000 of all that have a limit or were made; none without decisions.
    pub fn on_time_share(&self) -> Option<i64> {
        share(self.on_time, self.on_time + self.late)
    }

    /// Average working days of a decision, in 1/100 days; none without decisions.
    pub fn average_workdays(&self) -> Option<i64> {
        (self.timed > 0).then(|| (self.workdays * 100 + self.timed / 2) / self.timed)
    }

    /// Ratings that are no 差评, in 1/10,000; none without ratings.
    pub fn satisfied_share(&self) -> Option<i64> {
        let [very, satisfied, fair, ..] = self.ratings;
        share(very + satisfied + fair, self.ratings.iter().sum())
    }

    /// The figures in an answer.
    pub fn shown(&self) -> proto::Figures {
        let count = |count: i64| u64::try_from(count).unwrap_or_default();
        proto::Figures {
            submitted: count(self.submitted),
            received: count(self.received),
            accepted: count(self.accepted),
            deemed_accepted: count(self.deemed_accepted),
            not_accepted: count(self.not_accepted),
            granted: count(self.granted),
            refused: count(self.refused),
            concluded: count(self.concluded),
            delivered: count(self.delivered),
            on_time: count(self.on_time),
            late: count(self.late),
            workdays: count(self.workdays),
            timed: count(self.timed),
            corrections: count(self.corrections),
            extensions: count(self.extensions),
            special_procedures: count(self.special_procedures),
            withdrawn: count(self.withdrawn),
            terminated: count(self.terminated),
            yellow: count(self.yellow),
            red: count(self.red),
            ratings: self.ratings.map(count).to_vec(),
            excluded_ratings: count(self.excluded_ratings),
            rectifications: count(self.rectifications),
            rectified: count(self.rectified),
            overdue_rectifications: count(self.overdue_rectifications),
        }
    }
}

/// The figures of a month, city, item and mode.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FigureRow {
    /// Deciding city.
    pub city: String,
    /// Month, `YYYY-MM`.
    pub month: String,
    /// City where the applicants applied; of ratings, the rated city.
    pub applied_city: String,
    /// Item.
    pub item: String,
    /// Handling mode, such as `PROXY_COLLECTION`.
    pub mode: String,
    /// These are tasks of joint cases, which are counted apart from cases.
    pub tasks: bool,
    /// The figures.
    pub figures: Figures,
}

impl FigureRow {
    /// The rows of tallies of a deciding city, in the order of months, cities, items and modes.
    pub fn of(city: CityCode, tallies: &[TallyRow]) -> Vec<Self> {
        let mut rows: BTreeMap<_, Figures> = BTreeMap::new();
        for tally in tallies {
            let (month, applied, item) = (&tally.month, &tally.city, &tally.item_id);
            let key = (month, applied, item, tally.mode, tally.task);
            let figures = rows.entry(key).or_default();
            figures.add(tally.measure, tally.counted);
        }
        let rows = rows.into_iter();
        rows.map(|((month, applied, item, mode, tasks), figures)| Self {
            city: city.to_string(),
            month: month.clone(),
            applied_city: applied.clone(),
            item: item.clone(),
            mode: mode_name(HandlingMode::try_from(mode).unwrap_or_default()).to_owned(),
            tasks,
            figures,
        })
        .collect()
    }

    /// The row in an answer.
    pub fn shown(&self) -> proto::ReadFiguresResponse {
        let name = format!("HANDLING_MODE_{}", self.mode);
        proto::ReadFiguresResponse {
            city: self.city.clone(),
            month: self.month.clone(),
            applied_city: self.applied_city.clone(),
            item_id: self.item.clone(),
            mode: HandlingMode::from_str_name(&name)
                .unwrap_or_default()
                .into(),
            tasks: self.tasks,
            figures: Some(self.figures.shown()),
        }
    }
}

/// The short name of a mode.
pub(crate) fn mode_name(mode: HandlingMode) -> &'static str {
    mode.as_str_name().trim_start_matches("HANDLING_MODE_")
}

impl Store {
    /// The figures of months.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn figures(
        &self,
        city: CityCode,
        months: &Months,
    ) -> Result<Vec<FigureRow>, StoreError> {
        let tallies = self.tallies(months.first(), months.last()).await?;
        Ok(FigureRow::of(city, &tallies))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_are_at_most_two_years_in_order() {
        let half = Months::parse("2025-11", "2026-02").unwrap();
        assert!(half.each().eq(["2025-11", "2025-12", "2026-01", "2026-02"]));
        for (from, to) in [
            ("2026-01", "2025-12"),
            ("2026-1", "2026-02"),
            ("2026-13", "2026-13"),
            ("2026-00", "2026-01"),
            ("+026-01", "2026-02"),
            ("2024-01", "2026-01"),
            ("", ""),
        ] {
            assert!(Months::parse(from, to).is_err(), "{from} {to}");
        }
    }

    #[test]
    fn shares_are_rounded_and_of_nothing_there_is_none() {
        let mut figures = Figures::default();
        assert_eq!(
            (figures.on_time_share(), figures.average_workdays()),
            (None, None)
        );
        assert_eq!(figures.satisfied_share(), None);
        (figures.on_time, figures.late) = (2, 1);
        (figures.workdays, figures.timed) = (10, 3);
        figures.ratings = [1, 1, 1, 1, 0];
        assert_eq!(figures.on_time_share(), Some(6_667));
        assert_eq!(figures.average_workdays(), Some(333));
        assert_eq!(figures.satisfied_share(), Some(7_500));
    }
}
