//! `banqiao-card export`.

use std::{
    fs,
    io::{self, Write},
    path::PathBuf,
};

use anyhow::Context;
use banqiao_card::{
    COLUMNS, CardConfig, CardNumber, Cards, ExportFilter, Exported, Store, state_named,
};
use banqiao_directory::Clock;
use banqiao_kit::{SheetWriter, identifier::DivisionCode, sheet_path};
use banqiao_proto::card::v1::CardState;
use banqiao_telemetry::install_log;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::civil::Date;

#[derive(Debug, clap::Args)]
pub(crate) struct ExportFile {
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
    /// Cards that this division issued, or one within it, such as 370202.
    #[arg(long, value_name = "DIVISION", value_parser = division)]
    division: Option<DivisionCode>,
    /// These cards alone. May be repeated.
    #[arg(long, value_name = "CARD", value_parser = number)]
    number: Vec<CardNumber>,
    /// Replaces a file that is there.
    #[arg(long)]
    force: bool,
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

impl ExportFile {
    /// Writes the file, with the progress on a terminal.
    pub(crate) async fn run(self) -> anyhow::Result<()> {
        let config = CardConfig::read(&self.config)?;
        install_log(&config.telemetry)?;
        let output = self.output.display();
        anyhow::ensure!(
            self.force || !self.output.exists(),
            "{output} is there already: give another name, or --force"
        );
        let store = Store::open_mapped(&config.database, config.mapping.as_ref()).await?;
        let cards = Cards::new(store, config.city, Clock::system(), config.terms);
        let filter = ExportFilter {
            states: self.state,
            expires_before: self.expires_before,
            division: self.division,
            numbers: self.number,
        };
        let writer = SheetWriter::create(&self.output, &COLUMNS, self.force);
        let mut writer = writer.with_context(|| format!("cannot write {output}"))?;
        let bar = ProgressBar::new_spinner().with_style(ProgressStyle::with_template(
            "{spinner} {pos} cards  {per_sec}  {msg}",
        )?);
        let exported = cards
            .export(&filter, &mut writer, |looked_at, written| {
                bar.set_position(looked_at);
                if looked_at % 1_000 == 0 {
                    bar.set_message(format!("{written} written"));
                }
            })
            .await;
        cards.store().close().await;
        bar.finish_and_clear();
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
                // A part of the cards must not be taken for all of them.
                let _ = fs::remove_file(&self.output);
                return Err(error.context(format!("cannot write {output}")));
            }
        };
        writeln!(io::stdout().lock(), "{written} cards in {output}")?;
        anyhow::ensure!(
            unreadable == 0,
            "{unreadable} records of the bureau's tables cannot be used and are not in the file"
        );
        Ok(())
    }
}
