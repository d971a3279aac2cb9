//! Keys of notes, in their text form `<name>+<key id>+<base64 of type and key>` (C2SP `signed-note`, Verifier keys).

use std::{fmt, str::FromStr};

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};

use super::Signature;
use crate::{
    hash::sha256,
    text::{decode, encode},
};

/// The longest name of a key, in bytes.
pub const MAX_NAME_BYTES: usize = 255;

/// Signature type of plain Ed25519 (C2SP `signed-note`, Signature types).
const ED25519_TYPE: u8 = 0x01;

/// Why a key is refused. Never says anything of a private key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Not three parts with `+` between them.
    #[error("a verifier key has the form <name>+<key id>+<base64 key>")]
    Form,
    /// The key id is not that of the name and key.
    #[error("the key id does not belong to the name and key")]
    Id,
    /// Not 33 bytes in base64: type and Ed25519 key.
    #[error("the key is not a signature type and 32 bytes in base64")]
    Key,
    /// A name that is empty, too long, or not visible ASCII without `+`.
    #[error("the name of a key is 1 to 255 visible ASCII characters without '+'")]
    Name,
    /// Not an Ed25519 private key.
    #[error("not an Ed25519 private key")]
    Private,
    /// A key that signs in another way.
    #[error("signature type {found:#04x}, not {expected:#04x}")]
    Type {
        /// The type that this kind of key has.
        expected: u8,
        /// The type that the key names.
        found: u8,
    },
}

/// An Ed25519 public key under a name, of one signature type.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct VerifierKey {
    name: String,
    id: u32,
    kind: u8,
    key: [u8; 32],
}

impl VerifierKey {
    pub(crate) fn new(name: &str, kind: u8, key: [u8; 32]) -> Result<Self, KeyError> {
        let graphic = |byte: u8| byte.is_ascii_graphic() && byte != b'+';
        if name.is_empty() || name.len() > MAX_NAME_BYTES || !name.bytes().all(graphic) {
            return Err(KeyError::Name);
        }
        let [a, b, c, d, ..] = sha256(&[name.as_bytes(), &[b'\n', kind], &key].concat());
        Ok(Self {
            name: name.to_owned(),
            id: u32::from_be_bytes([a, b, c, d]),
            kind,
            key,
        })
    }

    pub(crate) fn parse(text: &str, kind: u8) -> Result<Self, KeyError> {
        // Base64 may hold `+`, names and ids may not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(KeyError::Form);
        };
        // 33 bytes are 44 characters: nothing longer is decoded at all.
        if key.len() > 44 {
            return Err(KeyError::Key);
        }
        let bytes = decode(key).ok_or(KeyError::Key)?;
        let (found, key) = bytes.split_first().ok_or(KeyError::Key)?;
        if *found != kind {
            return Err(KeyError::Type {
                expected: kind,
                found: *found,
            });
        }
        let key = Self::new(name, kind, key.try_into().map_err(|_| KeyError::Key)?)?;
        if id != format!("{:08x}", key.id) {
            return Err(KeyError::Id);
        }
        Ok(key)
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) const fn id(&self) -> u32 {
        self.id
    }

    pub(crate) const fn key(&self) -> &[u8; 32] {
        &self.key
    }

    pub(crate) fn made(&self, signature: &Signature) -> bool {
        self.name == signature.name() && self.id == signature.id()
    }

    pub(crate) fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.key)
            .verify(message, signature)
            .is_ok()
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = encode([&[self.kind], &self.key[..]].concat());
        write!(f, "{}+{:08x}+{key}", self.name, self.id)
    }
}

/// An Ed25519 private key and its public half under a name, of one signature type.
pub(crate) struct SecretKey {
    public: VerifierKey,
    pair: Ed25519KeyPair,
}

impl SecretKey {
    pub(crate) fn new(name: &str, kind: u8, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        let key = pair.public_key().as_ref();
        let key = key.try_into().map_err(|_| KeyError::Private)?;
        Ok(Self {
            public: VerifierKey::new(name, kind, key)?,
            pair,
        })
    }

    pub(crate) fn from_pkcs8(name: &str, kind: u8, der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8(der).map_err(|_| KeyError::Private)?;
        Self::new(name, kind, pair)
    }

    pub(crate) fn from_seed(name: &str, kind: u8, seed: &[u8; 32]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyError::Private)?;
        Self::new(name, kind, pair)
    }

    pub(crate) const fn public(&self) -> &VerifierKey {
        &self.public
    }

    /// Signs `message`; `prefix` stands between the key id and the signature.
    pub(crate) fn sign(&self, prefix: &[u8], message: &[u8]) -> Signature {
        let bytes = [prefix, self.pair.sign(message).as_ref()].concat();
        Signature::from_parts(self.public.name.clone(), self.public.id, bytes)
    }
}

/// A public key of plain Ed25519 signatures over the text (type 0x01): that of a ledger.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier(VerifierKey);

impl Verifier {
    /// A raw public key under a name.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`].
    pub fn new(name: &str, key: [u8; 32]) -> Result<Self, KeyError> {
        VerifierKey::new(name, ED25519_TYPE, key).map(Self)
    }

    /// Name of the key: for a ledger its origin.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    /// The key id that signatures carry: `SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key)[..4]`.
    pub const fn id(&self) -> u32 {
        self.0.id()
    }

    /// The raw public key.
    pub const fn key(&self) -> &[u8; 32] {
        self.0.key()
    }

    /// Another key that claims the name and id of `key`.
    #[cfg(test)]
    pub(super) fn collide(key: &Self, other: [u8; 32]) -> Self {
        let mut twin = key.clone();
        twin.0.key = other;
        twin
    }

    /// Whether a signature bears the name and id of this key.
    pub(super) fn made(&self, signature: &Signature) -> bool {
        self.0.made(signature)
    }

    pub(super) fn verify(&self, text: &[u8], signature: &[u8]) -> bool {
        self.0.verify(text, signature)
    }
}

/// The key in text form.
impl fmt::Display for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for Verifier {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        VerifierKey::parse(text, ED25519_TYPE).map(Self)
    }
}

/// A private key of plain Ed25519 signatures over the text (type 0x01).
pub struct Signer {
    key: SecretKey,
    verifier: Verifier,
}

impl Signer {
    /// A key pair under a name.
    ///
    /// # Errors
    ///
    /// [`KeyError::Name`].
    pub fn new(name: &str, pair: Ed25519KeyPair) -> Result<Self, KeyError> {
        SecretKey::new(name, ED25519_TYPE, pair).map(Self::from_key)
    }

    /// A private key in PKCS#8 under a name.
    ///
    /// # Errors
    ///
    /// [`KeyError::Private`], [`KeyError::Name`].
    pub fn from_pkcs8(name: &str, der: &[u8]) -> Result<Self, KeyError> {
        SecretKey::from_pkcs8(name, ED25519_TYPE, der).map(Self::from_key)
    }

    /// A raw private key (the seed of RFC 8032 §5.1.5) under a name.
    ///
    /// # Errors
    ///
    /// [`KeyError::Private`], [`KeyError::Name`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        SecretKey::from_seed(name, ED25519_TYPE, seed).map(Self::from_key)
    }

    fn from_key(key: SecretKey) -> Self {
        let verifier = Verifier(key.public().clone());
        Self { key, verifier }
    }

    /// The public half.
    pub const fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Signs the text of a note, which ends with a newline.
    pub fn sign(&self, text: &str) -> Signature {
        self.key.sign(&[], text.as_bytes())
    }
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({})", self.verifier)
    }
}
