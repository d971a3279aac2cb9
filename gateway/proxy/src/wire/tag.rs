//! Tags and varints of the protobuf wire format (protobuf.dev, "Encoding").

/// Longest varint, in bytes.
pub(super) const MAX_VARINT: u32 = 10;

/// Largest length of a field: protobuf implementations count in 31 bits.
pub(super) const MAX_LENGTH: u64 = 0x7fff_ffff;

/// How a field's value is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wire {
    Varint,
    Fixed64,
    Bytes,
    GroupStart,
    GroupEnd,
    Fixed32,
}

/// Field number and layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) number: u32,
    pub(super) wire: Wire,
}

impl Tag {
    /// Reads the value of a tag's varint. `None` for the field number 0, the layouts 6 and 7, and more than 32 bits,
    /// which some implementations would cut off and so read another field.
    pub(super) fn read(value: u64) -> Option<Self> {
        let number = u32::try_from(value).ok()? >> 3;
        let wire = match value & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            _ => return None,
        };
        (number != 0).then_some(Self { number, wire })
    }
}

/// A varint that arrives byte by byte.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Varint {
    value: u64,
    bytes: u32,
}

impl Varint {
    /// Takes one byte; `Ok(Some)` when the varint is whole.
    ///
    /// Fails beyond ten bytes or 64 bits.
    pub(super) fn push(&mut self, byte: u8) -> Result<Option<u64>, ()> {
        let last = self.bytes + 1 == MAX_VARINT;
        if last && byte > 1 {
            return Err(());
        }
        self.value |= u64::from(byte & 0x7f) << (7 * self.bytes);
        self.bytes += 1;
        Ok((byte & 0x80 == 0).then_some(self.value))
    }

    /// Whether no byte is there yet.
    pub(super) const fn is_empty(self) -> bool {
        self.bytes == 0
    }
}

/// Takes a varint off the front of `bytes`.
pub(super) fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut varint = Varint::default();
    loop {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        if let Some(value) = varint.push(byte).ok()? {
            return Some(value);
        }
    }
}

/// A varint in its shortest form, and its length.
pub(super) fn encode_varint(mut value: u64) -> ([u8; MAX_VARINT as usize], usize) {
    let mut bytes = [0; MAX_VARINT as usize];
    let mut length = 0;
    while value >= 0x80 {
        // The low seven bits, with the sign that more follow.
        bytes[length] = value.to_le_bytes()[0] | 0x80;
        value >>= 7;
        length += 1;
    }
    bytes[length] = value.to_le_bytes()[0];
    (bytes, length + 1)
}

/// Appends a varint in its shortest form.
pub(super) fn put_varint(value: u64, out: &mut Vec<u8>) {
    let (bytes, length) = encode_varint(value);
    out.extend_from_slice(&bytes[..length]);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn varints_round_trip(value in any::<u64>(), shift in 0..64_u32) {
            let value = value >> shift;
            let mut bytes = Vec::new();
            put_varint(value, &mut bytes);
            prop_assert_eq!(bytes.len(), prost::encoding::encoded_len_varint(value));
            let mut rest = &bytes[..];
            prop_assert_eq!(take_varint(&mut rest), Some(value));
            prop_assert!(rest.is_empty());
        }
    }

    #[test]
    fn overlong_and_unknown_forms_are_refused() {
        assert_eq!(take_varint(&mut &[0x80; 11][..]), None);
        let mut most = [0xff; 10];
        assert_eq!(take_varint(&mut &most[..]), None);
        most[9] = 1;
        assert_eq!(take_varint(&mut &most[..]), Some(u64::MAX));
        assert_eq!(take_varint(&mut &[0x80][..]), None);
        assert_eq!(Tag::read(0), None);
        assert_eq!(Tag::read(0x0e), None);
        assert_eq!(Tag::read((1 << 32) | 0x0a), None);
        assert_eq!(
            Tag::read(0x0a),
            Some(Tag {
                number: 1,
                wire: Wire::Bytes
            })
        );
    }
}
