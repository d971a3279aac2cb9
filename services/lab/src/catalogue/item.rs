//! An item of the catalogue and the lines that hold it.

use std::{collections::BTreeSet, path::Path};

use banqiao_kit::{Certainty, Rule};

use super::{
    code::{ItemCode, Loinc},
    conversion::{Conversion, refusal},
};
use crate::{
    decimal::Decimal,
    table::{Table, TableFaults},
};

/// The columns of a catalogue, in order.
pub const COLUMNS: [&str; 21] = [
    "item_code",
    "name",
    "abbreviation",
    "specimens",
    "unit",
    "ucum",
    "loinc",
    "loinc_certainty",
    "conversions",
    "conversion_certainty",
    "refused_units",
    "intervals",
    "interval_note",
    "interval_source",
    "interval_certainty",
    "tea_percent",
    "tea_absolute",
    "tea_up_to",
    "tea_certainty",
    "window_days",
    "note",
];

/// A test of the catalogue.
#[derive(Clone, Debug)]
pub struct TestItem {
    /// Code.
    pub code: ItemCode,
    /// Chinese name.
    pub name: String,
    /// Abbreviation in use.
    pub abbreviation: String,
    /// Specimens that fit, such as 血清.
    pub specimens: Vec<String>,
    /// Unit as printed.
    pub unit: String,
    /// Unit in UCUM.
    pub ucum: String,
    /// LOINC code.
    pub loinc: Loinc,
    /// How certain the LOINC code is.
    pub loinc_certainty: Certainty,
    /// Units that are converted.
    pub conversions: Vec<Conversion>,
    /// How certain the conversions are; none where there are none.
    pub conversion_certainty: Option<Certainty>,
    /// Units that must not be converted, and why.
    pub refused: Vec<(String, &'static Rule)>,
    /// Reference intervals of adults.
    pub intervals: Vec<Interval>,
    /// What is no interval, such as 方法特异.
    pub interval_note: String,
    /// Where the intervals come from.
    pub interval_source: String,
    /// How certain the intervals are; none where there are none.
    pub interval_certainty: Option<Certainty>,
    /// Allowable total error; none where the standards set none.
    pub allowable_error: Option<AllowableError>,
    /// Days for which a result is fit for recognition.
    pub window_days: u16,
}

/// A reference interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// `M` or `F`; none for both.
    pub sex: Option<char>,
    /// First and last age in years; none for all adults.
    pub ages: Option<(u8, u8)>,
    /// Lower bound.
    pub low: Option<Decimal>,
    /// Upper bound.
    pub high: Option<Decimal>,
    /// Whether the upper bound itself lies outside.
    pub high_excluded: bool,
}

/// Allowable total error (WS/T 403-2024, WS/T 406-2024).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowableError {
    /// Percent of the target.
    pub percent: Decimal,
    /// The limit of low targets, where there is one.
    pub below: Option<BelowLimit>,
}

/// An absolute limit of low targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BelowLimit {
    /// Limit in the item's unit.
    pub limit: Decimal,
    /// Highest target for which it holds, itself included.
    pub up_to: Decimal,
}

/// Parses the text of a catalogue.
pub(super) fn parse(file: &Path, text: &str) -> Result<(String, Vec<TestItem>), TableFaults> {
    let (mut codes, mut loincs) = (BTreeSet::new(), BTreeSet::new());
    Table::read(file, text, &COLUMNS, |line| {
        let item = item(line)?;
        line.unique("item_code", item.code.as_str(), &mut codes);
        line.unique("loinc", item.loinc.as_str(), &mut loincs);
        Some(item)
    })
}

fn item(line: &mut Table<'_>) -> Option<TestItem> {
    let code = line.parsed("item_code", ItemCode::parse);
    let name = line.required("name");
    let abbreviation = line.required("abbreviation");
    let specimens = line.list("specimens", |part| Ok(part.to_owned()));
    if specimens.as_ref().is_some_and(Vec::is_empty) {
        line.fault("specimens", "is required");
    }
    let unit = line.required("unit");
    let ucum = line.parsed("ucum", parse_ucum);
    let loinc = line.parsed("loinc", Loinc::parse);
    let loinc_certainty = line.parsed("loinc_certainty", parse_certainty);
    let conversions = line.list("conversions", Conversion::parse);
    let refused = line.list("refused_units", parse_refused);
    if let (Some(conversions), Some(refused), Some(ucum)) = (&conversions, &refused, ucum) {
        let units = conversions
            .iter()
            .map(|conversion| conversion.from.as_str());
        let units = units.chain(refused.iter().map(|(unit, _)| unit.as_str()));
        let mut seen = BTreeSet::from([ucum.to_owned()]);
        for unit in units {
            line.unique("conversions", unit, &mut seen);
        }
    }
    let conversion_certainty = given_certainty(
        line,
        "conversion_certainty",
        conversions.as_ref().is_none_or(|list| !list.is_empty()),
    );
    let intervals = line.list("intervals", parse_interval);
    let has_intervals = intervals.as_ref().is_none_or(|list| !list.is_empty());
    let interval_certainty = given_certainty(
        line,
        "interval_certainty",
        has_intervals || !line.text("interval_note").is_empty(),
    );
    if has_intervals {
        line.required("interval_source");
    }
    let allowable_error = allowable_error(line);
    let window_days = line.parsed("window_days", |text| match text.parse::<u16>() {
        Ok(days @ 1..=3_660) => Ok(days),
        _ => Err("must be a number of days from 1 to 3660"),
    });
    Some(TestItem {
        code: code?,
        name: name?.to_owned(),
        abbreviation: abbreviation?.to_owned(),
        specimens: specimens?,
        unit: unit?.to_owned(),
        ucum: ucum?.to_owned(),
        loinc: loinc?,
        loinc_certainty: loinc_certainty?,
        conversions: conversions?,
        conversion_certainty: conversion_certainty?,
        refused: refused?,
        intervals: intervals?,
        interval_note: line.text("interval_note").to_owned(),
        interval_source: line.text("interval_source").to_owned(),
        interval_certainty: interval_certainty?,
        allowable_error: allowable_error?,
        window_days: window_days?,
    })
}

