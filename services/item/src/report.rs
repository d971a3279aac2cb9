//! The report to the joint meeting: the figures of months, as JSON, CSV and a page to print.
//!
//! ```text
//!   tallies ─▶ FigureRow ─┐
//!   JSON of other cities ─┴─▶ Report ─▶ sums by city, domain, mode, month, item ─▶ JSON | CSV | HTML
//! ```

mod chart;
mod page;
mod words;

use std::collections::BTreeMap;

use banqiao_kit::{Rule, SheetError, SheetWriter, identifier::DivisionCode};
use banqiao_proto::item::v1::{ReportFormat, ReportLanguage};
use jiff::civil::Date;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    catalogue::Catalogue,
    figures::{FigureRow, Figures, Months},
};

pub(crate) const FORMAT: Rule = Rule::design(
    "REPORT_FORMAT",
    "a report is JSON, CSV or HTML, in Chinese or English",
    "item service",
);
/// The form of the JSON, so that another program knows what it reads.
const FORM: &str = "banqiao-item-report-1";

/// Form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A row for each month, city, item and mode.
    Csv,
    /// A page to print.
    Html,
    /// Every figure.
    Json,
}

impl Format {
    /// The form of a number on the wire.
    pub fn parse(number: i32) -> Option<Self> {
        match ReportFormat::try_from(number) {
            Ok(ReportFormat::Csv) => Some(Self::Csv),
            Ok(ReportFormat::Html) => Some(Self::Html),
            Ok(ReportFormat::Json) => Some(Self::Json),
            Ok(ReportFormat::Unspecified) | Err(_) => None,
        }
    }

    /// Content type of the file.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Csv => "text/csv; charset=utf-8",
            Self::Html => "text/html; charset=utf-8",
            Self::Json => "application/json",
        }
    }

    const fn suffix(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Html => "html",
            Self::Json => "json",
        }
    }
}

/// Language of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// Chinese.
    Chinese,
    /// English.
    English,
}

impl Language {
    /// The language of a number on the wire.
    pub fn parse(number: i32) -> Option<Self> {
        match ReportLanguage::try_from(number) {
            Ok(ReportLanguage::Unspecified | ReportLanguage::Chinese) => Some(Self::Chinese),
            Ok(ReportLanguage::English) => Some(Self::English),
            Err(_) => None,
        }
    }
}

/// Why a report of another city is not read, or a file is not written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReportFault {
    /// It is no report of this form.
    #[error("it is no JSON report of this program")]
    CallerForm(#[source] serde_json::Error),
    /// It reports other months.
    #[error("it reports {0} to {1}, and not the same months")]
    CallerMonths(String, String),
    /// It reports a city that is in the report already.
    #[error("it reports the cases of {0}, which are in the report already")]
    CallerTwice(String),
    /// Its form has another name.
    #[error("its form is {0:?}, and not {FORM:?}")]
    CallerVersion(String),
    /// The writing of CSV.
    #[error("cannot write CSV")]
    InternalSheet(#[source] SheetError),
}

/// What is known of an item in a report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ReportedItem {
    name: String,
    name_en: String,
    domain: String,
}

/// A report of one or more deciding cities.
#[derive(Clone, Debug)]
pub struct Report {
    months: Months,
    made_on: Date,
    rows: Vec<FigureRow>,
    items: BTreeMap<String, ReportedItem>,
}

/// What [`Report::with_json`] reads.
#[derive(Deserialize)]
struct ReadReport {
    form: String,
    from: String,
    to: String,
    items: BTreeMap<String, ReportedItem>,
    rows: Vec<FigureRow>,
}

/// Figures under keys, in the order of the keys.
type Sums = BTreeMap<String, Figures>;

impl Report {
    /// The report of a city's rows.
    pub fn new(months: Months, made_on: Date, rows: Vec<FigureRow>, catalogue: &Catalogue) -> Self {
        let mut items = BTreeMap::new();
        for row in &rows {
            let item = row.item.parse().ok();
            let item = item.and_then(|id| catalogue.item(&id, made_on));
            items
                .entry(row.item.clone())
                .or_insert_with(|| ReportedItem {
                    name: item.map_or(&row.item, |item| &item.name).clone(),
                    name_en: item.map_or(&row.item, |item| &item.name_en).clone(),
                    domain: item.map_or_else(|| "other".to_owned(), |item| item.domain.clone()),
                });
        }
        Self {
            months,
            made_on,
            rows,
            items,
        }
    }

    /// Adds the report of another city, so that the joint meeting gets one of all.
    ///
    /// # Errors
    /// It is no such report, of other months, or of a city that is in this one already.
    pub fn with_json(mut self, text: &str) -> Result<Self, ReportFault> {
        let read: ReadReport = serde_json::from_str(text).map_err(ReportFault::CallerForm)?;
        if read.form != FORM {
            return Err(ReportFault::CallerVersion(read.form));
        }
        if (read.from.as_str(), read.to.as_str()) != (self.months.first(), self.months.last()) {
            return Err(ReportFault::CallerMonths(read.from, read.to));
        }
        let known = |city: &str| self.rows.iter().any(|row| row.city == city);
        if let Some(row) = read.rows.iter().find(|row| known(&row.city)) {
            return Err(ReportFault::CallerTwice(row.city.clone()));
        }
        self.rows.extend(read.rows);
        for (id, item) in read.items {
            self.items.entry(id).or_insert(item);
        }
        Ok(self)
    }

