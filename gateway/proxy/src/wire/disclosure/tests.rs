use banqiao_proto::card::v1::{CardState, VerifyCardResponse};
use proptest::prelude::*;
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage, Value};

use super::*;
use crate::wire::{
    tag::put_varint,
    tests::{descriptor, message, normal},
};

const TREE: &str = "wire.sample.Tree";
const OLD: &str = "wire.sample2.Old";

/// Names that a grant may disclose of the two samples.
const TREE_NAMES: [&str; 26] = [
    "id",
    "left",
    "left.id",
    "left.left.code",
    "left.branches.leaf.note",
    "branches",
    "branches.labels",
    "branches.branches.id",
    "named",
    "code",
    "leaf",
    "leaf.card",
    "leaf.attachment",
    "number",
    "packed",
    "unpacked",
    "fixed",
    "maybe",
    "maybe.value",
    "any",
    "anys",
    "signed",
    "colours",
    "leaves",
    "group:basic",
    "group:weights",
];
const OLD_NAMES: [&str; 9] = [
    "note",
    "inner",
    "inner.card",
    "inner.deeper.note",
    "inner.core",
    "many.id",
    "many.numbers",
    "olds.many",
    "group:basic",
];

fn mask(of: &str, names: &[&str]) -> DisclosureMask {
    DisclosureMask::for_message(&descriptor(of), names).unwrap()
}

fn filter(mask: &DisclosureMask, bytes: &[u8]) -> Result<Vec<u8>, DisclosureError> {
    let mut out = b"before".to_vec();
    let outcome = mask.filter(bytes, &mut out);
    assert!(
        outcome.is_ok() || out.len() == 6,
        "an error leaves the output as it was"
    );
    assert!(out.starts_with(b"before") && out.len() <= 6 + bytes.len());
    outcome.map(|()| out.split_off(6))
}

/// What a grant discloses, by editing the dynamic message. None where nothing of it is disclosed by name.
struct Oracle<'a> {
    names: &'a [&'a str],
}

impl Oracle<'_> {
    /// `path` is that of the message; none inside of a map, where no path leads.
    fn cut(&self, message: &DynamicMessage, path: Option<&str>) -> DynamicMessage {
        let mut kept = DynamicMessage::new(message.descriptor());
        for (field, value) in message.fields() {
            let path = path.map(|path| format!("{path}{}", field.name()));
            let named = path
                .as_ref()
                .is_some_and(|path| self.names.contains(&path.as_str()))
                || field_rule(&field).is_some_and(|rule| {
                    self.names
                        .contains(&format!("group:{}", rule.disclosure_group).as_str())
                });
            let value = if named {
                Self::whole(&field, value, true)
            } else if self.leads(&field.kind(), path.as_deref()) {
                let below = path
                    .map(|path| format!("{path}."))
                    .filter(|_| !field.is_map());
                Some(each(value, &|inner| self.cut(inner, below.as_deref())))
            } else {
                None
            };
            if let Some(value) = value {
                kept.set_field(&field, value);
            }
        }
        kept
    }

    /// Whether anything inside of a field is named.
    fn leads(&self, kind: &Kind, path: Option<&str>) -> bool {
        let Kind::Message(inner) = kind else {
            return false;
        };
        let groups = disclosure_groups(inner);
        path.is_some_and(|path| {
            self.names
                .iter()
                .any(|name| name.starts_with(&format!("{path}.")))
        }) || groups
            .iter()
            .any(|group| self.names.contains(&format!("group:{group}").as_str()))
    }

    fn whole(field: &FieldDescriptor, value: &Value, exact: bool) -> Option<Value> {
        let opaque = match field.kind() {
            Kind::Message(inner) if field.is_map() => is_any(&inner.map_entry_value_field().kind()),
            kind => is_any(&kind),
        };
        if opaque {
            return exact.then(|| value.clone());
        }
        if field.is_group() && !exact {
            return None;
        }
        Some(each(value, &|inner| {
            let mut kept = DynamicMessage::new(inner.descriptor());
            for (field, value) in inner.fields() {
                if let Some(value) = Self::whole(&field, value, false) {
                    kept.set_field(&field, value);
                }
            }
            kept
        }))
    }
}

/// The value with each message in it replaced.
fn each(value: &Value, replace: &dyn Fn(&DynamicMessage) -> DynamicMessage) -> Value {
    match value {
        Value::Message(inner) => Value::Message(replace(inner)),
        Value::List(values) => {
            Value::List(values.iter().map(|value| each(value, replace)).collect())
        }
        Value::Map(entries) => Value::Map(
            entries
                .iter()
                .map(|(key, value)| (key.clone(), each(value, replace)))
                .collect(),
        ),
        value => value.clone(),
    }
}

