//! Search: each filter, combinations, order and pages.

use banqiao_ledger::{Append, Decoded, Ledger, Order, Page, Query, Stored, decode};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{
        Decision, Entry, EntryFilter, Kind, Outcome, Party, PrivatePart, Result as CallResult,
        Side, Subject,
    },
};

use crate::bed::{Bed, NOW, append_all, id, on_both_stores};

on_both_stores![
    every_filter_finds_exactly_what_it_names,
    combined_filters_agree_with_reading_everything,
    pages_meet_without_gap_or_overlap,
    exchange_is_shown_with_its_private_parts,
];

const MINUTE_US: i64 = 60_000_000;
const ALL: u32 = 2_600;

/// Small, steady randomness: the same entries on both stores and in each run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % sides
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[usize::try_from(self.roll(from.len() as u64)).unwrap()]
    }
}

const CITIES: [&str; 3] = ["370200", "370600", "371000"];
const CLIENTS: [&str; 3] = [
    "spiffe://yantai.jiaodong/hospital/his",
    "spiffe://yantai.jiaodong/hospital/lis",
    "spiffe://weihai.jiaodong/hrss/hall",
];
const METHODS: [&str; 4] = [
    "/banqiao.card.v1.CardService/VerifyCard",
    "/banqiao.card.v1.CardService/ReportLoss",
    "/banqiao.lab.v1.LabService/VerifyCard",
    "\\x00odd",
];
const PURPOSES: [&str; 2] = ["benefit-eligibility", "medical-treatment"];
const REASONS: [Reason; 3] = [
    Reason::NotGranted,
    Reason::RateExceeded,
    Reason::DeadlineExceeded,
];
const KINDS: [Kind; 4] = [Kind::Open, Kind::Close, Kind::Refused, Kind::Progress];
/// Synthetic numbers: their sequence is 000.
const SUBJECTS: [&str; 3] = [
    "370202199001010001",
    "370602198502020004",
    "371002200012310008",
];
const OPERATORS: [&str; 2] = ["operator-1", "operator-2"];
const CASES: [&str; 2] = ["case-1", "case-2"];

fn party(city: &str, spiffe_id: &str) -> Option<Party> {
    Some(Party {
        city: city.into(),
        spiffe_id: spiffe_id.into(),
        ..Party::default()
    })
}

fn random(dice: &mut Dice, number: u32) -> (Entry, PrivatePart) {
    let kind = dice.pick(&KINDS);
    let reason = if dice.roll(4) == 0 {
        dice.pick(&REASONS).into()
    } else {
        0
    };
    let result = (kind == Kind::Close).then(|| CallResult {
        status: if dice.roll(2) == 0 { 0 } else { 7 },
        interrupted: dice.roll(5) == 0,
        peer_reason: reason,
        duration_us: 1,
        ..CallResult::default()
    });
    let entry = Entry {
        kind: kind.into(),
        exchange: id((number / 3).into()).as_bytes().to_vec(),
        attempt: 1,
        side: Side::Consumer.into(),
        client: party(dice.pick(&CITIES), dice.pick(&CLIENTS)),
        provider: party(dice.pick(&CITIES), ""),
        // One rare method, in the first block only.
        method: if number == 40 {
            "/rare.S/M".into()
        } else {
            dice.pick(&METHODS).into()
        },
        purpose: dice.pick(&PURPOSES).into(),
        decision: (kind == Kind::Refused).then(|| Decision {
            reason,
            directory_version: 1,
            ..Decision::default()
        }),
        result,
        ..Entry::default()
    };
    let subjects = (0..dice.roll(3))
        .map(|_| Subject {
            kind: 1,
            value: dice.pick(&SUBJECTS).into(),
        })
        .collect();
    let private = PrivatePart {
        subjects,
        operator: dice.pick(&OPERATORS).into(),
        case_number: dice.pick(&CASES).into(),
        ..PrivatePart::default()
    };
    (entry, private)
}

