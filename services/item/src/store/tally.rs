//! What is counted, month by month, in the transaction in which it happened.

use std::collections::BTreeMap;

use banqiao_kit::{Database, civil_date};
use banqiao_proto::item::v1::CaseAction;
use serde::Serialize;

use super::{NewCaseWrite, Store, StoreError};
use crate::rating::Rated;

/// Measures beside the actions of cases, which are their own measures: see the migration that makes the table.
pub(crate) const ON_TIME: i32 = 101;
pub(crate) const LATE: i32 = 102;
pub(crate) const WORKDAYS: i32 = 103;
pub(crate) const TIMED: i32 = 104;
/// Ratings by 满意度: this and its number.
pub(crate) const RATINGS: i32 = 200;
pub(crate) const EXCLUDED: i32 = 206;
/// Steps of rectifications: this and the number of the action.
pub(crate) const RECTIFICATIONS: i32 = 300;

/// A count, or what is added to one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, sqlx::FromRow)]
pub struct TallyRow {
    /// Month in the cities, `YYYY-MM`.
    pub month: String,
    /// City where the applicant applied; of ratings, the rated city.
    pub city: String,
    /// Item.
    pub item_id: String,
    /// Handling mode.
    pub mode: i32,
    /// Of tasks of joint cases.
    pub task: bool,
    /// What is counted.
    pub measure: i32,
    /// How many.
    pub counted: i64,
}

/// The month of a time in the cities.
pub(crate) fn month_of(at_us: i64) -> String {
    let day = civil_date(at_us);
    format!("{:04}-{:02}", day.year(), day.month())
}

impl TallyRow {
    /// A change of a count about whoever was rated.
    pub(crate) fn of_rated(rated: &Rated, at_us: i64, measure: i32, counted: i64) -> Self {
        Self {
            month: month_of(at_us),
            city: rated.city.to_string(),
            item_id: rated.item.to_string(),
            mode: rated.mode.into(),
            task: false,
            measure,
            counted,
        }
    }
}

/// What writes add, each count once.
pub(super) fn tallies<'a>(writes: impl Iterator<Item = &'a NewCaseWrite>) -> Vec<TallyRow> {
    let mut counts = BTreeMap::new();
    for write in writes {
        let case = &write.case;
        for event in &write.events {
            let mut add = |measure: i32, count: i64| {
                let key = (
                    month_of(event.at_us),
                    case.receiving_city.to_string(),
                    case.item.to_string(),
                    i32::from(case.mode),
                    case.is_task(),
                    measure,
                );
                *counts.entry(key).or_insert(0) += count;
            };
            add(event.action.into(), 1);
            if !matches!(event.action, CaseAction::Grant | CaseAction::Refuse) {
                continue;
            }
            if let Some(on_time) = case.on_time {
                add(if on_time { ON_TIME } else { LATE }, 1);
            }
            if let Some(workdays) = case.handling_workdays {
                add(WORKDAYS, workdays);
                add(TIMED, 1);
            }
        }
    }
    let rows = counts.into_iter();
    rows.map(
        |((month, city, item_id, mode, task, measure), counted)| TallyRow {
            month,
            city,
            item_id,
            mode,
            task,
            measure,
            counted,
        },
    )
    .collect()
}

impl Store {
    /// The counts of months from `from` to `to`, in order.
    ///
    /// # Errors
    /// See [`StoreError`].
    pub async fn tallies(&self, from: &str, to: &str) -> Result<Vec<TallyRow>, StoreError> {
        macro_rules! query {
            () => {
                sqlx::query_as(
                    "SELECT month, city, item_id, mode, task, measure, counted FROM tally \
                     WHERE month BETWEEN $1 AND $2 ORDER BY month, city, item_id, mode, task, measure",
                )
                .bind(from)
                .bind(to)
            };
        }
        Ok(match &self.database {
            Database::Postgres(pool) => query!().fetch_all(pool).await?,
            Database::Sqlite(database) => query!().fetch_all(database.readers()).await?,
        })
    }
}