fn names(of: &str) -> impl Strategy<Value = Vec<&'static str>> + use<> {
    let all = if of == TREE {
        TREE_NAMES.to_vec()
    } else {
        OLD_NAMES.to_vec()
    };
    prop::sample::subsequence(all, 1..6)
}

/// Messages with fields of which the sample types know nothing, put in front, behind and inside.
fn with_unknown_fields(bytes: &[u8]) -> Vec<u8> {
    let unknown = b"\xa2\x06\x03abc\xab\x06\xa5\x06abcd\xac\x06\xd0\x0f\x01";
    let left = [
        b"\x12",
        &[u8::try_from(unknown.len()).unwrap()][..],
        unknown,
    ]
    .concat();
    [&unknown[..], bytes, &left, unknown].concat()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn filtering_is_decoding_cutting_and_encoding(
        seed in any::<u64>(),
        (of, names) in prop_oneof![
            names(TREE).prop_map(|names| (TREE, names)),
            names(OLD).prop_map(|names| (OLD, names)),
        ],
        extensions in any::<bool>(),
    ) {
        let sample = message(&descriptor(of), seed, extensions);
        let mask = mask(of, &names);
        let kept = normal(&Oracle { names: &names }.cut(&sample, Some("")));
        let out = filter(&mask, &sample.encode_to_vec()).unwrap();
        let decoded = DynamicMessage::decode(descriptor(of), out.as_slice()).unwrap();
        // Not `prop_assert_eq`: the `Debug` form of a recursive descriptor has no end.
        prop_assert!(decoded == kept, "{decoded}\n differs from\n{kept}");
        prop_assert_eq!(out.len(), kept.encoded_len());
        prop_assert_eq!(filter(&mask, &out).unwrap(), out);
    }

    #[test]
    fn what_no_descriptor_knows_is_dropped_at_every_depth(seed in any::<u64>(), names in names(TREE)) {
        let bytes = message(&descriptor(TREE), seed, false).encode_to_vec();
        let mask = mask(TREE, &names);
        let out = filter(&mask, &with_unknown_fields(&bytes)).unwrap();
        // The message `left` that was put behind is merged as an empty one.
        prop_assert_eq!(out, filter(&mask, &[&bytes[..], b"\x12\0"].concat()).unwrap());
    }

    #[test]
    fn hostile_messages_are_cut_or_refused(
        bytes in prop::collection::vec(prop_oneof![
            any::<u8>(),
            prop::sample::select(vec![0x0a, 0x12, 0x1a, 0x13, 0x14, 0x22, 0x2a, 0x32, 0x01, 0x80]),
        ], 0..300),
        (of, names) in prop_oneof![
            names(TREE).prop_map(|names| (TREE, names)),
            names(OLD).prop_map(|names| (OLD, names)),
        ],
    ) {
        let mask = mask(of, &names);
        if let Ok(out) = filter(&mask, &bytes) {
            // Cut once, there is nothing more to cut.
            prop_assert_eq!(filter(&mask, &out).unwrap(), out);
        } else {
            prop_assert!(DynamicMessage::decode(descriptor(of), bytes.as_slice()).is_err());
        }
    }
}

#[test]
fn values_laid_out_otherwise_are_not_the_named_field() {
    let mask = mask(TREE, &["id", "packed", "real", "left.id"]);
    for (bytes, kept) in [
        (&b"\x0a\x01a"[..], &b"\x0a\x01a"[..]),
        (b"\x08\x01", b""),
        (b"\x0d\x01\x02\x03\x04", b""),
        (b"\x0b\x0a\x01a\x0c", b""),
        (b"\x42\x02\x01\x02", b"\x42\x02\x01\x02"),
        (b"\x40\x01\x40\x02", b"\x40\x01\x40\x02"),
        (b"\x45\x01\x02\x03\x04", b""),
        (b"\x8a\x01\x08abcdefgh", b""),
        (b"\x89\x01abcdefgh", b"\x89\x01abcdefgh"),
        (b"\x10\x05", b""),
        // A length in more bytes than it needs comes out short.
        (b"\x12\x85\x80\x00\x0a\x01a\x28\x05", b"\x12\x03\x0a\x01a"),
    ] {
        assert_eq!(filter(&mask, bytes).unwrap(), kept, "{bytes:?}");
    }
}

