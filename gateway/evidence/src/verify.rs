//! What a file proves.

mod agree;
mod entries;
mod payload;
mod people;
mod receipts;

use std::{collections::BTreeSet, fmt};

use banqiao_directory::{City, CityCode, Directory, Envelope, NoteKeyKind, verify_history};
use banqiao_proto::ledger::v1::{Entry, Kind, Side};
use banqiao_tlog::{cosignature::WitnessVerifier, note::Verifier};

use crate::{
    bundle::{Bundle, names},
    report::{Report, Standing},
};
use entries::Held;
pub use payload::{Payload, PayloadKind};

/// Verifies an evidence file from the digest of the first directory, and holds payloads against it.
///
/// Nothing of the file is believed: what the directory lists is what its signers signed, what a ledger holds is what its key
/// and its witnesses signed, and the rest follows by hashes.
pub fn verify(bundle: &Bundle, pin: &[u8; 32], payloads: &[Payload]) -> Report {
    let mut report = Report {
        exchange: bundle.made.exchange.clone(),
        ..Report::default()
    };
    for lacking in &bundle.made.lacking {
        report.add(
            Standing::Asserted,
            "made",
            format!("the maker says: {lacking}"),
        );
    }
    let Some(trust) = Trust::read(bundle, pin, &mut report) else {
        return report;
    };
    let held = entries::read(bundle, &trust, &mut report);
    if held.is_empty() {
        report.missing("entries", "there is no entry of the exchange");
        return report;
    }
    let is_other = |held: &&Held| {
        let exchange = uuid::Uuid::from_slice(&held.entry.exchange);
        !exchange.is_ok_and(|id| id.to_string() == bundle.made.exchange)
    };
    if let Some(other) = held.iter().find(is_other) {
        report.broken(
            "exchange",
            format!("{other} is of another exchange than the file says it is of"),
        );
        return report;
    }
    let received = receipts::check(bundle, &trust, &held, &mut report);
    let attempts: BTreeSet<u32> = held.iter().map(|held| held.entry.attempt).collect();
    let local = held.iter().any(|held| held.entry.side() == Side::Local);
    if local && held.iter().any(|held| held.entry.side() != Side::Local) {
        report.broken(
            "side",
            "one entry says that the call stayed within a city, another that it did not",
        );
    }
    let mut sides = Sides::default();
    for attempt in &attempts {
        sides = Sides::of(*attempt, &held, &received);
        let last = Some(attempt) == attempts.last();
        // An attempt that was given up may have left nothing at the other side.
        if last || sides.are_both_there() {
            agree::check(&sides, &mut report);
        }
    }
    people::check(bundle, &trust, &held, &mut report);
    payload::check(&sides, payloads, &mut report);
    report
}

/// The versions of the directory that the pinned one leads to.
struct Trust {
    versions: Vec<Directory>,
}

impl Trust {
    fn read(bundle: &Bundle, pin: &[u8; 32], report: &mut Report) -> Option<Self> {
        let check = "directory";
        let Some(json) = bundle.get(names::DIRECTORY) else {
            report.missing(check, "the file holds no directory");
            return None;
        };
        let envelope = match Envelope::parse(json) {
            Ok(envelope) => envelope,
            Err(error) => {
                report.broken(check, format!("the directory cannot be read: {error}"));
                return None;
            }
        };
        match verify_history(&envelope, pin) {
            Ok(versions) => {
                let numbers: Vec<_> = versions
                    .iter()
                    .map(|version| version.version().to_string())
                    .collect();
                report.proven(
                    check,
                    format!(
                        "the directory follows from the one that you trust, signed at each step (versions {})",
                        numbers.join(", ")
                    ),
                );
                Some(Self { versions })
            }
            Err(error) => {
                report.broken(
                    check,
                    format!("the directory does not follow from the one that you trust: {error}"),
                );
                None
            }
        }
    }

    /// The directory that an entry was judged by.
    fn at(&self, entry: &Entry) -> Option<&Directory> {
        let version = entry.decision.as_ref()?.directory_version;
        self.versions
            .iter()
            .find(|directory| directory.version() == version)
    }

    /// A city as the newest version that lists it has it.
    fn city(&self, code: CityCode) -> Option<&City> {
        self.versions
            .iter()
            .rev()
            .find_map(|directory| directory.city(code))
    }

