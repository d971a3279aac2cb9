//! Running a mask over a message.

use super::{DisclosureMask, Keep, MAX_DEPTH};
use crate::wire::tag::{Tag, Wire, encode_varint, put_varint, take_varint};

/// Why a message cannot be cut down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DisclosureError {
    /// Not protobuf.
    #[error("the message is not well-formed protobuf")]
    Malformed,
    /// Nested deeper than 64 levels.
    #[error("the message is nested too deeply")]
    TooDeep,
}

impl DisclosureMask {
    /// Appends to `out` what is disclosed of `message`, in the order of the message. It is never longer than the message.
    ///
    /// # Errors
    ///
    /// [`DisclosureError`]; `out` is then as it was.
    pub fn filter(&self, message: &[u8], out: &mut Vec<u8>) -> Result<(), DisclosureError> {
        let start = out.len();
        let copied = self.copy(0, &mut &message[..], None, out, 0);
        if copied.is_err() {
            out.truncate(start);
        }
        copied
    }

    /// Copies the kept fields up to the end of `rest`, or up to the end of the group that `rest` stands in.
    fn copy(
        &self,
        node: usize,
        rest: &mut &[u8],
        group: Option<u32>,
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), DisclosureError> {
        if depth > MAX_DEPTH {
            return Err(DisclosureError::TooDeep);
        }
        loop {
            if rest.is_empty() {
                // A group has an end of its own.
                return if group.is_none() {
                    Ok(())
                } else {
                    Err(DisclosureError::Malformed)
                };
            }
            let field = *rest;
            let tag = take_tag(rest)?;
            match (tag.wire, self.keep(node, tag.number)) {
                (Wire::GroupEnd, _) if group == Some(tag.number) => return Ok(()),
                (Wire::Bytes, Some(Keep::Message(child))) => {
                    let message = take_bytes(rest)?;
                    put_tag(tag, out);
                    self.nest(child, message, out, depth)?;
                }
                (Wire::GroupStart, Some(Keep::Group(child))) => {
                    put_tag(tag, out);
                    self.copy(child, rest, Some(tag.number), out, depth + 1)?;
                    put_tag(
                        Tag {
                            wire: Wire::GroupEnd,
                            ..tag
                        },
                        out,
                    );
                }
                (found, Some(Keep::Value { wire, packed }))
                    if found == wire || packed && found == Wire::Bytes =>
                {
                    skip(tag, rest)?;
                    out.extend_from_slice(&field[..field.len() - rest.len()]);
                }
                // Not disclosed, or not laid out as the descriptor says, so that it is not that field.
                _ => skip(tag, rest)?,
            }
        }
    }

    /// Copies a nested message with its new length.
    fn nest(
        &self,
        node: usize,
        mut message: &[u8],
        out: &mut Vec<u8>,
        depth: usize,
    ) -> Result<(), DisclosureError> {
        // Nothing grows, so the room that the old length needs is enough for the new one.
        let prefix = out.len();
        put_varint(message.len() as u64, out);
        let content = out.len();
        self.copy(node, &mut message, None, out, depth + 1)?;
        let (length, width) = encode_varint((out.len() - content) as u64);
        out[prefix..prefix + width].copy_from_slice(&length[..width]);
        if prefix + width < content {
            out.copy_within(content.., prefix + width);
            out.truncate(out.len() - (content - prefix - width));
        }
        Ok(())
    }
}

fn put_tag(tag: Tag, out: &mut Vec<u8>) {
    let wire = match tag.wire {
        Wire::Varint => 0,
        Wire::Fixed64 => 1,
        Wire::Bytes => 2,
        Wire::GroupStart => 3,
        Wire::GroupEnd => 4,
        Wire::Fixed32 => 5,
    };
    put_varint(u64::from(tag.number) << 3 | wire, out);
}

fn take_tag(rest: &mut &[u8]) -> Result<Tag, DisclosureError> {
    take_varint(rest)
        .and_then(Tag::read)
        .ok_or(DisclosureError::Malformed)
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8], DisclosureError> {
    let length = take_varint(rest).ok_or(DisclosureError::Malformed)?;
    let length = usize::try_from(length).map_err(|_| DisclosureError::Malformed)?;
    let (bytes, tail) = rest
        .split_at_checked(length)
        .ok_or(DisclosureError::Malformed)?;
    *rest = tail;
    Ok(bytes)
}

/// Passes over the value of a field.
fn skip(tag: Tag, rest: &mut &[u8]) -> Result<(), DisclosureError> {
    let mut groups = [0; MAX_DEPTH];
    let mut open = 0;
    let mut tag = tag;
    loop {
        match tag.wire {
            Wire::Varint => {
                take_varint(rest).ok_or(DisclosureError::Malformed)?;
            }
            Wire::Fixed64 => *rest = rest.get(8..).ok_or(DisclosureError::Malformed)?,
            Wire::Fixed32 => *rest = rest.get(4..).ok_or(DisclosureError::Malformed)?,
            Wire::Bytes => {
                take_bytes(rest)?;
            }
            Wire::GroupStart => {
                *groups.get_mut(open).ok_or(DisclosureError::TooDeep)? = tag.number;
                open += 1;
            }
            Wire::GroupEnd if open > 0 && groups[open - 1] == tag.number => open -= 1,
            Wire::GroupEnd => return Err(DisclosureError::Malformed),
        }
        if open == 0 {
            return Ok(());
        }
        tag = take_tag(rest)?;
    }
}
