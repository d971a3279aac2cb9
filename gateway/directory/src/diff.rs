//! What changes from one directory to another, in plain words.

use std::{collections::BTreeMap, fmt};

use aws_lc_rs::digest::{SHA256, digest};
use jiff::Timestamp;

use crate::{
    Agency, City, CityCode, Directory, GatewayEndpoint, LedgerPolicy, NoteKey, Predecessor,
    Purpose, Signers, System, WitnessPolicy,
};

/// The part of a document that a change belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scope {
    /// Version, times, and the emergency mark.
    Document,
    /// Keys and threshold.
    Signers,
    /// One city's section.
    City(CityCode),
    /// The purposes.
    Purposes,
}

/// What happens to a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeKind {
    /// Something is new.
    Added,
    /// Something is another than it was, or a demand is lifted.
    Changed,
    /// Something is no longer there, and nothing is permitted that was not.
    Removed,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Where.
    pub scope: Scope,
    /// What happens.
    pub kind: ChangeKind,
    /// In plain words.
    pub text: String,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.scope {
            Scope::Document => write!(f, "directory: {}", self.text),
            Scope::Signers => write!(f, "signers: {}", self.text),
            Scope::City(code) => write!(f, "city {code}: {}", self.text),
            Scope::Purposes => write!(f, "purposes: {}", self.text),
        }
    }
}

/// Every change that means something, section by section. The order of entries means nothing, except for a city's
/// gateways, which are tried in their order.
pub fn diff(from: &Directory, to: &Directory) -> Vec<Change> {
    let mut changes = Vec::new();
    document(
        from,
        to,
        &mut Section {
            scope: Scope::Document,
            changes: &mut changes,
        },
    );
    signers(
        from.signers(),
        to.signers(),
        &mut Section {
            scope: Scope::Signers,
            changes: &mut changes,
        },
    );
    for city in from.cities() {
        let mut section = Section {
            scope: Scope::City(city.code),
            changes: &mut changes,
        };
        match to.city(city.code) {
            Some(next) => compare(city, next, &mut section),
            None => section.removed(format!("{} leaves", city.name)),
        }
    }
    for city in to
        .cities()
        .iter()
        .filter(|city| from.city(city.code).is_none())
    {
        let kind = if city.guest {
            "joins as a guest"
        } else {
            "joins"
        };
        Section {
            scope: Scope::City(city.code),
            changes: &mut changes,
        }
        .added(format!("{} {kind}", city.name));
    }
    Section {
        scope: Scope::Purposes,
        changes: &mut changes,
    }
    .keyed(
        from.purposes(),
        to.purposes(),
        |purpose: &Purpose| purpose.code.clone(),
        |purpose| format!("purpose {} {}", purpose.code, purpose.title),
    );
    changes
}

struct Section<'a> {
    scope: Scope,
    changes: &'a mut Vec<Change>,
}

impl Section<'_> {
    fn push(&mut self, kind: ChangeKind, text: String) {
        self.changes.push(Change {
            scope: self.scope,
            kind,
            text,
        });
    }

    fn added(&mut self, text: String) {
        self.push(ChangeKind::Added, text);
    }

    fn removed(&mut self, text: String) {
        self.push(ChangeKind::Removed, text);
    }

    /// A value that is now another.
    fn value(&mut self, what: &str, from: &impl fmt::Display, to: &impl fmt::Display) {
        let (from, to) = (from.to_string(), to.to_string());
        if from != to {
            self.push(
                ChangeKind::Changed,
                format!("{what} is {to} instead of {from}"),
            );
        }
    }

    /// Entries that have a key: new, gone, or other under the same key.
    fn keyed<T: PartialEq, K: Ord>(
        &mut self,
        from: &[T],
        to: &[T],
        key: impl Fn(&T) -> K,
        words: impl Fn(&T) -> String,
    ) {
        let held: BTreeMap<K, &T> = from.iter().map(|entry| (key(entry), entry)).collect();
        let next: BTreeMap<K, &T> = to.iter().map(|entry| (key(entry), entry)).collect();
        for (key, entry) in &held {
            match next.get(key) {
                None => self.removed(format!("{} is removed", words(entry))),
                Some(other) if other != entry => {
                    self.push(ChangeKind::Changed, format!("{} is changed", words(other)));
                }
                Some(_) => {}
            }
        }
        for (_, entry) in next.iter().filter(|(key, _)| !held.contains_key(key)) {
            self.added(format!("{} is added", words(entry)));
        }
    }
}

fn document(from: &Directory, to: &Directory, section: &mut Section<'_>) {
    section.value("version", &from.version(), &to.version());
    section.value(
        "issued",
        &moment(from.issued_at_us()),
        &moment(to.issued_at_us()),
    );
    section.value(
        "expires",
        &moment(from.expires_at_us()),
        &moment(to.expires_at_us()),
    );
    if let Some(reason) = to.emergency() {
        section.push(
            ChangeKind::Changed,
            format!("is an emergency removal: {reason}"),
        );
    }
}

