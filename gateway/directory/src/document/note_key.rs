//! Verifier keys of C2SP signed notes, by which ledgers and witnesses are recognised.

use std::{fmt, str::FromStr};

use aws_lc_rs::digest::{Context, SHA256};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// What a note key signs with, by the identifier of C2SP `signed-note`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoteKeyKind {
    /// A timestamped Ed25519 cosignature (0x04, C2SP `tlog-cosignature`): a witness.
    Cosignature,
    /// Ed25519 (0x01): a ledger.
    Ed25519,
    /// A timestamped ML-DSA-44 cosignature (0x06).
    MlDsa44,
}

/// A verifier key: `<name>+<key id in hex>+<base64 of kind and key>` (C2SP `signed-note`).
#[derive(Clone, PartialEq, Eq)]
pub struct NoteKey {
    text: String,
    name: String,
    id: u32,
    kind: NoteKeyKind,
    key: Vec<u8>,
}

impl NoteKey {
    /// The whole key, as it is written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The name: the origin of a ledger, or the name of a witness.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key id that signatures carry.
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// What it signs with.
    pub const fn kind(&self) -> NoteKeyKind {
        self.kind
    }

    /// The raw public key.
    pub fn key(&self) -> &[u8] {
        &self.key
    }
}

impl FromStr for NoteKey {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        // Base64 may hold `+`, names and ids may not.
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(encoded)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err("a verifier key has the form <name>+<key id>+<base64 key>");
        };
        if name.is_empty() || name.len() > 255 || !name.bytes().all(|byte| byte.is_ascii_graphic())
        {
            return Err("the name of a verifier key is visible ASCII without '+'");
        }
        let mut stated = [0; 4];
        hex::decode_to_slice(id, &mut stated).map_err(|_| "the key id has eight hex digits")?;
        let bytes = STANDARD
            .decode(encoded)
            .map_err(|_| "the key is not base64")?;
        let (kind, key) = match bytes.split_first() {
            Some((0x01, key)) if key.len() == 32 => (NoteKeyKind::Ed25519, key),
            Some((0x04, key)) if key.len() == 32 => (NoteKeyKind::Cosignature, key),
            Some((0x06, key)) if key.len() == 1_312 => (NoteKeyKind::MlDsa44, key),
            _ => return Err("the key is none of Ed25519, cosignature/v1 or ML-DSA-44"),
        };
        let mut context = Context::new(&SHA256);
        context.update(name.as_bytes());
        context.update(b"\n");
        context.update(&bytes);
        if context.finish().as_ref().get(..4) != Some(&stated[..]) {
            return Err("the key id does not belong to the name and key");
        }
        Ok(Self {
            text: text.to_owned(),
            name: name.to_owned(),
            id: u32::from_be_bytes(stated),
            kind,
            key: key.to_vec(),
        })
    }
}

impl fmt::Debug for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_of_the_go_checksum_database_is_read() {
        // sum.golang.org, as cmd/go carries it.
        let text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8";
        let key: NoteKey = text.parse().unwrap();
        assert_eq!(key.name(), "sum.golang.org");
        assert_eq!(key.id(), 0x033d_e0ae);
        assert_eq!(key.kind(), NoteKeyKind::Ed25519);
        assert_eq!(key.as_str(), text);
        for bad in [
            "",
            "sum.golang.org",
            "sum.golang.org+033de0af+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
            "sum.golang.com+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8",
            "sum.golang.org+033de0ae+Ac4zctda0e5eza",
        ] {
            assert!(bad.parse::<NoteKey>().is_err(), "{bad}");
        }
    }
}
