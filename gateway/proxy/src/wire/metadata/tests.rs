use proptest::prelude::*;

use super::*;

const ID: &str = "01919b5f-6a2b-7c3d-8e4f-0123456789ab/1";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                name.parse::<HeaderName>().unwrap(),
                HeaderValue::from_bytes(value.as_bytes()).unwrap(),
            )
        })
        .fold(HeaderMap::new(), |mut map, (name, value)| {
            map.append(name, value);
            map
        })
}

/// What a hop needs, as a sound request carries it.
fn sound(hop: Hop) -> Vec<(&'static str, &'static str)> {
    let mut pairs = vec![
        ("content-type", "application/grpc"),
        ("x-own", "passes"),
        ("banqiao-purpose", "card-service"),
        (
            "banqiao-basis",
            "statutory:%E7%A4%BE%E4%BC%9A%E4%BF%9D%E9%99%A9%E6%B3%95 58",
        ),
    ];
    if hop != Hop::GatewayToService {
        pairs.push(("banqiao-to", "370200"));
    }
    if hop != Hop::ClientToGateway {
        pairs.push(("banqiao-exchange-id", ID));
        pairs.push(("banqiao-client", "spiffe://yantai.jiaodong/health/lab"));
    }
    pairs
}

const HOPS: [Hop; 3] = [
    Hop::ClientToGateway,
    Hop::GatewayToGateway,
    Hop::GatewayToService,
];

fn with(hop: Hop, name: &'static str, value: &'static str) -> Result<Reserved, MetadataFault> {
    let mut pairs = sound(hop);
    pairs.retain(|(known, _)| *known != name);
    pairs.push((name, value));
    check_request(&headers(&pairs), hop)
}

#[test]
fn sound_requests_are_read_on_each_hop() {
    for hop in HOPS {
        let reserved = check_request(&headers(&sound(hop)), hop).unwrap();
        assert_eq!(reserved.purpose, "card-service");
        assert_eq!(reserved.basis.kind(), BasisKind::Statutory);
        assert_eq!(reserved.basis.text(), "社会保险法 58");
        assert_eq!(
            reserved.basis.as_sent(),
            "statutory:%E7%A4%BE%E4%BC%9A%E4%BF%9D%E9%99%A9%E6%B3%95 58"
        );
        assert_eq!(reserved.to.is_some(), hop != Hop::GatewayToService);
        assert_eq!(reserved.client.is_some(), hop != Hop::ClientToGateway);
        if let Some(exchange) = reserved.exchange {
            assert_eq!(exchange.attempt, 1);
            assert_eq!(exchange.header_value(), ID);
        }
        assert_eq!(reserved.operator, None);
    }
}

#[test]
fn each_name_stands_only_on_the_hops_of_the_table() {
    for (_, rule) in reasons().metadata() {
        for hop in HOPS {
            let mut pairs = sound(hop);
            pairs.retain(|(known, _)| *known != rule.name);
            pairs.push((&rule.name, "x"));
            let refused = matches!(
                check_request(&headers(&pairs), hop),
                Err(MetadataFault::Reserved { name }) if name == rule.name
            );
            assert_eq!(refused, !hop.allows(rule), "{} on {hop:?}", rule.name);
        }
    }
}

#[test]
fn what_a_hop_requires_is_required() {
    for hop in HOPS {
        for (name, _) in sound(hop)
            .into_iter()
            .filter(|(name, _)| name.starts_with("banqiao-"))
        {
            let mut pairs = sound(hop);
            pairs.retain(|(known, _)| *known != name);
            let fault = check_request(&headers(&pairs), hop).unwrap_err();
            assert_eq!(
                fault,
                MetadataFault::Missing {
                    name: NAMES
                        .iter()
                        .find(|(_, rule)| rule.name == name)
                        .map(|(_, rule)| rule.name.as_str())
                        .unwrap()
                }
            );
            assert_eq!(fault.reason(), Reason::MetadataInvalid);
        }
    }
}

