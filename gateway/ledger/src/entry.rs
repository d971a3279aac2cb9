//! The canonical form of entries (LEDGER.md §1).

use banqiao_proto::ledger::v1::Entry;
use prost::Message;
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Largest entry in bytes: the length of a C2SP tlog-tiles bundle record is a `u16`.
pub const MAX_ENTRY_BYTES: usize = 65_535;

/// The version that this crate writes.
pub const VERSION: u32 = 1;

/// Why an entry, or bytes that claim to be one, are not in canonical form.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EntryError {
    /// A hash or id of a wrong length.
    #[error("{field} has {length} bytes")]
    Length {
        /// The field.
        field: &'static str,
        /// Bytes it has.
        length: usize,
    },
    /// Not protobuf.
    #[error("not a protobuf message")]
    Malformed(#[source] prost::DecodeError),
    /// Valid protobuf, but not the one canonical encoding of its content: fields out of order, unknown, repeated or
    /// default; empty submessages; strings not in normalisation form C.
    #[error("the bytes are not the canonical encoding of their content")]
    NotCanonical,
    /// More than [`MAX_ENTRY_BYTES`].
    #[error("{0} bytes are more than an entry may have")]
    TooLarge(usize),
    /// The version is 0 or missing.
    #[error("the entry has no version")]
    Version,
}

/// Bytes that were read as an entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Decoded {
    /// An entry of a known version, in canonical form.
    Entry(Box<Entry>),
    /// An entry of a newer version: it is a valid leaf, and stays uninterpreted.
    Newer {
        /// Its version.
        version: u32,
    },
}

/// Encodes an entry of the known version, after bringing it to canonical form: strings are normalised, empty
/// submessages omitted.
///
/// # Errors
///
/// When an id or hash has a wrong length, or the result is larger than [`MAX_ENTRY_BYTES`].
pub fn encode(entry: &mut Entry) -> Result<Vec<u8>, EntryError> {
    normalise(entry);
    lengths(entry)?;
    let bytes = entry.encode_to_vec();
    if bytes.len() > MAX_ENTRY_BYTES {
        return Err(EntryError::TooLarge(bytes.len()));
    }
    Ok(bytes)
}

/// Reads bytes as an entry and verifies that they are its canonical encoding.
///
/// # Errors
///
/// When they are not. Entries of a newer version are not looked into.
pub fn decode(bytes: &[u8]) -> Result<Decoded, EntryError> {
    if bytes.len() > MAX_ENTRY_BYTES {
        return Err(EntryError::TooLarge(bytes.len()));
    }
    let version = leading_version(bytes)?;
    if version > VERSION {
        return Ok(Decoded::Newer { version });
    }
    let mut entry = Entry::decode(bytes).map_err(EntryError::Malformed)?;
    lengths(&entry)?;
    normalise(&mut entry);
    if entry.encode_to_vec() != bytes {
        return Err(EntryError::NotCanonical);
    }
    Ok(Decoded::Entry(Box::new(entry)))
}

/// The version, which in canonical form is the first field of the bytes.
fn leading_version(bytes: &[u8]) -> Result<u32, EntryError> {
    /// Tag of field 1 as a varint.
    const TAG: u8 = 1 << 3;
    let mut rest = bytes.strip_prefix(&[TAG]).ok_or(EntryError::Version)?;
    let version = prost::encoding::decode_varint(&mut rest).map_err(EntryError::Malformed)?;
    match u32::try_from(version) {
        Ok(0) | Err(_) => Err(EntryError::Version),
        Ok(version) => Ok(version),
    }
}

/// Brings an entry to canonical form, in place.
pub(crate) fn normalise(entry: &mut Entry) {
    normalise_strings(entry);
    fn omit_empty<M: Message + Default + PartialEq>(field: &mut Option<M>) {
        if field
            .as_ref()
            .is_some_and(|message| *message == M::default())
        {
            *field = None;
        }
    }
    omit_empty(&mut entry.client);
    omit_empty(&mut entry.provider);
    omit_empty(&mut entry.decision);
    omit_empty(&mut entry.request);
    omit_empty(&mut entry.response);
    omit_empty(&mut entry.result);
    omit_empty(&mut entry.clock);
    omit_empty(&mut entry.replica);
    omit_empty(&mut entry.summary);
    omit_empty(&mut entry.admin);
    omit_empty(&mut entry.read);
    omit_empty(&mut entry.epoch);
    omit_empty(&mut entry.key);
    omit_empty(&mut entry.reconciled);
    omit_empty(&mut entry.erase);
    omit_empty(&mut entry.outcomes);
}

