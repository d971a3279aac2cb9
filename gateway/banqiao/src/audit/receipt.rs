//! `banqiao audit verify-receipt`: a receipt that a client was given, verified without any gateway.

use std::{fs, io, path::PathBuf};

use anyhow::Result;
use banqiao_ledger::receipt::{KnownCheckpoints, verify};
use banqiao_proto::ledger::v1::Receipt;
use base64::{Engine as _, engine::general_purpose::STANDARD_NO_PAD};
use prost::Message as _;
use serde_json::json;

use super::{print, verify::KeyArgs};
use crate::{
    exit::{Exit, Stop},
    text::json::write_pretty,
};

/// Arguments of `audit verify-receipt`.
#[derive(Debug, clap::Args)]
pub struct VerifyReceipt {
    /// The receipt: a file with its bytes, or with the text of banqiao-receipt-bin.
    receipt: PathBuf,
    #[command(flatten)]
    keys: KeyArgs,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl VerifyReceipt {
    pub(super) fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let bytes = fs::read(&self.receipt).map_err(|error| {
            Stop::usage(format!("cannot read {}", self.receipt.display())).caused_by(error)
        })?;
        let text = bytes.trim_ascii();
        let text = text.strip_suffix(b"=").unwrap_or(text);
        let text = text.strip_suffix(b"=").unwrap_or(text);
        let bytes = match STANDARD_NO_PAD.decode(text) {
            Ok(decoded) => decoded,
            Err(_) => bytes,
        };
        let (keys, origin) = self.keys.read()?;
        let Some(origin) = origin.or_else(|| keys.first().map(|key| key.name().to_owned())) else {
            let message = "name the ledger's key with --key, or --directory and --city";
            return Err(Stop::usage(message).into());
        };
        match verify(&bytes, &origin, || keys, &KnownCheckpoints::new()) {
            Ok(proven) => {
                let receipt = Receipt::decode(bytes.as_slice()).unwrap_or_default();
                if self.json {
                    let object = json!({
                        "valid": true,
                        "origin": origin,
                        "index": proven.index,
                        "size": proven.head.size,
                        "sha256": hex::encode(proven.hash),
                        "entry": print::described(proven.index, &receipt.entry),
                    });
                    write_pretty(out, &object)?;
                    writeln!(out)?;
                } else {
                    writeln!(
                        out,
                        "valid: the ledger {origin} holds this entry at {}, in its tree of {}",
                        proven.index, proven.head.size
                    )?;
                    write_pretty(out, &print::described(proven.index, &receipt.entry))?;
                    writeln!(out)?;
                    writeln!(
                        out,
                        "Whether other cities have seen that tree is not in a receipt: your gateway links it to what witnesses cosigned."
                    )?;
                }
                Ok(Exit::Done)
            }
            Err(error) => {
                if self.json {
                    write_pretty(out, &json!({ "valid": false, "error": error.to_string() }))?;
                    writeln!(out)?;
                } else {
                    writeln!(out, "INVALID: {error}")?;
                }
                Ok(Exit::Failed)
            }
        }
    }
}
