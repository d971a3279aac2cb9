//! Limits, warnings, and the acceptance by silence.

use std::path::Path;

use banqiao_item::{CaseNumber, Due, Materials};
use banqiao_kit::civil_date;
use banqiao_proto::item::v1::{
    ActOnCaseRequest, ActorRole,
    ActorRole::{Department, Window},
    CaseAction as A, CaseState as S, ExtensionTerms, LimitKind, Warning,
};
use futures_util::future::join_all;

use crate::{
    calendars::YEAR_2027,
    materials::caller,
    scene::{DAY, MOVE, NOON, PASSPORT, QINGDAO, QUERY, Scene, WEIHAI, city, full, refusal},
};

/// The last day of a limit of a case.
async fn last_day(scene: &Scene, number: CaseNumber, kind: LimitKind) -> String {
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
    // Whoever acts first finds the case accepted, sweep or no sweep; it is not the materials that stand in the way then.
    let (materials, window) = (Materials::new(scene.cases.clone(), None), caller());
    let accepting = materials.check_acceptance(number, &window, city(QINGDAO));
    accepting.await.unwrap();
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

/// The working day of its age on which a case takes each step; the review takes longer with some cases than with others.
fn steps_of(case: usize) -> [(usize, A, ActorRole); 8] {
    let review = 4 + case % 13;
    [
        (0, A::Receive, Window),
        (1 + case % 2, A::HandOver, Window),
        (3 + case % 3, A::Accept, Department),
        (6, A::BeginReview, Department),
        (6 + review, A::Grant, Department),
        (7 + review, A::Conclude, Department),
        (8 + review + case % 12, A::Deliver, Window),
        (usize::MAX, A::Withdraw, Window),
    ]
}

/// A year of a department's cases: on each working day one comes in and the others go on, and the service looks each day. What happens
/// on a day is sent at once, as many windows would, so that a slow disk costs a transaction a day and not one a step.
pub(crate) async fn a_year_of_cases_runs_in_seconds(scene: Scene) {
    scene.clock.set_us(NOON - 60 * DAY);
    let calendar = banqiao_kit::calendar::WorkCalendar::shipped();
    // The case, the working days since it came in, and its next step.
    let mut open: Vec<(CaseNumber, usize, usize, usize)> = Vec::new();
    let mut cases = 0;
    for day in 0..360 {
        if calendar.is_workday(scene.cases.today()).unwrap() {
            for (_, age, _, _) in &mut open {
                *age += 1;
            }
            if day < 310 {
                open.push((scene.started(PASSPORT, WEIHAI).await, 0, 0, cases));
                cases += 1;
            }
            let due = open.iter_mut().filter_map(|(number, age, next, case)| {
                let (when, action, role) = steps_of(*case)[*next];
                (when <= *age).then(|| {
                    *next += 1;
                    let from = if role == Window { WEIHAI } else { QINGDAO };
                    scene.step(*number, action, role, from)
                })
            });
            for taken in join_all(due.collect::<Vec<_>>()).await {
                taken.unwrap();
            }
            open.retain(|(_, _, next, _)| *next < 7);
        }
        scene.pass(DAY).await;
    }
    assert!(open.is_empty() && cases > 200, "{cases} cases");
    let filter = banqiao_item::EventFilter::Department {
        department: String::new(),
        warnings_only: true,
    };
    let warnings = scene.store.events(&filter, 0, 10_000).await.unwrap();
    assert!(warnings.len() > 200, "{}", warnings.len());
    for warning in &warnings {
        let day = civil_date(warning.at_us - 1);
        assert!(
            calendar.is_workday(day).unwrap(),
            "limits end on working days: {day}"
        );
    }
    // The stream and the statistics tell the same.
    let total = crate::figures::sum(&scene.figures("2025-12", "2026-12").await);
    let red = warnings.iter().filter(|event| event.action == A::WarnRed);
    let red = i64::try_from(red.count()).unwrap();
    assert_eq!(
        total.yellow + total.red,
        i64::try_from(warnings.len()).unwrap()
    );
    assert_eq!(
        (total.red, total.delivered),
        (red, i64::try_from(cases).unwrap())
    );
    assert!(total.late > 0 && total.on_time > 0, "{total:?}");
}
