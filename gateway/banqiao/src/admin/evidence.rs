//! What an evidence file is made of (LEDGER.md §5).

use std::collections::{BTreeMap, BTreeSet};

use banqiao_directory::{CityCode, Envelope, verify_history};
use banqiao_evidence::{Link, names};
use banqiao_ledger::{
    CredentialKind, Decoded, EvidenceKind, ProofError, StoreError, Stored, decode,
    digest::{leaf_hash, sha256},
};
use banqiao_proto::ledger::v1::{Entry, ProvenEntry, Receipt, Side};
use banqiao_proxy::Snapshot;
use banqiao_tlog::{
    checkpoint::Checkpoint,
    note::{Note, Verifier},
    proof::proof_hashes,
    tlog_proof::TlogProof,
};
use prost::Message as _;
use uuid::Uuid;

use super::Core;

/// The members of the file, and what could not be put in.
#[derive(Default)]
pub(super) struct Collected {
    pub(super) files: BTreeMap<String, Vec<u8>>,
    pub(super) lacking: Vec<String>,
    pub(super) entries: usize,
}

/// Why nothing could be collected.
#[derive(Debug, thiserror::Error)]
pub(super) enum CollectError {
    #[error("the ledger could not be read")]
    Store(#[from] StoreError),
    #[error("a proof could not be made")]
    Proof(#[from] ProofError),
    #[error("the exchange went to several cities")]
    Several(BTreeSet<String>),
}

/// Collects what this gateway holds of an exchange, and what the other city shows of it.
pub(super) async fn collect(
    core: &Core,
    exchange: Uuid,
    city: Option<CityCode>,
    open_private: bool,
    offline: bool,
) -> Result<Collected, CollectError> {
    let mut collected = Collected::default();
    let reader = core.control.ledger().reader();
    let stored = reader.exchange(exchange, false).await?;
    let mut entries = Vec::new();
    for stored in stored {
        if let Ok(Decoded::Entry(entry)) = decode(&stored.bytes) {
            entries.push((stored, *entry));
        }
    }
    one_part(&mut entries, city)?;
    collected.entries = entries.len();
    if entries.is_empty() {
        return Ok(collected);
    }
    collected.files.insert(
        names::DIRECTORY.to_owned(),
        core.control.snapshot().envelope.to_vec(),
    );
    for (stored, _) in &entries {
        collected.own(core, stored, open_private).await?;
        collected.received(core, stored.index).await?;
    }
    collected.client(core, &entries).await?;
    if !offline {
        collected.other(core, exchange, &entries).await;
    }
    Ok(collected)
}

/// Keeps the entries of one city's part of a call to all cities: evidence has two sides.
fn one_part(
    entries: &mut Vec<(Stored, Entry)>,
    city: Option<CityCode>,
) -> Result<(), CollectError> {
    if let Some(city) = city {
        entries.retain(|(_, entry)| other_side(entry) == Some(city.as_str()));
        return Ok(());
    }
    let cities: BTreeSet<_> = entries
        .iter()
        .filter_map(|(_, entry)| other_side(entry))
        .map(str::to_owned)
        .collect();
    if cities.len() > 1 {
        return Err(CollectError::Several(cities));
    }
    Ok(())
}

/// Code of the city that an entry's call is with: of a call within one city that city.
fn other_side(entry: &Entry) -> Option<&str> {
    let party = match entry.side() {
        Side::Consumer | Side::Local => entry.provider.as_ref(),
        Side::Provider => entry.client.as_ref(),
        Side::Unspecified => None,
    };
    party.map(|party| party.city.as_str())
}

impl Collected {
    /// An entry of this city, with its proof.
    async fn own(
        &mut self,
        core: &Core,
        stored: &Stored,
        open_private: bool,
    ) -> Result<(), CollectError> {
        let reader = core.control.ledger().reader();
        let city = core.city.as_str();
        let index = stored.index;
        self.files
            .insert(names::entry(city, index), stored.bytes.to_vec());
        let quorum = core
            .control
            .snapshot()
            .directory
            .city(core.city)
            .and_then(|city| city.witness.as_ref())
            .map_or(0, |witness| witness.quorum);
        match reader.checkpoint_over(index, quorum).await? {
            Some(note) => {
                let proof = proof(&note, |size| reader.inclusion(index, size), index).await?;
                match proof {
                    Some(proof) => {
                        self.files
                            .insert(names::proof(city, index), proof.to_string().into_bytes());
                    }
                    None => self.lacks(format!("the checkpoint over entry {index} cannot be read")),
                }
            }
            None => self.lacks(format!("no checkpoint holds entry {index} yet")),
        }
        if open_private && let Some(opening) = reader.private_opening(index).await? {
            self.files
                .insert(names::private(city, index), opening.encode_to_vec());
        }
        Ok(())
    }

    /// The receipt that an entry names, and its link.
    async fn received(&mut self, core: &Core, index: u64) -> Result<(), CollectError> {
        let reader = core.control.ledger().reader();
        let Some(bytes) = reader.evidence(index, EvidenceKind::Receipt).await? else {
            return Ok(());
        };
        let hash = sha256(&bytes);
        self.files.insert(names::receipt(&hash), bytes.to_vec());
        // Keys and origins may have changed since: the link is found by what the receipt itself names.
        let head = Receipt::decode(bytes.as_ref())
            .ok()
            .and_then(|receipt| Note::parse(receipt.checkpoint.as_bytes()).ok())
            .and_then(|note| note.text().parse::<Checkpoint>().ok());
        let Some(head) = head else {
            // It was refused when it came, and the entry says so.
            return Ok(());
        };
        match reader.link(head.origin(), &head.head()).await? {
            Some(linked) => match Note::parse(linked.note.as_bytes()) {
                Ok(note) => {
                    let link = Link {
                        old: head.head(),
                        proof: linked.proof,
                        note,
                    };
                    self.files
                        .insert(names::link(&hash), link.to_string().into_bytes());
                }
                Err(_) => {
                    self.lacks("the link of the other city's receipt cannot be read".to_owned())
                }
            },
            None => self.lacks(
                "the other city's receipt is not linked to a witnessed checkpoint yet".to_owned(),
            ),
        }
        Ok(())
    }

    /// The client's certificate and its city's CRL at the time.
    async fn client(
        &mut self,
        core: &Core,
        entries: &[(Stored, Entry)],
    ) -> Result<(), CollectError> {
        let reader = core.control.ledger().reader();
        let keys: BTreeSet<_> = entries
            .iter()
            .filter_map(|(_, entry)| {
                let client = entry.client.as_ref()?;
                let key: [u8; 32] = client.key_sha256.as_slice().try_into().ok()?;
                Some((key, entry.time_us))
            })
            .collect();
        let Some((key, at_us)) = keys.into_iter().next() else {
            return Ok(());
        };
        match reader
            .credential(CredentialKind::Certificate, key, at_us)
            .await?
        {
            Some(kept) => {
                self.files.insert(names::certificate(&key), kept.bytes);
            }
            None => self.lacks("the client's certificate was not kept".to_owned()),
        }
        let snapshot = core.control.snapshot();
        if let Some(city) = snapshot.directory.city(core.city) {
            let domain = city.trust_domain.as_str();
            let name = sha256(domain.as_bytes());
            if let Some(kept) = reader.credential(CredentialKind::Crl, name, at_us).await? {
                self.files.insert(names::crl(domain), kept.bytes);
            }
        }
        Ok(())
    }

    /// What the other city shows of the exchange. It need not: the receipts that it gave during the call do without it.
    async fn other(&mut self, core: &Core, exchange: Uuid, entries: &[(Stored, Entry)]) {
        let other = entries.iter().find_map(|(_, entry)| {
            let party = match entry.side() {
                Side::Consumer => entry.provider.as_ref(),
                Side::Provider => entry.client.as_ref(),
                Side::Local | Side::Unspecified => None,
            }?;
            party.city.parse::<CityCode>().ok()
        });
        let Some(city) = other else { return };
        let shown = match core.control.entries_of(city, exchange).await {
            Ok(shown) => shown,
            Err(problem) => {
                self.lacks(format!("the entries of the other city: {problem}"));
                return;
            }
        };
        let snapshot = core.control.snapshot();
        let logs = logs(core, &snapshot, city);
        for proven in shown.entries {
            let index = proven.index;
            // The other city must not be able to spoil our file with what does not hold.
            let Some((entry, proof)) = held_by(&logs, city, exchange, &proven, &shown.checkpoint)
            else {
                self.lacks("the other city showed entries that do not hold".to_owned());
                continue;
            };
            self.files.insert(
                names::proof(city.as_str(), index),
                proof.to_string().into_bytes(),
            );
            if let Some(client) = entry.client
                && !client.key_sha256.is_empty()
                && !shown.client_certificate.is_empty()
            {
                let name = names::certificate(&client.key_sha256);
                self.files
                    .entry(name)
                    .or_insert_with(|| shown.client_certificate.clone());
            }
            self.files
                .insert(names::entry(city.as_str(), index), proven.entry);
            if !proven.receipt.is_empty() {
                let name = names::receipt(&sha256(&proven.receipt));
                self.files.entry(name).or_insert(proven.receipt);
            }
        }
        if let Some(other) = snapshot.directory.city(city)
            && !shown.client_crl.is_empty()
        {
            let name = names::crl(other.trust_domain.as_str());
            self.files.entry(name).or_insert(shown.client_crl);
        }
    }

    fn lacks(&mut self, what: String) {
        if !self.lacking.contains(&what) {
            self.lacking.push(what);
        }
    }
}

/// The logs that a city has had by origin, each with its keys: what was signed before a key was replaced is proven by the
/// key before.
fn logs(core: &Core, snapshot: &Snapshot, city: CityCode) -> BTreeMap<String, Vec<Verifier>> {
    let envelope = Envelope::parse(&snapshot.envelope).ok();
    let history = envelope.and_then(|it| verify_history(&it, &core.directory_pin).ok());
    let present = std::iter::once(&*snapshot.directory);
    let mut logs: BTreeMap<String, Vec<Verifier>> = BTreeMap::new();
    for directory in history.iter().flatten().chain(present) {
        let Some(ledger) = directory.city(city).and_then(|it| it.ledger.as_ref()) else {
            continue;
        };
        let keys = logs.entry(ledger.origin.clone()).or_default();
        for key in ledger
            .keys
            .iter()
            .filter_map(|key| key.as_str().parse().ok())
        {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }
    logs
}

/// An entry of the other city, if it is of the exchange and that city's side of it, and one of its logs proves to hold it.
fn held_by(
    logs: &BTreeMap<String, Vec<Verifier>>,
    city: CityCode,
    exchange: Uuid,
    proven: &ProvenEntry,
    checkpoint: &str,
) -> Option<(Entry, TlogProof)> {
    let Ok(Decoded::Entry(entry)) = decode(&proven.entry) else {
        return None;
    };
    let side = match entry.side() {
        Side::Consumer => entry.client.as_ref(),
        Side::Provider => entry.provider.as_ref(),
        Side::Local | Side::Unspecified => None,
    };
    if entry.exchange != exchange.as_bytes() || side?.city != city.as_str() {
        return None;
    }
    let path = proof_hashes(&proven.inclusion).ok()?;
    let note = Note::parse(checkpoint.as_bytes()).ok()?;
    let proof = TlogProof::new(proven.index, path, note).ok()?;
    let leaf = leaf_hash(&proven.entry);
    let mut logs = logs.iter();
    let held = logs.any(|(origin, keys)| proof.verify(&leaf, origin, keys).is_ok());
    held.then_some((*entry, proof))
}

/// The proof of an entry in the tree of a checkpoint.
async fn proof<F>(
    note: &str,
    inclusion: impl FnOnce(u64) -> F,
    index: u64,
) -> Result<Option<TlogProof>, ProofError>
where
    F: Future<Output = Result<Vec<banqiao_tlog::hash::Hash>, ProofError>>,
{
    let Some((note, size)) = Note::parse(note.as_bytes()).ok().and_then(|note| {
        let checkpoint: Checkpoint = note.text().parse().ok()?;
        Some((note, checkpoint.size()))
    }) else {
        return Ok(None);
    };
    let path = inclusion(size).await?;
    Ok(TlogProof::new(index, path, note).ok())
}
