use banqiao_proto::ledger::v1::{Clock, Direction, Kind, Party, Side};
use banqiao_tlog::{frontier::Frontier, note::Signer};

use super::*;
use crate::{entry::VERSION, tree::Batch};

const ORIGIN: &str = "qingdao.jiaodong/ledger/1";

fn signer(name: &str, seed: u8) -> Signer {
    Signer::from_seed(name, &[seed; 32]).unwrap()
}

fn entry() -> Entry {
    Entry {
        version: VERSION,
        kind: Kind::Close.into(),
        uid: vec![1; 16],
        exchange: vec![2; 16],
        attempt: 1,
        side: Side::Provider.into(),
        client: Some(Party {
            spiffe_id: "spiffe://yantai.jiaodong/hospital/lab".into(),
            city: "370600".into(),
            ..Party::default()
        }),
        provider: Some(Party {
            city: "370200".into(),
            ..Party::default()
        }),
        method: "/a.B/C".into(),
        purpose: "medical-treatment".into(),
        basis: "emergency".into(),
        request: Some(Direction {
            root: vec![3; 32],
            count: 1,
            complete: true,
            ..Direction::default()
        }),
        response: Some(Direction {
            root: vec![4; 32],
            count: 1,
            complete: true,
            ..Direction::default()
        }),
        peer_receipt: vec![5; 32],
        time_us: 1_000_000_000,
        clock: Some(Clock {
            error_bound_us: 500,
            ..Clock::default()
        }),
        ..Entry::default()
    }
}

/// An entry that was committed third of five, behind 300 others.
fn appended(entry: &Entry, key: &Signer) -> Appended {
    let bytes = Bytes::from(entry.encode_to_vec());
    let mut before = Frontier::new();
    for n in 0..300_u32 {
        before.push(leaf_hash(&n.to_be_bytes()));
    }
    let mut after = before.clone();
    let mut leaves: Vec<_> = (0..5_u8).map(|n| leaf_hash(&[n])).collect();
    leaves[2] = leaf_hash(&bytes);
    for leaf in &leaves {
        after.push(*leaf);
    }
    let note = Checkpoint::new(key.verifier().name(), after.head())
        .unwrap()
        .sign(key)
        .unwrap();
    let batch = Batch::new(before, leaves, note.to_string().into());
    Appended::new(leaf_hash(&bytes), bytes, 302, Arc::new(batch))
}

fn check(bytes: &[u8], key: &Signer) -> Result<Proven, ReceiptError> {
    verify(
        bytes,
        ORIGIN,
        || vec![key.verifier().clone()],
        &KnownCheckpoints::new(),
    )
}

#[test]
fn receipt_proves_its_entry() {
    let key = signer(ORIGIN, 1);
    let receipt = appended(&entry(), &key).receipt().unwrap();
    let proven = check(&receipt.bytes, &key).unwrap();
    assert_eq!(*proven.entry, entry());
    assert_eq!((proven.index, proven.head.size), (302, 305));
    assert_eq!(proven.hash, receipt.hash);
}

#[test]
fn any_changed_byte_is_noticed() {
    let key = signer(ORIGIN, 1);
    let receipt = appended(&entry(), &key).receipt().unwrap();
    for at in 0..receipt.bytes.len() {
        let mut changed = receipt.bytes.to_vec();
        changed[at] ^= 0x20;
        if let Ok(proven) = check(&changed, &key) {
            panic!("byte {at} may be changed: {proven:?}");
        }
        changed.truncate(at);
        assert!(check(&changed, &key).is_err(), "cut at {at}");
    }
}

