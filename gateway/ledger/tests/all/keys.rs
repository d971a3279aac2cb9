//! Months, their keys and their tokens.

use banqiao_ledger::{AppendError, FreezeReason, LedgerSettings, LedgerState};
use banqiao_proto::ledger::v1::EntryFilter;

use crate::bed::{
    Bed, NOW, SUBJECT, chain, claiming, id, matching, on_both_stores, private, state,
};

on_both_stores![
    subject_is_found_in_every_month,
    month_without_its_key_can_neither_be_searched_nor_opened,
    missing_key_of_this_month_is_refused,
    replica_with_other_keys_may_not_write,
];

const DAY_US: i64 = 86_400 * 1_000_000;

fn subject() -> EntryFilter {
    EntryFilter {
        subject: SUBJECT.into(),
        ..EntryFilter::default()
    }
}

async fn subject_is_found_in_every_month(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    for number in 0..3 {
        appender
            .append(claiming(id(number)).with_private(private()))
            .await
            .unwrap();
        let mut other = private();
        other.subjects[0].value = "370202199001010028".into();
        appender
            .append(claiming(id(100 + number)).with_private(other))
            .await
            .unwrap();
        bed.clock.advance_us(31 * DAY_US);
    }
    assert_eq!(
        bed.count("SELECT count(DISTINCT token) FROM token").await,
        3 * 4
    );
    assert_eq!(bed.count("SELECT count(*) FROM month_key").await, 3);
    let found = matching(&ledger, &subject()).await;
    let exchanges: Vec<_> = found.iter().map(|entry| entry.exchange.clone()).collect();
    assert_eq!(
        exchanges,
        (0..3)
            .map(|n| id(n).as_bytes().to_vec())
            .collect::<Vec<_>>()
    );
    // As people type it.
    let typed = EntryFilter {
        subject: format!(" {SUBJECT} "),
        ..EntryFilter::default()
    };
    assert_eq!(matching(&ledger, &typed).await.len(), 3);
    let within = EntryFilter {
        from_us: NOW + 20 * DAY_US,
        until_us: NOW + 40 * DAY_US,
        ..subject()
    };
    assert_eq!(matching(&ledger, &within).await.len(), 1);
    let nobody = EntryFilter {
        subject: "370202199001010036".into(),
        ..EntryFilter::default()
    };
    assert!(matching(&ledger, &nobody).await.is_empty());
}

fn key_file(bed: &Bed, month: &str) -> std::path::PathBuf {
    bed.folder.path().join(format!("keys/370200-{month}.key"))
}

async fn month_without_its_key_can_neither_be_searched_nor_opened(bed: Bed) {
    let ledger = bed.open("one").await;
    ledger
        .appender()
        .append(claiming(id(1)).with_private(private()))
        .await
        .unwrap();
    bed.clock.advance_us(31 * DAY_US);
    ledger
        .appender()
        .append(claiming(id(2)).with_private(private()))
        .await
        .unwrap();
    ledger.close().await;
    std::fs::remove_file(key_file(&bed, "2026-11")).unwrap();

    let ledger = bed.open("one").await;
    let found = matching(&ledger, &subject()).await;
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].exchange, id(2).as_bytes());
    assert_eq!(ledger.reader().open_private(0).await.unwrap(), None);
    assert_eq!(
        ledger.reader().open_private(1).await.unwrap(),
        Some(private())
    );
}

async fn missing_key_of_this_month_is_refused(bed: Bed) {
    let ledger = bed.open("one").await;
    ledger
        .appender()
        .append(claiming(id(1)).with_private(private()))
        .await
        .unwrap();
    ledger.close().await;
    std::fs::remove_file(key_file(&bed, "2026-11")).unwrap();
    let error = bed.try_open(bed.settings("one")).await.unwrap_err();
    assert!(
        chain(&error).contains("the key of 2026-11 is missing"),
        "{}",
        chain(&error)
    );
    assert!(
        !key_file(&bed, "2026-11").exists(),
        "no other key is made in its place"
    );
}

async fn replica_with_other_keys_may_not_write(bed: Bed) {
    let ledger = bed.open("one").await;
    let other = LedgerSettings {
        keys: bed.folder.path().join("other"),
        ..bed.settings("two")
    };
    if bed.is_postgres() {
        // It starts before the month has a key in the ledger, and is found out at its first private part.
        let second = bed.open_with(other.clone()).await;
        ledger
            .appender()
            .append(claiming(id(1)).with_private(private()))
            .await
            .unwrap();
        second.appender().append(claiming(id(2))).await.unwrap();
        let outcome = second
            .appender()
            .append(claiming(id(3)).with_private(private()))
            .await;
        assert_eq!(outcome, Err(AppendError::Frozen));
        let frozen = LedgerState::Frozen(FreezeReason::Keys);
        state(&second, |state| state == frozen).await;
        assert_eq!(
            second.appender().append(claiming(id(4))).await,
            Err(AppendError::Frozen)
        );
    } else {
        ledger
            .appender()
            .append(claiming(id(1)).with_private(private()))
            .await
            .unwrap();
    }
    ledger.close().await;
    std::fs::create_dir_all(bed.folder.path().join("other")).unwrap();
    let error = bed.try_open(other).await.err();
    match error {
        Some(error) => assert!(
            chain(&error).contains("key of 2026-11"),
            "{}",
            chain(&error)
        ),
        None => panic!("the other keys were accepted"),
    }
}
