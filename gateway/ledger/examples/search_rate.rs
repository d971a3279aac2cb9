//! How fast a ledger is searched.
//!
//! ```text
//! cargo run --release -p banqiao-ledger --example search_rate -- generate URL KEYS ENTRIES [SEED]
//! cargo run --release -p banqiao-ledger --example search_rate -- URL KEYS [TIMES [FILTER]]
//! ```
//!
//! The first form writes a synthetic ledger over 90 days into an empty database, as `banqiao audit generate` does. The second
//! asks for the first 100 matches of each filter and of some together, newest and oldest first, and for pages behind a
//! cursor anywhere, each so many times with other values. Values are those of entries anywhere in the ledger, so that
//! frequent ones are asked for more often, as by auditors; and such as no entry has. With FILTER only rows whose
//! name holds that text.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    env,
    error::Error,
    sync::Arc,
    time::{Duration, Instant},
};

use banqiao_directory::Clock;
use banqiao_ledger::{
    Decoded, Ledger, LedgerSettings, Order, Page, Query, Reader, decode,
    synthetic::{Synthesis, generate},
};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{Entry, EntryFilter, Kind, Outcome, PrivatePart},
};
use banqiao_tlog::note::Signer;
use uuid::Uuid;

type Failure = Box<dyn Error>;

/// 2026-08-15 00:00 UTC.
const FROM_US: i64 = 1_786_752_000_000_000;
const DAY_US: i64 = 86_400_000_000;
/// Entries that values are taken from.
const SAMPLES: usize = 400;
const PAGE: usize = 100;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match &*words {
            ["generate", url, keys, entries] => write(url, keys, entries.parse()?, 1).await,
            ["generate", url, keys, entries, seed] => {
                write(url, keys, entries.parse()?, seed.parse()?).await
            }
            [url, keys] => measure(url, keys, 40, "").await,
            [url, keys, times] => measure(url, keys, times.parse()?, "").await,
            [url, keys, times, filter] => measure(url, keys, times.parse()?, filter).await,
            _ => Err("usage: search_rate [generate] URL KEYS [ENTRIES | TIMES]".into()),
        }
    })
}

fn settings(url: &str, keys: &str) -> Result<LedgerSettings, Failure> {
    let signer = Signer::from_seed("qingdao.jiaodong/ledger/1", &[1; 32])?;
    let city = "370200".parse()?;
    Ok(LedgerSettings::new(
        url,
        city,
        "bench",
        keys.into(),
        Arc::new(signer),
    ))
}

async fn write(url: &str, keys: &str, entries: u64, seed: u64) -> Result<(), Failure> {
    // Synthetic numbers: their sequence is 000.
    let subjects = (0..100_000_u32).map(|number| {
        let (year, day) = (1950 + number / 336 % 60, number % 336);
        let county = 370_202 + number / 20_160;
        format!("{county}{year}{:02}{:02}0001", 1 + day / 28, 1 + day % 28)
    });
    let synthesis = Synthesis {
        entries,
        from_us: FROM_US,
        until_us: FROM_US + 90 * DAY_US,
        seed,
        clients: 12,
        subjects: subjects.collect(),
    };
    let begun = Instant::now();
    let mut shown = Instant::now();
    let progress = |done: u64| {
        if shown.elapsed() > Duration::from_secs(30) {
            shown = Instant::now();
            println!("{done} entries, {:.0} s", begun.elapsed().as_secs_f64());
        }
    };
    let made = generate(settings(url, keys)?, &synthesis, progress).await?;
    let took = begun.elapsed().as_secs_f64();
    println!(
        "{} entries, {} exchanges in {took:.0} s: {:.0} entries/s",
        made.entries,
        made.exchanges,
        made.entries as f64 / took
    );
    Ok(())
}

/// Where values are taken from: an entry, its index and its private part.
type Sample = (u64, Entry, PrivatePart);

fn random(limit: u64) -> u64 {
    let mut bytes = [0; 8];
    // Without randomness the same is asked for again and again.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    u64::from_le_bytes(bytes) % limit.max(1)
}

