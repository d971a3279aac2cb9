//! The search index: that it is made, that it is used, and that nothing changes by it.

use banqiao_ledger::{
    Decoded, Ledger, LedgerSettings, Order, Page, Query, Stored, decode,
    synthetic::{Synthesis, SynthesisError, generate},
    verify::{Step, Verification},
};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{Entry, EntryFilter, Kind, Outcome, PrivatePart},
};
use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};

use crate::bed::{Bed, NOW, append_all, entries, id, on_both_stores, opening, wait_for};

on_both_stores![
    searches_find_what_reading_everything_finds,
    ledger_without_an_index_gets_one_when_it_is_opened,
    searches_by_date_pass_over_ranges_of_other_times,
    tokens_are_looked_for_where_their_group_has_them,
    searches_by_date_pass_over_what_is_not_indexed_yet,
    synthetic_ledger_is_valid_and_the_same_for_the_same_seed,
    database_with_anything_in_it_is_left_alone,
];

const DAY_US: i64 = 86_400_000_000;
/// A chunk, two segments behind it, and a part of one.
const ENTRIES: u64 = 16_384 + 2 * 4_096 + 700;
/// Groups of two chunks.
const GROUP: u8 = 15;
/// A group, and behind it a segment and a part of one.
const GROUPED: u64 = 2 * 16_384 + 4_096 + 700;

/// Synthetic numbers: their sequence is 000.
fn subjects() -> Vec<String> {
    (0..60)
        .map(|day| format!("37020219900{}{:02}0001", 1 + day / 28, 1 + day % 28))
        .collect()
}

pub(crate) fn synthesis(entries: u64, seed: u64) -> Synthesis {
    Synthesis {
        entries,
        // Over the end of a month: there are keys of two.
        from_us: NOW,
        until_us: NOW + 25 * DAY_US,
        seed,
        clients: 12,
        subjects: subjects(),
    }
}

pub(crate) async fn made(bed: &Bed, synthesis: &Synthesis) {
    let settings = bed.settings("synthetic");
    let made = generate(settings, synthesis, |_| {}).await.unwrap();
    assert_eq!(made.entries, synthesis.entries);
    assert!(made.exchanges > synthesis.entries * 2 / 5);
    bed.clock.set_us(synthesis.until_us);
}

/// Everything in a ledger, read without the index.
pub(crate) async fn everything(ledger: &Ledger) -> Vec<(Entry, PrivatePart)> {
    let mut tail = ledger.reader().tail(Some(0)).await.unwrap();
    let mut all = Vec::new();
    loop {
        let some = tail.ready().await.unwrap();
        if some.is_empty() {
            return all;
        }
        for stored in some {
            let Ok(Decoded::Entry(entry)) = decode(&stored.bytes) else {
                panic!("entry {}", stored.index)
            };
            let private = if entry.private_commitment.is_empty() {
                None
            } else {
                ledger.reader().open_private(stored.index).await.unwrap()
            };
            all.push((*entry, private.unwrap_or_default()));
        }
    }
}

fn has(filter: &EntryFilter, query: &Query, (entry, private): &(Entry, PrivatePart)) -> bool {
    let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    let mut subjects = private.subjects.iter();
    query.matches(entry)
        && is(&filter.operator, &private.operator)
        && is(&filter.case_number, &private.case_number)
        && (filter.subject.is_empty() || subjects.any(|it| it.value == filter.subject))
}

/// A search of one page.
#[derive(Clone, Debug)]
struct Asked {
    filter: EntryFilter,
    page: Page,
}

