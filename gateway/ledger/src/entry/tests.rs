use banqiao_proto::{
    exchange::v1::{CityOutcome, Outcomes},
    ledger::v1::{
        AdminChange, Clock, Decision, Direction, Epoch, Erase, Frontier, KeyChange, Party, Read,
        Reconciled, ReconciledCount, Replica, Result as CallResult, Summary, SummaryCount,
    },
};
use proptest::prelude::*;

use super::*;

fn minimal() -> Entry {
    Entry {
        version: VERSION,
        suite: 1,
        kind: 1,
        uid: vec![7; 16],
        ..Entry::default()
    }
}

fn refused(bytes: &[u8]) -> EntryError {
    decode(bytes).expect_err("the bytes are not canonical")
}

#[test]
fn known_entry_has_a_known_encoding() {
    let mut entry = minimal();
    entry.method = "/a.B/C".into();
    entry.time_us = 1;
    let bytes = encode(&mut entry).unwrap();
    assert_eq!(
        hex::encode(&bytes),
        "0801100118012210070707070707070707070707070707075206\
         2f612e422f43a00101"
    );
    assert_eq!(decode(&bytes), Ok(Decoded::Entry(Box::new(entry))));
}

#[test]
fn writer_brings_an_entry_to_canonical_form() {
    let mut entry = minimal();
    // "é" as two code points, and submessages that say nothing.
    entry.purpose = "caf\u{65}\u{301}".into();
    entry.client = Some(Party::default());
    entry.decision = Some(Decision::default());
    let bytes = encode(&mut entry).unwrap();
    assert_eq!(entry.purpose, "caf\u{e9}");
    assert_eq!((&entry.client, &entry.decision), (&None, &None));
    assert_eq!(decode(&bytes), Ok(Decoded::Entry(Box::new(entry))));
}

#[test]
fn other_encodings_of_the_same_content_are_refused() {
    let canonical = encode(&mut minimal()).unwrap();
    let with = |tail: &[u8]| [&canonical[..], tail].concat();
    // An unknown field, an explicit default, a repeated field, an empty submessage, a field out of order.
    for tail in [
        &[0xf8, 0x06, 0x01][..],
        &[0x30, 0x00],
        &[0x30, 0x01, 0x30, 0x02],
        &[0x42, 0x00],
        &[0x10, 0x01],
    ] {
        assert_eq!(refused(&with(tail)), EntryError::NotCanonical, "{tail:?}");
    }
    // A varint that is longer than it need be.
    assert_eq!(
        refused(&[&[0x08, 0x81, 0x00], &canonical[2..]].concat()),
        EntryError::NotCanonical
    );
    // A string that is not in normalisation form C.
    let mut decomposed = minimal();
    decomposed.purpose = "e\u{301}".into();
    assert_eq!(
        refused(&decomposed.encode_to_vec()),
        EntryError::NotCanonical
    );
}

#[test]
fn faults_are_named() {
    assert_eq!(refused(b""), EntryError::Version);
    assert_eq!(refused(&[0x08, 0x00]), EntryError::Version);
    assert_eq!(refused(&[0x10, 0x01]), EntryError::Version);
    assert!(matches!(
        refused(&[0x08, 0x01, 0x22, 0x7f]),
        EntryError::Malformed(_)
    ));
    assert_eq!(
        refused(&vec![0x08; MAX_ENTRY_BYTES + 1]),
        EntryError::TooLarge(65_536)
    );
    let mut short = minimal();
    short.uid = vec![1; 15];
    assert_eq!(
        encode(&mut short),
        Err(EntryError::Length {
            field: "uid",
            length: 15
        })
    );
    let mut long = minimal();
    long.basis = "x".repeat(70_000);
    assert!(matches!(encode(&mut long), Err(EntryError::TooLarge(_))));
}

#[test]
fn newer_version_stays_uninterpreted() {
    assert_eq!(
        decode(&[0x08, 0x02, 0xff, 0xff]),
        Ok(Decoded::Newer { version: 2 })
    );
}

fn bytes(length: usize) -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), length..=length)
    ]
}

fn text() -> impl Strategy<Value = String> {
    // Ordinary text, and what normalisation and parsers trip over.
    prop_oneof![
        "[a-z:/.]{0,20}",
        "\\PC{0,12}",
        Just("e\u{301}\u{0}\r\n".to_owned()),
        Just("办件".to_owned())
    ]
}

