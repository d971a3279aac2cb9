use std::time::Duration;

use super::*;
use crate::Disclosed;

/// The faults of the sample after a change, checked against directory and catalogue.
fn faults(change: impl FnOnce(&mut proto::Grant)) -> Vec<String> {
    let mut grant = sample();
    change(&mut grant);
    match Grant::parse(grant, Some(&DIRECTORY), Some(&CATALOG)) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.iter().map(ToString::to_string).collect(),
    }
}

#[test]
fn a_sound_grant_is_parsed() {
    let mut sound = sample();
    sound.methods = vec!["Free".to_owned(), "Bound".to_owned()];
    sound.disclosed_fields = ["parts.parts.name", "group:basic", "only"]
        .map(str::to_owned)
        .to_vec();
    sound.rate = Some(proto::Rate {
        calls: 10,
        per: Some(prost_types::Duration {
            seconds: 60,
            nanos: 0,
        }),
        burst: 0,
    });
    sound.not_after.as_mut().unwrap().nanos = 999_999_999;
    let grant = Grant::parse(sound.clone(), Some(&DIRECTORY), Some(&CATALOG)).unwrap();
    assert_eq!(grant.id(), sound.id);
    assert_eq!(
        (grant.not_before_us(), grant.not_after_us()),
        (10_000_000, 20_999_999)
    );
    let rate = grant.rate().unwrap();
    assert_eq!(
        (rate.calls, rate.per, rate.burst),
        (10, Duration::from_secs(60), 10)
    );
    assert_eq!(
        grant.disclosed(),
        [
            Disclosed::Field("parts.parts.name".into()),
            Disclosed::Group("basic".into()),
            Disclosed::Field("only".into())
        ]
    );
    assert_eq!(*grant.proto(), sound);
}

#[test]
fn every_fault_is_reported_at_once_with_its_field() {
    let broken = proto::Grant {
        id: "1".to_owned(),
        client: "pension".to_owned(),
        service: "t.v1.-".to_owned(),
        methods: ["Free", "Free", "no such"].map(str::to_owned).to_vec(),
        purposes: ["P", "p1", "p1", "p9"].map(str::to_owned).to_vec(),
        disclosed_fields: ["group:", "a..b", "x", "x"].map(str::to_owned).to_vec(),
        rate: Some(proto::Rate::default()),
        not_after: Some(prost_types::Timestamp {
            seconds: -1,
            nanos: 0,
        }),
        legal_basis: " ".to_owned(),
        request_number: "R\u{202e}1".to_owned(),
        revoked_at: Some(prost_types::Timestamp {
            seconds: i64::MAX,
            nanos: 0,
        }),
        ..Default::default()
    };
    let faults = Grant::parse(broken, Some(&DIRECTORY), None).unwrap_err();
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        faults,
        [
            "id: is not a UUIDv7",
            "client: names no client system: a SPIFFE ID has the form \
             spiffe://<trust domain>/<agency>/<system>: scheme",
            "service: is not a name of a service",
            "methods[1]: stands twice",
            "methods[2]: is not a name of a method",
            "purposes[0]: is not a name of a purpose",
            "purposes[2]: stands twice",
            "purposes[3]: the directory lists no such purpose",
            "disclosed_fields[0]: is not a name of a disclosure group",
            "disclosed_fields[1]: is not a name of a field",
            "disclosed_fields[3]: stands twice",
            "rate.calls: must be at least 1",
            "rate.per: must be more than zero and at most 31 days",
            "not_before: is required",
            "not_after: is not a moment between the years 1970 and 9999",
            "legal_basis: is required",
            "request_number: must be at most 500 characters without control characters",
            "revoked_at: is not a moment between the years 1970 and 9999",
        ]
    );
}

#[test]
fn what_is_stored_in_plain_names_nobody() {
    let told = "must not hold a citizen's identity number, for it is stored in plain";
    assert_eq!(
        faults(|grant| grant.legal_basis = "consent of 11010519491231002X".to_owned()),
        [format!("legal_basis: {told}")]
    );
    assert_eq!(
        faults(|grant| grant.request_number = "11010519491231002X".to_owned()),
        [format!("request_number: {told}")]
    );
}

