use super::*;
use crate::{
    SigningKey,
    sample::{City, Document, keys},
};

fn code(text: &str) -> CityCode {
    text.parse().unwrap()
}

/// Five cities, three of which sign; and the first version, verified.
fn network() -> (Vec<SigningKey>, Document, Directory) {
    let keys = keys(5);
    let document = Document::new(&keys, 3);
    let envelope = document.signed(&keys[..3]);
    let first = verify_first(&envelope, &envelope.digest()).unwrap();
    (keys, document, first)
}

#[test]
fn the_first_directory_is_the_pinned_one_and_signed() {
    let (keys, document, first) = network();
    let envelope = document.signed(&keys[..3]);
    assert_eq!(first.digest(), envelope.digest());
    let error = verify_first(&envelope, &[0; 32]).unwrap_err();
    assert!(matches!(error, DirectoryError::NotPinned { .. }));
    assert_eq!(error.reason(), Some(Reason::DirectoryUnsigned));
    let error = verify_first(&document.signed(&keys[..2]), &envelope.digest()).unwrap_err();
    assert!(matches!(
        error,
        DirectoryError::Unsigned { of: SignersOf::Offered, have: 2, need: 3, ref missing }
            if *missing == [code("370300"), code("370400"), code("370500")]
    ));
    assert_eq!(
        error.to_string(),
        "2 of the 3 signatures that the offered version's signers must give; \
         not signed by 370300, 370400, 370500"
    );
}

#[test]
fn versions_only_grow() {
    let (keys, document, first) = network();
    let next = document.next();
    let second = verify_next(&first, &next.signed(&keys[2..])).unwrap();
    assert_eq!(second.version(), 2);
    let same = verify_next(&second, &next.signed(&keys[..3])).unwrap_err();
    assert!(matches!(same, DirectoryError::AlreadyHeld { version: 2 }));
    assert_eq!(same.reason(), None);
    let back = verify_next(&second, &document.signed(&keys)).unwrap_err();
    assert!(matches!(
        back,
        DirectoryError::RolledBack {
            held: 2,
            offered: 1
        }
    ));
    assert_eq!(back.reason(), Some(Reason::DirectoryRolledBack));
    let mut other = next;
    other.purposes.push("audit".to_owned());
    let twice = verify_next(&second, &other.signed(&keys)).unwrap_err();
    assert!(matches!(
        twice,
        DirectoryError::RolledBack {
            held: 2,
            offered: 2
        }
    ));
}

#[test]
fn both_versions_thresholds_must_sign() {
    let (keys, document, first) = network();
    // 4 and 5 are replaced by 6, 7 and 8, who alone are a majority of nobody's.
    let new = crate::sample::keys(3);
    let mut next = document.next();
    next.cities.truncate(3);
    next.signers.truncate(3);
    for (at, key) in (6..).zip(&new) {
        let city = City::new(at);
        next.signers
            .push((city.code.clone(), key.public().to_string()));
        next.cities.push(city);
    }
    next.threshold = 4;
    let with = |old: &[SigningKey]| next.signed(old.iter().chain(&new));
    let error = verify_next(&first, &with(&keys[..2])).unwrap_err();
    assert!(matches!(
        error,
        DirectoryError::Unsigned {
            of: SignersOf::Held,
            have: 2,
            ..
        }
    ));
    let error = verify_next(&first, &next.signed(&keys[..3])).unwrap_err();
    assert!(matches!(
        error,
        DirectoryError::Unsigned {
            of: SignersOf::Offered,
            have: 3,
            ..
        }
    ));
    let error = verify_next(&first, &with(&keys[..3])).unwrap_err();
    assert!(
        matches!(&error, DirectoryError::CityUnsigned { missing }
            if *missing == [code("370400"), code("370500")]),
        "those who leave agree to it: {error}"
    );
    assert_eq!(verify_next(&first, &with(&keys)).unwrap().cities().len(), 6);
}