/// One part of a filter: which one, of which entry the value is, and a number.
fn filters(all: &[(Entry, PrivatePart)]) -> impl Strategy<Value = EntryFilter> + use<> {
    let all: std::sync::Arc<[_]> = all.into();
    let part = (0_u8..14, any::<prop::sample::Index>(), 0_i64..2_000);
    vec(part, 0..4).prop_map(move |parts| {
        let mut filter = EntryFilter::default();
        for (part, which, number) in parts {
            let (entry, private) = which.get(&all);
            let client = entry.client.as_ref().map_or("", |client| &client.spiffe_id);
            match part {
                0 => {
                    filter.city =
                        ["370200", "370600", "370700", "371000", "371100"][which.index(5)].into()
                }
                1 => filter.client = client.into(),
                2 => {
                    // Up to some slash.
                    let slashes: Vec<_> = client.match_indices('/').collect();
                    let end = slashes
                        .last()
                        .map_or(0, |_| slashes[which.index(slashes.len())].0);
                    filter.client = format!("{}*", &client[..end]);
                }
                3 => entry.method[1.min(entry.method.len())..]
                    .split('/')
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut filter.service),
                4 => filter.method.clone_from(&entry.method),
                5 => entry
                    .method
                    .rsplit('/')
                    .next()
                    .unwrap_or_default()
                    .clone_into(&mut filter.method),
                6 => filter.purpose.clone_from(&entry.purpose),
                7 => filter.operator.clone_from(&private.operator),
                8 => filter.case_number.clone_from(&private.case_number),
                9 => {
                    if let Some(subject) = private.subjects.first() {
                        filter.subject.clone_from(&subject.value);
                    }
                }
                10 => filter.kinds = vec![entry.kind, Kind::Read.into()],
                11 => {
                    filter.outcome =
                        [Outcome::Ok, Outcome::Failed, Outcome::Refused][which.index(3)].into();
                }
                12 => {
                    filter.reason = [Reason::NotGranted, Reason::Overloaded, Reason::Draining]
                        [which.index(3)]
                    .into();
                }
                _ => {
                    filter.from_us = entry.time_us;
                    filter.until_us = entry.time_us + 1 + number * DAY_US / 100;
                }
            }
        }
        filter
    })
}

fn searches(all: &[(Entry, PrivatePart)]) -> impl Strategy<Value = Asked> + use<> {
    let size = all.len() as u64;
    let page = (1_usize..700, any::<bool>(), prop::option::of(0..size));
    (filters(all), page).prop_map(|(filter, (limit, ascending, cursor))| Asked {
        filter,
        page: Page {
            limit,
            order: if ascending {
                Order::Ascending
            } else {
                Order::Descending
            },
            cursor,
            open_private: false,
        },
    })
}

/// What reading everything finds.
fn expected(all: &[(Entry, PrivatePart)], Asked { filter, page }: &Asked) -> Vec<u64> {
    let query = Query::parse(filter).unwrap();
    let matching = (0_u64..).zip(all).filter(|(index, written)| {
        let behind = page.cursor.is_none_or(|cursor| match page.order {
            Order::Ascending => *index > cursor,
            Order::Descending => *index < cursor,
        });
        behind && has(filter, &query, written)
    });
    let mut indices: Vec<u64> = matching.map(|(index, _)| index).collect();
    if page.order == Order::Descending {
        indices.reverse();
    }
    indices.truncate(page.limit);
    indices
}

async fn found(ledger: &Ledger, asked: &Asked) -> Vec<u64> {
    let query = Query::parse(&asked.filter).unwrap();
    let found = ledger.reader().search(&query, asked.page).await.unwrap();
    found.iter().map(|stored: &Stored| stored.index).collect()
}

pub(crate) async fn indexed(ledger: &Ledger, entries: u64) {
    let mut indexed = ledger.indexed();
    let waiting = indexed.wait_for(|indexed| *indexed >= entries);
    tokio::time::timeout(std::time::Duration::from_secs(60), waiting)
        .await
        .expect("an index in time")
        .unwrap();
}

/// Opens a ledger with small groups, and waits for so many.
async fn grouped(bed: &Bed, groups: i64) -> Ledger {
    let ledger = bed
        .open_with(LedgerSettings {
            token_group: GROUP,
            ..bed.settings("one")
        })
        .await;
    wait_for("the groups", || async {
        let found = bed
            .count("SELECT count(*) FROM span WHERE level = 15")
            .await;
        (found == groups).then_some(())
    })
    .await;
    ledger
}

pub(crate) async fn agree(ledger: &Ledger, all: &[(Entry, PrivatePart)], cases: u32) {
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &[5; 32]);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let (mut empty, mut full) = (0, 0);
    for _ in 0..cases {
        let asked = searches(all).new_tree(&mut runner).unwrap().current();
        let expected = expected(all, &asked);
        empty += usize::from(expected.is_empty());
        full += usize::from(expected.len() == asked.page.limit);
        assert_eq!(found(ledger, &asked).await, expected, "{asked:?}");
    }
    // Neither nothing nor everything: the searches say something.
    let cases = cases as usize;
    assert!(
        full > cases / 10 && empty > cases / 50,
        "{full} full, {empty} empty of {cases}"
    );
}

