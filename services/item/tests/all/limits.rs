//! Limits, warnings, and the acceptance by silence.

use std::path::Path;

use banqiao_item::Due;
use banqiao_kit::civil_date;
use banqiao_proto::item::v1::{
    ActOnCaseRequest,
    ActorRole::{Department, Window},
    CaseAction as A, CaseState as S, ExtensionTerms, LimitKind, Warning,
};

use crate::{
    calendars::YEAR_2027,
    scene::{DAY, MOVE, NOON, PASSPORT, QINGDAO, QUERY, Scene, WEIHAI, full, refusal},
};

/// The last day of a limit of a case.
async fn last_day(scene: &Scene, number: banqiao_item::CaseNumber, kind: LimitKind) -> String {
    let case = scene.case(number).await;
    let timer = case.timers.iter().find(|timer| timer.kind == kind).unwrap();
    civil_date(timer.due.at().unwrap() - 1).to_string()
}

pub(crate) async fn silence_accepts_from_the_day_of_receipt(scene: Scene) {
    let number = scene.started(QUERY, WEIHAI).await;
    scene.decide(number, &[A::Receive]).await;
    assert_eq!(
        last_day(&scene, number, LimitKind::Acceptance).await,
        "2026-03-09"
    );
    // The last day itself is in time.
    scene.clock.set_us(NOON + 7 * DAY + DAY / 2 - 1);
    scene.cases.run_clocks().await.unwrap();
    assert_eq!(scene.state(number).await, S::Received);
    scene.clock.advance_us(1);
    // Whoever acts first finds the case accepted, sweep or no sweep.
    assert_eq!(
        refusal(
            scene
                .step(number, A::NotifyCorrection, Department, QINGDAO)
                .await
        ),
        "TRANSITION_NOT_ALLOWED"
    );
    scene.cases.run_clocks().await.unwrap();
    let case = scene.case(number).await;
    assert_eq!((case.state, case.deemed_accepted), (S::Accepted, true));
    assert_eq!(case.times.accepted, case.times.received);
    let history = scene.history(number).await;
    let deemed = history
        .iter()
        .find(|event| event.action == A::DeemAccepted)
        .unwrap();
    assert_eq!(
        deemed.at_us,
        NOON + 7 * DAY + DAY / 2,
        "at the end of the limit, whenever it was looked at"
    );
    // Its promise ran out meanwhile: the next day after receipt.
    assert_eq!(case.warning, Warning::Red);
}

pub(crate) async fn a_notice_in_time_begins_a_new_receipt(scene: Scene) {
    let number = scene.started(QUERY, WEIHAI).await;
    scene.decide(number, &[A::Receive]).await;
    scene.pass(3 * DAY).await;
    scene.decide(number, &[A::NotifyCorrection]).await;
    assert_eq!(
        refusal(
            scene
                .step(number, A::NotifyCorrection, Department, QINGDAO)
                .await
        ),
        "TRANSITION_NOT_ALLOWED"
    );
    scene.pass(60 * DAY).await;
    assert_eq!(
        scene.state(number).await,
        S::Correction,
        "the applicant's time is not the department's"
    );
    scene
        .step(number, A::Supplement, Window, WEIHAI)
        .await
        .unwrap();
    // 2026-05-04 lies in the holidays.
    assert_eq!(
        last_day(&scene, number, LimitKind::Acceptance).await,
        "2026-05-11"
    );
    scene.decide(number, &[A::Accept]).await;
}

pub(crate) async fn promised_and_legal_limits_warn_in_yellow_and_red(scene: Scene) {
    let number = scene.accepted(PASSPORT, WEIHAI).await;
    assert_eq!(
        last_day(&scene, number, LimitKind::Promised).await,
        "2026-03-11"
    );
    assert_eq!(
        last_day(&scene, number, LimitKind::Legal).await,
        "2026-03-23"
    );
    scene.decide(number, &[A::BeginReview]).await;
    scene.pass(7 * DAY).await;
    assert_eq!(scene.case(number).await.warning, Warning::Unspecified);
    scene.pass(DAY).await;
    assert_eq!(scene.case(number).await.warning, Warning::Yellow);
    scene.pass(30 * DAY).await;
    let case = scene.case(number).await;
    assert_eq!((case.warning, case.wake_us()), (Warning::Red, None));
    let history = scene.history(number).await;
    let warnings: Vec<_> = (history.iter())
        .filter(|event| matches!(event.action, A::WarnYellow | A::WarnRed))
        .map(|event| (event.action, event.detail.limit))
        .collect();
    assert_eq!(
        warnings,
        [
            (A::WarnYellow, LimitKind::Promised),
            (A::WarnRed, LimitKind::Promised),
            (A::WarnYellow, LimitKind::Legal),
            (A::WarnRed, LimitKind::Legal),
        ]
    );
    assert!(history.is_sorted_by_key(|event| event.at_us));
    scene.decide(number, &[A::Grant]).await;
    let case = scene.case(number).await;
    assert_eq!(
        (case.on_time, case.handling_workdays),
        (Some(false), Some(27))
    );
    assert_eq!(
        last_day(&scene, number, LimitKind::Delivery).await,
        "2026-04-23"
    );
}

