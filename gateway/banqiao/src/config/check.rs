//! `banqiao check`: every fault of a config at once.

use std::{io, path::PathBuf};

use banqiao_directory::Clock;
use serde::Serialize;

use super::{Config, ConfigError, Fault, Severity, limit_infos};
use crate::{
    exit::{Exit, Stop},
    text::{json, table::Table},
};

/// Arguments of `banqiao check`.
#[derive(Debug, clap::Args)]
pub struct CheckCommand {
    /// The config file.
    #[arg(required_unless_present = "limits")]
    file: Option<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
    /// List the keys of [limits] with their defaults instead.
    #[arg(long, conflicts_with = "file")]
    limits: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    sound: bool,
    faults: &'a [Fault],
}

impl CheckCommand {
    /// Checks the file and prints what it finds. [`Exit::Usage`] with at least one error; warnings alone pass.
    ///
    /// # Errors
    ///
    /// [`Stop`] where the file cannot be read, or the output fails.
    pub fn run(&self, out: &mut dyn io::Write) -> anyhow::Result<Exit> {
        let Some(file) = &self.file else {
            return self.limits(out);
        };
        let (sound, faults) = match Config::load(file, &Clock::system()) {
            Ok((_, warnings)) => (true, warnings),
            Err(ConfigError::Faulty { faults, .. }) => (false, faults),
            Err(error @ ConfigError::Unreadable { .. }) => {
                return Err(Stop::usage("the config was not checked")
                    .caused_by(error)
                    .into());
            }
        };
        if self.json {
            json::write_pretty(
                out,
                &Report {
                    sound,
                    faults: &faults,
                },
            )?;
            writeln!(out)?;
        } else {
            for fault in &faults {
                writeln!(out, "{fault}")?;
            }
            let count = |severity| {
                faults
                    .iter()
                    .filter(|fault| fault.severity == severity)
                    .count()
            };
            let (errors, warnings) = (count(Severity::Error), count(Severity::Warning));
            if sound {
                writeln!(
                    out,
                    "{}: sound, {}",
                    file.display(),
                    counted(warnings, "warning")
                )?;
            } else {
                let (errors, warnings) = (counted(errors, "error"), counted(warnings, "warning"));
                writeln!(out, "{}: {errors}, {warnings}", file.display())?;
            }
        }
        Ok(if sound { Exit::Done } else { Exit::Usage })
    }

    fn limits(&self, out: &mut dyn io::Write) -> anyhow::Result<Exit> {
        let infos = limit_infos();
        if self.json {
            json::write_pretty(out, &infos)?;
            writeln!(out)?;
            return Ok(Exit::Done);
        }
        let mut table = Table::new(&["KEY", "DEFAULT", "MEANING"]);
        for info in infos {
            table.row([info.key, &info.default, info.meaning]);
        }
        table.write(out)?;
        Ok(Exit::Done)
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}s"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}
