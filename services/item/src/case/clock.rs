//! The limits that a case is under, counted in working days (行政许可法 art. 82) (Q).
//!
//! A limit runs in segments: a special procedure ends one, and its end begins the next (art. 45) (Q). The day on which a
//! segment begins is day 0. Where the calendar of a year is missing, nothing is guessed: the limit is flagged, and counted when
//! the calendar came in.

use banqiao_kit::{
    calendar::{CalendarNotLoaded, WorkCalendar},
    civil_date,
};
use banqiao_proto::item::v1::{LimitKind, Warning};
use serde::{Deserialize, Serialize};

use super::wire;

/// Working days for handing over from the receiving window (长三角线下专窗, 1个工作日) (Q); as a limit for every city (D).
pub(super) const HAND_OVER_DAYS: u32 = 1;
/// Working days for a correction notice (行政许可法 art. 32) (Q).
pub(super) const ACCEPTANCE_DAYS: u32 = 5;
/// Working days for a licence (行政许可法 art. 42) (Q).
pub(super) const LICENCE_DAYS: u32 = 20;
/// Working days for a licence that several agencies handle together (行政许可法 art. 42) (Q).
pub(super) const JOINT_DAYS: u32 = 45;
/// Working days for a task that another agency does first (行政许可法 art. 43) (Q).
pub(super) const TASK_DAYS: u32 = 20;
/// Working days from decision to delivery (行政许可法 art. 44) (Q).
pub(super) const DELIVERY_DAYS: u32 = 10;
/// Most working days of an extension (行政许可法 art. 42) (Q).
pub(super) const EXTENSION_DAYS: u32 = 10;
/// Most working days of an extension of joint handling (行政许可法 art. 42) (Q).
pub(super) const JOINT_EXTENSION_DAYS: u32 = 15;

/// 黄牌 comes when a fifth of the limit is left, at least one day (D: GB/T 39046-2020 has the kinds of warning, no thresholds).
const NEAR: u32 = 5;

/// When a limit runs out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Due {
    /// At times in microseconds since 1970-01-01 UTC, each the first moment after a day.
    At {
        /// The limit has run out.
        due_us: i64,
        /// The limit is near.
        yellow_us: i64,
    },
    /// The calendar of a year is missing.
    Missing {
        /// The year.
        year: i16,
    },
    /// The clock is stopped.
    Stopped,
}

impl Due {
    /// When it has run out, if that is known.
    pub const fn at(self) -> Option<i64> {
        match self {
            Self::At { due_us, .. } => Some(due_us),
            Self::Missing { .. } | Self::Stopped => None,
        }
    }

    /// The year that is missing.
    pub const fn missing(self) -> Option<i16> {
        match self {
            Self::Missing { year } => Some(year),
            Self::At { .. } | Self::Stopped => None,
        }
    }
}

/// A time in which a limit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Segment {
    since: i64,
    until: Option<i64>,
}

/// A limit that runs, or is stopped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timer {
    /// Which.
    #[serde(with = "wire")]
    pub kind: LimitKind,
    /// Working days, an extension included.
    pub workdays: u32,
    /// When it runs out.
    pub due: Due,
    /// Highest warning that was given.
    #[serde(with = "wire")]
    pub raised: Warning,
    segments: Vec<Segment>,
}

impl Timer {
    pub(crate) fn begin(
        kind: LimitKind,
        workdays: u32,
        since: i64,
        calendar: &WorkCalendar,
    ) -> Self {
        let mut timer = Self {
            kind,
            workdays,
            due: Due::Stopped,
            raised: Warning::Unspecified,
            segments: vec![Segment { since, until: None }],
        };
        timer.count(calendar);
        timer
    }

    /// Stops the clock.
    pub(crate) fn stop(&mut self, at: i64) {
        if let Some(last) = self.segments.last_mut() {
            last.until.get_or_insert(at);
        }
        self.due = Due::Stopped;
    }

    /// Lets the clock go on.
    pub(crate) fn go_on(&mut self, at: i64, calendar: &WorkCalendar) {
        self.segments.push(Segment {
            since: at,
            until: None,
        });
        self.count(calendar);
    }

    /// Makes the limit longer. What was near is so no more.
    pub(crate) fn extend(&mut self, workdays: u32, calendar: &WorkCalendar) {
        self.workdays += workdays;
        if self.raised == Warning::Yellow {
            self.raised = Warning::Unspecified;
        }
        self.count(calendar);
    }

    /// Working days that ran up to a time.
    pub(crate) fn used(&self, at: i64, calendar: &WorkCalendar) -> Result<i64, CalendarNotLoaded> {
        let mut used = 0;
        for segment in &self.segments {
            let until = segment.until.unwrap_or(at);
            used += calendar.workdays_between(civil_date(segment.since), civil_date(until))?;
        }
        Ok(used)
    }

