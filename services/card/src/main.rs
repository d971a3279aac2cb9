//! `banqiao-card`: a city's card service, and the tools around it.

#![forbid(unsafe_code)]

mod command;

use std::{path::PathBuf, process::ExitCode};

use banqiao_card::CardConfig;
use banqiao_directory::{CityCode, Clock};
use banqiao_kit::{Database, ServiceIdentity, SettingFaults, sheet_path, stop_signal};
use banqiao_telemetry::{Chain, install_log};
use clap::{Parser, Subcommand};

/// Configuration faults (`EX_USAGE` of sysexits.h).
const EXIT_CONFIG: u8 = 64;
/// The import went through, but lines were refused.
const EXIT_REFUSED: u8 = 3;

/// The social-security cards of a city.
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
    /// Reports every fault of a configuration file, of the certificates that it names, and of a mapping against its database; exits 64
    /// on faults.
    Check {
        /// Configuration file.
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Takes over cards from a CSV or XLSX file; exits 3 when lines were refused. Sending a file again changes nothing.
    Import(command::refusals::SheetFile),
    /// Writes cards, insured persons, beneficiaries or the stock into a CSV or XLSX file that can be imported again.
    Export(command::export::ExportFile),
    /// Takes new cards from a CSV or XLSX file into the stock from which cards are replaced and renewed. Sending a file again adds nothing.
    Stock {
        /// CSV or XLSX file: card_number, card_identification_code, specification_version, or the other names that these have.
        #[arg(value_name = "NEW.csv|NEW.xlsx")]
        cards: PathBuf,
        /// Where the refused lines are written, to be corrected; with one of them nothing is taken.
        #[arg(long, value_name = "FILE.csv|FILE.xlsx", value_parser = sheet_path)]
        refused: Option<PathBuf>,
        /// Configuration file; its database is written.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Writes every rule by which the service refuses or answers, with its source, as Markdown.
    Rules {
        /// Writes JSON instead.
        #[arg(long)]
        json: bool,
    },
    /// Insured persons, and the people whom the city pays.
    #[command(subcommand)]
    Benefits(command::benefits::Benefits),
    /// Writes synthetic cards as CSV to stdout: nobody's, and the same for the same seed.
    Generate {
        /// City code, such as 370200.
        #[arg(long)]
        city: CityCode,
        /// How many.
        #[arg(long, default_value_t = 2_000)]
        count: u32,
        /// Another seed makes other people.
        #[arg(long, default_value_t = 1)]
        seed: u64,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            // Those of a mapping that does not fit its database come from below.
            let mut chain = error.chain();
            if let Some(faults) = chain.find_map(|cause| cause.downcast_ref::<SettingFaults>()) {
                eprintln!("{faults}");
                return ExitCode::from(EXIT_CONFIG);
            }
            eprintln!("banqiao-card: {}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve { config } => {
            let config = CardConfig::read(&config)?;
            install_log(&config.telemetry)?;
            runtime()?.block_on(async {
                banqiao_card::run(config, stop_signal()?).await?;
                anyhow::Ok(ExitCode::SUCCESS)
            })
        }
        Command::Check { config } => {
            let config = CardConfig::read(&config)?;
            if let Some(mapping) = &config.mapping {
                runtime()?.block_on(Database::check_mapping(&config.database, mapping))?;
            }
            ServiceIdentity::load(config.trust, Clock::system())
                .map_err(|error| SettingFaults::of("identity", Chain(&error).to_string()))?;
            eprintln!("no fault found");
            Ok(ExitCode::SUCCESS)
        }
        Command::Import(file) => Ok(if runtime()?.block_on(command::import::import(file))? {
            ExitCode::from(EXIT_REFUSED)
        } else {
            ExitCode::SUCCESS
        }),
        Command::Export(file) => {
            runtime()?.block_on(file.run())?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Stock {
            cards,
            refused,
            config,
        } => {
            let config = CardConfig::read(&config)?;
            install_log(&config.telemetry)?;
            runtime()?.block_on(command::stock(&cards, refused.as_deref(), config))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Benefits(benefits) => Ok(if benefits.run(&runtime()?)? {
            ExitCode::from(EXIT_REFUSED)
        } else {
            ExitCode::SUCCESS
        }),
        Command::Rules { json } => {
            command::rules(json)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Generate { city, count, seed } => {
            command::generate(city, count, seed)?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}
