//! The change of a ledger's key under one origin: a KEY entry that both keys have signed (LEDGER.md §3).
//!
//! It is the first entry of the first checkpoint by the new key. Behind it the new key signs, and for an overlap the old one
//! too, while replicas are restarted one after the other.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use banqiao_proto::ledger::v1::KeyChange;
use banqiao_tlog::note::{Signer, Verifier};

/// Why a KEY entry is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RotationError {
    /// One of the keys is malformed.
    #[error("it does not name two keys")]
    Key,
    /// A key is of another log.
    #[error("it names a key of another log")]
    Origin,
    /// One of the signatures is false.
    #[error("it is not signed by the old and by the new key")]
    Signature,
}

/// A valid change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rotation {
    pub(crate) old: Verifier,
    pub(crate) new: Verifier,
    /// Until when the old key may sign too, microseconds UTC.
    pub(crate) until_us: i64,
}

/// What both keys sign: it can be mistaken for no checkpoint, whose second line is a number.
fn statement(old: &Verifier, new: &Verifier, until_us: i64) -> String {
    let origin = old.name();
    format!("{origin}\nbanqiao-ledger-key-v1\n{old}\n{new}\n{until_us}\n")
}

/// A change from one key to another, signed by both.
pub(crate) fn change(old: &Signer, new: &Signer, until_us: i64) -> KeyChange {
    let text = statement(old.verifier(), new.verifier(), until_us);
    KeyChange {
        old_key: old.verifier().to_string(),
        new_key: new.verifier().to_string(),
        old_signature: old.sign(&text).bytes().to_vec(),
        new_signature: new.sign(&text).bytes().to_vec(),
        overlap_until_us: until_us,
    }
}

/// Verifies a change of a log's key.
pub(crate) fn read(change: &KeyChange, origin: &str) -> Result<Rotation, RotationError> {
    let key = |text: &str| text.parse::<Verifier>().map_err(|_| RotationError::Key);
    let (old, new) = (key(&change.old_key)?, key(&change.new_key)?);
    if old == new {
        return Err(RotationError::Key);
    }
    if [&old, &new].iter().any(|key| key.name() != origin) {
        return Err(RotationError::Origin);
    }
    let until_us = change.overlap_until_us;
    let text = statement(&old, &new, until_us);
    for (key, signature) in [(&old, &change.old_signature), (&new, &change.new_signature)] {
        UnparsedPublicKey::new(&ED25519, key.key())
            .verify(text.as_bytes(), signature)
            .map_err(|_| RotationError::Signature)?;
    }
    Ok(Rotation { old, new, until_us })
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORIGIN: &str = "qingdao.jiaodong/ledger/1";

    fn signer(origin: &str, seed: u8) -> Signer {
        Signer::from_seed(origin, &[seed; 32]).unwrap()
    }

    #[test]
    fn change_is_believed_with_both_signatures_only() {
        let (old, new) = (signer(ORIGIN, 1), signer(ORIGIN, 2));
        let sound = change(&old, &new, 7);
        let rotation = read(&sound, ORIGIN).unwrap();
        assert_eq!(rotation.old, *old.verifier());
        assert_eq!(
            (rotation.new, rotation.until_us),
            (new.verifier().clone(), 7)
        );
        type Change = fn(&mut KeyChange);
        let changes: [(Change, RotationError); 6] = [
            (|it| it.overlap_until_us = 8, RotationError::Signature),
            (|it| it.old_signature[0] ^= 1, RotationError::Signature),
            (|it| it.new_signature.clear(), RotationError::Signature),
            (
                |it| std::mem::swap(&mut it.old_signature, &mut it.new_signature),
                RotationError::Signature,
            ),
            (|it| it.old_key.clear(), RotationError::Key),
            (|it| it.old_key = it.new_key.clone(), RotationError::Key),
        ];
        for (tamper, expected) in changes {
            let mut changed = sound.clone();
            tamper(&mut changed);
            assert_eq!(read(&changed, ORIGIN), Err(expected));
        }
        let other = "yantai.jiaodong/ledger/1";
        assert_eq!(read(&sound, other), Err(RotationError::Origin));
    }
}
