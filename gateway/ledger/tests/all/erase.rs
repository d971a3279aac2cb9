//! Erasure: private parts go with their tokens in the transaction of the ERASE entry, and the ledger stays whole.

use std::{fs, os::unix::fs::PermissionsExt as _};

use banqiao_ledger::{
    Append, Effect, Ledger, Month,
    retention::kept,
    verify::{Step, Verification},
};
use banqiao_proto::ledger::v1::{Entry, EntryFilter, Erase, Kind};

use sqlx::{Connection as _, SqliteConnection};

use crate::bed::{
    Bed, NOW, ORIGIN, SUBJECT, append_all, entries, id, matching, on_both_stores, open, private,
    signer, wait_for,
};

on_both_stores![
    erased_private_parts_are_gone_and_the_ledger_still_verifies,
    erasure_that_is_not_entered_erases_nothing,
    keys_of_a_closed_month_are_destroyed_and_stay_so,
    floors_of_a_month_are_those_of_what_is_in_it,
];

const DAY: i64 = 86_400_000_000;

async fn call(ledger: &Ledger, number: u128, operator: &str) -> u64 {
    let mut part = private();
    part.operator = operator.to_owned();
    let append = Append::new(open(id(number))).with_private(part);
    ledger.appender().append(append).await.unwrap().index
}

fn erasure(indices: &[u64], month: &str) -> Entry {
    Entry {
        kind: Kind::Erase.into(),
        erase: Some(Erase {
            proposal: "p".into(),
            indices: indices.to_vec(),
            month: month.into(),
            private_parts: indices.len() as u64,
            ..Erase::default()
        }),
        ..Entry::default()
    }
}

async fn erase(ledger: &Ledger, indices: &[u64]) -> u64 {
    let append = Append::new(erasure(indices, "")).with(Effect::Erase {
        indices: indices.to_vec(),
    });
    ledger.appender().append(append).await.unwrap().index
}

fn by_subject() -> EntryFilter {
    EntryFilter {
        subject: SUBJECT.into(),
        ..EntryFilter::default()
    }
}

async fn sound(bed: &Bed) {
    let keys = vec![signer(ORIGIN, 1).verifier().clone()];
    let mut verification = Verification::open(&bed.url, keys, None).await.unwrap();
    loop {
        match verification.step().await.unwrap() {
            Step::More(_) => {}
            Step::Sound => return,
            Step::Unsound(finding) => panic!("{finding}"),
        }
    }
}

async fn erased_private_parts_are_gone_and_the_ledger_still_verifies(bed: Bed) {
    let ledger = bed.open("one").await;
    let mut indices = Vec::new();
    for number in 0..6 {
        indices.push(call(&ledger, number, &format!("operator-{number}")).await);
    }
    assert_eq!(matching(&ledger, &by_subject()).await.len(), 6);
    let before = entries(&ledger).await;
    let gone = [indices[1], indices[4]];
    let stored = ciphertext(&bed).await;
    let index = erase(&ledger, &gone).await;

    let reader = ledger.reader();
    let left = matching(&ledger, &by_subject()).await;
    assert_eq!(left.len(), 4, "searches by the subject find them no more");
    for number in [1_u8, 4] {
        let filter = EntryFilter {
            operator: format!("operator-{number}"),
            ..EntryFilter::default()
        };
        assert_eq!(matching(&ledger, &filter).await, [], "nor by the operator");
    }
    for index in gone {
        assert_eq!(reader.open_private(index).await.unwrap(), None);
        assert!(reader.private_opening(index).await.unwrap().is_none());
    }
    assert!(reader.open_private(indices[0]).await.unwrap().is_some());
    assert_eq!(reader.erasable(&indices).await.unwrap().len(), 4);
    let rows = "SELECT (SELECT count(*) FROM private) * 1000 + (SELECT count(*) FROM token)";
    assert_eq!(bed.count(rows).await, 4_012, "three tokens each");
    let after = entries(&ledger).await;
    assert_eq!(after[..before.len()], before, "no entry has changed");
    let entered = &after[usize::try_from(index).unwrap()];
    assert_eq!(entered.erase.as_ref().unwrap().indices, gone);
    ledger.close().await;
    sound(&bed).await;
    if let Some(stored) = stored {
        // Overwritten, not only unlinked: neither the file nor its log holds it.
        let mut bytes = fs::read(bed.file()).unwrap();
        bytes.extend(fs::read(bed.file().with_extension("db-wal")).unwrap_or_default());
        assert!(!bytes.windows(stored.len()).any(|it| it == stored));
    }
}

