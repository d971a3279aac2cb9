use proptest::prelude::*;
use tonic::{Code, Status};
use tonic_types::StatusExt;
use uuid::Uuid;

use super::*;

fn exchange() -> ExchangeId {
    "01919b5f-6a2b-7c3d-8e4f-0123456789ab/2".parse().unwrap()
}

/// Reads trailers as a gRPC client does.
fn client(trailers: &HeaderMap) -> Status {
    Status::from_header_map(trailers).unwrap()
}

#[test]
fn clients_read_every_reason_with_its_code_layer_and_remedy() {
    for (reason, rule) in reasons().all() {
        if rule.status == 0 {
            continue;
        }
        let trailers = Refusal::new(*reason).exchange(exchange()).trailers();
        let status = client(&trailers);
        let shown = if rule.shown_as() == Reason::Unspecified {
            *reason
        } else {
            rule.shown_as()
        };
        assert_eq!(
            status.code(),
            Code::from_i32(i32::try_from(reasons().rule(shown).status).unwrap())
        );
        assert_ne!(status.code(), Code::Ok);
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            (ReasonTable::name(shown), "banqiao")
        );
        assert_eq!(info.metadata["exchange-id"], exchange().to_string());
        assert_eq!(info.metadata["remedy"], reasons().rule(shown).remedy);
        assert!(!info.metadata["layer"].is_empty());
        assert_eq!(trailers["banqiao-exchange-id"], exchange().to_string());
        assert_eq!(reason_of(&trailers), Some(shown));
        assert_eq!(code_of(&trailers), Some(reasons().rule(shown).status));
        assert_eq!(message_of(&trailers).unwrap(), status.message());
        assert!(status.get_details_retry_info().is_none());
        assert!(status.get_details_bad_request().is_none());
    }
}

#[test]
fn a_reason_without_a_status_never_becomes_ok() {
    assert_eq!(
        code_of(&Refusal::new(Reason::CertificateRevoked).trailers()),
        Some(13)
    );
    assert_eq!(
        code_of(&Refusal::new(Reason::Interrupted).trailers()),
        Some(13)
    );
    assert_eq!(
        code_of(&Refusal::new(Reason::Unspecified).trailers()),
        Some(13)
    );
}

#[test]
fn an_unknown_service_looks_like_a_forbidden_one() {
    let unknown = Refusal::new(Reason::ServiceUnknown)
        .exchange(exchange())
        .message("no service x.Y in the catalogue")
        .violation("service", "unknown");
    let forbidden = Refusal::new(Reason::NotGranted).exchange(exchange());
    assert_eq!(unknown.text(), forbidden.text());
    assert_eq!(unknown.code(), forbidden.code());
    let [left, right] = [unknown, forbidden].map(|refusal| refusal.status(&refusal.text()));
    let info =
        |status: &pb::Status| pb::ErrorInfo::decode(status.details[0].value.as_slice()).unwrap();
    assert_eq!(
        (left.details.len(), info(&left)),
        (right.details.len(), info(&right))
    );
}

#[test]
fn details_carry_delay_and_fields() {
    let trailers = Refusal::new(Reason::RateExceeded)
        .message("10 calls in each minute: 100 % 用完\r\ngrpc-status: 0")
        .retry_after(Duration::from_millis(1_500))
        .violation("banqiao-purpose", "must be a purpose code")
        .trailers();
    assert_eq!(
        trailers["grpc-message"],
        "10 calls in each minute: 100 %25 %E7%94%A8%E5%AE%8C%0D%0Agrpc-status: 0"
    );
    let status = client(&trailers);
    assert_eq!(
        status.message(),
        "10 calls in each minute: 100 % 用完\r\ngrpc-status: 0"
    );
    assert_eq!(
        status.get_details_retry_info().unwrap().retry_delay,
        Some(Duration::from_millis(1_500))
    );
    let request = status.get_details_bad_request().unwrap();
    assert_eq!(request.field_violations[0].field, "banqiao-purpose");
    assert_eq!(
        request.field_violations[0].description,
        "must be a purpose code"
    );
}