#[test]
fn foreign_key_and_origin_are_refused_also_when_the_checkpoint_is_known() {
    let key = signer(ORIGIN, 1);
    let receipt = appended(&entry(), &key).receipt().unwrap();
    let is_checkpoint = |outcome| matches!(outcome, Err(ReceiptError::Checkpoint(_)));
    assert!(is_checkpoint(check(&receipt.bytes, &signer(ORIGIN, 2))));
    let known = KnownCheckpoints::new();
    let keys = || vec![key.verifier().clone()];
    verify(&receipt.bytes, ORIGIN, keys, &known).unwrap();
    let other = verify(&receipt.bytes, "yantai.jiaodong/ledger/1", keys, &known);
    assert!(is_checkpoint(other));
    verify(&receipt.bytes, ORIGIN, Vec::new, &known).unwrap();
    known.clear();
    assert!(is_checkpoint(verify(
        &receipt.bytes,
        ORIGIN,
        Vec::new,
        &known
    )));
}

#[test]
fn oversized_receipt_is_neither_made_nor_read() {
    let key = signer(ORIGIN, 1);
    let mut large = entry();
    large.basis = "x".repeat(4_096);
    assert_eq!(appended(&large, &key).receipt(), None);
    assert_eq!(
        check(&[0; MAX_RECEIPT_BYTES + 1], &key),
        Err(ReceiptError::TooLarge)
    );
}

#[test]
fn each_disagreement_is_named() {
    let entry = entry();
    let (request, response) = (
        entry.request.clone().unwrap(),
        entry.response.clone().unwrap(),
    );
    let expected = Expected {
        kinds: &[Kind::Close, Kind::Refused],
        side: Side::Provider,
        exchange: &[2; 16],
        attempt: 1,
        client: "spiffe://yantai.jiaodong/hospital/lab",
        provider_city: "370200",
        provider: "",
        method: "/a.B/C",
        purpose: "medical-treatment",
        basis: "emergency",
        request: Some(&request),
        response: Some(&response),
        peer_receipt: Some(&[5; 32]),
        status: Some(0),
        now_us: Some((1_000_060_500, 60_000)),
    };
    assert_eq!(expected.disagreement(&entry), None);

    let other = Direction {
        root: vec![9; 32],
        ..request.clone()
    };
    let cases: [(&str, Expected<'_>); 13] = [
        (
            "kind",
            Expected {
                kinds: &[Kind::Open],
                ..expected
            },
        ),
        (
            "side",
            Expected {
                side: Side::Consumer,
                ..expected
            },
        ),
        (
            "exchange",
            Expected {
                exchange: &[3; 16],
                ..expected
            },
        ),
        (
            "attempt",
            Expected {
                attempt: 2,
                ..expected
            },
        ),
        (
            "client",
            Expected {
                client: "spiffe://yantai.jiaodong/hospital/other",
                ..expected
            },
        ),
        (
            "provider",
            Expected {
                provider_city: "370700",
                ..expected
            },
        ),
        (
            "provider",
            Expected {
                provider: "spiffe://qingdao.jiaodong/a/b",
                ..expected
            },
        ),
        (
            "method",
            Expected {
                method: "/a.B/D",
                ..expected
            },
        ),
        (
            "purpose",
            Expected {
                purpose: "statistics",
                ..expected
            },
        ),
        (
            "basis",
            Expected {
                basis: "consent:1",
                ..expected
            },
        ),
        (
            "request",
            Expected {
                request: Some(&other),
                ..expected
            },
        ),
        (
            "response",
            Expected {
                response: Some(&other),
                ..expected
            },
        ),
        (
            "status",
            Expected {
                status: Some(5),
                ..expected
            },
        ),
    ];
    for (field, case) in cases {
        assert_eq!(case.disagreement(&entry), Some(Disagreement::Field(field)));
    }
    assert_eq!(
        expected.naming(None).disagreement(&entry),
        Some(Disagreement::Field("peer_receipt"))
    );
    for now_us in [1_000_060_501, 999_939_499] {
        let late = Expected {
            now_us: Some((now_us, 60_000)),
            ..expected
        };
        assert_eq!(late.disagreement(&entry), Some(Disagreement::Time));
    }
    let cut = Direction {
        complete: false,
        ..other
    };
    let honest = Expected {
        request: Some(&cut),
        ..expected
    };
    assert_eq!(
        honest.disagreement(&entry),
        None,
        "an incomplete direction may differ"
    );
}
