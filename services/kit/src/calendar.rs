//! Dates where the cities are.

use jiff::{Timestamp, civil::Date, tz::Offset};

/// China Standard Time, UTC+8 the whole year.
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

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    #[test]
    fn the_day_turns_at_sixteen_hours_utc() {
        let before: Timestamp = "2026-11-22T15:59:59.999999Z".parse().unwrap();
        assert_eq!(civil_date(before.as_microsecond()), date(2026, 11, 22));
        assert_eq!(civil_date(before.as_microsecond() + 1), date(2026, 11, 23));
    }

    #[test]
    fn a_broken_clock_still_gives_a_date() {
        assert_eq!(civil_date(i64::MAX), date(9999, 12, 31));
        assert!(civil_date(i64::MIN) < date(0, 1, 1));
    }
}
