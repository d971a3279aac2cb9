//! `banqiao-lab`: a city's laboratory service, and the tools around it.

#![forbid(unsafe_code)]

mod command;

use std::{
    io::{BufWriter, Write},
    path::PathBuf,
    process::ExitCode,
};

use banqiao_directory::{CityCode, Clock};
use banqiao_kit::{ServiceIdentity, SettingFaults, stop_signal};
use banqiao_lab::{LabConfig, rulebook, synthetic, write_fhir};
use banqiao_telemetry::{Chain, install_log};
use clap::{Parser, Subcommand};
use command::quality;

/// Configuration faults (`EX_USAGE` of sysexits.h).
const EXIT_CONFIG: u8 = 64;
/// The import went through, but reports were refused.
const EXIT_REFUSED: u8 = 3;

/// The laboratory reports of a city.
#[derive(Debug, Parser)]
#[command(version, propagate_version = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serves the city's gateway until SIGTERM or SIGINT.
    Serve {
        /// Configuration file.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Reports every fault of a configuration file, and of the catalogue, institutions and certificates that it names; exits 64 on
    /// faults.
    Check {
        /// Configuration file.
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Publishes FHIR R4 bundles from a file, one a line; exits 3 when reports were refused. Sending a file again changes nothing.
    Import {
        /// File of bundles in UTF-8, one a line (NDJSON).
        #[arg(value_name = "REPORTS.ndjson")]
        reports: PathBuf,
        /// Configuration file; its database is written.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
        /// Where refused reports are listed with line, field and rule. Default: REPORTS.refused.csv.
        #[arg(long, value_name = "FILE")]
        refused: Option<PathBuf>,
        /// Prints the counts as one JSON object.
        #[arg(long)]
        json: bool,
    },
    /// Registers the quality rounds of a table (CSV or XLSX), one line for each challenge sample; exits 3 when some were refused.
    ImportRounds(quality::Table),
    /// Takes over what institutions measured in quality rounds (CSV or XLSX); exits 3 when lines were refused.
    ImportResults(quality::Table),
    /// Evaluates a quality round that has closed, and lists how institutions did as CSV. Again: the same evaluation.
    EvaluateRound(quality::Evaluated),
    /// Writes synthetic reports of a city's first institution as FHIR bundles to stdout, one a line.
    Generate {
        /// City code, such as 370200.
        #[arg(long)]
        city: CityCode,
        /// How many.
        #[arg(long, default_value_t = 1_000)]
        count: u64,
    },
    /// Prints every rule by which the service refuses and answers, with its source.
    Rules {
        /// As JSON instead of Markdown.
        #[arg(long)]
        json: bool,
    },
    /// Writes a register of synthetic institutions to stdout: two for each city of the network, and nobody's.
    Institutions,
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            if let Some(faults) = error.downcast_ref::<SettingFaults>() {
                eprintln!("{faults}");
                return ExitCode::from(EXIT_CONFIG);
            }
            eprintln!("banqiao-lab: {}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve { config } => {
            let config = LabConfig::read(&config)?;
            install_log(&config.telemetry)?;
            runtime()?.block_on(async {
                banqiao_lab::run(config, stop_signal()?).await?;
                anyhow::Ok(ExitCode::SUCCESS)
            })
        }
        Command::Check { config } => {
            let config = LabConfig::read(&config)?;
            ServiceIdentity::load(config.trust, Clock::system())
                .map_err(|error| SettingFaults::of("identity", Chain(&error).to_string()))?;
            eprintln!("no fault found");
            Ok(ExitCode::SUCCESS)
        }
        Command::Import {
            reports,
            config,
            refused,
            json,
        } => {
            let config = LabConfig::read(&config)?;
            install_log(&config.telemetry)?;
            let list = refused.unwrap_or_else(|| reports.with_extension("refused.csv"));
            let refused = runtime()?.block_on(command::import(&reports, config, &list, json))?;
            Ok(exit_code(refused))
        }
        Command::ImportRounds(table) => Ok(exit_code(
            runtime()?.block_on(quality::import_rounds(&table))?,
        )),
        Command::ImportResults(table) => Ok(exit_code(
            runtime()?.block_on(quality::import_results(&table))?,
        )),
        Command::EvaluateRound(of) => {
            runtime()?.block_on(quality::evaluate(&of))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Generate { city, count } => {
            let mut out = BufWriter::new(std::io::stdout().lock());
            for report in synthetic::reports(city, count)? {
                writeln!(out, "{}", write_fhir(&report))?;
            }
            out.flush()?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Rules { json } => {
            let book = rulebook();
            let text = if json {
                book.json().to_string()
            } else {
                book.markdown()
            };
            std::io::stdout().write_all(text.as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Institutions => {
            std::io::stdout().write_all(synthetic::institution_table().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn exit_code(refused: bool) -> ExitCode {
    if refused {
        ExitCode::from(EXIT_REFUSED)
    } else {
        ExitCode::SUCCESS
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}
