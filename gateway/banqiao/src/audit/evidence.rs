//! `banqiao audit evidence`: everything that proves one exchange, in one file.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use banqiao_evidence::{Bundle, Made};
use banqiao_proto::ledger::v1::{GetEvidenceRequest, audit_service_client::AuditServiceClient};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use tonic::{Status, transport::Channel};

use super::{auditor, print};
use crate::{
    answer,
    connect::AdminArgs,
    exit::{Exit, Stop},
    text::json::write_pretty,
};

/// Arguments of `audit evidence`.
#[derive(Debug, clap::Args)]
pub struct Evidence {
    /// The exchange id, as answers carry it in banqiao-exchange-id.
    exchange_id: String,
    /// The file to write, by custom ending in .evidence. It must not exist.
    #[arg(long, short = 'o', value_name = "FILE")]
    output: PathBuf,
    /// Of a call to all cities: the city whose part is wanted, by its code. An evidence file has two sides.
    #[arg(long, value_name = "CITY")]
    city: Option<String>,
    /// Put private parts in too: subjects, operator, case number, client address. The entry of this query says so.
    #[arg(long)]
    open_private: bool,
    /// Do not ask the other city for its entries: the receipts that it gave during the call do without.
    #[arg(long)]
    offline: bool,
    /// Write JSON instead: every member, with entries in words. It is for reading; `banqiao verify` takes the file.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    admin: AdminArgs,
}

impl Evidence {
    pub(super) async fn run(&self, out: &mut dyn io::Write) -> Result<Exit> {
        let mut client = auditor(&self.admin).await?;
        let exchange = &self.exchange_id;
        let request = GetEvidenceRequest {
            exchange_id: exchange.split('/').next().unwrap_or_default().to_owned(),
            open_private: self.open_private,
            offline: self.offline,
            city: self.city.clone().unwrap_or_default(),
        };
        let fetched = fetch(&mut client, request).await;
        let bundle = fetched.map_err(|status| answer::stop(&status))?;
        let bytes = if self.json {
            let mut text = Vec::new();
            write_pretty(&mut text, &as_json(&bundle))?;
            text.push(b'\n');
            text
        } else {
            bundle.to_bytes().context("the file cannot be made")?
        };
        // Who asked whom about what is not for every user of the machine.
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create_new(true).mode(0o600);
        let mut file = file.open(&self.output).map_err(|error| {
            Stop::usage(format!("cannot make {}", self.output.display())).caused_by(error)
        })?;
        file.write_all(&bytes)?;
        file.sync_all().context("the file could not be kept")?;
        let count = bundle.files().count();
        writeln!(
            out,
            "{count} members, {} bytes in {}",
            bytes.len(),
            self.output.display()
        )?;
        for lacking in &bundle.made.lacking {
            writeln!(out, "not in it: {lacking}")?;
        }
        writeln!(
            out,
            "verify it with: banqiao verify {} --pin DIGEST",
            self.output.display()
        )?;
        Ok(Exit::Done)
    }
}

/// What a gateway has of an exchange, as a file.
pub(crate) async fn fetch(
    client: &mut AuditServiceClient<Channel>,
    request: GetEvidenceRequest,
) -> Result<Bundle, Status> {
    let exchange = request.exchange_id.clone();
    let mut members = client.get_evidence(request).await?.into_inner();
    let mut made = Made {
        exchange: exchange.to_ascii_lowercase(),
        at: Timestamp::now().to_string(),
        ..Made::default()
    };
    let mut files = BTreeMap::new();
    while let Some(member) = members.message().await? {
        made.by = member.city;
        if member.lacking.is_empty() {
            files.insert(member.name, member.content);
        } else {
            made.lacking.push(member.lacking);
        }
    }
    Ok(Bundle::new(made, files))
}

/// Every member, text as text and the rest in base64, with the fields of each entry beside its bytes.
fn as_json(bundle: &Bundle) -> Value {
    let members: Map<String, Value> = bundle
        .files()
        .map(|(name, bytes)| {
            let mut member = json!({ "base64": STANDARD.encode(bytes) });
            let is_text = [".tlog-proof", ".link", ".json"];
            if is_text.iter().any(|ending| name.ends_with(ending)) {
                member = json!({ "text": String::from_utf8_lossy(bytes) });
            }
            if name.ends_with(".entry")
                && let Some(index) = name
                    .rsplit('/')
                    .next()
                    .and_then(|name| name.strip_suffix(".entry")?.parse().ok())
            {
                member["entry"] = print::described(index, bytes);
            }
            (name.to_owned(), member)
        })
        .collect();
    json!({ "manifest": bundle.manifest(), "members": members })
}
