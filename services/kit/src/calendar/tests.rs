use std::{collections::BTreeSet, path::Path};

use jiff::{
    ToSpan,
    civil::{Date, date},
};
use proptest::prelude::*;
use serde_json::Value;

use super::{year::is_weekend, *};

const NOON_US: i64 = 12 * 3_600 * 1_000_000;
const DAY_US: i64 = 86_400 * 1_000_000;

/// The data, read without the code that is tested.
struct Reference {
    off: BTreeSet<Date>,
    makeup: BTreeSet<Date>,
}

impl Reference {
    fn read() -> Self {
        let data: Value = serde_json::from_str(include_str!("../../data/workdays.json")).unwrap();
        let days = |key: &str| {
            let years = data.as_object().unwrap().values();
            let lists = years.filter_map(|year| year.get(key)?.as_array());
            lists
                .flatten()
                .map(|day| day.as_str().unwrap().parse().unwrap())
                .collect()
        };
        Self {
            off: days("off"),
            makeup: days("makeup"),
        }
    }

    /// The rule of RULES §2.6, for the shipped years.
    fn is_workday(&self, day: Date) -> Option<bool> {
        (2004..=2026)
            .contains(&day.year())
            .then(|| self.makeup.contains(&day) || (!is_weekend(day) && !self.off.contains(&day)))
    }

    /// The n-th working day, one day after the other.
    fn add_workdays(&self, start: Date, n: u32) -> Option<Date> {
        self.is_workday(start)?;
        let (mut day, mut counted) = (start, 0);
        while counted < n {
            day = day.tomorrow().ok()?;
            counted += u32::from(self.is_workday(day)?);
        }
        Some(day)
    }
}

fn day(text: &str) -> Date {
    text.parse().unwrap()
}

fn every_day() -> impl Iterator<Item = Date> {
    date(2004, 1, 1)
        .series(1.day())
        .take_while(|day| day.year() <= 2026)
}

/// The days from the first to the last that RULES §2.6 lists as `01-28..02-04`.
fn listed(year: i16, list: &str) -> Vec<Date> {
    let date = |text: &str| day(&format!("{year}-{text}"));
    list.split(' ')
        .flat_map(|run| {
            let (first, last) = run.split_once("..").unwrap_or((run, run));
            let last = date(last);
            date(first)
                .series(1.day())
                .take_while(move |day| *day <= last)
        })
        .collect()
}

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

#[test]
fn the_data_holds_2004_to_2026() {
    let calendar = WorkCalendar::shipped();
    assert!(calendar.loaded_years().eq(2004..=2026));
    for year in 2004..=2026 {
        let notice = calendar.notice(year).unwrap();
        assert!(notice.source.starts_with("国务院办公厅"), "{year}");
        assert_eq!(notice.published.is_some(), year >= 2006, "{year}");
    }
    let notice = calendar.notice(2026).unwrap();
    assert_eq!(notice.published, Some(date(2025, 11, 4)));
    assert_eq!(calendar.notice(2027), None);
}

#[test]
fn the_days_of_2025_and_2026_are_those_of_the_rules() {
    let reference = Reference::read();
    for (year, off, makeup) in [
        (
            2025,
            "01-01 01-28..02-04 04-04..04-06 05-01..05-05 05-31..06-02 10-01..10-08",
            "01-26 02-08 04-27 09-28 10-11",
        ),
        (
            2026,
            "01-01..01-03 02-15..02-23 04-04..04-06 05-01..05-05 06-19..06-21 09-25..09-27 10-01..10-07",
            "01-04 02-14 02-28 05-09 09-20 10-10",
        ),
    ] {
        let of = |days: &BTreeSet<Date>| -> Vec<Date> {
            days.iter()
                .copied()
                .filter(|day| day.year() == year)
                .collect()
        };
        assert_eq!(of(&reference.off), listed(year, off));
        assert_eq!(of(&reference.makeup), listed(year, makeup));
    }
}

