//! C2SP `signed-note`: text signed by one or more keys, in a form that people can read.
//!
//! A note that was read is only parsed. Its text means nothing before a signature of a known key over it was
//! verified; [`checkpoint`](crate::checkpoint) does both.

use std::{fmt, str};

use crate::text::{decode, encode};

mod key;

pub use key::{KeyError, MAX_NAME_BYTES, Signer, Verifier};
pub(crate) use key::{SecretKey, VerifierKey};

/// The largest note that is read, in bytes: room for sixteen signatures of post-quantum size.
pub const MAX_NOTE_BYTES: usize = 128 * 1_024;

/// The most signatures that a note may carry. Verifiers must accept at least sixteen.
pub const MAX_SIGNATURES: usize = 32;

/// The bytes of a key id, which begin every signature.
const KEY_ID_BYTES: usize = 4;

/// Why bytes are not a note.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Not UTF-8, or with a control character other than the newline.
    #[error("a note is UTF-8 without control characters")]
    Characters,
    /// No empty line with signature lines after it.
    #[error("a note has a text, an empty line and signatures, each line ended by a newline")]
    Form,
    /// A line after the last empty line that is no signature.
    #[error("line {0} after the text is not a signature")]
    Signature(usize),
    /// A text that is empty or does not end with a newline.
    #[error("the text of a note ends with a newline")]
    Text,
    /// More than [`MAX_NOTE_BYTES`].
    #[error("a note of {0} bytes is too long")]
    TooLong(usize),
    /// More than [`MAX_SIGNATURES`].
    #[error("a note has at most 32 signatures")]
    TooManySignatures,
}

/// Why a well-formed note is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// A signature bears the name and id of a known key and is not by it: the whole note is refused.
    #[error("the signature of {name}+{id:08x} is false")]
    False {
        /// Name of the key.
        name: String,
        /// Id of the key.
        id: u32,
    },
    /// No signature is by a known key.
    #[error("no signature is by a known key")]
    Unknown,
}

/// One signature of a note: whose, and its bytes without the key id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    name: String,
    id: u32,
    bytes: Vec<u8>,
}

impl Signature {
    /// `name` is one that a key may have, `bytes` are not empty.
    pub(crate) const fn from_parts(name: String, id: u32, bytes: Vec<u8>) -> Self {
        Self { name, id, bytes }
    }

    /// Reads one signature line, without its newline.
    fn parse(line: &str) -> Option<Self> {
        let (name, encoded) = line.strip_prefix("— ")?.split_once(' ')?;
        if name.is_empty() || name.contains(|c: char| c == '+' || c.is_whitespace()) {
            return None;
        }
        let decoded = decode(encoded)?;
        let (id, bytes) = decoded.split_first_chunk::<KEY_ID_BYTES>()?;
        if bytes.is_empty() {
            return None;
        }
        Some(Self {
            name: name.to_owned(),
            id: u32::from_be_bytes(*id),
            bytes: bytes.to_vec(),
        })
    }

    /// Reads signature lines, each ended by a newline, as witnesses answer with them (C2SP `tlog-witness`).
    ///
    /// # Errors
    ///
    /// As [`Note::parse`].
    pub fn parse_lines(bytes: &[u8]) -> Result<Vec<Self>, NoteError> {
        parse_lines(characters(bytes)?)
    }

    /// Name of the key that it claims to be by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Id of the key that it claims to be by.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// What the algorithm made, without the key id.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// The signature line, without its newline.
impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.id.to_be_bytes()[..], &self.bytes].concat();
        write!(f, "— {} {}", self.name, encode(bytes))
    }
}

/// A text and its signatures, of which there is at least one. Nothing says that they are true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<Signature>,
}

impl Note {
    /// A note of a text and its first signature.
    ///
    /// # Errors
    ///
    /// [`NoteError::Text`] unless the text ends with a newline, [`NoteError::Characters`], [`NoteError::TooLong`].
    pub fn new(text: String, signature: Signature) -> Result<Self, NoteError> {
        if text.len() > MAX_NOTE_BYTES {
            return Err(NoteError::TooLong(text.len()));
        }
        characters(text.as_bytes())?;
        if !text.ends_with('\n') {
            return Err(NoteError::Text);
        }
        Ok(Self {
            text,
            signatures: vec![signature],
        })
    }