async fn sample(reader: &Reader, size: u64) -> Result<Vec<Sample>, Failure> {
    let mut samples = Vec::new();
    while samples.len() < SAMPLES {
        let mut tail = reader.tail(Some(random(size))).await?;
        let Some(stored) = tail.ready().await?.into_iter().next() else {
            continue;
        };
        if let Ok(Decoded::Entry(entry)) = decode(&stored.bytes)
            && entry.kind() == Kind::Open
            && let Some(private) = reader.open_private(stored.index).await?
            && !private.subjects.is_empty()
            && !private.case_number.is_empty()
        {
            samples.push((stored.index, *entry, private));
        }
    }
    Ok(samples)
}

fn between(filter: &mut EntryFilter, time_us: i64, length_us: i64) {
    filter.from_us = time_us;
    filter.until_us = time_us + length_us;
}

fn client(entry: &Entry) -> String {
    entry
        .client
        .as_ref()
        .map(|it| it.spiffe_id.clone())
        .unwrap_or_default()
}

/// The client's id until a slash from the right.
fn prefix(entry: &Entry, slash: usize) -> String {
    let id = client(entry);
    let end = id
        .rmatch_indices('/')
        .nth(slash)
        .map_or(0, |(at, _)| at + 1);
    format!("{}*", id.get(..end).unwrap_or_default())
}

fn service(entry: &Entry) -> String {
    entry
        .method
        .split('/')
        .nth(1)
        .unwrap_or_default()
        .to_owned()
}

fn subject(private: &PrivatePart) -> String {
    private
        .subjects
        .first()
        .map(|it| it.value.clone())
        .unwrap_or_default()
}

fn set(filter: &mut EntryFilter, name: &str, (_, entry, private): &Sample) {
    const REASONS: [Reason; 5] = [
        Reason::NotGranted,
        Reason::RateExceeded,
        Reason::DeadlineExceeded,
        Reason::PathNotCanonical,
        Reason::MessageMalformed,
    ];
    let outcomes = [
        Outcome::Ok,
        Outcome::Failed,
        Outcome::Refused,
        Outcome::Interrupted,
    ];
    let any = |count: usize| usize::try_from(random(count as u64)).unwrap_or(0);
    match name {
        "hour" => between(filter, entry.time_us, DAY_US / 24),
        "day" => between(filter, entry.time_us, DAY_US),
        "month" => between(filter, entry.time_us, 30 * DAY_US),
        "city" => {
            filter.city = entry
                .provider
                .as_ref()
                .map(|it| it.city.clone())
                .unwrap_or_default()
        }
        "client" => filter.client = client(entry),
        "prefix agency" => filter.client = prefix(entry, 0),
        "prefix city" => filter.client = prefix(entry, 1),
        "service" => filter.service = service(entry),
        "method" => filter.method.clone_from(&entry.method),
        "purpose" => filter.purpose.clone_from(&entry.purpose),
        "operator" => filter.operator.clone_from(&private.operator),
        "case" => filter.case_number.clone_from(&private.case_number),
        "subject" => filter.subject = subject(private),
        "exchange" => {
            filter.exchange_id = Uuid::from_slice(&entry.exchange)
                .unwrap_or_default()
                .to_string();
        }
        "kind" => {
            let kinds = [
                Kind::Open,
                Kind::Close,
                Kind::Refused,
                Kind::Read,
                Kind::Admin,
            ];
            filter.kinds = kinds
                .get(any(5))
                .map(|kind| (*kind).into())
                .into_iter()
                .collect();
        }
        "refused" => filter.kinds = vec![Kind::Refused.into()],
        "admin" => filter.kinds = vec![Kind::Admin.into()],
        "outcome" => filter.outcome = outcomes.get(any(4)).map_or(0, |it| (*it).into()),
        "reason" => filter.reason = REASONS.get(any(5)).map_or(0, |it| (*it).into()),
        "interrupted" => filter.outcome = Outcome::Interrupted.into(),
        "rare reason" => filter.reason = Reason::PathNotCanonical.into(),
        "absent city" => filter.city = "370100".into(),
        "absent client" => filter.client = "spiffe://nowhere.jiaodong/a/b".into(),
        "absent prefix" => filter.client = "spiffe://nowhere.jiaodong/*".into(),
        "absent method" => filter.method = "/nowhere.S/M".into(),
        "absent reason" => filter.reason = Reason::Draining.into(),
        "absent operator" => filter.operator = "nobody".into(),
        "absent case" => filter.case_number = "none".into(),
        "absent subject" => filter.subject = "370202199001010028".into(),
        "absent time" => between(filter, FROM_US - 9 * DAY_US, DAY_US),
        "absent exchange" => filter.exchange_id = Uuid::nil().to_string(),
        "open" => filter.kinds = vec![Kind::Open.into()],
        _ => {}
    }
}