#[test]
fn one_city_cannot_sign_for_another() {
    let (keys, document, first) = network();
    let mut next = document.next();
    next.cities[4].gateways = vec!["evil.example:7443".to_owned()];
    let error = verify_next(&first, &next.signed(&keys[..4])).unwrap_err();
    assert!(
        matches!(&error, DirectoryError::CityUnsigned { missing } if *missing == [code("370500")])
    );
    assert_eq!(error.reason(), Some(Reason::DirectoryUnsigned));
    assert!(verify_next(&first, &next.signed(&keys[2..])).is_ok());
    // Its key in the offered version is not the one to ask.
    let thief = SigningKey::generate().unwrap();
    next.signers[4].1 = thief.public().to_string();
    let signed = next.signed(keys[..4].iter().chain([&thief]));
    assert!(matches!(
        verify_next(&first, &signed).unwrap_err(),
        DirectoryError::CityUnsigned { missing } if missing == [code("370500")]
    ));
    // A signature under another city's key id counts once, for the city whose key it is.
    let json = String::from_utf8(document.next().signed(&keys[..1]).to_json().unwrap()).unwrap();
    let forged = json.replace(&keys[0].public().id(), &keys[1].public().id());
    let forged = Envelope::parse(forged.as_bytes()).unwrap();
    assert!(matches!(
        verify_next(&first, &forged).unwrap_err(),
        DirectoryError::Unsigned { have: 0, .. }
    ));
}

#[test]
fn a_city_that_changes_its_key_signs_with_both() {
    let (mut keys, document, first) = network();
    let old = keys.remove(0);
    let new = SigningKey::generate().unwrap();
    let mut next = document.next();
    next.signers[0].1 = new.public().to_string();
    for (signers, accepted) in [
        (vec![], false),
        (vec![&old], false),
        (vec![&new], false),
        (vec![&old, &new], true),
    ] {
        let envelope = next.signed(keys.iter().chain(signers));
        assert_eq!(verify_next(&first, &envelope).is_ok(), accepted);
    }
}

#[test]
fn a_city_that_joins_signs_and_a_guest_needs_not() {
    let (keys, document, first) = network();
    let new = SigningKey::generate().unwrap();
    let mut next = document.next();
    let mut guest = City::new(7);
    guest.guest = true;
    next.cities.push(guest);
    let second = verify_next(&first, &next.signed(&keys[..3])).unwrap();
    let mut joined = next.next();
    joined.cities[5].guest = false;
    joined.threshold = 4;
    joined
        .signers
        .push(("370700".to_owned(), new.public().to_string()));
    assert!(matches!(
        verify_next(&second, &joined.signed(&keys)).unwrap_err(),
        DirectoryError::CityUnsigned { missing } if missing == [code("370700")]
    ));
    assert!(verify_next(&second, &joined.signed(keys.iter().chain([&new]))).is_ok());
}