    /// Reads a note: at most [`MAX_NOTE_BYTES`] and [`MAX_SIGNATURES`], in the one canonical form.
    ///
    /// # Errors
    ///
    /// See [`NoteError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        let note = characters(bytes)?;
        // The text may hold empty lines too: the last one parts it from the signatures.
        let end = note.rfind("\n\n").ok_or(NoteError::Form)?;
        let (text, signatures) = note.split_at(end + 1);
        Ok(Self {
            text: text.to_owned(),
            signatures: parse_lines(signatures.strip_prefix('\n').ok_or(NoteError::Form)?)?,
        })
    }

    /// The text that is signed, with its last newline. Not to be believed before [`Self::verify`].
    pub fn text(&self) -> &str {
        &self.text
    }

    /// All signatures, those of unknown keys too.
    pub fn signatures(&self) -> &[Signature] {
        &self.signatures
    }

    /// Adds a signature, in place of earlier ones by the same key.
    ///
    /// # Errors
    ///
    /// [`NoteError::TooManySignatures`]; the note is unchanged then.
    pub fn add(&mut self, signature: Signature) -> Result<(), NoteError> {
        let other = |old: &&Signature| old.name != signature.name || old.id != signature.id;
        if self.signatures.iter().filter(other).count() >= MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        self.signatures
            .retain(|old| old.name != signature.name || old.id != signature.id);
        self.signatures.push(signature);
        Ok(())
    }

    /// Verifies the signatures of known keys and gives the keys whose signatures it bears, each once. Signatures of
    /// unknown keys are passed over.
    ///
    /// # Errors
    ///
    /// [`SignatureError::False`] when one signature of a known key is false, even if others are true;
    /// [`SignatureError::Unknown`] when there is none of a known key.
    pub fn verify<'k>(&self, keys: &'k [Verifier]) -> Result<Vec<&'k Verifier>, SignatureError> {
        let mut signed: Vec<&Verifier> = Vec::new();
        for signature in &self.signatures {
            let mut named = keys.iter().filter(|key| key.made(signature)).peekable();
            if named.peek().is_none() {
                continue;
            }
            // Two keys can have one id by accident or design, so each of that id is tried.
            let key = named
                .find(|key| key.verify(self.text.as_bytes(), signature.bytes()))
                .ok_or_else(|| SignatureError::False {
                    name: signature.name.clone(),
                    id: signature.id,
                })?;
            if !signed.contains(&key) {
                signed.push(key);
            }
        }
        if signed.is_empty() {
            return Err(SignatureError::Unknown);
        }
        Ok(signed)
    }
}

/// The note as it is sent and stored.
impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        for signature in &self.signatures {
            writeln!(f, "{signature}")?;
        }
        Ok(())
    }
}

fn characters(bytes: &[u8]) -> Result<&str, NoteError> {
    if bytes.len() > MAX_NOTE_BYTES {
        return Err(NoteError::TooLong(bytes.len()));
    }
    let text = str::from_utf8(bytes).map_err(|_| NoteError::Characters)?;
    if text.bytes().any(|byte| byte < b' ' && byte != b'\n') {
        return Err(NoteError::Characters);
    }
    Ok(text)
}

fn parse_lines(lines: &str) -> Result<Vec<Signature>, NoteError> {
    let lines = lines.strip_suffix('\n').ok_or(NoteError::Form)?;
    let mut signatures = Vec::new();
    for (position, line) in lines.split('\n').enumerate() {
        if position == MAX_SIGNATURES {
            return Err(NoteError::TooManySignatures);
        }
        signatures.push(Signature::parse(line).ok_or(NoteError::Signature(position + 1))?);
    }
    Ok(signatures)
}

#[cfg(test)]
mod tests;
