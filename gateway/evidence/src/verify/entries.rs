//! Entries: canonical, in the tree, under a checkpoint that the ledger's key and its witnesses signed.

use std::{fmt, num::NonZeroUsize};

use banqiao_directory::{CityCode, SpiffeId};
use banqiao_ledger::{
    Decoded, decode,
    digest::{Hash, leaf_hash},
};
use banqiao_proto::ledger::v1::{Entry, Party, Side};
use banqiao_tlog::{cosignature::witnessed, note::Note, tlog_proof::TlogProof};

use super::{Named, Trust, moment};
use crate::{
    bundle::{Bundle, names},
    report::Report,
};

/// An entry that is proven to be in a ledger.
pub(super) struct Held {
    pub(super) city: CityCode,
    pub(super) index: u64,
    pub(super) entry: Entry,
    pub(super) leaf: Hash,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "entry {} of {} ({})",
            self.index,
            self.city,
            self.entry.kind().as_str_name().trim_start_matches("KIND_")
        )
    }
}

/// Every entry that is proven.
pub(super) fn read(bundle: &Bundle, trust: &Trust, report: &mut Report) -> Vec<Held> {
    let mut all = Vec::new();
    for (name, bytes) in bundle.files() {
        let Some((city, index)) = name
            .strip_suffix(".entry")
            .and_then(|name| name.split_once('/'))
        else {
            continue;
        };
        let (Ok(city), Ok(index)) = (city.parse::<CityCode>(), index.parse::<u64>()) else {
            report.broken("entry", format!("{name} has no name of an entry"));
            continue;
        };
        let entry = match decode(bytes) {
            Ok(Decoded::Entry(entry)) => *entry,
            Ok(Decoded::Newer { version }) => {
                report.missing(
                    "entry",
                    format!("{name} is of version {version}, which this program does not know"),
                );
                continue;
            }
            Err(error) => {
                report.broken("entry", format!("{name} is no entry: {error}"));
                continue;
            }
        };
        let held = Held {
            city,
            index,
            entry,
            leaf: leaf_hash(bytes),
        };
        if placed(trust, &held, report) && proven(bundle, trust, &held, report) {
            all.push(held);
        }
    }
    all
}

/// A city speaks for its own side only: whose ledger it is must be whose side the entry claims.
fn placed(trust: &Trust, held: &Held, report: &mut Report) -> bool {
    let fits = speaks_for(trust, held.city, &held.entry);
    if !fits {
        report.broken(
            "side",
            format!("{held} claims a side of the call that its city was not on"),
        );
    }
    fits
}

/// Whether a city may hold an entry of its side: the parties are of the cities that they are said to be of.
pub(super) fn speaks_for(trust: &Trust, city: CityCode, entry: &Entry) -> bool {
    let is = |party: &Option<Party>| {
        let party = party.as_ref();
        party.is_some_and(|party| party.city == city.as_str())
    };
    let own_name = |party: &Option<Party>| {
        let name = party.as_ref().map_or("", |party| &party.spiffe_id);
        let id = name.parse::<SpiffeId>();
        match (trust.city(city), id) {
            (Some(city), Ok(id)) => *id.trust_domain() == city.trust_domain,
            // A provider need not be named by its system.
            _ => name.is_empty(),
        }
    };
    match entry.side() {
        Side::Consumer => is(&entry.client) && own_name(&entry.client),
        Side::Provider => is(&entry.provider) && own_name(&entry.provider),
        Side::Local => is(&entry.client) && is(&entry.provider) && own_name(&entry.client),
        Side::Unspecified => false,
    }
}

fn proven(bundle: &Bundle, trust: &Trust, held: &Held, report: &mut Report) -> bool {
    let check = "inclusion";
    let who = Named(trust, held.city);
    let Some(bytes) = bundle.get(&names::proof(held.city.as_str(), held.index)) else {
        report.missing(check, format!("{held} comes without proof"));
        return false;
    };
    let proof = match TlogProof::parse(bytes) {
        Ok(proof) => proof,
        Err(error) => {
            report.broken(check, format!("the proof of {held} is malformed: {error}"));
            return false;
        }
    };
    let origin = proof.checkpoint().origin().to_owned();
    if !trust.origins(held.city).contains(&origin.as_str()) || proof.index() != held.index {
        report.broken(
            check,
            format!("the proof of {held} is of another place or ledger ({origin})"),
        );
        return false;
    }
    if let Err(error) = proof.verify(&held.leaf, &origin, &trust.log_keys(&origin)) {
        report.broken(check, format!("{held} is not proven: {error}"));
        return false;
    }
    report.proven(
        check,
        format!(
            "the ledger of {who} holds at {} the {} of {}",
            held.index,
            held.entry.kind().as_str_name().trim_start_matches("KIND_"),
            moment(held.entry.time_us)
        ),
    );
    quorum(trust, held.city, proof.note(), &held.to_string(), report);
    true
}

/// Whether the checkpoint over something has the cosignatures that its city's policy asks for.
pub(super) fn quorum(
    trust: &Trust,
    city: CityCode,
    note: &Note,
    what: &str,
    report: &mut Report,
) -> bool {
    let check = "witnesses";
    let (witnesses, wanted) = trust.witnesses(city);
    let Some(quorum) = NonZeroUsize::new(wanted) else {
        report.missing(
            check,
            format!("the directory names no witnesses for {city}"),
        );
        return false;
    };
    match witnessed(note, &witnesses, quorum) {
        Ok(cosigned) => {
            let names: Vec<_> = cosigned
                .iter()
                .map(|cosigned| cosigned.witness.name().to_owned())
                .collect();
            report.proven(
                check,
                format!(
                    "the tree that holds {what} was cosigned by {} of the {wanted} witnesses that are asked for: {}",
                    names.len(),
                    names.join(", ")
                ),
            );
            true
        }
        Err(banqiao_tlog::cosignature::QuorumError::TooFew { found, .. }) => {
            report.missing(
                check,
                format!("the tree that holds {what} has {found} of {wanted} cosignatures"),
            );
            false
        }
        Err(error) => {
            report.broken(
                check,
                format!("a cosignature over {what} is false: {error}"),
            );
            false
        }
    }
}
