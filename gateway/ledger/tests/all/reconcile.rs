//! How far a ledger is compared is kept with the entry that says so, on both stores; records are read page by page.

use std::time::Duration;

use banqiao_ledger::{
    Append, Effect, Ledger,
    reconcile::{Key, OpenAttempt, Pair, ReconcileStep, Turn, Windows},
};
use banqiao_proto::ledger::v1::{Entry, Kind, Reconciled, RecordState};
use uuid::Uuid;

use crate::bed::{Bed, append_all, close, on_both_stores, open, ready};

on_both_stores! {
    open_attempts_are_kept_until_they_end,
    pages_do_not_tear_an_exchange,
    steps_are_kept_with_their_entries,
    turn_passes_on_when_its_boot_is_over,
}

/// The entries of the bed are of a system of Yantai that calls Qingdao, in Yantai's ledger.
fn pair() -> Pair {
    Pair {
        here: "370600".parse().unwrap(),
        there: "370200".parse().unwrap(),
    }
}

fn turn() -> Turn {
    Turn {
        city: "370200".to_owned(),
        first_ms: 5,
        lasts: Duration::from_secs(600),
    }
}

fn attempt(number: u8) -> OpenAttempt {
    OpenAttempt {
        exchange: [number; 16],
        attempt: 1,
    }
}

async fn step(ledger: &Ledger, step: ReconcileStep) {
    let entry = Entry {
        kind: Kind::Reconciled.into(),
        reconciled: Some(Reconciled {
            city: step.city.clone(),
            ..Reconciled::default()
        }),
        ..Entry::default()
    };
    let append = Append::new(entry).with(Effect::Reconciled(step));
    ledger.appender().append(append).await.unwrap();
}

fn moved(from_ms: i64, until_ms: i64, found: u64) -> ReconcileStep {
    ReconcileStep {
        city: "370200".to_owned(),
        from_ms,
        until_ms,
        at_us: 9,
        found,
        ..ReconcileStep::default()
    }
}

async fn steps_are_kept_with_their_entries(bed: Bed) {
    let ledger = bed.open("one").await;
    ready(&ledger).await;
    assert_eq!(ledger.claim_turn(turn()).await.unwrap(), Some(5));
    step(&ledger, moved(5, 60, 2)).await;
    step(&ledger, moved(60, 90, 1)).await;
    // Made by a replica that had lost its turn: what stands is not moved back.
    step(&ledger, moved(5, 70, 7)).await;
    let compared = ledger.reader().compared().await.unwrap();
    assert_eq!(compared.len(), 1);
    let row = &compared[0];
    assert_eq!((row.until_ms, row.found, row.at_us), (90, 3, 9));
    ledger.close().await;
    let ledger = bed.open("one").await;
    assert_eq!(ledger.claim_turn(turn()).await.unwrap(), Some(90));
}

async fn open_attempts_are_kept_until_they_end(bed: Bed) {
    let ledger = bed.open("one").await;
    ready(&ledger).await;
    ledger.claim_turn(turn()).await.unwrap();
    let first = ReconcileStep {
        open: vec![attempt(1), attempt(2), attempt(3)],
        ..moved(5, 60, 0)
    };
    step(&ledger, first).await;
    let second = ReconcileStep {
        open: vec![attempt(2), attempt(4)],
        ended: vec![attempt(1)],
        ..moved(60, 90, 0)
    };
    step(&ledger, second).await;
    let reader = ledger.reader();
    let all = reader.open_attempts("370200", None, 10).await.unwrap();
    assert_eq!(all, [attempt(2), attempt(3), attempt(4)]);
    let behind = reader.open_attempts("370200", Some(attempt(2)), 1).await;
    assert_eq!(behind.unwrap(), [attempt(3)]);
    assert_eq!(reader.compared().await.unwrap()[0].open, 3);
    let other = reader.open_attempts("370700", None, 10).await.unwrap();
    assert_eq!(other, []);
}

async fn turn_passes_on_when_its_boot_is_over(bed: Bed) {
    let one = bed.open("one").await;
    ready(&one).await;
    assert_eq!(one.claim_turn(turn()).await.unwrap(), Some(5));
    if bed.is_postgres() {
        let two = bed.open("two").await;
        ready(&two).await;
        assert_eq!(two.claim_turn(turn()).await.unwrap(), None);
        assert_eq!(one.claim_turn(turn()).await.unwrap(), Some(5));
        one.close().await;
        assert_eq!(two.claim_turn(turn()).await.unwrap(), Some(5));
    } else {
        one.close().await;
        let two = bed.open("two").await;
        assert_eq!(two.claim_turn(turn()).await.unwrap(), Some(5));
    }
}

async fn pages_do_not_tear_an_exchange(bed: Bed) {
    const CALLS: u64 = 700;
    let ledger = bed.open("one").await;
    ready(&ledger).await;
    let start = 1_794_744_000_000_u64;
    let id = |number: u64| {
        let random = [number.to_be_bytes().as_slice(), &[0; 2]].concat();
        let random = random.try_into().unwrap();
        uuid::Builder::from_unix_timestamp_millis(start + number * 1_000, &random).into_uuid()
    };
    let mut appends = Vec::new();
    for number in 0..CALLS {
        let exchange: Uuid = id(number);
        appends.push(Append::new(open(exchange)));
        appends.push(Append::new(close(exchange)));
        if number % 7 == 0 {
            // Of another city.
            let mut other = open(Uuid::now_v7());
            other.exchange = exchange.as_bytes().to_vec();
            other.attempt = 2;
            other.provider.as_mut().unwrap().city = "370700".to_owned();
            appends.push(Append::new(other));
        }
    }
    while !appends.is_empty() {
        let rest = appends.split_off(appends.len().min(500));
        for outcome in append_all(&ledger.appender(), appends).await {
            outcome.unwrap();
        }
        appends = rest;
    }
    let start = i64::try_from(start).unwrap();
    let read = async |from: i64, until: i64| {
        let mut records = ledger.reader().records(pair(), start + from, start + until);
        let mut found = Vec::new();
        while let Some(record) = records.next().await.unwrap() {
            assert_eq!(record.state(), RecordState::Closed);
            found.push(record);
        }
        found
    };
    let all = read(0, 1_000_000).await;
    assert_eq!(all.len() as u64, CALLS);
    let keys: Vec<_> = all.iter().map(|it| Key::of(it, pair()).unwrap()).collect();
    assert!(keys.is_sorted_by(|a, b| a < b));
    assert_eq!(read(1_000, 3_000).await, all[1..3]);
    let mut windows = Windows::new(pair());
    let mut counted = 0;
    for record in &all {
        let window = windows.add(record).unwrap();
        counted += window.map_or(0, |window| window.count);
    }
    counted += windows.finish().unwrap().count;
    assert_eq!(counted, CALLS);
}