#[test]
fn an_emergency_only_removes() {
    let (keys, document, first) = network();
    // City 5 is taken over: the others cut it off without it.
    let mut cut = document.next();
    cut.emergency = Some("keys of city 5 were stolen".to_owned());
    cut.cities.truncate(4);
    cut.signers.truncate(4);
    let second = verify_next(&first, &cut.signed(&keys[..3])).unwrap();
    assert_eq!(second.emergency(), Some("keys of city 5 were stolen"));
    assert!(matches!(
        verify_next(&first, &cut.signed(&keys[..2])).unwrap_err(),
        DirectoryError::Unsigned { .. }
    ));
    let quiet = Document {
        emergency: None,
        ..cut.clone()
    };
    assert!(matches!(
        verify_next(&first, &quiet.signed(&keys[..4])).unwrap_err(),
        DirectoryError::CityUnsigned { missing } if missing == [code("370500")]
    ));
    let refused = |change: &dyn Fn(&mut Document)| {
        let mut document = cut.clone();
        change(&mut document);
        let error = verify_next(&first, &document.signed(&keys)).unwrap_err();
        assert_eq!(error.reason(), Some(Reason::DirectoryUnsigned));
        let DirectoryError::Emergency { changes } = error else {
            panic!("{error}")
        };
        changes
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert_eq!(
        refused(&|d| d.cities[0].gateways = vec!["other.example:1".to_owned()]),
        "city 370100: gateway other.example:1 is added"
    );
    assert_eq!(
        refused(&|d| d.purposes.push("audit".to_owned())),
        "purposes: purpose audit 目的 Purpose is added"
    );
    assert!(refused(&|d| d.cities[0].certificates.push(vec![0x30, 1, 77])).contains("is added"));
    assert!(refused(&|d| d.cities[0].name = "Other".to_owned()).contains("name is"));
    assert_eq!(
        refused(&|d| d.threshold = 4),
        "signers: threshold is 4 instead of 3"
    );
    assert!(refused(&|d| d.expires = "2026-04-01T00:00:00Z".to_owned()).contains("expires is"));
    // The next ordinary version goes on from there.
    let third = Document {
        version: 3,
        emergency: None,
        ..cut.clone()
    };
    assert!(verify_next(&second, &third.signed(&keys[..3])).is_ok());
}

#[test]
fn parts_of_a_section_can_be_removed_in_an_emergency() {
    let (keys, mut document, _) = network();
    document.cities[4].certificates.push(vec![0x30, 1, 55]);
    document.cities[4]
        .gateways
        .push("second.example:1".to_owned());
    let first = document.parse();
    let mut cut = document.next();
    cut.emergency = Some("one CA of city 5 is broken".to_owned());
    cut.cities[4].certificates.remove(0);
    cut.cities[4].gateways.remove(0);
    cut.cities[4].systems.clear();
    cut.signers.truncate(4);
    let second = verify_next(&first, &cut.signed(&keys[..3])).unwrap();
    assert_eq!(second.cities()[4].ca_bundle, [[0x30, 1, 55]]);
}

#[test]
fn a_gateway_that_missed_versions_follows_each_step() {
    let (keys, document, first) = network();
    let pinned = document.signed(&keys[..3]);
    // Version 2 changes city 1, signed by it; versions 3 and 4 are signed by the others only.
    let mut second = document.next();
    second.cities[0].gateways = vec!["new.example:7443".to_owned()];
    let mut second_signed = second.signed(&keys[..3]);
    second_signed.follow(&pinned);
    let mut third_signed = second.next().signed(&keys[2..]);
    third_signed.follow(&second_signed);
    let fourth = second.next().next();
    let mut fourth_signed = fourth.signed(&keys[2..]);
    assert!(matches!(
        verify_next(&first, &fourth_signed).unwrap_err(),
        DirectoryError::CityUnsigned { .. }
    ));
    fourth_signed.follow(&third_signed);
    assert_eq!(fourth_signed.history().len(), 3);
    let held = verify_next(&first, &fourth_signed).unwrap();
    assert_eq!(held.version(), 4);
    // So does one that starts from the pin of the first version, or of one in between.
    for pin in [
        pinned.digest(),
        second_signed.digest(),
        fourth_signed.digest(),
    ] {
        assert_eq!(
            verify_first(&fourth_signed, &pin).unwrap().digest(),
            held.digest()
        );
    }
}

#[test]
fn history_that_does_not_verify_helps_nobody() {
    let (keys, document, first) = network();
    // The thief holds cities 4 and 5 and changes city 1.
    let mut forged = document.next();
    forged.cities[0].gateways = vec!["evil.example:7443".to_owned()];
    let link = forged.signed(&keys[3..]);
    let mut offered = forged.next().signed(&keys[3..]);
    offered.follow(&link);
    assert!(matches!(
        verify_next(&first, &offered).unwrap_err(),
        DirectoryError::Unsigned {
            of: SignersOf::Held,
            have: 2,
            need: 3,
            ..
        }
    ));
    // Even a majority that carries the end must carry the step at which the city changed.
    let mut offered = forged.next().signed(&keys[1..]);
    offered.follow(&link);
    assert!(matches!(
        verify_next(&first, &offered).unwrap_err(),
        DirectoryError::CityUnsigned { .. }
    ));
    // Rubbish in between does not stop what verifies.
    let good = document.next().signed(&keys[..3]);
    let mut end = document.next().next().signed(&keys[..3]);
    let mut rubbish = Envelope::new(b"rubbish".to_vec());
    rubbish.follow(&good);
    end.follow(&rubbish);
    assert_eq!(verify_next(&first, &end).unwrap().version(), 3);
}

#[test]
fn what_is_missing_is_said_in_words() {
    let (keys, document, first) = network();
    let mut next = document.next();
    next.cities[0].name = "Other".to_owned();
    let missing = missing_signatures(Some(&first), &next.signed(&keys[3..])).unwrap();
    assert_eq!(missing.len(), 3, "{missing:#?}");
    assert!(missing[2].contains("370100"));
    assert_eq!(
        missing_signatures(Some(&first), &next.signed(&keys)).unwrap(),
        [""; 0]
    );
    assert_eq!(
        missing_signatures(None, &document.signed(&keys[..1]))
            .unwrap()
            .len(),
        1
    );
    let unsound = Envelope::new(b"version = 1".to_vec());
    let error = verify_next(&first, &unsound).unwrap_err();
    assert!(matches!(error, DirectoryError::Document { .. }) && error.reason().is_none());
    assert!(missing_signatures(None, &unsound).is_err());
}