/// None: a fault. `Some(None)`: none is set.
fn allowable_error(line: &mut Table<'_>) -> Option<Option<AllowableError>> {
    let given = !line.text("tea_percent").is_empty();
    given_certainty(line, "tea_certainty", given)?;
    let (absolute, up_to) = (line.text("tea_absolute"), line.text("tea_up_to"));
    if absolute.is_empty() != up_to.is_empty() {
        line.fault("tea_absolute", "stands together with tea_up_to");
        return None;
    }
    if !given {
        if !absolute.is_empty() {
            line.fault(
                "tea_percent",
                "is required where there is an absolute limit",
            );
            return None;
        }
        return Some(None);
    }
    let percent = line.parsed("tea_percent", positive);
    let below = if absolute.is_empty() {
        Some(None)
    } else {
        let limit = line.parsed("tea_absolute", positive);
        let up_to = line.parsed("tea_up_to", positive);
        limit
            .zip(up_to)
            .map(|(limit, up_to)| Some(BelowLimit { limit, up_to }))
    };
    Some(Some(AllowableError {
        percent: percent?,
        below: below?,
    }))
}

fn given_certainty(line: &mut Table<'_>, key: &str, given: bool) -> Option<Option<Certainty>> {
    match (given, line.text(key).is_empty()) {
        (true, _) => line.parsed(key, parse_certainty).map(Some),
        (false, true) => Some(None),
        (false, false) => {
            line.fault(key, "stands beside nothing");
            None
        }
    }
}

fn positive(text: &str) -> Result<Decimal, String> {
    let number = Decimal::parse(text).map_err(|broken| broken.to_string())?;
    if number.is_positive() {
        Ok(number)
    } else {
        Err("must be above zero".to_owned())
    }
}

fn parse_certainty(text: &str) -> Result<Certainty, &'static str> {
    match text {
        "D" => Ok(Certainty::Design),
        "M" => Ok(Certainty::Memory),
        "Q" => Ok(Certainty::Quoted),
        _ => Err("must be Q, M or D"),
    }
}

fn parse_ucum(text: &str) -> Result<&str, &'static str> {
    if text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(text)
    } else {
        Err("must be a UCUM code: at most 32 printable ASCII characters without space")
    }
}

fn parse_refused(text: &str) -> Result<(String, &'static Rule), String> {
    let (unit, code) = text.split_once(' ').ok_or("must be UNIT RULE")?;
    let rule = refusal(code.trim()).ok_or("names no rule of this service")?;
    Ok((unit.to_owned(), rule))
}

/// `[M|F] [AGE-AGEy] LOW..HIGH`, `..HIGH`, `LOW..` or `<HIGH`.
fn parse_interval(text: &str) -> Result<Interval, String> {
    let mut interval = Interval {
        sex: None,
        ages: None,
        low: None,
        high: None,
        high_excluded: false,
    };
    let mut words: Vec<&str> = text.split(' ').collect();
    let bounds = words.pop().unwrap_or_default();
    for word in words {
        if let Some(ages) = word.strip_suffix('y') {
            let ages = ages
                .split_once('-')
                .and_then(|(from, to)| Some((from.parse().ok()?, to.parse().ok()?)));
            interval.ages = Some(
                ages.filter(|(from, to)| from <= to)
                    .ok_or("ages are written 20-59y")?,
            );
        } else if word == "M" || word == "F" {
            interval.sex = word.chars().next();
        } else {
            return Err("must be [M|F] [AGE-AGEy] LOW..HIGH".to_owned());
        }
    }
    let number = |text: &str| Decimal::parse(text).map_err(|broken| broken.to_string());
    if let Some(high) = bounds.strip_prefix('<') {
        interval.high = Some(number(high)?);
        interval.high_excluded = true;
        return Ok(interval);
    }
    let (low, high) = bounds.split_once("..").ok_or("must be LOW..HIGH")?;
    interval.low = (!low.is_empty()).then(|| number(low)).transpose()?;
    interval.high = (!high.is_empty()).then(|| number(high)).transpose()?;
    match (interval.low, interval.high) {
        (None, None) => Err("has no bound".to_owned()),
        (Some(low), Some(high)) if low > high => {
            Err("the lower bound lies above the upper one".to_owned())
        }
        _ => Ok(interval),
    }
}
