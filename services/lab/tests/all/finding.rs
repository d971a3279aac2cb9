//! What is found, and what is not.

use banqiao_kit::CallError;
use banqiao_lab::{FindReports, ReportKey};
use banqiao_proto::lab::v1::{FindReportsRequest, ReportStatus};

use crate::scene::{DAY, DOCTOR, HOUR, NOON, Scene, caller, corrected, of, report, search, time};

pub(crate) async fn a_patients_reports_come_newest_first_within_items_and_window(scene: Scene) {
    let reports: Vec<_> = (0..8)
        .map(|index| report(index, 1, (8 - i64::try_from(index).unwrap()) * DAY))
        .collect();
    scene.published(&reports).await;
    scene.published(&[report(100, 2, DAY)]).await;
    let whole = search(&reports[0]);
    let numbers = |request: FindReportsRequest| {
        let scene = &scene;
        async move {
            let found = scene.find(&request, DOCTOR).await;
            found
                .into_iter()
                .map(|stored| stored.report.report_number)
                .collect::<Vec<_>>()
        }
    };
    let expected: Vec<_> = reports
        .iter()
        .rev()
        .map(|report| report.report_number.clone())
        .collect();
    assert_eq!(numbers(whole.clone()).await, expected);
    let limited = FindReportsRequest {
        limit: 3,
        ..whole.clone()
    };
    assert_eq!(numbers(limited).await, expected[..3]);
    // The window holds its beginning and not its end.
    let window = FindReportsRequest {
        collected_from: time(NOON - 5 * DAY),
        collected_before: time(NOON - 3 * DAY),
        ..whole.clone()
    };
    assert_eq!(numbers(window).await, [&*expected[3], &*expected[4]]);
    // Items of two reports: four results each, in the order of the catalogue.
    let catalogue = crate::scene::built_in();
    let item = |place: usize| catalogue.items()[place].code.as_str().to_owned();
    let items = FindReportsRequest {
        item_codes: vec![item(0), item(9), "2400104B".to_owned()],
        ..whole.clone()
    };
    assert_eq!(numbers(items).await, [&*expected[5], &*expected[7]]);
    let none = FindReportsRequest {
        item_codes: vec!["2400104B".to_owned()],
        ..whole
    };
    assert!(numbers(none).await.is_empty());
    assert!(numbers(search(&report(0, 77, DAY))).await.is_empty());
}

pub(crate) async fn cancelled_reports_come_only_when_asked_for(scene: Scene) {
    let first = report(1, 1, DAY);
    scene
        .published(&[first.clone(), report(2, 1, 2 * DAY)])
        .await;
    scene
        .publish(&[corrected(&first, ReportStatus::Cancelled)])
        .await;
    assert_eq!(scene.find(&search(&first), DOCTOR).await.len(), 1);
    let all = FindReportsRequest {
        include_cancelled: true,
        ..search(&first)
    };
    let found = scene.find(&all, DOCTOR).await;
    assert_eq!(found[0].report.status(), ReportStatus::Cancelled);
    assert_eq!((found.len(), found[0].version), (2, 2));
}

pub(crate) async fn a_report_is_read_by_institution_and_number(scene: Scene) {
    let sent = report(1, 1, HOUR);
    scene.published(std::slice::from_ref(&sent)).await;
    let key = |number: &str| ReportKey::parse(&sent.institution, number).unwrap();
    let read = scene
        .reports
        .read(key(&sent.report_number), &caller(DOCTOR))
        .await
        .unwrap();
    assert_eq!(read.report.report_number, sent.report_number);
    let unknown = scene
        .reports
        .read(key("none"), &caller(DOCTOR))
        .await
        .unwrap_err();
    let CallError::CallerRefused { refusal, .. } = unknown else {
        panic!("{unknown:?}")
    };
    assert_eq!(refusal.rule.code, "REPORT_UNKNOWN");
}

#[test]
fn each_fault_of_a_search_names_field_and_rule() {
    let faults = |change: fn(&mut FindReportsRequest)| {
        let mut request = search(&report(1, 1, DAY));
        change(&mut request);
        FindReports::parse(&request, NOON).unwrap_err()
    };
    for (change, field, code) in [
        (
            (|r| r.patient_id.clear()) as fn(&mut FindReportsRequest),
            "patient_id",
            "CITIZEN_ID_LENGTH",
        ),
        (
            |r| r.item_codes = vec!["x".into()],
            "item_codes[0]",
            "ITEM_CODE",
        ),
        (
            |r| r.item_codes = vec!["770-8".into(); 101],
            "item_codes",
            "ITEMS",
        ),
        (|r| r.limit = 501, "limit", "LIMIT"),
        (
            |r| {
                r.collected_from = time(NOON);
                r.collected_before = time(NOON - DAY);
            },
            "collected_before",
            "WINDOW",
        ),
    ] {
        assert_eq!(of(&faults(change)), [(field, code)]);
    }
}