    /// Counts when it runs out.
    pub(crate) fn count(&mut self, calendar: &WorkCalendar) {
        self.due = match self.counted(calendar) {
            Ok(due) => due,
            Err(CalendarNotLoaded { year }) => Due::Missing { year },
        };
    }

    fn counted(&self, calendar: &WorkCalendar) -> Result<Due, CalendarNotLoaded> {
        let Some((Segment { since, until: None }, before)) = self.segments.split_last() else {
            return Ok(Due::Stopped);
        };
        let mut used = 0;
        for segment in before {
            let until = segment.until.unwrap_or(segment.since);
            used += calendar.workdays_between(civil_date(segment.since), civil_date(until))?;
        }
        let left = self
            .workdays
            .saturating_sub(u32::try_from(used).unwrap_or(u32::MAX));
        let near = self.workdays.div_ceil(NEAR);
        Ok(Due::At {
            due_us: calendar.deadline(*since, left)?,
            yellow_us: calendar.deadline(*since, left.saturating_sub(near))?,
        })
    }

    /// When it does something next.
    pub(crate) fn wake_us(&self) -> Option<i64> {
        let Due::At { due_us, yellow_us } = self.due else {
            return None;
        };
        match self.raised {
            Warning::Unspecified => Some(yellow_us),
            Warning::Yellow => Some(due_us),
            Warning::Red => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::{civil::Date, tz::Offset};

    use super::*;

    /// 10:00 on a day in the cities.
    fn at(day: &str) -> i64 {
        let day: Date = day.parse().unwrap();
        let time = Offset::constant(8).to_timestamp(day.at(10, 0, 0, 0));
        time.unwrap().as_microsecond()
    }

    /// The last day of a limit.
    fn last_day(timer: &Timer) -> Option<String> {
        timer.due.at().map(|due| civil_date(due - 1).to_string())
    }

    #[test]
    fn limits_are_counted_by_the_vectors_of_the_calendar() {
        let calendar = WorkCalendar::shipped();
        for (start, days, deadline) in [
            ("2025-01-24", 5, "2025-02-07"),
            ("2025-09-26", 10, "2025-10-16"),
            ("2026-02-13", 1, "2026-02-14"),
            ("2026-02-13", 20, "2026-03-19"),
            ("2026-09-18", 3, "2026-09-22"),
            ("2026-04-30", 1, "2026-05-06"),
            ("2025-12-31", 1, "2026-01-04"),
        ] {
            let timer = Timer::begin(LimitKind::Legal, days, at(start), &calendar);
            assert_eq!(
                last_day(&timer).as_deref(),
                Some(deadline),
                "{start} + {days}"
            );
        }
    }

    #[test]
    fn a_special_procedure_stops_the_clock() {
        let calendar = WorkCalendar::shipped();
        let mut timer = Timer::begin(LimitKind::Legal, 10, at("2026-03-02"), &calendar);
        assert_eq!(last_day(&timer).as_deref(), Some("2026-03-16"));
        timer.stop(at("2026-03-05"));
        assert_eq!((timer.due, timer.wake_us()), (Due::Stopped, None));
        timer.go_on(at("2026-03-23"), &calendar);
        // Three days ran; seven are left.
        assert_eq!(last_day(&timer).as_deref(), Some("2026-04-01"));
        assert_eq!(timer.used(at("2026-03-25"), &calendar), Ok(5));
        timer.extend(5, &calendar);
        assert_eq!(last_day(&timer).as_deref(), Some("2026-04-09"));
    }

    #[test]
    fn a_missing_year_is_flagged_and_counted_when_it_came_in() {
        let calendar = WorkCalendar::shipped();
        let mut timer = Timer::begin(LimitKind::Acceptance, 5, at("2026-12-30"), &calendar);
        assert_eq!(timer.due, Due::Missing { year: 2027 });
        let text = r#"{"2027": {"source": "example", "off": ["2027-01-01"], "makeup": []}}"#;
        let calendar = calendar
            .with_text(std::path::Path::new("2027"), text)
            .unwrap();
        timer.count(&calendar);
        assert_eq!(last_day(&timer).as_deref(), Some("2027-01-07"));
    }

    #[test]
    fn yellow_comes_before_red() {
        let calendar = WorkCalendar::shipped();
        let mut timer = Timer::begin(LimitKind::Promised, 10, at("2026-03-02"), &calendar);
        assert_eq!(
            timer
                .wake_us()
                .map(|us| civil_date(us - 1).to_string())
                .as_deref(),
            Some("2026-03-12")
        );
        timer.raised = Warning::Yellow;
        assert_eq!(timer.wake_us(), timer.due.at());
        timer.raised = Warning::Red;
        assert_eq!(timer.wake_us(), None);
    }
}
