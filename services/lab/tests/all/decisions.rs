//! What doctors decided: recorded, delivered, read and counted.

use banqiao_kit::{CallError, Parcel, Violation};
use banqiao_lab::{Decisions, Delivery, Recognition, RecordDecision, Recorded, Reports, synthetic};
use banqiao_proto::lab::v1::{
    DecisionOutcome, DecisionSide, DeliverDecisionRequest, DeliveryState, ListDecisionsRequest,
    ReadStatisticsRequest, ReadStatisticsResponse, RecordDecisionRequest, RepeatReason, Report,
    Verdict,
};
use futures_util::future::join_all;
use prost::Message;
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    publishing::execute,
    quality::{ALT, ORGANISER},
    recognition::recognition,
    scene::{
        DAY, DOCTOR, HOUR, LABORATORY, NOON, Scene, built_in, caller, hospital, institutions,
        neighbour, of, publish, qingdao, time, yantai,
    },
};

/// The laboratory service of Yantai, which delivers.
const YANTAI_LAB: &str = "spiffe://yantai.jiaodong/health/lab";
const WBC: &str = "0100101A";

/// A report of a city's first hospital with ALT and WBC, issued long before noon.
fn report_of(city: banqiao_directory::CityCode, index: u64) -> Report {
    let catalogue = built_in();
    let institution = institutions();
    let institution = institution.find(&hospital(city, 0)).unwrap().credit_code;
    let patient = synthetic::patient(city, index).unwrap();
    let mut report =
        synthetic::report(&catalogue, institution, patient, index, NOON - DAY).unwrap();
    report.results = [ALT, WBC]
        .map(|code| synthetic::result(catalogue.item(code).unwrap(), 1).unwrap())
        .to_vec();
    report
}

/// A recognised ALT of a report, decided by a hospital.
fn request(report: &Report, institution: &str) -> RecordDecisionRequest {
    RecordDecisionRequest {
        request_id: Uuid::now_v7().to_string(),
        institution: institution.to_owned(),
        report_institution: report.institution.clone(),
        report_number: report.report_number.clone(),
        report_version: 1,
        item_code: ALT.to_owned(),
        outcome: DecisionOutcome::Recognised.into(),
        reason: RepeatReason::Unspecified.into(),
        reason_text: String::new(),
        patient_informed: false,
        doctor_id: "D-17".to_owned(),
        advised: Verdict::Recognisable.into(),
    }
}

fn repeated(mut request: RecordDecisionRequest, reason: RepeatReason) -> RecordDecisionRequest {
    request.set_outcome(DecisionOutcome::Repeated);
    request.set_reason(reason);
    request.patient_informed = true;
    request
}

async fn record(
    reports: &Reports,
    request: &RecordDecisionRequest,
    client: &str,
) -> Result<Recorded, CallError> {
    let parsed = RecordDecision::parse(request, reports.institutions());
    let parsed = parsed.map_err(CallError::CallerInvalid)?;
    Decisions::new(reports.clone())
        .record(&parsed, &caller(client))
        .await
}

fn violations(error: CallError) -> Vec<Violation> {
    match error {
        CallError::CallerInvalid(violations) => violations,
        other => panic!("{other:?}"),
    }
}

fn reason(error: CallError) -> &'static str {
    match error {
        CallError::CallerRefused { refusal, .. } => refusal.rule.code,
        other => panic!("{other:?}"),
    }
}

type Change = fn(&mut RecordDecisionRequest);

