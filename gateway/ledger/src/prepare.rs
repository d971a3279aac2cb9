//! From what a caller hands in to what the batcher writes: everything that can be done on the caller's own thread is
//! done here, once, so that the one thread that commits has little left to do per entry.

use aws_lc_rs::rand;
use banqiao_directory::Clock;
use banqiao_proto::ledger::v1::{self as proto, Entry, PrivatePart, Replica, Suite};
use prost::Message as _;
use uuid::Uuid;

use crate::{
    append::{Append, AppendError, Effect},
    entry::{self, EntryError, MAX_ENTRY_BYTES, VERSION},
    keyring::{Keyring, Month},
    private::{self, SealError, Sealed},
};

/// Field number of `replica`: the one field that is known only at the commit, because the counter in it has no holes.
const REPLICA_FIELD: u32 = 22;
/// Longest counter as a varint, with its tag and the growth of the length before it.
const COUNTER_BYTES: usize = 12;
/// Largest evidence: a receipt has at most 4 KiB, and one that is refused is kept as well.
const MAX_EVIDENCE_BYTES: usize = 16 * 1024;
/// Longest peer, consumer or key of an effect.
const MAX_NAME_BYTES: usize = 2_048;

/// A call in this ledger, apart from its peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct CallId {
    pub(crate) exchange: [u8; 16],
    pub(crate) attempt: u32,
    pub(crate) side: i32,
}

/// An entry that is ready to be committed.
pub(crate) struct Prepared {
    pub(crate) uid: [u8; 16],
    pub(crate) call: Option<CallId>,
    pub(crate) kind: i32,
    pub(crate) time_us: i64,
    /// Canonical bytes of the fields before `replica`.
    before: Vec<u8>,
    /// Canonical bytes of the fields behind it.
    behind: Vec<u8>,
    pub(crate) private: Option<Sealed>,
    pub(crate) effects: Vec<Effect>,
}

impl Prepared {
    /// Bytes that this entry will about have, for the limit of a batch.
    pub(crate) fn weight(&self) -> usize {
        let private = self
            .private
            .as_ref()
            .map_or(0, |sealed| sealed.ciphertext.len());
        let documents: usize = self
            .effects
            .iter()
            .map(|effect| match effect {
                Effect::Erase { indices } => indices.len() * 8,
                Effect::Evidence { bytes, .. } => bytes.len(),
                Effect::PutDocument { bytes, .. } => bytes.len(),
                _ => 0,
            })
            .sum();
        self.before.len() + self.behind.len() + private + documents + 64
    }

    /// An entry of nothing but effects.
    #[cfg(test)]
    pub(crate) fn for_test(call: CallId, effects: Vec<Effect>) -> Self {
        Self {
            uid: [0; 16],
            call: Some(call),
            kind: 1,
            time_us: 0,
            before: Vec::new(),
            behind: Vec::new(),
            private: None,
            effects,
        }
    }

    /// The entry's bytes.
    pub(crate) fn bytes(&self, replica: &Replica) -> Vec<u8> {
        let length = self.before.len() + self.behind.len() + replica.encoded_len() + 8;
        let mut bytes = Vec::with_capacity(length);
        bytes.extend_from_slice(&self.before);
        prost::encoding::message::encode(REPLICA_FIELD, replica, &mut bytes);
        bytes.extend_from_slice(&self.behind);
        bytes
    }
}

/// Prepares entries of one ledger.
#[derive(Debug)]
pub(crate) struct Preparer {
    pub(crate) clock: Clock,
    pub(crate) quality: proto::Clock,
    pub(crate) replica: String,
    pub(crate) keyring: Keyring,
}

