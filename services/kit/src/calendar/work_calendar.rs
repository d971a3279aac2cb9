//! Counting in working days.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, LazyLock},
};

use jiff::civil::Date;

use super::{
    civil_date, day_end_us,
    file::{self, CalendarFaults},
    year::{Notice, Year},
};
use crate::settings::Section;

/// Key of the settings under which services name a file.
const KEY: &str = "work_calendar";

/// The years that the binary holds. A test proves that they can be read; were they ever broken, no year would be known,
/// and nothing would be guessed.
static SHIPPED: LazyLock<BTreeMap<i16, Arc<Year>>> = LazyLock::new(|| {
    let text = include_str!("../../data/workdays.json");
    file::parse(Path::new("workdays.json"), text).unwrap_or_default()
});

/// The working days of a year are not known, so nothing that touches the year can be counted.
///
/// Whoever counts keeps the case and flags it: a guess by weekdays would be wrong in every year.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the working days of {year} are not known: put the notice of 国务院办公厅 for {year} into a JSON file, as \
     services/kit/data/workdays.json shows, and name the file under `work_calendar` in the service's settings"
)]
pub struct CalendarNotLoaded {
    /// The year.
    pub year: i16,
}

impl CalendarNotLoaded {
    /// Stable code, for programs.
    pub const REASON: &'static str = "CALENDAR_NOT_LOADED";
}

/// The working days of mainland China, by year. See the [module](super) for law and data.
///
/// It reads no clock. A clone costs little. Each method costs a binary search in a year's list of working days, and one
/// step for each year that is crossed.
#[derive(Clone, Debug)]
pub struct WorkCalendar {
    years: BTreeMap<i16, Arc<Year>>,
}

impl WorkCalendar {
    /// The years that the binary holds: 2004 to 2026.
    pub fn shipped() -> Self {
        Self {
            years: SHIPPED.clone(),
        }
    }

    /// The shipped years, and those of a file. See [`Self::with_file`].
    ///
    /// # Errors
    /// Every fault of the file.
    pub fn load(path: &Path) -> Result<Self, CalendarFaults> {
        Self::shipped().with_file(path)
    }

    /// Reads `work_calendar`, the path of a file, from the top of a service's settings. When it is not there, the
    /// calendar is the shipped one.
    pub fn read(top: &mut Section<'_>) -> Option<Self> {
        let Some(path) = top.optional_path(KEY) else {
            return Some(Self::shipped());
        };
        match Self::load(&path) {
            Ok(calendar) => Some(calendar),
            Err(faults) => {
                for fault in faults.0 {
                    top.fault(KEY, fault.to_string());
                }
                None
            }
        }
    }

    /// This calendar with the years of a file, each of which replaces the whole year that was known before.
    ///
    /// # Errors
    /// Every fault of the file: it cannot be read or is not JSON; a key is unknown or given twice; a year lies outside 1996
    /// to 2099; `off`, `makeup` or `source` is missing; a date is none, lies in another year, is listed twice, or is
    /// both off and worked; a make-up day is a weekday already.
    pub fn with_file(self, path: &Path) -> Result<Self, CalendarFaults> {
        let years = file::read(path)?;
        Ok(self.with(years))
    }

    /// As [`Self::with_file`], from the text of a file, such as one that a service keeps in its database. `name` stands in
    /// the faults.
    ///
    /// # Errors
    /// Every fault of the text.
    pub fn with_text(self, name: &Path, text: &str) -> Result<Self, CalendarFaults> {
        let years = file::parse(name, text)?;
        Ok(self.with(years))
    }

    pub(super) fn with(mut self, years: BTreeMap<i16, Arc<Year>>) -> Self {
        self.years.extend(years);
        self
    }

    /// The years that are known, ascending. There may be gaps.
    pub fn loaded_years(&self) -> impl Iterator<Item = i16> {
        self.years.keys().copied()
    }

    /// Where the days of a year are from, such as for the record of a deadline that rests on them.
    pub fn notice(&self, year: i16) -> Option<&Notice> {
        self.years.get(&year).map(|year| &year.notice)
    }

    /// Whether a day is worked.
    ///
    /// # Errors
    /// Its year is not known.
    pub fn is_workday(&self, day: Date) -> Result<bool, CalendarNotLoaded> {
        Ok(self.year(day.year())?.holds(day))
    }

    /// The n-th working day after `start`, which is day 0 whether it is worked or not (民法典 art. 201).
    /// Day 0 is `start` itself.
    ///
    /// # Errors
    /// The year of `start`, of the day that is sought or of a day between them is not known.
    pub fn add_workdays(&self, start: Date, n: u32) -> Result<Date, CalendarNotLoaded> {
        let mut number = start.year();
        let mut year = self.year(number)?;
        let Some(before) = n.checked_sub(1) else {
            return Ok(start);
        };
        let mut index = year.up_to(start).saturating_add(before as usize);
        loop {
            if let Some(day) = year.at(index) {
                return Ok(day);
            }
            index -= year.len();
            number += 1;
            year = self.year(number)?;
        }
    }

    /// When a limit of n working days that begins at `start_us` has run out: the end of day n in Asia/Shanghai, as the
    /// first microsecond after it. Both times count from 1970-01-01 UTC.
    ///
    /// The interval is half open: an act at `at_us` is in time when `at_us < deadline`, and late from the deadline on.
    /// With n = 0 the limit is the end of the day on which it begins.
    ///
    /// # Errors
    /// As of [`Self::add_workdays`].
    pub fn deadline(&self, start_us: i64, n: u32) -> Result<i64, CalendarNotLoaded> {
        self.add_workdays(civil_date(start_us), n).map(day_end_us)
    }

    /// How many working days there are after `from`, up to `until` and including it: the inverse of
    /// [`Self::add_workdays`]. When `until` comes first, it is the same number with the days changed over, negative.
    ///
    /// # Errors
    /// The year of either day or of a day between them is not known.
    pub fn workdays_between(&self, from: Date, until: Date) -> Result<i64, CalendarNotLoaded> {
        if until < from {
            return Ok(-self.workdays_between(until, from)?);
        }
        let passed = self.year(from.year())?.up_to(from);
        let mut counted = 0;
        for number in from.year()..until.year() {
            counted += self.year(number)?.len();
        }
        counted += self.year(until.year())?.up_to(until);
        Ok((counted - passed) as i64)
    }

    fn year(&self, year: i16) -> Result<&Year, CalendarNotLoaded> {
        self.years
            .get(&year)
            .map(AsRef::as_ref)
            .ok_or(CalendarNotLoaded { year })
    }
}
