//! Commands about insured persons and beneficiaries.

use std::{collections::BTreeMap, io};

use banqiao_card::{
    CardConfig, LineOutcome, Store,
    eligibility::{
        BENEFICIARY_COLUMNS, BENEFICIARY_SHEET, Eligibility, beneficiaries, beneficiary_line,
        beneficiary_row,
    },
    entitlement::{
        Entitlements, INSURANCE_COLUMNS, INSURANCE_SHEET, insurance_line, insurance_row, insured,
    },
};
use banqiao_directory::{CityCode, Clock};
use banqiao_kit::{SheetRow, Violation, civil_date};
use banqiao_telemetry::install_log;
use clap::Subcommand;
use jiff::civil::Date;

use super::refusals::{Refusals, SheetFile};

/// Insured persons and the people whom the city pays.
#[derive(Debug, Subcommand)]
pub(crate) enum Benefits {
    /// Takes over insured persons from a CSV or XLSX file; exits 3 when lines were refused.
    ImportInsurance(SheetFile),
    /// Takes over whom the city pays from a CSV or XLSX file; exits 3 when lines were refused.
    ImportBeneficiaries(SheetFile),
    /// Writes synthetic insured persons as CSV to stdout: nobody's, and the same for the same seed.
    GenerateInsurance(Synthetic),
    /// Writes synthetic beneficiaries as CSV to stdout: the pensioners among the insured persons of the same seed.
    GenerateBeneficiaries(Synthetic),
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
            Self::ImportInsurance(file) => runtime.block_on(insurance(file)),
            Self::ImportBeneficiaries(file) => runtime.block_on(payees(file)),
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

async fn insurance(file: SheetFile) -> anyhow::Result<bool> {
    let config = CardConfig::read(&file.config)?;
    install_log(&config.telemetry)?;
    let (mut batches, mut refusals) = file.open(&INSURANCE_SHEET)?;
    let store = Store::open_mapped(&config.database, config.mapping.as_ref()).await?;
    let entitlements = Entitlements::new(&store, config.city, Clock::system(), config.entitlement);
    while let Some(rows) = batches.next().await {
        let (sound, faulty) = judged(&rows, insurance_line);
        let outcomes = entitlements.import(&sound).await?;
        let known = sound.iter().map(|line| line.line).zip(outcomes);
        count(&mut refusals, &rows, faulty.into_iter().chain(known))?;
        batches.tell(&refusals);
    }
    store.close().await;
    let refused = refusals.finish()?;
    batches.end().await?;
    Ok(refused)
}

async fn payees(file: SheetFile) -> anyhow::Result<bool> {
    let config = CardConfig::read(&file.config)?;
    install_log(&config.telemetry)?;
    let (mut batches, mut refusals) = file.open(&BENEFICIARY_SHEET)?;
    let store = Store::open_mapped(&config.database, config.mapping.as_ref()).await?;
    let eligibility = Eligibility::new(&store, config.city, Clock::system(), config.eligibility);
    while let Some(rows) = batches.next().await {
        let (sound, faulty) = judged(&rows, beneficiary_line);
        let outcomes = eligibility.import(&sound, None).await?;
        let known = sound.iter().map(|line| line.line).zip(outcomes);
        count(&mut refusals, &rows, faulty.into_iter().chain(known))?;
        batches.tell(&refusals);
    }
    store.close().await;
    let refused = refusals.finish()?;
    batches.end().await?;
    Ok(refused)
}

/// The rows whose form is sound, and the outcomes of the others.
fn judged<T>(
    rows: &[SheetRow],
    parse: impl Fn(u64, &[String]) -> Result<T, Vec<Violation>>,
) -> (Vec<T>, Vec<(u64, LineOutcome)>) {
    let (mut sound, mut faulty) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let line = row.line.number();
        let parsed = if row.faults.is_empty() {
            parse(line, &row.values)
        } else {
            Err(row.faults.clone())
        };
        match parsed {
            Ok(request) => sound.push(request),
            Err(faults) => faulty.push((line, LineOutcome::Refused(faults))),
        }
    }
    (sound, faulty)
}

/// Counts rows in their order; each has one outcome.
fn count(
    refusals: &mut Refusals,
    rows: &[SheetRow],
    outcomes: impl Iterator<Item = (u64, LineOutcome)>,
) -> anyhow::Result<()> {
    let mut outcomes: BTreeMap<_, _> = outcomes.collect();
    for row in rows {
        if let Some(outcome) = outcomes.remove(&row.line.number()) {
            refusals.count(row, outcome)?;
        }
    }
    Ok(())
}