/// 全国年节及纪念日放假办法, art. 2: 10 days (国务院令第270号, 1999), 11 days since 2008 (国务院令第513号), 13 days since 2025
/// (国务院令第795号). Art. 6: those that fall on a weekend are made up for on a working day. So a notice takes as many
/// working days off as the law gives, and has each other one worked in exchange.
#[test]
fn each_notice_takes_off_as_many_working_days_as_the_law_gives() {
    // Days that the notice for the next year moved.
    let borrowed = listed(2005, "12-31")
        .into_iter()
        .chain(listed(2006, "12-30..12-31"));
    let borrowed = borrowed.chain(listed(2007, "12-29..12-31"));
    let borrowed = borrowed.chain(listed(2011, "12-31"));
    let borrowed: BTreeSet<_> = borrowed.chain(listed(2018, "12-29..12-31")).collect();
    let notice = |day: &Date| day.year() + i16::from(borrowed.contains(day));

    let reference = Reference::read();
    for year in 2004..=2026 {
        let taken = reference.off.iter().filter(|day| !is_weekend(**day));
        let taken = taken.filter(|day| notice(day) == year).count();
        let worked = reference.makeup.iter();
        let worked = worked.filter(|day| notice(day) == year).count();
        let law = match year {
            ..=2007 => 10,
            2008..=2024 => 11,
            _ => 13,
        };
        // 2015: 中国人民抗日战争暨世界反法西斯战争胜利70周年纪念日. 2020: the Spring Festival went on for 01-31, and
        // 02-01 was not worked.
        let once = match year {
            2015 => 1,
            2020 => 2,
            _ => 0,
        };
        assert_eq!(taken - worked, law + once, "{year}");
    }
}

/// The statutory holidays whose dates are those of the sun. The others follow the moon, and are counted above.
#[test]
fn nobody_works_on_a_statutory_holiday() {
    let calendar = WorkCalendar::shipped();
    for year in 2004..=2026 {
        let labour_day = match year {
            ..=2007 => "05-01..05-03",
            2008..=2024 => "05-01",
            _ => "05-01..05-02",
        };
        for day in listed(year, &format!("01-01 {labour_day} 10-01..10-03")) {
            assert_eq!(calendar.is_workday(day), Ok(false), "{day}");
        }
    }
}

#[test]
fn days_of_december_follow_the_notice_for_the_next_year() {
    let calendar = WorkCalendar::shipped();
    for (text, worked) in [
        ("2005-12-31", true),
        ("2006-12-30", true),
        ("2006-12-31", true),
        ("2007-12-29", true),
        ("2007-12-31", false),
        ("2011-12-31", true),
        ("2018-12-29", true),
        ("2018-12-31", false),
    ] {
        assert_eq!(calendar.is_workday(day(text)), Ok(worked), "{text}");
    }
}

#[test]
fn the_vectors_of_the_rules_hold() {
    let calendar = WorkCalendar::shipped();
    for (start, n, expected) in [
        ("2025-01-24", 5, "2025-02-07"),
        ("2025-09-26", 10, "2025-10-16"),
        ("2026-02-13", 1, "2026-02-14"),
        ("2026-02-13", 20, "2026-03-19"),
        ("2026-09-18", 3, "2026-09-22"),
        ("2026-04-30", 1, "2026-05-06"),
        ("2025-12-31", 1, "2026-01-04"),
    ] {
        let (start, expected) = (day(start), day(expected));
        assert_eq!(
            calendar.add_workdays(start, n),
            Ok(expected),
            "{start}, {n}"
        );
        let between = calendar.workdays_between(start, expected);
        assert_eq!(between, Ok(i64::from(n)), "{start}, {n}");
        let deadline = calendar.deadline(day_end_us(start) - DAY_US + NOON_US, n);
        assert_eq!(deadline, Ok(day_end_us(expected)), "{start}, {n}");
    }
}

#[test]
fn a_deadline_is_midnight_in_the_cities() {
    let calendar = WorkCalendar::shipped();
    let at = |text: &str| text.parse::<Timestamp>().unwrap().as_microsecond();
    let expected = at("2026-05-06T16:00:00Z");
    // The first and the last microsecond of 04-30 in the cities; in UTC the day has not turned yet, or has turned already.
    for start in ["2026-04-29T16:00:00Z", "2026-04-30T15:59:59.999999Z"] {
        assert_eq!(calendar.deadline(at(start), 1), Ok(expected));
    }
    assert_eq!(civil_date(expected - 1), date(2026, 5, 6));
}

#[test]
fn day_zero_is_the_start_though_nobody_works_on_it() {
    let calendar = WorkCalendar::shipped();
    let saturday = date(2026, 11, 21);
    assert_eq!(calendar.add_workdays(saturday, 0), Ok(saturday));
    assert_eq!(calendar.add_workdays(saturday, 1), Ok(date(2026, 11, 23)));
    assert_eq!(
        calendar.deadline(day_end_us(saturday) - 1, 0),
        Ok(day_end_us(saturday))
    );
}

