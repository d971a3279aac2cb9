use banqiao_directory::ManualClock;
use banqiao_proto::{
    exchange::v1::{CityOutcome, Outcomes},
    ledger::v1::{AdminChange, Kind, Party, Subject},
};

use super::*;
use crate::{append::DocumentKind, entry::Decoded};

const NOW: i64 = 1_795_000_000_000_000;

fn preparer(folder: &tempfile::TempDir) -> Preparer {
    Preparer {
        clock: ManualClock::new(NOW).clock(),
        quality: proto::Clock {
            source: 1,
            error_bound_us: 0,
        },
        replica: "qingdao-1".into(),
        keyring: Keyring::open(folder.path().to_owned(), "370200".parse().unwrap()).unwrap(),
    }
}

fn replica(counter: u64) -> Replica {
    Replica {
        id: "qingdao-1".into(),
        boot: vec![9; 16],
        counter,
    }
}

fn call() -> Entry {
    Entry {
        kind: Kind::Open.into(),
        exchange: vec![5; 16],
        attempt: 1,
        side: 1,
        client: Some(Party {
            city: "370600".into(),
            ..Party::default()
        }),
        method: "/a.B/C".into(),
        ..Entry::default()
    }
}

#[test]
fn bytes_around_the_counter_are_canonical() {
    let folder = tempfile::tempdir().unwrap();
    let preparer = preparer(&folder);
    let mut entry = call();
    // Fields on the other side of the replica's, the last of them too.
    entry.outcomes = Some(Outcomes {
        cities: vec![CityOutcome {
            city: "370600".into(),
            ..CityOutcome::default()
        }],
    });
    entry.admin = Some(AdminChange {
        action: "grant.add".into(),
        ..AdminChange::default()
    });
    let prepared = preparer.prepare(Append::new(entry)).unwrap();
    for counter in [0, 1, 127, 128, 300, u64::MAX] {
        let bytes = prepared.bytes(&replica(counter));
        let Ok(Decoded::Entry(read)) = entry::decode(&bytes) else {
            panic!("counter {counter}")
        };
        assert_eq!(read.replica, Some(replica(counter)));
        assert_eq!(
            read.admin.map(|admin| admin.action),
            Some("grant.add".into())
        );
        assert_eq!(read.outcomes.map(|outcomes| outcomes.cities.len()), Some(1));
        assert_eq!((read.version, read.suite, read.time_us), (1, 1, NOW));
        assert_eq!(read.uid, prepared.uid);
    }
}

#[test]
fn private_part_leaves_only_its_commitment() {
    let folder = tempfile::tempdir().unwrap();
    let preparer = preparer(&folder);
    let private = PrivatePart {
        subjects: vec![Subject {
            kind: 1,
            value: "370202199001010001".into(),
        }],
        ..PrivatePart::default()
    };
    let prepared = preparer
        .prepare(Append::new(call()).with_private(private))
        .unwrap();
    let bytes = prepared.bytes(&replica(0));
    assert!(
        !bytes
            .windows(18)
            .any(|window| window == b"370202199001010001")
    );
    let Ok(Decoded::Entry(read)) = entry::decode(&bytes) else {
        panic!()
    };
    assert_eq!(read.private_commitment.len(), 32);
    assert_eq!(prepared.private.as_ref().unwrap().tokens.len(), 1);

    let empty = Append::new(call()).with_private(PrivatePart::default());
    let prepared = preparer.prepare(empty).unwrap();
    assert!(prepared.private.is_none());
}

#[test]
fn what_callers_set_of_the_ledgers_own_fields_is_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let mut entry = call();
    entry.version = 99;
    entry.uid = vec![1; 3];
    entry.time_us = 1;
    entry.private_commitment = vec![1; 32];
    entry.replica = Some(replica(77));
    let prepared = preparer(&folder).prepare(Append::new(entry)).unwrap();
    let Ok(Decoded::Entry(read)) = entry::decode(&prepared.bytes(&replica(0))) else {
        panic!()
    };
    assert_eq!((read.version, read.time_us, read.uid.len()), (1, NOW, 16));
    assert!(read.private_commitment.is_empty());
    assert_eq!(read.replica, Some(replica(0)));
}

#[test]
fn largest_entry_fits_whatever_its_counter() {
    let folder = tempfile::tempdir().unwrap();
    let preparer = preparer(&folder);
    let (mut fits, mut fails) = (0, MAX_ENTRY_BYTES);
    while fails - fits > 1 {
        let middle = usize::midpoint(fits, fails);
        let entry = Entry {
            basis: "x".repeat(middle),
            ..call()
        };
        match preparer.prepare(Append::new(entry)) {
            Ok(prepared) => {
                assert!(prepared.bytes(&replica(u64::MAX)).len() <= MAX_ENTRY_BYTES);
                fits = middle;
            }
            Err(error) => {
                assert_eq!(error, AppendError::TooLarge);
                fails = middle;
            }
        }
    }
    assert!(fits > 65_000, "{fits}");
}

#[test]
fn faulty_appends_are_refused_before_they_reach_the_batch() {
    let folder = tempfile::tempdir().unwrap();
    let preparer = preparer(&folder);
    let refused = |append| preparer.prepare(append).map(|_| ()).unwrap_err();
    let entry = Entry {
        descriptor_digest: vec![1; 31],
        ..call()
    };
    assert!(matches!(
        refused(Append::new(entry)),
        AppendError::Invalid(_)
    ));
    let claim = Effect::Claim {
        consumer: "370600".into(),
    };
    let without = Entry {
        exchange: Vec::new(),
        ..call()
    };
    assert!(matches!(
        refused(Append::new(without).with(claim)),
        AppendError::Invalid(_)
    ));
    let peer = Effect::Open {
        peer: "x".repeat(3_000),
    };
    assert_eq!(
        refused(Append::new(call()).with(peer)),
        AppendError::TooLarge
    );
    let key = "x".repeat(3_000);
    let document = Effect::DeleteDocument {
        kind: DocumentKind::Grant,
        key,
    };
    assert_eq!(
        refused(Append::new(call()).with(document)),
        AppendError::TooLarge
    );
    let error_text = "x".repeat(70_000);
    let private = PrivatePart {
        error_text,
        ..PrivatePart::default()
    };
    assert_eq!(
        refused(Append::new(call()).with_private(private)),
        AppendError::TooLarge
    );
}

#[test]
fn ids_grow_with_time() {
    assert!(new_id(NOW) < new_id(NOW + 1_000));
    assert_eq!(new_id(NOW).get_version_num(), 7);
    assert_eq!(new_id(-1).get_version_num(), 7);
}