async fn searches_find_what_reading_everything_finds(bed: Bed) {
    made(&bed, &synthesis(GROUPED, 3)).await;
    let ledger = grouped(&bed, 1).await;
    indexed(&ledger, GROUPED - GROUPED % 4_096).await;
    let all = everything(&ledger).await;
    assert_eq!(all.len() as u64, GROUPED);
    agree(&ledger, &all, 150).await;
    for (count, units) in [
        ("SELECT count(*) FROM span WHERE level = 14", 2),
        ("SELECT count(*) FROM span WHERE level = 12", 9),
    ] {
        assert_eq!(bed.count(count).await, units, "{count}");
    }
    // Values that few entries have, of which most stand in one chunk only.
    for (_, private) in all.iter().step_by(1_500) {
        let asked = by_case(&private.case_number);
        assert_eq!(found(&ledger, &asked).await, expected(&all, &asked));
    }
    // What is erased is not found any more, though the group still says where it was.
    let erased = "DELETE FROM token WHERE segment = 2";
    assert!(bed.execute(erased).await.unwrap() > 1_000);
    for (index, (_, private)) in (0..).zip(all.iter()).skip(2 * 4_096).take(40) {
        let asked = by_case(&private.case_number);
        let found = found(&ledger, &asked).await;
        assert!(
            asked.filter.case_number.is_empty() || !found.contains(&index),
            "{index}"
        );
    }
}

fn by_case(case_number: &str) -> Asked {
    Asked {
        filter: EntryFilter {
            case_number: case_number.into(),
            ..EntryFilter::default()
        },
        page: Page {
            limit: 10_000,
            order: Order::Ascending,
            cursor: None,
            open_private: false,
        },
    }
}

/// Where the index is believed, and that it is made where it is missing.
async fn tokens_are_looked_for_where_their_group_has_them(bed: Bed) {
    // A group, and a chunk that is in none.
    const GROUP_END: u64 = 2 * 16_384;
    made(&bed, &synthesis(GROUP_END + 16_384, 8)).await;
    let ledger = grouped(&bed, 1).await;
    let parts = "SELECT count(*) FROM presence";
    let kept = bed.count(parts).await;
    assert!((900..=1_024).contains(&kept), "{kept}");
    // A case of entries in the group and behind it.
    let mut wanted = None;
    for index in 0..400 {
        let private = ledger.reader().open_private(index).await.unwrap();
        let case_number = private.map_or_else(String::new, |it| it.case_number);
        let asked = by_case(&case_number);
        if case_number.is_empty() {
            continue;
        }
        let all = found(&ledger, &asked).await;
        assert!(all.contains(&index), "{index}: {all:?}");
        if all.last().is_some_and(|index| *index >= GROUP_END) {
            wanted = Some((asked, all));
            break;
        }
    }
    let (asked, all) = wanted.unwrap();

    // Where the group says that it is nowhere, nobody looks: so absent ones cost nothing.
    bed.execute("DELETE FROM presence").await.unwrap();
    let behind = all.iter().copied().filter(|index| *index >= GROUP_END);
    assert_eq!(found(&ledger, &asked).await, behind.collect::<Vec<_>>());
    // As in a ledger of an earlier version.
    ledger.close().await;
    bed.execute("DELETE FROM span WHERE level = 15")
        .await
        .unwrap();
    let ledger = grouped(&bed, 1).await;
    assert_eq!(bed.count(parts).await, kept);
    assert_eq!(found(&ledger, &asked).await, all);
    // With larger groups, of which none is complete.
    ledger.close().await;
    let ledger = bed.open("one").await;
    assert_eq!(found(&ledger, &asked).await, all);
}

