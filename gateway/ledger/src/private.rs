//! The private part of an entry: commitment, encryption and search tokens (LEDGER.md §4).

use std::{collections::BTreeSet, fmt};

use aws_lc_rs::{
    aead::{Aad, Nonce},
    constant_time::verify_slices_are_equal,
    digest::{Context, SHA256},
    hmac, rand,
};
use banqiao_proto::ledger::v1::{PrivateOpening, PrivatePart};
use prost::Message as _;
use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use crate::{
    digest::Hash,
    entry::MAX_ENTRY_BYTES,
    keyring::{Month, MonthKeys},
};

/// Domain of the commitment.
const COMMITMENT_DOMAIN: &[u8] = b"banqiao-private-v1\0";
/// Bytes of the salt of a commitment.
const SALT: usize = 32;
/// Bytes of an AES-GCM nonce, and of its tag.
const NONCE: usize = 12;
const TAG: usize = 16;

/// What an entry can be searched by that only stands in its private part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum TokenKind {
    /// Case number.
    Case,
    /// Operator.
    Operator,
    /// Number of a subject, of any kind.
    Subject,
}

/// A search token: a keyed hash of a value, of no use without the month's key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Token(pub(crate) [u8; 16]);

impl Token {
    /// The token of a value in the month of the keys: `HMAC-SHA-256(key[city, month, kind], normalised value)`,
    /// cut to 16 bytes.
    ///
    /// Values that people would call the same have the same token: width, case and surrounding space do not count.
    pub(crate) fn new(keys: &MonthKeys, kind: TokenKind, value: &str) -> Self {
        let tag = hmac::sign(keys.token(kind), normalised(value).as_bytes());
        let mut token = [0; 16];
        token.copy_from_slice(&tag.as_ref()[..16]);
        Self(token)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

fn normalised(value: &str) -> Zeroizing<String> {
    if value.is_ascii() {
        return Zeroizing::new(value.trim().to_ascii_uppercase());
    }
    let compatible = Zeroizing::new(value.nfkc().collect::<String>());
    Zeroizing::new(compatible.trim().to_uppercase())
}

/// Why a stored private part cannot be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PrivateError {
    /// It is not the one that the entry commits to.
    #[error("the private part does not agree with the entry's commitment")]
    Commitment,
    /// The key does not fit, or the ciphertext or the uid was changed.
    #[error("the private part cannot be decrypted")]
    Decryption,
    /// What was decrypted is not a private part.
    #[error("the private part is malformed")]
    Malformed,
}

/// `SHA-256("banqiao-private-v1" ‖ 0x00 ‖ salt ‖ bytes)`.
pub(crate) fn commitment(salt: &[u8; SALT], bytes: &[u8]) -> Hash {
    let mut context = Context::new(&SHA256);
    context.update(COMMITMENT_DOMAIN);
    context.update(salt);
    context.update(bytes);
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

/// A private part as it is stored.
pub(crate) struct Sealed {
    pub(crate) month: Month,
    pub(crate) key_id: [u8; 8],
    /// AES-256-GCM of salt and bytes, then its tag, then the nonce. The salt is inside: beside the ciphertext it would let
    /// a thief of the database guess identity numbers against the commitment.
    pub(crate) ciphertext: Vec<u8>,
    pub(crate) tokens: Vec<Token>,
}

/// Why a private part cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SealError {
    Crypto,
    TooLarge,
}

/// A salt of random bytes, for a commitment that the caller opens to others. `None` without randomness.
pub fn new_salt() -> Option<[u8; SALT]> {
    let mut salt = [0; SALT];
    rand::fill(&mut salt).ok()?;
    Some(salt)
}

/// Whether an entry commits to what is opened here.
///
/// # Errors
///
/// [`PrivateError::Commitment`], and [`PrivateError::Malformed`] where the salt has not 32 bytes or the content is no
/// private part.
pub fn check_opening(
    committed: &[u8],
    opening: &PrivateOpening,
) -> Result<PrivatePart, PrivateError> {
    let salt: &[u8; SALT] = opening
        .salt
        .as_slice()
        .try_into()
        .map_err(|_| PrivateError::Malformed)?;
    verify_slices_are_equal(&commitment(salt, &opening.content), committed)
        .map_err(|_| PrivateError::Commitment)?;
    PrivatePart::decode(opening.content.as_slice()).map_err(|_| PrivateError::Malformed)
}

/// Seals a private part for the entry with this uid; the commitment goes into the entry.
pub(crate) fn seal(
    keys: &MonthKeys,
    uid: &[u8; 16],
    private: &PrivatePart,
    salt: Option<[u8; SALT]>,
) -> Result<(Hash, Sealed), SealError> {
    if private.encoded_len() > MAX_ENTRY_BYTES {
        return Err(SealError::TooLarge);
    }
    let salt = salt.or_else(new_salt).ok_or(SealError::Crypto)?;
    let mut ciphertext = Vec::with_capacity(SALT + private.encoded_len() + TAG + NONCE);
    ciphertext.extend_from_slice(&salt);
    private
        .encode(&mut ciphertext)
        .map_err(|_| SealError::TooLarge)?;
    let commitment = commitment(&salt, &ciphertext[SALT..]);
    let nonce = keys
        .sealing()
        .seal_in_place_append_tag(Aad::from(uid), &mut ciphertext)
        .map_err(|_| SealError::Crypto)?;
    ciphertext.extend_from_slice(nonce.as_ref());

    let sealed = Sealed {
        month: keys.month(),
        key_id: keys.id(),
        ciphertext,
        tokens: tokens(keys, private),
    };
    Ok((commitment, sealed))
}

/// Opens a stored private part and checks it against its entry.
///
/// # Errors
///
/// When the key, the uid, the ciphertext and the commitment do not all belong together.
#[cfg(test)]
pub(crate) fn open(
    keys: &MonthKeys,
    uid: &[u8; 16],
    committed: &[u8],
    ciphertext: &[u8],
) -> Result<PrivatePart, PrivateError> {
    let opening = opening(keys, uid, committed, ciphertext)?;
    PrivatePart::decode(opening.content.as_slice()).map_err(|_| PrivateError::Malformed)
}

/// As [`open`], with the salt: what shows others that the entry commits to it.
pub(crate) fn opening(
    keys: &MonthKeys,
    uid: &[u8; 16],
    committed: &[u8],
    ciphertext: &[u8],
) -> Result<PrivateOpening, PrivateError> {
    let (sealed, nonce) = ciphertext
        .split_last_chunk::<NONCE>()
        .ok_or(PrivateError::Decryption)?;
    let mut content = Zeroizing::new(sealed.to_vec());
    let plain = keys
        .sealing()
        .open_in_place(
            Nonce::assume_unique_for_key(*nonce),
            Aad::from(uid),
            &mut content,
        )
        .map_err(|_| PrivateError::Decryption)?;
    let (salt, bytes) = plain
        .split_first_chunk::<SALT>()
        .ok_or(PrivateError::Malformed)?;
    verify_slices_are_equal(&commitment(salt, bytes), committed)
        .map_err(|_| PrivateError::Commitment)?;
    Ok(PrivateOpening {
        salt: salt.to_vec(),
        content: bytes.to_vec(),
    })
}

fn tokens(keys: &MonthKeys, private: &PrivatePart) -> Vec<Token> {
    let subjects = private
        .subjects
        .iter()
        .map(|subject| (TokenKind::Subject, &subject.value));
    let singles = [
        (TokenKind::Operator, &private.operator),
        (TokenKind::Case, &private.case_number),
    ];
    let tokens: BTreeSet<Token> = subjects
        .chain(singles)
        .filter(|(_, value)| !value.is_empty())
        .map(|(kind, value)| Token::new(keys, kind, value))
        .collect();
    tokens.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use banqiao_proto::ledger::v1::Subject;

    use super::*;
    use crate::keyring::Keyring;

    const UID: [u8; 16] = [7; 16];

    /// A synthetic number: sequence 000.
    const SUBJECT: &str = "370202199001010001";

    fn part() -> PrivatePart {
        PrivatePart {
            subjects: vec![
                Subject {
                    kind: 1,
                    value: SUBJECT.into(),
                },
                Subject {
                    kind: 1,
                    value: SUBJECT.into(),
                },
            ],
            operator: "operator-17".into(),
            case_number: "办件-2026-1".into(),
            client_address: "192.0.2.7".into(),
            error_text: String::new(),
            peer: None,
        }
    }

    fn ring(folder: &tempfile::TempDir) -> Keyring {
        Keyring::open(folder.path().to_owned(), "370200".parse().unwrap()).unwrap()
    }

    #[test]
    fn sealed_part_opens_only_with_its_key_uid_and_commitment() {
        let folder = tempfile::tempdir().unwrap();
        let ring = ring(&folder);
        let keys = ring.month(Month::of(0)).unwrap();
        let (committed, sealed) = seal(&keys, &UID, &part(), None).unwrap();
        assert_eq!(
            open(&keys, &UID, &committed, &sealed.ciphertext),
            Ok(part())
        );

        let other = ring.month(Month::of(0).next()).unwrap();
        let at =
            |keys, uid, committed: &[u8], ciphertext: &[u8]| open(keys, uid, committed, ciphertext);
        assert_eq!(
            at(&other, &UID, &committed, &sealed.ciphertext),
            Err(PrivateError::Decryption)
        );
        assert_eq!(
            at(&keys, &[8; 16], &committed, &sealed.ciphertext),
            Err(PrivateError::Decryption)
        );
        assert_eq!(
            at(&keys, &UID, &[0; 32], &sealed.ciphertext),
            Err(PrivateError::Commitment)
        );
        assert_eq!(
            at(&keys, &UID, &committed, &sealed.ciphertext[..11]),
            Err(PrivateError::Decryption)
        );
        let mut changed = sealed.ciphertext;
        changed[20] ^= 1;
        assert_eq!(
            at(&keys, &UID, &committed, &changed),
            Err(PrivateError::Decryption)
        );
    }

    #[test]
    fn equal_parts_look_different_when_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let keys = ring(&folder).month(Month::of(0)).unwrap();
        let (first, sealed) = seal(&keys, &UID, &part(), None).unwrap();
        let (second, again) = seal(&keys, &UID, &part(), None).unwrap();
        assert_ne!(first, second);
        assert_ne!(sealed.ciphertext, again.ciphertext);
        assert_eq!(sealed.tokens, again.tokens);
        assert_eq!(
            sealed.tokens.len(),
            3,
            "one for the subject that stands twice"
        );
    }