    /// The keys that the log with an origin has had.
    fn log_keys(&self, origin: &str) -> Vec<Verifier> {
        let mut keys: Vec<Verifier> = Vec::new();
        for ledger in self
            .versions
            .iter()
            .flat_map(Directory::cities)
            .filter_map(|city| city.ledger.as_ref())
            .filter(|ledger| ledger.origin == origin)
        {
            for key in &ledger.keys {
                let verifier = <[u8; 32]>::try_from(key.key())
                    .ok()
                    .and_then(|raw| Verifier::new(key.name(), raw).ok());
                if let Some(verifier) = verifier
                    && !keys.contains(&verifier)
                {
                    keys.push(verifier);
                }
            }
        }
        keys
    }

    /// The origins that a city's ledger has had, newest first.
    fn origins(&self, code: CityCode) -> Vec<&str> {
        let mut origins: Vec<&str> = Vec::new();
        let cities = self.versions.iter().rev().filter_map(|it| it.city(code));
        for ledger in cities.filter_map(|city| city.ledger.as_ref()) {
            if !origins.contains(&ledger.origin.as_str()) {
                origins.push(&ledger.origin);
            }
        }
        origins
    }

    /// The witnesses of the other cities, and how many of them must have signed.
    fn witnesses(&self, code: CityCode) -> (Vec<WitnessVerifier>, usize) {
        let mut keys: Vec<WitnessVerifier> = Vec::new();
        for city in self.versions.iter().flat_map(Directory::cities) {
            if city.code == code {
                continue;
            }
            for key in city.witness.iter().flat_map(|witness| &witness.keys) {
                let verifier = <[u8; 32]>::try_from(key.key())
                    .ok()
                    .filter(|_| key.kind() == NoteKeyKind::Cosignature)
                    .and_then(|raw| WitnessVerifier::new(key.name(), raw).ok());
                if let Some(verifier) = verifier
                    && !keys.contains(&verifier)
                {
                    keys.push(verifier);
                }
            }
        }
        let quorum = self
            .city(code)
            .and_then(|city| city.witness.as_ref())
            .map_or(0, |witness| {
                usize::try_from(witness.quorum).unwrap_or(usize::MAX)
            });
        (keys, quorum)
    }
}

/// What each side has entered of an attempt: from its ledger, or from the receipt that it gave.
#[derive(Default)]
struct Sides {
    consumer: Entered,
    provider: Entered,
}

/// One side's entries of an attempt.
#[derive(Clone, Default)]
struct Entered {
    open: Option<Entry>,
    /// CLOSE or REFUSED.
    end: Option<Entry>,
}

impl Sides {
    /// What the ledgers' own proofs show of an attempt, and where they do not, the receipts.
    fn of(attempt: u32, held: &[Held], received: &[Entry]) -> Self {
        let mut sides = Self::default();
        let entries = held.iter().map(|held| &held.entry).chain(received);
        for entry in entries.filter(|entry| entry.attempt == attempt) {
            sides.take(entry);
        }
        sides
    }

    fn are_both_there(&self) -> bool {
        let there = |side: &Entered| side.open.is_some() || side.end.is_some();
        there(&self.consumer) && there(&self.provider)
    }

    fn take(&mut self, entry: &Entry) {
        let side = match entry.side() {
            Side::Consumer => &mut self.consumer,
            Side::Provider | Side::Local => &mut self.provider,
            Side::Unspecified => return,
        };
        let slot = match entry.kind() {
            Kind::Open => &mut side.open,
            Kind::Close | Kind::Refused => &mut side.end,
            _ => return,
        };
        slot.get_or_insert_with(|| entry.clone());
    }

    /// Both sides were in one city.
    fn is_local(&self) -> bool {
        let end = self.provider.end.as_ref().or(self.provider.open.as_ref());
        end.is_some_and(|entry| entry.side() == Side::Local)
    }
}

/// A city with its name, for people.
struct Named<'a>(&'a Trust, CityCode);

impl fmt::Display for Named<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.city(self.1) {
            Some(city) => write!(f, "{} ({})", city.name.en, self.1),
            None => write!(f, "{}", self.1),
        }
    }
}

/// A time of an entry, for people.
fn moment(time_us: i64) -> String {
    jiff::Timestamp::from_microsecond(time_us)
        .map_or_else(|_| time_us.to_string(), |at| at.to_string())
}