async fn ledger_without_an_index_gets_one_when_it_is_opened(bed: Bed) {
    const FEW: u64 = 2 * 4_096 + 50;
    made(&bed, &synthesis(FEW, 4)).await;
    let count = "SELECT count(*) FROM posting";
    let postings = bed.count(count).await;
    assert!(postings > 100, "{postings}");
    bed.execute("DELETE FROM posting").await.unwrap();
    bed.execute("DELETE FROM span").await.unwrap();
    let ledger = bed.open("one").await;
    // Also before it is there.
    let all = everything(&ledger).await;
    agree(&ledger, &all, 60).await;
    indexed(&ledger, 2 * 4_096).await;
    assert_eq!(bed.count(count).await, postings);
    agree(&ledger, &all, 60).await;
    // It grows with the ledger.
    let opens = (0..4_096).map(|number| opening(id(number))).collect();
    for outcome in append_all(&ledger.appender(), opens).await {
        outcome.unwrap();
    }
    indexed(&ledger, 3 * 4_096).await;
    agree(&ledger, &everything(&ledger).await, 60).await;
    // An index that is wrong is believed: it is what searches read.
    bed.execute("DELETE FROM posting WHERE n = 0")
        .await
        .unwrap();
    let city = EntryFilter {
        city: "370200".into(),
        ..EntryFilter::default()
    };
    let page = Page {
        limit: 10,
        order: Order::Ascending,
        cursor: None,
        open_private: false,
    };
    let first = found(&ledger, &Asked { filter: city, page }).await;
    assert!(first.iter().all(|index| *index >= 4_096), "{first:?}");
}

async fn searches_by_date_pass_over_ranges_of_other_times(bed: Bed) {
    made(&bed, &synthesis(ENTRIES, 6)).await;
    let ledger = bed.open("one").await;
    indexed(&ledger, ENTRIES - ENTRIES % 4_096).await;
    let page = Page {
        limit: 10,
        order: Order::Ascending,
        cursor: None,
        open_private: false,
    };
    let filter = EntryFilter {
        until_us: NOW + DAY_US,
        ..EntryFilter::default()
    };
    let asked = Asked { filter, page };
    let first: Vec<u64> = (0..10).collect();
    assert_eq!(found(&ledger, &asked).await, first);
    // As if a range were complete there, and of another day: nobody looks into its chunks any more.
    let span = format!(
        "INSERT INTO span (ledger, level, n, first_us, last_us) VALUES (1, 22, 0, {}, {})",
        NOW + 2 * DAY_US,
        NOW + 3 * DAY_US
    );
    bed.execute(span.leak()).await.unwrap();
    assert_eq!(found(&ledger, &asked).await, Vec::<u64>::new());
    let whole = Asked {
        filter: EntryFilter::default(),
        page,
    };
    assert_eq!(found(&ledger, &whole).await, first);
}

async fn searches_by_date_pass_over_what_is_not_indexed_yet(bed: Bed) {
    made(&bed, &synthesis(4_096 + 50, 7)).await;
    let ledger = bed.open("one").await;
    indexed(&ledger, 4_096).await;
    let from = async |from_us: i64, until_us: i64| {
        let filter = EntryFilter {
            from_us,
            until_us,
            ..EntryFilter::default()
        };
        let query = Query::parse(&filter).unwrap();
        let page = by_case("").page;
        let found = ledger.reader().search(&query, page).await;
        found.map(|found| found.iter().map(|it| it.index).collect::<Vec<u64>>())
    };
    let early = (NOW, NOW + DAY_US);
    let found = from(early.0, early.1).await.unwrap();
    assert!((50..300).contains(&found.len()), "{}", found.len());
    let end = NOW + 25 * DAY_US;
    assert_eq!(from(end, end + DAY_US).await.unwrap(), [0_u64; 0]);
    // It grows, by entries of a time that none before them has.
    let opened = append_all(&ledger.appender(), vec![opening(id(1))]).await;
    assert_eq!(opened[0].as_ref().unwrap().index, 4_146);
    assert_eq!(from(end, end + DAY_US).await.unwrap(), [4_146]);
    // Who looks at them now fails.
    if bed.is_postgres() {
        bed.execute("DROP TRIGGER entry_is_final ON entry")
            .await
            .unwrap();
        bed.execute(
            "UPDATE entry SET bytes = '\\xff', time_us = 1794744000000001 WHERE idx = 4100",
        )
        .await
        .unwrap();
    } else {
        bed.execute("DROP TRIGGER entry_is_final_1").await.unwrap();
        bed.execute("UPDATE entry SET bytes = x'ff', time_us = 1794744000000001 WHERE idx = 4100")
            .await
            .unwrap();
    }
    assert_eq!(from(early.0, early.1).await.unwrap(), found);
    assert!(from(early.0, 0).await.is_err());
}