#[test]
fn malformed_messages_are_refused() {
    let mask = mask(TREE, &["id", "left.id"]);
    for bytes in [
        &b"\x0a"[..],
        b"\x0a\x05a",
        b"\x00",
        b"\x0e",
        b"\x0c",
        b"\x0b",
        b"\x0b\x14",
        b"\x10",
        b"\x10\x80",
        b"\x11abc",
        b"\x15abc",
        b"\x12\x03\x0a\x02a",
        b"\x12\x01\x0c",
        b"\x8a\x80\x80\x80\x10\x01a",
        b"\xa2\x06\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ] {
        assert_eq!(
            filter(&mask, bytes),
            Err(DisclosureError::Malformed),
            "{bytes:?}"
        );
    }
}

#[test]
fn nesting_has_a_limit() {
    let mask = mask(TREE, &["left"]);
    let nested = |depth: usize| {
        let mut bytes = b"\x0a\x01a".to_vec();
        for _ in 0..depth {
            let mut outer = vec![0x12];
            put_varint(bytes.len() as u64, &mut outer);
            bytes = [outer, bytes].concat();
        }
        bytes
    };
    assert_eq!(filter(&mask, &nested(64)).unwrap(), nested(64));
    assert_eq!(filter(&mask, &nested(65)), Err(DisclosureError::TooDeep));
    assert_eq!(
        filter(&mask, &nested(10_000)),
        Err(DisclosureError::TooDeep)
    );
    assert_eq!(
        filter(&mask, &[0xab, 0x06].repeat(100_000)),
        Err(DisclosureError::TooDeep)
    );
    // What is not disclosed is passed over whole.
    let other = DisclosureMask::for_message(&descriptor(TREE), &["id"]).unwrap();
    assert_eq!(filter(&other, &nested(10_000)).unwrap(), b"");
}

#[test]
fn names_that_fit_no_field_are_refused() {
    let fault =
        |of: &str, names: &[&str]| DisclosureMask::for_message(&descriptor(of), names).unwrap_err();
    assert_eq!(fault(TREE, &[]), MaskError::Empty);
    for name in [
        "",
        "none",
        "id.x",
        "left.none",
        "leftid",
        "left.",
        ".left",
        "Left",
        "named.id",
        "choice",
        "*",
    ] {
        assert_eq!(
            fault(TREE, &["id", name]),
            MaskError::UnknownPath(name.to_owned())
        );
    }
    for group in ["", "none", "Basic"] {
        let name = format!("group:{group}");
        assert_eq!(
            fault(TREE, &["id", &name]),
            MaskError::UnknownGroup(group.to_owned())
        );
    }
    let deep = ["left"; 65].join(".");
    assert_eq!(fault(TREE, &[&deep]), MaskError::TooDeep(deep));
    assert!(DisclosureMask::for_message(&descriptor(TREE), &[&["left"; 64].join(".")]).is_ok());
    // Extensions have no path.
    for name in ["ext_id", "wire.sample2.ext_id", "[wire.sample2.ext_id]"] {
        assert_eq!(fault(OLD, &[name]), MaskError::UnknownPath(name.to_owned()));
    }
}

#[test]
fn a_required_field_is_never_cut() {
    let strict = |names: &[&str]| {
        DisclosureMask::for_message(&descriptor("wire.sample2.Strict"), names).map(drop)
    };
    let required = Err(MaskError::Required("wire.sample2.Strict.id".to_owned()));
    assert_eq!(strict(&["note"]), required);
    assert_eq!(strict(&["id", "inner.note"]), required);
    assert_eq!(strict(&["id", "inner.id"]), Ok(()));
    assert_eq!(strict(&["id", "inner"]), Ok(()));
}

#[test]
fn a_grant_of_the_card_service_shows_its_groups_only() {
    let full = VerifyCardResponse {
        r#match: true,
        social_state: CardState::Normal.into(),
        financial_state: CardState::Lost.into(),
        issuing_city: "370700".to_owned(),
        expires_on: "2030-01-31".to_owned(),
        checked_at: Some(prost_types::Timestamp {
            seconds: 1_795_507_200,
            nanos: 0,
        }),
        source_city: "370700".to_owned(),
        evidence_digest: vec![0, 1, 2],
        ..VerifyCardResponse::default()
    };
    let response = banqiao_proto::descriptors()
        .get_message_by_name("banqiao.card.v1.VerifyCardResponse")
        .unwrap();
    let mask = DisclosureMask::for_message(&response, &["group:basic", "expires_on"]).unwrap();
    let out = filter(&mask, &full.encode_to_vec()).unwrap();
    let cut = VerifyCardResponse {
        financial_state: 0,
        evidence_digest: Vec::new(),
        ..full
    };
    assert_eq!(out, cut.encode_to_vec());
}
