//! Calendar files: every fault at once.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    sync::Arc,
};

use jiff::civil::{Date, Weekday};

use super::{
    json::Json,
    year::{Notice, Year, is_weekend},
};

/// The years that a file may hold (D). 1996 is the first whole year of the five-day week in public bodies
/// (国务院关于职工工作时间的规定, 1995-03-25) (M). Past 2099 a year is a slip of the pen.
const YEARS: RangeInclusive<i16> = 1996..=2099;

/// Keys of a year.
const KEYS: [&str; 4] = ["source", "published", "off", "makeup"];

/// A fault of a calendar file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CalendarFault {
    /// The file.
    pub file: PathBuf,
    /// The year in which the fault lies; none when it lies in no year.
    pub year: Option<i16>,
    /// Key of the year, or of the file where there is no year. Empty: the year or the file as a whole.
    pub key: String,
    /// What is wrong, and what is expected.
    pub message: String,
}

impl fmt::Display for CalendarFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.file.display())?;
        match self.year {
            Some(year) if self.key.is_empty() => write!(f, "{year}: ")?,
            Some(year) => write!(f, "{year}.{}: ", self.key)?,
            None if self.key.is_empty() => {}
            None => write!(f, "{}: ", self.key)?,
        }
        f.write_str(&self.message)
    }
}

/// Every fault of a calendar file, in the order of the file's years.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct CalendarFaults(pub Vec<CalendarFault>);

impl fmt::Display for CalendarFaults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, fault) in self.0.iter().enumerate() {
            if position > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

/// Reads a file.
pub(super) fn read(path: &Path) -> Result<BTreeMap<i16, Arc<Year>>, CalendarFaults> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) => Err(whole(path, format!("cannot be read: {error}"))),
    }
}

/// Parses the text of a file.
pub(super) fn parse(file: &Path, text: &str) -> Result<BTreeMap<i16, Arc<Year>>, CalendarFaults> {
    let members = match serde_json::from_str(text) {
        Ok(Json::Members(members)) => members,
        Ok(_) => return Err(whole(file, "must be a JSON object whose keys are years")),
        Err(error) => return Err(whole(file, format!("is not JSON: {error}"))),
    };
    let mut reading = Reading {
        file,
        year: None,
        faults: Vec::new(),
    };
    let years = reading.years(members);
    if reading.faults.is_empty() {
        Ok(years)
    } else {
        Err(CalendarFaults(reading.faults))
    }
}

fn whole(file: &Path, message: impl Into<String>) -> CalendarFaults {
    CalendarFaults(vec![CalendarFault {
        file: file.to_owned(),
        year: None,
        key: String::new(),
        message: message.into(),
    }])
}

/// A file that is being read, the year at which the reading is, and the faults so far.
struct Reading<'a> {
    file: &'a Path,
    year: Option<i16>,
    faults: Vec<CalendarFault>,
}

