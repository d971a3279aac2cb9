use jiff::civil::date;
use proptest::prelude::*;

use super::*;
use crate::{calendar::WorkCalendar, settings::SettingsFile};

/// The example of the module's documentation.
const EXAMPLE: &str = r#"{
  "about": "free text, or a list of texts; may be left out",
  "2027": {
    "source": "国务院办公厅关于2027年部分节假日安排的通知",
    "published": "2026-11-05",
    "off": ["2027-01-01"],
    "makeup": []
  }
}"#;

fn faults(text: &str) -> Vec<String> {
    let faults = parse(Path::new("november.json"), text).unwrap_err();
    faults.0.iter().map(ToString::to_string).collect()
}

/// The faults of a year with these members, besides a source and empty lists.
fn faults_of_2027(off: &str, makeup: &str) -> Vec<String> {
    faults(&format!(
        r#"{{"2027": {{"source": "x", "off": [{off}], "makeup": [{makeup}]}}}}"#
    ))
}

#[test]
fn a_file_adds_a_year_and_replaces_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("november.json");
    std::fs::write(&path, EXAMPLE).unwrap();
    let calendar = WorkCalendar::load(&path).unwrap();
    assert!(calendar.loaded_years().eq(2004..=2027));
    let notice = calendar.notice(2027).unwrap();
    assert_eq!(notice.published, Some(date(2026, 11, 5)));
    assert_eq!(calendar.is_workday(date(2027, 1, 1)), Ok(false));
    let first = calendar.add_workdays(date(2026, 12, 31), 1);
    assert_eq!(first, Ok(date(2027, 1, 4)));

    // A whole year is replaced: the holidays of the shipped one are gone.
    std::fs::write(
        &path,
        r#"{"2026": {"source": "x", "off": [], "makeup": ["2026-12-27"]}}"#,
    )
    .unwrap();
    let calendar = calendar.with_file(&path).unwrap();
    assert!(calendar.loaded_years().eq(2004..=2027));
    assert_eq!(calendar.is_workday(date(2026, 12, 27)), Ok(true));
    assert_eq!(calendar.is_workday(date(2026, 10, 1)), Ok(true));
    assert_eq!(calendar.notice(2026).unwrap().source, "x");
}

#[test]
fn days_need_not_be_sorted() {
    let text = r#"{"2027": {"makeup": ["2027-10-09", "2027-02-06"], "off": ["2027-10-01", "2027-01-01"], "source": "x"}}"#;
    let years = parse(Path::new("november.json"), text).unwrap();
    assert!(years[&2027].holds(date(2027, 2, 6)) && !years[&2027].holds(date(2027, 1, 1)));
}

#[test]
fn a_date_must_lie_in_its_year() {
    assert_eq!(
        faults_of_2027("\"2028-01-01\"", ""),
        [
            "november.json: 2027.off: 2028-01-01 lies in another year: list it there, with all days of that year"
        ]
    );
}

#[test]
fn a_day_is_not_both_off_and_worked() {
    assert_eq!(
        faults_of_2027("\"2027-10-09\"", "\"2027-10-09\""),
        ["november.json: 2027.makeup: 2027-10-09 is in off, too"]
    );
}

#[test]
fn a_weekday_is_no_make_up_day() {
    assert_eq!(
        faults_of_2027("", "\"2027-10-08\""),
        [
            "november.json: 2027.makeup: 2027-10-08 is a Friday and worked already; only a Saturday or a Sunday can be a make-up day"
        ]
    );
}

#[test]
fn a_day_is_listed_once() {
    assert_eq!(
        faults_of_2027(
            "\"2027-10-01\", \"2027-10-01\"",
            "\"2027-10-09\", \"2027-10-09\""
        ),
        [
            "november.json: 2027.off: 2027-10-01 is listed twice",
            "november.json: 2027.makeup: 2027-10-09 is listed twice"
        ]
    );
}

#[test]
fn a_date_has_one_form() {
    for text in [
        "2027-02-29",
        "20270101",
        "2027-1-1",
        "2027-01-01T00:00",
        "元旦",
        "",
    ] {
        assert_eq!(
            faults_of_2027(&format!("\"{text}\""), ""),
            [format!(
                "november.json: 2027.off: \"{text}\" is not a date such as \"2027-01-31\""
            )]
        );
    }
    assert_eq!(
        faults_of_2027("20270101", ""),
        ["november.json: 2027.off: an entry is not a date such as \"2027-01-31\""]
    );
}