/// Each possible fault of a decision, with the field and the rule that its refusal names.
const FAULTS: &[(Change, &str, &str)] = &[
    (|r| r.request_id = "1".into(), "request_id", "REQUEST_ID"),
    (
        |r| r.institution.clear(),
        "institution",
        "CREDIT_CODE_LENGTH",
    ),
    (
        |r| r.report_institution = "91350100M000100Y43".into(),
        "report_institution",
        "INSTITUTION_UNKNOWN",
    ),
    (
        |r| r.report_number = "报告".into(),
        "report_number",
        "REPORT_NUMBER",
    ),
    (|r| r.report_version = 0, "report_version", "REPORT_VERSION"),
    (|r| r.item_code = "ALT".into(), "item_code", "ITEM_CODE"),
    (|r| r.outcome = 0, "outcome", "DECISION_OUTCOME"),
    (|r| r.outcome = 9, "outcome", "DECISION_OUTCOME"),
    (
        |r| r.set_reason(RepeatReason::Emergency),
        "reason",
        "REPEAT_REASON",
    ),
    (
        |r| r.reason_text = "recognised".into(),
        "reason_text",
        "REPEAT_REASON_TEXT",
    ),
    (
        |r| *r = repeated(r.clone(), RepeatReason::Unspecified),
        "reason",
        "REPEAT_REASON",
    ),
    (
        |r| {
            *r = repeated(r.clone(), RepeatReason::Emergency);
            r.reason = 7;
        },
        "reason",
        "REPEAT_REASON",
    ),
    (
        |r| *r = repeated(r.clone(), RepeatReason::Other),
        "reason_text",
        "REPEAT_REASON_TEXT",
    ),
    (
        |r| {
            *r = repeated(r.clone(), RepeatReason::RapidlyChanging);
            r.reason_text = "变".repeat(501);
        },
        "reason_text",
        "REPEAT_REASON_TEXT",
    ),
    (
        |r| {
            *r = repeated(r.clone(), RepeatReason::ConditionChanged);
            r.patient_informed = false;
        },
        "patient_informed",
        "PATIENT_INFORMED",
    ),
    (|r| r.doctor_id = " ".into(), "doctor_id", "DOCTOR"),
    (|r| r.advised = 5, "advised", "ADVISED"),
];

pub(crate) async fn a_decision_is_recorded_once_and_each_fault_names_field_and_rule(scene: Scene) {
    let report = report_of(qingdao(), 1);
    scene.published(std::slice::from_ref(&report)).await;
    let own = hospital(qingdao(), 0);
    let sound = request(&report, &own);
    for (change, field, rule) in FAULTS {
        let mut faulty = sound.clone();
        change(&mut faulty);
        let refused = record(&scene.reports, &faulty, LABORATORY).await;
        let faults = violations(refused.unwrap_err());
        assert!(
            of(&faults).contains(&(*field, *rule)),
            "{field} {rule}: {faults:?}"
        );
    }
    // The six reasons are all taken; in an emergency the patient may hear of it later.
    let mut emergency = repeated(sound.clone(), RepeatReason::Emergency);
    emergency.request_id = Uuid::now_v7().to_string();
    emergency.patient_informed = false;
    record(&scene.reports, &emergency, LABORATORY)
        .await
        .unwrap();
    for reason in banqiao_lab::repeat_reasons() {
        let mut other = repeated(sound.clone(), reason);
        other.request_id = Uuid::now_v7().to_string();
        other.reason_text = "复查原因".to_owned();
        record(&scene.reports, &other, LABORATORY).await.unwrap();
    }
    // In its own institution's name alone, about what is there.
    for (client, institution) in [(DOCTOR, &own), (LABORATORY, &hospital(qingdao(), 1))] {
        let foreign = RecordDecisionRequest {
            institution: institution.clone(),
            ..sound.clone()
        };
        let refused = record(&scene.reports, &foreign, client).await;
        let faults = violations(refused.unwrap_err());
        assert_eq!(of(&faults), [("institution", "DECIDING_INSTITUTION")]);
    }
    let unknown: [Change; 3] = [
        |r| r.report_number = "NONE".into(),
        |r| r.report_version = 2,
        |r| r.item_code = "0100201A".into(),
    ];
    for change in unknown {
        let mut unknown = sound.clone();
        change(&mut unknown);
        let refused = record(&scene.reports, &unknown, LABORATORY).await;
        assert_eq!(reason(refused.unwrap_err()), "DECIDED_REPORT_UNKNOWN");
    }
    let first = record(&scene.reports, &sound, LABORATORY).await.unwrap();
    assert_eq!(
        (first.delivery, first.repeated),
        (DeliveryState::Local, false)
    );
    scene.clock.advance_us(HOUR);
    let again = record(&scene.reports, &sound, LABORATORY).await.unwrap();
    assert_eq!(
        again,
        Recorded {
            repeated: true,
            ..first
        }
    );
    let mut reused = sound.clone();
    reused.doctor_id = "D-18".to_owned();
    let refused = record(&scene.reports, &reused, LABORATORY)
        .await
        .unwrap_err();
    assert_eq!(
        of(&violations(refused)),
        [("request_id", "REQUEST_ID_REUSED")]
    );
}