/// A ledger of two and a half blocks, and what was written to it. Time moves a minute each 20 entries.
async fn filled(bed: &Bed) -> (Ledger, Vec<(Entry, PrivatePart)>) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    let mut dice = Dice(7);
    let mut written = Vec::new();
    for chunk in 0..ALL / 20 {
        let mut appends = Vec::new();
        for number in chunk * 20..(chunk + 1) * 20 {
            let (mut entry, private) = random(&mut dice, number);
            appends.push(Append::new(entry.clone()).with_private(private.clone()));
            entry.time_us = bed.clock().now_us();
            written.push((entry, private));
        }
        for outcome in append_all(&appender, appends).await {
            outcome.unwrap();
        }
        bed.clock.advance_us(MINUTE_US);
    }
    (ledger, written)
}

/// The indices that reading everything finds.
fn expected(written: &[(Entry, PrivatePart)], filter: &EntryFilter) -> Vec<u64> {
    let query = Query::parse(filter).unwrap();
    let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    (0..)
        .zip(written)
        .filter(|(_, (entry, private))| {
            let subjects = private
                .subjects
                .iter()
                .map(|subject| subject.value.as_str());
            query.matches(entry)
                && is(&filter.operator, &private.operator)
                && is(&filter.case_number, &private.case_number)
                && (filter.subject.is_empty() || subjects.clone().any(|it| it == filter.subject))
        })
        .map(|(index, _)| index)
        .collect()
}

async fn search(ledger: &Ledger, filter: &EntryFilter, page: Page) -> Vec<Stored> {
    ledger
        .reader()
        .search(&Query::parse(filter).unwrap(), page)
        .await
        .unwrap()
}

const EVERYTHING: Page = Page {
    limit: 10_000,
    order: Order::Ascending,
    cursor: None,
    open_private: false,
};

async fn found(ledger: &Ledger, filter: &EntryFilter) -> Vec<u64> {
    search(ledger, filter, EVERYTHING)
        .await
        .iter()
        .map(|stored| stored.index)
        .collect()
}

/// A filter of one kind.
fn only(set: impl FnOnce(&mut EntryFilter)) -> EntryFilter {
    let mut filter = EntryFilter::default();
    set(&mut filter);
    filter
}

const fn minute(minute: i64) -> i64 {
    NOW + minute * MINUTE_US
}

async fn every_filter_finds_exactly_what_it_names(bed: Bed) {
    let (ledger, written) = filled(&bed).await;
    let filters = [
        only(|_| {}),
        only(|f| f.from_us = minute(60)),
        only(|f| f.until_us = minute(3)),
        only(|f| (f.from_us, f.until_us) = (minute(50) + 1, minute(52))),
        only(|f| f.city = "371000".into()),
        only(|f| f.client = CLIENTS[2].into()),
        only(|f| f.client = "spiffe://yantai.jiaodong/*".into()),
        only(|f| f.client = "*".into()),
        only(|f| f.service = "banqiao.card.v1.CardService".into()),
        only(|f| f.method = "VerifyCard".into()),
        only(|f| f.method = METHODS[2].into()),
        only(|f| f.method = METHODS[3].into()),
        only(|f| f.method = "/rare.S/M".into()),
        only(|f| f.purpose = PURPOSES[1].into()),
        only(|f| f.operator = OPERATORS[0].into()),
        only(|f| f.case_number = CASES[1].into()),
        only(|f| f.subject = SUBJECTS[2].into()),
        only(|f| f.exchange_id = id(7).to_string()),
        only(|f| f.exchange_id = format!("{}/1", id(7))),
        only(|f| f.kinds = vec![Kind::Refused.into()]),
        only(|f| f.kinds = vec![Kind::Open.into(), Kind::Close.into()]),
        only(|f| f.outcome = Outcome::Ok.into()),
        only(|f| f.outcome = Outcome::Refused.into()),
        only(|f| f.outcome = Outcome::Failed.into()),
        only(|f| f.outcome = Outcome::Interrupted.into()),
        only(|f| f.reason = Reason::RateExceeded.into()),
    ];
    for filter in filters {
        let expected = expected(&written, &filter);
        assert!(!expected.is_empty(), "{filter:?} names nothing");
        assert_eq!(found(&ledger, &filter).await, expected, "{filter:?}");
    }
    for nothing in [
        only(|f| f.client = "spiffe://rizhao.jiaodong/*".into()),
        only(|f| f.service = "banqiao.card.v1.Card".into()),
        only(|f| f.subject = "370202199001010028".into()),
        only(|f| f.exchange_id = id(99_999).to_string()),
        only(|f| f.kinds = vec![Kind::Epoch.into()]),
        only(|f| f.reason = Reason::Draining.into()),
        only(|f| f.until_us = NOW),
        only(|f| f.from_us = minute(100_000)),
    ] {
        assert!(found(&ledger, &nothing).await.is_empty(), "{nothing:?}");
    }
}

