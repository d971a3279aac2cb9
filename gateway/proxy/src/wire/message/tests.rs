use std::{collections::BTreeSet, io::Write};

use banqiao_directory::field_rule;
use flate2::{
    Compression,
    write::{GzEncoder, ZlibEncoder},
};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DynamicMessage, Kind, Value};

use super::*;
use crate::wire::{
    subject::MAX_SUBJECT,
    tests::{Found, descriptor, message, walk},
};

const MAX: u64 = 4 << 20;

type Pairs = BTreeSet<(u32, String)>;

/// Scans messages, given as (compressed, bytes), in pieces of the given sizes, with room for `subjects`. Checks that
/// nothing is named twice where all fits, and returns what was found.
fn scan(
    plan: &Arc<SubjectPlan>,
    coding: Coding,
    messages: &[(bool, &[u8])],
    sizes: &[usize],
    subjects: usize,
) -> (Pairs, ScanCounts, Result<(), CodingError>) {
    let settings = ScanSettings {
        coding,
        max_decoded: MAX,
        subjects,
    };
    let mut scanner = MessageScanner::new(plan, settings);
    let mut found = Vec::new();
    let mut sizes = sizes.iter().copied().cycle();
    let mut run = || {
        for (compressed, bytes) in messages {
            scanner.begin(*compressed, u32::try_from(bytes.len()).unwrap())?;
            let mut bytes = *bytes;
            while !bytes.is_empty() {
                let (mut piece, rest) =
                    bytes.split_at(sizes.next().unwrap_or(64).clamp(1, bytes.len()));
                bytes = rest;
                while scanner.push(&mut piece)? == Scan::Full {
                    let batch = scanner.take();
                    assert_eq!(batch.len(), subjects);
                    found.extend(batch);
                }
                assert!(piece.is_empty());
            }
            while scanner.end()? == Scan::Full {
                found.extend(scanner.take());
            }
        }
        Ok(())
    };
    let end = run();
    found.extend(scanner.take());
    let pairs: Pairs = found
        .iter()
        .map(|one| (one.kind, one.value.clone()))
        .collect();
    if subjects >= 1_000 {
        assert_eq!(pairs.len(), found.len(), "something is named twice");
    }
    (pairs, scanner.counts(), end)
}

/// The subjects of a message by walking its dynamic form, and how many are too long or not UTF-8.
fn oracle(message: &DynamicMessage) -> (Pairs, ScanCounts) {
    let mut pairs = Pairs::new();
    let mut counts = ScanCounts::default();
    walk(message, &mut |found| {
        let (kind, value) = match found {
            Found::Field(field, value) => {
                let kind = field_rule(field).map_or(0, |rule| rule.subject);
                let textual = match field.kind() {
                    Kind::String | Kind::Bytes => true,
                    Kind::Message(inner) => inner.name() == "StringValue",
                    _ => false,
                };
                (if textual { kind } else { 0 }, *value)
            }
            Found::Extension("wire.sample2.ext_id", value) => (1, *value),
            Found::Extension(_, value) => (0, *value),
        };
        let Ok(kind @ 1..) = u32::try_from(kind) else {
            return;
        };
        let values = match value {
            Value::List(values) => values.clone(),
            Value::Message(wrapper) => {
                vec![wrapper.get_field_by_name("value").unwrap().into_owned()]
            }
            value => vec![value.clone()],
        };
        for value in values {
            let bytes = match &value {
                Value::String(text) => text.as_bytes(),
                Value::Bytes(bytes) => bytes,
                other => panic!("not textual: {other:?}"),
            };
            match str::from_utf8(bytes) {
                _ if bytes.len() > MAX_SUBJECT => counts.oversized += 1,
                Err(_) => counts.invalid += 1,
                Ok("") => {}
                Ok(text) => {
                    pairs.insert((kind, text.to_owned()));
                }
            }
        }
    });
    (pairs, counts)
}

fn plan(name: &str) -> Arc<SubjectPlan> {
    Arc::new(SubjectPlan::for_message(&descriptor(name)))
}

fn compress(coding: Coding, bytes: &[u8]) -> Vec<u8> {
    if coding == Coding::Gzip {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    } else {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }
}