#[test]
fn other_names_of_the_prefix_are_refused_in_every_spelling() {
    for name in [
        "banqiao-client",
        "banqiao_client",
        "banqiao_to",
        "banqiao_purpose",
        "banqiao-exchange_id",
        "banqiao-client-bin",
        "banqiao-purpose-bin",
        "banqiao-receipt-bin",
        "banqiao-",
        "banqiao_",
        "banqiao--to",
        "banqiao-x",
    ] {
        let mut pairs = sound(Hop::ClientToGateway);
        pairs.push((name, "spiffe://yantai.jiaodong/health/lab"));
        let fault = check_request(&headers(&pairs), Hop::ClientToGateway).unwrap_err();
        assert_eq!(fault.field(), name);
        assert_eq!(fault.reason(), Reason::MetadataReserved);
    }
    let long = format!("banqiao-{}", "x".repeat(1_000));
    let mut pairs = sound(Hop::ClientToGateway);
    pairs.push((&long, ""));
    assert_eq!(
        check_request(&headers(&pairs), Hop::ClientToGateway)
            .unwrap_err()
            .field()
            .len(),
        64
    );
    // Not of the prefix.
    for name in ["banqiao", "banqiaoto", "x-banqiao-to"] {
        let mut pairs = sound(Hop::ClientToGateway);
        pairs.push((name, "x"));
        assert!(
            check_request(&headers(&pairs), Hop::ClientToGateway).is_ok(),
            "{name}"
        );
    }
}

#[test]
fn a_name_that_stands_twice_is_refused() {
    for hop in HOPS {
        for (name, value) in sound(hop)
            .into_iter()
            .filter(|(name, _)| name.starts_with("banqiao-"))
        {
            let mut pairs = sound(hop);
            pairs.push((name, value));
            let fault = check_request(&headers(&pairs), hop).unwrap_err();
            assert!(
                matches!(fault, MetadataFault::Duplicate { .. }),
                "{fault:?}"
            );
            assert_eq!(
                (fault.field(), fault.reason()),
                (name, Reason::MetadataReserved)
            );
        }
    }
}