async fn waiting(reports: &Reports) -> Vec<Parcel> {
    reports.store().outbox().next().await.unwrap()
}

fn delivery(parcel: &Parcel) -> DeliverDecisionRequest {
    DeliverDecisionRequest::decode(parcel.payload.as_slice()).unwrap()
}

async fn list(
    recognition: &Recognition,
    institution: &str,
    side: DecisionSide,
    client: &str,
) -> Vec<banqiao_proto::lab::v1::RecordedDecision> {
    let request = ListDecisionsRequest {
        institution: institution.to_owned(),
        side: side.into(),
        ..ListDecisionsRequest::default()
    };
    let listed = recognition.list(&request, &client.parse().unwrap()).await;
    listed.unwrap().decisions
}

/// Qingdao decides about a report of Yantai.
pub(crate) async fn a_decision_reaches_the_hospital_that_issued_the_report(scene: Scene) {
    let folder = TempDir::new().unwrap();
    let yantai_reports = neighbour(folder.path(), &scene.clock).await;
    let report = report_of(yantai(), 1);
    publish(&yantai_reports, std::slice::from_ref(&report)).await;
    let own = hospital(qingdao(), 0);
    let mut other = repeated(request(&report, &own), RepeatReason::Other);
    other.reason_text = "结果与临床不符".to_owned();
    let recorded = record(&scene.reports, &other, LABORATORY).await.unwrap();
    assert_eq!(recorded.delivery, DeliveryState::Waiting);
    // It waits as long as the other city is down.
    let parcels = waiting(&scene.reports).await;
    let [parcel] = parcels.as_slice() else {
        panic!("{parcels:?}")
    };
    assert_eq!(parcel.destination, yantai().as_str());
    assert!(!format!("{parcel:?}").contains("D-17"));
    let sent = delivery(parcel);
    let yantai_decisions = Decisions::new(yantai_reports.clone());
    let from = caller("spiffe://qingdao.jiaodong/health/lab");
    let received = yantai_decisions.receive(&sent, &from).await.unwrap();
    assert_eq!(
        (received.delivery, received.repeated),
        (DeliveryState::Received, false)
    );
    // The answer is lost, and the same comes again.
    assert!(
        yantai_decisions
            .receive(&sent, &from)
            .await
            .unwrap()
            .repeated
    );
    let id = recorded.decision.decision_id.parse().unwrap();
    let store = scene.reports.store();
    for _ in 0..2 {
        let carried = store.decision_carried(parcel.seq, id, &Delivery::Delivered, None, NOON);
        carried.await.unwrap();
    }
    assert_eq!(waiting(&scene.reports).await, []);
    let again = record(&scene.reports, &other, LABORATORY).await.unwrap();
    assert_eq!(
        (again.delivery, again.repeated),
        (DeliveryState::Delivered, true)
    );
    // The issuing hospital reads it, without the doctor's number; the deciding one with it.
    let there = recognition(&yantai_reports);
    let issued = list(&there, &report.institution, DecisionSide::Issued, DOCTOR).await;
    let read = issued[0].decision.as_ref().unwrap();
    assert_eq!(
        (
            read.institution.as_str(),
            read.reason(),
            read.reason_text.as_str(),
            read.doctor_id.as_str()
        ),
        (own.as_str(), RepeatReason::Other, "结果与临床不符", "")
    );
    assert_eq!(
        (issued.len(), issued[0].delivery()),
        (1, DeliveryState::Received)
    );
    let here = recognition(&scene.reports);
    let made = list(&here, &own, DecisionSide::Unspecified, LABORATORY).await;
    assert_eq!(made[0].decision.as_ref().unwrap().doctor_id, "D-17");
    assert_eq!(made[0].delivery(), DeliveryState::Delivered);
}

