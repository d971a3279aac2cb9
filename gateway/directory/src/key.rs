//! Ed25519 keys that sign directories (RFC 8032).

use std::{fmt, str::FromStr};

use aws_lc_rs::{
    digest::{SHA256, digest},
    signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey},
};
use zeroize::Zeroizing;

/// Why a key is refused. Never says anything of a private key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The machine could not make a key.
    #[error("no key could be made")]
    Generate,
    /// Not an Ed25519 private key in PKCS#8 PEM.
    #[error("not an Ed25519 private key in PKCS#8 PEM (-----BEGIN PRIVATE KEY-----)")]
    Private,
    /// Not a raw Ed25519 public key.
    #[error("an Ed25519 public key is written as 64 hexadecimal digits")]
    Public,
}

/// A city's Ed25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// The raw key.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// How envelopes name the key: SHA-256 of the raw key, in hexadecimal.
    pub fn id(&self) -> String {
        hex::encode(digest(&SHA256, &self.0))
    }

    /// Whether `signature` is this key's over `message`.
    pub fn verify(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, &self.0)
            .verify(message, signature)
            .is_ok()
    }
}

impl FromStr for PublicKey {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let mut key = [0; 32];
        hex::decode_to_slice(text, &mut key).map_err(|_| KeyError::Public)?;
        Ok(Self(key))
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A city's Ed25519 private key. It signs directories and nothing else.
pub struct SigningKey(Ed25519KeyPair);

impl SigningKey {
    /// A new random key.
    ///
    /// # Errors
    /// [`KeyError::Generate`] if the machine has no randomness to give.
    pub fn generate() -> Result<Self, KeyError> {
        Ed25519KeyPair::generate()
            .map(Self)
            .map_err(|_| KeyError::Generate)
    }

    /// Reads PKCS#8 PEM, as [`SigningKey::to_pem`] or `openssl genpkey -algorithm ed25519` writes it.
    ///
    /// # Errors
    /// [`KeyError::Private`] for anything else.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let block = pem::parse(text).map_err(|_| KeyError::Private)?;
        if block.tag() != "PRIVATE KEY" {
            return Err(KeyError::Private);
        }
        let der = Zeroizing::new(block.into_contents());
        Ed25519KeyPair::from_pkcs8(&der)
            .map(Self)
            .map_err(|_| KeyError::Private)
    }

    /// PKCS#8 (version 1, which OpenSSL reads) in PEM.
    ///
    /// # Errors
    /// [`KeyError::Generate`] if the key cannot be encoded.
    pub fn to_pem(&self) -> Result<Zeroizing<String>, KeyError> {
        let der = self.0.to_pkcs8v1().map_err(|_| KeyError::Generate)?;
        let block = pem::Pem::new("PRIVATE KEY", der.as_ref());
        let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
        let text = Zeroizing::new(pem::encode_config(&block, config));
        drop(Zeroizing::new(block.into_contents()));
        Ok(text)
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut key = [0; 32];
        key.copy_from_slice(self.0.public_key().as_ref());
        PublicKey(key)
    }

    /// Signs a message.
    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.0.sign(message).as_ref().to_vec()
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public())
    }
}
