//! The working days of one year.

use std::collections::BTreeSet;

use jiff::{
    ToSpan,
    civil::{Date, Weekday, date},
};

/// Where the working days of a year are from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The notices that set them.
    pub source: String,
    /// When the newest of them was made public; none where that was not found.
    pub published: Option<Date>,
}

/// A year that is known.
///
/// Its working days are a sorted list: the position of a day in it is a binary search, the day at a position an index.
/// So no count is a loop over days.
#[derive(Debug)]
pub(super) struct Year {
    workdays: Vec<Date>,
    pub(super) notice: Notice,
}

impl Year {
    /// The days of `year` that stand in `makeup`, or are Monday to Friday and do not stand in `off`.
    pub(super) fn new(
        year: i16,
        off: &BTreeSet<Date>,
        makeup: &BTreeSet<Date>,
        notice: Notice,
    ) -> Self {
        let workdays = date(year, 1, 1)
            .series(1.day())
            .take_while(|day| day.year() == year)
            .filter(|day| makeup.contains(day) || (!is_weekend(*day) && !off.contains(day)))
            .collect();
        Self { workdays, notice }
    }

    pub(super) fn holds(&self, day: Date) -> bool {
        self.workdays.binary_search(&day).is_ok()
    }

    /// How many working days there are.
    pub(super) const fn len(&self) -> usize {
        self.workdays.len()
    }

    /// The working day with this many before it.
    pub(super) fn at(&self, index: usize) -> Option<Date> {
        self.workdays.get(index).copied()
    }

    /// How many working days there are up to a day of the year, the day included.
    pub(super) fn up_to(&self, day: Date) -> usize {
        self.workdays.partition_point(|workday| *workday <= day)
    }
}

/// Saturday or Sunday: the weekly days of rest (国务院关于职工工作时间的规定, 1995-03-25, art. 7) (M).
pub(super) fn is_weekend(day: Date) -> bool {
    matches!(day.weekday(), Weekday::Saturday | Weekday::Sunday)
}