#[test]
fn a_year_that_is_not_known_is_never_guessed() {
    let calendar = WorkCalendar::shipped();
    let unknown = |year| Err(CalendarNotLoaded { year });
    let last = date(2026, 12, 31);
    assert_eq!(
        calendar.is_workday(date(2027, 3, 2)),
        unknown(2027).map(|()| false)
    );
    assert_eq!(calendar.add_workdays(date(2026, 12, 30), 1), Ok(last));
    assert_eq!(calendar.add_workdays(last, 1), unknown(2027).map(|()| last));
    assert_eq!(
        calendar.add_workdays(last, u32::MAX),
        unknown(2027).map(|()| last)
    );
    assert_eq!(
        calendar.add_workdays(date(2003, 12, 31), 0),
        unknown(2003).map(|()| last)
    );
    assert_eq!(calendar.deadline(i64::MAX, 0), unknown(9999).map(|()| 0));
    assert!(calendar.deadline(i64::MIN, 1).is_err());
    let between = calendar.workdays_between(date(2027, 1, 2), last);
    assert_eq!(between, unknown(2027).map(|()| 0));
    assert!(calendar.workdays_between(Date::MIN, Date::MAX).is_err());
    let text = CalendarNotLoaded { year: 2027 }.to_string();
    for part in ["2027", "国务院办公厅", "JSON file", "`work_calendar`"] {
        assert!(text.contains(part), "{text}");
    }
}

#[test]
fn a_gap_between_known_years_is_not_crossed() {
    let text = r#"{"2028": {"source": "国务院办公厅", "off": [], "makeup": []}}"#;
    let years = file::parse(Path::new("calendar.json"), text).unwrap();
    let calendar = WorkCalendar::shipped().with(years);
    assert_eq!(calendar.is_workday(date(2028, 1, 3)), Ok(true));
    let gap = CalendarNotLoaded { year: 2027 };
    assert_eq!(calendar.add_workdays(date(2026, 12, 31), 300), Err(gap));
    let between = calendar.workdays_between(date(2026, 1, 1), date(2028, 1, 1));
    assert_eq!(between, Err(gap));
}

#[test]
fn each_day_is_what_the_rule_says() {
    let (calendar, reference) = (WorkCalendar::shipped(), Reference::read());
    for day in every_day() {
        assert_eq!(
            calendar.is_workday(day).ok(),
            reference.is_workday(day),
            "{day}"
        );
    }
}

fn any_day() -> impl Strategy<Value = Date> {
    let days = i32::try_from(every_day().count()).unwrap();
    (0..days).prop_map(|days| date(2004, 1, 1) + days.days())
}

proptest! {
    #[test]
    fn counting_agrees_with_a_walk_day_by_day(start in any_day(), n in 0_u32..600) {
        let expected = Reference::read().add_workdays(start, n);
        prop_assert_eq!(WorkCalendar::shipped().add_workdays(start, n).ok(), expected);
    }

    #[test]
    fn what_is_added_is_counted_back(start in any_day(), n in 0_u32..600) {
        let calendar = WorkCalendar::shipped();
        if let Ok(end) = calendar.add_workdays(start, n) {
            prop_assert_eq!(calendar.workdays_between(start, end), Ok(i64::from(n)));
            prop_assert_eq!(calendar.workdays_between(end, start), Ok(-i64::from(n)));
            prop_assert!(n == 0 || calendar.is_workday(end).unwrap());
        }
    }

    #[test]
    fn a_later_start_and_a_longer_limit_never_end_earlier(
        days in (any_day(), any_day()), n in 0_u32..600,
    ) {
        let calendar = WorkCalendar::shipped();
        let (start, later) = (days.0.min(days.1), days.0.max(days.1));
        let end = calendar.add_workdays(start, n);
        if let (Ok(end), Ok(later)) = (end, calendar.add_workdays(later, n)) {
            prop_assert!(end <= later);
        }
        if let (Ok(end), Ok(longer)) = (end, calendar.add_workdays(start, n + 1)) {
            prop_assert!(end < longer);
        }
    }

    #[test]
    fn parts_add_up(a in any_day(), b in any_day(), c in any_day()) {
        let between = |from, until| WorkCalendar::shipped().workdays_between(from, until).unwrap();
        prop_assert_eq!(between(a, b) + between(b, c), between(a, c));
    }

    #[test]
    fn a_deadline_is_the_end_of_its_day(start in any_day(), of_day in 0..DAY_US, n in 0_u32..100) {
        let calendar = WorkCalendar::shipped();
        let start_us = day_end_us(start) - DAY_US + of_day;
        if let Ok(deadline) = calendar.deadline(start_us, n) {
            let last = calendar.add_workdays(start, n).unwrap();
            prop_assert_eq!(civil_date(deadline - 1), last);
            prop_assert_eq!(civil_date(deadline), last.tomorrow().unwrap());
            prop_assert!(start_us < deadline);
        }
    }

    #[test]
    fn any_time_and_limit_is_counted_without_a_panic(start_us: i64, n: u32) {
        let _ = WorkCalendar::shipped().deadline(start_us, n);
    }
}