impl Reading<'_> {
    fn years(&mut self, members: Vec<(String, Json)>) -> BTreeMap<i16, Arc<Year>> {
        let mut years = BTreeMap::new();
        let mut seen = BTreeSet::new();
        for (key, value) in members.into_iter().filter(|(key, _)| key != "about") {
            self.year = None;
            let Some(number) = parse_year(&key) else {
                let (first, last) = (YEARS.start(), YEARS.end());
                self.fault(
                    &key,
                    format!("is not a key here; known are years from {first} to {last}, and about"),
                );
                continue;
            };
            self.year = Some(number);
            if !seen.insert(number) {
                self.fault("", "is given twice");
            }
            if let Some(year) = self.entry(number, value) {
                years.insert(number, Arc::new(year));
            }
        }
        if seen.is_empty() && self.faults.is_empty() {
            self.fault("", "holds no year");
        }
        years
    }

    fn entry(&mut self, number: i16, value: Json) -> Option<Year> {
        let Json::Members(members) = value else {
            self.fault("", format!("must be an object with {}", KEYS.join(", ")));
            return None;
        };
        let mut values = BTreeMap::new();
        for (key, value) in members {
            let Some(known) = KEYS.into_iter().find(|known| *known == key) else {
                self.fault(
                    &key,
                    format!("is not a key here; known are {}", KEYS.join(", ")),
                );
                continue;
            };
            if values.insert(known, value).is_some() {
                self.fault(known, "is given twice");
            }
        }
        let source = self.source(values.remove("source"));
        let published = self.published(values.remove("published"));
        let off = self.days(number, "off", values.remove("off"));
        let makeup = self.days(number, "makeup", values.remove("makeup"));
        self.judge(&off, &makeup);
        Some(Year::new(
            number,
            &off,
            &makeup,
            Notice {
                source: source?,
                published,
            },
        ))
    }

    fn source(&mut self, value: Option<Json>) -> Option<String> {
        match value {
            Some(Json::Text(text)) if !text.trim().is_empty() => return Some(text),
            Some(_) => self.fault("source", "must be text and not empty"),
            None => self.fault("source", "is required: the notice that sets the days"),
        }
        None
    }

    fn published(&mut self, value: Option<Json>) -> Option<Date> {
        let date = parse_date(&value?);
        if date.is_none() {
            self.fault("published", "must be a date such as \"2026-11-05\"");
        }
        date
    }

    /// The dates of a list that lie in the year.
    fn days(&mut self, number: i16, key: &str, value: Option<Json>) -> BTreeSet<Date> {
        let mut days = BTreeSet::new();
        let values = match value {
            Some(Json::List(values)) => values,
            Some(_) => {
                self.fault(key, "must be a list of dates");
                return days;
            }
            None => {
                self.fault(key, "is required; where there is no day, an empty list");
                return days;
            }
        };
        for value in values {
            match parse_date(&value) {
                Some(day) if day.year() != number => self.fault(
                    key,
                    format!(
                        "{day} lies in another year: list it there, with all days of that year"
                    ),
                ),
                Some(day) if !days.insert(day) => {
                    self.fault(key, format!("{day} is listed twice"));
                }
                Some(_) => {}
                None => {
                    let text = match value {
                        Json::Text(text) => format!("\"{text}\""),
                        _ => "an entry".to_owned(),
                    };
                    self.fault(key, format!("{text} is not a date such as \"2027-01-31\""));
                }
            }
        }
        days
    }

    fn judge(&mut self, off: &BTreeSet<Date>, makeup: &BTreeSet<Date>) {
        for day in makeup {
            if off.contains(day) {
                self.fault("makeup", format!("{day} is in off, too"));
            }
            if !is_weekend(*day) {
                let message = format!(
                    "{day} is a {} and worked already; only a Saturday or a Sunday can be a make-up day",
                    name(day.weekday())
                );
                self.fault("makeup", message);
            }
        }
    }

    fn fault(&mut self, key: &str, message: impl Into<String>) {
        self.faults.push(CalendarFault {
            file: self.file.to_owned(),
            year: self.year,
            key: key.to_owned(),
            message: message.into(),
        });
    }
}

fn parse_year(key: &str) -> Option<i16> {
    let digits = key.len() == 4 && key.bytes().all(|byte| byte.is_ascii_digit());
    let year = key.parse().ok().filter(|_| digits)?;
    YEARS.contains(&year).then_some(year)
}

/// A date in the one form `2027-01-31`; the parser by itself takes more.
fn parse_date(value: &Json) -> Option<Date> {
    let Json::Text(text) = value else { return None };
    let date: Date = text.parse().ok()?;
    (date.to_string() == *text).then_some(date)
}

const fn name(weekday: Weekday) -> &'static str {
    match weekday {
        Weekday::Monday => "Monday",
        Weekday::Tuesday => "Tuesday",
        Weekday::Wednesday => "Wednesday",
        Weekday::Thursday => "Thursday",
        Weekday::Friday => "Friday",
        Weekday::Saturday => "Saturday",
        Weekday::Sunday => "Sunday",
    }
}

#[cfg(test)]
mod tests;