#[test]
fn values_are_parsed_strictly() {
    let client = Hop::ClientToGateway;
    let between = Hop::GatewayToGateway;
    for (hop, name, value) in [
        (client, "banqiao-to", "370202"),
        (client, "banqiao-to", "**"),
        (client, "banqiao-to", ""),
        (client, "banqiao-to", "370200,370600"),
        (client, "banqiao-to", "spiffe://qingdao.jiaodong"),
        (client, "banqiao-to", "qingdao.jiaodong"),
        (client, "banqiao-purpose", ""),
        (client, "banqiao-purpose", "Card-Service"),
        (client, "banqiao-purpose", "card service"),
        (client, "banqiao-purpose", "card%2Dservice"),
        (client, "banqiao-basis", "statutory"),
        (client, "banqiao-basis", "statutory:"),
        (client, "banqiao-basis", "statutory:%20"),
        (client, "banqiao-basis", "statutory%3Alaw"),
        (client, "banqiao-basis", "emergency:now"),
        (client, "banqiao-basis", "Emergency"),
        (client, "banqiao-basis", "consent:%0A"),
        (client, "banqiao-operator", "%"),
        (client, "banqiao-operator", "%4"),
        (client, "banqiao-operator", "%zz"),
        (client, "banqiao-operator", "%FF"),
        (client, "banqiao-operator", "a%00b"),
        (client, "banqiao-operator", "a\tb"),
        (client, "banqiao-operator", "%E2%80%AEabc"),
        (client, "banqiao-operator", "a%E2%80%8Bbc"),
        (client, "banqiao-operator", "%20"),
        (client, "banqiao-operator", "王"),
        (client, "banqiao-operator", " wang"),
        (
            between,
            "banqiao-exchange-id",
            "01919b5f-6a2b-7c3d-8e4f-0123456789ab",
        ),
        (
            between,
            "banqiao-exchange-id",
            "01919b5f-6a2b-7c3d-8e4f-0123456789ab/0",
        ),
        (
            between,
            "banqiao-exchange-id",
            "01919b5f-6a2b-7c3d-8e4f-0123456789ab/01",
        ),
        (
            between,
            "banqiao-exchange-id",
            "01919b5f-6a2b-7c3d-8e4f-0123456789ab/+1",
        ),
        (
            between,
            "banqiao-exchange-id",
            "01919B5F-6a2b-7c3d-8e4f-0123456789ab/1",
        ),
        (
            between,
            "banqiao-exchange-id",
            "01919b5f6a2b7c3d8e4f0123456789ab/1",
        ),
        (
            between,
            "banqiao-exchange-id",
            "01919b5f-6a2b-4c3d-8e4f-0123456789ab/1",
        ),
        (
            between,
            "banqiao-exchange-id",
            "01919b5f-6a2b-7c3d-8e4f-0123456789ab/4294967296",
        ),
        (
            between,
            "banqiao-client",
            "https://yantai.jiaodong/health/lab",
        ),
        (
            between,
            "banqiao-client",
            "spiffe://yantai.jiaodong/a,spiffe://yantai.jiaodong/b",
        ),
    ] {
        let fault = with(hop, name, value).unwrap_err();
        assert!(
            matches!(fault, MetadataFault::Invalid { .. }),
            "{name}: {value}: {fault:?}"
        );
        assert_eq!(
            (fault.field(), fault.reason()),
            (name, Reason::MetadataInvalid)
        );
    }
    assert_eq!(
        with(client, "banqiao-operator", "%E7%8E%8B 100%25")
            .unwrap()
            .operator
            .unwrap(),
        "王 100%"
    );
    assert_eq!(
        with(client, "banqiao-case", "2026-0001")
            .unwrap()
            .case_number
            .unwrap(),
        "2026-0001"
    );
    assert_eq!(
        with(client, "banqiao-basis", "emergency")
            .unwrap()
            .basis
            .kind(),
        BasisKind::Emergency
    );
    let consent = with(client, "banqiao-basis", "consent:2026:7")
        .unwrap()
        .basis;
    assert_eq!(
        (consent.kind(), consent.text()),
        (BasisKind::Consent, "2026:7")
    );
    let to = with(client, "banqiao-to", "spiffe://qingdao.jiaodong/hrss/card")
        .unwrap()
        .to
        .unwrap();
    assert!(matches!(to, Target::System(_)));
    let all = with(client, "banqiao-to", "*").unwrap().to;
    assert_eq!(all, Some(Target::All));
    assert_eq!(to.as_str(), "spiffe://qingdao.jiaodong/hrss/card");
}

#[test]
fn what_is_kept_in_plain_names_nobody() {
    for (name, value) in [
        ("banqiao-purpose", "11010519491231002x"),
        ("banqiao-basis", "consent:11010519491231002X"),
        ("banqiao-basis", "statutory:%311010519491231002X"),
        (
            "banqiao-to",
            "spiffe://qingdao.jiaodong/hrss/11010519491231002X",
        ),
    ] {
        let mut pairs = sound(Hop::ClientToGateway);
        pairs.retain(|(known, _)| *known != name);
        pairs.push((name, value));
        let fault = check_request(&headers(&pairs), Hop::ClientToGateway).unwrap_err();
        assert_eq!(
            (fault.field(), fault.reason()),
            (name, Reason::MetadataInvalid)
        );
        assert!(!fault.to_string().contains("0519491231"));
    }
    let mut pairs = sound(Hop::ClientToGateway);
    pairs.push(("banqiao-370202199001010007", "1"));
    let fault = check_request(&headers(&pairs), Hop::ClientToGateway).unwrap_err();
    assert_eq!(fault.field(), "banqiao-******************");
    // Who asked and about which case is encrypted, so it may be a person.
    for name in ["banqiao-operator", "banqiao-case"] {
        let mut pairs = sound(Hop::ClientToGateway);
        pairs.retain(|(known, _)| *known != name);
        pairs.push((name, "11010519491231002X"));
        check_request(&headers(&pairs), Hop::ClientToGateway).unwrap();
    }
}

