//! Documents, summaries, private parts and the tail.

use std::time::Duration;

use banqiao_directory::SpiffeId;
use banqiao_ledger::{Append, AppendError, DocumentKind, Effect, EvidenceKind, LedgerSettings};
use banqiao_proto::{
    exchange::v1::Reason,
    ledger::v1::{AdminChange, Entry, EntryFilter, Kind},
};

use crate::bed::{
    Bed, CLIENT, SUBJECT, append_all, chain, claiming, entries, id, matching, on_both_stores,
    private, wait_for,
};

on_both_stores![
    documents_change_with_their_entries,
    refused_entry_changes_no_document,
    counts_become_summaries,
    private_part_is_nowhere_in_the_clear,
    receipts_are_read_newest_first,
    tail_follows_what_is_committed,
    ledger_of_another_city_is_refused,
];

fn admin(effect: Effect) -> Append {
    let change = AdminChange {
        action: "grant.add".into(),
        ..AdminChange::default()
    };
    let entry = Entry {
        kind: Kind::Admin.into(),
        admin: Some(change),
        ..Entry::default()
    };
    Append::new(entry).with(effect)
}

fn put(key: &str, bytes: &[u8]) -> Append {
    admin(Effect::PutDocument {
        kind: DocumentKind::Grant,
        key: key.into(),
        bytes: bytes.into(),
    })
}

async fn receipts_are_read_newest_first(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    let appends = (0..6).map(|number| {
        let append = claiming(id(number));
        match number % 2 {
            0 => append,
            _ => append.with(Effect::Evidence {
                kind: EvidenceKind::Receipt,
                bytes: vec![u8::try_from(number).unwrap()].into(),
            }),
        }
    });
    append_all(&appender, appends.collect()).await;
    let reader = ledger.reader();
    let before = async |index, most| {
        let kind = EvidenceKind::Receipt;
        reader.evidence_before(index, kind, most).await.unwrap()
    };
    assert_eq!(before(6, 2).await, [(5, vec![5]), (3, vec![3])]);
    assert_eq!(before(3, 2).await, [(1, vec![1])]);
    assert_eq!(before(1, 2).await, []);
}

async fn documents_change_with_their_entries(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    assert_eq!(
        ledger.documents(DocumentKind::Grant).await.unwrap(),
        (0, vec![])
    );
    let binary = [0, 159, 146, 150];
    append_all(
        &appender,
        vec![put("b", &binary), put("a", b"one"), put("a", b"two")],
    )
    .await;
    let directory = Effect::PutDocument {
        kind: DocumentKind::Directory,
        key: "current".into(),
        bytes: vec![1],
    };
    appender.append(admin(directory)).await.unwrap();
    let (revision, grants) = ledger.documents(DocumentKind::Grant).await.unwrap();
    assert_eq!(revision, 4);
    assert_eq!(ledger.revision().await.unwrap(), 4);
    let found: Vec<_> = grants
        .iter()
        .map(|it| (it.key.as_str(), &it.bytes[..]))
        .collect();
    assert_eq!(found, [("a", &b"two"[..]), ("b", &binary[..])]);
    let delete = Effect::DeleteDocument {
        kind: DocumentKind::Grant,
        key: "a".into(),
    };
    appender.append(admin(delete)).await.unwrap();
    let (revision, grants) = ledger.documents(DocumentKind::Grant).await.unwrap();
    assert_eq!((revision, grants.len()), (5, 1));
    assert_eq!(
        ledger
            .documents(DocumentKind::Directory)
            .await
            .unwrap()
            .1
            .len(),
        1
    );
    assert_eq!(entries(&ledger).await.len(), 5);
}

async fn refused_entry_changes_no_document(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    appender.append(claiming(id(1))).await.unwrap();
    let document = Effect::PutDocument {
        kind: DocumentKind::Grant,
        key: "k".into(),
        bytes: vec![1],
    };
    let outcome = appender.append(claiming(id(1)).with(document)).await;
    assert_eq!(outcome, Err(AppendError::Replayed));
    assert_eq!(
        ledger.documents(DocumentKind::Grant).await.unwrap(),
        (0, vec![])
    );
}

