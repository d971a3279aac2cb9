//! Commands about insured persons and beneficiaries.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
};

use anyhow::Context;
use banqiao_card::{
    CardConfig, ColumnReader, IMPORT_BATCH, ImportCounts, LineOutcome, RefusedReport, Store,
    eligibility::{
        BENEFICIARY_COLUMNS, Eligibility, beneficiaries, beneficiary_line, beneficiary_row,
    },
    entitlement::{Entitlements, INSURANCE_COLUMNS, insurance_line, insurance_row, insured},
};
use banqiao_directory::{CityCode, Clock};
use banqiao_kit::{Violation, civil_date};
use banqiao_telemetry::install_log;
use clap::Subcommand;
use jiff::civil::Date;

use super::progress;

/// Insured persons and the people whom the city pays.
#[derive(Debug, Subcommand)]
pub(crate) enum Benefits {
    /// Takes over insured persons from a CSV file; exits 3 when lines were refused.
    ImportInsurance(ImportFile),
    /// Takes over whom the city pays from a CSV file; exits 3 when lines were refused.
    ImportBeneficiaries(ImportFile),
    /// Writes synthetic insured persons as CSV to stdout: nobody's, and the same for the same seed.
    GenerateInsurance(Synthetic),
    /// Writes synthetic beneficiaries as CSV to stdout: the pensioners among the insured persons of the same seed.
    GenerateBeneficiaries(Synthetic),
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportFile {
    /// CSV file in UTF-8; its header names the columns.
    #[arg(value_name = "FILE.csv")]
    file: PathBuf,
    /// Configuration file; its database is written.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where the refused lines are listed with field and rule. Default: FILE.refused.csv.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Prints the counts as one JSON object.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Synthetic {
    /// City code, such as 370200.
    #[arg(long)]
    city: CityCode,
    /// Among how many of the synthetic card holders.
    #[arg(long, default_value_t = 2_000)]
    count: u32,
    /// Another seed makes other people.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Day of the records, YYYY-MM-DD. Default: today.
    #[arg(long, value_name = "DAY")]
    on: Option<Date>,
}

impl Benefits {
    /// Runs the command, and says whether lines were refused.
    pub(crate) fn run(self, runtime: &tokio::runtime::Runtime) -> anyhow::Result<bool> {
        match self {
            Self::ImportInsurance(file) => runtime.block_on(insurance(&file)),
            Self::ImportBeneficiaries(file) => runtime.block_on(payees(&file)),
            Self::GenerateInsurance(of) => {
                let periods = insured(of.city, of.count, of.seed, of.day())?;
                write(
                    INSURANCE_COLUMNS,
                    periods.map(|period| insurance_row(&period)),
                )?;
                Ok(false)
            }
            Self::GenerateBeneficiaries(of) => {
                let people = beneficiaries(of.city, of.count, of.seed, of.day())?;
                write(
                    BENEFICIARY_COLUMNS,
                    people.map(|person| beneficiary_row(&person)),
                )?;
                Ok(false)
            }
        }
    }
}

impl Synthetic {
    fn day(&self) -> Date {
        self.on
            .unwrap_or_else(|| civil_date(Clock::system().now_us()))
    }
}

fn write<const N: usize>(
    columns: &[&str],
    rows: impl Iterator<Item = [String; N]>,
) -> anyhow::Result<()> {
    let mut writer = csv::Writer::from_writer(io::stdout().lock());
    writer.write_record(columns)?;
    for row in rows {
        writer.write_record(row)?;
    }
    writer.flush()?;
    Ok(())
}

async fn insurance(file: &ImportFile) -> anyhow::Result<bool> {
    let config = CardConfig::read(&file.config)?;
    install_log(&config.telemetry)?;
    let store = Store::open_mapped(&config.database, config.mapping.as_ref()).await?;
    let entitlements = Entitlements::new(&store, config.city, Clock::system(), config.entitlement);
    let mut lines = Lines::open(file, INSURANCE_COLUMNS)?;
    while let Some(batch) = lines.batch(insurance_line)? {
        let outcomes = entitlements.import(&batch).await?;
        lines.took(batch.iter().map(|line| line.line).zip(outcomes))?;
    }
    store.close().await;
    lines.finish()
}

async fn payees(file: &ImportFile) -> anyhow::Result<bool> {
    let config = CardConfig::read(&file.config)?;
    install_log(&config.telemetry)?;
    let store = Store::open(&config.database).await?;
    let eligibility = Eligibility::new(&store, config.city, Clock::system(), config.eligibility);
    let mut lines = Lines::open(file, BENEFICIARY_COLUMNS)?;
    while let Some(batch) = lines.batch(beneficiary_line)? {
        let outcomes = eligibility.import(&batch, None).await?;
        lines.took(batch.iter().map(|line| line.line).zip(outcomes))?;
    }
    store.close().await;
    lines.finish()
}

/// A file under way, a batch at a time.
struct Lines<'a> {
    of: &'a ImportFile,
    reader: ColumnReader<File>,
    bar: indicatif::ProgressBar,
    counts: ImportCounts,
    ended: bool,
    /// Made when the first line is refused.
    refused: Option<RefusedReport<BufWriter<File>>>,
    path: PathBuf,
}

