//! Payloads that a party kept: whether they are what was exchanged.

use banqiao_ledger::digest::MessageDigest;
use banqiao_proto::ledger::v1::{Direction, Encoding};

use super::Sides;
use crate::report::Report;

/// Which way a payload went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PayloadKind {
    /// Either.
    Any,
    /// Towards the service.
    Request,
    /// Towards the client.
    Response,
}

/// Bytes that a party kept: one message as it was serialised, or the messages of a stream as gRPC frames them (a flag,
/// four bytes of length, the message).
#[derive(Clone, Debug)]
pub struct Payload {
    /// What to call it, such as the name of its file.
    pub name: String,
    /// Which way it went.
    pub kind: PayloadKind,
    /// The bytes.
    pub bytes: Vec<u8>,
}

pub(super) fn check(sides: &Sides, payloads: &[Payload], report: &mut Report) {
    let ends = [
        &sides.provider.end,
        &sides.consumer.end,
        &sides.consumer.open,
    ];
    let of = |pick: fn(&banqiao_proto::ledger::v1::Entry) -> Option<&Direction>| {
        ends.iter().filter_map(|end| end.as_ref()).find_map(pick)
    };
    let request = of(|entry| entry.request.as_ref());
    let response = of(|entry| entry.response.as_ref());
    for payload in payloads {
        let wanted = [
            (PayloadKind::Request, "request", request),
            (PayloadKind::Response, "response", response),
        ];
        let found: Vec<_> = wanted
            .into_iter()
            .filter(|(kind, _, direction)| {
                (payload.kind == PayloadKind::Any || payload.kind == *kind)
                    && direction.is_some_and(|direction| is_of(&payload.bytes, direction))
            })
            .map(|(_, name, _)| name)
            .collect();
        if found.is_empty() {
            report.broken(
                "payload",
                format!("{} is not what was exchanged", payload.name),
            );
        } else {
            // An echo is both.
            report.proven(
                "payload",
                format!(
                    "{} is the {} that was exchanged",
                    payload.name,
                    found.join(" and the ")
                ),
            );
        }
    }
}

fn is_of(bytes: &[u8], direction: &Direction) -> bool {
    let roots = [single(bytes, 0), single(bytes, 1)].into_iter().flatten();
    roots
        .chain(framed(bytes))
        .any(|found| (found.root, found.count) == (direction.root.clone(), direction.count))
}

fn single(bytes: &[u8], flag: u8) -> Option<Direction> {
    let mut digest = MessageDigest::new();
    digest.begin(flag);
    digest.update(bytes);
    digest.end();
    Some(digest.direction(Encoding::Unspecified, true))
}

/// The messages of gRPC frames; `None` where the bytes are no frames.
fn framed(mut bytes: &[u8]) -> Option<Direction> {
    let mut digest = MessageDigest::new();
    while !bytes.is_empty() {
        let (prefix, rest) = bytes.split_first_chunk::<5>()?;
        let [flag, length @ ..] = *prefix;
        let length = usize::try_from(u32::from_be_bytes(length)).ok()?;
        let (message, rest) = rest.split_at_checked(length)?;
        digest.begin(flag);
        digest.update(message);
        digest.end();
        bytes = rest;
    }
    Some(digest.direction(Encoding::Unspecified, true))
}
