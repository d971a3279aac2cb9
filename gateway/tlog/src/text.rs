//! What the C2SP text formats have in common.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::hash::{Hash, MAX_SIZE};

/// A decimal number without leading zeroes, at most `limit`.
pub(crate) fn decimal(text: &str, limit: u64) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits || (text.len() > 1 && text.starts_with('0')) {
        return None;
    }
    text.parse().ok().filter(|number| *number <= limit)
}

/// The size of a tree.
pub(crate) fn size(text: &str) -> Option<u64> {
    decimal(text, MAX_SIZE)
}

/// Standard base64 with padding, in its one canonical form.
pub(crate) fn decode(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// Standard base64 with padding.
pub(crate) fn encode(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// The base64 of exactly one hash.
pub(crate) fn hash(text: &str) -> Option<Hash> {
    // 32 bytes are 44 characters: nothing longer is decoded at all.
    if text.len() != 44 {
        return None;
    }
    decode(text)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_has_one_form() {
        assert_eq!(decimal("0", u64::MAX), Some(0));
        assert_eq!(decimal("18446744073709551615", u64::MAX), Some(u64::MAX));
        for bad in [
            "",
            "00",
            "01",
            "+1",
            "-1",
            " 1",
            "1 ",
            "0x1",
            "１",
            "18446744073709551616",
        ] {
            assert_eq!(decimal(bad, u64::MAX), None, "{bad:?}");
        }
        assert_eq!(size("9223372036854775807"), Some(MAX_SIZE));
        assert_eq!(size("9223372036854775808"), None);
    }

    #[test]
    fn a_hash_has_one_form() {
        let text = encode([0; 32]);
        assert_eq!(hash(&text), Some([0; 32]));
        // The last character carries two bits that stand for nothing.
        let loose = format!("{}B=", &text[..42]);
        assert_eq!(hash(&loose), None);
        assert_eq!(hash(&encode([0; 31])), None);
        assert_eq!(hash(&encode([0; 33])), None);
        assert_eq!(hash(text.trim_end_matches('=')), None);
    }
}