/// Yantai decides about a report of Qingdao.
pub(crate) async fn a_delivered_decision_is_taken_once_and_only_from_its_own_city(scene: Scene) {
    let folder = TempDir::new().unwrap();
    let yantai_reports = neighbour(folder.path(), &scene.clock).await;
    let report = report_of(qingdao(), 1);
    scene.published(std::slice::from_ref(&report)).await;
    let asked = request(&report, &hospital(yantai(), 0));
    record(&yantai_reports, &asked, DOCTOR).await.unwrap();
    let sent = delivery(&waiting(&yantai_reports).await[0]);
    let decisions = Decisions::new(scene.reports.clone());
    let receive = async |request: &DeliverDecisionRequest, client: &str| {
        decisions.receive(request, &caller(client)).await
    };
    // A system of another city, of this city, and a register that does not know the hospital yet.
    for client in ["spiffe://weihai.jiaodong/health/lab", LABORATORY] {
        let refused = receive(&sent, client).await.unwrap_err();
        assert_eq!(reason(refused), "DECISION_SENDER");
    }
    let mut stranger = sent.clone();
    stranger.decision.as_mut().unwrap().institution = "91350100M000100Y43".to_owned();
    assert_eq!(
        reason(receive(&stranger, YANTAI_LAB).await.unwrap_err()),
        "DECISION_SENDER"
    );
    let empty = DeliverDecisionRequest::default();
    let faults = violations(receive(&empty, YANTAI_LAB).await.unwrap_err());
    assert_eq!(of(&faults), [("decision", "DECISION_FORM")]);
    let mut broken = sent.clone();
    let decision = broken.decision.as_mut().unwrap();
    decision.decided_at = None;
    decision.outcome = 0;
    let faults = violations(receive(&broken, YANTAI_LAB).await.unwrap_err());
    assert_eq!(
        of(&faults),
        [
            ("decision.decided_at", "DECISION_FORM"),
            ("decision.outcome", "DECISION_OUTCOME")
        ]
    );
    assert!(!receive(&sent, YANTAI_LAB).await.unwrap().repeated);
    assert!(receive(&sent, YANTAI_LAB).await.unwrap().repeated);
    let mut changed = sent.clone();
    changed
        .decision
        .as_mut()
        .unwrap()
        .set_advised(Verdict::NotRecognisable);
    assert_eq!(
        reason(receive(&changed, YANTAI_LAB).await.unwrap_err()),
        "DECISION_STANDS"
    );
}

pub(crate) async fn what_the_other_city_refuses_is_told_to_the_deciding_hospital(scene: Scene) {
    let report = report_of(yantai(), 1);
    let own = hospital(qingdao(), 0);
    let recorded = record(&scene.reports, &request(&report, &own), LABORATORY)
        .await
        .unwrap();
    let folder = TempDir::new().unwrap();
    let yantai_reports = neighbour(folder.path(), &scene.clock).await;
    let parcel = waiting(&scene.reports).await.remove(0);
    // Yantai never had the report.
    let refused = Decisions::new(yantai_reports)
        .receive(
            &delivery(&parcel),
            &caller("spiffe://qingdao.jiaodong/health/lab"),
        )
        .await
        .unwrap_err();
    let why = refused.to_string();
    assert_eq!(reason(refused), "DECIDED_REPORT_UNKNOWN");
    let id = recorded.decision.decision_id.parse().unwrap();
    let returned = Delivery::Returned(why.clone());
    let carried = scene
        .reports
        .store()
        .decision_carried(parcel.seq, id, &returned, None, NOON);
    carried.await.unwrap();
    let made = list(
        &recognition(&scene.reports),
        &own,
        DecisionSide::Unspecified,
        LABORATORY,
    )
    .await;
    assert_eq!(
        (made[0].delivery(), &made[0].returned),
        (DeliveryState::Returned, &why)
    );
}