prop_compose! {
    fn party()(
        spiffe_id in text(), city in text(), agency in text(), key_sha256 in bytes(32),
    ) -> Party {
        Party { spiffe_id, city, agency, key_sha256 }
    }
}

prop_compose! {
    fn direction()(
        root in bytes(32), count in any::<u64>(), bytes in any::<u64>(), encoding in 0..6_i32,
        complete in any::<bool>(), hashes in prop::collection::vec(any::<[u8; 32]>(), 0..4),
    ) -> Direction {
        let hashes = hashes.iter().map(|hash| hash.to_vec()).collect();
        let frontiers = vec![Frontier { count, hashes }];
        Direction { root, count, bytes, encoding, complete, frontiers }
    }
}

prop_compose! {
    fn call()(
        exchange in bytes(16), attempt in any::<u32>(), side in 0..5_i32,
        client in prop::option::of(party()), provider in prop::option::of(party()),
        method in text(), descriptor_digest in bytes(32), purpose in text(), basis in text(),
        request in prop::option::of(direction()), response in prop::option::of(direction()),
    ) -> Entry {
        Entry {
            exchange, attempt, side, client, provider, method, descriptor_digest, purpose, basis,
            request, response, ..Entry::default()
        }
    }
}

prop_compose! {
    fn entry()(
        call in call(), kind in 0..14_i32, uid in bytes(16), time_us in any::<i64>(),
        grant_id in text(), reason in 0..60_i32, interrupted in any::<bool>(), closed_by in text(),
        error_bound_us in any::<u64>(), boot in bytes(16), counter in any::<u64>(),
        texts in prop::array::uniform4(text()), before in bytes(32), shown in any::<u64>(),
        gap in any::<bool>(), digest in bytes(32),
    ) -> Entry {
        let [one, two, three, four] = texts;
        Entry {
            version: VERSION, suite: 1, kind, uid, time_us,
            decision: Some(Decision { grant_id, reason, ..Decision::default() }),
            result: Some(CallResult { interrupted, closed_by, ..CallResult::default() }),
            clock: Some(Clock { source: 1, error_bound_us }),
            replica: Some(Replica { id: one.clone(), boot, counter }),
            summary: Some(Summary {
                gap, counts: vec![SummaryCount { reason, client: two.clone(), count: shown }],
                ..Summary::default()
            }),
            admin: Some(AdminChange {
                action: one, actor: two, target: three.clone(), before, after: Vec::new(),
            }),
            epoch: Some(Epoch {
                epoch: counter, predecessor: three.clone(), checkpoint: four.clone(),
                receipts: vec![vec![7; 32]], lost: shown,
            }),
            key: Some(KeyChange {
                old_key: four.clone(), old_signature: vec![1; 64], overlap_until_us: time_us,
                ..KeyChange::default()
            }),
            read: Some(Read { actor: three.clone(), query: four.clone(), shown }),
            erase: Some(Erase {
                proposal: three.clone(), basis: four.clone(), indices: vec![shown, counter],
                floors: vec![three.clone()], private_parts: shown, ..Erase::default()
            }),
            reconciled: Some(Reconciled {
                city: three, actor: four, exchanges: shown, from_us: time_us, report_digest: digest,
                counts: vec![ReconciledCount { discrepancy_class: 3, count: shown }],
                ..Reconciled::default()
            }),
            outcomes: Some(Outcomes {
                cities: vec![CityOutcome {
                    city: "370600".to_owned(), result: 1, messages: shown,
                    receipt_sha256: vec![7; 32], ..CityOutcome::default()
                }],
            }),
            ..call
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_can_be_read(mut entry in entry()) {
        let bytes = encode(&mut entry).unwrap();
        prop_assert_eq!(decode(&bytes), Ok(Decoded::Entry(Box::new(entry))));
    }

    #[test]
    fn canonical_bytes_are_the_only_ones_of_their_content(
        mut entry in entry(), at in any::<prop::sample::Index>(), to in any::<u8>(),
    ) {
        let bytes = encode(&mut entry).unwrap();
        let mut changed = bytes.clone();
        *at.get_mut(&mut changed) = to;
        if let Ok(Decoded::Entry(other)) = decode(&changed) {
            prop_assert_eq!(changed == bytes, *other == entry);
        }
    }

    #[test]
    fn any_bytes_are_read_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decode(&bytes);
        let _ = decode(&[&[0x08, 0x01], &bytes[..]].concat());
    }
}
