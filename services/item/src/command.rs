//! Commands that work on files.

use std::{
    fmt::Display,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, anyhow};
use banqiao_directory::Clock;
use banqiao_item::{
    Calendars, Catalogue, CatalogueFaults, Format, ImportError, ItemConfig, Language, Months,
    Report, ReportFault, Store, rulebook,
};
use banqiao_kit::{
    SettingFaults,
    calendar::{CalendarNotLoaded, WorkCalendar},
    civil_date,
};
use jiff::{
    ToSpan,
    civil::{Date, date},
};

/// The faults of a file that an operator wrote, each on a line.
pub(crate) fn faults(error: &anyhow::Error) -> Option<&dyn Display> {
    if let Some(faults) = error.downcast_ref::<SettingFaults>() {
        return Some(faults);
    }
    if let Some(faults) = error.downcast_ref::<CatalogueFaults>() {
        return Some(faults);
    }
    match error.downcast_ref::<ImportError>() {
        Some(ImportError::CallerFaults(faults)) => Some(faults),
        _ => None,
    }
}

/// Writes the table of rules to stdout.
pub(crate) fn rules(json: bool) -> anyhow::Result<()> {
    let (book, mut out) = (rulebook(), io::stdout().lock());
    if json {
        writeln!(out, "{:#}", book.json())?;
    } else {
        write!(out, "{}", book.markdown())?;
    }
    Ok(())
}

/// Lists the items in force today.
pub(crate) fn catalogue(files: &[PathBuf]) -> anyhow::Result<()> {
    let catalogue = Catalogue::load(files)?;
    let today = civil_date(Clock::system().now_us());
    let mut out = io::stdout().lock();
    writeln!(out, "{}", catalogue.label())?;
    for item in catalogue.items(today) {
        let mode = item.mode.as_str_name().trim_start_matches("HANDLING_MODE_");
        let certainty = item.certainty.tag();
        writeln!(
            out,
            "{}\t{}\t{mode}\t{}\t{certainty}\t{}",
            item.id, item.name, item.lead_department, item.source
        )?;
    }
    Ok(())
}

/// Form of a report.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum ReportFormat {
    /// A row for each month, city, item and mode.
    Csv,
    /// A page to print on A4.
    Html,
    /// Every figure.
    Json,
}

/// Language of a report.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(crate) enum ReportLanguage {
    /// Chinese.
    Zh,
    /// English.
    En,
}

/// Writes the report of months to stdout.
pub(crate) async fn report(asked: crate::Report, config: ItemConfig) -> anyhow::Result<()> {
    let months = Months::parse(&asked.from, &asked.to)
        .map_err(|broken| SettingFaults::of("--from, --to", broken.to_string()))?;
    let store = Store::open(&config.database).await?;
    let rows = store.figures(config.city, &months).await;
    store.close().await;
    let today = civil_date(Clock::system().now_us());
    let mut report = Report::new(months, today, rows?, &config.catalogue);
    for path in &asked.others {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        report = with(report, path, &text)?;
    }
    let format = match asked.format {
        ReportFormat::Csv => Format::Csv,
        ReportFormat::Html => Format::Html,
        ReportFormat::Json => Format::Json,
    };
    let language = match asked.lang {
        ReportLanguage::Zh => Language::Chinese,
        ReportLanguage::En => Language::English,
    };
    let file = report.render(format, language)?;
    Ok(io::stdout().lock().write_all(file.as_bytes())?)
}

fn with(report: Report, path: &Path, text: &str) -> anyhow::Result<Report> {
    let added = report.with_json(text);
    added.map_err(|fault| match fault {
        fault @ ReportFault::InternalSheet(_) => anyhow!(fault),
        fault => SettingFaults::of("--with", format!("{}: {fault}", path.display())).into(),
    })
}

/// Adds the years of a calendar file to the database.
pub(crate) async fn import_calendar(file: &Path, config: ItemConfig) -> anyhow::Result<()> {
    let text =
        fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let store = Store::open(&config.database).await?;
    let calendars = Calendars::new(store.clone(), config.calendar);
    let imported = calendars
        .import(file, &text, Clock::system().now_us())
        .await;
    if imported.is_ok() {
        calendars.refresh().await?;
        write_years(&calendars.current())?;
    }
    store.close().await;
    Ok(imported?)
}

/// Shows the calendar of a service, or the shipped one.
pub(crate) async fn show_calendar(
    year: Option<i16>,
    config: Option<ItemConfig>,
) -> anyhow::Result<()> {
    let calendar = match config {
        None => WorkCalendar::shipped(),
        Some(config) => {
            let store = Store::open(&config.database).await?;
            let calendars = Calendars::new(store.clone(), config.calendar);
            calendars.refresh().await?;
            store.close().await;
            calendars.current()
        }
    };
    match year {
        None => write_years(&calendar)?,
        Some(year) => write_year(&calendar, year)?,
    }
    Ok(())
}

fn write_years(calendar: &WorkCalendar) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for year in calendar.loaded_years() {
        let source = calendar.notice(year).map_or("", |notice| &notice.source);
        writeln!(out, "{year}\t{source}")?;
    }
    Ok(())
}

fn write_year(calendar: &WorkCalendar, year: i16) -> anyhow::Result<()> {
    let notice = calendar.notice(year).ok_or(CalendarNotLoaded { year })?;
    let mut out = io::stdout().lock();
    writeln!(out, "{year}\t{}", notice.source)?;
    let first = date(year, 1, 1);
    let days = first
        .series(1.day())
        .take_while(|day: &Date| day.year() == year);
    for day in days {
        if calendar.is_workday(day)? {
            writeln!(out, "{day}")?;
        }
    }
    Ok(())
}
