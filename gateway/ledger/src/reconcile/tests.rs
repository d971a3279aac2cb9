use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{
        Decision, Direction, DirectionDigest, DiscrepancyClass as Class, Entry, ExchangeRecord,
        Kind, Party, RecordState as State, Result as CallResult, Side,
    },
};
use prost::Message;

use super::*;
use crate::digest::{MessageDigest, sha256};

const RECENT: i64 = 1_000;

fn city(code: &str) -> CityCode {
    code.parse().unwrap()
}

fn qingdao() -> Pair {
    Pair {
        here: city("370200"),
        there: city("370600"),
    }
}

fn messages(count: u8, complete: bool) -> Option<DirectionDigest> {
    let mut digest = MessageDigest::new();
    for number in 0..count {
        digest.message(0, &[number]);
    }
    Some(DirectionDigest {
        root: digest.root().to_vec(),
        count: count.into(),
        complete,
    })
}

fn record(side: Side, state: State) -> ExchangeRecord {
    ExchangeRecord {
        exchange: vec![1; 16],
        attempt: 1,
        side: side.into(),
        state: state.into(),
        method_digest: vec![2; 32],
        client_digest: vec![3; 32],
        purpose_digest: vec![4; 32],
        ended_at_us: 1,
        ..ExchangeRecord::default()
    }
}

fn closed(side: Side, status: u32, request: u8, response: u8) -> ExchangeRecord {
    ExchangeRecord {
        status,
        request: messages(request, true),
        response: messages(response, true),
        ..record(side, State::Closed)
    }
}

/// The consumer's records, by what they say.
fn consumers() -> Vec<(&'static str, Option<ExchangeRecord>)> {
    let side = Side::Consumer;
    let told = |reason: Reason, status| ExchangeRecord {
        peer_reason: reason.into(),
        ..closed(side, status, 1, 0)
    };
    let own = |reason: Reason, status, answered| ExchangeRecord {
        reason: reason.into(),
        response: messages(answered, false),
        ..closed(side, status, 1, 0)
    };
    vec![
        ("none", None),
        ("open", Some(record(side, State::Open))),
        ("ok", Some(closed(side, 0, 1, 1))),
        ("not found", Some(closed(side, 5, 1, 0))),
        ("told not granted", Some(told(Reason::NotGranted, 7))),
        (
            "told unavailable",
            Some(told(Reason::ServiceUnreachable, 14)),
        ),
        ("told no ledger", Some(told(Reason::LedgerUnavailable, 14))),
        ("cancelled", Some(own(Reason::Cancelled, 1, 0))),
        ("cancelled late", Some(own(Reason::Cancelled, 1, 1))),
        ("unreachable", Some(own(Reason::PeerUnreachable, 14, 0))),
        (
            "refused",
            Some(ExchangeRecord {
                reason: Reason::DestinationUnknown.into(),
                status: 5,
                ..record(side, State::Refused)
            }),
        ),
        ("interrupted", Some(record(side, State::Interrupted))),
        ("unreadable", Some(record(side, State::Unreadable))),
    ]
}

/// The provider's.
fn providers() -> Vec<(&'static str, Option<ExchangeRecord>)> {
    let side = Side::Provider;
    let refused = |reason: Reason, status| ExchangeRecord {
        reason: reason.into(),
        status,
        ..record(side, State::Refused)
    };
    vec![
        ("none", None),
        ("open", Some(record(side, State::Open))),
        ("ok", Some(closed(side, 0, 1, 1))),
        ("not found", Some(closed(side, 5, 1, 0))),
        (
            "unavailable",
            Some(ExchangeRecord {
                reason: Reason::ServiceUnreachable.into(),
                ..closed(side, 14, 1, 0)
            }),
        ),
        (
            "cancelled",
            Some(ExchangeRecord {
                reason: Reason::Cancelled.into(),
                ..closed(side, 1, 1, 0)
            }),
        ),
        ("refused", Some(refused(Reason::ServiceUnknown, 7))),
        (
            "refused stranger",
            Some(refused(Reason::MetadataInvalid, 3)),
        ),
        ("interrupted", Some(record(side, State::Interrupted))),
        ("unreadable", Some(record(side, State::Unreadable))),
    ]
}

