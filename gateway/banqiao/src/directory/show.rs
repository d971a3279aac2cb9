//! `banqiao directory show`.

use std::{io::Write, path::PathBuf};

use banqiao_directory::{Directory, Envelope, Name, NoteKey};
use clap::Args;

use super::read_either;
use crate::{
    moment::utc,
    text::{clean, json, table::Table},
};

/// Arguments of `banqiao directory show`.
#[derive(Debug, Args)]
pub struct ShowCommand {
    /// An envelope, or a TOML document.
    file: PathBuf,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

impl ShowCommand {
    pub(super) fn run(&self, out: &mut dyn Write) -> anyhow::Result<()> {
        let (directory, envelope) = read_either(&self.file)?;
        if self.json {
            json::write_pretty(out, &as_json(&directory, envelope.as_ref()))?;
            writeln!(out)?;
            return Ok(());
        }
        writeln!(out, "version   {}", directory.version())?;
        writeln!(out, "sha256    {}", hex::encode(directory.digest()))?;
        writeln!(out, "issued    {}", utc(directory.issued_at_us()))?;
        writeln!(out, "expires   {}", utc(directory.expires_at_us()))?;
        if let Some(reason) = directory.emergency() {
            writeln!(out, "emergency removal: {}", clean(reason))?;
        }
        let signers = directory.signers();
        writeln!(
            out,
            "signers   {} of {}\n",
            signers.threshold,
            signers.keys.len()
        )?;
        let mut cities = Table::new(&["CITY", "NAME", "TRUST DOMAIN", "GATEWAYS", "SIGNED"]);
        for city in directory.cities() {
            let signed = match (signers.keys.get(&city.code), &envelope) {
                (None, _) => "guest",
                (Some(_), None) => "-",
                (Some(key), Some(envelope)) if envelope.is_signed_by(key) => "yes",
                (Some(_), Some(_)) => "no",
            };
            let gateways: Vec<_> = city.gateways.iter().map(ToString::to_string).collect();
            cities.row([
                city.code.as_str(),
                &city.name.to_string(),
                city.trust_domain.as_str(),
                &gateways.join(" "),
                signed,
            ]);
        }
        cities.write(out)?;
        for city in directory.cities() {
            if let Some(before) = city.ledger.as_ref().and_then(|it| it.predecessor.as_ref()) {
                writeln!(out, "\nthe ledger of {} follows {before}", city.code)?;
            }
        }
        writeln!(out)?;
        let mut systems = Table::new(&["SYSTEM", "TITLE"]);
        for system in directory.cities().iter().flat_map(|city| &city.systems) {
            systems.row([system.id.as_str(), &system.title]);
        }
        systems.write(out)?;
        writeln!(out)?;
        let mut purposes = Table::new(&["PURPOSE", "TITLE", "DESCRIPTION"]);
        for purpose in directory.purposes() {
            purposes.row([
                &purpose.code,
                &purpose.title.to_string(),
                &purpose.description,
            ]);
        }
        purposes.write(out)?;
        Ok(())
    }
}

/// A directory as the object that `--json` prints.
fn as_json(directory: &Directory, envelope: Option<&Envelope>) -> serde_json::Value {
    let signers = directory.signers();
    let name = |name: &Name| serde_json::json!({ "zh": name.zh, "en": name.en });
    let keys: Vec<_> = signers
        .keys
        .iter()
        .map(|(city, key)| {
            let signed = envelope.map(|envelope| envelope.is_signed_by(key));
            serde_json::json!({
                "city": city.as_str(), "public_key": key.to_string(), "key_id": key.id(), "signed": signed,
            })
        })
        .collect();
    let cities: Vec<_> = directory
        .cities()
        .iter()
        .map(|city| {
            serde_json::json!({
                "code": city.code.as_str(),
                "name": name(&city.name),
                "trust_domain": city.trust_domain.as_str(),
                "ca_certificates": city.ca_bundle.len(),
                "gateways": city.gateways.iter().map(|gateway| &gateway.address).collect::<Vec<_>>(),
                "guest": city.guest,
                "receipts": city.receipts.as_str(),
                "protocol": { "min": city.protocol.min, "max": city.protocol.max },
                "ledger": city.ledger.as_ref().map(|ledger| &ledger.origin),
                "ledger_keys": city.ledger.iter().flat_map(|ledger| &ledger.keys)
                    .map(NoteKey::as_str).collect::<Vec<_>>(),
                "ledger_predecessor": city.ledger.as_ref()
                    .and_then(|ledger| ledger.predecessor.as_ref())
                    .map(|before| serde_json::json!({
                        "origin": before.origin, "size": before.size, "root": hex::encode(before.root),
                    })),
                "witness_quorum": city.witness.as_ref().map(|witness| witness.quorum),
                "agencies": city.agencies.iter().map(|agency| {
                    serde_json::json!({ "code": agency.code, "name": name(&agency.name) })
                }).collect::<Vec<_>>(),
                "systems": city.systems.iter().map(|system| {
                    serde_json::json!({
                        "id": system.id.as_str(), "title": system.title, "agency": system.agency,
                    })
                }).collect::<Vec<_>>(),
            })
        })
        .collect();
    let purposes: Vec<_> = directory
        .purposes()
        .iter()
        .map(|purpose| {
            serde_json::json!({
                "code": purpose.code, "title": name(&purpose.title), "description": purpose.description,
            })
        })
        .collect();
    serde_json::json!({
        "version": directory.version(),
        "sha256": hex::encode(directory.digest()),
        "issued": utc(directory.issued_at_us()),
        "expires": utc(directory.expires_at_us()),
        "emergency": directory.emergency(),
        "signers": { "threshold": signers.threshold, "keys": keys },
        "cities": cities,
        "purposes": purposes,
    })
}