#[test]
fn lengths_are_limited_after_decoding() {
    for (name, prefix, limit) in [
        ("banqiao-purpose", "", MAX_PURPOSE),
        ("banqiao-operator", "", MAX_OPERATOR),
        ("banqiao-case", "", MAX_OPERATOR),
        ("banqiao-basis", "statutory:", MAX_BASIS),
    ] {
        for (fill, width) in [("a", 1), ("%E7%8E%8B", 3)] {
            if width == 3 && name == "banqiao-purpose" {
                continue;
            }
            let times = (limit - prefix.len()) / width;
            for (times, fits) in [(times, true), (times + 1, false)] {
                let value = format!("{prefix}{}", fill.repeat(times));
                let mut pairs = sound(Hop::ClientToGateway);
                pairs.retain(|(known, _)| *known != name);
                pairs.push((name, &value));
                let outcome = check_request(&headers(&pairs), Hop::ClientToGateway);
                match outcome {
                    Ok(_) => assert!(fits, "{name}"),
                    Err(MetadataFault::TooLong {
                        name: at,
                        limit: of,
                    }) => {
                        assert!(!fits && at == name && of >= limit, "{name}");
                    }
                    Err(other) => panic!("{name}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn answers_lose_reserved_names() {
    let answer = [
        ("content-type", "application/grpc"),
        ("banqiao-exchange-id", ID),
        ("banqiao-client", "spiffe://yantai.jiaodong/health/lab"),
        ("banqiao-client", "again"),
        ("banqiao_exchange_id", ID),
        ("banqiao-new", "x"),
        ("x-own", "passes"),
    ];
    let mut from_gateway = headers(&answer);
    assert_eq!(strip_response(&mut from_gateway, Hop::GatewayToGateway), 4);
    assert_eq!(
        from_gateway,
        headers(&[
            ("content-type", "application/grpc"),
            ("banqiao-exchange-id", ID),
            ("x-own", "passes")
        ])
    );
    let mut from_service = headers(&answer);
    assert_eq!(strip_response(&mut from_service, Hop::GatewayToService), 5);
    assert_eq!(
        from_service,
        headers(&[("content-type", "application/grpc"), ("x-own", "passes")])
    );
    let mut twice = headers(&[("banqiao-exchange-id", ID), ("banqiao-exchange-id", ID)]);
    assert_eq!(strip_response(&mut twice, Hop::GatewayToGateway), 2);
    assert!(twice.is_empty());
}

proptest! {
    #[test]
    fn hostile_values_never_panic(
        name in 0..7_usize,
        hop in prop::sample::select(HOPS.to_vec()),
        value in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            let mut map = headers(&sound(hop));
            map.insert(HeaderName::from_bytes(NAMES[name].1.name.as_bytes()).unwrap(), value);
            if let Ok(reserved) = check_request(&map, hop) {
                let clean = |text: &Option<String>| {
                    text.as_ref().is_none_or(|text| !text.is_empty() && !text.contains(char::is_control))
                };
                prop_assert!(clean(&reserved.operator) && clean(&reserved.case_number));
                prop_assert!(reserved.basis.as_sent().is_ascii());
            }
        }
    }

    #[test]
    fn exchange_ids_round_trip(bytes in any::<[u8; 16]>(), attempt in 1..=u32::MAX) {
        let uuid = uuid::Builder::from_bytes(bytes)
            .with_version(uuid::Version::SortRand)
            .with_variant(uuid::Variant::RFC4122)
            .into_uuid();
        let id = ExchangeId { uuid, attempt };
        prop_assert_eq!(id.to_string().parse(), Ok(id));
    }
}
