//! What the ledgers of the demo's cities hold.

use std::{collections::HashSet, io::Write};

use anyhow::Result;
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{Entry, Kind, TailEntriesRequest},
};
use prost::Message as _;
use serde::Serialize;

use super::client;
use crate::sandbox::{Sandbox, SandboxCity};

/// Counts of one city.
#[derive(Debug, Default, Serialize)]
pub(super) struct Counts {
    /// City code.
    city: String,
    /// Its name.
    name: String,
    /// Different exchanges with an entry, one for each city of a call to all.
    exchanges: u64,
    /// Calls that no gateway refused.
    permitted: u64,
    /// Calls that this gateway or the peer's refused.
    refused: u64,
    /// Entries of every kind.
    entries: u64,
}

/// Counts of every city.
pub(super) async fn all(sandbox: &Sandbox) -> Result<Vec<Counts>> {
    let mut counts = Vec::new();
    for city in &sandbox.cities {
        counts.push(one(city).await?);
    }
    Ok(counts)
}

async fn one(city: &SandboxCity) -> Result<Counts> {
    let mut counts = Counts {
        city: city.founder.code.to_owned(),
        name: city.founder.en.to_owned(),
        ..Counts::default()
    };
    let mut exchanges = HashSet::new();
    let request = TailEntriesRequest {
        from_index: Some(0),
        filter: None,
        stop_at_end: true,
    };
    let mut entries = client::audit(city)
        .await?
        .tail_entries(request)
        .await?
        .into_inner();
    while let Some(message) = entries.message().await? {
        let Some(indexed) = message.entry else {
            continue;
        };
        let entry = Entry::decode(indexed.entry)?;
        counts.entries += 1;
        // The summary of a call to all cities stands beside the entries of each.
        if entry.outcomes.is_some() {
            continue;
        }
        if !entry.exchange.is_empty() {
            let provider = entry.provider.as_ref();
            let city = provider.map(|provider| provider.city.clone());
            exchanges.insert((entry.exchange.clone(), city));
        }
        let result = entry.result.clone().unwrap_or_default();
        let clean =
            result.reason() == Reason::Unspecified && result.peer_reason() == Reason::Unspecified;
        match entry.kind() {
            Kind::Close if clean => counts.permitted += 1,
            Kind::Close | Kind::Refused => counts.refused += 1,
            _ => {}
        }
    }
    counts.exchanges = exchanges.len() as u64;
    Ok(counts)
}

/// Prints them as a table.
pub(super) fn print(out: &mut (dyn Write + Send), counts: &[Counts]) -> Result<()> {
    writeln!(
        out,
        "\n{:8} {:10} {:>9} {:>9} {:>7} {:>7}",
        "city", "", "exchanges", "permitted", "refused", "entries"
    )?;
    for city in counts {
        writeln!(
            out,
            "{:8} {:10} {:>9} {:>9} {:>7} {:>7}",
            city.city, city.name, city.exchanges, city.permitted, city.refused, city.entries
        )?;
    }
    Ok(())
}