async fn verified(bed: &Bed) {
    let key = bed.settings("one").signer.verifier().clone();
    let mut verification = Verification::open(&bed.url, vec![key], None).await.unwrap();
    loop {
        match verification.step().await.unwrap() {
            Step::More(_) => {}
            Step::Sound => break,
            Step::Unsound(finding) => panic!("{finding:?}"),
        }
    }
}

/// What can be searched of a ledger: everything but ids, keys and what hides private parts.
async fn content(bed: &Bed) -> Vec<(Entry, PrivatePart)> {
    let ledger = bed.open("reader").await;
    let mut all = everything(&ledger).await;
    ledger.close().await;
    for (entry, _) in &mut all {
        entry.uid = Vec::new();
        entry.private_commitment = Vec::new();
        entry.replica.as_mut().unwrap().boot = Vec::new();
    }
    all
}

async fn synthetic_ledger_is_valid_and_the_same_for_the_same_seed(bed: Bed) {
    const FEW: u64 = 6_000;
    let other = || match &bed.cluster {
        Some(cluster) => Bed::on(cluster.clone()),
        None => Bed::sqlite(),
    };
    let (same, different) = (other(), other());
    made(&bed, &synthesis(FEW, 9)).await;
    made(&same, &synthesis(FEW, 9)).await;
    made(&different, &synthesis(FEW, 10)).await;
    verified(&bed).await;
    assert_eq!(bed.count("SELECT count(*) FROM in_flight").await, 0);
    let content_of_one = content(&bed).await;
    assert!(content_of_one == content(&same).await);
    assert!(content_of_one != content(&different).await);

    let times: Vec<i64> = content_of_one
        .iter()
        .map(|(entry, _)| entry.time_us)
        .collect();
    assert!(times.is_sorted());
    assert_eq!(times[0], NOW);
    let last = times[times.len() - 1];
    assert!((NOW + 24 * DAY_US..NOW + 25 * DAY_US).contains(&last));
    let share = |is: &dyn Fn(&Entry) -> bool| {
        content_of_one.iter().filter(|(entry, _)| is(entry)).count() * 100 / content_of_one.len()
    };
    for (kind, least, most) in [
        (Kind::Open, 40, 55),
        (Kind::Close, 40, 55),
        (Kind::Refused, 1, 5),
    ] {
        let share = share(&|entry| entry.kind() == kind);
        assert!((least..=most).contains(&share), "{kind:?}: {share} %");
    }
    for kind in [Kind::Admin, Kind::Read] {
        assert!(
            content_of_one.iter().any(|(entry, _)| entry.kind() == kind),
            "{kind:?}"
        );
    }
    for (entry, private) in &content_of_one {
        assert_eq!(entry.replica.as_ref().unwrap().id, "synthetic");
        let made_up = |text: &str| text.is_empty() || text.starts_with("synthetic-");
        assert!(made_up(&private.operator) && made_up(&private.case_number));
        let agency = entry.client.as_ref().map_or("", |client| &client.agency);
        assert!(made_up(agency), "{agency}");
    }
}

async fn database_with_anything_in_it_is_left_alone(bed: Bed) {
    let refused = async |settings: LedgerSettings| {
        let refused = generate(settings, &synthesis(10, 1), |_| {}).await;
        matches!(refused, Err(SynthesisError::NotEmpty))
    };
    let ledger = bed.open("one").await;
    let opened = append_all(&ledger.appender(), vec![opening(id(1))]).await;
    assert!(opened[0].is_ok());
    ledger.close().await;
    assert!(refused(bed.settings("two")).await);
    // Not even what such an opening would end or note down.
    assert_eq!(bed.count("SELECT count(*) FROM in_flight").await, 1);
    let ledger = wait_for("the ledger", || async { Some(bed.open("one").await) }).await;
    let kinds: Vec<Kind> = entries(&ledger).await.iter().map(Entry::kind).collect();
    assert_eq!(kinds, [Kind::Open, Kind::Close]);
    ledger.close().await;

    let other = match &bed.cluster {
        Some(cluster) => Bed::on(cluster.clone()),
        None => {
            let other = Bed::sqlite();
            std::fs::write(other.file(), b"").unwrap();
            other
        }
    };
    other
        .execute("CREATE TABLE somebodys (a INTEGER)")
        .await
        .unwrap();
    assert!(refused(other.settings("two")).await);
    assert_eq!(other.count("SELECT count(*) FROM somebodys").await, 0);
}
