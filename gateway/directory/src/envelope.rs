//! The signed form of a directory: a DSSE envelope (<https://github.com/secure-systems-lab/dsse>, v1.0).
//!
//! Beside the fields of DSSE, an envelope carries the envelopes of the versions before it as `history`, so that a
//! gateway that missed some of them can follow each step. History is not signed by this envelope: each of its links
//! stands on its own signatures.

use aws_lc_rs::digest::{SHA256, digest};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT, URL_SAFE_PAD_INDIFFERENT},
};
use serde::{Deserialize, Serialize};

use crate::{MAX_DOCUMENT_BYTES, PublicKey, SigningKey};

/// `payloadType` of a directory.
pub const PAYLOAD_TYPE: &str = "application/vnd.banqiao.directory.v1+toml";
/// Largest envelope in bytes, with its history: it fits into one gRPC message of the default limit.
pub const MAX_ENVELOPE_BYTES: usize = 3 << 20;
/// Earlier versions that an envelope carries at most.
pub const MAX_HISTORY: usize = 32;
/// Signatures that an envelope carries at most: two keys for each of 32 cities.
const MAX_SIGNATURES: usize = 64;

/// Why bytes are no envelope of a directory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// A field is not base64.
    #[error("{0} is not base64")]
    Base64(&'static str),
    /// Not JSON of the form that DSSE gives.
    #[error("not a DSSE envelope")]
    Json(#[source] serde_json::Error),
    /// Two envelopes around different documents cannot be merged.
    #[error("the envelopes hold different documents")]
    OtherPayload,
    /// Another kind of payload.
    #[error("the payload is of type {0:?}, not {PAYLOAD_TYPE}")]
    PayloadType(String),
    /// More bytes, signatures or history than a gateway takes.
    #[error("the envelope is too large")]
    TooLarge,
}

/// A directory document with the signatures of cities.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    payload: Vec<u8>,
    signatures: Vec<Signature>,
    /// Earlier versions, oldest first; their own history is empty.
    history: Vec<Self>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Signature {
    key_id: String,
    bytes: Vec<u8>,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct RawEnvelope {
    payload_type: String,
    payload: String,
    signatures: Vec<RawSignature>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    history: Vec<Self>,
}

#[derive(Deserialize, Serialize)]
struct RawSignature {
    #[serde(default)]
    keyid: String,
    sig: String,
}

impl Envelope {
    /// An envelope around a document that nobody has signed yet.
    pub const fn new(payload: Vec<u8>) -> Self {
        Self {
            payload,
            signatures: Vec::new(),
            history: Vec::new(),
        }
    }

    /// Reads the JSON of an envelope. Unknown fields are ignored, as DSSE asks.
    ///
    /// # Errors
    /// [`EnvelopeError`] for anything that is no envelope of a directory, or larger than a gateway takes.
    pub fn parse(json: &[u8]) -> Result<Self, EnvelopeError> {
        if json.len() > MAX_ENVELOPE_BYTES {
            return Err(EnvelopeError::TooLarge);
        }
        let mut raw: RawEnvelope = serde_json::from_slice(json).map_err(EnvelopeError::Json)?;
        let links = std::mem::take(&mut raw.history);
        if links.len() > MAX_HISTORY || links.iter().any(|link| !link.history.is_empty()) {
            return Err(EnvelopeError::TooLarge);
        }
        let mut envelope = Self::from_raw(raw)?;
        envelope.history = links
            .into_iter()
            .map(Self::from_raw)
            .collect::<Result<Vec<_>, EnvelopeError>>()?;
        Ok(envelope)
    }

    fn from_raw(raw: RawEnvelope) -> Result<Self, EnvelopeError> {
        if raw.payload_type != PAYLOAD_TYPE {
            return Err(EnvelopeError::PayloadType(raw.payload_type));
        }
        let payload = decode(&raw.payload).ok_or(EnvelopeError::Base64("payload"))?;
        if payload.len() > MAX_DOCUMENT_BYTES || raw.signatures.len() > MAX_SIGNATURES {
            return Err(EnvelopeError::TooLarge);
        }
        let signatures = raw
            .signatures
            .into_iter()
            .map(|raw| {
                let bytes = decode(&raw.sig).ok_or(EnvelopeError::Base64("sig"))?;
                Ok(Signature {
                    key_id: raw.keyid,
                    bytes,
                })
            })
            .collect::<Result<_, EnvelopeError>>()?;
        Ok(Self {
            payload,
            signatures,
            history: Vec::new(),
        })
    }

    /// The JSON of the envelope, ending in a line feed.
    ///
    /// # Errors
    /// [`EnvelopeError::Json`] if there is no memory for it.
    pub fn to_json(&self) -> Result<Vec<u8>, EnvelopeError> {
        let mut json = serde_json::to_vec_pretty(&self.to_raw()).map_err(EnvelopeError::Json)?;
        json.push(b'\n');
        Ok(json)
    }

    fn to_raw(&self) -> RawEnvelope {
        RawEnvelope {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: STANDARD.encode(&self.payload),
            signatures: self
                .signatures
                .iter()
                .map(|signature| RawSignature {
                    keyid: signature.key_id.clone(),
                    sig: STANDARD.encode(&signature.bytes),
                })
                .collect(),
            history: self.history.iter().map(Self::to_raw).collect(),
        }
    }

    /// The TOML bytes, exactly as they were signed.
    pub fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// SHA-256 of the payload: the pin of a first directory.
    pub fn digest(&self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest(&SHA256, &self.payload).as_ref());
        out
    }

    /// Earlier versions, oldest first.
    pub fn history(&self) -> &[Self] {
        &self.history
    }

    /// Adds a signature, in place of an earlier one by the same key.
    pub fn sign(&mut self, key: &SigningKey) {
        let key_id = key.public().id();
        let bytes = key.sign(&self.signed_bytes());
        self.signatures.retain(|held| held.key_id != key_id);
        self.signatures.push(Signature { key_id, bytes });
    }

    /// Whether there is a valid signature of a key.
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let key_id = key.id();
        let mut candidates = self
            .signatures
            .iter()
            .filter(|held| held.key_id == key_id)
            .peekable();
        if candidates.peek().is_none() {
            return false;
        }
        let signed = self.signed_bytes();
        candidates.any(|held| key.verify(&signed, &held.bytes))
    }

    /// The ids of the keys that signatures name, valid or not.
    pub fn key_ids(&self) -> impl Iterator<Item = &str> {
        self.signatures
            .iter()
            .map(|signature| signature.key_id.as_str())
    }

    /// Takes over the signatures of another envelope around the same document, so that cities can sign side by side.
    ///
    /// # Errors
    /// [`EnvelopeError::OtherPayload`] if the documents differ.
    pub fn merge(&mut self, other: &Self) -> Result<(), EnvelopeError> {
        if other.payload != self.payload {
            return Err(EnvelopeError::OtherPayload);
        }
        for signature in &other.signatures {
            if !self.signatures.contains(signature) {
                self.signatures.push(signature.clone());
            }
        }
        if self.history.len() < other.history.len() {
            self.history.clone_from(&other.history);
        }
        Ok(())
    }

    /// Makes this envelope the successor of another: it then carries that one and its history, the oldest dropped
    /// as far as the limits ask.
    pub fn follow(&mut self, previous: &Self) {
        let mut history = previous.history.clone();
        history.push(Self {
            history: Vec::new(),
            ..previous.clone()
        });
        // Base64 of a payload, and what JSON and signatures add; the new one may still gain signatures.
        let size = |link: &Self| link.payload.len() / 3 * 4 + 1_024 + MAX_SIGNATURES * 256;
        let mut room = MAX_ENVELOPE_BYTES.saturating_sub(size(self));
        let mut kept = 0;
        for link in history.iter().rev().take(MAX_HISTORY) {
            let Some(left) = room.checked_sub(size(link)) else {
                break;
            };
            room = left;
            kept += 1;
        }
        self.history = history.split_off(history.len() - kept);
    }

    /// DSSE's pre-authentication encoding: what signatures cover.
    fn signed_bytes(&self) -> Vec<u8> {
        let head = format!(
            "DSSEv1 {} {PAYLOAD_TYPE} {} ",
            PAYLOAD_TYPE.len(),
            self.payload.len()
        );
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(&self.payload);
        bytes
    }
}

/// DSSE lets a writer choose between the standard and the URL-safe alphabet, with or without padding.
fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD_PAD_INDIFFERENT
        .decode(text)
        .or_else(|_| URL_SAFE_PAD_INDIFFERENT.decode(text))
        .ok()
}

#[cfg(test)]
mod tests;