impl<'a> Lines<'a> {
    fn open(of: &'a ImportFile, columns: &'static [&'static str]) -> anyhow::Result<Self> {
        let path = of.file.as_path();
        let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
        let bar = progress(file.metadata()?.len())?;
        let report = of.report.clone();
        Ok(Self {
            of,
            reader: ColumnReader::new(file, columns)?,
            bar,
            counts: ImportCounts::default(),
            ended: false,
            refused: None,
            path: report.unwrap_or_else(|| path.with_extension("refused.csv")),
        })
    }

    /// The next lines whose form is sound; none at the end.
    fn batch<T>(
        &mut self,
        parse: impl Fn(u64, &[String]) -> Result<T, Vec<Violation>>,
    ) -> anyhow::Result<Option<Vec<T>>> {
        let mut batch = Vec::with_capacity(IMPORT_BATCH);
        while !self.ended && batch.len() < IMPORT_BATCH {
            let Some((line, fields)) = self.reader.next_line()? else {
                self.ended = true;
                break;
            };
            match fields.and_then(|fields| parse(line, &fields)) {
                Ok(sound) => batch.push(sound),
                Err(faults) => self.took([(line, LineOutcome::Refused(faults))].into_iter())?,
            }
        }
        self.bar.set_position(self.reader.position());
        self.bar
            .set_message(format!("{} refused", self.counts.refused));
        Ok((!batch.is_empty()).then_some(batch))
    }

    fn took(&mut self, outcomes: impl Iterator<Item = (u64, LineOutcome)>) -> anyhow::Result<()> {
        for (line, outcome) in outcomes {
            self.counts.add(&outcome.result(line));
            if let LineOutcome::Refused(faults) = outcome {
                let mut report = match self.refused.take() {
                    Some(report) => report,
                    None => new_report(&self.path)?,
                };
                report.add(line, &faults)?;
                self.refused = Some(report);
            }
        }
        Ok(())
    }

    fn finish(self) -> anyhow::Result<bool> {
        self.bar.finish_and_clear();
        let ImportCounts {
            created,
            updated,
            unchanged,
            refused,
        } = self.counts;
        let listed = self.refused.is_some();
        if let Some(report) = self.refused {
            report.finish()?;
        }
        let mut out = io::stdout().lock();
        if self.of.json {
            let counts = serde_json::json!({
                "created": created, "updated": updated, "unchanged": unchanged, "refused": refused,
                "report": listed.then_some(&self.path),
            });
            writeln!(out, "{counts}")?;
            return Ok(listed);
        }
        writeln!(
            out,
            "{created} new, {updated} changed, {unchanged} unchanged, {refused} refused"
        )?;
        if listed {
            writeln!(
                out,
                "the refused lines are listed in {}",
                self.path.display()
            )?;
        }
        Ok(listed)
    }
}

fn new_report(path: &Path) -> anyhow::Result<RefusedReport<BufWriter<File>>> {
    let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(RefusedReport::new(BufWriter::new(file))?)
}
