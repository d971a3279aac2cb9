//! Claims, calls in flight, leases, and calls that a dead replica left open.

use std::time::Duration;

use banqiao_ledger::{AppendError, LeaseSettings, LedgerSettings, LedgerState};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{EntryFilter, Kind, Outcome},
};

use crate::bed::{
    Bed, append_all, claiming, closing, entries, id, matching, on_both_stores, opening, state,
    wait_for,
};

on_both_stores![
    claim_is_accepted_once_also_after_a_restart,
    call_is_closed_once,
    calls_to_several_peers_are_told_apart,
    open_calls_of_a_dead_replica_are_closed_as_interrupted,
    replica_that_lost_its_lease_writes_nothing_until_it_begins_anew,
];

async fn claim_is_accepted_once_also_after_a_restart(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    let batch = [1, 2, 1, 3].map(|number| claiming(id(number))).into();
    let outcomes = append_all(&appender, batch).await;
    assert_eq!(outcomes[2], Err(AppendError::Replayed));
    assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
    assert_eq!(
        appender.append(claiming(id(3))).await,
        Err(AppendError::Replayed)
    );
    // Another attempt is another claim.
    let mut second = claiming(id(3));
    second.entry.attempt = 2;
    appender.append(second).await.unwrap();
    assert_eq!(ledger.size(), 4);
    ledger.close().await;

    let again = bed.open("two").await;
    let outcome = again.appender().append(claiming(id(2))).await;
    assert_eq!(outcome, Err(AppendError::Replayed));
    assert_eq!(outcome.unwrap_err().reason(), Reason::Replayed);
    assert_eq!(again.size(), 4);
}

async fn call_is_closed_once(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    appender.append(opening(id(1))).await.unwrap();
    assert_eq!(
        appender.append(opening(id(1))).await,
        Err(AppendError::Replayed)
    );
    let ends = [closing(id(1)), closing(id(1)), closing(id(2))].into();
    let outcomes = append_all(&appender, ends).await;
    assert!(outcomes[0].is_ok());
    assert_eq!(outcomes[1], Err(AppendError::AlreadyClosed));
    assert_eq!(outcomes[2], Err(AppendError::AlreadyClosed));
    assert_eq!(bed.count("SELECT count(*) FROM in_flight").await, 0);
    assert_eq!(entries(&ledger).await.len(), 2);
}

async fn calls_to_several_peers_are_told_apart(bed: Bed) {
    use banqiao_ledger::{Append, Effect};
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    let peers = ["370200", "370700", "371000"].map(str::to_owned);
    for peer in &peers {
        let effect = Effect::Open { peer: peer.clone() };
        appender
            .append(Append::new(crate::bed::open(id(1))).with(effect))
            .await
            .unwrap();
    }
    for peer in &peers {
        let effect = Effect::Close { peer: peer.clone() };
        appender
            .append(Append::new(crate::bed::close(id(1))).with(effect))
            .await
            .unwrap();
    }
    assert_eq!(ledger.size(), 6);
}

fn short(bed: &Bed, replica: &str) -> LedgerSettings {
    let lease = LeaseSettings {
        ttl: Duration::from_millis(400),
        renew: Duration::from_millis(50),
    };
    LedgerSettings {
        lease,
        ..bed.settings(replica)
    }
}

async fn open_calls_of_a_dead_replica_are_closed_as_interrupted(bed: Bed) {
    let dead = bed.open_with(short(&bed, "dead")).await;
    let appender = dead.appender();
    // More than are closed in one commit.
    let calls = (0..300).map(|number| opening(id(number))).collect();
    for outcome in append_all(&appender, calls).await {
        outcome.unwrap();
    }
    appender.append(closing(id(7))).await.unwrap();
    let boot = dead.boot();
    drop((dead, appender));

    let heir = bed.open_with(short(&bed, "heir")).await;
    let filter = EntryFilter {
        outcome: Outcome::Interrupted.into(),
        ..EntryFilter::default()
    };
    let closed = wait_for("the orphans to be closed", || async {
        let closed = matching(&heir, &filter).await;
        (closed.len() >= 299).then_some(closed)
    })
    .await;
    assert_eq!(closed.len(), 299, "the call that had ended is left alone");
    let opened = entries(&heir).await.swap_remove(0);
    assert_eq!(opened.replica.unwrap().boot, boot.as_bytes());
    for entry in &closed {
        let result = entry.result.as_ref().unwrap();
        assert_eq!(entry.kind(), Kind::Close);
        assert_eq!((result.status, result.reason()), (2, Reason::Interrupted));
        assert_eq!(result.closed_by, "heir");
        assert_eq!(entry.replica.as_ref().unwrap().id, "heir");
        assert_eq!(
            (&entry.client, &entry.provider),
            (&opened.client, &opened.provider)
        );
        assert_eq!(
            (&entry.method, &entry.purpose),
            (&opened.method, &opened.purpose)
        );
        assert_eq!((entry.attempt, entry.side), (opened.attempt, opened.side));
    }
    wait_for("the lease to be forgotten", || async {
        (bed.count("SELECT count(*) FROM lease").await == 1).then_some(())
    })
    .await;
    assert_eq!(bed.count("SELECT count(*) FROM in_flight").await, 0);
    let late = heir.appender().append(closing(id(8))).await;
    assert_eq!(late, Err(AppendError::AlreadyClosed));
}

async fn replica_that_lost_its_lease_writes_nothing_until_it_begins_anew(bed: Bed) {
    let settings = LedgerSettings {
        lease: LeaseSettings {
            ttl: Duration::from_secs(60),
            renew: Duration::from_secs(3_600),
        },
        ..bed.settings("one")
    };
    let ledger = bed.open_with(settings).await;
    let appender = ledger.appender();
    appender.append(opening(id(1))).await.unwrap();
    let boot = ledger.boot();
    // What another replica does when it takes this one for dead.
    let fence = if bed.is_postgres() {
        "UPDATE lease SET fenced = true, until_us = 0"
    } else {
        "UPDATE lease SET fenced = 1"
    };
    assert_eq!(bed.execute(fence).await.unwrap(), 1);
    assert_eq!(
        appender.append(claiming(id(2))).await,
        Err(AppendError::LeaseLost)
    );
    state(&ledger, |state| state == LedgerState::LeaseLost).await;
    assert!(!ledger.writable());
    assert_eq!(
        appender.append(claiming(id(2))).await,
        Err(AppendError::LeaseLost)
    );
    let end = appender.append_queued(closing(id(1))).await;
    assert_eq!(end, Err(AppendError::LeaseLost));
    assert_eq!(end.unwrap_err().reason(), Reason::LeaseLost);
    assert_eq!(ledger.size(), 1);

    let reopened = ledger.reopen().await.unwrap();
    assert_ne!(reopened, boot);
    assert_eq!(ledger.boot(), reopened);
    appender.append(claiming(id(2))).await.unwrap();
    let replica = entries(&ledger).await[1].replica.clone().unwrap();
    assert_eq!(
        (&replica.boot[..], replica.counter),
        (&reopened.as_bytes()[..], 0)
    );
    assert_eq!(
        ledger.reopen().await.unwrap(),
        reopened,
        "nothing to begin anew"
    );
}