const TYPES: [&str; 2] = ["wire.sample.Tree", "wire.sample2.Old"];
const CODINGS: [Coding; 2] = [Coding::Gzip, Coding::Deflate];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn scanning_finds_what_a_dynamic_walk_finds(
        seed in any::<u64>(),
        of in prop::sample::select(TYPES.to_vec()),
        sizes in prop::collection::vec(1..40_usize, 1..8),
        capacity in prop::sample::select(vec![1, 2, 3, 7, 1_000]),
    ) {
        let sample = message(&descriptor(of), seed, true);
        let bytes = sample.encode_to_vec();
        let (pairs, counts) = oracle(&sample);
        let (found, counted, end) =
            scan(&plan(of), Coding::Identity, &[(false, &bytes)], &sizes, capacity);
        prop_assert_eq!(&found, &pairs);
        prop_assert_eq!(counted, counts);
        prop_assert_eq!(end, Ok(()));
        for coding in CODINGS {
            let packed = compress(coding, &bytes);
            let (found, counted, end) = scan(&plan(of), coding, &[(true, &packed)], &sizes, capacity);
            prop_assert_eq!(end, Ok(()));
            prop_assert_eq!(&found, &pairs);
            prop_assert_eq!(counted, counts);
        }
    }

    #[test]
    fn hostile_messages_end_the_same_in_any_chunks(
        bytes in prop::collection::vec(prop_oneof![
            any::<u8>(),
            prop::sample::select(vec![0x0a, 0x12, 0x1a, 0x13, 0x14, 0x22, 0x2a, 0x32, 0x01, 0x80]),
        ], 0..300),
        of in prop::sample::select(TYPES.to_vec()),
        sizes in prop::collection::vec(1..40_usize, 1..8),
    ) {
        let plan = plan(of);
        let whole = scan(&plan, Coding::Identity, &[(false, &bytes)], &[usize::MAX], 1_000);
        prop_assert_eq!(&whole, &scan(&plan, Coding::Identity, &[(false, &bytes)], &sizes, 1_000));
        // Whatever the oracle can read must have been read, the more so without a fault.
        if let Ok(message) = DynamicMessage::decode(descriptor(of), bytes.as_slice()) {
            prop_assert_eq!(whole.1.malformed, 0);
            prop_assert!(whole.0.is_superset(&oracle(&message).0));
        }
    }

    #[test]
    fn cut_and_damaged_messages_are_counted(
        seed in any::<u64>(),
        of in prop::sample::select(TYPES.to_vec()),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let mut bytes = message(&descriptor(of), seed, true).encode_to_vec();
        if !bytes.is_empty() {
            let plan = plan(of);
            let at = at.index(bytes.len());
            let (_, counts, _) = scan(&plan, Coding::Identity, &[(false, &bytes[..at])], &[7], 1_000);
            let readable = DynamicMessage::decode(descriptor(of), &bytes[..at]).is_ok();
            prop_assert!(counts.malformed == u64::from(!readable) || readable);
            bytes[at] = byte;
            scan(&plan, Coding::Identity, &[(false, &bytes)], &[7], 1_000).2.ok();
        }
    }

    #[test]
    fn hostile_compression_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..200),
        at in any::<prop::sample::Index>(),
        sizes in prop::collection::vec(1..40_usize, 1..8),
        coding in prop::sample::select(CODINGS.to_vec()),
    ) {
        let plan = plan(TYPES[0]);
        scan(&plan, coding, &[(true, &bytes)], &sizes, 3).2.ok();
        let mut packed = compress(coding, &[7; 300]);
        let at = at.index(packed.len());
        let (_, _, end) = scan(&plan, coding, &[(true, &packed[..at])], &sizes, 3);
        prop_assert_eq!(end, Err(CodingError::Truncated));
        for byte in bytes.iter().take(8) {
            packed[at] ^= byte;
            let (_, _, whole) = scan(&plan, coding, &[(true, &packed)], &[usize::MAX], 1_000);
            prop_assert_eq!(whole, scan(&plan, coding, &[(true, &packed)], &sizes, 1_000).2);
        }
    }
}

#[test]
fn messages_follow_each_other() {
    let plan = plan(TYPES[0]);
    let good: &[u8] = b"\x0a\x01a";
    let packed = compress(Coding::Gzip, b"\x0a\x01b");
    let messages = [
        (false, good),
        (false, b"\x0a\x05a"),
        (true, &packed),
        (false, b"\xff"),
        (false, b"\x0a\x01c"),
    ];
    let (pairs, counts, end) = scan(&plan, Coding::Gzip, &messages, &[1], 1_000);
    assert_eq!(
        pairs,
        ["a", "b", "c"].map(|value| (1, value.to_owned())).into()
    );
    assert_eq!((counts.malformed, end), (2, Ok(())));
}