    #[test]
    fn tokens_ignore_width_case_and_space_but_not_kind_and_month() {
        let folder = tempfile::tempdir().unwrap();
        let ring = ring(&folder);
        let keys = ring.month(Month::of(0)).unwrap();
        let token = |kind, value| Token::new(&keys, kind, value);
        let number = token(TokenKind::Subject, "37020219900101000X");
        assert_eq!(number, token(TokenKind::Subject, " 37020219900101000x\n"));
        assert_eq!(
            number,
            token(TokenKind::Subject, "３７０２０２１９９００１０１０００Ｘ")
        );
        assert_ne!(number, token(TokenKind::Operator, "37020219900101000X"));
        assert_ne!(number, token(TokenKind::Subject, "370202199001010001"));
        let next = ring.month(Month::of(0).next()).unwrap();
        assert_ne!(
            number,
            Token::new(&next, TokenKind::Subject, "37020219900101000X")
        );
    }

    #[test]
    fn oversized_part_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let keys = ring(&folder).month(Month::of(0)).unwrap();
        let private = PrivatePart {
            error_text: "x".repeat(70_000),
            ..PrivatePart::default()
        };
        assert_eq!(
            seal(&keys, &UID, &private, None).map(|_| ()),
            Err(SealError::TooLarge)
        );
    }
}
