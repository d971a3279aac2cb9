//! Dates where the cities are, and the working days in which the law counts.
//!
//! # Law
//! - Limits of administrative licences are counted in working days, without statutory holidays: 行政许可法 art. 82 (Q).
//! - The day on which a limit begins is not counted: 民法典 art. 201 (Q). So it is day 0, and day n is the n-th
//!   working day after it.
//! - The last day ends at 24:00: 民法典 art. 203 (Q). Where there are business hours the article lets it end when
//!   business stops; [`WorkCalendar`] knows no hours and keeps 24:00, in favour of the applicant (D).
//! - Statutory holidays: 全国年节及纪念日放假办法, 13 days since 2025-01-01 (国务院令第795号 of 2024-11-10) (Q). Which
//!   weekdays are taken off and which weekends are worked in exchange, 国务院办公厅 announces for each year, mostly
//!   in November of the year before.
//!
//! # Data
//! The binary holds the years 2004 to 2026: `services/kit/data/workdays.json`, which says how it was made, how it was
//! checked, and which notices were read. Later years, and years that are changed by a later notice, come from a file
//! of the same form:
//!
//! ```json
//! {
//!   "about": "free text, or a list of texts; may be left out",
//!   "2027": {
//!     "source": "国务院办公厅关于2027年部分节假日安排的通知",
//!     "published": "2026-11-05",
//!     "off": ["2027-01-01"],
//!     "makeup": []
//!   }
//! }
//! ```
//!
//! `off`: days off. Weekends may be listed; they change nothing. `makeup`: Saturdays and Sundays that are worked.
//! `source`: the notices. `published`: when the newest of them was made public; may be left out. A year of a file
//! replaces the whole year that was known before. The dates above are an example and no notice.
//!
//! **Each November** an operator adds the next year, and looks whether its notice moves days of the present December:
//! it did so in 2005, 2006, 2007, 2011 and 2018. Then the file needs the present year, too, with all of its days.

mod file;
mod json;
#[cfg(test)]
mod tests;
mod work_calendar;
mod year;

pub use file::{CalendarFault, CalendarFaults};
use jiff::{Timestamp, civil::Date, tz::Offset};
pub use work_calendar::{CalendarNotLoaded, WorkCalendar};
pub use year::Notice;

/// China Standard Time, UTC+8 the whole year.
///
/// Asia/Shanghai has had no other offset since its last summer time ended on 1991-09-15 (IANA time zone database) (Q), so
/// the constant is right for every year that a calendar may hold.
const CHINA: Offset = Offset::constant(8);

/// The date in the cities at a time in microseconds since 1970-01-01 UTC.
///
/// A time outside of the years that a calendar knows gives its first or last day.
pub fn civil_date(now_us: i64) -> Date {
    let bound = if now_us < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    };
    CHINA
        .to_datetime(Timestamp::from_microsecond(now_us).unwrap_or(bound))
        .date()
}

/// The first microsecond after a day in the cities, since 1970-01-01 UTC.
fn day_end_us(day: Date) -> i64 {
    const DAY: i64 = 86_400;
    let midnight = day.duration_since(Date::constant(1970, 1, 1)).as_secs() + DAY;
    // Years have four digits at most, so this is far from the bounds of the type.
    (midnight - i64::from(CHINA.seconds())) * 1_000_000
}
