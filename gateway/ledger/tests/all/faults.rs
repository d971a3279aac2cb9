//! A database that is not what it was.

use banqiao_ledger::{AppendError, FreezeReason, LedgerState};

use crate::bed::{Bed, chain, claiming, id, on_both_stores, ready, state};

on_both_stores![
    smaller_head_freezes_the_ledger,
    head_with_another_tree_freezes_the_ledger,
    marked_head_freezes_the_ledger_until_the_mark_is_gone,
    contradictions_are_found_at_the_start,
];

async fn frozen_for(bed: &Bed, sql: &'static str, reason: FreezeReason) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    for number in 0..5 {
        appender.append(claiming(id(number))).await.unwrap();
    }
    bed.execute(sql).await.unwrap();
    let outcome = appender.append(claiming(id(9))).await;
    assert_eq!(outcome, Err(AppendError::Frozen));
    state(&ledger, |state| state == LedgerState::Frozen(reason)).await;
    assert!(!ledger.writable());
    assert_eq!(
        appender.append(claiming(id(10))).await,
        Err(AppendError::Frozen)
    );
    // What is there can still be read.
    assert_eq!(
        ledger.reader().exchange(id(1), false).await.unwrap().len(),
        1
    );
    assert_eq!(bed.count("SELECT count(*) FROM entry").await, 5);
}

async fn smaller_head_freezes_the_ledger(bed: Bed) {
    let sql = "UPDATE head SET size = 4, frontier = substr(frontier, 1, 32)";
    frozen_for(&bed, sql, FreezeReason::Rollback).await;
}

async fn head_with_another_tree_freezes_the_ledger(bed: Bed) {
    let sql = if bed.is_postgres() {
        "UPDATE head SET frontier = decode(repeat('00', 64), 'hex')"
    } else {
        "UPDATE head SET frontier = zeroblob(64)"
    };
    frozen_for(&bed, sql, FreezeReason::Rollback).await;
}

async fn marked_head_freezes_the_ledger_until_the_mark_is_gone(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    bed.execute("UPDATE head SET frozen = 'by hand'")
        .await
        .unwrap();
    assert_eq!(
        appender.append(claiming(id(1))).await,
        Err(AppendError::Frozen)
    );
    state(&ledger, |state| {
        state == LedgerState::Frozen(FreezeReason::Flagged)
    })
    .await;
    bed.execute("UPDATE head SET frozen = NULL").await.unwrap();
    ready(&ledger).await;
    appender.append(claiming(id(1))).await.unwrap();
}

async fn contradictions_are_found_at_the_start(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    for number in 0..6 {
        appender.append(claiming(id(number))).await.unwrap();
    }
    ledger.close().await;
    for (break_it, mend_it) in [
        (
            "UPDATE head SET size = 5, note = NULL",
            "UPDATE head SET size = 6",
        ),
        (
            "UPDATE head SET size = 4, frontier = substr(frontier, 1, 32), note = NULL",
            "",
        ),
    ] {
        bed.execute(break_it).await.unwrap();
        let error = bed.try_open(bed.settings("one")).await.unwrap_err();
        assert!(
            chain(&error).contains("the stored head is corrupt"),
            "{}",
            chain(&error)
        );
        if !mend_it.is_empty() {
            bed.execute(mend_it).await.unwrap();
            bed.open("one").await.close().await;
        }
    }
}