/// What is asked for together. A value of the second entry, where an entry has it not with those of the first, makes
/// combinations that are rare or that nothing has.
const ROWS: &[&str] = &[
    "everything",
    "hour",
    "day",
    "month",
    "city",
    "client",
    "prefix agency",
    "prefix city",
    "service",
    "method",
    "purpose",
    "operator",
    "case",
    "subject",
    "exchange",
    "kind",
    "outcome",
    "reason",
    "absent time",
    "absent city",
    "absent client",
    "absent prefix",
    "absent method",
    "absent reason",
    "absent operator",
    "absent case",
    "absent subject",
    "absent exchange",
    "day+client",
    "day+method+purpose",
    "month+city+outcome",
    "hour+operator",
    "client+method",
    "client+other method+other purpose",
    "client+method+purpose+interrupted",
    "prefix agency+method+rare reason",
    "prefix city+other service+refused+rare reason",
    "city+kind+purpose",
    "service+interrupted",
    "client+admin",
    "open+interrupted",
    "operator+method",
    "operator+other subject",
    "operator+rare reason",
    "subject+purpose",
    "subject+month",
    "subject+other client+other method",
    "case+subject+operator",
    "client+absent method",
    "month+client+absent subject",
];

async fn measure(url: &str, keys: &str, times: usize, only: &str) -> Result<(), Failure> {
    let ledger = Ledger::open(settings(url, keys)?, Clock::system(), Arc::new(())).await?;
    let size = ledger.size();
    let mut indexed = ledger.indexed();
    indexed.wait_for(|indexed| *indexed + 4_096 > size).await?;
    let reader = ledger.reader();
    let samples = sample(&reader, size).await?;
    println!("{size} entries; {times} searches a row, the first {PAGE} matches, ms");
    println!(
        "{:46} {:>7} {:>26}   {:>26}   {:>26}",
        "", "found", "newest p50/p95/max", "oldest p50/p95/max", "behind a cursor p50/p95/max"
    );
    let mut slowest = (Duration::ZERO, "");
    for name in ROWS.iter().filter(|name| name.contains(only)) {
        let mut line = String::new();
        let mut count = 0;
        for (order, behind) in [
            (Order::Descending, false),
            (Order::Ascending, false),
            (Order::Descending, true),
        ] {
            let mut took = Vec::with_capacity(times);
            for _ in 0..times {
                let page = Page {
                    limit: PAGE,
                    order,
                    cursor: behind.then(|| random(size)),
                    open_private: false,
                };
                let filter = filter(name, &samples)?;
                let query = Query::parse(&filter)?;
                let begun = Instant::now();
                let found = reader.search(&query, page).await?;
                took.push(begun.elapsed());
                count += found.len();
            }
            took.sort_unstable();
            let at = |share: usize| {
                let at = (took.len() * share).div_ceil(100).max(1) - 1;
                took.get(at).copied().unwrap_or_default()
            };
            slowest = slowest.max((at(95), name));
            let ms = |share| at(share).as_secs_f64() * 1_000.0;
            line += &format!("   {:8.1} {:8.1} {:8.1}", ms(50), ms(95), ms(100));
        }
        println!("{name:46} {:>7}{line}", count / 3 / times.max(1));
    }
    println!(
        "slowest p95: {:.1} ms, {}",
        slowest.0.as_secs_f64() * 1_000.0,
        slowest.1
    );
    ledger.close().await;
    Ok(())
}

fn filter(name: &str, samples: &[Sample]) -> Result<EntryFilter, Failure> {
    let one = || {
        let at = usize::try_from(random(samples.len() as u64)).unwrap_or(0);
        samples.get(at).ok_or("no samples")
    };
    let (first, other) = (one()?, one()?);
    let mut filter = EntryFilter::default();
    for part in name.split('+') {
        match part.strip_prefix("other ") {
            Some(part) => set(&mut filter, part, other),
            None => set(&mut filter, part, first),
        }
    }
    Ok(filter)
}