#[test]
fn a_subject_is_named_once_for_a_call() {
    let plan = plan(TYPES[0]);
    let settings = ScanSettings {
        coding: Coding::Identity,
        max_decoded: MAX,
        subjects: 4,
    };
    let mut scanner = MessageScanner::new(&plan, settings);
    let mut named = Vec::new();
    for value in ["a", "b", "a", "a", "c", "b"] {
        scanner.begin(false, 3).unwrap();
        assert_eq!(
            scanner.push(&mut [b"\x0a\x01", value.as_bytes()].concat().as_slice()),
            Ok(Scan::Done)
        );
        assert_eq!(scanner.end(), Ok(Scan::Done));
        named.extend(scanner.take().into_iter().map(|one| one.value));
    }
    assert_eq!(named, ["a", "b", "c"]);
}

#[test]
fn a_stream_of_subjects_stays_bounded_and_loses_none() {
    let plan = plan(TYPES[0]);
    let bytes: Vec<u8> = (0..20_000)
        .flat_map(|n| [b"\x5a\x05", format!("{n:05}").as_bytes()].concat())
        .collect();
    let (pairs, _, end) = scan(&plan, Coding::Identity, &[(false, &bytes)], &[16_384], 128);
    assert_eq!((pairs.len(), end), (20_000, Ok(())));
    for coding in CODINGS {
        let packed = compress(coding, &bytes);
        let (pairs, _, end) = scan(&plan, coding, &[(true, &packed)], &[16_384], 128);
        assert_eq!((pairs.len(), end), (20_000, Ok(())));
    }
}

#[test]
fn bombs_are_refused() {
    let plan = plan("wire.sample.Plain");
    let settings = |coding, max_decoded| ScanSettings {
        coding,
        max_decoded,
        subjects: 8,
    };
    for coding in CODINGS {
        assert!(plan.is_empty() && !MessageScanner::new(&plan, settings(coding, MAX)).is_empty());
        let run = |decoded: usize, max| {
            let packed = compress(coding, &vec![0; decoded]);
            let mut scanner = MessageScanner::new(&plan, settings(coding, max));
            scanner.begin(true, u32::try_from(packed.len()).unwrap())?;
            scanner
                .push(&mut packed.as_slice())
                .and_then(|_| scanner.end())
                .map(drop)
        };
        // Below the floor any ratio passes, above it twenty.
        assert_eq!(run(64 * 1024, MAX), Ok(()));
        assert_eq!(run(64 * 1024 + 1, MAX), Err(CodingError::Amplified));
        assert_eq!(run(3 << 20, MAX), Err(CodingError::Amplified));
        assert_eq!(run(1_001, 1_000), Err(CodingError::TooLarge { max: 1_000 }));
    }
    // Random bytes do not shrink: the limit alone counts.
    let bytes: Vec<u8> = (0..200_000_u32)
        .flat_map(|n| n.wrapping_mul(0x9e37_79b9).to_le_bytes())
        .collect();
    let packed = compress(Coding::Gzip, &bytes);
    for (max, end) in [
        (bytes.len() as u64, Ok(Scan::Done)),
        (
            bytes.len() as u64 - 1,
            Err(CodingError::TooLarge {
                max: bytes.len() as u64 - 1,
            }),
        ),
    ] {
        let mut scanner = MessageScanner::new(&plan, settings(Coding::Gzip, max));
        scanner
            .begin(true, u32::try_from(packed.len()).unwrap())
            .unwrap();
        let pushed = scanner.push(&mut packed.as_slice());
        assert_eq!(pushed.and_then(|_| scanner.end()), end);
    }
}