impl Preparer {
    /// Fills in what the ledger fills in, seals the private part and encodes the rest.
    pub(crate) fn prepare(&self, append: Append) -> Result<Box<Prepared>, AppendError> {
        let Append {
            mut entry,
            private,
            salt,
            effects,
        } = append;
        let time_us = self.clock.now_us();
        let uid = new_id(time_us).into_bytes();
        entry.version = VERSION;
        entry.suite = Suite::Sha256Ed25519Aes256gcm.into();
        entry.uid = uid.to_vec();
        entry.time_us = time_us;
        entry.clock = Some(self.quality);
        entry.replica = None;
        entry.private_commitment = Vec::new();
        let private = private.filter(|private| *private != PrivatePart::default());
        let private = private
            .map(|private| self.seal(&uid, time_us, &private, salt))
            .transpose()?;
        let private = private.map(|(commitment, sealed)| {
            entry.private_commitment = commitment.to_vec();
            sealed
        });
        entry::normalise(&mut entry);
        entry::lengths(&entry).map_err(AppendError::Invalid)?;
        let call = call_id(&entry);
        check_effects(&effects, call)?;

        let kind = entry.kind;
        let behind = Entry {
            summary: entry.summary.take(),
            admin: entry.admin.take(),
            read: entry.read.take(),
            epoch: entry.epoch.take(),
            key: entry.key.take(),
            reconciled: entry.reconciled.take(),
            erase: entry.erase.take(),
            outcomes: entry.outcomes.take(),
            ..Entry::default()
        };
        let prepared = Box::new(Prepared {
            uid,
            call,
            kind,
            time_us,
            before: entry.encode_to_vec(),
            behind: behind.encode_to_vec(),
            private,
            effects,
        });
        let replica = Replica {
            id: self.replica.clone(),
            boot: vec![0; 16],
            counter: 0,
        };
        let largest = prepared.bytes(&replica).len() + COUNTER_BYTES;
        if largest > MAX_ENTRY_BYTES {
            Err(AppendError::TooLarge)
        } else {
            Ok(prepared)
        }
    }

    fn seal(
        &self,
        uid: &[u8; 16],
        time_us: i64,
        private: &PrivatePart,
        salt: Option<[u8; 32]>,
    ) -> Result<([u8; 32], Sealed), AppendError> {
        let keys = self.keyring.month(Month::of(time_us)).map_err(|error| {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                "no key for a private part"
            );
            AppendError::Unavailable
        })?;
        private::seal(&keys, uid, private, salt).map_err(|error| match error {
            SealError::Crypto => AppendError::Unavailable,
            SealError::TooLarge => AppendError::TooLarge,
        })
    }
}

/// A new UUIDv7 (RFC 9562 §5.7) at a time of our clock: ids grow with time, so that their indexes grow at one end.
pub(crate) fn new_id(time_us: i64) -> Uuid {
    let mut random = [0; 10];
    // Without randomness the id would still be unique by its time in nearly every case, and a duplicate
    // is refused by the database; but aws-lc ends the process rather than fail here.
    let _ = rand::fill(&mut random);
    let millis = u64::try_from(time_us / 1_000).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}

fn call_id(entry: &Entry) -> Option<CallId> {
    let exchange = entry.exchange.as_slice().try_into().ok()?;
    Some(CallId {
        exchange,
        attempt: entry.attempt,
        side: entry.side,
    })
}

fn check_effects(effects: &[Effect], call: Option<CallId>) -> Result<(), AppendError> {
    for effect in effects {
        let (name, needs_call) = match effect {
            Effect::Claim { consumer } => (consumer, true),
            Effect::Close { peer } | Effect::Open { peer } => (peer, true),
            Effect::DeleteDocument { key, .. } | Effect::PutDocument { key, .. } => (key, false),
            Effect::Evidence { bytes, .. } => {
                if bytes.len() > MAX_EVIDENCE_BYTES {
                    return Err(AppendError::TooLarge);
                }
                continue;
            }
            Effect::Reconciled(step) => (&step.city, false),
            Effect::Detach { .. } | Effect::Erase { .. } | Effect::RetireMonth(_) => continue,
        };
        if name.len() > MAX_NAME_BYTES {
            return Err(AppendError::TooLarge);
        }
        if needs_call && call.is_none() {
            return Err(AppendError::Invalid(EntryError::Length {
                field: "exchange",
                length: 0,
            }));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
