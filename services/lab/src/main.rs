//! `banqiao-lab`: a city's laboratory service, and the tools around it.

#![forbid(unsafe_code)]

use std::{io::Write, path::PathBuf, process::ExitCode};

use banqiao_directory::Clock;
use banqiao_kit::{ServiceIdentity, SettingFaults, stop_signal};
use banqiao_lab::{LabConfig, synthetic};
use banqiao_telemetry::{Chain, install_log};
use clap::{Parser, Subcommand};

/// Configuration faults (`EX_USAGE` of sysexits.h).
const EXIT_CONFIG: u8 = 64;

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
        Command::Institutions => {
            std::io::stdout().write_all(synthetic::institution_table().as_bytes())?;
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
}