pub(crate) async fn decisions_are_shown_to_the_hospitals_concerned_a_page_at_a_time(scene: Scene) {
    let report = report_of(qingdao(), 1);
    scene.published(std::slice::from_ref(&report)).await;
    let own = hospital(qingdao(), 0);
    for _ in 0..5 {
        record(&scene.reports, &request(&report, &own), LABORATORY)
            .await
            .unwrap();
    }
    let recognition = recognition(&scene.reports);
    let page = async |cursor: &str, limit: u32, client: &str| {
        let request = ListDecisionsRequest {
            institution: own.clone(),
            side: DecisionSide::Issued.into(),
            cursor: cursor.to_owned(),
            limit,
        };
        recognition.list(&request, &client.parse().unwrap()).await
    };
    let (mut cursor, mut seen) = (String::new(), Vec::new());
    loop {
        let answer = page(&cursor, 2, LABORATORY).await.unwrap();
        seen.extend(answer.decisions.into_iter().map(|one| one.cursor));
        cursor = answer.next;
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!(seen, ["1", "2", "3", "4", "5"]);
    assert_eq!(page("", 0, ORGANISER).await.unwrap().decisions.len(), 5);
    for client in [DOCTOR, "spiffe://qingdao.jiaodong/hospital-2/lis"] {
        let refused = page("", 0, client).await.unwrap_err();
        assert_eq!(reason(refused), "NOT_YOUR_DECISIONS");
    }
    let faults = violations(page("-1", 501, LABORATORY).await.unwrap_err());
    assert_eq!(
        of(&faults),
        [("cursor", "DECISION_CURSOR"), ("limit", "DECISION_LIMIT")]
    );
}

async fn statistics(recognition: &Recognition, side: DecisionSide) -> ReadStatisticsResponse {
    let request = ReadStatisticsRequest {
        side: side.into(),
        ..ReadStatisticsRequest::default()
    };
    let search = recognition.statistics_search(&request).unwrap();
    recognition.statistics(&search).await.unwrap()
}

pub(crate) async fn statistics_count_the_last_decision_by_institution_item_and_reason(
    scene: Scene,
) {
    let reports: Vec<_> = (1..=3).map(|index| report_of(qingdao(), index)).collect();
    scene.published(&reports).await;
    let recognition = recognition(&scene.reports);
    let empty = statistics(&recognition, DecisionSide::Unspecified).await;
    assert_eq!(
        (empty.city.as_str(), empty.institutions.len()),
        ("370200", 0)
    );
    let own = hospital(qingdao(), 1);
    let decide = async |request: RecordDecisionRequest| {
        let client = "spiffe://qingdao.jiaodong/hospital-2/emr";
        record(&scene.reports, &request, client).await.unwrap();
        scene.clock.advance_us(HOUR);
    };
    let item = |mut request: RecordDecisionRequest, code: &str| {
        request.item_code = code.to_owned();
        request
    };
    // The first report: both items recognised. The second: ALT recognised, then repeated after all. The third: WBC alone.
    decide(request(&reports[0], &own)).await;
    decide(item(request(&reports[0], &own), WBC)).await;
    decide(request(&reports[1], &own)).await;
    decide(repeated(
        request(&reports[1], &own),
        RepeatReason::ConditionChanged,
    ))
    .await;
    decide(item(request(&reports[1], &own), WBC)).await;
    decide(item(request(&reports[2], &own), WBC)).await;
    let made = statistics(&recognition, DecisionSide::Unspecified).await;
    let [ours] = made.institutions.as_slice() else {
        panic!("{made:?}")
    };
    assert_eq!(ours.institution, own);
    let total = ours.total.as_ref().unwrap();
    assert_eq!((total.decided, total.recognised, total.repeated), (5, 4, 1));
    assert_eq!(
        (total.recognition_rate.as_str(), total.unpriced),
        ("80.00", 0)
    );
    // ALT 5 yuan, WBC 3 yuan, three times.
    assert_eq!(total.estimated_saved_fen, 500 + 3 * 300);
    // A draw for the first and the third report; the second one is drawn again for ALT.
    assert_eq!(ours.estimated_draws_saved, 2);
    let alt = ours.items.iter().find(|one| one.item_code == ALT).unwrap();
    let alt = alt.counts.as_ref().unwrap();
    assert_eq!((alt.decided, alt.recognition_rate.as_str()), (2, "50.00"));
    assert_eq!(
        (alt.reasons[0].reason(), alt.reasons[0].count),
        (RepeatReason::ConditionChanged, 1)
    );
    let basis = made.basis.iter().find(|one| one.item_code == ALT).unwrap();
    assert_eq!((basis.price_fen, basis.certainty.as_str()), (500, "D"));
    // For the hospital that issued the reports, the same decisions.
    let issued = statistics(&recognition, DecisionSide::Issued).await;
    assert_eq!(issued.institutions[0].institution, hospital(qingdao(), 0));
    assert_eq!(issued.institutions[0].total, ours.total);
    assert_eq!(issued.institutions[0].estimated_draws_saved, 2);
    // Within times, institutions and items.
    let within = async |request: ReadStatisticsRequest| {
        let search = recognition.statistics_search(&request).unwrap();
        let answer = recognition.statistics(&search).await.unwrap();
        answer
            .institutions
            .first()
            .map(|one| one.total.as_ref().unwrap().decided)
    };
    let early = ReadStatisticsRequest {
        from: time(NOON),
        before: time(NOON + 3 * HOUR),
        ..ReadStatisticsRequest::default()
    };
    assert_eq!(within(early).await, Some(3));
    let one_item = ReadStatisticsRequest {
        item_codes: vec![ALT.to_owned()],
        institutions: vec![own.clone()],
        ..ReadStatisticsRequest::default()
    };
    assert_eq!(within(one_item).await, Some(2));
    let nobody = ReadStatisticsRequest {
        institutions: vec![hospital(qingdao(), 0)],
        ..ReadStatisticsRequest::default()
    };
    assert_eq!(within(nobody).await, None);
    let faulty = ReadStatisticsRequest {
        from: time(NOON),
        before: time(NOON - 1),
        side: 9,
        institutions: vec![hospital(yantai(), 0)],
        item_codes: vec!["x".to_owned(); 101],
    };
    let faults = recognition.statistics_search(&faulty).unwrap_err();
    let shown = of(&faults);
    for expected in [
        ("side", "DECISION_SIDE"),
        ("item_codes", "STATISTICS_RANGE"),
        ("institutions[0]", "STATISTICS_RANGE"),
        ("item_codes[0]", "ITEM_CODE"),
        ("before", "STATISTICS_RANGE"),
    ] {
        assert!(shown.contains(&expected), "{expected:?}: {shown:?}");
    }
}

pub(crate) async fn one_decision_sent_many_times_at_once_is_recorded_once(scene: Scene) {
    let replica = scene.replica().await;
    let report = report_of(yantai(), 1);
    let asked = request(&report, &hospital(qingdao(), 0));
    let at_once = [&scene.reports, &replica, &scene.reports, &replica];
    let recorded = join_all(at_once.map(|reports| record(reports, &asked, LABORATORY))).await;
    let recorded: Vec<_> = recorded.into_iter().map(Result::unwrap).collect();
    assert_eq!(recorded.iter().filter(|one| !one.repeated).count(), 1);
    let first = &recorded[0].decision.decision_id;
    assert!(
        recorded
            .iter()
            .all(|one| one.decision.decision_id == *first)
    );
    assert_eq!(waiting(&scene.reports).await.len(), 1);
}

pub(crate) async fn decisions_and_deliveries_cannot_be_rewritten(scene: Scene) {
    let report = report_of(yantai(), 1);
    let asked = request(&report, &hospital(qingdao(), 0));
    let recorded = record(&scene.reports, &asked, LABORATORY).await.unwrap();
    let parcel = waiting(&scene.reports).await.remove(0);
    let id = recorded.decision.decision_id.parse().unwrap();
    let carried =
        scene
            .reports
            .store()
            .decision_carried(parcel.seq, id, &Delivery::Delivered, None, NOON);
    carried.await.unwrap();
    for statement in [
        "UPDATE decision SET outcome = 2",
        "DELETE FROM decision",
        "UPDATE decision_delivery SET at = 0",
        "DELETE FROM decision_delivery",
    ] {
        let error = execute(&scene, statement).await.unwrap_err();
        assert!(
            error.to_string().contains("is append-only"),
            "{statement}: {error}"
        );
    }
}
