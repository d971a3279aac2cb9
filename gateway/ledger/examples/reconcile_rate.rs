//! How fast two ledgers are compared: `cargo run --release -p banqiao-ledger --example reconcile_rate -- URL KEYS URL KEYS [EXCHANGES]`.
//!
//! Each URL is that of an empty database, each KEYS a folder for its keys. So many exchanges of an hour, of OPEN and CLOSE
//! at both cities, are compared as gateways do it: by a digest for each minute, and then, of every minute, record by
//! record, which is the worst that a comparison can meet.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::{env, error::Error, sync::Arc, time::Instant};

use banqiao_directory::Clock;
use banqiao_ledger::{
    Append, Ledger, LedgerSettings,
    reconcile::{Key, Pair, Verdict, WINDOW_MS, Window, Windows, compare},
};
use banqiao_proto::ledger::v1::{
    Direction, Entry, ExchangeRecord, Kind, Party, Result as CallResult, Side,
};
use banqiao_tlog::note::Signer;

/// When the first exchange was made, milliseconds since 1970: a whole minute.
const START_MS: i64 = 29_912_400 * WINDOW_MS;
/// The exchanges are of so long.
const SPAN_MS: i64 = 60 * WINDOW_MS;

type Failure = Box<dyn Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (Some([consumer, consumer_keys, provider, provider_keys]), exchanges) =
        (arguments.first_chunk(), arguments.get(4))
    else {
        return Err("usage: reconcile_rate URL KEYS URL KEYS [EXCHANGES]".into());
    };
    let exchanges = exchanges.map_or(Ok(100_000), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let pair = Pair {
            here: "370200".parse()?,
            there: "370600".parse()?,
        };
        let here = open(consumer, consumer_keys, "370200", "qingdao").await?;
        let there = open(provider, provider_keys, "370600", "yantai").await?;
        fill(&here, Side::Consumer, exchanges).await?;
        fill(&there, Side::Provider, exchanges).await?;
        println!("exchanges   by digests   record by record   resident");
        let begun = Instant::now();
        let ours = windows(&here, pair).await?;
        let theirs = windows(&there, pair.turned()).await?;
        let digests = begun.elapsed();
        if ours.is_empty() || ours != theirs {
            return Err("the digests differ".into());
        }
        let begun = Instant::now();
        let compared = records(&here, &there, pair).await?;
        println!(
            "{compared:>9}   {:>8.2} s   {:>14.2} s   {}",
            digests.as_secs_f64(),
            begun.elapsed().as_secs_f64(),
            resident()
        );
        here.close().await;
        there.close().await;
        Ok(())
    })
}

async fn open(url: &str, keys: &str, city: &str, name: &str) -> Result<Ledger, Failure> {
    let signer = Signer::from_seed(&format!("{name}.jiaodong/ledger/1"), &[1; 32])?;
    let settings = LedgerSettings::new(url, city.parse()?, "bench", keys.into(), Arc::new(signer));
    Ok(Ledger::open(settings, Clock::system(), Arc::new(())).await?)
}

/// Both ends of so many exchanges, spread over the hour.
async fn fill(ledger: &Ledger, side: Side, exchanges: u64) -> Result<(), Failure> {
    let appender = ledger.appender();
    let mut waiting = Vec::new();
    for number in 0..exchanges {
        let span = u64::try_from(SPAN_MS)?;
        let made = u64::try_from(START_MS)? + number * span / exchanges;
        let mut random = [0; 10];
        random[2..].copy_from_slice(&number.to_be_bytes());
        let id = uuid::Builder::from_unix_timestamp_millis(made, &random).into_uuid();
        for kind in [Kind::Open, Kind::Close] {
            waiting.push(appender.append(Append::new(entry(id, kind, side))));
        }
        if waiting.len() >= 1_000 || number + 1 == exchanges {
            for appended in waiting.drain(..) {
                appended.await?;
            }
        }
    }
    Ok(())
}

fn entry(exchange: uuid::Uuid, kind: Kind, side: Side) -> Entry {
    let party = |id: &str, city: &str| {
        Some(Party {
            spiffe_id: id.to_owned(),
            city: city.to_owned(),
            agency: "hospital".to_owned(),
            key_sha256: Vec::new(),
        })
    };
    let direction = || {
        Some(Direction {
            root: vec![7; 32],
            count: 1,
            bytes: 300,
            complete: true,
            ..Direction::default()
        })
    };
    Entry {
        kind: kind.into(),
        exchange: exchange.as_bytes().to_vec(),
        attempt: 1,
        side: side.into(),
        client: party("spiffe://qingdao.jiaodong/hospital/his", "370200"),
        provider: party("", "370600"),
        method: "/banqiao.card.v1.CardService/VerifyCard".to_owned(),
        descriptor_digest: vec![5; 32],
        purpose: "benefit-eligibility".to_owned(),
        basis: "statutory:809-15".to_owned(),
        request: direction(),
        response: direction().filter(|_| kind == Kind::Close),
        result: (kind == Kind::Close).then(CallResult::default),
        ..Entry::default()
    }
}

async fn windows(ledger: &Ledger, pair: Pair) -> Result<Vec<Window>, Failure> {
    let mut records = ledger.reader().records(pair, START_MS, START_MS + SPAN_MS);
    let mut windows = Windows::new(pair);
    let mut made = Vec::new();
    while let Some(record) = records.next().await? {
        made.extend(windows.add(&record)?);
    }
    made.extend(windows.finish());
    Ok(made)
}

async fn records(here: &Ledger, there: &Ledger, pair: Pair) -> Result<u64, Failure> {
    let mut ours = here.reader().records(pair, START_MS, START_MS + SPAN_MS);
    let mut theirs = there
        .reader()
        .records(pair.turned(), START_MS, START_MS + SPAN_MS);
    let key = |record: &ExchangeRecord, pair| Key::of(record, pair);
    let mut compared = 0;
    while let Some(record) = ours.next().await? {
        let other = theirs.next().await?.ok_or("one ledger has less")?;
        if key(&record, pair)? != key(&other, pair.turned())? {
            return Err("the exchanges differ".into());
        }
        if compare(Some(&record), Some(&other), i64::MAX) != Verdict::Agree {
            return Err("the records differ".into());
        }
        compared += 1;
    }
    Ok(compared)
}

/// Memory of this program at its largest.
fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    line.unwrap_or_default()
        .replace("VmHWM:", "")
        .trim()
        .to_owned()
}