/// Brings each string to normalisation form C.
fn normalise_strings(entry: &mut Entry) {
    fn nfc(text: &mut String) {
        if !text.is_ascii() && !is_nfc(text) {
            *text = text.nfc().collect();
        }
    }
    for party in [&mut entry.client, &mut entry.provider]
        .into_iter()
        .flatten()
    {
        nfc(&mut party.spiffe_id);
        nfc(&mut party.city);
        nfc(&mut party.agency);
    }
    nfc(&mut entry.method);
    nfc(&mut entry.purpose);
    nfc(&mut entry.basis);
    if let Some(decision) = &mut entry.decision {
        nfc(&mut decision.grant_id);
    }
    if let Some(result) = &mut entry.result {
        nfc(&mut result.closed_by);
    }
    if let Some(replica) = &mut entry.replica {
        nfc(&mut replica.id);
    }
    for count in entry
        .summary
        .iter_mut()
        .flat_map(|summary| &mut summary.counts)
    {
        nfc(&mut count.client);
    }
    if let Some(admin) = &mut entry.admin {
        nfc(&mut admin.action);
        nfc(&mut admin.actor);
        nfc(&mut admin.target);
    }
    if let Some(read) = &mut entry.read {
        nfc(&mut read.actor);
        nfc(&mut read.query);
    }
    if let Some(reconciled) = &mut entry.reconciled {
        nfc(&mut reconciled.city);
        nfc(&mut reconciled.actor);
    }
    if let Some(erase) = &mut entry.erase {
        nfc(&mut erase.proposal);
        nfc(&mut erase.scope);
        nfc(&mut erase.month);
        nfc(&mut erase.basis);
        nfc(&mut erase.request_number);
        nfc(&mut erase.proposer);
        nfc(&mut erase.approver);
        erase.floors.iter_mut().for_each(nfc);
    }
    for outcome in entry.outcomes.iter_mut().flat_map(|it| &mut it.cities) {
        nfc(&mut outcome.city);
    }
    if let Some(epoch) = &mut entry.epoch {
        nfc(&mut epoch.predecessor);
        nfc(&mut epoch.checkpoint);
    }
    if let Some(key) = &mut entry.key {
        nfc(&mut key.old_key);
        nfc(&mut key.new_key);
    }
}

/// Checks the lengths of ids (16 bytes) and hashes (32), where they are present.
pub(crate) fn lengths(entry: &Entry) -> Result<(), EntryError> {
    fn exact(field: &'static str, bytes: &[u8], expected: usize) -> Result<(), EntryError> {
        if bytes.is_empty() || bytes.len() == expected {
            Ok(())
        } else {
            Err(EntryError::Length {
                field,
                length: bytes.len(),
            })
        }
    }
    exact("uid", &entry.uid, 16)?;
    exact("exchange", &entry.exchange, 16)?;
    for party in [&entry.client, &entry.provider].into_iter().flatten() {
        exact("party.key_sha256", &party.key_sha256, 32)?;
    }
    exact("descriptor_digest", &entry.descriptor_digest, 32)?;
    if let Some(decision) = &entry.decision {
        exact("decision.grant_set_digest", &decision.grant_set_digest, 32)?;
    }
    for direction in [&entry.request, &entry.response].into_iter().flatten() {
        exact("direction.root", &direction.root, 32)?;
        for hash in direction
            .frontiers
            .iter()
            .flat_map(|frontier| &frontier.hashes)
        {
            if hash.len() != 32 {
                return Err(EntryError::Length {
                    field: "direction.frontiers.hashes",
                    length: hash.len(),
                });
            }
        }
    }
    exact("peer_receipt", &entry.peer_receipt, 32)?;
    exact("private_commitment", &entry.private_commitment, 32)?;
    if let Some(replica) = &entry.replica {
        exact("replica.boot", &replica.boot, 16)?;
    }
    if let Some(admin) = &entry.admin {
        exact("admin.before", &admin.before, 32)?;
        exact("admin.after", &admin.after, 32)?;
    }
    if let Some(reconciled) = &entry.reconciled {
        exact("reconciled.report_digest", &reconciled.report_digest, 32)?;
    }
    for outcome in entry.outcomes.iter().flat_map(|outcomes| &outcomes.cities) {
        exact("outcomes.receipt_sha256", &outcome.receipt_sha256, 32)?;
    }
    for receipt in entry.epoch.iter().flat_map(|epoch| &epoch.receipts) {
        if receipt.len() != 32 {
            return Err(EntryError::Length {
                field: "epoch.receipts",
                length: receipt.len(),
            });
        }
    }
    if let Some(key) = &entry.key {
        exact("key.old_signature", &key.old_signature, 64)?;
        exact("key.new_signature", &key.new_signature, 64)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