/// Letters of the classes, as the consumer's city sees them.
fn letter(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Agree => "=",
        Verdict::Found { class, .. } => match class {
            Class::OnlyHere => "H",
            Class::OnlyThere => "T",
            Class::DigestDiffers => "D",
            Class::StatusDiffers => "S",
            Class::InterruptedHere => "i",
            Class::InterruptedThere => "j",
            Class::Open => "o",
            Class::HonestDifference => "h",
            Class::Unspecified => "?",
        },
    }
}

/// Every pair of records; `=` agree, `H` only here, `T` only there, `D` digests differ, `S` status differs, `i` and `j`
/// interrupted here and there, `o` open, `h` an honest difference.
const TABLE: &str = "\
                  none open ok not_found unavailable cancelled refused refused_stranger interrupted unreadable
none              =    o    T  T         T           T         T       =                j           D
open              o    o    S  S         S           S         S       S                j           D
ok                H    S    =  S         S           S         S       S                j           D
not_found         H    S    S  =         S           S         S       S                j           D
told_not_granted  h    S    S  S         S           S         =       S                j           D
told_unavailable  H    S    S  S         =           S         S       S                j           D
told_no_ledger    h    S    h  h         =           h         h       h                j           D
cancelled         h    S    h  h         h           =         h       h                j           D
cancelled_late    H    S    h  D         D           D         h       h                j           D
unreachable       =    S    S  S         S           S         S       S                j           D
refused           =    S    S  S         S           S         S       S                j           D
interrupted       i    i    i  i         i           i         i       i                i           D
unreadable        D    D    D  D         D           D         D       D                D           D
";

#[test]
fn every_pair_of_records_has_the_outcome_of_the_table() {
    let providers = providers();
    let mut rows = vec![String::new()];
    for (name, _) in &providers {
        rows[0].push(' ');
        rows[0].push_str(&name.replace(' ', "_"));
    }
    for (name, consumer) in consumers() {
        let mut row = name.replace(' ', "_");
        for (_, provider) in &providers {
            row.push(' ');
            let verdict = compare(consumer.as_ref(), provider.as_ref(), RECENT);
            row.push_str(letter(verdict));
            // The other city sees the same, turned round.
            let turned = compare(provider.as_ref(), consumer.as_ref(), RECENT);
            let expected = match letter(verdict) {
                "H" => "T",
                "T" => "H",
                "j" => "i",
                "i" if provider.as_ref().map(ExchangeRecord::state) == Some(State::Interrupted) => {
                    "i"
                }
                "i" => "j",
                same => same,
            };
            assert_eq!(letter(turned), expected, "{name}");
        }
        rows.push(row);
    }
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let expected: Vec<String> = TABLE.lines().map(words).collect();
    let found: Vec<String> = rows.iter().map(|row| words(row)).collect();
    assert_eq!(found, expected, "\n{}", found.join("\n"));
}

#[test]
fn what_has_just_ended_at_one_side_may_end_at_the_other() {
    let recent = |record: ExchangeRecord| ExchangeRecord {
        ended_at_us: RECENT,
        ..record
    };
    let ok = recent(closed(Side::Consumer, 0, 1, 1));
    let open = record(Side::Provider, State::Open);
    assert_eq!(letter(compare(Some(&ok), Some(&open), RECENT)), "o");
    assert_eq!(letter(compare(Some(&ok), None, RECENT)), "o");
    assert_eq!(letter(compare(Some(&open), Some(&ok), RECENT)), "o");
}