fn moment(us: i64) -> String {
    Timestamp::from_microsecond(us).map_or_else(|_| format!("{us} µs"), |moment| moment.to_string())
}

fn signers(from: &Signers, to: &Signers, section: &mut Section<'_>) {
    let Signers { threshold, keys } = from;
    section.value("threshold", threshold, &to.threshold);
    let list = |signers: &Signers| -> Vec<_> {
        signers
            .keys
            .iter()
            .map(|(code, key)| (*code, *key))
            .collect()
    };
    section.keyed(
        &keys
            .iter()
            .map(|(code, key)| (*code, *key))
            .collect::<Vec<_>>(),
        &list(to),
        |(code, _)| *code,
        |(code, key)| format!("the key of {code} ({key})"),
    );
}

fn compare(from: &City, to: &City, section: &mut Section<'_>) {
    // Every field is named, so that a new one cannot be left out.
    let City {
        code: _,
        name,
        trust_domain,
        ca_bundle,
        gateways,
        guest,
        receipts,
        protocol,
        ledger,
        witness,
        agencies,
        systems,
    } = from;
    section.value("name", name, &to.name);
    section.value("trust domain", trust_domain, &to.trust_domain);
    let certificate = |der: &Vec<u8>| format!("CA certificate sha256:{}", fingerprint(der));
    section.keyed(ca_bundle, &to.ca_bundle, Clone::clone, certificate);
    section.keyed(gateways, &to.gateways, Clone::clone, |gateway| {
        format!("gateway {gateway}")
    });
    let kept = |list: &[GatewayEndpoint], other: &[GatewayEndpoint]| -> Vec<_> {
        list.iter()
            .filter(|gateway| other.contains(gateway))
            .cloned()
            .collect()
    };
    if kept(gateways, &to.gateways) != kept(&to.gateways, gateways) {
        section.push(
            ChangeKind::Changed,
            "the order of the gateways is another".to_owned(),
        );
    }
    if *guest != to.guest {
        let text = if to.guest {
            "becomes a guest"
        } else {
            "becomes a full member"
        };
        section.push(ChangeKind::Changed, text.to_owned());
    }
    section.value("receipts", &receipts.as_str(), &to.receipts.as_str());
    section.value("protocol", protocol, &to.protocol);
    ledger_policy(ledger.as_ref(), to.ledger.as_ref(), section);
    witness_policy(witness.as_ref(), to.witness.as_ref(), section);
    section.keyed(
        agencies,
        &to.agencies,
        |agency: &Agency| agency.code.clone(),
        |agency| format!("agency {} {}", agency.code, agency.name),
    );
    section.keyed(
        systems,
        &to.systems,
        |system: &System| system.id.clone(),
        |system| format!("system {} {}", system.id, system.title),
    );
}

fn ledger_policy(
    from: Option<&LedgerPolicy>,
    to: Option<&LedgerPolicy>,
    section: &mut Section<'_>,
) {
    match (from, to) {
        (None, None) => {}
        (None, Some(next)) => section.added(format!("ledger {} is added", next.origin)),
        // Whoever relied on it relies on nothing now: more than a removal.
        (Some(held), None) => section.push(
            ChangeKind::Changed,
            format!("ledger {} is no longer listed", held.origin),
        ),
        (
            Some(LedgerPolicy {
                origin,
                keys,
                predecessor,
            }),
            Some(next),
        ) => {
            section.value("origin of the ledger", origin, &next.origin);
            note_keys("ledger key", keys, &next.keys, section);
            let told = |predecessor: &Option<Predecessor>| {
                let text = predecessor.as_ref().map(ToString::to_string);
                text.unwrap_or_else(|| "none".to_owned())
            };
            section.value(
                "ledger before",
                &told(predecessor),
                &told(&next.predecessor),
            );
        }
    }
}

fn witness_policy(
    from: Option<&WitnessPolicy>,
    to: Option<&WitnessPolicy>,
    section: &mut Section<'_>,
) {
    match (from, to) {
        (None, None) => {}
        (None, Some(_)) => section.added("a witness is added".to_owned()),
        (Some(_), None) => {
            section.push(
                ChangeKind::Changed,
                "the witness is no longer listed".to_owned(),
            );
        }
        (Some(WitnessPolicy { keys, quorum }), Some(next)) => {
            section.value("witness quorum", quorum, &next.quorum);
            note_keys("witness key", keys, &next.keys, section);
        }
    }
}

fn note_keys(what: &str, from: &[NoteKey], to: &[NoteKey], section: &mut Section<'_>) {
    section.keyed(
        from,
        to,
        |key| key.as_str().to_owned(),
        |key| format!("{what} {}+{:08x}", key.name(), key.id()),
    );
}

fn fingerprint(der: &[u8]) -> String {
    hex::encode(digest(&SHA256, der))
}

#[cfg(test)]
mod tests;
