//! `banqiao verify`: an evidence file, checked offline.

use std::{fs, io, path::PathBuf};

use anyhow::Result;
use banqiao_evidence::{Bundle, Payload, PayloadKind, Report, Standing, Verdict, verify};
use serde_json::json;

use crate::{
    directory::read_either,
    exit::{Exit, Stop},
    text::{clean, json::write_pretty},
};

/// Arguments of `banqiao verify`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct VerifyCommand {
    /// The evidence file, as `banqiao audit evidence` writes it.
    file: PathBuf,
    /// SHA-256 of the first directory, as gateways are configured with (`directory.pin`): all trust begins here.
    #[arg(long, value_name = "HEX", required_unless_present = "directory")]
    pin: Option<String>,
    /// A directory that you trust instead, an envelope or TOML: what is in the file must follow from it.
    #[arg(long, value_name = "FILE", conflicts_with = "pin")]
    directory: Option<PathBuf>,
    /// A payload that you kept: whether it is the request or the response that was exchanged. The message as it was
    /// serialised, or the messages of a stream as gRPC frames them. May stand several times.
    #[arg(long = "payload", value_name = "FILE")]
    payloads: Vec<PathBuf>,
    /// As --payload, and it must be the request.
    #[arg(long = "request", value_name = "FILE")]
    requests: Vec<PathBuf>,
    /// As --payload, and it must be the response.
    #[arg(long = "response", value_name = "FILE")]
    responses: Vec<PathBuf>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

const EXIT_CODES: &str = "\
Exit codes: 0 valid; 1 invalid; 2 incomplete: nothing is wrong, and something that is needed is not in the file; \
64 wrong command line or input file.";

impl VerifyCommand {
    /// Runs the command.
    ///
    /// # Errors
    ///
    /// [`Stop`] where a file cannot be read.
    pub fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let pin = self.pin()?;
        let bytes = read(&self.file)?;
        let mut payloads = Vec::new();
        for (kind, paths) in [
            (PayloadKind::Any, &self.payloads),
            (PayloadKind::Request, &self.requests),
            (PayloadKind::Response, &self.responses),
        ] {
            for path in paths {
                payloads.push(Payload {
                    name: path.display().to_string(),
                    kind,
                    bytes: read(path)?,
                });
            }
        }
        let report = match Bundle::parse(&bytes) {
            Ok(bundle) => verify(&bundle, &pin, &payloads),
            Err(error) => {
                // A changed file is a verdict, not a slip of the hand.
                if self.json {
                    write_pretty(
                        out,
                        &json!({ "verdict": "invalid", "error": error.to_string() }),
                    )?;
                    writeln!(out)?;
                } else {
                    writeln!(out, "INVALID: {error}")?;
                }
                return Ok(Exit::Failed);
            }
        };
        if self.json {
            let object = json!({
                "verdict": report.verdict(),
                "exchange": report.exchange,
                "findings": report.findings,
            });
            write_pretty(out, &object)?;
            writeln!(out)?;
        } else {
            words(&report, out)?;
        }
        Ok(match report.verdict() {
            Verdict::Valid => Exit::Done,
            Verdict::Invalid => Exit::Failed,
            Verdict::Incomplete => Exit::Incomplete,
        })
    }

    fn pin(&self) -> Result<[u8; 32]> {
        if let Some(path) = &self.directory {
            let (directory, _) = read_either(path)?;
            return Ok(directory.digest());
        }
        let mut pin = [0; 32];
        let text = self.pin.as_deref().unwrap_or_default();
        hex::decode_to_slice(text, &mut pin)
            .map_err(|_| Stop::usage("--pin: a SHA-256 has 64 hexadecimal digits"))?;
        Ok(pin)
    }
}

fn read(path: &PathBuf) -> Result<Vec<u8>, Stop> {
    fs::read(path)
        .map_err(|error| Stop::usage(format!("cannot read {}", path.display())).caused_by(error))
}

fn words(report: &Report, out: &mut dyn io::Write) -> Result<()> {
    writeln!(out, "exchange {}", clean(&report.exchange))?;
    for finding in &report.findings {
        writeln!(out, "  {:<9} {}", finding.standing, clean(&finding.text))?;
    }
    let count = |standing| {
        let of = report.findings.iter().filter(|it| it.standing == standing);
        of.count()
    };
    let verdict = match report.verdict() {
        Verdict::Valid => "VALID: everything that is needed is proven",
        Verdict::Invalid => "INVALID: something is shown to be false",
        Verdict::Incomplete => {
            "INCOMPLETE: nothing is wrong, and something that is needed is missing"
        }
    };
    writeln!(
        out,
        "{verdict} ({} proven, {} asserted, {} differ, {} missing, {} broken)",
        count(Standing::Proven),
        count(Standing::Asserted),
        count(Standing::Differs),
        count(Standing::Missing),
        count(Standing::Broken),
    )?;
    Ok(())
}