#[test]
fn lists_and_source_are_required() {
    assert_eq!(
        faults(r#"{"2027": {}}"#),
        [
            "november.json: 2027.source: is required: the notice that sets the days",
            "november.json: 2027.off: is required; where there is no day, an empty list",
            "november.json: 2027.makeup: is required; where there is no day, an empty list",
        ]
    );
}

#[test]
fn each_value_has_its_kind() {
    let text = r#"{"2027": {"source": " ", "published": 2026, "off": {}, "makeup": "none"}, "2028": [true, null, -1, 0.5]}"#;
    assert_eq!(
        faults(text),
        [
            "november.json: 2027.source: must be text and not empty",
            "november.json: 2027.published: must be a date such as \"2026-11-05\"",
            "november.json: 2027.off: must be a list of dates",
            "november.json: 2027.makeup: must be a list of dates",
            "november.json: 2028: must be an object with source, published, off, makeup",
        ]
    );
}

#[test]
fn keys_are_known_and_given_once() {
    let year = r#"{"source": "x", "off": [], "off": [], "makeup": [], "make_up": []}"#;
    let of_year = [
        "november.json: 2027.off: is given twice",
        "november.json: 2027.make_up: is not a key here; known are source, published, off, makeup",
    ];
    let of_file = [
        "november.json: 2027: is given twice",
        "november.json: anno: is not a key here; known are years from 1996 to 2099, and about",
    ];
    assert_eq!(
        faults(&format!(r#"{{"2027": {year}, "2027": {year}, "anno": 1}}"#)),
        [
            of_year[0], of_year[1], of_file[0], of_year[0], of_year[1], of_file[1]
        ]
    );
}

#[test]
fn a_year_has_four_digits_and_lies_in_the_five_day_week() {
    for key in ["1995", "2100", "+2027", "027", "02027", "二〇二七", ""] {
        let faults = parse(Path::new("f"), &format!(r#"{{"{key}": 1}}"#)).unwrap_err();
        assert_eq!((faults.0.len(), faults.0[0].year), (1, None), "{key}");
        assert_eq!(faults.0[0].key, key);
    }
}

#[test]
fn a_file_that_is_no_calendar_says_why() {
    assert!(
        faults("{\n\"2027\": ")[0].contains("is not JSON: EOF while parsing a value at line 2")
    );
    assert_eq!(
        faults("[]"),
        ["november.json: must be a JSON object whose keys are years"]
    );
    assert_eq!(faults(r#"{"about": []}"#), ["november.json: holds no year"]);
    let missing = WorkCalendar::load(Path::new("nowhere/november.json")).unwrap_err();
    assert!(
        missing
            .to_string()
            .starts_with("nowhere/november.json: cannot be read: ")
    );
}

#[test]
fn every_fault_of_every_year_is_told_at_once() {
    let text = r#"{
      "2027": {"source": "", "off": ["2026-12-31", "2027-13-01"], "makeup": []},
      "2028": {"off": ["2028-01-01", "2028-01-01"], "makeup": ["2028-01-03"], "note": ""}
    }"#;
    let faults = parse(Path::new("f"), text).unwrap_err();
    let places: Vec<_> = faults
        .0
        .iter()
        .map(|fault| (fault.year, fault.key.as_str()))
        .collect();
    assert_eq!(
        places,
        [
            (Some(2027), "source"),
            (Some(2027), "off"),
            (Some(2027), "off"),
            (Some(2028), "note"),
            (Some(2028), "source"),
            (Some(2028), "off"),
            (Some(2028), "makeup"),
        ]
    );
    assert_eq!(faults.to_string().lines().count(), 7);
}

#[test]
fn services_name_the_file_in_their_settings() {
    let folder = tempfile::tempdir().unwrap();
    let read = |settings: &str| {
        let file = SettingsFile::parse(settings, folder.path()).unwrap();
        file.finish(WorkCalendar::read)
    };
    assert!(read("").unwrap().loaded_years().eq(2004..=2026));
    let settings = "work_calendar = \"november.json\"";
    std::fs::write(folder.path().join("november.json"), EXAMPLE).unwrap();
    assert!(read(settings).unwrap().loaded_years().eq(2004..=2027));
    std::fs::write(
        folder.path().join("november.json"),
        r#"{"2027": {}, "2028": 1}"#,
    )
    .unwrap();
    let faults = read(settings).unwrap_err().0;
    assert_eq!(faults.len(), 4);
    assert!(faults.iter().all(|fault| fault.key == "work_calendar"));
    assert!(
        faults[0]
            .message
            .ends_with("november.json: 2027.source: is required: the notice that sets the days")
    );
    assert_eq!(read("work_calendar = 1").unwrap_err().0.len(), 1);
}

proptest! {
    #[test]
    fn any_text_is_judged_without_a_panic(text in "\\PC{0,64}") {
        let _ = parse(Path::new("f"), &text);
    }

    #[test]
    fn any_members_are_judged_without_a_panic(
        year in "[0-9]{4}", key in "off|makeup|source|published|x", value in "[\\[\\]{}\",:0-9-]{0,40}",
    ) {
        let _ = parse(Path::new("f"), &format!(r#"{{"{year}": {{"{key}": {value}}}}}"#));
        let _ = parse(Path::new("f"), &format!(r#"{{"{year}": {{"{key}": ["{value}"]}}}}"#));
    }
}