#[test]
fn clients_are_systems_of_a_listed_city() {
    for pattern in [
        "spiffe://yantai.jiaodong/hrss/*",
        "spiffe://yantai.jiaodong/*",
    ] {
        assert_eq!(faults(|grant| grant.client = pattern.to_owned()), [""; 0]);
    }
    assert_eq!(
        faults(|grant| grant.client = "spiffe://weihai.jiaodong/hrss/pension".to_owned()),
        ["client: the directory lists no city with the trust domain weihai.jiaodong"]
    );
    assert_eq!(
        faults(|grant| grant.client = "spiffe://yantai.jiaodong/gateway".to_owned()).len(),
        1
    );
    assert_eq!(
        faults(|grant| grant.client.clear()),
        ["client: is required"]
    );
}

#[test]
fn what_is_not_shared_cannot_be_granted() {
    assert_eq!(
        faults(|grant| grant.methods = vec!["Secret".to_owned(), "Free".to_owned()]),
        ["methods[0]: is not shared (不予共享) and cannot be granted"]
    );
    assert_eq!(
        faults(|grant| grant.service = "t.v1.Hidden".to_owned()),
        ["service: is not shared (不予共享) and cannot be granted"]
    );
}

#[test]
fn purposes_are_those_of_directory_and_methods() {
    assert_eq!(
        faults(|grant| grant.purposes.clear()),
        ["purposes: is required"]
    );
    assert_eq!(
        faults(|grant| grant.purposes = vec!["p4".to_owned()]),
        [""; 0]
    );
    assert_eq!(
        faults(|grant| {
            grant.methods = vec!["Bound".to_owned()];
            grant.purposes = vec!["p1".to_owned(), "p4".to_owned()];
        }),
        ["purposes[1]: none of the granted methods allows this purpose"]
    );
    assert_eq!(
        faults(|grant| {
            grant.methods = vec!["Bound".to_owned(), "Free".to_owned()];
            grant.purposes = vec!["p4".to_owned()];
        }),
        ["methods[0]: allows none of the granted purposes"]
    );
}

#[test]
fn what_is_named_must_exist() {
    assert_eq!(
        faults(|grant| grant.service = "t.v1.C".to_owned()),
        ["service: the catalogue has no such service"]
    );
    assert_eq!(
        faults(|grant| grant.methods = vec!["free".to_owned()]),
        ["methods[0]: the service has no such method"]
    );
    assert_eq!(
        faults(|grant| {
            grant.methods = vec!["Bound".to_owned()];
            grant.disclosed_fields = ["name", "only.more", "group:basic", "only"]
                .map(str::to_owned)
                .to_vec();
        }),
        [
            "disclosed_fields[0]: no response of the granted methods has this field",
            "disclosed_fields[1]: no response of the granted methods has this field",
            "disclosed_fields[2]: no response of the granted methods has this disclosure group",
        ]
    );
    // Stored grants load without a catalogue: what it lost since is refused when it is called.
    let mut stored = sample();
    stored.service = "t.v1.Gone".to_owned();
    assert!(Grant::parse(stored, None, None).is_ok());
}

#[test]
fn a_validity_has_a_beginning_and_an_end() {
    let order = ["not_after: must lie after not_before"];
    assert_eq!(faults(|grant| grant.not_after = grant.not_before), order);
    assert_eq!(faults(|grant| grant.not_after = Some(at(9))), order);
    assert_eq!(
        faults(|grant| grant.not_after = None),
        ["not_after: is required"]
    );
    assert_eq!(
        faults(|grant| grant.not_after.as_mut().unwrap().nanos = -1),
        ["not_after: is not a moment between the years 1970 and 9999"]
    );
}

#[test]
fn a_grant_fits_into_an_entry() {
    let many = |grant: &mut proto::Grant| {
        grant.disclosed_fields = (0..400)
            .map(|at| format!("f{at}{}", "x".repeat(100)))
            .collect();
    };
    let mut grant = sample();
    many(&mut grant);
    let faults = Grant::parse(grant, None, None).unwrap_err();
    assert_eq!(faults[0].to_string(), "grant: has more than 32 KiB");
}

#[test]
fn ids_are_canonical() {
    let upper = uuid(10).to_uppercase();
    let v4 = Uuid::from_u128(0x4000_8000_0000_0000_0000).to_string();
    for id in [
        "",
        &uuid(10).replace('-', ""),
        &upper,
        &format!("{{{}}}", uuid(10)),
        &v4,
    ] {
        assert_eq!(
            faults(|grant| grant.id = id.to_owned()),
            ["id: is not a UUIDv7"],
            "{id}"
        );
    }
}