#[test]
fn every_part_of_a_gzip_stream_is_followed() {
    let plan = plan(TYPES[0]);
    let raw = |value: &[u8]| {
        let gzip = compress(Coding::Gzip, &[b"\x0a\x01", value].concat());
        gzip[10..].to_vec()
    };
    // Extra field, name, comment and header checksum, then a second member.
    let head = b"\x1f\x8b\x08\x1e\0\0\0\0\0\xff\x03\0abcname\0comment\0\x12\x34";
    let member = [&head[..], &raw(b"a")].concat();
    let plain = compress(Coding::Gzip, b"\x0a\x01b");
    let stream = [&member[..], &plain].concat();
    for size in [1, 3, usize::MAX] {
        let (pairs, _, end) = scan(&plan, Coding::Gzip, &[(true, &stream)], &[size], 1_000);
        assert_eq!(pairs, ["a", "b"].map(|value| (1, value.to_owned())).into());
        assert_eq!(end, Ok(()));
    }
    for (bad, error) in [
        (&b""[..], CodingError::Truncated),
        (b"\x1f", CodingError::Truncated),
        (b"\x1f\x8b\x07", CodingError::Corrupt),
        (b"\x1f\x8b\x08\xe0", CodingError::Corrupt),
        (b"\x0a\x01a", CodingError::Corrupt),
    ] {
        let (_, _, end) = scan(&plan, Coding::Gzip, &[(true, bad)], &[1], 1_000);
        assert_eq!(end, Err(error), "{bad:?}");
    }
    let trailing = [&plain[..], b"x"].concat();
    assert_eq!(
        scan(&plan, Coding::Gzip, &[(true, &trailing)], &[2], 9).2,
        Err(CodingError::Corrupt)
    );
    let zlib = [&compress(Coding::Deflate, b"\x0a\x01b")[..], b"\0"].concat();
    assert_eq!(
        scan(&plan, Coding::Deflate, &[(true, &zlib)], &[2], 9).2,
        Err(CodingError::Corrupt)
    );
    let members = compress(Coding::Gzip, b"").repeat(1_025);
    assert_eq!(
        scan(&plan, Coding::Gzip, &[(true, &members)], &[4_096], 9).2,
        Err(CodingError::Corrupt)
    );
}

#[test]
fn a_coding_that_cannot_be_read_is_an_error_and_not_silence() {
    for coding in [Coding::Identity, Coding::Zstd, Coding::Other] {
        assert!(!coding.is_readable());
        let (_, _, end) = scan(&plan(TYPES[0]), coding, &[(true, b"x")], &[1], 9);
        assert_eq!(end, Err(CodingError::Unreadable));
        assert_eq!(
            scan(&plan(TYPES[0]), coding, &[(false, b"\x0a\x01a")], &[1], 9)
                .0
                .len(),
            1
        );
    }
}

#[test]
fn types_without_subjects_cost_nothing() {
    let settings = ScanSettings {
        coding: Coding::Identity,
        max_decoded: MAX,
        subjects: 8,
    };
    let plain = plan("wire.sample.Plain");
    assert!(plain.is_empty());
    assert!(MessageScanner::new(&plain, settings).is_empty());
    assert!(!MessageScanner::new(&plan(TYPES[0]), settings).is_empty());
    let (pairs, counts, end) = scan(&plain, Coding::Identity, &[(false, b"\xff\xff")], &[1], 1);
    assert_eq!(
        (pairs.len(), counts, end),
        (0, ScanCounts::default(), Ok(()))
    );
}

#[test]
fn options_on_unfit_types_are_reported() {
    let wrong = plan("wire.sample.Wrong");
    assert_eq!(
        wrong.unusable(),
        [
            "wire.sample.Wrong.id",
            "wire.sample.Wrong.names",
            "wire.sample.Wrong.leaf"
        ]
    );
    // What lies inside is still found.
    let (pairs, _, _) = scan(
        &wrong,
        Coding::Identity,
        &[(false, b"\x1a\x03\x12\x01k")],
        &[1],
        9,
    );
    assert_eq!(pairs, [(3, "k".to_owned())].into());
    assert!(plan(TYPES[0]).unusable().is_empty());
}

#[test]
fn nesting_is_followed_to_a_depth_and_counted_beyond() {
    let plan = plan(TYPES[0]);
    let nested = |depth: usize| {
        let mut bytes = b"\x0a\x01a".to_vec();
        for _ in 0..depth {
            let mut outer = vec![0x12];
            crate::wire::tag::put_varint(bytes.len() as u64, &mut outer);
            bytes = [outer, bytes].concat();
        }
        bytes
    };
    let run = |bytes: &[u8]| {
        let (pairs, counts, end) = scan(&plan, Coding::Identity, &[(false, bytes)], &[1_000], 9);
        (pairs.len(), counts.malformed, end)
    };
    assert_eq!(run(&nested(100)), (1, 0, Ok(())));
    assert_eq!(run(&nested(101)), (0, 1, Ok(())));
    assert_eq!(run(&nested(5_000)), (0, 1, Ok(())));
    // Groups that nobody knows are nested too.
    assert_eq!(run(&[0x0b; 100_000]), (0, 1, Ok(())));
}

#[test]
fn debug_hides_the_value() {
    let subject = Subject {
        kind: 1,
        value: "37020019900101000X".to_owned(),
    };
    assert_eq!(format!("{subject:?}"), "Subject { kind: 1, .. }");
    let stored = banqiao_proto::ledger::v1::Subject::from(subject);
    assert_eq!((stored.kind, stored.value.len()), (1, 18));
}