#[test]
fn trailers_stay_small() {
    let mut refusal = Refusal::new(Reason::MetadataInvalid)
        .exchange(exchange())
        .message("桥".repeat(5_000));
    for _ in 0..100 {
        refusal = refusal.violation("f".repeat(5_000), "桥".repeat(5_000));
    }
    let trailers = refusal.trailers();
    let size: usize = trailers
        .iter()
        .map(|(name, value)| name.as_str().len() + value.len())
        .sum();
    assert!(size < 8 * 1024, "{size}");
    assert!(client(&trailers).message().chars().all(|c| c == '桥'));
}

#[test]
fn statuses_of_others_are_read_with_care() {
    let with = |name: &'static str, values: &[&'static str]| {
        let mut map = HeaderMap::new();
        for value in values {
            map.append(name, HeaderValue::from_static(value));
        }
        map
    };
    for (values, code) in [
        (&["0"][..], Some(0)),
        (&["16"], Some(16)),
        (&["99"], Some(99)),
        (&["0", "0"], None),
        (&["+1"], None),
        (&["-1"], None),
        (&[""], None),
        (&["1 "], None),
        (&["4294967296"], None),
        (&[], None),
    ] {
        assert_eq!(code_of(&with("grpc-status", values)), code, "{values:?}");
    }
    for (value, message) in [
        ("a%20b", "a b"),
        ("100%", "100%"),
        ("%zz%4", "%zz%4"),
        ("%FF", "\u{fffd}"),
        ("", ""),
    ] {
        assert_eq!(
            message_of(&with("grpc-message", &[value])).unwrap(),
            message
        );
    }
    let foreign = |domain: &str, reason: &str, url: &str| {
        let info = pb::ErrorInfo {
            reason: reason.into(),
            domain: domain.into(),
            metadata: HashMap::default(),
        };
        let detail = Any {
            type_url: url.into(),
            value: info.encode_to_vec(),
        };
        let status = pb::Status {
            code: 7,
            message: String::new(),
            details: vec![detail],
        };
        let mut map = HeaderMap::new();
        let padded = base64::engine::general_purpose::STANDARD.encode(status.encode_to_vec());
        map.insert(DETAILS, HeaderValue::try_from(padded).unwrap());
        map
    };
    let url = "type.googleapis.com/google.rpc.ErrorInfo";
    assert_eq!(
        reason_of(&foreign("banqiao", "NOT_GRANTED", url)),
        Some(Reason::NotGranted)
    );
    assert_eq!(reason_of(&foreign("banqiao", "UNSPECIFIED", url)), None);
    assert_eq!(reason_of(&foreign("banqiao", "NEWER", url)), None);
    assert_eq!(reason_of(&foreign("example.com", "NOT_GRANTED", url)), None);
    assert_eq!(
        reason_of(&foreign("banqiao", "NOT_GRANTED", "x/google.rpc.Help")),
        None
    );
    let twice = foreign("banqiao", "NOT_GRANTED", url);
    let mut map = twice.clone();
    map.append(DETAILS, twice[DETAILS].clone());
    assert_eq!(reason_of(&map), None);
}

proptest! {
    #[test]
    fn hostile_trailers_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut map = HeaderMap::new();
        if let Ok(value) = HeaderValue::from_bytes(&bytes) {
            map.insert(STATUS, value.clone());
            map.insert(MESSAGE, value.clone());
            map.insert(DETAILS, value);
            code_of(&map);
            message_of(&map);
            reason_of(&map);
        }
        map.insert(DETAILS, HeaderValue::try_from(BASE64.encode(&bytes)).unwrap());
        reason_of(&map);
    }

    #[test]
    fn messages_round_trip(text in ".{0,80}", attempt in 1..u32::MAX) {
        let id = ExchangeId { uuid: Uuid::now_v7(), attempt };
        let trailers = Refusal::new(Reason::Overloaded).message(text.clone()).exchange(id).trailers();
        prop_assert_eq!(message_of(&trailers), Some(text));
        prop_assert_eq!(trailers["banqiao-exchange-id"].to_str().unwrap().parse(), Ok(id));
    }
}
