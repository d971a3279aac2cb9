//! `banqiao-item`: a city's item service, and the tools around it.

#![forbid(unsafe_code)]

mod command;

use std::{path::PathBuf, process::ExitCode};

use banqiao_directory::Clock;
use banqiao_item::ItemConfig;
use banqiao_kit::{ServiceIdentity, SettingFaults, stop_signal};
use banqiao_telemetry::{Chain, install_log};
use clap::{Parser, Subcommand};

/// Configuration faults (`EX_USAGE` of sysexits.h).
const EXIT_CONFIG: u8 = 64;

/// The items of a city and their cases (“一网通办”).
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
    /// Reports every fault of a configuration file, of the catalogue and of the certificates; exits 64 on faults.
    Check {
        /// Configuration file.
        #[arg(value_name = "FILE")]
        config: PathBuf,
    },
    /// Lists the items, the shipped ones and those of files; reports every fault with file, line and key, and exits 64.
    Catalogue {
        /// Files of a city's own items.
        #[arg(value_name = "FILE.toml")]
        files: Vec<PathBuf>,
    },
    /// Writes every rule by which the service refuses or answers, with its source, as Markdown.
    Rules {
        /// Writes JSON instead.
        #[arg(long)]
        json: bool,
    },
    /// The calendar of working days.
    #[command(subcommand)]
    Calendar(Calendar),
    /// Writes the figures of months for the joint meeting to stdout, from the service's database.
    Report(Report),
}

#[derive(Debug, clap::Args)]
pub(crate) struct Report {
    /// First month.
    #[arg(long, value_name = "YYYY-MM")]
    from: String,
    /// Last month: at most 24 in all.
    #[arg(long, value_name = "YYYY-MM")]
    to: String,
    /// Form.
    #[arg(long, value_enum)]
    format: command::ReportFormat,
    /// Language of the page and of the CSV's header.
    #[arg(long, value_enum, default_value = "zh")]
    lang: command::ReportLanguage,
    /// JSON report of another city for the same months, to be reported together. May be given several times.
    #[arg(long = "with", value_name = "FILE.json")]
    others: Vec<PathBuf>,
    /// Configuration file; its database is read.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Calendar {
    /// Adds the years of a file; running services load them. Reports every fault of the file, and exits 64.
    Import {
        /// Calendar file.
        #[arg(value_name = "FILE.json")]
        file: PathBuf,
        /// Configuration file; its database is written.
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
    /// Shows the years that are known and where they are from; with a year, its working days.
    Show {
        /// Year.
        year: Option<i16>,
        /// Configuration file. Without it: the years that the program ships.
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            if let Some(faults) = command::faults(&error) {
                eprintln!("{faults}");
                return ExitCode::from(EXIT_CONFIG);
            }
            eprintln!("banqiao-item: {}", Chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Serve { config } => {
            let config = ItemConfig::read(&config)?;
            install_log(&config.telemetry)?;
            runtime()?.block_on(async {
                banqiao_item::run(config, stop_signal()?).await?;
                anyhow::Ok(())
            })?;
        }
        Command::Check { config } => {
            let config = ItemConfig::read(&config)?;
            ServiceIdentity::load(config.trust, Clock::system())
                .map_err(|error| SettingFaults::of("identity", Chain(&error).to_string()))?;
            eprintln!("no fault found");
        }
        Command::Catalogue { files } => command::catalogue(&files)?,
        Command::Rules { json } => command::rules(json)?,
        Command::Report(report) => {
            let config = ItemConfig::read(&report.config)?;
            runtime()?.block_on(Box::pin(command::report(report, config)))?;
        }
        Command::Calendar(Calendar::Import { file, config }) => {
            runtime()?.block_on(command::import_calendar(&file, ItemConfig::read(&config)?))?;
        }
        Command::Calendar(Calendar::Show { year, config }) => {
            let config = config.map(|path| ItemConfig::read(&path)).transpose()?;
            runtime()?.block_on(command::show_calendar(year, config))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}