pub(crate) async fn a_window_that_does_not_hand_over_is_warned(scene: Scene) {
    let number = scene.started(PASSPORT, WEIHAI).await;
    scene
        .step(number, A::Receive, Window, WEIHAI)
        .await
        .unwrap();
    scene.pass(2 * DAY).await;
    let history = scene.history(number).await;
    let last = history.last().unwrap();
    assert_eq!(
        (last.action, last.detail.limit),
        (A::WarnRed, LimitKind::HandOver)
    );
    scene
        .step(number, A::HandOver, Window, WEIHAI)
        .await
        .unwrap();
    assert_eq!(scene.case(number).await.warning, Warning::Unspecified);
}

pub(crate) async fn an_extension_is_granted_once_and_within_the_law(scene: Scene) {
    let number = scene.accepted(PASSPORT, WEIHAI).await;
    let extend = |days| ActOnCaseRequest {
        extension: Some(ExtensionTerms {
            workdays: days,
            approver: "负责人".into(),
        }),
        ..full(number, A::Extend, Department)
    };
    assert_eq!(
        refusal(scene.ask(&extend(11), QINGDAO).await),
        "EXTENSION_TOO_LONG"
    );
    scene.ask(&extend(10), QINGDAO).await.unwrap();
    assert_eq!(
        last_day(&scene, number, LimitKind::Legal).await,
        "2026-04-07"
    );
    assert_eq!(
        refusal(scene.ask(&extend(1), QINGDAO).await),
        "EXTENDED_ALREADY"
    );
    let joint = scene.accepted(MOVE, QINGDAO).await;
    let longer = ActOnCaseRequest {
        number: joint.to_string(),
        ..extend(15)
    };
    scene.ask(&longer, QINGDAO).await.unwrap();
    let case = scene.case(joint).await;
    assert_eq!(case.extension.unwrap().approver, "负责人");
}

pub(crate) async fn a_special_procedure_stops_the_clock(scene: Scene) {
    let number = scene.accepted(PASSPORT, WEIHAI).await;
    scene.decide(number, &[A::BeginReview]).await;
    scene.pass(3 * DAY).await;
    scene.decide(number, &[A::BeginSpecial]).await;
    let case = scene.case(number).await;
    assert!(case.timers.iter().all(|timer| timer.due == Due::Stopped));
    scene.pass(60 * DAY).await;
    assert_eq!(scene.case(number).await.warning, Warning::Unspecified);
    scene.decide(number, &[A::EndSpecial]).await;
    // Three of seven days ran; 2026-05-04 and 05 are holidays, 05-09 is worked.
    assert_eq!(
        last_day(&scene, number, LimitKind::Promised).await,
        "2026-05-09"
    );
    let case = scene.case(number).await;
    let interval = &case.special[0];
    assert_eq!(
        (interval.began_at, interval.ended_at),
        (NOON + 3 * DAY, Some(NOON + 63 * DAY))
    );
}

pub(crate) async fn a_year_without_a_calendar_is_flagged_and_never_guessed(scene: Scene) {
    scene.clock.set_us(NOON + 303 * DAY);
    let number = scene.started(QUERY, WEIHAI).await;
    scene.decide(number, &[A::Receive]).await;
    let case = scene.case(number).await;
    assert_eq!((case.missing_year(), case.due_us()), (Some(2027), None));
    assert_eq!(case.shown().limits[0].missing_year, 2027);
    scene.pass(30 * DAY).await;
    assert_eq!(scene.state(number).await, S::Received, "nothing is guessed");
    scene
        .calendars
        .import(Path::new("2027.json"), YEAR_2027, NOON)
        .await
        .unwrap();
    scene.calendars.refresh().await.unwrap();
    scene.cases.run_clocks().await.unwrap();
    let actions = scene.actions(number).await;
    assert_eq!(actions[2..4], [A::Recount, A::WarnYellow]);
    assert_eq!(scene.state(number).await, S::Accepted);
}

/// A year of a department's cases: each day some come in, and the service looks once a day.
pub(crate) async fn a_year_of_cases_runs_in_seconds(scene: Scene) {
    scene.clock.set_us(NOON - 60 * DAY);
    let mut open = Vec::new();
    for day in 0..360 {
        if day < 330 && day % 3 == 0 {
            open.push((day, scene.accepted(PASSPORT, WEIHAI).await));
        }
        for (_, number) in open.extract_if(.., |(since, _)| day == *since + 14 + *since % 9) {
            scene
                .decide(number, &[A::BeginReview, A::Grant, A::Conclude, A::Deliver])
                .await;
        }
        scene.pass(DAY).await;
    }
    assert!(open.is_empty());
    let filter = banqiao_item::EventFilter::Department {
        department: String::new(),
        warnings_only: true,
    };
    let warnings = scene.store.events(&filter, 0, 10_000).await.unwrap();
    assert!(warnings.len() > 100, "{}", warnings.len());
    for warning in &warnings {
        let due = banqiao_kit::calendar::WorkCalendar::shipped();
        let day = civil_date(warning.at_us - 1);
        assert!(
            due.is_workday(day).unwrap(),
            "limits end on working days: {day}"
        );
    }
}