async fn combined_filters_agree_with_reading_everything(bed: Bed) {
    let (ledger, written) = filled(&bed).await;
    let mut dice = Dice(11);
    let mut hits = 0;
    for _ in 0..120 {
        let mut filter = EntryFilter::default();
        for _ in 0..=dice.roll(3) {
            match dice.roll(11) {
                0 => filter.city = dice.pick(&CITIES).into(),
                1 => filter.client = dice.pick(&CLIENTS).into(),
                2 => filter.client = "spiffe://yantai.jiaodong/*".into(),
                3 => filter.method = dice.pick(&METHODS).into(),
                4 => filter.purpose = dice.pick(&PURPOSES).into(),
                5 => filter.operator = dice.pick(&OPERATORS).into(),
                6 => filter.subject = dice.pick(&SUBJECTS).into(),
                7 => filter.kinds = vec![dice.pick(&KINDS).into()],
                8 => filter.reason = dice.pick(&REASONS).into(),
                9 => filter.case_number = dice.pick(&CASES).into(),
                _ => {
                    let from = i64::try_from(dice.roll(130)).unwrap();
                    filter.from_us = NOW + from * MINUTE_US;
                    filter.until_us = filter.from_us + 20 * MINUTE_US;
                }
            }
        }
        let expected = expected(&written, &filter);
        hits += expected.len();
        assert_eq!(found(&ledger, &filter).await, expected, "{filter:?}");
        let page = Page {
            limit: 5,
            order: Order::Descending,
            ..EVERYTHING
        };
        let newest: Vec<u64> = search(&ledger, &filter, page)
            .await
            .iter()
            .map(|stored| stored.index)
            .collect();
        assert_eq!(
            newest,
            expected.into_iter().rev().take(5).collect::<Vec<_>>(),
            "{filter:?}"
        );
    }
    assert!(hits > 1_000, "{hits}");
}

async fn pages_meet_without_gap_or_overlap(bed: Bed) {
    let (ledger, written) = filled(&bed).await;
    for filter in [
        EntryFilter {
            purpose: PURPOSES[0].into(),
            ..EntryFilter::default()
        },
        EntryFilter {
            subject: SUBJECTS[0].into(),
            ..EntryFilter::default()
        },
    ] {
        let mut expected = expected(&written, &filter);
        for order in [Order::Ascending, Order::Descending] {
            let mut all = Vec::new();
            let mut page = Page {
                limit: 97,
                order,
                ..EVERYTHING
            };
            loop {
                let found = search(&ledger, &filter, page).await;
                all.extend(found.iter().map(|stored| stored.index));
                page.cursor = all.last().copied();
                if found.len() < page.limit {
                    break;
                }
            }
            assert_eq!(all, expected);
            expected.reverse();
        }
    }
}

async fn exchange_is_shown_with_its_private_parts(bed: Bed) {
    let (ledger, written) = filled(&bed).await;
    let shown = ledger.reader().exchange(id(5), true).await.unwrap();
    assert_eq!(
        shown.iter().map(|stored| stored.index).collect::<Vec<_>>(),
        [15, 16, 17]
    );
    for stored in &shown {
        let (entry, private) = &written[usize::try_from(stored.index).unwrap()];
        assert_eq!(stored.private.as_ref(), Some(private));
        assert!(!format!("{stored:?}").contains(&private.operator));
        let Ok(Decoded::Entry(read)) = decode(&stored.bytes) else {
            panic!()
        };
        assert_eq!(read.method, entry.method);
    }
    let closed = ledger.reader().exchange(id(5), false).await.unwrap();
    assert!(closed.iter().all(|stored| stored.private.is_none()));
    assert!(
        ledger
            .reader()
            .exchange(id(99_999), true)
            .await
            .unwrap()
            .is_empty()
    );
}
