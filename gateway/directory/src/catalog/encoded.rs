//! What is checked of an encoded descriptor set before the reflection library reads it.
//!
//! Sets come from administrators and from other cities' gateways. The library's work grows with the square of the
//! number of files and of comments, and it panics on some faults that it means to report, so: files are counted,
//! comments are cut off, syntaxes it does not know are refused, and what is left is caught.

use std::panic::{AssertUnwindSafe, catch_unwind};

use prost_reflect::DescriptorPool;

use super::CatalogError;

/// Files in a set: Google's and ours are thirty, a large city's own are hundreds.
const MAX_FILES: usize = 2_000;
/// `FileDescriptorSet.file`.
const FILE: u64 = 1;
/// `FileDescriptorProto.source_code_info`.
const SOURCE_CODE_INFO: u64 = 9;
/// `FileDescriptorProto.syntax`.
const SYNTAX: u64 = 12;

/// The pool that a set describes, without comments.
pub(super) fn pool(set: &[u8]) -> Result<DescriptorPool, CatalogError> {
    let mut reduced = Vec::with_capacity(set.len());
    let mut files = 0;
    for field in Fields(set) {
        let field = field.ok_or(CatalogError::Malformed)?;
        let Field {
            number: FILE,
            content: Some(file),
            ..
        } = field
        else {
            return Err(CatalogError::Malformed);
        };
        files += 1;
        if files > MAX_FILES {
            return Err(CatalogError::TooManyFiles(MAX_FILES));
        }
        let file = without_comments(file)?;
        reduced.push(0x0a);
        push_varint(file.len(), &mut reduced);
        reduced.extend_from_slice(&file);
    }
    // The pool is built from this call's bytes alone: a panic leaves nothing half-changed behind.
    catch_unwind(AssertUnwindSafe(|| {
        DescriptorPool::decode(reduced.as_slice())
    }))
    .map_err(|_| CatalogError::Malformed)?
    .map_err(CatalogError::Descriptors)
}

fn without_comments(file: &[u8]) -> Result<Vec<u8>, CatalogError> {
    let mut reduced = Vec::with_capacity(file.len());
    for field in Fields(file) {
        let field = field.ok_or(CatalogError::Malformed)?;
        if field.number == SYNTAX {
            let syntax = field.content.unwrap_or_default();
            if syntax != b"proto2" && syntax != b"proto3" {
                return Err(CatalogError::Syntax(
                    String::from_utf8_lossy(syntax).into_owned(),
                ));
            }
        }
        if field.number != SOURCE_CODE_INFO {
            reduced.extend_from_slice(field.whole);
        }
    }
    Ok(reduced)
}

/// One field of a message on the wire.
struct Field<'a> {
    number: u64,
    /// Key and value.
    whole: &'a [u8],
    /// The value of a length-delimited field.
    content: Option<&'a [u8]>,
}

/// The fields of a message; `None` ends it where the bytes are no message.
struct Fields<'a>(&'a [u8]);

impl<'a> Iterator for Fields<'a> {
    type Item = Option<Field<'a>>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let start = self.0;
        let field = read(start);
        self.0 = field
            .as_ref()
            .map_or(&[], |field| &start[field.whole.len()..]);
        Some(field)
    }
}

fn read(message: &[u8]) -> Option<Field<'_>> {
    let (key, rest) = varint(message)?;
    let (content, rest) = match key & 7 {
        0 => (None, varint(rest)?.1),
        1 => (None, rest.get(8..)?),
        2 => {
            let (length, rest) = varint(rest)?;
            let (content, rest) = rest.split_at_checked(usize::try_from(length).ok()?)?;
            (Some(content), rest)
        }
        5 => (None, rest.get(4..)?),
        // Groups stand nowhere in descriptors.
        _ => return None,
    };
    let whole = &message[..message.len() - rest.len()];
    Some(Field {
        number: key >> 3,
        whole,
        content,
    })
}

fn varint(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let mut value = 0;
    for (at, byte) in bytes.iter().take(10).enumerate() {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((value, &bytes[at + 1..]));
        }
    }
    None
}

fn push_varint(mut value: usize, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap_or(0) | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap_or(0));
}