    /// A name for the file.
    pub fn file_name(&self, format: Format) -> String {
        format!(
            "items-{}-{}.{}",
            self.months.first(),
            self.months.last(),
            format.suffix()
        )
    }

    /// The file.
    ///
    /// # Errors
    /// See [`ReportFault`].
    pub fn render(&self, format: Format, language: Language) -> Result<String, ReportFault> {
        match format {
            Format::Csv => self.csv(language).map_err(ReportFault::InternalSheet),
            Format::Html => Ok(page::page(self, language)),
            Format::Json => Ok(format!("{:#}\n", self.json())),
        }
    }

    /// Sums of cases, without tasks of joint cases.
    fn sums(&self, key: impl Fn(&FigureRow) -> String) -> Sums {
        let mut sums = Sums::new();
        for row in self.rows.iter().filter(|row| !row.tasks) {
            sums.entry(key(row)).or_default().merge(&row.figures);
        }
        sums
    }

    fn by_city(&self) -> Sums {
        self.sums(|row| row.city.clone())
    }

    fn by_applied_city(&self) -> Sums {
        self.sums(|row| row.applied_city.clone())
    }

    fn by_mode(&self) -> Sums {
        self.sums(|row| row.mode.clone())
    }

    fn by_item(&self) -> Sums {
        self.sums(|row| row.item.clone())
    }

    fn by_domain(&self) -> Sums {
        self.sums(|row| {
            let item = self.items.get(&row.item);
            item.map_or_else(|| "other".to_owned(), |item| item.domain.clone())
        })
    }

    /// Every month of the report, those without cases, too.
    fn by_month(&self) -> Sums {
        let mut sums: Sums = self
            .months
            .each()
            .map(|month| (month, Figures::default()))
            .collect();
        sums.extend(self.sums(|row| row.month.clone()));
        sums
    }

    fn total(&self) -> Figures {
        let sums = self.sums(|_| String::new());
        sums.into_values().next().unwrap_or_default()
    }

    /// Tasks of joint cases of other cities.
    fn tasks(&self) -> Figures {
        let mut sum = Figures::default();
        for row in self.rows.iter().filter(|row| row.tasks) {
            sum.merge(&row.figures);
        }
        sum
    }

    /// Cases whose applicants applied in another city than the one that decides: 跨城通办.
    fn across(&self) -> Figures {
        let mut sum = Figures::default();
        let rows = self.rows.iter().filter(|row| !row.tasks);
        for row in rows.filter(|row| row.city != row.applied_city) {
            sum.merge(&row.figures);
        }
        sum
    }

    fn json(&self) -> Value {
        let sums = |sums: &Sums| -> Value {
            sums.iter()
                .map(|(key, figures)| (key.clone(), shown(figures)))
                .collect()
        };
        json!({
            "form": FORM,
            "from": self.months.first(),
            "to": self.months.last(),
            "made_on": self.made_on.to_string(),
            "cities": self.by_city().keys().collect::<Vec<_>>(),
            "total": shown(&self.total()),
            "across_cities": shown(&self.across()),
            "tasks_of_joint_cases": shown(&self.tasks()),
            "by_city": sums(&self.by_city()),
            "by_applied_city": sums(&self.by_applied_city()),
            "by_domain": sums(&self.by_domain()),
            "by_mode": sums(&self.by_mode()),
            "by_month": sums(&self.by_month()),
            "by_item": sums(&self.by_item()),
            "items": self.items,
            "rows": self.rows,
        })
    }

    fn csv(&self, language: Language) -> Result<String, SheetError> {
        let mut columns: Vec<_> = words::KEYS.iter().map(|key| key.of(language)).collect();
        let names = Figures::default().counts();
        columns.extend(names.iter().map(|(name, _)| words::figure(name, language)));
        columns.extend(words::LEVELS.iter().map(|level| level.of(language)));
        let mut writer = SheetWriter::csv(Vec::new(), &columns)?;
        for row in &self.rows {
            let item = self.items.get(&row.item);
            let name = item.map_or("", |item| item.name_in(language));
            let mut values = vec![
                row.month.clone(),
                row.city.clone(),
                row.applied_city.clone(),
                row.item.clone(),
                name.to_owned(),
                words::mode(&row.mode, language).to_owned(),
                words::yes_or_no(row.tasks, language).to_owned(),
            ];
            let counts = row.figures.counts();
            values.extend(counts.iter().map(|(_, count)| count.to_string()));
            values.extend(row.figures.ratings.map(|count| count.to_string()));
            writer.write(&values)?;
        }
        let bytes = writer.finish()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }
}

impl ReportedItem {
    fn name_in(&self, language: Language) -> &str {
        match language {
            Language::Chinese => &self.name,
            Language::English => &self.name_en,
        }
    }
}

/// Figures with what is derived from them: shares in 1/10,000, days in 1/100; null of nothing.
fn shown(figures: &Figures) -> Value {
    let mut shown = json!(figures);
    shown["on_time_share_10000"] = json!(figures.on_time_share());
    shown["average_workdays_100"] = json!(figures.average_workdays());
    shown["satisfied_share_10000"] = json!(figures.satisfied_share());
    shown
}

/// The name of a city.
fn city_name(code: &str, language: Language) -> String {
    if let (Language::English, Some(name)) = (language, words::city(code)) {
        return name.to_owned();
    }
    let division = DivisionCode::parse(code).ok();
    let division = division.and_then(|code| code.division());
    division.map_or_else(|| code.to_owned(), |division| division.name.to_owned())
}