async fn counts_become_summaries(bed: Bed) {
    let settings = LedgerSettings {
        summary_interval: Duration::from_millis(100),
        ..bed.settings("one")
    };
    let ledger = bed.open_with(settings).await;
    let client: SpiffeId = CLIENT.parse().unwrap();
    for _ in 0..3 {
        ledger.count(Reason::ClientBusy, Some(&client));
    }
    ledger.count(Reason::CertificateExpired, None);
    let filter = EntryFilter {
        kinds: vec![Kind::Summary.into()],
        ..EntryFilter::default()
    };
    let found = wait_for("the summaries", || async {
        let found = matching(&ledger, &filter).await;
        let counted: u64 = found
            .iter()
            .flat_map(|entry| &entry.summary.as_ref().unwrap().counts)
            .map(|count| count.count)
            .sum();
        (counted == 4).then_some(found)
    })
    .await;
    assert!(
        found
            .iter()
            .all(|entry| !entry.summary.as_ref().unwrap().gap)
    );
    let by_client = EntryFilter {
        client: CLIENT.into(),
        ..EntryFilter::default()
    };
    assert_eq!(matching(&ledger, &by_client).await.len(), 1);
    let by_reason = EntryFilter {
        reason: Reason::CertificateExpired.into(),
        ..EntryFilter::default()
    };
    assert_eq!(matching(&ledger, &by_reason).await.len(), 1);
}

/// Whether a text stands anywhere in the files below a folder.
fn stands_in(folder: &std::path::Path, text: &str) -> bool {
    let mut grep = std::process::Command::new("grep");
    let found = grep
        .args(["-rqaF", "--", text])
        .arg(folder)
        .env("LC_ALL", "C")
        .status()
        .unwrap();
    assert!(matches!(found.code(), Some(0 | 1)), "{found}");
    found.success()
}

async fn private_part_is_nowhere_in_the_clear(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    for number in 0..20 {
        let append = claiming(id(number)).with_private(private());
        assert!(!format!("{append:?}").contains(SUBJECT));
        appender.append(append).await.unwrap();
    }
    assert_eq!(
        ledger.reader().open_private(3).await.unwrap(),
        Some(private())
    );
    assert_eq!(ledger.reader().open_private(99).await.unwrap(), None);
    let mut folders = vec![bed.folder.path().to_owned()];
    if let Some(cluster) = &bed.cluster {
        bed.execute("CHECKPOINT").await.unwrap();
        folders.push(cluster.data());
    }
    let stands = |text: &str| folders.iter().any(|folder| stands_in(folder, text));
    // What is not private is there: the search looks at the right bytes, also in what is still in the WAL.
    assert!(stands("benefit-eligibility"));
    let part = private();
    for secret in [
        &part.subjects[0].value,
        &part.operator,
        &part.case_number,
        &part.client_address,
        &part.error_text,
    ] {
        assert!(!stands(secret), "{secret}");
    }
}

async fn tail_follows_what_is_committed(bed: Bed) {
    let ledger = bed.open("one").await;
    let appender = ledger.appender();
    append_all(
        &appender,
        (0..300).map(|number| claiming(id(number))).collect(),
    )
    .await;
    let mut tail = ledger.reader().tail(Some(10)).await.unwrap();
    let first = tail.next().await.unwrap();
    assert_eq!(
        (first.first().unwrap().index, first.last().unwrap().index),
        (10, 265)
    );
    let second = tail.next().await.unwrap();
    assert_eq!(
        (second.first().unwrap().index, second.last().unwrap().index),
        (266, 299)
    );
    assert!(tail.ready().await.unwrap().is_empty());
    let (next, appended) = tokio::join!(tail.next(), appender.append(claiming(id(999))));
    assert_eq!(next.unwrap()[0].index, appended.unwrap().index);
    let mut new = ledger.reader().tail(None).await.unwrap();
    let (next, _) = tokio::join!(new.next(), appender.append(claiming(id(1_000))));
    assert_eq!(next.unwrap()[0].index, 301);
}

async fn ledger_of_another_city_is_refused(bed: Bed) {
    bed.open("one").await.close().await;
    let settings = LedgerSettings {
        city: "370600".parse().unwrap(),
        ..bed.settings("one")
    };
    let error = bed.try_open(settings).await.unwrap_err();
    assert!(
        chain(&error).contains("the ledger of 370200, not of 370600"),
        "{}",
        chain(&error)
    );
}
