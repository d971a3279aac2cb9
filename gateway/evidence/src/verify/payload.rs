//! Payloads that a party kept: whether they are what was exchanged.

use banqiao_ledger::digest::MessageDigest;
use banqiao_proto::ledger::v1::{Direction, Encoding};

use super::Sides;
use crate::report::{Report, Standing};

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
    for payload in payloads {
        let mut whole = Vec::new();
        let mut half = Vec::new();
        for (kind, name) in [
            (PayloadKind::Request, "request"),
            (PayloadKind::Response, "response"),
        ] {
            if payload.kind != PayloadKind::Any && payload.kind != kind {
                continue;
            }
            let entered: Vec<(&str, &Direction)> =
                [("consumer", &sides.consumer), ("provider", &sides.provider)]
                    .into_iter()
                    .filter_map(|(side, entered)| {
                        let entry = entered.end.as_ref().or(entered.open.as_ref())?;
                        let direction = match kind {
                            PayloadKind::Request => entry.request.as_ref(),
                            _ => entry.response.as_ref(),
                        };
                        Some((side, direction?))
                    })
                    .collect();
            let same: Vec<_> = entered
                .iter()
                .filter(|(_, direction)| is_of(&payload.bytes, direction))
                .collect();
            if same.is_empty() {
                continue;
            }
            let all = same.len() == entered.len();
            if all && same.iter().all(|(_, direction)| direction.complete) {
                whole.push(name);
            } else {
                half.extend(
                    same.iter()
                        .map(|(side, _)| format!("{name} as the {side} entered it")),
                );
            }
        }
        let name = &payload.name;
        if !whole.is_empty() {
            // An echo is both.
            let what = whole.join(" and the ");
            report.proven(
                "payload",
                format!("{name} is the {what} that was exchanged"),
            );
        } else if !half.is_empty() {
            let what = half.join(", and the ");
            report.add(
                Standing::Differs,
                "payload",
                format!("{name} is the {what}; the other side has something else, or less"),
            );
        } else {
            report.broken("payload", format!("{name} is not what was exchanged"));
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