/// With SQLite, the ciphertext of the second call.
async fn ciphertext(bed: &Bed) -> Option<Vec<u8>> {
    if bed.is_postgres() {
        return None;
    }
    let mut connection = SqliteConnection::connect(&bed.url).await.unwrap();
    let rows = "SELECT ciphertext FROM private ORDER BY idx LIMIT 1 OFFSET 1";
    let found = sqlx::query_scalar(rows).fetch_one(&mut connection).await;
    Some(found.unwrap())
}

async fn erasure_that_is_not_entered_erases_nothing(bed: Bed) {
    let ledger = bed.open("one").await;
    let index = call(&ledger, 1, "operator-1").await;
    // The close of a call that is not open is refused, and its effects with it.
    let mut entry = open(id(9));
    entry.kind = Kind::Close.into();
    let append = Append::new(entry)
        .with(Effect::Close {
            peer: "370200".into(),
        })
        .with(Effect::Erase {
            indices: vec![index],
        });
    assert!(ledger.appender().append(append).await.is_err());
    assert!(ledger.reader().open_private(index).await.unwrap().is_some());
    assert_eq!(matching(&ledger, &by_subject()).await.len(), 1);
}

async fn keys_of_a_closed_month_are_destroyed_and_stay_so(bed: Bed) {
    let ledger = bed.open("one").await;
    let old = call(&ledger, 1, "operator-1").await;
    bed.clock.set_us(NOW + 40 * DAY);
    let new = call(&ledger, 2, "operator-2").await;
    let month: Month = "2026-11".parse().unwrap();
    let file = bed.folder.path().join("keys/370200-2026-11.key");
    assert!(file.exists() && ledger.reader().has_keys(month).unwrap());
    let key = fs::read(&file).unwrap();

    let append = Append::new(erasure(&[], "2026-11")).with(Effect::RetireMonth(month));
    ledger.appender().append(append).await.unwrap();
    let gone = async |ledger: &Ledger| {
        let reader = ledger.reader();
        wait_for("the keys to be destroyed", || async {
            (!file.exists() && !reader.has_keys(month).unwrap()).then_some(())
        })
        .await;
    };
    gone(&ledger).await;
    assert_eq!(ledger.reader().open_private(old).await.unwrap(), None);
    assert!(ledger.reader().open_private(new).await.unwrap().is_some());
    assert_eq!(matching(&ledger, &by_subject()).await.len(), 1);
    ledger.close().await;

    // A copy that comes back, as from a restored folder, is destroyed again; a replica that starts does not stop at it.
    fs::write(&file, key).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let ledger = bed.open("one").await;
    gone(&ledger).await;
    ledger.close().await;
    sound(&bed).await;
}

async fn floors_of_a_month_are_those_of_what_is_in_it(bed: Bed) {
    let ledger = bed.open("one").await;
    let month: Month = "2026-11".parse().unwrap();
    let now = |days: i64| NOW + days * DAY;
    let reader = ledger.reader();
    assert!(
        reader.month_kept(month, now(0)).await.unwrap().is_none(),
        "it is empty"
    );
    let refused = Entry {
        kind: Kind::Refused.into(),
        ..open(id(5))
    };
    let outcomes = append_all(&ledger.appender(), vec![Append::new(refused)]).await;
    assert!(outcomes[0].is_ok());
    let floor = async |days: i64| {
        let kept = reader.month_kept(month, now(days)).await.unwrap();
        kept.map(|kept| kept.floor.name)
    };
    assert_eq!(floor(150).await, Some("network-logs"));
    // 190 days behind the last moment of the month, not behind the entry.
    assert_eq!(floor(195).await, Some("network-logs"));
    assert_eq!(floor(206).await, None);
    let index = call(&ledger, 6, "operator-6").await;
    assert_eq!(floor(206).await, Some("usage-records"));
    assert_eq!(floor(3 * 366 + 20).await, None);
    let found = reader.erasable(&[index, index, 99]).await.unwrap();
    assert_eq!(found.len(), 1);
    let kept = kept(&found[0].entry, now(100))[0];
    assert_eq!(kept.floor.name, "usage-records");
    assert!(
        kept.to_string().starts_with("until 2029-11-15 (UTC)"),
        "{kept}"
    );
}
