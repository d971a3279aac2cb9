//! C2SP `tlog-cosignature`: the statement of a witness that, at a time, a checkpoint is the largest tree of its log
//! that it saw, and grew out of all it saw before. Ed25519, `cosignature/v1` (type 0x04).

use std::{fmt, num::NonZeroUsize, str::FromStr};

use aws_lc_rs::signature::Ed25519KeyPair;

use crate::{
    checkpoint::Checkpoint,
    note::{KeyError, Note, SecretKey, Signature, SignatureError, VerifierKey},
};

/// Signature type of timestamped Ed25519 cosignatures (C2SP `signed-note`, Signature types).
const COSIGNATURE_TYPE: u8 = 0x04;

/// The latest time that a cosignature may state.
const MAX_TIME: u64 = i64::MAX.cast_unsigned();

/// A time that no cosignature states: zero, or 2^63 and later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not a time of a cosignature, in seconds since 1970")]
pub struct TimeError(pub u64);

/// Why a checkpoint does not count as witnessed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QuorumError {
    /// A signature bears the name and id of a known witness and is not by it: the whole note is refused.
    #[error("a cosignature is false")]
    Signature(#[source] SignatureError),
    /// Fewer witnesses than the quorum.
    #[error("{found} of the {quorum} witnesses that are needed have cosigned")]
    TooFew {
        /// Distinct witness keys that cosigned.
        found: usize,
        /// Witness keys that are needed.
        quorum: NonZeroUsize,
    },
}

/// The public key of a witness.
#[derive(Clone, PartialEq, Eq)]
pub struct WitnessVerifier(VerifierKey);

impl WitnessVerifier {
    /// A raw public key under a name.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`].
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, KeyError> {
        VerifierKey::new(name, COSIGNATURE_TYPE, key).map(Self)
    }

    /// Name of the witness. Cosignatures of this type do not commit to it, only to the key.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The key id that signatures carry: `SHA-256(name ‖ 0x0A ‖ 0x04 ‖ key)[..4]`.
    pub const fn id(&self) -> u32 {
        self.0.id()
    }

    /// The raw public key.
    pub const fn key(&self) -> &[u8; 32] {
        self.0.key()
    }

    /// Verifies a cosignature over the text of a checkpoint, and gives its time in seconds since 1970.
    ///
    /// A time in the future is not refused here: this crate has no clock.
    ///
    /// # Errors
    ///
    /// [`SignatureError::Unknown`] for a signature of another name or id, [`SignatureError::False`] for one that does
    /// not verify or states no proper time.
    pub fn verify(&self, text: &str, signature: &Signature) -> Result<u64, SignatureError> {
        if !self.0.made(signature) {
            return Err(SignatureError::Unknown);
        }
        signature
            .bytes()
            .split_first_chunk()
            .map(|(time, signature)| (u64::from_be_bytes(*time), signature))
            .filter(|(time, _)| (1..=MAX_TIME).contains(time))
            .filter(|(time, signature)| self.0.verify(&message(*time, text), signature))
            .map(|(time, _)| time)
            .ok_or_else(|| SignatureError::False {
                name: signature.name().to_owned(),
                id: signature.id(),
            })
    }
}

/// The key in text form (C2SP `signed-note`, Verifier keys).
impl fmt::Display for WitnessVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for WitnessVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for WitnessVerifier {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        VerifierKey::parse(text, COSIGNATURE_TYPE).map(Self)
    }
}

/// The private key of a witness.
pub struct WitnessSigner {
    key: SecretKey,
    verifier: WitnessVerifier,
}

impl WitnessSigner {
    /// A key pair under a name. A witness key serves one witness: the message does not commit to the name.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`].
    pub fn new(name: &str, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        SecretKey::new(name, COSIGNATURE_TYPE, pair).map(Self::from_key)
    }

    /// A private key in PKCS#8 under a name.
    ///
    /// # Errors
    ///
    /// [`KeyError::Private`], [`KeyError::Name`].
    pub fn from_pkcs8(name: &str, der: &[u8]) -> Result<Self, KeyError> {
        SecretKey::from_pkcs8(name, COSIGNATURE_TYPE, der).map(Self::from_key)
    }

    /// A raw private key (the seed of RFC 8032 §5.1.5) under a name.
    ///
    /// # Errors
    ///
    /// [`KeyError::Private`], [`KeyError::Name`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        SecretKey::from_seed(name, COSIGNATURE_TYPE, seed).map(Self::from_key)
    }

    fn from_key(key: SecretKey) -> Self {
        let verifier = WitnessVerifier(key.public().clone());
        Self { key, verifier }
    }

    /// The public half.
    pub const fn verifier(&self) -> &WitnessVerifier {
        &self.verifier
    }

    /// Cosigns a checkpoint. `time` is the time of signing in seconds since 1970.
    ///
    /// Only after [`decide`](crate::witness::decide) accepted the checkpoint and it was stored.
    ///
    /// # Errors
    ///
    /// A [`TimeError`] for zero, and from 2^63 on.
    pub fn cosign(&self, checkpoint: &Checkpoint, time: u64) -> Result<Signature, TimeError> {
        if !(1..=MAX_TIME).contains(&time) {
            return Err(TimeError(time));
        }
        let message = message(time, &checkpoint.to_string());
        Ok(self.key.sign(&time.to_be_bytes(), &message))
    }
}

impl fmt::Debug for WitnessSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WitnessSigner({})", self.verifier)
    }
}

/// That a witness cosigned, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cosignature<'k> {
    /// The witness.
    pub witness: &'k WitnessVerifier,
    /// When it signed, in seconds since 1970, by its own clock; the latest if it signed more than once.
    pub time: u64,
}

/// The cosignatures of known witnesses on a checkpoint, if at least `quorum` witnesses with distinct keys gave one.
///
/// A key that is listed under several names counts once, and so does a witness that has signed with several keys. The signature of the log is not looked at: see
/// [`Checkpoint::open`].
///
/// # Errors
///
/// [`QuorumError::Signature`] when one cosignature of a known witness is false, else [`QuorumError::TooFew`].
pub fn witnessed<'k>(
    note: &Note,
    witnesses: &'k [WitnessVerifier],
    quorum: NonZeroUsize,
) -> Result<Vec<Cosignature<'k>>, QuorumError> {
    let mut found: Vec<Cosignature<'k>> = Vec::new();
    for signature in note.signatures() {
        let mut outcome = Err(SignatureError::Unknown);
        for witness in witnesses {
            match witness.verify(note.text(), signature) {
                Ok(time) => outcome = Ok(Cosignature { witness, time }),
                Err(SignatureError::Unknown) => continue,
                Err(error) if outcome.is_err() => outcome = Err(error),
                Err(_) => {}
            }
        }
        match outcome {
            Ok(new) => {
                let known = found.iter_mut().find(|old| {
                    old.witness.key() == new.witness.key()
                        || old.witness.name() == new.witness.name()
                });
                match known {
                    Some(old) => old.time = old.time.max(new.time),
                    None => found.push(new),
                }
            }
            Err(SignatureError::Unknown) => {}
            Err(error) => return Err(QuorumError::Signature(error)),
        }
    }
    if found.len() < quorum.get() {
        return Err(QuorumError::TooFew {
            found: found.len(),
            quorum,
        });
    }
    Ok(found)
}

/// What is signed (C2SP `tlog-cosignature`, Ed25519 signed message).
fn message(time: u64, text: &str) -> Vec<u8> {
    format!("cosignature/v1\ntime {time}\n{text}").into_bytes()
}

#[cfg(test)]
mod tests;
