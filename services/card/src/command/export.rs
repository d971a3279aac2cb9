//! `banqiao-card export`.

use std::{
    fs::{self, File},
    io::{self, BufWriter, Write},
    path::PathBuf,
};

use anyhow::Context;
use banqiao_card::{
    COLUMNS, CardConfig, CardNumber, Cards, ExportError, ExportFilter, Exported, STOCK_COLUMNS,
    Store,
    eligibility::{BENEFICIARY_COLUMNS, Eligibility},
    entitlement::{Entitlements, INSURANCE_COLUMNS},
    state_named,
};
use banqiao_directory::Clock;
use banqiao_kit::{SheetWriter, identifier::DivisionCode, sheet_path};
use banqiao_proto::card::v1::CardState;
use banqiao_telemetry::install_log;
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::civil::Date;

#[derive(Debug, clap::Args)]
pub(crate) struct ExportFile {
    /// What is written.
    #[arg(value_enum, default_value_t = Records::Cards)]
    records: Records,
    /// Configuration file; its database is read.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The file, which its owner alone can read: it holds people's records.
    #[arg(short, long, value_name = "FILE.csv|FILE.xlsx", value_parser = sheet_path)]
    output: PathBuf,
    /// Cards whose social function is in this state today, such as NORMAL, EXPIRED or 正式挂失. May be repeated.
    #[arg(long, value_name = "STATE", value_parser = state)]
    state: Vec<CardState>,
    /// Cards whose last day is before this one, YYYY-MM-DD.
    #[arg(long, value_name = "DATE")]
    expires_before: Option<Date>,
    /// Cards that this division issued, or people insured there, or in one within it, such as 370202.
    #[arg(long, value_name = "DIVISION", value_parser = division)]
    division: Option<DivisionCode>,
    /// These cards alone. May be repeated.
    #[arg(long, value_name = "CARD", value_parser = number)]
    number: Vec<CardNumber>,
    /// Replaces a file that is there.
    #[arg(long)]
    force: bool,
}

/// What an export writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Records {
    /// Cards, as `import` takes them.
    Cards,
    /// Insured persons, as `benefits import-insurance` takes them.
    Insurance,
    /// People whom the city pays, as `benefits import-beneficiaries` takes them.
    Beneficiaries,
    /// New cards that are nobody's yet, as `stock` takes them.
    Stock,
}

impl Records {
    fn columns(self) -> Vec<&'static str> {
        match self {
            Self::Cards => COLUMNS.to_vec(),
            Self::Insurance => INSURANCE_COLUMNS.to_vec(),
            Self::Beneficiaries => BENEFICIARY_COLUMNS.to_vec(),
            Self::Stock => STOCK_COLUMNS.map(|column| column.name).to_vec(),
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Cards => "cards",
            Self::Insurance => "periods of insured persons",
            Self::Beneficiaries => "beneficiaries",
            Self::Stock => "new cards",
        }
    }
}

fn state(name: &str) -> Result<CardState, String> {
    let fault = || "a state is SEALED, NORMAL, TEMP_LOST, LOST, LOCKED, CANCELLED or EXPIRED, or its Chinese name";
    state_named(name).ok_or_else(|| fault().to_owned())
}

fn division(text: &str) -> Result<DivisionCode, String> {
    DivisionCode::parse(text).map_err(|broken| broken.0.to_string())
}

fn number(text: &str) -> Result<CardNumber, String> {
    CardNumber::parse(text).map_err(|broken| broken.0.to_string())
}

type Sheet = SheetWriter<BufWriter<File>>;

impl ExportFile {
    /// Writes the file, with the progress on a terminal.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        self.check_filter()?;
        let config = CardConfig::read(&self.config)?;
        install_log(&config.telemetry)?;
        let output = self.output.display();
        anyhow::ensure!(
            self.force || !self.output.exists(),
            "{output} is there already: give another name, or --force"
        );
        let store = Store::open_mapped(&config.database, config.mapping.as_ref()).await?;
        let writer = SheetWriter::create(&self.output, &self.records.columns(), self.force);
        let mut writer = writer.with_context(|| format!("cannot write {output}"))?;
        let exported = Box::pin(self.write(&store, config, &mut writer)).await;
        store.close().await;
        let finished = match exported {
            Ok(exported) => writer
                .finish()
                .map(|_| exported)
                .map_err(anyhow::Error::from),
            Err(error) => Err(error.into()),
        };
        let Exported {
            written,
            unreadable,
        } = match finished {
            Ok(exported) => exported,
            Err(error) => {
                // A part of the records must not be taken for all of them.
                let _ = fs::remove_file(&self.output);
                return Err(error.context(format!("cannot write {output}")));
            }
        };
        let name = self.records.name();
        writeln!(io::stdout().lock(), "{written} {name} in {output}")?;
        anyhow::ensure!(
            unreadable == 0,
            "{unreadable} records of the bureau's tables cannot be used and are not in the file"
        );
        Ok(())
    }

    /// A filter that is not applied would write what was not asked for.
    fn check_filter(&self) -> anyhow::Result<()> {
        let of_cards =
            !self.state.is_empty() || self.expires_before.is_some() || !self.number.is_empty();
        anyhow::ensure!(
            self.records == Records::Cards || !of_cards,
            "--state, --expires-before and --number choose cards, not {}",
            self.records.name()
        );
        anyhow::ensure!(
            matches!(self.records, Records::Cards | Records::Insurance) || self.division.is_none(),
            "--division chooses cards and insured persons, not {}",
            self.records.name()
        );
        Ok(())
    }

    async fn write(
        &self,
        store: &Store,
        config: CardConfig,
        writer: &mut Sheet,
    ) -> Result<Exported, ExportError> {
        let bar = progress(self.records);
        let seen = |looked_at: u64, written: u64| {
            bar.set_position(looked_at);
            if looked_at.is_multiple_of(1_000) {
                bar.set_message(format!("{written} written"));
            }
        };
        let all = |written| seen(written, written);
        let (city, clock) = (config.city, Clock::system());
        let cards = || Cards::new(store.clone(), city, clock.clone(), config.terms);
        let exported = match self.records {
            Records::Cards => {
                let filter = ExportFilter {
                    states: self.state.clone(),
                    expires_before: self.expires_before,
                    division: self.division,
                    numbers: self.number.clone(),
                };
                cards().export(&filter, writer, seen).await
            }
            Records::Insurance => {
                let entitlements = Entitlements::new(store, city, clock, config.entitlement);
                let division = self.division.as_ref();
                entitlements.export(division, writer, seen).await
            }
            Records::Beneficiaries => {
                let eligibility = Eligibility::new(store, city, clock, config.eligibility);
                eligibility.export(writer, all).await
            }
            Records::Stock => cards().export_stock(writer, all).await,
        };
        bar.finish_and_clear();
        exported
    }
}

fn progress(records: Records) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    let template = format!(
        "{{spinner}} {{pos}} {}  {{per_sec}}  {{msg}}",
        records.name()
    );
    match ProgressStyle::with_template(&template) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}
