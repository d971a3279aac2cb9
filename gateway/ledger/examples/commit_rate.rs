//! How fast a ledger commits: `cargo run --release -p banqiao-ledger --example commit_rate -- URL KEYS [SECONDS [CALLS]]`.
//!
//! URL is that of an empty database, KEYS a folder for keys. Each call is an OPEN entry with a private part (a
//! subject, an operator, a case: three tokens) and the CLOSE that ends it. So many calls wait at once; with 64 of them a
//! batch has about 64 entries. Answers go through one runtime, as in a worker of the gateway.

#![expect(clippy::print_stdout, reason = "a program that prints figures")]

use std::{
    env,
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use banqiao_directory::Clock;
use banqiao_ledger::{Append, Effect, FailureKind, Ledger, LedgerObserver, LedgerSettings};
use banqiao_proto::ledger::v1::{
    Decision, Direction, Entry, Kind, Party, PrivatePart, Result as CallResult, Side, Subject,
};
use banqiao_tlog::note::Signer;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

#[derive(Default)]
struct Commits {
    commits: AtomicUsize,
    entries: AtomicUsize,
    bytes: AtomicUsize,
}

impl LedgerObserver for Commits {
    fn committed(&self, entries: usize, bytes: usize, _: Duration) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.entries.fetch_add(entries, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
    fn queue_depth(&self, _: usize) {}
    fn failed(&self, kind: FailureKind) {
        println!("failed: {kind:?}");
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let (Some(url), Some(keys)) = (arguments.next(), arguments.next()) else {
        return Err("usage: commit_rate URL KEYS [SECONDS [CALLS]]".into());
    };
    let seconds = arguments.next().map_or(Ok(3), |text| text.parse())?;
    let calls: Vec<usize> = match arguments.next() {
        Some(text) => vec![text.parse()?],
        None => vec![1, 8, 64, 256, 1_024],
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let commits = Arc::new(Commits::default());
        let signer = Signer::from_seed("qingdao.jiaodong/ledger/1", &[1; 32])?;
        let city = "370200".parse()?;
        let settings = LedgerSettings::new(url, city, "bench", keys.into(), Arc::new(signer));
        let observer = Arc::clone(&commits);
        let ledger = Ledger::open(settings, Clock::system(), observer).await?;
        println!("calls at once   entries/s   entries/commit   p50 ms   p99 ms   bytes/entry");
        for at_once in calls {
            measure(&ledger, &commits, at_once, Duration::from_secs(seconds)).await;
        }
        ledger.close().await;
        Ok(())
    })
}

async fn measure(ledger: &Ledger, commits: &Commits, at_once: usize, time: Duration) {
    let before = [&commits.commits, &commits.entries, &commits.bytes]
        .map(|count| count.load(Ordering::Relaxed));
    let begun = Instant::now();
    let appender = ledger.appender();
    let tracker = TaskTracker::new();
    let tasks: Vec<_> = (0..at_once)
        .map(|_| {
            let appender = appender.clone();
            tracker.spawn(async move {
                let mut waits = Vec::new();
                while begun.elapsed() < time {
                    let exchange = Uuid::now_v7();
                    let peer = "370200".to_owned();
                    let open = Append::new(open(exchange))
                        .with_private(private())
                        .with(Effect::Open { peer: peer.clone() });
                    let close = Append::new(close(exchange)).with(Effect::Close { peer });
                    for append in [open, close] {
                        let asked = Instant::now();
                        if let Err(error) = appender.append(append).await {
                            println!("{error}");
                        }
                        waits.push(asked.elapsed());
                    }
                }
                waits
            })
        })
        .collect();
    let mut waits = Vec::new();
    for task in tasks {
        waits.extend(task.await.unwrap_or_default());
    }
    let took = begun.elapsed().as_secs_f64();
    let [count, entries, bytes] = [&commits.commits, &commits.entries, &commits.bytes]
        .map(|count| count.load(Ordering::Relaxed));
    let (count, entries, bytes) = (count - before[0], entries - before[1], bytes - before[2]);
    waits.sort_unstable();
    let at = |share: usize| {
        waits
            .get(waits.len() * share / 100)
            .map_or(0.0, |wait| wait.as_secs_f64() * 1_000.0)
    };
    println!(
        "{at_once:13}   {:9.0}   {:14.1}   {:6.2}   {:6.2}   {:11}",
        entries as f64 / took,
        entries as f64 / count.max(1) as f64,
        at(50),
        at(99),
        bytes / entries.max(1),
    );
}

fn open(exchange: Uuid) -> Entry {
    Entry {
        kind: Kind::Open.into(),
        exchange: exchange.as_bytes().to_vec(),
        attempt: 1,
        side: Side::Consumer.into(),
        client: Some(Party {
            spiffe_id: "spiffe://qingdao.jiaodong/hospital/his".into(),
            city: "370200".into(),
            agency: "hospital".into(),
            key_sha256: vec![1; 32],
        }),
        provider: Some(Party {
            city: "370600".into(),
            ..Party::default()
        }),
        method: "/banqiao.card.v1.CardService/VerifyCard".into(),
        descriptor_digest: vec![2; 32],
        purpose: "benefit-eligibility".into(),
        basis: "statutory:809-15".into(),
        decision: Some(Decision {
            grant_set_digest: vec![3; 32],
            directory_version: 7,
            ..Decision::default()
        }),
        request: Some(Direction {
            root: vec![4; 32],
            count: 1,
            bytes: 256,
            complete: true,
            ..Direction::default()
        }),
        ..Entry::default()
    }
}

fn close(exchange: Uuid) -> Entry {
    Entry {
        kind: Kind::Close.into(),
        response: open(exchange).request,
        result: Some(CallResult {
            duration_us: 1_234,
            ..CallResult::default()
        }),
        ..open(exchange)
    }
}

fn random() -> [u8; 8] {
    let mut bytes = [0; 8];
    // Without randomness all people would be one.
    let _ = aws_lc_rs::rand::fill(&mut bytes);
    bytes
}

fn private() -> PrivatePart {
    // Different people, as in life: tokens that differ.
    let number = u64::from_le_bytes(random()) % 1_000_000_000_000_000_000;
    PrivatePart {
        subjects: vec![Subject {
            kind: 1,
            value: format!("{number:018}"),
        }],
        operator: format!("operator-{}", number % 300),
        case_number: format!("case-{number}"),
        client_address: "192.0.2.7".into(),
        error_text: String::new(),
        peer: None,
    }
}
