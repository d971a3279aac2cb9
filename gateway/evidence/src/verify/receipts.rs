//! Receipts: what each side was given during the call.

use std::num::NonZeroUsize;

use banqiao_directory::CityCode;
use banqiao_ledger::receipt::{KnownCheckpoints, Proven, verify};
use banqiao_proto::ledger::v1::{Entry, Kind, Side};
use banqiao_tlog::{checkpoint::Checkpoint, cosignature::witnessed, proof::verify_consistency};

use super::{
    Named, Trust,
    entries::{Held, speaks_for},
};
use crate::{
    bundle::{Bundle, names},
    link::Link,
    report::Report,
};

/// Checks the receipt that each entry names, and returns the entries that they prove.
pub(super) fn check(
    bundle: &Bundle,
    trust: &Trust,
    held: &[Held],
    report: &mut Report,
) -> Vec<Entry> {
    let mut seen = Vec::new();
    let mut entries = Vec::new();
    for holder in held {
        let hash = &holder.entry.peer_receipt;
        let ends = matches!(holder.entry.kind(), Kind::Close | Kind::Refused);
        if hash.is_empty() {
            if ends && !excused(held, holder) {
                report.missing("receipt", format!("{holder} names no receipt"));
            }
            continue;
        }
        if seen.contains(hash) {
            continue;
        }
        seen.push(hash.clone());
        if let Some(entry) = one(bundle, trust, held, holder, report) {
            entries.push(entry);
        }
    }
    entries
}

/// Whether nothing is missing where an end names no receipt: a call within a city, one that never left it, one whose
/// beginning names the receipt, or whose end at the other side is proven by that side's own ledger.
fn excused(held: &[Held], holder: &Held) -> bool {
    let entry = &holder.entry;
    if entry.side() == Side::Local
        || entry.side() == Side::Consumer && entry.kind() == Kind::Refused
    {
        return true;
    }
    held.iter()
        .filter(|other| other.entry.attempt == entry.attempt)
        .any(|other| {
            if other.city == holder.city {
                !other.entry.peer_receipt.is_empty()
            } else {
                matches!(other.entry.kind(), Kind::Close | Kind::Refused)
            }
        })
}

fn one(
    bundle: &Bundle,
    trust: &Trust,
    held: &[Held],
    holder: &Held,
    report: &mut Report,
) -> Option<Entry> {
    let check = "receipt";
    let hash = &holder.entry.peer_receipt;
    let Some(bytes) = bundle.get(&names::receipt(hash)) else {
        report.missing(
            check,
            format!("the receipt that {holder} names is not here"),
        );
        return None;
    };
    if banqiao_ledger::digest::sha256(bytes) != **hash {
        report.broken(
            check,
            format!("the receipt of {holder} is not the one that it names"),
        );
        return None;
    }
    let (proven, city) = match prove(trust, holder, bytes) {
        Ok(proven) => proven,
        Err(problem) => {
            // It was refused during the call, too: the entry says why.
            report.broken(check, format!("the receipt that {holder} names: {problem}"));
            return None;
        }
    };
    let giver = Named(trust, city);
    if proven.entry.exchange != holder.entry.exchange {
        report.broken(
            check,
            format!("the receipt that {holder} names is of another exchange"),
        );
        return None;
    }
    let opposite = match holder.entry.side() {
        Side::Consumer => Side::Provider,
        _ => Side::Consumer,
    };
    if proven.entry.side() != opposite || !speaks_for(trust, city, &proven.entry) {
        report.broken(
            check,
            format!("the receipt that {holder} names is not of the other side of the call"),
        );
        return None;
    }
    report.proven(
        check,
        format!(
            "{giver} gave {} a receipt for entry {} of its own ledger ({}) and cannot deny it",
            Named(trust, holder.city),
            proven.index,
            proven
                .entry
                .kind()
                .as_str_name()
                .trim_start_matches("KIND_"),
        ),
    );
    same_entry(held, city, &proven, report);
    linked(bundle, trust, holder, city, &proven, held, report);
    Some(*proven.entry)
}

/// The receipt is one of the ledger of the other side.
fn prove(trust: &Trust, holder: &Held, bytes: &[u8]) -> Result<(Proven, CityCode), String> {
    let other = match holder.entry.side() {
        Side::Consumer => &holder.entry.provider,
        _ => &holder.entry.client,
    };
    let code = other.as_ref().map_or("", |party| &party.city);
    let city: CityCode = code.parse().map_err(|_| "names no city".to_owned())?;
    let known = KnownCheckpoints::new();
    let mut problem = "the directory lists no ledger of that city".to_owned();
    for origin in trust.origins(city) {
        match verify(bytes, origin, || trust.log_keys(origin), &known) {
            Ok(proven) => return Ok((proven, city)),
            Err(error) => problem = error.to_string(),
        }
    }
    Err(problem)
}

/// Where the other ledger's own proof is here too, it must hold the same entry at that place.
fn same_entry(held: &[Held], city: CityCode, proven: &Proven, report: &mut Report) {
    let same = |held: &&Held| {
        let (a, b) = (&held.entry, &proven.entry);
        held.index == proven.index || (a.attempt, a.kind, a.side) == (b.attempt, b.kind, b.side)
    };
    let own = held.iter().filter(|held| held.city == city).find(same);
    if let Some(own) = own
        && own.leaf != proven.leaf
    {
        report.broken(
            "receipt",
            format!("{own} is another entry than the one that its city gave a receipt for"),
        );
    }
}

/// Whether the history that the receipt is of is the one that the witnesses saw.
fn linked(
    bundle: &Bundle,
    trust: &Trust,
    holder: &Held,
    city: CityCode,
    proven: &Proven,
    held: &[Held],
    report: &mut Report,
) {
    let check = "link";
    let also = held
        .iter()
        .any(|held| held.city == city && held.index == proven.index && held.leaf == proven.leaf);
    let Some(bytes) = bundle.get(&names::link(&proven.hash)) else {
        if !also {
            report.missing(
                check,
                format!("the receipt of {city} is not linked to a checkpoint that witnesses saw"),
            );
        }
        return;
    };
    let Ok(link) = Link::parse(bytes) else {
        report.broken(
            check,
            format!("the link of the receipt of {city} is malformed"),
        );
        return;
    };
    let opened = trust
        .origins(city)
        .into_iter()
        .find_map(|origin| Checkpoint::open(&link.note, origin, &trust.log_keys(origin)).ok());
    let Some(checkpoint) = opened else {
        report.broken(
            check,
            format!("the link of the receipt of {city} leads to no checkpoint of its ledger"),
        );
        return;
    };
    if link.old != proven.head
        || verify_consistency(&link.old, &checkpoint.head(), &link.proof).is_err()
    {
        report.broken(
            check,
            format!("the link of the receipt of {city} does not hold"),
        );
        return;
    }
    let (witnesses, wanted) = trust.witnesses(city);
    let cosigned = NonZeroUsize::new(wanted)
        .is_some_and(|quorum| witnessed(&link.note, &witnesses, quorum).is_ok());
    if cosigned {
        report.proven(
            check,
            format!(
                "the receipt that {} holds is of the history of {} that its witnesses cosigned",
                Named(trust, holder.city),
                Named(trust, city)
            ),
        );
    } else {
        report.missing(
            check,
            format!("the link of the receipt of {city} lacks cosignatures"),
        );
    }
}
