//! One city's part of a merged answer: its messages are made whole, checked, and handed on one by one.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
};

use banqiao_directory::CityCode;
use banqiao_ledger::digest::sha256;
use banqiao_proto::exchange::v1::{CityOutcome, CityResult, Reason};
use bytes::{BufMut as _, Bytes, BytesMut};
use http::HeaderMap;
use parking_lot::Mutex;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::{merge::Sender, outcome};
use crate::{
    forward::{Responder, Stop},
    receipts::RECEIPT,
    refusal::Refusal,
    wire::{self, Frame, FrameReader},
};

/// The part of one city.
pub(crate) struct Part {
    city: CityCode,
    /// Number of the field that names the city, by that city's descriptor.
    field: AtomicU32,
    client: Arc<Responder>,
    begun: AtomicBool,
    delivered: AtomicU64,
    reading: Mutex<Reading>,
    told: Mutex<Option<Told>>,
}

struct Reading {
    frames: FrameReader,
    message: BytesMut,
}

/// How the part ended, as its own status says it.
struct Told {
    status: u32,
    reason: Reason,
    receipt: Bytes,
}

impl Part {
    pub(super) fn new(city: CityCode, max: u32, client: Arc<Responder>) -> Self {
        Self {
            city,
            field: AtomicU32::new(0),
            client,
            begun: AtomicBool::new(false),
            delivered: AtomicU64::new(0),
            reading: Mutex::new(Reading {
                frames: FrameReader::new(max),
                message: BytesMut::new(),
            }),
            told: Mutex::new(None),
        }
    }

    /// Which field is to name the city.
    pub(super) fn check_by(&self, field: u32) {
        self.field.store(field, Ordering::Relaxed);
    }

    pub(super) fn outcome(&self, with_receipt: bool) -> CityOutcome {
        let told = self.told.lock();
        let city = self.city.as_str().to_owned();
        let messages = self.delivered.load(Ordering::Relaxed);
        let Some(told) = &*told else {
            // It was reset: the caller is gone.
            return CityOutcome {
                city,
                result: CityResult::Cancelled.into(),
                messages,
                status: 1,
                reason: Reason::Cancelled.into(),
                ..CityOutcome::default()
            };
        };
        let receipt = &told.receipt;
        CityOutcome {
            city,
            result: outcome::result(told.status, told.reason).into(),
            messages,
            status: told.status,
            reason: told.reason.into(),
            receipt_sha256: if receipt.is_empty() {
                Vec::new()
            } else {
                sha256(receipt).to_vec()
            },
            receipt: if with_receipt {
                receipt.to_vec()
            } else {
                Vec::new()
            },
        }
    }

    pub(crate) fn client(&self) -> &Responder {
        &self.client
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.begun.load(Ordering::Relaxed)
    }

    pub(crate) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Takes bytes of the city's answer, and hands on each message that they complete.
    pub(crate) async fn data(&self, merge: &Sender, mut bytes: Bytes) -> Result<(), Stop> {
        while let Some(message) = self.next(&mut bytes)? {
            // Cut off here, the message was not delivered.
            merge.send(message).await.map_err(|_| Stop::Gone)?;
            self.delivered.fetch_add(1, Ordering::Relaxed);
        }
        Ok(())
    }

    /// The next whole message with its prefix, checked.
    fn next(&self, bytes: &mut Bytes) -> Result<Option<Bytes>, Refusal> {
        let mut reading = self.reading.lock();
        loop {
            let frame = reading
                .frames
                .next(bytes)
                .map_err(|fault| faulty(fault.to_string()))?;
            match frame {
                None => return Ok(None),
                Some(Frame::Begin {
                    compressed: true, ..
                }) => return Err(faulty("a message is compressed, though none was to be")),
                Some(Frame::Begin { len, .. }) => {
                    reading.message.reserve(len as usize + 5);
                    reading.message.put_u8(0);
                    reading.message.put_u32(len);
                }
                Some(Frame::Data(piece)) => reading.message.extend_from_slice(&piece),
                Some(Frame::End) => {
                    let message = std::mem::take(&mut reading.message).freeze();
                    self.check(&message[5..])?;
                    return Ok(Some(message));
                }
            }
        }
    }

    fn check(&self, message: &[u8]) -> Result<(), Refusal> {
        let field = self.field.load(Ordering::Relaxed);
        match named(message, field) {
            Some(city) if city == self.city.as_str().as_bytes() => Ok(()),
            Some(_) => Err(faulty(
                "a message names another city than the one that sent it",
            )),
            None => Err(faulty("a message does not name the city that sent it")),
        }
    }

    /// The status of the part, in its trailers or its one block of headers.
    pub(crate) fn tell(&self, block: &HeaderMap) {
        let receipt = block.get(RECEIPT).and_then(wire::binary);
        *self.told.lock() = Some(Told {
            status: wire::code_of(block).unwrap_or(2),
            reason: wire::reason_of(block).unwrap_or_default(),
            receipt: receipt.unwrap_or_default(),
        });
    }
}

fn faulty(what: impl Into<std::borrow::Cow<'static, str>>) -> Refusal {
    Refusal::new(Reason::CityFalse, what)
}

/// The value of a field of bytes or text at the top of a message: of several the last, as every reader takes it. `None`
/// where there is none, or the message is malformed.
fn named(mut message: &[u8], field: u32) -> Option<&[u8]> {
    let mut found = None;
    while !message.is_empty() {
        let (number, kind) = decode_key(&mut message).ok()?;
        if number == field && kind == WireType::LengthDelimited {
            let length = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
            let (value, rest) = message.split_at_checked(length)?;
            found = Some(value);
            message = rest;
        } else {
            skip_field(kind, number, &mut message, DecodeContext::default()).ok()?;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_at_the_top_names_the_city() {
        assert_eq!(named(b"", 1), None);
        assert_eq!(named(b"\x0a\x06370600", 1), Some(&b"370600"[..]));
        assert_eq!(named(b"\x0a\x06370600", 2), None, "another field");
        assert_eq!(
            named(b"\x0a\x06370600\x10\x01\x0a\x06370200", 1),
            Some(&b"370200"[..]),
            "the last one counts"
        );
        assert_eq!(
            named(b"\x12\x08\x0a\x06370600", 1),
            None,
            "inside of another message"
        );
        assert_eq!(named(b"\x0a\x07370600", 1), None, "cut off");
        assert_eq!(named(b"\x0a\x06370600\x0f", 1), None, "malformed behind it");
    }
}