#[test]
fn each_field_that_differs_is_named() {
    let consumer = closed(Side::Consumer, 0, 2, 2);
    let same = closed(Side::Provider, 0, 2, 2);
    type Change = fn(&mut ExchangeRecord);
    let changes: [(&str, Class, Change); 8] = [
        ("method", Class::DigestDiffers, |it| it.method_digest[0] = 0),
        ("client", Class::DigestDiffers, |it| it.client_digest[0] = 0),
        ("purpose", Class::DigestDiffers, |it| {
            it.purpose_digest.clear()
        }),
        ("request", Class::DigestDiffers, |it| {
            it.request.as_mut().unwrap().root[0] ^= 1;
        }),
        ("request", Class::DigestDiffers, |it| {
            it.request = messages(3, true)
        }),
        ("response", Class::DigestDiffers, |it| {
            it.response = messages(1, true)
        }),
        ("status", Class::StatusDiffers, |it| it.status = 2),
        ("reason", Class::StatusDiffers, |it| {
            it.reason = Reason::ServiceUnreachable.into();
        }),
    ];
    assert_eq!(
        compare(Some(&consumer), Some(&same), RECENT),
        Verdict::Agree
    );
    for (field, class, change) in changes {
        let mut other = same.clone();
        change(&mut other);
        let verdict = compare(Some(&consumer), Some(&other), RECENT);
        assert_eq!(verdict, Verdict::Found { class, field });
        // A change that is found record by record is found by the digest of the minute too.
        assert_ne!(window(&consumer, true), window(&other, false), "{field}");
    }
    assert_eq!(window(&consumer, true), window(&same, false));
}

/// The window of one record, in the ledger of the first or the second city.
fn window(record: &ExchangeRecord, first: bool) -> Option<Window> {
    let pair = if first { qingdao() } else { qingdao().turned() };
    let mut windows = Windows::new(pair);
    assert_eq!(windows.add(record).unwrap(), None);
    windows.finish()
}

#[test]
fn cut_streams_differ_honestly_as_long_as_the_sender_has_more() {
    let cut = |side, request: u8, response: u8, reason: Reason| ExchangeRecord {
        request: messages(request, false),
        response: messages(response, false),
        reason: reason.into(),
        ..closed(side, 1, 0, 0)
    };
    let pair = |consumer: (u8, u8), provider: (u8, u8)| {
        let consumer = cut(Side::Consumer, consumer.0, consumer.1, Reason::Cancelled);
        let provider = cut(Side::Provider, provider.0, provider.1, Reason::Cancelled);
        compare(Some(&consumer), Some(&provider), RECENT)
    };
    assert_eq!(letter(pair((3, 3), (3, 3))), "=");
    assert_eq!(letter(pair((5, 3), (3, 9))), "h");
    assert_eq!(letter(pair((2, 3), (3, 3))), "D", "more received than sent");
    assert_eq!(letter(pair((3, 4), (3, 3))), "D", "more received than sent");
}

#[test]
fn records_that_agree_have_one_window_and_what_stands_alone_none() {
    for (name, consumer) in consumers() {
        for (other, provider) in providers() {
            let (Some(consumer), Some(provider)) = (&consumer, &provider) else {
                continue;
            };
            let verdict = compare(Some(consumer), Some(provider), RECENT);
            let (here, there) = (window(consumer, true), window(provider, false));
            if here == there && here.is_some() {
                // A digest that hides a difference would hide it for ever.
                assert!(matches!(letter(verdict), "=" | "o"), "{name} and {other}");
            }
        }
        let Some(consumer) = consumer else { continue };
        let alone = compare(Some(&consumer), None, RECENT) == Verdict::Agree;
        assert_eq!(window(&consumer, true).is_none(), alone, "{name}");
    }
    let both = [
        closed(Side::Consumer, 0, 1, 1),
        closed(Side::Provider, 0, 1, 1),
    ];
    assert_eq!(window(&both[0], true), window(&both[1], false));
}

fn entry(kind: Kind, side: Side, attempt: u32) -> Entry {
    let party = |city: &str| {
        Some(Party {
            spiffe_id: "spiffe://qingdao.jiaodong/hospital/his".into(),
            city: city.into(),
            agency: "hospital".into(),
            key_sha256: Vec::new(),
        })
    };
    let (client, provider) = match side {
        Side::Consumer => ("370200", "370600"),
        _ => ("370600", "370200"),
    };
    Entry {
        version: 1,
        kind: kind.into(),
        uid: vec![9; 16],
        exchange: vec![1; 16],
        attempt,
        side: side.into(),
        client: party(client),
        provider: party(provider),
        method: "/a.B/C".into(),
        purpose: "case-handling".into(),
        ..Entry::default()
    }
}

fn fold(entries: &[Entry]) -> Vec<ExchangeRecord> {
    let bytes: Vec<_> = entries.iter().map(Message::encode_to_vec).collect();
    record::fold(&bytes, qingdao())
}

#[test]
fn entries_become_one_record_for_each_attempt_and_side() {
    let open = entry(Kind::Open, Side::Consumer, 1);
    let mut close = entry(Kind::Close, Side::Consumer, 1);
    close.time_us = 77;
    close.request = Some(Direction {
        root: vec![5; 32],
        count: 1,
        complete: true,
        ..Direction::default()
    });
    close.result = Some(CallResult {
        status: 14,
        peer_reason: Reason::ServiceUnreachable.into(),
        ..CallResult::default()
    });
    let mut replay = entry(Kind::Refused, Side::Consumer, 1);
    replay.decision = Some(Decision {
        reason: Reason::Replayed.into(),
        ..Decision::default()
    });
    let mut dead = entry(Kind::Close, Side::Consumer, 2);
    dead.result = Some(CallResult {
        interrupted: true,
        ..CallResult::default()
    });
    let mine = entry(Kind::Open, Side::Provider, 2);
    let records = fold(&[open.clone(), close.clone(), replay, dead, mine]);
    let states: Vec<_> = records
        .iter()
        .map(|it| (it.attempt, it.side(), it.state()))
        .collect();
    assert_eq!(
        states,
        [
            (1, Side::Consumer, State::Closed),
            (2, Side::Consumer, State::Interrupted),
            (2, Side::Provider, State::Open),
        ]
    );
    let first = &records[0];
    assert_eq!(
        first.opened_leaf,
        crate::digest::leaf_hash(&open.encode_to_vec())
    );
    assert_eq!(
        first.ended_leaf,
        crate::digest::leaf_hash(&close.encode_to_vec())
    );
    assert_eq!((first.status, first.ended_at_us), (14, 77));
    assert_eq!(first.peer_reason(), Reason::ServiceUnreachable);
    assert_eq!(first.method_digest, sha256(b"/a.B/C"));
    assert!(first.request.as_ref().unwrap().complete);
}

#[test]
fn entries_with_other_cities_are_not_shown() {
    let mut other = entry(Kind::Open, Side::Consumer, 1);
    other.provider.as_mut().unwrap().city = "370700".into();
    let mut stranger = entry(Kind::Refused, Side::Provider, 1);
    stranger.client = None;
    let local = entry(Kind::Open, Side::Local, 1);
    assert_eq!(fold(&[other, stranger, local]), []);
}

#[test]
fn entry_that_was_changed_is_unreadable() {
    let open = entry(Kind::Open, Side::Consumer, 1);
    let mut bytes = open.encode_to_vec();
    // An unknown field: still protobuf, and not canonical.
    bytes.extend_from_slice(&[0xf8, 0x7f, 1]);
    let records = record::fold(&[bytes], qingdao());
    assert_eq!(records[0].state(), State::Unreadable);
    assert_eq!(record::fold(&[vec![0xff; 9]], qingdao()), []);
}

#[test]
fn windows_are_the_minutes_of_the_exchange_ids() {
    let at = |ms: i64| {
        let (from, _) = bounds(ms, ms);
        assert_eq!(made_ms(&from), ms);
        ExchangeRecord {
            exchange: from.to_vec(),
            ..closed(Side::Consumer, 0, 1, 1)
        }
    };
    let start = 29_000_000 * WINDOW_MS;
    let mut windows = Windows::new(qingdao());
    let mut told = Vec::new();
    for ms in [start, start + 59_999, start + 60_000, start + 600_000] {
        told.extend(windows.add(&at(ms)).unwrap());
    }
    told.extend(windows.finish());
    let shape: Vec<_> = told
        .iter()
        .map(|it| (it.start_ms - start, it.count))
        .collect();
    assert_eq!(shape, [(0, 2), (60_000, 1), (600_000, 1)]);
    assert_eq!(Window::heard(&told[0].told()), Ok(told[0]));
}
